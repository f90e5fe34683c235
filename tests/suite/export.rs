//! `export`: what becomes of each kind of destination, and what is left of it after a failure.

mod device;
mod reflink;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use miragefs::export::{self, ExportError, ExportOptions, Exported, Progress, Reflink};
use miragefs::synth::generation::Image;
use miragefs::synth::source::{ByteSource, ReadError};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::mounted::{Synthetic, TestMount, image as synthetic_image, require_fuse, require_root};
use crate::ova::ova;
use crate::planned::{image, miragefs, plan_config, write_config};
use crate::support::{MemoryDisk, read, require_tool, run};

/// A planned config, and a directory beside its sources to export to.
struct Lab {
    directory: TempDir,
    image: Arc<Image>,
    sources: Vec<PathBuf>,
    cancel: AtomicBool,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let planned = plan_config(&write_config(directory.path()));
        fs::create_dir(directory.path().join("out")).unwrap();
        Self {
            image: image(&planned, "disk.img"),
            sources: vec![directory.path().join("source")],
            cancel: AtomicBool::new(false),
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn options(&self, force: bool) -> ExportOptions<'_> {
        ExportOptions {
            force,
            reflink: Reflink::Auto,
            sources: &self.sources,
            cancel: &self.cancel,
        }
    }

    fn export(&self, destination: &Path) -> Result<PathBuf, ExportError> {
        export::to_path(&self.image, destination, &self.options(false), &mut |_| ())
            .map(|exported| exported.path)
    }

    fn bytes(&self) -> Vec<u8> {
        read(&*self.image.source, 0, self.image.source.len())
    }

    /// What lies in `out`.
    fn names(&self) -> Vec<String> {
        names(&self.path("out"))
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_directory_gets_the_images_name() {
    let lab = Lab::new();
    let written = lab.export(&lab.path("out")).unwrap();
    assert_eq!(written, fs::canonicalize(lab.path("out/disk.img")).unwrap());
    assert_eq!(lab.names(), ["disk.img"]);
    assert!(fs::read(written).unwrap() == lab.bytes());
}

#[test]
fn a_directory_of_the_images_name_is_refused() {
    let lab = Lab::new();
    fs::create_dir(lab.path("out/disk.img")).unwrap();
    let error = lab.export(&lab.path("out")).unwrap_err();
    assert!(matches!(error, ExportError::NotAFile { .. }), "{error}");
}

#[test]
fn a_missing_directory_is_an_error() {
    let lab = Lab::new();
    for name in ["out/none/disk.img", "out/none/"] {
        let error = lab.export(&lab.path(name)).unwrap_err();
        assert!(matches!(error, ExportError::MissingDirectory(_)), "{error}");
    }
    assert!(lab.names().is_empty());
}

#[test]
fn files_are_replaced_and_keep_their_mode() {
    let lab = Lab::new();
    let (old, linked) = (lab.path("out/old"), lab.path("out/linked"));
    fs::write(&old, "old").unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&old, &linked).unwrap();
    lab.export(&old).unwrap();
    assert!(fs::read(&old).unwrap() == lab.bytes());
    assert_eq!(mode(&old), 0o600);
    // Replaced, not overwritten: who had the old file open still has it.
    assert_eq!(fs::read(&linked).unwrap(), b"old");
    assert_eq!(lab.names(), ["linked", "old"]);
}

#[test]
fn symlinks_stay_symlinks() {
    let lab = Lab::new();
    fs::create_dir(lab.path("out/deep")).unwrap();
    fs::write(lab.path("out/deep/file"), "old").unwrap();
    for (link, target) in [
        ("link", "deep/file"),
        ("dangling", "deep/new"),
        ("twice", "link"),
    ] {
        symlink(target, lab.path("out").join(link)).unwrap();
        lab.export(&lab.path("out").join(link)).unwrap();
        let found = fs::read_link(lab.path("out").join(link)).unwrap();
        assert_eq!(found, Path::new(target));
        assert!(fs::read(lab.path("out").join(link)).unwrap() == lab.bytes());
    }
    assert_eq!(names(&lab.path("out/deep")), ["file", "new"]);
    assert_eq!(lab.names(), ["dangling", "deep", "link", "twice"]);
}

#[test]
fn new_files_obey_the_umask() {
    let lab = Lab::new();
    for (umask, expected) in [("002", 0o644), ("022", 0o644), ("027", 0o640)] {
        let script = "umask $1; exec \"$2\" export \"$3\" disk.img \"$4\"";
        let out = lab.path("out").join(umask);
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh", umask, env!("CARGO_BIN_EXE_miragefs")]);
        shell.arg(lab.path("small.toml")).arg(&out);
        assert!(shell.status().unwrap().success());
        assert_eq!(mode(&out), expected);
    }
}

#[test]
fn holes_stay_holes() {
    let lab = Lab::new();
    let out = lab.export(&lab.path("out")).unwrap();
    let found = fs::metadata(&out).unwrap();
    let data = &lab.image.data;
    assert_eq!(found.len(), lab.image.source.len());
    // Blocks of at most 4 KiB at both ends of each range, and what the file system needs to find them.
    let slack = 8192 * u64::try_from(data.ranges().len() + 8).unwrap();
    let allocated = found.blocks() * 512;
    assert!(allocated <= data.data_len() + slack, "{allocated}");
    assert!(allocated < found.len() / 2);
    // Whatever the image knows to be zero in blocks of the file system is a hole of the file.
    let mut file = File::open(&out).unwrap();
    let mut offset = 0;
    let mut holes = 0;
    while let Some(start) = data.next_hole(offset) {
        let end = data.next_data(start).unwrap_or(found.len());
        let (first, last) = (start.next_multiple_of(4096), end / 4096 * 4096);
        if first < last {
            let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(first)).unwrap();
            assert_eq!(hole, first, "{start}..{end}");
            let after = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(first));
            assert!(after.unwrap_or(found.len()) >= last, "{start}..{end}");
            holes += 1;
        }
        offset = end;
    }
    assert!(holes > 3, "{holes} holes");
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(bytes == lab.bytes());
}

