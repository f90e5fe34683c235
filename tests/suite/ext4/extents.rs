//! Extent trees, read from the kernel's documentation (filesystems/ext4/ifork.rst).

use super::decoder::{Checked, crc, ensure, le16, le32};

/// A run of blocks of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) file_block: u64,
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// All blocks of a file, and those of its tree.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mapping {
    pub(crate) extents: Vec<Extent>,
    /// Blocks of the tree.
    pub(crate) nodes: Vec<u64>,
    /// Depth of the root.
    pub(crate) depth: u16,
}

impl Mapping {
    pub(crate) fn blocks(&self) -> u64 {
        self.extents.iter().map(|extent| extent.len).sum()
    }

    /// Whether the file's first `blocks` blocks are there and no others.
    pub(crate) fn is_gapless(&self, blocks: u64) -> bool {
        let mut next = 0;
        for extent in &self.extents {
            if extent.file_block != next {
                return false;
            }
            next += extent.len;
        }
        next == blocks
    }

    /// Whether all blocks lie within the file's first `blocks`.
    pub(crate) fn ends_within(&self, blocks: u64) -> bool {
        let end = self
            .extents
            .last()
            .map_or(0, |extent| extent.file_block + extent.len);
        end <= blocks
    }

    pub(crate) fn block_numbers(&self) -> Vec<u64> {
        self.extents
            .iter()
            .flat_map(|extent| extent.start..extent.start + extent.len)
            .collect()
    }
}

/// Reads the tree whose root is `root`; with a seed its blocks have checksums.
pub(crate) fn map(
    read: &dyn Fn(u64) -> Checked<Vec<u8>>,
    root: &[u8],
    seed: Option<u32>,
) -> Checked<Mapping> {
    let mut mapping = Mapping {
        depth: le16(root, 6),
        ..Mapping::default()
    };
    node(read, root, 4, seed, None, &mut mapping)?;
    for pair in mapping.extents.windows(2) {
        ensure!(
            pair[0].file_block + pair[0].len <= pair[1].file_block,
            "extents are not in order"
        );
    }
    Ok(mapping)
}

/// `from` is the depth and the first file block that the parent promises.
fn node(
    read: &dyn Fn(u64) -> Checked<Vec<u8>>,
    bytes: &[u8],
    max: u16,
    seed: Option<u32>,
    from: Option<(u16, u32)>,
    mapping: &mut Mapping,
) -> Checked<()> {
    ensure!(le16(bytes, 0) == 0xf30a, "extent node: magic");
    let (entries, depth) = (le16(bytes, 2), le16(bytes, 6));
    ensure!(le16(bytes, 4) == max, "extent node: eh_max");
    ensure!(
        entries <= max && depth <= 5,
        "extent node: entries or depth"
    );
    if let Some((parents_depth, first)) = from {
        ensure!(
            depth + 1 == parents_depth && entries > 0,
            "extent node: depth"
        );
        ensure!(le32(bytes, 12) == first, "extent node: first block");
    }
    for entry in bytes[12..].chunks_exact(12).take(entries.into()) {
        let file_block = le32(entry, 0);
        if depth == 0 {
            let len = le16(entry, 4);
            ensure!((1..=32_768).contains(&len), "extent of {len} blocks");
            mapping.extents.push(Extent {
                file_block: file_block.into(),
                start: u64::from(le32(entry, 8)) | u64::from(le16(entry, 6)) << 32,
                len: len.into(),
            });
        } else {
            ensure!(le16(entry, 10) == 0, "extent index: padding");
            let child = u64::from(le32(entry, 4)) | u64::from(le16(entry, 8)) << 32;
            let block = read(child)?;
            let max = (block.len() - 12) / 12;
            let (body, tail) = block.split_at(12 + max * 12);
            ensure!(
                le32(tail, 0) == seed.map_or(0, |seed| crc(seed, body)),
                "extent node in block {child}: checksum"
            );
            mapping.nodes.push(child);
            let max = u16::try_from(max).unwrap();
            node(read, &block, max, seed, Some((depth, file_block)), mapping)?;
        }
    }
    let rest = &bytes[12 + usize::from(entries) * 12..12 + usize::from(max) * 12];
    ensure!(
        rest.iter().all(|byte| *byte == 0),
        "extent node: behind its entries"
    );
    Ok(())
}
