//! A naive reader of ext4, written from the kernel's documentation (filesystems/ext4) and sharing nothing with the
//! library: it reads everything, verifies every checksum, follows every pointer, and gives every block an owner.
//!
//! It knows only what our file systems are made of (extents, and what the config can shape) and calls anything else an
//! error.

use std::collections::{BTreeMap, BTreeSet};

use miragefs::units::{to_u64, to_usize};
use sha2::{Digest, Sha256};

use super::attributes::blocks_besides;
use super::extents::{self, Mapping};
use super::superblock::{Descriptor, Geometry, geometry};

/// Bytes of a block that is not asked to be smaller.
pub(crate) const BLOCK: u64 = 4096;
/// Files above this size are not read; that their blocks are all there is checked.
const CONTENTS_MAX: u64 = 64 << 20;

/// What a check says: a value, or what is wrong.
pub(crate) type Checked<T> = Result<T, String>;

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

/// A node as an image or a source directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Type and permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes; 0 for directories, whose sizes are the file system's own business.
    pub(crate) size: u64,
    pub(crate) mtime: (i64, u32),
    /// Names, or for a directory 2 and its subdirectories.
    pub(crate) links: u64,
    /// SHA-256 of a file (empty where it is too large), or the target of a symlink.
    pub(crate) contents: Vec<u8>,
    /// The number of a device, as the host numbers it; 0 for all else.
    pub(crate) device: u64,
}

/// What a walk found besides the items.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// By path from the root, `/` between names; the root's path is empty.
    pub(crate) items: BTreeMap<Vec<u8>, Item>,
    /// Inode number of each path.
    pub(crate) inodes: BTreeMap<Vec<u8>, u32>,
    /// The path by which each inode was met first.
    first_paths: BTreeMap<u32, Vec<u8>>,
    /// Inodes of directories.
    pub(crate) directories: BTreeSet<u32>,
    /// Flags of each inode.
    pub(crate) flags: BTreeMap<u32, u32>,
    /// Blocks of each inode, in file order.
    pub(crate) mappings: BTreeMap<u32, Mapping>,
    /// Depths of directory indices that were met: `None` for linear ones.
    pub(crate) index_levels: BTreeSet<Option<u8>>,
}

/// Reads bytes at an offset of the file system.
pub(crate) type Reader<'a> = dyn Fn(u64, &mut [u8]) -> Checked<()> + 'a;

pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The register of CRC-32C without its final inversion, as ext4 stores it.
pub(crate) fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// An inode as stored.
pub(crate) struct Inode {
    pub(crate) number: u32,
    pub(crate) raw: Vec<u8>,
}

impl Inode {
    pub(crate) fn mode(&self) -> u16 {
        le16(&self.raw, 0)
    }
    fn kind(&self) -> u16 {
        self.mode() & 0o170_000
    }
    pub(crate) fn size(&self) -> u64 {
        u64::from(le32(&self.raw, 4)) | u64::from(le32(&self.raw, 0x6c)) << 32
    }
    pub(crate) fn flags(&self) -> u32 {
        le32(&self.raw, 0x20)
    }
    pub(crate) fn sectors(&self) -> u64 {
        u64::from(le32(&self.raw, 0x1c)) | u64::from(le16(&self.raw, 0x74)) << 32
    }
    pub(crate) fn i_block(&self) -> &[u8] {
        &self.raw[0x28..0x28 + 60]
    }
    fn time(&self, seconds_at: usize, extra_at: usize) -> (i64, u32) {
        let seconds = i64::from(i32::from_le_bytes(
            self.raw[seconds_at..seconds_at + 4].try_into().unwrap(),
        ));
        if self.raw.len() == 128 {
            return (seconds, 0);
        }
        let extra = le32(&self.raw, extra_at);
        (seconds + (i64::from(extra & 3) << 32), extra >> 2)
    }
    /// The number of a device: of 16 bits in the first pointer, or wider in the second.
    fn device(&self) -> u64 {
        if !matches!(self.kind(), 0o020_000 | 0o060_000) {
            return 0;
        }
        let (narrow, wide) = (le32(self.i_block(), 0), le32(self.i_block(), 4));
        if narrow == 0 {
            rustix::fs::makedev(wide >> 8 & 0xfff, wide & 0xff | wide >> 12 & 0xfff00)
        } else {
            rustix::fs::makedev(narrow >> 8 & 0xff, narrow & 0xff)
        }
    }
    /// The modification time, which all other times equal.
    fn mtime(&self) -> Checked<(i64, u32)> {
        let mtime = self.time(0x10, 0x88);
        for (what, seconds, extra) in [
            ("atime", 8, 0x8c),
            ("ctime", 0xc, 0x84),
            ("crtime", 0x90, 0x94),
        ] {
            if self.raw.len() == 128 && seconds > 127 {
                continue;
            }
            let other = self.time(seconds, extra);
            ensure!(
                other == mtime,
                "inode {}: {what} {other:?}, mtime {mtime:?}",
                self.number
            );
        }
        Ok(mtime)
    }
    fn owner(&self) -> (u32, u32) {
        let id = |low: usize, high: usize| {
            u32::from(le16(&self.raw, low)) | u32::from(le16(&self.raw, high)) << 16
        };
        (id(2, 0x78), id(0x18, 0x7a))
    }
}

