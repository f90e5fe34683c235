//! Where the fixed structures of a file system lie: arithmetic over block numbers.
//!
//! Blocks are counted in two ways. *Physical* numbers are those of the file system. *Linear* numbers leave out the
//! copies of superblock and group descriptors, which begin some groups: all other structures are laid out in linear
//! space one behind the other, so that only the translation knows of the copies.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^32 and counts of groups below 2^17, in 64 bits"
)]

use super::demand::{Demand, Options, SizeRequest};
use super::error::Ext4Error;
use super::numbers::{
    INODES_PER_GROUP_MAX, backup_groups, check_block_count, default_journal_blocks,
    inodes_per_group, reserved_gdt_blocks, with_whole_last_group, without_stub_group,
};
use crate::formats::ext4::group_desc::GROUP_DESC_SIZE;
use crate::formats::ext4::{BLOCK_SIZE, BLOCKS_PER_GROUP, INODES_PER_BLOCK};

/// A zone of linear block numbers, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Zone {
    /// First block.
    pub start: u64,
    /// The block behind the last.
    pub end: u64,
}

impl Zone {
    const fn of(start: u64, len: u64) -> Self {
        Self {
            start,
            end: start + len,
        }
    }

    /// Number of blocks.
    #[must_use]
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether the zone has this linear block.
    #[must_use]
    pub const fn contains(self, linear: u64) -> bool {
        self.start <= linear && linear < self.end
    }
}

/// The layout of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// All blocks.
    pub block_count: u64,
    /// Block groups.
    pub group_count: u64,
    /// Blocks of group descriptors.
    pub descriptor_blocks: u64,
    /// Blocks behind them for their growth.
    pub reserved_gdt_blocks: u64,
    /// Inodes of each group.
    pub inodes_per_group: u64,
    /// Groups that begin with a copy of superblock and descriptors; the first is group 0.
    pub backup_groups: Vec<u64>,
    /// Blocks kept for root.
    pub reserved_blocks: u64,
    /// One block bitmap per group.
    pub block_bitmaps: Zone,
    /// One inode bitmap per group.
    pub inode_bitmaps: Zone,
    /// Linear start of each group's inode table.
    pub inode_tables: Vec<u64>,
    /// The block of pointers to the reserved descriptor blocks; empty without resize_inode.
    pub indirect: Zone,
    /// The journal.
    pub journal: Zone,
    /// Directories and long symlinks.
    pub metadata: Zone,
    /// Extended attributes.
    pub xattrs: Zone,
    /// File contents.
    pub data: Zone,
    /// Extent trees.
    pub trees: Zone,
}

impl Layout {
    /// The layout for `demand`.
    ///
    /// # Errors
    /// [`Ext4Error`] if the size or the number of inodes does not do.
    pub fn new(
        label: &str,
        size: SizeRequest,
        demand: &Demand,
        options: &Options,
    ) -> Result<Self, Ext4Error> {
        match size {
            SizeRequest::Fixed(bytes) => Self::fixed(label, bytes, demand, options),
            SizeRequest::Fit { free_blocks } => Self::fit(label, free_blocks, demand, options),
        }
    }

    fn fixed(
        label: &str,
        bytes: u64,
        demand: &Demand,
        options: &Options,
    ) -> Result<Self, Ext4Error> {
        let block_count = bytes / BLOCK_SIZE;
        check_block_count(label, block_count)?;
        let layout = Self::with_block_count(
            label,
            without_stub_group(block_count, options),
            demand,
            options,
        )?;
        if layout.fits() {
            return Ok(layout);
        }
        // How much the contents would need: the size that fits, as the user would have to ask for it.
        let needed = Self::fit(label, 0, demand, options)?.block_count * BLOCK_SIZE;
        Err(Ext4Error::TooSmall {
            label: label.to_owned(),
            needed: needed.max(bytes + BLOCK_SIZE),
            available: bytes,
        })
    }

