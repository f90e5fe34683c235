//! The inode (`struct ext4_inode`): 128 bytes, and in larger inodes 32 of extra fields and the extended attributes.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::checksum::Checksum;
use super::geometry::{GOOD_OLD_INODE_LEN, Geometry};
use crate::units::{high16, high32, low16, low32};

/// Regular file.
pub const S_IFREG: u16 = 0o100_000;
/// Directory.
pub const S_IFDIR: u16 = 0o040_000;
/// Named pipe.
pub const S_IFIFO: u16 = 0o010_000;
/// Character device.
pub const S_IFCHR: u16 = 0o020_000;
/// Block device.
pub const S_IFBLK: u16 = 0o060_000;
/// Socket.
pub const S_IFSOCK: u16 = 0o140_000;
/// Symlink.
pub const S_IFLNK: u16 = 0o120_000;

/// The file cannot be changed.
pub const EXT4_IMMUTABLE_FL: u32 = 0x10;
/// The directory has an index.
pub const EXT4_INDEX_FL: u32 = 0x1000;
/// Blocks are found through an extent tree.
pub const EXT4_EXTENTS_FL: u32 = 0x8_0000;

/// Bytes of `i_block`: a symlink target up to one less lies in the inode itself.
pub const I_BLOCK_LEN: usize = 60;
/// Bytes of the fields behind the first 128.
const EXTRA_ISIZE: u16 = 32;

/// Bytes of an inode that attributes may have, behind the extra fields; 0 for inodes of 128 bytes.
#[must_use]
pub const fn xattr_area_len(geometry: &Geometry) -> usize {
    geometry.inode_len().saturating_sub(size_of::<RawInode>())
}

/// Earliest second that the timestamps hold: 1901-12-13.
pub const SECONDS_MIN: i64 = -(1 << 31);
/// Latest second that the timestamps hold: 2446-05-10.
pub const SECONDS_MAX: i64 = 0x3_7fff_ffff;
/// Latest second without the extra fields: 2038-01-19.
pub const SECONDS_MAX_OLD: i64 = 0x7fff_ffff;

/// The fields of an inode as they are stored, without the attributes behind them.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel fs/ext4/ext4.h")]
pub struct RawInode {
    pub i_mode: U16,
    pub i_uid: U16,
    pub i_size_lo: U32,
    pub i_atime: U32,
    pub i_ctime: U32,
    pub i_mtime: U32,
    pub i_dtime: U32,
    pub i_gid: U16,
    pub i_links_count: U16,
    pub i_blocks_lo: U32,
    pub i_flags: U32,
    pub i_version: U32,
    pub i_block: [u8; I_BLOCK_LEN],
    pub i_generation: U32,
    pub i_file_acl_lo: U32,
    pub i_size_high: U32,
    pub i_obso_faddr: U32,
    pub i_blocks_high: U16,
    pub i_file_acl_high: U16,
    pub i_uid_high: U16,
    pub i_gid_high: U16,
    pub i_checksum_lo: U16,
    pub i_reserved: U16,
    pub i_extra_isize: U16,
    pub i_checksum_hi: U16,
    pub i_ctime_extra: U32,
    pub i_mtime_extra: U32,
    pub i_atime_extra: U32,
    pub i_crtime: U32,
    pub i_crtime_extra: U32,
    pub i_version_hi: U32,
    pub i_projid: U32,
}

const _: () = assert!(size_of::<RawInode>() == 160);
const _: () = assert!(std::mem::offset_of!(RawInode, i_block) == 0x28);
const _: () = assert!(std::mem::offset_of!(RawInode, i_blocks_high) == 0x74);
const _: () = assert!(std::mem::offset_of!(RawInode, i_checksum_lo) == 0x7c);
const _: () = assert!(std::mem::offset_of!(RawInode, i_checksum_hi) == 0x82);
const _: () = assert!(std::mem::offset_of!(RawInode, i_projid) == 0x9c);

/// What varies between inodes. All four times are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode<'a> {
    /// Type and permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Number of names.
    pub links: u16,
    /// Blocks of the file system that belong to it, those of its tree included.
    pub blocks: u64,
    /// `EXT4_*_FL`.
    pub flags: u32,
    /// Extent root, symlink target or device number.
    pub i_block: [u8; I_BLOCK_LEN],
    /// Seconds since 1970, clamped to what ext4 holds.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanoseconds: u32,
    /// The block of extended attributes, 0 for none.
    pub xattr_block: u64,
    /// The beginning of the area of extended attributes behind the extra fields; the rest of it is zero.
    pub xattrs: &'a [u8],
}

