//! The directory index: the hash of names, and the root and inner nodes that lead from a hash to a leaf.
//!
//! Kernel `fs/ext4/hash.c` (half MD4) and `fs/ext4/namei.c` (`struct dx_root`, `struct dx_node`).

use super::checksum::Checksum;
use super::dir::{DirEntry, FileType, write_entry};
use super::geometry::Geometry;

/// `DX_HASH_HALF_MD4`; that names are signed bytes is said by the superblock.
const DX_HASH_HALF_MD4: u8 = 1;
/// Where the entries of the root begin, behind `.`, `..` and `struct dx_root_info`.
const ROOT_ENTRIES_OFFSET: usize = 32;
/// Where the entries of a node begin, behind an entry that covers the block.
const NODE_ENTRIES_OFFSET: usize = 8;
/// `struct dx_entry`: hash and block; the first one holds limit and count instead of a hash.
const ENTRY_LEN: usize = 8;

/// `struct dx_tail`, behind the last possible entry.
const TAIL_LEN: usize = 8;

/// Children of the root: 507 in a block of 4096 bytes whose checksum is behind them.
#[must_use]
pub const fn root_children_max(geometry: &Geometry) -> usize {
    children_max(
        geometry.block_len(),
        ROOT_ENTRIES_OFFSET,
        geometry.has_checksums(),
    )
}

/// Children of an inner node: 510 in a block of 4096 bytes whose checksum is behind them.
#[must_use]
pub const fn node_children_max(geometry: &Geometry) -> usize {
    children_max(
        geometry.block_len(),
        NODE_ENTRIES_OFFSET,
        geometry.has_checksums(),
    )
}

const fn children_max(block_len: usize, offset: usize, has_tail: bool) -> usize {
    let tail_len = if has_tail { TAIL_LEN } else { 0 };
    block_len.saturating_sub(offset).saturating_sub(tail_len) / ENTRY_LEN
}

/// The hash seed of a file system: `s_hash_seed` as four little-endian words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashSeed(pub [u32; 4]);

/// A child of an index node: names with at least this hash (up to the next child's) are found there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Lowest hash; not stored for the first child.
    pub hash: u32,
    /// Block within the directory.
    pub block: u32,
}

impl HashSeed {
    /// The seed from its 16 bytes in the superblock.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(chunk.try_into().expect("chunks of four bytes"));
        }
        Self(words)
    }

    /// The major hash of a name, its lowest bit clear (kernel `__ext4fs_dirhash`, half MD4 over signed bytes).
    #[must_use]
    pub fn hash(self, name: &[u8]) -> u32 {
        const MD4_START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
        /// `EXT4_HTREE_EOF_32BIT` is no hash of a name.
        const END_OF_DIRECTORY: u32 = 0xffff_fffe;
        let mut state = if self.0 == [0; 4] { MD4_START } else { self.0 };
        let mut rest = name;
        while !rest.is_empty() {
            half_md4_transform(&mut state, &name_words(rest));
            rest = rest.get(32..).unwrap_or_default();
        }
        let hash = state[1] & !1;
        if hash == END_OF_DIRECTORY {
            END_OF_DIRECTORY.wrapping_sub(2)
        } else {
            hash
        }
    }
}

/// Up to 32 bytes of a name as eight words, padded with its length (kernel `str2hashbuf_signed`).
fn name_words(name: &[u8]) -> [u32; 8] {
    let len = u32::try_from(name.len()).expect("a name has at most 255 bytes");
    let pad = len | (len << 8) | (len << 16) | (len << 24);
    let mut words = [pad; 8];
    for (word, chunk) in words.iter_mut().zip(name.chunks(4)) {
        for byte in chunk {
            let signed = i32::from(i8::from_ne_bytes([*byte]));
            *word = word
                .wrapping_shl(8)
                .wrapping_add(u32::from_ne_bytes(signed.to_ne_bytes()));
        }
    }
    words
}

/// Three rounds of MD4 with half the words in each (kernel `half_md4_transform`).
fn half_md4_transform(state: &mut [u32; 4], input: &[u32; 8]) {
    const ROUNDS: [(u32, [usize; 8], [u32; 4]); 3] = [
        (0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (0x5a82_7999, [1, 3, 5, 7, 0, 2, 4, 6], [3, 5, 9, 13]),
        (0x6ed9_eba1, [3, 7, 2, 6, 1, 5, 0, 4], [3, 9, 11, 15]),
    ];
    let [mut a, mut b, mut c, mut d] = *state;
    for (round, (constant, order, shifts)) in ROUNDS.iter().enumerate() {
        for (index, shift) in order.iter().zip(shifts.iter().cycle()) {
            let mixed = match round {
                0 => d ^ (b & (c ^ d)),
                1 => (b & c).wrapping_add((b ^ c) & d),
                _ => b ^ c ^ d,
            };
            let sum = a
                .wrapping_add(mixed)
                .wrapping_add(input[*index])
                .wrapping_add(*constant);
            (a, b, c, d) = (d, sum.rotate_left(*shift), b, c);
        }
    }
    for (word, value) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(value);
    }
}

