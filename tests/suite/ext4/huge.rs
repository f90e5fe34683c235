//! File systems that no file of an ext4 host can hold, and files of terabytes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use miragefs::config::spec::Ext4Spec;
use miragefs::synth::ext4::SizeRequest;
use rustix::fs::SeekFrom;

use super::build::{assert_clean, decode_source_with_holes, try_build_shaped, write_image};
use crate::loops::{Mount, can_mount};
use crate::mounted::{Workspace, require_fuse};
use crate::served::Served;
use crate::support::{long_tests, require_tool, run_text, skip};

/// A mounted disk of so many TiB, which is one file system with one small file.
fn serve(tebibytes: u64) -> Served {
    let workspace = Workspace::new();
    let source = workspace.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("small"), "one small file\n").unwrap();
    let config = format!(
        "name = \"huge\"\n[disk]\nsize = \"{tebibytes}TiB\"\ntable = \"none\"\n\
         [[partition]]\nlabel = \"huge\"\ncopy = [{{ from = \"source\", to = \"/\" }}]\n\
         [images]\n\"disk.img\" = {{ format = \"raw\" }}\n"
    );
    fs::write(workspace.config(), config).unwrap();
    Served::new(workspace)
}

#[test]
fn the_kernel_reads_15_and_20_tib() {
    if !require_fuse() || !can_mount() || !require_tool("dumpe2fs") {
        return;
    }
    for (tebibytes, is_wide) in [(15, false), (20, true)] {
        let served = serve(tebibytes);
        let image = served.file("disk.img");
        assert_eq!(fs::metadata(&image).unwrap().len(), tebibytes << 40);
        let header = run_text("dumpe2fs", ["-h".as_ref(), image.as_os_str()]);
        assert_eq!(header.contains(" 64bit "), is_wide, "{header}");
        let blocks = format!("Block count:              {}", (tebibytes << 40) / 4096);
        assert!(header.contains(&blocks), "{header}");
        let mount = Mount::new(&image, "ro,loop");
        let contents = fs::read_to_string(mount.path().join("small")).unwrap();
        assert_eq!(contents, "one small file\n");
        mount.unmount();
    }
}

#[test]
fn e2fsck_finds_15_and_20_tib_clean() {
    if !require_fuse() || !require_tool("e2fsck") || !long_tests() {
        return;
    }
    for tebibytes in [15, 20] {
        assert_clean(&serve(tebibytes).file("disk.img"));
    }
}

#[test]
fn sparse_files_of_terabytes_keep_their_islands() {
    if !can_mount() || !require_tool("e2fsck") {
        return;
    }
    // Far more extents than one level of the tree holds. Four entries, two levels and 84 in each hold 28,224 with blocks
    // of 1024 bytes; with `MIRAGEFS_LONG` there are more than 462,400, which is the same with 4096.
    let islands: u64 = if long_tests() { 500_000 } else { 30_000 };
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let file = File::create(tree.join("sparse")).unwrap();
    if file.set_len(3 << 40).is_err() {
        return skip("the host's file system holds no file of 3 TiB");
    }
    let stride = (3 << 40) / islands;
    for index in 0..islands {
        file.write_all_at(&index.to_le_bytes(), index * stride + 5)
            .unwrap();
    }
    for block_size in [4096, 1024] {
        let spec = Ext4Spec {
            block_size,
            ..Ext4Spec::DEFAULT
        };
        let fit = SizeRequest::Fit { free_blocks: 100 };
        let source = try_build_shaped(&tree, &spec, fit).unwrap();
        let decoded = decode_source_with_holes(&source).unwrap();
        let mapping = &decoded.mappings[&decoded.inodes[b"sparse".as_slice()]];
        assert!(u64::try_from(mapping.extents.len()).unwrap() >= islands);
        let depth = if block_size == 1024 || long_tests() {
            3
        } else {
            2
        };
        assert_eq!(mapping.depth, depth);
        let image = directory.path().join("image");
        write_image(&source, &image);
        assert_clean(&image);
        let mount = Mount::new(&image, "ro,loop");
        let found = File::open(mount.path().join("sparse")).unwrap();
        assert_eq!(found.metadata().unwrap().len(), 3 << 40);
        for index in (0..islands).step_by(97).chain([islands - 1]) {
            let offset = index * stride + 5;
            let mut bytes = [0; 8];
            found.read_exact_at(&mut bytes, offset).unwrap();
            assert_eq!(bytes, index.to_le_bytes(), "at {offset}");
            // A hole begins behind the island's block of the host.
            let hole = rustix::fs::seek(&found, SeekFrom::Hole(offset)).unwrap();
            assert!(
                hole - offset <= 4096 + 8,
                "{offset}: the hole begins at {hole}"
            );
        }
        drop(found);
        mount.unmount();
        fs::remove_file(&image).unwrap();
    }
}
