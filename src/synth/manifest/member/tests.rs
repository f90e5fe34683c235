//! The digest under readers in many orders.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets of test data of a few MiB"
)]

use std::sync::atomic::AtomicBool;

use super::*;
use crate::synth::source::{Change, Origin, Run, Step, check_range};

/// Bytes in memory that can be made to fail; zero pages are known zeros.
struct Memory {
    bytes: Vec<u8>,
    failing: AtomicBool,
    panicking: AtomicBool,
    slow: AtomicBool,
    reads: AtomicU64,
}

const PAGE: usize = 4096;

impl Memory {
    /// A third of the pages are zero.
    fn new(len: usize) -> Self {
        let mut state = 1_u32;
        let bytes = (0..len)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if i / PAGE % 3 == 1 {
                    0
                } else {
                    u8::try_from(state >> 24).unwrap()
                }
            })
            .collect();
        Self {
            bytes,
            failing: AtomicBool::new(false),
            panicking: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            reads: AtomicU64::new(0),
        }
    }

    fn sha256(&self) -> String {
        let mut hasher = Hasher::new(DigestAlgorithm::Sha256);
        hasher.update(&self.bytes);
        hasher.finish()
    }
}

impl ByteSource for Memory {
    fn len(&self) -> u64 {
        to_u64(self.bytes.len())
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len())?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.slow.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(!self.panicking.load(Ordering::SeqCst), "told to panic");
        if self.failing.load(Ordering::SeqCst) {
            return Err(ReadError::Stale {
                path: "source".into(),
                change: Change::Vanished,
            });
        }
        let start = to_usize(offset);
        buf.copy_from_slice(&self.bytes[start..start + buf.len()]);
        Ok(())
    }
    fn run_at(&self, offset: u64) -> Run {
        let page_end = (to_usize(offset) / PAGE + 1) * PAGE;
        let zero = to_usize(offset) / PAGE % 3 == 1;
        Run {
            len: to_u64(page_end.min(self.bytes.len())).saturating_sub(offset),
            origin: if zero {
                Origin::Zero
            } else {
                Origin::Computed("test")
            },
        }
    }
    fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}
}

fn digest_of(memory: &Arc<Memory>) -> MemberDigest {
    MemberDigest::new(Arc::<Memory>::clone(memory), DigestAlgorithm::Sha256, None)
}

/// What a read does: bytes from the source, then observed.
fn serve(digest: &MemberDigest, memory: &Memory, offset: usize, len: usize) {
    let end = (offset + len).min(memory.bytes.len());
    if let Some(bytes) = memory.bytes.get(offset..end) {
        digest.observe(to_u64(offset), bytes);
    }
}

#[test]
fn front_to_back_needs_no_second_read() {
    let memory = Arc::new(Memory::new(3_000_001));
    let digest = digest_of(&memory);
    for offset in (0..memory.bytes.len()).step_by(70_001) {
        assert!(!digest.is_known());
        serve(&digest, &memory, offset, 70_001);
    }
    assert!(digest.is_known());
    assert_eq!(digest.wait().unwrap(), memory.sha256());
    assert_eq!(digest.second_read_bytes(), 0);
}

#[test]
fn pieces_out_of_order_wait_for_the_frontier() {
    let memory = Arc::new(Memory::new(4 << 20));
    let digest = digest_of(&memory);
    // Within each MiB from the last piece to the first, every other one twice.
    for mib in 0..4 {
        for piece in (0..16).rev() {
            for _ in 0..1 + piece % 2 {
                serve(&digest, &memory, (mib * 16 + piece) << 16, 1 << 16);
            }
        }
    }
    assert!(digest.is_known());
    assert_eq!(digest.wait().unwrap(), memory.sha256());
    assert_eq!(digest.second_read_bytes(), 0);
}

#[test]
fn readers_that_skip_holes_need_no_second_read() {
    let memory = Arc::new(Memory::new(999 * PAGE));
    let digest = digest_of(&memory);
    for page in (0..999).filter(|page| page % 3 != 1) {
        serve(&digest, &memory, page * PAGE, PAGE);
    }
    assert_eq!(digest.wait().unwrap(), memory.sha256());
    assert_eq!(digest.second_read_bytes(), 0);
}

#[test]
fn what_nobody_read_is_read_once() {
    let memory = Arc::new(Memory::new(5_000_000));
    let digest = digest_of(&memory);
    serve(&digest, &memory, 0, 1_000_000);
    serve(&digest, &memory, 2_000_000, 1_000_000);
    assert_eq!(digest.wait().unwrap(), memory.sha256());
    assert_eq!(digest.second_read_bytes(), 3_000_000);
}

