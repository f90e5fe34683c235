//! From what lies in a block to its bytes.
//!
//! Invariant: rendering needs nothing but the plan, does no I/O and cannot fail.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^36 and offsets within blocks below 2^12, in 64 bits"
)]

use std::ops::Range;

use zerocopy::IntoBytes;

use super::alloc::{ExtentTree, TreeBlocks, extents};
use super::layout::{Layout, Zone};
use super::place::Place;
use super::plan::Ext4Plan;
use super::usage;
use crate::formats::ext4::checksum::Checksum;
use crate::formats::ext4::dir::{self, DirEntry, FileType};
use crate::formats::ext4::extent::{
    self, Entries, Extent, ExtentIndex, INLINE_EXTENTS_MAX, block_extents_max,
};
use crate::formats::ext4::geometry::Checksums;
use crate::formats::ext4::group_desc::{
    DescriptorSeed, EXT4_BG_BLOCK_UNINIT, EXT4_BG_INODE_UNINIT, GroupDesc,
};
use crate::formats::ext4::inode::{
    self, EXT4_EXTENTS_FL, EXT4_IMMUTABLE_FL, EXT4_INDEX_FL, I_BLOCK_LEN, Inode, S_IFBLK, S_IFCHR,
    S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK,
};
use crate::formats::ext4::superblock::SUPERBLOCK_LEN;
use crate::formats::ext4::{
    JOURNAL_INODE, ORPHAN_INODE, RESIZE_INODE, ROOT_INODE, htree, journal, orphan, xattr,
};
use crate::synth::tree::{NodeId, NodeKind, Special};
use crate::units::{low16, low32, to_u64, to_usize};

/// The largest link count that is stored; a directory beyond it stores 1 (kernel `EXT4_LINK_MAX`).
const LINK_MAX: u32 = 65_000;

impl Ext4Plan {
    /// Renders a block of metadata into zeros of a block's length; leaves them for blocks of data and free ones.
    /// `number` is the block's own.
    pub(super) fn render(&self, place: Place, number: u64, block: &mut [u8]) {
        match place {
            Place::Superblock { group } => self.render_superblock(group, block),
            Place::GroupDescriptors { index } => self.render_descriptors(index, block),
            // The copies are never written to.
            Place::ReservedGdt { group: 0 } => self.render_reserved_gdt(number, block),
            Place::BlockBitmap { group }
                if self.groups.of(group).flags & EXT4_BG_BLOCK_UNINIT == 0 =>
            {
                usage::block_bitmap(block, &self.layout, &self.allocation, group);
            }
            Place::InodeBitmap { group }
                if self.groups.of(group).flags & EXT4_BG_INODE_UNINIT == 0 =>
            {
                usage::inode_bitmap(block, &self.layout, &self.allocation, group);
            }
            Place::InodeTable { first_inode, .. } => self.render_inodes(first_inode, block),
            Place::Indirect => self.render_indirect(block),
            Place::Journal { index: 0 } => {
                let len = low32(self.layout.journal.len());
                journal::empty(block, self.superblock.uuid, len);
            }
            Place::JournalTree { index } => self.render_journal_tree(index, block),
            Place::Orphans { .. } => orphan::empty(block, self.seed_of(ORPHAN_INODE), number),
            Place::Directory { node, index } => {
                self.render_directory(node, to_usize(index), block);
            }
            Place::Symlink { node } => self.render_symlink(node, block),
            Place::Xattrs { index } => {
                let (attributes, sharers) = self.allocation.xattrs.block(index);
                xattr::block(block, attributes, sharers, self.seed(), number);
            }
            Place::ExtentTree { node, tree, index } => self.render_tree(node, tree, index, block),
            Place::Boot
            | Place::ReservedGdt { .. }
            | Place::BlockBitmap { .. }
            | Place::InodeBitmap { .. }
            | Place::Journal { .. }
            | Place::Data { .. }
            | Place::Free => {}
        }
    }

    /// The seed of checksums, if structures have them.
    fn seed(&self) -> Option<Checksum> {
        self.layout.geometry.has_checksums().then_some(self.seed)
    }

    /// The seed of an inode's own structures.
    fn seed_of(&self, inode_number: u32) -> Option<Checksum> {
        self.seed().map(|seed| seed.of_inode(inode_number))
    }

    /// Primary reserved descriptor blocks point to their copies (e2fsprogs lib/ext2fs/res_gdt.c).
    fn render_reserved_gdt(&self, number: u64, block: &mut [u8]) {
        let blocks_per_group = self.layout.geometry.blocks_per_group();
        let copies = self.layout.backup_groups.iter().skip(1);
        for (slot, group) in block.chunks_exact_mut(4).zip(copies) {
            let copy = number + group * blocks_per_group;
            slot.copy_from_slice(&low32(copy).to_le_bytes());
        }
    }

