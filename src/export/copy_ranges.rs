//! The bytes of some ranges of an image into a file that has the others already.
//!
//! Invariant: each byte of the ranges is written once, and none outside of them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use super::error::ExportError;
use super::share::{Stretch, stretches};
use super::{Progress, Transfer};
use crate::synth::generation::Image;
use crate::units::{KIB, MIB, to_u64, to_usize};

/// Bytes copied at once.
const CHUNK_LEN: u64 = MIB;

/// A stretch of a source file that is shorter is cheaper to read with what lies around it.
const STRETCH_LEN_MIN: u64 = 128 * KIB;

/// Copies the ranges, which are sorted.
pub(super) struct Copy<'a> {
    pub(super) image: &'a Image,
    pub(super) file: &'a File,
    /// The destination, for messages.
    pub(super) name: &'a Path,
    pub(super) cancel: &'a AtomicBool,
    /// Whether the kernel may copy between files.
    pub(super) in_kernel: bool,
    pub(super) transfer: &'a mut Transfer,
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Copy<'_> {
    pub(super) fn run(
        &mut self,
        ranges: &[(u64, u64)],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ExportError> {
        let mut buf = vec![0; to_usize(CHUNK_LEN)];
        for (start, end) in ranges {
            let mut at = *start;
            if self.in_kernel {
                for stretch in stretches(self.image, *start, *end) {
                    if stretch.len < STRETCH_LEN_MIN {
                        continue;
                    }
                    self.write(at, stretch.at, &mut buf, progress)?;
                    let copied = self.copy_in_kernel(&stretch, progress)?;
                    at = stretch.at.saturating_add(copied);
                    if !self.in_kernel {
                        break;
                    }
                }
            }
            self.write(at, *end, &mut buf, progress)?;
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), ExportError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(ExportError::Cancelled);
        }
        Ok(())
    }

    fn note(&mut self, count: u64, progress: &mut dyn FnMut(Progress)) {
        self.done = self.done.saturating_add(count);
        progress(Progress {
            done: self.done,
            total: self.total,
        });
    }

    /// Writes the image's bytes between two offsets.
    fn write(
        &mut self,
        start: u64,
        end: u64,
        buf: &mut [u8],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), ExportError> {
        let mut at = start;
        while at < end {
            self.check_cancelled()?;
            let len = end.saturating_sub(at).min(CHUNK_LEN);
            let (chunk, _) = buf.split_at_mut(to_usize(len));
            self.image.source.read_exact_at(at, chunk)?;
            self.file
                .write_all_at(chunk, at)
                .map_err(|source| ExportError::write(self.name, source))?;
            self.transfer.written = self.transfer.written.saturating_add(len);
            self.note(len, progress);
            at = at.saturating_add(len);
        }
        Ok(())
    }

    /// Has the kernel copy a stretch, and returns how much of it was: less where it does not do that.
    fn copy_in_kernel(
        &mut self,
        stretch: &Stretch,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<u64, ExportError> {
        let source = stretch.file.verified_fd()?;
        let mut copied: u64 = 0;
        while copied < stretch.len {
            self.check_cancelled()?;
            let len = stretch.len.saturating_sub(copied).min(CHUNK_LEN);
            let mut from = stretch.offset.saturating_add(copied);
            let mut to = stretch.at.saturating_add(copied);
            let result = rustix::fs::copy_file_range(
                &*source,
                Some(&mut from),
                self.file,
                Some(&mut to),
                to_usize(len),
            );
            match result {
                // The file is shorter than planned, which reading will say.
                Ok(0) => break,
                Ok(count) => {
                    let count = to_u64(count);
                    copied = copied.saturating_add(count);
                    self.transfer.copied = self.transfer.copied.saturating_add(count);
                    self.note(count, progress);
                }
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
                    let source = result.expect_err("it failed");
                    return Err(ExportError::write(self.name, io::Error::from(source)));
                }
                // Not between these file systems, or not these files.
                Err(_) => {
                    self.in_kernel = false;
                    break;
                }
            }
        }
        Ok(copied)
    }
}
