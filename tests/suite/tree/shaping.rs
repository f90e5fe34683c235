//! Which files of a source are taken, and whose they are.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use miragefs::config::spec::{CopySpec, IdMap, IdRange};
use miragefs::config::{self, Environment};
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::identifiers::{Identifiers, file_system_uuid, partition_uuid};
use miragefs::synth::tree::{DeviceNumber, NodeKind, Special, TreeBuilder, TreeError};
use rustix::fs::XattrFlags;

use super::{Plan, entry, error_of, first_of, plan};
use crate::ext4::build::TIMES;
use crate::support::skip;

#[test]
fn include_takes_what_matches_and_the_way_to_it() {
    let source = tempfile::tempdir().unwrap();
    for path in [
        "a.c",
        "a.o",
        "src/b.c",
        "src/b.o",
        "src/deep/er/c.c",
        "docs/all/of/it",
        "docs/draft",
        "docs/secret",
        "empty/none.o",
        "vendor/v.c",
    ] {
        let path = source.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let deep = source.path().join("src/deep");
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o711)).unwrap();
    let include = ["*.c", "/docs/", "!draft"];
    let planned = plan(&[CopySpec {
        include: include.map(str::to_owned).to_vec(),
        exclude: vec!["vendor/".to_owned(), "secret".to_owned()],
        ..entry(source.path(), "/", 1)
    }]);
    assert_eq!(
        planned.paths(),
        [
            "/a.c",
            "/docs",
            "/docs/all",
            "/docs/all/of",
            "/docs/all/of/it",
            "/src",
            "/src/b.c",
            "/src/deep",
            "/src/deep/er",
            "/src/deep/er/c.c",
        ]
    );
    // Directories on the way are those of the source, not made up.
    assert_eq!(planned.node("/src/deep").attributes.mode, 0o711);
    // Nothing matches: the target alone.
    let nothing = plan(&[CopySpec {
        include: vec!["*.h".to_owned()],
        ..entry(source.path(), "/to", 1)
    }]);
    assert_eq!(nothing.paths(), ["/to"]);
}

const fn range(host: u32, image: u32, count: u32) -> IdRange {
    IdRange { host, image, count }
}

