//! Which numbers the nodes of a tree get: inodes, and blocks within their zone.
//!
//! Numbers follow the tree: a directory's children lie together, subtrees nest, and each subtree's range is rounded up
//! to six significant bits. A small edit then moves little, and nothing needs to be remembered between runs.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "sums of blocks of a tree of at most 2^32 nodes of at most 2^32 blocks, in 64 bits"
)]

use std::collections::BTreeMap;

use super::demand::Demand;
use super::directory::{DirectoryIndex, DirectoryPlan};
use super::error::Ext4Error;
use super::layout::{Layout, Zone};
use super::limits;
use super::xattr::XattrPlan;
use crate::formats::ext4::extent::{BLOCK_EXTENTS_MAX, EXTENT_LEN_MAX, Extent, INLINE_EXTENTS_MAX};
use crate::formats::ext4::htree::HashSeed;
use crate::formats::ext4::inode::I_BLOCK_LEN;
use crate::formats::ext4::{BLOCK_SIZE, FIRST_INODE, ROOT_INODE};
use crate::synth::tree::{BlockRange, Node, NodeId, NodeKind, Tree};
use crate::units::{low32, to_u64};

/// Significant bits that the length of a subtree's range keeps.
const SLACK_BITS: u32 = 6;

/// Blocks of an extent tree that does not fit the inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TreeBlocks {
    /// First block, relative to its zone.
    pub(super) start: u64,
    /// Inner nodes below the root; they come first.
    pub(super) node_count: u64,
    /// Leaves.
    pub(super) leaf_count: u64,
}

/// The numbers of all nodes of a tree.
#[derive(Debug)]
pub(super) struct Allocation {
    /// Inode number of each node; ascending but for lost+found.
    pub(super) inode_numbers: Vec<u32>,
    /// First block of each directory and long symlink within its zone; ascending.
    pub(super) metadata_starts: Vec<u64>,
    /// First block of each file within its zone; ascending.
    pub(super) data_starts: Vec<u64>,
    /// Directories with an index.
    pub(super) indices: BTreeMap<NodeId, DirectoryIndex>,
    /// Blocks of directories of more than one block.
    pub(super) directory_blocks: BTreeMap<NodeId, u64>,
    /// Extent trees outside the inode.
    pub(super) trees: BTreeMap<NodeId, TreeBlocks>,
    /// Extended attributes.
    pub(super) xattrs: XattrPlan,
    pub(super) demand: Demand,
}

impl Allocation {
    /// Numbers everything whose place does not depend on the layout.
    pub(super) fn new(tree: &Tree, seed: HashSeed) -> Result<Self, Ext4Error> {
        let mut indices = BTreeMap::new();
        let mut directory_blocks = BTreeMap::new();
        for (node, id) in tree.nodes().iter().zip((0..).map(NodeId)) {
            match &node.kind {
                NodeKind::Directory(_) => {
                    let plan = DirectoryPlan::new(tree, id, seed)?;
                    if plan.block_count > 1 {
                        directory_blocks.insert(id, plan.block_count);
                    }
                    indices.extend(plan.index.map(|index| (id, index)));
                }
                _ => limits::check_node(tree, id, node)?,
            }
        }
        let xattrs = XattrPlan::new(tree)?;
        let nodes = tree.nodes();
        let metadata = nest(nodes, |id, node| {
            metadata_blocks(&directory_blocks, id, node)
        });
        let data = nest(nodes, |_, node| data_blocks(node));
        let demand = Demand {
            last_inode: 0,
            metadata_blocks: metadata.end,
            data_blocks: data.end,
            xattr_blocks: xattrs.block_count(),
            tree_blocks: 0,
            slack_blocks: metadata.end - metadata.used + (data.end - data.used),
        };
        let inode_numbers = inode_numbers(nodes);
        let last_inode = inode_numbers
            .iter()
            .copied()
            .max()
            .unwrap_or(ROOT_INODE)
            .max(FIRST_INODE);
        Ok(Self {
            inode_numbers,
            metadata_starts: metadata.starts,
            data_starts: data.starts,
            indices,
            directory_blocks,
            trees: BTreeMap::new(),
            xattrs,
            demand: Demand {
                last_inode: last_inode.into(),
                ..demand
            },
        })
    }

