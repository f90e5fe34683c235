//! Which bytes of an image come from source files, and having the destination share their blocks.
//!
//! Invariant: what is shared is a stretch of one source file, whole blocks of the destination, verified before and after.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::clone_range::clone_range;
use super::error::ExportError;
use super::{Progress, Reflink};
use crate::synth::generation::Image;
use crate::synth::host_file::HostFile;
use crate::synth::source::Origin;

/// A stretch of an image that is a stretch of a source file.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    /// Where it begins in the image.
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) file: HostFile,
    /// Where it begins in the file.
    pub(super) offset: u64,
}

/// What came of sharing.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Sorted, half-open.
    pub(super) ranges: Vec<(u64, u64)>,
    /// Bytes in whole blocks of source files that do not lie on whole blocks of the image.
    pub(super) unaligned: u64,
    /// Bytes that would have been shared if the file system could.
    pub(super) refused: Option<Errno>,
}

/// The stretches of source files between two offsets.
pub(super) fn stretches(image: &Image, start: u64, end: u64) -> impl Iterator<Item = Stretch> {
    let mut offset = start;
    std::iter::from_fn(move || {
        while offset < end {
            let run = image.source.run_at(offset);
            let at = offset;
            let len = run.len.max(1).min(end.saturating_sub(at));
            offset = offset.saturating_add(len);
            if let Origin::HostFile { file, offset } = run.origin {
                return Some(Stretch {
                    at,
                    len,
                    file,
                    offset,
                });
            }
        }
        None
    })
}

impl Stretch {
    /// The whole blocks in it; `None` if there are none.
    fn blocks(&self, block_size: u64) -> Option<Self> {
        let skipped = self
            .at
            .checked_next_multiple_of(block_size)?
            .checked_sub(self.at)?;
        let rest = self.len.checked_sub(skipped)?;
        let len = rest.checked_sub(rest.checked_rem(block_size)?)?;
        (len > 0).then(|| Self {
            at: self.at.saturating_add(skipped),
            len,
            file: self.file.clone(),
            offset: self.offset.saturating_add(skipped),
        })
    }
}

/// Has `file`, which has the image's length, share what it can.
///
/// # Errors
/// [`ExportError::CannotShare`] if everything must be shared that lies on whole blocks; a source's; [`ExportError::Cancelled`].
pub(super) fn share(
    image: &Image,
    file: &File,
    block_size: u64,
    reflink: Reflink,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Shared, ExportError> {
    let mut shared = Shared::default();
    if reflink == Reflink::Never {
        return Ok(shared);
    }
    let total = image.data.data_len();
    let mut done: u64 = 0;
    // File systems that refused: their other files will be refused too.
    let mut refusing = BTreeSet::new();
    for (start, end) in image.data.ranges() {
        for stretch in stretches(image, *start, *end) {
            if cancel.load(Ordering::Relaxed) {
                return Err(ExportError::Cancelled);
            }
            let Some(blocks) = stretch.blocks(block_size) else {
                continue;
            };
            if blocks.offset.checked_rem(block_size) != Some(0) {
                shared.unaligned = shared.unaligned.saturating_add(blocks.len);
                continue;
            }
            let device = blocks.file.identity().device;
            if refusing.contains(&device) {
                continue;
            }
            let source = blocks.file.verified_fd()?;
            match clone_range(&*source, blocks.offset, blocks.len, file, blocks.at) {
                Ok(()) => {
                    let end = blocks.at.saturating_add(blocks.len);
                    push(&mut shared.ranges, (blocks.at, end));
                    done = done.saturating_add(blocks.len);
                    progress(Progress { done, total });
                }
                Err(error) if reflink == Reflink::Always => {
                    return Err(ExportError::CannotShare {
                        path: blocks.file.path(),
                        source: error.into(),
                    });
                }
                Err(error) => {
                    refusing.insert(device);
                    shared.refused = Some(error);
                }
            }
        }
    }
    if reflink == Reflink::Always && shared.unaligned > 0 {
        return Err(ExportError::Unaligned {
            unaligned: shared.unaligned,
            block_size,
        });
    }
    Ok(shared)
}

/// Appends a range, joined with the last one if they touch.
fn push(ranges: &mut Vec<(u64, u64)>, range: (u64, u64)) {
    match ranges.last_mut() {
        Some(last) if last.1 == range.0 => last.1 = range.1,
        _ => ranges.push(range),
    }
}

/// What of `all` is not in `shared`; both sorted and half-open, each of `shared` inside one of `all`.
pub(super) fn without(all: &[(u64, u64)], shared: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut rest = Vec::new();
    let mut shared = shared.iter().peekable();
    for (start, end) in all {
        let mut at = *start;
        while let Some(taken) = shared.next_if(|taken| taken.0 < *end) {
            if at < taken.0 {
                rest.push((at, taken.0));
            }
            at = taken.1;
        }
        if at < *end {
            rest.push((at, *end));
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_leaves_the_rest() {
        for (all, shared, rest) in [
            (&[(0, 10), (20, 30)][..], &[][..], &[(0, 10), (20, 30)][..]),
            (&[(0, 10), (20, 30)], &[(0, 10)], &[(20, 30)]),
            (
                &[(0, 10), (20, 30)],
                &[(2, 4), (20, 22), (28, 30)],
                &[(0, 2), (4, 10), (22, 28)],
            ),
            (&[(0, 10)], &[(0, 4), (4, 10)], &[]),
            (&[], &[], &[]),
        ] {
            assert_eq!(without(all, shared), rest);
        }
    }

    #[test]
    fn touching_ranges_are_joined() {
        let mut ranges = Vec::new();
        for range in [(0, 4), (4, 8), (9, 10)] {
            push(&mut ranges, range);
        }
        assert_eq!(ranges, [(0, 8), (9, 10)]);
    }
}
