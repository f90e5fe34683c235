//! From what lies in a block to its bytes.
//!
//! Invariant: rendering needs nothing but the plan, does no I/O and cannot fail.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^32 and offsets within blocks below 2^12, in 64 bits"
)]

use zerocopy::IntoBytes;

use super::alloc::TreeBlocks;
use super::place::Place;
use super::plan::{Ext4Plan, journal_root};
use super::usage;
use crate::formats::ext4::dir::{self, DirEntry, FileType};
use crate::formats::ext4::extent::{self, BLOCK_EXTENTS_MAX, Entries, Extent, ExtentIndex};
use crate::formats::ext4::group_desc::{
    EXT4_BG_BLOCK_UNINIT, EXT4_BG_INODE_UNINIT, GROUP_DESC_SIZE, GroupDesc,
};
use crate::formats::ext4::inode::{
    self, EXT4_EXTENTS_FL, EXT4_IMMUTABLE_FL, EXT4_INDEX_FL, I_BLOCK_LEN, Inode, S_IFBLK, S_IFCHR,
    S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK,
};
use crate::formats::ext4::superblock::PRIMARY_OFFSET;
use crate::formats::ext4::xattr::{self, IN_INODE_LEN};
use crate::formats::ext4::{
    BLOCK_LEN, BLOCK_SIZE, BLOCKS_PER_GROUP, Block, INODE_SIZE, JOURNAL_INODE, RESIZE_INODE,
    ROOT_INODE, htree, journal,
};
use crate::synth::tree::{NodeId, NodeKind, Special};
use crate::units::{low16, low32, to_u64, to_usize};

/// The largest link count that is stored; a directory beyond it stores 1 (kernel `EXT4_LINK_MAX`).
const LINK_MAX: u32 = 65_000;

impl Ext4Plan {
    /// Renders a block of metadata; zeros for blocks of data and free ones.
    pub(super) fn render(&self, place: Place) -> Block {
        match place {
            Place::Superblock { group } => self.render_superblock(group),
            Place::GroupDescriptors { index } => self.render_descriptors(index),
            Place::BlockBitmap { group }
                if self.groups[to_usize(group)].flags & EXT4_BG_BLOCK_UNINIT == 0 =>
            {
                usage::block_bitmap(&self.tree, &self.layout, &self.allocation, group)
            }
            Place::InodeBitmap { group }
                if self.groups[to_usize(group)].flags & EXT4_BG_INODE_UNINIT == 0 =>
            {
                usage::inode_bitmap(&self.layout, &self.allocation, group)
            }
            Place::InodeTable { first_inode, .. } => self.render_inodes(first_inode),
            Place::Indirect => self.render_indirect(),
            Place::Journal { index: 0 } => {
                journal::empty(self.superblock.uuid, low32(self.layout.journal.len()))
            }
            Place::Directory { node, index } => self.render_directory(node, to_usize(index)),
            Place::Symlink { node } => self.render_symlink(node),
            Place::Xattrs { index } => {
                let (attributes, sharers) = self.allocation.xattrs.block(index);
                let block = self.layout.physical(self.layout.xattrs.start + index);
                xattr::block(attributes, sharers, self.seed, block)
            }
            Place::ExtentTree { node, tree, index } => self.render_tree(node, tree, index),
            Place::ReservedGdt { .. }
            | Place::BlockBitmap { .. }
            | Place::InodeBitmap { .. }
            | Place::Journal { .. }
            | Place::Data { .. }
            | Place::Free => [0; BLOCK_LEN],
        }
    }

    /// Primary reserved descriptor blocks point to their copies (e2fsprogs lib/ext2fs/res_gdt.c).
    pub(super) fn render_reserved_gdt(&self, block: u64) -> Block {
        let copies = self
            .layout
            .backup_groups
            .iter()
            .skip(1)
            .map(|group| block + group * BLOCKS_PER_GROUP);
        pointers(copies)
    }

    fn render_superblock(&self, group: u64) -> Block {
        let mut block = [0; BLOCK_LEN];
        let raw = self.superblock.to_raw(low32(group));
        let offset = if group == 0 { PRIMARY_OFFSET } else { 0 };
        block[offset..offset + 1024].copy_from_slice(raw.as_bytes());
        block
    }

