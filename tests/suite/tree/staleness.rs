//! A source that changes after planning: the read fails and names the file, and other bytes are never given.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use miragefs::synth::ext4::Ext4;
use miragefs::synth::source::{ByteSource, Change, Origin, ReadError};
use miragefs::units::to_usize;

use super::{entry, plan};
use crate::ext4::build::set_mtime;

const LEN: usize = 50_000;

/// A source with one file, planned; reads the file through the file system.
struct Planned {
    source: tempfile::TempDir,
    image: Ext4,
    /// Where the file's bytes lie in the image.
    offset: u64,
}

impl Planned {
    fn new(below: &str) -> Self {
        let source = tempfile::tempdir().unwrap();
        let path = source.path().join(below).join("file");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, vec![b'o'; LEN]).unwrap();
        fs::write(source.path().join("neighbour"), "unchanged").unwrap();
        let image = plan(&[entry(source.path(), "/", 1)]).file_system();
        let mut offset = 0;
        let found = loop {
            let run = image.run_at(offset);
            match &run.origin {
                Origin::HostFile { file, .. } if file.path() == path => break offset,
                _ => offset += run.len,
            }
        };
        Self {
            source,
            image,
            offset: found,
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.source.path().join("file")
    }

    fn read(&self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0xa5; LEN];
        self.image.read_exact_at(self.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Fails unless reading says that this file changed in that way.
    fn assert_stale(&self, path: &Path, changes: &[Change]) {
        for _ in 0..2 {
            match self.read() {
                Err(ReadError::Stale {
                    path: named,
                    change,
                }) => {
                    assert_eq!(named, path);
                    assert!(changes.contains(&change), "{change:?}");
                }
                other => panic!("{:?}", other.map(|bytes| bytes[0])),
            }
        }
        // Only reads that need those bytes fail.
        let mut metadata = vec![0; to_usize(self.offset)];
        let neighbour = self.image.read_exact_at(0, &mut metadata[..65_536]);
        neighbour.unwrap();
    }
}

/// Runs a change twice: before the file was opened, and with a descriptor kept from an earlier read.
fn both(change: impl Fn(&Path), changes: &[Change]) {
    for opened_before in [false, true] {
        let planned = Planned::new("");
        if opened_before {
            assert_eq!(planned.read().unwrap(), vec![b'o'; LEN]);
        }
        change(&planned.file());
        planned.assert_stale(&planned.file(), changes);
    }
}

#[test]
fn another_size_is_noticed() {
    both(
        |path| {
            File::options()
                .append(true)
                .open(path)
                .unwrap()
                .write_all(b"x")
                .unwrap();
        },
        &[Change::Attributes("size")],
    );
    both(
        |path| {
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(10)
                .unwrap();
        },
        &[Change::Attributes("size"), Change::Truncated],
    );
}

#[test]
fn other_bytes_of_the_same_size_are_noticed() {
    both(
        |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(b"x", 100).unwrap();
        },
        &[Change::Attributes("mtime")],
    );
    // The change time tells even where the modification time was put back.
    both(
        |path| {
            let before = fs::metadata(path).unwrap();
            let file = File::options().write(true).open(path).unwrap();
            file.write_all_at(b"x", 100).unwrap();
            use std::os::unix::fs::MetadataExt;
            set_mtime(path, before.mtime(), before.mtime_nsec());
        },
        &[Change::Attributes("ctime")],
    );
}

#[test]
fn another_time_is_noticed() {
    both(
        |path| set_mtime(path, 1_000_000_000, 0),
        &[Change::Attributes("mtime")],
    );
}

#[test]
fn another_file_of_that_name_is_noticed() {
    both(
        |path| {
            let other = path.with_file_name("other");
            fs::write(&other, vec![b'x'; LEN]).unwrap();
            fs::rename(other, path).unwrap();
        },
        // The old file, if still open, lost its name.
        &[Change::Attributes("inode"), Change::Attributes("ctime")],
    );
}

#[test]
fn a_symlink_in_its_place_is_noticed() {
    both(
        |path| {
            let moved = path.with_file_name("moved");
            fs::rename(path, &moved).unwrap();
            symlink("moved", path).unwrap();
        },
        &[Change::Vanished, Change::Attributes("ctime")],
    );
    // Also where a directory on the way became one that leads to the same file.
    let planned = Planned::new("sub");
    fs::rename(
        planned.source.path().join("sub"),
        planned.source.path().join("moved"),
    )
    .unwrap();
    symlink("moved", planned.source.path().join("sub")).unwrap();
    let path = planned.source.path().join("sub/file");
    planned.assert_stale(&path, &[Change::Vanished]);
}

#[test]
fn other_types_in_its_place_are_noticed() {
    both(
        |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
        &[Change::Attributes("type"), Change::Attributes("ctime")],
    );
    both(
        |path| {
            fs::remove_file(path).unwrap();
            rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RUSR).unwrap();
        },
        &[Change::Attributes("type"), Change::Attributes("ctime")],
    );
}

#[test]
fn a_vanished_file_is_noticed() {
    both(
        |path| fs::remove_file(path).unwrap(),
        &[Change::Vanished, Change::Attributes("ctime")],
    );
    let planned = Planned::new("a/b");
    fs::remove_dir_all(planned.source.path().join("a")).unwrap();
    let path = planned.source.path().join("a/b/file");
    planned.assert_stale(&path, &[Change::Vanished]);
}

#[test]
fn a_write_within_the_tick_of_the_clock_is_noticed() {
    // Files that were written just before planning are changed at once, many times over: were the first look taken as
    // good, some of these writes would leave the same timestamps.
    for _ in 0..200 {
        let planned = Planned::new("");
        let file = File::options().write(true).open(planned.file()).unwrap();
        file.write_all_at(b"x", 0).unwrap();
        if let Ok(bytes) = planned.read() {
            // The write came before the clock's next tick: it can only be told by looking again later, and the bytes
            // must then stay what they are.
            assert_eq!(planned.read().unwrap(), bytes);
        }
    }
}

#[test]
fn a_renamed_source_directory_serves_on() {
    let planned = Planned::new("");
    let moved = planned.source.path().with_extension("moved");
    fs::rename(planned.source.path(), &moved).unwrap();
    let bytes = planned.read();
    fs::rename(&moved, planned.source.path()).unwrap();
    assert_eq!(bytes.unwrap(), vec![b'o'; LEN]);
}