    /// Grows from below until everything fits: each round's result is what that round's size needs.
    fn fit(
        label: &str,
        free_blocks: u64,
        demand: &Demand,
        options: &Options,
    ) -> Result<Self, Ext4Error> {
        let contents =
            demand.metadata_blocks + demand.xattr_blocks + demand.data_blocks + demand.tree_blocks;
        let mut block_count = (contents + 16).max(demand.last_inode.div_ceil(INODES_PER_GROUP_MAX));
        loop {
            block_count = with_whole_last_group(block_count, options);
            check_block_count(label, block_count)?;
            let layout = match Self::with_block_count(label, block_count, demand, options) {
                // More groups hold more inodes.
                Err(Ext4Error::TooManyInodes { .. }) => {
                    block_count += BLOCKS_PER_GROUP;
                    continue;
                }
                other => other?,
            };
            let lacking = layout.lacking(demand, free_blocks);
            if lacking == 0 {
                return Ok(layout);
            }
            block_count += lacking;
        }
    }

    /// Blocks by which this layout is too small.
    fn lacking(&self, demand: &Demand, free_blocks: u64) -> u64 {
        let capacity = self.linear_capacity();
        let beyond_end = self.trees.end.saturating_sub(capacity);
        let used = self.trees.end.min(capacity) - demand.slack_blocks;
        let free = (capacity - used.min(capacity)).saturating_sub(self.reserved_blocks);
        beyond_end.max(free_blocks.saturating_sub(free))
    }

    fn with_block_count(
        label: &str,
        block_count: u64,
        demand: &Demand,
        options: &Options,
    ) -> Result<Self, Ext4Error> {
        let group_count = block_count.div_ceil(BLOCKS_PER_GROUP).max(1);
        let inodes_per_group = inodes_per_group(label, block_count, group_count, demand, options)?;
        let descriptor_blocks = (group_count * GROUP_DESC_SIZE).div_ceil(BLOCK_SIZE);
        let reserved_gdt_blocks = if options.resize_inode {
            reserved_gdt_blocks(block_count, descriptor_blocks)
        } else {
            0
        };
        let mut layout = Self {
            block_count,
            group_count,
            descriptor_blocks,
            reserved_gdt_blocks,
            inodes_per_group,
            backup_groups: backup_groups(group_count),
            reserved_blocks: block_count * options.reserved_percent / 100,
            block_bitmaps: Zone::of(0, group_count),
            inode_bitmaps: Zone::of(group_count, group_count),
            inode_tables: Vec::new(),
            indirect: Zone::default(),
            journal: Zone::default(),
            metadata: Zone::default(),
            xattrs: Zone::default(),
            data: Zone::default(),
            trees: Zone::default(),
        };
        let tables_end = layout.place_inode_tables();
        let journal_blocks = if options.journal {
            default_journal_blocks(block_count)
        } else {
            0
        };
        layout.indirect = Zone::of(tables_end, u64::from(reserved_gdt_blocks > 0));
        layout.journal = Zone::of(layout.indirect.end, journal_blocks);
        layout.metadata = Zone::of(layout.journal.end, demand.metadata_blocks);
        layout.xattrs = Zone::of(layout.metadata.end, demand.xattr_blocks);
        layout.data = Zone::of(layout.xattrs.end, demand.data_blocks);
        layout.trees = Zone::of(layout.data.end, demand.tree_blocks);
        Ok(layout)
    }

    /// Places one table per group; a table is contiguous, so it skips a copy that would split it.
    fn place_inode_tables(&mut self) -> u64 {
        let table_blocks = self.inode_table_blocks();
        let mut linear = self.inode_bitmaps.end;
        let mut tables = Vec::with_capacity(crate::units::to_usize(self.group_count));
        for _ in 0..self.group_count {
            let next_copy = self.next_copy(linear);
            if linear < next_copy && next_copy < linear + table_blocks {
                linear = next_copy;
            }
            tables.push(linear);
            linear += table_blocks;
        }
        self.inode_tables = tables;
        linear
    }

