//! What readers of a real mount see: docs/semantics.md names these tests.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets of sources of at most 64 GiB"
)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use miragefs::fs::mount::{MountOptions, Mounted};
use miragefs::fs::mountpoint;
use miragefs::synth::generation::Generation;
use miragefs::synth::source::{ByteSource, Change, ReadError};
use miragefs::units::{GIB, MIB, to_u64, to_usize};
use rustix::fs::SeekFrom;

use crate::mounted::{
    Synthetic, TestMount, image, mounted_type, output, require_fuse, require_program, require_root,
    stderr,
};

/// Data, a hole of 2 MiB, data that ends within a page.
const RUNS: [(u64, bool); 4] = [
    (MIB, false),
    (MIB + 100, false),
    (3 * MIB + 4096, true),
    (5 * MIB + 123, false),
];

fn synthetic() -> Arc<Synthetic> {
    Arc::new(Synthetic::new(&RUNS))
}

fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buf = vec![0xa5; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buf[filled..], offset + to_u64(filled))? {
            0 => break,
            count => filled += count,
        }
    }
    buf.truncate(filled);
    Ok(buf)
}

pub(crate) fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn odd_reads_equal_the_source() {
    if !require_fuse() {
        return;
    }
    let source = synthetic();
    let mount = TestMount::new(vec![image("disk.img", Arc::clone(&source))]);
    let file = File::open(mount.file("disk.img")).unwrap();
    let end = source.len();
    for (offset, len) in [
        (0, 1),
        (511, 2),
        (4095, 4098),
        (MIB - 1, 3),
        (MIB + 99, 2),
        (3 * MIB + 4095, 2),
        (1_234_567, 2_345_678),
        (end - 1, 1),
        (0, end),
    ] {
        let bytes = read_at(&file, offset, to_usize(len)).unwrap();
        assert!(
            bytes == source.bytes(offset, offset + len),
            "{offset}+{len}"
        );
    }
}

#[test]
fn reads_end_at_the_end() {
    if !require_fuse() {
        return;
    }
    let source = synthetic();
    let mount = TestMount::new(vec![image("disk.img", Arc::clone(&source))]);
    let file = File::open(mount.file("disk.img")).unwrap();
    let end = source.len();
    assert_eq!(read_at(&file, end - 5, 100).unwrap().len(), 5);
    assert_eq!(read_at(&file, end, 100).unwrap().len(), 0);
    assert_eq!(read_at(&file, 1 << 60, 100).unwrap().len(), 0);
}

#[test]
fn parallel_readers_agree() {
    if !require_fuse() {
        return;
    }
    let source = synthetic();
    let mount = TestMount::new(vec![image("disk.img", Arc::clone(&source))]);
    let whole = source.bytes(0, source.len());
    thread::scope(|scope| {
        for chunk in [1_000, 4_096, 65_536, 131_073, 1 << 20, 777_777] {
            let (mount, whole) = (&mount, &whole);
            scope.spawn(move || {
                let file = File::open(mount.file("disk.img")).unwrap();
                for start in (0..whole.len()).step_by(chunk) {
                    let bytes = read_at(&file, to_u64(start), chunk).unwrap();
                    let end = (start + chunk).min(whole.len());
                    assert!(bytes == whole[start..end], "{start}, chunks of {chunk}");
                }
            });
        }
    });
}

#[test]
fn direct_reads_equal_the_source() {
    if !require_fuse() {
        return;
    }
    let source = synthetic();
    let mount = TestMount::new(vec![image("disk.img", Arc::clone(&source))]);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(mount.file("disk.img"))
        .unwrap();
    for (offset, len) in [(0, 4096), (MIB - 512, 1024), (3 * MIB, 2 * MIB + 123)] {
        let bytes = read_at(&file, offset, to_usize(len)).unwrap();
        assert!(
            bytes == source.bytes(offset, offset + len),
            "{offset}+{len}"
        );
    }
}

