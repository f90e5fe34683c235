//! The kernel reads what the source holds.

use std::fs::File;

use miragefs::synth::ext4::SizeRequest;

use super::build::{Links, build, difference, expected_items, items_of, varied_tree, write_image};
use super::rich::wide;
use crate::loops::{Mount, can_mount};

#[test]
fn the_kernel_reads_what_the_source_holds() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    varied_tree(&tree);
    wide(&tree.join("wide"), 3000);
    File::create(tree.join("large"))
        .unwrap()
        .set_len(600 << 20)
        .unwrap();
    let image = directory.path().join("image");
    for size in [
        SizeRequest::Fixed(1 << 30),
        SizeRequest::Fixed(5 << 30),
        SizeRequest::Fit { free_blocks: 10 },
    ] {
        write_image(&build(&tree, size), &image);
        let mount = Mount::new(&image, "ro,loop");
        let found = items_of(mount.path(), Links::Stored);
        assert_eq!(difference(&found, &expected_items(&tree)), None);
        mount.unmount();
    }
}
