//! Numbers that follow from the size of a file system, as mke2fs chooses them.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^36 and counts of groups below 2^21, in 64 bits"
)]

use super::demand::{Demand, Options};
use super::error::Ext4Error;
use crate::config::spec::Journal;
use crate::formats::ext4::geometry::Geometry;

/// The most blocks whose numbers have 32 bits, and the most inodes.
pub(super) const COUNT_MAX_32: u64 = 0xffff_ffff;
/// Bytes of the file system per inode, as mke2fs counts them.
const BYTES_PER_INODE: u64 = 16_384;
/// Inodes of a group are a multiple of this, as mke2fs has it, and at least twice as many: the first group holds all of
/// the file system's own.
const INODES_UNIT: u64 = 8;
/// Blocks that the last group has besides its own copies, or it is left out (e2fsprogs lib/ext2fs/initialize.c).
const LAST_GROUP_BLOCKS_MIN: u64 = 50;
/// A file system grows to this many times its size without meta_bg (e2fsprogs, `calc_reserved_gdt_blocks`).
const GROWTH_FACTOR: u64 = 1024;
/// The largest journal that is not asked for.
const DEFAULT_JOURNAL_BLOCKS_MAX: u64 = 32_768;
/// Below this many blocks there is no journal (e2fsprogs, `ext2fs_default_journal_size`).
pub const JOURNAL_FS_BLOCKS_MIN: u64 = 2048;

/// Block groups of this many blocks.
pub(super) fn group_count(block_count: u64, geometry: &Geometry) -> u64 {
    block_count
        .saturating_sub(geometry.first_block())
        .div_ceil(geometry.blocks_per_group())
        .max(1)
}

/// Blocks at most: what block numbers reach, and what descriptors reach that fit a group with all that may be reserved
/// behind them.
fn block_count_max(geometry: &Geometry) -> u64 {
    let descriptor_blocks =
        geometry.blocks_per_group() - (1 + geometry.pointers_per_block() + LAST_GROUP_BLOCKS_MIN);
    let groups = descriptor_blocks * geometry.descriptors_per_block();
    let described = groups * geometry.blocks_per_group();
    if geometry.features.wide {
        described
    } else {
        described.min(COUNT_MAX_32)
    }
}

/// Fails beyond what the geometry can address.
pub(super) fn check_block_count(
    label: &str,
    block_count: u64,
    geometry: &Geometry,
) -> Result<(), Ext4Error> {
    let limit = block_count_max(geometry);
    if block_count <= limit {
        return Ok(());
    }
    Err(Ext4Error::TooLarge {
        label: label.to_owned(),
        size: block_count.saturating_mul(geometry.block_size()),
        limit: limit.saturating_mul(geometry.block_size()),
        block_size: geometry.block_size(),
    })
}

/// Inodes of each group: as many as fill whole blocks of the tables.
pub(super) fn inodes_per_group(
    label: &str,
    block_count: u64,
    group_count: u64,
    demand: &Demand,
    options: &Options,
) -> Result<u64, Ext4Error> {
    let geometry = &options.geometry;
    let needed = demand.last_inode;
    let wanted = match options.inodes {
        Some(inodes) if inodes < needed => {
            return Err(Ext4Error::TooFewInodes {
                label: label.to_owned(),
                needed,
                available: inodes,
            });
        }
        Some(inodes) => inodes,
        // A tenth more than the contents need, so that a guest can create files.
        None => (needed + needed.div_ceil(10))
            .max(block_count * geometry.block_size() / BYTES_PER_INODE),
    };
    let unit = geometry.inodes_per_block().max(INODES_UNIT);
    // A bitmap block has a bit for each, and inode numbers have 32 bits.
    let most = geometry
        .blocks_per_group()
        .min(COUNT_MAX_32 / group_count / unit * unit);
    let per_group = wanted
        .div_ceil(group_count)
        .next_multiple_of(unit)
        .max(2 * INODES_UNIT);
    if per_group <= most {
        return Ok(per_group);
    }
    if options.inodes.is_none() && needed <= group_count * most {
        return Ok(most);
    }
    Err(Ext4Error::TooManyInodes {
        label: label.to_owned(),
        needed: options.inodes.unwrap_or(needed),
        groups: group_count,
        per_group: most,
    })
}