/// A whole file system being read.
pub(crate) struct Decoder<'a> {
    pub(crate) read: &'a Reader<'a>,
    pub(crate) geometry: Geometry,
    pub(crate) descriptors: Vec<Descriptor>,
    /// Who owns which blocks: start, length, owner.
    pub(crate) owners: Vec<(u64, u64, String)>,
    /// Whether files may have holes.
    holes: bool,
    /// Inodes in use.
    pub(crate) used_inodes: BTreeSet<u32>,
    /// Names that lead to each inode that is no directory, and subdirectories of those that are.
    names: BTreeMap<u32, u64>,
    /// How many inodes were met that have each block of attributes.
    pub(crate) attribute_sharers: BTreeMap<u64, u32>,
    pub(crate) decoded: Decoded,
}

/// Reads a whole file system, whose files have no holes, and checks everything about it.
pub(crate) fn decode(read: &Reader<'_>, len: u64) -> Checked<Decoded> {
    decode_with_holes(read, len, false)
}

/// The same where files may have holes.
pub(crate) fn decode_with_holes(read: &Reader<'_>, len: u64, holes: bool) -> Checked<Decoded> {
    let mut decoder = Decoder::open(read, len)?;
    decoder.holes = holes;
    decoder.own_fixed_structures();
    decoder.check_backups()?;
    decoder.check_internal_inodes()?;
    decoder.walk()?;
    decoder.check_links()?;
    decoder.check_sharers()?;
    decoder.check_block_usage()?;
    decoder.check_inode_usage()?;
    Ok(decoder.decoded)
}

impl<'a> Decoder<'a> {
    /// Reads and verifies superblock and descriptors.
    pub(crate) fn open(read: &'a Reader<'a>, len: u64) -> Checked<Self> {
        let mut superblock = vec![0; 1024];
        read(1024, &mut superblock)?;
        let geometry = geometry(superblock, len)?;
        let mut table = vec![0; to_usize(geometry.gdt_blocks() * geometry.block)];
        read((geometry.first + 1) * geometry.block, &mut table)?;
        let mut descriptors = Vec::new();
        let len = to_usize(geometry.descriptor);
        for (raw, group) in table.chunks_exact(len).zip(0..geometry.groups) {
            let mut zeroed = raw.to_vec();
            zeroed[0x1e..0x20].fill(0);
            ensure!(
                geometry.descriptor_sum(group, &zeroed) == le16(raw, 0x1e),
                "group {group}: descriptor checksum"
            );
            descriptors.push(Descriptor { raw: raw.to_vec() });
        }
        let rest = &table[to_usize(geometry.groups) * len..];
        ensure!(
            rest.iter().all(|byte| *byte == 0),
            "descriptors behind the last group"
        );
        Ok(Self {
            read,
            geometry,
            descriptors,
            owners: Vec::new(),
            holes: false,
            used_inodes: (1..=11).collect(),
            names: BTreeMap::new(),
            attribute_sharers: BTreeMap::new(),
            decoded: Decoded::default(),
        })
    }

