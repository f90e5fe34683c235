//! The superblock (`struct ext4_super_block`), 1024 bytes.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::checksum::Checksum;
use super::geometry::{Checksums, Geometry};
use super::{FIRST_INODE, JOURNAL_INODE, ORPHAN_INODE};
use crate::units::{high32, low16, low32};

/// Where the primary superblock lies in its partition; copies lie at the start of their block.
pub const PRIMARY_OFFSET: u64 = 1024;
/// Bytes of a superblock.
pub const SUPERBLOCK_LEN: usize = 1024;

const EXT4_SUPER_MAGIC: u16 = 0xef53;
const EXT4_VALID_FS: u16 = 1;
const EXT4_ERRORS_CONTINUE: u16 = 1;
const EXT4_DYNAMIC_REV: u32 = 1;
const EXT4_DEFM_XATTR_USER: u32 = 0x4;
const EXT4_DEFM_ACL: u32 = 0x8;
const EXT2_FLAGS_SIGNED_HASH: u32 = 0x1;
const EXT4_CRC32C_CHKSUM: u8 = 1;
const DX_HASH_HALF_MD4: u8 = 1;
/// The superblock keeps a copy of the journal's inode.
const EXT3_JNL_BACKUP_BLOCKS: u8 = 1;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_EXT_ATTR: u32 = 0x8;
const COMPAT_RESIZE_INODE: u32 = 0x10;
const COMPAT_DIR_INDEX: u32 = 0x20;
const COMPAT_ORPHAN_FILE: u32 = 0x1000;
const INCOMPAT_FILETYPE: u32 = 0x2;
const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_FLEX_BG: u32 = 0x200;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_LARGE_FILE: u32 = 0x2;
const RO_COMPAT_HUGE_FILE: u32 = 0x8;
const RO_COMPAT_GDT_CSUM: u32 = 0x10;
const RO_COMPAT_DIR_NLINK: u32 = 0x20;
const RO_COMPAT_EXTRA_ISIZE: u32 = 0x40;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// A superblock as it is stored.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel fs/ext4/ext4.h")]
pub struct RawSuperblock {
    pub s_inodes_count: U32,
    pub s_blocks_count_lo: U32,
    pub s_r_blocks_count_lo: U32,
    pub s_free_blocks_count_lo: U32,
    pub s_free_inodes_count: U32,
    pub s_first_data_block: U32,
    pub s_log_block_size: U32,
    pub s_log_cluster_size: U32,
    pub s_blocks_per_group: U32,
    pub s_clusters_per_group: U32,
    pub s_inodes_per_group: U32,
    pub s_mtime: U32,
    pub s_wtime: U32,
    pub s_mnt_count: U16,
    pub s_max_mnt_count: U16,
    pub s_magic: U16,
    pub s_state: U16,
    pub s_errors: U16,
    pub s_minor_rev_level: U16,
    pub s_lastcheck: U32,
    pub s_checkinterval: U32,
    pub s_creator_os: U32,
    pub s_rev_level: U32,
    pub s_def_resuid: U16,
    pub s_def_resgid: U16,
    pub s_first_ino: U32,
    pub s_inode_size: U16,
    pub s_block_group_nr: U16,
    pub s_feature_compat: U32,
    pub s_feature_incompat: U32,
    pub s_feature_ro_compat: U32,
    pub s_uuid: [u8; 16],
    pub s_volume_name: [u8; 16],
    pub s_last_mounted: [u8; 64],
    pub s_algorithm_usage_bitmap: U32,
    pub s_prealloc_blocks: u8,
    pub s_prealloc_dir_blocks: u8,
    pub s_reserved_gdt_blocks: U16,
    pub s_journal_uuid: [u8; 16],
    pub s_journal_inum: U32,
    pub s_journal_dev: U32,
    pub s_last_orphan: U32,
    pub s_hash_seed: [u8; 16],
    pub s_def_hash_version: u8,
    pub s_jnl_backup_type: u8,
    pub s_desc_size: U16,
    pub s_default_mount_opts: U32,
    pub s_first_meta_bg: U32,
    pub s_mkfs_time: U32,
    pub s_jnl_blocks: [u8; 68],
    pub s_blocks_count_hi: U32,
    pub s_r_blocks_count_hi: U32,
    pub s_free_blocks_count_hi: U32,
    pub s_min_extra_isize: U16,
    pub s_want_extra_isize: U16,
    pub s_flags: U32,
    pub s_raid_stride: U16,
    pub s_mmp_update_interval: U16,
    pub s_mmp_block: U64,
    pub s_raid_stripe_width: U32,
    pub s_log_groups_per_flex: u8,
    pub s_checksum_type: u8,
    pub s_encryption_level: u8,
    pub s_reserved_pad: u8,
    pub s_kbytes_written: U64,
    pub s_snapshot_and_errors: [u8; 200],
    pub s_overhead_blocks: U32,
    pub s_backup_bgs: [U32; 2],
    pub s_encrypt_algos: [u8; 4],
    pub s_encrypt_pw_salt: [u8; 16],
    pub s_lpf_ino: U32,
    pub s_prj_quota_inum: U32,
    pub s_checksum_seed: U32,
    pub s_wtime_hi: u8,
    pub s_mtime_hi: u8,
    pub s_mkfs_time_hi: u8,
    pub s_lastcheck_hi: u8,
    pub s_error_times_and_codes_hi: [u8; 4],
    pub s_encoding: U16,
    pub s_encoding_flags: U16,
    pub s_orphan_file_inum: U32,
    pub s_reserved: [U32; 94],
    pub s_checksum: U32,
}

