//! What there is to see of a planned disk.

use serde::Serialize;

use super::tree::{self, Branch};
use crate::synth::data_map::DataMap;
use crate::synth::ext4::{AreaKind, Ext4};
use crate::synth::generation::{PartitionReport, Pieces};
use crate::units::SECTOR_SIZE;

/// Bytes of a VMDK's grain.
pub(super) const GRAIN_LEN: u64 = 64 << 10;

/// A planned disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// The name of the machine.
    pub name: String,
    /// Bytes of the disk.
    pub disk_len: u64,
    /// The disk from its first byte to its last, without a gap.
    pub regions: Vec<Region>,
    /// What the partitions hold, in the order of the config.
    pub partitions: Vec<PartitionLayout>,
    /// Runs of grains of 64 KiB that hold data and so are stored by a sparse VMDK: first grain and number.
    pub grains: Vec<(u64, u64)>,
    /// The images with their sizes in bytes.
    pub images: Vec<ImageLine>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageLine {
    /// Its name.
    pub name: String,
    /// Bytes; `None` while it is being prepared.
    pub size: Option<u64>,
    /// Bytes that are no holes.
    pub data: Option<u64>,
}

/// A part of the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Region {
    /// What it is.
    pub kind: RegionKind,
    /// The partition's label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// First byte.
    pub offset: u64,
    /// Bytes, at least 1.
    pub len: u64,
}

/// What a part of the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionKind {
    /// The boot code and the partition table.
    BootSector,
    /// Nothing.
    Gap,
    /// A partition.
    Partition,
}

/// What the blocks of a file system hold, in the words of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// Contents of files.
    Files,
    /// Names, extent trees, symlinks, extended attributes.
    Directories,
    /// Inode tables.
    Inodes,
    /// Superblocks, descriptors, bitmaps, the orphan file.
    Groups,
    /// The journal.
    Journal,
    /// Kept for the growth of the descriptors.
    Reserved,
    /// Nothing.
    Free,
}

impl Share {
    /// All, in the order of the legend.
    pub const ALL: [Self; 7] = [
        Self::Files,
        Self::Directories,
        Self::Inodes,
        Self::Groups,
        Self::Journal,
        Self::Reserved,
        Self::Free,
    ];

    /// What the legend calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Files => "file contents",
            Self::Directories => "directories and extent trees",
            Self::Inodes => "inode tables",
            Self::Groups => "superblocks, descriptors, bitmaps",
            Self::Journal => "journal",
            Self::Reserved => "reserved for growth",
            Self::Free => "free",
        }
    }

    /// The name of its class in the pictures.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Directories => "directories",
            Self::Inodes => "inodes",
            Self::Groups => "groups",
            Self::Journal => "journal",
            Self::Reserved => "reserved",
            Self::Free => "free",
        }
    }

    const fn of(kind: AreaKind) -> Self {
        match kind {
            AreaKind::Data => Self::Files,
            AreaKind::Directory | AreaKind::FileMetadata => Self::Directories,
            AreaKind::InodeTable => Self::Inodes,
            AreaKind::Superblock
            | AreaKind::GroupDescriptors
            | AreaKind::Bitmap
            | AreaKind::Orphans => Self::Groups,
            AreaKind::Journal => Self::Journal,
            AreaKind::Reserved => Self::Reserved,
            AreaKind::Free => Self::Free,
        }
    }
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionLayout {
    /// Its label.
    pub label: String,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Type byte.
    pub type_code: u8,
    /// Boot flag.
    pub active: bool,
    /// `ext4`, `swap`, or `empty`.
    pub filesystem: &'static str,
    /// Bytes of a block; 0 without ext4.
    pub block_size: u64,
    /// Blocks of the file system.
    pub blocks: u64,
    /// First blocks of the block groups.
    pub groups: Vec<u64>,
    /// All blocks in order, as runs: what they hold, first block, number.
    pub runs: Vec<(Share, u64, u64)>,
    /// Bytes for each thing that blocks hold, without those that there are none of.
    pub shares: Vec<(Share, u64)>,
    /// All files.
    pub root: Option<Branch>,
}

