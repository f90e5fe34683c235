//! Extended attributes as they lie in inodes and blocks, read as naively as the rest.

use super::decoder::{Checked, Decoder, Inode, crc, ensure, le16, le32};

const MAGIC: u32 = 0xea02_0000;
/// Where the first entry of a block is.
const HEADER_LEN: usize = 32;
/// Where the attributes of an inode with 32 extra bytes are.
const IN_INODE: usize = 160;

impl Inode {
    /// The block of attributes, 0 if there is none.
    pub(crate) fn attribute_block(&self) -> u64 {
        u64::from(le32(&self.raw, 0x68)) | u64::from(le16(&self.raw, 0x76)) << 32
    }
}

impl Decoder<'_> {
    /// The attributes of an inode are in order, and its block is owned: by the first of those that share it.
    pub(crate) fn check_attributes(&mut self, inode: &Inode, owner: &str) -> Checked<()> {
        // Inodes of 128 bytes have none.
        let area = inode.raw.get(IN_INODE..).unwrap_or(&[0; 4]);
        if le32(area, 0) == 0 {
            ensure!(
                area.iter().all(|byte| *byte == 0),
                "{owner}: something behind the inode's fields"
            );
        } else {
            ensure!(
                le32(area, 0) == MAGIC,
                "{owner}: magic of the inode's attributes"
            );
            check_entries(&area[4..], 0, false)
                .map_err(|error| format!("{owner}: attributes in the inode: {error}"))?;
        }
        let block = inode.attribute_block();
        if block == 0 {
            return Ok(());
        }
        let sharers = self.attribute_sharers.entry(block).or_insert(0);
        *sharers += 1;
        if *sharers == 1 {
            self.check_attribute_block(block)
                .map_err(|error| format!("{owner}: block of attributes: {error}"))?;
            self.own(block, 1, format!("attributes of {owner}"));
        }
        Ok(())
    }

    fn check_attribute_block(&self, number: u64) -> Checked<()> {
        let mut block = self.block(number)?;
        ensure!(
            le32(&block, 0) == MAGIC && le32(&block, 8) == 1,
            "header of block {number}"
        );
        let stored = le32(&block, 16);
        block[16..20].fill(0);
        let expected = self
            .geometry
            .sums()
            .map_or(0, |seed| crc(crc(seed, &number.to_le_bytes()), &block));
        ensure!(expected == stored, "checksum");
        check_entries(&block[HEADER_LEN..], HEADER_LEN, true)
    }

    /// Each block of attributes counts the inodes that have it.
    pub(crate) fn check_sharers(&self) -> Checked<()> {
        for (block, sharers) in &self.attribute_sharers {
            let counted = le32(&self.block(*block)?, 4);
            ensure!(
                counted == *sharers && *sharers <= 1024,
                "attributes in block {block}: {counted} sharers counted, {sharers} found"
            );
        }
        Ok(())
    }
}

/// Entries are sorted, since the kernel stops its search at the first that is greater, and have their hashes; values lie
/// behind them, `base` bytes less than said, and do not overlap.
fn check_entries(bytes: &[u8], base: usize, hashed: bool) -> Checked<()> {
    let (mut at, mut before) = (0, None);
    let mut values = Vec::new();
    while le32(bytes, at) != 0 {
        let len = usize::from(bytes[at]);
        let entry = bytes.get(at..at + 16 + len).ok_or("an entry is cut off")?;
        let (index, name) = (entry[1], &entry[16..]);
        let key = (index, len, name.to_vec());
        ensure!(
            before.as_ref().is_none_or(|before| *before < key),
            "not sorted: {index} {} comes late",
            String::from_utf8_lossy(name)
        );
        let value_len = usize::try_from(le32(entry, 8)).unwrap();
        // An empty value lies nowhere.
        let start = if value_len == 0 {
            0
        } else {
            usize::from(le16(entry, 2))
                .checked_sub(base)
                .ok_or("a value in the header")?
        };
        let value = bytes
            .get(start..start + value_len)
            .ok_or("a value beyond the end")?;
        let expected = if hashed { hash(name, value) } else { 0 };
        ensure!(le32(entry, 12) == expected, "hash of an entry");
        if value_len > 0 {
            values.push((start, start + value_len));
        }
        before = Some(key);
        at += 16 + len.next_multiple_of(4);
    }
    values.sort_unstable();
    values.insert(0, (0, at + 4));
    ensure!(
        values.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "values overlap"
    );
    Ok(())
}

/// The hash of an entry: bytes of the name, then words of the value.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    let mut hash = 0_u32;
    for byte in name {
        hash = hash << 5 ^ hash >> 27 ^ u32::from(*byte);
    }
    let mut padded = value.to_vec();
    padded.resize(value.len().next_multiple_of(4), 0);
    for word in 0..padded.len() / 4 {
        hash = hash << 16 ^ hash >> 16 ^ le32(&padded, word * 4);
    }
    hash
}

/// Blocks that an inode has besides those of its contents.
pub(crate) fn blocks_besides(inode: &Inode) -> u64 {
    u64::from(inode.attribute_block() != 0)
}

/// Where the first entry of a block of attributes is, and the length of it and of the next one: names of one length.
pub(crate) fn first_two_entries(block: &[u8]) -> (usize, usize) {
    let len = 16 + usize::from(block[HEADER_LEN]).next_multiple_of(4);
    assert_eq!(
        block[HEADER_LEN],
        block[HEADER_LEN + len],
        "lengths of names"
    );
    (HEADER_LEN, len)
}
