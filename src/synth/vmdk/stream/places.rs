//! Where everything in a streamOptimized VMDK lies.
//!
//! *Footer*: header, descriptor, zeros up to sector 128; for each grain table its allocated grains and then the table
//! behind a marker, also where it is empty, so that positions stay closed-form; the directory, the footer and the
//! end-of-stream marker. *Front*: header, descriptor, directory, tables, grains, end-of-stream marker.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the file's sectors fit 32 bits, checked by `StreamVmdk::new`; the sums before are below 2^57"
)]

use super::Grains;
use crate::config::spec::DirectoryPlace;
use crate::formats::vmdk::marker::Marker;
use crate::formats::vmdk::{DESCRIPTOR_END, GRAIN_TABLE_SECTORS};
use crate::synth::region::Region;
use crate::synth::unit_map::UnitMap;
use crate::synth::vmdk::tables::{directory_sectors, rank_of_table, table_count};
use crate::units::SECTOR_SIZE;

/// Sectors before the first grain with a footer; VirtualBox starts its sequential read exactly there.
const OVER_HEAD: u64 = 128;
/// Sectors of a grain table with its marker.
const MARKED_TABLE_SECTORS: u64 = 1 + GRAIN_TABLE_SECTORS;
/// Footer marker, footer, end of stream.
const TAIL_SECTORS: u64 = 3;

/// What a stretch of the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Header,
    Descriptor,
    Padding,
    /// The compressed form of this grain, and which of the allocated ones it is.
    Grain(u64, u64),
    Marker(Marker),
    /// A table that has grains.
    Table(u64),
    EmptyTable(u64),
    Directory,
    Footer,
}

/// What positions follow from, besides the lengths of grains.
pub(super) struct Places {
    pub(super) units: UnitMap,
    pub(super) directory: DirectoryPlace,
    pub(super) table_count: u64,
    directory_sectors: u64,
    /// Behind the descriptor's text.
    text_end: u64,
}

fn sectors(kind: Kind, first: u64, end: u64) -> Region<Kind> {
    Region::new(kind, first * SECTOR_SIZE, (end - first) * SECTOR_SIZE)
}

impl Places {
    pub(super) fn new(units: UnitMap, directory: DirectoryPlace, text_len: u64) -> Self {
        let table_count = table_count(&units);
        let text_end = 1 + text_len.div_ceil(SECTOR_SIZE);
        debug_assert!(text_end <= DESCRIPTOR_END, "the text was checked to fit");
        Self {
            directory,
            table_count,
            directory_sectors: directory_sectors(table_count),
            text_end,
            units,
        }
    }

    /// The header's `overHead`: the sector of the first grain or marker.
    pub(super) fn over_head(&self) -> u64 {
        match self.directory {
            DirectoryPlace::Footer => OVER_HEAD,
            DirectoryPlace::Front => {
                self.front_tables_sector() + GRAIN_TABLE_SECTORS * self.table_count
            }
        }
    }

    /// First sector of the tables before the grains.
    fn front_tables_sector(&self) -> u64 {
        DESCRIPTOR_END + self.directory_sectors
    }

    /// First sector of the grains of table `table`; for the number of tables, the sector behind the last table.
    fn group_sector(&self, grains: &Grains, table: u64) -> u64 {
        let of_grains = grains.sectors_before(rank_of_table(&self.units, table));
        let of_tables = match self.directory {
            DirectoryPlace::Footer => MARKED_TABLE_SECTORS * table,
            DirectoryPlace::Front => 0,
        };
        self.over_head() + of_grains + of_tables
    }

    /// First sector of table `table` itself, behind its marker if it has one.
    pub(super) fn table_sector(&self, grains: &Grains, table: u64) -> u64 {
        match self.directory {
            DirectoryPlace::Footer => self.group_sector(grains, table + 1) - GRAIN_TABLE_SECTORS,
            DirectoryPlace::Front => self.front_tables_sector() + GRAIN_TABLE_SECTORS * table,
        }
    }

    /// Where the grains of table `table`, with those that follow without a table between, end; in bytes.
    pub(super) fn grains_end(&self, grains: &Grains, table: u64) -> u64 {
        let sector = match self.directory {
            DirectoryPlace::Footer => self.table_sector(grains, table) - 1,
            DirectoryPlace::Front => self.group_sector(grains, self.table_count),
        };
        sector * SECTOR_SIZE
    }