/// `i_block` of a device: the old form where both numbers fit a byte, the new one in the second word otherwise
/// (kernel include/linux/kdev_t.h, `old_encode_dev` and `new_encode_dev`). `None` beyond 12 and 20 bits.
#[must_use]
pub fn device(major: u32, minor: u32) -> Option<[u8; I_BLOCK_LEN]> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return None;
    }
    let mut i_block = [0; I_BLOCK_LEN];
    if major < 256 && minor < 256 {
        i_block[..4].copy_from_slice(&(major << 8 | minor).to_le_bytes());
    } else {
        let encoded = minor & 0xff | major << 8 | (minor & !0xff) << 12;
        i_block[4..8].copy_from_slice(&encoded.to_le_bytes());
    }
    Some(i_block)
}

impl Inode<'_> {
    /// Writes the stored form into a slot that holds zeros, with its checksum if there is the seed of this inode
    /// (kernel fs/ext4/inode.c, `ext4_inode_csum`).
    ///
    /// # Panics
    /// If the slot is shorter than an inode, or attributes do not fit it: the plan counted them.
    pub fn write(&self, slot: &mut [u8], geometry: &Geometry, inode_seed: Option<Checksum>) {
        const CHECKSUM_LO_AT: usize = std::mem::offset_of!(RawInode, i_checksum_lo);
        const CHECKSUM_HI_AT: usize = std::mem::offset_of!(RawInode, i_checksum_hi);
        let raw = self.to_raw(geometry);
        if geometry.has_extra_fields() {
            let (fields, area) = slot.split_at_mut(size_of::<RawInode>());
            fields.copy_from_slice(raw.as_bytes());
            area[..self.xattrs.len()].copy_from_slice(self.xattrs);
        } else {
            assert!(
                self.xattrs.is_empty(),
                "old inodes have no room for attributes"
            );
            slot.copy_from_slice(&raw.as_bytes()[..GOOD_OLD_INODE_LEN]);
        }
        let Some(seed) = inode_seed else {
            return;
        };
        let checksum = seed.update(slot);
        slot[CHECKSUM_LO_AT..][..2].copy_from_slice(&checksum.low16().to_le_bytes());
        if geometry.has_extra_fields() {
            slot[CHECKSUM_HI_AT..][..2].copy_from_slice(&checksum.high16().to_le_bytes());
        }
    }

    /// The fields, their checksum zero.
    fn to_raw(&self, geometry: &Geometry) -> RawInode {
        let (time, time_extra) = if geometry.has_extra_fields() {
            encode_time(self.seconds, self.nanoseconds)
        } else {
            let clamped = self.seconds.clamp(SECONDS_MIN, SECONDS_MAX_OLD);
            encode_time(clamped, 0)
        };
        // i_blocks counts 512-byte sectors; below 2^48 of them no other unit is needed.
        let sectors = self.blocks.saturating_mul(geometry.sectors_per_block());
        RawInode {
            i_mode: self.mode.into(),
            i_uid: low16(self.uid).into(),
            i_size_lo: low32(self.size).into(),
            i_atime: time.into(),
            i_ctime: time.into(),
            i_mtime: time.into(),
            i_dtime: U32::ZERO,
            i_gid: low16(self.gid).into(),
            i_links_count: self.links.into(),
            i_blocks_lo: low32(sectors).into(),
            i_flags: self.flags.into(),
            i_version: U32::ZERO,
            i_block: self.i_block,
            i_generation: U32::ZERO,
            i_file_acl_lo: low32(self.xattr_block).into(),
            i_size_high: high32(self.size).into(),
            i_obso_faddr: U32::ZERO,
            i_blocks_high: low16(high32(sectors)).into(),
            i_file_acl_high: low16(high32(self.xattr_block)).into(),
            i_uid_high: high16(self.uid).into(),
            i_gid_high: high16(self.gid).into(),
            i_checksum_lo: U16::ZERO,
            i_reserved: U16::ZERO,
            i_extra_isize: EXTRA_ISIZE.into(),
            i_checksum_hi: U16::ZERO,
            i_ctime_extra: time_extra.into(),
            i_mtime_extra: time_extra.into(),
            i_atime_extra: time_extra.into(),
            i_crtime: time.into(),
            i_crtime_extra: time_extra.into(),
            i_version_hi: U32::ZERO,
            i_projid: U32::ZERO,
        }
    }
}

