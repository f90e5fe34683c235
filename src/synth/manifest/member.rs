//! The digest of a member, computed from bytes as they are served, and read only where nobody asked for them.
//!
//! Invariant: the hash state belongs to the image. A frontier advances over the member: every byte in front of it is
//! hashed, once and in order. Whoever brings the bytes at the frontier takes the hasher out, hashes without holding the
//! lock and puts it back; whoever finds it taken, or brings bytes from further on, parks a copy within a bounded buffer.
//! When the digest is wanted, one background thread reads what is missing.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::parked::Parked;
use crate::config::spec::DigestAlgorithm;
use crate::synth::digest::{Hasher, hex_len};
use crate::synth::index_store::DigestStore;
use crate::synth::source::{ByteSource, ReadError};
use crate::units::{to_u64, to_usize};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Bytes of parked pieces at most, and how far in front of the frontier a piece may lie.
const WINDOW_LEN: u64 = 8 << 20;
/// What the background thread reads at once.
const CHUNK_LEN: u64 = 1 << 20;
/// How long a reader who finds the buffer full waits for the hasher to catch up before its piece is given up.
const CATCH_UP: Duration = Duration::from_millis(20);

/// The digest of one member.
pub(crate) struct MemberDigest {
    shared: Arc<Shared>,
}

struct Shared {
    member: Arc<dyn ByteSource>,
    state: Mutex<State>,
    changed: Condvar,
    /// In hex.
    digest: OnceLock<String>,
    /// Where it is kept for the next time.
    store: Option<DigestStore>,
    second_read_bytes: AtomicU64,
}

struct State {
    /// Everything in front of it is hashed, or being hashed by who took the hasher.
    frontier: u64,
    /// `None` while somebody hashes.
    hasher: Option<Hasher>,
    parked: Parked,
    job: Job,
}

/// The background thread; there is at most one.
enum Job {
    /// Never started, or done.
    Idle,
    Running,
    /// Ended by this error; the next who waits starts another one.
    Failed(ReadError),
}

