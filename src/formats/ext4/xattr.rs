//! Extended attributes: in the inode behind its extra fields, and in a block of their own.
//!
//! Kernel `fs/ext4/xattr.h` and `fs/ext4/acl.h`. A block's entries are sorted by (index, length of name, name): the
//! kernel searches them that way, and an unsorted block would lose attributes without any complaint of e2fsck.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::checksum::Checksum;
use super::geometry::Geometry;
use super::inode;

/// How many inodes may share a block (`EXT4_XATTR_REFCOUNT_MAX`).
pub const BLOCK_SHARERS_MAX: u32 = 1024;

const EXT4_XATTR_MAGIC: u32 = 0xea02_0000;
const MAGIC_LEN: usize = 4;
const TERMINATOR_LEN: usize = 4;
const BLOCK_HEADER_LEN: usize = 32;
const ENTRY_HEADER_LEN: usize = 16;

/// Name prefixes that are stored as a number (`EXT4_XATTR_INDEX_*`). A name that is all prefix comes first.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"system.posix_acl_access", INDEX_POSIX_ACL_ACCESS),
    (b"system.posix_acl_default", INDEX_POSIX_ACL_DEFAULT),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
];
const INDEX_POSIX_ACL_ACCESS: u8 = 2;
const INDEX_POSIX_ACL_DEFAULT: u8 = 3;

/// `struct ext4_xattr_entry`, without the name behind it.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel fs/ext4/xattr.h")]
pub struct RawXattrEntry {
    pub e_name_len: u8,
    pub e_name_index: u8,
    pub e_value_offs: U16,
    pub e_value_inum: U32,
    pub e_value_size: U32,
    pub e_hash: U32,
}

/// `struct ext4_xattr_header`.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel fs/ext4/xattr.h")]
pub struct RawXattrHeader {
    pub h_magic: U32,
    pub h_refcount: U32,
    pub h_blocks: U32,
    pub h_hash: U32,
    pub h_checksum: U32,
    pub h_reserved: [U32; 3],
}

const _: () = assert!(size_of::<RawXattrEntry>() == ENTRY_HEADER_LEN);
const _: () = assert!(size_of::<RawXattrHeader>() == BLOCK_HEADER_LEN);

/// One attribute as ext4 stores it. The order is that of blocks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attribute {
    index: u8,
    name_len: u8,
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// Why an attribute of the host has no form in ext4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// The prefix has no number.
    #[error("the prefix of its name is unknown to ext4")]
    UnknownPrefix,
    /// The name is longer than 255 bytes.
    #[error("its name is longer than 255 bytes")]
    NameTooLong,
    /// The ACL is not of the form that Linux gives.
    #[error("it is no POSIX ACL of version 2")]
    BadAcl,
}

impl Attribute {
    /// The stored form of an attribute as `getxattr` gives it.
    ///
    /// # Errors
    /// [`AttributeError`] says what ext4 has no place for.
    pub fn from_host(name: &[u8], value: &[u8]) -> Result<Self, AttributeError> {
        let (index, rest) = PREFIXES
            .iter()
            .find_map(|(prefix, index)| Some((*index, name.strip_prefix(*prefix)?)))
            .ok_or(AttributeError::UnknownPrefix)?;
        let is_acl = matches!(index, INDEX_POSIX_ACL_ACCESS | INDEX_POSIX_ACL_DEFAULT);
        if is_acl != rest.is_empty() {
            return Err(AttributeError::UnknownPrefix);
        }
        let name_len = u8::try_from(rest.len()).map_err(|_| AttributeError::NameTooLong)?;
        let value = if is_acl {
            acl_to_disk(value)?
        } else {
            value.to_vec()
        };
        Ok(Self {
            index,
            name_len,
            name: rest.into(),
            value: value.into(),
        })
    }

    /// Bytes that the attribute takes: entry, name and value, each rounded up to 4.
    #[must_use]
    pub fn stored_len(&self) -> usize {
        let name = self.name.len().next_multiple_of(4);
        ENTRY_HEADER_LEN
            .saturating_add(name)
            .saturating_add(self.value.len().next_multiple_of(4))
    }

    /// Whether it should rather be in the inode: what every access asks for.
    #[must_use]
    pub const fn is_hot(&self) -> bool {
        matches!(self.index, 2 | 3 | 6)
    }