/// Groups 0, 1 and the powers of 3, 5 and 7 (sparse_super).
pub(super) fn backup_groups(group_count: u64) -> Vec<u64> {
    let powers = [3_u64, 5, 7].into_iter().flat_map(|base| {
        std::iter::successors(Some(base), move |power| power.checked_mul(base))
            .take_while(move |power| *power < group_count)
    });
    let mut groups: Vec<u64> = [0, 1]
        .into_iter()
        .chain(powers)
        .filter(|group| *group < group_count)
        .collect();
    groups.sort_unstable();
    groups
}

/// Blocks kept behind the descriptors (e2fsprogs lib/ext2fs/initialize.c, `calc_reserved_gdt_blocks`). Beyond 2^32
/// blocks there are none: the pointers to them have 32 bits.
pub(super) fn reserved_gdt_blocks(block_count: u64, options: &Options) -> u64 {
    if !options.resize_inode {
        return 0;
    }
    let geometry = &options.geometry;
    let grown = (block_count * GROWTH_FACTOR).min(COUNT_MAX_32);
    let grown_blocks = (grown - geometry.first_block())
        .div_ceil(geometry.blocks_per_group())
        .div_ceil(geometry.descriptors_per_block());
    let descriptor_blocks =
        group_count(block_count, geometry).div_ceil(geometry.descriptors_per_block());
    grown_blocks
        .saturating_sub(descriptor_blocks)
        .min(geometry.pointers_per_block())
}

/// Blocks of one copy of superblock, descriptors and their reserve.
pub(super) fn header_blocks(block_count: u64, options: &Options) -> u64 {
    let geometry = &options.geometry;
    let descriptor_blocks =
        group_count(block_count, geometry).div_ceil(geometry.descriptors_per_block());
    1 + descriptor_blocks + reserved_gdt_blocks(block_count, options)
}

/// Blocks of the journal: what was asked for, or by the file system's size (e2fsprogs lib/ext2fs/mkjournal.c,
/// `ext2fs_default_journal_size`).
pub(super) fn journal_blocks(block_count: u64, options: &Options) -> u64 {
    match options.journal {
        Journal::None => 0,
        Journal::Size(bytes) => bytes.div_ceil(options.geometry.block_size()),
        Journal::Default => match block_count {
            0..JOURNAL_FS_BLOCKS_MIN => 0,
            JOURNAL_FS_BLOCKS_MIN..32_768 => 1024,
            32_768..262_144 => 4096,
            262_144..524_288 => 8192,
            524_288..4_194_304 => 16_384,
            _ => DEFAULT_JOURNAL_BLOCKS_MAX,
        },
    }
}

/// Blocks of the last of several groups, 0 if it is whole; and how many more it must have to be worth its own copies.
fn last_group(block_count: u64, options: &Options) -> (u64, u64) {
    let geometry = &options.geometry;
    let group_count = group_count(block_count, geometry);
    let blocks = (block_count.saturating_sub(geometry.first_block())) % geometry.blocks_per_group();
    if group_count == 1 || blocks == 0 {
        return (0, 0);
    }
    let has_copy = backup_groups(group_count).last() == Some(&(group_count - 1));
    let header = if has_copy {
        header_blocks(block_count, options)
    } else {
        0
    };
    let missing = (header + LAST_GROUP_BLOCKS_MIN).saturating_sub(blocks);
    (blocks, missing)
}

/// Leaves out a last group that would hold little more than its own copies.
pub(super) fn without_stub_group(block_count: u64, options: &Options) -> u64 {
    let (blocks, missing) = last_group(block_count, options);
    if missing > 0 {
        block_count - blocks
    } else {
        block_count
    }
}

/// Fills up a last group that would hold little more than its own copies.
pub(super) fn with_whole_last_group(block_count: u64, options: &Options) -> u64 {
    let mut whole = block_count;
    loop {
        // With more blocks the copies may take more, too.
        match last_group(whole, options) {
            (_, 0) => return whole,
            (_, missing) => whole += missing,
        }
    }
}

/// The blocks of whole groups, as many as `groups`.
pub(super) fn whole_groups(groups: u64, geometry: &Geometry) -> u64 {
    geometry.first_block() + groups * geometry.blocks_per_group()
}
