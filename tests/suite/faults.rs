//! A disk that cannot be read in one place, below every format: what depends on that place fails, all else is right, and nothing
//! of the failure stays.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets inside a disk of a few MiB"
)]

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use miragefs::config::spec::VmSpec;
use miragefs::synth::cache::{BlockCache, Cached};
use miragefs::synth::source::{ByteSource, Change, ReadError};
use miragefs::synth::vagrant::{self, BoxParams};
use miragefs::units::{MIB, to_u64, to_usize};

use crate::ova::ova;
use crate::planned::{plan_config, write_config};
use crate::qcow2::qcow2;
use crate::support::{Broken, MemoryDisk, next_random, read};
use crate::vdi::vdi;
use crate::vhd::{dynamic, fixed};
use crate::vhdx::vhdx;
use crate::vmdk::{front, sparse, stream};

/// A few stretches of data, whole grains and parts of them, and a gap in which nothing is.
fn disk() -> MemoryDisk {
    MemoryDisk::new(6 * MIB)
        .with_noise(0, 512)
        .with_noise(MIB, 3 << 16)
        .with_noise(2 * MIB + 100, 5000)
        .with_noise(4 * MIB - 4096, 8192)
        .with_noise(6 * MIB - 512, 512)
}

/// Makes a file over a disk.
type Make = fn(&MemoryDisk) -> Arc<dyn ByteSource>;

const FORMATS: [(&str, Make); 11] = [
    ("sparse VMDK", |disk| Arc::new(sparse(disk))),
    ("stream VMDK", |disk| Arc::new(stream(disk, "disk.vmdk"))),
    ("stream VMDK, directory in front", |disk| {
        Arc::new(front(disk, "disk.vmdk"))
    }),
    ("OVA", |disk| Arc::new(ova(disk))),
    ("qcow2", |disk| Arc::new(qcow2(disk))),
    ("VDI", |disk| Arc::new(vdi(disk))),
    ("dynamic VHD", |disk| Arc::new(dynamic(disk))),
    ("fixed VHD", |disk| Arc::new(fixed(disk))),
    ("VHDX", |disk| Arc::new(vhdx(disk))),
    ("Vagrant box", |disk| {
        let params = BoxParams {
            name: "lab",
            vm: &VmSpec::default(),
            template: None,
            seed: "seed",
            disk_len: disk.len(),
            mtime: 1_700_000_000,
        };
        Arc::new(vagrant::libvirt(&params, Arc::new(qcow2(disk))).unwrap())
    }),
    ("cache", |disk| {
        let cache = BlockCache::new(4 << 20);
        Arc::new(Cached::new(Arc::new(disk.clone()), Arc::new(cache)))
    }),
];

/// A sector, all of a grain, bytes in the middle of one, and what crosses two.
const RANGES: [Range<u64>; 4] = [
    0..512,
    MIB + (1 << 16)..MIB + (2 << 16),
    2 * MIB + 200..2 * MIB + 201,
    4 * MIB - 1..4 * MIB + 1,
];

fn errors() -> [ReadError; 2] {
    let path = PathBuf::from("/source/file");
    [
        ReadError::Host {
            path: path.clone(),
            source: Arc::new(io::Error::from_raw_os_error(libc::EIO)),
        },
        ReadError::Stale {
            path,
            change: Change::Truncated,
        },
    ]
}

