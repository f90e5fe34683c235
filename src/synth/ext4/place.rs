//! From a block number to what lies there.
//!
//! Invariant: every block has exactly one place, and a run of places ends where the object or its group does.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^36, in 64 bits"
)]

use super::alloc::TreeBlocks;
use super::layout::Zone;
use super::nesting::Item;
use super::plan::Ext4Plan;
use crate::formats::ext4::group_desc::{EXT4_BG_BLOCK_UNINIT, EXT4_BG_INODE_UNINIT};
use crate::synth::tree::{NodeId, NodeKind};
use crate::units::{low32, to_u64};

/// What lies in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The block before group 0, for the boot sector alone; only with blocks of 1024 bytes.
    Boot,
    /// A superblock; in group 0 of larger blocks the boot sector is in the same block.
    Superblock {
        group: u64,
    },
    /// Group descriptors, those from `index` times as many as fit a block on.
    GroupDescriptors {
        index: u64,
    },
    /// A block kept for the growth of the descriptors.
    ReservedGdt {
        group: u64,
    },
    BlockBitmap {
        group: u64,
    },
    InodeBitmap {
        group: u64,
    },
    /// A block of an inode table, beginning with this inode.
    InodeTable {
        group: u64,
        first_inode: u32,
    },
    /// Pointers to the reserved descriptor blocks.
    Indirect,
    Journal {
        index: u64,
    },
    /// A leaf of the journal's extent tree.
    JournalTree {
        index: u64,
    },
    Orphans {
        index: u64,
    },
    Directory {
        node: NodeId,
        index: u64,
    },
    Symlink {
        node: NodeId,
    },
    /// A block of extended attributes.
    Xattrs {
        index: u64,
    },
    ExtentTree {
        node: NodeId,
        tree: TreeBlocks,
        index: u64,
    },
    /// A block of a file, `index` counted within the file.
    Data {
        node: NodeId,
        index: u64,
    },
    Free,
}

/// A place and how many blocks from here on belong to the same object, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) place: Place,
    pub(super) block_count: u64,
}

impl Ext4Plan {
    /// What lies in a block of the file system.
    pub(super) fn resolve(&self, block: u64) -> Placed {
        let geometry = &self.layout.geometry;
        let Some(in_groups) = block.checked_sub(geometry.first_block()) else {
            return Placed {
                place: Place::Boot,
                block_count: 1,
            };
        };
        let group = in_groups / geometry.blocks_per_group();
        let within = in_groups % geometry.blocks_per_group();
        let header = self.layout.header_blocks_of_group(group);
        if within < header {
            return self.resolve_header(group, within);
        }
        let linear = self.linear(block);
        let mut placed = self.resolve_linear(linear);
        placed.block_count = placed
            .block_count
            .min(self.layout.blocks_of_group(group) - within);
        placed
    }

    /// The linear number of a block that is in no copy.
    fn linear(&self, block: u64) -> u64 {
        let geometry = &self.layout.geometry;
        let in_groups = block - geometry.first_block();
        let group = in_groups / geometry.blocks_per_group();
        let within = in_groups % geometry.blocks_per_group();
        self.layout.linear_start_of_group(group) + within
            - self.layout.header_blocks_of_group(group)
    }

    /// Whether a block is known to be zero, and for how many from there on that answer holds.
    pub(super) fn known_zero(&self, block: u64) -> (bool, u64) {
        let placed = self.resolve(block);
        let (is_zero, count) = self.zero_run(placed);
        if is_zero {
            return (true, count);
        }
        let end = match placed.place {
            // Siblings lie together, and none of their blocks is free.
            Place::Data { node, .. } => {
                self.layout.data.start + self.allocation.end_of_siblings_data(node)
            }
            Place::Directory { node, .. } | Place::Symlink { node } => {
                self.layout.metadata.start + self.allocation.end_of_siblings_metadata(node)
            }
            Place::InodeTable { first_inode, .. } => {
                let inodes_per_block = self.layout.geometry.inodes_per_block();
                let mut used = self.allocation.inodes_from(first_inode.into());
                let last = used.next().map_or(0, |(_, end)| end - 1);
                let blocks = last.saturating_sub(first_inode.into()) / inodes_per_block + 1;
                return (false, blocks.clamp(count, placed.block_count));
            }
            _ => return (false, count),
        };
        let linear = self.linear(block);
        let len = (end - linear).min(self.layout.contiguous_from(linear));
        (false, len)
    }

    fn resolve_header(&self, group: u64, within: u64) -> Placed {
        let descriptors = self.layout.descriptor_blocks;
        let (place, end) = if within == 0 {
            (Place::Superblock { group }, 1)
        } else if within <= descriptors {
            (
                Place::GroupDescriptors { index: within - 1 },
                descriptors + 1,
            )
        } else {
            (Place::ReservedGdt { group }, self.layout.header_blocks())
        };
        Placed {
            place,
            block_count: end - within,
        }
    }

