//! VHDX images over any disk: the table follows from which blocks the plan has data in.
//!
//! Order: header section, empty log, metadata region, block allocation table, payload blocks in the order of the disk.
//! The last block is whole, also where the disk ends inside it. Opening one reads nothing and keeps nothing per block.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the disk has at most 64 TiB, checked by `new`, and the file little more"
)]

use std::sync::Arc;

use uuid::Uuid;
use zerocopy::IntoBytes;

use super::container::{Container, Content};
use super::data_map::DataMap;
use super::region::{Region, copy_padded};
use super::segments::{Segment, SegmentMap};
use super::source::ByteSource;
use super::unit_map::UnitMap;
use crate::formats::vhdx::file_identifier::RawFileIdentifier;
use crate::formats::vhdx::header::{HEADER_OFFSETS, Header};
use crate::formats::vhdx::metadata::{ITEMS_OFFSET, Metadata};
use crate::formats::vhdx::region_table::{REGION_TABLE_OFFSETS, RegionTable};
use crate::formats::vhdx::{
    ALIGNMENT, BAT_OFFSET, BLOCK_LEN, DISK_LEN_MAX, LOGICAL_SECTOR_LEN, METADATA_OFFSET, bat, guid,
};
use crate::units::{ByteCount, to_u64, to_usize};

/// Why a disk cannot be shown as VHDX.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VhdxError {
    /// All that is counted in sectors.
    #[error("disk of {0}: a VHDX's is a multiple of 512 bytes, and not empty")]
    DiskLen(ByteCount),
    /// The specification's limit.
    #[error("disk of {0}: a VHDX's is at most {DISK_LEN_MAX} bytes (64 TiB)")]
    DiskTooLong(ByteCount),
}

/// What the caller decides about a VHDX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VhdxParams {
    /// Differs between files of other bytes.
    pub file_write_guid: Uuid,
    /// Differs between disks of other bytes: a differencing disk notices by it that its parent changed.
    pub data_write_guid: Uuid,
    /// Identifies the disk to the guest.
    pub page_83_data: Uuid,
}

/// A disk as dynamic VHDX.
pub struct Vhdx {
    disk: Arc<dyn ByteSource>,
    blocks: UnitMap,
    /// All before the block allocation table.
    front: SegmentMap,
    /// First byte of the first payload block.
    blocks_start: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::synth) enum Kind {
    Front,
    Table,
    /// Behind the table's last entry.
    TablePadding,
    /// A run of blocks; the disk's offset of the first.
    Blocks(u64),
    /// Behind the end of the disk in the last block.
    Padding,
}

impl Vhdx {
    /// A VHDX over `disk`, with blocks where `data`, the disk's map, has data.
    ///
    /// # Errors
    /// [`VhdxError`] if the disk is empty, no multiple of a sector or longer than 64 TiB.
    pub fn new(
        disk: Arc<dyn ByteSource>,
        data: &DataMap,
        params: VhdxParams,
    ) -> Result<Self, VhdxError> {
        let disk_len = disk.len();
        if disk_len == 0 || !disk_len.is_multiple_of(LOGICAL_SECTOR_LEN) {
            return Err(VhdxError::DiskLen(ByteCount(disk_len)));
        }
        if disk_len > DISK_LEN_MAX {
            return Err(VhdxError::DiskTooLong(ByteCount(disk_len)));
        }
        let blocks = UnitMap::new(data, disk_len, BLOCK_LEN);
        let table_len = bat::ENTRY_LEN * bat::entry_count(blocks.unit_count());
        let region_len = table_len.next_multiple_of(ALIGNMENT);
        Ok(Self {
            disk,
            blocks,
            front: front(params, disk_len, region_len),
            blocks_start: BAT_OFFSET + region_len,
        })
    }

    fn entry_count(&self) -> u64 {
        bat::entry_count(self.blocks.unit_count())
    }

    /// Fills `buf` from byte `from` of the block allocation table.
    fn fill_table(&self, from: u64, buf: &mut [u8]) {
        let first = from / bat::ENTRY_LEN;
        let end = (from + to_u64(buf.len())).div_ceil(bat::ENTRY_LEN);
        let mut entries: Vec<_> = (first..end)
            .map(|index| match bat::is_sector_bitmap(index) {
                true => bat::NOT_PRESENT,
                false => bat::ZERO,
            })
            .collect();
        let blocks = (bat::blocks_before(first), bat::blocks_before(end));
        for (block, rank) in self.blocks.allocated_in(blocks.0, blocks.1) {
            if let Some(entry) = entries.get_mut(to_usize(bat::entry_of_block(block) - first)) {
                *entry = bat::fully_present(self.blocks_start + BLOCK_LEN * rank);
            }
        }
        copy_padded(entries.as_bytes(), from % bat::ENTRY_LEN, buf);
    }
}

