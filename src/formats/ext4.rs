//! ext4, as the kernel's `fs/ext4/ext4.h` and Documentation/filesystems/ext4 lay it out.
//!
//! One structure per module; what they have in common is a [`geometry::Geometry`]. Structures that fill a block are
//! written into a slice of a block's length that holds zeros. Integers are little-endian except in the journal.

pub mod bitmap;
pub mod checksum;
pub mod dir;
pub mod extent;
pub mod geometry;
pub mod group_desc;
pub mod htree;
pub mod inode;
pub mod journal;
pub mod orphan;
pub mod superblock;
pub mod xattr;

/// The inode of the root directory.
pub const ROOT_INODE: u32 = 2;
/// The inode that owns the blocks reserved for growing the group descriptor table.
pub const RESIZE_INODE: u32 = 7;
/// The inode of the journal.
pub const JOURNAL_INODE: u32 = 8;
/// The first inode that is not reserved; lost+found by custom.
pub const FIRST_INODE: u32 = 11;
/// The inode of the orphan file, where there is one.
pub const ORPHAN_INODE: u32 = 12;
