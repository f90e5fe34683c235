//! Which blocks and inodes are in use, group by group: bitmaps, their checksums and the counts of descriptors.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^36 and inode numbers of a group below 2^15, in 64 bits"
)]

use super::alloc::Allocation;
use super::layout::{Layout, Zone};
use crate::formats::ext4::bitmap::{count_set, set_range};
use crate::formats::ext4::checksum::Checksum;
use crate::formats::ext4::geometry::BLOCK_LEN_MAX;
use crate::formats::ext4::group_desc::{
    EXT4_BG_BLOCK_UNINIT, EXT4_BG_INODE_UNINIT, EXT4_BG_INODE_ZEROED,
};
use crate::synth::tree::{NodeKind, Tree};
use crate::units::{low32, to_u64, to_usize};

/// What a group descriptor says of its group's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct GroupUsage {
    pub(super) used_blocks: u32,
    pub(super) used_inodes: u32,
    /// Inodes behind the last used one.
    pub(super) unused_inodes: u32,
    pub(super) directories: u32,
    pub(super) flags: u16,
    pub(super) block_bitmap_checksum: u32,
    pub(super) inode_bitmap_checksum: u32,
}

/// Counts and checksums of all groups.
#[derive(Debug)]
pub(super) struct Groups {
    usage: Vec<GroupUsage>,
    /// First groups of runs that agree in [`EXT4_BG_BLOCK_UNINIT`].
    block_runs: Vec<u32>,
    /// The same for [`EXT4_BG_INODE_UNINIT`].
    inode_runs: Vec<u32>,
}

impl Groups {
    /// Looks at all groups. Only those in use cost more than a few comparisons: a large file system has a hundred
    /// thousand others.
    pub(super) fn new(
        tree: &Tree,
        layout: &Layout,
        allocation: &Allocation,
        seed: Option<Checksum>,
    ) -> Self {
        let mut usage: Vec<GroupUsage> = (0..layout.group_count)
            .map(|group| {
                let mut usage = GroupUsage {
                    flags: EXT4_BG_INODE_ZEROED,
                    ..GroupUsage::default()
                };
                count_blocks(&mut usage, layout, allocation, seed, group);
                count_inodes(&mut usage, layout, allocation, seed, group);
                usage
            })
            .collect();
        for (id, node) in tree.nodes() {
            if matches!(node.kind, NodeKind::Directory) {
                let inode_number = u64::from(allocation.inode_number(id));
                let group = (inode_number - 1) / layout.inodes_per_group;
                usage[to_usize(group)].directories += 1;
            }
        }
        Self {
            block_runs: runs(&usage, EXT4_BG_BLOCK_UNINIT),
            inode_runs: runs(&usage, EXT4_BG_INODE_UNINIT),
            usage,
        }
    }

    /// What there is to tell of a group.
    pub(super) fn of(&self, group: u64) -> &GroupUsage {
        &self.usage[to_usize(group)]
    }

    /// Used blocks and inodes of all groups.
    pub(super) fn used(&self) -> (u64, u64) {
        let sum =
            |of: fn(&GroupUsage) -> u32| self.usage.iter().map(|usage| u64::from(of(usage))).sum();
        (
            sum(|usage| usage.used_blocks),
            sum(|usage| usage.used_inodes),
        )
    }

    /// Whether a group's bitmap of blocks or, with [`EXT4_BG_INODE_UNINIT`], of inodes is not initialised; and how many
    /// groups from it on agree.
    pub(super) fn uninit_run(&self, group: u64, flag: u16) -> (bool, u64) {
        let runs = if flag == EXT4_BG_BLOCK_UNINIT {
            &self.block_runs
        } else {
            &self.inode_runs
        };
        let next = runs.partition_point(|start| u64::from(*start) <= group);
        let end = runs
            .get(next)
            .map_or(to_u64(self.usage.len()), |start| u64::from(*start));
        (self.of(group).flags & flag != 0, end - group)
    }
}

/// First groups of runs that agree in a flag.
fn runs(usage: &[GroupUsage], flag: u16) -> Vec<u32> {
    let mut starts = Vec::new();
    let mut previous = None;
    for (usage, group) in usage.iter().zip(0_u32..) {
        let set = usage.flags & flag != 0;
        if previous != Some(set) {
            starts.push(group);
            previous = Some(set);
        }
    }
    starts
}

fn count_blocks(
    usage: &mut GroupUsage,
    layout: &Layout,
    allocation: &Allocation,
    seed: Option<Checksum>,
    group: u64,
) {
    let header = layout.header_blocks_of_group(group);
    // The kernel makes up the bitmap of such a group from the group's own copies; the first and the last group are
    // never left to it (kernel fs/ext4/balloc.c, e2fsprogs e2fsck/super.c).
    let may_be_uninit = group != 0 && group != layout.group_count - 1;
    if may_be_uninit && !any_used(layout, allocation, group) {
        usage.used_blocks = low32(header);
        usage.flags |= EXT4_BG_BLOCK_UNINIT;
        return;
    }
    let mut block = [0; BLOCK_LEN_MAX];
    let bitmap = &mut block[..layout.geometry.block_len()];
    block_bitmap(bitmap, layout, allocation, group);
    let padding = layout.geometry.blocks_per_group() - layout.blocks_of_group(group);
    usage.used_blocks = count_set(bitmap) - low32(padding);
    usage.block_bitmap_checksum = seed.map_or(0, |seed| seed.update(bitmap).value());
}