#[test]
fn maps_give_files_the_image_s_owners() {
    if !rustix::process::geteuid().is_root() {
        skip("only root gives files away");
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/f"), "x").unwrap();
    symlink("f", root.join("d/s")).unwrap();
    chown(root, Some(100_000), Some(100_000)).unwrap();
    chown(root.join("d"), Some(101_000), Some(100_005)).unwrap();
    chown(root.join("d/f"), Some(165_535), Some(7)).unwrap();
    std::os::unix::fs::lchown(root.join("d/s"), Some(100_001), Some(100_000)).unwrap();
    let owners = |spec: &CopySpec| {
        let planned = plan(std::slice::from_ref(spec));
        ["/", "/d", "/d/f", "/d/s"].map(|path| {
            let attributes = planned.node(path).attributes;
            (attributes.uid, attributes.gid)
        })
    };
    let spec = CopySpec {
        uid_map: Some(IdMap::Ranges(vec![range(100_000, 0, 65_536)])),
        gid_map: Some(IdMap::Ranges(vec![range(7, 50, 1), range(100_000, 0, 6)])),
        ..entry(root, "/", 3)
    };
    assert_eq!(owners(&spec), [(0, 0), (1000, 5), (65_535, 50), (1, 0)]);
    let one = CopySpec {
        gid_map: Some(IdMap::AllRoot),
        ..entry(root, "/", 3)
    };
    assert_eq!(
        owners(&one),
        [(100_000, 0), (101_000, 0), (165_535, 0), (100_001, 0)]
    );
    let outside = CopySpec {
        gid_map: Some(IdMap::Ranges(vec![range(100_000, 0, 6)])),
        ..spec.clone()
    };
    let error = error_of(std::slice::from_ref(&outside));
    assert_eq!(
        error.to_string(),
        format!(
            "lab.toml:3:5: {}/d/f: belongs to group 7, which is in no range of `gid-map`",
            root.display()
        )
    );
    assert_eq!(
        error.hint().unwrap(),
        "add a range such as \"7:7:1\" to `gid-map`, leave the file out with `exclude`, or give `owner` instead"
    );
    // What is left out may belong to anybody.
    let without = CopySpec {
        exclude: vec!["f".to_owned()],
        ..outside
    };
    assert_eq!(plan(&[without]).paths(), ["/d", "/d/s"]);
}

/// An access control list as the kernel takes it: version 2, then tag, permissions and identifier of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn maps_reach_access_control_lists_and_capabilities() {
    if !rustix::process::geteuid().is_root() {
        skip("only root gives capabilities");
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("f");
    fs::write(&file, "x").unwrap();
    const NOBODY: u32 = u32::MAX;
    let list = |first: (u16, u16, u32), rest: &[(u16, u16, u32)]| {
        let mut entries = vec![(0x01, 6, NOBODY), first];
        entries.extend(rest);
        entries.extend([(0x10, 7, NOBODY), (0x20, 0, NOBODY)]);
        acl(&entries)
    };
    let group = (0x04, 4, NOBODY);
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(&file, name, value, XattrFlags::empty()).unwrap();
    };
    let name = "system.posix_acl_access";
    set(
        name,
        &list(
            (0x02, 5, 100_001),
            &[(0x02, 7, 200_000), group, (0x08, 1, 100_003)],
        ),
    );
    // CAP_NET_RAW, effective, of the namespace whose root is 100000: revision 3.
    let namespaced = [0x0300_0001, 1 << 13, 0, 0, 0, 100_000_u32];
    set(
        "security.capability",
        namespaced.map(u32::to_le_bytes).as_flattened(),
    );
    let spec = CopySpec {
        uid_map: Some(IdMap::Ranges(vec![
            range(0, 0, 1),
            range(100_000, 0, 10),
            range(200_000, 0, 1),
        ])),
        gid_map: Some(IdMap::Ranges(vec![range(0, 0, 1), range(100_000, 10, 10)])),
        ..entry(source.path(), "/", 3)
    };
    let planned = plan(std::slice::from_ref(&spec));
    let id = usize::try_from(planned.node("/f").xattrs.0).unwrap();
    let found = &planned.tree.xattr_sets()[id];
    // In the order of identifiers in the image: the second user came before the first.
    let expected_list = list((0x02, 7, 0), &[(0x02, 5, 1), group, (0x08, 1, 13)]);
    // A namespace's root that is the image's root needs no mention: revision 2.
    let expected_capability = [0x0200_0001, 1 << 13, 0, 0, 0_u32].map(u32::to_le_bytes);
    let expected = [
        ("security.capability", expected_capability.as_flattened()),
        (name, expected_list.as_slice()),
    ];
    assert_eq!(found.len(), expected.len());
    for ((name, value), (expected_name, expected_value)) in found.iter().zip(expected) {
        assert_eq!(**name, *expected_name.as_bytes());
        assert_eq!(**value, *expected_value, "{expected_name}");
    }
    let outside = CopySpec {
        uid_map: Some(IdMap::Ranges(vec![range(0, 0, 1), range(100_000, 0, 10)])),
        ..spec
    };
    assert!(
        error_of(&[outside])
            .to_string()
            .ends_with("/f: belongs to user 200000, which is in no range of `uid-map`")
    );
}

/// The tree of the only partition of a config.
fn plan_config(text: &str) -> Result<Plan, TreeError> {
    let path = Path::new("/lab.toml");
    let loaded = config::load_text(text.to_owned(), path, &Environment::default()).unwrap();
    let partition = &loaded.spec.partitions[0];
    let mut files = HostFiles::new();
    let mut builder = TreeBuilder::new(loaded.spec.times);
    for copy in &partition.copies {
        builder.copy(copy, &mut files);
    }
    builder.entries(partition, &Identifiers::of(&loaded.spec));
    let (tree, warnings) = builder.finish(&mut files).map_err(first_of)?;
    Ok(Plan {
        tree,
        files,
        warnings,
    })
}

