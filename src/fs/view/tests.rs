//! Tests of the view: one config and several, generations, `.miragefs`.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets of a source of three pages"
)]
use super::*;
use std::os::unix::ffi::OsStrExt;

use crate::fs::edition::{Papers, Picture};
use crate::synth::source::{ByteSource, Origin, Run, Step, check_range};

/// 4096 ones, 8192 zeros, 10 ones.
struct Holed;

impl ByteSource for Holed {
    fn len(&self) -> u64 {
        12_298
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len())?;
        for (byte, at) in buf.iter_mut().zip(offset..) {
            *byte = u8::from(!self.run_at(at).origin.is_zero());
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        let (end, origin) = match offset {
            0..4096 => (4096, Origin::Computed("ones")),
            4096..12_288 => (12_288, Origin::Zero),
            12_288..12_298 => (12_298, Origin::Computed("ones")),
            _ => return Run::EMPTY,
        };
        let len = end - offset;
        Run { len, origin }
    }

    fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}
}

/// The inode of the first image: those of the directory and of its files of `.miragefs` come before it.
const FIRST: u64 = 11;

const OWNER: Owner = Owner { uid: 7, gid: 8 };

fn image(name: &str, identity: u8) -> Arc<Image> {
    Arc::new(Image::new(
        name.to_owned(),
        Arc::new(Holed),
        1_700_000_000,
        [identity; 32],
    ))
}

fn generation(images: &[(&str, u8)]) -> Generation {
    Generation {
        images: images
            .iter()
            .map(|(name, identity)| image(name, *identity))
            .collect(),
        pending: Vec::new(),
    }
}

fn view() -> View {
    View::new(generation(&[("disk.img", 1), ("boot.ova", 1)]), OWNER)
}

#[test]
fn attributes_are_those_of_the_image() {
    let found = view().lookup(ROOT_INODE, OsStr::new("boot.ova"));
    let expected = Attributes {
        inode: FIRST + 1,
        kind: Kind::RegularFile,
        permissions: 0o444,
        link_count: 1,
        owner: OWNER,
        size: 12_298,
        sectors: 9,
        mtime: 1_700_000_000,
    };
    assert_eq!(found, Some(expected));
    assert_eq!(view().attributes(FIRST + 1, None), Some(expected));
    let root = view().attributes(ROOT_INODE, None).unwrap();
    assert_eq!((root.kind, root.permissions), (Kind::Directory, 0o555));
}

#[test]
fn absent_names_and_inodes_are_none() {
    let view = view();
    assert_eq!(view.lookup(ROOT_INODE, OsStr::new("disk.im")), None);
    assert_eq!(view.lookup(ROOT_INODE, OsStr::from_bytes(b"\xff")), None);
    assert_eq!(view.lookup(FIRST, OsStr::new("disk.img")), None);
    assert_eq!(view.attributes(FIRST + 2, None), None);
    assert_eq!(view.open(FIRST + 2), None);
    assert_eq!(view.open(ROOT_INODE), None);
}

#[test]
fn the_directory_lists_dots_and_images_in_order() {
    let entries = view().entries();
    let listed: Vec<_> = entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.attributes.inode))
        .collect();
    assert_eq!(
        listed,
        [
            (".", 1),
            ("..", 1),
            ("disk.img", FIRST),
            ("boot.ova", FIRST + 1)
        ]
    );
}

#[test]
fn reads_are_short_only_at_the_end() {
    let image = image("disk.img", 1);
    let mut buf = [9; 20];
    assert_eq!(read(&image, 4090, &mut buf).unwrap(), 20);
    assert_eq!(buf[..6], [1; 6]);
    assert_eq!(buf[6..], [0; 14]);
    assert_eq!(read(&image, 12_290, &mut buf).unwrap(), 8);
    assert_eq!(read(&image, 12_298, &mut buf).unwrap(), 0);
    assert_eq!(read(&image, u64::MAX, &mut buf).unwrap(), 0);
}

#[test]
fn seeks_find_data_and_holes() {
    let image = image("disk.img", 1);
    for (offset, data, hole) in [
        (0, Some(0), Some(4096)),
        (4095, Some(4095), Some(4096)),
        (4096, Some(12_288), Some(4096)),
        (12_297, Some(12_297), Some(12_298)),
        (12_298, None, None),
        (-1, None, None),
    ] {
        assert_eq!(seek(&image, offset, Seek::Data), data, "data at {offset}");
        assert_eq!(seek(&image, offset, Seek::Hole), hole, "hole at {offset}");
    }
}

