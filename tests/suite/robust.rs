//! What goes wrong around a mount, and that it costs nobody but who asked for it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use miragefs::units::{MIB, to_u64, to_usize};
use rustix::fs::inotify;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::confined::Processes;
use crate::mount::errno;
use crate::mounted::{Workspace, output, require_fuse, require_root, stderr};
use crate::support::{noise, run};

const NOISE_LEN: usize = 8 << 20;

/// A config that takes `sources`, each into a partition of its own of `size`.
fn config_over(sources: &[&Path], size: &str) -> String {
    let mut config = "name = \"suite\"\n[disk]\nsize = \"auto\"\nboot-code = \"none\"\n".to_owned();
    for (number, source) in sources.iter().enumerate() {
        config += &format!(
            "[[partition]]\nlabel = \"p{number}\"\nsize = \"{size}\"\ncopy = [ {{ from = \"{}\", to = \"/\" }} ]\n",
            source.display()
        );
    }
    config
}

/// A workspace with a directory `src` that its config takes.
fn workspace_with_source() -> (Workspace, PathBuf) {
    let workspace = Workspace::new();
    let source = workspace.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(workspace.config(), config_over(&[&source], "48MiB")).unwrap();
    (workspace, source)
}

fn mounted(workspace: &Workspace) {
    let mounted = output(&mut workspace.mount_command());
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
}

/// Where `bytes` begins in `image`.
fn place_of(image: &Path, bytes: &[u8]) -> u64 {
    let image = fs::read(image).unwrap();
    let pattern = &bytes[..4096];
    let found = image
        .chunks(512)
        .position(|sector| sector == &pattern[..512]);
    to_u64(found.unwrap() * 512)
}

/// Past the page cache, so that each read reaches the daemon.
fn open_direct(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_DIRECT);
    options.open(path).unwrap()
}

fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0xa5; len];
    file.read_exact_at(&mut bytes, offset).map(|()| bytes)
}

fn signal(id: u32, signal: Signal) {
    let id = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(id, signal).unwrap();
}

/// Does `work` on a thread and fails if that takes long.
fn soon<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    let result = receiver.recv_timeout(Duration::from_secs(20));
    result.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// A mount over a directory and over another mount, whose daemon can be stopped: a file system that hangs.
struct TwoSources {
    inner: Workspace,
    outer: Workspace,
    /// Bytes that come through the inner mount, and where they are.
    far: (Vec<u8>, u64),
    near: (Vec<u8>, u64),
}

impl TwoSources {
    fn new() -> Self {
        let (far, near) = (noise(1, NOISE_LEN), noise(2, NOISE_LEN));
        let (inner, remote) = workspace_with_source();
        fs::write(remote.join("far"), &far).unwrap();
        mounted(&inner);
        let local = inner.path().join("near");
        fs::create_dir(&local).unwrap();
        fs::write(local.join("near"), &near).unwrap();
        let outer = Workspace::new();
        let config = config_over(&[&local, &inner.mountpoint()], "160MiB");
        fs::write(outer.config(), config).unwrap();
        mounted(&outer);
        let places = (
            place_of(&outer.image(), &far),
            place_of(&outer.image(), &near),
        );
        // What the kernel has of it would be read without a word to its daemon.
        for workspace in [&outer, &inner] {
            let unmounted = workspace.unmount();
            assert_eq!(unmounted.status.code(), Some(0), "{}", stderr(&unmounted));
        }
        mounted(&inner);
        mounted(&outer);
        Self {
            inner,
            outer,
            far: (far, places.0),
            near: (near, places.1),
        }
    }

    /// What everybody but readers of the far source must be able to do.
    fn check_the_rest(&self) {
        let (image, mountpoint) = (self.outer.image(), self.outer.mountpoint());
        let (near, place) = self.near.clone();
        let read = soon("reading the other source", move || {
            let file = open_direct(&image);
            let mut all = Vec::new();
            for part in 0..8 {
                all.extend(read_at(&file, place + part * MIB, 1 << 20).unwrap());
            }
            all
        });
        assert!(read == near);
        soon("looking up new names and the status", move || {
            for name in 0..50 {
                assert!(fs::metadata(mountpoint.join(format!("none-{name}"))).is_err());
            }
            assert!(fs::metadata(mountpoint.join("disk.img")).is_ok());
            assert!(fs::read(mountpoint.join(".miragefs/status.json")).is_ok());
        });
    }
}

