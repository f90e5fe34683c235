//! monolithicSparse: what `qemu-img convert -O vmdk` writes, byte for byte except for the descriptor.
//!
//! Order: header, descriptor, redundant directory and tables, directory and tables, zeros up to a grain, then the
//! allocated grains in the order of the disk.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the file's sectors fit 32 bits, checked by `new`; the sums before that check are below 2^57"
)]

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::tables::{directory_sectors, fill_directory, fill_table, table_count};
use super::{DescriptorParams, VmdkError, check_file_sectors, plan_grains};
use crate::formats::vmdk::descriptor::CreateType;
use crate::formats::vmdk::header::{Layout, SparseExtentHeader};
use crate::formats::vmdk::{
    DESCRIPTOR_END, GRAIN_LEN, GRAIN_SECTORS, GRAIN_TABLE_LEN, GRAIN_TABLE_SECTORS, GTES_PER_GT,
};
use crate::synth::container::{Container, Content};
use crate::synth::data_map::DataMap;
use crate::synth::region::{Region, copy_padded};
use crate::synth::source::ByteSource;
use crate::synth::unit_map::UnitMap;
use crate::units::{SECTOR_SIZE, checked_round_up, to_u64};

/// A disk as monolithicSparse VMDK.
pub struct SparseVmdk {
    disk: Arc<dyn ByteSource>,
    grains: UnitMap,
    header: [u8; 512],
    descriptor: Vec<u8>,
    table_count: u64,
    /// Sectors of one directory.
    directory_sectors: u64,
    /// Sectors before the first grain.
    over_head: u64,
}

/// The redundant copy of directory and tables comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::synth) enum Copy {
    Redundant,
    Primary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::synth) enum Kind {
    Header,
    Descriptor,
    Directory(Copy),
    /// Tables from this one on that have grains.
    Tables(Copy, u64),
    /// Tables from this one on that have none.
    EmptyTables(Copy, u64),
    Padding,
    /// A run of grains; the disk's offset of the first.
    Grains(u64),
}

impl SparseVmdk {
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
        let directory_sectors = directory_sectors(table_count);
        let copy_sectors = directory_sectors + GRAIN_TABLE_SECTORS * table_count;
        let over_head = checked_round_up(DESCRIPTOR_END + 2 * copy_sectors, GRAIN_SECTORS)
            .expect("the tables of 2^64 bytes take fewer sectors than 2^57");
        check_file_sectors(over_head + GRAIN_SECTORS * grains.allocated_count())?;
        let header = SparseExtentHeader {
            layout: Layout::Sparse,
            capacity,
            rgd_offset: DESCRIPTOR_END,
            gd_offset: DESCRIPTOR_END + copy_sectors,
            over_head,
        };
        let mut header_bytes = [0; 512];
        header_bytes.copy_from_slice(header.to_raw().as_bytes());
        Ok(Self {
            descriptor: descriptor.render(CreateType::MonolithicSparse, capacity)?,
            disk,
            grains,
            header: header_bytes,
            table_count,
            directory_sectors,
            over_head,
        })
    }

    fn copy_sectors(&self) -> u64 {
        self.directory_sectors + GRAIN_TABLE_SECTORS * self.table_count
    }

    /// First sector of a copy's directory.
    fn directory_sector(&self, copy: Copy) -> u64 {
        match copy {
            Copy::Redundant => DESCRIPTOR_END,
            Copy::Primary => DESCRIPTOR_END + self.copy_sectors(),
        }
    }

    fn table_sector(&self, copy: Copy, table: u64) -> u64 {
        self.directory_sector(copy) + self.directory_sectors + GRAIN_TABLE_SECTORS * table
    }

    fn grain_sector(&self, rank: u64) -> u64 {
        self.over_head + GRAIN_SECTORS * rank
    }

    /// The region of a sector inside one copy of directory and tables.
    fn copy_region_at(&self, copy: Copy, sector: u64) -> Region<Kind> {
        let directory = self.directory_sector(copy);
        let first_table = self.table_sector(copy, 0);
        if sector < first_table {
            return Region::new(
                Kind::Directory(copy),
                directory * SECTOR_SIZE,
                self.directory_sectors * SECTOR_SIZE,
            );
        }
        let table = (sector - first_table) / GRAIN_TABLE_SECTORS;
        let next_used = self
            .grains
            .next_allocated(table * GTES_PER_GT)
            .map_or(self.table_count, |grain| grain / GTES_PER_GT);
        let (kind, end) = if next_used == table {
            (Kind::Tables(copy, table), table + 1)
        } else {
            (Kind::EmptyTables(copy, table), next_used)
        };
        Region::new(
            kind,
            self.table_sector(copy, table) * SECTOR_SIZE,
            (end - table) * GRAIN_TABLE_LEN,
        )
    }
}

