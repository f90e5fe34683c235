//! The disk: boot sector, partitions, and the gaps between them.
//!
//! Invariant: [`place`] only returns partitions that lie inside the disk, do not overlap each other or the boot
//! sector, and are within reach of their partition table.

use std::sync::Arc;

use super::segments::{Segment, SegmentMap};
use super::source::ByteSource;
use crate::config::spec::PartitionTable;
use crate::formats::mbr::{BOOT_CODE_LEN, BootSector, Entry, SECTORS_MAX};
use crate::units::{ByteCount, Lba, MIB, SECTOR_SIZE, checked_round_up, to_u64};

/// Sectors of a mebibyte, on which partitions start by default.
const MIB_SECTORS: u64 = MIB / SECTOR_SIZE;

/// What a partition asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceRequest {
    /// Its label, for messages.
    pub label: String,
    /// First sector; the next mebibyte after the partition before it if not given.
    pub start: Option<Lba>,
    /// How much it wants.
    pub size: Size,
}

/// How much of the disk a partition wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// This many sectors.
    Sectors(u64),
    /// Up to the next partition whose start is given, else to the end of the disk; ends on a mebibyte.
    Rest,
}

/// Where everything lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// First sector and length in sectors of each partition, in the order of the requests.
    pub partitions: Vec<(Lba, u64)>,
    /// Length of the disk in bytes.
    pub disk_len: u64,
}

/// Why partitions cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Two partitions share a sector.
    #[error(
        "partition \"{label}\": starts at sector {start}, but partition \"{other}\" ends after sector {other_last}"
    )]
    Overlap {
        /// The partition that starts later.
        label: String,
        /// Its first sector.
        start: u64,
        /// The partition that it starts in.
        other: String,
        /// The last sector of that one.
        other_last: u64,
    },
    /// A partition starts in the partition table's sector.
    #[error(
        "partition \"{label}\": starts at sector 0, which holds the partition table; the first free one is 1"
    )]
    BootSector {
        /// The partition.
        label: String,
    },
    /// A partition ends behind the disk.
    #[error("partition \"{label}\": ends at {end}; the disk has {disk_len}")]
    BeyondDisk {
        /// The partition.
        label: String,
        /// Where it would end.
        end: ByteCount,
        /// Length of the disk.
        disk_len: ByteCount,
    },
    /// A partition ends where 32-bit sector numbers do not reach.
    #[error("partition \"{label}\": ends at {end}; a partition table of type MBR reaches {}", ByteCount(SECTORS_MAX * SECTOR_SIZE))]
    BeyondMbr {
        /// The partition.
        label: String,
        /// Where it would end.
        end: ByteCount,
    },
    /// Sizes add up to more than 64 bits hold.
    #[error("partition \"{label}\": ends beyond 2^64 bytes")]
    TooLarge {
        /// The partition.
        label: String,
    },
    /// `rest` of a full disk.
    #[error(
        "partition \"{label}\": nothing is left for it between sector {start} and sector {end}"
    )]
    NothingLeft {
        /// The partition.
        label: String,
        /// Its first sector.
        start: u64,
        /// The sector where it must end, rounded down to a mebibyte.
        end: u64,
    },
    /// A size of zero.
    #[error("partition \"{label}\": has no sectors")]
    Empty {
        /// The partition.
        label: String,
    },
    /// `rest` of a disk whose size follows from its partitions.
    #[error("partition \"{label}\": takes the rest of a disk whose size is not given")]
    RestOfUnknown {
        /// The partition.
        label: String,
    },
    /// Without a table there is one partition, which is the whole disk.
    #[error(
        "partition \"{label}\": is not the whole disk, which a disk without partition table needs"
    )]
    NotWhole {
        /// The partition.
        label: String,
    },
}

