//! Where the fixed structures of a file system lie: arithmetic over block numbers.
//!
//! Blocks are counted in two ways. *Physical* numbers are those of the file system. *Linear* numbers leave out the
//! copies of superblock and group descriptors, which begin some groups: all other structures are laid out in linear
//! space one behind the other, so that only the translation knows of the copies, and of the block before group 0 that
//! there is with blocks of 1024 bytes.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^36 and counts of groups below 2^21, in 64 bits"
)]

use super::alloc::extents;
use super::demand::{Demand, Options};
use super::error::Ext4Error;
use super::numbers::{
    backup_groups, group_count, header_blocks, inodes_per_group, journal_blocks,
    reserved_gdt_blocks,
};
use crate::formats::ext4::extent::{INLINE_EXTENTS_MAX, block_extents_max};
use crate::formats::ext4::geometry::Geometry;
use crate::formats::ext4::orphan;
use crate::formats::ext4::superblock::PRIMARY_OFFSET;
use crate::formats::ext4::{FIRST_INODE, ORPHAN_INODE};
use crate::units::{to_u64, to_usize};

/// A zone of linear block numbers, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Zone {
    /// First block.
    pub start: u64,
    /// The block behind the last.
    pub end: u64,
}

impl Zone {
    pub(super) const fn of(start: u64, len: u64) -> Self {
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
    /// Sizes and features.
    pub geometry: Geometry,
    /// All blocks, the one before group 0 included.
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
    /// The journal's extent tree, where its extents do not fit its inode.
    pub journal_tree: Zone,
    /// The orphan file.
    pub orphan: Zone,
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
    /// The layout of `block_count` blocks for `demand`; the extent trees' zone is empty, and nothing is said about
    /// whether everything fits.
    ///
    /// # Errors
    /// [`Ext4Error`] if the number of inodes does not do.
    pub(super) fn new(
        label: &str,
        block_count: u64,
        demand: &Demand,
        options: &Options,
    ) -> Result<Self, Ext4Error> {
        let geometry = options.geometry;
        let group_count = group_count(block_count, &geometry);
        let inodes_per_group = inodes_per_group(label, block_count, group_count, demand, options)?;
        let mut layout = Self {
            geometry,
            block_count,
            group_count,
            descriptor_blocks: group_count.div_ceil(geometry.descriptors_per_block()),
            reserved_gdt_blocks: reserved_gdt_blocks(block_count, options),
            inodes_per_group,
            backup_groups: backup_groups(group_count),
            reserved_blocks: block_count * options.reserved_percent / 100,
            block_bitmaps: Zone::of(0, group_count),
            inode_bitmaps: Zone::of(group_count, group_count),
            inode_tables: Vec::new(),
            indirect: Zone::default(),
            journal: Zone::default(),
            journal_tree: Zone::default(),
            orphan: Zone::default(),
            metadata: Zone::default(),
            xattrs: Zone::default(),
            data: Zone::default(),
            trees: Zone::default(),
        };
        debug_assert_eq!(
            layout.header_blocks(),
            header_blocks(block_count, options),
            "one rule for copies"
        );
        let tables_end = layout.place_inode_tables();
        layout.indirect = Zone::of(tables_end, u64::from(layout.reserved_gdt_blocks > 0));
        layout.journal = Zone::of(layout.indirect.end, journal_blocks(block_count, options));
        layout.journal_tree = Zone::of(layout.journal.end, layout.journal_tree_blocks());
        let orphan_blocks = if geometry.features.orphan_file && layout.journal.len() > 0 {
            orphan::default_blocks(block_count)
        } else {
            0
        };
        layout.orphan = Zone::of(layout.journal_tree.end, orphan_blocks);
        layout.metadata = Zone::of(layout.orphan.end, demand.metadata_blocks);
        layout.xattrs = Zone::of(layout.metadata.end, demand.xattr_blocks);
        layout.data = Zone::of(layout.xattrs.end + demand.xattr_slack, demand.data_blocks);
        layout.trees = Zone::of(layout.data.end, 0);
        Ok(layout)
    }

    /// What is left free behind the extended attributes.
    pub(super) const fn xattr_slack(&self) -> Zone {
        Zone {
            start: self.xattrs.end,
            end: self.data.start,
        }
    }

    /// Blocks of the journal's extent tree: its leaves, which the inode's four entries always reach.
    fn journal_tree_blocks(&self) -> u64 {
        let extent_count = extents(self, self.journal).count();
        if extent_count <= INLINE_EXTENTS_MAX {
            0
        } else {
            to_u64(extent_count.div_ceil(block_extents_max(&self.geometry)))
        }
    }

    /// Places one table per group; a table is contiguous, so it skips a copy that would split it.
    fn place_inode_tables(&mut self) -> u64 {
        let table_blocks = self.inode_table_blocks();
        let mut linear = self.inode_bitmaps.end;
        let mut tables = Vec::with_capacity(to_usize(self.group_count));
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
    pub(super) fn fits(&self) -> bool {
        self.trees.end <= self.linear_capacity()
    }

    /// The highest inode number of the file system's own.
    pub(super) const fn last_own_inode(&self) -> u32 {
        if self.orphan.len() > 0 {
            ORPHAN_INODE
        } else {
            FIRST_INODE
        }
    }

    /// Blocks of one copy of superblock, descriptors and their reserve.
    #[must_use]
    pub fn header_blocks(&self) -> u64 {
        1 + self.descriptor_blocks + self.reserved_gdt_blocks
    }

    /// Blocks of one inode table.
    #[must_use]
    pub fn inode_table_blocks(&self) -> u64 {
        self.inodes_per_group / self.geometry.inodes_per_block()
    }

    /// Linear blocks in all.
    #[must_use]
    pub fn linear_capacity(&self) -> u64 {
        let copies = to_u64(self.backup_groups.len());
        self.block_count
            .saturating_sub(self.geometry.first_block() + copies * self.header_blocks())
    }

    /// The first block of `group`.
    #[must_use]
    pub fn start_of_group(&self, group: u64) -> u64 {
        self.geometry.first_block() + group * self.geometry.blocks_per_group()
    }

    /// Where in its block the superblock of `group` lies.
    #[must_use]
    pub fn superblock_offset(&self, group: u64) -> u64 {
        if group == 0 {
            PRIMARY_OFFSET - self.geometry.first_block() * self.geometry.block_size()
        } else {
            0
        }
    }

    /// Blocks of `group`; all but the last have as many as a bitmap block has bits.
    #[must_use]
    pub fn blocks_of_group(&self, group: u64) -> u64 {
        (self.block_count - self.start_of_group(group)).min(self.geometry.blocks_per_group())
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
        group * self.geometry.blocks_per_group() - to_u64(copies) * self.header_blocks()
    }

    /// The physical number of a linear block.
    #[must_use]
    pub fn physical(&self, linear: u64) -> u64 {
        let copies = to_u64(self.copies_before(linear));
        self.geometry.first_block() + linear + copies * self.header_blocks()
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
        group * self.geometry.blocks_per_group() - to_u64(index) * self.header_blocks()
    }

    /// Metadata that `statfs` counts as overhead (kernel fs/ext4/super.c, `ext4_calculate_overhead`).
    #[must_use]
    pub fn overhead_blocks(&self) -> u64 {
        let copies = to_u64(self.backup_groups.len()) * self.header_blocks();
        self.geometry.first_block()
            + copies
            + self.group_count * (2 + self.inode_table_blocks())
            + self.journal.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::spec::Journal;
    use crate::formats::ext4::geometry::{Checksums, Features};

    const OPTIONS: Options = Options {
        geometry: Geometry::STD,
        journal: Journal::Default,
        inodes: None,
        reserved_percent: 5,
        resize_inode: true,
    };

    fn of_blocks(block_count: u64, options: &Options) -> Layout {
        let demand = Demand {
            last_inode: 30,
            metadata_blocks: 5,
            data_blocks: 100,
            ..Demand::default()
        };
        Layout::new("t", block_count, &demand, options).unwrap()
    }

    fn fixed(bytes: u64) -> Layout {
        of_blocks(bytes / 4096, &OPTIONS)
    }

    /// Layouts of several groups, at each block size.
    fn several() -> Vec<Layout> {
        let mut layouts = vec![fixed(4 << 30), fixed(1 << 40)];
        for (block_size, blocks) in [(1024, 700_000), (2048, 900_001)] {
            for wide in [false, true] {
                let features = Features {
                    wide,
                    checksums: Checksums::Metadata,
                    ..Features::STD
                };
                let geometry = Geometry::new(block_size, 256, features);
                layouts.push(of_blocks(
                    blocks,
                    &Options {
                        geometry,
                        ..OPTIONS
                    },
                ));
            }
        }
        layouts
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
    fn numbers_equal_those_of_mke2fs_in_other_geometries() {
        // The same with `-b`, `-I` and `-O 64bit`; its journal at 1 TiB is not followed here either.
        for (block_size, inode_size, wide, bytes, reserved_gdt, inodes, journal, overhead) in [
            (1024, 256, false, 64_u64 << 20, 255, 4096, 4096, 6422),
            (1024, 256, false, 1 << 30, 256, 65_536, 16_384, 35_896),
            (1024, 128, false, 700 << 20, 256, 45_056, 16_384, 24_793),
            (2048, 256, false, 3 << 30, 512, 196_608, 16_384, 46_302),
            (4096, 256, true, 8 << 30, 1023, 524_288, 16_384, 58_505),
            (
                4096,
                512,
                true,
                1 << 40,
                1024,
                67_108_864,
                32_768,
                8_689_043 - 262_144 + 32_768,
            ),
        ] {
            let features = Features {
                wide,
                ..Features::STD
            };
            let options = Options {
                geometry: Geometry::new(block_size, inode_size, features),
                ..OPTIONS
            };
            let layout = of_blocks(bytes / block_size, &options);
            let found = (
                layout.reserved_gdt_blocks,
                layout.inodes_per_group * layout.group_count,
                layout.journal.len(),
                layout.overhead_blocks(),
            );
            let expected = (reserved_gdt, inodes, journal, overhead);
            assert_eq!(found, expected, "{block_size} {inode_size} {bytes}");
        }
    }

    #[test]
    fn linear_and_physical_numbers_agree() {
        for layout in several() {
            let mut linear = 0;
            for group in 0..layout.group_count {
                assert_eq!(layout.linear_start_of_group(group), linear);
                let header = layout.header_blocks_of_group(group);
                let own = layout.blocks_of_group(group) - header;
                let first = layout.start_of_group(group) + header;
                assert_eq!(layout.physical(linear), first);
                assert_eq!(layout.physical(linear + own - 1), first + own - 1);
                linear += own;
            }
            assert_eq!(linear, layout.linear_capacity());
        }
    }

    #[test]
    fn inode_tables_are_contiguous() {
        for layout in several() {
            for table in &layout.inode_tables {
                assert!(layout.contiguous_from(*table) >= layout.inode_table_blocks());
            }
            assert!(layout.fits());
        }
    }

    #[test]
    fn long_journals_have_a_tree() {
        for (bytes, tree_blocks) in [(64 << 20, 0), (512 << 20, 0), (1 << 30, 1), (39 << 30, 1)] {
            let options = Options {
                journal: Journal::Size(bytes),
                ..OPTIONS
            };
            let layout = of_blocks(1 << 30, &options);
            assert_eq!(layout.journal.len(), bytes / 4096);
            assert_eq!(layout.journal_tree.len(), tree_blocks, "{bytes}");
        }
    }
}
