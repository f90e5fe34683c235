//! Manifests of mtree(5): what a tree holds, one line for each path.
//!
//! Read is what libarchive's `bsdtar --format=mtree` (and `mtree-classic`), NetBSD's and FreeBSD's `mtree -c` write:
//! full paths and nested names with `..`, `/set` and `/unset`, continued lines, comments, and names as vis(3) writes
//! them. Paths are bytes from the root of the tree, without `.` and slashes at the ends; the root's is empty.
//! Invariant: no line is passed over. What is not understood is a [`LineError`] with its number.

mod escape;
mod keyword;
mod mistake;
#[cfg(test)]
mod tests;

pub use mistake::{LineError, Mistake};

use std::borrow::Cow;

use keyword::Keywords;

/// More mistakes than this of one manifest are not told: it is no manifest.
const MISTAKES_MAX: usize = 100;
/// `u32::MAX` is -1, which chown takes for "leave as it is": no user or group has it.
const NO_ID: u32 = u32::MAX;
/// No file has as many nanoseconds.
const NO_TIME: u32 = u32::MAX;
/// No file has these permission bits.
const NO_MODE: u16 = u16::MAX;

/// `type` of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `file`.
    File,
    /// `dir`.
    Directory,
    /// `link`.
    Symlink,
    /// `char`, with major and minor number.
    CharacterDevice(u32, u32),
    /// `block`, with major and minor number.
    BlockDevice(u32, u32),
    /// `fifo`.
    Fifo,
    /// `socket`.
    Socket,
}

/// What the manifest says of one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    path: Span,
    link: Span,
    seconds: i64,
    size: Option<u64>,
    nanoseconds: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    /// The line it begins in, from 1.
    pub line: u32,
    /// What the path is, if that is said.
    pub kind: Option<Kind>,
    /// Whether the tree may lack it.
    pub optional: bool,
}

/// A piece of [`Manifest::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const EMPTY: Self = Self { start: 0, len: 0 };
}

impl Entry {
    /// Owner.
    #[must_use]
    pub fn uid(&self) -> Option<u32> {
        (self.uid != NO_ID).then_some(self.uid)
    }

    /// Group.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        (self.gid != NO_ID).then_some(self.gid)
    }

    /// Permission bits, 0 to 07777.
    #[must_use]
    pub fn mode(&self) -> Option<u16> {
        (self.mode != NO_MODE).then_some(self.mode)
    }

    /// Modification time: seconds since 1970 and nanoseconds.
    #[must_use]
    pub fn time(&self) -> Option<(i64, u32)> {
        (self.nanoseconds != NO_TIME).then_some((self.seconds, self.nanoseconds))
    }

    /// Length in bytes.
    #[must_use]
    pub const fn size(&self) -> Option<u64> {
        self.size
    }
}

/// A manifest, sorted by path; each path once.
#[derive(Debug, Default)]
pub struct Manifest {
    entries: Vec<Entry>,
    /// Paths and targets of symlinks.
    text: Vec<u8>,
}

impl Manifest {
    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// All lines that are not understood, in their order, but at most a hundred.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<LineError>> {
        let mut reader = Reader::default();
        let mut mistakes = Vec::new();
        let mut lines = Lines {
            rest: text,
            line: 0,
        };
        while let Some((line, words)) = lines.next_logical() {
            if let Err(mistake) = reader.line(line, &words) {
                mistakes.push(LineError { line, mistake });
            }
            if mistakes.len() >= MISTAKES_MAX {
                break;
            }
        }
        if mistakes.is_empty() {
            Ok(reader.manifest.sorted())
        } else {
            Err(mistakes)
        }
    }

    /// All paths, sorted by their bytes.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The index of a path in [`Manifest::entries`].
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        self.entries
            .binary_search_by(|entry| self.bytes(entry.path).cmp(path))
            .ok()
    }

    /// The path of one of the entries, without slashes at its ends; the root's is empty.
    #[must_use]
    pub fn path(&self, entry: &Entry) -> &[u8] {
        self.bytes(entry.path)
    }

    /// Where a symlink leads, if that is said.
    #[must_use]
    pub fn link(&self, entry: &Entry) -> Option<&[u8]> {
        Some(self.bytes(entry.link)).filter(|link| !link.is_empty())
    }

    fn bytes(&self, span: Span) -> &[u8] {
        let start = usize::try_from(span.start).unwrap_or(usize::MAX);
        let len = usize::try_from(span.len).unwrap_or(usize::MAX);
        self.text
            .get(start..)
            .and_then(|text| text.get(..len))
            .expect("spans are of this text")
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<Span, Mistake> {
        let start = u32::try_from(self.text.len()).map_err(|_| Mistake::TooLarge)?;
        let len = u32::try_from(bytes.len()).map_err(|_| Mistake::TooLarge)?;
        self.text.extend_from_slice(bytes);
        Ok(Span { start, len })
    }

    /// Sorts; of several lines for one path the later ones win, keyword by keyword.
    fn sorted(mut self) -> Self {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_by(|a, b| self.bytes(a.path).cmp(self.bytes(b.path)));
        entries.dedup_by(|later, earlier| {
            let same = self.bytes(later.path) == self.bytes(earlier.path);
            if same {
                *earlier = later.over(earlier);
            }
            same
        });
        self.entries = entries;
        self
    }
}

