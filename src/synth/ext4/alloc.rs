//! Which numbers the nodes of a tree get: inodes, and blocks within their zone.
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
use super::nesting::{Column, Item, Numbers, Runs, Slack, is_moderate};
use super::xattr::XattrPlan;
use crate::formats::ext4::extent::{BLOCK_EXTENTS_MAX, EXTENT_LEN_MAX, Extent, INLINE_EXTENTS_MAX};
use crate::formats::ext4::htree::HashSeed;
use crate::formats::ext4::inode::I_BLOCK_LEN;
use crate::formats::ext4::{BLOCK_SIZE, FIRST_INODE, ROOT_INODE};
use crate::synth::tree::{BlockRange, NodeId, NodeKind, Tree};
use crate::units::{low32, to_u64};

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
    runs: Runs,
    inodes: Numbers,
    /// Blocks of directories and long symlinks within their zone.
    metadata: Column,
    /// Blocks of files within their zone.
    data: Column,
    /// How much slack there is between subtrees.
    pub(super) slack: Slack,
    /// Directories with an index.
    pub(super) indices: BTreeMap<NodeId, DirectoryIndex>,
    /// Blocks of directories of more than one block.
    directory_blocks: BTreeMap<NodeId, u64>,
    /// Extent trees outside the inode, in the order of their blocks and of their nodes.
    trees: Vec<(NodeId, TreeBlocks)>,
    /// Extended attributes.
    pub(super) xattrs: XattrPlan,
    pub(super) demand: Demand,
}

impl Allocation {
    /// Looks at everything that has a number, without slack so far.
    pub(super) fn new(tree: &Tree, seed: HashSeed) -> Result<Self, Ext4Error> {
        let mut indices = BTreeMap::new();
        let mut directory_blocks = BTreeMap::new();
        for (id, node) in tree.nodes() {
            match node.kind {
                NodeKind::Directory => {
                    let plan = DirectoryPlan::new(tree, id, seed)?;
                    if plan.block_count > 1 {
                        directory_blocks.insert(id, plan.block_count);
                    }
                    indices.extend(plan.index.map(|index| (id, index)));
                }
                _ => limits::check_node(tree, id, &node.kind)?,
            }
        }
        let xattrs = XattrPlan::new(tree)?;
        let runs = Runs::new(tree);
        let metadata = Column::new(&runs, |id| metadata_blocks(tree, &directory_blocks, id));
        let data = Column::new(&runs, |id| data_blocks(tree, id));
        let inodes = number_inodes(&runs, Slack::Dense);
        let demand = Demand {
            xattr_blocks: xattrs.block_count(),
            ..Demand::default()
        };
        let mut allocation = Self {
            runs,
            inodes,
            metadata,
            data,
            slack: Slack::Dense,
            indices,
            directory_blocks,
            trees: Vec::new(),
            xattrs,
            demand,
        };
        allocation.nest(Slack::Dense);
        Ok(allocation)
    }

    /// Numbers everything whose place does not depend on the layout, with this much slack.
    pub(super) fn nest(&mut self, slack: Slack) {
        self.slack = slack;
        self.inodes = number_inodes(&self.runs, slack);
        self.metadata.nest(&self.runs, slack);
        self.data.nest(&self.runs, slack);
        let slack_of = |column: &Column| column.end - column.used;
        self.demand = Demand {
            last_inode: self.inodes.last,
            metadata_blocks: self.metadata.end,
            data_blocks: self.data.end,
            xattr_blocks: self.demand.xattr_blocks,
            tree_blocks: 0,
            slack_blocks: slack_of(&self.metadata) + slack_of(&self.data),
        };
    }

    /// Whether the slack is at most a tenth of what it lies between.
    pub(super) fn is_moderate(&self) -> bool {
        let used = self.metadata.used + self.data.used;
        let inodes = self.inodes.slack(&self.runs);
        is_moderate(self.demand.slack_blocks, used)
            && is_moderate(inodes, self.inodes.last - inodes)
    }

    /// Places every node, when the slack is decided.
    pub(super) fn settle(&mut self, tree: &Tree) {
        let directory_blocks = &self.directory_blocks;
        self.metadata
            .settle(&self.runs, |id| metadata_blocks(tree, directory_blocks, id));
        self.data.settle(&self.runs, |id| data_blocks(tree, id));
    }

    /// Numbers the extent trees, which depend on where blocks lie, and returns how many blocks they need.
    pub(super) fn place_trees(&mut self, tree: &Tree, layout: &Layout) -> u64 {
        let mut trees = Vec::new();
        let mut start = 0;
        for id in (0..).map(NodeId).take(tree.node_count()) {
            // One extent covers 32,768 blocks, and at most 19 copies interrupt the file system.
            if self.block_count(tree, id) < 2 {
                continue;
            }
            let extent_count = to_u64(self.extents(layout, tree, id).count());
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
            let blocks = TreeBlocks {
                start,
                node_count,
                leaf_count,
            };
            trees.push((id, blocks));
            start += node_count + leaf_count;
        }
        self.trees = trees;
        start
    }

