//! qcow2 over any disk: every table, count and offset follows from which clusters the plan has data in.
//!
//! Order: header, refcount table, refcount blocks, L1 table, the L2 tables that map anything, then the allocated clusters
//! in the order of the disk. Invariant: nothing is kept per cluster; tables are rendered when they are read.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the file has at most 2^35 clusters of 2^16 bytes, checked by `new`"
)]

use std::sync::Arc;

use zerocopy::IntoBytes;
use zerocopy::big_endian::{U16, U64};

use super::container::{Container, Content};
use super::data_map::DataMap;
use super::region::{Region, copy_padded};
use super::source::ByteSource;
use super::unit_map::UnitMap;
use crate::formats::qcow2::CLUSTER_LEN;
use crate::formats::qcow2::header::{HEADER_LEN, QcowHeader};
use crate::formats::qcow2::refcounts::{
    BLOCK_ENTRIES, REFCOUNT_LEN, RefcountLayout, TABLE_ENTRY_LEN, USED_ONCE,
};
use crate::formats::qcow2::tables::{
    ENTRY_LEN, L1_ENTRIES_MAX, L2_ENTRIES, L2_SPAN, UNALLOCATED, allocated_entry,
};
use crate::units::{ByteCount, SECTOR_SIZE, to_u64, to_usize};

/// Why a disk cannot be shown as qcow2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Qcow2Error {
    /// qemu counts disks in sectors.
    #[error("disk of {0}: a qcow2's is a multiple of 512 bytes, and not empty")]
    DiskLen(ByteCount),
    /// The L1 table would be larger than readers accept.
    #[error(
        "disk of {0}: a qcow2's is at most 2048 TiB, which an L1 table of 32 MiB maps with clusters of 64 KiB"
    )]
    TooLarge(ByteCount),
    /// The refcount table would be larger than readers accept.
    #[error(
        "disk with {0} of data: a qcow2 file is at most 2048 TiB with its tables, which a refcount table of 8 MiB counts"
    )]
    TooFull(ByteCount),
}

/// A disk as qcow2.
pub struct Qcow2 {
    disk: Arc<dyn ByteSource>,
    /// Clusters of the disk.
    clusters: UnitMap,
    /// L2 tables: what each maps is a unit.
    tables: UnitMap,
    header: [u8; HEADER_LEN],
    refcounts: RefcountLayout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::synth) enum Kind {
    Header,
    RefcountTable,
    RefcountBlocks,
    L1Table,
    L2Tables,
    /// A run of clusters; the disk's offset of the first.
    Data(u64),
    Padding,
}

impl Qcow2 {
    /// A qcow2 over `disk`, with clusters where `data`, the disk's map, has data.
    ///
    /// # Errors
    /// [`Qcow2Error`] if the disk is no multiple of 512 bytes, or too large for the tables that readers accept.
    pub fn new(disk: Arc<dyn ByteSource>, data: &DataMap) -> Result<Self, Qcow2Error> {
        let size = disk.len();
        if size == 0 || !size.is_multiple_of(SECTOR_SIZE) {
            return Err(Qcow2Error::DiskLen(ByteCount(size)));
        }
        if size > L1_ENTRIES_MAX * L2_SPAN {
            return Err(Qcow2Error::TooLarge(ByteCount(size)));
        }
        let clusters = UnitMap::new(data, size, CLUSTER_LEN);
        let tables = UnitMap::new(data, size, L2_SPAN);
        // Header, tables and data; all below 2^36.
        let l1_clusters = l1_clusters(&tables);
        let others = 1 + l1_clusters + tables.allocated_count() + clusters.allocated_count();
        let Some(refcounts) = RefcountLayout::for_clusters(others) else {
            let len = clusters.allocated_count() * CLUSTER_LEN;
            return Err(Qcow2Error::TooFull(ByteCount(len)));
        };
        let mut image = Self {
            disk,
            clusters,
            tables,
            header: [0; HEADER_LEN],
            refcounts,
        };
        image.header = image.header().render();
        Ok(image)
    }

