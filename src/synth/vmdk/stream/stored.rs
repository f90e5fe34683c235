//! Grains in stored blocks: each takes 129 sectors, whatever it holds.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets inside a grain, and those of grains inside a disk"
)]

use std::cell::RefCell;

use zerocopy::IntoBytes;

use crate::formats::vmdk::grain::{
    ADLER_END, ADLER_OFFSET, BODY_LEN, BODY_OFFSET, LAST_BYTE_OFFSET, SECOND_BLOCK,
    SECOND_BLOCK_OFFSET, STORED_GRAIN_LEN, prefix,
};
use crate::formats::vmdk::{GRAIN_LEN, GRAIN_SECTORS};
use crate::synth::source::{ByteSource, Origin, ReadError, Run, Step};
use crate::synth::vmdk::adler::{AdlerCache, checksum};
use crate::units::{to_u64, to_usize};

thread_local! {
    /// A grain for checksums that nothing read before.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What stored grains need besides the disk.
pub(super) struct StoredGrains {
    adlers: AdlerCache,
}

impl StoredGrains {
    pub(super) fn new() -> Self {
        Self {
            adlers: AdlerCache::new(),
        }
    }

    /// Fills `buf` from byte `from` of a stored grain, with at most one read of its data.
    pub(super) fn fill(
        &self,
        disk: &dyn ByteSource,
        grain: u64,
        from: u64,
        buf: &mut [u8],
    ) -> Result<(), ReadError> {
        let end = from + to_u64(buf.len());
        let data = data_before(from)..data_before(end);
        let mut last_byte = None;
        if !data.is_empty() {
            // The last byte lies five bytes further on than the rest; it is read in one go with it and moved.
            let start = if data.start == BODY_LEN {
                LAST_BYTE_OFFSET
            } else {
                BODY_OFFSET + data.start
            };
            let part = buf
                .get_mut(to_usize(start - from)..)
                .and_then(|rest| rest.get_mut(..to_usize(data.end - data.start)))
                .expect("a grain's stored form is longer than its data");
            disk.read_exact_at(grain * GRAIN_LEN + data.start, part)?;
            self.adlers.observe(grain, data.start, part);
            if data.end == GRAIN_LEN {
                last_byte = part.last().copied();
            }
        }
        overlay(buf, from, 0, prefix(grain * GRAIN_SECTORS).as_bytes());
        overlay(buf, from, SECOND_BLOCK_OFFSET, &SECOND_BLOCK);
        if let Some(byte) = last_byte {
            overlay(buf, from, LAST_BYTE_OFFSET, &[byte]);
        }
        if from < ADLER_END && end > ADLER_OFFSET {
            let adler = self.adler(disk, grain)?;
            overlay(buf, from, ADLER_OFFSET, &adler.to_be_bytes());
        }
        if let Some(padding) = buf.get_mut(to_usize(ADLER_END.saturating_sub(from))..) {
            padding.fill(0);
        }
        Ok(())
    }

    /// The checksum of a grain, from what was read before or from its data.
    fn adler(&self, disk: &dyn ByteSource, grain: u64) -> Result<u32, ReadError> {
        if let Some(adler) = self.adlers.get(grain) {
            return Ok(adler);
        }
        // Taken out, not borrowed: the disk below may itself hold a VMDK.
        let mut scratch = SCRATCH.take();
        scratch.resize(to_usize(GRAIN_LEN), 0);
        let result = disk.read_exact_at(grain * GRAIN_LEN, &mut scratch);
        let adler = result.map(|()| {
            self.adlers.observe(grain, 0, &scratch);
            checksum(&scratch)
        });
        SCRATCH.replace(scratch);
        adler
    }
}

/// The run of the byte at `within` of a stored grain: where it ends inside the grain, and where it comes from.
pub(super) fn run(disk: &dyn ByteSource, grain: u64, within: u64) -> (u64, Origin) {
    match within {
        0..BODY_OFFSET => (BODY_OFFSET, Origin::Computed("grain marker")),
        BODY_OFFSET..SECOND_BLOCK_OFFSET => {
            let Run { len, origin } = disk.run_at(grain * GRAIN_LEN + (within - BODY_OFFSET));
            let end = within.saturating_add(len).min(SECOND_BLOCK_OFFSET);
            (end, origin)
        }
        // Checksum, padding and the one data byte among them are one run: holes of single bytes help nobody.
        _ => (STORED_GRAIN_LEN, Origin::Computed("grain trailer")),
    }
}

/// Whether the byte at `within` is known to be zero, and for how many; `None` where the run says it.
pub(super) fn known_zero(disk: &dyn ByteSource, grain: u64, within: u64) -> Option<(bool, u64)> {
    if !(BODY_OFFSET..SECOND_BLOCK_OFFSET).contains(&within) {
        return None;
    }
    let (is_zero, len) = disk.known_zero_at(grain * GRAIN_LEN + (within - BODY_OFFSET));
    Some((is_zero, len.min(SECOND_BLOCK_OFFSET - within)))
}

/// Explains the byte at `within`.
pub(super) fn explain(disk: &dyn ByteSource, grain: u64, within: u64, trail: &mut Vec<Step>) {
    let part = grain_part(within);
    trail.push(Step {
        what: format!("stored VMDK grain {grain}, {part}"),
        offset: within,
    });
    if part == DATA_PART {
        disk.explain_at(grain * GRAIN_LEN + data_before(within), trail);
    }
}

/// Data bytes in front of offset `at` of a stored grain.
fn data_before(at: u64) -> u64 {
    at.saturating_sub(BODY_OFFSET).min(BODY_LEN) + u64::from(at > LAST_BYTE_OFFSET)
}

/// Copies the part of `bytes`, which lie at offset `at`, that `buf`, which begins at offset `from`, covers.
fn overlay(buf: &mut [u8], from: u64, at: u64, bytes: &[u8]) {
    let skip = to_usize(from.saturating_sub(at));
    let target = buf.get_mut(to_usize(at.saturating_sub(from))..);
    if let (Some(target), Some(bytes)) = (target, bytes.get(skip..)) {
        for (target, byte) in target.iter_mut().zip(bytes) {
            *target = *byte;
        }
    }
}

const DATA_PART: &str = "data";

/// What the byte at `at` of a stored grain is.
fn grain_part(at: u64) -> &'static str {
    match at {
        0..12 => "grain marker",
        12..BODY_OFFSET => "deflate header",
        BODY_OFFSET..SECOND_BLOCK_OFFSET | LAST_BYTE_OFFSET => DATA_PART,
        SECOND_BLOCK_OFFSET..LAST_BYTE_OFFSET => "deflate block header",
        ADLER_OFFSET..ADLER_END => "adler-32",
        _ => "padding",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_bytes_are_counted() {
        for (at, count) in [
            (0, 0),
            (19, 0),
            (20, 1),
            (65554, 65535),
            (65559, 65535),
            (65560, 65536),
            (66048, 65536),
        ] {
            assert_eq!(data_before(at), count, "{at}");
        }
    }

    #[test]
    fn overlays_are_clipped() {
        for (from, expected) in [
            (0, [9, 9, 9, 1]),
            (2, [9, 1, 2, 3]),
            (3, [1, 2, 3, 9]),
            (5, [3, 9, 9, 9]),
            (6, [9; 4]),
            (60, [9; 4]),
        ] {
            let mut buf = [9; 4];
            overlay(&mut buf, from, 3, &[1, 2, 3]);
            assert_eq!(buf, expected, "{from}");
        }
    }
}