    /// The extent tree of a node, if it lies outside the inode.
    pub(super) fn tree(&self, id: NodeId) -> Option<TreeBlocks> {
        let index = self.trees.binary_search_by_key(&id, |(node, _)| *node);
        self.trees.get(index.ok()?).map(|(_, blocks)| *blocks)
    }

    /// The extent tree that has this block of its zone.
    pub(super) fn tree_with_block(&self, block: u64) -> Option<(NodeId, TreeBlocks)> {
        let behind = self.trees.partition_point(|(_, tree)| tree.start <= block);
        let (node, tree) = *self.trees.get(behind.checked_sub(1)?)?;
        (block < tree.start + tree.node_count + tree.leaf_count).then_some((node, tree))
    }

    /// Blocks of a node's contents, its extent tree not included.
    pub(super) fn block_count(&self, tree: &Tree, id: NodeId) -> u64 {
        match tree.kind(id) {
            NodeKind::File { .. } => data_blocks(tree, id),
            _ => metadata_blocks(tree, &self.directory_blocks, id),
        }
    }

    /// The linear blocks of a node's contents.
    pub(super) fn linear_blocks(&self, layout: &Layout, tree: &Tree, id: NodeId) -> Zone {
        let start = match tree.kind(id) {
            NodeKind::File { .. } => {
                layout.data.start + self.data.start(&self.runs, id, |id| data_blocks(tree, id))
            }
            _ => {
                let len = |id| metadata_blocks(tree, &self.directory_blocks, id);
                layout.metadata.start + self.metadata.start(&self.runs, id, len)
            }
        };
        Zone {
            start,
            end: start + self.block_count(tree, id),
        }
    }

    /// The contents in the zone of files from a block of it on; some before may come first.
    pub(super) fn data_from<'a>(
        &'a self,
        tree: &'a Tree,
        block: u64,
    ) -> impl Iterator<Item = Item> + 'a {
        self.data
            .items_from(&self.runs, block, |id| data_blocks(tree, id))
    }

    /// The contents in the zone of directories and symlinks from a block of it on; some before may come first.
    pub(super) fn metadata_from<'a>(
        &'a self,
        tree: &'a Tree,
        block: u64,
    ) -> impl Iterator<Item = Item> + 'a {
        self.metadata.items_from(&self.runs, block, |id| {
            metadata_blocks(tree, &self.directory_blocks, id)
        })
    }

    /// Behind the data of a file and its siblings within their zone.
    pub(super) fn end_of_siblings_data(&self, id: NodeId) -> u64 {
        self.data.end_of_siblings(&self.runs, id)
    }

    /// Behind the blocks of a directory or symlink and its siblings within their zone.
    pub(super) fn end_of_siblings_metadata(&self, id: NodeId) -> u64 {
        self.metadata.end_of_siblings(&self.runs, id)
    }

    /// The extents of a node's contents.
    pub(super) fn extents<'a>(
        &self,
        layout: &'a Layout,
        tree: &'a Tree,
        id: NodeId,
    ) -> impl Iterator<Item = Extent> + use<'a> {
        let blocks = self.linear_blocks(layout, tree, id);
        let (ranges, whole) = match tree.kind(id) {
            NodeKind::File {
                ranges: Some(ranges),
                ..
            } => (ranges, None),
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
        let number = self.inodes.number(&self.runs, id);
        u32::try_from(number).expect("the layout keeps inode numbers below 2^32")
    }

    /// The node with this inode number, if there is one.
    pub(super) fn node_of_inode(&self, inode_number: u32) -> Option<NodeId> {
        self.inodes.node(&self.runs, inode_number.into())
    }

    /// The lowest inode number in use at or above this one, reserved ones included.
    pub(super) fn next_used_inode(&self, inode_number: u32) -> Option<u32> {
        if inode_number <= FIRST_INODE {
            return Some(inode_number);
        }
        let next = self.inodes.next_used(&self.runs, inode_number.into())?;
        u32::try_from(next).ok()
    }

    /// The ranges of inode numbers that nodes have, half-open, from the first that ends behind `inode_number`.
    pub(super) fn inodes_from(&self, inode_number: u64) -> impl Iterator<Item = (u64, u64)> {
        self.inodes.used_from(&self.runs, inode_number)
    }
}

/// Root 2, lost+found 11, all others nested from 12 on.
fn number_inodes(runs: &Runs, slack: Slack) -> Numbers {
    Numbers::new(runs, ROOT_INODE.into(), FIRST_INODE.into(), slack)
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

fn metadata_blocks(tree: &Tree, directory_blocks: &BTreeMap<NodeId, u64>, id: NodeId) -> u64 {
    match tree.kind(id) {
        NodeKind::Directory => directory_blocks.get(&id).copied().unwrap_or(1),
        NodeKind::Symlink(target) if target.len() >= I_BLOCK_LEN => 1,
        _ => 0,
    }
}

fn data_blocks(tree: &Tree, id: NodeId) -> u64 {
    match tree.kind(id) {
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
