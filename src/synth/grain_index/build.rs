//! Compresses every grain of a disk once, on all cores, to learn how long each becomes.
//!
//! Invariant: what the store knows is not computed again; each grain that was computed is in the store before the next
//! one is begun, so that an end in the middle loses at most the grains at hand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::key::KeyMaker;
use super::{GrainIndex, IndexedGrain};
use crate::formats::vmdk::GRAIN_LEN;
use crate::synth::index_store::GrainStore;
use crate::synth::source::{ByteSource, ReadError};
use crate::synth::unit_map::UnitMap;
use crate::synth::vmdk::with_compressed;
use crate::units::{ByteCount, to_usize};

/// Grains that a worker takes at once: 1 MiB of the disk, which one source file often covers.
const BATCH: u64 = 16;

/// How far an index is.
#[derive(Debug, Default)]
pub struct IndexProgress {
    grains: AtomicU64,
    known: AtomicU64,
    compressed: AtomicU64,
    hash_len: AtomicU64,
    hashed: AtomicU64,
    started: Mutex<Option<Instant>>,
    stop: AtomicBool,
}

/// What an [`IndexProgress`] says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexState {
    /// Grains in all; 0 before it began.
    pub grains: u64,
    /// Grains that an earlier run had compressed.
    pub known: u64,
    /// Grains that were compressed now.
    pub compressed: u64,
    /// Bytes to hash; 0 while nothing is hashed.
    pub hash_len: u64,
    /// Bytes that are hashed.
    pub hashed: u64,
    /// Since when it compresses, or hashes.
    pub elapsed: Duration,
}

impl IndexProgress {
    /// Nothing has begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> IndexState {
        IndexState {
            grains: self.grains.load(Ordering::Relaxed),
            known: self.known.load(Ordering::Relaxed),
            compressed: self.compressed.load(Ordering::Relaxed),
            hash_len: self.hash_len.load(Ordering::Relaxed),
            hashed: self.hashed.load(Ordering::Relaxed),
            elapsed: self
                .started
                .lock()
                .map_or(Duration::ZERO, |at| at.elapsed()),
        }
    }

    /// From now on `len` bytes are hashed.
    pub(crate) fn begin_hashing(&self, len: u64) {
        self.hashed.store(0, Ordering::Relaxed);
        self.hash_len.store(len, Ordering::Relaxed);
        *self.started.lock() = Some(Instant::now());
    }

    /// So many bytes more are hashed.
    pub(crate) fn hashed(&self, len: u64) {
        self.hashed.fetch_add(len, Ordering::Relaxed);
    }

    /// Asks the workers to end; the index fails with [`IndexError::Stopped`].
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked for the end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl IndexState {
    /// Grains whose length is known.
    #[must_use]
    pub const fn grains_done(&self) -> u64 {
        self.known.saturating_add(self.compressed)
    }

    /// Bytes that are done, and bytes in all, of what is being done now.
    #[must_use]
    pub const fn bytes(&self) -> (u64, u64) {
        if self.hash_len > 0 {
            return (self.hashed, self.hash_len);
        }
        (
            self.grains_done().saturating_mul(GRAIN_LEN),
            self.grains.saturating_mul(GRAIN_LEN),
        )
    }

    /// Bytes per second; what an earlier run had done does not count.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let worked = if self.hash_len > 0 {
            self.hashed
        } else {
            self.compressed.saturating_mul(GRAIN_LEN)
        };
        let per_second = u128::from(worked)
            .saturating_mul(1000)
            .checked_div(self.elapsed.as_millis())
            .unwrap_or(0);
        u64::try_from(per_second).unwrap_or(u64::MAX)
    }

    /// How long it will still take at the rate so far.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let (done, all) = self.bytes();
        let left = all.saturating_sub(done);
        Some(Duration::from_secs(left.checked_div(self.rate())?))
    }
}

impl fmt::Display for IndexState {
    /// `compressing 35 % (… of …), … per second, 28 seconds left`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = if self.hash_len > 0 {
            "hashing"
        } else {
            "compressing"
        };
        let (done, all) = self.bytes();
        let percent = u128::from(done)
            .saturating_mul(100)
            .checked_div(u128::from(all))
            .unwrap_or(0);
        write!(
            f,
            "{doing} {percent} % ({} of {}), {} per second, ",
            ByteCount(done),
            ByteCount(all),
            ByteCount(self.rate()),
        )?;
        match self.remaining() {
            Some(left) => write!(f, "{} seconds left", left.as_secs()),
            None => f.write_str("no estimate yet"),
        }
    }
}