/// Header section, log and metadata region.
fn front(params: VhdxParams, disk_len: u64, bat_len: u64) -> SegmentMap {
    let mut front = SegmentMap::new();
    let mut push = |offset, bytes: &[u8], structure: &'static str| {
        front.push_zeros_to(offset, "VHDX padding");
        // Most of a structure is reserved: its zeros are known to be such.
        let len = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let bytes: Arc<[u8]> = bytes.iter().copied().take(len).collect();
        front.push(to_u64(len), structure, Segment::Bytes { bytes, structure });
    };
    push(
        0,
        RawFileIdentifier::ours().as_bytes(),
        "VHDX file type identifier",
    );
    for (sequence_number, offset) in (1..).zip(HEADER_OFFSETS) {
        let header = Header {
            sequence_number,
            file_write_guid: guid(params.file_write_guid),
            data_write_guid: guid(params.data_write_guid),
        };
        push(offset, header.to_raw().as_bytes(), "VHDX header");
    }
    let regions = RegionTable {
        bat_len: u32::try_from(bat_len).expect("the table of 64 TiB has fewer than 2^32 bytes"),
    };
    let regions = regions.to_raw();
    for offset in REGION_TABLE_OFFSETS {
        push(offset, regions.as_bytes(), "VHDX region table");
    }
    let metadata = Metadata {
        disk_len,
        page_83_data: guid(params.page_83_data),
    };
    push(
        METADATA_OFFSET,
        Metadata::table().as_bytes(),
        "VHDX metadata table",
    );
    let items = METADATA_OFFSET + ITEMS_OFFSET;
    push(items, metadata.to_raw().as_bytes(), "VHDX metadata items");
    front.push_zeros_to(BAT_OFFSET, "VHDX padding");
    front
}

impl Container for Vhdx {
    type Kind = Kind;

    fn disk(&self) -> &dyn ByteSource {
        &*self.disk
    }

    fn file_len(&self) -> u64 {
        self.blocks_start + BLOCK_LEN * self.blocks.allocated_count()
    }

    fn region_at(&self, offset: u64) -> Region<Kind> {
        if offset < BAT_OFFSET {
            return Region::new(Kind::Front, 0, BAT_OFFSET);
        }
        let table_len = bat::ENTRY_LEN * self.entry_count();
        let table_end = BAT_OFFSET + table_len;
        if offset < table_end {
            return Region::new(Kind::Table, BAT_OFFSET, table_len);
        }
        if offset < self.blocks_start {
            let len = self.blocks_start - table_end;
            return Region::new(Kind::TablePadding, table_end, len);
        }
        let run = self
            .blocks
            .run_of_rank((offset - self.blocks_start) / BLOCK_LEN)
            .expect("offsets inside the file lie in allocated blocks");
        let start = self.blocks_start + BLOCK_LEN * run.rank;
        let disk_offset = run.first * BLOCK_LEN;
        let whole = (run.end - run.first) * BLOCK_LEN;
        let len = whole.min(self.disk.len() - disk_offset);
        if offset < start + len {
            Region::new(Kind::Blocks(disk_offset), start, len)
        } else {
            Region::new(Kind::Padding, start + len, whole - len)
        }
    }

    fn content(&self, kind: Kind, within: u64) -> Content<'_> {
        match kind {
            Kind::Front => Content::Inner(&self.front, within),
            Kind::Blocks(disk_offset) => Content::Inner(&*self.disk, disk_offset + within),
            Kind::Table => Content::Computed("block allocation table"),
            Kind::TablePadding | Kind::Padding => Content::Zero,
        }
    }

    fn render(&self, kind: Kind, within: u64, buf: &mut [u8]) {
        if kind == Kind::Table {
            self.fill_table(within, buf);
        }
    }

    fn describe(&self, kind: Kind, within: u64) -> Option<(String, u64)> {
        Some(match kind {
            Kind::Front => return None,
            Kind::Table => {
                let index = within / bat::ENTRY_LEN;
                let block = bat::blocks_before(index);
                let of = if bat::is_sector_bitmap(index) {
                    format!("the sector bitmap before block {block}")
                } else {
                    format!("block {block}")
                };
                (format!("block allocation table, entry of {of}"), within)
            }
            Kind::TablePadding => ("block allocation table, unused entries".to_owned(), within),
            Kind::Blocks(disk_offset) => {
                let at = disk_offset + within;
                (format!("VHDX block {}", at / BLOCK_LEN), at % BLOCK_LEN)
            }
            Kind::Padding => ("VHDX block, behind the end of the disk".to_owned(), within),
        })
    }
}
