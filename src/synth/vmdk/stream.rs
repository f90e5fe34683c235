//! streamOptimized with stored-deflate grains, in the technote's layout: directory and footer at the end.
//!
//! Order: header, descriptor, zeros up to sector 128; for each grain table its allocated grains and then the table
//! behind a marker, also where it is empty, so that positions stay closed-form; the directory, the footer and the
//! end-of-stream marker.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the file's sectors fit 32 bits, checked by `new`; the sums before that check are below 2^57"
)]

use std::cell::RefCell;
use std::sync::Arc;

use zerocopy::IntoBytes;

use super::adler::{AdlerCache, checksum};
use super::tables::{directory_sectors, fill_directory, fill_table, rank_of_table, table_count};
use super::{DescriptorParams, VmdkError, check_file_sectors, plan_grains};
use crate::formats::vmdk::descriptor::CreateType;
use crate::formats::vmdk::grain::{
    ADLER_END, ADLER_OFFSET, BODY_LEN, BODY_OFFSET, LAST_BYTE_OFFSET, SECOND_BLOCK,
    SECOND_BLOCK_OFFSET, STORED_GRAIN_LEN, STORED_GRAIN_SECTORS, prefix,
};
use crate::formats::vmdk::header::{GD_AT_END, Layout, SparseExtentHeader};
use crate::formats::vmdk::marker::Marker;
use crate::formats::vmdk::{
    DESCRIPTOR_END, GRAIN_LEN, GRAIN_SECTORS, GRAIN_TABLE_SECTORS, GTES_PER_GT,
};
use crate::synth::data_map::DataMap;
use crate::synth::region::{Region, copy_padded, read_regions};
use crate::synth::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use crate::synth::unit_map::UnitMap;
use crate::units::{SECTOR_SIZE, to_u64, to_usize};

/// Sectors before the first grain; VirtualBox starts its sequential read exactly there.
const OVER_HEAD: u64 = 128;
/// Sectors of a grain table with its marker.
const MARKED_TABLE_SECTORS: u64 = 1 + GRAIN_TABLE_SECTORS;
/// Footer marker, footer, end of stream.
const TAIL_SECTORS: u64 = 3;

/// A disk as streamOptimized VMDK.
pub struct StreamVmdk {
    disk: Arc<dyn ByteSource>,
    grains: UnitMap,
    descriptor: Vec<u8>,
    table_count: u64,
    directory_sectors: u64,
    adlers: AdlerCache,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Header,
    Descriptor,
    Padding,
    /// The stored form of this grain.
    Grain(u64),
    Marker(Marker),
    /// A table that has grains.
    Table(u64),
    EmptyTable(u64),
    Directory,
    Footer,
}

