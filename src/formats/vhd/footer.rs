//! The hard disk footer: the last sector of every VHD, and a copy of it in front of a dynamic disk.
//!
//! Invariant: of all that the format allows only fixed and dynamic disks are written, and only ours are read back.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::geometry::geometry;
use super::{FOOTER_LEN, checksum};
use crate::units::SECTOR_SIZE;

/// The footer as on disk (spec "Hard Disk Footer Format").
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawFooter {
    /// `conectix`.
    pub cookie: [u8; 8],
    /// Bit 1 is always set.
    pub features: U32,
    /// 1.0.
    pub file_format_version: U32,
    /// Byte offset of the dynamic disk header; all ones for a fixed disk.
    pub data_offset: U64,
    /// Seconds since 2000-01-01 00:00 UTC.
    pub time_stamp: U32,
    /// Who wrote it.
    pub creator_application: [u8; 4],
    /// Its version, major and minor.
    pub creator_version: U32,
    /// `Wi2k` for Windows.
    pub creator_host_os: [u8; 4],
    /// Length of the disk in bytes when it was made.
    pub original_size: U64,
    /// Length of the disk in bytes.
    pub current_size: U64,
    /// Cylinders of the geometry.
    pub cylinders: U16,
    /// Heads of the geometry.
    pub heads: u8,
    /// Sectors per track of the geometry.
    pub sectors_per_track: u8,
    /// 2 fixed, 3 dynamic.
    pub disk_type: U32,
    /// See [`checksum`].
    pub checksum: U32,
    /// Identifies the disk.
    pub unique_id: [u8; 16],
    /// 1 while a machine's state is saved beside it.
    pub saved_state: u8,
    /// Zeros.
    pub reserved: [u8; 427],
}

const _: () = {
    assert!(size_of::<RawFooter>() == 512 && FOOTER_LEN == 512);
    assert!(std::mem::offset_of!(RawFooter, time_stamp) == 24);
    assert!(std::mem::offset_of!(RawFooter, current_size) == 48);
    assert!(std::mem::offset_of!(RawFooter, checksum) == 64);
    assert!(std::mem::offset_of!(RawFooter, saved_state) == 84);
};

const COOKIE: [u8; 8] = *b"conectix";
/// "Reserved", which the spec wants to be set always.
const FEATURES: u32 = 2;
const VERSION: u32 = 0x0001_0000;
/// Hyper-V's. By this field qemu (block/vpc.c) decides whether the disk is as long as `current_size` says or as the
/// geometry does, which is shorter; of an application that it does not know, qemu 7.2 believes the geometry.
const CREATOR: [u8; 4] = *b"win ";
/// Windows 10 and Server 2016.
const CREATOR_VERSION: u32 = 0x000a_0000;
const CREATOR_HOST_OS: [u8; 4] = *b"Wi2k";
/// Unix time of 2000-01-01 00:00 UTC.
const EPOCH: i64 = 946_684_800;

/// Which kind of disk a footer describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskType {
    /// The bytes of the disk, then the footer.
    Fixed,
    /// Blocks behind a table. The dynamic disk header follows the copy of the footer.
    Dynamic,
}

/// What varies between footers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// The kind of disk.
    pub disk_type: DiskType,
    /// Length of the disk in bytes; the geometry follows from it.
    pub disk_len: u64,
    /// See [`time_stamp`].
    pub time_stamp: u32,
    /// Identifies the disk.
    pub unique_id: [u8; 16],
}

/// The time stamp for a Unix time in seconds: the nearest that the field can hold, from 2000 to 2136.
#[must_use]
pub fn time_stamp(seconds: i64) -> u32 {
    let since = seconds.saturating_sub(EPOCH).max(0);
    u32::try_from(since).unwrap_or(u32::MAX)
}

impl Footer {
    /// The 512 bytes on disk.
    #[must_use]
    pub fn to_raw(&self) -> RawFooter {
        let (disk_type, data_offset) = match self.disk_type {
            DiskType::Fixed => (2, u64::MAX),
            DiskType::Dynamic => (3, FOOTER_LEN),
        };
        let geometry = geometry(self.disk_len / SECTOR_SIZE);
        let mut raw = RawFooter {
            cookie: COOKIE,
            features: U32::new(FEATURES),
            file_format_version: U32::new(VERSION),
            data_offset: U64::new(data_offset),
            time_stamp: U32::new(self.time_stamp),
            creator_application: CREATOR,
            creator_version: U32::new(CREATOR_VERSION),
            creator_host_os: CREATOR_HOST_OS,
            original_size: U64::new(self.disk_len),
            current_size: U64::new(self.disk_len),
            cylinders: U16::new(geometry.cylinders),
            heads: geometry.heads,
            sectors_per_track: geometry.sectors_per_track,
            disk_type: U32::new(disk_type),
            unique_id: self.unique_id,
            ..RawFooter::new_zeroed()
        };
        raw.checksum = U32::new(checksum(raw.as_bytes()));
        raw
    }

