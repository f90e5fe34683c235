//! A reader that others wrote, the `ext4-view` crate, finds what the source holds.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;

use ext4_view::{Ext4, Ext4Read};
use miragefs::config::spec::{CopySpec, Sparse};
use miragefs::synth::ext4::SizeRequest;
use miragefs::synth::source::ByteSource;

use super::build::{copy_of, set_mtime, try_build_entry};

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

fn compare(view: &Ext4, source: &Path, relative: &Path) -> usize {
    let mut compared = 0;
    for entry in fs::read_dir(source.join(relative)).unwrap() {
        let below = relative.join(entry.unwrap().file_name());
        let path = Path::new("/").join(&below);
        let name = path.as_os_str().as_bytes();
        let expected = fs::symlink_metadata(source.join(&below)).unwrap();
        let found = view.symlink_metadata(name).unwrap();
        let ours = (u32::from(found.mode()), found.uid(), found.gid());
        assert_eq!(
            ours,
            (expected.mode() & 0o7777, expected.uid(), expected.gid()),
            "{below:?}"
        );
        if expected.is_dir() {
            compared += compare(view, source, &below);
        } else if expected.is_symlink() {
            let target = fs::read_link(source.join(&below)).unwrap();
            let found = view.read_link(name).unwrap();
            assert_eq!(AsRef::<[u8]>::as_ref(&found), target.as_os_str().as_bytes());
        } else {
            assert_eq!(found.len(), expected.len(), "{below:?}");
            let same = view.read(name).unwrap() == fs::read(source.join(&below)).unwrap();
            assert!(same, "{below:?}");
        }
        compared += 1;
    }
    compared
}

#[test]
fn another_reader_finds_the_same() {
    let directory = tempfile::tempdir().unwrap();
    make_source(directory.path());
    let entry = CopySpec {
        sparse: Sparse::Auto,
        ..copy_of(directory.path())
    };
    for size in [
        SizeRequest::Fixed(256 << 20),
        SizeRequest::Fit { free_blocks: 0 },
    ] {
        let image = try_build_entry(&entry, size).unwrap();
        let view = Ext4::load(Box::new(Reader(Arc::new(image)))).unwrap();
        assert_eq!(view.label().to_str(), Ok("test"));
        assert_eq!(compare(&view, directory.path(), Path::new("")), 3007);
        assert!(!view.exists("/wide/none").unwrap());
    }
}
