//! One source: what is taken of it, as it is or overridden, and what is left out and said.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use miragefs::config::spec::{CopySpec, Owner, Sparse, Times};
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::tree::{
    DeviceNumber, NodeKind, ScanProgress, Special, Timestamp, TreeBuilder,
};
use rustix::fs::{CWD, FileType, Mode};

use super::{entry, error_of, plan, plan_at};
use crate::ext4::build::{TIMES, set_mtime};
use crate::loops::Tmpfs;
use crate::support::{require_tool, run_text, skip};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn modes_owners_and_times_are_those_of_the_source() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/f"), "x").unwrap();
    symlink("f", root.join("d/s")).unwrap();
    fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o2755)).unwrap();
    fs::set_permissions(root.join("d/f"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o711)).unwrap();
    let owner = fs::metadata(root.join("d/f")).unwrap();
    let mut owner = (owner.uid(), owner.gid());
    if is_root() {
        owner = (123_456, 4_000_000_000);
        chown(root.join("d/f"), Some(owner.0), Some(owner.1)).unwrap();
        // chown took the set-user-ID bits.
        fs::set_permissions(root.join("d/f"), fs::Permissions::from_mode(0o6751)).unwrap();
    }
    set_mtime(&root.join("d/f"), 1_234_567_890, 987_654_321);
    set_mtime(&root.join("d/s"), -5, 1);
    set_mtime(&root.join("d"), 1_600_000_000, 0);
    let planned = plan(&[entry(root, "/to", 1)]);
    assert_eq!(planned.node("/to").attributes.mode, 0o711);
    assert_eq!(planned.node("/to/d").attributes.mode, 0o2755);
    let file = planned.node("/to/d/f").attributes;
    assert_eq!((file.mode, file.uid, file.gid), (0o6751, owner.0, owner.1));
    let time = |seconds, nanoseconds| Timestamp {
        seconds,
        nanoseconds,
    };
    assert_eq!(file.mtime, time(1_234_567_890, 987_654_321));
    assert_eq!(planned.node("/to/d/s").attributes.mtime, time(-5, 1));
    assert_eq!(
        planned.node("/to/d").attributes.mtime,
        time(1_600_000_000, 0)
    );
    // What no source brings: the root, here.
    let root = planned.node("/").attributes;
    assert_eq!((root.mode, root.uid, root.gid), (0o755, 0, 0));
    assert_eq!(root.mtime, time(TIMES.default, 0));
}

#[test]
fn a_watcher_sees_how_far_the_scan_is() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir_all(source.path().join("a/b")).unwrap();
    for name in ["a/b/1", "a/b/2", "a/3"] {
        fs::write(source.path().join(name), "x").unwrap();
    }
    let progress = Arc::new(ScanProgress::new());
    let mut builder = TreeBuilder::new(TIMES);
    builder.report_to(Arc::clone(&progress));
    assert_eq!(progress.files(), 0);
    builder.copy(&entry(source.path(), "/", 1), &mut HostFiles::new());
    // The files and the two directories; the deepest directory is the last.
    assert_eq!(progress.files(), 5);
    assert_eq!(progress.directory(), source.path().join("a/b"));
}

#[test]
fn later_times_are_clamped() {
    let source = tempfile::tempdir().unwrap();
    for (name, seconds, nanoseconds) in [
        ("before", 1_699_999_999, 999_999_999),
        ("at", 1_700_000_000, 0),
        ("just after", 1_700_000_000, 1),
        ("after", 1_800_000_000, 5),
    ] {
        fs::write(source.path().join(name), name).unwrap();
        set_mtime(&source.path().join(name), seconds, nanoseconds);
    }
    let times = Times {
        default: 1_700_000_000,
        clamp: Some(1_700_000_000),
    };
    let planned = plan_at(times, &[entry(source.path(), "/", 1)]).unwrap();
    let mtime = |path: &str| {
        let mtime = planned.node(path).attributes.mtime;
        (mtime.seconds, mtime.nanoseconds)
    };
    assert_eq!(mtime("/before"), (1_699_999_999, 999_999_999));
    for path in ["/at", "/just after", "/after", "/", "/lost+found"] {
        assert_eq!(mtime(path), (1_700_000_000, 0), "{path}");
    }
}