    /// What a footer says, or `None` unless [`Self::to_raw`] writes exactly these bytes.
    #[must_use]
    pub fn from_raw(raw: &RawFooter) -> Option<Self> {
        let footer = Self {
            disk_type: match raw.disk_type.get() {
                2 => DiskType::Fixed,
                3 => DiskType::Dynamic,
                _ => return None,
            },
            disk_len: raw.current_size.get(),
            time_stamp: raw.time_stamp.get(),
            unique_id: raw.unique_id,
        };
        (footer.to_raw() == *raw).then_some(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `qemu-img convert -O vpc` (7.2.22) of an 11 MiB disk, which it rounds up to a geometry: the first 84 bytes; the
    /// rest of the sector is zero.
    const QEMU_DYNAMIC: &str = "636f6e6563746978 00000002 00010000 0000000000000200 329a465e 71656d75 00050003 \
        5769326b 0000000000b06000 0000000000b06000 014c 04 11 00000003 ffffedfe d2dd81b20b454cef8e8406ab5b02916f";
    /// The same with `-o subformat=fixed`.
    const QEMU_FIXED: &str = "636f6e6563746978 00000002 00010000 ffffffffffffffff 329a465e 71656d75 00050003 \
        5769326b 0000000000b06000 0000000000b06000 014c 04 11 00000002 ffffe698 ae8446378e7541fea7844d3515548473";

    fn bytes(hex: &str) -> [u8; 512] {
        let digits: String = hex.split_whitespace().collect();
        let mut bytes = [0; 512];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        bytes
    }

    /// A reference without creator and checksum, which are the creator's own.
    fn without_creator(mut bytes: [u8; 512]) -> [u8; 512] {
        bytes[28..36].fill(0);
        bytes[64..68].fill(0);
        bytes
    }

    fn of(reference: &[u8; 512], disk_type: DiskType) -> Footer {
        Footer {
            disk_type,
            disk_len: 0xb0_6000,
            time_stamp: 0x329a_465e,
            unique_id: reference[68..84].try_into().unwrap(),
        }
    }

    #[test]
    fn encodes_reference_bytes() {
        for (hex, disk_type) in [
            (QEMU_DYNAMIC, DiskType::Dynamic),
            (QEMU_FIXED, DiskType::Fixed),
        ] {
            let reference = bytes(hex);
            let ours = of(&reference, disk_type).to_raw();
            let ours = ours.as_bytes().try_into().unwrap();
            assert_eq!(without_creator(ours), without_creator(reference));
            assert_eq!(ours[28..36], *b"win \x00\x0a\x00\x00");
            // The reference's checksum by our function.
            let mut summed = reference;
            summed[64..68].fill(0);
            assert_eq!(checksum(&summed).to_be_bytes(), reference[64..68]);
            let mut summed = ours;
            summed[64..68].fill(0);
            assert_eq!(checksum(&summed).to_be_bytes(), ours[64..68]);
        }
    }

    #[test]
    fn round_trips() {
        let reference = bytes(QEMU_FIXED);
        for disk_type in [DiskType::Fixed, DiskType::Dynamic] {
            let footer = of(&reference, disk_type);
            assert_eq!(Footer::from_raw(&footer.to_raw()), Some(footer));
            let mut odd = footer.to_raw();
            odd.reserved[426] = 1;
            assert_eq!(Footer::from_raw(&odd), None);
        }
        let qemu = RawFooter::read_from_bytes(&reference).unwrap();
        assert_eq!(Footer::from_raw(&qemu), None);
    }

    #[test]
    fn writes_every_byte() {
        let mut buf = [0xa5; 512];
        let footer = of(&bytes(QEMU_DYNAMIC), DiskType::Dynamic);
        footer.to_raw().write_to(&mut buf).unwrap();
        assert_eq!(buf[84..], [0; 428]);
        assert!(!buf.contains(&0xa5));
    }

    #[test]
    fn rejects_overflow() {
        assert_eq!(time_stamp(EPOCH), 0);
        assert_eq!(time_stamp(EPOCH + 7), 7);
        assert_eq!(time_stamp(0), 0);
        assert_eq!(time_stamp(i64::MIN), 0);
        assert_eq!(time_stamp(EPOCH + (1 << 32)), u32::MAX);
        assert_eq!(time_stamp(i64::MAX), u32::MAX);
    }
}