    fn render_descriptors(&self, index: u64) -> Block {
        let mut block = [0; BLOCK_LEN];
        let per_block = BLOCK_SIZE / GROUP_DESC_SIZE;
        let groups = (index * per_block)..self.layout.group_count;
        for (slot, group) in block
            .chunks_exact_mut(to_usize(GROUP_DESC_SIZE))
            .zip(groups)
        {
            slot.copy_from_slice(
                self.descriptor(group)
                    .to_raw(self.seed, low32(group))
                    .as_bytes(),
            );
        }
        block
    }

    fn descriptor(&self, group: u64) -> GroupDesc {
        let layout = &self.layout;
        let usage = &self.groups[to_usize(group)];
        let free_blocks = low32(layout.blocks_of_group(group)) - usage.used_blocks;
        let free_inodes = low32(layout.inodes_per_group) - usage.used_inodes;
        GroupDesc {
            block_bitmap: low32(layout.physical(layout.block_bitmaps.start + group)),
            inode_bitmap: low32(layout.physical(layout.inode_bitmaps.start + group)),
            inode_table: low32(layout.physical(layout.inode_tables[to_usize(group)])),
            free_blocks: low16(free_blocks),
            free_inodes: low16(free_inodes),
            directories: low16(usage.directories),
            flags: usage.flags,
            block_bitmap_checksum: usage.block_bitmap_checksum,
            inode_bitmap_checksum: usage.inode_bitmap_checksum,
            unused_inodes: low16(usage.unused_inodes),
        }
    }

    /// The double-indirect block of the resize inode: its entries are the primary reserved blocks, each at its place
    /// modulo the pointers of a block.
    fn render_indirect(&self) -> Block {
        let mut block = [0; BLOCK_LEN];
        let pointers_per_block = BLOCK_SIZE / 4;
        for reserved in 0..self.layout.reserved_gdt_blocks {
            let number = self.layout.descriptor_blocks + reserved;
            let at = to_usize(number % pointers_per_block * 4);
            block[at..at + 4].copy_from_slice(&low32(number + 1).to_le_bytes());
        }
        block
    }

    fn render_inodes(&self, first_inode: u32) -> Block {
        let mut block = [0; BLOCK_LEN];
        for (slot, inode_number) in block
            .chunks_exact_mut(to_usize(INODE_SIZE))
            .zip(first_inode..)
        {
            if let Some(inode) = self.inode(inode_number) {
                slot.copy_from_slice(inode.to_raw(self.seed, inode_number).as_bytes());
            }
        }
        block
    }

    fn inode(&self, inode_number: u32) -> Option<Inode> {
        match inode_number {
            RESIZE_INODE if self.layout.reserved_gdt_blocks > 0 => Some(self.resize_inode()),
            JOURNAL_INODE if self.layout.journal.len() > 0 => Some(self.journal_inode()),
            ROOT_INODE => Some(self.node_inode(NodeId::ROOT)),
            0..=10 => None,
            _ => self
                .allocation
                .node_of_inode(inode_number)
                .map(|id| self.node_inode(id)),
        }
    }

    fn node_inode(&self, id: NodeId) -> Inode {
        let node = self.tree.node(id);
        let blocks = self.allocation.block_count(&self.tree, id);
        let names = low16(node.link_count);
        let (type_bits, size, links) = match node.kind {
            NodeKind::File { size, .. } => (S_IFREG, size, names),
            NodeKind::Symlink(target) => (S_IFLNK, to_u64(target.len()), names),
            NodeKind::Special(special) => (special_type(special), 0, names),
            NodeKind::Directory => {
                // Its own ".", its name, and ".." of each subdirectory; beyond the maximum "unknown" is stored as 1.
                let links = node.link_count.saturating_add(2);
                (
                    S_IFDIR,
                    blocks * BLOCK_SIZE,
                    if links > LINK_MAX { 1 } else { low16(links) },
                )
            }
        };
        let mut flags = 0;
        if node.attributes.immutable {
            flags |= EXT4_IMMUTABLE_FL;
        }
        if self.allocation.indices.contains_key(&id) {
            flags |= EXT4_INDEX_FL;
        }
        let i_block = special_i_block(node.kind).unwrap_or_else(|| {
            flags |= EXT4_EXTENTS_FL;
            self.extent_root(id)
        });
        let tree_blocks = self
            .allocation
            .tree(id)
            .map_or(0, |tree| tree.node_count + tree.leaf_count);
        let xattr_block = self.allocation.xattrs.block_of(id);
        Inode {
            mode: type_bits | node.attributes.mode,
            uid: node.attributes.uid,
            gid: node.attributes.gid,
            size,
            links,
            // Every inode that shares a block of attributes counts it.
            blocks: blocks + tree_blocks + u64::from(xattr_block.is_some()),
            flags,
            i_block,
            seconds: node.attributes.mtime.seconds,
            nanoseconds: node.attributes.mtime.nanoseconds,
            xattr_block: xattr_block.map_or(0, |index| {
                self.layout.physical(self.layout.xattrs.start + index)
            }),
            xattrs: self.allocation.xattrs.in_inode(&node),
        }
    }

