//! How many bytes of an image differ from another, without reading what is known to be equal.

use serde::Serialize;

use crate::synth::source::{ByteSource, Origin, Run};
use crate::units::to_usize;

/// Bytes that are read of each of two images at most; what is beyond counts as not compared.
const READ_MAX: u64 = 64 << 20;
/// Bytes that are read at once.
const CHUNK: u64 = 256 << 10;

/// How two images of one name differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ImageBytes {
    /// Bytes at places that both have, and that differ.
    pub differing: u64,
    /// Bytes at places that both have but of which the old ones are gone, since their source changed, or are too many to
    /// be read: they may differ.
    pub not_compared: u64,
    /// Bytes of the longer one behind the end of the shorter.
    pub beyond: u64,
}

impl ImageBytes {
    /// Compares run by run: zeros, and the same bytes of the same host file, are equal without being read.
    #[must_use]
    pub fn between(old: &dyn ByteSource, new: &dyn ByteSource) -> Self {
        let common = old.len().min(new.len());
        let mut found = Self {
            beyond: old.len().max(new.len()).saturating_sub(common),
            ..Self::default()
        };
        let mut readable = READ_MAX;
        let mut at = 0;
        while at < common {
            let (before, after) = (old.run_at(at), new.run_at(at));
            let len = before
                .len
                .min(after.len)
                .clamp(1, common.saturating_sub(at));
            if !are_equal(&before, &after) {
                let read = len.min(readable);
                readable = readable.saturating_sub(read);
                found.compare(old, new, at, read);
                found.not_compared = found.not_compared.saturating_add(len.saturating_sub(read));
            }
            at = at.saturating_add(len);
        }
        found
    }

    /// Reads and compares.
    fn compare(&mut self, old: &dyn ByteSource, new: &dyn ByteSource, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let mut at = offset;
        while at < end {
            let count = CHUNK.min(end.saturating_sub(at));
            let read = |source: &dyn ByteSource| {
                let mut bytes = vec![0; to_usize(count)];
                source.read_exact_at(at, &mut bytes).map(|()| bytes)
            };
            match (read(old), read(new)) {
                (Ok(before), Ok(after)) => {
                    let pairs = before.iter().zip(&after);
                    let differing = pairs.filter(|(one, other)| one != other).count();
                    self.differing = self
                        .differing
                        .saturating_add(crate::units::to_u64(differing));
                }
                _ => self.not_compared = self.not_compared.saturating_add(count),
            }
            at = at.saturating_add(count);
        }
    }
}

fn are_equal(before: &Run, after: &Run) -> bool {
    match (&before.origin, &after.origin) {
        (Origin::Zero, Origin::Zero) => true,
        (
            Origin::HostFile { file, offset },
            Origin::HostFile {
                file: other,
                offset: at,
            },
        ) => offset == at && file.identity() == other.identity(),
        _ => false,
    }
}
