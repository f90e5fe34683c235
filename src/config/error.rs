//! What can be wrong with a config, in words.
//!
//! Invariant: a message starts with the object (where there is a place, `file:line:column`), says why, and names the
//! limit that was hit; [`ConfigError::hint`] says what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::hint;
use super::spec::Location;
use crate::units::{ByteCount, ParseSizeError};

pub use super::resolve::boot::BootError;
pub use super::resolve::ext4::Ext4SpecError;
pub use super::resolve::layout::LayoutError;
pub use super::resolve::newest::NewestError;
use super::resolve::vm::VmError;

/// A mistake in the config, with its place.
#[derive(Debug)]
pub struct ConfigError {
    /// Where; `None` for what is in no file, such as the environment or a config that cannot be read.
    pub location: Option<Box<Location>>,
    /// What.
    pub kind: ConfigErrorKind,
}

impl ConfigError {
    pub(crate) fn at(location: Location, kind: impl Into<ConfigErrorKind>) -> Self {
        Self {
            location: Some(Box::new(location)),
            kind: kind.into(),
        }
    }

    pub(crate) fn without_location(kind: ConfigErrorKind) -> Self {
        Self {
            location: None,
            kind,
        }
    }

    /// What the user can do about it: always something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        // Without a place it is the config itself, not one that it includes.
        Some(hint::hint(&self.kind, self.location.is_some()))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        self.kind.fmt(f)
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.kind)
    }
}

/// Why a text is no base64; characters are counted from 1.
#[derive(Debug, Error)]
pub enum Base64Error {
    /// A character of no meaning.
    #[error("character {offset} is `{}`, which is not of base64", found.escape_default())]
    Character {
        /// Where.
        offset: usize,
        /// What.
        found: char,
    },
    /// The last one says more than there are bytes.
    #[error("character {offset}, the last, has bits of a byte that does not follow")]
    LastCharacter {
        /// Where.
        offset: usize,
    },
    /// Not four characters for each three bytes.
    #[error("ends after {count} characters, not a multiple of 4; the end is filled up with `=`")]
    Length {
        /// How many there are, white space aside.
        count: usize,
    },
}