/// Writes the first block of an indexed directory.
///
/// # Panics
/// If there are no children or more than [`root_children_max`].
pub fn root(
    block: &mut [u8],
    (inode, parent_inode): (u32, u32),
    levels: u8,
    children: &[Child],
    inode_seed: Option<Checksum>,
) {
    let block_len = block.len();
    let dot = DirEntry {
        inode,
        file_type: FileType::Directory,
        name: b".",
    };
    let dot_dot = DirEntry {
        inode: parent_inode,
        file_type: FileType::Directory,
        name: b"..",
    };
    write_entry(&mut block[..12], &dot, 12);
    // Readers that know no index see one entry up to the end of the block.
    write_entry(&mut block[12..24], &dot_dot, block_len.saturating_sub(12));
    block[28] = DX_HASH_HALF_MD4;
    block[29] = 8;
    block[30] = levels;
    write_children(block, ROOT_ENTRIES_OFFSET, children, inode_seed);
}

/// Writes an inner node of the index.
///
/// # Panics
/// If there are no children or more than [`node_children_max`].
pub fn node(block: &mut [u8], children: &[Child], inode_seed: Option<Checksum>) {
    let rec_len = u16::try_from(block.len()).expect("a block has at most 4096 bytes");
    block[4..6].copy_from_slice(&rec_len.to_le_bytes());
    write_children(block, NODE_ENTRIES_OFFSET, children, inode_seed);
}

/// Entries, then the checksum over the used ones and the tail's reserved word (kernel `ext4_dx_csum`).
fn write_children(
    block: &mut [u8],
    offset: usize,
    children: &[Child],
    inode_seed: Option<Checksum>,
) {
    let count = children.len();
    let children_max = children_max(block.len(), offset, inode_seed.is_some());
    assert!(
        count > 0 && count <= children_max,
        "an index node holds 1 to {children_max} children"
    );
    let used_end = offset.saturating_add(count.saturating_mul(ENTRY_LEN));
    for (slot, child) in block[offset..used_end]
        .chunks_exact_mut(ENTRY_LEN)
        .zip(children)
    {
        slot[..4].copy_from_slice(&child.hash.to_le_bytes());
        slot[4..].copy_from_slice(&child.block.to_le_bytes());
    }
    let to_u16 = |value: usize| {
        u16::try_from(value)
            .expect("at most 511 children")
            .to_le_bytes()
    };
    block[offset..offset.saturating_add(2)].copy_from_slice(&to_u16(children_max));
    block[offset.saturating_add(2)..offset.saturating_add(4)].copy_from_slice(&to_u16(count));
    let Some(seed) = inode_seed else {
        return;
    };
    let checksum = seed.update(&block[..used_end]).update(&[0; TAIL_LEN]);
    let sum_at = offset
        .saturating_add(children_max.saturating_mul(ENTRY_LEN))
        .saturating_add(4);
    block[sum_at..sum_at.saturating_add(4)].copy_from_slice(&checksum.value().to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `debugfs -R "dx_hash -h half_md4 [-s 01020304-0506-0708-090a-0b0c0d0e0f10] NAME"` of e2fsprogs 1.47.0:
    /// name, hash without a seed, hash with that seed.
    const HASHES: &[(&[u8], u32, u32)] = &[
        (b"vmlinuz", 0x1c85_057a, 0x2654_c674),
        (b"a", 0xd5fa_7d7a, 0x8d08_ec4c),
        (b"lost+found", 0x591d_e422, 0x694c_8bb4),
        (
            b"this-is-a-name-of-more-than-thirty-two-bytes-in-all",
            0xaf28_11a0,
            0xaf90_0434,
        ),
        ("grüße".as_bytes(), 0xd75e_0ad8, 0x502c_a218),
    ];

    #[test]
    fn hashes_equal_debugfs() {
        let seeded = HashSeed::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        for (name, plain, with_seed) in HASHES {
            let text = String::from_utf8_lossy(name);
            assert_eq!(HashSeed([0; 4]).hash(name), *plain, "{text}");
            assert_eq!(seeded.hash(name), *with_seed, "{text}");
        }
    }

    #[test]
    fn index_blocks_carry_limit_count_and_checksum() {
        let seed = Checksum::of_uuid(&[9; 16]).of_inode(20);
        let children = [
            Child { hash: 0, block: 1 },
            Child {
                hash: 0x8000_0000,
                block: 2,
            },
        ];
        let mut block = [0; 4096];
        root(&mut block, (20, 2), 0, &children, Some(seed));
        assert_eq!(block[..14], [20, 0, 0, 0, 12, 0, 1, 2, b'.', 0, 0, 0, 2, 0]);
        assert_eq!(block[16..18], 4084_u16.to_le_bytes());
        assert_eq!(block[24..32], [0, 0, 0, 0, 1, 8, 0, 0]);
        assert_eq!(block[32..36], [0xfb, 1, 2, 0]);
        assert_eq!(block[36..48], [1, 0, 0, 0, 0, 0, 0, 0x80, 2, 0, 0, 0]);
        assert_eq!(
            block[4092..],
            seed.update(&block[..48])
                .update(&[0; 8])
                .value()
                .to_le_bytes()
        );
        let mut inner = [0; 4096];
        node(&mut inner, &children, Some(seed));
        assert_eq!(inner[..8], [0, 0, 0, 0, 0, 16, 0, 0]);
        assert_eq!(inner[8..12], [0xfe, 1, 2, 0]);
    }

    #[test]
    fn limits_follow_block_size_and_checksums() {
        for (block_len, with, without) in [
            (1024, (123, 126), (124, 127)),
            (4096, (507, 510), (508, 511)),
        ] {
            let both = |has_tail| {
                (
                    children_max(block_len, ROOT_ENTRIES_OFFSET, has_tail),
                    children_max(block_len, NODE_ENTRIES_OFFSET, has_tail),
                )
            };
            assert_eq!((both(true), both(false)), (with, without), "{block_len}");
        }
    }
}