#[test]
fn overrides_apply_to_the_target_and_all_below() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("d/f"), "x").unwrap();
    symlink("f", source.path().join("d/s")).unwrap();
    let spec = CopySpec {
        owner: Some(Owner {
            uid: 1000,
            gid: 4_294_967_294,
        }),
        mode: Some(0o750),
        ..entry(source.path(), "/a/b", 1)
    };
    let planned = plan(&[spec]);
    for (path, mode) in [
        ("/a/b", 0o750),
        ("/a/b/d", 0o750),
        ("/a/b/d/f", 0o750),
        ("/a/b/d/s", 0o777),
    ] {
        let attributes = planned.node(path).attributes;
        assert_eq!(attributes.mode, mode, "{path}");
        assert_eq!(
            (attributes.uid, attributes.gid),
            (1000, 4_294_967_294),
            "{path}"
        );
    }
    // The directory on the way is nobody's.
    let implied = planned.node("/a").attributes;
    assert_eq!((implied.mode, implied.uid, implied.gid), (0o755, 0, 0));
    assert_eq!(implied.mtime.seconds, TIMES.default);
}

#[test]
fn hard_links_are_joined_within_one_entry() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("one"), "x").unwrap();
    fs::hard_link(root.join("one"), root.join("d/two")).unwrap();
    fs::hard_link(root.join("one"), root.join("left out")).unwrap();
    symlink("t", root.join("s")).unwrap();
    fs::hard_link(root.join("s"), root.join("d/s too")).unwrap();
    let first = CopySpec {
        exclude: vec!["left*".to_owned()],
        ..entry(root, "/first", 1)
    };
    let planned = plan(&[first, entry(root, "/second", 2)]);
    let id = |path: &str| planned.tree.find(&super::image_path(path)).unwrap();
    assert_eq!(id("/first/one"), id("/first/d/two"));
    assert_eq!(id("/first/s"), id("/first/d/s too"));
    assert_ne!(id("/first/one"), id("/second/one"));
    // Names inside the image count, not those of the host.
    assert_eq!(planned.node("/first/one").link_count, 2);
    assert_eq!(planned.node("/second/one").link_count, 3);
    assert_eq!(planned.node("/first").link_count, 1);
}

#[test]
fn symlinks_are_copied_and_never_followed() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("real")).unwrap();
    fs::write(source.path().join("real/f"), "x").unwrap();
    symlink("real", source.path().join("link")).unwrap();
    symlink("/etc", source.path().join("outside")).unwrap();
    symlink("nowhere", source.path().join("dangling")).unwrap();
    symlink(".", source.path().join("loop")).unwrap();
    let planned = plan(&[entry(source.path(), "/", 1)]);
    assert_eq!(
        planned.paths(),
        [
            "/dangling",
            "/link",
            "/loop",
            "/outside",
            "/real",
            "/real/f"
        ]
    );
    for (path, target) in [
        ("/link", "real"),
        ("/outside", "/etc"),
        ("/dangling", "nowhere"),
    ] {
        let NodeKind::Symlink(found) = planned.node(path).kind else {
            panic!("{path} is a symlink")
        };
        assert_eq!(*found, *target.as_bytes());
    }
}

