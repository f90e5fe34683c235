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
use super::xattr::XattrPlan;
use crate::formats::ext4::extent::{EXTENT_LEN_MAX, Extent, INLINE_EXTENTS_MAX, block_extents_max};
use crate::formats::ext4::geometry::Geometry;
use crate::formats::ext4::htree::HashSeed;
use crate::formats::ext4::inode::{self, I_BLOCK_LEN};
use crate::formats::ext4::{FIRST_INODE, ORPHAN_INODE, ROOT_INODE};
use crate::synth::tree::{BlockRange, Node, NodeId, NodeKind, Special, Tree};
use crate::units::{low32, to_u64};

/// Significant bits that the length of a subtree's range keeps.
const SLACK_BITS: u32 = 6;
/// Blocks of one file: block numbers within a file have 32 bits.
const FILE_BLOCKS_MAX: u64 = 0xffff_ffff;

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

/// Where a leaf of an extent tree begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeafStart {
    /// First block within the file.
    pub(super) file_block: u32,
    /// Blocks of the file before it, holes not counted.
    before: u32,
}

/// An extent tree that does not fit the inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ExtentTree {
    pub(super) blocks: TreeBlocks,
    pub(super) leaves: Box<[LeafStart]>,
}

/// The numbers of all nodes of a tree.
#[derive(Debug)]
pub(super) struct Allocation {
    geometry: Geometry,
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
    pub(super) trees: BTreeMap<NodeId, ExtentTree>,
    /// First block of each of them within their zone, and whose it is; ascending.
    pub(super) tree_starts: Vec<(u64, NodeId)>,
    /// Extended attributes.
    pub(super) xattrs: XattrPlan,
    pub(super) demand: Demand,
}

impl Allocation {
    /// Numbers everything whose place does not depend on the layout.
    pub(super) fn new(tree: &Tree, seed: HashSeed, geometry: Geometry) -> Result<Self, Ext4Error> {
        let block_size = geometry.block_size();
        let mut indices = BTreeMap::new();
        let mut directory_blocks = BTreeMap::new();
        for (node, id) in tree.nodes().iter().zip((0..).map(NodeId)) {
            match &node.kind {
                NodeKind::Directory(_) => {
                    let plan = DirectoryPlan::new(tree, id, seed, &geometry)?;
                    if plan.block_count > 1 {
                        directory_blocks.insert(id, plan.block_count);
                    }
                    indices.extend(plan.index.map(|index| (id, index)));
                }
                NodeKind::File { size, .. } if size.div_ceil(block_size) > FILE_BLOCKS_MAX => {
                    return Err(Ext4Error::FileTooLarge {
                        path: tree.path_of(id),
                        size: *size,
                        block_size,
                        limit: FILE_BLOCKS_MAX * block_size,
                    });
                }
                NodeKind::Symlink(target) if to_u64(target.len()) > geometry.symlink_len_max() => {
                    return Err(Ext4Error::SymlinkTooLong {
                        path: tree.path_of(id),
                        len: to_u64(target.len()),
                        limit: geometry.symlink_len_max(),
                    });
                }
                NodeKind::Special(
                    Special::CharacterDevice(number) | Special::BlockDevice(number),
                ) if inode::device(number.major, number.minor).is_none() => {
                    return Err(Ext4Error::DeviceNumber {
                        path: tree.path_of(id),
                        major: number.major,
                        minor: number.minor,
                    });
                }
                _ => {}
            }
        }
        let xattrs = XattrPlan::new(tree, &geometry)?;
        let nodes = tree.nodes();
        let metadata = nest(nodes, |id, node| {
            metadata_blocks(&directory_blocks, id, node)
        });
        let data = nest(nodes, |_, node| data_blocks(node, block_size));
        let demand = Demand {
            last_inode: 0,
            metadata_blocks: metadata.end,
            data_blocks: data.end,
            xattr_blocks: xattrs.block_count(),
            slack_blocks: metadata.end - metadata.used + (data.end - data.used),
        };
        let inode_numbers = inode_numbers(nodes, last_own_inode(&geometry) + 1);
        let last_inode = inode_numbers
            .iter()
            .copied()
            .max()
            .unwrap_or(ROOT_INODE)
            .max(last_own_inode(&geometry));
        Ok(Self {
            geometry,
            inode_numbers,
            metadata_starts: metadata.starts,
            data_starts: data.starts,
            indices,
            directory_blocks,
            trees: BTreeMap::new(),
            tree_starts: Vec::new(),
            xattrs,
            demand: Demand {
                last_inode: last_inode.into(),
                ..demand
            },
        })
    }

