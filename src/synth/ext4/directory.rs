//! How a directory's names are spread over blocks: in one block, or in the leaves of an index.

use super::error::Ext4Error;
use crate::formats::ext4::dir::{ENTRIES_LEN, entry_len};
use crate::formats::ext4::htree::{Child, HashSeed, NODE_CHILDREN_MAX, ROOT_CHILDREN_MAX};
use crate::synth::tree::{NodeId, Tree};
use crate::units::to_u64;

/// Blocks of lost+found: room for what e2fsck finds without having to allocate any.
const LOST_AND_FOUND_BLOCKS: u64 = 4;
/// With an index, one of these blocks is its root.
const LOST_AND_FOUND_LEAVES_MIN: usize = 3;
/// Names that fill more than one block take at least two.
const LEAVES_MIN: usize = 2;
/// `.` and `..` of a directory in one block.
const DOT_ENTRIES_LEN: usize = 24;
/// Leaves that two levels of index reach.
const LEAVES_MAX: usize = ROOT_CHILDREN_MAX * NODE_CHILDREN_MAX;
/// How full leaves are on average when hashes spread evenly: 1 / 1.35.
const FILL_NUMERATOR: usize = 100;
const FILL_DENOMINATOR: usize = 135;

/// The index of a directory of more than one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirectoryIndex {
    /// Positions of the directory's entries, by hash and then by name.
    order: Box<[u32]>,
    /// For each leaf, the first position in `order`.
    leaf_starts: Box<[u32]>,
    /// For each leaf, the lowest hash; the lowest bit says that the hash began in the leaf before.
    leaf_hashes: Box<[u32]>,
}

/// The blocks of a directory and its index, if it has one.
pub(super) struct DirectoryPlan {
    pub(super) block_count: u64,
    pub(super) index: Option<DirectoryIndex>,
}

/// Whether a directory of so many names is worth a look: no leaf is empty.
pub(super) const fn may_be_too_large(entry_count: usize) -> bool {
    entry_count > LEAVES_MAX
}

impl DirectoryPlan {
    pub(super) fn new(tree: &Tree, id: NodeId, seed: HashSeed) -> Result<Self, Ext4Error> {
        let entries = tree.entries(id);
        let mut len = DOT_ENTRIES_LEN;
        for entry in entries.iter() {
            len = len.saturating_add(entry_len(entry.name.len()));
        }
        if len <= ENTRIES_LEN {
            let block_count = if id == NodeId::LOST_AND_FOUND {
                LOST_AND_FOUND_BLOCKS
            } else {
                1
            };
            return Ok(Self {
                block_count,
                index: None,
            });
        }
        // Every block behind the index must be reached through it, so lost+found gets its room as leaves.
        let leaves_min = if id == NodeId::LOST_AND_FOUND {
            LOST_AND_FOUND_LEAVES_MIN
        } else {
            LEAVES_MIN
        };
        let names = entries.iter().map(|entry| entry.name);
        let index = DirectoryIndex::new(names, seed, leaves_min);
        if index.leaf_count() > LEAVES_MAX {
            return Err(Ext4Error::DirectoryTooLarge {
                path: tree.path_of(id),
                leaves: to_u64(index.leaf_count()),
                limit: to_u64(LEAVES_MAX),
            });
        }
        let blocks = index.first_leaf().saturating_add(index.leaf_count());
        Ok(Self {
            block_count: to_u64(blocks),
            index: Some(index),
        })
    }
}