    pub(crate) fn block(&self, number: u64) -> Checked<Vec<u8>> {
        ensure!(
            number < self.geometry.blocks,
            "block {number} is beyond the end"
        );
        let mut bytes = vec![0xa5; to_usize(self.geometry.block)];
        (self.read)(number * self.geometry.block, &mut bytes)?;
        Ok(bytes)
    }

    /// Byte offset of an inode.
    pub(crate) fn inode_offset(&self, number: u32) -> Checked<u64> {
        let index = u64::from(number)
            .checked_sub(1)
            .ok_or("inode 0 is named".to_owned())?;
        let group = index / self.geometry.inodes_per_group;
        let descriptor = self
            .descriptors
            .get(to_usize(group))
            .ok_or(format!("inode {number} is beyond the last"))?;
        let within = index % self.geometry.inodes_per_group * self.geometry.inode_size;
        Ok(descriptor.inode_table() * self.geometry.block + within)
    }

    /// The seed of an inode's checksums, if there are any.
    pub(crate) fn seed_of(&self, number: u32) -> Option<u32> {
        let seed = crc(self.geometry.sums()?, &number.to_le_bytes());
        Some(crc(seed, &0_u32.to_le_bytes()))
    }

    /// An inode, its checksum verified.
    pub(crate) fn inode(&self, number: u32) -> Checked<Inode> {
        let mut raw = vec![0; to_usize(self.geometry.inode_size)];
        (self.read)(self.inode_offset(number)?, &mut raw)?;
        let has_extra_fields = raw.len() > 128;
        let mut stored = u32::from(le16(&raw, 0x7c));
        let mut zeroed = raw.clone();
        zeroed[0x7c..0x7e].fill(0);
        let mut mask = 0xffff;
        if has_extra_fields {
            stored |= u32::from(le16(&raw, 0x82)) << 16;
            zeroed[0x82..0x84].fill(0);
            mask = u32::MAX;
        }
        let sum = self.seed_of(number).map_or(0, |seed| crc(seed, &zeroed));
        ensure!(sum & mask == stored, "inode {number}: checksum");
        ensure!(
            le32(&raw, 0x64) == 0,
            "inode {number}: generation is not zero"
        );
        ensure!(
            !has_extra_fields || le16(&raw, 0x80) == 32,
            "inode {number}: i_extra_isize"
        );
        ensure!(le32(&raw, 0x14) == 0, "inode {number}: i_dtime");
        Ok(Inode { number, raw })
    }

    pub(crate) fn own(&mut self, start: u64, len: u64, owner: impl Into<String>) {
        if len > 0 {
            self.owners.push((start, len, owner.into()));
        }
    }

    fn own_fixed_structures(&mut self) {
        let geometry = &self.geometry;
        let table_blocks = geometry.inodes_per_group * geometry.inode_size / geometry.block;
        self.own(0, self.geometry.first, "boot block");
        for group in 0..self.geometry.groups {
            let header = self.geometry.header(group);
            self.own(
                self.geometry.start_of(group),
                header,
                format!("descriptors in group {group}"),
            );
            let descriptor = self.descriptors[to_usize(group)].clone();
            self.own(
                descriptor.block_bitmap(),
                1,
                format!("block bitmap {group}"),
            );
            self.own(
                descriptor.inode_bitmap(),
                1,
                format!("inode bitmap {group}"),
            );
            self.own(
                descriptor.inode_table(),
                table_blocks,
                format!("inode table {group}"),
            );
        }
    }

