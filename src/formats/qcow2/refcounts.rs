//! The refcount table and its blocks: how often each cluster of the file is used. Here every cluster is used once.

use zerocopy::big_endian::U16;

use super::CLUSTER_LEN;
use crate::units::to_u64;

/// `refcount_order`: counts of 2^4 = 16 bits.
pub const REFCOUNT_ORDER: u32 = 4;
/// Bytes of a count.
pub const REFCOUNT_LEN: u64 = 2;
/// Counts in a refcount block, which is one cluster.
pub const BLOCK_ENTRIES: u64 = CLUSTER_LEN / REFCOUNT_LEN;
/// Bytes of an entry of the refcount table: the offset of a block.
pub const TABLE_ENTRY_LEN: u64 = 8;
/// Blocks that one cluster of the refcount table can name.
pub const TABLE_CLUSTER_ENTRIES: u64 = CLUSTER_LEN / TABLE_ENTRY_LEN;
/// Clusters of the largest refcount table that qemu opens (`QCOW_MAX_REFTABLE_SIZE`, 8 MiB).
pub const TABLE_CLUSTERS_MAX: u64 = (8 << 20) / CLUSTER_LEN;

/// A cluster that is used once.
pub const USED_ONCE: U16 = U16::from_bytes([0, 1]);

const _: () = {
    assert!(1 << REFCOUNT_ORDER == 8 * REFCOUNT_LEN);
    assert!(to_u64(size_of::<U16>()) == REFCOUNT_LEN);
};

/// How much room the counts take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefcountLayout {
    /// Clusters of the refcount table.
    pub table_clusters: u64,
    /// Refcount blocks, a cluster each.
    pub block_count: u64,
}

impl RefcountLayout {
    /// The smallest layout that counts `others` clusters, the table and the blocks themselves, or `None` if the table would
    /// have more than [`TABLE_CLUSTERS_MAX`] clusters.
    #[must_use]
    pub fn for_clusters(others: u64) -> Option<Self> {
        let mut layout = Self {
            table_clusters: 1,
            block_count: 1,
        };
        // Each turn counts what the last one added. That is a tiny part of it, and it only grows: this ends after a few.
        loop {
            let all = others
                .checked_add(layout.table_clusters)?
                .checked_add(layout.block_count)?;
            let block_count = all.div_ceil(BLOCK_ENTRIES);
            let next = Self {
                table_clusters: block_count.div_ceil(TABLE_CLUSTER_ENTRIES),
                block_count,
            };
            if next.table_clusters > TABLE_CLUSTERS_MAX {
                return None;
            }
            if next == layout {
                return Some(layout);
            }
            layout = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    /// From the refcount block of a file that `qemu-img convert -O qcow2` (7.2.22) wrote.
    #[test]
    fn encodes_reference_bytes() {
        assert_eq!(USED_ONCE.as_bytes(), [0, 1]);
    }

    #[test]
    fn layouts_count_themselves_and_nothing_more() {
        let sizes = [
            0,
            1,
            BLOCK_ENTRIES - 3,
            BLOCK_ENTRIES - 2,
            BLOCK_ENTRIES - 1,
            BLOCK_ENTRIES,
            2 * BLOCK_ENTRIES - 3,
            2 * BLOCK_ENTRIES - 2,
            TABLE_CLUSTER_ENTRIES * BLOCK_ENTRIES - TABLE_CLUSTER_ENTRIES - 1,
            TABLE_CLUSTER_ENTRIES * BLOCK_ENTRIES - TABLE_CLUSTER_ENTRIES,
            TABLE_CLUSTER_ENTRIES * BLOCK_ENTRIES,
            1 << 34,
        ];
        for others in sizes {
            let layout = RefcountLayout::for_clusters(others).unwrap();
            let all = others + layout.table_clusters + layout.block_count;
            assert!(all <= layout.block_count * BLOCK_ENTRIES, "{others}");
            // One block less would not count all that is left then.
            let fewer = layout.block_count - 1;
            assert!(
                others + fewer.div_ceil(TABLE_CLUSTER_ENTRIES).max(1) + fewer
                    > fewer * BLOCK_ENTRIES,
                "{others}"
            );
            assert_eq!(
                layout.table_clusters,
                layout.block_count.div_ceil(TABLE_CLUSTER_ENTRIES),
                "{others}"
            );
        }
    }

    #[test]
    fn rejects_overflow() {
        let counted_max = TABLE_CLUSTERS_MAX * TABLE_CLUSTER_ENTRIES * BLOCK_ENTRIES;
        assert_eq!(counted_max, 1 << 35);
        let own = TABLE_CLUSTERS_MAX * (TABLE_CLUSTER_ENTRIES + 1);
        assert!(RefcountLayout::for_clusters(counted_max - own).is_some());
        assert_eq!(RefcountLayout::for_clusters(counted_max - own + 1), None);
        assert_eq!(RefcountLayout::for_clusters(u64::MAX), None);
    }
}
