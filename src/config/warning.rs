//! What the user should know although nothing is wrong.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::spec::Location;
use crate::units::ByteCount;

/// A remark with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigWarning {
    /// Where.
    pub location: Location,
    /// What.
    pub kind: ConfigWarningKind,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.kind)
    }
}

/// What there is to say.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigWarningKind {
    /// VMDK wants whole grains.
    #[error(
        "disk size {} is no multiple of 64 KiB; rounded up to {}",
        ByteCount(*typed),
        ByteCount(*rounded)
    )]
    DiskSizeRounded {
        /// Bytes as typed.
        typed: u64,
        /// Bytes of the disk.
        rounded: u64,
    },
    /// The newest version of one entry is one that another lacks.
    #[error(
        "`from`: `{}` has `{newest}` but no `{missing}`; {taken} is taken",
        directory.display()
    )]
    NewestIncomplete {
        /// Where was looked.
        directory: PathBuf,
        /// The name that is there.
        newest: String,
        /// The name that is not.
        missing: String,
        /// The version that is used.
        taken: String,
    },
    /// Nothing starts the boot loader.
    #[error(
        "partition `{label}` has a boot loader, but with boot-code = \"none\" nothing on the disk starts it"
    )]
    NoBootCode {
        /// The partition.
        label: String,
    },
}
