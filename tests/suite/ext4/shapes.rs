//! Every shape that the config can ask for: block size, inode size, features, journal.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use miragefs::config::spec::{Ext4Spec, FeatureSet, Journal};
use miragefs::synth::ext4::{Ext4Error, SizeRequest};
use miragefs::synth::source::ByteSource;

use super::build::{
    Links, assert_clean, clamp_times, decode_source_with_holes, difference, expected_items,
    items_of, try_build_shaped, varied_tree, write_image,
};
use super::churn::{Until, churn};
use super::watched::Watched;
use crate::loops::{Mount, can_mount};
use crate::support::{check_byte_source, require_tool, run_text};

const MIB: u64 = 1 << 20;
const FEATURES: [FeatureSet; 3] = [FeatureSet::Std, FeatureSet::Modern, FeatureSet::Compat];

fn spec(features: FeatureSet, block_size: u32, inode_size: u32, journal: Journal) -> Ext4Spec {
    Ext4Spec {
        features,
        block_size,
        inode_size,
        journal,
        ..Ext4Spec::DEFAULT
    }
}

/// All block sizes with all features, inode sizes and journals spread over them.
fn shapes() -> Vec<Ext4Spec> {
    let mut shapes = Vec::new();
    for (row, block_size) in [1024, 2048, 4096].into_iter().enumerate() {
        for (column, features) in FEATURES.into_iter().enumerate() {
            let inode_sizes = [128, 256, 512, 1024];
            let journals = [Journal::Default, Journal::None, Journal::Size(20 * MIB)];
            for turn in 0..2 {
                let inode_size = inode_sizes[(row + column + 2 * turn) % 4];
                let journal = journals[(2 * row + column + turn) % 3];
                shapes.push(spec(features, block_size, inode_size, journal));
            }
        }
    }
    shapes
}

/// [`varied_tree`] without what blocks of 1024 bytes cannot hold, a wide directory and a file with many holes.
fn tree(at: &Path) {
    varied_tree(at);
    symlink("y".repeat(1023), at.join("as long as it gets")).unwrap();
    fs::create_dir(at.join("wide")).unwrap();
    for index in 0..2000 {
        fs::write(
            at.join(format!("wide/ünïcöde nämé {index}")),
            format!("{index}"),
        )
        .unwrap();
    }
    let holes = File::create(at.join("holes")).unwrap();
    holes.set_len(40 << 20).unwrap();
    for offset in (0..40 << 20).step_by(64 << 10).skip(1) {
        holes.write_all_at(b"island", offset - 3).unwrap();
    }
}

#[test]
fn every_shape_is_clean_and_decoded_as_it_is() {
    if !require_tool("e2fsck") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree_path = directory.path().join("tree");
    tree(&tree_path);
    let image = directory.path().join("image");
    for spec in shapes() {
        for size in [
            SizeRequest::Fixed(150 * MIB + 512 * 7),
            SizeRequest::Fit { free_blocks: 0 },
        ] {
            let source = try_build_shaped(&tree_path, &spec, size).unwrap();
            let decoded = decode_source_with_holes(&source)
                .unwrap_or_else(|error| panic!("{spec:?}: {error}"));
            let expected = clamp_times(expected_items(&tree_path), &spec);
            assert_eq!(difference(&decoded.items, &expected), None, "{spec:?}");
            let holes = decoded.inodes[b"holes".as_slice()];
            let mapping = &decoded.mappings[&holes];
            assert!(mapping.extents.len() > 600 && mapping.depth > 0);
            write_image(&source, &image);
            assert_clean(&image);
        }
    }
}

#[test]
fn every_shape_conforms() {
    let directory = tempfile::tempdir().unwrap();
    varied_tree(directory.path());
    for (block_size, features) in [
        (1024, FeatureSet::Modern),
        (1024, FeatureSet::Compat),
        (2048, FeatureSet::Std),
        (4096, FeatureSet::Modern),
    ] {
        let spec = spec(features, block_size, 512, Journal::Default);
        let size = SizeRequest::Fixed(20 * MIB);
        check_byte_source(&try_build_shaped(directory.path(), &spec, size).unwrap());
    }
}

