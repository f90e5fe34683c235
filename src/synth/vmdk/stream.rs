//! streamOptimized: compressed grains between markers, in the technote's layout with the directory behind the grains,
//! or in that of VMware's own converter with the directory before them.
//!
//! Invariant: positions are closed-form from rank queries and from how many sectors the grains before a place take.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the file's sectors fit 32 bits, checked by `new`; the sums before that check are below 2^57"
)]

mod deflated;
mod places;
mod stored;

use std::sync::Arc;

use zerocopy::IntoBytes;

pub(crate) use self::deflated::with_compressed;

use self::deflated::DeflatedGrains;
use self::places::{Kind, Places};
use self::stored::StoredGrains;
use super::tables::{fill_directory, fill_table};
use super::{DescriptorParams, VmdkError, check_file_sectors, plan_grains};
use crate::config::spec::DirectoryPlace;
use crate::formats::vmdk::GTES_PER_GT;
use crate::formats::vmdk::descriptor::CreateType;
use crate::formats::vmdk::grain::STORED_GRAIN_SECTORS;
use crate::formats::vmdk::header::{GD_AT_END, Layout, SparseExtentHeader};
use crate::formats::vmdk::marker::Marker;
use crate::synth::cache::BlockCache;
use crate::synth::data_map::DataMap;
use crate::synth::grain_index::GrainIndex;
use crate::synth::index_store::StorePlace;
use crate::synth::region::{copy_padded, read_regions};
use crate::synth::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use crate::units::{SECTOR_SIZE, to_u64};

/// A disk as streamOptimized VMDK.
pub struct StreamVmdk {
    disk: Arc<dyn ByteSource>,
    descriptor: Vec<u8>,
    places: Places,
    grains: Grains,
}

/// How grains are compressed.
pub enum GrainForm<'a> {
    /// Stored blocks.
    Stored,
    /// Really, as this index says.
    Deflated {
        /// One entry for each grain that is allocated.
        index: Arc<GrainIndex>,
        /// The level that it was made with.
        level: u8,
        /// Where compressed grains are kept.
        cache: &'a Arc<BlockCache>,
        /// Where the index is kept between mounts.
        store: Option<StorePlace>,
    },
}

/// What produces the bytes of grains.
enum Grains {
    Stored(StoredGrains),
    Deflated(DeflatedGrains),
}

impl Grains {
    /// Sectors of all grains in front of number `rank`.
    fn sectors_before(&self, rank: u64) -> u64 {
        match self {
            Self::Stored(_) => STORED_GRAIN_SECTORS * rank,
            Self::Deflated(grains) => grains.index.sectors_before(rank),
        }
    }

    /// The number of the grain that holds sector `sector`, counted over grains only.
    fn rank_at(&self, sector: u64) -> u64 {
        match self {
            Self::Stored(_) => sector / STORED_GRAIN_SECTORS,
            Self::Deflated(grains) => grains.index.rank_at(sector),
        }
    }
}

impl StreamVmdk {
    /// A VMDK over `disk`, with grains where `data`, the disk's map, has data.
    ///
    /// # Errors
    /// [`VmdkError`] if the disk is no multiple of 64 KiB, or the file would not end within 2 TiB.
    ///
    /// # Panics
    /// If an index has not as many grains as are allocated.
    pub fn new(
        disk: Arc<dyn ByteSource>,
        data: &DataMap,
        descriptor: DescriptorParams,
        directory: DirectoryPlace,
        form: GrainForm<'_>,
    ) -> Result<Self, VmdkError> {
        let units = plan_grains(data, disk.len())?;
        let capacity = disk.len() / SECTOR_SIZE;
        let descriptor = descriptor.render(CreateType::StreamOptimized, capacity)?;
        let grains = match form {
            GrainForm::Stored => Grains::Stored(StoredGrains::new()),
            GrainForm::Deflated {
                index,
                level,
                cache,
                store,
            } => {
                assert!(
                    index.grain_count() == units.allocated_count(),
                    "an index has an entry for each grain"
                );
                Grains::Deflated(DeflatedGrains::new(index, level, cache, store))
            }
        };
        let vmdk = Self {
            disk,
            places: Places::new(units, directory, to_u64(descriptor.len())),
            descriptor,
            grains,
        };
        check_file_sectors(vmdk.file_sectors())?;
        Ok(vmdk)
    }

    /// Bytes of the file of a disk with these grains, stored: at least as many as with compressed ones.
    ///
    /// # Errors
    /// As [`StreamVmdk::new`].
    pub fn stored_len(
        data: &DataMap,
        disk_len: u64,
        directory: DirectoryPlace,
    ) -> Result<u64, VmdkError> {
        let units = plan_grains(data, disk_len)?;
        let grains = Grains::Stored(StoredGrains::new());
        let sectors = Places::new(units, directory, 0).file_sectors(&grains);
        check_file_sectors(sectors)?;
        Ok(sectors * SECTOR_SIZE)
    }

