//! Numbers that follow from the size of a file system, as mke2fs chooses them.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^32 and counts of groups below 2^17, in 64 bits"
)]

use super::demand::{Demand, Options};
use super::error::Ext4Error;
use crate::formats::ext4::group_desc::GROUP_DESC_SIZE;
use crate::formats::ext4::{BLOCK_SIZE, BLOCKS_PER_GROUP, FIRST_INODE, INODES_PER_BLOCK};

/// Block numbers of descriptors and inodes have 32 bits.
const BLOCK_COUNT_MAX: u64 = 0xffff_ffff;
/// Inodes of one group: as many as one bitmap block has bits.
pub(super) const INODES_PER_GROUP_MAX: u64 = BLOCKS_PER_GROUP;
/// Bytes of the file system per inode, as mke2fs counts them.
const BYTES_PER_INODE: u64 = 16_384;
/// Blocks that the last group has besides its own copies, or it is left out (e2fsprogs lib/ext2fs/initialize.c).
const LAST_GROUP_BLOCKS_MIN: u64 = 50;
/// A file system grows to this many times its size without meta_bg (e2fsprogs, `calc_reserved_gdt_blocks`).
const GROWTH_FACTOR: u64 = 1024;
/// Blocks that one block of 32-bit pointers reaches.
const POINTERS_PER_BLOCK: u64 = BLOCK_SIZE / 4;
/// The largest journal: one extent.
const JOURNAL_BLOCKS_MAX: u64 = 32_768;
/// Below this many blocks (8 MiB) there is no journal (e2fsprogs, `ext2fs_default_journal_size`).
const JOURNAL_FS_BLOCKS_MIN: u64 = 2048;

/// Fails beyond 32-bit block numbers.
pub(super) fn check_block_count(label: &str, block_count: u64) -> Result<(), Ext4Error> {
    if block_count <= BLOCK_COUNT_MAX {
        return Ok(());
    }
    Err(Ext4Error::TooLarge {
        label: label.to_owned(),
        size: block_count.saturating_mul(BLOCK_SIZE),
        limit: BLOCK_COUNT_MAX * BLOCK_SIZE,
    })
}

/// Inodes of each group: a multiple of 16, so that tables fill their blocks.
pub(super) fn inodes_per_group(
    label: &str,
    block_count: u64,
    group_count: u64,
    demand: &Demand,
    options: &Options,
) -> Result<u64, Ext4Error> {
    let needed = demand.last_inode.max(u64::from(FIRST_INODE));
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
        None => (needed + needed.div_ceil(10)).max(block_count * BLOCK_SIZE / BYTES_PER_INODE),
    };
    let per_group = wanted
        .div_ceil(group_count)
        .next_multiple_of(INODES_PER_BLOCK)
        .max(INODES_PER_BLOCK);
    if per_group <= INODES_PER_GROUP_MAX {
        return Ok(per_group);
    }
    if options.inodes.is_none() && needed <= group_count * INODES_PER_GROUP_MAX {
        return Ok(INODES_PER_GROUP_MAX);
    }
    Err(Ext4Error::TooManyInodes {
        label: label.to_owned(),
        needed: wanted,
        groups: group_count,
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

/// Blocks kept behind the descriptors (e2fsprogs lib/ext2fs/initialize.c, `calc_reserved_gdt_blocks`).
pub(super) fn reserved_gdt_blocks(block_count: u64, descriptor_blocks: u64) -> u64 {
    let grown = (block_count * GROWTH_FACTOR).min(BLOCK_COUNT_MAX);
    let descriptors_per_block = BLOCK_SIZE / GROUP_DESC_SIZE;
    let grown_blocks = grown
        .div_ceil(BLOCKS_PER_GROUP)
        .div_ceil(descriptors_per_block);
    grown_blocks
        .saturating_sub(descriptor_blocks)
        .min(POINTERS_PER_BLOCK)
}

/// The journal's size by the file system's (e2fsprogs lib/ext2fs/mkjournal.c, `ext2fs_default_journal_size`).
pub(super) fn default_journal_blocks(block_count: u64) -> u64 {
    match block_count {
        0..JOURNAL_FS_BLOCKS_MIN => 0,
        JOURNAL_FS_BLOCKS_MIN..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16_384,
        _ => JOURNAL_BLOCKS_MAX,
    }
}

/// Blocks that a last group takes for its own copy and must have besides.
fn last_group_blocks_min(block_count: u64, options: &Options) -> u64 {
    let group_count = block_count.div_ceil(BLOCKS_PER_GROUP);
    let descriptor_blocks = (group_count * GROUP_DESC_SIZE).div_ceil(BLOCK_SIZE);
    let reserved = if options.resize_inode {
        reserved_gdt_blocks(block_count, descriptor_blocks)
    } else {
        0
    };
    let has_copy = backup_groups(group_count).last() == Some(&(group_count - 1));
    let header = if has_copy {
        1 + descriptor_blocks + reserved
    } else {
        0
    };
    header + LAST_GROUP_BLOCKS_MIN
}

/// Leaves out a last group that would hold little more than its own copies.
pub(super) fn without_stub_group(block_count: u64, options: &Options) -> u64 {
    let last_group_blocks = block_count % BLOCKS_PER_GROUP;
    let is_stub = block_count > BLOCKS_PER_GROUP
        && last_group_blocks > 0
        && last_group_blocks < last_group_blocks_min(block_count, options);
    if is_stub {
        block_count - last_group_blocks
    } else {
        block_count
    }
}

/// Fills up a last group that would hold little more than its own copies.
pub(super) fn with_whole_last_group(block_count: u64, options: &Options) -> u64 {
    let last_group_blocks = block_count % BLOCKS_PER_GROUP;
    if block_count <= BLOCKS_PER_GROUP || last_group_blocks == 0 {
        return block_count;
    }
    let missing = last_group_blocks_min(block_count, options).saturating_sub(last_group_blocks);
    block_count + missing
}
