//! What `cp -a` keeps, the kernel reads back: special files, extended attributes, ACLs, holes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use miragefs::config::spec::{CopySpec, Ext4Spec, Sparse};
use miragefs::synth::ext4::{Ext4Error, SizeRequest, mistakes_of};
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::tree::TreeBuilder;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr};

use super::build::{TIMES, assert_clean, copy_of, try_build_entry, write_image};
use crate::loops::{Mount, Tmpfs, can_mount};
use crate::support::{require_tool, run_text, skip};

/// More files than may share one block of attributes.
const SHARERS: usize = 1100;

fn set_attribute(path: &Path, name: &str, value: &str) -> bool {
    lsetxattr(path, name, value.as_bytes(), XattrFlags::empty()).is_ok()
}

/// Attributes of everything below `root`, as text, by path.
pub(super) fn attributes_below(root: &Path) -> String {
    let script = "find . -path ./lost+found -prune -o -print0 | sort -z | xargs -0 getfattr -h -d -m - --absolute-names";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Values need not be UTF-8: a character for each byte tells them all apart.
    output.stdout.into_iter().map(char::from).collect()
}

/// Type, permissions, device number and path of everything below `root`.
pub(super) fn special_files_below(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(root.join("special")).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let mode = metadata.permissions().mode();
        lines.push(format!(
            "{mode:o} {} {}",
            metadata.rdev(),
            entry.file_name().display()
        ));
    }
    lines.sort();
    lines
}

pub(super) fn make_special_files(at: &Path) {
    fs::create_dir(at).unwrap();
    rustix::fs::mkfifoat(CWD, at.join("fifo"), Mode::RWXU).unwrap();
    drop(UnixListener::bind(at.join("socket")).unwrap());
    for (name, kind, major, minor) in [
        ("null", FileType::CharacterDevice, 1, 3),
        ("wide", FileType::BlockDevice, 259, 1_000_000),
        ("large-minor", FileType::CharacterDevice, 8, 300),
    ] {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, at.join(name), kind, Mode::RUSR, device).unwrap();
    }
}

/// Attributes in the inode, in a block, and both; shared and not; on a symlink; ACLs and a capability.
pub(super) fn make_attributes(at: &Path) -> bool {
    fs::create_dir(at).unwrap();
    for name in ["small", "large", "acl", "capable"] {
        fs::write(at.join(name), name).unwrap();
    }
    if !set_attribute(&at.join("small"), "user.a", "hello") {
        return false;
    }
    for (name, len) in [
        ("user.z", 900),
        ("user.bb", 1000),
        ("trusted.c", 1),
        ("user.empty", 0),
    ] {
        assert!(set_attribute(&at.join("large"), name, &"x".repeat(len)));
    }
    symlink("small", at.join("link")).unwrap();
    assert!(set_attribute(&at.join("link"), "trusted.link", "1"));
    run_text(
        "setfacl",
        ["-m", "u:1000:rwx,g:100:r", at.join("acl").to_str().unwrap()],
    );
    run_text(
        "setfacl",
        ["-d", "-m", "u:4000000000:rx", at.to_str().unwrap()],
    );
    // Version 2 of `struct vfs_cap_data`: `CAP_NET_RAW` permitted and effective.
    let capability = "\u{1}\0\0\u{2}\0\u{20}\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    assert!(set_attribute(
        &at.join("capable"),
        "security.capability",
        capability
    ));
    for index in 0..SHARERS {
        let path = at.join(format!("shared-{index}"));
        fs::write(&path, "").unwrap();
        assert!(set_attribute(&path, "user.shared", &"y".repeat(300)));
    }
    true
}

pub(super) fn entry(source: &Path) -> CopySpec {
    CopySpec {
        xattrs: vec!["trusted.*".to_owned()],
        sparse: Sparse::Auto,
        ..copy_of(source)
    }
}