#[test]
fn mapped_pages_equal_the_source() {
    if !require_fuse() || !require_program("python3") {
        return;
    }
    let source = synthetic();
    let mount = TestMount::new(vec![image("disk.img", Arc::clone(&source))]);
    let script = "import mmap, sys\n\
        with open(sys.argv[1], 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:\n\
        \x20   sys.stdout.buffer.write(m[:])";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(mount.file("disk.img"));
    let mapped = output(&mut python);
    assert!(mapped.status.success(), "{}", stderr(&mapped));
    assert!(mapped.stdout == source.bytes(0, source.len()));
}

#[test]
fn attributes_tell_size_data_time_and_owner() {
    if !require_fuse() {
        return;
    }
    let mount = TestMount::new(vec![image("disk.img", synthetic())]);
    let found = fs::metadata(mount.file("disk.img")).unwrap();
    assert!(found.is_file());
    assert_eq!(found.len(), 5 * MIB + 123);
    assert_eq!(found.permissions().mode() & 0o7777, 0o444);
    assert_eq!(found.uid(), rustix::process::getuid().as_raw());
    assert_eq!(found.gid(), rustix::process::getgid().as_raw());
    assert_eq!((found.mtime(), found.mtime_nsec()), (1_700_000_000, 0));
    assert_eq!(
        (found.atime(), found.ctime()),
        (1_700_000_000, 1_700_000_000)
    );
    assert_eq!(found.nlink(), 1);
    assert_eq!(found.blksize(), 4096);
    // 1 MiB + 100 bytes and 2 MiB - 4096 + 123 bytes are data.
    let data_len = (MIB + 100) + (2 * MIB - 4096 + 123);
    assert_eq!(found.blocks(), data_len.div_ceil(512));
    let root = fs::metadata(mount.path()).unwrap();
    assert_eq!(root.permissions().mode() & 0o7777, 0o555);
    assert_eq!(root.uid(), found.uid());
}

#[test]
fn the_directory_lists_the_images() {
    if !require_fuse() {
        return;
    }
    let names = ["disk.img", "disk.vmdk", "boot.ova"];
    let mount = TestMount::new(names.map(|name| image(name, synthetic())).to_vec());
    for _ in 0..2 {
        let entries = fs::read_dir(mount.path()).unwrap();
        let found: Vec<_> = entries.map(|entry| entry.unwrap()).collect();
        let listed: Vec<_> = found.iter().map(|entry| entry.file_name()).collect();
        assert_eq!(listed, names);
        for entry in &found {
            let metadata = fs::metadata(entry.path()).unwrap();
            assert_eq!(std::os::unix::fs::DirEntryExt::ino(entry), metadata.ino());
        }
    }
}

#[test]
fn seeks_find_data_and_holes() {
    if !require_fuse() {
        return;
    }
    let mount = TestMount::new(vec![image("disk.img", synthetic())]);
    let file = File::open(mount.file("disk.img")).unwrap();
    let data = |offset| rustix::fs::seek(&file, SeekFrom::Data(offset));
    let hole = |offset| rustix::fs::seek(&file, SeekFrom::Hole(offset));
    let end = 5 * MIB + 123;
    assert_eq!(data(0), Ok(0));
    assert_eq!(hole(0), Ok(MIB + 100));
    assert_eq!(data(MIB + 100), Ok(3 * MIB + 4096));
    assert_eq!(hole(2 * MIB), Ok(2 * MIB));
    assert_eq!(hole(4 * MIB), Ok(end));
    assert_eq!(data(end - 1), Ok(end - 1));
    assert_eq!(data(end), Err(rustix::io::Errno::NXIO));
    assert_eq!(hole(end), Err(rustix::io::Errno::NXIO));
}

