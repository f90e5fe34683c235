//! One file under random reads and writes of all kinds, beside a model of it in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use miragefs::units::{to_u64, to_usize};
use rustix::fs::{FallocateFlags, fallocate};

use crate::support::{next_random, noise};

/// The file stays below this length.
const LEN_MAX: u64 = 2 << 20;
const BLOCK: u64 = 4096;

struct Exercise<'a> {
    file: &'a File,
    model: Vec<u8>,
    state: u64,
}

/// Works on a file that is there, with the contents that it has; every read is compared. The seed is printed.
#[expect(
    clippy::print_stdout,
    reason = "the harness shows it if the test fails"
)]
#[track_caller]
pub(super) fn exercise(path: &Path, seed: u64, operations: usize) {
    println!("exercise: {}, seed {seed}", path.display());
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut model = Vec::new();
    io::Read::read_to_end(&mut file, &mut model).unwrap();
    let mut exercise = Exercise {
        file: &file,
        model,
        state: seed,
    };
    for step in 0..operations {
        exercise
            .step()
            .unwrap_or_else(|error| panic!("operation {step}: {error}"));
    }
    exercise.check(0, to_u64(exercise.model.len()), "at the end");
    assert_eq!(
        file.metadata().unwrap().len(),
        to_u64(exercise.model.len()),
        "length"
    );
}

impl Exercise<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        self.state = next_random(self.state);
        (self.state >> 33) % limit
    }

    fn len(&self) -> u64 {
        to_u64(self.model.len())
    }

    /// A range inside the file; empty only if the file is.
    fn range(&mut self) -> (u64, u64) {
        if self.model.is_empty() {
            return (0, 0);
        }
        let start = self.below(self.len());
        let len = 1 + self.below((self.len() - start).min(100_000));
        (start, len)
    }

    /// Whole blocks that lie inside the file and end before its end.
    fn blocks(&mut self) -> Option<(u64, u64)> {
        let count = self.len().saturating_sub(1) / BLOCK;
        if count == 0 {
            return None;
        }
        let start = self.below(count);
        let len = 1 + self.below((count - start).min(16));
        Some((start * BLOCK, len * BLOCK))
    }

    fn step(&mut self) -> io::Result<()> {
        match self.below(10) {
            0..3 => self.write(),
            3 => self.truncate(),
            4 => self.zeros(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE),
            5 => self.zeros(FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE),
            6 => self.collapse(),
            7 => self.insert(),
            8 => {
                let (start, len) = self.range();
                self.check(start, len, "read");
                Ok(())
            }
            _ => match self.below(20) {
                0 => self.file.sync_all(),
                _ => self.allocate(),
            },
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let start = self.below(LEN_MAX - 20_000);
        let len = to_usize(1 + self.below(20_000));
        let bytes = noise(self.state, len);
        let end = to_usize(start) + len;
        if end > self.model.len() {
            self.model.resize(end, 0);
        }
        self.model[to_usize(start)..end].copy_from_slice(&bytes);
        self.file.write_all_at(&bytes, start)
    }

    fn truncate(&mut self) -> io::Result<()> {
        let len = self.below(LEN_MAX);
        self.model.resize(to_usize(len), 0);
        self.file.set_len(len)
    }

    fn zeros(&mut self, mode: FallocateFlags) -> io::Result<()> {
        let (start, len) = self.range();
        if len == 0 {
            return Ok(());
        }
        self.model[to_usize(start)..to_usize(start + len)].fill(0);
        Ok(fallocate(self.file, mode, start, len)?)
    }

    fn allocate(&mut self) -> io::Result<()> {
        let (start, len) = (self.below(LEN_MAX / 2), 1 + self.below(LEN_MAX / 2));
        let end = to_usize(start + len);
        if end > self.model.len() {
            self.model.resize(end, 0);
        }
        Ok(fallocate(self.file, FallocateFlags::empty(), start, len)?)
    }

    fn collapse(&mut self) -> io::Result<()> {
        let Some((start, len)) = self.blocks() else {
            return Ok(());
        };
        self.model.drain(to_usize(start)..to_usize(start + len));
        let mode = FallocateFlags::COLLAPSE_RANGE;
        Ok(fallocate(self.file, mode, start, len)?)
    }

    fn insert(&mut self) -> io::Result<()> {
        let Some((start, len)) = self.blocks() else {
            return Ok(());
        };
        if self.len() + len > LEN_MAX {
            return Ok(());
        }
        let at = to_usize(start);
        self.model.splice(at..at, vec![0; to_usize(len)]);
        let mode = FallocateFlags::INSERT_RANGE;
        Ok(fallocate(self.file, mode, start, len)?)
    }

    #[track_caller]
    fn check(&self, start: u64, len: u64, when: &str) {
        let mut found = vec![0xa5; to_usize(len)];
        self.file.read_exact_at(&mut found, start).unwrap();
        let expected = &self.model[to_usize(start)..to_usize(start + len)];
        let differing = found.iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!(differing, None, "{when}: {len} bytes from {start}");
    }
}