fn count_inodes(
    usage: &mut GroupUsage,
    layout: &Layout,
    allocation: &Allocation,
    seed: Option<Checksum>,
    group: u64,
) {
    let inodes_per_group = low32(layout.inodes_per_group);
    let first = group * layout.inodes_per_group + 1;
    let next_used = allocation.next_used_inode(low32(first));
    let end = first + layout.inodes_per_group;
    if group != 0 && next_used.is_none_or(|used| u64::from(used) >= end) {
        usage.unused_inodes = inodes_per_group;
        usage.flags |= EXT4_BG_INODE_UNINIT;
        return;
    }
    let mut block = [0; BLOCK_LEN_MAX];
    let bitmap = &mut block[..layout.geometry.block_len()];
    inode_bitmap(bitmap, layout, allocation, group);
    let bits = &bitmap[..to_usize(layout.inodes_per_group / 8)];
    usage.used_inodes = count_set(bits);
    let last_used = bits.iter().rposition(|byte| *byte != 0).map_or(0, |index| {
        let bits_before = low32(to_u64(index) * 8);
        bits_before + u8::BITS - bits[index].leading_zeros()
    });
    usage.unused_inodes = inodes_per_group - last_used;
    usage.inode_bitmap_checksum = seed.map_or(0, |seed| seed.update(bits).value());
}

/// Writes the block bitmap of a group into zeros; bits beyond the end of the file system are set.
pub(super) fn block_bitmap(
    bitmap: &mut [u8],
    layout: &Layout,
    allocation: &Allocation,
    group: u64,
) {
    let header = layout.header_blocks_of_group(group);
    set_range(bitmap, 0, to_usize(header));
    let blocks = layout.blocks_of_group(group);
    let bits = layout.geometry.blocks_per_group();
    set_range(bitmap, to_usize(blocks), to_usize(bits));
    let linear = group_zone(layout, group);
    for_each_used(layout, allocation, linear, |used| {
        let bit = |at: u64| to_usize(at - linear.start + header);
        set_range(bitmap, bit(used.start), bit(used.end));
        true
    });
}

/// Writes the inode bitmap of a group into zeros; bits beyond the group's inodes are set.
pub(super) fn inode_bitmap(
    bitmap: &mut [u8],
    layout: &Layout,
    allocation: &Allocation,
    group: u64,
) {
    let bits = bitmap.len() * 8;
    set_range(bitmap, to_usize(layout.inodes_per_group), bits);
    let first = group * layout.inodes_per_group + 1;
    let end = first + layout.inodes_per_group;
    let bit = |inode: u64| to_usize(inode - first);
    if group == 0 {
        // The reserved inodes, lost+found and the orphan file.
        set_range(bitmap, 0, bit(u64::from(layout.last_own_inode()) + 1));
    }
    for (start, used_end) in allocation
        .inodes_from(first)
        .take_while(|(start, _)| *start < end)
    {
        set_range(bitmap, bit(start.max(first)), bit(used_end.min(end)));
    }
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

fn any_used(layout: &Layout, allocation: &Allocation, group: u64) -> bool {
    let zone = group_zone(layout, group);
    if zone.start >= layout.trees.end {
        return false;
    }
    let mut any = false;
    for_each_used(layout, allocation, zone, |_| {
        any = true;
        false
    });
    any
}

/// Calls `visit` for every used range within `within`, clipped to it, until it answers `false`.
fn for_each_used(
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
        layout.journal_tree,
        layout.orphan,
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
    let go_on = visit_runs(layout.metadata, within, &mut clipped, |block| {
        allocation.metadata_runs_from(block)
    });
    if go_on {
        visit_runs(layout.data, within, &mut clipped, |block| {
            allocation.data_runs_from(block)
        });
    }
}

/// Calls `visit` for the used ranges of a zone that begin before the end of `within`, until it answers `false`, which is
/// then the answer. `runs_from` gives them from a block of the zone on.
fn visit_runs<I: Iterator<Item = (u64, u64)>>(
    zone: Zone,
    within: Zone,
    visit: &mut impl FnMut(Zone) -> bool,
    runs_from: impl Fn(u64) -> I,
) -> bool {
    if zone.start >= within.end || zone.end <= within.start {
        return true;
    }
    runs_from(within.start.saturating_sub(zone.start))
        .map(|(start, end)| Zone {
            start: zone.start + start,
            end: zone.start + end,
        })
        .take_while(|used| used.start < within.end)
        .all(visit)
}
