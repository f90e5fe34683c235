//! Directory blocks: entries (`struct ext4_dir_entry_2`) and the checksum behind them.

use super::checksum::Checksum;
use super::geometry::Geometry;

/// `struct ext4_dir_entry_tail`.
const TAIL_LEN: usize = 12;
/// Bytes of an entry before its name.
const HEADER_LEN: usize = 8;
/// The file type by which a reader knows the tail.
const EXT4_FT_DIR_CSUM: u8 = 0xde;

/// File type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// Regular file (`EXT4_FT_REG_FILE`).
    Regular,
    /// Directory (`EXT4_FT_DIR`).
    Directory,
    /// Character device (`EXT4_FT_CHRDEV`).
    CharacterDevice,
    /// Block device (`EXT4_FT_BLKDEV`).
    BlockDevice,
    /// Named pipe (`EXT4_FT_FIFO`).
    Fifo,
    /// Socket (`EXT4_FT_SOCK`).
    Socket,
    /// Symlink (`EXT4_FT_SYMLINK`).
    Symlink,
}

impl FileType {
    const fn code(self) -> u8 {
        match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::CharacterDevice => 3,
            Self::BlockDevice => 4,
            Self::Fifo => 5,
            Self::Socket => 6,
            Self::Symlink => 7,
        }
    }
}

/// A name and what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The inode.
    pub inode: u32,
    /// Its type.
    pub file_type: FileType,
    /// 1 to 255 bytes.
    pub name: &'a [u8],
}

/// Bytes of a block that entries may fill; the rest is the tail with the checksum.
#[must_use]
pub const fn entries_len(geometry: &Geometry) -> usize {
    let tail_len = if geometry.has_checksums() {
        TAIL_LEN
    } else {
        0
    };
    geometry.block_len().saturating_sub(tail_len)
}

/// Bytes that an entry takes at least: header and name, rounded up to 4.
#[must_use]
pub const fn entry_len(name_len: usize) -> usize {
    HEADER_LEN.saturating_add(name_len).next_multiple_of(4)
}

/// Writes a block of entries; the last one reaches to the tail, which is there if there is a seed. Without entries it
/// is one free entry.
///
/// # Panics
/// If the entries do not fit: the plan counted them.
pub fn leaf<'a>(
    block: &mut [u8],
    entries: impl IntoIterator<Item = DirEntry<'a>>,
    inode_seed: Option<Checksum>,
) {
    let tail_len = inode_seed.map_or(0, |_| TAIL_LEN);
    let entries_len = block.len().saturating_sub(tail_len);
    let mut offset = 0_usize;
    let mut last = 0_usize;
    for entry in entries {
        let len = entry_len(entry.name.len());
        let end = offset.saturating_add(len);
        assert!(end <= entries_len, "the plan fills no block beyond its end");
        write_entry(&mut block[offset..end], &entry, len);
        last = offset;
        offset = end;
    }
    let last_len = entries_len.saturating_sub(last);
    let rec_len_at = last.saturating_add(4);
    block[rec_len_at..rec_len_at.saturating_add(2)]
        .copy_from_slice(&len_u16(last_len).to_le_bytes());
    if let Some(seed) = inode_seed {
        let (body, tail) = block.split_at_mut(entries_len);
        write_tail(body, tail, seed);
    }
}

/// Writes one entry with the given record length; its padding stays as it is (zero).
pub(super) fn write_entry(slot: &mut [u8], entry: &DirEntry<'_>, rec_len: usize) {
    let name_len = u8::try_from(entry.name.len()).expect("a name has at most 255 bytes");
    let (header, rest) = slot.split_at_mut(HEADER_LEN);
    header[..4].copy_from_slice(&entry.inode.to_le_bytes());
    header[4..6].copy_from_slice(&len_u16(rec_len).to_le_bytes());
    header[6] = name_len;
    header[7] = entry.file_type.code();
    rest[..entry.name.len()].copy_from_slice(entry.name);
}

/// The checksum covers everything before the tail (kernel fs/ext4/namei.c, `ext4_dirblock_csum`).
fn write_tail(body: &[u8], tail: &mut [u8], inode_seed: Checksum) {
    tail.fill(0);
    tail[4..6].copy_from_slice(&len_u16(TAIL_LEN).to_le_bytes());
    tail[7] = EXT4_FT_DIR_CSUM;
    tail[8..].copy_from_slice(&inode_seed.update(body).value().to_le_bytes());
}

fn len_u16(len: usize) -> u16 {
    u16::try_from(len).expect("a record lies within a block")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ext4::geometry::{Checksums, Features};

    fn entry(inode: u32, file_type: FileType, name: &[u8]) -> DirEntry<'_> {
        DirEntry {
            inode,
            file_type,
            name,
        }
    }

    #[test]
    fn encodes_reference_bytes() {
        // The root directory of an empty file system by mke2fs 1.47.0 begins with these 44 bytes.
        let seed = Checksum::of_uuid(&[3; 16]).of_inode(2);
        let mut block = [0; 4096];
        leaf(
            &mut block,
            [
                entry(2, FileType::Directory, b"."),
                entry(2, FileType::Directory, b".."),
                entry(11, FileType::Directory, b"lost+found"),
            ],
            Some(seed),
        );
        let expected = b"\x02\0\0\0\x0c\0\x01\x02.\0\0\0\x02\0\0\0\x0c\0\x02\x02..\0\0\
            \x0b\0\0\0\xdc\x0f\x0a\x02lost+found\0\0";
        assert_eq!(&block[..44], expected);
        assert_eq!(block[4084..4092], [0, 0, 0, 0, 12, 0, 0, 0xde]);
        assert_eq!(
            block[4092..],
            seed.update(&block[..4084]).value().to_le_bytes()
        );
    }

    #[test]
    fn an_empty_block_is_one_free_entry() {
        let mut block = [0; 4096];
        leaf(&mut block, [], Some(Checksum::START));
        assert_eq!(block[..8], [0, 0, 0, 0, 0xf4, 0x0f, 0, 0]);
        assert!(block[8..4084].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn without_checksums_entries_reach_to_the_end() {
        let mut block = [0; 1024];
        leaf(&mut block, [entry(12, FileType::Regular, b"a")], None);
        assert_eq!(block[..9], [12, 0, 0, 0, 0, 4, 1, 1, b'a']);
        assert!(block[9..].iter().all(|byte| *byte == 0));
        let compat = Geometry::new(
            1024,
            256,
            Features {
                checksums: Checksums::Descriptors,
                ..Features::STD
            },
        );
        assert_eq!(entries_len(&compat), 1024);
        assert_eq!(entries_len(&Geometry::STD), 4084);
    }

    #[test]
    #[should_panic(expected = "beyond its end")]
    fn rejects_overflow() {
        let name = [b'x'; 255];
        leaf(
            &mut [0; 4096],
            (0..16).map(|_| entry(12, FileType::Regular, &name)),
            Some(Checksum::START),
        );
    }
}