impl MemberDigest {
    /// That of `member`, which `store` may know already.
    pub(crate) fn new(
        member: Arc<dyn ByteSource>,
        algorithm: DigestAlgorithm,
        store: Option<DigestStore>,
    ) -> Self {
        let known = store
            .as_ref()
            .and_then(|store| store.get(hex_len(algorithm)));
        let shared = Shared {
            member,
            state: Mutex::new(State {
                frontier: 0,
                hasher: Some(Hasher::new(algorithm)),
                parked: Parked::default(),
                job: Job::Idle,
            }),
            changed: Condvar::new(),
            digest: known.map_or_else(OnceLock::new, OnceLock::from),
            store,
            second_read_bytes: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes note of `bytes`, which were just served from `offset` of the member.
    pub(crate) fn observe(&self, offset: u64, bytes: &[u8]) {
        self.shared.observe(offset, bytes);
    }

    pub(crate) fn is_known(&self) -> bool {
        self.shared.digest.get().is_some()
    }

    /// Bytes that the background thread read.
    pub(crate) fn second_read_bytes(&self) -> u64 {
        self.shared.second_read_bytes.load(Ordering::Relaxed)
    }

    fn known(&self) -> Option<String> {
        let digest = self.shared.digest.get()?;
        let second = self.second_read_bytes();
        tracing::debug!("OVA digest: known, {second} bytes were read for it alone");
        Some(digest.clone())
    }

    /// Waits until bytes from `offset` on can be taken note of, or `is_enough` says so: what lies too far in front of
    /// the hasher is not kept.
    pub(crate) fn wait_near(&self, offset: u64, is_enough: impl Fn() -> bool) {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        while shared.digest.get().is_none()
            && offset > state.frontier.saturating_add(WINDOW_LEN / 2)
            && !is_enough()
        {
            shared.changed.wait_for(&mut state, CATCH_UP);
        }
    }

    /// The digest, after reading whatever nobody has read yet.
    ///
    /// # Errors
    /// The member's, if a byte cannot be read. A later call tries again.
    pub(crate) fn wait(&self) -> Result<String, ReadError> {
        let shared = &self.shared;
        if let Some(digest) = self.known() {
            return Ok(digest);
        }
        let mut state = shared.state.lock();
        // An empty member, or one whose last bytes are known zeros, may need no job at all.
        state = shared.advance(state);
        if shared.digest.get().is_none() && !matches!(state.job, Job::Running) {
            state.job = Job::Running;
            drop(state);
            start_job(shared);
            state = shared.state.lock();
        }
        loop {
            if let Some(digest) = self.known() {
                return Ok(digest);
            }
            // A job ran when this wait began: its failure, or that of one after it, is the answer.
            if let Job::Failed(error) = &state.job {
                return Err(error.clone());
            }
            shared.changed.wait(&mut state);
        }
    }
}

/// Runs the job on a thread of its own, or here where the system gives no thread.
fn start_job(shared: &Arc<Shared>) {
    let weak = Arc::downgrade(shared);
    let spawned = thread::Builder::new()
        .name("ova-digest".to_owned())
        .spawn(move || run_job(&weak));
    if spawned.is_err() {
        run_job(&Arc::downgrade(shared));
    }
}

/// Reads from the frontier on until the digest is known, a read fails, or the image is gone.
fn run_job(weak: &Weak<Shared>) {
    let mut guard = JobGuard {
        weak,
        error: Some(panicked()),
    };
    let mut buf = Vec::new();
    if let Some(shared) = weak.upgrade() {
        let frontier = shared.state.lock().frontier;
        let len = shared.member.len();
        tracing::debug!("OVA digest: job started, {frontier} of {len} bytes are hashed");
    }
    // The image is held only for a chunk at a time, so that dropping it ends the thread.
    while let Some(shared) = weak.upgrade() {
        match shared.read_chunk(&mut buf) {
            Ok(true) => {}
            Ok(false) => {
                guard.error = None;
                return;
            }
            Err(error) => {
                guard.error = Some(error);
                return;
            }
        }
    }
}

/// Ends the job however the thread ends, so that nobody waits for ever.
struct JobGuard<'a> {
    weak: &'a Weak<Shared>,
    error: Option<ReadError>,
}

impl Drop for JobGuard<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.weak.upgrade() {
            let mut state = shared.state.lock();
            state.job = self.error.take().map_or(Job::Idle, Job::Failed);
            shared.changed.notify_all();
        }
    }
}

fn panicked() -> ReadError {
    ReadError::Host {
        path: PathBuf::from("manifest"),
        source: Arc::new(io::Error::other("the thread that computes it panicked")),
    }
}

