//! Ownership manifests: a tree that lost its owners and devices gives the image of the one that has them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use miragefs::config::spec::{CopySpec, Owner};
use miragefs::synth::tree::{DeviceNumber, Node, NodeKind, Special, Timestamp};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use tempfile::TempDir;

use super::{Plan, entry, error_of, plan, plan_at};
use crate::ext4::build::TIMES;
use crate::planned::miragefs;
use crate::support::{require_tool, run, run_text, skip};

/// A source and, beside it, a manifest.
struct Owned {
    directory: TempDir,
}

impl Owned {
    fn new(manifest: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("src")).unwrap();
        fs::write(directory.path().join("owners.mtree"), manifest).unwrap();
        Self { directory }
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("src")
    }

    fn manifest(&self) -> PathBuf {
        self.directory.path().join("owners.mtree")
    }

    fn file(&self, path: &str, contents: &str) {
        let path = self.source().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn entry(&self, to: &str) -> CopySpec {
        CopySpec {
            owners: Some(self.manifest()),
            ..entry(&self.source(), to, 7)
        }
    }

    /// The message and the hint of the only mistake.
    fn mistake(&self, entries: &[CopySpec]) -> (String, String) {
        let error = error_of(entries);
        let here = self.directory.path().display().to_string();
        (
            error.to_string().replace(&here, "/s"),
            error.hint().unwrap(),
        )
    }
}

fn owner_and_mode(node: Node<'_>) -> (u32, u32, u16) {
    let attributes = node.attributes;
    (attributes.uid, attributes.gid, attributes.mode)
}

