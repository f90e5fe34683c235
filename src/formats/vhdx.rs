//! Microsoft's second virtual hard disk format, as dynamic disk.
//!
//! Source: \[MS-VHDX\], "Virtual Hard Disk v2 (VHDX) File Format". All integers little-endian; regions lie on multiples of 1 MiB.

pub mod bat;
pub mod file_identifier;
pub mod header;
pub mod metadata;
pub mod region_table;

use uuid::Uuid;

/// What log, regions and payload blocks are aligned to, and the unit of offsets in the block allocation table.
pub const ALIGNMENT: u64 = 1024 * 1024;
/// Bytes of a payload block, the unit of allocation.
pub const BLOCK_LEN: u64 = 2 * ALIGNMENT;
/// Longest disk: 64 TiB (2.6.2.2).
pub const DISK_LEN_MAX: u64 = 64 * 1024 * 1024 * ALIGNMENT;
/// Bytes of a logical sector.
pub const LOGICAL_SECTOR_LEN: u64 = 512;
/// Bytes of a physical sector: what Hyper-V writes, and the block of the file systems inside.
pub const PHYSICAL_SECTOR_LEN: u64 = 4096;

/// Bytes between the structures of the header section (2.2).
pub const HEADER_SLOT_LEN: u64 = 64 * 1024;
/// Byte offset of the log: right behind the header section.
pub const LOG_OFFSET: u64 = ALIGNMENT;
/// Bytes of the log, the least there may be; it is empty.
pub const LOG_LEN: u64 = ALIGNMENT;
/// Byte offset of the metadata region.
pub const METADATA_OFFSET: u64 = LOG_OFFSET + LOG_LEN;
/// Bytes of the metadata region.
pub const METADATA_LEN: u64 = ALIGNMENT;
/// Byte offset of the block allocation table.
pub const BAT_OFFSET: u64 = METADATA_OFFSET + METADATA_LEN;

/// A GUID as on disk: the first three fields little-endian.
#[must_use]
pub const fn guid(uuid: Uuid) -> [u8; 16] {
    uuid.to_bytes_le()
}

/// A known GUID.
const fn known(value: u128) -> [u8; 16] {
    guid(Uuid::from_u128(value))
}

/// The bytes of a dump in hexadecimal digits.
#[cfg(test)]
fn hex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The BAT's entry of a region table of `qemu-img` (7.2.22).
    #[test]
    fn guids_are_mixed_endian() {
        let of_bat = known(0x2dc2_7766_f623_4200_9d64_115e_9bfd_4a08);
        let expected = [
            0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd,
            0x4a, 0x08,
        ];
        assert_eq!(of_bat, expected);
    }
}