#[test]
fn a_disk_of_a_tebibyte_takes_the_space_of_its_data() {
    const TIB: u64 = 1 << 40;
    let directory = tempfile::tempdir().unwrap();
    let source = Arc::new(Synthetic::new(&[
        (5000, false),
        (TIB - 5, true),
        (TIB, false),
    ]));
    let image = synthetic_image("disk.img", Arc::clone(&source));
    let cancel = AtomicBool::new(false);
    let options = ExportOptions {
        force: false,
        reflink: Reflink::Auto,
        sources: &[],
        cancel: &cancel,
    };
    let mut steps = Vec::new();
    let mut keep = |progress: Progress| steps.push(progress);
    let out = export::to_path(&image, directory.path(), &options, &mut keep).unwrap();
    let out = out.path;
    let found = fs::metadata(&out).unwrap();
    assert_eq!(found.len(), TIB);
    assert!(found.blocks() * 512 < 100_000);
    let mut end = [0; 9];
    File::open(&out)
        .unwrap()
        .read_exact_at(&mut end, TIB - 9)
        .unwrap();
    assert_eq!(end, source.bytes(TIB - 9, TIB)[..]);
    let total = 5005;
    assert_eq!(steps.first(), Some(&Progress { done: 0, total }));
    assert_eq!(steps.last(), Some(&Progress { done: total, total }));
    assert!(steps.windows(2).all(|pair| pair[0].done <= pair[1].done));
}

#[test]
fn streams_get_every_byte() {
    let lab = Lab::new();
    let mut streamed = Vec::new();
    let mut last = None;
    let mut keep = |progress: Progress| last = Some(progress);
    export::to_stream(&lab.image, &mut streamed, &lab.options(false), &mut keep).unwrap();
    assert!(streamed == lab.bytes());
    let total = lab.image.source.len();
    assert_eq!(last, Some(Progress { done: total, total }));

    let output = miragefs([
        "export".as_ref(),
        lab.path("small.toml").as_os_str(),
        "disk.img".as_ref(),
        "-".as_ref(),
    ]);
    assert!(output.status.success());
    assert!(output.stdout == lab.bytes());
    assert!(output.stderr.is_empty(), "no bar but on a terminal");
}

