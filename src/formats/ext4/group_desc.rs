//! The group descriptor (`struct ext4_group_desc`), 32 bytes without the 64bit feature.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::checksum::Checksum;

/// Bytes of a descriptor.
pub const GROUP_DESC_SIZE: u64 = 32;
/// The inode bitmap was never written and stands for "all free".
pub const EXT4_BG_INODE_UNINIT: u16 = 0x1;
/// The block bitmap was never written and stands for the group's own metadata.
pub const EXT4_BG_BLOCK_UNINIT: u16 = 0x2;
/// The inode table is zeroed, so that the kernel's lazy initialisation has nothing to do.
pub const EXT4_BG_INODE_ZEROED: u16 = 0x4;

/// A descriptor as it is stored.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel fs/ext4/ext4.h")]
pub struct RawGroupDesc {
    pub bg_block_bitmap_lo: U32,
    pub bg_inode_bitmap_lo: U32,
    pub bg_inode_table_lo: U32,
    pub bg_free_blocks_count_lo: U16,
    pub bg_free_inodes_count_lo: U16,
    pub bg_used_dirs_count_lo: U16,
    pub bg_flags: U16,
    pub bg_exclude_bitmap_lo: U32,
    pub bg_block_bitmap_csum_lo: U16,
    pub bg_inode_bitmap_csum_lo: U16,
    pub bg_itable_unused_lo: U16,
    pub bg_checksum: U16,
}

const _: () = assert!(size_of::<RawGroupDesc>() == 32);
const _: () = assert!(std::mem::offset_of!(RawGroupDesc, bg_flags) == 0x12);
const _: () = assert!(std::mem::offset_of!(RawGroupDesc, bg_checksum) == 0x1e);

/// What varies between the descriptors of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupDesc {
    /// Block of the block bitmap.
    pub block_bitmap: u32,
    /// Block of the inode bitmap.
    pub inode_bitmap: u32,
    /// First block of the inode table.
    pub inode_table: u32,
    /// Free blocks, at most 32,768.
    pub free_blocks: u16,
    /// Free inodes, at most 32,768.
    pub free_inodes: u16,
    /// Directories whose inodes lie in the group.
    pub directories: u16,
    /// `EXT4_BG_*`.
    pub flags: u16,
    /// Checksum of the block bitmap, lower half; 0 where the bitmap is not initialised.
    pub block_bitmap_checksum: u16,
    /// Checksum of the inode bitmap, lower half; 0 where the bitmap is not initialised.
    pub inode_bitmap_checksum: u16,
    /// Inodes behind the last used one.
    pub unused_inodes: u16,
}

impl GroupDesc {
    /// The stored form, with its checksum (kernel fs/ext4/super.c, `ext4_group_desc_csum`).
    #[must_use]
    pub fn to_raw(&self, seed: Checksum, group: u32) -> RawGroupDesc {
        let mut raw = RawGroupDesc {
            bg_block_bitmap_lo: self.block_bitmap.into(),
            bg_inode_bitmap_lo: self.inode_bitmap.into(),
            bg_inode_table_lo: self.inode_table.into(),
            bg_free_blocks_count_lo: self.free_blocks.into(),
            bg_free_inodes_count_lo: self.free_inodes.into(),
            bg_used_dirs_count_lo: self.directories.into(),
            bg_flags: self.flags.into(),
            bg_exclude_bitmap_lo: U32::ZERO,
            bg_block_bitmap_csum_lo: self.block_bitmap_checksum.into(),
            bg_inode_bitmap_csum_lo: self.inode_bitmap_checksum.into(),
            bg_itable_unused_lo: self.unused_inodes.into(),
            bg_checksum: U16::ZERO,
        };
        raw.bg_checksum = seed.update_u32(group).update(raw.as_bytes()).low16().into();
        raw
    }
}
