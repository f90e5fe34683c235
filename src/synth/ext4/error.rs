//! Why a tree does not become an ext4 file system.

use crate::units::{ByteCount, KIB};

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
        "partition `{label}`: {needed} inodes are {} more than its {groups} block groups hold, at most {per_group} each",
        needed.saturating_sub(groups.saturating_mul(*per_group))
    )]
    TooManyInodes {
        /// The partition.
        label: String,
        /// Inodes needed.
        needed: u64,
        /// Block groups there are.
        groups: u64,
        /// Inodes of a group at most.
        per_group: u64,
    },
    /// A journal that takes more than half of the file system.
    #[error(
        "partition `{label}`: a journal of {} is beyond {}, half of the file system",
        ByteCount(*size), ByteCount(*limit)
    )]
    JournalTooLarge {
        /// The partition.
        label: String,
        /// Bytes of the journal asked for.
        size: u64,
        /// Half of the file system.
        limit: u64,
    },
    /// A file beyond ext4's limit.
    #[error(
        "{path}: file is {}; ext4 with blocks of {block_size} bytes holds at most {}",
        ByteCount(*size), ByteCount(*limit)
    )]
    FileTooLarge {
        /// Path in the image.
        path: String,
        /// Its size.
        size: u64,
        /// Bytes of a block.
        block_size: u64,
        /// The limit.
        limit: u64,
    },
    /// A symlink whose target does not fit a block.
    #[error(
        "{path}: target of the symlink has {len} bytes; ext4 with blocks of {} bytes holds at most {limit}",
        limit.saturating_add(1)
    )]
    SymlinkTooLong {
        /// Path in the image.
        path: String,
        /// Its bytes.
        len: u64,
        /// The limit: a block without the byte that ends it.
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
        "{path}: extended attributes take {len} bytes; ext4 without ea_inode holds at most {limit}, in one piece at most {piece}"
    )]
    XattrsTooLarge {
        /// Path in the image.
        path: String,
        /// Bytes needed.
        len: u64,
        /// Bytes there are.
        limit: u64,
        /// Bytes that one attribute may take.
        piece: u64,
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
        /// Bytes of a block.
        block_size: u64,
        /// Blocks of names.
        leaves: u64,
        /// The limit.
        limit: u64,
    },
    /// A file system whose group descriptors do not fit a group.
    #[error(
        "partition `{label}`: {} is beyond {}, the limit of ext4 with blocks of {block_size} bytes and without the meta_bg feature",
        ByteCount(*size), ByteCount(*limit)
    )]
    TooLarge {
        /// The partition.
        label: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
        /// Bytes of a block.
        block_size: u64,
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
            | Self::SymlinkTooLong { path, .. }
            | Self::DirectoryTooLarge { path, .. } => *path = of,
            Self::TooSmall { .. }
            | Self::TooFewInodes { .. }
            | Self::TooManyInodes { .. }
            | Self::JournalTooLarge { .. }
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
            Self::JournalTooLarge { limit, .. } => Some(format!(
                "write `journal = \"{}KiB\"` or less, or give the partition a larger `size`",
                limit / KIB
            )),
            Self::FileTooLarge { block_size, .. }
            | Self::TooLarge { block_size, .. }
            | Self::DirectoryTooLarge { block_size, .. }
                if *block_size < 4096 =>
            {
                Some("a larger `block-size` allows more".to_owned())
            }
            Self::SymlinkTooLong { len, .. } => Some(if *len < 4096 {
                format!(
                    "`block-size = {}` holds it",
                    len.saturating_add(1).next_power_of_two()
                )
            } else {
                "leave it out with `exclude` in the copy entry".to_owned()
            }),
            Self::FileTooLarge { .. } => {
                Some("leave it out with `exclude` in the copy entry".to_owned())
            }
            Self::TooLarge { .. } => {
                Some("make it smaller, or spread its contents over several disks".to_owned())
            }
            Self::DirectoryTooLarge { .. } => {
                Some("spread its names over several directories".to_owned())
            }
            Self::DeviceNumber { .. } => {
                Some("leave it out with `exclude` in the copy entry".to_owned())
            }
        }
    }
}
