//! Which blocks and inodes are in use: by their owners, and by bitmaps and counts.

use miragefs::units::{to_u64, to_usize};

use super::decoder::{Checked, Decoder, crc, ensure, le16, le32};

impl Decoder<'_> {
    /// Every block has one owner, and bitmaps and counts say which are free.
    pub(crate) fn check_block_usage(&mut self) -> Checked<()> {
        self.owners.sort();
        for pair in self.owners.windows(2) {
            let (start, len, owner) = &pair[0];
            ensure!(
                start + len <= pair[1].0,
                "block {} belongs to {owner} and to {}",
                pair[1].0,
                pair[1].2
            );
        }
        if let Some((start, len, owner)) = self.owners.last() {
            ensure!(
                start + len <= self.geometry.blocks,
                "{owner} reaches beyond the end"
            );
        }
        let mut free_in_all = 0;
        for group in 0..self.geometry.groups {
            let used = self.used_blocks_of(group);
            free_in_all += self.check_block_group(group, &used)?;
        }
        ensure!(
            self.geometry.wide(0xc, 0x158) == free_in_all,
            "superblock: free blocks"
        );
        Ok(())
    }

    /// The bitmap that a group should have.
    fn used_blocks_of(&self, group: u64) -> Vec<u8> {
        let mut bitmap = vec![0_u8; to_usize(self.geometry.block)];
        let first = self.geometry.start_of(group);
        let end = first + self.geometry.blocks_per_group();
        let from = self
            .owners
            .partition_point(|(start, len, _)| start + len <= first);
        for (start, len, _) in &self.owners[from..] {
            if *start >= end {
                break;
            }
            for block in (*start).max(first)..(start + len).min(end) {
                let bit = to_usize(block - first);
                bitmap[bit / 8] |= 1 << (bit % 8);
            }
        }
        bitmap
    }

    /// Returns the group's free blocks.
    fn check_block_group(&self, group: u64, used: &[u8]) -> Checked<u64> {
        let descriptor = &self.descriptors[to_usize(group)];
        let stored = self.block(descriptor.block_bitmap())?;
        let blocks = self.geometry.blocks_of(group);
        let count: u64 = used.iter().map(|byte| u64::from(byte.count_ones())).sum();
        let free = u64::from(le16(&descriptor.raw, 0xc));
        ensure!(
            free == blocks - count,
            "group {group}: {free} blocks free, {} by owners",
            blocks - count
        );
        if descriptor.block_uninit() {
            ensure!(
                group != 0 && group + 1 != self.geometry.groups,
                "group {group}: may not be BLOCK_UNINIT"
            );
            ensure!(
                count == self.geometry.header(group),
                "group {group}: BLOCK_UNINIT with foreign blocks"
            );
            ensure!(
                stored.iter().all(|byte| *byte == 0),
                "group {group}: bitmap of an uninitialised group"
            );
            ensure!(
                descriptor.checksum(0x18, 0x38) == 0,
                "group {group}: checksum of an uninitialised bitmap"
            );
            return Ok(free);
        }
        let mut expected = used.to_vec();
        for bit in to_usize(blocks)..stored.len() * 8 {
            expected[bit / 8] |= 1 << (bit % 8);
        }
        if let Some(at) = stored.iter().zip(&expected).position(|(a, b)| a != b) {
            return Err(format!(
                "group {group}: block bitmap differs from the owners at block {}",
                self.geometry.start_of(group) + to_u64(at) * 8
            ));
        }
        ensure!(
            self.bitmap_sum(&stored) == descriptor.checksum(0x18, 0x38),
            "group {group}: checksum of the block bitmap"
        );
        Ok(free)
    }

    /// Inode bitmaps, counts of inodes and directories, and that unused inodes are zero.
    pub(crate) fn check_inode_usage(&self) -> Checked<()> {
        let per_group = self.geometry.inodes_per_group;
        let mut free_in_all = 0;
        for group in 0..self.geometry.groups {
            let descriptor = &self.descriptors[to_usize(group)];
            let first = u32::try_from(group * per_group + 1).unwrap();
            let end = first + u32::try_from(per_group).unwrap();
            let used: Vec<u32> = self.used_inodes.range(first..end).copied().collect();
            let free = u64::from(le16(&descriptor.raw, 0xe));
            ensure!(
                free == per_group - to_u64(used.len()),
                "group {group}: free inodes"
            );
            free_in_all += free;
            let directories = used
                .iter()
                .filter(|number| self.decoded.directories.contains(number))
                .count();
            ensure!(
                usize::from(le16(&descriptor.raw, 0x10)) == directories,
                "group {group}: directories"
            );
            let behind_last = used
                .last()
                .map_or(per_group, |last| u64::from(end - 1 - last));
            ensure!(
                u64::from(le16(&descriptor.raw, 0x1c)) == behind_last,
                "group {group}: unused inodes"
            );
            ensure!(
                descriptor.flags() & 4 != 0,
                "group {group}: not INODE_ZEROED"
            );
            self.check_inode_bitmap(group, &used, first)?;
        }
        ensure!(
            u64::from(le32(&self.geometry.superblock, 0x10)) == free_in_all,
            "superblock: free inodes"
        );
        Ok(())
    }

    /// The checksum of a bitmap as descriptors hold it.
    fn bitmap_sum(&self, bits: &[u8]) -> u32 {
        let mask = if self.geometry.descriptor == 64 {
            u32::MAX
        } else {
            0xffff
        };
        self.geometry
            .sums()
            .map_or(0, |seed| crc(seed, bits) & mask)
    }

    fn check_inode_bitmap(&self, group: u64, used: &[u32], first: u32) -> Checked<()> {
        let descriptor = &self.descriptors[to_usize(group)];
        let stored = self.block(descriptor.inode_bitmap())?;
        if descriptor.inode_uninit() {
            ensure!(
                used.is_empty() && group != 0,
                "group {group}: INODE_UNINIT with inodes"
            );
            ensure!(
                stored.iter().all(|byte| *byte == 0),
                "group {group}: bitmap of an uninitialised group"
            );
            return Ok(());
        }
        let bits = to_usize(self.geometry.inodes_per_group);
        let mut expected = vec![0_u8; stored.len()];
        for bit in bits..stored.len() * 8 {
            expected[bit / 8] |= 1 << (bit % 8);
        }
        for number in used {
            let bit = to_usize(u64::from(number - first));
            expected[bit / 8] |= 1 << (bit % 8);
        }
        ensure!(stored == expected, "group {group}: inode bitmap");
        ensure!(
            self.bitmap_sum(&stored[..bits / 8]) == descriptor.checksum(0x1a, 0x3a),
            "group {group}: checksum of the inode bitmap"
        );
        let inode_len = to_usize(self.geometry.inode_size);
        let mut table = vec![0xa5; bits * inode_len];
        (self.read)(descriptor.inode_table() * self.geometry.block, &mut table)?;
        for (raw, number) in table.chunks_exact(inode_len).zip(first..) {
            ensure!(
                self.used_inodes.contains(&number) || raw.iter().all(|byte| *byte == 0),
                "inode {number}: free but not zero"
            );
        }
        Ok(())
    }
}