const _: () = assert!(size_of::<RawSuperblock>() == SUPERBLOCK_LEN);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, s_magic) == 0x38);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, s_uuid) == 0x68);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, s_journal_inum) == 0xe0);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, s_jnl_blocks) == 0x10c);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, s_blocks_count_hi) == 0x150);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, s_kbytes_written) == 0x178);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, s_overhead_blocks) == 0x248);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, s_checksum_seed) == 0x270);
const _: () = assert!(std::mem::offset_of!(RawSuperblock, s_checksum) == 0x3fc);

/// What varies between file systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Sizes and features.
    pub geometry: Geometry,
    /// All inodes: groups times inodes of a group.
    pub inode_count: u32,
    /// All blocks, below 2^32 without the feature 64bit.
    pub block_count: u64,
    /// Blocks kept for root.
    pub reserved_blocks: u64,
    /// Free blocks, those kept for root included.
    pub free_blocks: u64,
    /// Free inodes.
    pub free_inodes: u32,
    /// Inodes of each group, a multiple of 8.
    pub inodes_per_group: u32,
    /// Blocks behind the group descriptors for their growth; 0 without resize_inode.
    pub reserved_gdt_blocks: u16,
    /// UUID.
    pub uuid: [u8; 16],
    /// Volume name, padded with zeros.
    pub label: [u8; 16],
    /// Seed of the directories' hash.
    pub hash_seed: [u8; 16],
    /// Time of creation, last write and last check, seconds since 1970, 0 to 2^40 - 1.
    pub time: u64,
    /// The journal's `i_block` and size, if there is one.
    pub journal: Option<JournalBackup>,
    /// Whether there is an orphan file.
    pub has_orphan_file: bool,
    /// Blocks of metadata that `statfs` does not count.
    pub overhead_blocks: u32,
}

/// The copy of the journal's inode in the superblock (`s_jnl_blocks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalBackup {
    /// `i_block` of the journal's inode.
    pub i_block: [u8; 60],
    /// Its size in bytes.
    pub size: u64,
}

impl JournalBackup {
    fn to_raw(self) -> [u8; 68] {
        let mut raw = [0; 68];
        let (blocks, sizes) = raw.split_at_mut(60);
        blocks.copy_from_slice(&self.i_block);
        sizes[..4].copy_from_slice(&high32(self.size).to_le_bytes());
        sizes[4..].copy_from_slice(&low32(self.size).to_le_bytes());
        raw
    }
}

