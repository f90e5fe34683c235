//! Keywords of a line and their values.

use super::mistake::shown;
use super::{Kind, Mistake, NO_ID, escape};

/// Keywords that say nothing about what an image holds, or that the source itself answers. Digests besides: all that
/// end in `digest`.
const PASSED_OVER: [&[u8]; 19] = [
    b"cksum",
    b"contents",
    b"flags",
    b"ignore",
    b"inode",
    b"md5",
    b"nlink",
    b"resdevice",
    b"ripemd160",
    b"rmd160",
    b"sha1",
    b"sha256",
    b"sha384",
    b"sha512",
    b"tags",
    b"uuid",
    b"sha512_256",
    b"xattrs",
    b"acl",
];
/// The permission bits with set-user-id, set-group-id and sticky.
const MODE_MAX: u16 = 0o7777;
const NANOSECONDS_MAX: u32 = 999_999_999;

/// What is known of a path, or of all paths behind `/set`.
#[derive(Debug, Clone, Default)]
pub(super) struct Keywords {
    word: Option<TypeWord>,
    device: Option<(u32, u32)>,
    uid: Option<u32>,
    gid: Option<u32>,
    has_uname: bool,
    has_gname: bool,
    pub(super) mode: Option<u16>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) time: Option<(i64, u32)>,
    pub(super) size: Option<u64>,
    pub(super) optional: bool,
    pub(super) nochange: bool,
}

#[derive(Debug, Clone, Copy)]
enum TypeWord {
    File,
    Directory,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl Keywords {
    /// Takes `keyword` or `keyword=value`; what was known of it is replaced.
    pub(super) fn set(&mut self, word: &[u8]) -> Result<(), Mistake> {
        let equals = word.iter().position(|byte| *byte == b'=');
        let (keyword, value) = match equals.and_then(|at| word.split_at_checked(at)) {
            Some((keyword, value)) => (keyword, value.strip_prefix(b"=")),
            None => (word, None),
        };
        let needed = || {
            let missing = || Mistake::NoValue {
                keyword: shown(keyword),
            };
            value.filter(|value| !value.is_empty()).ok_or_else(missing)
        };
        match keyword {
            b"type" => self.word = Some(type_word(needed()?)?),
            b"uid" => self.uid = Some(id("uid", needed()?)?),
            b"gid" => self.gid = Some(id("gid", needed()?)?),
            b"uname" => self.has_uname = true,
            b"gname" => self.has_gname = true,
            b"mode" => self.mode = Some(mode(needed()?)?),
            b"device" => self.device = Some(device(needed()?)?),
            b"link" => {
                let value = needed()?;
                let decoded = escape::decode(value).ok_or_else(|| Mistake::escape(value))?;
                if decoded.contains(&0) {
                    let (word, reason) = (shown(value), "has a NUL");
                    return Err(Mistake::Path { word, reason });
                }
                self.link = Some(decoded.into_owned());
            }
            b"time" => self.time = Some(time(needed()?)?),
            b"size" => self.size = Some(decimal("size", needed()?)?),
            b"optional" => self.optional = true,
            b"nochange" => self.nochange = true,
            _ if is_passed_over(keyword) => {}
            _ => return Err(Mistake::keyword(keyword)),
        }
        Ok(())
    }

    /// Forgets a keyword, or `all`.
    pub(super) fn unset(&mut self, keyword: &[u8]) -> Result<(), Mistake> {
        match keyword {
            b"all" => *self = Self::default(),
            b"type" => self.word = None,
            b"uid" => self.uid = None,
            b"gid" => self.gid = None,
            b"uname" => self.has_uname = false,
            b"gname" => self.has_gname = false,
            b"mode" => self.mode = None,
            b"device" => self.device = None,
            b"link" => self.link = None,
            b"time" => self.time = None,
            b"size" => self.size = None,
            b"optional" => self.optional = false,
            b"nochange" => self.nochange = false,
            _ if is_passed_over(keyword) => {}
            _ => return Err(Mistake::keyword(keyword)),
        }
        Ok(())
    }

    /// What the path is.
    pub(super) fn kind(&self) -> Result<Option<Kind>, Mistake> {
        let Some(word) = self.word else {
            return Ok(None);
        };
        let device = |name| match self.device {
            Some(number) => Ok(number),
            // All that counts of such a path is that it is there.
            None if self.nochange => Ok((0, 0)),
            None => Err(Mistake::NoDevice { kind: name }),
        };
        Ok(Some(match word {
            TypeWord::File => Kind::File,
            TypeWord::Directory => Kind::Directory,
            TypeWord::Symlink => Kind::Symlink,
            TypeWord::CharacterDevice => {
                let (major, minor) = device("char")?;
                Kind::CharacterDevice(major, minor)
            }
            TypeWord::BlockDevice => {
                let (major, minor) = device("block")?;
                Kind::BlockDevice(major, minor)
            }
            TypeWord::Fifo => Kind::Fifo,
            TypeWord::Socket => Kind::Socket,
        }))
    }

    /// User and group, where they are said with numbers.
    pub(super) fn owner(&self) -> Result<(Option<u32>, Option<u32>), Mistake> {
        if self.nochange {
            return Ok((None, None));
        }
        let only_named = |name, number| Err(Mistake::OnlyNamed { name, number });
        match (self.uid, self.gid) {
            (None, _) if self.has_uname => only_named("uname", "uid"),
            (_, None) if self.has_gname => only_named("gname", "gid"),
            numbers => Ok(numbers),
        }
    }
}

fn is_passed_over(keyword: &[u8]) -> bool {
    PASSED_OVER.contains(&keyword) || keyword.ends_with(b"digest")
}

fn type_word(value: &[u8]) -> Result<TypeWord, Mistake> {
    Ok(match value {
        b"file" => TypeWord::File,
        b"dir" => TypeWord::Directory,
        b"link" => TypeWord::Symlink,
        b"char" => TypeWord::CharacterDevice,
        b"block" => TypeWord::BlockDevice,
        b"fifo" => TypeWord::Fifo,
        b"socket" => TypeWord::Socket,
        _ => return Err(Mistake::value("type", value)),
    })
}

fn digits(value: &[u8]) -> Option<&str> {
    let all = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    str::from_utf8(value).ok().filter(|_| all)
}

fn decimal(keyword: &'static str, value: &[u8]) -> Result<u64, Mistake> {
    let number = digits(value).and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| Mistake::value(keyword, value))
}