    fn render_superblock(&self, group: u64, block: &mut [u8]) {
        let raw = self.superblock.to_raw(low32(group));
        let offset = to_usize(self.layout.superblock_offset(group));
        block[offset..][..SUPERBLOCK_LEN].copy_from_slice(raw.as_bytes());
    }

    fn render_descriptors(&self, index: u64, block: &mut [u8]) {
        let geometry = &self.layout.geometry;
        let first = index * geometry.descriptors_per_block();
        let seed = match geometry.features.checksums {
            Checksums::Metadata => DescriptorSeed::Crc32c(self.seed),
            Checksums::Descriptors => DescriptorSeed::Crc16(self.superblock.uuid),
        };
        for (slot, group) in block
            .chunks_exact_mut(to_usize(geometry.descriptor_size()))
            .zip(first..self.layout.group_count)
        {
            self.descriptor(group).write(slot, seed, low32(group));
        }
    }

    fn descriptor(&self, group: u64) -> GroupDesc {
        let layout = &self.layout;
        let usage = self.groups.of(group);
        let free_blocks = low32(layout.blocks_of_group(group)) - usage.used_blocks;
        let free_inodes = low32(layout.inodes_per_group) - usage.used_inodes;
        GroupDesc {
            block_bitmap: layout.physical(layout.block_bitmaps.start + group),
            inode_bitmap: layout.physical(layout.inode_bitmaps.start + group),
            inode_table: layout.physical(layout.inode_tables[to_usize(group)]),
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
    fn render_indirect(&self, block: &mut [u8]) {
        let geometry = &self.layout.geometry;
        for reserved in 0..self.layout.reserved_gdt_blocks {
            let number = self.layout.descriptor_blocks + reserved;
            let at = to_usize(number % geometry.pointers_per_block() * 4);
            let pointer = low32(geometry.first_block() + 1 + number);
            block[at..at + 4].copy_from_slice(&pointer.to_le_bytes());
        }
    }

    fn render_inodes(&self, first_inode: u32, block: &mut [u8]) {
        let geometry = &self.layout.geometry;
        for (slot, inode_number) in block
            .chunks_exact_mut(geometry.inode_len())
            .zip(first_inode..)
        {
            if let Some(inode) = self.inode(inode_number) {
                inode.write(slot, geometry, self.seed_of(inode_number));
            }
        }
    }

    fn inode(&self, inode_number: u32) -> Option<Inode<'_>> {
        match inode_number {
            RESIZE_INODE if self.layout.reserved_gdt_blocks > 0 => Some(self.resize_inode()),
            JOURNAL_INODE if self.layout.journal.len() > 0 => {
                Some(self.internal_file(self.layout.journal, self.layout.journal_tree))
            }
            ROOT_INODE => Some(self.node_inode(NodeId::ROOT)),
            ORPHAN_INODE if self.layout.orphan.len() > 0 => {
                Some(self.internal_file(self.layout.orphan, Zone::default()))
            }
            0..=10 => None,
            _ => self
                .allocation
                .node_of_inode(inode_number)
                .map(|id| self.node_inode(id)),
        }
    }

    fn node_inode(&self, id: NodeId) -> Inode<'_> {
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
                    blocks * self.layout.geometry.block_size(),
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
            .map_or(0, |tree| tree.blocks.node_count + tree.blocks.leaf_count);
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

    /// The inode of the journal or the orphan file.
    fn internal_file(&self, contents: Zone, tree: Zone) -> Inode<'static> {
        let blocks = contents.len();
        let size = blocks * self.layout.geometry.block_size();
        Inode {
            flags: EXT4_EXTENTS_FL,
            ..self.internal_inode(
                size,
                blocks + tree.len(),
                zone_root(&self.layout, contents, tree),
            )
        }
    }

