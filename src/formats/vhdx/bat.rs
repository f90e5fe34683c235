//! The block allocation table: an entry for each payload block, and behind those of each chunk one for its sector bitmap.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "numbers of blocks and entries are below 2^26, as the disk has at most 64 TiB"
)]

use zerocopy::little_endian::U64;

use super::{ALIGNMENT, BLOCK_LEN, LOGICAL_SECTOR_LEN};

/// Bytes of an entry.
pub const ENTRY_LEN: u64 = 8;
/// Payload blocks of a chunk: a sector bitmap of 1 MiB has bits for 2^23 sectors (2.4).
pub const CHUNK_RATIO: u64 = (1 << 23) * LOGICAL_SECTOR_LEN / BLOCK_LEN;

const STATE_ZERO: u64 = 2;
const STATE_FULLY_PRESENT: u64 = 6;

/// The entry of a sector bitmap, which only differencing disks have, and what follows the last entry.
pub const NOT_PRESENT: U64 = U64::ZERO;
/// The entry of a payload block that is not in the file and all zeros. A block that is merely not present "can contain
/// arbitrary data" (2.5.1.1). The offset is 0, without which Hyper-V does not open the file (qemu's block/vhdx.c).
pub const ZERO: U64 = U64::new(STATE_ZERO);

/// The entry of a payload block at byte `file_offset`, a multiple of 1 MiB.
#[must_use]
pub fn fully_present(file_offset: u64) -> U64 {
    debug_assert!(file_offset.is_multiple_of(ALIGNMENT), "blocks are aligned");
    // The offset in MiB begins at bit 20, so that it is that in bytes.
    U64::new(file_offset | STATE_FULLY_PRESENT)
}

/// Entries of a table for `blocks` payload blocks, at least 1: the last one is a payload block's (2.5).
#[must_use]
pub const fn entry_count(blocks: u64) -> u64 {
    blocks + (blocks - 1) / CHUNK_RATIO
}

/// The index of the entry of payload block `block`.
#[must_use]
pub const fn entry_of_block(block: u64) -> u64 {
    block + block / CHUNK_RATIO
}

/// Payload blocks whose entries lie before entry `index`; that of the entry itself, if it is a payload block's.
#[must_use]
pub const fn blocks_before(index: u64) -> u64 {
    index - index / (CHUNK_RATIO + 1)
}

/// Whether entry `index` is a sector bitmap's.
#[must_use]
pub const fn is_sector_bitmap(index: u64) -> bool {
    index % (CHUNK_RATIO + 1) == CHUNK_RATIO
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From tables of `qemu-img convert -O vhdx` (7.2.22): a block at 9 MiB, and one that it leaves out.
    #[test]
    fn encodes_reference_bytes() {
        assert_eq!(
            fully_present(9 << 20).to_bytes(),
            [6, 0, 0x90, 0, 0, 0, 0, 0]
        );
        assert_eq!(ZERO.to_bytes(), [2, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn bitmaps_follow_their_chunks() {
        assert_eq!(CHUNK_RATIO, 2048);
        let mut block = 0;
        for index in 0..5 * 2049 {
            assert_eq!(blocks_before(index), block, "entry {index}");
            if is_sector_bitmap(index) {
                assert_eq!(block % 2048, 0, "entry {index}");
                continue;
            }
            assert_eq!(entry_of_block(block), index);
            block += 1;
            assert_eq!(entry_count(block), index + 1);
        }
    }
}