#[test]
fn fifos_get_every_byte_and_stay_fifos() {
    let lab = Lab::new();
    let fifo = lab.path("out/fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    lab.export(&fifo).unwrap();
    assert!(reader.join().unwrap() == lab.bytes());
    assert_eq!(lab.names(), ["fifo"]);
}

#[test]
fn a_reader_that_leaves_is_an_error() {
    let lab = Lab::new();
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = export::to_stream(&lab.image, &mut Closed, &lab.options(false), &mut |_| ());
    assert!(matches!(error, Err(ExportError::Write { .. })));
}

#[test]
fn sources_are_not_written_to() {
    let lab = Lab::new();
    let before = names(&lab.path("source"));
    symlink("../source", lab.path("out/way-in")).unwrap();
    symlink("../source/large", lab.path("out/large")).unwrap();
    for name in [
        "source",
        "source/new.img",
        "source/sub",
        "out/way-in",
        "out/way-in/sub/x",
        "out/large",
    ] {
        let error = lab.export(&lab.path(name)).unwrap_err();
        assert!(matches!(error, ExportError::InsideSource { .. }), "{error}");
    }
    // A source that is a file, by another of its names.
    fs::write(lab.path("single"), "1").unwrap();
    fs::hard_link(lab.path("single"), lab.path("out/second")).unwrap();
    let sources = [lab.path("single")];
    let options = ExportOptions {
        sources: &sources,
        ..lab.options(false)
    };
    let error = export::to_path(&lab.image, &lab.path("out/second"), &options, &mut |_| ());
    assert!(matches!(error, Err(ExportError::IsSource(_))));
    assert_eq!(names(&lab.path("source")), before);
    // A sibling whose name begins alike is no part of it.
    fs::create_dir(lab.path("source2")).unwrap();
    lab.export(&lab.path("source2")).unwrap();
}

#[test]
fn the_config_is_not_overwritten() {
    let lab = Lab::new();
    let config = lab.path("small.toml");
    let before = fs::read(&config).unwrap();
    let output = miragefs([
        "export".as_ref(),
        config.as_os_str(),
        "disk.img".as_ref(),
        config.as_os_str(),
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read(&config).unwrap(), before);
}

#[test]
fn bind_mounts_of_sources_are_sources() {
    if !require_root() {
        return;
    }
    let lab = Lab::new();
    let bind = lab.path("bind");
    fs::create_dir(&bind).unwrap();
    let mount = Command::new("mount")
        .arg("--bind")
        .arg(lab.path("source"))
        .arg(&bind)
        .status();
    assert!(mount.unwrap().success());
    let result = lab.export(&bind.join("new.img"));
    assert!(
        Command::new("umount")
            .arg(&bind)
            .status()
            .unwrap()
            .success()
    );
    assert!(matches!(result, Err(ExportError::InsideSource { .. })));
}

#[test]
fn mounted_images_are_not_written_to() {
    if !require_fuse() {
        return;
    }
    let lab = Lab::new();
    let source = Arc::new(Synthetic::new(&[(5000, false)]));
    let mount = TestMount::new(vec![synthetic_image("disk.img", source)]);
    for destination in [mount.path().to_path_buf(), mount.file("new.img")] {
        let error = lab.export(&destination).unwrap_err();
        assert!(matches!(error, ExportError::InsideMount(_)), "{error}");
    }
}

#[test]
fn too_little_space_fails_before_the_first_byte() {
    if !require_root() {
        return;
    }
    let lab = Lab::new();
    let small = lab.path("small");
    fs::create_dir(&small).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1M", "tmpfs"])
        .arg(&small)
        .status();
    assert!(mount.unwrap().success());
    let result = lab.export(&small);
    let left = names(&small);
    assert!(
        Command::new("umount")
            .arg(&small)
            .status()
            .unwrap()
            .success()
    );
    let error = result.unwrap_err();
    let ExportError::NoSpace {
        available, needed, ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!(*available, 1 << 20);
    assert!(*needed >= lab.image.data.data_len());
    let text = error.to_string();
    assert!(text.contains(&available.to_string()) && text.contains(&needed.to_string()));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_cancelled_export_leaves_nothing() {
    let lab = Lab::new();
    let out = lab.path("out/disk.img");
    fs::write(&out, "old").unwrap();
    let mut seen = Vec::new();
    let result = export::to_path(&lab.image, &out, &lab.options(false), &mut |progress| {
        seen = names(&lab.path("out"));
        if progress.done > 0 {
            lab.cancel.store(true, Ordering::Relaxed);
        }
    });
    assert!(matches!(result, Err(ExportError::Cancelled)));
    assert_eq!(seen.len(), 2, "{seen:?}: the old file and a temporary one");
    assert_eq!(lab.names(), ["disk.img"]);
    assert_eq!(fs::read(&out).unwrap(), b"old");
}

#[test]
fn signals_cancel() {
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path());
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    // Long enough to be caught at it.
    let large = File::create(directory.path().join("source/longer")).unwrap();
    for index in 0..256 {
        large.write_all_at(&[1; 1 << 20], index << 20).unwrap();
    }
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("32MiB", "400MiB");
    fs::write(&config, text).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_miragefs"))
        .arg("export")
        .args([&config, Path::new("disk.img"), &out])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while names(&out).is_empty() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "ended before a file was there"
        );
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut message = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut message)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{message}");
    assert_eq!(message.lines().last(), Some("error: export cancelled"));
    assert!(names(&out).is_empty(), "{:?}", names(&out));
}

#[test]
fn a_source_that_changes_fails_the_export() {
    type Change<'a> = (&'a str, &'a dyn Fn(&Path));
    let open = |path: &Path| OpenOptions::new().write(true).open(path).unwrap();
    let overwrite = |path: &Path| open(path).write_all_at(b"x", 9).unwrap();
    let truncate = |path: &Path| open(path).set_len(5).unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let changes: [Change<'_>; 3] = [
        ("large", &overwrite),
        ("large", &truncate),
        ("sub/small", &remove),
    ];
    for (name, change) in changes {
        let lab = Lab::new();
        // Timestamps have ticks: a change within the one of the plan would be no change to the eye.
        std::thread::sleep(std::time::Duration::from_millis(30));
        let mut changed = false;
        let result = export::to_path(
            &lab.image,
            &lab.path("out"),
            &lab.options(false),
            &mut |progress| {
                // Behind the first chunk, which holds metadata alone.
                if progress.done > 0 && !changed {
                    change(&lab.path("source").join(name));
                    changed = true;
                }
            },
        );
        assert_stale(result, &lab.path("source").join(name));
        assert!(lab.names().is_empty());
    }
}

#[test]
fn a_source_that_changes_after_it_was_read_fails_the_export() {
    let lab = Lab::new();
    std::thread::sleep(std::time::Duration::from_millis(30));
    let path = lab.path("source/large");
    let result = export::to_path(
        &lab.image,
        &lab.path("out"),
        &lab.options(false),
        &mut |progress| {
            if progress.done == progress.total {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(b"x", 9).unwrap();
            }
        },
    );
    assert_stale(result, &path);
    assert!(lab.names().is_empty());
}

#[track_caller]
fn assert_stale(result: Result<Exported, ExportError>, changed: &Path) {
    let error = result.unwrap_err();
    let ExportError::Read(ReadError::Stale { path, .. }) = &error else {
        panic!("{error}");
    };
    let expected = fs::canonicalize(changed.parent().unwrap())
        .unwrap()
        .join(changed.file_name().unwrap());
    assert_eq!(*path, expected);
    assert!(error.to_string().contains(&*expected.to_string_lossy()));
}

#[test]
fn a_failing_read_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let source = Synthetic::new(&[(5 << 20, false)]).with_fault(|_, end| {
        if end > 3 << 20 {
            return Err(ReadError::Host {
                path: PathBuf::from("/broken"),
                source: Arc::new(io::Error::from_raw_os_error(libc::EIO)),
            });
        }
        Ok(())
    });
    let image = synthetic_image("disk.img", Arc::new(source));
    let cancel = AtomicBool::new(false);
    let options = ExportOptions {
        force: false,
        reflink: Reflink::Auto,
        sources: &[],
        cancel: &cancel,
    };
    let error = export::to_path(&image, directory.path(), &options, &mut |_| ()).unwrap_err();
    assert!(
        matches!(error, ExportError::Read(ReadError::Host { .. })),
        "{error}"
    );
    assert!(names(directory.path()).is_empty());
}