/// What is wrong.
#[derive(Debug, Error)]
pub enum ConfigErrorKind {
    /// A config file or an included one cannot be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// No TOML.
    #[error("{message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// A file includes itself.
    #[error("include of `{path}` closes a cycle")]
    IncludeCycle {
        /// As typed.
        path: String,
    },
    /// A key that means nothing here.
    #[error("unknown key `{key}` in {table}")]
    UnknownKey {
        /// As typed.
        key: String,
        /// The table it is in.
        table: &'static str,
        /// What to do.
        advice: String,
    },
    /// A value of the wrong type.
    #[error("`{key}` is {found}; expected {expected}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What was typed.
        found: &'static str,
        /// What goes there.
        expected: &'static str,
        /// What to write, with an example.
        advice: String,
    },
    /// An integer that 64 bits do not hold.
    #[error("`{key}` is an integer above 2^63 - 1")]
    IntegerTooLarge {
        /// The key.
        key: &'static str,
    },
    /// A key without which nothing can be done.
    #[error("`{key}` is missing in {table}")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// The table that needs it.
        table: &'static str,
    },
    /// A word that is none of the known ones.
    #[error("`{key}` is \"{value}\"; expected {}", listed(known))]
    UnknownValue {
        /// The key.
        key: &'static str,
        /// As typed.
        value: String,
        /// What goes there.
        known: Vec<&'static str>,
    },
    /// A size that cannot be read.
    #[error("`{key}`: {reason}")]
    Size {
        /// The key.
        key: &'static str,
        /// Why.
        reason: ParseSizeError,
    },
    /// A size with a decimal point.
    #[error("`{key}`: `{text}` is a fraction; a size is a whole number with a unit")]
    FractionalSize {
        /// The key.
        key: &'static str,
        /// As typed.
        text: String,
    },
    /// A number out of its range.
    #[error("`{key}` is {value}; it must be {min} to {max}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// As typed.
        value: i64,
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A size that is no multiple of its unit, or nothing at all.
    #[error("`{key}` is {}; it must be a multiple of {unit_name}, and not zero", ByteCount(*bytes))]
    NotMultiple {
        /// The key.
        key: &'static str,
        /// As typed.
        bytes: u64,
        /// The unit, in words.
        unit_name: &'static str,
    },
    /// An empty text, or one with control characters.
    #[error("`{key}` is \"{}\"; {rule}", value.escape_default())]
    Text {
        /// The key.
        key: &'static str,
        /// As typed.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The file's stem cannot be the VM's name.
    #[error("`name` is missing, and the file's name `{stem}` cannot stand in for it")]
    NoName {
        /// The stem.
        stem: String,
    },
    /// No `uid:gid`.
    #[error(
        "`owner` is \"{value}\"; expected two numbers from 0 to 4294967294, such as \"1000:100\""
    )]
    Owner {
        /// As typed.
        value: String,
    },
    /// A range of identifiers that cannot be.
    #[error("`{key}`: \"{}\" {reason}", range.escape_default())]
    IdRange {
        /// The key.
        key: &'static str,
        /// As typed.
        range: String,
        /// What is wrong.
        reason: String,
    },
    /// Two keys that decide the same.
    #[error("`{key}` and `owner` both say whose the files are in the image")]
    MapBesideOwner {
        /// The map.
        key: &'static str,
    },
    /// Two keys for the contents of one file.
    #[error("`base64` and `text` are both given; a file has one of them")]
    TwoContents,
    /// No base64.
    #[error("`base64`: {0}")]
    Base64(Base64Error),
    /// A name that cannot stand between braces.
    #[error("variable `{}` has a name with more than letters, digits, `_` and `-`", name.escape_default())]
    VariableName {
        /// As typed.
        name: String,
    },
    /// No such variable.
    #[error("`text`: `{{{{{}}}}}`: {reason}", name.escape_default())]
    UnknownVariable {
        /// As typed.
        name: String,
        /// Why.
        reason: String,
        /// One that was probably meant.
        nearest: Option<String>,
    },
    /// Braces without a name.
    #[error("`text`: line {line}: `{{{{` is not followed by a name and `}}}}`")]
    Braces {
        /// Line of the text, from 1.
        line: usize,
    },
    /// A device number beside what has none.
    #[error("`{key}` is the number of a device; type = \"{word}\" has none")]
    NumberOfNoDevice {
        /// `major` or `minor`.
        key: &'static str,
        /// The type.
        word: &'static str,
    },
    /// No permission bits.
    #[error("`mode` is \"{value}\"; expected octal digits from \"0\" to \"07777\"")]
    Mode {
        /// As typed.
        value: String,
    },
    /// A path inside an image that is none.
    #[error("`{key}` is \"{}\"; {rule}", value.escape_default())]
    ImagePath {
        /// The key.
        key: &'static str,
        /// As typed.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// No pattern.
    #[error("`{key}`: `{pattern}`: {reason}")]
    Pattern {
        /// The key.
        key: &'static str,
        /// As typed.
        pattern: String,
        /// What the parser says.
        reason: String,
    },
    /// A file or directory that is not there.
    #[error("`{key}`: `{}` does not exist", path.display())]
    Missing {
        /// The key.
        key: &'static str,
        /// Absolute.
        path: PathBuf,
    },
    /// A file or directory that we may not read.
    #[error("`{key}`: `{}` may not be read", path.display())]
    Forbidden {
        /// The key.
        key: &'static str,
        /// Absolute.
        path: PathBuf,
    },
    /// A file or directory that cannot be looked at.
    #[error("`{key}`: `{}` cannot be looked at", path.display())]
    Inaccessible {
        /// The key.
        key: &'static str,
        /// Absolute.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Something of the wrong kind.
    #[error("`{key}`: `{}` is {found}; expected {expected}", path.display())]
    FileType {
        /// The key.
        key: &'static str,
        /// Absolute.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What goes there.
        expected: &'static str,
    },
    /// Partitions and the disk do not fit each other.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A file system that cannot be made like that.
    #[error(transparent)]
    Ext4(#[from] Ext4SpecError),
    /// Nothing to take the newest of.
    #[error(transparent)]
    Newest(NewestError),
    /// What boots the machine.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A machine that cannot be.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// No images.
    #[error("[images] names no image")]
    NoImages,
    /// A machine without a disk that it could use.
    #[error("a VMX needs a VMDK in [images] whose grains are not compressed")]
    NoVmdk,
    /// A disk of a VMX that is none of the VMDKs.
    #[error("`disk` is \"{name}\", which is no VMDK of [images] that a VMX can use")]
    UnknownVmdk {
        /// As typed.
        name: String,
        /// The VMDKs there are.
        known: Vec<String>,
    },
    /// A key of another format.
    #[error("`{key}` belongs to format {}, not to \"{format}\"", listed(owners))]
    KeyOfOtherFormat {
        /// The key.
        key: &'static str,
        /// The formats it belongs to.
        owners: &'static [&'static str],
        /// The format here.
        format: &'static str,
    },
    /// A key that says something about what another key rules out.
    #[error("`{key}` needs {needs}")]
    KeyNeeds {
        /// The key.
        key: &'static str,
        /// What must be written for it.
        needs: &'static str,
    },
    /// A partition that is not in the config.
    #[error("`{key}` is \"{label}\", which is no partition's label")]
    UnknownPartition {
        /// The key.
        key: &'static str,
        /// As typed.
        label: String,
        /// The labels there are.
        known: Vec<String>,
    },
    /// The environment's time.
    #[error(
        "environment variable SOURCE_DATE_EPOCH is \"{value}\"; expected a number of seconds from 0 to {max}"
    )]
    Epoch {
        /// As set.
        value: String,
        /// The greatest.
        max: i64,
    },
}

/// `"a", "b" or "c"`.
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