    /// The inode that owns the reserved descriptor blocks; its size covers all a double-indirect block reaches.
    fn resize_inode(&self) -> Inode<'static> {
        let geometry = &self.layout.geometry;
        let pointers = geometry.pointers_per_block();
        let size = (pointers * pointers + pointers + 12) * geometry.block_size();
        let copies = to_u64(self.layout.backup_groups.len());
        let mut i_block = [0; I_BLOCK_LEN];
        // EXT2_DIND_BLOCK is the 14th pointer.
        let indirect = low32(self.layout.physical(self.layout.indirect.start));
        i_block[13 * 4..14 * 4].copy_from_slice(&indirect.to_le_bytes());
        self.internal_inode(size, 1 + self.layout.reserved_gdt_blocks * copies, i_block)
    }

    fn internal_inode(&self, size: u64, blocks: u64, i_block: [u8; I_BLOCK_LEN]) -> Inode<'static> {
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
            xattrs: &[],
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
        let levels = tree.blocks.levels(self.extents_per_block());
        let top = levels.len() - 1;
        let blocks = self.tree_indices(tree, &levels, top, 0..levels[top]);
        let depth = low16(low32(to_u64(levels.len())));
        extent::root(Entries::Index(&blocks, depth))
    }

    fn render_tree(&self, id: NodeId, blocks: TreeBlocks, index: u64, block: &mut [u8]) {
        let seed = self.seed_of(self.allocation.inode_number(id));
        let tree = self
            .allocation
            .tree(id)
            .expect("the plan placed its blocks");
        let per_node = self.extents_per_block();
        let levels = blocks.levels(per_node);
        // The highest level comes first.
        let mut level = levels.len() - 1;
        let mut within = index;
        while within >= levels[level] {
            within -= levels[level];
            level -= 1;
        }
        if level > 0 {
            let start = within * to_u64(per_node);
            let end = levels[level - 1].min(start + to_u64(per_node));
            let below = self.tree_indices(tree, &levels, level - 1, start..end);
            let depth = low16(low32(to_u64(level)));
            extent::node(block, Entries::Index(&below, depth), seed);
            return;
        }
        let leaf = tree.leaves[to_usize(within)];
        let extents: Vec<Extent> = self
            .allocation
            .extents_from_leaf(&self.layout, &self.tree, id, leaf)
            .take(per_node)
            .collect();
        extent::node(block, Entries::Leaf(&extents), seed);
    }

    /// What leads to some blocks of a level, 0 being that of the leaves.
    fn tree_indices(
        &self,
        tree: &ExtentTree,
        levels: &[u64],
        level: usize,
        blocks: Range<u64>,
    ) -> Vec<ExtentIndex> {
        let before: u64 = levels[level + 1..].iter().sum();
        let leaves_of_each = (0..level).fold(1, |leaves, _| leaves * self.extents_per_block());
        let first_leaf = to_usize(blocks.start) * leaves_of_each;
        blocks
            .zip(tree.leaves[first_leaf..].iter().step_by(leaves_of_each))
            .map(|(block, leaf)| ExtentIndex {
                file_block: leaf.file_block,
                node: self.tree_block(tree.blocks, before + block),
            })
            .collect()
    }

    fn extents_per_block(&self) -> usize {
        block_extents_max(&self.layout.geometry)
    }

    fn render_journal_tree(&self, index: u64, block: &mut [u8]) {
        let per_node = self.extents_per_block();
        let leaf: Vec<Extent> = extents(&self.layout, self.layout.journal)
            .skip(to_usize(index) * per_node)
            .take(per_node)
            .collect();
        extent::node(block, Entries::Leaf(&leaf), self.seed_of(JOURNAL_INODE));
    }

    fn tree_block(&self, tree: TreeBlocks, index: u64) -> u64 {
        self.layout
            .physical(self.layout.trees.start + tree.start + index)
    }

    fn render_symlink(&self, id: NodeId, block: &mut [u8]) {
        if let NodeKind::Symlink(target) = self.tree.kind(id) {
            block[..target.len()].copy_from_slice(target);
        }
    }

    fn render_directory(&self, id: NodeId, index: usize, block: &mut [u8]) {
        let inode = self.allocation.inode_number(id);
        let parent = self.allocation.inode_number(self.tree.parent(id));
        let seed = self.seed_of(inode);
        let entries = self.tree.entries(id);
        let Some(plan) = self.allocation.indices.get(&id) else {
            if index > 0 {
                dir::leaf(block, [], seed);
                return;
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
            dir::leaf(block, dots.into_iter().chain(names), seed);
            return;
        };
        if index == 0 {
            let levels = u8::from(plan.node_count() > 0);
            htree::root(block, (inode, parent), levels, &plan.root_children(), seed);
        } else if index <= plan.node_count() {
            htree::node(block, &plan.node_children(index - 1), seed);
        } else {
            let positions = plan.leaf(index - plan.first_leaf()).iter();
            let names = positions.filter_map(|position| {
                let entry = entries.get(to_usize(u64::from(*position)))?;
                Some(self.dir_entry(entry.node, entry.name))
            });
            dir::leaf(block, names, seed);
        }
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

/// The root of the extents of consecutive linear blocks, whose leaves are `tree` if they do not fit the inode.
pub(super) fn zone_root(layout: &Layout, contents: Zone, tree: Zone) -> [u8; I_BLOCK_LEN] {
    let all = extents(layout, contents);
    if tree.len() == 0 {
        let all: Vec<Extent> = all.take(INLINE_EXTENTS_MAX).collect();
        return extent::root(Entries::Leaf(&all));
    }
    let leaves: Vec<ExtentIndex> = all
        .step_by(block_extents_max(&layout.geometry))
        .zip(tree.start..tree.end)
        .map(|(first, block)| ExtentIndex {
            file_block: first.file_block,
            node: layout.physical(block),
        })
        .collect();
    extent::root(Entries::Index(&leaves, 1))
}