#[test]
fn a_source_that_hangs_holds_up_only_its_own_readers() {
    if !require_fuse() {
        return;
    }
    let sources = TwoSources::new();
    let daemon = Processes::of(&sources.inner.mountpoint()).daemon;
    let (far, place) = sources.far.clone();
    signal(daemon, Signal::STOP);
    let readers: Vec<_> = (0..12)
        .map(|reader: u64| {
            let image = sources.outer.image();
            thread::spawn(move || {
                let file = open_direct(&image);
                read_at(&file, place + reader % 8 * MIB, 1 << 20)
            })
        })
        .collect();
    // More than there are workers wait by now.
    thread::sleep(Duration::from_millis(500));
    let waiting = readers
        .iter()
        .filter(|reader| !reader.is_finished())
        .count();
    sources.check_the_rest();
    signal(daemon, Signal::CONT);
    assert_eq!(waiting, readers.len(), "the kernel knew the bytes already");
    for (reader, bytes) in readers.into_iter().enumerate() {
        let start = (reader % 8) << 20;
        assert!(bytes.join().unwrap().unwrap() == far[start..start + (1 << 20)]);
    }
}

#[test]
fn a_source_that_goes_away_fails_only_its_own_readers() {
    if !require_fuse() {
        return;
    }
    let sources = TwoSources::new();
    signal(
        Processes::of(&sources.inner.mountpoint()).daemon,
        Signal::KILL,
    );
    let image = sources.outer.image();
    let place = sources.far.1;
    let failed = soon("a read of what is gone", move || {
        errno(read_at(&open_direct(&image), place, 1 << 20))
    });
    assert_eq!(failed, Some(libc::EIO));
    sources.check_the_rest();
}

/// What a source, or a directory of it, is replaced by; the paths are those of the file, and of one outside the source.
type Swap = fn(&Path, &Path);

/// Ways to lead a daemon out of its source or into something that must not be opened.
const SWAPS: [(&str, Swap); 8] = [
    ("a symlink to a file outside", |file, outside| {
        fs::remove_file(file).unwrap();
        symlink(outside, file).unwrap();
    }),
    ("a hard link to a file outside", |file, outside| {
        fs::remove_file(file).unwrap();
        fs::hard_link(outside, file).unwrap();
    }),
    ("a directory that is a symlink", |file, outside| {
        let directory = file.parent().unwrap();
        fs::rename(directory, directory.with_extension("old")).unwrap();
        symlink(outside.parent().unwrap(), directory).unwrap();
    }),
    // The planned file itself, by its inode and its times, but outside: only how the path leads there can tell.
    (
        "its own directory, moved away behind a symlink",
        |file, outside| {
            let directory = file.parent().unwrap();
            let moved = outside.parent().unwrap().join("moved");
            fs::rename(directory, &moved).unwrap();
            symlink(moved, directory).unwrap();
        },
    ),
    (
        "its own directory, moved away and mounted on its place",
        |file, outside| {
            let directory = file.parent().unwrap();
            let moved = outside.parent().unwrap().join("moved");
            fs::rename(directory, &moved).unwrap();
            fs::create_dir(directory).unwrap();
            run(
                "mount",
                ["--bind".as_ref(), moved.as_os_str(), directory.as_os_str()],
            );
        },
    ),
    ("a directory with another mounted on it", |file, outside| {
        let (from, to) = (outside.parent().unwrap(), file.parent().unwrap());
        run(
            "mount",
            ["--bind".as_ref(), from.as_os_str(), to.as_os_str()],
        );
    }),
    ("a device", |file, _| {
        fs::remove_file(file).unwrap();
        let path = file.to_str().unwrap();
        run("mknod", [path, "c", "1", "5"]);
    }),
    ("a fifo", |file, _| {
        fs::remove_file(file).unwrap();
        run("mkfifo", [file]);
    }),
];

#[test]
fn swapped_sources_lead_nowhere() {
    if !require_fuse() || !require_root() {
        return;
    }
    for (what, swap) in SWAPS {
        let workspace = Workspace::new();
        let (source, other) = (workspace.path().join("src"), workspace.path().join("other"));
        let contents = noise(3, 1 << 20);
        for directory in [source.join("sub"), other.clone()] {
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("file"), &contents).unwrap();
        }
        fs::write(other.join("file"), noise(4, 1 << 20)).unwrap();
        fs::write(workspace.config(), config_over(&[&source], "48MiB")).unwrap();
        mounted(&workspace);
        let file = open_direct(&workspace.image());
        let place = place_of(&workspace.image(), &contents);
        // The descriptor that the search left open goes with the mount.
        drop(file);
        assert_eq!(workspace.unmount().status.code(), Some(0));
        mounted(&workspace);
        let file = open_direct(&workspace.image());
        let victim = source.join("sub/file");
        swap(&victim, &other.join("file"));
        let read = soon("a read of a swapped source", move || {
            errno(read_at(&file, place, 4096))
        });
        if what.contains("mounted on") {
            run("umount", [source.join("sub")]);
        }
        assert_eq!(read, Some(libc::ESTALE), "{what}");
    }
}

