//! Why a tree does not become an ext4 file system.

use crate::units::ByteCount;

/// Why an ext4 file system cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ext4Error {
    /// The contents do not fit.
    #[error(
        "partition `{label}`: its contents need {}, {} more than its size of {}",
        ByteCount(*needed), ByteCount(needed.saturating_sub(*available)), ByteCount(*available)
    )]
    TooSmall {
        /// The partition.
        label: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// The number of inodes asked for does not hold the contents.
    #[error("partition `{label}`: its contents need {needed} inodes; `inodes` allows {available}")]
    TooFewInodes {
        /// The partition.
        label: String,
        /// Inodes needed, the ten reserved ones included.
        needed: u64,
        /// Inodes there are.
        available: u64,
    },
    /// More inodes than groups can hold.
    #[error(
        "partition `{label}`: {needed} inodes do not fit {groups} block groups of at most 32768 inodes each"
    )]
    TooManyInodes {
        /// The partition.
        label: String,
        /// Inodes needed.
        needed: u64,
        /// Block groups there are.
        groups: u64,
    },
    /// A file beyond ext4's limit.
    #[error("{path}: file is {}; ext4 with 4 KiB blocks holds at most {}", ByteCount(*size), ByteCount(*limit))]
    FileTooLarge {
        /// Path in the image.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// An extended attribute that has no form in ext4.
    #[error("{path}: extended attribute {name}: {reason}")]
    Xattr {
        /// Path in the image.
        path: String,
        /// The attribute's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Extended attributes beyond an inode and a block.
    #[error(
        "{path}: extended attributes take {len} bytes; ext4 without ea_inode holds at most {limit}, in one piece at most 4060"
    )]
    XattrsTooLarge {
        /// Path in the image.
        path: String,
        /// Bytes needed.
        len: u64,
        /// Bytes there are.
        limit: u64,
    },
    /// A device number beyond 12 and 20 bits.
    #[error("{path}: device number {major}:{minor} is beyond 4095:1048575, the limit of ext4")]
    DeviceNumber {
        /// Path in the image.
        path: String,
        /// The driver.
        major: u32,
        /// The device.
        minor: u32,
    },
    /// A directory beyond two levels of index.
    #[error(
        "{path}: directory needs {leaves} index leaves; ext4 without large_dir holds at most {limit}"
    )]
    DirectoryTooLarge {
        /// Path in the image.
        path: String,
        /// Blocks of names.
        leaves: u64,
        /// The limit.
        limit: u64,
    },
    /// A file system beyond 32-bit block numbers.
    #[error("partition `{label}`: {} is beyond {}, the limit of ext4 without the 64bit feature", ByteCount(*size), ByteCount(*limit))]
    TooLarge {
        /// The partition.
        label: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl Ext4Error {
    /// The same about another file, if it is about one.
    #[must_use]
    pub(super) fn of_file(mut self, of: String) -> Self {
        match &mut self {
            Self::FileTooLarge { path, .. }
            | Self::Xattr { path, .. }
            | Self::XattrsTooLarge { path, .. }
            | Self::DeviceNumber { path, .. }
            | Self::DirectoryTooLarge { path, .. } => *path = of,
            Self::TooSmall { .. }
            | Self::TooFewInodes { .. }
            | Self::TooManyInodes { .. }
            | Self::TooLarge { .. } => {}
        }
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::TooSmall { .. } => {
                Some("give the partition a larger `size`, or `size = \"auto\"`".to_owned())
            }
            Self::TooFewInodes { needed, .. } => {
                Some(format!("set `inodes` to at least {needed}, or to \"auto\""))
            }
            Self::Xattr { name, .. } => Some(format!(
                "`xattrs = [\"!{name}\"]` in the copy entry leaves it out"
            )),
            Self::XattrsTooLarge { .. } => {
                Some("`xattrs` in the copy entry names what is taken".to_owned())
            }
            Self::TooManyInodes { .. } => Some("give the partition a larger `size`".to_owned()),
            _ => None,
        }
    }
}
