//! Which units of a disk are allocated in a container around it, as rank queries.
//!
//! A unit is what the container allocates at once: a grain of VMDK, a cluster of qcow2, a block of VHD, VHDX and VDI.
//! Invariant: a unit is allocated if and only if the plan has data in it; contents are never looked at. Memory grows
//! with the runs of allocated units, not with the disk.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "unit numbers are offsets divided by at least 512; ranks are below them"
)]

use super::data_map::DataMap;

/// The allocated units of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitMap {
    /// Sorted, disjoint, not touching.
    runs: Vec<UnitRun>,
    unit_count: u64,
    allocated_count: u64,
}

/// Consecutive allocated units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitRun {
    /// First unit.
    pub first: u64,
    /// One behind the last unit.
    pub end: u64,
    /// Allocated units in front of `first`.
    pub rank: u64,
}

impl UnitMap {
    /// The units of `unit_len` bytes, at least 512, that `data` touches on a disk of `disk_len` bytes; data beyond is
    /// ignored. The last unit may be partial.
    #[must_use]
    pub fn new(data: &DataMap, disk_len: u64, unit_len: u64) -> Self {
        debug_assert!(unit_len >= 512, "units are at least a sector");
        let unit_count = disk_len.div_ceil(unit_len);
        let mut runs: Vec<UnitRun> = Vec::new();
        let mut allocated_count = 0;
        for (start, end) in data.ranges() {
            let end = end.div_ceil(unit_len).min(unit_count);
            // Ranges are sorted: only the last run can already hold or touch this one.
            let covered = runs.last().map_or(0, |last| last.end);
            let first = (start / unit_len).max(covered);
            if first >= end {
                continue;
            }
            match runs.last_mut() {
                Some(last) if last.end == first => last.end = end,
                _ => runs.push(UnitRun {
                    first,
                    end,
                    rank: allocated_count,
                }),
            }
            allocated_count += end - first;
        }
        runs.shrink_to_fit();
        Self {
            runs,
            unit_count,
            allocated_count,
        }
    }

    /// Grains of the disk.
    #[must_use]
    pub fn unit_count(&self) -> u64 {
        self.unit_count
    }

    /// Allocated units.
    #[must_use]
    pub fn allocated_count(&self) -> u64 {
        self.allocated_count
    }

    /// Allocated units in front of `unit`; all of them for any number beyond the last.
    #[must_use]
    pub fn rank(&self, unit: u64) -> u64 {
        let index = self.runs.partition_point(|run| run.first < unit);
        match index.checked_sub(1).and_then(|last| self.runs.get(last)) {
            Some(run) => run.rank + (unit.min(run.end) - run.first),
            None => 0,
        }
    }

    /// The first allocated unit at or behind `unit`.
    #[must_use]
    pub fn next_allocated(&self, unit: u64) -> Option<u64> {
        self.runs_from(unit).first().map(|run| run.first.max(unit))
    }

    /// The run that holds the allocated unit number `rank`, counted from 0.
    #[must_use]
    pub fn run_of_rank(&self, rank: u64) -> Option<UnitRun> {
        if rank >= self.allocated_count {
            return None;
        }
        let index = self.runs.partition_point(|run| run.rank <= rank);
        index
            .checked_sub(1)
            .and_then(|last| self.runs.get(last))
            .copied()
    }

    /// The allocated unit number `rank`, counted from 0.
    #[must_use]
    pub fn select(&self, rank: u64) -> Option<u64> {
        let run = self.run_of_rank(rank)?;
        Some(run.first + (rank - run.rank))
    }

    /// The allocated units of `first..end` with their ranks, ascending.
    pub fn allocated_in(&self, first: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs_from(first)
            .iter()
            .take_while(move |run| run.first < end)
            .flat_map(move |run| {
                (run.first.max(first)..run.end.min(end))
                    .map(|unit| (unit, run.rank + (unit - run.first)))
            })
    }