#[test]
fn dumpe2fs_shows_the_shape() {
    if !require_tool("dumpe2fs") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let size = SizeRequest::Fixed(200 * MIB);
    let std = "has_journal ext_attr resize_inode dir_index filetype extent flex_bg sparse_super large_file huge_file dir_nlink";
    for (spec, lines) in [
        (
            spec(FeatureSet::Modern, 4096, 256, Journal::Default),
            [
                "has_journal ext_attr resize_inode dir_index orphan_file filetype extent 64bit flex_bg \
                 metadata_csum_seed sparse_super large_file huge_file dir_nlink extra_isize metadata_csum"
                    .to_owned(),
                "Group descriptor size:    64".to_owned(),
                "Orphan file inode:        12".to_owned(),
                "Checksum seed:            ".to_owned(),
            ],
        ),
        (
            spec(FeatureSet::Compat, 1024, 128, Journal::Size(5 * MIB)),
            [
                "large_file huge_file uninit_bg dir_nlink\n".to_owned(),
                "First block:              1".to_owned(),
                "Inode size:\t          128".to_owned(),
                "Total journal blocks:     5120".to_owned(),
            ],
        ),
        (
            spec(FeatureSet::Std, 2048, 1024, Journal::Default),
            [
                format!("{std} extra_isize metadata_csum"),
                "Block size:               2048".to_owned(),
                "Inode size:\t          1024".to_owned(),
                "Blocks per group:         16384".to_owned(),
            ],
        ),
    ] {
        write_image(
            &try_build_shaped(directory.path(), &spec, size).unwrap(),
            &image,
        );
        let dump = run_text("dumpe2fs", [image.as_os_str()]);
        for line in lines {
            assert!(dump.contains(&line), "{spec:?}: {line}\n{dump:.3000}");
        }
        fs::remove_file(&image).unwrap();
    }
}

#[test]
fn the_kernel_reads_and_writes_every_shape() {
    if !can_mount() || !require_tool("e2fsck") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree_path = directory.path().join("tree");
    tree(&tree_path);
    let image = directory.path().join("image");
    let size = SizeRequest::Fixed(200 * MIB);
    for spec in shapes() {
        let source = try_build_shaped(&tree_path, &spec, size).unwrap();
        write_image(&source, &image);
        let mount = Mount::new(&image, "ro,loop");
        let found = items_of(mount.path(), Links::Stored);
        let expected = clamp_times(expected_items(&tree_path), &spec);
        assert_eq!(difference(&found, &expected), None, "{spec:?}");
        mount.unmount();
        let watched = Watched::new(&image, "rw");
        // What it writes is more than fits, so that it goes on in a full file system.
        let tally = churn(watched.path(), 1, 1, Until::Operations(4000));
        let succeeded: usize = tally.values().sum();
        assert!(succeeded > 500, "{spec:?}: {succeeded} operations of 4000");
        watched.finish();
        fs::remove_file(&image).unwrap();
    }
}

#[test]
fn long_journals_have_extent_trees() {
    if !can_mount() || !require_tool("e2fsck") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    varied_tree(&tree);
    let image = directory.path().join("image");
    // 512 MiB are the most that four extents of blocks of 4096 bytes reach, and 128 MiB with 1024.
    for (block_size, journal, depth) in [
        (4096, 64 * MIB, 0),
        (4096, 1024 * MIB, 1),
        (1024, 100 * MIB, 1),
        (1024, 3000 * MIB, 1),
    ] {
        let spec = spec(FeatureSet::Std, block_size, 256, Journal::Size(journal));
        let source = try_build_shaped(&tree, &spec, SizeRequest::Fixed(8000 * MIB)).unwrap();
        let decoded = decode_source_with_holes(&source).unwrap();
        let mapping = &decoded.mappings[&8];
        assert_eq!(mapping.blocks() * u64::from(block_size), journal);
        assert_eq!(mapping.depth, depth, "{block_size} {journal}");
        write_image(&source, &image);
        assert_clean(&image);
        let mount = Mount::new(&image, "loop");
        fs::write(mount.path().join("new"), vec![1; 100_000]).unwrap();
        rustix::fs::sync();
        fs::remove_file(mount.path().join("dir/odd")).unwrap();
        mount.unmount();
        assert_clean(&image);
        fs::remove_file(&image).unwrap();
    }
}

