//! Properties of every file system, over generated trees.

use std::collections::BTreeSet;
use std::fs::{self, File};

use miragefs::config::spec::{Ext4Spec, ImagePath, InlineFile, Journal, Owner};
use miragefs::synth::data_map::DataMap;
use miragefs::synth::ext4::SizeRequest;
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::identifiers::Identifiers;
use miragefs::synth::source::ByteSource;
use miragefs::synth::tree::TreeBuilder;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::build::{
    TIMES, build, clamp_times, decode_source, decode_source_with_holes, difference, expected_items,
    location, source_of, try_build_shaped, varied_tree,
};
use super::generated::{Host, Span, made, make, runner, shape, size};
use crate::support::{check_byte_source, read};

/// Equal for equal bytes and runs.
pub(crate) fn digest(source: &dyn ByteSource) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(source.len().to_le_bytes());
    for (start, end) in DataMap::of(source).ranges() {
        let mut at = *start;
        while at < *end {
            let len = (end - at).min(1 << 20);
            digest.update(at.to_le_bytes());
            digest.update(read(source, at, len));
            at += len;
        }
    }
    digest.finalize().to_vec()
}

#[test]
fn generated_trees_are_decoded_as_they_are() {
    let host = Host::look();
    let strategy = (prop::collection::vec(made(), 0..40), size(), shape());
    let mut seen = BTreeSet::new();
    let seen_levels = std::cell::RefCell::new(&mut seen);
    runner(64, 1)
        .run(&strategy, |(steps, size, shape)| {
            let directory = tempfile::tempdir().unwrap();
            make(directory.path(), &steps, host, &shape, Span::All);
            let Ok(source) = try_build_shaped(directory.path(), &shape, size) else {
                return Err(TestCaseError::reject("does not fit"));
            };
            let decoded = decode_source_with_holes(&source).map_err(TestCaseError::fail)?;
            let expected = clamp_times(expected_items(directory.path()), &shape);
            prop_assert_eq!(difference(&decoded.items, &expected), None);
            let again = try_build_shaped(directory.path(), &shape, size);
            prop_assert_eq!(digest(&source), digest(&again.unwrap()));
            seen_levels.borrow_mut().extend(decoded.index_levels);
            Ok(())
        })
        .unwrap();
    assert!(
        seen.contains(&None) && seen.contains(&Some(0)),
        "linear and indexed directories were generated: {seen:?}"
    );
}

#[test]
fn generated_trees_conform() {
    // Each case is read many times over, so the file systems are small and the cases few.
    let host = Host::look();
    let strategy = (prop::collection::vec(made(), 0..25), 0_u64..50, shape());
    runner(16, 1)
        .run(&strategy, |(steps, free_blocks, shape)| {
            let directory = tempfile::tempdir().unwrap();
            make(directory.path(), &steps, host, &shape, Span::All);
            // The journal would be most of it.
            let shape = Ext4Spec {
                journal: Journal::None,
                ..shape
            };
            let size = SizeRequest::Fit { free_blocks };
            let Ok(source) = try_build_shaped(directory.path(), &shape, size) else {
                return Err(TestCaseError::reject("does not fit"));
            };
            check_byte_source(&source);
            Ok(())
        })
        .unwrap();
}

#[test]
fn sizes_at_the_borders_of_groups_are_decoded() {
    let directory = tempfile::tempdir().unwrap();
    varied_tree(directory.path());
    let expected = expected_items(directory.path());
    // One, two and four groups, less and more by a few blocks, with and without room for a last group.
    for groups in [1_u64, 2, 4] {
        for blocks in [-60_i64, -1, 0, 1, 30, 49, 50, 51, 90, 200] {
            let blocks = (groups * 32_768).checked_add_signed(blocks).unwrap();
            let source = build(directory.path(), SizeRequest::Fixed(blocks * 4096 + 512));
            let decoded =
                decode_source(&source).unwrap_or_else(|error| panic!("{blocks}: {error}"));
            assert_eq!(difference(&decoded.items, &expected), None, "{blocks}");
        }
    }
}

#[test]
fn large_disks_conform() {
    let directory = tempfile::tempdir().unwrap();
    varied_tree(directory.path());
    check_byte_source(&build(directory.path(), SizeRequest::Fixed(300 << 30)));
}