impl Container for SparseVmdk {
    type Kind = Kind;

    fn disk(&self) -> &dyn ByteSource {
        &*self.disk
    }

    fn file_len(&self) -> u64 {
        self.grain_sector(self.grains.allocated_count()) * SECTOR_SIZE
    }

    fn region_at(&self, offset: u64) -> Region<Kind> {
        let sector = offset / SECTOR_SIZE;
        let sectors = |kind, first: u64, end: u64| {
            Region::new(kind, first * SECTOR_SIZE, (end - first) * SECTOR_SIZE)
        };
        let primary = self.directory_sector(Copy::Primary);
        let tables_end = primary + self.copy_sectors();
        if sector == 0 {
            return sectors(Kind::Header, 0, 1);
        }
        if sector < DESCRIPTOR_END {
            let text_end = 1 + to_u64(self.descriptor.len()).div_ceil(SECTOR_SIZE);
            return if sector < text_end {
                sectors(Kind::Descriptor, 1, text_end)
            } else {
                sectors(Kind::Padding, text_end, DESCRIPTOR_END)
            };
        }
        if sector < primary {
            return self.copy_region_at(Copy::Redundant, sector);
        }
        if sector < tables_end {
            return self.copy_region_at(Copy::Primary, sector);
        }
        if sector < self.over_head {
            return sectors(Kind::Padding, tables_end, self.over_head);
        }
        let rank = (sector - self.over_head) / GRAIN_SECTORS;
        let run = self
            .grains
            .run_of_rank(rank)
            .expect("offsets inside the file lie in allocated grains");
        Region::new(
            Kind::Grains(run.first * GRAIN_LEN),
            self.grain_sector(run.rank) * SECTOR_SIZE,
            (run.end - run.first) * GRAIN_LEN,
        )
    }

    fn content(&self, kind: Kind, within: u64) -> Content<'_> {
        match kind {
            Kind::Header => Content::Computed("VMDK header"),
            Kind::Descriptor => Content::Computed("VMDK descriptor"),
            Kind::Directory(_) => Content::Computed("grain directory"),
            Kind::Tables(..) => Content::Computed("grain table"),
            Kind::EmptyTables(..) | Kind::Padding => Content::Zero,
            Kind::Grains(disk_offset) => Content::Inner(&*self.disk, disk_offset + within),
        }
    }

    fn render(&self, kind: Kind, within: u64, buf: &mut [u8]) {
        match kind {
            Kind::Header => copy_padded(&self.header, within, buf),
            Kind::Descriptor => copy_padded(&self.descriptor, within, buf),
            Kind::Directory(copy) => fill_directory(self.table_count, within, buf, |table| {
                self.table_sector(copy, table)
            }),
            Kind::Tables(_, table) => fill_table(&self.grains, table, within, buf, |rank| {
                self.grain_sector(rank)
            }),
            Kind::EmptyTables(..) | Kind::Padding | Kind::Grains(_) => {}
        }
    }

    fn describe(&self, kind: Kind, within: u64) -> Option<(String, u64)> {
        let copy_name = |copy| match copy {
            Copy::Redundant => "redundant ",
            Copy::Primary => "",
        };
        Some(match kind {
            Kind::Header => ("VMDK header".to_owned(), within),
            Kind::Descriptor => ("VMDK descriptor".to_owned(), within),
            Kind::Directory(copy) => {
                let name = copy_name(copy);
                let table = within / 4;
                let what = if table < self.table_count {
                    format!("{name}grain directory, entry of grain table {table}")
                } else {
                    format!("{name}grain directory, unused entries")
                };
                (what, within)
            }
            Kind::Tables(copy, first) | Kind::EmptyTables(copy, first) => {
                let table = first + within / GRAIN_TABLE_LEN;
                let within = within % GRAIN_TABLE_LEN;
                let grain = table * GTES_PER_GT + within / 4;
                let name = copy_name(copy);
                let what = format!("{name}grain table {table}, entry of grain {grain}");
                (what, within)
            }
            Kind::Padding => ("VMDK padding".to_owned(), within),
            Kind::Grains(disk_offset) => {
                let at = disk_offset + within;
                (format!("VMDK grain {}", at / GRAIN_LEN), at % GRAIN_LEN)
            }
        })
    }
}
