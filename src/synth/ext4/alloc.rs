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
use crate::formats::ext4::extent::{EXTENT_LEN_MAX, Extent, INLINE_EXTENTS_MAX, block_extents_max};
use crate::formats::ext4::geometry::Geometry;
use crate::formats::ext4::htree::HashSeed;
use crate::formats::ext4::inode::I_BLOCK_LEN;
use crate::formats::ext4::{FIRST_INODE, ORPHAN_INODE, ROOT_INODE};
use crate::synth::tree::{BlockRange, NodeId, NodeKind, Tree};
use crate::units::{low32, to_u64};

/// Blocks of an extent tree that does not fit the inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TreeBlocks {
    /// First block, relative to its zone.
    pub(super) start: u64,
    /// Inner nodes below the root; they come first, those of the highest level before all others.
    pub(super) node_count: u64,
    /// Leaves.
    pub(super) leaf_count: u64,
}

impl TreeBlocks {
    /// Blocks of each level, the leaves first, up to the one that the inode's entries reach.
    pub(super) fn levels(self, per_node: usize) -> Vec<u64> {
        let mut levels = vec![self.leaf_count];
        let mut top = self.leaf_count;
        while top > to_u64(INLINE_EXTENTS_MAX) {
            top = top.div_ceil(to_u64(per_node));
            levels.push(top);
        }
        levels
    }
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
    trees: Vec<(NodeId, ExtentTree)>,
    /// Extended attributes.
    pub(super) xattrs: XattrPlan,
    pub(super) demand: Demand,
}

