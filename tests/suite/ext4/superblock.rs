//! The superblock and the group descriptors, as the kernel's documentation has them (filesystems/ext4/globals.rst).

use super::decoder::{Checked, crc, ensure, le16, le32};

/// The register of CRC-16 with polynomial 0xA001.
fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    let mut value = seed;
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1))
    {
        let carry = value & 1 ^ u16::from(bit);
        value = (value >> 1) ^ (carry * 0xa001);
    }
    value
}

/// The numbers of the superblock.
pub(crate) struct Geometry {
    pub(crate) superblock: Vec<u8>,
    /// Bytes of a block.
    pub(crate) block: u64,
    /// The first block of group 0.
    pub(crate) first: u64,
    pub(crate) inode_size: u64,
    /// Bytes of a descriptor.
    pub(crate) descriptor: u64,
    pub(crate) blocks: u64,
    pub(crate) groups: u64,
    pub(crate) inodes_per_group: u64,
    pub(crate) reserved_gdt: u64,
    pub(crate) seed: u32,
}

impl Geometry {
    pub(crate) fn gdt_blocks(&self) -> u64 {
        (self.groups * self.descriptor).div_ceil(self.block)
    }

    pub(crate) fn blocks_per_group(&self) -> u64 {
        self.block * 8
    }

    pub(crate) fn start_of(&self, group: u64) -> u64 {
        self.first + group * self.blocks_per_group()
    }

    /// Blocks of a copy of superblock and descriptors.
    pub(crate) fn header(&self, group: u64) -> u64 {
        if is_backup(group) {
            1 + self.gdt_blocks() + self.reserved_gdt
        } else {
            0
        }
    }

    pub(crate) fn blocks_of(&self, group: u64) -> u64 {
        (self.blocks - self.start_of(group)).min(self.blocks_per_group())
    }

    /// A field of the superblock in two halves.
    pub(crate) fn wide(&self, low: usize, high: usize) -> u64 {
        u64::from(le32(&self.superblock, low)) | u64::from(le32(&self.superblock, high)) << 32
    }

    /// The seed, if structures have checksums.
    pub(crate) fn sums(&self) -> Option<u32> {
        (le32(&self.superblock, 0x64) & 0x400 != 0).then_some(self.seed)
    }

    /// The checksum of a descriptor whose own field is zero.
    pub(crate) fn descriptor_sum(&self, group: u64, zeroed: &[u8]) -> u16 {
        let number = u32::try_from(group).unwrap().to_le_bytes();
        match self.sums() {
            Some(seed) => le16(&crc(crc(seed, &number), zeroed).to_le_bytes(), 0),
            None => {
                let sum = crc16(crc16(!0, &self.superblock[0x68..0x78]), &number);
                crc16(crc16(sum, &zeroed[..0x1e]), &zeroed[0x20..])
            }
        }
    }
}

/// Groups with copies: 0, 1 and powers of 3, 5 and 7.
pub(crate) fn is_backup(group: u64) -> bool {
    let power_of = |base: u64| {
        let mut value = group;
        while value > 1 && value.is_multiple_of(base) {
            value /= base;
        }
        value == 1
    };
    group <= 1 || power_of(3) || power_of(5) || power_of(7)
}

/// A group descriptor.
#[derive(Clone)]
pub(crate) struct Descriptor {
    pub(crate) raw: Vec<u8>,
}

impl Descriptor {
    /// A block number in one or two halves.
    fn number(&self, low: usize, high: usize) -> u64 {
        let high = if self.raw.len() == 64 {
            le32(&self.raw, high)
        } else {
            0
        };
        u64::from(le32(&self.raw, low)) | u64::from(high) << 32
    }
    pub(crate) fn block_bitmap(&self) -> u64 {
        self.number(0, 0x20)
    }
    pub(crate) fn inode_bitmap(&self) -> u64 {
        self.number(4, 0x24)
    }
    pub(crate) fn inode_table(&self) -> u64 {
        self.number(8, 0x28)
    }
    /// A checksum in one or two halves.
    pub(crate) fn checksum(&self, low: usize, high: usize) -> u32 {
        let high = if self.raw.len() == 64 {
            le16(&self.raw, high)
        } else {
            0
        };
        u32::from(le16(&self.raw, low)) | u32::from(high) << 16
    }
    pub(crate) fn flags(&self) -> u16 {
        le16(&self.raw, 0x12)
    }
    pub(crate) fn inode_uninit(&self) -> bool {
        self.flags() & 1 != 0
    }
    pub(crate) fn block_uninit(&self) -> bool {
        self.flags() & 2 != 0
    }
}