    /// The runs that end behind `unit`.
    fn runs_from(&self, unit: u64) -> &[UnitRun] {
        let index = self.runs.partition_point(|run| run.end <= unit);
        self.runs.get(index..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::source::{ByteSource, Origin, ReadError, Run, Step};

    const G: u64 = 65536;

    /// A source with the given data ranges, for its map only.
    struct Ranges(Vec<(u64, u64)>, u64);

    impl ByteSource for Ranges {
        fn len(&self) -> u64 {
            self.1
        }
        fn read_exact_at(&self, _: u64, _: &mut [u8]) -> Result<(), ReadError> {
            unreachable!("maps do not read")
        }
        fn run_at(&self, offset: u64) -> Run {
            for (start, end) in &self.0 {
                if offset < *start {
                    return Run {
                        len: start - offset,
                        origin: Origin::Zero,
                    };
                }
                if offset < *end {
                    return Run {
                        len: end - offset,
                        origin: Origin::Computed("data"),
                    };
                }
            }
            Run {
                len: self.1 - offset,
                origin: Origin::Zero,
            }
        }
        fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}
    }

    fn map(ranges: &[(u64, u64)], len: u64) -> UnitMap {
        UnitMap::new(&DataMap::of(&Ranges(ranges.to_vec(), len)), len, G)
    }

    /// Every query against a plain list of flags.
    fn check_against_flags(ranges: &[(u64, u64)], grains: u64) {
        let map = map(ranges, grains * G);
        let flags: Vec<bool> = (0..grains)
            .map(|g| ranges.iter().any(|(s, e)| *s < (g + 1) * G && *e > g * G))
            .collect();
        let allocated: Vec<u64> = (0..grains)
            .filter(|g| flags[usize::try_from(*g).unwrap()])
            .collect();
        assert_eq!(map.unit_count(), grains);
        assert_eq!(
            map.allocated_count(),
            u64::try_from(allocated.len()).unwrap()
        );
        for g in 0..grains + 3 {
            let rank = allocated.iter().filter(|a| **a < g).count();
            assert_eq!(map.rank(g), u64::try_from(rank).unwrap(), "rank of {g}");
            assert_eq!(
                map.next_allocated(g),
                allocated.iter().copied().find(|a| *a >= g)
            );
            for end in [g, g + 1, g + 4] {
                let expected: Vec<(u64, u64)> = (0..)
                    .zip(&allocated)
                    .filter(|(_, a)| (g..end).contains(a))
                    .map(|(rank, a)| (*a, rank))
                    .collect();
                assert_eq!(map.allocated_in(g, end).collect::<Vec<_>>(), expected);
            }
        }
        for (rank, grain) in (0..).zip(&allocated) {
            assert_eq!(map.select(rank), Some(*grain));
            let run = map.run_of_rank(rank).unwrap();
            assert!((run.first..run.end).contains(grain));
        }
        assert_eq!(map.select(map.allocated_count()), None);
        assert_eq!(map.select(u64::MAX), None);
    }

    #[test]
    fn answers_like_a_list() {
        check_against_flags(&[], 5);
        check_against_flags(&[(0, 5 * G)], 5);
        check_against_flags(&[(0, 1)], 4);
        check_against_flags(&[(4 * G - 1, 4 * G)], 4);
        // Two ranges in one grain, one that ends where the next begins, one across a border.
        check_against_flags(
            &[
                (10, 20),
                (30, 40),
                (G, 2 * G),
                (3 * G + 5, 5 * G + 1),
                (5 * G + 9, 6 * G),
                (9 * G, 10 * G),
            ],
            12,
        );
    }

    #[test]
    fn touching_runs_are_one() {
        let map = map(&[(0, 1), (G + 7, G + 8), (2 * G, 3 * G)], 8 * G);
        assert_eq!(
            map.runs,
            [UnitRun {
                first: 0,
                end: 3,
                rank: 0
            }]
        );
    }

    #[test]
    fn data_beyond_the_disk_is_ignored() {
        let data = DataMap::of(&Ranges(vec![(G, 9 * G)], 9 * G));
        assert_eq!(UnitMap::new(&data, 3 * G, G).allocated_count(), 2);
    }
}