thread_local! {
    /// A grain for checksums that nothing read before.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl StreamVmdk {
    /// A VMDK over `disk`, with grains where `data`, the disk's map, has data.
    ///
    /// # Errors
    /// [`VmdkError`] if the disk is no multiple of 64 KiB, or the file would not end within 2 TiB.
    pub fn new(
        disk: Arc<dyn ByteSource>,
        data: &DataMap,
        descriptor: DescriptorParams,
    ) -> Result<Self, VmdkError> {
        let grains = plan_grains(data, disk.len())?;
        let capacity = disk.len() / SECTOR_SIZE;
        let table_count = table_count(&grains);
        let vmdk = Self {
            descriptor: descriptor.render(CreateType::StreamOptimized, capacity)?,
            disk,
            grains,
            table_count,
            directory_sectors: directory_sectors(table_count),
            adlers: AdlerCache::new(),
        };
        check_file_sectors(vmdk.file_sectors())?;
        Ok(vmdk)
    }

    /// First sector of the grains of table `table`; for the number of tables, the sector of the directory's marker.
    fn table_group_sector(&self, table: u64) -> u64 {
        OVER_HEAD
            + STORED_GRAIN_SECTORS * rank_of_table(&self.grains, table)
            + MARKED_TABLE_SECTORS * table
    }

    /// First sector of table `table` itself, behind its marker.
    fn table_sector(&self, table: u64) -> u64 {
        self.table_group_sector(table + 1) - GRAIN_TABLE_SECTORS
    }

    fn directory_marker_sector(&self) -> u64 {
        OVER_HEAD
            + STORED_GRAIN_SECTORS * self.grains.allocated_count()
            + MARKED_TABLE_SECTORS * self.table_count
    }

    fn file_sectors(&self) -> u64 {
        self.directory_marker_sector() + 1 + self.directory_sectors + TAIL_SECTORS
    }

    fn header(&self, gd_offset: u64) -> SparseExtentHeader {
        SparseExtentHeader {
            layout: Layout::Stream,
            capacity: self.disk.len() / SECTOR_SIZE,
            rgd_offset: 0,
            gd_offset,
            over_head: OVER_HEAD,
        }
    }

    /// The region that holds the byte at `offset`, which is inside the file.
    fn region_at(&self, offset: u64) -> Region<Kind> {
        let sector = offset / SECTOR_SIZE;
        let sectors = |kind, first: u64, end: u64| {
            Region::new(kind, first * SECTOR_SIZE, (end - first) * SECTOR_SIZE)
        };
        let directory_marker = self.directory_marker_sector();
        if sector < OVER_HEAD {
            let text_end = 1 + to_u64(self.descriptor.len()).div_ceil(SECTOR_SIZE);
            debug_assert!(text_end <= DESCRIPTOR_END, "the text was checked to fit");
            return match sector {
                0 => sectors(Kind::Header, 0, 1),
                _ if sector < text_end => sectors(Kind::Descriptor, 1, text_end),
                _ => sectors(Kind::Padding, text_end, OVER_HEAD),
            };
        }
        if sector < directory_marker {
            return self.group_region_at(sector);
        }
        let directory = directory_marker + 1;
        let tail = directory + self.directory_sectors;
        if sector == directory_marker {
            let marker = Marker::GrainDirectory {
                sectors: self.directory_sectors,
            };
            return sectors(Kind::Marker(marker), sector, directory);
        }
        if sector < tail {
            return sectors(Kind::Directory, directory, tail);
        }
        let kind = match sector - tail {
            0 => Kind::Marker(Marker::Footer),
            1 => Kind::Footer,
            _ => Kind::Marker(Marker::EndOfStream),
        };
        sectors(kind, sector, sector + 1)
    }

    /// The region of a sector among grains and tables.
    fn group_region_at(&self, sector: u64) -> Region<Kind> {
        // The last table whose group starts at or before the sector.
        let (mut table, mut end) = (0, self.table_count);
        while end - table > 1 {
            let middle = table + (end - table) / 2;
            if self.table_group_sector(middle) <= sector {
                table = middle;
            } else {
                end = middle;
            }
        }
        let group = self.table_group_sector(table);
        let first_rank = rank_of_table(&self.grains, table);
        let end_rank = rank_of_table(&self.grains, table + 1);
        let rank = first_rank + (sector - group) / STORED_GRAIN_SECTORS;
        if rank < end_rank {
            let grain = self
                .grains
                .select(rank)
                .expect("ranks of a table are allocated");
            let start = group + STORED_GRAIN_SECTORS * (rank - first_rank);
            return Region::new(Kind::Grain(grain), start * SECTOR_SIZE, STORED_GRAIN_LEN);
        }
        let marker = self.table_sector(table) - 1;
        if sector == marker {
            return Region::new(
                Kind::Marker(Marker::GrainTable),
                marker * SECTOR_SIZE,
                SECTOR_SIZE,
            );
        }
        let kind = if first_rank == end_rank {
            Kind::EmptyTable(table)
        } else {
            Kind::Table(table)
        };
        Region::new(
            kind,
            (marker + 1) * SECTOR_SIZE,
            GRAIN_TABLE_SECTORS * SECTOR_SIZE,
        )
    }

    fn fill(&self, kind: Kind, within: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        match kind {
            Kind::Header => copy_padded(self.header(GD_AT_END).to_raw().as_bytes(), within, buf),
            Kind::Footer => {
                let directory = self.directory_marker_sector() + 1;
                copy_padded(self.header(directory).to_raw().as_bytes(), within, buf);
            }
            Kind::Descriptor => copy_padded(&self.descriptor, within, buf),
            Kind::Padding | Kind::EmptyTable(_) => buf.fill(0),
            Kind::Marker(marker) => copy_padded(marker.to_raw().as_bytes(), within, buf),
            Kind::Directory => fill_directory(self.table_count, within, buf, |table| {
                self.table_sector(table)
            }),
            Kind::Table(table) => {
                let first = self.table_group_sector(table);
                let first_rank = rank_of_table(&self.grains, table);
                fill_table(&self.grains, table, within, buf, |rank| {
                    first + STORED_GRAIN_SECTORS * (rank - first_rank)
                });
            }
            Kind::Grain(grain) => return self.fill_grain(grain, within, buf),
        }
        Ok(())
    }

    /// Fills `buf` from byte `from` of a stored grain, with at most one read of its data.
    fn fill_grain(&self, grain: u64, from: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let end = from + to_u64(buf.len());
        let data = data_before(from)..data_before(end);
        let mut last_byte = None;
        if !data.is_empty() {
            // The last byte lies five bytes further on than the rest; it is read in one go with it and moved.
            let start = if data.start == BODY_LEN {
                LAST_BYTE_OFFSET
            } else {
                BODY_OFFSET + data.start
            };
            let part = buf
                .get_mut(to_usize(start - from)..)
                .and_then(|rest| rest.get_mut(..to_usize(data.end - data.start)))
                .expect("a grain's stored form is longer than its data");
            self.disk
                .read_exact_at(grain * GRAIN_LEN + data.start, part)?;
            self.adlers.observe(grain, data.start, part);
            if data.end == GRAIN_LEN {
                last_byte = part.last().copied();
            }
        }
        overlay(buf, from, 0, prefix(grain * GRAIN_SECTORS).as_bytes());
        overlay(buf, from, SECOND_BLOCK_OFFSET, &SECOND_BLOCK);
        if let Some(byte) = last_byte {
            overlay(buf, from, LAST_BYTE_OFFSET, &[byte]);
        }
        if from < ADLER_END && end > ADLER_OFFSET {
            let adler = self.adler(grain)?;
            overlay(buf, from, ADLER_OFFSET, &adler.to_be_bytes());
        }
        if let Some(padding) = buf.get_mut(to_usize(ADLER_END.saturating_sub(from))..) {
            padding.fill(0);
        }
        Ok(())
    }

    /// The checksum of a grain, from what was read before or from its data.
    fn adler(&self, grain: u64) -> Result<u32, ReadError> {
        if let Some(adler) = self.adlers.get(grain) {
            return Ok(adler);
        }
        // Taken out, not borrowed: the disk below may itself hold a VMDK.
        let mut scratch = SCRATCH.take();
        scratch.resize(to_usize(GRAIN_LEN), 0);
        let result = self.disk.read_exact_at(grain * GRAIN_LEN, &mut scratch);
        let adler = result.map(|()| {
            self.adlers.observe(grain, 0, &scratch);
            checksum(&scratch)
        });
        SCRATCH.replace(scratch);
        adler
    }
}

