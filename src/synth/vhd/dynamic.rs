//! Dynamic VHD: what `qemu-img convert -O vpc` writes, byte for byte except for what names the creator and the disk.
//!
//! Order: a copy of the footer, dynamic disk header, block allocation table, the allocated blocks in the order of the
//! disk, each behind its sector bitmap, and the footer. The last block is whole, also where the disk ends inside it.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the disk has at most 2040 GiB, checked by `new`, and so the file fewer than 2 TiB"
)]

use std::sync::Arc;

use zerocopy::IntoBytes;
use zerocopy::big_endian::U32;

use super::{VhdError, VhdParams};
use crate::formats::vhd::dynamic_header::{DynamicHeader, TABLE_OFFSET};
use crate::formats::vhd::footer::DiskType;
use crate::formats::vhd::{BITMAP_LEN, BLOCK_LEN, DYNAMIC_HEADER_LEN, FOOTER_LEN, UNUSED_ENTRY};
use crate::synth::container::{Container, Content};
use crate::synth::data_map::DataMap;
use crate::synth::region::{Region, copy_padded};
use crate::synth::source::ByteSource;
use crate::synth::unit_map::UnitMap;
use crate::units::{SECTOR_SIZE, to_u64, to_usize};

/// Bytes of a block with its bitmap.
const STRIDE: u64 = BITMAP_LEN + BLOCK_LEN;
/// Bytes of an entry of the block allocation table.
const ENTRY_LEN: u64 = 4;

/// A disk as dynamic VHD.
pub struct DynamicVhd {
    disk: Arc<dyn ByteSource>,
    blocks: UnitMap,
    footer: [u8; 512],
    header: [u8; 1024],
    /// First byte of the first block's bitmap.
    blocks_start: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::synth) enum Kind {
    FooterCopy,
    Header,
    Table,
    /// Of a block.
    Bitmap(u64),
    /// A block's part of the disk; the disk's offset.
    Block(u64),
    /// Behind the end of the disk in the last block.
    Padding,
    Footer,
}

impl DynamicVhd {
    /// A VHD over `disk`, with blocks where `data`, the disk's map, has data.
    ///
    /// # Errors
    /// [`VhdError`] if the disk is empty, no multiple of a sector or longer than 2040 GiB.
    pub fn new(
        disk: Arc<dyn ByteSource>,
        data: &DataMap,
        params: VhdParams,
    ) -> Result<Self, VhdError> {
        let footer = params.footer(DiskType::Dynamic, disk.len())?;
        let blocks = UnitMap::new(data, disk.len(), BLOCK_LEN);
        let block_count = blocks.unit_count();
        let raw = DynamicHeader {
            max_table_entries: u32::try_from(block_count).expect("2040 GiB have 2^20 blocks"),
        }
        .to_raw();
        let mut header = [0; 1024];
        header.copy_from_slice(raw.as_bytes());
        let table_len = (ENTRY_LEN * block_count).next_multiple_of(SECTOR_SIZE);
        Ok(Self {
            disk,
            blocks,
            footer,
            header,
            blocks_start: TABLE_OFFSET + table_len,
        })
    }

    /// First byte behind the last block.
    fn blocks_end(&self) -> u64 {
        self.blocks_start + STRIDE * self.blocks.allocated_count()
    }

    /// Fills `buf` from byte `from` of the block allocation table. Unused entries up to the end of its last sector are
    /// as those of blocks that are not allocated.
    fn fill_table(&self, from: u64, buf: &mut [u8]) {
        let first = from / ENTRY_LEN;
        let end = (from + to_u64(buf.len())).div_ceil(ENTRY_LEN);
        let mut entries = vec![UNUSED_ENTRY; to_usize(end - first)];
        for (block, rank) in self.blocks.allocated_in(first, end) {
            let sector = (self.blocks_start + STRIDE * rank) / SECTOR_SIZE;
            if let Some(entry) = entries.get_mut(to_usize(block - first)) {
                let sector = u32::try_from(sector).expect("a file below 2 TiB has 2^32 sectors");
                *entry = U32::new(sector);
            }
        }
        copy_padded(entries.as_bytes(), from % ENTRY_LEN, buf);
    }
}

impl Container for DynamicVhd {
    type Kind = Kind;

    fn disk(&self) -> &dyn ByteSource {
        &*self.disk
    }

    fn file_len(&self) -> u64 {
        self.blocks_end() + FOOTER_LEN
    }

    fn region_at(&self, offset: u64) -> Region<Kind> {
        if offset < FOOTER_LEN {
            return Region::new(Kind::FooterCopy, 0, FOOTER_LEN);
        }
        if offset < TABLE_OFFSET {
            return Region::new(Kind::Header, FOOTER_LEN, DYNAMIC_HEADER_LEN);
        }
        if offset < self.blocks_start {
            return Region::new(Kind::Table, TABLE_OFFSET, self.blocks_start - TABLE_OFFSET);
        }
        let end = self.blocks_end();
        if offset >= end {
            return Region::new(Kind::Footer, end, FOOTER_LEN);
        }
        let rank = (offset - self.blocks_start) / STRIDE;
        let block = self
            .blocks
            .select(rank)
            .expect("offsets between table and footer lie in allocated blocks");
        let bitmap = self.blocks_start + STRIDE * rank;
        let data = bitmap + BITMAP_LEN;
        if offset < data {
            return Region::new(Kind::Bitmap(block), bitmap, BITMAP_LEN);
        }
        let disk_offset = block * BLOCK_LEN;
        let len = BLOCK_LEN.min(self.disk.len() - disk_offset);
        if offset < data + len {
            Region::new(Kind::Block(disk_offset), data, len)
        } else {
            Region::new(Kind::Padding, data + len, BLOCK_LEN - len)
        }
    }

    fn content(&self, kind: Kind, within: u64) -> Content<'_> {
        match kind {
            Kind::FooterCopy | Kind::Footer => Content::Computed("VHD footer"),
            Kind::Header => Content::Computed("dynamic disk header"),
            Kind::Table => Content::Computed("block allocation table"),
            Kind::Bitmap(_) => Content::Computed("sector bitmap"),
            Kind::Block(disk_offset) => Content::Inner(&*self.disk, disk_offset + within),
            Kind::Padding => Content::Zero,
        }
    }

    fn render(&self, kind: Kind, within: u64, buf: &mut [u8]) {
        match kind {
            Kind::FooterCopy | Kind::Footer => copy_padded(&self.footer, within, buf),
            Kind::Header => copy_padded(&self.header, within, buf),
            Kind::Table => self.fill_table(within, buf),
            // Every sector is there: a reader without a parent has nothing else to find in a bitmap.
            Kind::Bitmap(_) => buf.fill(0xff),
            Kind::Block(_) | Kind::Padding => {}
        }
    }

    fn describe(&self, kind: Kind, within: u64) -> Option<(String, u64)> {
        let what = match kind {
            Kind::FooterCopy => "copy of the VHD footer".to_owned(),
            Kind::Header => "dynamic disk header".to_owned(),
            Kind::Table if within / ENTRY_LEN < self.blocks.unit_count() => {
                let block = within / ENTRY_LEN;
                format!("block allocation table, entry of block {block}")
            }
            Kind::Table => "block allocation table, unused entries".to_owned(),
            Kind::Bitmap(block) => format!("sector bitmap of block {block}"),
            Kind::Block(disk_offset) => format!("VHD block {}", disk_offset / BLOCK_LEN),
            Kind::Padding => "VHD block, behind the end of the disk".to_owned(),
            Kind::Footer => "VHD footer".to_owned(),
        };
        Some((what, within))
    }
}
