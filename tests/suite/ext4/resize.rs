//! Copies that resize2fs shrinks and grows, and what is in them afterwards.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use miragefs::synth::ext4::SizeRequest;

use super::build::assert_clean;
use super::rich::Rich;
use super::watched::Watched;
use crate::loops::{Mount, can_mount};
use crate::support::{long_tests, require_tool, run_text};

fn have_tools() -> bool {
    can_mount()
        && ["e2fsck", "resize2fs", "dumpe2fs", "getfattr", "setfacl"]
            .into_iter()
            .all(require_tool)
}

/// A number that `dumpe2fs -h` tells.
fn number(image: &Path, what: &str) -> u64 {
    let text = run_text("dumpe2fs", [OsStr::new("-h"), image.as_os_str()]);
    let line = text.lines().find_map(|line| line.strip_prefix(what));
    line.unwrap().trim().parse().unwrap()
}

fn has_resize_inode(image: &Path) -> bool {
    let text = run_text("dumpe2fs", [OsStr::new("-h"), image.as_os_str()]);
    text.contains("resize_inode")
}

/// A copy that is shrunk and grown.
struct Resized<'a> {
    rich: &'a Rich,
    copy: PathBuf,
}

impl<'a> Resized<'a> {
    fn new(rich: &'a Rich) -> Self {
        let (image, copy) = (rich.image(), rich.path("copy"));
        let sparse = OsStr::new("--sparse=always");
        run_text("cp", [sparse, image.as_os_str(), copy.as_os_str()]);
        Self { rich, copy }
    }

    /// resize2fs wants a check first. Afterwards there is nothing to find, and everything is as it was.
    fn resize(&self, options: &[&str]) {
        let copy = self.copy.to_str().unwrap();
        run_text("e2fsck", ["-fy", copy]);
        let (flags, size): (Vec<&str>, Vec<&str>) =
            options.iter().partition(|option| option.starts_with('-'));
        let arguments = flags.into_iter().chain([copy]).chain(size);
        run_text("resize2fs", arguments);
        assert_clean(&self.copy);
        let mount = Mount::new(&self.copy, "ro,loop");
        self.rich.assert_equal(mount.path());
        mount.unmount();
    }

    fn blocks(&self) -> u64 {
        number(&self.copy, "Block count:")
    }
}

#[test]
fn resize2fs_shrinks_and_grows_copies() {
    if !have_tools() {
        return;
    }
    let sizes = [
        (SizeRequest::Fixed(300 << 20), true),
        (SizeRequest::Fit { free_blocks: 5000 }, false),
    ];
    for (size, with_resize_inode) in sizes {
        let Some(rich) = Rich::new(size) else { return };
        assert_eq!(has_resize_inode(&rich.image()), with_resize_inode);
        let resized = Resized::new(&rich);
        let original = resized.blocks();
        let estimate = run_text("resize2fs", [OsStr::new("-P"), rich.image().as_os_str()]);
        assert!(estimate.contains("Estimated minimum size"), "{estimate}");
        resized.resize(&["-M"]);
        let minimum = resized.blocks();
        assert!(minimum < original, "{original} blocks became {minimum}");
        resized.resize(&["3G"]);
        assert_eq!(resized.blocks(), 3 << 18);
        resized.resize(&["700M"]);
        assert_eq!(resized.blocks(), 700 << 8);
        // The kernel can work on what came out.
        let watched = Watched::new(&resized.copy, "rw");
        std::fs::write(watched.path().join("new"), vec![1; 50_000_000]).unwrap();
        watched.finish();
    }
}

#[test]
fn resize2fs_grows_beyond_what_the_resize_inode_reserves() {
    if !have_tools() {
        return;
    }
    // 64 MiB reserve descriptors for 64 GiB.
    let (size, grown) = if long_tests() {
        (64 << 20, 200)
    } else {
        (24 << 20, 40)
    };
    let Some(rich) = Rich::new(SizeRequest::Fixed(size)) else {
        return;
    };
    let reserved = number(&rich.image(), "Reserved GDT blocks:");
    let descriptors = ((grown << 18) / 32_768 * 32_u64).div_ceil(4096);
    assert!(
        descriptors > reserved + 1,
        "{descriptors} blocks of descriptors fit into the {reserved} reserved ones"
    );
    let resized = Resized::new(&rich);
    let within = (reserved + 1) * 4096 / 32 * 32_768 / (1 << 18);
    resized.resize(&[&format!("{within}G")]);
    assert_eq!(resized.blocks(), within << 18);
    resized.resize(&[&format!("{grown}G")]);
    assert_eq!(resized.blocks(), grown << 18);
}
