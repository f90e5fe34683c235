//! Which blocks and inodes are in use, group by group: bitmaps, their checksums and the counts of descriptors.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^32 and inode numbers of a group below 2^15, in 64 bits"
)]

use super::alloc::Allocation;
use super::layout::{Layout, Zone};
use super::nesting::Item;
use crate::formats::ext4::bitmap::{count_set, set_range};
use crate::formats::ext4::checksum::Checksum;
use crate::formats::ext4::group_desc::{
    EXT4_BG_BLOCK_UNINIT, EXT4_BG_INODE_UNINIT, EXT4_BG_INODE_ZEROED,
};
use crate::formats::ext4::{BLOCK_LEN, BLOCKS_PER_GROUP, Block, FIRST_INODE};
use crate::synth::tree::{NodeKind, Tree};
use crate::units::{to_u64, to_usize};

/// What a group descriptor says of its group's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct GroupUsage {
    pub(super) used_blocks: u32,
    pub(super) used_inodes: u32,
    /// Inodes behind the last used one.
    pub(super) unused_inodes: u32,
    pub(super) directories: u32,
    pub(super) flags: u16,
    pub(super) block_bitmap_checksum: u16,
    pub(super) inode_bitmap_checksum: u16,
}

/// Counts and checksums of all groups.
pub(super) fn of_groups(
    tree: &Tree,
    layout: &Layout,
    allocation: &Allocation,
    seed: Checksum,
) -> Vec<GroupUsage> {
    let mut groups: Vec<GroupUsage> = (0..layout.group_count)
        .map(|group| {
            let mut usage = GroupUsage {
                flags: EXT4_BG_INODE_ZEROED,
                ..GroupUsage::default()
            };
            count_blocks(&mut usage, tree, layout, allocation, seed, group);
            count_inodes(&mut usage, layout, allocation, seed, group);
            usage
        })
        .collect();
    for (id, node) in tree.nodes() {
        if matches!(node.kind, NodeKind::Directory) {
            let inode_number = u64::from(allocation.inode_number(id));
            let group = (inode_number - 1) / layout.inodes_per_group;
            groups[to_usize(group)].directories += 1;
        }
    }
    groups
}

fn count_blocks(
    usage: &mut GroupUsage,
    tree: &Tree,
    layout: &Layout,
    allocation: &Allocation,
    seed: Checksum,
    group: u64,
) {
    let header = layout.header_blocks_of_group(group);
    // The kernel makes up the bitmap of such a group from the group's own copies; the first and the last group are
    // never left to it (kernel fs/ext4/balloc.c, e2fsprogs e2fsck/super.c).
    let may_be_uninit = group != 0 && group != layout.group_count - 1;
    if may_be_uninit && !any_used(tree, layout, allocation, group) {
        usage.used_blocks = count_u32(header);
        usage.flags |= EXT4_BG_BLOCK_UNINIT;
        return;
    }
    let bitmap = block_bitmap(tree, layout, allocation, group);
    let padding = BLOCKS_PER_GROUP - layout.blocks_of_group(group);
    usage.used_blocks = count_set(&bitmap) - count_u32(padding);
    usage.block_bitmap_checksum = seed.update(&bitmap).low16();
}

fn count_inodes(
    usage: &mut GroupUsage,
    layout: &Layout,
    allocation: &Allocation,
    seed: Checksum,
    group: u64,
) {
    let inodes_per_group = count_u32(layout.inodes_per_group);
    let bitmap = inode_bitmap(layout, allocation, group);
    let bits = &bitmap[..to_usize(layout.inodes_per_group / 8)];
    usage.used_inodes = bits.iter().map(|byte| byte.count_ones()).sum();
    let last_used = bits.iter().rposition(|byte| *byte != 0).map_or(0, |index| {
        let bits_before = count_u32(to_u64(index) * 8);
        bits_before + u8::BITS - bits[index].leading_zeros()
    });
    usage.unused_inodes = inodes_per_group - last_used;
    if usage.used_inodes == 0 && group != 0 {
        usage.flags |= EXT4_BG_INODE_UNINIT;
    } else {
        usage.inode_bitmap_checksum = seed.update(bits).low16();
    }
}