/// Data bytes in front of offset `at` of a stored grain.
fn data_before(at: u64) -> u64 {
    at.saturating_sub(BODY_OFFSET).min(BODY_LEN) + u64::from(at > LAST_BYTE_OFFSET)
}

/// Copies the part of `bytes`, which lie at offset `at`, that `buf`, which begins at offset `from`, covers.
fn overlay(buf: &mut [u8], from: u64, at: u64, bytes: &[u8]) {
    let skip = to_usize(from.saturating_sub(at));
    let target = buf.get_mut(to_usize(at.saturating_sub(from))..);
    if let (Some(target), Some(bytes)) = (target, bytes.get(skip..)) {
        for (target, byte) in target.iter_mut().zip(bytes) {
            *target = *byte;
        }
    }
}

impl ByteSource for StreamVmdk {
    fn len(&self) -> u64 {
        self.file_sectors() * SECTOR_SIZE
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len())?;
        read_regions(
            offset,
            buf,
            |offset| self.region_at(offset),
            |region, within, part| self.fill(region.kind, within, part),
        )
    }

    fn run_at(&self, offset: u64) -> Run {
        if offset >= self.len() {
            return Run::EMPTY;
        }
        let region = self.region_at(offset);
        let within = region.within(offset);
        let (end, origin) = match region.kind {
            Kind::Grain(_) if within < BODY_OFFSET => {
                (BODY_OFFSET, Origin::Computed("grain marker"))
            }
            Kind::Grain(grain) if within < SECOND_BLOCK_OFFSET => {
                let run = self.disk.run_at(grain * GRAIN_LEN + (within - BODY_OFFSET));
                let end = within.saturating_add(run.len).min(SECOND_BLOCK_OFFSET);
                (end, run.origin)
            }
            // Checksum, padding and the one data byte among them are one run: holes of single bytes help nobody.
            Kind::Grain(_) => (STORED_GRAIN_LEN, Origin::Computed("grain trailer")),
            kind => {
                let origin = match kind {
                    Kind::Header => Origin::Computed("VMDK header"),
                    Kind::Descriptor => Origin::Computed("VMDK descriptor"),
                    Kind::Marker(Marker::EndOfStream) | Kind::Padding | Kind::EmptyTable(_) => {
                        Origin::Zero
                    }
                    Kind::Marker(_) => Origin::Computed("VMDK marker"),
                    Kind::Directory => Origin::Computed("grain directory"),
                    Kind::Footer => Origin::Computed("VMDK footer"),
                    Kind::Table(_) | Kind::Grain(_) => Origin::Computed("grain table"),
                };
                (region.end - region.start, origin)
            }
        };
        Run {
            len: end - within,
            origin,
        }
    }

    fn known_zero_at(&self, offset: u64) -> (bool, u64) {
        if offset >= self.len() {
            return (true, 0);
        }
        let region = self.region_at(offset);
        let within = region.within(offset);
        match region.kind {
            Kind::Grain(grain) if (BODY_OFFSET..SECOND_BLOCK_OFFSET).contains(&within) => {
                let in_disk = grain * GRAIN_LEN + (within - BODY_OFFSET);
                let (is_zero, len) = self.disk.known_zero_at(in_disk);
                (is_zero, len.min(SECOND_BLOCK_OFFSET - within))
            }
            _ => {
                let run = self.run_at(offset);
                (run.origin.is_zero(), run.len)
            }
        }
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        if offset >= self.len() {
            return;
        }
        let region = self.region_at(offset);
        let within = region.within(offset);
        let what = match region.kind {
            Kind::Header => "VMDK header".to_owned(),
            Kind::Descriptor => "VMDK descriptor".to_owned(),
            Kind::Padding => "VMDK padding".to_owned(),
            Kind::Marker(Marker::EndOfStream) => "end-of-stream marker".to_owned(),
            Kind::Marker(Marker::GrainTable) => "grain table marker".to_owned(),
            Kind::Marker(Marker::GrainDirectory { .. }) => "grain directory marker".to_owned(),
            Kind::Marker(Marker::Footer) => "footer marker".to_owned(),
            Kind::Table(table) | Kind::EmptyTable(table) => {
                let grain = table * GTES_PER_GT + within / 4;
                format!("grain table {table}, entry of grain {grain}")
            }
            Kind::Directory if within / 4 < self.table_count => {
                format!("grain directory, entry of grain table {}", within / 4)
            }
            Kind::Directory => "grain directory, unused entries".to_owned(),
            Kind::Footer => "VMDK footer".to_owned(),
            Kind::Grain(grain) => {
                let part = grain_part(within);
                trail.push(Step {
                    what: format!("stored VMDK grain {grain}, {part}"),
                    offset: within,
                });
                if part == DATA_PART {
                    let disk_offset = grain * GRAIN_LEN + data_before(within);
                    self.disk.explain_at(disk_offset, trail);
                }
                return;
            }
        };
        trail.push(Step {
            what,
            offset: within,
        });
    }

    fn may_block(&self, _: u64, _: u64) -> bool {
        self.disk.may_block(0, self.disk.len())
    }
}