    fn header(&self) -> QcowHeader {
        let small = |count| u32::try_from(count).expect("tables are bounded, checked by `new`");
        QcowHeader {
            size: self.disk.len(),
            l1_table_offset: self.l1_cluster() * CLUSTER_LEN,
            l1_size: small(self.tables.unit_count()),
            refcount_table_offset: CLUSTER_LEN,
            refcount_table_clusters: small(self.refcounts.table_clusters),
        }
    }

    /// First refcount block; the table in front of it begins at cluster 1.
    fn block_cluster(&self) -> u64 {
        1 + self.refcounts.table_clusters
    }

    fn l1_cluster(&self) -> u64 {
        self.block_cluster() + self.refcounts.block_count
    }

    /// First L2 table.
    fn l2_cluster(&self) -> u64 {
        self.l1_cluster() + l1_clusters(&self.tables)
    }

    /// First cluster of data.
    fn data_cluster(&self) -> u64 {
        self.l2_cluster() + self.tables.allocated_count()
    }

    /// Clusters of the whole file.
    fn cluster_count(&self) -> u64 {
        self.data_cluster() + self.clusters.allocated_count()
    }

    fn data_region_at(&self, offset: u64) -> Region<Kind> {
        let data = self.data_cluster();
        let run = self
            .clusters
            .run_of_rank(offset / CLUSTER_LEN - data)
            .expect("offsets inside the file lie in allocated clusters");
        let start = (data + run.rank) * CLUSTER_LEN;
        let padded = (run.end - run.first) * CLUSTER_LEN;
        let from = run.first * CLUSTER_LEN;
        // The disk may end inside its last cluster.
        let len = padded.min(self.disk.len() - from);
        if offset < start + len {
            Region::new(Kind::Data(from), start, len)
        } else {
            Region::new(Kind::Padding, start + len, padded - len)
        }
    }

    /// Fills `buf` from byte `within` of all L2 tables, which lie one behind the other.
    fn fill_l2(&self, within: u64, buf: &mut [u8]) {
        let mut rest = buf;
        let mut at = within;
        while !rest.is_empty() {
            let from = at % CLUSTER_LEN;
            let len = to_usize(CLUSTER_LEN - from).min(rest.len());
            let (part, after) = rest.split_at_mut(len);
            self.fill_l2_table(at / CLUSTER_LEN, from, part);
            at += to_u64(len);
            rest = after;
        }
    }

    /// Fills `buf` from byte `from` of the L2 table number `rank` of the file.
    fn fill_l2_table(&self, rank: u64, from: u64, buf: &mut [u8]) {
        let table = self
            .tables
            .select(rank)
            .expect("offsets inside the file lie in allocated tables");
        let first = table * L2_ENTRIES;
        fill_units(&self.clusters, first, self.data_cluster(), from, buf);
    }
}

/// Clusters of the L1 table.
fn l1_clusters(tables: &UnitMap) -> u64 {
    (tables.unit_count() * ENTRY_LEN).div_ceil(CLUSTER_LEN)
}

/// Fills `buf` from byte `from` of a table that begins with the entry of unit `first`; the allocated units of the map lie
/// in the clusters of the file from `cluster` on.
fn fill_units(units: &UnitMap, first: u64, cluster: u64, from: u64, buf: &mut [u8]) {
    let start = first + from / ENTRY_LEN;
    let end = first + (from + to_u64(buf.len())).div_ceil(ENTRY_LEN);
    let mut entries = vec![UNALLOCATED; to_usize(end - start)];
    for (unit, rank) in units.allocated_in(start, end) {
        if let Some(entry) = entries.get_mut(to_usize(unit - start)) {
            *entry = allocated_entry((cluster + rank) * CLUSTER_LEN)
                .expect("the file has fewer clusters than 2^36, checked when it was planned");
        }
    }
    copy_padded(entries.as_bytes(), from % ENTRY_LEN, buf);
}

/// Fills `buf` from byte `within` of the counts of clusters that are all in use.
fn fill_refcounts(within: u64, buf: &mut [u8]) {
    let count = (within % REFCOUNT_LEN + to_u64(buf.len())).div_ceil(REFCOUNT_LEN);
    let counts: Vec<U16> = vec![USED_ONCE; to_usize(count)];
    copy_padded(counts.as_bytes(), within % REFCOUNT_LEN, buf);
}

impl Container for Qcow2 {
    type Kind = Kind;

