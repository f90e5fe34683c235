//! The extent tree (kernel `fs/ext4/ext4_extents.h`): which blocks of a file lie where.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::checksum::Checksum;
use super::geometry::Geometry;
use crate::units::{high32, low16, low32};

/// Extents that fit the inode.
pub const INLINE_EXTENTS_MAX: usize = 4;
/// Blocks of one initialised extent at most (`EXT_INIT_MAX_LEN`); longer lengths mean "unwritten".
pub const EXTENT_LEN_MAX: u64 = 32_768;

const EXT4_EXT_MAGIC: u16 = 0xf30a;
const ENTRY_LEN: usize = 12;
/// `struct ext4_extent_tail`, behind the entries: there are always 4 bytes left, as no block size is a multiple of 12.
const TAIL_LEN: usize = 4;

/// Entries that fit a block of the tree: 340 in one of 4096 bytes, 84 in one of 1024.
#[must_use]
pub const fn block_extents_max(geometry: &Geometry) -> usize {
    extents_max(geometry.block_len())
}

const fn extents_max(block_len: usize) -> usize {
    block_len.saturating_sub(ENTRY_LEN) / ENTRY_LEN
}

/// `struct ext4_extent_header`.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel fs/ext4/ext4_extents.h")]
pub struct RawExtentHeader {
    pub eh_magic: U16,
    pub eh_entries: U16,
    pub eh_max: U16,
    pub eh_depth: U16,
    pub eh_generation: U32,
}

/// `struct ext4_extent`: a leaf entry.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel fs/ext4/ext4_extents.h")]
pub struct RawExtent {
    pub ee_block: U32,
    pub ee_len: U16,
    pub ee_start_hi: U16,
    pub ee_start_lo: U32,
}

/// `struct ext4_extent_idx`: an entry of an inner node.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel fs/ext4/ext4_extents.h")]
pub struct RawExtentIdx {
    pub ei_block: U32,
    pub ei_leaf_lo: U32,
    pub ei_leaf_hi: U16,
    pub ei_unused: U16,
}

const _: () = assert!(size_of::<RawExtentHeader>() == ENTRY_LEN);
const _: () = assert!(size_of::<RawExtent>() == ENTRY_LEN);
const _: () = assert!(size_of::<RawExtentIdx>() == ENTRY_LEN);

/// Consecutive blocks of a file in consecutive blocks of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First block within the file.
    pub file_block: u32,
    /// Number of blocks, 1 to [`EXTENT_LEN_MAX`].
    pub len: u16,
    /// First block within the file system.
    pub start: u64,
}

/// A node of the tree one level down, and the first file block it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentIndex {
    /// First block within the file.
    pub file_block: u32,
    /// The block that holds the node.
    pub node: u64,
}

impl Extent {
    fn to_raw(self) -> RawExtent {
        RawExtent {
            ee_block: self.file_block.into(),
            ee_len: self.len.into(),
            ee_start_hi: low16(high32(self.start)).into(),
            ee_start_lo: low32(self.start).into(),
        }
    }
}

impl ExtentIndex {
    fn to_raw(self) -> RawExtentIdx {
        RawExtentIdx {
            ei_block: self.file_block.into(),
            ei_leaf_lo: low32(self.node).into(),
            ei_leaf_hi: low16(high32(self.node)).into(),
            ei_unused: U16::ZERO,
        }
    }
}

/// The entries of one node.
#[derive(Debug, Clone, Copy)]
pub enum Entries<'a> {
    /// A leaf.
    Leaf(&'a [Extent]),
    /// An inner node and its height above the leaves, at least 1.
    Index(&'a [ExtentIndex], u16),
}

impl Entries<'_> {
    fn write(self, buf: &mut [u8], entries_max: usize) {
        let (count, depth) = match self {
            Self::Leaf(extents) => (extents.len(), 0),
            Self::Index(indices, depth) => (indices.len(), depth),
        };
        let header = RawExtentHeader {
            eh_magic: EXT4_EXT_MAGIC.into(),
            eh_entries: count_u16(count).into(),
            eh_max: count_u16(entries_max).into(),
            eh_depth: depth.into(),
            eh_generation: U32::ZERO,
        };
        buf.fill(0);
        let (head, body) = buf.split_at_mut(ENTRY_LEN);
        head.copy_from_slice(header.as_bytes());
        let slots = body.chunks_exact_mut(ENTRY_LEN);
        match self {
            Self::Leaf(extents) => {
                for (slot, extent) in slots.zip(extents) {
                    slot.copy_from_slice(extent.to_raw().as_bytes());
                }
            }
            Self::Index(indices, _) => {
                for (slot, index) in slots.zip(indices) {
                    slot.copy_from_slice(index.to_raw().as_bytes());
                }
            }
        }
    }
}

