//! Directory blocks and their index, read from the kernel's documentation (filesystems/ext4/directory.rst).

use std::collections::BTreeSet;

use super::decoder::{Checked, Name, crc, ensure, le16, le32};

/// The names of a block; with a seed it has a checksum, which is verified.
pub(crate) fn leaf(block: &[u8], seed: Option<u32>) -> Checked<Vec<Name>> {
    let Some(seed) = seed else {
        return entries(block);
    };
    let (body, tail) = block.split_at(block.len() - 12);
    ensure!(
        le32(tail, 0) == 0 && tail[4..8] == [12, 0, 0, 0xde],
        "no checksum tail"
    );
    ensure!(crc(seed, body) == le32(tail, 8), "checksum of a block");
    entries(body)
}

/// `.` and `..` in front of an index.
pub(crate) fn dots(root: &[u8]) -> Checked<Vec<Name>> {
    ensure!(
        le16(root, 4) == 12 && usize::from(le16(root, 16)) == root.len() - 12,
        "record lengths of an index root"
    );
    Ok([0, 12]
        .into_iter()
        .map(|at| {
            let len = usize::from(root[at + 6]);
            (
                root[at + 8..at + 8 + len].to_vec(),
                le32(root, at),
                root[at + 7].into(),
            )
        })
        .collect())
}

fn entries(bytes: &[u8]) -> Checked<Vec<Name>> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        ensure!(at + 8 <= bytes.len(), "entry at {at} is cut");
        let record = usize::from(le16(bytes, at + 4));
        let len = usize::from(bytes[at + 6]);
        ensure!(
            record >= 8 + len && record.is_multiple_of(4) && at + record <= bytes.len(),
            "entry at {at}: record of {record} bytes"
        );
        let inode = le32(bytes, at);
        if inode != 0 {
            let name = bytes[at + 8..at + 8 + len].to_vec();
            ensure!(
                len > 0 && !name.contains(&b'/') && !name.contains(&0),
                "entry at {at}: name"
            );
            names.push((name, inode, bytes[at + 7].into()));
        }
        at += record;
    }
    Ok(names)
}

/// The leaves of an index in the order of hashes, and its levels below the root. Every block is reached once.
pub(crate) fn index(
    read: &dyn Fn(u64) -> Checked<Vec<u8>>,
    blocks: u64,
    seed: Option<u32>,
) -> Checked<(Vec<u64>, u8)> {
    let root = read(0)?;
    ensure!(
        le32(&root, 24) == 0 && root[28] == 1 && root[29] == 8 && root[31] == 0,
        "index root: header"
    );
    let levels = root[30];
    ensure!(levels <= 1, "index of {levels} levels");
    let mut reached = BTreeSet::from([0]);
    let mut leaves = Vec::new();
    let top = children(&root, 32, seed)?;
    let mut bounds = Vec::new();
    for (hash, child) in top {
        ensure!(reached.insert(child), "block {child} is reached twice");
        if levels == 0 {
            bounds.push(hash);
            leaves.push(child);
            continue;
        }
        let node = read(child)?;
        ensure!(
            le32(&node, 0) == 0 && usize::from(le16(&node, 4)) == node.len(),
            "index node: header"
        );
        for (position, (inner, leaf)) in children(&node, 8, seed)?.into_iter().enumerate() {
            ensure!(reached.insert(leaf), "block {leaf} is reached twice");
            bounds.push(if position == 0 { hash } else { inner });
            leaves.push(leaf);
        }
    }
    ensure!(
        bounds.windows(2).all(|pair| pair[0] < pair[1]),
        "hashes of the index are not in order"
    );
    ensure!(
        reached.into_iter().eq(0..blocks),
        "blocks that the index does not reach"
    );
    Ok((leaves, levels))
}

/// Hash and block of each child; the first one's hash is 0.
fn children(block: &[u8], at: usize, seed: Option<u32>) -> Checked<Vec<(u32, u64)>> {
    let count = usize::from(le16(block, at + 2));
    let limit = (block.len() - at) / 8 - usize::from(seed.is_some());
    ensure!(
        usize::from(le16(block, at)) == limit && count >= 1 && count <= limit,
        "index: {count} of {limit} entries"
    );
    if let Some(seed) = seed {
        let tail = at + 8 * limit;
        let mut sum = crc(seed, &block[..at + 8 * count]);
        sum = crc(sum, &block[tail..tail + 4]);
        sum = crc(sum, &[0; 4]);
        ensure!(sum == le32(block, tail + 4), "index: checksum");
    }
    Ok((0..count)
        .map(|index| {
            let entry = &block[at + 8 * index..];
            let hash = if index == 0 { 0 } else { le32(entry, 0) };
            (hash, u64::from(le32(entry, 4)))
        })
        .collect())
}
