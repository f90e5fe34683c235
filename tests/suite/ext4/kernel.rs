//! The kernel reads what the source holds, and can write to it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use miragefs::synth::ext4::SizeRequest;

use super::build::{
    Links, assert_clean, build, difference, expected_items, items_of, varied_tree, write_image,
};
use crate::loops::{Mount, can_mount};
use crate::support::require_tool;

/// Complaints of ext4 and the journal about a device since boot; none where the log cannot be read.
pub(super) fn complaints(device: &str) -> usize {
    let Ok(output) = Command::new("dmesg").output() else {
        return 0;
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| {
            let about_it = line.contains(&format!("({device})"))
                || line.contains(&format!("device {device}"))
                || line.contains(&format!("{device}-8"));
            let complains = ["EXT4-fs error", "EXT4-fs warning", "JBD2:"]
                .iter()
                .any(|complaint| line.contains(complaint));
            about_it && complains
        })
        .count()
}

#[test]
fn the_kernel_reads_what_the_source_holds() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    varied_tree(&tree);
    wide(&tree.join("wide"), 3000);
    File::create(tree.join("large"))
        .unwrap()
        .set_len(600 << 20)
        .unwrap();
    let image = directory.path().join("image");
    for size in [
        SizeRequest::Fixed(1 << 30),
        SizeRequest::Fixed(5 << 30),
        SizeRequest::Fit { free_blocks: 10 },
    ] {
        write_image(&build(&tree, size), &image);
        let mount = Mount::new(&image, "ro,loop");
        let found = items_of(mount.path(), Links::Stored);
        assert_eq!(difference(&found, &expected_items(&tree)), None);
        mount.unmount();
    }
}

/// A directory of names beyond ASCII, each its own file.
fn wide(at: &Path, count: usize) {
    fs::create_dir(at).unwrap();
    for index in 0..count {
        fs::write(at.join(format!("ünïcöde nämé {index}")), format!("{index}")).unwrap();
    }
}

#[test]
fn the_kernel_can_work_on_it() {
    if !can_mount() || !require_tool("e2fsck") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    varied_tree(&tree);
    wide(&tree.join("wide"), 2000);
    let image = directory.path().join("image");
    // Several groups, most of them without initialised bitmaps until something is written to them.
    for size in [
        SizeRequest::Fixed(700 << 20),
        SizeRequest::Fit {
            free_blocks: 60_000,
        },
    ] {
        write_image(&build(&tree, size), &image);
        let mount = Mount::new(&image, "loop");
        let before = complaints(&mount.device());
        work(mount.path());
        // Older lines may have left the log meanwhile.
        let after = complaints(&mount.device());
        assert!(
            after <= before,
            "{after} complaints of the kernel, {before} before"
        );
        mount.unmount();
        assert_clean(&image);
        let mount = Mount::new(&image, "ro,loop");
        assert_eq!(fs::read(mount.path().join("wide/moved 3")).unwrap(), b"3");
        assert_eq!(
            fs::read(mount.path().join("dir/odd")).unwrap().len(),
            123_463
        );
        mount.unmount();
    }
}

/// Creates, removes, renames, appends, truncates and fills.
pub(super) fn work(root: &Path) {
    let wide = root.join("wide");
    for index in 0..8000 {
        File::create(wide.join(format!("new name {index:05}"))).unwrap();
    }
    for index in (0..2000).step_by(4) {
        fs::remove_file(wide.join(format!("ünïcöde nämé {index}"))).unwrap();
    }
    for index in (3..2000).step_by(4) {
        let from = wide.join(format!("ünïcöde nämé {index}"));
        fs::rename(from, wide.join(format!("moved {index}"))).unwrap();
    }
    for index in (0..8000).step_by(2) {
        fs::remove_file(wide.join(format!("new name {index:05}"))).unwrap();
    }
    let mut odd = OpenOptions::new()
        .append(true)
        .open(root.join("dir/odd"))
        .unwrap();
    odd.write_all(b"behind").unwrap();
    let block = OpenOptions::new()
        .write(true)
        .open(root.join("dir/block"))
        .unwrap();
    block.set_len(100).unwrap();
    fs::create_dir_all(root.join("new/directories/below")).unwrap();
    fs::remove_dir_all(root.join("dir/sub")).unwrap();
    // Until nothing is left: every group is allocated from.
    let mut fill = File::create(root.join("fill")).unwrap();
    let data = vec![0x55; 1 << 20];
    let mut written = 0;
    while fill.write_all(&data).is_ok() {
        written += 1;
    }
    assert!(written > 100, "only {written} MiB were free");
    drop(fill.sync_all());
    rustix::fs::sync();
    fs::remove_file(root.join("fill")).unwrap();
}