    fn resolve_linear(&self, linear: u64) -> Placed {
        let layout = &self.layout;
        let in_zone = |zone: Zone, place: fn(u64) -> Place| Placed {
            place: place(linear - zone.start),
            block_count: zone.end - linear,
        };
        if layout.data.contains(linear) {
            self.resolve_item(layout.data, linear)
        } else if layout.metadata.contains(linear) {
            self.resolve_item(layout.metadata, linear)
        } else if layout.block_bitmaps.contains(linear) {
            in_zone(layout.block_bitmaps, |group| Place::BlockBitmap { group })
        } else if layout.inode_bitmaps.contains(linear) {
            in_zone(layout.inode_bitmaps, |group| Place::InodeBitmap { group })
        } else if layout.journal.contains(linear) {
            in_zone(layout.journal, |index| Place::Journal { index })
        } else if layout.journal_tree.contains(linear) {
            in_zone(layout.journal_tree, |index| Place::JournalTree { index })
        } else if layout.orphan.contains(linear) {
            in_zone(layout.orphan, |index| Place::Orphans { index })
        } else if layout.indirect.contains(linear) {
            in_zone(layout.indirect, |_| Place::Indirect)
        } else if layout.xattrs.contains(linear) {
            in_zone(layout.xattrs, |index| Place::Xattrs { index })
        } else if layout.trees.contains(linear) {
            self.resolve_tree(linear)
        } else if layout.xattr_slack().contains(linear) {
            in_zone(layout.xattr_slack(), |_| Place::Free)
        } else if linear >= layout.trees.end {
            Placed {
                place: Place::Free,
                block_count: u64::MAX,
            }
        } else {
            self.resolve_inode_table(linear)
        }
    }

    /// A block of the inode tables, or of what was skipped to keep one contiguous.
    fn resolve_inode_table(&self, linear: u64) -> Placed {
        let layout = &self.layout;
        let next = layout
            .inode_tables
            .partition_point(|start| *start <= linear);
        let group = next
            .checked_sub(1)
            .expect("the first table begins behind the bitmaps");
        let index = linear - layout.inode_tables[group];
        if index < layout.inode_table_blocks() {
            let group = to_u64(group);
            let first_inode = low32(
                group * layout.inodes_per_group + index * layout.geometry.inodes_per_block() + 1,
            );
            let block_count = layout.inode_table_blocks() - index;
            return Placed {
                place: Place::InodeTable { group, first_inode },
                block_count,
            };
        }
        let gap_end = layout
            .inode_tables
            .get(next)
            .copied()
            .unwrap_or(layout.indirect.start);
        Placed {
            place: Place::Free,
            block_count: gap_end - linear,
        }
    }

    /// A block of a file, directory or symlink, or of the slack behind one.
    fn resolve_item(&self, zone: Zone, linear: u64) -> Placed {
        let relative = linear - zone.start;
        let item = if zone == self.layout.data {
            next_item(self.allocation.data_from(&self.tree, relative), relative)
        } else {
            next_item(
                self.allocation.metadata_from(&self.tree, relative),
                relative,
            )
        };
        let Some(Item {
            node: id,
            start,
            len,
        }) = item.filter(|item| item.start <= relative)
        else {
            let gap_end = item.map_or(zone.len(), |item| item.start);
            return Placed {
                place: Place::Free,
                block_count: gap_end - relative,
            };
        };
        let offset = relative - start;
        let mut block_count = len - offset;
        let place = match self.tree.kind(id) {
            NodeKind::File {
                ranges: Some(ranges),
                ..
            } => {
                let next = ranges.partition_point(|range| u64::from(range.before) <= offset);
                let range = ranges[next - 1];
                let within = offset - u64::from(range.before);
                block_count = u64::from(range.len) - within;
                Place::Data {
                    node: id,
                    index: u64::from(range.file_block) + within,
                }
            }
            NodeKind::File { .. } => Place::Data {
                node: id,
                index: offset,
            },
            NodeKind::Directory => Place::Directory {
                node: id,
                index: offset,
            },
            NodeKind::Symlink(_) => Place::Symlink { node: id },
            NodeKind::Special(_) => Place::Free,
        };
        Placed { place, block_count }
    }

    fn resolve_tree(&self, linear: u64) -> Placed {
        let relative = linear - self.layout.trees.start;
        let (node, tree) = self
            .allocation
            .tree_with_block(relative)
            .expect("the zone holds extent trees and nothing else");
        let index = relative - tree.start;
        Placed {
            place: Place::ExtentTree { node, tree, index },
            block_count: tree.node_count + tree.leaf_count - index,
        }
    }

    /// Blocks from a place on that are zero, or that are not: `(zero, count)`, at most `placed.block_count`.
    pub(super) fn zero_run(&self, placed: Placed) -> (bool, u64) {
        let all = placed.block_count;
        let uninit = |group, flag| {
            let (uninit, count) = self.groups.uninit_run(group, flag);
            (uninit, count.min(all))
        };
        match placed.place {
            Place::Free => (true, all),
            Place::Journal { index: 0 } => (false, 1),
            Place::Journal { .. } => (true, all),
            Place::ReservedGdt { group } => {
                (group != 0 || self.layout.backup_groups.len() == 1, all)
            }
            Place::BlockBitmap { group } => uninit(group, EXT4_BG_BLOCK_UNINIT),
            Place::InodeBitmap { group } => uninit(group, EXT4_BG_INODE_UNINIT),
            Place::InodeTable { first_inode, .. } => self.zero_run_of_table(first_inode, all),
            _ => (false, all),
        }
    }

    fn zero_run_of_table(&self, first_inode: u32, max: u64) -> (bool, u64) {
        // The file system's own inodes count as used, the reserved ones among them that are zero.
        if first_inode <= self.layout.last_own_inode() {
            return (false, 1);
        }
        match self.allocation.next_used_inode(first_inode) {
            None => (true, max),
            Some(used) => {
                let inodes_per_block = self.layout.geometry.inodes_per_block();
                let zero_blocks = u64::from(used - first_inode) / inodes_per_block;
                if zero_blocks == 0 {
                    (false, 1)
                } else {
                    (true, zero_blocks.min(max))
                }
            }
        }
    }
}

/// The first item that ends behind a position.
fn next_item(mut items: impl Iterator<Item = Item>, position: u64) -> Option<Item> {
    items.find(|item| item.start + item.len > position)
}