    /// The sector of the directory itself.
    pub(super) fn directory_sector(&self, grains: &Grains) -> u64 {
        match self.directory {
            DirectoryPlace::Footer => self.group_sector(grains, self.table_count) + 1,
            DirectoryPlace::Front => DESCRIPTOR_END,
        }
    }

    /// The sector of the grain of table `table` that is number `rank` of the allocated ones.
    pub(super) fn grain_sector(&self, grains: &Grains, table: u64, rank: u64) -> u64 {
        let first_rank = rank_of_table(&self.units, table);
        self.group_sector(grains, table) + grains.sectors_before(rank)
            - grains.sectors_before(first_rank)
    }

    pub(super) fn file_sectors(&self, grains: &Grains) -> u64 {
        match self.directory {
            DirectoryPlace::Footer => {
                self.directory_sector(grains) + self.directory_sectors + TAIL_SECTORS
            }
            DirectoryPlace::Front => self.group_sector(grains, self.table_count) + 1,
        }
    }

    /// The region that holds the byte at `offset`, which is inside the file.
    pub(super) fn region_at(&self, grains: &Grains, offset: u64) -> Region<Kind> {
        let sector = offset / SECTOR_SIZE;
        let over_head = self.over_head();
        if sector < over_head {
            return self.head_region_at(sector, over_head);
        }
        let grains_end = self.group_sector(grains, self.table_count);
        if sector < grains_end {
            return self.group_region_at(grains, sector);
        }
        if self.directory == DirectoryPlace::Front {
            return sectors(Kind::Marker(Marker::EndOfStream), sector, sector + 1);
        }
        let directory = grains_end + 1;
        let tail = directory + self.directory_sectors;
        if sector == grains_end {
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

    /// The region of a sector before the first grain.
    fn head_region_at(&self, sector: u64, over_head: u64) -> Region<Kind> {
        if sector == 0 {
            return sectors(Kind::Header, 0, 1);
        }
        if sector < self.text_end {
            return sectors(Kind::Descriptor, 1, self.text_end);
        }
        let padding_end = match self.directory {
            DirectoryPlace::Footer => over_head,
            DirectoryPlace::Front => DESCRIPTOR_END,
        };
        if sector < padding_end {
            return sectors(Kind::Padding, self.text_end, padding_end);
        }
        let tables = self.front_tables_sector();
        if sector < tables {
            return sectors(Kind::Directory, DESCRIPTOR_END, tables);
        }
        let table = (sector - tables) / GRAIN_TABLE_SECTORS;
        let first = tables + GRAIN_TABLE_SECTORS * table;
        sectors(self.table_kind(table), first, first + GRAIN_TABLE_SECTORS)
    }

    fn table_kind(&self, table: u64) -> Kind {
        if rank_of_table(&self.units, table) == rank_of_table(&self.units, table + 1) {
            Kind::EmptyTable(table)
        } else {
            Kind::Table(table)
        }
    }

    /// The region of a sector among grains, and tables if they lie there.
    fn group_region_at(&self, grains: &Grains, sector: u64) -> Region<Kind> {
        let table = match self.directory {
            DirectoryPlace::Footer => self.table_at(grains, sector),
            DirectoryPlace::Front => 0,
        };
        let group = self.group_sector(grains, table);
        let first_rank = rank_of_table(&self.units, table);
        let before = grains.sectors_before(first_rank);
        let rank = grains.rank_at(before + (sector - group));
        let end_rank = match self.directory {
            DirectoryPlace::Footer => rank_of_table(&self.units, table + 1),
            DirectoryPlace::Front => self.units.allocated_count(),
        };
        if rank < end_rank {
            let grain = self
                .units
                .select(rank)
                .expect("ranks of a table are allocated");
            let start = group + grains.sectors_before(rank) - before;
            let end = group + grains.sectors_before(rank + 1) - before;
            return sectors(Kind::Grain(grain, rank), start, end);
        }
        let marker = self.table_sector(grains, table) - 1;
        if sector == marker {
            return sectors(Kind::Marker(Marker::GrainTable), marker, marker + 1);
        }
        let first = marker + 1;
        sectors(self.table_kind(table), first, first + GRAIN_TABLE_SECTORS)
    }

    /// The last table whose group starts at or before the sector.
    fn table_at(&self, grains: &Grains, sector: u64) -> u64 {
        let (mut table, mut end) = (0, self.table_count);
        while end - table > 1 {
            let middle = table + (end - table) / 2;
            if self.group_sector(grains, middle) <= sector {
                table = middle;
            } else {
                end = middle;
            }
        }
        table
    }
}
