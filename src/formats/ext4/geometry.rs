//! The sizes and features that shape every structure of a file system.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "block and inode sizes are powers of two from 128 to 4096, block numbers are below 2^48"
)]

use crate::units::{SECTOR_SIZE, to_u64, to_usize};

/// Bytes of the largest block.
pub const BLOCK_LEN_MAX: usize = 4096;
/// Bytes of an inode before its extra fields, and of the smallest inode.
pub const GOOD_OLD_INODE_LEN: usize = 128;

/// How metadata is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// `metadata_csum`: CRC-32C in every structure.
    Metadata,
    /// `uninit_bg` (gdt_csum): CRC-16 in group descriptors and nothing else.
    Descriptors,
}

/// What a set of features changes in the structures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// How metadata is protected.
    pub checksums: Checksums,
    /// `64bit`: block numbers of 48 bits, descriptors of 64 bytes.
    pub wide: bool,
    /// `metadata_csum_seed`: the superblock holds the checksums' seed, so that the UUID may change.
    pub checksum_seed: bool,
    /// `orphan_file`: orphaned inodes are kept in a file; it needs a journal.
    pub orphan_file: bool,
}

impl Features {
    /// Debian 12's set without 64bit.
    pub const STD: Self = Self {
        checksums: Checksums::Metadata,
        wide: false,
        checksum_seed: false,
        orphan_file: false,
    };
}

/// Sizes and features of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    block_size: u64,
    inode_size: u64,
    /// What varies with the features.
    pub features: Features,
}

impl Geometry {
    /// Blocks of 4096 bytes and inodes of 256, as mke2fs makes them by default.
    pub const STD: Self = Self {
        block_size: 4096,
        inode_size: 256,
        features: Features::STD,
    };

    /// A geometry.
    ///
    /// # Panics
    /// If `block_size` is not 1024, 2048 or 4096, or `inode_size` is not 128, 256, 512 or 1024: the config checks
    /// both.
    #[must_use]
    pub const fn new(block_size: u64, inode_size: u64, features: Features) -> Self {
        assert!(
            matches!(block_size, 1024 | 2048 | 4096),
            "blocks have 1024, 2048 or 4096 bytes"
        );
        assert!(
            matches!(inode_size, 128 | 256 | 512 | 1024),
            "inodes have 128, 256, 512 or 1024 bytes"
        );
        Self {
            block_size,
            inode_size,
            features,
        }
    }

    /// The same with the feature 64bit.
    #[must_use]
    pub const fn widened(mut self) -> Self {
        self.features.wide = true;
        self
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Bytes of a block as a length in memory.
    #[must_use]
    pub const fn block_len(&self) -> usize {
        to_usize(self.block_size)
    }

    /// `s_log_block_size`: the block size is 1024 shifted by this.
    #[must_use]
    pub const fn log_block_size(&self) -> u32 {
        (self.block_size / 1024).trailing_zeros()
    }

    /// Sectors of 512 bytes in a block.
    #[must_use]
    pub const fn sectors_per_block(&self) -> u64 {
        self.block_size / SECTOR_SIZE
    }

    /// The block of the superblock, with which group 0 begins: 1 with blocks of 1024 bytes, else 0.
    #[must_use]
    pub const fn first_block(&self) -> u64 {
        if self.block_size == 1024 { 1 } else { 0 }
    }

    /// Blocks of a block group: as many as one bitmap block has bits.
    #[must_use]
    pub const fn blocks_per_group(&self) -> u64 {
        self.block_size * 8
    }

    /// Bytes of an inode.
    #[must_use]
    pub const fn inode_size(&self) -> u64 {
        self.inode_size
    }

    /// Bytes of an inode as a length in memory.
    #[must_use]
    pub const fn inode_len(&self) -> usize {
        to_usize(self.inode_size)
    }

    /// Whether inodes have fields behind the first 128 bytes: nanoseconds, years beyond 2038, creation times.
    #[must_use]
    pub const fn has_extra_fields(&self) -> bool {
        self.inode_len() > GOOD_OLD_INODE_LEN
    }

    /// Inodes in one block of an inode table.
    #[must_use]
    pub const fn inodes_per_block(&self) -> u64 {
        self.block_size / self.inode_size
    }

    /// Bytes of a group descriptor.
    #[must_use]
    pub const fn descriptor_size(&self) -> u64 {
        if self.features.wide { 64 } else { 32 }
    }

    /// Group descriptors in one block.
    #[must_use]
    pub const fn descriptors_per_block(&self) -> u64 {
        self.block_size / self.descriptor_size()
    }

    /// Block numbers of 32 bits in one block.
    #[must_use]
    pub const fn pointers_per_block(&self) -> u64 {
        self.block_size / 4
    }

    /// Whether structures end in a checksum.
    #[must_use]
    pub const fn has_checksums(&self) -> bool {
        matches!(self.features.checksums, Checksums::Metadata)
    }

    /// The longest target of a symlink in a block of its own: the kernel wants a NUL behind it.
    #[must_use]
    pub const fn symlink_len_max(&self) -> u64 {
        self.block_size - 1
    }
}

const _: () = assert!(to_u64(BLOCK_LEN_MAX) == Geometry::STD.block_size);
