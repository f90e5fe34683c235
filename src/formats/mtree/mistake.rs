//! What can be wrong with a line of a manifest.

/// Words longer than this are cut in messages.
const SHOWN_LEN_MAX: usize = 80;

/// A line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Its number, from 1; of several that are one, the first.
    pub line: u32,
    /// What is wrong.
    pub mistake: Mistake,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    /// A line begins with a slash, but not with `/set` or `/unset`.
    #[error("`{word}` is no command of mtree")]
    Command {
        /// As it stands there.
        word: String,
    },
    /// A keyword that mtree(5) does not have.
    #[error("`{word}` is no keyword of mtree")]
    Keyword {
        /// As it stands there.
        word: String,
    },
    /// A keyword without its value.
    #[error("`{keyword}` has no value")]
    NoValue {
        /// The keyword.
        keyword: String,
    },
    /// A value that the keyword cannot have.
    #[error("`{keyword}` is `{value}`; expected {}", expected(keyword))]
    Value {
        /// The keyword.
        keyword: &'static str,
        /// As it stands there.
        value: String,
    },
    /// A backslash with something behind it that means nothing.
    #[error("`{word}` has a backslash that begins no character")]
    Escape {
        /// As it stands there.
        word: String,
    },
    /// A path that can be none.
    #[error("`{word}` {reason}")]
    Path {
        /// As it stands there.
        word: String,
        /// Why not.
        reason: &'static str,
    },
    /// `..` without a directory.
    #[error("`..` leaves a directory, but none was entered")]
    NothingToLeave,
    /// A user or group without a number.
    #[error("`{name}` is given without `{number}`")]
    OnlyNamed {
        /// `uname` or `gname`.
        name: &'static str,
        /// `uid` or `gid`.
        number: &'static str,
    },
    /// A device without a number.
    #[error("type={kind} is given without `device`")]
    NoDevice {
        /// `char` or `block`.
        kind: &'static str,
    },
    /// Paths of 4 GiB and more.
    #[error("the paths of the manifest take 4 GiB and more")]
    TooLarge,
}

impl Mistake {
    pub(super) fn command(word: &[u8]) -> Self {
        Self::Command { word: shown(word) }
    }

    pub(super) fn keyword(word: &[u8]) -> Self {
        Self::Keyword { word: shown(word) }
    }

    pub(super) fn value(keyword: &'static str, value: &[u8]) -> Self {
        Self::Value {
            keyword,
            value: shown(value),
        }
    }

    pub(super) fn escape(word: &[u8]) -> Self {
        Self::Escape { word: shown(word) }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Command { .. } => "paths begin with `./`; commands are `/set` and `/unset`",
            Self::Keyword { .. } => {
                "keywords are type, uid, gid, mode, device, link, time, size, optional, nochange, and those that \
                 are passed over, such as uname, nlink, flags and digests; blanks in names are written \\040"
            }
            Self::NoValue { .. } => "write keyword=value, without blanks",
            Self::Value {
                keyword: "device", ..
            } => "numbers of other systems mean nothing in Linux: write device=native,MAJOR,MINOR",
            Self::Value { .. } => "correct the line, or make the manifest anew",
            Self::Escape { .. } => {
                "write a byte with three octal digits, such as \\040, and a backslash as \\134"
            }
            Self::Path { .. } => "paths start at the source: ./etc/passwd, or etc/passwd",
            Self::NothingToLeave => {
                "names without a slash are nested: a line with type=dir enters a directory, `..` leaves it"
            }
            Self::OnlyNamed { .. } => {
                "names of users and groups mean different numbers on different machines: make the manifest with \
                 numbers (`bsdtar --format=mtree` and `mtree -c -K uid,gid` do)"
            }
            Self::NoDevice { .. } => {
                "write device=native,MAJOR,MINOR (`bsdtar --format=mtree` and `mtree -c -K device` do)"
            }
            Self::TooLarge => "give each part of the tree a copy entry and a manifest of its own",
        }
    }
}

/// What a keyword takes.
fn expected(keyword: &str) -> &'static str {
    match keyword {
        "type" => "file, dir, link, char, block, fifo or socket",
        "uid" | "gid" => "a number from 0 to 4294967294",
        "mode" => "octal digits from 0 to 7777",
        "time" => "seconds since 1970, a point, and nanoseconds",
        "device" => "native,MAJOR,MINOR, MAJOR,MINOR, or a number",
        _ => "a number",
    }
}

/// A word for a message: what is not ASCII or does not print is escaped.
pub(super) fn shown(word: &[u8]) -> String {
    match word.split_at_checked(SHOWN_LEN_MAX) {
        Some((beginning, [_, ..])) => format!("{}…", beginning.escape_ascii()),
        _ => word.escape_ascii().to_string(),
    }
}