/// Decides where partitions lie. `disk_len` is in bytes; without one the disk ends on the mebibyte after the last
/// partition.
///
/// # Errors
/// [`PlaceError`] names the partition and the limit that it hits.
pub fn place(
    requests: &[PlaceRequest],
    table: PartitionTable,
    disk_len: Option<u64>,
) -> Result<Placement, PlaceError> {
    let mut partitions: Vec<(Lba, u64)> = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        let label = || request.label.clone();
        let too_large = || PlaceError::TooLarge { label: label() };
        let start = match (request.start, table) {
            (Some(start), _) => start.0,
            (None, PartitionTable::None) => 0,
            (None, PartitionTable::Mbr) => {
                let end = furthest_end(&partitions).max(1);
                checked_round_up(end, MIB_SECTORS).ok_or_else(too_large)?
            }
        };
        let sectors = match request.size {
            Size::Sectors(0) => return Err(PlaceError::Empty { label: label() }),
            Size::Sectors(sectors) => sectors,
            Size::Rest => {
                let disk_len =
                    disk_len.ok_or_else(|| PlaceError::RestOfUnknown { label: label() })?;
                let later = requests.iter().skip(index.saturating_add(1));
                let end = disk_len / SECTOR_SIZE;
                match table {
                    PartitionTable::Mbr => rest_of(request, start, later, end)?,
                    PartitionTable::None => end.saturating_sub(start),
                }
            }
        };
        check_end(request, start, sectors, table, disk_len)?;
        partitions.push((Lba(start), sectors));
    }
    check_overlaps(requests, &partitions, table)?;
    let given_len = disk_len;
    let disk_len = match given_len {
        Some(disk_len) => disk_len,
        None => furthest_end(&partitions)
            .checked_mul(SECTOR_SIZE)
            .and_then(|len| checked_round_up(len, MIB))
            .ok_or_else(|| PlaceError::TooLarge {
                label: requests
                    .last()
                    .map(|last| last.label.clone())
                    .unwrap_or_default(),
            })?,
    };
    if let (PartitionTable::None, None, [only]) = (table, given_len, &mut *partitions) {
        // Without a table the partition is the whole image, the rounding included.
        only.1 = disk_len / SECTOR_SIZE;
    }
    check_whole(requests, &partitions, table, disk_len)?;
    Ok(Placement {
        partitions,
        disk_len,
    })
}

/// The parts of a boot sector, which formats::mbr encodes as a whole.
fn push_boot_sector(map: &mut SegmentMap, sector: &[u8; 512]) {
    const PARTS: [(usize, &str); 8] = [
        (BOOT_CODE_LEN, "boot sector: boot code"),
        (444, "boot sector: disk signature"),
        (446, "boot sector: reserved"),
        (462, "boot sector: partition entry 1"),
        (478, "boot sector: partition entry 2"),
        (494, "boot sector: partition entry 3"),
        (510, "boot sector: partition entry 4"),
        (512, "boot sector: signature 0x55aa"),
    ];
    let mut start = 0;
    for (end, what) in PARTS {
        let bytes: Arc<[u8]> = sector.get(start..end).unwrap_or_default().into();
        let structure = "boot sector";
        map.push(
            to_u64(bytes.len()),
            what,
            Segment::Bytes { bytes, structure },
        );
        start = end;
    }
}

/// The sector after the last one that is taken.
fn furthest_end(partitions: &[(Lba, u64)]) -> u64 {
    partitions
        .iter()
        .map(|(start, sectors)| start.0.saturating_add(*sectors))
        .max()
        .unwrap_or(0)
}

/// What is left from `start` to the next given start or the end of the disk, in sectors.
fn rest_of<'a>(
    request: &PlaceRequest,
    start: u64,
    later: impl Iterator<Item = &'a PlaceRequest>,
    disk_sectors: u64,
) -> Result<u64, PlaceError> {
    let limit = later
        .filter_map(|other| other.start)
        .map(|other| other.0)
        .filter(|other| *other > start)
        .fold(disk_sectors, u64::min);
    let end = limit.saturating_sub(limit.checked_rem(MIB_SECTORS).unwrap_or(0));
    match end.checked_sub(start) {
        Some(sectors) if sectors > 0 => Ok(sectors),
        _ => Err(PlaceError::NothingLeft {
            label: request.label.clone(),
            start,
            end,
        }),
    }
}

fn check_end(
    request: &PlaceRequest,
    start: u64,
    sectors: u64,
    table: PartitionTable,
    disk_len: Option<u64>,
) -> Result<(), PlaceError> {
    let label = request.label.clone();
    let Some((end_sector, end)) = start
        .checked_add(sectors)
        .and_then(|end| Some((end, Lba(end).checked_offset()?)))
    else {
        return Err(PlaceError::TooLarge { label });
    };
    let end = ByteCount(end);
    match (table, disk_len) {
        (PartitionTable::Mbr, _) if end_sector > SECTORS_MAX => {
            Err(PlaceError::BeyondMbr { label, end })
        }
        (_, Some(disk_len)) if end.0 > disk_len => Err(PlaceError::BeyondDisk {
            label,
            end,
            disk_len: ByteCount(disk_len),
        }),
        _ => Ok(()),
    }
}

fn check_overlaps(
    requests: &[PlaceRequest],
    partitions: &[(Lba, u64)],
    table: PartitionTable,
) -> Result<(), PlaceError> {
    let mut sorted: Vec<_> = requests.iter().zip(partitions).collect();
    sorted.sort_by_key(|(_, (start, _))| *start);
    if let (Some((request, (Lba(0), _))), PartitionTable::Mbr) = (sorted.first(), table) {
        let label = request.label.clone();
        return Err(PlaceError::BootSector { label });
    }
    for ((other, (other_start, other_sectors)), (request, (start, _))) in
        sorted.iter().zip(sorted.iter().skip(1))
    {
        let other_end = other_start.0.saturating_add(*other_sectors);
        if start.0 < other_end {
            return Err(PlaceError::Overlap {
                label: request.label.clone(),
                start: start.0,
                other: other.label.clone(),
                other_last: other_end.saturating_sub(1),
            });
        }
    }
    Ok(())
}