    fn journal_inode(&self) -> Inode {
        let blocks = self.layout.journal.len();
        let i_block = journal_root(&self.layout);
        Inode {
            flags: EXT4_EXTENTS_FL,
            ..self.internal_inode(blocks * BLOCK_SIZE, blocks, i_block)
        }
    }

    /// The inode that owns the reserved descriptor blocks; its size covers all a double-indirect block reaches.
    fn resize_inode(&self) -> Inode {
        let pointers = BLOCK_SIZE / 4;
        let size = (pointers * pointers + pointers + 12) * BLOCK_SIZE;
        let copies = to_u64(self.layout.backup_groups.len());
        let mut i_block = [0; I_BLOCK_LEN];
        // EXT2_DIND_BLOCK is the 14th pointer.
        let indirect = low32(self.layout.physical(self.layout.indirect.start));
        i_block[13 * 4..14 * 4].copy_from_slice(&indirect.to_le_bytes());
        self.internal_inode(size, 1 + self.layout.reserved_gdt_blocks * copies, i_block)
    }

    fn internal_inode(&self, size: u64, blocks: u64, i_block: [u8; I_BLOCK_LEN]) -> Inode {
        Inode {
            mode: S_IFREG | 0o600,
            uid: 0,
            gid: 0,
            size,
            links: 1,
            blocks,
            flags: 0,
            i_block,
            seconds: self.time,
            nanoseconds: 0,
            xattr_block: 0,
            xattrs: [0; IN_INODE_LEN],
        }
    }

    fn extents(&self, id: NodeId) -> impl Iterator<Item = Extent> {
        self.allocation.extents(&self.layout, &self.tree, id)
    }

    fn extent_root(&self, id: NodeId) -> [u8; I_BLOCK_LEN] {
        let Some(tree) = self.allocation.tree(id) else {
            let all: Vec<Extent> = self.extents(id).collect();
            return extent::root(Entries::Leaf(&all));
        };
        if tree.node_count == 0 {
            let leaves = self.leaf_indices(id, tree, 0, tree.leaf_count);
            return extent::root(Entries::Index(&leaves, 1));
        }
        let per_node = to_u64(BLOCK_EXTENTS_MAX);
        let nodes: Vec<ExtentIndex> = (0..tree.node_count)
            .map(|index| ExtentIndex {
                file_block: self.first_file_block(id, index * per_node),
                node: self.tree_block(tree, index),
            })
            .collect();
        extent::root(Entries::Index(&nodes, 2))
    }

    fn render_tree(&self, id: NodeId, tree: TreeBlocks, index: u64) -> Block {
        let seed = self.seed.of_inode(self.allocation.inode_number(id));
        let per_node = to_u64(BLOCK_EXTENTS_MAX);
        if index < tree.node_count {
            let start = index * per_node;
            let leaves = self.leaf_indices(id, tree, start, tree.leaf_count.min(start + per_node));
            return extent::node(Entries::Index(&leaves, 1), seed);
        }
        let leaf = index - tree.node_count;
        let extents: Vec<Extent> = self
            .extents(id)
            .skip(to_usize(leaf * per_node))
            .take(BLOCK_EXTENTS_MAX)
            .collect();
        extent::node(Entries::Leaf(&extents), seed)
    }

    fn leaf_indices(&self, id: NodeId, tree: TreeBlocks, start: u64, end: u64) -> Vec<ExtentIndex> {
        // One walk over the extents for all leaves: a fragmented file has hundreds of thousands.
        let firsts = self
            .extents(id)
            .step_by(BLOCK_EXTENTS_MAX)
            .skip(to_usize(start));
        (start..end)
            .zip(firsts)
            .map(|(leaf, first)| ExtentIndex {
                file_block: first.file_block,
                node: self.tree_block(tree, tree.node_count + leaf),
            })
            .collect()
    }

