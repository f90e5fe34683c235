//! The dynamic disk header: where the block allocation table is, and how many entries it has.

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BLOCK_LEN, DYNAMIC_HEADER_LEN, FOOTER_LEN, checksum};
use crate::units::low32;

/// The header as on disk (spec "Dynamic Disk Header Format").
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawDynamicHeader {
    /// `cxsparse`.
    pub cookie: [u8; 8],
    /// All ones, though the spec shows 32 bits of them: Microsoft's tools expect 64 (qemu's block/vpc.c).
    pub data_offset: U64,
    /// Byte offset of the block allocation table.
    pub table_offset: U64,
    /// 1.0.
    pub header_version: U32,
    /// Entries of the table.
    pub max_table_entries: U32,
    /// Bytes of a block.
    pub block_size: U32,
    /// See [`checksum`].
    pub checksum: U32,
    /// Of differencing disks only, as all that follows.
    pub parent_unique_id: [u8; 16],
    /// The parent's time stamp.
    pub parent_time_stamp: U32,
    /// Zeros.
    pub reserved: U32,
    /// The parent's name in UTF-16.
    pub parent_unicode_name: [u8; 512],
    /// Eight entries of 24 bytes: where the parent's paths are.
    pub parent_locators: [u8; 192],
    /// Zeros.
    pub reserved2: [u8; 256],
}

const _: () = {
    assert!(size_of::<RawDynamicHeader>() == 1024 && DYNAMIC_HEADER_LEN == 1024);
    assert!(std::mem::offset_of!(RawDynamicHeader, max_table_entries) == 28);
    assert!(std::mem::offset_of!(RawDynamicHeader, checksum) == 36);
    assert!(std::mem::offset_of!(RawDynamicHeader, parent_unicode_name) == 64);
    assert!(std::mem::offset_of!(RawDynamicHeader, parent_locators) == 576);
};

const COOKIE: [u8; 8] = *b"cxsparse";
const VERSION: u32 = 0x0001_0000;
/// Byte offset of the block allocation table: right behind the header.
pub const TABLE_OFFSET: u64 = FOOTER_LEN + DYNAMIC_HEADER_LEN;

/// What varies between headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicHeader {
    /// Blocks of the disk, as many as the table has entries.
    pub max_table_entries: u32,
}

impl DynamicHeader {
    /// The 1024 bytes on disk.
    #[must_use]
    pub fn to_raw(self) -> RawDynamicHeader {
        let mut raw = RawDynamicHeader {
            cookie: COOKIE,
            data_offset: U64::MAX_VALUE,
            table_offset: U64::new(TABLE_OFFSET),
            header_version: U32::new(VERSION),
            max_table_entries: U32::new(self.max_table_entries),
            block_size: U32::new(low32(BLOCK_LEN)),
            ..RawDynamicHeader::new_zeroed()
        };
        raw.checksum = U32::new(checksum(raw.as_bytes()));
        raw
    }

    /// What a header says, or `None` unless [`Self::to_raw`] writes exactly these bytes.
    #[must_use]
    pub fn from_raw(raw: &RawDynamicHeader) -> Option<Self> {
        let header = Self {
            max_table_entries: raw.max_table_entries.get(),
        };
        (header.to_raw() == *raw).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `qemu-img convert -O vpc` (7.2.22) of an 11 MiB disk: the first 40 bytes; the rest is zero.
    const QEMU: [u8; 40] = [
        0x63, 0x78, 0x73, 0x70, 0x61, 0x72, 0x73, 0x65, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0, 0, 0, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 0, 6, 0, 0x20, 0, 0, 0xff, 0xff, 0xf4,
        0x71,
    ];
    const HEADER: DynamicHeader = DynamicHeader {
        max_table_entries: 6,
    };

    #[test]
    fn encodes_reference_bytes() {
        let raw = HEADER.to_raw();
        assert_eq!(raw.as_bytes()[..40], QEMU);
        assert_eq!(raw.as_bytes()[40..], [0; 984]);
    }

    #[test]
    fn round_trips() {
        assert_eq!(DynamicHeader::from_raw(&HEADER.to_raw()), Some(HEADER));
        let mut odd = HEADER.to_raw();
        odd.reserved2[255] = 1;
        assert_eq!(DynamicHeader::from_raw(&odd), None);
    }

    #[test]
    fn writes_every_byte() {
        let mut buf = [0xa5; 1024];
        HEADER.to_raw().write_to(&mut buf).unwrap();
        assert!(!buf.contains(&0xa5));
    }
}