/// The root of a tree as it lies in an inode's `i_block`.
///
/// # Panics
/// If there are more than [`INLINE_EXTENTS_MAX`] entries.
#[must_use]
pub fn root(entries: Entries<'_>) -> [u8; 60] {
    let mut bytes = [0; 60];
    assert!(
        entry_count(entries) <= INLINE_EXTENTS_MAX,
        "the root holds four entries"
    );
    entries.write(&mut bytes, INLINE_EXTENTS_MAX);
    bytes
}

/// Writes a node of a tree in a block of its own, with its checksum (kernel `ext4_extent_block_csum`).
///
/// # Panics
/// If there are more than [`block_extents_max`] entries.
pub fn node(block: &mut [u8], entries: Entries<'_>, inode_seed: Option<Checksum>) {
    let entries_max = extents_max(block.len());
    assert!(
        entry_count(entries) <= entries_max,
        "a block holds {entries_max} entries"
    );
    let (body, rest) = block.split_at_mut(ENTRY_LEN.saturating_mul(entries_max.saturating_add(1)));
    entries.write(body, entries_max);
    if let Some(seed) = inode_seed {
        rest[..TAIL_LEN].copy_from_slice(&seed.update(body).value().to_le_bytes());
    }
}

fn entry_count(entries: Entries<'_>) -> usize {
    match entries {
        Entries::Leaf(extents) => extents.len(),
        Entries::Index(indices, _) => indices.len(),
    }
}

fn count_u16(count: usize) -> u16 {
    u16::try_from(count).expect("a node holds at most 340 entries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_reference_bytes() {
        // i_block of lost+found on 64 MiB by mke2fs 1.47.0, shown by `debugfs -R "inode_dump <11>"`.
        let bytes = root(Entries::Leaf(&[Extent {
            file_block: 0,
            len: 4,
            start: 7,
        }]));
        assert_eq!(bytes[..12], [0x0a, 0xf3, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[12..24], [0, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0]);
        assert!(bytes[24..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn nodes_carry_their_checksum_at_the_end() {
        let seed = Checksum::of_uuid(&[7; 16]).of_inode(12);
        let mut block = [0; 4096];
        node(
            &mut block,
            Entries::Index(
                &[ExtentIndex {
                    file_block: 340,
                    node: 0x1_0000_0002,
                }],
                1,
            ),
            Some(seed),
        );
        assert_eq!(block[..12], [0x0a, 0xf3, 1, 0, 0x54, 1, 1, 0, 0, 0, 0, 0]);
        assert_eq!(block[12..24], [0x54, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(
            block[4092..],
            seed.update(&block[..4092]).value().to_le_bytes()
        );
    }

    #[test]
    fn the_tail_follows_the_entries_at_every_block_size() {
        for (block_len, entries_max, tail) in
            [(1024, 84, 1020), (2048, 169, 2040), (4096, 340, 4092)]
        {
            assert_eq!(extents_max(block_len), entries_max);
            let seed = Checksum::START.of_inode(12);
            let mut block = vec![0; block_len];
            let extent = Extent {
                file_block: 0,
                len: 1,
                start: 9,
            };
            node(&mut block, Entries::Leaf(&[extent]), Some(seed));
            let sum = seed.update(&block[..tail]).value();
            assert_eq!(block[tail..][..4], sum.to_le_bytes());
            let mut bare = vec![0; block_len];
            node(&mut bare, Entries::Leaf(&[extent]), None);
            assert_eq!(bare[..tail], block[..tail]);
            assert!(bare[tail..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    #[should_panic(expected = "four entries")]
    fn rejects_overflow() {
        let extent = Extent {
            file_block: 0,
            len: 1,
            start: 1,
        };
        let _root = root(Entries::Leaf(&[extent; 5]));
    }
}