    /// Kernel `ext4_xattr_hash_entry`: the name's bytes, then the value's words.
    fn hash(&self) -> u32 {
        let of_name = self
            .name
            .iter()
            .fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(of_name, |hash, chunk| {
            let mut word = [0; 4];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

/// `struct ext4_acl_header` and its entries: short ones where the tag needs no id.
fn acl_to_disk(value: &[u8]) -> Result<Vec<u8>, AttributeError> {
    const ACL_USER: u16 = 2;
    const ACL_GROUP: u16 = 8;
    let (version, entries) = value
        .split_first_chunk::<4>()
        .ok_or(AttributeError::BadAcl)?;
    if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
        return Err(AttributeError::BadAcl);
    }
    let mut disk = 1_u32.to_le_bytes().to_vec();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let has_id = matches!(tag, ACL_USER | ACL_GROUP);
        disk.extend_from_slice(if has_id { entry } else { &entry[..4] });
    }
    Ok(disk)
}

/// Bytes that entries and values may take in an inode, the terminator not counted; 0 in one of 128 bytes.
#[must_use]
pub const fn in_inode_room(geometry: &Geometry) -> usize {
    inode::xattr_area_len(geometry)
        .saturating_sub(MAGIC_LEN)
        .saturating_sub(TERMINATOR_LEN)
}

/// Bytes that entries and values may take in a block, the terminator not counted.
#[must_use]
pub const fn block_room(geometry: &Geometry) -> usize {
    geometry
        .block_len()
        .saturating_sub(BLOCK_HEADER_LEN)
        .saturating_sub(TERMINATOR_LEN)
}

/// The area behind an inode's extra fields, empty without attributes. Sorted like a block, though the kernel does not
/// ask for it there.
///
/// # Panics
/// If the attributes take more than [`in_inode_room`].
#[must_use]
pub fn in_inode(attributes: &[Attribute], geometry: &Geometry) -> Box<[u8]> {
    if attributes.is_empty() {
        return Box::default();
    }
    let mut area = vec![0; inode::xattr_area_len(geometry)];
    let (magic, entries) = area.split_at_mut(MAGIC_LEN);
    magic.copy_from_slice(&EXT4_XATTR_MAGIC.to_le_bytes());
    // Values are addressed from the first entry; the hash is left 0, as the kernel does.
    write_entries(entries, 0, attributes, |_| 0);
    area.into()
}

/// Writes a block of attributes that `sharers` inodes refer to, with its checksum if there is the file system's seed
/// (kernel `ext4_xattr_block_csum`).
///
/// # Panics
/// If the attributes take more than [`block_room`].
pub fn block(
    block: &mut [u8],
    attributes: &[Attribute],
    sharers: u32,
    seed: Option<Checksum>,
    block_number: u64,
) {
    let (header, entries) = block.split_at_mut(BLOCK_HEADER_LEN);
    write_entries(entries, BLOCK_HEADER_LEN, attributes, Attribute::hash);
    let mut raw = RawXattrHeader {
        h_magic: EXT4_XATTR_MAGIC.into(),
        h_refcount: sharers.into(),
        h_blocks: 1.into(),
        h_hash: block_hash(attributes).into(),
        h_checksum: U32::ZERO,
        h_reserved: [U32::ZERO; 3],
    };
    if let Some(seed) = seed {
        let checksum = seed
            .update(&block_number.to_le_bytes())
            .update(raw.as_bytes())
            .update(entries);
        raw.h_checksum = checksum.value().into();
    }
    header.copy_from_slice(raw.as_bytes());
}

/// Kernel `ext4_xattr_rehash`; an entry without a hash leaves the block without one.
fn block_hash(attributes: &[Attribute]) -> u32 {
    let mut block_hash = 0_u32;
    for attribute in attributes {
        match attribute.hash() {
            0 => return 0,
            hash => block_hash = block_hash.rotate_left(16) ^ hash,
        }
    }
    block_hash
}

/// Entries from the front, values from the back; `base` is where offsets of values count from, before `area`.
fn write_entries(
    area: &mut [u8],
    base: usize,
    attributes: &[Attribute],
    hash: impl Fn(&Attribute) -> u32,
) {
    let mut front = 0_usize;
    let mut back = area.len();
    for attribute in attributes {
        let value_len = attribute.value.len();
        back = back
            .checked_sub(value_len.next_multiple_of(4))
            .expect("the plan counted the room");
        area[back..][..value_len].copy_from_slice(&attribute.value);
        // An empty value lies nowhere.
        let offset = if value_len == 0 {
            0
        } else {
            back.saturating_add(base)
        };
        let raw = RawXattrEntry {
            e_name_len: attribute.name_len,
            e_name_index: attribute.index,
            e_value_offs: u16::try_from(offset)
                .expect("offsets lie within a block")
                .into(),
            e_value_inum: U32::ZERO,
            e_value_size: u32::try_from(value_len).expect("values fit a block").into(),
            e_hash: hash(attribute).into(),
        };
        area[front..][..ENTRY_HEADER_LEN].copy_from_slice(raw.as_bytes());
        area[front..][ENTRY_HEADER_LEN..][..attribute.name.len()].copy_from_slice(&attribute.name);
        front = front
            .saturating_add(ENTRY_HEADER_LEN)
            .saturating_add(attribute.name.len().next_multiple_of(4));
        assert!(
            front.saturating_add(TERMINATOR_LEN) <= back,
            "the plan counted the room"
        );
    }
}

/// Attributes split into those in the inode and those in a block, both sorted; `None` if they do not fit both.
#[must_use]
pub fn split(
    attributes: &[Attribute],
    geometry: &Geometry,
) -> Option<(Vec<Attribute>, Vec<Attribute>)> {
    let mut by_heat: Vec<&Attribute> = attributes.iter().collect();
    by_heat.sort_by_key(|attribute| (!attribute.is_hot(), *attribute));
    let (mut inode, mut block) = (Vec::new(), Vec::new());
    let mut room = in_inode_room(geometry);
    for attribute in by_heat {
        match room.checked_sub(attribute.stored_len()) {
            Some(rest) => {
                room = rest;
                inode.push(attribute.clone());
            }
            None => block.push(attribute.clone()),
        }
    }
    inode.sort();
    block.sort();
    let block_len: usize = block.iter().map(Attribute::stored_len).sum();
    (block_len <= block_room(geometry)).then_some((inode, block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ext4::geometry::Features;

    fn attribute(name: &str, value: &[u8]) -> Attribute {
        Attribute::from_host(name.as_bytes(), value).unwrap()
    }

    #[test]
    fn encodes_reference_bytes() {
        // `setfattr -n user.a -v hello` on a file of an ext4 with 256-byte inodes: the inode's last 96 bytes by
        // `debugfs -R "inode_dump …"`.
        let area = in_inode(&[attribute("user.a", b"hello")], &Geometry::STD);
        assert_eq!(area[..4], [0, 0, 2, 0xea]);
        assert_eq!(
            area[4..24],
            [
                1, 1, 84, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, b'a', 0, 0, 0
            ]
        );
        assert_eq!(&area[88..], b"hello\0\0\0");
    }

    #[test]
    fn names_become_index_and_rest() {
        assert_eq!(attribute("security.capability", b"x").index, 6);
        assert_eq!(attribute("trusted.x", b"").name.as_ref(), b"x");
        assert_eq!(
            Attribute::from_host(b"system.nfs4_acl", b""),
            Err(AttributeError::UnknownPrefix)
        );
        assert_eq!(
            Attribute::from_host(b"user.", b""),
            Err(AttributeError::UnknownPrefix)
        );
        assert_eq!(
            Attribute::from_host(b"system.posix_acl_access", b"x"),
            Err(AttributeError::BadAcl)
        );
    }

    #[test]
    fn acl_entries_without_id_are_short() {
        // user::rw-, user:1000:r--, group::r--, mask::r--, other::---
        let mut host = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in [
            (1_u16, 6_u16, u32::MAX),
            (2, 4, 1000),
            (4, 4, u32::MAX),
            (0x10, 4, u32::MAX),
            (0x20, 0, u32::MAX),
        ] {
            host.extend(tag.to_le_bytes());
            host.extend(permissions.to_le_bytes());
            host.extend(id.to_le_bytes());
        }
        let disk = acl_to_disk(&host).unwrap();
        assert_eq!(
            disk,
            [
                1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 0x10, 0, 4, 0, 0x20,
                0, 0, 0
            ]
        );
    }

    #[test]
    fn blocks_are_sorted_by_index_length_and_name() {
        let mut all = [
            attribute("security.z", b"1"),
            attribute("user.bb", b"2"),
            attribute("user.c", b"3"),
            attribute("user.a", b"4"),
        ];
        all.sort();
        let order: Vec<(u8, &[u8])> = all.iter().map(|one| (one.index, &*one.name)).collect();
        assert_eq!(order, [(1, &b"a"[..]), (1, b"c"), (1, b"bb"), (6, b"z")]);
    }

    #[test]
    fn what_does_not_fit_the_inode_goes_to_the_block() {
        let all = [
            attribute("user.large", &[7; 500]),
            attribute("security.capability", &[1; 20]),
        ];
        let (inode, block) = split(&all, &Geometry::STD).unwrap();
        assert_eq!((inode.len(), block.len()), (1, 1));
        assert_eq!(inode[0].index, 6);
        assert!(split(&[attribute("user.huge", &[7; 4060])], &Geometry::STD).is_none());
    }

    #[test]
    fn room_follows_the_sizes_of_inodes_and_blocks() {
        for (block_size, inode_size, rooms) in [
            (4096, 256, (88, 4060)),
            (4096, 128, (0, 4060)),
            (1024, 1024, (856, 988)),
        ] {
            let geometry = Geometry::new(block_size, inode_size, Features::STD);
            assert_eq!((in_inode_room(&geometry), block_room(&geometry)), rooms);
        }
        let old = Geometry::new(4096, 128, Features::STD);
        let (inode, block) = split(&[attribute("user.a", b"")], &old).unwrap();
        assert_eq!((inode.len(), block.len()), (0, 1));
    }

    #[test]
    #[should_panic(expected = "counted the room")]
    fn rejects_overflow() {
        let _area = in_inode(&[attribute("user.large", &[7; 80])], &Geometry::STD);
    }
}