#[test]
fn the_smallest_size_is_the_smallest() {
    let directory = tempfile::tempdir().unwrap();
    let (small, large) = (
        directory.path().join("small"),
        directory.path().join("large"),
    );
    varied_tree(&small);
    tree(&large);
    for spec in shapes() {
        let block_size = u64::from(spec.block_size);
        for tree in [&small, &large] {
            let fit = SizeRequest::Fit { free_blocks: 0 };
            // With one block less there is less slack, or no room at all.
            let whole = try_build_shaped(tree, &spec, fit).unwrap();
            let less = SizeRequest::Fixed(whole.len() - block_size);
            if let Ok(less) = try_build_shaped(tree, &spec, less) {
                assert!(less.plan().slack().1 < whole.plan().slack().1, "{spec:?}");
            }
            // What follows is about contents alone.
            let spec = Ext4Spec {
                slack_bits: 0,
                ..spec.clone()
            };
            let least = try_build_shaped(tree, &spec, fit).unwrap().len();
            // A file system of given size also has room for its descriptors to grow, so its least is larger.
            let given = try_build_shaped(tree, &spec, SizeRequest::Fixed(least - block_size));
            let Err(
                Ext4Error::TooSmall { needed, .. }
                | Ext4Error::JournalTooLarge { limit: needed, .. },
            ) = given
            else {
                panic!("{spec:?}: {} bytes do, too", least - block_size)
            };
            if matches!(spec.journal, Journal::Size(_)) {
                continue;
            }
            try_build_shaped(tree, &spec, SizeRequest::Fixed(needed)).unwrap();
            let less = try_build_shaped(tree, &spec, SizeRequest::Fixed(needed - block_size));
            assert!(
                matches!(less, Err(Ext4Error::TooSmall { .. })),
                "{spec:?}: less than {needed} does"
            );
        }
    }
}

#[test]
fn limits_of_small_blocks_and_inodes_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let fit = SizeRequest::Fit { free_blocks: 0 };
    symlink("t".repeat(1024), directory.path().join("long")).unwrap();
    let small = spec(FeatureSet::Std, 1024, 256, Journal::Default);
    let error = try_build_shaped(directory.path(), &small, fit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/long: target of the symlink has 1024 bytes; ext4 with blocks of 1024 bytes holds at most 1023"
    );
    assert_eq!(error.hint().unwrap(), "`block-size = 2048` holds it");
    fs::remove_file(directory.path().join("long")).unwrap();
    let large = File::create(directory.path().join("large")).unwrap();
    large.set_len(4 << 40).unwrap();
    let error = try_build_shaped(directory.path(), &small, fit).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/large: file is 4398046511104 bytes (4 TiB); ext4 with blocks of 1024 bytes holds at most 4398046510080 bytes (3.9 TiB)"
    );
    assert_eq!(error.hint().unwrap(), "a larger `block-size` allows more");
    drop(large);
    fs::remove_file(directory.path().join("large")).unwrap();
    let error =
        try_build_shaped(directory.path(), &small, SizeRequest::Fixed(4 << 40)).unwrap_err();
    assert!(
        matches!(error, Ext4Error::TooLarge { limit, .. } if limit < 2 << 40),
        "{error}"
    );
    let half = spec(FeatureSet::Std, 4096, 256, Journal::Size(64 * MIB));
    let error =
        try_build_shaped(directory.path(), &half, SizeRequest::Fixed(100 * MIB)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "partition `test`: a journal of 67108864 bytes (64 MiB) is beyond 52428800 bytes (50 MiB), half of the file system"
    );
}
