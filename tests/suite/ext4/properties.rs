//! Properties of every file system, over generated trees.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use miragefs::config::spec::{ImagePath, InlineFile, Owner};
use miragefs::synth::data_map::DataMap;
use miragefs::synth::ext4::SizeRequest;
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::identifiers::Identifiers;
use miragefs::synth::source::ByteSource;
use miragefs::synth::tree::TreeBuilder;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sha2::{Digest, Sha256};

use super::build::{
    TIMES, build, decode_source, difference, expected_items, location, set_mtime, source_of,
    try_build, varied_tree,
};
use crate::support::{check_byte_source, noise, read};

/// One thing to make in a tree.
#[derive(Debug, Clone)]
enum Step {
    Directory,
    File(u64),
    /// A file of holes, however large.
    Sparse(u64),
    Symlink(usize),
    HardLink(prop::sample::Index),
    /// This many files with names of this length.
    Many(usize, usize),
}

#[derive(Debug, Clone)]
struct Made {
    below: prop::sample::Index,
    name: Vec<u8>,
    step: Step,
    mode: u32,
    mtime: (i64, i64),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| {
        if byte == 0 || byte == b'/' {
            b'x'
        } else {
            byte
        }
    });
    prop_oneof![
        4 => "[a-z]{1,12}".prop_map(String::into_bytes),
        2 => prop::collection::vec(byte.clone(), 1..40),
        1 => prop::collection::vec(byte, 255),
    ]
}

fn made() -> impl Strategy<Value = Made> {
    let step = prop_oneof![
        3 => Just(Step::Directory),
        4 => (0_u64..20_000).prop_map(Step::File),
        1 => prop::sample::select(vec![4095_u64, 4096, 4097, 300_000]).prop_map(Step::File),
        1 => (0_u64..3_000_000).prop_map(Step::Sparse),
        2 => prop_oneof![1_usize..130, 4000_usize..4096].prop_map(Step::Symlink),
        2 => any::<prop::sample::Index>().prop_map(Step::HardLink),
        1 => (1_usize..120, 4_usize..200).prop_map(|(count, len)| Step::Many(count, len)),
    ];
    let mtime = (-2_147_483_648_i64..0x3_7fff_ffff, 0_i64..1_000_000_000);
    (
        any::<prop::sample::Index>(),
        name(),
        step,
        0_u32..0o10000,
        mtime,
    )
        .prop_map(|(below, name, step, mode, mtime)| Made {
            below,
            name,
            step,
            mode,
            mtime,
        })
}

fn size() -> impl Strategy<Value = SizeRequest> {
    prop_oneof![
        2 => (0_u64..600).prop_map(|free_blocks| SizeRequest::Fit { free_blocks }),
        1 => (16_000_u64..40_000).prop_map(|sectors| SizeRequest::Fixed(sectors * 512)),
        1 => (0_u64..800).prop_map(|sectors| SizeRequest::Fixed((129 << 20) + sectors * 512)),
    ]
}

/// Makes the tree; names that are taken are left out.
fn make(root: &Path, steps: &[Made]) {
    let mut directories = vec![PathBuf::new()];
    let mut files: Vec<PathBuf> = Vec::new();
    for made in steps {
        let parent = made.below.get(&directories).clone();
        let relative = parent.join(OsStr::from_bytes(&made.name));
        let path = root.join(&relative);
        if path.as_os_str().len() > 3000
            || matches!(made.name.as_slice(), b"." | b".." | b"lost+found")
            || fs::symlink_metadata(&path).is_ok()
        {
            continue;
        }
        match &made.step {
            Step::Directory => {
                fs::create_dir(&path).unwrap();
                directories.push(relative);
            }
            Step::File(len) => {
                fs::write(&path, noise(*len, usize::try_from(*len).unwrap())).unwrap();
                files.push(relative);
            }
            Step::Sparse(len) => {
                let file = File::create(&path).unwrap();
                file.set_len(*len).unwrap();
                file.write_all_at(b"x", len / 2).unwrap();
                files.push(relative);
            }
            Step::Symlink(len) => {
                symlink("t".repeat(*len), &path).unwrap();
                continue;
            }
            Step::HardLink(to) => {
                if !files.is_empty() {
                    fs::hard_link(root.join(to.get(&files)), &path).unwrap();
                }
                continue;
            }
            Step::Many(count, len) => {
                fs::create_dir(&path).unwrap();
                for index in 0..*count {
                    let name = format!("{index:0len$}");
                    fs::write(path.join(name), "").unwrap();
                }
                directories.push(relative);
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(made.mode | 0o700)).unwrap();
        set_mtime(&path, made.mtime.0, made.mtime.1);
    }
}

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

/// The same cases on every run, unless PROPTEST_CASES asks for another number of them.
fn runner(cases: u32) -> TestRunner {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return TestRunner::new(config);
    }
    config.cases = cases;
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn generated_trees_are_decoded_as_they_are() {
    let strategy = (prop::collection::vec(made(), 0..40), size());
    let mut seen = BTreeSet::new();
    let seen_levels = std::cell::RefCell::new(&mut seen);
    runner(64)
        .run(&strategy, |(steps, size)| {
            let directory = tempfile::tempdir().unwrap();
            make(directory.path(), &steps);
            let Ok(source) = try_build(directory.path(), size) else {
                return Err(TestCaseError::reject("does not fit"));
            };
            let decoded = decode_source(&source).map_err(TestCaseError::fail)?;
            let expected = expected_items(directory.path());
            prop_assert_eq!(difference(&decoded.items, &expected), None);
            let again = build(directory.path(), size);
            prop_assert_eq!(digest(&source), digest(&again));
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
    let strategy = (prop::collection::vec(made(), 0..25), 0_u64..50);
    runner(16)
        .run(&strategy, |(steps, free_blocks)| {
            let directory = tempfile::tempdir().unwrap();
            make(directory.path(), &steps);
            check_byte_source(&build(directory.path(), SizeRequest::Fit { free_blocks }));
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
