//! Thousands of small changes to a mounted file system, the same ones for the same seed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use miragefs::units::{to_u64, to_usize};
use rustix::fs::{FallocateFlags, XattrFlags, fallocate, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;

use super::rich::WIDE;
use crate::support::{next_random, noise};

/// Directories of our own that names are made in, besides those of the tree.
const OWN_DIRECTORIES: u64 = 12;
/// Names in each of them: few enough that operations meet.
const OWN_NAMES: u64 = 120;
/// Files reach up to here.
const LEN_MAX: u64 = 300_000;

/// What can happen to operations on names that others remove, replace or fill the file system with.
const EXPECTED: [Errno; 14] = [
    Errno::NOENT,
    Errno::EXIST,
    Errno::NOTEMPTY,
    Errno::ISDIR,
    Errno::NOTDIR,
    Errno::MLINK,
    Errno::NODATA,
    Errno::NOSPC,
    Errno::INVAL,
    Errno::LOOP,
    Errno::PERM,
    Errno::NXIO,
    Errno::BUSY,
    Errno::NODEV,
];

/// An operation: its name, how often it is drawn, what it does.
type Operation = (&'static str, u64, fn(&mut Worker) -> io::Result<()>);

const OPERATIONS: [Operation; 20] = [
    ("create", 16, Worker::create),
    ("append", 8, Worker::append),
    ("overwrite", 8, Worker::overwrite),
    ("truncate", 6, Worker::truncate),
    ("punch", 6, Worker::punch),
    ("preallocate", 3, Worker::preallocate),
    ("zero", 3, Worker::zero),
    ("rename", 12, Worker::rename),
    ("unlink", 10, Worker::unlink),
    ("link", 8, Worker::link),
    ("symlink", 4, Worker::symlink),
    ("mkdir", 5, Worker::mkdir),
    ("rmdir", 3, Worker::rmdir),
    ("small attribute", 8, Worker::small_attribute),
    ("large attribute", 8, Worker::large_attribute),
    ("shared attribute", 6, Worker::shared_attribute),
    ("no attribute", 10, Worker::no_attribute),
    ("mode", 4, Worker::mode),
    ("owner", 3, Worker::owner),
    ("fsync", 1, Worker::fsync),
];

/// How often each operation succeeded.
pub(super) type Tally = BTreeMap<&'static str, usize>;

/// What ends a churn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// After so many operations; an error that only damage gives is a failure.
    Operations(usize),
    /// When the file system is gone.
    PulledPlug,
}

/// Lets `workers` threads change what is below `root`, which holds a rich tree. One worker does the same for the same
/// seed; the seed is printed.
#[expect(
    clippy::print_stdout,
    reason = "the harness shows it if the test fails"
)]
pub(super) fn churn(root: &Path, seed: u64, workers: u64, until: Until) -> Tally {
    println!("churn: seed {seed}, {workers} workers, {until:?}");
    for index in 0..OWN_DIRECTORIES {
        fs::create_dir_all(root.join(format!("own/{index}"))).unwrap();
    }
    let mut tally = Tally::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|index| {
                let mut worker = Worker {
                    root: root.to_path_buf(),
                    state: next_random(seed ^ index << 32),
                };
                scope.spawn(move || worker.work(until))
            })
            .collect();
        for thread in threads {
            for (name, count) in thread.join().unwrap() {
                *tally.entry(name).or_default() += count;
            }
        }
    });
    tally
}

struct Worker {
    root: PathBuf,
    state: u64,
}

impl Worker {
    fn work(&mut self, until: Until) -> Tally {
        let all: u64 = OPERATIONS.iter().map(|(_, weight, _)| weight).sum();
        let mut tally = Tally::new();
        for step in 0.. {
            if until == Until::Operations(step) {
                break;
            }
            let mut drawn = self.below(all);
            let (name, _, operation) = OPERATIONS
                .iter()
                .find(|(_, weight, _)| {
                    let found = drawn < *weight;
                    drawn = drawn.saturating_sub(*weight);
                    found
                })
                .unwrap();
            match operation(self) {
                Ok(()) => *tally.entry(*name).or_default() += 1,
                Err(error) if is_expected(&error) => {}
                Err(_) if until == Until::PulledPlug => break,
                Err(error) => panic!("operation {step}, {name}: {error}"),
            }
        }
        tally
    }

    /// A number from 0 to `limit - 1`.
    fn below(&mut self, limit: u64) -> u64 {
        self.state = next_random(self.state);
        (self.state >> 33) % limit
    }

    /// Bytes, up to `max` of them.
    fn bytes(&mut self, max: u64) -> Vec<u8> {
        let len = to_usize(self.below(max));
        noise(self.state, len)
    }

    /// A directory that may or may not be there.
    fn directory(&mut self) -> String {
        format!("own/{}/d{}", self.below(OWN_DIRECTORIES), self.below(6))
    }

    /// A name that may or may not be there, more often than not one of our own.
    fn path(&mut self) -> PathBuf {
        let name = match self.below(10) {
            0 => format!("wide/ünïcöde nämé {}", self.below(to_u64(WIDE))),
            1 => format!("wide/{:030}", self.below(to_u64(WIDE))),
            2 => format!("dir/sub/a-file-with-a-näme-{}", self.below(300)),
            3 | 4 => format!("attributes/shared-{}", self.below(1100)),
            5 => format!("{}/{}", self.directory(), self.below(10)),
            _ => {
                let (directory, index) = (self.below(OWN_DIRECTORIES), self.below(OWN_NAMES));
                // Names of 1 to 241 bytes.
                let padding = "n".repeat(to_usize(index * 2));
                format!("own/{directory}/{index}{padding}")
            }
        };
        self.root.join(name)
    }

