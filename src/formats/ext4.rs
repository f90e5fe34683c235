//! ext4, as the kernel's `fs/ext4/ext4.h` and Documentation/filesystems/ext4 lay it out.
//!
//! One structure per module. Integers are little-endian except in the journal.

pub mod bitmap;
pub mod checksum;
pub mod dir;
pub mod extent;
pub mod group_desc;
pub mod htree;
pub mod inode;
pub mod journal;
pub mod superblock;
pub mod xattr;

/// Bytes of a block: the only size that is written so far.
pub const BLOCK_SIZE: u64 = 4096;
/// [`BLOCK_SIZE`] as a length in memory.
pub const BLOCK_LEN: usize = 4096;
/// Blocks of a block group: as many as one bitmap block has bits.
pub const BLOCKS_PER_GROUP: u64 = 32_768;
/// Bytes of an inode.
pub const INODE_SIZE: u64 = 256;
/// Inodes in one block of an inode table.
pub const INODES_PER_BLOCK: u64 = BLOCK_SIZE / INODE_SIZE;
/// The inode of the root directory.
pub const ROOT_INODE: u32 = 2;
/// The inode that owns the blocks reserved for growing the group descriptor table.
pub const RESIZE_INODE: u32 = 7;
/// The inode of the journal.
pub const JOURNAL_INODE: u32 = 8;
/// The first inode that is not reserved; lost+found by custom.
pub const FIRST_INODE: u32 = 11;

/// One block in memory.
pub type Block = [u8; BLOCK_LEN];
