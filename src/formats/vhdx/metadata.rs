//! The metadata region: a table of items, and the items that every disk has.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BLOCK_LEN, LOGICAL_SECTOR_LEN, PHYSICAL_SECTOR_LEN, known};
use crate::units::low32;

/// The metadata table as on disk (2.6.1), with the items that there are; zeros follow up to [`ITEMS_OFFSET`].
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawMetadataTable {
    /// `metadata`.
    pub signature: [u8; 8],
    /// Zeros.
    pub reserved: U16,
    /// 5.
    pub entry_count: U16,
    /// Zeros.
    pub reserved2: [u8; 20],
    /// The items, in the order of [`RawItems`].
    pub entries: [RawMetadataTableEntry; 5],
}

/// Where an item is (2.6.1.2).
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawMetadataTableEntry {
    /// Which item.
    pub item_id: [u8; 16],
    /// Bytes from the begin of the region.
    pub offset: U32,
    /// Bytes of the item.
    pub length: U32,
    /// See the `FLAG_*` constants.
    pub flags: U32,
    /// Zeros.
    pub reserved: U32,
}

/// The items, one behind the other (2.6.2).
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawItems {
    /// Bytes of a payload block; with the next field, the file parameters.
    pub block_size: U32,
    /// 0: blocks may be freed, and there is no parent.
    pub file_flags: U32,
    /// Length of the disk in bytes.
    pub virtual_disk_size: U64,
    /// The identifier that the disk shows in SCSI's page 83.
    pub page_83_data: [u8; 16],
    /// 512 or 4096.
    pub logical_sector_size: U32,
    /// 512 or 4096.
    pub physical_sector_size: U32,
}

const _: () = {
    assert!(size_of::<RawMetadataTable>() == 192);
    assert!(size_of::<RawMetadataTableEntry>() == 32);
    assert!(size_of::<RawItems>() == 40);
    assert!(std::mem::offset_of!(RawMetadataTable, entry_count) == 10);
    assert!(std::mem::offset_of!(RawMetadataTable, entries) == 32);
    assert!(std::mem::offset_of!(RawItems, page_83_data) == 16);
    assert!(std::mem::offset_of!(RawItems, physical_sector_size) == 36);
};

/// Bytes from the begin of the region to the items, the least there may be.
pub const ITEMS_OFFSET: u64 = 64 * 1024;

const SIGNATURE: [u8; 8] = *b"metadata";
/// Describes the disk, not the file.
const FLAG_IS_VIRTUAL_DISK: u32 = 1 << 1;
/// Who does not know the item must not open the file.
const FLAG_IS_REQUIRED: u32 = 1 << 2;

/// Identifier, offset among the items, length, and flags.
const ITEMS: [(u128, u32, u32, u32); 5] = [
    // file parameters
    (
        0xcaa1_6737_fa36_4d43_b3b6_33f0_aa44_e76b,
        0,
        8,
        FLAG_IS_REQUIRED,
    ),
    // virtual disk size
    (
        0x2fa5_4224_cd1b_4876_b211_5dbe_d83b_f4b8,
        8,
        8,
        FLAG_IS_REQUIRED | FLAG_IS_VIRTUAL_DISK,
    ),
    // page 83 data
    (
        0xbeca_12ab_b2e6_4523_93ef_c309_e000_c746,
        16,
        16,
        FLAG_IS_REQUIRED | FLAG_IS_VIRTUAL_DISK,
    ),
    // logical sector size
    (
        0x8141_bf1d_a96f_4709_ba47_f233_a8fa_ab5f,
        32,
        4,
        FLAG_IS_REQUIRED | FLAG_IS_VIRTUAL_DISK,
    ),
    // physical sector size
    (
        0xcda3_48c7_445d_4471_9cc9_e988_5251_c556,
        36,
        4,
        FLAG_IS_REQUIRED | FLAG_IS_VIRTUAL_DISK,
    ),
];

/// What varies between metadata regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Length of the disk in bytes.
    pub disk_len: u64,
    /// Identifies the disk to the guest.
    pub page_83_data: [u8; 16],
}