#[test]
fn the_kernel_reads_special_files_and_attributes_back() {
    if !can_mount()
        || !["getfattr", "setfacl", "e2fsck"]
            .into_iter()
            .all(require_tool)
    {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    fs::create_dir(&source).unwrap();
    make_special_files(&source.join("special"));
    if !make_attributes(&source.join("attributes")) {
        return skip("the file system of the temporary directory has no extended attributes");
    }
    let image = directory.path().join("image");
    write_image(
        &try_build_entry(&entry(&source), SizeRequest::Fixed(64 << 20)).unwrap(),
        &image,
    );
    assert_clean(&image);
    let mount = Mount::new(&image, "ro,loop");
    let found = attributes_below(mount.path());
    assert!(
        found.contains("user.bb") && found.contains("posix_acl_default"),
        "{found}"
    );
    assert_eq!(found, attributes_below(&source));
    assert_eq!(
        special_files_below(mount.path()),
        special_files_below(&source)
    );
    mount.unmount();
    // The kernel takes shared blocks apart as it likes.
    let mount = Mount::new(&image, "rw,loop");
    for index in 0..SHARERS {
        let path = mount.path().join(format!("attributes/shared-{index}"));
        match index % 3 {
            0 => assert!(set_attribute(&path, "user.more", "1")),
            1 => fs::remove_file(&path).unwrap(),
            _ => {}
        }
    }
    mount.unmount();
    assert_clean(&image);
}

#[test]
fn holes_stay_holes_in_the_image() {
    if !can_mount() || !require_tool("e2fsck") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    fs::create_dir(&source).unwrap();
    let scattered = File::create(source.join("scattered")).unwrap();
    scattered.set_len(3 << 30).unwrap();
    // More ranges than one block of extents holds.
    for index in 0..900_u64 {
        scattered
            .write_all_at(&index.to_le_bytes(), index * 3_000_001)
            .unwrap();
    }
    File::create(source.join("all-hole"))
        .unwrap()
        .set_len(10 << 20)
        .unwrap();
    let tail = File::create(source.join("tail")).unwrap();
    tail.write_all_at(&[1; 5000], 0).unwrap();
    tail.set_len(3 << 40).unwrap();
    for file in [&scattered, &tail] {
        file.sync_all().unwrap();
    }
    let image = directory.path().join("image");
    write_image(
        &try_build_entry(&entry(&source), SizeRequest::Fixed(64 << 20)).unwrap(),
        &image,
    );
    assert_clean(&image);
    let mount = Mount::new(&image, "ro,loop");
    for name in ["scattered", "all-hole", "tail"] {
        let ours = fs::metadata(mount.path().join(name)).unwrap();
        assert_eq!(
            ours.len(),
            fs::metadata(source.join(name)).unwrap().len(),
            "{name}"
        );
        assert!(
            ours.blocks() * 512 < 8 << 20,
            "{name}: {} blocks",
            ours.blocks()
        );
    }
    for index in 0..900_u64 {
        let mut bytes = [0xa5; 24];
        let file = File::open(mount.path().join("scattered")).unwrap();
        file.read_exact_at(&mut bytes, index * 3_000_001).unwrap();
        assert_eq!(bytes[..8], index.to_le_bytes());
        assert_eq!(bytes[8..], [0; 16]);
    }
    run_text(
        "cmp",
        [
            "-n",
            "20000",
            mount.path().join("tail").to_str().unwrap(),
            source.join("tail").to_str().unwrap(),
        ],
    );
    run_text(
        "cmp",
        [
            mount.path().join("all-hole").to_str().unwrap(),
            source.join("all-hole").to_str().unwrap(),
        ],
    );
    mount.unmount();
}

#[test]
fn attributes_beyond_the_limit_are_named() {
    if !can_mount() {
        return;
    }
    // ext4 itself could not hold them, tmpfs can.
    let directory = tempfile::tempdir().unwrap();
    let tmpfs = Tmpfs::new(directory.path());
    let source = directory.path().to_path_buf();
    fs::write(source.join("f"), "").unwrap();
    for name in ["user.a", "user.b"] {
        if !set_attribute(&source.join("f"), name, &"x".repeat(2500)) {
            return skip("tmpfs holds no attributes before Linux 6.6");
        }
    }
    let error = try_build_entry(&entry(&source), SizeRequest::Fixed(64 << 20))
        .err()
        .unwrap();
    assert_eq!(
        error,
        Ext4Error::XattrsTooLarge {
            path: "/f".to_owned(),
            len: 5040,
            limit: 4148,
            piece: 4060,
        }
    );
    // All files that are beyond a limit are found, in the order of the tree.
    for name in ["user.a", "user.b"] {
        fs::write(source.join("a"), "").unwrap();
        assert!(set_attribute(&source.join("a"), name, &"x".repeat(2500)));
    }
    let huge = File::create(source.join("huge")).unwrap();
    huge.set_len(17 << 40).unwrap();
    drop(huge);
    let mut builder = TreeBuilder::new(TIMES);
    let mut files = HostFiles::new();
    builder.copy(&entry(&source), &mut files);
    let (tree, _) = builder.finish(&mut files).unwrap();
    let mistakes = mistakes_of(&tree, &Ext4Spec::DEFAULT);
    let told: Vec<String> = mistakes.kept().iter().map(ToString::to_string).collect();
    let attributes = "extended attributes take 5040 bytes; ext4 without ea_inode holds at most 4148, in one piece at \
                      most 4060";
    assert_eq!(
        told,
        [
            format!("/a: {attributes}"),
            format!("/f: {attributes}"),
            "/huge: file is 18691697672192 bytes (17 TiB); ext4 with blocks of 4096 bytes holds at most 17592186040320 bytes (15.9 TiB)"
                .to_owned(),
        ]
    );
    drop(tmpfs);
}
