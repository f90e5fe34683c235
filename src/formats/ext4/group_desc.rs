//! The group descriptor (`struct ext4_group_desc`): 32 bytes, and 64 with the 64bit feature.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::checksum::{Checksum, Checksum16};
use crate::units::{high16, high32, low16, low32};

/// The inode bitmap was never written and stands for "all free".
pub const EXT4_BG_INODE_UNINIT: u16 = 0x1;
/// The block bitmap was never written and stands for the group's own metadata.
pub const EXT4_BG_BLOCK_UNINIT: u16 = 0x2;
/// The inode table is zeroed, so that the kernel's lazy initialisation has nothing to do.
pub const EXT4_BG_INODE_ZEROED: u16 = 0x4;

/// A descriptor as it is stored; its second half is there with the feature 64bit.
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
    pub bg_block_bitmap_hi: U32,
    pub bg_inode_bitmap_hi: U32,
    pub bg_inode_table_hi: U32,
    pub bg_free_blocks_count_hi: U16,
    pub bg_free_inodes_count_hi: U16,
    pub bg_used_dirs_count_hi: U16,
    pub bg_itable_unused_hi: U16,
    pub bg_exclude_bitmap_hi: U32,
    pub bg_block_bitmap_csum_hi: U16,
    pub bg_inode_bitmap_csum_hi: U16,
    pub bg_reserved: U32,
}

const _: () = assert!(size_of::<RawGroupDesc>() == 64);
const _: () = assert!(std::mem::offset_of!(RawGroupDesc, bg_block_bitmap_hi) == 0x20);
const _: () = assert!(std::mem::offset_of!(RawGroupDesc, bg_block_bitmap_csum_hi) == 0x38);
const _: () = assert!(std::mem::offset_of!(RawGroupDesc, bg_flags) == 0x12);
const _: () = assert!(std::mem::offset_of!(RawGroupDesc, bg_checksum) == 0x1e);

/// What varies between the descriptors of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupDesc {
    /// Block of the block bitmap.
    pub block_bitmap: u64,
    /// Block of the inode bitmap.
    pub inode_bitmap: u64,
    /// First block of the inode table.
    pub inode_table: u64,
    /// Free blocks, at most 32,768.
    pub free_blocks: u16,
    /// Free inodes, at most 32,768.
    pub free_inodes: u16,
    /// Directories whose inodes lie in the group.
    pub directories: u16,
    /// `EXT4_BG_*`.
    pub flags: u16,
    /// Checksum of the block bitmap; 0 where the bitmap is not initialised, or without metadata_csum.
    pub block_bitmap_checksum: u32,
    /// Checksum of the inode bitmap; 0 where the bitmap is not initialised, or without metadata_csum.
    pub inode_bitmap_checksum: u32,
    /// Inodes behind the last used one.
    pub unused_inodes: u16,
}

/// Where the checksum of descriptors starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DescriptorSeed {
    /// `metadata_csum`.
    Crc32c(Checksum),
    /// `uninit_bg`: the file system's UUID.
    Crc16([u8; 16]),
}

impl GroupDesc {
    /// Writes the stored form, with its checksum (kernel fs/ext4/super.c, `ext4_group_desc_csum`). The slot has the
    /// length of a descriptor.
    ///
    /// # Panics
    /// If the slot is longer than 64 bytes or shorter than 32.
    pub fn write(&self, slot: &mut [u8], seed: DescriptorSeed, group: u32) {
        const CHECKSUM_AT: usize = std::mem::offset_of!(RawGroupDesc, bg_checksum);
        let raw = self.fields();
        slot.copy_from_slice(&raw.as_bytes()[..slot.len()]);
        let checksum = match seed {
            DescriptorSeed::Crc32c(seed) => seed.update_u32(group).update(slot).low16(),
            // This one leaves its own field out.
            DescriptorSeed::Crc16(uuid) => Checksum16::START
                .update(&uuid)
                .update(&group.to_le_bytes())
                .update(&slot[..CHECKSUM_AT])
                .update(&slot[CHECKSUM_AT..][2..])
                .value(),
        };
        slot[CHECKSUM_AT..][..2].copy_from_slice(&checksum.to_le_bytes());
    }

    fn fields(self) -> RawGroupDesc {
        RawGroupDesc {
            bg_block_bitmap_lo: low32(self.block_bitmap).into(),
            bg_inode_bitmap_lo: low32(self.inode_bitmap).into(),
            bg_inode_table_lo: low32(self.inode_table).into(),
            bg_free_blocks_count_lo: self.free_blocks.into(),
            bg_free_inodes_count_lo: self.free_inodes.into(),
            bg_used_dirs_count_lo: self.directories.into(),
            bg_flags: self.flags.into(),
            bg_exclude_bitmap_lo: U32::ZERO,
            bg_block_bitmap_csum_lo: low16(self.block_bitmap_checksum).into(),
            bg_inode_bitmap_csum_lo: low16(self.inode_bitmap_checksum).into(),
            bg_itable_unused_lo: self.unused_inodes.into(),
            bg_checksum: U16::ZERO,
            bg_block_bitmap_hi: high32(self.block_bitmap).into(),
            bg_inode_bitmap_hi: high32(self.inode_bitmap).into(),
            bg_inode_table_hi: high32(self.inode_table).into(),
            // A group has at most 32,768 blocks and inodes.
            bg_free_blocks_count_hi: U16::ZERO,
            bg_free_inodes_count_hi: U16::ZERO,
            bg_used_dirs_count_hi: U16::ZERO,
            bg_itable_unused_hi: U16::ZERO,
            bg_exclude_bitmap_hi: U32::ZERO,
            bg_block_bitmap_csum_hi: high16(self.block_bitmap_checksum).into(),
            bg_inode_bitmap_csum_hi: high16(self.inode_bitmap_checksum).into(),
            bg_reserved: U32::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: GroupDesc = GroupDesc {
        block_bitmap: 0x3_0000_0001,
        inode_bitmap: 0x3_0000_0002,
        inode_table: 0x4_0000_0003,
        free_blocks: 5,
        free_inodes: 6,
        directories: 7,
        flags: EXT4_BG_INODE_ZEROED,
        block_bitmap_checksum: 0x1122_3344,
        inode_bitmap_checksum: 0x5566_7788,
        unused_inodes: 8,
    };

    #[test]
    fn halves_lie_where_the_kernel_looks() {
        let seed = Checksum::of_uuid(&[2; 16]);
        let mut slot = [0; 64];
        EXAMPLE.write(&mut slot, DescriptorSeed::Crc32c(seed), 9);
        assert_eq!(slot[..4], [1, 0, 0, 0]);
        assert_eq!(slot[0x18..0x1c], [0x44, 0x33, 0x88, 0x77]);
        assert_eq!(slot[0x20..0x2c], [3, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(slot[0x38..0x3c], [0x22, 0x11, 0x66, 0x55]);
        let mut zeroed = slot;
        zeroed[0x1e..0x20].fill(0);
        let sum = seed.update_u32(9).update(&zeroed).low16();
        assert_eq!(slot[0x1e..0x20], sum.to_le_bytes());
    }

    #[test]
    fn crc16_leaves_its_own_field_out() {
        let mut slot = [0; 32];
        EXAMPLE.write(&mut slot, DescriptorSeed::Crc16([2; 16]), 9);
        let covered = [&[2; 16][..], &9_u32.to_le_bytes(), &slot[..0x1e]].concat();
        let sum = Checksum16::START.update(&covered).value();
        assert_eq!(slot[0x1e..], sum.to_le_bytes());
    }
}