/// Reads all of `file` in pieces of odd lengths, and asserts that exactly those fail that hold a byte which depends on what is
/// broken, by the error that the disk gave. Returns how many failed.
fn check_reads(
    what: &str,
    file: &dyn ByteSource,
    whole: &[u8],
    other: &[u8],
    error: &ReadError,
) -> usize {
    let mut failed = 0;
    let mut state = 7;
    let mut at = 0;
    while at < whole.len() {
        state = next_random(state);
        // Mostly small, some longer than a grain.
        let most = if state.is_multiple_of(5) {
            150_000
        } else {
            5000
        };
        let len = to_usize(1 + (state >> 8) % most).min(whole.len() - at);
        let piece = at..at + len;
        // The cache renders whole blocks of what is computed, as this disk says that it is.
        let unit = if what == "cache" { 4096 } else { 1 };
        let around = at / unit * unit..(at + len).next_multiple_of(unit).min(whole.len());
        let depends = whole[around.clone()] != other[around];
        let mut bytes = vec![0xa5; len];
        match file.read_exact_at(to_u64(at), &mut bytes) {
            Ok(()) => {
                assert!(!depends, "{what}: {piece:?} was given");
                assert!(bytes == whole[piece.clone()], "{what}: {piece:?} is wrong");
            }
            Err(found) => {
                assert!(depends, "{what}: {piece:?}: {found}");
                assert_eq!(found.to_string(), error.to_string(), "{what}");
                failed += 1;
            }
        }
        at += len;
    }
    failed
}

#[test]
fn exactly_what_depends_on_a_broken_place_fails_and_only_while_it_is_broken() {
    let disk = disk();
    for (what, make) in FORMATS {
        let clean = make(&disk);
        let whole = read(&*clean, 0, clean.len());
        for range in RANGES {
            let altered = make(&disk.altered(&range));
            assert_eq!(altered.len(), clean.len());
            let other = read(&*altered, 0, altered.len());
            for error in errors() {
                // One that was read before, whose checksums are known, and one that was not.
                for warm in [false, true] {
                    let file = make(&disk);
                    if warm && what != "OVA" && !what.contains("stream") {
                        assert!(read(&*file, 0, file.len()) == whole);
                    }
                    disk.set_broken(Some(Broken {
                        range: range.clone(),
                        error: error.clone(),
                    }));
                    let cached = warm && what == "cache";
                    if !cached {
                        let failed = check_reads(what, &*file, &whole, &other, &error);
                        assert!(failed > 0, "{what}: {range:?}");
                    }
                    disk.set_broken(None);
                    assert!(read(&*file, 0, file.len()) == whole, "{what}: {range:?}");
                }
            }
        }
    }
}

/// A source that leaves one byte of what it is asked for as it was.
struct Forgetful(MemoryDisk);

impl ByteSource for Forgetful {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let kept = buf.last().copied();
        self.0.read_exact_at(offset, buf)?;
        if let (Some(last), Some(kept)) = (buf.last_mut(), kept) {
            *last = kept;
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> miragefs::synth::source::Run {
        self.0.run_at(offset)
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<miragefs::synth::source::Step>) {
        self.0.explain_at(offset, trail);
    }
}

/// Whether all of `source`, read in pieces of this length into buffers that hold other bytes, is the same each time.
fn is_filled(source: &dyn ByteSource, piece: usize) -> bool {
    let mut at = 0;
    while at < source.len() {
        let len = piece.min(to_usize(source.len() - at));
        let filled = [0x00, 0xff, 0xa5].map(|poison| {
            let mut bytes = vec![poison; len];
            source.read_exact_at(at, &mut bytes).unwrap();
            bytes
        });
        if filled[0] != filled[1] || filled[0] != filled[2] {
            return false;
        }
        at += to_u64(len);
    }
    true
}

#[test]
fn no_byte_of_an_old_buffer_is_ever_given_out() {
    let disk = disk();
    assert!(
        !is_filled(&Forgetful(disk.clone()), 1000),
        "the check sees nothing"
    );
    for (what, make) in FORMATS {
        let file = make(&disk);
        for piece in [1021, 4096, 65_537, 1 << 20] {
            assert!(is_filled(&*file, piece), "{what}, pieces of {piece}");
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let planned = plan_config(&write_config(directory.path()));
    for image in &planned.generation.images {
        for piece in [5003, 1 << 20] {
            assert!(is_filled(&*image.source, piece), "{}", image.name);
        }
    }
}