#[test]
fn pieces_far_ahead_are_not_kept() {
    let memory = Arc::new(Memory::new(20 << 20));
    let digest = digest_of(&memory);
    for offset in (1..20).rev() {
        serve(&digest, &memory, offset << 20, 1 << 20);
    }
    let parked = digest.shared.state.lock().parked.first_offset();
    assert_eq!(parked, Some(1 << 20));
    assert_eq!(digest.wait().unwrap(), memory.sha256());
    // The 8 MiB nearest to the frontier were kept.
    assert_eq!(digest.second_read_bytes(), 12 << 20);
}

#[test]
fn threads_in_odd_order_agree() {
    for threads in 1..=4_usize {
        let memory = Arc::new(Memory::new(6 << 20));
        let digest = digest_of(&memory);
        let expected = memory.sha256();
        let expected = &expected;
        thread::scope(|scope| {
            for thread in 0..threads {
                let (digest, memory) = (&digest, &memory);
                scope.spawn(move || {
                    let mut state = to_u64(thread) + 7;
                    for round in 0..96 {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1);
                        let jitter = to_usize(state >> 60) << 14;
                        serve(digest, memory, (round << 16) + jitter, 100_000);
                        if round == 50 && thread == 1 {
                            assert_eq!(&digest.wait().unwrap(), expected);
                        }
                    }
                });
            }
        });
        assert_eq!(&digest.wait().unwrap(), expected, "{threads} threads");
    }
}

#[test]
fn many_waiters_share_one_job() {
    let memory = Arc::new(Memory::new(8 << 20));
    let digest = digest_of(&memory);
    let expected = memory.sha256();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(digest.wait().unwrap(), expected));
        }
    });
    assert_eq!(digest.second_read_bytes(), 8 << 20);
}

#[test]
fn a_failed_read_is_told_and_tried_again() {
    let memory = Arc::new(Memory::new(1 << 20));
    let digest = digest_of(&memory);
    memory.failing.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(
            digest.wait().unwrap_err().to_string(),
            "source: vanished since it was planned"
        );
    }
    memory.failing.store(false, Ordering::SeqCst);
    assert_eq!(digest.wait().unwrap(), memory.sha256());
}

#[test]
fn a_panicking_source_fails_the_wait() {
    let memory = Arc::new(Memory::new(1 << 20));
    let digest = digest_of(&memory);
    memory.panicking.store(true, Ordering::SeqCst);
    assert!(matches!(digest.wait(), Err(ReadError::Host { .. })));
    memory.panicking.store(false, Ordering::SeqCst);
    assert_eq!(digest.wait().unwrap(), memory.sha256());
}

#[test]
fn dropping_the_image_ends_the_job() {
    let memory = Arc::new(Memory::new(64 << 20));
    memory.slow.store(true, Ordering::SeqCst);
    let digest = digest_of(&memory);
    start_job(&digest.shared);
    while memory.reads.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    drop(digest);
    while Arc::strong_count(&memory) > 1 {
        thread::yield_now();
    }
    let reads = memory.reads.load(Ordering::SeqCst);
    assert!(reads < 64, "{reads} of 64 chunks were read");
}

/// The job that finds the hasher taken goes on when it is back, also if nothing else happens after that.
#[test]
fn the_job_waits_for_a_reader_that_hashes() {
    let memory = Arc::new(Memory::new(32 << 20));
    let digest = Arc::new(digest_of(&memory));
    let (reader, source) = (Arc::clone(&digest), Arc::clone(&memory));
    let hashing = thread::spawn(move || serve(&reader, &source, 0, 31 << 20));
    while digest.shared.state.lock().hasher.is_some() && !hashing.is_finished() {
        thread::yield_now();
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiter = Arc::clone(&digest);
    let waiting = thread::spawn(move || sender.send(waiter.wait().unwrap()));
    let answer = receiver.recv_timeout(Duration::from_secs(60));
    assert_eq!(answer, Ok(memory.sha256()));
    hashing.join().unwrap();
    waiting.join().unwrap().unwrap();
}

#[test]
fn an_empty_member_has_a_digest() {
    let memory = Arc::new(Memory::new(0));
    let digest = digest_of(&memory);
    assert_eq!(digest.wait().unwrap(), memory.sha256());
}
