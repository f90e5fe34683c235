//! VirtualBox's disk image, version 1.1, the subset that miragefs writes: images that grow, blocks of 1 MiB.
//!
//! Source: VirtualBox, `src/VBox/Storage/VDICore.h`; limits from qemu, `block/vdi.c`. All integers are little-endian, UUIDs
//! too. Invariant: what is written is what qemu writes for the same disk, byte for byte but for the UUIDs.

use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::units::{MIB, SECTOR_SIZE, checked_round_up, low32, to_u64};

/// Bytes of a block, the unit of allocation.
pub const BLOCK_LEN: u64 = MIB;
/// Bytes of an entry of the block map.
pub const MAP_ENTRY_LEN: u64 = 4;
/// Blocks of the largest disk that qemu opens: a block map of whole sectors below 2^31 bytes.
pub const BLOCKS_MAX: u64 = ((1 << 31) - SECTOR_SIZE) / MAP_ENTRY_LEN;
/// Where the block map begins.
pub const MAP_OFFSET: u64 = 512;
/// The entry of a block that is not in the file.
pub const UNALLOCATED: U32 = U32::from_bytes([0xff; 4]);

/// Pre-header and header as on disk (`VDIPREHEADER`, `VDIHEADER1`).
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawVdiHeader {
    /// A line for people who look into the file.
    pub file_info: [u8; 64],
    /// 0xbeda107f.
    pub signature: U32,
    /// Major and minor version, 16 bits each: 1.1.
    pub version: U32,
    /// Bytes from this field to `uuid_parent_modify`, both included.
    pub header_len: U32,
    /// 1: the file grows.
    pub image_type: U32,
    /// 0.
    pub flags: U32,
    /// Zeros.
    pub comment: [u8; 256],
    /// Offset of the block map.
    pub blocks_offset: U32,
    /// Offset of block number 0.
    pub data_offset: U32,
    /// Cylinders, heads and sectors per track: 0, not calculated.
    pub legacy_geometry: [U32; 3],
    /// 512.
    pub sector_len: U32,
    /// 0.
    pub dummy: U32,
    /// Bytes of the disk.
    pub disk_len: U64,
    /// Bytes of a block.
    pub block_len: U32,
    /// Bytes in front of each block.
    pub block_extra_len: U32,
    /// Blocks of the disk.
    pub block_count: U32,
    /// Blocks of the file.
    pub allocated_count: U32,
    /// The image's UUID.
    pub uuid_create: [u8; 16],
    /// Changes with every change of the contents.
    pub uuid_modify: [u8; 16],
    /// The parent's `uuid_create`; zeros.
    pub uuid_linkage: [u8; 16],
    /// The parent's `uuid_modify`; zeros.
    pub uuid_parent_modify: [u8; 16],
    /// Zeros up to a sector.
    pub pad: [u8; 56],
}

const _: () = {
    assert!(size_of::<RawVdiHeader>() == 512);
    assert!(MAP_OFFSET == 512);
    assert!(std::mem::offset_of!(RawVdiHeader, blocks_offset) == 340);
    assert!(std::mem::offset_of!(RawVdiHeader, disk_len) == 368);
    assert!(std::mem::offset_of!(RawVdiHeader, uuid_create) == 392);
    assert!(std::mem::offset_of!(RawVdiHeader, pad) == 456);
    assert!(to_u64(size_of::<U32>()) == MAP_ENTRY_LEN);
    assert!(BLOCKS_MAX * BLOCK_LEN == 0x1_ffff_f800_0000);
};

const SIGNATURE: u32 = 0xbeda_107f;
const VERSION: u32 = 0x0001_0001;
/// As qemu's; readers look at the signature instead.
const FILE_INFO: &[u8] = b"<<< QEMU VM Virtual Disk Image >>>\n";
const TYPE_GROWING: u32 = 1;
/// `VDIHEADER1`: the field itself to the last UUID.
const HEADER_LEN: u32 = 384;

/// What varies between headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VdiHeader {
    /// Bytes of the disk.
    pub disk_len: u64,
    /// Blocks of the file.
    pub allocated_count: u32,
    /// The image's UUID, not nil.
    pub image_uuid: Uuid,
    /// Another one for other contents, not nil.
    pub modification_uuid: Uuid,
}

/// More blocks than a block map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{blocks} blocks; a block map has at most {BLOCKS_MAX}")]
pub struct TooManyBlocks {
    /// Blocks of the disk.
    pub blocks: u64,
}

/// Blocks of a disk, the last one perhaps partial.
///
/// # Errors
/// [`TooManyBlocks`] above [`BLOCKS_MAX`].
pub fn block_count(disk_len: u64) -> Result<u32, TooManyBlocks> {
    let blocks = disk_len.div_ceil(BLOCK_LEN);
    u32::try_from(blocks)
        .ok()
        .filter(|_| blocks <= BLOCKS_MAX)
        .ok_or(TooManyBlocks { blocks })
}

