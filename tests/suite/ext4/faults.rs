//! Faults put into an image, one at a time: each is found by our own reader, by the comparison with the source or by
//! e2fsck, and by e2fsck exactly where it is able to. A check that finds nothing here would prove nothing elsewhere.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use miragefs::synth::ext4::SizeRequest;
use miragefs::units::to_usize;
use rustix::fs::{XattrFlags, lsetxattr};

use super::attributes::first_two_entries;
use super::build::{
    build, decode_file, difference, expected_items, fsck_findings, varied_tree, write_image,
};
use super::decoder::{BLOCK, Decoded, Decoder, Item, crc, le32};
use super::superblock::is_backup;
use crate::support::{require_tool, skip};

/// An image that faults are put into and taken out of.
struct Patient {
    path: PathBuf,
    file: File,
    decoded: Decoded,
    expected: BTreeMap<Vec<u8>, Item>,
    /// What was overwritten, newest last.
    undo: Vec<(u64, Vec<u8>)>,
}

impl Patient {
    fn new(tree: &Path, path: PathBuf) -> Self {
        write_image(
            &build(tree, SizeRequest::Fixed((2 << 30) - 100 * BLOCK)),
            &path,
        );
        let file = OpenOptions::new().read(true).write(true).open(&path);
        Self {
            file: file.unwrap(),
            decoded: decode_file(&path).unwrap(),
            expected: expected_items(tree),
            path,
            undo: Vec::new(),
        }
    }

    fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let old = self.read(offset, bytes.len());
        assert_ne!(old, bytes, "a fault changes something");
        self.undo.push((offset, old));
        self.file.write_all_at(bytes, offset).unwrap();
    }

    fn heal(&mut self) {
        while let Some((offset, bytes)) = self.undo.pop() {
            self.file.write_all_at(&bytes, offset).unwrap();
        }
    }

    fn edit(&mut self, offset: u64, len: usize, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.read(offset, len);
        change(&mut bytes);
        self.write(offset, &bytes);
    }

    fn flip(&mut self, offset: u64) {
        self.edit(offset, 1, |byte| byte[0] ^= 1);
    }

    /// Numbers of the healthy file system.
    fn ask<T>(&self, question: impl FnOnce(&Decoder<'_>) -> T) -> T {
        let read = |offset: u64, buf: &mut [u8]| {
            buf.copy_from_slice(&self.read(offset, buf.len()));
            Ok(())
        };
        question(&Decoder::open(&read, self.file.metadata().unwrap().len()).unwrap())
    }

    fn groups(&self) -> u64 {
        self.ask(|decoder| decoder.geometry.groups)
    }

    fn inode(&self, path: &str) -> u32 {
        self.decoded.inodes[path.as_bytes()]
    }

    /// The number of a block of a file.
    fn block(&self, path: &str, index: usize) -> u64 {
        self.decoded.mappings[&self.inode(path)].block_numbers()[index]
    }

    /// Changes an inode and its checksum.
    fn edit_inode(&mut self, number: u32, change: impl FnOnce(&mut [u8])) {
        let (offset, seed) = self.ask(|decoder| {
            (
                decoder.inode_offset(number).unwrap(),
                decoder.seed_of(number).unwrap(),
            )
        });
        self.edit(offset, 256, |raw| {
            change(raw);
            raw[0x7c..0x7e].fill(0);
            raw[0x82..0x84].fill(0);
            let sum = crc(seed, raw).to_le_bytes();
            raw[0x7c..0x7e].copy_from_slice(&sum[..2]);
            raw[0x82..0x84].copy_from_slice(&sum[2..]);
        });
    }

    /// Changes a group descriptor and its checksum, in all copies.
    fn edit_descriptor(&mut self, group: u64, change: impl Fn(&mut [u8])) {
        let (seed, groups) = self.ask(|decoder| (decoder.geometry.seed, decoder.geometry.groups));
        for copy in (0..groups).filter(|copy| is_backup(*copy)) {
            self.edit((copy * 32_768 + 1) * BLOCK + group * 32, 32, |raw| {
                change(raw);
                raw[0x1e..0x20].fill(0);
                let number = u32::try_from(group).unwrap().to_le_bytes();
                let sum = crc(crc(seed, &number), raw).to_le_bytes();
                raw[0x1e..0x20].copy_from_slice(&sum[..2]);
            });
        }
    }

    /// Changes superblocks and their checksums.
    fn edit_superblocks(&mut self, groups: &[u64], change: impl Fn(&mut [u8])) {
        for group in groups {
            let offset = if *group == 0 {
                1024
            } else {
                group * 32_768 * BLOCK
            };
            self.edit(offset, 1024, |raw| {
                change(raw);
                let sum = crc(!0, &raw[..0x3fc]).to_le_bytes();
                raw[0x3fc..].copy_from_slice(&sum);
            });
        }
    }

    /// Groups with a superblock.
    fn copies(&self) -> Vec<u64> {
        (0..self.groups())
            .filter(|group| is_backup(*group))
            .collect()
    }

    /// Changes names in a block of a directory and its checksum.
    fn edit_names(&mut self, path: &str, index: usize, change: impl FnOnce(&mut [u8])) {
        let seed = self.ask(|decoder| decoder.seed_of(self.inode(path)).unwrap());
        self.edit(self.block(path, index) * BLOCK, 4096, |raw| {
            change(raw);
            let sum = crc(seed, &raw[..4084]).to_le_bytes();
            raw[4092..].copy_from_slice(&sum);
        });
    }

    /// Changes a bitmap of a group, its checksum left alone or not.
    fn edit_block_bitmap(&mut self, group: u64, change: impl FnOnce(&mut [u8])) {
        let (offset, seed) = self.ask(|decoder| {
            let descriptor = &decoder.descriptors[to_usize(group)];
            (descriptor.block_bitmap() * BLOCK, decoder.geometry.seed)
        });
        self.edit(offset, 4096, change);
        let sum = crc(seed, &self.read(offset, 4096)).to_le_bytes();
        self.edit_descriptor(group, |raw| raw[0x18..0x1a].copy_from_slice(&sum[..2]));
    }

    /// Changes a block of attributes and its checksum.
    fn edit_attributes(&mut self, path: &str, change: impl FnOnce(&mut [u8])) {
        let (block, seed) = self.ask(|decoder| {
            let inode = decoder.inode(self.inode(path)).unwrap();
            (inode.attribute_block(), decoder.geometry.seed)
        });
        assert_ne!(block, 0, "{path} has a block of attributes");
        self.edit(block * BLOCK, 4096, |raw| {
            change(raw);
            raw[16..20].fill(0);
            let sum = crc(crc(seed, &block.to_le_bytes()), raw).to_le_bytes();
            raw[16..20].copy_from_slice(&sum);
        });
    }

    /// What our own checks find.
    fn own_finding(&self) -> Option<String> {
        match decode_file(&self.path) {
            Err(error) => Some(error),
            Ok(decoded) => difference(&decoded.items, &self.expected),
        }
    }
}

// Faults that e2fsck takes for a healthy file system; a check of ours has to find each.
const UNSORTED_BLOCK: &str = "unsorted block of attributes";
const SIZE_PAST_EXTENTS: &str = "size past the last extent";
const STALE_SUPERBLOCK: &str = "stale backup superblock";
const WRONG_JNL_BLOCKS: &str = "wrong s_jnl_blocks";
const RESIZE_INODE_END: &str = "list of copies in the resize inode's last part";