/// The block bitmap of a group; bits beyond the end of the file system are set.
pub(super) fn block_bitmap(
    tree: &Tree,
    layout: &Layout,
    allocation: &Allocation,
    group: u64,
) -> Block {
    let mut bitmap = [0; BLOCK_LEN];
    let header = layout.header_blocks_of_group(group);
    set_range(&mut bitmap, 0, to_usize(header));
    let blocks = layout.blocks_of_group(group);
    set_range(&mut bitmap, to_usize(blocks), to_usize(BLOCKS_PER_GROUP));
    let linear = group_zone(layout, group);
    for_each_used(tree, layout, allocation, linear, |used| {
        let bit = |at: u64| to_usize(at - linear.start + header);
        set_range(&mut bitmap, bit(used.start), bit(used.end));
        true
    });
    bitmap
}

/// The inode bitmap of a group; bits beyond the group's inodes are set.
pub(super) fn inode_bitmap(layout: &Layout, allocation: &Allocation, group: u64) -> Block {
    let mut bitmap = [0; BLOCK_LEN];
    set_range(
        &mut bitmap,
        to_usize(layout.inodes_per_group),
        BLOCK_LEN * 8,
    );
    let first = group * layout.inodes_per_group + 1;
    let end = first + layout.inodes_per_group;
    let bit = |inode: u64| to_usize(inode - first);
    if group == 0 {
        // The reserved inodes and lost+found.
        set_range(&mut bitmap, 0, bit(u64::from(FIRST_INODE) + 1));
    }
    for (start, used_end) in allocation
        .inodes_from(first)
        .take_while(|(start, _)| *start < end)
    {
        set_range(&mut bitmap, bit(start.max(first)), bit(used_end.min(end)));
    }
    bitmap
}

/// The linear blocks of a group.
fn group_zone(layout: &Layout, group: u64) -> Zone {
    let start = layout.linear_start_of_group(group);
    let len = layout
        .blocks_of_group(group)
        .saturating_sub(layout.header_blocks_of_group(group));
    Zone {
        start,
        end: start + len,
    }
}

fn any_used(tree: &Tree, layout: &Layout, allocation: &Allocation, group: u64) -> bool {
    let mut any = false;
    for_each_used(tree, layout, allocation, group_zone(layout, group), |_| {
        any = true;
        false
    });
    any
}

/// Calls `visit` for every used range within `within`, clipped to it, until it answers `false`.
fn for_each_used(
    tree: &Tree,
    layout: &Layout,
    allocation: &Allocation,
    within: Zone,
    mut visit: impl FnMut(Zone) -> bool,
) {
    let mut clipped = |zone: Zone| {
        let used = Zone {
            start: zone.start.max(within.start),
            end: zone.end.min(within.end),
        };
        used.start >= used.end || visit(used)
    };
    for zone in [
        layout.block_bitmaps,
        layout.inode_bitmaps,
        layout.indirect,
        layout.journal,
        layout.xattrs,
        layout.trees,
    ] {
        if !clipped(zone) {
            return;
        }
    }
    let table_blocks = layout.inode_table_blocks();
    let first_table = layout
        .inode_tables
        .partition_point(|start| start + table_blocks <= within.start);
    for start in layout
        .inode_tables
        .iter()
        .skip(first_table)
        .take_while(|start| **start < within.end)
    {
        if !clipped(Zone {
            start: *start,
            end: start + table_blocks,
        }) {
            return;
        }
    }
    for (zone, is_data) in [(layout.metadata, false), (layout.data, true)] {
        if zone.start >= within.end || zone.end <= within.start {
            continue;
        }
        let from = within.start.saturating_sub(zone.start);
        let mut visit_item = |item: Item| {
            clipped(Zone {
                start: zone.start + item.start,
                end: zone.start + item.start + item.len,
            })
        };
        let inside = |item: &Item| zone.start + item.start < within.end;
        let go_on = if is_data {
            let mut items = allocation.data_from(tree, from).take_while(inside);
            items.all(&mut visit_item)
        } else {
            let mut items = allocation.metadata_from(tree, from).take_while(inside);
            items.all(&mut visit_item)
        };
        if !go_on {
            return;
        }
    }
}

fn count_u32(count: u64) -> u32 {
    u32::try_from(count).expect("counts of a group are below 2^16")
}