#[test]
fn sparse_copies_read_only_data() {
    if !require_fuse() {
        return;
    }
    let end = 64 * GIB;
    let runs = [(MIB, false), (end - MIB, true), (end, false)];
    let source = Arc::new(Synthetic::new(&runs).with_fault(|start, end| {
        // Read-ahead may touch the start of the hole, but nobody has a reason to read all of it.
        let in_hole = start >= 16 * MIB && end <= 64 * GIB - 16 * MIB;
        assert!(!in_hole, "the hole was read at {start}");
        Ok(())
    }));
    let mount = TestMount::new(vec![image("disk.img", Arc::clone(&source))]);
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy.img");
    let mut cp = Command::new("cp");
    cp.arg("--sparse=auto")
        .arg(mount.file("disk.img"))
        .arg(&copy);
    let copied = output(&mut cp);
    assert!(copied.status.success(), "{}", stderr(&copied));
    let found = fs::metadata(&copy).unwrap();
    assert_eq!(found.len(), end);
    assert!(found.blocks() <= 2 * 2 * MIB / 512, "{}", found.blocks());
    let file = File::open(&copy).unwrap();
    for start in [0, MIB - 5, end - MIB, end - 10] {
        let bytes = read_at(&file, start, 10).unwrap();
        assert_eq!(bytes, source.bytes(start, start + 10));
    }
}

#[test]
fn absent_names_are_enoent_every_time() {
    if !require_fuse() {
        return;
    }
    let mount = TestMount::new(vec![image("disk.img", synthetic())]);
    for _ in 0..3 {
        for name in ["disk.im", "disk.img.lck", "x"] {
            let result = fs::metadata(mount.file(name));
            assert_eq!(errno(result), Some(libc::ENOENT), "{name}");
            assert_eq!(errno(File::open(mount.file(name))), Some(libc::ENOENT));
        }
    }
    let below = mount.file("disk.img").join("x");
    assert_eq!(errno(fs::metadata(below)), Some(libc::ENOTDIR));
}

#[test]
fn changes_are_refused_as_read_only() {
    if !require_fuse() {
        return;
    }
    let mount = TestMount::new(vec![image("disk.img", synthetic())]);
    let (image, other) = (mount.file("disk.img"), mount.file("other"));
    let write = |options: &mut OpenOptions| errno(options.open(&image));
    assert_eq!(write(OpenOptions::new().write(true)), Some(libc::EROFS));
    assert_eq!(write(OpenOptions::new().append(true)), Some(libc::EROFS));
    for (what, result) in [
        ("mkdir", fs::create_dir(&other)),
        ("create", File::create(&other).map(drop)),
        ("unlink", fs::remove_file(&image)),
        ("rename", fs::rename(&image, &other)),
        ("link", fs::hard_link(&image, &other)),
        ("symlink", std::os::unix::fs::symlink("x", &other)),
        (
            "chmod",
            fs::set_permissions(&image, fs::Permissions::from_mode(0o600)),
        ),
    ] {
        assert_eq!(errno(result), Some(libc::EROFS), "{what}");
    }
    // VMware makes a lock directory beside a disk, and asks again after its own negative lookup.
    let lock = mount.file("disk.img.lck");
    assert_eq!(errno(fs::metadata(&lock)), Some(libc::ENOENT));
    assert_eq!(errno(fs::create_dir(&lock)), Some(libc::EROFS));
}

fn stale() -> ReadError {
    ReadError::Stale {
        path: "vmuser/notes".into(),
        change: Change::Attributes("mtime"),
    }
}

#[test]
fn a_changed_source_is_estale_for_its_bytes_only() {
    if !require_fuse() {
        return;
    }
    let (bad_start, bad_end) = (2 * MIB, 2 * MIB + 4096);
    let source = Synthetic::new(&[(4 * MIB, false)]).with_fault(move |start, end| {
        if start < bad_end && end > bad_start {
            return Err(stale());
        }
        Ok(())
    });
    let source = Arc::new(source);
    let mount = TestMount::new(vec![image("disk.img", Arc::clone(&source))]);
    let file = File::open(mount.file("disk.img")).unwrap();
    for page in (0..1024).map(|index| index * 4096) {
        let read = read_at(&file, page, 4096);
        if page == bad_start {
            assert_eq!(errno(read), Some(libc::ESTALE));
        } else {
            assert!(read.unwrap() == source.bytes(page, page + 4096), "{page}");
        }
    }
}