#[test]
fn directories_files_symlinks_and_devices_of_the_config_come_in_this_order() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("dev")).unwrap();
    fs::write(source.path().join("dev/kept"), "x").unwrap();
    fs::write(source.path().join("over"), "x").unwrap();
    let text = format!(
        r#"
        name = "n"
        [[partition]]
        copy = [{{ from = "{}" }}]
        device = [
            {{ path = "/dev/null", type = "char", major = 1, minor = 3, mode = "0666" }},
            {{ path = "/dev/sda", type = "block", major = 4095, minor = 1048575, owner = "0:6" }},
            {{ path = "/run/pipe", type = "fifo" }},
            {{ path = "/over", type = "socket" }},
        ]
        symlink = [
            {{ path = "/dev/fd", target = "/proc/self/fd", owner = "3:4" }},
            {{ path = "/over", target = "dev" }},
        ]
        files = [{{ path = "/made/here/f", text = "x" }}, {{ path = "/dev/fd", text = "x" }}]
        mkdir = [
            {{ path = "/" , mode = "0711" }},
            {{ path = "/dev/", mode = "0700", owner = "1:2" }},
            {{ path = "/made", mode = "1777" }},
        ]
        "#,
        source.path().display()
    );
    let planned = plan_config(&text).unwrap();
    assert_eq!(
        planned.paths(),
        [
            "/dev",
            "/dev/fd",
            "/dev/kept",
            "/dev/null",
            "/dev/sda",
            "/made",
            "/made/here",
            "/made/here/f",
            "/over",
            "/run",
            "/run/pipe",
        ]
    );
    for (path, mode, uid, gid) in [
        ("/", 0o711, 0, 0),
        ("/dev", 0o700, 1, 2),
        ("/dev/fd", 0o777, 3, 4),
        ("/dev/null", 0o666, 0, 0),
        ("/dev/sda", 0o600, 0, 6),
        ("/made", 0o1777, 0, 0),
        ("/made/here", 0o755, 0, 0),
        ("/run", 0o755, 0, 0),
        ("/run/pipe", 0o600, 0, 0),
    ] {
        let attributes = planned.node(path).attributes;
        assert_eq!(
            (attributes.mode, attributes.uid, attributes.gid),
            (mode, uid, gid),
            "{path}"
        );
        assert_eq!(attributes.mtime.seconds, TIMES.default, "{path}");
    }
    let number = |major, minor| DeviceNumber { major, minor };
    for (path, special) in [
        ("/dev/null", Special::CharacterDevice(number(1, 3))),
        ("/dev/sda", Special::BlockDevice(number(4095, 1_048_575))),
        ("/run/pipe", Special::Fifo),
        ("/over", Special::Socket),
    ] {
        let NodeKind::Special(found) = planned.node(path).kind else {
            panic!("{path} is special")
        };
        assert_eq!(found, special, "{path}");
    }
    let NodeKind::Symlink(target) = planned.node("/dev/fd").kind else {
        panic!("the symlink comes after the file")
    };
    assert_eq!(*target, *b"/proc/self/fd");
    for (entry, path, new, old) in [
        (
            "mkdir = [{ path = '/over' }]",
            "/over",
            "a directory",
            "a file",
        ),
        (
            "symlink = [{ path = '/dev', target = 'x' }]",
            "/dev",
            "a symlink",
            "a directory",
        ),
        (
            "device = [{ path = '/dev', type = 'fifo' }]",
            "/dev",
            "a special file",
            "a directory",
        ),
    ] {
        let from = source.path().display();
        let text = format!("[[partition]]\ncopy = [{{ from = '{from}' }}]\n{entry}");
        let error = plan_config(&text)
            .err()
            .expect("directories are not replaced");
        let text = error.to_string();
        let expected = format!(": {path}: {new} cannot take the place of {old}");
        assert!(text.ends_with(&expected), "{text}");
    }
}

#[test]
fn names_in_texts_are_replaced() {
    let text = r#"
        name = "n"
        [variables]
        user = "J {{x}}"
        count = -7
        [[partition]]
        label = "a"
        files = [
            { path = "/f", text = "{{user}}, {{ count }}{{{{x}} }}\n{{partition.b c.label}}" },
            { path = "/raw", base64 = "e3t4fX0=" },
            { path = "/ids", text = "{{partition.b c.uuid}} {{partition.a.partuuid}} {{partition.b c.partuuid}}" },
        ]
        [[partition]]
        label = "b c"
        "#;
    let planned = plan_config(text).unwrap();
    assert_eq!(planned.bytes("/f"), b"J {{x}}, -7{{x}} }}\nb c");
    assert_eq!(planned.bytes("/raw"), b"{{x}}");
    let spec = config::load_text(
        text.to_owned(),
        Path::new("/lab.toml"),
        &Environment::default(),
    )
    .unwrap()
    .spec;
    let signature = miragefs::synth::fingerprint::disk_signature("n");
    let expected = format!(
        "{} {} {}",
        file_system_uuid("n", &spec.partitions[1]),
        partition_uuid(signature, 1),
        partition_uuid(signature, 2)
    );
    assert_eq!(String::from_utf8(planned.bytes("/ids")).unwrap(), expected);
    // As `blkid -s PARTUUID` prints it.
    assert_eq!(partition_uuid(0x00ab_cdef, 2), "00abcdef-02");
}
