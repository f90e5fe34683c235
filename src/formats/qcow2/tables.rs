//! L1 and L2 tables: where the L2 tables, and the clusters of the disk, are in the file.

use zerocopy::big_endian::U64;

use super::CLUSTER_LEN;
use crate::units::to_u64;

/// Bytes of an entry of an L1 or L2 table.
pub const ENTRY_LEN: u64 = 8;
/// Entries of an L2 table, which is one cluster.
pub const L2_ENTRIES: u64 = CLUSTER_LEN / ENTRY_LEN;
/// Bytes of the disk that one L2 table maps: 512 MiB.
pub const L2_SPAN: u64 = L2_ENTRIES * CLUSTER_LEN;
/// Bytes of the largest L1 table that qemu opens (`QCOW_MAX_L1_SIZE`).
pub const L1_LEN_MAX: u64 = 32 << 20;
/// Entries of the largest L1 table: a disk of 2 PiB.
pub const L1_ENTRIES_MAX: u64 = L1_LEN_MAX / ENTRY_LEN;

const _: () = assert!(to_u64(size_of::<U64>()) == ENTRY_LEN);

/// Bit 63: the refcount is exactly one, so that a writer may change the cluster in place.
const COPIED: u64 = 1 << 63;
/// Bits 9 to 55 hold the offset.
const OFFSET_MASK: u64 = ((1 << 56) - 1) & !511;

/// The entry of an L2 table or a cluster of the disk at `offset` of the file, a multiple of the cluster below 2^56, whose
/// refcount is one. `None` for any other offset.
#[must_use]
pub fn allocated_entry(offset: u64) -> Option<U64> {
    let fits = offset & !OFFSET_MASK == 0 && offset.is_multiple_of(CLUSTER_LEN);
    fits.then(|| U64::new(COPIED | offset))
}

/// What has no cluster in the file: zeros, unless a backing file knows better.
pub const UNALLOCATED: U64 = U64::ZERO;

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    /// Table entries of a `qemu-img convert -O qcow2` (7.2.22) of 40 MiB with data in clusters 0 and 53.
    #[test]
    fn encodes_reference_bytes() {
        assert_eq!(
            allocated_entry(0x4_0000).unwrap().as_bytes(),
            [0x80, 0, 0, 0, 0, 4, 0, 0]
        );
        assert_eq!(UNALLOCATED.as_bytes(), [0; 8]);
    }

    #[test]
    fn rejects_overflow() {
        assert!(allocated_entry((1 << 56) - CLUSTER_LEN).is_some());
        for offset in [1 << 56, u64::MAX, CLUSTER_LEN + 512, 1] {
            assert_eq!(allocated_entry(offset), None, "{offset:#x}");
        }
    }

    #[test]
    fn tables_map_what_the_format_says() {
        assert_eq!(L2_ENTRIES, 8192);
        assert_eq!(L2_SPAN, 512 << 20);
        assert_eq!(L1_ENTRIES_MAX * L2_SPAN, 2 << 50);
    }
}