    fn disk(&self) -> &dyn ByteSource {
        &*self.disk
    }

    fn file_len(&self) -> u64 {
        self.cluster_count() * CLUSTER_LEN
    }

    fn region_at(&self, offset: u64) -> Region<Kind> {
        // Each structure begins where the clusters of the one before end; padding fills its last cluster.
        let structures = [
            (Kind::Header, 0, to_u64(HEADER_LEN)),
            (
                Kind::RefcountTable,
                1,
                self.refcounts.block_count * TABLE_ENTRY_LEN,
            ),
            (
                Kind::RefcountBlocks,
                self.block_cluster(),
                self.cluster_count() * REFCOUNT_LEN,
            ),
            (
                Kind::L1Table,
                self.l1_cluster(),
                self.tables.unit_count() * ENTRY_LEN,
            ),
            (
                Kind::L2Tables,
                self.l2_cluster(),
                self.tables.allocated_count() * CLUSTER_LEN,
            ),
        ];
        for (kind, first_cluster, len) in structures {
            let start = first_cluster * CLUSTER_LEN;
            if offset < start + len {
                return Region::new(kind, start, len);
            }
            let padded = len.next_multiple_of(CLUSTER_LEN);
            if offset < start + padded {
                return Region::new(Kind::Padding, start + len, padded - len);
            }
        }
        self.data_region_at(offset)
    }

    fn content(&self, kind: Kind, within: u64) -> Content<'_> {
        match kind {
            Kind::Header => Content::Computed("qcow2 header"),
            Kind::RefcountTable => Content::Computed("refcount table"),
            Kind::RefcountBlocks => Content::Computed("refcount block"),
            Kind::L1Table => Content::Computed("L1 table"),
            Kind::L2Tables => Content::Computed("L2 table"),
            Kind::Padding => Content::Zero,
            Kind::Data(from) => Content::Inner(&*self.disk, from + within),
        }
    }

    fn render(&self, kind: Kind, within: u64, buf: &mut [u8]) {
        match kind {
            Kind::Header => copy_padded(&self.header, within, buf),
            Kind::RefcountTable => {
                let first = within / TABLE_ENTRY_LEN;
                let end = (within + to_u64(buf.len())).div_ceil(TABLE_ENTRY_LEN);
                let entries: Vec<U64> = (first..end)
                    .map(|block| U64::new((self.block_cluster() + block) * CLUSTER_LEN))
                    .collect();
                copy_padded(entries.as_bytes(), within % TABLE_ENTRY_LEN, buf);
            }
            Kind::RefcountBlocks => fill_refcounts(within, buf),
            Kind::L1Table => fill_units(&self.tables, 0, self.l2_cluster(), within, buf),
            Kind::L2Tables => self.fill_l2(within, buf),
            Kind::Data(_) | Kind::Padding => {}
        }
    }

    fn describe(&self, kind: Kind, within: u64) -> Option<(String, u64)> {
        let (entry, of_entry) = (within / ENTRY_LEN, within % ENTRY_LEN);
        Some(match kind {
            Kind::Header => ("qcow2 header".to_owned(), within),
            Kind::RefcountTable => (
                format!("refcount table, entry of refcount block {entry}"),
                of_entry,
            ),
            Kind::RefcountBlocks => {
                let cluster = within / REFCOUNT_LEN;
                let block = cluster / BLOCK_ENTRIES;
                let what = format!("refcount block {block}, count of file cluster {cluster}");
                (what, within % REFCOUNT_LEN)
            }
            Kind::L1Table => (format!("L1 table, entry of L2 table {entry}"), of_entry),
            Kind::L2Tables => {
                let table = self.tables.select(within / CLUSTER_LEN).unwrap_or(0);
                let cluster = table * L2_ENTRIES + entry % L2_ENTRIES;
                (
                    format!("L2 table {table}, entry of cluster {cluster}"),
                    of_entry,
                )
            }
            Kind::Data(from) => {
                let at = from + within;
                (
                    format!("qcow2 cluster {}", at / CLUSTER_LEN),
                    at % CLUSTER_LEN,
                )
            }
            Kind::Padding => ("qcow2 padding".to_owned(), within),
        })
    }
}