#[test]
fn copies_of_the_sources_give_the_same_images() {
    let directory = tempfile::tempdir().unwrap();
    let first = directory.path().join("first");
    let second = directory.path().join("a/second");
    write_config(&first);
    fs::create_dir(directory.path().join("a")).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .args([&first, &second])
        .status();
    assert!(copied.unwrap().success());
    for name in ["disk.img", "disk.vmdk", "boot.ova"] {
        let sums = [&first, &second].map(|lab| {
            let out = directory.path().join(name);
            let config = lab.join("small.toml");
            let output = miragefs([
                "export".as_ref(),
                config.as_os_str(),
                name.as_ref(),
                out.as_os_str(),
            ]);
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            Sha256::digest(fs::read(&out).unwrap())
        });
        assert_eq!(sums[0], sums[1], "{name}");
    }
}

#[test]
fn exporting_an_ova_reads_nothing_twice() {
    // Data and holes in each of 256 grains: what is left out of the file is not left out of the digest.
    let mut disk = MemoryDisk::new(64 << 20);
    for grain in 0..256 {
        disk = disk.with_noise((grain << 17) + 8192, 40_000);
    }
    let ova = Arc::new(ova(&disk));
    let source: Arc<dyn ByteSource> = ova.clone();
    let image = Image::new("boot.ova".to_owned(), source, 0, [1; 32]);
    let directory = tempfile::tempdir().unwrap();
    let cancel = AtomicBool::new(false);
    let options = ExportOptions {
        force: false,
        reflink: Reflink::Auto,
        sources: &[],
        cancel: &cancel,
    };
    let out = export::to_path(&image, directory.path(), &options, &mut |_| ()).unwrap();
    let out = out.path;
    assert_eq!(ova.second_read_bytes(), 0);
    assert!(fs::read(&out).unwrap() == read(&*ova, 0, ova.len()));
    if require_tool("tar") {
        let member = |name: &str| run("tar", ["-xOf", out.to_str().unwrap(), name]);
        let manifest = String::from_utf8(member("lab.mf")).unwrap();
        let digest = Sha256::digest(member("lab-disk1.vmdk"));
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(manifest.contains(&digits), "{manifest}");
    }
}