impl Layout {
    /// What the pieces of a plan show.
    #[must_use]
    pub fn of(pieces: &Pieces) -> Self {
        let file_systems = pieces.file_systems.iter().map(Option::as_ref);
        let partitions = pieces.partitions.iter().zip(file_systems);
        let ready = pieces.images.iter().map(|image| ImageLine {
            name: image.name.clone(),
            size: Some(image.source.len()),
            data: Some(image.data.data_len()),
        });
        let pending = pieces.pending.iter().map(|name| ImageLine {
            name: name.clone(),
            size: None,
            data: None,
        });
        Self {
            name: pieces.name.clone(),
            disk_len: pieces.disk_len,
            regions: regions(pieces),
            partitions: partitions
                .map(|(report, ext4)| PartitionLayout::of(report, ext4.map(|ext4| &**ext4)))
                .collect(),
            grains: grains(&pieces.data),
            images: ready.chain(pending).collect(),
        }
    }
}

fn regions(pieces: &Pieces) -> Vec<Region> {
    let mut regions = Vec::new();
    let mut end = 0;
    if pieces.has_table {
        end = SECTOR_SIZE.min(pieces.disk_len);
        regions.push(Region {
            kind: RegionKind::BootSector,
            label: None,
            offset: 0,
            len: end,
        });
    }
    let mut partitions: Vec<&PartitionReport> = pieces.partitions.iter().collect();
    partitions.sort_by_key(|partition| partition.start);
    let gap = |from: u64, to: u64| {
        (to > from).then(|| Region {
            kind: RegionKind::Gap,
            label: None,
            offset: from,
            len: to.saturating_sub(from),
        })
    };
    for partition in partitions {
        let offset = partition.start.0.saturating_mul(SECTOR_SIZE);
        let len = partition.sectors.saturating_mul(SECTOR_SIZE);
        regions.extend(gap(end, offset));
        regions.push(Region {
            kind: RegionKind::Partition,
            label: Some(partition.label.clone()),
            offset,
            len,
        });
        end = offset.saturating_add(len);
    }
    regions.extend(gap(end, pieces.disk_len));
    regions
}

impl PartitionLayout {
    fn of(report: &PartitionReport, ext4: Option<&Ext4>) -> Self {
        let filesystem = report.filesystem.as_ref().map_or("empty", |one| one.kind);
        let offset = report.start.0.saturating_mul(SECTOR_SIZE);
        let mut partition = Self {
            label: report.label.clone(),
            offset,
            len: report.sectors.saturating_mul(SECTOR_SIZE),
            type_code: report.type_code,
            active: report.active,
            filesystem,
            block_size: 0,
            blocks: 0,
            groups: Vec::new(),
            runs: Vec::new(),
            shares: Vec::new(),
            root: None,
        };
        if let Some(ext4) = ext4 {
            partition.look_into(ext4);
        }
        partition
    }

    fn look_into(&mut self, ext4: &Ext4) {
        self.block_size = ext4.block_size();
        self.blocks = ext4.block_count();
        self.groups = ext4.groups().collect();
        for area in ext4.areas() {
            let share = Share::of(area.kind);
            match self.runs.last_mut() {
                Some((last, _, count)) if *last == share => {
                    *count = count.saturating_add(area.block_count);
                }
                _ => self.runs.push((share, area.block, area.block_count)),
            }
        }
        for share in Share::ALL {
            let runs = self.runs.iter().filter(|(kind, ..)| *kind == share);
            let blocks = runs.fold(0_u64, |sum, (_, _, count)| sum.saturating_add(*count));
            if blocks > 0 {
                let bytes = blocks.saturating_mul(self.block_size);
                self.shares.push((share, bytes));
            }
        }
        self.root = Some(tree::of(ext4));
    }
}

/// Runs of grains that hold data.
fn grains(data: &DataMap) -> Vec<(u64, u64)> {
    let mut grains: Vec<(u64, u64)> = Vec::new();
    for (start, end) in data.ranges() {
        let first = start.checked_div(GRAIN_LEN).unwrap_or(0);
        let behind = end.div_ceil(GRAIN_LEN);
        match grains.last_mut() {
            Some((known, count)) if known.saturating_add(*count) >= first => {
                *count = behind.saturating_sub(*known);
            }
            _ => grains.push((first, behind.saturating_sub(first))),
        }
    }
    grains
}
