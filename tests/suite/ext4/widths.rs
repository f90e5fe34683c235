//! Directories of one name, of ten thousand and of half a million: tools read them, the kernel finds every name.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use miragefs::config::spec::Ext4Spec;
use miragefs::synth::ext4::SizeRequest;

use super::build::{assert_clean, decode_source_with_holes, try_build_shaped, write_image};
use super::decoder::Decoded;
use super::watched::Watched;
use crate::loops::{Mount, Tmpfs, can_mount};
use crate::support::{long_tests, require_tool, run, run_text};

/// How many names the kernel adds to each directory.
const ADDED: usize = 1500;

fn name(index: usize) -> String {
    format!("name-{index:09}-of-{:03}", index % 97)
}

/// The names in a directory.
fn names_in(directory: &Path) -> BTreeSet<Vec<u8>> {
    let entries: Vec<_> = fs::read_dir(directory).unwrap().collect();
    let count = entries.len();
    let names: BTreeSet<Vec<u8>> = entries
        .into_iter()
        .map(|entry| entry.unwrap().file_name().into_vec())
        .collect();
    assert_eq!(names.len(), count, "a name comes twice");
    names
}

/// Every name leads to its inode, one that is not there to nothing, and reading the directory gives all of them.
fn assert_found(root: &Path, count: usize, decoded: &Decoded) {
    let wide = root.join("wide");
    for index in 0..count {
        let name = name(index);
        let found = fs::symlink_metadata(wide.join(&name))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let inode = decoded.inodes[format!("wide/{name}").as_bytes()];
        assert_eq!(found.ino(), u64::from(inode), "{name}");
    }
    for index in count..count + 100 {
        assert!(!wide.join(name(index)).exists());
    }
    let expected: BTreeSet<Vec<u8>> = (0..count).map(|index| name(index).into_bytes()).collect();
    assert!(names_in(&wide) == expected, "names as read");
}

/// debugfs shows the index with its levels, and below it every name once.
fn assert_dumped(image: &Path, count: usize, levels: Option<u8>) {
    let arguments = [
        "-R".as_ref(),
        "htree_dump /wide".as_ref(),
        image.as_os_str(),
    ];
    let told = String::from_utf8(run("debugfs", arguments)).unwrap();
    let Some(levels) = levels else {
        assert!(!told.contains("Root node dump"), "{told}");
        return;
    };
    let wanted = format!("Indirect levels: {levels}");
    assert!(told.contains(&wanted), "{}", &told[..1000]);
    assert_eq!(told.matches(" name-").count(), count);
}

/// The kernel adds names and takes every 7th of the old ones away.
fn change(image: &Path, count: usize) {
    let watched = Watched::new(image, "rw");
    let wide = watched.path().join("wide");
    for index in count..count + ADDED {
        fs::write(wide.join(name(index)), "").unwrap();
    }
    let (gone, left): (Vec<usize>, Vec<usize>) = (0..count).partition(|index| index % 7 == 3);
    for index in gone {
        fs::remove_file(wide.join(name(index))).unwrap();
    }
    let expected: BTreeSet<Vec<u8>> = left
        .into_iter()
        .chain(count..count + ADDED)
        .map(|index| name(index).into_bytes())
        .collect();
    assert!(names_in(&wide) == expected, "names after changes");
    watched.finish();
}

fn check(at: &Path, count: usize, block_size: u32, levels: Option<u8>) {
    let tree = at.join("tree");
    fs::create_dir_all(tree.join("wide")).unwrap();
    for index in 0..count {
        fs::write(tree.join("wide").join(name(index)), "").unwrap();
    }
    let spec = Ext4Spec {
        block_size,
        inodes: Some(u32::try_from(count + 2 * ADDED).unwrap()),
        ..Ext4Spec::DEFAULT
    };
    let fit = SizeRequest::Fit {
        free_blocks: 10_000,
    };
    let source = try_build_shaped(&tree, &spec, fit).unwrap();
    let decoded = decode_source_with_holes(&source).unwrap();
    assert!(
        decoded.index_levels.contains(&levels),
        "{count} names: {:?}",
        decoded.index_levels
    );
    let image = at.join("image");
    write_image(&source, &image);
    assert_clean(&image);
    assert_dumped(&image, count, levels);
    let mount = Mount::new(&image, "ro,loop");
    assert_found(mount.path(), count, &decoded);
    mount.unmount();
    change(&image, count);
}

#[test]
fn directories_of_every_width_are_found_name_by_name() {
    if !can_mount() || !["e2fsck", "debugfs"].into_iter().all(require_tool) {
        return;
    }
    for (count, block_size, levels) in [
        (1, 4096, None),
        (10_000, 4096, Some(0)),
        // Small blocks need the second level soon.
        (10_000, 1024, Some(1)),
    ] {
        let directory = tempfile::tempdir().unwrap();
        check(directory.path(), count, block_size, levels);
    }
}

#[test]
fn a_directory_of_half_a_million_names_is_found_name_by_name() {
    if !can_mount() || !["e2fsck", "debugfs"].into_iter().all(require_tool) || !long_tests() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tmpfs = Tmpfs::new(directory.path());
    let options = "remount,nr_inodes=1m,size=4G";
    let at = directory.path().to_str().unwrap();
    run_text("mount", ["-o", options, at]);
    check(directory.path(), 500_000, 4096, Some(1));
    drop(tmpfs);
}
