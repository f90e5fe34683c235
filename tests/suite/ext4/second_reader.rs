//! A reader that others wrote, the `ext4-view` crate, finds what the source holds.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;

use ext4_view::{Ext4, Ext4Error, Ext4Read};
use miragefs::config::spec::{CopySpec, Sparse};
use miragefs::synth::ext4::SizeRequest;
use miragefs::synth::source::ByteSource;
use sha2::{Digest, Sha256};

use super::build::{copy_of, expected_items, set_mtime, try_build_entry};
use super::decoder::Item;

/// Our bytes as that crate reads them.
struct Reader(Arc<dyn ByteSource>);

impl Ext4Read for Reader {
    fn read(&mut self, start: u64, dst: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.0.read_exact_at(start, dst)?)
    }
}

/// Files, links, holes and a directory with an index. Times lie before 2038: the crate takes later ones for damage.
fn make_source(at: &Path) {
    fs::create_dir_all(at.join("wide/inner")).unwrap();
    for index in 0..3000 {
        fs::write(at.join(format!("wide/näme {index}")), index.to_string()).unwrap();
    }
    fs::write(at.join("wide/inner/odd"), vec![7; 100_001]).unwrap();
    fs::hard_link(at.join("wide/inner/odd"), at.join("again")).unwrap();
    symlink("wide/inner/odd", at.join("short")).unwrap();
    symlink(
        format!("{}wide/inner/odd", "./".repeat(40)),
        at.join("long"),
    )
    .unwrap();
    let holes = File::create(at.join("holes")).unwrap();
    holes.set_len(64 << 20).unwrap();
    for index in 0..400_u64 {
        holes
            .write_all_at(&index.to_le_bytes(), index * 160_001)
            .unwrap();
    }
    holes.sync_all().unwrap();
    set_mtime(&at.join("wide/inner"), 1_234_567_890, 0);
}

/// Loads a file system of ours with that crate.
pub(super) fn load(image: Arc<dyn ByteSource>) -> Result<Ext4, Ext4Error> {
    Ext4::load(Box::new(Reader(image)))
}

/// Compares all items with what that crate reads of them, and returns how many they are.
pub(super) fn compare(view: &Ext4, items: &BTreeMap<Vec<u8>, Item>) -> usize {
    for (path, item) in items {
        let shown = String::from_utf8_lossy(path);
        let path = [b"/", path.as_slice()].concat();
        let path = path.as_slice();
        let found = view
            .symlink_metadata(path)
            .unwrap_or_else(|error| panic!("/{shown}: {error}"));
        let ours = (u32::from(found.mode()), found.uid(), found.gid());
        assert_eq!(ours, (item.mode & 0o7777, item.uid, item.gid), "/{shown}");
        let time = found.modified();
        assert_eq!((time.seconds(), time.nanoseconds()), item.mtime, "/{shown}");
        let kind = found.file_type();
        let bits = match kind {
            kind if kind.is_dir() => 0o040_000,
            kind if kind.is_symlink() => 0o120_000,
            kind if kind.is_regular_file() => 0o100_000,
            kind if kind.is_block_dev() => 0o060_000,
            kind if kind.is_char_dev() => 0o020_000,
            kind if kind.is_fifo() => 0o010_000,
            _ => 0o140_000,
        };
        assert_eq!(bits, item.mode & 0o170_000, "/{shown}");
        if kind.is_symlink() {
            let target = view.read_link(path).unwrap();
            assert_eq!(AsRef::<[u8]>::as_ref(&target), item.contents, "/{shown}");
        } else if kind.is_regular_file() {
            assert_eq!(found.len(), item.size, "/{shown}");
            let contents = Sha256::digest(view.read(path).unwrap());
            assert_eq!(contents.as_slice(), item.contents, "/{shown}");
        }
    }
    items.len()
}

#[test]
fn another_reader_finds_the_same() {
    let directory = tempfile::tempdir().unwrap();
    make_source(directory.path());
    let entry = CopySpec {
        sparse: Sparse::Auto,
        ..copy_of(directory.path())
    };
    let items = expected_items(directory.path());
    for size in [
        SizeRequest::Fixed(256 << 20),
        SizeRequest::Fit { free_blocks: 0 },
    ] {
        let image = try_build_entry(&entry, size).unwrap();
        let view = load(Arc::new(image)).unwrap();
        assert_eq!(view.label().to_str(), Ok("test"));
        // The root and lost+found are counted too.
        assert_eq!(compare(&view, &items), 3009);
        assert!(!view.exists("/wide/none").unwrap());
    }
}