impl DirectoryIndex {
    /// Spreads names evenly over the range of hashes, so that one more name changes one leaf; where hashes crowd,
    /// fills leaves in the order of hashes instead.
    fn new<'a>(names: impl Iterator<Item = &'a [u8]>, seed: HashSeed, leaves_min: usize) -> Self {
        let (mut hashed, lens): (Vec<(u32, u32)>, Vec<u16>) = names
            .zip(0_u32..)
            .map(|(name, position)| {
                let len = u16::try_from(entry_len(name.len())).expect("an entry fits a block");
                ((seed.hash(name), position), len)
            })
            .unzip();
        // Positions follow the names, so equal hashes keep the order of names.
        hashed.sort_unstable();
        let lens: Vec<usize> = hashed
            .iter()
            .map(|(_, position)| {
                let position = crate::units::to_usize(u64::from(*position));
                lens.get(position).copied().map_or(0, usize::from)
            })
            .collect();
        let (leaf_starts, leaf_hashes) = spread_evenly(&hashed, &lens, leaves_min)
            .unwrap_or_else(|| fill_in_order(&hashed, &lens));
        Self {
            order: hashed.iter().map(|(_, position)| *position).collect(),
            leaf_starts: leaf_starts.into(),
            leaf_hashes: leaf_hashes.into(),
        }
    }

    pub(super) fn leaf_count(&self) -> usize {
        self.leaf_starts.len()
    }

    /// Inner nodes between the root and the leaves.
    pub(super) fn node_count(&self) -> usize {
        if self.leaf_count() <= ROOT_CHILDREN_MAX {
            0
        } else {
            self.leaf_count().div_ceil(NODE_CHILDREN_MAX)
        }
    }

    /// The block of the first leaf: the root and the inner nodes come before it.
    pub(super) fn first_leaf(&self) -> usize {
        self.node_count().saturating_add(1)
    }

    /// Positions, among the directory's entries, of the names in a leaf.
    pub(super) fn leaf(&self, leaf: usize) -> &[u32] {
        let position = |index: usize| {
            self.leaf_starts
                .get(index)
                .map(|start| usize::try_from(*start).unwrap_or(usize::MAX))
        };
        let start = position(leaf).unwrap_or(self.order.len());
        let end = position(leaf.saturating_add(1)).unwrap_or(self.order.len());
        self.order.get(start..end).unwrap_or_default()
    }

    /// The children of the root.
    pub(super) fn root_children(&self) -> Vec<Child> {
        if self.node_count() == 0 {
            return self.leaves(0, self.leaf_count());
        }
        (0..self.node_count())
            .map(|node| Child {
                hash: self.leaf_hash(node.saturating_mul(NODE_CHILDREN_MAX)),
                block: block_u32(node.saturating_add(1)),
            })
            .collect()
    }

    /// The children of an inner node.
    pub(super) fn node_children(&self, node: usize) -> Vec<Child> {
        let start = node.saturating_mul(NODE_CHILDREN_MAX);
        self.leaves(
            start,
            start
                .saturating_add(NODE_CHILDREN_MAX)
                .min(self.leaf_count()),
        )
    }

    fn leaves(&self, start: usize, end: usize) -> Vec<Child> {
        (start..end)
            .map(|leaf| Child {
                hash: self.leaf_hash(leaf),
                block: block_u32(self.first_leaf().saturating_add(leaf)),
            })
            .collect()
    }

    fn leaf_hash(&self, leaf: usize) -> u32 {
        self.leaf_hashes
            .get(leaf)
            .copied()
            .expect("leaves are counted")
    }
}

/// Leaf `i` of `n` takes the hashes from `i * 2^32 / n` on; `None` if even four times the leaves of an even spread
/// leave one overfull.
fn spread_evenly(
    hashed: &[(u32, u32)],
    lens: &[usize],
    leaves_min: usize,
) -> Option<(Vec<u32>, Vec<u32>)> {
    let total: usize = lens.iter().sum();
    let least = total
        .saturating_mul(FILL_DENOMINATOR)
        .div_ceil(ENTRIES_LEN.saturating_mul(FILL_NUMERATOR))
        .max(leaves_min);
    let most = least.saturating_mul(4);
    let mut leaf_count = least;
    while leaf_count <= most {
        if let Some(leaves) = try_spread(hashed, lens, leaf_count) {
            return Some(leaves);
        }
        leaf_count = leaf_count.saturating_add(leaf_count.div_ceil(16));
    }
    None
}

fn try_spread(
    hashed: &[(u32, u32)],
    lens: &[usize],
    leaf_count: usize,
) -> Option<(Vec<u32>, Vec<u32>)> {
    let mut starts = Vec::with_capacity(leaf_count);
    let mut hashes = Vec::with_capacity(leaf_count);
    let mut position = 0;
    for leaf in 0..leaf_count {
        let bound = spread_bound(leaf, leaf_count);
        let next_bound = spread_bound(leaf.saturating_add(1), leaf_count);
        starts.push(block_u32(position));
        hashes.push(u32::try_from(bound).ok()?);
        let mut filled = 0_usize;
        while let (Some((hash, _)), Some(len)) = (hashed.get(position), lens.get(position))
            && u64::from(*hash) < next_bound
        {
            filled = filled.saturating_add(*len);
            if filled > ENTRIES_LEN {
                return None;
            }
            position = position.saturating_add(1);
        }
    }
    Some((starts, hashes))
}

/// The lowest hash of a leaf, rounded up to even: hashes are.
fn spread_bound(leaf: usize, leaf_count: usize) -> u64 {
    let bound = (u128::from(to_u64(leaf)) << 32).div_ceil(u128::from(to_u64(leaf_count.max(1))));
    u64::try_from(bound.next_multiple_of(2)).unwrap_or(u64::MAX)
}