    /// Numbers the extent trees, which depend on where blocks lie, and returns how many blocks they need.
    pub(super) fn place_trees(&mut self, tree: &Tree, layout: &Layout) -> u64 {
        let mut trees = BTreeMap::new();
        let mut start = 0;
        for (node, id) in tree.nodes().iter().zip((0..).map(NodeId)) {
            // One extent covers 32,768 blocks, and at most 19 copies interrupt the file system.
            let blocks = self.block_count(id, node);
            if blocks < 2 {
                continue;
            }
            let extent_count = to_u64(self.extents(layout, id, node).count());
            if extent_count <= to_u64(INLINE_EXTENTS_MAX) {
                continue;
            }
            let per_node = to_u64(BLOCK_EXTENTS_MAX);
            let leaf_count = extent_count.div_ceil(per_node);
            let node_count = if leaf_count <= to_u64(INLINE_EXTENTS_MAX) {
                0
            } else {
                leaf_count.div_ceil(per_node)
            };
            trees.insert(
                id,
                TreeBlocks {
                    start,
                    node_count,
                    leaf_count,
                },
            );
            start += node_count + leaf_count;
        }
        self.trees = trees;
        start
    }

    /// Blocks of a node's contents, its extent tree not included.
    pub(super) fn block_count(&self, id: NodeId, node: &Node) -> u64 {
        match node.kind {
            NodeKind::File { .. } => data_blocks(node),
            _ => metadata_blocks(&self.directory_blocks, id, node),
        }
    }

    /// The linear blocks of a node's contents.
    pub(super) fn linear_blocks(&self, layout: &Layout, id: NodeId, node: &Node) -> Zone {
        let (zone, starts) = match node.kind {
            NodeKind::File { .. } => (layout.data, &self.data_starts),
            _ => (layout.metadata, &self.metadata_starts),
        };
        let start = zone.start
            + starts
                .get(id.index())
                .copied()
                .expect("every node has a start");
        Zone {
            start,
            end: start + self.block_count(id, node),
        }
    }

    /// The extents of a node's contents.
    pub(super) fn extents<'a>(
        &self,
        layout: &'a Layout,
        id: NodeId,
        node: &'a Node,
    ) -> impl Iterator<Item = Extent> + use<'a> {
        let blocks = self.linear_blocks(layout, id, node);
        let (ranges, whole) = match &node.kind {
            NodeKind::File {
                ranges: Some(ranges),
                ..
            } => (&**ranges, None),
            _ => (
                &[][..],
                Some(BlockRange {
                    file_block: 0,
                    len: low32(blocks.len()),
                    before: 0,
                }),
            ),
        };
        ranges.iter().copied().chain(whole).flat_map(move |range| {
            let start = blocks.start + u64::from(range.before);
            let zone = Zone {
                start,
                end: start + u64::from(range.len),
            };
            extents(layout, zone).map(move |extent| Extent {
                file_block: extent.file_block + range.file_block,
                ..extent
            })
        })
    }

    /// The inode number of a node.
    pub(super) fn inode_number(&self, id: NodeId) -> u32 {
        self.inode_numbers
            .get(id.index())
            .copied()
            .expect("every node has an inode")
    }

    /// The node with this inode number, if there is one.
    pub(super) fn node_of_inode(&self, inode_number: u32) -> Option<NodeId> {
        match inode_number {
            ROOT_INODE => Some(NodeId::ROOT),
            FIRST_INODE => Some(NodeId::LOST_AND_FOUND),
            _ => {
                let rest = self.inode_numbers.get(2..)?;
                let index = rest.binary_search(&inode_number).ok()?;
                Some(NodeId(u32::try_from(index + 2).ok()?))
            }
        }
    }

    /// The lowest inode number in use at or above this one, reserved ones included.
    pub(super) fn next_used_inode(&self, inode_number: u32) -> Option<u32> {
        if inode_number <= FIRST_INODE {
            return Some(inode_number);
        }
        let rest = self.inode_numbers.get(2..)?;
        rest.get(rest.partition_point(|used| *used < inode_number))
            .copied()
    }
}

/// Consecutive linear blocks as extents of at most 32,768 blocks.
pub(super) fn extents(layout: &Layout, blocks: Zone) -> impl Iterator<Item = Extent> + use<'_> {
    let mut linear = blocks.start;
    std::iter::from_fn(move || {
        let len = (blocks.end - linear)
            .min(layout.contiguous_from(linear))
            .min(EXTENT_LEN_MAX);
        if len == 0 {
            return None;
        }
        let extent = Extent {
            file_block: low32(linear - blocks.start),
            len: u16::try_from(len).expect("an extent has at most 32,768 blocks"),
            start: layout.physical(linear),
        };
        linear += len;
        Some(extent)
    })
}