impl Superblock {
    /// The stored form for the copy in `group`, with its checksum (kernel `ext4_superblock_csum`).
    #[must_use]
    pub fn to_raw(&self, group: u32) -> RawSuperblock {
        let mut raw = RawSuperblock::new_zeroed();
        self.set_geometry(&mut raw);
        self.set_features(&mut raw);
        self.set_times(&mut raw);
        raw.s_max_mnt_count = u16::MAX.into();
        raw.s_magic = EXT4_SUPER_MAGIC.into();
        raw.s_state = EXT4_VALID_FS.into();
        raw.s_errors = EXT4_ERRORS_CONTINUE.into();
        raw.s_rev_level = EXT4_DYNAMIC_REV.into();
        raw.s_block_group_nr = low16(group).into();
        raw.s_uuid = self.uuid;
        raw.s_volume_name = self.label;
        raw.s_hash_seed = self.hash_seed;
        raw.s_def_hash_version = DX_HASH_HALF_MD4;
        raw.s_flags = EXT2_FLAGS_SIGNED_HASH.into();
        raw.s_default_mount_opts = (EXT4_DEFM_XATTR_USER | EXT4_DEFM_ACL).into();
        if self.geometry.has_extra_fields() {
            raw.s_min_extra_isize = 32.into();
            raw.s_want_extra_isize = 32.into();
        }
        raw.s_kbytes_written = 1.into();
        raw.s_overhead_blocks = self.overhead_blocks.into();
        if let Some(journal) = self.journal {
            raw.s_journal_inum = JOURNAL_INODE.into();
            raw.s_jnl_backup_type = EXT3_JNL_BACKUP_BLOCKS;
            raw.s_jnl_blocks = journal.to_raw();
        }
        if self.has_orphan_file {
            raw.s_orphan_file_inum = ORPHAN_INODE.into();
        }
        if self.geometry.has_checksums() {
            let checksum_offset = std::mem::offset_of!(RawSuperblock, s_checksum);
            raw.s_checksum = Checksum::START
                .update(&raw.as_bytes()[..checksum_offset])
                .value()
                .into();
        }
        raw
    }

    fn set_geometry(&self, raw: &mut RawSuperblock) {
        let geometry = &self.geometry;
        let blocks_per_group = low32(geometry.blocks_per_group());
        raw.s_inodes_count = self.inode_count.into();
        raw.s_blocks_count_lo = low32(self.block_count).into();
        raw.s_blocks_count_hi = high32(self.block_count).into();
        raw.s_r_blocks_count_lo = low32(self.reserved_blocks).into();
        raw.s_r_blocks_count_hi = high32(self.reserved_blocks).into();
        raw.s_free_blocks_count_lo = low32(self.free_blocks).into();
        raw.s_free_blocks_count_hi = high32(self.free_blocks).into();
        raw.s_free_inodes_count = self.free_inodes.into();
        raw.s_first_data_block = low32(geometry.first_block()).into();
        raw.s_log_block_size = geometry.log_block_size().into();
        raw.s_log_cluster_size = geometry.log_block_size().into();
        raw.s_blocks_per_group = blocks_per_group.into();
        raw.s_clusters_per_group = blocks_per_group.into();
        raw.s_inodes_per_group = self.inodes_per_group.into();
        raw.s_first_ino = FIRST_INODE.into();
        raw.s_inode_size = low16(low32(geometry.inode_size())).into();
        if geometry.features.wide {
            raw.s_desc_size = low16(low32(geometry.descriptor_size())).into();
        }
        raw.s_reserved_gdt_blocks = self.reserved_gdt_blocks.into();
        // 2^4 groups in a flexible group, as mke2fs has it.
        raw.s_log_groups_per_flex = 4;
    }

    fn set_features(&self, raw: &mut RawSuperblock) {
        let mut compat = COMPAT_EXT_ATTR | COMPAT_DIR_INDEX;
        if self.journal.is_some() {
            compat |= COMPAT_HAS_JOURNAL;
        }
        if self.reserved_gdt_blocks > 0 {
            compat |= COMPAT_RESIZE_INODE;
        }
        if self.has_orphan_file {
            compat |= COMPAT_ORPHAN_FILE;
        }
        let features = self.geometry.features;
        let mut incompat = INCOMPAT_FILETYPE | INCOMPAT_EXTENTS | INCOMPAT_FLEX_BG;
        if features.wide {
            incompat |= INCOMPAT_64BIT;
        }
        if features.checksum_seed {
            incompat |= INCOMPAT_CSUM_SEED;
            raw.s_checksum_seed = Checksum::of_uuid(&self.uuid).value().into();
        }
        let mut ro_compat = RO_COMPAT_SPARSE_SUPER
            | RO_COMPAT_LARGE_FILE
            | RO_COMPAT_HUGE_FILE
            | RO_COMPAT_DIR_NLINK;
        if self.geometry.has_extra_fields() {
            ro_compat |= RO_COMPAT_EXTRA_ISIZE;
        }
        match features.checksums {
            Checksums::Metadata => {
                ro_compat |= RO_COMPAT_METADATA_CSUM;
                raw.s_checksum_type = EXT4_CRC32C_CHKSUM;
            }
            Checksums::Descriptors => ro_compat |= RO_COMPAT_GDT_CSUM,
        }
        raw.s_feature_compat = compat.into();
        raw.s_feature_incompat = incompat.into();
        raw.s_feature_ro_compat = ro_compat.into();
    }