#[test]
fn files_across_the_copies_have_the_extents_they_need() {
    // Lengths around the borders of groups: the number of extents, and with it the need for a tree, changes between
    // the rounds of planning. Only metadata is read, so the files are holes.
    let directory = tempfile::tempdir().unwrap();
    let file = File::create(directory.path().join("large")).unwrap();
    let mut depths = BTreeSet::new();
    for step in [100, 1] {
        // The border itself is met block by block.
        let range = if step == 100 {
            120_000..128_000
        } else {
            124_700..125_000
        };
        for blocks in range.step_by(step) {
            file.set_len(blocks * 4096).unwrap();
            let source = build(directory.path(), SizeRequest::Fit { free_blocks: 0 });
            let decoded =
                decode_source(&source).unwrap_or_else(|error| panic!("{blocks} blocks: {error}"));
            let inode = decoded.inodes[b"large".as_slice()];
            depths.insert(decoded.mappings[&inode].depth);
        }
    }
    assert_eq!(depths, BTreeSet::from([0, 1]));
}

#[test]
fn lost_and_found_of_the_source_is_carried_with_its_names() {
    // As many names as fill one block, two leaves of an index, and more.
    for count in [0, 10, 60, 100, 150, 200, 400] {
        let directory = tempfile::tempdir().unwrap();
        let lost = directory.path().join("lost+found");
        fs::create_dir(&lost).unwrap();
        for index in 0..count {
            fs::write(lost.join(format!("#{index:040}")), "x").unwrap();
        }
        fs::create_dir(directory.path().join("a")).unwrap();
        let source = build(directory.path(), SizeRequest::Fixed(16 << 20));
        let decoded =
            decode_source(&source).unwrap_or_else(|error| panic!("{count} names: {error}"));
        let expected = expected_items(directory.path());
        assert_eq!(difference(&decoded.items, &expected), None);
        let blocks = decoded.mappings[&11].blocks();
        assert!(blocks >= 4, "{count} names: {blocks} blocks");
    }
}

#[test]
fn an_extent_tree_that_turns_out_unneeded_leaves_no_trace() {
    // From 262,144 blocks on the journal is twice as long. The file `b` begins shortly before the copy in group 1 with
    // the shorter journal, which makes it five extents and a tree; the block of that tree makes the journal longer,
    // and then `b` begins behind the copy and is four extents.
    let directory = tempfile::tempdir().unwrap();
    for (name, blocks) in [("a", 22_500), ("b", 101_000), ("c", 60_000), ("d", 50_000)] {
        let file = File::create(directory.path().join(name)).unwrap();
        file.set_len(blocks * 4096).unwrap();
    }
    let fit = |free_blocks| build(directory.path(), SizeRequest::Fit { free_blocks });
    // The most free blocks with which the file system stays below the border.
    let (mut low, mut high) = (0, 60_000);
    while high - low > 1 {
        let middle = u64::midpoint(low, high);
        if fit(middle).plan().block_count() < 262_144 {
            low = middle;
        } else {
            high = middle;
        }
    }
    let mut sizes = BTreeSet::new();
    for free_blocks in low - 3..low + 4 {
        let source = fit(free_blocks);
        sizes.insert(source.plan().block_count() >= 262_144);
        decode_source(&source)
            .unwrap_or_else(|error| panic!("{} blocks: {error}", source.plan().block_count()));
    }
    assert_eq!(sizes.len(), 2, "both lengths of the journal were met");
}

#[test]
fn link_counts_of_directories_are_exact_up_to_the_limit() {
    // With its own two names, 64,998 subdirectories make 65,000; one more is stored as 1. No host is asked.
    for count in [64_998, 64_999] {
        let mut builder = TreeBuilder::new(TIMES);
        for index in 0..count {
            let file = InlineFile {
                path: ImagePath(vec![
                    b"d".to_vec(),
                    index.to_string().into_bytes(),
                    b"f".to_vec(),
                ]),
                contents: Vec::new(),
                mode: 0o644,
                owner: Owner::default(),
                location: location(),
            };
            builder.inline(&file, &Identifiers::default()).unwrap();
        }
        let (tree, _) = builder.finish(&mut HostFiles::new()).unwrap();
        let source = source_of(tree, HostFiles::new(), SizeRequest::Fit { free_blocks: 0 });
        let decoded = decode_source(&source.unwrap()).unwrap();
        assert_eq!(decoded.items[b"d".as_slice()].links, count + 2);
    }
}