/// Why there is no index.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IndexError {
    /// A source cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It was asked to end.
    #[error("the index was not finished")]
    Stopped,
}

impl GrainIndex {
    /// Compresses the grains of `disk` that `units` names at `level`, except for those that `store` knows.
    ///
    /// # Errors
    /// [`IndexError`]; what was done is in the store.
    pub fn build(
        disk: &Arc<dyn ByteSource>,
        units: &UnitMap,
        level: u8,
        store: &GrainStore,
        progress: &IndexProgress,
    ) -> Result<Self, IndexError> {
        let count = units.allocated_count();
        progress.grains.store(count, Ordering::Relaxed);
        *progress.started.lock() = Some(Instant::now());
        let job = Job {
            disk,
            units,
            level,
            store,
            progress,
            next: AtomicU64::new(0),
            entries: Mutex::new(vec![IndexedGrain::default(); to_usize(count)]),
            failure: Mutex::new(None),
        };
        on_all_cores("index", &|| job.work());
        match job.failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(Self::new(job.entries.into_inner())),
        }
    }
}

/// Runs `work` on as many threads as there are CPUs, this one among them, until each has returned.
pub(crate) fn on_all_cores(name: &str, work: &(impl Fn() + Sync)) {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for number in 1..workers {
            // Where the system gives no thread, the others do its part.
            let thread = thread::Builder::new().name(format!("{name}-{number}"));
            drop(thread.spawn_scoped(scope, work));
        }
        work();
    });
}

struct Job<'a> {
    disk: &'a Arc<dyn ByteSource>,
    units: &'a UnitMap,
    level: u8,
    store: &'a GrainStore,
    progress: &'a IndexProgress,
    next: AtomicU64,
    entries: Mutex<Vec<IndexedGrain>>,
    failure: Mutex<Option<IndexError>>,
}

impl Job<'_> {
    /// Takes one batch after the other until none is left or one failed.
    fn work(&self) {
        let mut keys = KeyMaker::new(self.level);
        loop {
            let first = self.next.fetch_add(BATCH, Ordering::Relaxed);
            if first >= self.units.allocated_count() || self.failure.lock().is_some() {
                return;
            }
            if let Err(error) = self.batch(first, &mut keys) {
                self.failure.lock().get_or_insert(error);
                return;
            }
        }
    }

    fn batch(&self, first: u64, keys: &mut KeyMaker) -> Result<(), IndexError> {
        let end = first
            .saturating_add(BATCH)
            .min(self.units.allocated_count());
        let mut found = Vec::with_capacity(to_usize(BATCH));
        for rank in first..end {
            if self.progress.is_stopped() {
                return Err(IndexError::Stopped);
            }
            let grain = self
                .units
                .select(rank)
                .expect("ranks are below the number of allocated grains");
            let key = keys.key(&**self.disk, grain)?;
            if let Some(entry) = self.store.get(&key) {
                self.progress.known.fetch_add(1, Ordering::Relaxed);
                found.push(entry);
                continue;
            }
            let entry = with_compressed(&**self.disk, grain, self.level, IndexedGrain::of)?;
            self.store.insert(key, entry);
            self.progress.compressed.fetch_add(1, Ordering::Relaxed);
            found.push(entry);
        }
        let mut entries = self.entries.lock();
        for (slot, entry) in entries.iter_mut().skip(to_usize(first)).zip(found) {
            *slot = entry;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_is_left() {
        let state = IndexState {
            grains: 160,
            known: 32,
            compressed: 32,
            hash_len: 0,
            hashed: 0,
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(
            state.to_string(),
            "compressing 40 % (4194304 bytes (4 MiB) of 10485760 bytes (10 MiB)), \
             1048576 bytes (1 MiB) per second, 6 seconds left"
        );
        let hashing = IndexState {
            hash_len: 1000,
            ..state
        };
        assert_eq!(
            hashing.to_string(),
            "hashing 0 % (0 bytes of 1000 bytes), 0 bytes per second, no estimate yet"
        );
    }
}
