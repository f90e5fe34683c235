//! How long each compressed grain of a disk is, and what it is compressed to: what must be known before a VMDK of
//! compressed grains has a size.
//!
//! Invariant: memory is eight bytes per allocated grain and one sum per 64 of them; positions are found in logarithmic
//! time.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "grains are fewer than 2^48 and take at most 129 sectors each"
)]

mod build;
mod key;

pub(crate) use build::on_all_cores;
pub use build::{IndexError, IndexProgress, IndexState};
pub use key::GrainKey;

use crate::formats::vmdk::deflate::MARKER_LEN;
use crate::units::{SECTOR_SIZE, to_u64, to_usize};

/// Entries between two sums.
const STRIDE: u64 = 64;

/// A compressed grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexedGrain {
    /// Bytes of its zlib stream, 1 to 65552.
    pub len: u32,
    /// CRC-32 of its zlib stream.
    pub crc: u32,
}

const _: () = assert!(size_of::<IndexedGrain>() == 8);

impl IndexedGrain {
    /// The entry of a grain that is compressed to `stream`.
    ///
    /// # Panics
    /// If the stream is 4 GiB long, which none is.
    #[must_use]
    pub fn of(stream: &[u8]) -> Self {
        Self {
            len: u32::try_from(stream.len()).expect("streams are at most 65552 bytes long"),
            crc: crc32fast::hash(stream),
        }
    }

    /// Sectors that it takes in the file, with its marker.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        (MARKER_LEN + u64::from(self.len)).div_ceil(SECTOR_SIZE)
    }
}

/// The compressed grains of a disk in the order of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrainIndex {
    entries: Vec<IndexedGrain>,
    /// Sectors in front of every 64th entry.
    sums: Vec<u64>,
    sectors: u64,
}

impl GrainIndex {
    /// The index of these grains.
    #[must_use]
    pub fn new(entries: Vec<IndexedGrain>) -> Self {
        let mut sums = Vec::with_capacity(entries.len() / to_usize(STRIDE) + 1);
        let mut sectors = 0;
        for chunk in entries.chunks(to_usize(STRIDE)) {
            sums.push(sectors);
            sectors += chunk.iter().map(IndexedGrain::sectors).sum::<u64>();
        }
        Self {
            entries,
            sums,
            sectors,
        }
    }

    /// How many grains there are.
    #[must_use]
    pub fn grain_count(&self) -> u64 {
        to_u64(self.entries.len())
    }

    /// The allocated grain number `rank`, counted from 0.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn grain(&self, rank: u64) -> IndexedGrain {
        let found = self.entries.get(to_usize(rank));
        *found.expect("ranks are below the number of grains")
    }

    /// Sectors of all grains in front of number `rank`; of all for any number beyond the last.
    #[must_use]
    pub fn sectors_before(&self, rank: u64) -> u64 {
        let chunk = rank / STRIDE;
        let Some(sum) = self.sums.get(to_usize(chunk)) else {
            return self.sectors;
        };
        let first = to_usize(chunk * STRIDE);
        let end = to_usize(rank).min(self.entries.len());
        let entries = self.entries.get(first..end).unwrap_or_default();
        sum + entries.iter().map(IndexedGrain::sectors).sum::<u64>()
    }

    /// The number of the grain that holds sector `sector`, counted over grains only; their count beyond the last.
    #[must_use]
    pub fn rank_at(&self, sector: u64) -> u64 {
        if sector >= self.sectors {
            return self.grain_count();
        }
        let chunk = self.sums.partition_point(|sum| *sum <= sector) - 1;
        let mut end = self.sums.get(chunk).copied().unwrap_or(0);
        let mut rank = to_u64(chunk) * STRIDE;
        for entry in self.entries.iter().skip(to_usize(rank)) {
            end += entry.sectors();
            if end > sector {
                break;
            }
            rank += 1;
        }
        rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_like_a_list() {
        let entries: Vec<_> = (0..1000_u32)
            .map(|number| IndexedGrain {
                len: 1 + number * 7919 % 65_552,
                crc: number,
            })
            .collect();
        for count in [0, 1, 63, 64, 65, 128, 1000] {
            let entries = entries[..count].to_vec();
            let index = GrainIndex::new(entries.clone());
            assert_eq!(index.grain_count(), to_u64(count));
            let mut before = 0;
            for (rank, entry) in (0..).zip(&entries) {
                assert_eq!(index.grain(rank), *entry);
                assert_eq!(index.sectors_before(rank), before);
                for sector in [before, before + entry.sectors() - 1] {
                    assert_eq!(index.rank_at(sector), rank);
                }
                before += entry.sectors();
            }
            for beyond in [to_u64(count), to_u64(count) + 1, u64::MAX] {
                assert_eq!(index.sectors_before(beyond), before);
            }
            assert_eq!(index.rank_at(before), to_u64(count));
            assert_eq!(index.rank_at(u64::MAX), to_u64(count));
        }
    }

    #[test]
    fn the_marker_counts() {
        let sectors = |len| IndexedGrain { len, crc: 0 }.sectors();
        assert_eq!([1, 500, 501, 65_552].map(sectors), [1, 1, 2, 129]);
    }
}