const DATA_PART: &str = "data";

/// What the byte at `at` of a stored grain is.
fn grain_part(at: u64) -> &'static str {
    match at {
        0..12 => "grain marker",
        12..BODY_OFFSET => "deflate header",
        BODY_OFFSET..SECOND_BLOCK_OFFSET | LAST_BYTE_OFFSET => DATA_PART,
        SECOND_BLOCK_OFFSET..LAST_BYTE_OFFSET => "deflate block header",
        ADLER_OFFSET..ADLER_END => "adler-32",
        _ => "padding",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_bytes_are_counted() {
        for (at, count) in [
            (0, 0),
            (19, 0),
            (20, 1),
            (65554, 65535),
            (65559, 65535),
            (65560, 65536),
            (66048, 65536),
        ] {
            assert_eq!(data_before(at), count, "{at}");
        }
    }

    #[test]
    fn overlays_are_clipped() {
        for (from, expected) in [
            (0, [9, 9, 9, 1]),
            (2, [9, 1, 2, 3]),
            (3, [1, 2, 3, 9]),
            (5, [3, 9, 9, 9]),
            (6, [9; 4]),
            (60, [9; 4]),
        ] {
            let mut buf = [9; 4];
            overlay(&mut buf, from, 3, &[1, 2, 3]);
            assert_eq!(buf, expected, "{from}");
        }
    }
}
