//! The manifest of a package: the digests of its files, in the format of DSP0243.
//!
//! Invariant: its length is known at once; only its bytes need the digest of the disk.

mod member;
mod parked;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub(super) use self::member::MemberDigest;
use super::digest::{Hasher, hex_len, label};
use super::grain_index::{IndexError, IndexProgress, on_all_cores};
use super::region::copy_padded;
use super::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use crate::config::spec::DigestAlgorithm;
use crate::units::{to_u64, to_usize};

/// What one core reads at once; far below the room for pieces that arrive early.
const CHUNK_LEN: u64 = 256 << 10;

/// A manifest of two lines: one for the descriptor, one for the disk.
pub struct Manifest {
    /// All but the disk's digest and the end of its line.
    before: String,
    digest_len: usize,
    digest: Arc<MemberDigest>,
}

impl Manifest {
    /// The manifest of a descriptor, which is known, and of the disk that `digest` is of.
    pub(super) fn new(
        algorithm: DigestAlgorithm,
        (ovf_name, ovf): (&str, &[u8]),
        disk_name: &str,
        digest: Arc<MemberDigest>,
    ) -> Self {
        let label = label(algorithm);
        let mut hasher = Hasher::new(algorithm);
        hasher.update(ovf);
        let ovf_digest = hasher.finish();
        Self {
            before: format!("{label}({ovf_name})= {ovf_digest}\n{label}({disk_name})= "),
            digest_len: hex_len(algorithm),
            digest,
        }
    }

    /// The whole text; waits for the disk's digest.
    fn text(&self) -> Result<String, ReadError> {
        let text = format!("{}{}\n", self.before, self.digest.wait()?);
        debug_assert_eq!(to_u64(text.len()), self.len());
        Ok(text)
    }

    /// Reads `disk`, which is hashed as it is served, once on all cores, and waits for its digest.
    pub(super) fn settle(
        &self,
        disk: &dyn ByteSource,
        progress: &IndexProgress,
    ) -> Result<(), IndexError> {
        if self.digest.is_known() {
            return Ok(());
        }
        progress.begin_hashing(disk.len());
        let next = AtomicU64::new(0);
        let failure = Mutex::new(None);
        let work = || {
            let mut buf = Vec::new();
            while !self.digest.is_known() && failure.lock().is_none() {
                let start = next.fetch_add(CHUNK_LEN, Ordering::Relaxed);
                if start >= disk.len() {
                    return;
                }
                let is_enough = || progress.is_stopped() || failure.lock().is_some();
                self.digest.wait_near(start, is_enough);
                let len = CHUNK_LEN.min(disk.len().saturating_sub(start));
                buf.resize(to_usize(len), 0);
                let read = if progress.is_stopped() {
                    Err(IndexError::Stopped)
                } else {
                    disk.read_exact_at(start, &mut buf)
                        .map_err(IndexError::from)
                };
                match read {
                    Ok(()) => progress.hashed(len),
                    Err(error) => *failure.lock() = Some(error),
                }
            }
        };
        on_all_cores("hash", &work);
        match failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(self.digest.wait().map(drop)?),
        }
    }

    /// Bytes that were read in the background for it alone.
    #[must_use]
    pub(super) fn second_read_bytes(&self) -> u64 {
        self.digest.second_read_bytes()
    }
}

impl ByteSource for Manifest {
    fn len(&self) -> u64 {
        to_u64(
            self.before
                .len()
                .saturating_add(self.digest_len)
                .saturating_add(1),
        )
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len())?;
        copy_padded(self.text()?.as_bytes(), offset, buf);
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        Run {
            len: self.len().saturating_sub(offset),
            origin: if offset < self.len() {
                Origin::Computed("OVA manifest")
            } else {
                Origin::Zero
            },
        }
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        if offset < self.len() {
            trail.push(Step {
                what: "manifest".to_owned(),
                offset,
            });
        }
    }

    fn may_block(&self, offset: u64, len: u64) -> bool {
        len > 0 && offset < self.len() && !self.digest.is_known()
    }
}

/// A source whose bytes are hashed as they are served.
pub(super) struct Observed {
    inner: Arc<dyn ByteSource>,
    digest: Arc<MemberDigest>,
}

impl Observed {
    /// `inner`, whose digest `digest` is.
    pub(super) fn new(inner: Arc<dyn ByteSource>, digest: Arc<MemberDigest>) -> Self {
        Self { inner, digest }
    }
}

impl ByteSource for Observed {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.inner.read_exact_at(offset, buf)?;
        self.digest.observe(offset, buf);
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        self.inner.run_at(offset)
    }

    fn known_zero_at(&self, offset: u64) -> (bool, u64) {
        self.inner.known_zero_at(offset)
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        self.inner.explain_at(offset, trail);
    }

    fn may_block(&self, offset: u64, len: u64) -> bool {
        self.inner.may_block(offset, len)
    }
}
