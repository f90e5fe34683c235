//! The journal's superblock (JBD2, kernel `include/linux/jbd2.h`); big-endian. An empty journal is nothing else.

use zerocopy::IntoBytes;
use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, FromZeros, Immutable, KnownLayout};

/// Blocks of the smallest journal (kernel `JBD2_MIN_JOURNAL_BLOCKS`).
pub const BLOCKS_MIN: u64 = 1024;
/// Blocks of the largest journal that mke2fs makes.
pub const BLOCKS_MAX: u64 = 10_240_000;

const JBD2_MAGIC_NUMBER: u32 = 0xc03b_3998;
const JBD2_SUPERBLOCK_V2: u32 = 4;

/// The fields of `journal_superblock_t` that an empty journal sets.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel include/linux/jbd2.h")]
pub struct RawJournalSuperblock {
    pub h_magic: U32,
    pub h_blocktype: U32,
    pub h_sequence: U32,
    pub s_blocksize: U32,
    pub s_maxlen: U32,
    pub s_first: U32,
    pub s_sequence: U32,
    pub s_start: U32,
    pub s_errno: U32,
    pub s_feature_compat: U32,
    pub s_feature_incompat: U32,
    pub s_feature_ro_compat: U32,
    pub s_uuid: [u8; 16],
    pub s_nr_users: U32,
}

const _: () = assert!(std::mem::offset_of!(RawJournalSuperblock, s_uuid) == 48);
const _: () = assert!(size_of::<RawJournalSuperblock>() == 68);

/// Writes the first block of an empty journal of `block_count` blocks; all others are zero.
///
/// # Panics
/// If the block is shorter than the journal's superblock.
pub fn empty(block: &mut [u8], uuid: [u8; 16], block_count: u32) {
    let block_size = u32::try_from(block.len()).expect("a block has at most 4096 bytes");
    let mut raw = RawJournalSuperblock::new_zeroed();
    raw.h_magic = JBD2_MAGIC_NUMBER.into();
    raw.h_blocktype = JBD2_SUPERBLOCK_V2.into();
    raw.s_blocksize = block_size.into();
    raw.s_maxlen = block_count.into();
    raw.s_first = 1.into();
    raw.s_sequence = 1.into();
    raw.s_uuid = uuid;
    raw.s_nr_users = 1.into();
    let (head, _) = block.split_at_mut(size_of::<RawJournalSuperblock>());
    head.copy_from_slice(raw.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_reference_bytes() {
        // The first 80 bytes of the journal that mke2fs 1.47.0 makes with -J size=4, its UUID put in.
        let mut block = [0; 4096];
        empty(&mut block, *b"0123456789abcdef", 1024);
        let expected: [u8; 48] = [
            0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 4, 0, 0, 0, 0, 1,
            0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(block[..48], expected);
        assert_eq!(&block[48..64], b"0123456789abcdef");
        assert_eq!(block[64..68], [0, 0, 0, 1]);
        assert!(block[68..].iter().all(|byte| *byte == 0));
    }
}