    fn file_sectors(&self) -> u64 {
        self.places.file_sectors(&self.grains)
    }

    fn header(&self, gd_offset: u64) -> SparseExtentHeader {
        SparseExtentHeader {
            layout: Layout::Stream,
            capacity: self.disk.len() / SECTOR_SIZE,
            rgd_offset: 0,
            gd_offset,
            over_head: self.places.over_head(),
        }
    }

    fn fill(&self, kind: Kind, within: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let (places, grains) = (&self.places, &self.grains);
        match kind {
            Kind::Header => {
                let directory = match places.directory {
                    DirectoryPlace::Footer => GD_AT_END,
                    DirectoryPlace::Front => places.directory_sector(grains),
                };
                copy_padded(self.header(directory).to_raw().as_bytes(), within, buf);
            }
            Kind::Footer => {
                let directory = places.directory_sector(grains);
                copy_padded(self.header(directory).to_raw().as_bytes(), within, buf);
            }
            Kind::Descriptor => copy_padded(&self.descriptor, within, buf),
            Kind::Padding | Kind::EmptyTable(_) => buf.fill(0),
            Kind::Marker(marker) => copy_padded(marker.to_raw().as_bytes(), within, buf),
            Kind::Directory => fill_directory(places.table_count, within, buf, |table| {
                places.table_sector(grains, table)
            }),
            Kind::Table(table) => fill_table(&places.units, table, within, buf, |rank| {
                places.grain_sector(grains, table, rank)
            }),
            Kind::Grain(grain, rank) => match grains {
                Grains::Stored(stored) => return stored.fill(&*self.disk, grain, within, buf),
                Grains::Deflated(deflated) => {
                    return deflated.fill(&*self.disk, (grain, rank), within, buf);
                }
            },
        }
        Ok(())
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
            |offset| self.places.region_at(&self.grains, offset),
            |region, within, part| self.fill(region.kind, within, part),
        )
    }

    fn run_at(&self, offset: u64) -> Run {
        if offset >= self.len() {
            return Run::EMPTY;
        }
        let region = self.places.region_at(&self.grains, offset);
        let within = region.within(offset);
        let region_len = region.end - region.start;
        let (end, origin) = match (region.kind, &self.grains) {
            (Kind::Grain(grain, _), Grains::Stored(_)) => stored::run(&*self.disk, grain, within),
            (Kind::Grain(..), Grains::Deflated(_)) => DeflatedGrains::run(within, region_len),
            (kind, _) => (region_len, kind.origin()),
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
        let region = self.places.region_at(&self.grains, offset);
        let known = match (region.kind, &self.grains) {
            (Kind::Grain(grain, _), Grains::Stored(_)) => {
                stored::known_zero(&*self.disk, grain, region.within(offset))
            }
            // All up to the next table at once.
            (Kind::Grain(grain, _), Grains::Deflated(_)) => {
                let end = self.places.grains_end(&self.grains, grain / GTES_PER_GT);
                Some((false, end - offset))
            }
            _ => None,
        };
        known.unwrap_or_else(|| {
            let run = self.run_at(offset);
            (run.origin.is_zero(), run.len)
        })
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        if offset >= self.len() {
            return;
        }
        let region = self.places.region_at(&self.grains, offset);
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
            Kind::Directory if within / 4 < self.places.table_count => {
                format!("grain directory, entry of grain table {}", within / 4)
            }
            Kind::Directory => "grain directory, unused entries".to_owned(),
            Kind::Footer => "VMDK footer".to_owned(),
            Kind::Grain(grain, rank) => {
                return match &self.grains {
                    Grains::Stored(_) => stored::explain(&*self.disk, grain, within, trail),
                    Grains::Deflated(grains) => grains.explain((grain, rank), within, trail),
                };
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

impl Kind {
    /// Where the bytes of what is no grain come from.
    const fn origin(self) -> Origin {
        match self {
            Self::Header => Origin::Computed("VMDK header"),
            Self::Descriptor => Origin::Computed("VMDK descriptor"),
            Self::Marker(Marker::EndOfStream) | Self::Padding | Self::EmptyTable(_) => Origin::Zero,
            Self::Marker(_) => Origin::Computed("VMDK marker"),
            Self::Directory => Origin::Computed("grain directory"),
            Self::Footer => Origin::Computed("VMDK footer"),
            Self::Table(_) | Self::Grain(..) => Origin::Computed("grain table"),
        }
    }
}