#[test]
fn a_panic_costs_one_request() {
    if !require_fuse() {
        return;
    }
    let broken = AtomicBool::new(true);
    let source = Synthetic::new(&[(4096, false)]).with_fault(move |_, _| {
        assert!(!broken.load(Ordering::Relaxed), "broken on purpose");
        Ok(())
    });
    let images = vec![
        image("broken", Arc::new(source)),
        image("disk.img", synthetic()),
    ];
    let mount = TestMount::with_threads(images, Some(1));
    for _ in 0..3 {
        assert_eq!(errno(fs::read(mount.file("broken"))), Some(libc::EIO));
    }
    assert_eq!(
        to_u64(fs::read(mount.file("disk.img")).unwrap().len()),
        synthetic().len()
    );
}

#[test]
fn slow_reads_do_not_stop_others() {
    if !require_fuse() {
        return;
    }
    let gate = Arc::new(Barrier::new(2));
    let waiting = Arc::clone(&gate);
    let passed = AtomicBool::new(false);
    let source = Synthetic::new(&[(4096, false)])
        .slow()
        .with_fault(move |_, _| {
            if !passed.swap(true, Ordering::Relaxed) {
                waiting.wait();
            }
            Ok(())
        });
    let slow = Arc::new(source);
    let images = vec![
        image("slow", Arc::clone(&slow)),
        image("disk.img", synthetic()),
    ];
    let mount = TestMount::with_threads(images, Some(1));
    let (sender, results) = mpsc::channel();
    let path = mount.file("slow");
    let reader = thread::spawn(move || sender.send(fs::read(path).unwrap()).unwrap());
    // The only worker serves these while the slow read waits.
    assert_eq!(
        to_u64(fs::read(mount.file("disk.img")).unwrap().len()),
        synthetic().len()
    );
    assert!(results.recv_timeout(Duration::from_millis(50)).is_err());
    gate.wait();
    assert_eq!(results.recv().unwrap(), slow.bytes(0, 4096));
    reader.join().unwrap();
}

#[test]
fn an_open_file_outlives_the_mount() {
    if !require_fuse() {
        return;
    }
    let source = synthetic();
    let mut mount = TestMount::new(vec![image("disk.img", Arc::clone(&source))]);
    let file = File::open(mount.file("disk.img")).unwrap();
    let mounted = mount.take();
    mountpoint::unmount(mount.path(), false).unwrap();
    assert_eq!(mounted_type(mount.path()), None);
    assert_eq!(
        errno(fs::metadata(mount.file("disk.img"))),
        Some(libc::ENOENT)
    );
    assert!(read_at(&file, 0, to_usize(5 * MIB)).unwrap() == source.bytes(0, 5 * MIB));
    drop(file);
    mounted.wait().unwrap();
}

#[test]
fn a_later_mount_on_the_same_path_stays() {
    if !require_fuse() {
        return;
    }
    let mut mount = TestMount::new(vec![image("first", synthetic())]);
    let file = File::open(mount.file("first")).unwrap();
    let first = mount.take();
    first.detach().unwrap();
    let options = MountOptions {
        source_name: std::ffi::OsString::new(),
        mountpoint: mount.path().to_path_buf(),
        ..MountOptions::default()
    };
    let generation = Generation {
        images: vec![image("second", synthetic())],
        pending: Vec::new(),
    };
    let second = Mounted::new(&generation, &options).unwrap();
    drop(file);
    first.wait().unwrap();
    assert!(mount.file("second").exists());
    second.detach().unwrap();
    second.wait().unwrap();
}

#[test]
fn cutting_the_connection_ends_open_files() {
    if !require_fuse() || !require_root() {
        return;
    }
    let mut mount = TestMount::new(vec![image("disk.img", synthetic())]);
    let file = File::open(mount.file("disk.img")).unwrap();
    let mounted = mount.take();
    mountpoint::unmount(mount.path(), true).unwrap();
    mounted.wait().unwrap();
    assert!(read_at(&file, 4 * MIB, 10).is_err());
}