#[test]
fn exclude_follows_the_rules_of_gitignore() {
    let source = tempfile::tempdir().unwrap();
    for path in [
        "a.swp",
        "keep.swp",
        "d/b.swp",
        "d/.cache/x",
        ".cache/y",
        "top",
        "d/top",
        "build/x/y",
        "d/build",
        "e/f/g/h",
        "e/f/keep",
    ] {
        let path = source.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let exclude = ["*.swp", "!keep.swp", ".cache/", "/top", "build/", "e/**/h"];
    let planned = plan(&[CopySpec {
        exclude: exclude.map(str::to_owned).to_vec(),
        ..entry(source.path(), "/", 1)
    }]);
    assert_eq!(
        planned.paths(),
        [
            "/d",
            "/d/build",
            "/d/top",
            "/e",
            "/e/f",
            "/e/f/g",
            "/e/f/keep",
            "/keep.swp"
        ]
    );
    let bad = error_of(&[CopySpec {
        exclude: vec!["a{b".to_owned()],
        ..entry(source.path(), "/", 7)
    }]);
    let text = bad.to_string();
    assert!(
        text.starts_with("lab.toml:7:5: exclude pattern `a{b`: "),
        "{text}"
    );
}

#[test]
fn odd_and_long_names_are_kept_as_bytes() {
    let source = tempfile::tempdir().unwrap();
    let names: [&[u8]; 5] = [
        b"\xff\xfe",
        b"new\nline",
        b" ",
        "ü".as_bytes(),
        &[b'n'; 255],
    ];
    for name in names {
        fs::write(source.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let planned = plan(&[entry(source.path(), "/", 1)]);
    let mut found: Vec<&[u8]> = planned
        .tree
        .entries(miragefs::synth::tree::NodeId::ROOT)
        .iter()
        .map(|entry| entry.name)
        .filter(|name| *name != b"lost+found")
        .collect();
    assert!(found.is_sorted(), "entries are in the order of bytes");
    found.sort_unstable();
    let mut expected = names;
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn special_files_are_what_they_were() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    rustix::fs::mkfifoat(CWD, root.join("fifo"), Mode::RUSR).unwrap();
    drop(UnixListener::bind(root.join("socket")).unwrap());
    let mut expected = vec![("/fifo", Special::Fifo), ("/socket", Special::Socket)];
    if is_root() {
        let number = DeviceNumber {
            major: 259,
            minor: 70_000,
        };
        for (name, kind) in [
            ("char", FileType::CharacterDevice),
            ("block", FileType::BlockDevice),
        ] {
            let device = rustix::fs::makedev(number.major, number.minor);
            rustix::fs::mknodat(CWD, root.join(name), kind, Mode::RUSR, device).unwrap();
        }
        expected.push(("/char", Special::CharacterDevice(number)));
        expected.push(("/block", Special::BlockDevice(number)));
    }
    let planned = plan(&[entry(root, "/", 1)]);
    assert_eq!(planned.warnings(), [""; 0]);
    for (path, special) in expected {
        let NodeKind::Special(found) = planned.node(path).kind else {
            panic!("{path} is special")
        };
        assert_eq!(found, special, "{path}");
    }
    let error = error_of(&[entry(&root.join("fifo"), "/x", 3)]);
    assert_eq!(
        error.to_string(),
        format!(
            "lab.toml:3:5: {}/fifo: is a fifo; a source is a directory or a regular file",
            root.display()
        )
    );
}

#[test]
fn extended_attributes_are_taken_or_named() {
    if !require_tool("setfattr") || !is_root() {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let file = source.path().join(name);
        fs::write(&file, "x").unwrap();
        for attribute in ["user.mark", "trusted.mark"] {
            let set = Command::new("setfattr")
                .args(["-n", attribute, "-v", "1"])
                .arg(&file)
                .output();
            if !set.unwrap().status.success() {
                return skip(
                    "the file system of the temporary directory has no extended attributes",
                );
            }
        }
    }
    let names = |xattrs: &[&str]| {
        let planned = plan(&[CopySpec {
            xattrs: xattrs.iter().map(|pattern| (*pattern).to_owned()).collect(),
            ..entry(source.path(), "/", 1)
        }]);
        let set = planned.node("/a").xattrs;
        assert_eq!(set, planned.node("/b").xattrs, "equal sets are one");
        let set = &planned.tree.xattr_sets()[usize::try_from(set.0).unwrap()];
        let names: Vec<String> = set
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect();
        (names.join(" "), planned.warnings())
    };
    let left_out = format!(
        "lab.toml:1:5: extended attribute trusted.mark of 2 files is left out, first of {}/a",
        source.path().display()
    );
    assert_eq!(names(&[]), ("user.mark".to_owned(), vec![left_out]));
    assert_eq!(
        names(&["trusted.*"]),
        ("trusted.mark user.mark".to_owned(), vec![])
    );
    assert_eq!(names(&["!user.*", "!trusted.*"]), (String::new(), vec![]));
}

#[test]
fn holes_are_looked_for_where_the_host_stores_less() {
    let source = tempfile::tempdir().unwrap();
    let file = fs::File::create(source.path().join("f")).unwrap();
    file.set_len(1 << 30).unwrap();
    file.write_all_at(b"data", (512 << 20) + 5).unwrap();
    file.sync_all().unwrap();
    let ranges = |sparse| {
        let planned = plan(&[CopySpec {
            sparse,
            ..entry(source.path(), "/", 1)
        }]);
        assert_eq!(planned.bytes("/f")[(512 << 20) + 5..][..4], *b"data");
        match planned.node("/f").kind {
            NodeKind::File { ranges, .. } => ranges.map(<[_]>::to_vec),
            _ => panic!("it is a file"),
        }
    };
    let found = ranges(Sparse::Auto).expect("it has holes");
    assert!(
        found
            .iter()
            .any(|range| range.file_block <= 131_072 && 131_072 < range.file_block + range.len)
    );
    assert!(found.iter().map(|range| range.len).sum::<u32>() < 1000);
    assert_eq!(ranges(Sparse::Never), None);
    let mut builder = TreeBuilder::new(TIMES);
    let mut files = HostFiles::new();
    builder.map_fully();
    builder.copy(&entry(source.path(), "/", 1), &mut files);
    let (tree, _) = builder.finish(&mut files).unwrap();
    assert_eq!(
        tree.counts().sparse_files,
        0,
        "beside a boot loader nothing has holes"
    );
}

#[test]
fn mount_points_become_empty_unless_asked_for() {
    if !crate::loops::can_mount() {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let below = source.path().join("below");
    let file = source.path().join("file");
    fs::create_dir(&below).unwrap();
    fs::write(&file, "own").unwrap();
    let _tmpfs = Tmpfs::new(&below);
    fs::write(below.join("inside"), "other").unwrap();
    run_text(
        "mount",
        [
            "--bind".as_ref(),
            below.join("inside").as_os_str(),
            file.as_os_str(),
        ],
    );
    let _bind = Tmpfs::of(&file);
    let planned = plan(&[entry(source.path(), "/", 1)]);
    assert_eq!(planned.paths(), ["/below", "/file"]);
    assert_eq!(
        planned.warnings(),
        [
            format!(
                "{}: is a mount point; it becomes an empty directory",
                below.display()
            ),
            format!(
                "{}: is a mount point; it becomes an empty file",
                file.display()
            ),
        ]
    );
    assert_eq!(
        planned.warnings[0].hint().unwrap(),
        "`cross-mounts = true` in the copy entry includes other file systems"
    );
    assert_eq!(planned.bytes("/file"), b"");
    let crossed = plan(&[CopySpec {
        cross_mounts: true,
        ..entry(source.path(), "/", 1)
    }]);
    assert_eq!(crossed.paths(), ["/below", "/below/inside", "/file"]);
    assert_eq!(crossed.warnings(), [""; 0]);
    assert_eq!(crossed.bytes("/below/inside"), b"other");
    assert_eq!(crossed.bytes("/file"), b"other");
    // A source that is itself mounted is what the user named.
    assert_eq!(plan(&[entry(&below, "/", 1)]).bytes("/inside"), b"other");
    assert_eq!(plan(&[entry(&file, "/named", 1)]).bytes("/named"), b"other");
}

/// Set in the process that is started without root's rights.
const AS_NOBODY: &str = "MIRAGEFS_TEST_UNREADABLE";

#[test]
fn unreadable_files_are_named_to_who_is_not_root() {
    if let Some(source) = std::env::var_os(AS_NOBODY) {
        assert!(!is_root());
        let source = Path::new(&source);
        let error = error_of(&[entry(source, "/", 4)]);
        assert_eq!(
            error.to_string(),
            format!("lab.toml:4:5: {}/secret: cannot be read", source.display())
        );
        assert!(
            error
                .hint()
                .unwrap()
                .contains("leave it out with `exclude`")
        );
        let spec = CopySpec {
            exclude: vec!["secret".to_owned()],
            ..entry(source, "/", 4)
        };
        assert_eq!(plan(&[spec]).paths(), ["/open"]);
        return;
    }
    if !require_tool("setpriv") {
        return;
    }
    if !is_root() {
        return skip("giving up root's rights takes root");
    }
    let source = tempfile::tempdir().unwrap();
    fs::set_permissions(source.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(source.path().join("open"), "x").unwrap();
    fs::write(source.path().join("secret"), "x").unwrap();
    fs::set_permissions(
        source.path().join("secret"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    assert_eq!(
        plan(&[entry(source.path(), "/", 4)]).paths(),
        ["/open", "/secret"]
    );
    // The test binary may lie where nobody else can reach it.
    let binary = source
        .path()
        .parent()
        .unwrap()
        .join("unreadable-test-binary");
    let binary = tempfile::Builder::new()
        .prefix(binary.file_name().unwrap())
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    fs::set_permissions(binary.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = binary.path().join("suite");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args([
            "--exact",
            "tree::scanning::unreadable_files_are_named_to_who_is_not_root",
        ])
        .env(AS_NOBODY, source.path())
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
}