/// A fault: its name, whether e2fsck sees it, and how it is made.
type Fault = (&'static str, bool, fn(&mut Patient));

/// Adds to a little-endian field of two bytes.
fn add16(raw: &mut [u8], at: usize, value: u16) {
    let old = u16::from_le_bytes([raw[at], raw[at + 1]]);
    raw[at..at + 2].copy_from_slice(&old.wrapping_add(value).to_le_bytes());
}

/// Adds to a little-endian field of four bytes.
fn add32(raw: &mut [u8], at: usize, value: u32) {
    let sum = le32(raw, at).wrapping_add(value);
    raw[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

const CHECKSUMS: [Fault; 7] = [
    ("checksum of a directory block", true, |patient| {
        patient.flip(patient.block("", 0) * BLOCK + 4092);
    }),
    ("checksum of an index root", true, |patient| {
        patient.flip(patient.block("dir/sub", 0) * BLOCK + 4092);
    }),
    ("checksum of an inode", true, |patient| {
        let number = patient.inode("dir/odd");
        let offset = patient.ask(|decoder| decoder.inode_offset(number).unwrap());
        patient.flip(offset + 0x7c);
    }),
    ("checksum of an extent node", true, |patient| {
        let node = patient.decoded.mappings[&patient.inode("large")].nodes[0];
        patient.flip(node * BLOCK + 4092);
    }),
    ("checksum of a group descriptor", true, |patient| {
        patient.flip(BLOCK + 2 * 32 + 0x1e);
    }),
    ("checksum of a block bitmap", true, |patient| {
        patient.edit_descriptor(0, |raw| raw[0x18] ^= 1);
    }),
    ("checksum of an inode bitmap", true, |patient| {
        patient.edit_descriptor(0, |raw| raw[0x1a] ^= 1);
    }),
];

const COUNTS: [Fault; 9] = [
    ("used block marked free", true, |patient| {
        let block = patient.block("dir/odd", 3);
        let bit = block % 32_768;
        patient.edit_block_bitmap(block / 32_768, |raw| {
            raw[to_usize(bit / 8)] ^= 1 << (bit % 8);
        });
    }),
    ("free blocks of a group", true, |patient| {
        patient.edit_descriptor(1, |raw| add16(raw, 0xc, 1));
    }),
    ("free inodes of a group", true, |patient| {
        patient.edit_descriptor(0, |raw| add16(raw, 0xe, 1));
    }),
    ("directories of a group", true, |patient| {
        patient.edit_descriptor(0, |raw| add16(raw, 0x10, 1));
    }),
    ("unused inodes of a group", true, |patient| {
        patient.edit_descriptor(0, |raw| add16(raw, 0x1c, 100));
    }),
    ("free blocks of the superblock", true, |patient| {
        patient.edit_superblocks(&patient.copies(), |raw| add32(raw, 0xc, 1));
    }),
    ("number of links", true, |patient| {
        patient.edit_inode(patient.inode("hello.txt"), |raw| add16(raw, 0x1a, 1));
    }),
    ("number of sectors", true, |patient| {
        patient.edit_inode(patient.inode("dir/odd"), |raw| add32(raw, 0x1c, 8));
    }),
    ("BLOCK_UNINIT on a group in use", true, |patient| {
        // The file system has 16 groups, and the large file lies in group 1 too.
        patient.edit_descriptor(1, |raw| raw[0x12] |= 2);
    }),
];

const NAMES: [Fault; 6] = [
    ("parent of a directory", true, |patient| {
        patient.edit_names("dir/sub/deeper", 0, |raw| {
            raw[12..16].copy_from_slice(&2_u32.to_le_bytes());
        });
    }),
    ("file type in a directory", true, |patient| {
        patient.edit_names("dir", 0, |raw| {
            let at = raw.windows(5).position(|bytes| bytes == b"block");
            raw[at.unwrap() - 1] = 7;
        });
    }),
    ("a name", false, |patient| {
        patient.edit_names("dir", 0, |raw| {
            let at = raw.windows(5).position(|bytes| bytes == b"block");
            raw[at.unwrap()] = b'c';
        });
    }),
    ("bound of a hash", true, |patient| {
        let seed = patient.ask(|decoder| decoder.seed_of(patient.inode("dir/sub")).unwrap());
        let offset = patient.block("dir/sub", 0) * BLOCK;
        patient.edit(offset, 4096, |raw| {
            let count = usize::from(u16::from_le_bytes([raw[34], raw[35]]));
            assert!(count > 2);
            add32(raw, 32 + 8, 0x0100_0000);
            let mut sum = crc(seed, &raw[..32 + 8 * count]);
            sum = crc(sum, &raw[4088..4092]);
            sum = crc(sum, &[0; 4]);
            raw[4092..].copy_from_slice(&sum.to_le_bytes());
        });
    }),
    ("hash of unsigned bytes", true, |patient| {
        patient.edit_superblocks(&patient.copies(), |raw| raw[0x160] = 2);
    }),
    ("target of a fast symlink", false, |patient| {
        patient.edit_inode(patient.inode("fast"), |raw| raw[0x28] = b'z');
    }),
];

const CONTENTS: [Fault; 10] = [
    (SIZE_PAST_EXTENTS, false, |patient| {
        patient.edit_inode(patient.inode("dir/odd"), |raw| add32(raw, 4, 3 * 4096));
    }),
    ("size within the last block", false, |patient| {
        patient.edit_inode(patient.inode("dir/odd"), |raw| add32(raw, 4, 1));
    }),
    ("two files with one block", true, |patient| {
        let block = u32::try_from(patient.block("dir/odd", 0)).unwrap();
        patient.edit_inode(patient.inode("dir/block"), |raw| {
            raw[0x28 + 20..0x28 + 24].copy_from_slice(&block.to_le_bytes());
        });
    }),
    ("a byte of a file", false, |patient| {
        patient.flip(patient.block("dir/odd", 5) * BLOCK + 77);
    }),
    ("padding of a file", false, |patient| {
        patient.flip(patient.block("hello.txt", 0) * BLOCK + 100);
    }),
    ("time", false, |patient| {
        patient.edit_inode(patient.inode("hello.txt"), |raw| raw[0x88] ^= 4);
    }),
    ("owner", false, |patient| {
        patient.edit_inode(patient.inode("hello.txt"), |raw| raw[0x78] ^= 1);
    }),
    ("mode", false, |patient| {
        patient.edit_inode(patient.inode("hello.txt"), |raw| raw[0] ^= 1);
    }),
    ("length of the journal", true, |patient| {
        let journal = patient.decoded.mappings[&8].extents[0].start;
        patient.edit(journal * BLOCK + 16, 4, |raw| raw[2] ^= 0x80);
    }),
    ("a free inode", false, |patient| {
        let offset = patient.ask(|decoder| {
            let per_group = decoder.geometry.inodes_per_group;
            (decoder.descriptors[0].inode_table() * BLOCK) + per_group * 256 - 256
        });
        patient.flip(offset);
    }),
];

const ATTRIBUTES: [Fault; 4] = [
    (UNSORTED_BLOCK, false, |patient| {
        patient.edit_attributes("attributes", |raw| {
            let (start, len) = first_two_entries(raw);
            raw[start..start + 2 * len].rotate_left(len);
        });
    }),
    ("checksum of a block of attributes", true, |patient| {
        let number = patient.inode("attributes");
        let block = patient.ask(|decoder| decoder.inode(number).unwrap().attribute_block());
        patient.flip(block * BLOCK + 16);
    }),
    ("hash of an attribute", true, |patient| {
        patient.edit_attributes("attributes", |raw| raw[4095] ^= 1);
    }),
    ("sharers of a block of attributes", true, |patient| {
        patient.edit_attributes("attributes", |raw| raw[4] += 1);
    }),
];

/// What e2fsck does not look at.
const COPIES: [Fault; 7] = [
    (STALE_SUPERBLOCK, false, |patient| {
        patient.edit_superblocks(&[3], |raw| raw[0x68..0x78].fill(b'Z'));
    }),
    ("stale backup descriptor", false, |patient| {
        patient.flip((5 * 32_768 + 1) * BLOCK + 0x12);
    }),
    (WRONG_JNL_BLOCKS, false, |patient| {
        patient.edit_superblocks(&patient.copies(), |raw| raw[0x10c + 20] ^= 1);
    }),
    (RESIZE_INODE_END, false, |patient| {
        let (first, count) = patient.ask(|decoder| {
            let geometry = &decoder.geometry;
            (1 + geometry.gdt_blocks(), geometry.reserved_gdt)
        });
        patient.flip((first + count - 2) * BLOCK);
    }),
    ("last block that the resize inode has", true, |patient| {
        let (last, block) = patient.ask(|decoder| {
            let geometry = &decoder.geometry;
            let inode = decoder.inode(7).unwrap();
            (
                geometry.gdt_blocks() + geometry.reserved_gdt,
                u64::from(le32(inode.i_block(), 52)),
            )
        });
        patient.edit(block * BLOCK + (last - 1) % 1024 * 4, 4, |raw| raw[0] ^= 1);
    }),
    ("time of the superblock in the future", true, |patient| {
        patient.edit_superblocks(&patient.copies(), |raw| {
            raw[0x30..0x34].copy_from_slice(&4_000_000_000_u32.to_le_bytes());
        });
    }),
    ("padding of the last group's bitmap", true, |patient| {
        patient.edit_block_bitmap(15, |raw| raw[4095] ^= 0x80);
    }),
];

fn all_faults() -> Vec<Fault> {
    let all = [
        &CHECKSUMS[..],
        &COUNTS[..],
        &NAMES[..],
        &CONTENTS[..],
        &ATTRIBUTES[..],
        &COPIES[..],
    ];
    all.concat()
}

/// A patient with 16 groups and something of each kind; `None` where the host has no extended attributes.
fn patient(directory: &Path) -> Option<Patient> {
    let tree = directory.join("tree");
    varied_tree(&tree);
    let large = File::create(tree.join("large")).unwrap();
    large.set_len(600 << 20).unwrap();
    fs::write(tree.join("last"), "").unwrap();
    let attributes = tree.join("attributes");
    fs::write(&attributes, "").unwrap();
    for (name, byte) in [("user.aa", b'a'), ("user.bb", b'b')] {
        if lsetxattr(&attributes, name, &[byte; 300], XattrFlags::empty()).is_err() {
            skip("the file system of the temporary directory has no extended attributes");
            return None;
        }
    }
    let patient = Patient::new(&tree, directory.join("image"));
    assert_eq!(patient.groups(), 16);
    Some(patient)
}

#[test]
fn every_fault_is_found() {
    if !require_tool("e2fsck") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(mut patient) = patient(directory.path()) else {
        return;
    };
    let mut missed = Vec::new();
    for (name, by_fsck, make) in all_faults() {
        assert_eq!(patient.own_finding(), None, "before: {name}");
        make(&mut patient);
        let own = patient.own_finding();
        let fsck = fsck_findings(patient.path.to_str().unwrap());
        let found = own.is_some() || fsck.is_some();
        if !found || fsck.is_some() != by_fsck {
            let fsck = fsck.as_deref().unwrap_or("nothing");
            missed.push(format!("{name}: own {own:?}, e2fsck {fsck:.300}"));
        }
        patient.heal();
    }
    assert!(missed.is_empty(), "{missed:#?}");
    assert_eq!(fsck_findings(patient.path.to_str().unwrap()), None);
}

/// What one of our checks says of the fault with this name; e2fsck says nothing.
fn own_finding_of(name: &str) -> Option<String> {
    let (_, by_fsck, make) = all_faults()
        .into_iter()
        .find(|(found, _, _)| *found == name)
        .unwrap();
    assert!(!by_fsck, "{name}: e2fsck finds it");
    let directory = tempfile::tempdir().unwrap();
    let mut patient = patient(directory.path())?;
    assert_eq!(patient.own_finding(), None);
    make(&mut patient);
    Some(patient.own_finding().unwrap_or_default())
}

/// The findings are ours and about the fault itself, not about something that happens to go wrong with it.
#[test]
fn what_fsck_misses_is_found_by_name() {
    for (name, words) in [
        (
            UNSORTED_BLOCK,
            "attributes: block of attributes: not sorted: 1 aa comes late",
        ),
        (
            SIZE_PAST_EXTENTS,
            "(dir/odd): blocks do not cover its 135745 bytes",
        ),
        (STALE_SUPERBLOCK, "backup superblock 3: differs"),
        (WRONG_JNL_BLOCKS, "s_jnl_blocks"),
        (RESIZE_INODE_END, ": list of copies"),
    ] {
        let Some(finding) = own_finding_of(name) else {
            return;
        };
        assert!(finding.ends_with(words), "{name}: {finding}");
    }
}