/// Reads a superblock of a file system in `len` bytes.
pub(crate) fn geometry(superblock: Vec<u8>, len: u64) -> Checked<Geometry> {
    let field = |at: usize| u64::from(le32(&superblock, at));
    ensure!(le16(&superblock, 0x38) == 0xef53, "superblock: magic");
    ensure!(
        le16(&superblock, 0x5a) == 0,
        "primary superblock: group number"
    );
    ensure!(
        field(0x18) <= 2 && field(0x1c) == field(0x18),
        "superblock: block size"
    );
    let block = 1024 << field(0x18);
    let first = u64::from(block == 1024);
    let inode_size = u64::from(le16(&superblock, 0x58));
    ensure!(
        field(0x14) == first && field(0x20) == block * 8 && field(0x24) == block * 8,
        "superblock: first block or group size"
    );
    ensure!(
        [128, 256, 512, 1024].contains(&inode_size),
        "superblock: inode size"
    );
    let extra = if inode_size > 128 { 0x20 } else { 0 };
    ensure!(
        field(0x15c) == extra | extra << 16,
        "superblock: extra fields of inodes"
    );
    // ext_attr and dir_index always, has_journal and resize_inode as there is room, orphan_file if asked for; filetype,
    // extent, flex_bg, and 64bit and metadata_csum_seed if asked for; sparse_super, large_file, huge_file, dir_nlink,
    // extra_isize with extra fields, and either metadata_csum or uninit_bg.
    ensure!(
        field(0x5c) & !0x1014 == 0x28,
        "superblock: compatible features"
    );
    ensure!(
        field(0x60) & !0x2080 == 0x242,
        "superblock: incompatible features"
    );
    let has_sums = field(0x64) & 0x400 != 0;
    let protection = if has_sums { 0x400 } else { 0x10 };
    ensure!(
        field(0x64) == 0x2b | extra << 1 | protection,
        "superblock: read-only features"
    );
    ensure!(
        superblock[0x175] == u8::from(has_sums),
        "superblock: checksum type"
    );
    let sum = if has_sums {
        crc(!0, &superblock[..0x3fc])
    } else {
        0
    };
    ensure!(sum == le32(&superblock, 0x3fc), "superblock: checksum");
    let is_wide = field(0x60) & 0x80 != 0;
    ensure!(
        le16(&superblock, 0xfe) == if is_wide { 64 } else { 0 },
        "superblock: descriptor size"
    );
    let blocks = field(4) | field(0x150) << 32;
    ensure!(
        blocks * block <= len && (is_wide || field(0x150) == 0),
        "superblock: {blocks} blocks in {len} bytes"
    );
    let groups = (blocks - first).div_ceil(block * 8);
    let inodes_per_group = field(0x28);
    ensure!(
        field(0) == groups * inodes_per_group,
        "superblock: inodes_count"
    );
    let reserved_gdt = u64::from(le16(&superblock, 0xce));
    ensure!(
        (field(0x5c) & 0x10 != 0) == (reserved_gdt > 0),
        "superblock: resize_inode without blocks"
    );
    ensure!(
        field(8) | field(0x154) << 32 <= blocks / 2,
        "superblock: reserved blocks"
    );
    ensure!(
        field(0x160) == 1,
        "superblock: hash is not that of signed bytes"
    );
    let of_uuid = crc(!0, &superblock[0x68..0x78]);
    let stored = if field(0x60) & 0x2000 != 0 {
        of_uuid
    } else {
        0
    };
    ensure!(
        le32(&superblock, 0x270) == stored,
        "superblock: checksum seed"
    );
    Ok(Geometry {
        superblock,
        block,
        first,
        inode_size,
        descriptor: if is_wide { 64 } else { 32 },
        blocks,
        groups,
        inodes_per_group,
        reserved_gdt,
        seed: of_uuid,
    })
}
