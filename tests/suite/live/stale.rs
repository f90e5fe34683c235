//! Sources that change under readers: never wrong bytes, and what is new follows by itself.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::{Live, config, read_all};
use crate::mount::errno;
use crate::mounted::{require_fuse, wait_until};
use crate::support::noise;

/// 1 KiB from the middle of what `name` holds in an image that shows it.
fn place_of(image: &[u8], contents: &[u8]) -> u64 {
    let middle = &contents[contents.len() / 2..][..1024];
    let found = image.windows(1024).position(|window| window == middle);
    found.unwrap().try_into().unwrap()
}

fn read_at(file: &File, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 1024];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

#[test]
fn a_changed_source_fails_old_readers_and_shows_in_a_new_generation() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    let contents = noise(1, 1 << 20);
    fs::write(live.source("victim"), &contents).unwrap();
    fs::write(live.source("witness"), noise(2, 1 << 20)).unwrap();
    live.settle();
    let image = live.file("disk.img");
    let place = place_of(&fs::read(&image).unwrap(), &contents);
    // A fresh inode, of which no page is cached.
    fs::write(live.workspace().config(), config("second")).unwrap();
    live.settle();
    let generation = live.generation();
    let old = File::open(live.file("disk.img")).unwrap();
    fs::write(live.source("victim"), noise(3, 1 << 20)).unwrap();
    assert_eq!(errno(read_at(&old, place)), Some(libc::ESTALE));
    live.wait_for(generation + 1);
    // The old one stays refused, the new one has the new bytes.
    assert_eq!(errno(read_at(&old, place)), Some(libc::ESTALE));
    let new = fs::read(live.file("disk.img")).unwrap();
    assert!(new == live.export("disk.img"));
    let status = live.status();
    let stale = &status["stale_files"][0];
    let path = live.source("victim");
    assert_eq!(
        stale["path"],
        path.canonicalize().unwrap().to_str().unwrap()
    );
    assert_eq!(stale["generation"], generation);
    assert!(status["stale_reads"].as_u64().unwrap() >= 2);
    assert!(live.log().contains("victim: "), "{}", live.log());
}

#[test]
fn what_comes_and_goes_in_sources_shows_by_itself() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    live.settle();
    let check = |what: &str| {
        let shown = fs::read(live.file("disk.img")).unwrap();
        assert!(shown == live.export("disk.img"), "{what}");
    };
    let mut generation = live.generation();
    let mut next = |what: &str, change: &dyn Fn()| {
        change();
        generation += 1;
        live.wait_for(generation);
        live.settle();
        generation = live.generation();
        check(what);
    };
    next("a file", &|| fs::write(live.source("file"), "a").unwrap());
    next("a directory with a file", &|| {
        fs::create_dir(live.source("dir")).unwrap();
        fs::write(live.source("dir/inner"), "b").unwrap();
    });
    next("a file in the new directory", &|| {
        fs::write(live.source("dir/second"), "c").unwrap();
    });
    next("a mode", &|| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(live.source("dir/inner"), mode).unwrap();
    });
    next("a rename", &|| {
        fs::rename(live.source("dir"), live.source("moved")).unwrap();
    });
    next("a file below what was renamed", &|| {
        fs::write(live.source("moved/third"), "d").unwrap();
    });
    next("a deletion", &|| {
        fs::remove_dir_all(live.source("moved")).unwrap();
    });
    next("another source in its place", &|| {
        let source = live.source("");
        let source = source.parent().unwrap().join("src");
        fs::rename(&source, source.with_extension("old")).unwrap();
        fs::create_dir(&source).unwrap();
        fs::write(source.join("other"), "e").unwrap();
    });
    next("a file in it", &|| {
        fs::write(live.source("more"), "f").unwrap();
    });
}

#[test]
fn small_files_are_kept_where_the_config_says_so() {
    if !require_fuse() {
        return;
    }
    let keep = |text: &str| format!("on-change = \"keep\"\n{}", config(text));
    let live = Live::new(&keep("first"));
    let (small, large) = (noise(5, 60_000), noise(6, 1 << 20));
    fs::write(live.source("small"), &small).unwrap();
    fs::write(live.source("unread"), noise(7, 60_000)).unwrap();
    fs::write(live.source("large"), &large).unwrap();
    live.settle();
    let bytes = fs::read(live.file("disk.img")).unwrap();
    let places = [
        place_of(&bytes, &small),
        place_of(&bytes, &noise(7, 60_000)),
        place_of(&bytes, &large),
    ];
    fs::write(live.workspace().config(), keep("second")).unwrap();
    live.settle();
    let old = File::open(live.file("disk.img")).unwrap();
    let direct = {
        let mut options = File::options();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_DIRECT);
        options.read(true).open(live.file("disk.img")).unwrap()
    };
    let before = read_at(&direct, places[0]).unwrap();
    let generation = live.generation();
    for name in ["small", "unread", "large"] {
        fs::write(live.source(name), "changed").unwrap();
    }
    // Read before, and small: it goes on. Not read before, or large: it does not.
    assert!(read_at(&direct, places[0]).unwrap() == before);
    assert!(read_at(&old, places[0]).unwrap() == before);
    assert_eq!(errno(read_at(&old, places[1])), Some(libc::ESTALE));
    assert_eq!(errno(read_at(&old, places[2])), Some(libc::ESTALE));
    live.wait_for(generation + 1);
    live.settle();
    let new = File::open(live.file("disk.img")).unwrap();
    assert!(read_all(&new) == live.export("disk.img"));
}

#[test]
fn sources_where_changes_are_not_told_are_polled() {
    if !require_fuse() {
        return;
    }
    // One mount is the source of another: inotify knows nothing of what happens in FUSE.
    let inner = Live::new(&config("first"));
    let outer = Live::new(
        &config("outer")
            .replace(
                "from = \"src\"",
                &format!("from = \"{}\"", inner.workspace().mountpoint().display()),
            )
            .replace("24MiB", "128MiB"),
    );
    wait_until("it polls", || outer.status()["watching"]["by"] == "polling");
    let reason = outer.status()["watching"]["reason"].clone();
    assert!(reason.as_str().unwrap().contains("FUSE"), "{reason}");
    outer.settle();
    let generation = outer.generation();
    fs::write(inner.workspace().config(), config("second")).unwrap();
    outer.wait_for(generation + 1);
}