fn id(keyword: &'static str, value: &[u8]) -> Result<u32, Mistake> {
    let number = digits(value).and_then(|digits| digits.parse().ok());
    let number = number.filter(|number| *number != NO_ID);
    number.ok_or_else(|| Mistake::value(keyword, value))
}

fn mode(value: &[u8]) -> Result<u16, Mistake> {
    let number = digits(value).and_then(|digits| u16::from_str_radix(digits, 8).ok());
    let number = number.filter(|mode| *mode <= MODE_MAX);
    number.ok_or_else(|| Mistake::value("mode", value))
}

/// Seconds, and behind a point nanoseconds: a number, not a fraction, so that `1.5` is five nanoseconds behind one
/// second. FreeBSD fills it up to nine digits, others do not.
fn time(value: &[u8]) -> Result<(i64, u32), Mistake> {
    let text = str::from_utf8(value).unwrap_or_default();
    let (seconds, nanoseconds) = text.split_once('.').unwrap_or((text, "0"));
    let unsigned = seconds.strip_prefix('-').unwrap_or(seconds);
    let parsed = digits(unsigned.as_bytes())
        .and_then(|_| seconds.parse().ok())
        .zip(digits(nanoseconds.as_bytes()).and_then(|digits| digits.parse().ok()))
        .filter(|(_, nanoseconds)| *nanoseconds <= NANOSECONDS_MAX);
    parsed.ok_or_else(|| Mistake::value("time", value))
}

/// `native,8,1`, `linux,8,1`, `8,1`, or the number that Linux has for both (include/linux/kdev_t.h, `new_decode_dev`).
fn device(value: &[u8]) -> Result<(u32, u32), Mistake> {
    let wrong = || Mistake::value("device", value);
    let text = str::from_utf8(value).map_err(|_| wrong())?;
    let words: Vec<&str> = text.split(',').collect();
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        None => digits(text.as_bytes()).and_then(|digits| digits.parse().ok()),
    };
    let narrow = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
    match words.as_slice() {
        ["native" | "linux", major, minor] | [major, minor] => {
            let both = narrow(number(major)).zip(narrow(number(minor)));
            both.ok_or_else(wrong)
        }
        [word] => {
            let number = number(word).ok_or_else(wrong)?;
            let major = number >> 8 & 0xfff | number >> 32 & 0xffff_f000;
            let minor = number & 0xff | number >> 12 & 0xffff_ff00;
            let both = narrow(Some(major)).zip(narrow(Some(minor)));
            both.ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}
