//! How many blocks a file system has: those of a given size, or the fewest that do.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block numbers are below 2^36 and counts of groups below 2^21, in 64 bits"
)]

use super::demand::{Demand, Options, SizeRequest};
use super::error::Ext4Error;
use super::layout::Layout;
use super::numbers::{
    check_block_count, group_count, journal_blocks, whole_groups, with_whole_last_group,
    without_stub_group,
};
use crate::config::spec::Journal;

/// Blocks that any file system has besides its contents.
const OWN_BLOCKS_MIN: u64 = 16;

/// A file system that is to get its size.
pub(super) struct Sizing<'a> {
    pub(super) label: &'a str,
    pub(super) demand: Demand,
    pub(super) options: &'a Options,
    /// Numbers the extent trees of files for a layout, and says how many blocks they need: where blocks lie decides
    /// how many extents files have. The last layout it is asked about is the one that holds.
    pub(super) place_trees: &'a mut dyn FnMut(&Layout) -> u64,
}

impl Sizing<'_> {
    /// The layout that was asked for.
    pub(super) fn layout(&mut self, size: SizeRequest) -> Result<Layout, Ext4Error> {
        match size {
            SizeRequest::Fixed(bytes) => self.fixed(bytes),
            SizeRequest::Fit { free_blocks } => self.fit(free_blocks),
        }
    }

    fn fixed(&mut self, bytes: u64) -> Result<Layout, Ext4Error> {
        let block_size = self.options.geometry.block_size();
        let block_count = bytes / block_size;
        check_block_count(self.label, block_count, &self.options.geometry)?;
        let layout = self.settle(without_stub_group(block_count, self.options))?;
        if layout.fits() {
            self.check_journal(&layout)?;
            return Ok(layout);
        }
        // How much the contents would need: the size that fits, as the user would have to ask for it.
        let needed = self.fit(0)?.block_count * block_size;
        Err(Ext4Error::TooSmall {
            label: self.label.to_owned(),
            needed: needed.max(bytes + block_size),
            available: bytes,
        })
    }

    /// Half of the file system is the most that mke2fs gives to a journal.
    fn check_journal(&self, layout: &Layout) -> Result<(), Ext4Error> {
        if self.journal_lacks(layout.block_count) == 0 {
            return Ok(());
        }
        let block_size = self.options.geometry.block_size();
        Err(Ext4Error::JournalTooLarge {
            label: self.label.to_owned(),
            size: layout.journal.len() * block_size,
            limit: layout.block_count / 2 * block_size,
        })
    }

    /// Blocks by which a file system is too small for the journal that was asked for.
    fn journal_lacks(&self, block_count: u64) -> u64 {
        match self.options.journal {
            Journal::None | Journal::Default => 0,
            Journal::Size(_) => {
                (journal_blocks(block_count, self.options) * 2).saturating_sub(block_count)
            }
        }
    }

    /// The fewest blocks that hold the contents and leave so many free: one block less does not.
    ///
    /// Within one number of groups, what is needed never falls as the file system grows, so that going up by what is
    /// lacking finds the least. With one group more it may fall, as inodes are spread otherwise; so the search goes up
    /// once in long steps, and then down through the numbers of groups until one does not do.
    pub(super) fn fit(&mut self, free_blocks: u64) -> Result<Layout, Ext4Error> {
        let demand = &self.demand;
        let attributes = demand.xattr_blocks + demand.xattr_slack;
        let contents = demand.metadata_blocks + attributes + demand.data_blocks;
        let mut least = self.grow(contents + OWN_BLOCKS_MIN, free_blocks)?;
        loop {
            let groups_before = group_count(least, &self.options.geometry) - 1;
            let start = whole_groups(groups_before, &self.options.geometry) + 1;
            least = self.grow(start, free_blocks)?.min(least);
            let below = without_stub_group(least - 1, self.options);
            if !self.does(below, free_blocks)? {
                return self.settle(least);
            }
            least = below;
        }
    }

    /// Whether so many blocks do.
    fn does(&mut self, block_count: u64, free_blocks: u64) -> Result<bool, Ext4Error> {
        match self.settle(block_count) {
            Err(Ext4Error::TooManyInodes { .. }) => Ok(false),
            other => Ok(self.lacking(&other?, free_blocks) == 0),
        }
    }

    /// Goes up from `block_count` until nothing is lacking.
    fn grow(&mut self, mut block_count: u64, free_blocks: u64) -> Result<u64, Ext4Error> {
        let geometry = self.options.geometry;
        loop {
            block_count = with_whole_last_group(block_count, self.options);
            check_block_count(self.label, block_count, &geometry)?;
            let layout = match self.settle(block_count) {
                // More groups hold more inodes.
                Err(Ext4Error::TooManyInodes {
                    needed, per_group, ..
                }) => {
                    let next = (group_count(block_count, &geometry) + 1)
                        .max(needed.div_ceil(per_group.max(1)));
                    block_count = whole_groups(next - 1, &geometry) + 1;
                    continue;
                }
                other => other?,
            };
            match self.lacking(&layout, free_blocks) {
                0 => return Ok(block_count),
                lacking => block_count += lacking,
            }
        }
    }

    /// The layout of so many blocks, its extent trees numbered.
    fn settle(&mut self, block_count: u64) -> Result<Layout, Ext4Error> {
        let mut layout = Layout::new(self.label, block_count, &self.demand, self.options)?;
        layout.trees.end = layout.trees.start + (self.place_trees)(&layout);
        Ok(layout)
    }

    /// Blocks by which a layout is too small.
    fn lacking(&self, layout: &Layout, free_blocks: u64) -> u64 {
        let capacity = layout.linear_capacity();
        let beyond_end = layout.trees.end.saturating_sub(capacity);
        let used = layout
            .trees
            .end
            .min(capacity)
            .saturating_sub(self.demand.slack_blocks);
        let free = (capacity - used.min(capacity)).saturating_sub(layout.reserved_blocks);
        beyond_end
            .max(free_blocks.saturating_sub(free))
            .max(self.journal_lacks(layout.block_count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ext4::geometry::{Features, Geometry};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    const OPTIONS: Options = Options {
        geometry: Geometry::STD,
        journal: Journal::Default,
        inodes: None,
        reserved_percent: 5,
        resize_inode: true,
    };

    fn planned(size: SizeRequest, demand: Demand, options: &Options) -> Result<Layout, Ext4Error> {
        let mut sizing = Sizing {
            label: "home",
            demand,
            options,
            place_trees: &mut |_| 0,
        };
        sizing.layout(size)
    }

    fn fixed(bytes: u64) -> Layout {
        let demand = Demand {
            last_inode: 30,
            metadata_blocks: 5,
            data_blocks: 100,
            ..Demand::default()
        };
        planned(SizeRequest::Fixed(bytes), demand, &OPTIONS).unwrap()
    }

    #[test]
    fn a_last_group_without_room_is_left_out() {
        let bytes = (32_768 * 3 + 40) * 4096;
        assert_eq!(fixed(bytes).block_count, 32_768 * 3);
        assert_eq!(fixed(bytes + 200 * 4096).block_count, 32_768 * 3 + 240);
    }

    #[test]
    fn too_small_says_what_is_needed() {
        let demand = Demand {
            last_inode: 30,
            metadata_blocks: 5,
            data_blocks: 5000,
            ..Demand::default()
        };
        let error = planned(SizeRequest::Fixed(16 << 20), demand, &OPTIONS).unwrap_err();
        let Ext4Error::TooSmall {
            needed, available, ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(available, 16 << 20);
        let fitting = planned(SizeRequest::Fixed(needed), demand, &OPTIONS).unwrap();
        assert!(fitting.fits());
        planned(SizeRequest::Fixed(needed - 4096), demand, &OPTIONS).unwrap_err();
    }

    #[test]
    fn journals_take_at_most_half() {
        let options = Options {
            journal: Journal::Size(16 << 20),
            ..OPTIONS
        };
        let demand = Demand {
            last_inode: 30,
            ..Demand::default()
        };
        planned(SizeRequest::Fixed(32 << 20), demand, &options).unwrap();
        let error = planned(SizeRequest::Fixed((32 << 20) - 4096), demand, &options).unwrap_err();
        let Ext4Error::JournalTooLarge { size, limit, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((size, limit), (16 << 20, (16 << 20) - 4096));
        let fit = planned(SizeRequest::Fit { free_blocks: 0 }, demand, &options).unwrap();
        assert_eq!(fit.block_count, 8192);
    }

    #[test]
    fn sizes_beyond_32_bits_need_64bit() {
        let demand = Demand {
            last_inode: 30,
            ..Demand::default()
        };
        let size = SizeRequest::Fixed(20 << 40);
        let error = planned(size, demand, &OPTIONS).unwrap_err();
        let Ext4Error::TooLarge { limit, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(limit, 0xffff_ffff * 4096);
        let options = Options {
            geometry: Geometry::STD.widened(),
            ..OPTIONS
        };
        let layout = planned(size, demand, &options).unwrap();
        assert_eq!(layout.block_count, (20 << 40) / 4096);
        assert_eq!(
            (layout.descriptor_blocks, layout.reserved_gdt_blocks),
            (2560, 0)
        );
        assert!(layout.inodes_per_group * layout.group_count <= 0xffff_ffff);
        let largest = planned(SizeRequest::Fixed(240 << 40), demand, &options).unwrap();
        assert!(largest.inodes_per_group * largest.group_count <= 0xffff_ffff);
        planned(SizeRequest::Fixed(250 << 40), demand, &options).unwrap_err();
    }

    fn geometry() -> impl Strategy<Value = Geometry> {
        let sizes = (
            prop::sample::select(vec![1024, 2048, 4096]),
            prop::sample::select(vec![128, 256, 1024]),
            any::<(bool, bool)>(),
        );
        sizes.prop_map(|(block_size, inode_size, (wide, orphan_file))| {
            let features = Features {
                wide,
                orphan_file,
                ..Features::STD
            };
            Geometry::new(block_size, inode_size, features)
        })
    }

    fn journal() -> impl Strategy<Value = Journal> {
        prop_oneof![
            1 => Just(Journal::None),
            3 => Just(Journal::Default),
            1 => (4_u64..40).prop_map(|mib| Journal::Size(mib << 20)),
        ]
    }

    #[test]
    fn a_last_group_whose_own_copies_grow_is_filled_up() {
        // With one block more the reserve of descriptors, and so the copy at the start of the eighth group, is one longer.
        let options = Options {
            geometry: Geometry::new(1024, 128, Features::STD),
            journal: Journal::None,
            reserved_percent: 0,
            ..OPTIONS
        };
        let demand = Demand {
            last_inode: 57_345,
            metadata_blocks: 5,
            data_blocks: 32_000,
            ..Demand::default()
        };
        let size = SizeRequest::Fit { free_blocks: 0 };
        let least = planned(size, demand, &options).unwrap().block_count;
        assert_eq!(least, 57_622);
        assert_eq!(with_whole_last_group(least - 1, &options), least);
        assert_eq!(with_whole_last_group(least, &options), least);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            // The same cases on every run.
            rng_seed: RngSeed::Fixed(7),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// One block less than the least does not do, and the least does with what was asked to be free.
        #[test]
        fn the_least_is_the_least(
            geometry in geometry(),
            journal in journal(),
            reserved_percent in 0_u64..10,
            resize_inode: bool,
            last_inode in prop_oneof![12_u64..300, 12_u64..200_000],
            metadata_blocks in 5_u64..2000,
            data_blocks in prop_oneof![0_u64..200_000, 32_000_u64..33_500, 260_000_u64..263_000],
            slack in 0_u64..100,
            free_blocks in prop_oneof![Just(0), 0_u64..70_000],
            file_len in 1_u64..200_000,
        ) {
            let options = Options { geometry, journal, inodes: None, reserved_percent, resize_inode };
            let demand = Demand {
                last_inode,
                metadata_blocks,
                data_blocks,
                slack_blocks: data_blocks * slack / 1000,
                ..Demand::default()
            };
            // One block for each extent beyond the first of a file at the end of the data.
            let mut place_trees = |layout: &Layout| {
                let end = layout.data.end;
                let start = end - file_len.min(data_blocks);
                (start..end)
                    .step_by(1000)
                    .filter(|at| layout.contiguous_from(*at) < 1000)
                    .map(|_| 1)
                    .sum()
            };
            let mut sizing = Sizing {
                label: "t",
                demand,
                options: &options,
                place_trees: &mut place_trees,
            };
            let least = sizing.fit(free_blocks).unwrap();
            prop_assert!(least.fits());
            prop_assert_eq!(sizing.lacking(&least, free_blocks), 0);
            prop_assert_eq!(with_whole_last_group(least.block_count, &options), least.block_count);
            let less = without_stub_group(least.block_count - 1, &options);
            prop_assert!(!sizing.does(less, free_blocks).unwrap(), "{} blocks do, too", less);
            // What is given that size says the same.
            let bytes = least.block_count * geometry.block_size();
            prop_assert_eq!(sizing.fixed(bytes).unwrap(), least.clone());
            if free_blocks == 0 {
                prop_assert!(sizing.fixed(bytes - geometry.block_size()).is_err());
            }
        }
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
            let size = SizeRequest::Fit { free_blocks: free };
            let layout = planned(size, demand, &options).unwrap();
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
