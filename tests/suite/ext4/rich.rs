//! A tree with everything that ext4 can hold, and whether a mounted file system holds the same.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use miragefs::synth::ext4::SizeRequest;
use tempfile::TempDir;

use super::build::{
    Links, difference, expected_items, items_of, set_mtime, try_build_entry, varied_tree,
    write_image,
};
use super::fidelity::{
    attributes_below, entry, make_attributes, make_special_files, special_files_below,
};
use crate::support::skip;

/// How many names the directory with an index has.
pub(super) const WIDE: usize = 3000;
/// How many pieces of data the file with holes has.
const PIECES: u64 = 500;

/// A rich tree and an image of it, for the kernel and the tools to change.
pub(super) struct Rich {
    directory: TempDir,
}

impl Rich {
    /// `None` where the host has no extended attributes; a `SKIP` line says so.
    pub(super) fn new(size: SizeRequest) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        if !make_tree(&tree) {
            skip("the file system of the temporary directory has no extended attributes");
            return None;
        }
        let rich = Self { directory };
        write_image(
            &try_build_entry(&entry(&tree), size).unwrap(),
            &rich.image(),
        );
        Some(rich)
    }

    pub(super) fn image(&self) -> PathBuf {
        self.path("image")
    }

    /// A path beside tree and image.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Fails unless what is mounted at `root` is the tree: names, owners, times, contents, attributes, devices.
    #[track_caller]
    pub(super) fn assert_equal(&self, root: &Path) {
        let tree = self.path("tree");
        assert_eq!(
            difference(&items_of(root, Links::Stored), &expected_items(&tree)),
            None
        );
        assert_eq!(special_files_below(root), special_files_below(&tree));
        // Not `assert_eq!`: the two texts have a megabyte each.
        assert!(
            attributes_below(root) == attributes_below(&tree),
            "extended attributes differ"
        );
    }

    /// [`Self::assert_equal`] after names have come and gone in the root, whose time tells of it.
    #[track_caller]
    pub(super) fn assert_equal_inside(&self, root: &Path) {
        let metadata = fs::metadata(self.path("tree")).unwrap();
        set_mtime(root, metadata.mtime(), metadata.mtime_nsec());
        self.assert_equal(root);
    }
}

/// Hard links, odd names, attributes in the inode and in shared blocks, ACLs, an index, holes, devices.
fn make_tree(at: &Path) -> bool {
    varied_tree(at);
    wide(&at.join("wide"), WIDE);
    make_special_files(&at.join("special"));
    let holes = File::create(at.join("holes")).unwrap();
    for index in 0..PIECES {
        holes
            .write_all_at(&index.to_le_bytes(), index * 60_001)
            .unwrap();
    }
    holes.set_len(40 << 20).unwrap();
    holes.sync_all().unwrap();
    make_attributes(&at.join("attributes"))
}

/// A directory of names beyond ASCII, each its own file.
pub(super) fn wide(at: &Path, count: usize) {
    fs::create_dir(at).unwrap();
    for index in 0..count {
        fs::write(at.join(format!("ünïcöde nämé {index}")), format!("{index}")).unwrap();
    }
}
