//! VDI over any disk: the block map and every offset follow from which blocks the plan has data in.
//!
//! Order: header, block map, zeros up to a sector, the allocated blocks in the order of the disk. Invariant: nothing is kept
//! per block; the map is rendered when it is read.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the file has fewer blocks than 2^30 of 2^20 bytes, checked by `new`"
)]

use std::sync::Arc;

use uuid::Uuid;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use super::container::{Container, Content};
use super::data_map::DataMap;
use super::fingerprint;
use super::region::{Region, copy_padded};
use super::source::ByteSource;
use super::unit_map::UnitMap;
use crate::formats::vdi::{
    BLOCK_LEN, BLOCKS_MAX, MAP_ENTRY_LEN, MAP_OFFSET, UNALLOCATED, VdiHeader, block_count,
    data_offset,
};
use crate::units::{ByteCount, SECTOR_SIZE, low32, to_u64, to_usize};

/// Why a disk cannot be shown as VDI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VdiError {
    /// VirtualBox and qemu round other lengths, in different directions.
    #[error("disk of {0}: a VDI's is a multiple of 512 bytes, and not empty")]
    DiskLen(ByteCount),
    /// The block map would be larger than readers accept.
    #[error("disk of {0}: a VDI's has at most {BLOCKS_MAX} blocks of 1 MiB, {max}", max = ByteCount(BLOCKS_MAX * BLOCK_LEN))]
    TooLarge(ByteCount),
}

/// The two identifiers of a VDI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VdiIds {
    /// Of the image, whatever it holds: VirtualBox knows media by it.
    pub image: Uuid,
    /// Of its contents: a child disk stores it and so notices that its parent changed.
    pub modification: Uuid,
}

/// The identifiers of the image `name` of a config with this seed, over a disk with this content fingerprint.
#[must_use]
pub fn ids(seed: &str, name: &str, fingerprint: &[u8; 32]) -> VdiIds {
    let image = fingerprint::uuid(seed, &format!("VDI {name}"));
    VdiIds {
        image,
        modification: Uuid::new_v5(&image, fingerprint),
    }
}

/// A disk as VDI.
pub struct Vdi {
    disk: Arc<dyn ByteSource>,
    blocks: UnitMap,
    header: [u8; to_usize(MAP_OFFSET)],
    data_offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::synth) enum Kind {
    Header,
    BlockMap,
    /// A run of blocks; the disk's offset of the first.
    Data(u64),
    Padding,
}

impl Vdi {
    /// A VDI over `disk`, with blocks where `data`, the disk's map, has data.
    ///
    /// # Errors
    /// [`VdiError`] if the disk is no multiple of 512 bytes, or has more blocks than a block map.
    pub fn new(disk: Arc<dyn ByteSource>, data: &DataMap, ids: VdiIds) -> Result<Self, VdiError> {
        let disk_len = disk.len();
        if disk_len == 0 || !disk_len.is_multiple_of(SECTOR_SIZE) {
            return Err(VdiError::DiskLen(ByteCount(disk_len)));
        }
        let too_large = |_| VdiError::TooLarge(ByteCount(disk_len));
        let block_count = block_count(disk_len).map_err(too_large)?;
        let blocks = UnitMap::new(data, disk_len, BLOCK_LEN);
        let header = VdiHeader {
            disk_len,
            allocated_count: small(blocks.allocated_count()),
            image_uuid: ids.image,
            modification_uuid: ids.modification,
        };
        let mut header_bytes = [0; to_usize(MAP_OFFSET)];
        header_bytes.copy_from_slice(header.to_raw().map_err(too_large)?.as_bytes());
        Ok(Self {
            disk,
            blocks,
            header: header_bytes,
            data_offset: data_offset(block_count),
        })
    }

    /// Fills `buf` from byte `within` of the block map.
    fn fill_map(&self, within: u64, buf: &mut [u8]) {
        let first = within / MAP_ENTRY_LEN;
        let end = (within + to_u64(buf.len())).div_ceil(MAP_ENTRY_LEN);
        let mut entries = vec![UNALLOCATED; to_usize(end - first)];
        for (block, rank) in self.blocks.allocated_in(first, end) {
            if let Some(entry) = entries.get_mut(to_usize(block - first)) {
                *entry = U32::new(small(rank));
            }
        }
        copy_padded(entries.as_bytes(), within % MAP_ENTRY_LEN, buf);
    }
}

/// A number of blocks.
fn small(count: u64) -> u32 {
    debug_assert!(count <= BLOCKS_MAX, "disks of more blocks are refused");
    low32(count)
}

impl Container for Vdi {
    type Kind = Kind;

    fn disk(&self) -> &dyn ByteSource {
        &*self.disk
    }

    fn file_len(&self) -> u64 {
        self.data_offset + self.blocks.allocated_count() * BLOCK_LEN
    }

    fn region_at(&self, offset: u64) -> Region<Kind> {
        let map_end = MAP_OFFSET + self.blocks.unit_count() * MAP_ENTRY_LEN;
        let between = |kind, start: u64, end: u64| Region::new(kind, start, end - start);
        if offset < MAP_OFFSET {
            return between(Kind::Header, 0, MAP_OFFSET);
        }
        if offset < map_end {
            return between(Kind::BlockMap, MAP_OFFSET, map_end);
        }
        if offset < self.data_offset {
            return between(Kind::Padding, map_end, self.data_offset);
        }
        let run = self
            .blocks
            .run_of_rank((offset - self.data_offset) / BLOCK_LEN)
            .expect("offsets inside the file lie in allocated blocks");
        let start = self.data_offset + run.rank * BLOCK_LEN;
        let end = start + (run.end - run.first) * BLOCK_LEN;
        let from = run.first * BLOCK_LEN;
        // The disk may end inside its last block; the file has all of it.
        let data_end = end.min(start + (self.disk.len() - from));
        if offset < data_end {
            between(Kind::Data(from), start, data_end)
        } else {
            between(Kind::Padding, data_end, end)
        }
    }

    fn content(&self, kind: Kind, within: u64) -> Content<'_> {
        match kind {
            Kind::Header => Content::Computed("VDI header"),
            Kind::BlockMap => Content::Computed("VDI block map"),
            Kind::Padding => Content::Zero,
            Kind::Data(from) => Content::Inner(&*self.disk, from + within),
        }
    }

    fn render(&self, kind: Kind, within: u64, buf: &mut [u8]) {
        match kind {
            Kind::Header => copy_padded(&self.header, within, buf),
            Kind::BlockMap => self.fill_map(within, buf),
            Kind::Data(_) | Kind::Padding => {}
        }
    }

    fn describe(&self, kind: Kind, within: u64) -> Option<(String, u64)> {
        Some(match kind {
            Kind::Header => ("VDI header".to_owned(), within),
            Kind::BlockMap => {
                let block = within / MAP_ENTRY_LEN;
                let what = format!("VDI block map, entry of block {block}");
                (what, within % MAP_ENTRY_LEN)
            }
            Kind::Data(from) => {
                let at = from + within;
                (format!("VDI block {}", at / BLOCK_LEN), at % BLOCK_LEN)
            }
            Kind::Padding => ("VDI padding".to_owned(), within),
        })
    }
}
