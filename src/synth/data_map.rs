//! Which ranges of a source hold data and which are known to be zero, merged from its runs.

use super::source::ByteSource;

/// The data ranges of a source: sorted, disjoint, not touching, none empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataMap {
    /// Start and end of each range, half-open, in bytes.
    ranges: Vec<(u64, u64)>,
    data_len: u64,
    len: u64,
}

impl DataMap {
    /// Walks over `source` once.
    #[must_use]
    pub fn of(source: &dyn ByteSource) -> Self {
        let len = source.len();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut offset = 0;
        while offset < len {
            let (is_zero, run_len) = source.known_zero_at(offset);
            assert!(run_len > 0, "a run inside a source is not empty");
            let end = offset.saturating_add(run_len).min(len);
            if !is_zero {
                match ranges.last_mut() {
                    Some(last) if last.1 == offset => last.1 = end,
                    _ => ranges.push((offset, end)),
                }
            }
            offset = end;
        }
        ranges.shrink_to_fit();
        let lens = ranges.iter().map(|(start, end)| end.saturating_sub(*start));
        Self {
            data_len: lens.sum(),
            ranges,
            len,
        }
    }

    /// The data ranges in ascending order, half-open.
    #[must_use]
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.ranges
    }

    /// Bytes of data in all.
    #[must_use]
    pub const fn data_len(&self) -> u64 {
        self.data_len
    }

    /// `SEEK_DATA`: the first data byte at or after `offset`, if any.
    #[must_use]
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let index = self.ranges.partition_point(|(_, end)| *end <= offset);
        self.ranges
            .get(index)
            .map(|(start, _)| (*start).max(offset))
    }

    /// `SEEK_HOLE`: the first byte at or after `offset` that is in no data range; the end of the source is a hole.
    /// `None` at or beyond the end.
    #[must_use]
    pub fn next_hole(&self, offset: u64) -> Option<u64> {
        if offset >= self.len {
            return None;
        }
        let index = self.ranges.partition_point(|(_, end)| *end <= offset);
        match self.ranges.get(index) {
            Some((start, end)) if *start <= offset => Some(*end),
            _ => Some(offset),
        }
    }
}