    /// The first block within the file that a leaf of its extent tree covers.
    fn first_file_block(&self, id: NodeId, leaf: u64) -> u32 {
        let first = self.extents(id).nth(to_usize(leaf) * BLOCK_EXTENTS_MAX);
        first
            .expect("leaves are counted by their extents")
            .file_block
    }

    fn tree_block(&self, tree: TreeBlocks, index: u64) -> u64 {
        self.layout
            .physical(self.layout.trees.start + tree.start + index)
    }

    fn render_symlink(&self, id: NodeId) -> Block {
        let mut block = [0; BLOCK_LEN];
        if let NodeKind::Symlink(target) = self.tree.kind(id) {
            block[..target.len()].copy_from_slice(target);
        }
        block
    }

    fn render_directory(&self, id: NodeId, index: usize) -> Block {
        let inode = self.allocation.inode_number(id);
        let parent = self.allocation.inode_number(self.tree.parent(id));
        let seed = self.seed.of_inode(inode);
        let entries = self.tree.entries(id);
        let Some(plan) = self.allocation.indices.get(&id) else {
            if index > 0 {
                return dir::leaf([], seed);
            }
            let directory = |inode, name| DirEntry {
                inode,
                file_type: FileType::Directory,
                name,
            };
            let dots = [
                directory(inode, b".".as_slice()),
                directory(parent, b"..".as_slice()),
            ];
            let names = entries
                .iter()
                .map(|entry| self.dir_entry(entry.node, entry.name));
            return dir::leaf(dots.into_iter().chain(names), seed);
        };
        if index == 0 {
            let levels = u8::from(plan.node_count() > 0);
            return htree::root(inode, parent, levels, &plan.root_children(), seed);
        }
        if index <= plan.node_count() {
            return htree::node(&plan.node_children(index - 1), seed);
        }
        let positions = plan.leaf(index - plan.first_leaf()).iter();
        let names = positions.filter_map(|position| {
            let entry = entries.get(to_usize(u64::from(*position)))?;
            Some(self.dir_entry(entry.node, entry.name))
        });
        dir::leaf(names, seed)
    }

    fn dir_entry<'a>(&self, id: NodeId, name: &'a [u8]) -> DirEntry<'a> {
        let file_type = match self.tree.kind(id) {
            NodeKind::Directory => FileType::Directory,
            NodeKind::File { .. } => FileType::Regular,
            NodeKind::Symlink(_) => FileType::Symlink,
            NodeKind::Special(Special::CharacterDevice(_)) => FileType::CharacterDevice,
            NodeKind::Special(Special::BlockDevice(_)) => FileType::BlockDevice,
            NodeKind::Special(Special::Fifo) => FileType::Fifo,
            NodeKind::Special(Special::Socket) => FileType::Socket,
        };
        DirEntry {
            inode: self.allocation.inode_number(id),
            file_type,
            name,
        }
    }
}

/// `i_block` of what has no extents: short symlinks and special files.
fn special_i_block(kind: NodeKind<'_>) -> Option<[u8; I_BLOCK_LEN]> {
    match kind {
        NodeKind::Symlink(target) if target.len() < I_BLOCK_LEN => {
            let mut bytes = [0; I_BLOCK_LEN];
            bytes[..target.len()].copy_from_slice(target);
            Some(bytes)
        }
        NodeKind::Special(Special::CharacterDevice(number) | Special::BlockDevice(number)) => Some(
            inode::device(number.major, number.minor).expect("the plan checked device numbers"),
        ),
        NodeKind::Special(Special::Fifo | Special::Socket) => Some([0; I_BLOCK_LEN]),
        _ => None,
    }
}

const fn special_type(special: Special) -> u16 {
    match special {
        Special::CharacterDevice(_) => S_IFCHR,
        Special::BlockDevice(_) => S_IFBLK,
        Special::Fifo => S_IFIFO,
        Special::Socket => S_IFSOCK,
    }
}

fn pointers(blocks: impl Iterator<Item = u64>) -> Block {
    let mut block = [0; BLOCK_LEN];
    for (slot, number) in block.chunks_exact_mut(4).zip(blocks) {
        slot.copy_from_slice(&low32(number).to_le_bytes());
    }
    block
}