    /// The linear number of the first block behind the next copy after `linear`, or `u64::MAX`.
    fn next_copy(&self, linear: u64) -> u64 {
        let index = self.copies_before(linear);
        self.backup_groups
            .get(index)
            .map_or(u64::MAX, |group| self.copy_linear(index, *group))
    }

    /// Whether everything lies within the file system.
    fn fits(&self) -> bool {
        self.trees.end <= self.linear_capacity()
    }

    /// Blocks of one copy of superblock, descriptors and their reserve.
    #[must_use]
    pub fn header_blocks(&self) -> u64 {
        1 + self.descriptor_blocks + self.reserved_gdt_blocks
    }

    /// Blocks of one inode table.
    #[must_use]
    pub fn inode_table_blocks(&self) -> u64 {
        self.inodes_per_group / INODES_PER_BLOCK
    }

    /// Linear blocks in all.
    #[must_use]
    pub fn linear_capacity(&self) -> u64 {
        let copies = crate::units::to_u64(self.backup_groups.len());
        self.block_count
            .saturating_sub(copies * self.header_blocks())
    }

    /// Blocks of `group`; all but the last have 32,768.
    #[must_use]
    pub fn blocks_of_group(&self, group: u64) -> u64 {
        (self.block_count - group * BLOCKS_PER_GROUP).min(BLOCKS_PER_GROUP)
    }

    /// Blocks at the start of `group` that hold a copy of superblock and descriptors.
    #[must_use]
    pub fn header_blocks_of_group(&self, group: u64) -> u64 {
        if self.backup_groups.binary_search(&group).is_ok() {
            self.header_blocks()
        } else {
            0
        }
    }

    /// The linear number of the first block of `group` that belongs to no copy.
    #[must_use]
    pub fn linear_start_of_group(&self, group: u64) -> u64 {
        let copies = self.backup_groups.partition_point(|backup| *backup < group);
        group * BLOCKS_PER_GROUP - crate::units::to_u64(copies) * self.header_blocks()
    }

    /// The physical number of a linear block.
    #[must_use]
    pub fn physical(&self, linear: u64) -> u64 {
        linear + crate::units::to_u64(self.copies_before(linear)) * self.header_blocks()
    }

    /// Linear blocks from `linear` on that are physically contiguous.
    #[must_use]
    pub fn contiguous_from(&self, linear: u64) -> u64 {
        self.next_copy(linear) - linear
    }

    /// How many copies lie physically before a linear block.
    fn copies_before(&self, linear: u64) -> usize {
        // At most 19 groups have copies, so counting them costs no more than searching.
        self.backup_groups
            .iter()
            .enumerate()
            .take_while(|(index, group)| self.copy_linear(*index, **group) <= linear)
            .count()
    }

    /// The linear number of the first block behind the `index`th copy.
    fn copy_linear(&self, index: usize, group: u64) -> u64 {
        group * BLOCKS_PER_GROUP - crate::units::to_u64(index) * self.header_blocks()
    }