/// Without a table nothing tells where a partition begins or ends, so it must be the disk.
fn check_whole(
    requests: &[PlaceRequest],
    partitions: &[(Lba, u64)],
    table: PartitionTable,
    disk_len: u64,
) -> Result<(), PlaceError> {
    if table == PartitionTable::Mbr {
        return Ok(());
    }
    let whole = disk_len / SECTOR_SIZE;
    for (index, (request, (start, sectors))) in requests.iter().zip(partitions).enumerate() {
        if index > 0 || start.0 != 0 || *sectors > whole {
            return Err(PlaceError::NotWhole {
                label: request.label.clone(),
            });
        }
    }
    Ok(())
}

/// A partition with its place and its bytes.
#[derive(Clone)]
pub struct PlacedPartition {
    /// Its label.
    pub label: String,
    /// First sector.
    pub start: Lba,
    /// Length in sectors.
    pub sectors: u64,
    /// The type byte of its entry.
    pub type_code: u8,
    /// The boot flag.
    pub active: bool,
    /// Its bytes; zeros follow up to the length of the partition.
    pub source: Arc<dyn ByteSource>,
}

/// Everything that a disk consists of, placed by [`place`].
#[derive(Clone)]
pub struct DiskLayout {
    /// Length in bytes.
    pub len: u64,
    /// How partitions are described.
    pub table: PartitionTable,
    /// The partitions by number.
    pub partitions: Vec<PlacedPartition>,
    /// What the boot sector begins with; zeros if not given.
    pub boot_code: Option<[u8; BOOT_CODE_LEN]>,
    /// The disk signature.
    pub signature: u32,
}

impl DiskLayout {
    /// The disk as one source.
    ///
    /// # Panics
    /// If the partitions do not come from [`place`] (overlapping, beyond the disk, more than the table holds), or if
    /// a source is longer than its partition.
    #[must_use]
    pub fn assemble(&self) -> SegmentMap {
        let mut map = SegmentMap::new();
        if self.table == PartitionTable::Mbr {
            push_boot_sector(&mut map, &self.boot_sector());
        }
        let mut by_start: Vec<_> = (1_usize..).zip(&self.partitions).collect();
        by_start.sort_by_key(|(_, partition)| partition.start);
        for (number, partition) in by_start {
            let (start, end) = partition.byte_range();
            map.push_zeros_to(start, "unpartitioned gap");
            partition.push_to(&mut map, number, end);
        }
        map.push_zeros_to(self.len, "unpartitioned gap");
        map
    }

    /// Each partition as an image of its own, in the order of the config.
    #[must_use]
    pub fn partition_images(&self) -> Vec<SegmentMap> {
        (1_usize..)
            .zip(&self.partitions)
            .map(|(number, partition)| {
                let (start, end) = partition.byte_range();
                let mut map = SegmentMap::new();
                partition.push_to(&mut map, number, end.saturating_sub(start));
                map
            })
            .collect()
    }

    fn boot_sector(&self) -> [u8; 512] {
        let entries = self
            .partitions
            .iter()
            .map(|partition| Entry {
                start_lba: u32::try_from(partition.start.0)
                    .expect("placed partitions are within reach of the table"),
                sectors: u32::try_from(partition.sectors)
                    .expect("placed partitions are within reach of the table"),
                type_code: partition.type_code,
                active: partition.active,
            })
            .collect();
        let sector = BootSector {
            code: self.boot_code.unwrap_or([0; BOOT_CODE_LEN]),
            signature: self.signature,
            entries,
        };
        sector
            .encode()
            .expect("placed partitions are within reach of the table")
    }
}

impl PlacedPartition {
    /// Appends its contents to `map`, and zeros up to `end` there.
    fn push_to(&self, map: &mut SegmentMap, number: usize, end: u64) {
        let name = format!("partition {number} \"{}\"", self.label);
        let source = Arc::clone(&self.source);
        map.push(source.len(), name.as_str(), Segment::Source(source));
        map.push_zeros_to(end, format!("{name}, behind the file system"));
    }

    /// Start and end in bytes.
    fn byte_range(&self) -> (u64, u64) {
        let end = self.start.0.saturating_add(self.sectors);
        let offset = |lba: u64| {
            Lba(lba)
                .checked_offset()
                .expect("placed partitions end below 2^64 bytes")
        };
        (offset(self.start.0), offset(end))
    }
}

#[cfg(test)]
mod tests;
