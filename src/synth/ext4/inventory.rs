//! A planned file system from its first block to its last, and its files, for who draws or compares it.

use super::place::Place;
use super::source::Ext4;
use crate::synth::host_file::{HostFiles, Identity};
use crate::synth::tree::{Content, NodeId, NodeKind, Tree};

/// What blocks hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AreaKind {
    /// A superblock, with the boot sector in front of the first one.
    Superblock,
    /// Group descriptors.
    GroupDescriptors,
    /// Kept for the growth of the descriptors, and the blocks that point there.
    Reserved,
    /// A bitmap of blocks or inodes.
    Bitmap,
    /// A part of an inode table.
    InodeTable,
    /// The journal and its extent tree.
    Journal,
    /// The orphan file.
    Orphans,
    /// Names.
    Directory,
    /// Extent trees, long symlinks and extended attributes of files.
    FileMetadata,
    /// Contents of a file.
    Data,
    /// Nothing.
    Free,
}

/// Blocks in a row that hold the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// The first block.
    pub block: u64,
    /// How many there are; at least 1.
    pub block_count: u64,
    /// What they hold.
    pub kind: AreaKind,
    /// The file or directory that they belong to.
    pub node: Option<NodeId>,
}

impl Ext4 {
    /// Bytes of a block.
    #[must_use]
    pub const fn block_size(&self) -> u64 {
        self.plan().block_size()
    }

    /// Number of blocks.
    #[must_use]
    pub const fn block_count(&self) -> u64 {
        self.plan().block_count()
    }

    /// The tree that the file system holds.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        self.plan().tree()
    }

    /// The first block of every block group.
    pub fn groups(&self) -> impl Iterator<Item = u64> {
        let layout = &self.plan().layout;
        (0..layout.group_count).map(|group| layout.start_of_group(group))
    }

    /// All blocks in order: areas follow each other without a gap.
    pub fn areas(&self) -> impl Iterator<Item = Area> {
        let mut block = 0;
        std::iter::from_fn(move || {
            if block >= self.block_count() {
                return None;
            }
            let placed = self.plan().resolve(block);
            let rest = self.block_count().saturating_sub(block);
            let block_count = placed.block_count.clamp(1, rest);
            let (kind, node) = kind_of(placed.place);
            let area = Area {
                block,
                block_count,
                kind,
                node,
            };
            block = block.saturating_add(block_count);
            Some(area)
        })
    }

    /// The extents of a node's contents: first block and number of blocks of each, in the order of the file.
    #[must_use]
    pub fn extents_of(&self, id: NodeId) -> Vec<(u64, u64)> {
        let plan = self.plan();
        plan.allocation
            .extents(&plan.layout, &plan.tree, id)
            .map(|extent| (extent.start, extent.len.into()))
            .collect()
    }

    /// The first block of a node's contents, if it has any.
    #[must_use]
    pub fn first_block_of(&self, id: NodeId) -> Option<u64> {
        let plan = self.plan();
        let mut extents = plan.allocation.extents(&plan.layout, &plan.tree, id);
        extents.next().map(|extent| extent.start)
    }

    /// The host files that contents come from.
    #[must_use]
    pub fn host_files(&self) -> &HostFiles {
        self.files()
    }

    /// What the host file of a node was when it was planned; `None` for what has none.
    #[must_use]
    pub fn identity_of(&self, id: NodeId) -> Option<Identity> {
        match self.tree().kind(id) {
            NodeKind::File {
                content: Content::Host(index),
                ..
            } => self.files().identity(index),
            _ => None,
        }
    }
}

const fn kind_of(place: Place) -> (AreaKind, Option<NodeId>) {
    match place {
        Place::Boot | Place::Superblock { .. } => (AreaKind::Superblock, None),
        Place::GroupDescriptors { .. } => (AreaKind::GroupDescriptors, None),
        Place::ReservedGdt { .. } | Place::Indirect => (AreaKind::Reserved, None),
        Place::BlockBitmap { .. } | Place::InodeBitmap { .. } => (AreaKind::Bitmap, None),
        Place::InodeTable { .. } => (AreaKind::InodeTable, None),
        Place::Journal { .. } | Place::JournalTree { .. } => (AreaKind::Journal, None),
        Place::Orphans { .. } => (AreaKind::Orphans, None),
        Place::Directory { node, .. } => (AreaKind::Directory, Some(node)),
        Place::Symlink { node } | Place::ExtentTree { node, .. } => {
            (AreaKind::FileMetadata, Some(node))
        }
        Place::Xattrs { .. } => (AreaKind::FileMetadata, None),
        Place::Data { node, .. } => (AreaKind::Data, Some(node)),
        Place::Free => (AreaKind::Free, None),
    }
}
