//! Generated trees before all judges at once: our own reader, e2fsck, the kernel, debugfs, and a reader of others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use miragefs::config::spec::Ext4Spec;
use miragefs::synth::ext4::{Ext4, SizeRequest};
use proptest::prelude::*;
use rustix::fs::{lgetxattr, llistxattr};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::build::{
    Links, clamp_times, decode_source_with_holes, difference, expected_items, fsck_findings,
    items_of, try_build_shaped, write_image,
};
use super::decoder::{Decoded, Item};
use super::generated::{Host, Made, Span, made, make, runner, shape, size};
use super::properties::digest;
use super::second_reader;
use crate::loops::{Mount, can_mount};
use crate::support::{require_tool, run};

/// Names and values of the extended attributes of each path.
type Attributes = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// How often judges that need not see every case saw one.
#[derive(Debug, Default)]
struct Tally {
    read_by_others: usize,
    dumped: usize,
    attributes: usize,
    devices: usize,
}

/// The extended attributes of these paths below `root`.
fn attributes_of<'a>(root: &Path, paths: impl Iterator<Item = &'a Vec<u8>>) -> Attributes {
    let mut all = Attributes::new();
    let mut buf = vec![0; 1 << 16];
    for relative in paths {
        let path = root.join(OsStr::from_bytes(relative));
        let len = llistxattr(&path, &mut buf[..]).unwrap();
        let names = buf[..len].to_vec();
        for name in names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            let len = lgetxattr(&path, name, &mut buf[..]).unwrap();
            let of_path = all.entry(relative.clone()).or_default();
            of_path.insert(name.to_vec(), buf[..len].to_vec());
        }
    }
    all
}

/// A tree, its image, and what the image is to hold.
struct Case {
    directory: TempDir,
    image: Arc<Ext4>,
    decoded: Decoded,
    expected: BTreeMap<Vec<u8>, Item>,
    attributes: Attributes,
}

impl Case {
    /// Builds the image twice and has our own reader look at it.
    fn new(directory: TempDir, shape: &Ext4Spec, size: SizeRequest) -> Result<Self, TestCaseError> {
        let tree = directory.path().join("tree");
        let Ok(image) = try_build_shaped(&tree, shape, size) else {
            return Err(TestCaseError::reject("does not fit"));
        };
        let again = try_build_shaped(&tree, shape, size).unwrap();
        prop_assert_eq!(digest(&image), digest(&again));
        let decoded = decode_source_with_holes(&image).map_err(TestCaseError::fail)?;
        let expected = clamp_times(expected_items(&tree), shape);
        prop_assert_eq!(difference(&decoded.items, &expected), None);
        let in_tree = expected.keys().filter(|path| *path != b"lost+found");
        let attributes = attributes_of(&tree, in_tree);
        write_image(&image, &directory.path().join("image"));
        Ok(Self {
            directory,
            image: Arc::new(image),
            decoded,
            expected,
            attributes,
        })
    }

    fn ask_kernel(&self) -> Result<(), TestCaseError> {
        let mount = Mount::new(&self.directory.path().join("image"), "ro,loop");
        let found = items_of(mount.path(), Links::Stored);
        prop_assert_eq!(difference(&found, &self.expected), None);
        let found = attributes_of(mount.path(), self.expected.keys());
        prop_assert_eq!(&found, &self.attributes);
        mount.unmount();
        Ok(())
    }

    fn debugfs(&self, command: &str) -> String {
        let image = self.directory.path().join("image");
        let arguments = ["-R".as_ref(), OsStr::new(command), image.as_os_str()];
        String::from_utf8_lossy(&run("debugfs", arguments)).into_owned()
    }

    /// Some paths: a few from all over the tree, and a few with attributes.
    fn some_paths(&self) -> BTreeSet<&Vec<u8>> {
        let every = self.expected.len().div_ceil(4);
        let spread = self.expected.keys().step_by(every);
        spread.chain(self.attributes.keys().take(2)).collect()
    }