/// A time as its two fields: 32 bits of seconds, then 2 more above and 30 of nanoseconds
/// (kernel fs/ext4/ext4.h, `ext4_encode_extra_time`).
fn encode_time(seconds: i64, nanoseconds: u32) -> (u32, u32) {
    let clamped = seconds.clamp(SECONDS_MIN, SECONDS_MAX);
    let nanoseconds = if clamped == seconds { nanoseconds } else { 0 };
    // Epoch 0 covers -2^31..2^31, each further one the next 2^32 seconds.
    let from_min = u64::try_from(clamped.saturating_sub(SECONDS_MIN)).expect("clamped from below");
    let epoch = high32(from_min);
    let low = low32(from_min) ^ (1 << 31);
    (low, (nanoseconds << 2) | (epoch & 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ext4::geometry::Features;

    #[test]
    fn encodes_reference_bytes() {
        // Times that a kernel 6.18 read back with nanoseconds intact.
        assert_eq!(encode_time(0, 0), (0, 0));
        assert_eq!(encode_time(-1, 5), (0xffff_ffff, 5 << 2));
        assert_eq!(encode_time(SECONDS_MIN, 0), (0x8000_0000, 0));
        assert_eq!(
            encode_time(1 << 31, 999_999_999),
            (0x8000_0000, (999_999_999 << 2) | 1)
        );
        assert_eq!(encode_time(1 << 32, 0), (0, 1));
        assert_eq!(encode_time(SECONDS_MAX, 7), (0x7fff_ffff, (7 << 2) | 3));
    }

    #[test]
    fn times_are_clamped() {
        assert_eq!(encode_time(i64::MIN, 9), encode_time(SECONDS_MIN, 0));
        assert_eq!(encode_time(i64::MAX, 9), encode_time(SECONDS_MAX, 0));
    }

    fn example() -> Inode<'static> {
        Inode {
            mode: S_IFREG | 0o644,
            uid: 4_000_000_000,
            gid: 0x0001_0064,
            size: 0x12_3456_789a,
            links: 1,
            blocks: 0x1_0000_0000,
            flags: EXT4_EXTENTS_FL,
            i_block: [0; I_BLOCK_LEN],
            seconds: 1,
            nanoseconds: 2,
            xattr_block: 0x2_0000_0003,
            xattrs: &[],
        }
    }

    #[test]
    fn inodes_of_128_bytes_have_no_extra_fields() {
        let old = Geometry::new(4096, 128, Features::STD);
        let seed = Checksum::of_uuid(&[1; 16]).of_inode(12);
        let inode = Inode {
            seconds: 1 << 31,
            nanoseconds: 5,
            ..example()
        };
        let mut slot = [0; 128];
        inode.write(&mut slot, &old, Some(seed));
        assert_eq!(slot[0x10..0x14], 0x7fff_ffff_u32.to_le_bytes());
        let mut zeroed = slot;
        zeroed[0x7c..0x7e].fill(0);
        assert_eq!(slot[0x7c..0x7e], seed.update(&zeroed).low16().to_le_bytes());
    }

    #[test]
    fn checksums_cover_attributes_and_are_left_out_without_a_seed() {
        let wide = Geometry::new(4096, 512, Features::STD);
        let seed = Checksum::of_uuid(&[1; 16]).of_inode(12);
        let inode = Inode {
            xattrs: &[7; 90],
            ..example()
        };
        let (mut with, mut without) = ([0; 512], [0; 512]);
        inode.write(&mut with, &wide, Some(seed));
        inode.write(&mut without, &wide, None);
        assert_eq!(without[0x80..0x82], [32, 0]);
        assert_eq!(without[160..251], [[7; 90].as_slice(), &[0]].concat());
        let sum = seed.update(&without);
        assert_eq!(with[0x7c..0x7e], sum.low16().to_le_bytes());
        assert_eq!(with[0x82..0x84], sum.high16().to_le_bytes());
    }

    #[test]
    fn halves_hold_wide_values() {
        let raw = example().to_raw(&Geometry::STD);
        assert_eq!((raw.i_uid.get(), raw.i_uid_high.get()), (0x2800, 0xee6b));
        assert_eq!((raw.i_gid.get(), raw.i_gid_high.get()), (0x64, 1));
        assert_eq!(
            (raw.i_size_lo.get(), raw.i_size_high.get()),
            (0x3456_789a, 0x12)
        );
        assert_eq!((raw.i_file_acl_lo.get(), raw.i_file_acl_high.get()), (3, 2));
        assert_eq!((raw.i_blocks_lo.get(), raw.i_blocks_high.get()), (0, 8));
    }

    #[test]
    fn device_numbers_have_an_old_and_a_new_form() {
        // What the kernel writes for mknod, shown by `debugfs -R "inode_dump …"`.
        assert_eq!(device(1, 3).unwrap()[..8], [3, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(device(259, 7).unwrap()[..8], [0, 0, 0, 0, 7, 3, 1, 0]);
        assert_eq!(device(8, 300).unwrap()[..8], [0, 0, 0, 0, 0x2c, 8, 0x10, 0]);
        assert_eq!(device(4096, 0), None);
        assert_eq!(device(0, 1 << 20), None);
    }
}
