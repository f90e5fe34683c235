//! Which blocks of a file hold data.

use super::BlockRange;
use crate::formats::ext4::BLOCK_SIZE;

/// Byte ranges as blocks that cover them; `None` if that is the whole file, or a file beyond ext4's limit.
pub(super) fn block_ranges(ranges: &[(u64, u64)], size: u64) -> Option<Box<[BlockRange]>> {
    let mut blocks: Vec<BlockRange> = Vec::new();
    for (start, end) in ranges {
        let start = u32::try_from(start / BLOCK_SIZE).ok()?;
        let end = u32::try_from(end.div_ceil(BLOCK_SIZE)).ok()?;
        match blocks.last_mut() {
            Some(last) if last.file_block.saturating_add(last.len) >= start => {
                last.len = end.saturating_sub(last.file_block);
            }
            last => {
                let before = last.map_or(0, |last| last.before.saturating_add(last.len));
                let len = end.saturating_sub(start);
                blocks.push(BlockRange {
                    file_block: start,
                    len,
                    before,
                });
            }
        }
    }
    let mapped: u64 = blocks.iter().map(|range| u64::from(range.len)).sum();
    (mapped < size.div_ceil(BLOCK_SIZE)).then(|| blocks.into_boxed_slice())
}