#[test]
fn handles_keep_their_image_until_released() {
    let view = view();
    let first = view.open(FIRST).unwrap();
    let second = view.open(FIRST).unwrap();
    assert_ne!(first, second);
    view.release(first);
    assert!(view.image(first).is_none());
    assert_eq!(view.image(second).unwrap().name, "disk.img");
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

fn edition(images: &[(&str, u8)]) -> Edition {
    Edition {
        is_edited: false,
        ..Edition::of(generation(images))
    }
}

fn publish(view: &View, images: &[(&str, u8)]) -> Option<Vec<String>> {
    let (published, _) = view.publish(ONLY, edition(images), false)?;
    Some(published.names)
}

fn inode_and_mtime(view: &View, file: &str) -> Option<(u64, i64)> {
    let found = view.lookup(ROOT_INODE, name(file))?;
    Some((found.inode, found.mtime))
}

#[test]
fn a_generation_takes_over_what_it_leaves_as_it_is() {
    let view = view();
    let before = inode_and_mtime(&view, "disk.img").unwrap();
    let names = publish(&view, &[("disk.img", 1), ("boot.ova", 2), ("new.img", 1)]);
    assert_eq!(names.unwrap(), ["boot.ova", "new.img"]);
    assert_eq!(inode_and_mtime(&view, "disk.img"), Some(before));
    // Another one of the same name is a second younger, whatever its sources say.
    assert_eq!(
        inode_and_mtime(&view, "boot.ova"),
        Some((FIRST + 2, 1_700_000_001))
    );
    assert_eq!(
        inode_and_mtime(&view, "new.img"),
        Some((FIRST + 3, 1_700_000_000))
    );
}

#[test]
fn times_are_never_used_again_for_other_bytes() {
    let view = View::new(generation(&[("a", 1)]), OWNER);
    publish(&view, &[("a", 2)]).unwrap();
    assert_eq!(publish(&view, &[]).unwrap(), ["a"]);
    assert_eq!(inode_and_mtime(&view, "a"), None);
    publish(&view, &[("a", 1)]).unwrap();
    assert_eq!(
        inode_and_mtime(&view, "a"),
        Some((FIRST + 2, 1_700_000_002))
    );
}

#[test]
fn the_same_images_are_no_new_generation() {
    let view = view();
    let same = [("disk.img", 1), ("boot.ova", 1)];
    assert_eq!(publish(&view, &same), None);
    let edited = Edition::of(generation(&same));
    let (published, _) = view.publish(ONLY, edited, false).unwrap();
    assert_eq!((published.number, published.names.len()), (2, 0));
}

#[test]
fn open_handles_outlive_their_generation() {
    let view = view();
    let handle = view.open(FIRST).unwrap();
    let (_, kept) = view
        .publish(ONLY, edition(&[("disk.img", 2)]), false)
        .unwrap();
    // The kernel may still follow the old names until it is told.
    let late = view.open(FIRST + 1).unwrap();
    drop(kept);
    assert_eq!(view.attributes(FIRST, Some(handle)).unwrap().inode, FIRST);
    assert_eq!(view.attributes(FIRST, None).unwrap().inode, FIRST);
    assert_eq!(view.attributes(FIRST + 1, None).unwrap().inode, FIRST + 1);
    view.release(late);
    view.release(handle);
    assert_eq!(view.attributes(FIRST, None), None);
    assert_eq!(view.open(FIRST + 1), None);
}

#[test]
fn each_config_has_a_directory_of_its_own() {
    let view = View::of_many(OWNER, Surroundings::default());
    for machine in ["b", "a"] {
        assert!(view.add_shelf(machine, Path::new("/lab.toml")));
        assert!(!view.add_shelf(machine, Path::new("/lab.toml")));
        let edition = edition(&[("disk.img", 1)]);
        assert!(view.publish(machine, edition, false).is_some());
    }
    let names = |inode| -> Vec<String> {
        let entries = view.entries_of(inode).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    };
    assert_eq!(names(ROOT_INODE), [".", "..", "a", "b"]);
    let directory = view.lookup(ROOT_INODE, name("a")).unwrap();
    assert_eq!(directory.kind, Kind::Directory);
    assert_eq!(names(directory.inode), [".", "..", "disk.img"]);
    let file = view.lookup(directory.inode, name("disk.img")).unwrap();
    let handle = view.open(file.inode).unwrap();
    view.remove_shelf("a");
    assert_eq!(names(ROOT_INODE), [".", "..", "b"]);
    assert_eq!(view.entries_of(directory.inode), None);
    assert_eq!(view.image(handle).unwrap().name, "disk.img");
    assert_eq!(view.lookup(ROOT_INODE, name("disk.img")), None);
}

struct Words;

impl Papers for Words {
    fn config(&self) -> String {
        "the config".to_owned()
    }

    fn picture(&self, picture: Picture, generation: u64) -> String {
        format!("{picture:?} of {generation}")
    }
}

fn text_of(view: &View, directory: u64, file: &str) -> String {
    let found = view.lookup(directory, name(file)).unwrap();
    let handle = view.open(found.inode).unwrap();
    let image = view.image(handle).unwrap();
    let mut bytes = vec![0; 10_000];
    let len = read(&image, 0, &mut bytes).unwrap();
    view.release(handle);
    String::from_utf8(bytes[..len].to_vec()).unwrap()
}

#[test]
fn the_control_directory_is_found_by_name_only() {
    let view = view();
    let papers = Edition {
        papers: Arc::new(Words),
        ..Edition::of(generation(&[("disk.img", 1)]))
    };
    drop(view.publish(ONLY, papers, false).unwrap());
    let control = view.lookup(ROOT_INODE, name(".miragefs")).unwrap().inode;
    assert!(view.entries().iter().all(|entry| entry.name != ".miragefs"));
    let listed: Vec<String> = view
        .entries_of(control)
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    // `reload` acts, so that no `cat *` may come upon it.
    assert_eq!(
        listed,
        [
            ".",
            "..",
            "status.json",
            "config.toml",
            "layout.json",
            "layout.svg",
            "layout.html",
            "log",
            "generation.js"
        ]
    );
    assert_eq!(text_of(&view, control, "config.toml"), "the config");
    assert_eq!(text_of(&view, control, "layout.svg"), "Svg of 2");
    let status: serde_json::Value =
        serde_json::from_str(&text_of(&view, control, "status.json")).unwrap();
    assert_eq!(status["generation"], 2);
    assert_eq!(status["images"][0]["name"], "disk.img");
    assert_eq!(status["images"][0]["generation"], 1);
}

#[test]
fn reading_the_file_reload_is_a_wish() {
    let view = view();
    let wishes: Arc<parking_lot::Mutex<Vec<(String, Wish)>>> = Arc::default();
    let heard = Arc::clone(&wishes);
    view.listen(Box::new(move |shelf, wish| {
        heard.lock().push((shelf.to_owned(), wish));
    }));
    let control = view.lookup(ROOT_INODE, name(".miragefs")).unwrap().inode;
    let found = view.lookup(control, name("reload")).unwrap();
    assert_eq!(found.permissions, 0o400);
    assert_eq!(*wishes.lock(), []);
    assert_eq!(text_of(&view, control, "reload"), "{\"ticket\": 1}\n");
    assert_eq!(*wishes.lock(), [(ONLY.to_owned(), Wish::Reload(1))]);
}

#[test]
fn a_changed_source_is_a_wish_of_the_newest_generation_only() {
    let view = view();
    let wishes: Arc<parking_lot::Mutex<Vec<Wish>>> = Arc::default();
    let heard = Arc::clone(&wishes);
    view.listen(Box::new(move |_, wish| heard.lock().push(wish)));
    let path = PathBuf::from("/src/file");
    let error = ReadError::Stale {
        path: path.clone(),
        change: crate::synth::source::Change::Truncated,
    };
    let handle = view.open(FIRST).unwrap();
    view.note_failure(handle, &error);
    assert_eq!(*wishes.lock(), [Wish::Stale(path.clone())]);
    publish(&view, &[("disk.img", 2)]).unwrap();
    view.note_failure(handle, &error);
    assert_eq!(wishes.lock().len(), 1);
    let control = view.lookup(ROOT_INODE, name(".miragefs")).unwrap().inode;
    let status = || -> serde_json::Value {
        serde_json::from_str(&text_of(&view, control, "status.json")).unwrap()
    };
    let seen = status();
    assert_eq!(seen["stale_reads"], 2);
    assert_eq!(seen["stale_files"][0]["path"], "/src/file");
    assert_eq!(seen["stale_files"][0]["generation"], 1);
    assert_eq!(seen["generations_read"], serde_json::json!([1, 2]));
    // Nobody reads the first one any more.
    view.release(handle);
    publish(&view, &[("disk.img", 3)]).unwrap();
    let seen = status();
    assert_eq!(seen["stale_files"], serde_json::json!([]));
    assert_eq!(seen["generations_read"], serde_json::json!([3]));
}

#[test]
fn an_open_file_is_known_by_its_inode_whatever_came_since() {
    let view = View::new(generation(&[("disk.img", 1)]), OWNER);
    let handle = view.open(FIRST).unwrap();
    for images in [&[("disk.img", 1), ("more", 1)][..], &[("disk.img", 2)]] {
        drop(view.publish(ONLY, Edition::of(generation(images)), false));
    }
    let known = view.attributes(FIRST, None);
    assert_eq!(known, view.attributes(FIRST, Some(handle)));
    assert_eq!(known.map(|known| known.size), Some(12_298));
    view.release(handle);
    assert_eq!(view.attributes(FIRST, None), None);
}