    /// Metadata that `statfs` counts as overhead (kernel fs/ext4/super.c, `ext4_calculate_overhead`).
    #[must_use]
    pub fn overhead_blocks(&self) -> u64 {
        let copies = crate::units::to_u64(self.backup_groups.len()) * self.header_blocks();
        copies + self.group_count * (2 + self.inode_table_blocks()) + self.journal.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: Options = Options {
        journal: true,
        inodes: None,
        reserved_percent: 5,
        resize_inode: true,
    };

    fn fixed(bytes: u64) -> Layout {
        let demand = Demand {
            last_inode: 30,
            metadata_blocks: 5,
            data_blocks: 100,
            ..Demand::default()
        };
        Layout::new("t", SizeRequest::Fixed(bytes), &demand, &OPTIONS).unwrap()
    }

    #[test]
    fn numbers_equal_those_of_mke2fs() {
        // `mke2fs -t ext4 -b 4096 -O ^64bit -i 16384` of e2fsprogs 1.47.0, by `dumpe2fs -h`: reserved GDT blocks,
        // inodes, journal, overhead. Only its journal of 262,144 blocks at 1 TiB is not followed.
        for (bytes, reserved_gdt, inodes, journal, overhead) in [
            (64_u64 << 20, 3, 4096, 1024, 1287),
            (256 << 20, 15, 16_384, 4096, 5158),
            (1 << 30, 63, 65_536, 8192, 12_629),
            (8 << 30, 511, 524_288, 16_384, 53_897),
            (
                1 << 40,
                960,
                67_108_864,
                32_768,
                4_492_307 - 262_144 + 32_768,
            ),
        ] {
            let layout = fixed(bytes);
            assert_eq!(layout.reserved_gdt_blocks, reserved_gdt, "{bytes}");
            assert_eq!(
                layout.inodes_per_group * layout.group_count,
                inodes,
                "{bytes}"
            );
            assert_eq!(layout.journal.len(), journal, "{bytes}");
            assert_eq!(layout.overhead_blocks(), overhead, "{bytes}");
        }
    }

    #[test]
    fn linear_and_physical_numbers_agree() {
        let layout = fixed(4 << 30);
        let mut linear = 0;
        for group in 0..layout.group_count {
            assert_eq!(layout.linear_start_of_group(group), linear);
            let header = layout.header_blocks_of_group(group);
            let own = layout.blocks_of_group(group) - header;
            assert_eq!(layout.physical(linear), group * BLOCKS_PER_GROUP + header);
            assert_eq!(
                layout.physical(linear + own - 1),
                group * BLOCKS_PER_GROUP + header + own - 1
            );
            linear += own;
        }
        assert_eq!(linear, layout.linear_capacity());
    }

    #[test]
    fn inode_tables_are_contiguous() {
        let layout = fixed(1 << 40);
        for table in &layout.inode_tables {
            assert!(layout.contiguous_from(*table) >= layout.inode_table_blocks());
        }
        assert!(layout.fits());
    }

    #[test]
    fn a_last_group_without_room_is_left_out() {
        let bytes = (32_768 * 3 + 40) * BLOCK_SIZE;
        assert_eq!(fixed(bytes).block_count, 32_768 * 3);
        assert_eq!(
            fixed(bytes + 200 * BLOCK_SIZE).block_count,
            32_768 * 3 + 240
        );
    }

    #[test]
    fn too_small_says_what_is_needed() {
        let demand = Demand {
            last_inode: 30,
            metadata_blocks: 5,
            data_blocks: 5000,
            ..Demand::default()
        };
        let error =
            Layout::new("home", SizeRequest::Fixed(16 << 20), &demand, &OPTIONS).unwrap_err();
        let Ext4Error::TooSmall {
            needed, available, ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(available, 16 << 20);
        let fitting = Layout::new("home", SizeRequest::Fixed(needed), &demand, &OPTIONS).unwrap();
        assert!(fitting.fits());
    }

    #[test]
    fn fit_leaves_the_free_blocks_asked_for() {
        let options = Options {
            reserved_percent: 0,
            resize_inode: false,
            ..OPTIONS
        };
        for (data, free) in [(10, 0), (40_000, 0), (40_000, 70_000), (3, 1)] {
            let demand = Demand {
                last_inode: 500,
                metadata_blocks: 9,
                data_blocks: data,
                ..Demand::default()
            };
            let layout = Layout::new(
                "t",
                SizeRequest::Fit { free_blocks: free },
                &demand,
                &options,
            )
            .unwrap();
            assert!(
                layout.linear_capacity() - layout.trees.end >= free,
                "{data} {free}"
            );
            assert!(
                layout.linear_capacity() - layout.trees.end < free + 4096,
                "{data} {free}"
            );
        }
    }
}
