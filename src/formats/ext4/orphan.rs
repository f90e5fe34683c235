//! Blocks of the orphan file (`struct ext4_orphan_block_tail`): inode numbers, all zero in a clean file system.

use super::checksum::Checksum;

/// Bytes of the tail: a magic number and a checksum.
const TAIL_LEN: usize = 8;
const EXT4_ORPHAN_BLOCK_MAGIC: u32 = 0x0b10_ca04;

/// Blocks of the orphan file by those of the file system (e2fsprogs lib/ext2fs/orphan.c,
/// `ext2fs_default_orphan_file_blocks`).
#[must_use]
pub const fn default_blocks(block_count: u64) -> u64 {
    match block_count {
        0..0x2_0000 => 32,
        0x2_0000..0x20_0000 => block_count >> 12,
        _ => 512,
    }
}

/// Writes an empty block, with its checksum (kernel fs/ext4/orphan.c, `ext4_orphan_file_block_csum`).
///
/// # Panics
/// If `block` is shorter than the tail.
pub fn empty(block: &mut [u8], inode_seed: Option<Checksum>, block_number: u64) {
    let tail_at = block
        .len()
        .checked_sub(TAIL_LEN)
        .expect("blocks are longer than their tail");
    let (body, tail) = block.split_at_mut(tail_at);
    tail[..4].copy_from_slice(&EXT4_ORPHAN_BLOCK_MAGIC.to_le_bytes());
    if let Some(seed) = inode_seed {
        let checksum = seed.update(&block_number.to_le_bytes()).update(body);
        tail[4..].copy_from_slice(&checksum.value().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_holds_magic_and_checksum() {
        let seed = Checksum::of_uuid(&[5; 16]).of_inode(12);
        let mut block = [0; 1024];
        empty(&mut block, Some(seed), 77);
        assert!(block[..1016].iter().all(|byte| *byte == 0));
        assert_eq!(block[1016..1020], [0x04, 0xca, 0x10, 0x0b]);
        let sum = seed.update(&77_u64.to_le_bytes()).update(&[0; 1016]);
        assert_eq!(block[1020..], sum.value().to_le_bytes());
    }

    #[test]
    fn sizes_equal_those_of_mke2fs() {
        for (blocks, expected) in [
            (4096, 32),
            (131_071, 32),
            (131_072, 32),
            (262_144, 64),
            (2_097_151, 511),
            (2_097_152, 512),
            (1 << 33, 512),
        ] {
            assert_eq!(default_blocks(blocks), expected, "{blocks}");
        }
    }
}