impl Shared {
    /// Hashes, parks or ignores bytes that were just served.
    fn observe(&self, offset: u64, bytes: &[u8]) {
        if self.digest.get().is_some() {
            return;
        }
        let deadline = Instant::now().checked_add(CATCH_UP);
        let end = offset.saturating_add(to_u64(bytes.len()));
        let mut state = self.state.lock();
        loop {
            if end <= state.frontier || offset > state.frontier.saturating_add(WINDOW_LEN) {
                return;
            }
            if offset <= state.frontier
                && let Some(hasher) = state.hasher.take()
            {
                let state = self.hash_taken(state, hasher, offset, bytes);
                drop(self.advance(state));
                return;
            }
            if state.parked.holds(offset, bytes.len()) {
                return;
            }
            if state.parked.make_room(offset, bytes.len(), WINDOW_LEN) {
                break;
            }
            // Only a running hasher makes room by itself; a gap would not.
            let Some(deadline) = deadline.filter(|_| state.hasher.is_none()) else {
                return;
            };
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
        // The copy is made without the lock, its room reserved meanwhile.
        state.parked.reserve(bytes.len());
        drop(state);
        let piece: Box<[u8]> = bytes.into();
        let mut state = self.state.lock();
        if self.digest.get().is_some() {
            return;
        }
        state.parked.insert_reserved(offset, piece);
        drop(self.advance(state));
    }

    /// Hashes the part of `bytes` behind the frontier with `hasher`, which was taken out of `state`.
    fn hash_taken<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut hasher: Hasher,
        offset: u64,
        bytes: &[u8],
    ) -> MutexGuard<'a, State> {
        let known = to_usize(state.frontier.saturating_sub(offset));
        let fresh = bytes.get(known..).unwrap_or_default();
        let end = state.frontier.saturating_add(to_u64(fresh.len()));
        MutexGuard::unlocked(&mut state, || hasher.update(fresh));
        state.frontier = end;
        state.hasher = Some(hasher);
        // The job may wait for the hasher, and readers for room.
        self.changed.notify_all();
        state
    }

    /// Hashes what is parked at the frontier, and known zeros behind it; notes the digest.
    fn advance<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while let Some(hasher) = state.hasher.take() {
            if state.frontier == self.member.len() {
                // Nothing more to hash: the hasher is not put back.
                let digest = self.digest.get_or_init(|| hasher.finish());
                state.parked.clear();
                self.changed.notify_all();
                if let Some(store) = &self.store {
                    MutexGuard::unlocked(&mut state, || store.put(digest));
                }
                return state;
            }
            let frontier = state.frontier;
            if let Some((offset, piece)) = state.parked.pop_reaching(frontier) {
                state = self.hash_taken(state, hasher, offset, &piece);
            } else if let Some(zeros) = self.zeros_at_frontier(&state) {
                state = self.hash_taken(state, hasher, frontier, &vec![0; zeros]);
            } else {
                state.hasher = Some(hasher);
                break;
            }
        }
        state
    }

    /// How many bytes to hash as zeros, if all from the frontier to the next parked piece, or to the member's end,
    /// are known to be zero: readers that skip holes never bring them.
    fn zeros_at_frontier(&self, state: &State) -> Option<usize> {
        let next = state.parked.first_offset().unwrap_or(self.member.len());
        let gap = next.checked_sub(state.frontier)?;
        if gap > WINDOW_LEN {
            return None;
        }
        let mut offset = state.frontier;
        while offset < next {
            let run = self.member.run_at(offset);
            if !run.origin.is_zero() || run.len == 0 {
                return None;
            }
            offset = offset.saturating_add(run.len);
        }
        Some(to_usize(gap.min(CHUNK_LEN)))
    }

    /// Reads once from the frontier up to the next parked piece and feeds it in; whether there is more to do.
    fn read_chunk(&self, buf: &mut Vec<u8>) -> Result<bool, ReadError> {
        let mut state = self.advance(self.state.lock());
        while state.hasher.is_none() && self.digest.get().is_none() {
            self.changed.wait(&mut state);
        }
        if self.digest.get().is_some() {
            return Ok(false);
        }
        let offset = state.frontier;
        let mut end = self.member.len().min(offset.saturating_add(CHUNK_LEN));
        if let Some(next) = state.parked.first_offset().filter(|next| *next > offset) {
            end = end.min(next);
        }
        drop(state);
        let len = end.saturating_sub(offset);
        buf.resize(to_usize(len), 0);
        self.member.read_exact_at(offset, buf)?;
        self.second_read_bytes.fetch_add(len, Ordering::Relaxed);
        let mut state = self.state.lock();
        // Readers may have come further meanwhile; if one is hashing just now, its end is waited for.
        while state.hasher.is_none() && self.digest.get().is_none() {
            self.changed.wait(&mut state);
        }
        if let Some(hasher) = state.hasher.take() {
            state = self.hash_taken(state, hasher, offset, buf);
            state = self.advance(state);
        }
        drop(state);
        Ok(self.digest.get().is_none())
    }
}

#[cfg(test)]
mod tests;