/// Whether somebody opens the file at `path` while `work` is done.
fn is_opened_during(path: &Path, work: impl FnOnce()) -> bool {
    let events = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&events, path, inotify::WatchFlags::OPEN).unwrap();
    work();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    inotify::Reader::new(&events, &mut buffer).next().is_ok()
}

#[test]
fn what_is_no_regular_file_is_never_opened() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    run("mkfifo", [&fifo]);
    let read = || {
        for _ in 0..20 {
            let error = miragefs::synth::host_file::read_small_file(&fifo, 10).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    };
    assert!(!is_opened_during(&fifo, read));
    let opened = || {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        drop(options.open(&fifo).unwrap());
    };
    assert!(is_opened_during(&fifo, opened), "the check sees nothing");
}

#[test]
fn a_daemon_with_few_descriptors_serves_many_files() {
    if !require_fuse() {
        return;
    }
    let (workspace, source) = workspace_with_source();
    for number in 0..400 {
        fs::write(source.join(format!("{number:03}")), noise(number, 5000)).unwrap();
    }
    let exported = workspace.path().join("exported");
    let mut export = workspace.miragefs();
    export.arg("export").arg(workspace.config()).arg("disk.img");
    assert_eq!(output(export.arg(&exported)).status.code(), Some(0));
    mounted(&workspace);
    let daemon = Processes::of(&workspace.mountpoint()).daemon;
    let id = Pid::from_raw(i32::try_from(daemon).unwrap());
    // What it has open already, and a few more: fewer than it would keep open of its sources.
    let open = fs::read_dir(format!("/proc/{daemon}/fd")).unwrap().count();
    let few = Some(to_u64(open) + 12);
    let limit = Rlimit {
        current: few,
        maximum: few,
    };
    rustix::process::prlimit(id, Resource::Nofile, limit).unwrap();
    assert!(fs::read(workspace.image()).unwrap() == fs::read(exported).unwrap());
    let status = fs::read_to_string(workspace.mountpoint().join(".miragefs/status.json")).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["failed_reads"], 0, "{status}");
}

#[test]
fn descriptors_that_cannot_be_had_fail_only_the_reads_that_need_them() {
    if !require_fuse() {
        return;
    }
    let (workspace, source) = workspace_with_source();
    let contents = noise(5, NOISE_LEN);
    fs::write(source.join("file"), &contents).unwrap();
    // A file that is not stored yet looks as if it had holes, and planning opens it to see.
    File::open(source.join("file")).unwrap().sync_all().unwrap();
    mounted(&workspace);
    let place = place_of(&workspace.image(), &contents);
    assert_eq!(workspace.unmount().status.code(), Some(0));
    mounted(&workspace);
    let file = open_direct(&workspace.image());
    let daemon = Processes::of(&workspace.mountpoint()).daemon;
    let id = Pid::from_raw(i32::try_from(daemon).unwrap());
    let before = rustix::process::getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(3),
        ..before
    };
    rustix::process::prlimit(id, Resource::Nofile, none).unwrap();
    assert_eq!(errno(read_at(&file, place, 4096)), Some(libc::EIO));
    // Metadata of the file system needs no descriptor.
    assert!(read_at(&file, 0, 4096).is_ok());
    assert!(fs::metadata(workspace.image()).is_ok());
    rustix::process::prlimit(id, Resource::Nofile, before).unwrap();
    let read = read_at(&file, place, to_usize(MIB)).unwrap();
    assert!(read == contents[..1 << 20]);
}

/// Where a daemon's log would say that it panicked.
fn log_of(workspace: &Workspace) -> PathBuf {
    workspace.path().join("log")
}

#[test]
fn memory_is_bounded_by_the_plan_and_not_by_who_opens() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mounted = output(
        workspace
            .mount_command()
            .arg("--log")
            .arg(log_of(&workspace)),
    );
    assert_eq!(mounted.status.code(), Some(0));
    let daemon = Processes::of(&workspace.mountpoint()).daemon;
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = resident();
    // Its own limit of descriptors, so that this process keeps that which it has.
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(
        "ulimit -n 12000 && python3 -c 'import os, sys\n\
         held = [os.open(sys.argv[1], os.O_RDONLY) for _ in range(10000)]\n\
         print(len(held), len(os.pread(held[-1], 4096, 0)), flush=True)\n\
         sys.stdin.read()' \"$0\"",
    );
    let mut child = shell
        .arg(workspace.image())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).unwrap();
    assert_eq!(line, "10000 4096\n");
    let grown = resident().saturating_sub(before);
    // A handle is a number and a pointer.
    assert!(grown < 8 << 10, "{grown} KiB more");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