impl Entry {
    fn over(&self, earlier: &Self) -> Self {
        let (seconds, nanoseconds) = if self.nanoseconds == NO_TIME {
            (earlier.seconds, earlier.nanoseconds)
        } else {
            (self.seconds, self.nanoseconds)
        };
        let later = |value, none, before| if value == none { before } else { value };
        Self {
            path: self.path,
            link: if self.link.len == 0 {
                earlier.link
            } else {
                self.link
            },
            seconds,
            size: self.size.or(earlier.size),
            nanoseconds,
            uid: later(self.uid, NO_ID, earlier.uid),
            gid: later(self.gid, NO_ID, earlier.gid),
            mode: if self.mode == NO_MODE {
                earlier.mode
            } else {
                self.mode
            },
            line: self.line,
            kind: self.kind.or(earlier.kind),
            optional: self.optional || earlier.optional,
        }
    }
}

/// The lines of a text, with those that a backslash continues joined.
struct Lines<'a> {
    rest: &'a [u8],
    /// How many were taken.
    line: u32,
}

impl<'a> Lines<'a> {
    /// The number of the first line that it is made of, and the text.
    fn next_logical(&mut self) -> Option<(u32, Cow<'a, [u8]>)> {
        let mut text = Cow::Borrowed(self.next_physical()?);
        let first = self.line;
        while is_continued(&text) {
            let Some(next) = self.next_physical() else {
                break;
            };
            let joined = text.to_mut();
            joined.pop();
            // A word ends with its line.
            joined.push(b' ');
            joined.extend_from_slice(next);
        }
        Some((first, text))
    }

    fn next_physical(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.line = self.line.saturating_add(1);
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, rest) = match end {
            Some(end) => self.rest.split_at(end),
            None => (self.rest, &[][..]),
        };
        self.rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// A backslash at the end continues a line, unless another one stands before it.
fn is_continued(line: &[u8]) -> bool {
    let backslashes = line.iter().rev().take_while(|byte| **byte == b'\\').count();
    backslashes % 2 == 1
}

/// What lines before say about those behind them.
#[derive(Default)]
struct Reader {
    manifest: Manifest,
    /// What `/set` says.
    defaults: Keywords,
    /// The directories that nested names are in. The first one is the root if it was entered as `.`.
    nested: Vec<Vec<u8>>,
}

impl Reader {
    fn line(&mut self, number: u32, line: &[u8]) -> Result<(), Mistake> {
        let mut words = line
            .split(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
            .filter(|word| !word.is_empty())
            .take_while(|word| !word.starts_with(b"#"));
        let Some(first) = words.next() else {
            return Ok(());
        };
        match first {
            b".." => {
                let left = self.nested.pop();
                return left.map(drop).ok_or(Mistake::NothingToLeave);
            }
            b"/set" => return words.try_for_each(|word| self.defaults.set(word)),
            b"/unset" => return words.try_for_each(|word| self.defaults.unset(word)),
            // bsdtar's root of an archive whose own root is `./`.
            b"/." => {}
            _ if first.starts_with(b"/") => return Err(Mistake::command(first)),
            _ => {}
        }
        let mut keywords = self.defaults.clone();
        words.try_for_each(|word| keywords.set(word))?;
        self.entry(number, first, &keywords)
    }

    fn entry(&mut self, line: u32, name: &[u8], keywords: &Keywords) -> Result<(), Mistake> {
        let decoded = escape::decode(name).ok_or_else(|| Mistake::escape(name))?;
        let kind = keywords.kind()?;
        let path = if name.contains(&b'/') {
            full_path(name, &decoded)?
        } else {
            self.nested_path(name, &decoded, kind == Some(Kind::Directory))?
        };
        let owner = keywords.owner()?;
        let path = self.manifest.keep(&path)?;
        let link = match &keywords.link {
            Some(link) if !keywords.nochange => self.manifest.keep(link)?,
            _ => Span::EMPTY,
        };
        let given = !keywords.nochange;
        let time = keywords.time.filter(|_| given);
        let (seconds, nanoseconds) = time.unwrap_or((0, NO_TIME));
        self.manifest.entries.push(Entry {
            path,
            link,
            seconds,
            size: keywords.size.filter(|_| given),
            nanoseconds,
            uid: owner.0.unwrap_or(NO_ID),
            gid: owner.1.unwrap_or(NO_ID),
            mode: keywords.mode.filter(|_| given).unwrap_or(NO_MODE),
            line,
            kind: kind.filter(|_| given),
            optional: keywords.optional,
        });
        Ok(())
    }

    /// The path of a name without a slash; a directory is entered.
    fn nested_path(
        &mut self,
        name: &[u8],
        decoded: &[u8],
        is_directory: bool,
    ) -> Result<Vec<u8>, Mistake> {
        let mut path = self.nested.last().cloned().unwrap_or_default();
        if decoded != b"." {
            check_name(name, decoded)?;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(decoded);
        }
        if is_directory {
            self.nested.push(path.clone());
        }
        Ok(path)
    }
}

fn full_path(word: &[u8], decoded: &[u8]) -> Result<Vec<u8>, Mistake> {
    let mut path = Vec::with_capacity(decoded.len());
    let names = decoded.split(|byte| *byte == b'/');
    for name in names.filter(|name| !matches!(*name, b"" | b".")) {
        check_name(word, name)?;
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
    }
    Ok(path)
}

fn check_name(word: &[u8], name: &[u8]) -> Result<(), Mistake> {
    let reason = if name == b".." {
        "leads out of its directory"
    } else if name.contains(&0) {
        "has a NUL"
    } else if name.contains(&b'/') {
        "has an escaped slash"
    } else {
        return Ok(());
    };
    Err(Mistake::Path {
        word: mistake::shown(word),
        reason,
    })
}
