//! The kernel works on copies of our file systems for as long as it is asked to: it has no complaint, what it wrote is
//! there when it comes back, and e2fsck finds nothing.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use miragefs::synth::ext4::SizeRequest;

use super::build::{Links, build, decode_file, difference, items_of, varied_tree, write_image};
use super::churn::{Until, assert_lively, churn};
use super::exercise::exercise;
use super::fidelity::attributes_below;
use super::rich::{Rich, wide};
use super::watched::Watched;
use crate::kernel_log::KernelLog;
use crate::loops::{LoopDevice, Mount, can_mount};
use crate::support::{long_tests, require_tool};

/// Several groups, most of them without initialised bitmaps until something is written to them; with a resize inode and
/// without.
fn sizes() -> [SizeRequest; 2] {
    if long_tests() {
        [
            SizeRequest::Fixed(1 << 30),
            SizeRequest::Fit {
                free_blocks: 200_000,
            },
        ]
    } else {
        [
            SizeRequest::Fixed(520 << 20),
            SizeRequest::Fit {
                free_blocks: 40_000,
            },
        ]
    }
}

fn have_tools() -> bool {
    can_mount()
        && ["e2fsck", "getfattr", "setfacl"]
            .into_iter()
            .all(require_tool)
}

/// What is below a mount point is still there when it is mounted anew.
fn finish_and_compare(watched: Watched, image: &Path) {
    watched.sync();
    let items = items_of(watched.path(), Links::Stored);
    let attributes = attributes_below(watched.path());
    watched.finish();
    let again = Mount::new(image, "ro,loop");
    assert_eq!(
        difference(&items_of(again.path(), Links::Stored), &items),
        None
    );
    assert!(
        attributes_below(again.path()) == attributes,
        "extended attributes changed on the way"
    );
    again.unmount();
}

#[test]
fn the_kernel_changes_everything_at_random() {
    if !have_tools() {
        return;
    }
    let (operations, workers) = if long_tests() {
        (100_000, 4)
    } else {
        (8_000, 1)
    };
    for (size, seed) in sizes().into_iter().zip(1..) {
        let Some(rich) = Rich::new(size) else { return };
        let watched = Watched::new(&rich.image(), "rw");
        rich.assert_equal(watched.path());
        let tally = churn(watched.path(), seed, workers, Until::Operations(operations));
        assert_lively(&tally, operations, 20);
        finish_and_compare(watched, &rich.image());
    }
}

#[test]
fn the_kernel_writes_into_files_in_every_way() {
    if !have_tools() {
        return;
    }
    let operations = if long_tests() { 30_000 } else { 1_500 };
    let Some(rich) = Rich::new(SizeRequest::Fixed(256 << 20)) else {
        return;
    };
    let watched = Watched::new(&rich.image(), "rw");
    // The model is as long as the exercise reaches.
    let holes = OpenOptions::new()
        .write(true)
        .open(watched.path().join("holes"))
        .unwrap();
    holes.set_len(2 << 20).unwrap();
    drop(holes);
    for (name, seed) in [("dir/odd", 11), ("holes", 12), ("empty", 13)] {
        exercise(&watched.path().join(name), seed, operations);
    }
    finish_and_compare(watched, &rich.image());
}

#[test]
fn directories_grow_by_thousands_of_names_and_shrink_again() {
    if !have_tools() {
        return;
    }
    let count = if long_tests() { 40_000 } else { 8_000 };
    for size in sizes() {
        let Some(rich) = Rich::new(size) else { return };
        let watched = Watched::new(&rich.image(), "rw");
        grow_and_shrink(&watched.path().join("wide"), count);
        finish_and_compare(watched, &rich.image());
    }
}

/// Leaves split, then lose all that came; every fourth name that was there goes too, another one gets a new name.
fn grow_and_shrink(wide: &Path, count: usize) {
    let new = |index: usize| wide.join(format!("new name {index:07}"));
    let old = |index: usize| wide.join(format!("ünïcöde nämé {index}"));
    for index in (0..count).step_by(2) {
        File::create(new(index)).unwrap();
        fs::hard_link(new(index), new(index + 1)).unwrap();
    }
    for index in (0..2000).step_by(4) {
        fs::remove_file(old(index)).unwrap();
    }
    for index in (3..2000).step_by(4) {
        fs::rename(old(index), wide.join(format!("moved {index}"))).unwrap();
    }
    for index in (0..count).step_by(2) {
        fs::remove_file(new(index)).unwrap();
    }
    assert_eq!(fs::read(wide.join("moved 3")).unwrap(), b"3");
    assert_eq!(fs::read(old(2)).unwrap(), b"2");
    assert!(!old(4).exists() && !new(4).exists() && new(5).exists());
    for index in (1..count).step_by(2) {
        fs::remove_file(new(index)).unwrap();
    }
    assert_eq!(fs::read_dir(wide).unwrap().count(), 2500);
}

#[test]
fn the_kernel_fills_every_block_and_every_inode() {
    if !have_tools() {
        return;
    }
    for size in sizes() {
        let Some(rich) = Rich::new(size) else { return };
        let watched = Watched::new(&rich.image(), "rw");
        fill_blocks(watched.path());
        watched.sync();
        fs::remove_file(watched.path().join("fill")).unwrap();
        fill_inodes(&watched.path().join("names"));
        watched.sync();
        fs::remove_dir_all(watched.path().join("names")).unwrap();
        rich.assert_equal_inside(watched.path());
        finish_and_compare(watched, &rich.image());
    }
}

/// Until nothing is left: every group is allocated from.
fn fill_blocks(root: &Path) {
    let mut fill = File::create(root.join("fill")).unwrap();
    let data = vec![0x55; 1 << 20];
    let mut written = 0;
    while fill.write_all(&data).is_ok() {
        written += 1;
    }
    assert!(written > 80, "only {written} MiB were free");
    // It may fail: what is written late finds no room.
    drop(fill.sync_all());
}

/// Empty files until there is no inode left.
fn fill_inodes(at: &Path) {
    fs::create_dir(at).unwrap();
    let count = (0..200_000)
        .take_while(|index| File::create(at.join(index.to_string())).is_ok())
        .count();
    assert!(
        (1000..200_000).contains(&count),
        "room for {count} new files"
    );
}

/// A watch that never strikes would prove nothing.
#[test]
fn a_damaged_directory_is_complained_about() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (tree, image) = (
        directory.path().join("tree"),
        directory.path().join("image"),
    );
    varied_tree(&tree);
    wide(&tree.join("wide"), 10);
    write_image(&build(&tree, SizeRequest::Fixed(64 << 20)), &image);
    let decoded = decode_file(&image).unwrap();
    let number = decoded.inodes[b"wide".as_slice()];
    let block = decoded.mappings[&number].block_numbers()[0];
    let file = OpenOptions::new().write(true).open(&image).unwrap();
    file.write_all_at(b"damage", block * 4096 + 4090).unwrap();
    drop(file);
    let device = LoopDevice::new(&image);
    let Some(mut log) = KernelLog::from_now() else {
        return;
    };
    let mount = Mount::new(device.path(), "rw");
    assert_eq!(log.complaints(device.name()), Vec::<String>::new());
    let listed = fs::read_dir(mount.path().join("wide"))
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    assert!(listed.is_err(), "{listed:?}");
    let complaints = log.complaints(device.name());
    assert!(
        complaints.iter().any(|line| line.contains("EXT4-fs error")),
        "{complaints:?}"
    );
    mount.unmount();
}
