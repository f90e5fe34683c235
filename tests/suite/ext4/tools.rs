//! e2fsprogs over images of trees that go to the limits.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use miragefs::synth::ext4::SizeRequest;

use super::build::{
    assert_clean, build, decode_source, difference, expected_items, varied_tree, write_image,
};
use crate::support::{long_tests, require_tool, run, run_text};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// The image of a tree, checked by e2fsck and by our own reader.
struct Checked {
    directory: tempfile::TempDir,
    levels: Vec<Option<u8>>,
    /// Depth of the deepest extent tree.
    depth: u16,
}

impl Checked {
    fn new(size: SizeRequest, make: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        fs::create_dir(&tree).unwrap();
        make(&tree);
        let source = build(&tree, size);
        let decoded = decode_source(&source).unwrap();
        assert_eq!(difference(&decoded.items, &expected_items(&tree)), None);
        write_image(&source, &directory.path().join("image"));
        let checked = Self {
            directory,
            levels: decoded.index_levels.into_iter().collect(),
            depth: decoded
                .mappings
                .values()
                .map(|mapping| mapping.depth)
                .max()
                .unwrap(),
        };
        assert_clean(&checked.image());
        checked.check_repair_changes_nothing();
        checked
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn copy(&self) -> PathBuf {
        let copy = self.directory.path().join("copy");
        run_text(
            "cp",
            [
                "--sparse=always".as_ref(),
                self.image().as_os_str(),
                copy.as_os_str(),
            ],
        );
        copy
    }

    /// `e2fsck -fy` repairs and optimises silently; it may touch nothing but its own marks in the superblock.
    fn check_repair_changes_nothing(&self) {
        let copy = self.copy();
        let output = Command::new("e2fsck").arg("-fy").arg(&copy).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        let (ours, theirs) = (
            File::open(self.image()).unwrap(),
            File::open(&copy).unwrap(),
        );
        let (mut our, mut their) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        for offset in data_of(&ours, &theirs) {
            let count = ours.read_at(&mut our, offset).unwrap();
            theirs.read_exact_at(&mut their[..count], offset).unwrap();
            if our[..count] == their[..count] {
                continue;
            }
            for (at, (a, b)) in (offset..).zip(our[..count].iter().zip(&their)) {
                // s_wtime, s_lastcheck, s_kbytes_written, s_checksum.
                let is_mark = matches!(at, 1072..=1075 | 1088..=1091 | 1400..=1407 | 2044..=2047);
                assert!(a == b || is_mark, "e2fsck -fy changed byte {at}");
            }
        }
        fs::remove_file(copy).unwrap();
    }

    fn debugfs(&self, command: &str) -> String {
        let image = self.image();
        let arguments = [OsStr::new("-R"), OsStr::new(command), image.as_os_str()];
        String::from_utf8_lossy(&run("debugfs", arguments)).into_owned()
    }
}

/// Offsets of the mebibytes in which one of two files of equal length has data.
fn data_of(one: &File, other: &File) -> Vec<u64> {
    use rustix::fs::{SeekFrom, seek};
    let mut offsets = Vec::new();
    for file in [one, other] {
        let mut at = 0;
        while let Ok(data) = seek(file, SeekFrom::Data(at)) {
            let hole = seek(file, SeekFrom::Hole(data)).unwrap();
            offsets.extend((data / MIB * MIB..hole).step_by(1 << 20));
            at = hole;
        }
    }
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

fn have_tools() -> bool {
    ["e2fsck", "debugfs", "dumpe2fs"]
        .into_iter()
        .all(require_tool)
}

/// A sparse file of zeros.
fn zeros(path: &Path, len: u64) {
    File::create(path).unwrap().set_len(len).unwrap();
}

#[test]
fn empty_and_varied_trees_of_many_sizes_are_clean() {
    if !have_tools() {
        return;
    }
    for size in [
        SizeRequest::Fixed(4 * MIB),
        SizeRequest::Fixed(16 * MIB),
        SizeRequest::Fixed(40 * MIB + 123 * 512),
        SizeRequest::Fixed(129 * MIB),
        SizeRequest::Fixed(3 * GIB),
        SizeRequest::Fixed(100 * GIB),
        SizeRequest::Fit { free_blocks: 0 },
        SizeRequest::Fit {
            free_blocks: 100_000,
        },
    ] {
        Checked::new(size, |_| {});
        Checked::new(size, varied_tree);
    }
}

#[test]
fn a_deep_tree_is_clean() {
    if !have_tools() {
        return;
    }
    Checked::new(SizeRequest::Fixed(16 * MIB), |tree| {
        let mut path = tree.to_path_buf();
        for level in 0..200 {
            path.push(format!("level-{level}"));
            fs::create_dir(&path).unwrap();
        }
        fs::write(path.join("bottom"), "reached").unwrap();
    });
}

#[test]
fn wide_directories_have_an_index_of_one_or_two_levels() {
    if !have_tools() {
        return;
    }
    let checked = Checked::new(SizeRequest::Fit { free_blocks: 0 }, |tree| {
        names(&tree.join("one level"), 10_000, 10);
        // Long names need as many leaves as 70,000 short ones.
        names(&tree.join("two levels"), 15_000, 130);
    });
    assert_eq!(checked.levels, [None, Some(0), Some(1)]);
    let dump = checked.debugfs("htree_dump \"/one level\"");
    assert!(dump.contains("Indirect levels: 0"), "{dump:.400}");
    let dump = checked.debugfs("htree_dump \"/two levels\"");
    assert!(dump.contains("Indirect levels: 1"), "{dump:.400}");
    assert!(dump.contains("Number of entries (count)"), "{dump:.400}");
    let stat = checked.debugfs("stat \"/two levels\"");
    assert!(stat.contains("Flags: 0x81000"), "{stat}");
}

/// A directory of names of one file; more than half of them are not ASCII.
fn names(at: &Path, count: usize, len: usize) {
    fs::create_dir(at).unwrap();
    let first = at.join("first");
    fs::write(&first, "").unwrap();
    for index in 0..count {
        let mut name = format!("{index:0len$}").into_bytes();
        if index % 3 != 0 {
            name[0] = 0x80 | u8::try_from(index % 100).unwrap();
        }
        fs::hard_link(&first, at.join(OsStr::from_bytes(&name))).unwrap();
    }
}

#[test]
fn large_files_have_extent_trees() {
    if !have_tools() {
        return;
    }
    let checked = Checked::new(SizeRequest::Fixed(2 * GIB), |tree| {
        zeros(&tree.join("600 MiB"), 600 * MIB);
        zeros(&tree.join("one byte"), 1);
    });
    assert_eq!(checked.depth, 1);
    let checked = Checked::new(SizeRequest::Fixed(60 * GIB), |tree| {
        zeros(&tree.join("46 GiB"), 46 * GIB + 1);
        zeros(&tree.join("behind it"), 5000);
        symlink("46 GiB", tree.join("link")).unwrap();
    });
    assert_eq!(checked.depth, 1);
}

#[test]
fn huge_files_have_deep_extent_trees() {
    if !have_tools() || !long_tests() {
        return;
    }
    // 170 GiB is what four leaves of 340 extents reach.
    let checked = Checked::new(SizeRequest::Fixed(300 * GIB), |tree| {
        zeros(&tree.join("200 GiB"), 200 * GIB);
        zeros(&tree.join("10 GiB"), 10 * GIB);
    });
    assert_eq!(checked.depth, 2);
    let stat = checked.debugfs("dump_extents -n \"/200 GiB\"");
    assert!(stat.contains("2/ 2") || stat.contains("1/ 2"), "{stat}");
}

#[test]
fn extents_of_huge_files_are_complete() {
    // As above without writing an image: our own reader alone.
    let directory = tempfile::tempdir().unwrap();
    zeros(&directory.path().join("200 GiB"), 200 * GIB);
    let source = build(directory.path(), SizeRequest::Fixed(300 * GIB));
    let decoded = decode_source(&source).unwrap();
    let inode = decoded.inodes[b"200 GiB".as_slice()];
    assert_eq!(decoded.mappings[&inode].depth, 2);
    assert_eq!(decoded.mappings[&inode].blocks(), 200 * GIB / 4096);
}

#[test]
fn many_names_and_subdirectories_reach_the_limits() {
    if !have_tools() || !long_tests() {
        return;
    }
    Checked::new(SizeRequest::Fit { free_blocks: 0 }, |tree| {
        // 65,000 names are the most that an inode has; a directory beyond stores 1.
        fs::write(tree.join("file"), "x").unwrap();
        fs::create_dir(tree.join("names")).unwrap();
        for index in 0..64_999 {
            fs::hard_link(tree.join("file"), tree.join(format!("names/{index}"))).unwrap();
        }
        for (name, count) in [("64997", 64_997), ("64998", 64_998), ("65010", 65_010)] {
            fs::create_dir(tree.join(name)).unwrap();
            for index in 0..count {
                fs::create_dir(tree.join(name).join(format!("{index}"))).unwrap();
            }
        }
        names(&tree.join("wide"), 64_000, 12);
    });
}

#[test]
fn dumpe2fs_reads_the_same_from_every_superblock() {
    if !have_tools() {
        return;
    }
    let checked = Checked::new(SizeRequest::Fixed(GIB), varied_tree);
    let dump = |options: &[&str]| {
        let image = checked.image();
        let arguments = options.iter().copied().chain([image.to_str().unwrap()]);
        run_text("dumpe2fs", arguments)
    };
    let primary = dump(&["-h"]);
    for line in [
        "Filesystem volume name:   test",
        "Filesystem UUID:          00000000-0000-0000-0000-000000000007",
        "Filesystem features:      has_journal ext_attr resize_inode dir_index filetype extent flex_bg sparse_super \
         large_file huge_file dir_nlink extra_isize metadata_csum",
        "Filesystem state:         clean",
        "Filesystem created:       Sat Jan  1 00:00:00 2000",
        "Block count:              262144",
        "Inode count:              65536",
        "Reserved block count:     13107",
        "Reserved GDT blocks:      63",
        "Default directory hash:   half_md4",
        "Journal inode:            8",
        "Total journal blocks:     8192",
        "Maximum mount count:      -1",
    ] {
        assert!(
            primary.lines().any(|found| found == line),
            "{line}\n{primary}"
        );
    }
    for group in [1, 3, 5, 7] {
        let at = format!("superblock={}", group * 32_768);
        let backup = dump(&["-h", "-o", &at, "-o", "blocksize=4096"]);
        let differing: Vec<_> = primary
            .lines()
            .zip(backup.lines())
            .filter(|(a, b)| a != b && !a.starts_with("Checksum:"))
            .collect();
        assert!(
            differing.is_empty() || differing.iter().all(|(a, _)| a.starts_with("Block group")),
            "group {group}: {differing:?}"
        );
    }
}