impl Allocation {
    /// Looks at everything that has a number, without slack so far.
    pub(super) fn new(tree: &Tree, seed: HashSeed, geometry: Geometry) -> Result<Self, Ext4Error> {
        let block_size = geometry.block_size();
        let mut indices = BTreeMap::new();
        let mut directory_blocks = BTreeMap::new();
        for (id, node) in tree.nodes() {
            match node.kind {
                NodeKind::Directory => {
                    let plan = DirectoryPlan::new(tree, id, seed, &geometry)?;
                    if plan.block_count > 1 {
                        directory_blocks.insert(id, plan.block_count);
                    }
                    indices.extend(plan.index.map(|index| (id, index)));
                }
                _ => limits::check_node(tree, id, &node.kind, &geometry)?,
            }
        }
        let xattrs = XattrPlan::new(tree, &geometry)?;
        let runs = Runs::new(tree);
        let metadata = Column::new(&runs, |id| metadata_blocks(tree, &directory_blocks, id));
        let data = Column::new(&runs, |id| data_blocks(tree, id, block_size));
        let inodes = number_inodes(&runs, &geometry, Slack::Dense);
        let demand = Demand {
            xattr_blocks: xattrs.block_count(),
            ..Demand::default()
        };
        let mut allocation = Self {
            geometry,
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
        self.inodes = number_inodes(&self.runs, &self.geometry, slack);
        self.metadata.nest(&self.runs, slack);
        self.data.nest(&self.runs, slack);
        let slack_of = |column: &Column| column.end - column.used;
        let xattr_blocks = self.demand.xattr_blocks;
        // The zone behind is not to move with every one of them.
        let xattr_slack = slack.round(xattr_blocks) - xattr_blocks;
        self.demand = Demand {
            last_inode: self.inodes.last.max(last_own_inode(&self.geometry).into()),
            metadata_blocks: self.metadata.end,
            data_blocks: self.data.end,
            xattr_blocks,
            xattr_slack,
            slack_blocks: slack_of(&self.metadata) + xattr_slack + slack_of(&self.data),
        };
    }

    /// Whether the slack is at most a tenth of what it lies between.
    pub(super) fn is_moderate(&self) -> bool {
        let used = self.metadata.used + self.demand.xattr_blocks + self.data.used;
        let inodes = self.inodes.slack(&self.runs);
        is_moderate(self.demand.slack_blocks, used)
            && is_moderate(inodes, self.inodes.last - inodes)
    }

    /// Places every node, when the slack is decided.
    pub(super) fn settle(&mut self, tree: &Tree) {
        let directory_blocks = &self.directory_blocks;
        self.metadata
            .settle(&self.runs, |id| metadata_blocks(tree, directory_blocks, id));
        let block_size = self.geometry.block_size();
        self.data
            .settle(&self.runs, |id| data_blocks(tree, id, block_size));
    }

    /// Numbers the extent trees, which depend on where blocks lie, and returns how many blocks they need.
    pub(super) fn place_trees(&mut self, tree: &Tree, layout: &Layout) -> u64 {
        let per_node = block_extents_max(&self.geometry);
        let mut trees = Vec::new();
        let mut start = 0;
        for id in (0..).map(NodeId).take(tree.node_count()) {
            if !self.may_need_tree(layout, tree, id) {
                continue;
            }
            let (leaves, extent_count) = self.leaf_starts(layout, tree, id);
            if extent_count <= INLINE_EXTENTS_MAX {
                continue;
            }
            let mut blocks = TreeBlocks {
                start,
                node_count: 0,
                leaf_count: to_u64(leaves.len()),
            };
            blocks.node_count = blocks.levels(per_node).iter().skip(1).sum();
            trees.push((id, ExtentTree { blocks, leaves }));
            start += blocks.node_count + blocks.leaf_count;
        }
        self.trees = trees;
        start
    }

    /// The extent tree of a node, if it lies outside the inode.
    pub(super) fn tree(&self, id: NodeId) -> Option<&ExtentTree> {
        let index = self.trees.binary_search_by_key(&id, |(node, _)| *node);
        self.trees.get(index.ok()?).map(|(_, tree)| tree)
    }

    /// The extent tree that has this block of its zone.
    pub(super) fn tree_with_block(&self, block: u64) -> Option<(NodeId, TreeBlocks)> {
        let behind = self
            .trees
            .partition_point(|(_, tree)| tree.blocks.start <= block);
        let (node, tree) = self.trees.get(behind.checked_sub(1)?)?;
        Some((*node, tree.blocks))
    }

    /// Whether a node may have more extents than its inode holds; nearly all are told apart without counting.
    fn may_need_tree(&self, layout: &Layout, tree: &Tree, id: NodeId) -> bool {
        if self.block_count(tree, id) < 2 {
            return false;
        }
        let has_holes = matches!(
            tree.kind(id),
            NodeKind::File {
                ranges: Some(_),
                ..
            }
        );
        let blocks = self.linear_blocks(layout, tree, id);
        has_holes
            || blocks.len() > EXTENT_LEN_MAX * to_u64(INLINE_EXTENTS_MAX)
            || layout.contiguous_from(blocks.start) < blocks.len()
    }

    /// Where the leaves of a node's extent tree begin, and how many extents there are.
    fn leaf_starts(&self, layout: &Layout, tree: &Tree, id: NodeId) -> (Box<[LeafStart]>, usize) {
        let per_node = block_extents_max(&self.geometry);
        let mut leaves = Vec::new();
        let mut extent_count = 0;
        let mut before = 0;
        for extent in self.extents(layout, tree, id) {
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
    pub(super) fn block_count(&self, tree: &Tree, id: NodeId) -> u64 {
        match tree.kind(id) {
            NodeKind::File { .. } => data_blocks(tree, id, self.geometry.block_size()),
            _ => metadata_blocks(tree, &self.directory_blocks, id),
        }
    }

    /// The linear blocks of a node's contents.
    pub(super) fn linear_blocks(&self, layout: &Layout, tree: &Tree, id: NodeId) -> Zone {
        let start = match tree.kind(id) {
            NodeKind::File { .. } => {
                let len = |id| data_blocks(tree, id, self.geometry.block_size());
                layout.data.start + self.data.start(&self.runs, id, len)
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
        self.data.items_from(&self.runs, block, |id| {
            data_blocks(tree, id, self.geometry.block_size())
        })
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

    /// Where the contents of files lie within their zone, half-open, from the first that ends behind a block of it on.
    pub(super) fn data_runs_from(&self, block: u64) -> impl Iterator<Item = (u64, u64)> {
        self.data.runs_from(block)
    }

    /// The same of directories and symlinks.
    pub(super) fn metadata_runs_from(&self, block: u64) -> impl Iterator<Item = (u64, u64)> {
        self.metadata.runs_from(block)
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
        self.extents_behind(layout, tree, id, 0)
    }

    /// The extents of a leaf of a node's extent tree, and of those behind it.
    pub(super) fn extents_from_leaf<'a>(
        &self,
        layout: &'a Layout,
        tree: &'a Tree,
        id: NodeId,
        leaf: LeafStart,
    ) -> impl Iterator<Item = Extent> + use<'a> {
        self.extents_behind(layout, tree, id, leaf.before)
    }

    /// The extents behind the first `skipped` blocks, which end an extent.
    fn extents_behind<'a>(
        &self,
        layout: &'a Layout,
        tree: &'a Tree,
        id: NodeId,
        skipped: u32,
    ) -> impl Iterator<Item = Extent> + use<'a> {
        let blocks = self.linear_blocks(layout, tree, id);
        let (ranges, whole) = match tree.kind(id) {
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
        if id == NodeId::LOST_AND_FOUND {
            return FIRST_INODE;
        }
        let number = self.inodes.number(&self.runs, id);
        u32::try_from(number).expect("the layout keeps inode numbers below 2^32")
    }

    /// The node with this inode number, if there is one.
    pub(super) fn node_of_inode(&self, inode_number: u32) -> Option<NodeId> {
        if inode_number == FIRST_INODE {
            return Some(NodeId::LOST_AND_FOUND);
        }
        self.inodes
            .node(&self.runs, inode_number.into())
            .filter(|id| *id != NodeId::LOST_AND_FOUND)
    }

    /// The lowest inode number of a node at or above this one, the root and lost+found not counted.
    pub(super) fn next_used_inode(&self, inode_number: u32) -> Option<u32> {
        let next = self.inodes.next_used(&self.runs, inode_number.into())?;
        u32::try_from(next).ok()
    }

    /// The ranges of inode numbers that nodes other than lost+found have, half-open, from the first that ends behind `inode_number`.
    pub(super) fn inodes_from(&self, inode_number: u64) -> impl Iterator<Item = (u64, u64)> {
        let own = u64::from(last_own_inode(&self.geometry));
        self.inodes
            .used_from(&self.runs, inode_number)
            .map(move |(start, end)| (if start == own { own + 1 } else { start }, end))
            .filter(move |(start, end)| start < end && *end > inode_number)
    }
}

/// Root 2, all others nested behind the file system's own. lost+found counts there as the last of them.
fn number_inodes(runs: &Runs, geometry: &Geometry, slack: Slack) -> Numbers {
    let last_own = last_own_inode(geometry);
    Numbers::new(runs, ROOT_INODE.into(), last_own.into(), slack)
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

fn metadata_blocks(tree: &Tree, directory_blocks: &BTreeMap<NodeId, u64>, id: NodeId) -> u64 {
    match tree.kind(id) {
        NodeKind::Directory => directory_blocks.get(&id).copied().unwrap_or(1),
        NodeKind::Symlink(target) if target.len() >= I_BLOCK_LEN => 1,
        _ => 0,
    }
}

fn data_blocks(tree: &Tree, id: NodeId, block_size: u64) -> u64 {
    match tree.kind(id) {
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
