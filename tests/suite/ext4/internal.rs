//! What is for the file system's own use: copies of superblock and descriptors, the resize inode, the journal.

use miragefs::units::{to_u64, to_usize};

use super::decoder::{Checked, Decoder, be32, crc, ensure, le16, le32};
use super::superblock::is_backup;

impl Decoder<'_> {
    /// Copies equal the primary but for the group's number and the checksum.
    pub(crate) fn check_backups(&self) -> Checked<()> {
        let mut primary = self.geometry.superblock.clone();
        let gdt_blocks = self.geometry.gdt_blocks();
        for group in (1..self.geometry.groups).filter(|group| is_backup(*group)) {
            let first = self.geometry.start_of(group);
            let block = self.block(first)?;
            let sum = self.geometry.sums().map_or(0, |_| crc(!0, &block[..0x3fc]));
            ensure!(
                sum == le32(&block, 0x3fc),
                "backup superblock {group}: checksum"
            );
            ensure!(
                u64::from(le16(&block, 0x5a)) == group,
                "backup superblock {group}: names another group"
            );
            primary[0x5a..0x5c].copy_from_slice(&block[0x5a..0x5c]);
            ensure!(
                block[..0x3fc] == primary[..0x3fc],
                "backup superblock {group}: differs"
            );
            ensure!(
                block[1024..].iter().all(|byte| *byte == 0),
                "behind backup superblock {group}"
            );
            for index in 0..gdt_blocks {
                let ours = self.block(self.geometry.first + 1 + index)?;
                let copy = self.block(first + 1 + index)?;
                ensure!(
                    ours == copy,
                    "group {group}: copy of descriptor block {index} differs"
                );
            }
            for index in 0..self.geometry.reserved_gdt {
                let block = self.block(first + 1 + gdt_blocks + index)?;
                ensure!(
                    block.iter().all(|byte| *byte == 0),
                    "group {group}: reserved descriptor block {index}"
                );
            }
        }
        Ok(())
    }

    /// The resize inode, the journal, and the reserved ones without contents.
    pub(crate) fn check_internal_inodes(&mut self) -> Checked<()> {
        for number in [1, 3, 4, 5, 6, 9, 10] {
            let mut raw = vec![0xa5; to_usize(self.geometry.inode_size)];
            (self.read)(self.inode_offset(number)?, &mut raw)?;
            ensure!(
                raw.iter().all(|byte| *byte == 0),
                "reserved inode {number} is in use"
            );
        }
        self.check_resize_inode()?;
        self.check_journal()?;
        self.check_orphan_file()
    }

    /// Inode 12, every block with its tail.
    fn check_orphan_file(&mut self) -> Checked<()> {
        let superblock = &self.geometry.superblock;
        let has_feature = le32(superblock, 0x5c) & 0x1000 != 0;
        let number = le32(superblock, 0x280);
        ensure!(
            number == if has_feature { 12 } else { 0 },
            "orphan file's inode number"
        );
        if !has_feature {
            return Ok(());
        }
        ensure!(
            le32(superblock, 0x5c) & 4 != 0,
            "an orphan file without a journal"
        );
        let inode = self.inode(12)?;
        ensure!(inode.mode() == 0o100_600, "orphan file: mode");
        let mapping = self.map(&inode, "orphan file")?;
        for number in mapping.block_numbers() {
            let block = self.block(number)?;
            let (body, tail) = block.split_at(block.len() - 8);
            let seed = self.seed_of(12).ok_or("orphan file: no checksums")?;
            let sum = crc(crc(seed, &number.to_le_bytes()), body);
            ensure!(
                body.iter().all(|byte| *byte == 0)
                    && le32(tail, 0) == 0x0b10_ca04
                    && le32(tail, 4) == sum,
                "orphan file: block {number}"
            );
        }
        self.used_inodes.insert(12);
        Ok(())
    }

    fn check_resize_inode(&mut self) -> Checked<()> {
        let geometry = &self.geometry;
        if geometry.reserved_gdt == 0 {
            return Ok(());
        }
        let inode = self.inode(7)?;
        let dind = u64::from(le32(inode.i_block(), 52));
        ensure!(
            inode.i_block()[..52].iter().all(|byte| *byte == 0) && le32(inode.i_block(), 56) == 0,
            "resize inode: more than a double-indirect block"
        );
        let backups: Vec<u64> = (1..geometry.groups)
            .filter(|group| is_backup(*group))
            .collect();
        let first = geometry.first + 1 + geometry.gdt_blocks();
        let mut expected = vec![0; to_usize(geometry.block)];
        for reserved in first..first + geometry.reserved_gdt {
            let at = to_usize((reserved - 1 - geometry.first) % (geometry.block / 4) * 4);
            expected[at..at + 4].copy_from_slice(&u32::try_from(reserved).unwrap().to_le_bytes());
            let mut list = vec![0; to_usize(geometry.block)];
            for (slot, group) in list.chunks_exact_mut(4).zip(&backups) {
                let copy = reserved + group * geometry.blocks_per_group();
                slot.copy_from_slice(&u32::try_from(copy).unwrap().to_le_bytes());
            }
            ensure!(
                self.block(reserved)? == list,
                "reserved descriptor block {reserved}: list of copies"
            );
        }
        ensure!(
            self.block(dind)? == expected,
            "resize inode: double-indirect block"
        );
        let blocks = 1 + geometry.reserved_gdt * (1 + to_u64(backups.len()));
        ensure!(
            inode.sectors() == blocks * geometry.block / 512,
            "resize inode: i_blocks"
        );
        ensure!(
            inode.mode() == 0o100_600 && le16(&inode.raw, 0x1a) == 1,
            "resize inode: mode or links"
        );
        self.own(dind, 1, "double-indirect block of the resize inode");
        Ok(())
    }

    fn check_journal(&mut self) -> Checked<()> {
        let superblock = &self.geometry.superblock;
        if le32(superblock, 0x5c) & 4 == 0 {
            ensure!(le32(superblock, 0xe0) == 0, "a journal without its feature");
            return Ok(());
        }
        ensure!(
            le32(superblock, 0xe0) == 8 && superblock[0xfd] == 1,
            "journal's inode number"
        );
        let inode = self.inode(8)?;
        let mut backup = inode.i_block().to_vec();
        backup.extend_from_slice(&inode.raw[0x6c..0x70]);
        backup.extend_from_slice(&inode.raw[4..8]);
        ensure!(superblock[0x10c..0x10c + 68] == backup, "s_jnl_blocks");
        ensure!(inode.mode() == 0o100_600, "journal: mode");
        let mapping = self.map(&inode, "journal")?;
        let start = mapping
            .extents
            .first()
            .map(|extent| extent.start)
            .ok_or("journal: no blocks")?;
        let block = self.block(start)?;
        ensure!(
            be32(&block, 0) == 0xc03b_3998 && be32(&block, 4) == 4,
            "journal: superblock"
        );
        ensure!(
            u64::from(be32(&block, 12)) == self.geometry.block
                && u64::from(be32(&block, 16)) == inode.size() / self.geometry.block,
            "journal: length"
        );
        ensure!(
            be32(&block, 20) == 1 && be32(&block, 28) == 0,
            "journal: not empty"
        );
        Ok(())
    }
}