    /// Numbers the extent trees, which depend on where blocks lie, and returns how many blocks they need.
    pub(super) fn place_trees(&mut self, tree: &Tree, layout: &Layout) -> u64 {
        let per_node = block_extents_max(&self.geometry);
        let mut trees = BTreeMap::new();
        let mut tree_starts = Vec::new();
        let mut start = 0;
        for (node, id) in tree.nodes().iter().zip((0..).map(NodeId)) {
            if !self.may_need_tree(layout, id, node) {
                continue;
            }
            let (leaves, extent_count) = self.leaf_starts(layout, id, node);
            if extent_count <= INLINE_EXTENTS_MAX {
                continue;
            }
            let leaf_count = to_u64(leaves.len());
            let node_count = if leaves.len() <= INLINE_EXTENTS_MAX {
                0
            } else {
                leaf_count.div_ceil(to_u64(per_node))
            };
            let blocks = TreeBlocks {
                start,
                node_count,
                leaf_count,
            };
            trees.insert(id, ExtentTree { blocks, leaves });
            tree_starts.push((start, id));
            start += node_count + leaf_count;
        }
        self.trees = trees;
        self.tree_starts = tree_starts;
        start
    }

    /// Whether a node may have more extents than its inode holds; nearly all are told apart without counting.
    fn may_need_tree(&self, layout: &Layout, id: NodeId, node: &Node) -> bool {
        let blocks = self.linear_blocks(layout, id, node);
        if blocks.len() < 2 {
            return false;
        }
        let has_holes = matches!(
            &node.kind,
            NodeKind::File {
                ranges: Some(_),
                ..
            }
        );
        has_holes
            || blocks.len() > EXTENT_LEN_MAX * to_u64(INLINE_EXTENTS_MAX)
            || layout.contiguous_from(blocks.start) < blocks.len()
    }

    /// Where the leaves of a node's extent tree begin, and how many extents there are.
    fn leaf_starts(&self, layout: &Layout, id: NodeId, node: &Node) -> (Box<[LeafStart]>, usize) {
        let per_node = block_extents_max(&self.geometry);
        let mut leaves = Vec::new();
        let mut extent_count = 0;
        let mut before = 0;
        for extent in self.extents(layout, id, node) {
            if extent_count % per_node == 0 {
                leaves.push(LeafStart {
                    file_block: extent.file_block,
                    before,
                });
            }
            extent_count += 1;
            before += u32::from(extent.len);
        }
        (leaves.into(), extent_count)
    }

    /// Blocks of a node's contents, its extent tree not included.
    pub(super) fn block_count(&self, id: NodeId, node: &Node) -> u64 {
        match node.kind {
            NodeKind::File { .. } => data_blocks(node, self.geometry.block_size()),
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
        self.extents_behind(layout, id, node, 0)
    }

    /// The extents of a leaf of a node's extent tree, and of those behind it.
    pub(super) fn extents_from_leaf<'a>(
        &self,
        layout: &'a Layout,
        id: NodeId,
        node: &'a Node,
        leaf: LeafStart,
    ) -> impl Iterator<Item = Extent> + use<'a> {
        self.extents_behind(layout, id, node, leaf.before)
    }

    /// The extents behind the first `skipped` blocks, which end an extent.
    fn extents_behind<'a>(
        &self,
        layout: &'a Layout,
        id: NodeId,
        node: &'a Node,
        skipped: u32,
    ) -> impl Iterator<Item = Extent> + use<'a> {
        let blocks = self.linear_blocks(layout, id, node);
        let (ranges, whole) = match &node.kind {
            NodeKind::File {
                ranges: Some(ranges),
                ..
            } => {
                let first = ranges.partition_point(|range| range.before + range.len <= skipped);
                (&ranges[first..], None)
            }
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
            let skipped = skipped.saturating_sub(range.before);
            let start = blocks.start + u64::from(range.before + skipped);
            let zone = Zone {
                start,
                end: start + u64::from(range.len - skipped),
            };
            extents(layout, zone).map(move |extent| Extent {
                file_block: extent.file_block + range.file_block + skipped,
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

    /// The lowest inode number of a node at or above this one, the root and lost+found not counted.
    pub(super) fn next_used_inode(&self, inode_number: u32) -> Option<u32> {
        let rest = self.inode_numbers.get(2..)?;
        rest.get(rest.partition_point(|used| *used < inode_number))
            .copied()
    }
}

/// The highest inode number that is the file system's own: lost+found, or the orphan file.
const fn last_own_inode(geometry: &Geometry) -> u32 {
    if geometry.features.orphan_file {
        ORPHAN_INODE
    } else {
        FIRST_INODE
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

fn data_blocks(node: &Node, block_size: u64) -> u64 {
    match &node.kind {
        NodeKind::File {
            ranges: Some(ranges),
            ..
        } => ranges
            .last()
            .map_or(0, |last| u64::from(last.before) + u64::from(last.len)),
        NodeKind::File { size, .. } => size.div_ceil(block_size),
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

/// Inode numbers: root 2, lost+found 11, all others nested from `first` on.
fn inode_numbers(nodes: &[Node], first: u32) -> Vec<u32> {
    let nesting = nest(nodes, |id, _| u64::from(id.0 > NodeId::LOST_AND_FOUND.0));
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
