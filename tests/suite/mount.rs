//! What readers of a real mount see: docs/semantics.md names these tests.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets of sources of at most 64 GiB"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
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
use rustix::process::Signal;

use crate::mounted::{
    Synthetic, TestMount, Workspace, image, mounted_type, output, require_fuse, require_program,
    require_root, stderr, wait_until,
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

fn errno<T>(result: io::Result<T>) -> Option<i32> {
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
        mountpoint: mount.path().to_path_buf(),
        ..MountOptions::default()
    };
    let generation = Generation {
        images: vec![image("second", synthetic())],
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

// From here on through the binary.

#[test]
fn a_background_mount_is_ready_when_it_returns() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let log = workspace.path().join("log");
    let mounted = output(workspace.mount_command().arg("--log").arg(&log));
    // That the output ended shows that the daemon has left our terminal.
    assert_eq!(
        (mounted.status.code(), stderr(&mounted).as_str()),
        (Some(0), "")
    );
    assert!(!fs::read(workspace.image()).unwrap().is_empty());
    let unmounted = workspace.unmount();
    assert_eq!(unmounted.status.code(), Some(0), "{}", stderr(&unmounted));
    assert_eq!(mounted_type(&workspace.mountpoint()), None);
    wait_until("the log tells of both", || {
        let text = fs::read_to_string(&log).unwrap();
        text.contains(": mounted\n") && text.contains(": unmounted\n")
    });
    let again = workspace.unmount();
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).ends_with("images: not mounted\n"));
}

#[test]
fn mount_helper_calls_mount() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let helper = workspace.path().join("mount.miragefs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_miragefs"), &helper).unwrap();
    for program in [Path::new(env!("CARGO_BIN_EXE_miragefs")), &helper] {
        let mut command = Command::new(program);
        command.arg(workspace.config()).arg(workspace.mountpoint());
        let mounted = output(command.args(["-o", "rw,nodev,threads=2,x-systemd.automount"]));
        assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
        assert!(workspace.image().exists());
        assert_eq!(workspace.unmount().status.code(), Some(0));
    }
}

#[test]
fn failed_starts_say_why_and_mount_nothing() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let full = workspace.path();
    let missing = workspace.path().join("none");
    for (config, mountpoint, code, text) in [
        (
            &*missing,
            &*workspace.mountpoint(),
            2,
            "none: cannot be read",
        ),
        (&*workspace.config(), full, 1, ": mount point is not empty"),
        (
            &*workspace.config(),
            &*missing,
            1,
            ": mount point does not exist",
        ),
        (
            &*workspace.config(),
            Path::new("/proc"),
            1,
            "already a mount point",
        ),
    ] {
        for foreground in [false, true] {
            let mut command = workspace.miragefs();
            command.arg("mount").arg(config).arg(mountpoint);
            if foreground {
                command.arg("--foreground");
            }
            let failed = output(&mut command);
            assert_eq!(failed.status.code(), Some(code), "{}", stderr(&failed));
            assert!(
                stderr(&failed).starts_with("error: "),
                "{}",
                stderr(&failed)
            );
            assert!(stderr(&failed).contains(text), "{}", stderr(&failed));
            assert!(failed.stdout.is_empty());
        }
    }
    assert_eq!(mounted_type(&workspace.mountpoint()), None);
}

#[test]
fn only_our_mounts_are_unmounted() {
    let workspace = Workspace::new();
    let mut command = workspace.miragefs();
    let refused = output(command.arg("unmount").arg("/proc"));
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(
        text.starts_with("error: /proc: not a miragefs mount (type proc"),
        "{text}"
    );
    assert!(mounted_type(Path::new("/proc")).is_some());
}

#[test]
fn termination_leaves_no_dead_mount() {
    if !require_fuse() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let workspace = Workspace::new();
        let mut daemon = workspace.mount_in_foreground();
        daemon.signal(signal);
        assert_eq!(daemon.exit_code(), Some(0));
        assert_eq!(mounted_type(&workspace.mountpoint()), None);
    }
}