fn metadata_blocks(directory_blocks: &BTreeMap<NodeId, u64>, id: NodeId, node: &Node) -> u64 {
    match &node.kind {
        NodeKind::Directory(_) => directory_blocks.get(&id).copied().unwrap_or(1),
        NodeKind::Symlink(target) if target.len() >= I_BLOCK_LEN => 1,
        _ => 0,
    }
}

fn data_blocks(node: &Node) -> u64 {
    match &node.kind {
        NodeKind::File {
            ranges: Some(ranges),
            ..
        } => ranges
            .last()
            .map_or(0, |last| u64::from(last.before) + u64::from(last.len)),
        NodeKind::File { size, .. } => size.div_ceil(BLOCK_SIZE),
        _ => 0,
    }
}

/// Positions of a tree's items in nested ranges.
struct Nesting {
    /// Position of each node's item; ascending.
    starts: Vec<u64>,
    /// Behind the last item, slack of its subtree included.
    end: u64,
    /// Sum of all items.
    used: u64,
}

/// Lays out one item per node: the root's first, then a directory's children together and their subtrees behind them,
/// each subtree's length rounded up.
fn nest(nodes: &[Node], item_len: impl Fn(NodeId, &Node) -> u64) -> Nesting {
    let ids = || (0..).map(NodeId);
    let lens: Vec<u64> = nodes
        .iter()
        .zip(ids())
        .map(|(node, id)| item_len(id, node))
        .collect();
    let mut children_len = vec![0_u64; nodes.len()];
    for (node, len) in nodes.iter().zip(&lens).skip(1) {
        children_len[node.parent.index()] += len;
    }
    // Children have higher numbers than their parents, so backwards every subtree is complete when it is added.
    let mut subtree_len = children_len.clone();
    for (index, node) in nodes.iter().enumerate().skip(1).rev() {
        subtree_len[index] = round_to_significant_bits(subtree_len[index]);
        subtree_len[node.parent.index()] += subtree_len[index];
    }
    let root_len = lens.first().copied().unwrap_or(0);
    let mut starts = vec![0_u64; nodes.len()];
    let mut next_child = vec![0_u64; nodes.len()];
    let mut next_subtree = vec![0_u64; nodes.len()];
    next_child[0] = root_len;
    next_subtree[0] = root_len + children_len[0];
    for (index, node) in nodes.iter().enumerate().skip(1) {
        let parent = node.parent.index();
        starts[index] = next_child[parent];
        next_child[parent] += lens[index];
        next_child[index] = next_subtree[parent];
        next_subtree[index] = next_subtree[parent] + children_len[index];
        next_subtree[parent] += subtree_len[index];
    }
    Nesting {
        starts,
        end: root_len + subtree_len[0],
        used: lens.iter().sum(),
    }
}

/// Inode numbers: root 2, lost+found 11, all others nested from 12 on.
fn inode_numbers(nodes: &[Node]) -> Vec<u32> {
    let nesting = nest(nodes, |id, _| u64::from(id.0 > NodeId::LOST_AND_FOUND.0));
    let first = FIRST_INODE + 1;
    nesting
        .starts
        .iter()
        .zip(0_u32..)
        .map(|(start, index)| match NodeId(index) {
            NodeId::ROOT => ROOT_INODE,
            NodeId::LOST_AND_FOUND => FIRST_INODE,
            _ => u32::try_from(*start)
                .ok()
                .and_then(|start| start.checked_add(first))
                .unwrap_or(u32::MAX),
        })
        .collect()
}

/// The next number whose lower bits, all but the highest six, are zero.
fn round_to_significant_bits(value: u64) -> u64 {
    let bits = u64::BITS - value.leading_zeros();
    value.next_multiple_of(1 << bits.saturating_sub(SLACK_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_ranges_have_no_slack_and_large_ones_little() {
        for value in 0..64 {
            assert_eq!(round_to_significant_bits(value), value);
        }
        assert_eq!(round_to_significant_bits(65), 66);
        assert_eq!(round_to_significant_bits(1_000_001), 1_015_808);
        assert_eq!(round_to_significant_bits(1 << 40), 1 << 40);
    }
}
