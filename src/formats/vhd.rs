//! Microsoft's first virtual hard disk format, as fixed and as dynamic disk.
//!
//! Source: Microsoft "Virtual Hard Disk Image Format Specification" (2006). Sectors are 512 bytes, all integers
//! big-endian.

pub mod dynamic_header;
pub mod footer;
pub mod geometry;

use zerocopy::big_endian::U32;

/// Bytes of a footer, and of its copy in front of a dynamic disk.
pub const FOOTER_LEN: u64 = 512;
/// Bytes of the dynamic disk header.
pub const DYNAMIC_HEADER_LEN: u64 = 1024;
/// Bytes of a block, the unit of allocation of dynamic disks; the spec's default, and all that tools write.
pub const BLOCK_LEN: u64 = 2 * 1024 * 1024;
/// Bytes of the sector bitmap in front of a block: a bit for each of its sectors, padded to a sector.
pub const BITMAP_LEN: u64 = 512;
/// Longest disk: 2040 GiB (qemu's `VHD_MAX_SECTORS`, Hyper-V's limit), for fixed disks too.
pub const DISK_LEN_MAX: u64 = 0xff00_0000 * 512;
/// The entry of a block that is not allocated in the block allocation table.
pub const UNUSED_ENTRY: U32 = U32::MAX_VALUE;

/// The checksum of footers and headers: the ones' complement of the sum of all bytes, the checksum's own being 0.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_complement_of_the_sum() {
        assert_eq!(checksum(&[]), u32::MAX);
        assert_eq!(checksum(&[1, 2, 255]), !258);
    }

    #[test]
    fn a_bitmap_has_a_bit_for_each_sector() {
        assert_eq!(BITMAP_LEN * 8 * 512, BLOCK_LEN);
    }
}