/// Leaves filled to three quarters in the order of hashes.
fn fill_in_order(hashed: &[(u32, u32)], lens: &[usize]) -> (Vec<u32>, Vec<u32>) {
    const FILLED: usize = ENTRIES_LEN / 4 * 3;
    let mut starts = Vec::new();
    let mut hashes = Vec::new();
    let mut filled = 0_usize;
    let mut previous = None;
    for (position, ((hash, _), len)) in hashed.iter().zip(lens).enumerate() {
        let continues = previous == Some(*hash);
        // A leaf ends where it is full enough, and rather between two hashes than within one.
        let limit = if continues { ENTRIES_LEN } else { FILLED };
        if starts.is_empty() || filled.saturating_add(*len) > limit {
            starts.push(block_u32(position));
            hashes.push(if hashes.is_empty() {
                0
            } else {
                *hash | u32::from(continues)
            });
            filled = 0;
        }
        filled = filled.saturating_add(*len);
        previous = Some(*hash);
    }
    (starts, hashes)
}

fn block_u32(index: usize) -> u32 {
    u32::try_from(index).expect("a directory has fewer than 2^32 names and blocks")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::arithmetic_side_effects, reason = "small numbers")]

    use super::*;

    fn entries(count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|index| format!("file-{index:08}").into_bytes())
            .collect()
    }

    fn index_of(names: &[Vec<u8>], seed: HashSeed) -> DirectoryIndex {
        DirectoryIndex::new(names.iter().map(Vec::as_slice), seed, LEAVES_MIN)
    }

    fn check(index: &DirectoryIndex, entries: &[Vec<u8>], seed: HashSeed) {
        let mut seen = vec![false; entries.len()];
        for leaf in 0..index.leaf_count() {
            let low = index.leaf_hash(leaf) & !1;
            let mut len = 0;
            for position in index.leaf(leaf) {
                let position = usize::try_from(*position).unwrap();
                let hash = seed.hash(&entries[position]);
                assert!(hash >= low, "hash below its leaf");
                if leaf + 1 < index.leaf_count() {
                    assert!(hash <= index.leaf_hash(leaf + 1), "hash beyond its leaf");
                }
                assert!(
                    !std::mem::replace(&mut seen[position], true),
                    "a name in two leaves"
                );
                len += entry_len(entries[position].len());
            }
            assert!(len <= ENTRIES_LEN, "overfull leaf");
        }
        assert!(seen.into_iter().all(|seen| seen), "a name in no leaf");
    }

    #[test]
    fn every_name_is_in_the_leaf_of_its_hash() {
        let seed = HashSeed([1, 2, 3, 4]);
        for count in [200, 2000, 70_000] {
            let entries = entries(count);
            check(&index_of(&entries, seed), &entries, seed);
        }
    }

    #[test]
    fn crowded_hashes_are_filled_in_order() {
        // Names by the thousand in a thousandth of the range: an even spread would need far too many leaves.
        let seed = HashSeed([1, 2, 3, 4]);
        let crowded: Vec<Vec<u8>> = (0..3_000_000_u32)
            .map(|index| format!("{index:x}"))
            .filter(|name| seed.hash(name.as_bytes()) >> 22 == 5)
            .map(String::into_bytes)
            .collect();
        assert!(crowded.len() > 2000, "{}", crowded.len());
        let mut sorted = crowded;
        sorted.sort();
        check(&index_of(&sorted, seed), &sorted, seed);
    }

    #[test]
    fn equal_hashes_continue_in_the_next_leaf() {
        let hashed: Vec<(u32, u32)> = (0..2000).map(|position| (0x1234_5678, position)).collect();
        let (starts, hashes) = fill_in_order(&hashed, &vec![20; 2000]);
        assert_eq!(starts[..2], [0, 204]);
        assert_eq!(hashes[..2], [0, 0x1234_5679]);
    }

    #[test]
    fn one_more_name_changes_one_leaf() {
        let seed = HashSeed([1, 2, 3, 4]);
        let names = |entries: &[Vec<u8>], index: &DirectoryIndex, leaf: usize| -> Vec<Vec<u8>> {
            index
                .leaf(leaf)
                .iter()
                .map(|position| entries[usize::try_from(*position).unwrap()].clone())
                .collect()
        };
        let before = entries(3000);
        let mut after = before.clone();
        after.push(b"zzz".to_vec());
        let (old, new) = (index_of(&before, seed), index_of(&after, seed));
        assert_eq!(old.leaf_count(), new.leaf_count());
        let changed = (0..old.leaf_count())
            .filter(|leaf| names(&before, &old, *leaf) != names(&after, &new, *leaf))
            .count();
        assert_eq!(changed, 1);
    }
}
