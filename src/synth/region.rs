//! Stretches of an image that are rendered in one way each, and reads that cross them.

use super::source::ReadError;
use crate::units::{to_u64, to_usize};

/// A stretch of an image: `start..end` in bytes, never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region<K> {
    pub(super) kind: K,
    pub(super) start: u64,
    pub(super) end: u64,
}

impl<K> Region<K> {
    pub(super) fn new(kind: K, start: u64, len: u64) -> Self {
        Self {
            kind,
            start,
            end: start.saturating_add(len),
        }
    }

    /// Bytes from `offset`, which lies inside, to the end.
    pub(super) fn rest(&self, offset: u64) -> u64 {
        self.end.saturating_sub(offset)
    }

    /// How far inside `offset` lies.
    pub(super) fn within(&self, offset: u64) -> u64 {
        offset.saturating_sub(self.start)
    }
}

/// Fills `buf` from `offset` on: `fill` gets each region in turn, the offset within it and the part of `buf` it owns.
/// The range lies inside the image: the caller checked it.
pub(super) fn read_regions<K>(
    mut offset: u64,
    mut buf: &mut [u8],
    region_at: impl Fn(u64) -> Region<K>,
    mut fill: impl FnMut(&Region<K>, u64, &mut [u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    while !buf.is_empty() {
        let region = region_at(offset);
        let len = region.rest(offset).min(to_u64(buf.len()));
        assert!(len > 0, "regions leave no gap");
        let (part, rest) = buf.split_at_mut(to_usize(len));
        fill(&region, region.within(offset), part)?;
        offset = offset.saturating_add(len);
        buf = rest;
    }
    Ok(())
}

/// Fills `buf` from `bytes[from..]`, and with zeros behind their end.
pub(super) fn copy_padded(bytes: &[u8], from: u64, buf: &mut [u8]) {
    let rest = bytes.get(to_usize(from)..).unwrap_or_default();
    let len = rest.len().min(buf.len());
    let (head, tail) = buf.split_at_mut(len);
    for (target, byte) in head.iter_mut().zip(rest) {
        *target = *byte;
    }
    tail.fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_and_pads() {
        for (from, expected) in [(0, [1, 2, 3, 0]), (2, [3, 0, 0, 0]), (9, [0; 4])] {
            let mut buf = [0xa5; 4];
            copy_padded(&[1, 2, 3], from, &mut buf);
            assert_eq!(buf, expected);
        }
    }

    #[test]
    fn reads_cross_regions() {
        let region_at = |offset: u64| Region::new(offset / 10, offset / 10 * 10, 10);
        let mut buf = [0xa5; 15];
        read_regions(8, &mut buf, region_at, |region, within, part| {
            part.fill(u8::try_from(region.kind * 100 + within).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(
            buf,
            [
                8, 8, 100, 100, 100, 100, 100, 100, 100, 100, 100, 100, 200, 200, 200
            ]
        );
    }
}