    fn set_times(&self, raw: &mut RawSuperblock) {
        let low = low32(self.time);
        let high = self.time.to_le_bytes()[4];
        raw.s_wtime = low.into();
        raw.s_lastcheck = low.into();
        raw.s_mkfs_time = low.into();
        raw.s_wtime_hi = high;
        raw.s_lastcheck_hi = high;
        raw.s_mkfs_time_hi = high;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ext4::geometry::Features;

    fn example() -> Superblock {
        Superblock {
            geometry: Geometry::STD,
            inode_count: 1024,
            block_count: 16_384,
            reserved_blocks: 819,
            free_blocks: 15_000,
            free_inodes: 1013,
            inodes_per_group: 1024,
            reserved_gdt_blocks: 7,
            uuid: [0x11; 16],
            label: *b"boot\0\0\0\0\0\0\0\0\0\0\0\0",
            hash_seed: [0x22; 16],
            time: 0x2_0000_0005,
            journal: Some(JournalBackup {
                i_block: [3; 60],
                size: 0x1_0000_0400,
            }),
            has_orphan_file: false,
            overhead_blocks: 1100,
        }
    }

    #[test]
    fn fields_lie_where_the_kernel_looks() {
        let raw = example().to_raw(3);
        let bytes = raw.as_bytes();
        assert_eq!(bytes[0x04..0x08], 16_384_u32.to_le_bytes());
        assert_eq!(bytes[0x38..0x3a], [0x53, 0xef]);
        assert_eq!(bytes[0x5a..0x5c], [3, 0]);
        assert_eq!(
            bytes[0x5c..0x68],
            [0x3c, 0, 0, 0, 0x42, 2, 0, 0, 0x6b, 4, 0, 0]
        );
        assert_eq!(bytes[0x148..0x150], [1, 0, 0, 0, 0, 4, 0, 0]);
        assert_eq!((bytes[0x274], bytes[0x276], bytes[0x277]), (2, 2, 2));
        assert_eq!(
            bytes[0x3fc..],
            Checksum::START
                .update(&bytes[..0x3fc])
                .value()
                .to_le_bytes()
        );
    }

    #[test]
    fn features_follow_the_geometry() {
        let features = |geometry, has_orphan_file| {
            let superblock = Superblock {
                geometry,
                has_orphan_file,
                ..example()
            };
            let raw = superblock.to_raw(0);
            let masks = (
                raw.s_feature_compat.get(),
                raw.s_feature_incompat.get(),
                raw.s_feature_ro_compat.get(),
            );
            (raw, masks)
        };
        let modern = Features {
            wide: true,
            checksum_seed: true,
            orphan_file: true,
            ..Features::STD
        };
        let (raw, masks) = features(Geometry::new(4096, 256, modern), true);
        assert_eq!(masks, (0x103c, 0x22c2, 0x46b));
        assert_eq!(
            (raw.s_desc_size.get(), raw.s_orphan_file_inum.get()),
            (64, 12)
        );
        assert_eq!(
            raw.s_checksum_seed.get(),
            Checksum::of_uuid(&[0x11; 16]).value()
        );
        let compat = Features {
            checksums: Checksums::Descriptors,
            ..Features::STD
        };
        let (raw, masks) = features(Geometry::new(1024, 128, compat), false);
        assert_eq!(masks, (0x3c, 0x242, 0x3b));
        assert_eq!((raw.s_checksum.get(), raw.s_checksum_type), (0, 0));
        assert_eq!(
            (raw.s_first_data_block.get(), raw.s_log_block_size.get()),
            (1, 0)
        );
        assert_eq!(
            (raw.s_inode_size.get(), raw.s_want_extra_isize.get()),
            (128, 0)
        );
        assert_eq!(raw.s_blocks_per_group.get(), 8192);
    }

    #[test]
    fn features_follow_journal_and_reserved_blocks() {
        let bare = Superblock {
            journal: None,
            reserved_gdt_blocks: 0,
            ..example()
        };
        let raw = bare.to_raw(0);
        assert_eq!(raw.s_feature_compat.get(), 0x28);
        assert_eq!(raw.s_journal_inum.get(), 0);
        assert_eq!(raw.s_jnl_backup_type, 0);
    }
}