    /// The blocks of an inode with extents: all there, all owned, counted in `i_blocks`.
    pub(crate) fn map(&mut self, inode: &Inode, owner: &str) -> Checked<Mapping> {
        let seed = self.seed_of(inode.number);
        let mapping = extents::map(&|block| self.block(block), inode.i_block(), seed)
            .map_err(|error| format!("inode {} ({owner}): {error}", inode.number))?;
        let blocks = inode.size().div_ceil(self.geometry.block);
        let covers = if self.holes {
            mapping.ends_within(blocks)
        } else {
            mapping.is_gapless(blocks)
        };
        ensure!(
            covers,
            "inode {} ({owner}): blocks do not cover its {} bytes",
            inode.number,
            inode.size()
        );
        ensure!(
            inode.sectors() * 512
                == (mapping.blocks() + to_u64(mapping.nodes.len()) + blocks_besides(inode))
                    * self.geometry.block,
            "inode {} ({owner}): i_blocks",
            inode.number
        );
        for extent in &mapping.extents {
            self.own(extent.start, extent.len, owner);
        }
        for node in &mapping.nodes {
            self.own(*node, 1, format!("extent tree of {owner}"));
        }
        self.decoded.mappings.insert(inode.number, mapping.clone());
        Ok(mapping)
    }