#[track_caller]
fn special(plan: &Plan, path: &str) -> Special {
    match plan.node(path).kind {
        NodeKind::Special(special) => special,
        ref other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn the_manifest_wins_and_the_entry_says_the_rest() {
    let owned = Owned::new(
        "/set type=file uid=1 gid=2 mode=0640\n\
         . type=dir mode=0711 time=-5.7\n\
         ./etc type=dir uid=3 mode=1777 time=7\n\
         ./etc/a uid=4294967294 mode=4755 time=1000.000000001 size=2\n\
         ./etc/only-mode mode=600 \n\
         /unset all\n\
         ./etc/nothing\n\
         ./etc/only-user uid=9\n\
         ./etc/kept nochange uname=bin mode=1\n\
         ./dev/null type=char device=native,1,3 uid=5 gid=6 mode=666 time=11\n\
         ./dev/sda type=block device=8,1\n\
         ./dev/pipe type=fifo gid=4 time=12\n\
         ./dev/socket type=socket\n\
         ./link type=link link=etc/a uid=8 time=13\n\
         ./gone/by/rule type=fifo\n\
         ./not-there type=file optional\n",
    );
    for name in ["a", "only-mode", "nothing", "only-user", "kept"] {
        owned.file(&format!("etc/{name}"), "hi");
    }
    // What fakeroot leaves in the place of a device; a directory `dev` is not in the manifest.
    owned.file("dev/sda", "");
    owned.file("dev/readme", "x");
    fs::set_permissions(
        owned.source().join("etc/kept"),
        fs::Permissions::from_mode(0o604),
    )
    .unwrap();
    let spec = CopySpec {
        owner: Some(Owner { uid: 70, gid: 71 }),
        exclude: vec!["/gone/".to_owned()],
        ..owned.entry("/to")
    };
    let planned = plan(std::slice::from_ref(&spec));
    assert_eq!(planned.warnings, []);
    for (path, expected) in [
        ("/to", (1, 2, 0o711)),
        ("/to/etc", (3, 2, 0o1777)),
        ("/to/etc/a", (u32::MAX - 1, 2, 0o4755)),
        ("/to/etc/only-mode", (1, 2, 0o600)),
        ("/to/etc/only-user", (9, 71, 0o644)),
        ("/to/etc/nothing", (70, 71, 0o644)),
        ("/to/etc/kept", (70, 71, 0o604)),
        ("/to/dev/readme", (70, 71, 0o644)),
        ("/to/dev/null", (5, 6, 0o666)),
        ("/to/dev/sda", (70, 71, 0o644)),
        ("/to/dev/pipe", (70, 4, 0o600)),
        ("/to/dev/socket", (70, 71, 0o600)),
        ("/to/link", (8, 71, 0o777)),
    ] {
        assert_eq!(owner_and_mode(planned.node(path)), expected, "{path}");
    }
    let device = |major, minor| DeviceNumber { major, minor };
    let null = Special::CharacterDevice(device(1, 3));
    assert_eq!(special(&planned, "/to/dev/null"), null);
    let sda = Special::BlockDevice(device(8, 1));
    assert_eq!(special(&planned, "/to/dev/sda"), sda);
    assert_eq!(special(&planned, "/to/dev/pipe"), Special::Fifo);
    assert_eq!(special(&planned, "/to/dev/socket"), Special::Socket);
    assert!(planned.find("/to/gone").is_none() && planned.find("/to/not-there").is_none());
    let NodeKind::Symlink(target) = &planned.node("/to/link").kind else {
        panic!("it is a symlink");
    };
    assert_eq!(&**target, b"etc/a");
    for (path, seconds, nanoseconds) in [
        ("/to", -5, 7),
        ("/to/etc", 7, 0),
        ("/to/etc/a", 1000, 1),
        ("/to/dev/null", 11, 0),
        ("/to/dev/pipe", 12, 0),
        ("/to/link", 13, 0),
        ("/to/dev/socket", TIMES.default, 0),
    ] {
        let expected = Timestamp {
            seconds,
            nanoseconds,
        };
        assert_eq!(planned.node(path).attributes.mtime, expected, "{path}");
    }
    // `mode` fills in, too; the ceiling of all times holds for the manifest's.
    let mut times = TIMES;
    times.clamp = Some(12);
    let mode = Some(0o7000);
    let clamped = plan_at(times, &[CopySpec { mode, ..spec }]).unwrap();
    for (path, mode, seconds) in [
        ("/to/etc/a", 0o4755, 12),
        ("/to/etc/nothing", 0o7000, 12),
        ("/to/dev/null", 0o666, 11),
        ("/to/dev/socket", 0o7000, 12),
    ] {
        let attributes = clamped.node(path).attributes;
        let found = (attributes.mode, attributes.mtime.seconds);
        assert_eq!(found, (mode, seconds), "{path}");
    }
}

#[test]
fn a_manifest_makes_the_image_as_new_as_itself() {
    let owned = Owned::new("a uid=1");
    owned.file("a", "x");
    let newer = std::time::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
    let file = fs::File::options().write(true).open(owned.manifest());
    file.unwrap().set_modified(newer).unwrap();
    let planned = plan(&[owned.entry("/")]);
    assert_eq!(planned.files.newest_mtime(), Some(4_000_000_000));
}

#[test]
fn one_manifest_serves_single_files() {
    let owned = Owned::new("./a uid=1 gid=2\n./b uid=3 gid=4\n./c/d uid=5");
    owned.file("a", "x");
    owned.file("b", "x");
    let single = |name: &str| CopySpec {
        owners: Some(owned.manifest()),
        ..entry(&owned.source().join(name), "/", 1)
    };
    let planned = plan(&[single("a"), single("b")]);
    assert_eq!(owner_and_mode(planned.node("/a")), (1, 2, 0o644));
    assert_eq!(owner_and_mode(planned.node("/b")), (3, 4, 0o644));
}

#[test]
fn other_lengths_are_told_once() {
    let owned = Owned::new("a size=3\nb size=1\nc size=0\nd size=0\ne size=1\n");
    owned.file("a", "x");
    owned.file("b", "x");
    owned.file("c", "x");
    // The second name of a file has no length in bsdtar's manifest of an archive.
    owned.file("d", "x");
    fs::hard_link(owned.source().join("d"), owned.source().join("e")).unwrap();
    let planned = plan(&[owned.entry("/")]);
    let [warning] = planned.warnings.as_slice() else {
        panic!("{:?}", planned.warnings);
    };
    let here = owned.directory.path().display().to_string();
    assert_eq!(
        warning.to_string().replace(&here, "/s"),
        "/s/owners.mtree:1: /s/src/a has 1 bytes, not the 3 that the manifest says; so it is with 2 files"
    );
    assert!(warning.hint().unwrap().contains("size="));
    assert_eq!(planned.bytes("/c"), b"x");
}

#[test]
fn what_does_not_fit_is_named_with_its_line() {
    let missing =
        "remove the line, write `optional` behind it, or leave the path out with `exclude`";
    let kind = "a special file takes the place of an empty file or of none; else correct the line";
    for (manifest, message, hint) in [
        (
            "a\nb\\q uid=0",
            "lab.toml:7:5: /s/owners.mtree:2: `b\\\\q` has a backslash that begins no character",
            "write a byte with three octal digits, such as \\040, and a backslash as \\134",
        ),
        (
            "./gone type=file",
            "lab.toml:7:5: /s/owners.mtree:1: /s/src/gone is a regular file that the source does not have",
            missing,
        ),
        (
            "\ngone\n",
            "lab.toml:7:5: /s/owners.mtree:2: /s/src/gone is a file that the source does not have",
            missing,
        ),
        (
            "full nochange\n./d/e type=dir",
            "lab.toml:7:5: /s/owners.mtree:2: /s/src/d/e is a directory that the source does not have",
            missing,
        ),
        (
            "./gone type=link",
            "lab.toml:7:5: /s/owners.mtree:1: /s/src/gone is a symlink that the source does not have",
            missing,
        ),
        (
            "./full type=char device=1,3",
            "lab.toml:7:5: /s/owners.mtree:1: /s/src/full is a character device here, but a regular file in the source",
            kind,
        ),
        (
            "./d type=fifo",
            "lab.toml:7:5: /s/owners.mtree:1: /s/src/d is a fifo here, but a directory in the source",
            kind,
        ),
        (
            "./d type=link link=x",
            "lab.toml:7:5: /s/owners.mtree:1: /s/src/d is a symlink here, but a directory in the source",
            kind,
        ),
        (
            "./full uid=1\n./other uid=2\n",
            "lab.toml:7:5: /s/owners.mtree:2: /s/src/other is one file with a name before it that has another owner, mode or time",
            "hard links are one file: give all names the same, or make them separate files",
        ),
    ] {
        let owned = Owned::new(manifest);
        owned.file("full", "contents");
        owned.file("d/x", "x");
        fs::hard_link(owned.source().join("full"), owned.source().join("other")).unwrap();
        let expected = (message.to_owned(), hint.to_owned());
        assert_eq!(owned.mistake(&[owned.entry("/")]), expected, "{manifest:?}");
    }
    // A name that the manifest does not have takes what its other name has.
    let owned = Owned::new("./full uid=1 gid=2 mode=4711");
    owned.file("full", "contents");
    fs::hard_link(owned.source().join("full"), owned.source().join("other")).unwrap();
    let planned = plan(&[owned.entry("/")]);
    assert_eq!(owner_and_mode(planned.node("/other")), (1, 2, 0o4711));
    assert_eq!(planned.node("/other").link_count, 2);
    // A manifest that is none.
    let absent = CopySpec {
        owners: Some(owned.source()),
        ..owned.entry("/")
    };
    let (message, hint) = owned.mistake(&[absent]);
    assert_eq!(
        message,
        "lab.toml:7:5: /s/src: cannot be read as a manifest"
    );
    assert_eq!(hint, "a manifest is a regular file of at most 1 GiB");
}

/// Special files, odd owners and modes, hard links, times: what an ordinary user cannot unpack.
fn make_real_tree(root: &Path) {
    for directory in ["dev", "etc/ssl/private", "usr/bin", "var/tmp", "home/u"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let file = |path: &str, contents: &[u8], owner: (u32, u32), mode: u32| {
        let path = root.join(path);
        fs::write(&path, contents).unwrap();
        chown(&path, Some(owner.0), Some(owner.1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("etc/shadow", b"root:*\n", (0, 42), 0o640);
    file("usr/bin/su", &[7; 9000], (0, 0), 0o4755);
    file("usr/bin/wall", b"w", (0, 5), 0o2755);
    file("home/u/k\u{e4}se und #brot", b"", (1000, 100), 0o600);
    file("home/u/huge-owner", b"x", (4_294_967_294, 70_000), 0o444);
    fs::hard_link(root.join("usr/bin/su"), root.join("usr/bin/su-too")).unwrap();
    fs::hard_link(root.join("usr/bin/wall"), root.join("etc/wall")).unwrap();
    symlink("../etc/shadow", root.join("home/u/link to#it")).unwrap();
    rustix::fs::chownat(
        CWD,
        root.join("home/u/link to#it"),
        Some(rustix::fs::Uid::from_raw(1000)),
        Some(rustix::fs::Gid::from_raw(100)),
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    let node = |path: &str, kind: FileType, device: (u32, u32), mode: u32| {
        let device = makedev(device.0, device.1);
        mknodat(CWD, root.join(path), kind, Mode::from(mode), device).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    node("dev/null", FileType::CharacterDevice, (1, 3), 0o666);
    node("dev/nvme", FileType::BlockDevice, (259, 300), 0o660);
    node("dev/initctl", FileType::Fifo, (0, 0), 0o600);
    drop(UnixListener::bind(root.join("dev/log")).unwrap());
    chown(root.join("dev/nvme"), Some(0), Some(6)).unwrap();
    for (directory, owner, mode) in [
        ("etc/ssl/private", (0, 110), 0o710),
        ("var/tmp", (0, 0), 0o1777),
        ("home/u", (1000, 100), 0o2755),
    ] {
        chown(root.join(directory), Some(owner.0), Some(owner.1)).unwrap();
        fs::set_permissions(root.join(directory), fs::Permissions::from_mode(mode)).unwrap();
    }
    let old = fs::File::open(root.join("etc/shadow")).unwrap();
    let before_1970 = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1500);
    old.set_modified(before_1970).unwrap();
}

fn write_config(directory: &Path, name: &str, source: &str, more: &str) -> PathBuf {
    let config = directory.join(name);
    let text = format!(
        "name = \"os\"\n[disk]\nsize = \"24MiB\"\ntable = \"none\"\n[[partition]]\nlabel = \"root\"\n\
         copy = [{{ from = \"{source}\"{more} }}]\n[images]\n\"disk.img\" = {{ format = \"raw\" }}\n"
    );
    fs::write(&config, text).unwrap();
    config
}

/// The directory of the real tree `real`, its copy `theirs` unpacked by an ordinary user, and the program.
fn unpack_as_nobody() -> TempDir {
    let workspace = tempfile::tempdir().unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(workspace.path(), open).unwrap();
    let path = |name: &str| workspace.path().join(name);
    for name in ["real", "theirs"] {
        fs::create_dir(path(name)).unwrap();
    }
    make_real_tree(&path("real"));
    chown(path("theirs"), Some(65_534), Some(65_534)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_miragefs"), path("miragefs")).unwrap();
    let archive = path("real.tar");
    run(
        "tar",
        [
            "-cf",
            archive.to_str().unwrap(),
            "-C",
            path("real").to_str().unwrap(),
            ".",
        ],
    );
    let unpacked = as_nobody("tar")
        .args(["-xf".as_ref(), archive.as_os_str(), "-C".as_ref()])
        .arg(path("theirs"))
        .output()
        .unwrap();
    // It fails for the devices, and says so.
    assert_eq!(unpacked.status.code(), Some(2));
    assert!(!path("theirs/dev/null").exists());
    assert_eq!(
        fs::metadata(path("theirs/usr/bin/su")).unwrap().uid(),
        65_534
    );
    workspace
}

fn as_nobody(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(program);
    command
}

#[test]
fn an_ordinary_user_gets_the_image_that_root_gets() {
    let tools = ["bsdtar", "tar", "setpriv", "e2fsck", "debugfs"];
    if !tools.into_iter().all(require_tool) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("only root makes devices");
    }
    let workspace = unpack_as_nobody();
    let path = |name: &str| workspace.path().join(name);
    let config = write_config(workspace.path(), "real.toml", "real", "");
    let ours = path("ours.img");
    let export = |config: &Path, image: &Path| -> Vec<PathBuf> {
        [
            "export".into(),
            config.into(),
            "disk.img".into(),
            image.into(),
        ]
        .to_vec()
    };
    let output = miragefs(export(&config, &ours));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let ours_bytes = fs::read(&ours).unwrap();
    let fsck = ["-f", "-n", ours.to_str().unwrap()];
    run("e2fsck", fsck);
    let stat = ["-R", "stat /dev/nvme", ours.to_str().unwrap()];
    assert!(run_text("debugfs", stat).contains("259:300"));

    let mut formats = vec!["mtree", "mtree-classic"];
    if require_tool("mtree") {
        formats.push("netbsd");
    }
    for format in formats {
        let real = path("real");
        let manifest = match format {
            "netbsd" => {
                let keywords = "type,uid,gid,mode,device,link,time,size";
                run(
                    "mtree",
                    ["-c", "-k", keywords, "-p", real.to_str().unwrap()],
                )
            }
            _ => {
                let format = format!("--format={format}");
                run(
                    "bsdtar",
                    ["-cf", "-", &format, "-C", real.to_str().unwrap(), "."],
                )
            }
        };
        fs::write(path("owners.mtree"), manifest).unwrap();
        let more = ", owners = \"owners.mtree\"";
        let config = write_config(workspace.path(), "theirs.toml", "theirs", more);
        // An export replaces its destination, so the directory must be theirs.
        let directory = path(&format!("{format}.d"));
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(65_534), Some(65_534)).unwrap();
        let image = directory.join("disk.img");
        let output = as_nobody(path("miragefs").to_str().unwrap())
            .args(export(&config, &image))
            .current_dir("/")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{format}: {said}");
        assert!(!said.contains("warning"), "{format}: {said}");
        assert!(
            fs::read(&image).unwrap() == ours_bytes,
            "{format}: images differ"
        );
    }
    // Without the manifest it is another image.
    let config = write_config(workspace.path(), "theirs.toml", "theirs", "");
    let other = path("other.img");
    assert!(miragefs(export(&config, &other)).status.success());
    assert!(fs::read(&other).unwrap() != ours_bytes);
}