    fn open(&mut self, options: &mut OpenOptions) -> io::Result<File> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        options.custom_flags(flags).open(self.path())
    }

    fn create(&mut self) -> io::Result<()> {
        let mut file = self.open(OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all(&self.bytes(20_000))
    }

    fn append(&mut self) -> io::Result<()> {
        let mut file = self.open(OpenOptions::new().append(true))?;
        file.write_all(&self.bytes(10_000))
    }

    fn overwrite(&mut self) -> io::Result<()> {
        let file = self.open(OpenOptions::new().write(true))?;
        let at = self.below(LEN_MAX);
        file.write_all_at(&self.bytes(30_000), at)
    }

    fn truncate(&mut self) -> io::Result<()> {
        let file = self.open(OpenOptions::new().write(true))?;
        file.set_len(self.below(LEN_MAX))
    }

    fn allocate(&mut self, mode: FallocateFlags) -> io::Result<()> {
        let file = self.open(OpenOptions::new().write(true))?;
        let (at, len) = (self.below(LEN_MAX), 1 + self.below(LEN_MAX));
        Ok(fallocate(&file, mode | FallocateFlags::KEEP_SIZE, at, len)?)
    }

    fn punch(&mut self) -> io::Result<()> {
        self.allocate(FallocateFlags::PUNCH_HOLE)
    }

    fn preallocate(&mut self) -> io::Result<()> {
        self.allocate(FallocateFlags::empty())
    }

    fn zero(&mut self) -> io::Result<()> {
        self.allocate(FallocateFlags::ZERO_RANGE)
    }

    fn rename(&mut self) -> io::Result<()> {
        if self.below(10) == 0 {
            // With all that is in it.
            let (from, to) = (self.directory(), self.directory());
            return fs::rename(self.root.join(from), self.root.join(to));
        }
        fs::rename(self.path(), self.path())
    }

    fn unlink(&mut self) -> io::Result<()> {
        fs::remove_file(self.path())
    }

    fn link(&mut self) -> io::Result<()> {
        fs::hard_link(self.path(), self.path())
    }

    fn symlink(&mut self) -> io::Result<()> {
        let target = "t".repeat(to_usize(1 + self.below(120)));
        symlink(target, self.path())
    }

    fn mkdir(&mut self) -> io::Result<()> {
        let name = self.directory();
        fs::create_dir(self.root.join(name))
    }

    fn rmdir(&mut self) -> io::Result<()> {
        let name = self.directory();
        fs::remove_dir(self.root.join(name))
    }

    fn set(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        Ok(lsetxattr(self.path(), name, value, XattrFlags::empty())?)
    }

    fn small_attribute(&mut self) -> io::Result<()> {
        let (name, value) = (format!("user.s{}", self.below(4)), self.bytes(40));
        self.set(&name, &value)
    }

    fn large_attribute(&mut self) -> io::Result<()> {
        let (name, value) = (format!("user.l{}", self.below(3)), self.bytes(1500));
        self.set(&name, &value)
    }

    /// One of few sets, so that the kernel finds a block to share.
    fn shared_attribute(&mut self) -> io::Result<()> {
        let value = vec![b'a'; to_usize(300 + self.below(3))];
        self.set("user.shared", &value)
    }

    /// Takes one away from a file that has some.
    fn no_attribute(&mut self) -> io::Result<()> {
        let path = self.path();
        let mut list = vec![0; 4096];
        let len = llistxattr(&path, list.as_mut_slice())?;
        let names: Vec<&[u8]> = list[..len]
            .split(|byte| *byte == 0)
            .filter(|name| name.starts_with(b"user."))
            .collect();
        if names.is_empty() {
            return Err(Errno::NODATA.into());
        }
        let index = self.below(to_u64(names.len()));
        Ok(lremovexattr(path, names[to_usize(index)])?)
    }

    fn mode(&mut self) -> io::Result<()> {
        let path = self.path();
        if path.is_symlink() {
            return Ok(());
        }
        let mode = u32::try_from(self.below(0o1000)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn owner(&mut self) -> io::Result<()> {
        let owner = u32::try_from(self.below(1 << 20)).unwrap();
        std::os::unix::fs::lchown(self.path(), Some(owner), None)
    }

    fn fsync(&mut self) -> io::Result<()> {
        self.open(OpenOptions::new().write(true))?.sync_all()
    }
}

fn is_expected(error: &io::Error) -> bool {
    EXPECTED
        .iter()
        .any(|expected| error.raw_os_error() == Some(expected.raw_os_error()))
}

/// Fails unless every operation succeeded at least once in `one_in` of the times it was drawn on average, or fifty
/// times: in a long run the names are all there, and what makes new ones seldom finds one that is free.
#[track_caller]
pub(super) fn assert_lively(tally: &Tally, operations: usize, one_in: usize) {
    let all: u64 = OPERATIONS.iter().map(|(_, weight, _)| weight).sum();
    for (name, weight, _) in &OPERATIONS {
        let drawn = operations * to_usize(*weight) / to_usize(all);
        let succeeded = tally.get(name).copied().unwrap_or(0);
        assert!(
            succeeded >= (drawn / one_in).min(50),
            "{name} succeeded {succeeded} times of about {drawn}"
        );
    }
}