    fn ask_debugfs(&self) -> Result<(), TestCaseError> {
        for path in self.some_paths() {
            let item = &self.expected[path];
            let inode = self.decoded.inodes[path];
            let told = self.debugfs(&format!("stat <{inode}>"));
            let words: Vec<&str> = told.split_whitespace().collect();
            let told = words.join(" ");
            // Numbers of owners are printed with a sign.
            let [uid, gid] = [item.uid, item.gid].map(u32::cast_signed);
            for wanted in [
                format!(" Mode: 0{:03o} ", item.mode & 0o7777),
                format!(" User: {uid} Group: {gid} "),
                format!(" Links: {} ", item.links),
            ] {
                prop_assert!(told.contains(&wanted), "{wanted}: {told}");
            }
            let told = self.debugfs(&format!("ea_list <{inode}>"));
            for (name, value) in self.attributes.get(path).into_iter().flatten() {
                let name = String::from_utf8_lossy(name);
                // Of ACLs it counts the bytes as stored.
                let wanted = if name.starts_with("system.posix_acl") {
                    format!(" {name} (")
                } else {
                    format!(" {name} ({})", value.len())
                };
                prop_assert!(told.contains(&wanted), "{wanted}: {told}");
            }
        }
        Ok(())
    }

    /// Dumps two files, the largest among them, and returns how many there were.
    fn dump(&self) -> Result<usize, TestCaseError> {
        let is_file = |item: &Item| item.mode & 0o170_000 == 0o100_000;
        let mut files: Vec<_> = self
            .expected
            .iter()
            .filter(|(_, item)| is_file(item))
            .collect();
        files.sort_by_key(|(_, item)| item.size);
        let chosen = files.iter().rev().step_by(files.len().div_ceil(2).max(1));
        let to = self.directory.path().join("dumped");
        for (path, item) in chosen.clone() {
            let inode = self.decoded.inodes[*path];
            self.debugfs(&format!("dump <{inode}> {}", to.display()));
            let found = Sha256::digest(std::fs::read(&to).unwrap());
            prop_assert_eq!(found.as_slice(), item.contents.as_slice());
        }
        Ok(chosen.count())
    }
}

fn check(
    steps: &[Made],
    host: Host,
    size: SizeRequest,
    shape: &Ext4Spec,
    span: Span,
    tally: &RefCell<Tally>,
) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    make(&tree, steps, host, shape, span);
    let case = Case::new(directory, shape, size)?;
    let image = case.directory.path().join("image");
    prop_assert_eq!(fsck_findings(image.to_str().unwrap()), None);
    case.ask_kernel()?;
    case.ask_debugfs()?;
    let mut tally = tally.borrow_mut();
    tally.dumped += case.dump()?;
    tally.attributes += case.attributes.len();
    tally.devices += case
        .expected
        .values()
        .filter(|item| item.device != 0)
        .count();
    // The crate ext4-view takes other times for damage, and inodes of 128 bytes too.
    if span == Span::Plain && shape.inode_size > 128 {
        let image: Arc<Ext4> = Arc::clone(&case.image);
        let view = second_reader::load(image).map_err(|error| {
            TestCaseError::fail(format!("the crate ext4-view refuses {shape:?}: {error}"))
        })?;
        second_reader::compare(&view, &case.expected);
        tally.read_by_others += 1;
    }
    Ok(())
}

#[test]
fn all_judges_find_generated_trees_as_they_are() {
    if !can_mount() || !["e2fsck", "debugfs"].into_iter().all(require_tool) {
        return;
    }
    let host = Host::look();
    let steps = prop::collection::vec(made(), 0..40);
    let span = prop_oneof![Just(Span::All), Just(Span::Plain)];
    let tally = RefCell::new(Tally::default());
    // Each case takes a second or two, so of thousands that are asked for it takes a part.
    runner(12, 16)
        .run(
            &(steps, size(), shape(), span),
            |(steps, size, shape, span)| check(&steps, host, size, &shape, span, &tally),
        )
        .unwrap();
    let tally = tally.into_inner();
    let seen = [
        tally.read_by_others,
        tally.dumped,
        tally.attributes,
        tally.devices,
    ];
    assert!(seen.iter().all(|count| *count > 0), "{tally:?}");
}