impl Metadata {
    /// The table, equal for all disks.
    #[must_use]
    pub fn table() -> RawMetadataTable {
        RawMetadataTable {
            signature: SIGNATURE,
            entry_count: U16::new(5),
            entries: ITEMS.map(|(id, offset, length, flags)| RawMetadataTableEntry {
                item_id: known(id),
                offset: U32::new(low32(ITEMS_OFFSET).saturating_add(offset)),
                length: U32::new(length),
                flags: U32::new(flags),
                reserved: U32::ZERO,
            }),
            ..RawMetadataTable::new_zeroed()
        }
    }

    /// The items.
    #[must_use]
    pub fn to_raw(&self) -> RawItems {
        RawItems {
            block_size: U32::new(low32(BLOCK_LEN)),
            file_flags: U32::ZERO,
            virtual_disk_size: U64::new(self.disk_len),
            page_83_data: self.page_83_data,
            logical_sector_size: U32::new(low32(LOGICAL_SECTOR_LEN)),
            physical_sector_size: U32::new(low32(PHYSICAL_SECTOR_LEN)),
        }
    }

    /// What items say, or `None` unless [`Self::to_raw`] writes exactly these bytes.
    #[must_use]
    pub fn from_raw(raw: &RawItems) -> Option<Self> {
        let metadata = Self {
            disk_len: raw.virtual_disk_size.get(),
            page_83_data: raw.page_83_data,
        };
        (metadata.to_raw() == *raw).then_some(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::vhdx::hex;

    /// The metadata table of `qemu-img convert -O vhdx` (7.2.22).
    const QEMU_TABLE: &str = "6d65746164617461 0000 0500 0000000000000000000000000000000000000000 \
        3767a1ca36fa434db3b633f0aa44e76b 00000100 08000000 04000000 00000000 \
        2442a52f1bcd7648b2115dbed83bf4b8 08000100 08000000 06000000 00000000 \
        ab12cabee6b2234593efc309e000c746 10000100 10000000 06000000 00000000 \
        1dbf41816fa90947ba47f233a8faab5f 20000100 04000000 06000000 00000000 \
        c748a3cd5d4471449cc9e9885251c556 24000100 04000000 06000000 00000000";
    /// Its items, of an 11 MiB disk with `-o block_size=2M`; it has physical sectors of 512 bytes.
    const QEMU_ITEMS: &str =
        "00002000 00000000 0000b00000000000 bc2ea4b221b54c3c82c00867c0886b5c 00020000 00020000";

    fn metadata() -> Metadata {
        Metadata {
            disk_len: 11 << 20,
            page_83_data: hex(QEMU_ITEMS)[16..32].try_into().unwrap(),
        }
    }

    #[test]
    fn encodes_reference_bytes() {
        assert_eq!(Metadata::table().as_bytes(), hex(QEMU_TABLE));
        let raw = metadata().to_raw();
        assert_eq!(raw.as_bytes()[..36], hex(QEMU_ITEMS)[..36]);
        assert_eq!(raw.as_bytes()[36..], [0, 0x10, 0, 0]);
    }

    #[test]
    fn items_lie_where_the_table_says() {
        let lengths: u32 = ITEMS.iter().map(|(_, _, length, _)| length).sum();
        assert_eq!(usize::try_from(lengths).unwrap(), size_of::<RawItems>());
        let mut end = 0;
        for (_, offset, length, _) in ITEMS {
            assert_eq!(offset, end);
            end += length;
        }
    }

    #[test]
    fn round_trips() {
        assert_eq!(Metadata::from_raw(&metadata().to_raw()), Some(metadata()));
        let mut odd = metadata().to_raw();
        odd.file_flags = U32::new(2);
        assert_eq!(Metadata::from_raw(&odd), None);
    }

    #[test]
    fn writes_every_byte() {
        let (mut one, mut other) = ([0xa5; 40], [0x5a; 40]);
        metadata().to_raw().write_to(&mut one).unwrap();
        metadata().to_raw().write_to(&mut other).unwrap();
        assert_eq!(one, other);
        let (mut one, mut other) = ([0xa5; 192], [0x5a; 192]);
        Metadata::table().write_to(&mut one).unwrap();
        Metadata::table().write_to(&mut other).unwrap();
        assert_eq!(one, other);
    }
}
