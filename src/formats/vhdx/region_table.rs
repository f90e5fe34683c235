//! The region table, of which there are two equal copies: where metadata and block allocation table are.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BAT_OFFSET, METADATA_LEN, METADATA_OFFSET, known};
use crate::units::low32;

/// The table as on disk (2.2.3), with the two regions that there are.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawRegionTable {
    /// `regi`.
    pub signature: [u8; 4],
    /// CRC-32C of the 64 KiB, this field being 0.
    pub checksum: U32,
    /// 2.
    pub entry_count: U32,
    /// Zeros.
    pub reserved: U32,
    /// The block allocation table, and the metadata region.
    pub entries: [RawRegionTableEntry; 2],
    /// Zeros.
    pub reserved2: [u8; 65_456],
}

/// Where a region is (2.2.3.2).
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawRegionTableEntry {
    /// Which region.
    pub guid: [u8; 16],
    /// Byte offset, a multiple of 1 MiB.
    pub file_offset: U64,
    /// Bytes, a multiple of 1 MiB.
    pub length: U32,
    /// 1: who does not know the region must not open the file.
    pub required: U32,
}

const _: () = {
    assert!(size_of::<RawRegionTable>() == 65_536);
    assert!(size_of::<RawRegionTableEntry>() == 32);
    assert!(std::mem::offset_of!(RawRegionTable, entries) == 16);
    assert!(std::mem::offset_of!(RawRegionTableEntry, length) == 24);
};

/// Byte offsets of the two copies.
pub const REGION_TABLE_OFFSETS: [u64; 2] = [192 * 1024, 256 * 1024];

const SIGNATURE: [u8; 4] = *b"regi";
const BAT: [u8; 16] = known(0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08);
const METADATA: [u8; 16] = known(0x8b7c_a206_4790_4b9a_b8fe_575f_050f_886e);

/// What varies between region tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionTable {
    /// Bytes of the block allocation table's region, a multiple of 1 MiB.
    pub bat_len: u32,
}

impl RegionTable {
    /// The 64 KiB on disk.
    #[must_use]
    pub fn to_raw(self) -> RawRegionTable {
        let entry = |guid, offset, length| RawRegionTableEntry {
            guid,
            file_offset: U64::new(offset),
            length: U32::new(length),
            required: U32::new(1),
        };
        self.with_entries([
            entry(BAT, BAT_OFFSET, self.bat_len),
            entry(METADATA, METADATA_OFFSET, low32(METADATA_LEN)),
        ])
    }

    fn with_entries(self, entries: [RawRegionTableEntry; 2]) -> RawRegionTable {
        let mut raw = RawRegionTable {
            signature: SIGNATURE,
            entry_count: U32::new(2),
            entries,
            ..RawRegionTable::new_zeroed()
        };
        raw.checksum = U32::new(crc32c::crc32c(raw.as_bytes()));
        raw
    }

    /// What a table says, or `None` unless [`Self::to_raw`] writes exactly these bytes.
    #[must_use]
    pub fn from_raw(raw: &RawRegionTable) -> Option<Self> {
        let [bat, _] = &raw.entries;
        let table = Self {
            bat_len: bat.length.get(),
        };
        (table.to_raw() == *raw).then_some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::vhdx::hex;

    const TABLE: RegionTable = RegionTable { bat_len: 1 << 20 };

    /// `qemu-img convert -O vhdx` (7.2.22) of an 11 MiB disk: the first 80 bytes; the rest is zero.
    const QEMU: &str = "72656769 83ce6f2c 02000000 00000000 \
        6677c22d23f600429d64115e9bfd4a08 0000200000000000 00001000 00000000 \
        06a27c8b90479a4bb8fe575f050f886e 0000300000000000 00001000 00000000";

    #[test]
    fn encodes_reference_bytes() {
        // Theirs has the table first, and does not call the regions required, as the specification does.
        let mut raw = TABLE.to_raw();
        let [mut bat, mut metadata] = raw.entries.clone();
        bat.file_offset = METADATA_OFFSET.into();
        metadata.file_offset = BAT_OFFSET.into();
        (bat.required, metadata.required) = (U32::ZERO, U32::ZERO);
        raw = TABLE.with_entries([bat, metadata]);
        assert_eq!(raw.as_bytes()[..80], hex(QEMU));
    }

    #[test]
    fn encodes_ours() {
        let raw = TABLE.to_raw();
        let offsets = raw.entries.clone().map(|entry| entry.file_offset.get());
        assert_eq!(offsets, [3 << 20, 2 << 20]);
        assert!(raw.entries.iter().all(|entry| entry.required.get() == 1));
    }

    #[test]
    fn round_trips() {
        assert_eq!(RegionTable::from_raw(&TABLE.to_raw()), Some(TABLE));
        let mut odd = TABLE.to_raw();
        odd.reserved2[65_455] = 1;
        assert_eq!(RegionTable::from_raw(&odd), None);
    }

    #[test]
    fn writes_every_byte() {
        let (mut one, mut other) = (vec![0xa5; 65_536], vec![0x5a; 65_536]);
        TABLE.to_raw().write_to(&mut one).unwrap();
        TABLE.to_raw().write_to(&mut other).unwrap();
        assert!(one == other);
    }
}