#[test]
fn termination_serves_open_files_to_their_end() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let mut file = File::open(workspace.image()).unwrap();
    daemon.signal(Signal::TERM);
    wait_until("the name goes", || {
        mounted_type(&workspace.mountpoint()).is_none()
    });
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(!bytes.is_empty());
    assert!(daemon.is_running());
    drop(file);
    assert_eq!(daemon.exit_code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let file = File::open(workspace.image()).unwrap();
    daemon.signal(Signal::TERM);
    wait_until("the name goes", || {
        mounted_type(&workspace.mountpoint()).is_none()
    });
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.exit_code(), Some(0));
    drop(file);
}

#[test]
fn unmount_now_ends_the_daemon() {
    if !require_fuse() || !require_root() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let file = File::open(workspace.image()).unwrap();
    let mut command = workspace.miragefs();
    let unmounted = output(
        command
            .args(["unmount", "--now"])
            .arg(workspace.mountpoint()),
    );
    assert_eq!(unmounted.status.code(), Some(0), "{}", stderr(&unmounted));
    assert_eq!(daemon.exit_code(), Some(0));
    drop(file);
}

#[test]
fn a_dead_mount_is_cleared() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.exit_code(), None);
    let dead = fs::read_dir(workspace.mountpoint());
    assert_eq!(errno(dead), Some(libc::ENOTCONN));
    let mounted = output(&mut workspace.mount_command());
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    assert!(workspace.image().exists());
    assert_eq!(workspace.unmount().status.code(), Some(0));
    assert_eq!(mounted_type(&workspace.mountpoint()), None);
}

#[test]
fn two_mounts_on_one_directory_are_refused() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let second = output(&mut workspace.mount_command());
    assert_eq!(second.status.code(), Some(1));
    assert!(
        stderr(&second).contains("already a mount point"),
        "{}",
        stderr(&second)
    );
    assert!(workspace.image().exists());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.exit_code(), Some(0));
}

/// In a mount namespace of its own, since /dev/fuse is closed to ordinary users where no udev runs: there it is
/// covered by a node with udev's mode. Nobody else sees the node, and $1, its directory, is open to root alone.
const AS_ORDINARY_USER: &str = r#"
    set -eu
    private=$1 program=$2 config=$3 mountpoint=$4
    as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"; }
    trap 'umount -l "$mountpoint" 2>/dev/null || true' EXIT
    mknod -m 666 "$private/fuse" c 10 229
    mount --bind "$private/fuse" /dev/fuse
    as_user "$program" mount "$config" "$mountpoint"
    findmnt -n -o FSTYPE,SOURCE,OPTIONS "$mountpoint"
    as_user stat -c '%u:%g %a' "$mountpoint/disk.img"
    as_user cat "$mountpoint/disk.img" >/dev/null
    as_user "$program" unmount "$mountpoint"
    findmnt "$mountpoint" || echo gone
"#;

#[test]
fn ordinary_users_mount_through_fusermount3() {
    if !require_fuse() || !require_root() {
        return;
    }
    for program in ["setpriv", "unshare", "findmnt", "fusermount3"] {
        if !require_program(program) {
            return;
        }
    }
    let workspace = Workspace::new();
    let mode = |bits| fs::Permissions::from_mode(bits);
    fs::set_permissions(workspace.path(), mode(0o755)).unwrap();
    let mountpoint = workspace.mountpoint();
    std::os::unix::fs::chown(&mountpoint, Some(65534), Some(65534)).unwrap();
    let private = workspace.path().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, mode(0o700)).unwrap();
    // The build directory need not be open to others.
    let program = workspace.path().join("miragefs");
    fs::copy(env!("CARGO_BIN_EXE_miragefs"), &program).unwrap();

    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]);
    command.args(["sh", "-c", AS_ORDINARY_USER, "sh"]);
    command.args([&private, &program, &workspace.config(), &mountpoint]);
    let result = output(&mut command);
    assert!(result.status.success(), "{}", stderr(&result));
    let text = String::from_utf8_lossy(&result.stdout);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("fuse.miragefs miragefs ro,nosuid,nodev,"),
        "{text}"
    );
    assert!(lines[0].contains("default_permissions"), "{text}");
    assert_eq!(lines[1..], ["65534:65534 444", "gone"]);
}
