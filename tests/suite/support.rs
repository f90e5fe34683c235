//! What the topics share: tools, a source in memory, and the conformance checks that every source must pass.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets and lengths of test data"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a failing step is to end the test where it happens"
)]

pub(crate) mod conformance;
mod full_disk;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

pub(crate) use conformance::check_byte_source;
pub(crate) use full_disk::FullDisk;
use miragefs::synth::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use miragefs::units::{to_u64, to_usize};

/// Whether the tool is there. If not, the test is to return: a `SKIP` line tells so, past the test harness's capture;
/// with `REQUIRE_ALL=1` in the environment a missing tool fails the test.
pub(crate) fn require_tool(tool: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
    });
    if !found {
        skip(format!("{tool} missing"));
    }
    found
}

/// Whether tests of minutes are wanted: `MIRAGEFS_LONG=1`.
pub(crate) fn long_tests() -> bool {
    std::env::var_os("MIRAGEFS_LONG").is_some_and(|value| value == "1")
}

/// The value of an environment variable for a check that only some machines can do; if unset, a `SKIP` line says so
/// and nothing fails.
pub(crate) fn skip_unless_asked(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    if value.is_none() {
        let current = std::thread::current();
        let test = current.name().unwrap_or("test");
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIP part of {test}: {name} is not set").unwrap();
    }
    value
}

/// Says that the rest of this test is skipped, or fails under `REQUIRE_ALL=1`.
pub(crate) fn skip(why: impl Display) {
    let current = std::thread::current();
    let test = current.name().unwrap_or("test");
    assert!(
        std::env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"),
        "{test}: {why}, and REQUIRE_ALL=1"
    );
    // Written to the stream itself: the harness would keep back what a passing test prints.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIP {test}: {why}").unwrap();
}

/// Runs a tool to success and returns its standard output.
pub(crate) fn run<S: AsRef<OsStr>>(tool: &str, arguments: impl IntoIterator<Item = S>) -> Vec<u8> {
    let mut command = Command::new(tool);
    command.args(arguments).env("LC_ALL", "C").env("TZ", "UTC");
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    assert!(
        status.success(),
        "{command:?}: {status}\n{}\n{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    stdout
}

/// [`run`], as text.
pub(crate) fn run_text<S: AsRef<OsStr>>(
    tool: &str,
    arguments: impl IntoIterator<Item = S>,
) -> String {
    String::from_utf8(run(tool, arguments)).unwrap()
}

/// All bytes from `offset` to `offset + len`, through a poisoned buffer.
pub(crate) fn read(source: &dyn ByteSource, offset: u64, len: u64) -> Vec<u8> {
    let mut buf = vec![0xa5; to_usize(len)];
    source.read_exact_at(offset, &mut buf).unwrap();
    buf
}

/// Writes a source to a file of its length, zero runs as holes.
pub(crate) fn write_to_file(source: &dyn ByteSource, path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(source.len()).unwrap();
    let mut offset = 0;
    while offset < source.len() {
        let run = source.run_at(offset);
        if !run.origin.is_zero() {
            let mut at = offset;
            while at < offset + run.len {
                let len = (offset + run.len - at).min(1 << 20);
                file.write_all_at(&read(source, at, len), at).unwrap();
                at += len;
            }
        }
        offset += run.len;
    }
}

/// A disk in memory: segments of given bytes, and known zeros everywhere else.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryDisk {
    len: u64,
    segments: BTreeMap<u64, Vec<u8>>,
    /// Where reads fail; shared by clones.
    broken: Arc<Mutex<Option<Broken>>>,
}

/// A stretch of a disk that cannot be read.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) range: Range<u64>,
    pub(crate) error: ReadError,
}

impl MemoryDisk {
    /// All zeros.
    pub(crate) fn new(len: u64) -> Self {
        Self {
            len,
            segments: BTreeMap::new(),
            broken: Arc::default(),
        }
    }

    /// Breaks a stretch of this disk and its clones, or mends them.
    pub(crate) fn set_broken(&self, broken: Option<Broken>) {
        *self.broken.lock().unwrap() = broken;
    }

    /// A disk of its own that holds other bytes in `range`, and data in the same places.
    pub(crate) fn altered(&self, range: &Range<u64>) -> Self {
        let mut segments = self.segments.clone();
        for (start, bytes) in &mut segments {
            for (byte, at) in bytes.iter_mut().zip(*start..) {
                if range.contains(&at) {
                    *byte = !*byte;
                }
            }
        }
        Self {
            len: self.len,
            segments,
            broken: Arc::default(),
        }
    }

    /// Adds bytes where nothing is yet.
    pub(crate) fn with(mut self, offset: u64, bytes: &[u8]) -> Self {
        let end = offset + to_u64(bytes.len());
        assert!(end <= self.len, "the segment lies inside the disk");
        for (start, segment) in &self.segments {
            let clear = *start >= end || start + to_u64(segment.len()) <= offset;
            assert!(clear, "segments do not overlap");
        }
        self.segments.insert(offset, bytes.to_vec());
        self
    }

    /// Adds `len` bytes of noise that depends on `offset`; none of its 64-byte lines is all zeros.
    pub(crate) fn with_noise(self, offset: u64, len: u64) -> Self {
        let bytes = noise(offset, to_usize(len));
        self.with(offset, &bytes)
    }

    /// The segment that begins at or before `offset`.
    fn segment_at(&self, offset: u64) -> Option<(u64, &[u8])> {
        let (start, bytes) = self.segments.range(..=offset).next_back()?;
        (offset - start < to_u64(bytes.len())).then_some((*start, bytes))
    }
}

/// Reproducible noise.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    (0..len)
        .map(|_| {
            state = next_random(state);
            u8::try_from(state >> 56).unwrap()
        })
        .collect()
}

/// The next state of a linear congruential generator (Knuth's MMIX constants).
pub(crate) fn next_random(state: u64) -> u64 {
    state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}

impl ByteSource for MemoryDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len)?;
        let end = offset + to_u64(buf.len());
        if let Some(broken) = &*self.broken.lock().unwrap()
            && offset < broken.range.end
            && end > broken.range.start
        {
            return Err(broken.error.clone());
        }
        let mut filled = 0;
        while filled < buf.len() {
            let at = offset + to_u64(filled);
            let len = to_usize(self.run_at(at).len).min(buf.len() - filled);
            let part = &mut buf[filled..filled + len];
            match self.segment_at(at) {
                Some((start, bytes)) => {
                    let from = to_usize(at - start);
                    part.copy_from_slice(&bytes[from..from + len]);
                }
                None => part.fill(0),
            }
            filled += len;
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        if offset >= self.len {
            return Run::EMPTY;
        }
        if let Some((start, bytes)) = self.segment_at(offset) {
            return Run {
                len: start + to_u64(bytes.len()) - offset,
                origin: Origin::Computed("test data"),
            };
        }
        let next = self.segments.range(offset..).next();
        Run {
            len: next.map_or(self.len, |(start, _)| *start) - offset,
            origin: Origin::Zero,
        }
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        if offset < self.len {
            trail.push(Step {
                what: "test disk".to_owned(),
                offset,
            });
        }
    }
}

mod tests {
    use super::*;

    #[test]
    fn the_memory_disk_conforms() {
        check_byte_source(&MemoryDisk::new(1));
        check_byte_source(
            &MemoryDisk::new(300_000)
                .with_noise(0, 7)
                .with_noise(7, 4096)
                .with_noise(100_000, 100_001)
                .with_noise(299_999, 1),
        );
        check_byte_source(&MemoryDisk::new(1 << 40).with_noise(1 << 39, 70_000));
    }
}