    /// All names from the root.
    fn walk(&mut self) -> Checked<()> {
        let mut pending = vec![(Vec::new(), 2_u32, 2_u32)];
        self.visit(&[], 2, 2)?;
        while let Some((path, number, parent)) = pending.pop() {
            for (name, child, file_type) in self.directory(&path, number, parent)? {
                let mut child_path = path.clone();
                if !child_path.is_empty() {
                    child_path.push(b'/');
                }
                child_path.extend_from_slice(&name);
                let kind = self.visit(&child_path, child, file_type)?;
                if kind == 0o040_000 {
                    *self.names.entry(number).or_default() += 1;
                    pending.push((child_path, child, number));
                } else {
                    *self.names.entry(child).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    /// Reads what a name leads to; returns its type bits.
    fn visit(&mut self, path: &[u8], number: u32, file_type: u32) -> Checked<u16> {
        let shown = String::from_utf8_lossy(path).into_owned();
        let inode = self.inode(number)?;
        let kind = inode.kind();
        let expected = match kind {
            0o100_000 => 1,
            0o040_000 => 2,
            0o020_000 => 3,
            0o060_000 => 4,
            0o010_000 => 5,
            0o140_000 => 6,
            0o120_000 => 7,
            other => return Err(format!("{shown}: type {other:o}")),
        };
        ensure!(
            file_type == expected,
            "{shown}: file type {file_type} in the directory, {expected} in the inode"
        );
        let first_name = self.used_inodes.insert(number) || number == 2 || number == 11;
        let (uid, gid) = inode.owner();
        let mut item = Item {
            mode: inode.mode().into(),
            uid,
            gid,
            size: if kind == 0o040_000 { 0 } else { inode.size() },
            mtime: inode.mtime()?,
            links: le16(&inode.raw, 0x1a).into(),
            contents: Vec::new(),
            device: inode.device(),
        };
        ensure!(item.mtime.1 < 1_000_000_000, "{shown}: nanoseconds");
        if kind == 0o040_000 {
            self.decoded.directories.insert(number);
        }
        if first_name {
            self.decoded.first_paths.insert(number, path.to_vec());
            self.decoded.flags.insert(number, inode.flags());
            self.check_attributes(&inode, &shown)?;
            item.contents = self.contents(&inode, &shown)?;
        } else {
            ensure!(kind != 0o040_000, "{shown}: a second name of a directory");
            let first = self.decoded.first_paths.get(&number);
            let first = first.ok_or(format!("{shown}: inode {number} is reserved"))?;
            item.contents
                .clone_from(&self.decoded.items[first].contents);
        }
        self.decoded.items.insert(path.to_vec(), item);
        self.decoded.inodes.insert(path.to_vec(), number);
        Ok(kind)
    }

    fn contents(&mut self, inode: &Inode, shown: &str) -> Checked<Vec<u8>> {
        let has_extents = inode.flags() & 0x8_0000 != 0;
        if inode.kind() == 0o120_000 && inode.size() < 60 {
            ensure!(
                !has_extents
                    && inode.sectors() * 512 == blocks_besides(inode) * self.geometry.block,
                "{shown}: fast symlink with blocks"
            );
            let (target, rest) = inode.i_block().split_at(to_usize(inode.size()));
            ensure!(
                rest.iter().all(|byte| *byte == 0) && !target.contains(&0),
                "{shown}: padding of the target"
            );
            return Ok(target.to_vec());
        }
        if !matches!(inode.kind(), 0o040_000 | 0o100_000 | 0o120_000) {
            ensure!(
                !has_extents
                    && inode.size() == 0
                    && inode.sectors() * 512 == blocks_besides(inode) * self.geometry.block,
                "{shown}: a special file with blocks"
            );
            return Ok(Vec::new());
        }
        ensure!(has_extents, "{shown}: no extents");
        let mapping = self.map(inode, shown)?;
        if inode.kind() == 0o040_000 || inode.size() > CONTENTS_MAX {
            return Ok(Vec::new());
        }
        let block = self.geometry.block;
        // What no extent reaches is a hole.
        let mut bytes = vec![0; to_usize(inode.size().next_multiple_of(block))];
        for extent in &mapping.extents {
            let start = to_usize(extent.file_block * block);
            let part = &mut bytes[start..start + to_usize(extent.len * block)];
            (self.read)(extent.start * block, part)?;
        }
        let (bytes, padding) = bytes.split_at(to_usize(inode.size()));
        ensure!(
            padding.iter().all(|byte| *byte == 0),
            "{shown}: padding of the last block"
        );
        if inode.kind() == 0o120_000 {
            ensure!(inode.size() < block, "{shown}: target of a block or more");
            return Ok(bytes.to_vec());
        }
        Ok(Sha256::digest(bytes).to_vec())
    }

    /// The names in a directory without `.` and `..`: name, inode, file type.
    fn directory(&mut self, path: &[u8], number: u32, parent: u32) -> Checked<Vec<Name>> {
        let shown = String::from_utf8_lossy(path).into_owned();
        let mapping = self.decoded.mappings[&number].clone();
        let blocks = mapping.block_numbers();
        let seed = self.seed_of(number);
        let indexed = self.decoded.flags[&number] & 0x1000 != 0;
        let fail = |error: String| format!("directory /{shown}: {error}");
        let read = |index: u64| -> Checked<Vec<u8>> {
            let block = blocks
                .get(to_usize(index))
                .ok_or(format!("block {index} is beyond its end"))?;
            self.block(*block)
        };
        let (leaves, levels) = if indexed {
            let (leaves, levels) =
                super::directory::index(&read, to_u64(blocks.len()), seed).map_err(fail)?;
            (leaves, Some(levels))
        } else {
            ((0..to_u64(blocks.len())).collect(), None)
        };
        let mut names = Vec::new();
        if indexed {
            names.extend(super::directory::dots(&read(0)?).map_err(fail)?);
        }
        for leaf in leaves {
            names.extend(super::directory::leaf(&read(leaf)?, seed).map_err(fail)?);
        }
        let dots: Vec<Name> = names.drain(..2.min(names.len())).collect();
        let expected = [(b".".to_vec(), number, 2), (b"..".to_vec(), parent, 2)];
        ensure!(dots == expected, "directory /{shown}: `.` and `..`");
        let unique: BTreeSet<&[u8]> = names.iter().map(|name| name.0.as_slice()).collect();
        ensure!(
            unique.len() == names.len() && !unique.contains(b".".as_slice()),
            "directory /{shown}: a name twice"
        );
        self.decoded.index_levels.insert(levels);
        Ok(names)
    }

    fn check_links(&mut self) -> Checked<()> {
        for (path, item) in &mut self.decoded.items {
            let number = self.decoded.inodes[path];
            let names = self.names.get(&number).copied().unwrap_or(0);
            let expected = if item.mode & 0o170_000 == 0o040_000 {
                names + 2
            } else {
                names
            };
            // Only what is beyond 65,000 is stored as "many".
            let stored = if expected > 65_000 { 1 } else { expected };
            ensure!(
                item.links == stored,
                "/{}: {} links, {expected} names",
                String::from_utf8_lossy(path),
                item.links
            );
            item.links = expected;
        }
        Ok(())
    }
}

/// A name in a directory: its bytes, inode and file type.
pub(crate) type Name = (Vec<u8>, u32, u32);