/// Where block number 0 begins in the file, for a disk of so many blocks, at most [`BLOCKS_MAX`].
#[must_use]
pub fn data_offset(block_count: u32) -> u64 {
    let map_len = u64::from(block_count).saturating_mul(MAP_ENTRY_LEN);
    checked_round_up(map_len, SECTOR_SIZE)
        .and_then(|len| len.checked_add(MAP_OFFSET))
        .expect("2^32 entries of 4 bytes are below 2^64 bytes")
}

impl VdiHeader {
    /// The 512 bytes on disk.
    ///
    /// # Errors
    /// [`TooManyBlocks`] if the disk is too large for a block map.
    pub fn to_raw(&self) -> Result<RawVdiHeader, TooManyBlocks> {
        let block_count = block_count(self.disk_len)?;
        let mut raw = RawVdiHeader {
            signature: U32::new(SIGNATURE),
            version: U32::new(VERSION),
            header_len: U32::new(HEADER_LEN),
            image_type: U32::new(TYPE_GROWING),
            blocks_offset: U32::new(low32(MAP_OFFSET)),
            // The largest block map ends at 2^31.
            data_offset: U32::new(low32(data_offset(block_count))),
            sector_len: U32::new(low32(SECTOR_SIZE)),
            disk_len: U64::new(self.disk_len),
            block_len: U32::new(low32(BLOCK_LEN)),
            block_count: U32::new(block_count),
            allocated_count: U32::new(self.allocated_count),
            uuid_create: self.image_uuid.to_bytes_le(),
            uuid_modify: self.modification_uuid.to_bytes_le(),
            ..RawVdiHeader::new_zeroed()
        };
        for (target, byte) in raw.file_info.iter_mut().zip(FILE_INFO) {
            *target = *byte;
        }
        Ok(raw)
    }

    /// What a header says, or `None` unless it is exactly one that [`Self::to_raw`] writes.
    #[must_use]
    pub fn from_raw(raw: &RawVdiHeader) -> Option<Self> {
        let header = Self {
            disk_len: raw.disk_len.get(),
            allocated_count: raw.allocated_count.get(),
            image_uuid: Uuid::from_bytes_le(raw.uuid_create),
            modification_uuid: Uuid::from_bytes_le(raw.uuid_modify),
        };
        (header.to_raw().ok()? == *raw).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> VdiHeader {
        VdiHeader {
            disk_len: 0x31_0000,
            allocated_count: 2,
            image_uuid: Uuid::from_u128(0x118a_fadb_a947_45f4_87e1_0347_519e_c7eb),
            modification_uuid: Uuid::from_u128(0xfc8b_7c6e_c4ea_4f15_8f5e_d9ff_b540_3481),
        }
    }

    /// `qemu-img convert -O vdi` (7.2.22) of 3 MiB and 64 KiB with data in the first and the last block; 7-Zip shows its
    /// UUIDs as they are above.
    #[test]
    fn encodes_reference_bytes() {
        let mut expected = [0_u8; 512];
        for (offset, text) in [
            (0, &b"<<< QEMU VM Virtual Disk Image >>>\n"[..]),
            (64, b"\x7f\x10\xda\xbe\x01\0\x01\0\x80\x01\0\0\x01"),
            (341, b"\x02\0\0\0\x04"),
            (361, b"\x02"),
            (370, b"\x31"),
            (378, b"\x10"),
            (384, b"\x04\0\0\0\x02\0\0\0"),
            (
                392,
                b"\xdb\xfa\x8a\x11\x47\xa9\xf4\x45\x87\xe1\x03\x47\x51\x9e\xc7\xeb",
            ),
            (
                408,
                b"\x6e\x7c\x8b\xfc\xea\xc4\x15\x4f\x8f\x5e\xd9\xff\xb5\x40\x34\x81",
            ),
        ] {
            expected[offset..offset + text.len()].copy_from_slice(text);
        }
        assert_eq!(header().to_raw().unwrap().as_bytes(), expected);
    }

    #[test]
    fn round_trips() {
        let raw = header().to_raw().unwrap();
        assert_eq!(VdiHeader::from_raw(&raw), Some(header()));
        let mut odd = raw;
        odd.uuid_linkage[3] = 1;
        assert_eq!(VdiHeader::from_raw(&odd), None);
    }

    #[test]
    fn writes_every_byte() {
        let mut buf = [0x5a; 512];
        header().to_raw().unwrap().write_to(&mut buf).unwrap();
        assert!(!buf.contains(&0x5a));
    }

    #[test]
    fn rejects_overflow() {
        let most = BLOCKS_MAX * BLOCK_LEN;
        assert_eq!(block_count(most), Ok(536_870_784));
        assert_eq!(
            block_count(most + 1).unwrap_err().to_string(),
            "536870785 blocks; a block map has at most 536870784"
        );
        assert!(block_count(u64::MAX).is_err());
        assert_eq!(data_offset(536_870_784), 1 << 31);
        assert_eq!(data_offset(128), 1024);
        assert_eq!(data_offset(129), 1536);
        let vast = VdiHeader {
            disk_len: most + 1,
            ..header()
        };
        assert!(vast.to_raw().is_err());
    }
}
