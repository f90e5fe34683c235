//! `[disk]` and how the partitions lie on it, as far as the text tells.
//!
//! Invariant: sizes that depend on contents count as one sector here; whoever knows them checks again.

use std::collections::HashSet;

use thiserror::Error;
use toml::Spanned;
use uuid::Uuid;

use super::{Context, Result, partition};
use crate::config::ConfigWarningKind;
use crate::config::error::ConfigErrorKind;
use crate::config::raw::{RawDisk, RawPartition, RawSize};
use crate::config::spec::{
    BootCode, DiskSize, DiskSpec, Ext4Spec, Filesystem, PartitionSize, PartitionSpec,
    PartitionTable,
};
use crate::units::{ByteCount, KIB, MIB, SECTOR_SIZE, checked_round_up};

/// Entries of a master boot record.
const PARTITIONS_MAX: usize = 4;
/// Sectors that 32-bit fields can address: 2 TiB.
const MBR_SECTORS_MAX: u64 = 1 << 32;
/// Sectors of a MiB.
const MIB_SECTORS: u64 = 2048;
/// VMDK's grain: disks are whole grains.
const GRAIN_SIZE: u64 = 64 * KIB;
/// Greatest file offset of Linux, rounded down to a MiB.
const DISK_SIZE_MAX: u64 = (1 << 63) - MIB;
/// Ten pages, what mkswap asks for.
pub(super) const SWAP_SIZE_MIN: u64 = 40 * KIB;

/// Why partitions and the disk do not fit each other.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// No `[[partition]]`.
    #[error("the disk has no partition")]
    NoPartition,
    /// Too many for the table.
    #[error("the disk has {count} partitions; a master boot record holds at most {PARTITIONS_MAX}")]
    TooManyPartitions {
        /// How many were typed.
        count: usize,
    },
    /// Several partitions without a table.
    #[error("the disk has {count} partitions; with table = \"none\" there is exactly one")]
    TableNonePartitions {
        /// How many were typed.
        count: usize,
    },
    /// A key that means nothing without a table.
    #[error("`{key}` needs a partition table; [disk] table is \"none\"")]
    NeedsTable {
        /// The key.
        key: &'static str,
    },
    /// Without a table the partition is the disk.
    #[error("partition `{label}` has {}, the disk {}; with table = \"none\" they are the same", ByteCount(*size), ByteCount(*disk))]
    TableNoneSize {
        /// The partition.
        label: String,
        /// Bytes of the partition.
        size: u64,
        /// Bytes of the disk.
        disk: u64,
    },
    /// No host serves such a file.
    #[error("disk size {} is above {}, the longest file of Linux", ByteCount(*size), ByteCount(DISK_SIZE_MAX))]
    DiskTooLarge {
        /// Bytes as typed.
        size: u64,
    },
    /// Two partitions in one place.
    #[error(
        "partition `{label}` starts at sector {start}, inside partition `{other}` (sectors {other_start} to {other_last})"
    )]
    Overlap {
        /// The partition.
        label: String,
        /// Its first sector.
        start: u64,
        /// The one before.
        other: String,
        /// First sector of that.
        other_start: u64,
        /// Last sector of that.
        other_last: u64,
    },
    /// Partitions out of order.
    #[error(
        "partition `{label}` starts at sector {start}; partition `{other}` before it starts at sector {other_start}"
    )]
    OutOfOrder {
        /// The partition.
        label: String,
        /// Its first sector.
        start: u64,
        /// The one before in the config.
        other: String,
        /// First sector of that.
        other_start: u64,
    },
    /// A partition that does not fit.
    #[error("partition `{label}` ends after {}; the disk has {}", ByteCount(*end), ByteCount(*disk))]
    BeyondDisk {
        /// The partition.
        label: String,
        /// Byte after its last, at least.
        end: u64,
        /// Bytes of the disk.
        disk: u64,
    },
    /// Nothing left for `rest`.
    #[error("partition `{label}` would start after {}; the disk has {}, so nothing is left", ByteCount(*start), ByteCount(*disk))]
    NothingLeft {
        /// The partition.
        label: String,
        /// First byte.
        start: u64,
        /// Bytes of the disk.
        disk: u64,
    },
    /// Beyond 32-bit sector numbers.
    #[error("partition `{label}` ends after {}; a master boot record addresses at most 2^32 sectors, {}", ByteCount(*end), ByteCount(MBR_SECTORS_MAX * SECTOR_SIZE))]
    BeyondMbr {
        /// The partition.
        label: String,
        /// Byte after its last.
        end: u64,
    },
    /// `rest` in the middle.
    #[error("partition `{label}` has size \"rest\" but is not the last")]
    RestBeforeLast {
        /// The partition.
        label: String,
    },
    /// `free` beside a size.
    #[error("partition `{label}` has `free`, which goes with size = \"auto\" only")]
    FreeWithoutAuto {
        /// The partition.
        label: String,
    },
    /// An empty partition or a swap area has no size of its own.
    #[error("partition `{label}` is {holds}, so size = \"auto\" means nothing")]
    NothingToFit {
        /// The partition.
        label: String,
        /// What it is.
        holds: &'static str,
    },
    /// What mkswap refuses.
    #[error("partition `{label}` has {}; a swap area has at least {}", ByteCount(*size), ByteCount(SWAP_SIZE_MIN))]
    SwapTooSmall {
        /// The partition.
        label: String,
        /// Bytes.
        size: u64,
    },
    /// A key that needs a file system.
    #[error("partition `{label}` has `{key}`, but filesystem = \"{filesystem}\"")]
    NoFilesystem {
        /// The partition.
        label: String,
        /// The key.
        key: &'static str,
        /// The file system's word.
        filesystem: &'static str,
    },
    /// A label that the superblock cannot hold.
    #[error("label `{label}` has {len} bytes; {holder} holds at most {max}")]
    LabelTooLong {
        /// As typed.
        label: String,
        /// Its length.
        len: usize,
        /// What is to hold it.
        holder: &'static str,
        /// The limit.
        max: usize,
    },
    /// Two partitions of one name.
    #[error("label `{label}` is used twice")]
    DuplicateLabel {
        /// As typed.
        label: String,
    },
    /// Two file systems of one UUID.
    #[error("UUID {uuid} is used twice")]
    DuplicateUuid {
        /// As both have it.
        uuid: Uuid,
    },
    /// No type byte.
    #[error("`type` is \"{value}\"; expected \"linux\", \"swap\" or a hex byte such as \"0x83\"")]
    Type {
        /// As typed.
        value: String,
    },
    /// The type of unused entries.
    #[error("`type` is \"{value}\", which marks an unused entry")]
    UnusedType {
        /// As typed.
        value: String,
    },
    /// The type of extended partitions.
    #[error("`type` is \"{value}\", an extended partition; all partitions here are primary")]
    ExtendedType {
        /// As typed.
        value: String,
    },
}

impl LayoutError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        let advice = match self {
            Self::NoPartition => "add a [[partition]]; `miragefs init` writes an example",
            Self::TooManyPartitions { .. } => {
                "put several sources into one partition, as directories, or write a second config for a second disk"
            }
            Self::TableNonePartitions { .. } | Self::NeedsTable { .. } => {
                "leave `table` out to get a master boot record"
            }
            Self::TableNoneSize { .. } => "leave out one of the two sizes",
            Self::DiskTooLarge { .. } => "write a smaller size, or \"auto\"",
            Self::OutOfOrder { .. } => {
                "list the partitions in the order of their place on the disk"
            }
            Self::Overlap { other_last, .. } => {
                return format!("the next free sector is {}s", other_last.saturating_add(1));
            }
            Self::BeyondDisk { .. } | Self::NothingLeft { .. } => {
                "make [disk] size larger, or \"auto\""
            }
            Self::BeyondMbr { .. } => {
                "make the disk smaller, or use table = \"none\" with one partition"
            }
            Self::RestBeforeLast { .. } => "give it a size, or \"auto\"",
            Self::FreeWithoutAuto { .. } => "write size = \"auto\" or leave `free` out",
            Self::NothingToFit { .. } => "give it a size",
            Self::SwapTooSmall { .. } => "write size = \"40KiB\" or more",
            Self::NoFilesystem { .. } => "use filesystem = \"ext4\"",
            Self::LabelTooLong { label, max, .. } => {
                // The longest beginning that fits and does not cut a character.
                let fitting = (0..=*max).rev().find_map(|end| label.get(..end));
                let fitting = fitting.unwrap_or_default();
                return format!("shorten it, to `{fitting}` for example");
            }
            Self::DuplicateLabel { .. } => {
                "choose another; a partition without `label` is called partition-1, partition-2 and so on, by its place"
            }
            Self::DuplicateUuid { .. } => {
                "give one of them another; a guest finds its file systems by them"
            }
            Self::Type { .. } => {
                "write \"linux\" (0x83), \"swap\" (0x82), or 0x and two hex digits; `sfdisk --label dos --list-types` lists all"
            }
            Self::UnusedType { .. } | Self::ExtendedType { .. } => {
                "leave `type` out, or write \"linux\", \"swap\" or another byte"
            }
        };
        advice.to_owned()
    }
}

/// Validates `[disk]`; the boot code comes later, it depends on the partitions.
pub(super) fn disk(typed: &Spanned<RawDisk>, context: &mut Context<'_>) -> Result<DiskSpec> {
    let raw = typed.get_ref();
    let tables = [("mbr", PartitionTable::Mbr), ("none", PartitionTable::None)];
    let table = context
        .choice("table", raw.table.as_ref(), &tables)?
        .unwrap_or(PartitionTable::Mbr);
    let span = raw.size.as_ref().map_or(typed.span(), Spanned::span);
    let location = context.locate(&span);
    let size = match &raw.size {
        None => DiskSize::Auto,
        Some(size) => match size.get_ref() {
            RawSize::Text(word) if word == "auto" => DiskSize::Auto,
            _ => DiskSize::Fixed(fixed_size(size, context)?),
        },
    };
    Ok(DiskSpec {
        size,
        table,
        boot_code: BootCode::None,
        location,
    })
}

fn fixed_size(typed: &Spanned<RawSize>, context: &mut Context<'_>) -> Result<u64> {
    let size = context.size("size", typed)?;
    if size == 0 {
        let (key, bytes, unit_name) = ("size", 0, "64 KiB");
        return Err(context.error(
            &typed.span(),
            ConfigErrorKind::NotMultiple {
                key,
                bytes,
                unit_name,
            },
        ));
    }
    let rounded = if size.is_multiple_of(GRAIN_SIZE) {
        Some(size)
    } else {
        checked_round_up(size, MIB)
    };
    let Some(rounded) = rounded.filter(|rounded| *rounded <= DISK_SIZE_MAX) else {
        return Err(context.error(&typed.span(), LayoutError::DiskTooLarge { size }));
    };
    if rounded != size {
        let typed_size = size;
        context.warn(
            context.locate(&typed.span()),
            ConfigWarningKind::DiskSizeRounded {
                typed: typed_size,
                rounded,
            },
        );
    }
    Ok(rounded)
}

/// Validates the partitions one by one and then their places.
pub(super) fn partitions(
    typed: &[Spanned<RawPartition>],
    disk: &DiskSpec,
    context: &mut Context<'_>,
) -> Result<Vec<PartitionSpec>> {
    let count = typed.len();
    let last_span = typed.last().map_or(0..0, Spanned::span);
    if count == 0 {
        return Err(context.error(&last_span, LayoutError::NoPartition));
    }
    if disk.table == PartitionTable::None && count > 1 {
        return Err(context.error(&last_span, LayoutError::TableNonePartitions { count }));
    }
    if let Some(first_too_many) = typed.get(PARTITIONS_MAX) {
        let kind = LayoutError::TooManyPartitions { count };
        return Err(context.error(&first_too_many.span(), kind));
    }
    let mut labels = HashSet::new();
    let mut uuids = HashSet::new();
    let mut partitions = Vec::with_capacity(count);
    for (index, raw) in typed.iter().enumerate() {
        let partition = partition::resolve(raw, index, count, disk, context)?;
        if !labels.insert(partition.label.clone()) {
            let span = raw
                .get_ref()
                .label
                .as_ref()
                .map_or(raw.span(), Spanned::span);
            let label = partition.label;
            return Err(context.error(&span, LayoutError::DuplicateLabel { label }));
        }
        if let Filesystem::Ext4(Ext4Spec {
            uuid: Some(uuid), ..
        }) = partition.filesystem
            && !uuids.insert(uuid)
        {
            let table = raw.get_ref().ext4.as_ref();
            let typed = table.and_then(|table| table.get_ref().uuid.as_ref());
            let span = typed.map_or(raw.span(), Spanned::span);
            return Err(context.error(&span, LayoutError::DuplicateUuid { uuid }));
        }
        partitions.push(partition);
    }
    match disk.table {
        PartitionTable::None => check_whole_disk(typed, &partitions, disk, context)?,
        PartitionTable::Mbr => check_places(typed, &partitions, disk, context)?,
    }
    Ok(partitions)
}

fn check_whole_disk(
    typed: &[Spanned<RawPartition>],
    partitions: &[PartitionSpec],
    disk: &DiskSpec,
    context: &Context<'_>,
) -> Result<()> {
    for (raw, partition) in typed.iter().zip(partitions) {
        if let (PartitionSize::Fixed(size), DiskSize::Fixed(disk)) = (partition.size, disk.size)
            && size != disk
        {
            let label = partition.label.clone();
            let kind = LayoutError::TableNoneSize { label, size, disk };
            return Err(context.error(&size_span(raw), kind));
        }
    }
    Ok(())
}

/// Where the size was typed, else the start, else the partition begins.
fn size_span(typed: &Spanned<RawPartition>) -> std::ops::Range<usize> {
    let raw = typed.get_ref();
    raw.size
        .as_ref()
        .or(raw.start.as_ref())
        .map_or(typed.span(), Spanned::span)
}

/// What is known of the partition before.
struct Previous<'a> {
    label: &'a str,
    start: u64,
    /// The sector after its last, at least.
    end: u64,
}

fn check_places(
    typed: &[Spanned<RawPartition>],
    partitions: &[PartitionSpec],
    disk: &DiskSpec,
    context: &Context<'_>,
) -> Result<()> {
    let mut previous: Option<Previous<'_>> = None;
    for (raw, partition) in typed.iter().zip(partitions) {
        let label = || partition.label.clone();
        let start = match (partition.start, &previous) {
            // The first MiB holds the boot sector and, by custom, boot loaders.
            (None, None) => MIB_SECTORS,
            (None, Some(previous)) => {
                checked_round_up(previous.end, MIB_SECTORS).unwrap_or(u64::MAX)
            }
            (Some(lba), _) => lba.0,
        };
        if let Some(previous) = previous.filter(|previous| start < previous.end) {
            let other = previous.label.to_owned();
            let kind = if start <= previous.start {
                LayoutError::OutOfOrder {
                    label: label(),
                    start,
                    other,
                    other_start: previous.start,
                }
            } else {
                LayoutError::Overlap {
                    label: label(),
                    start,
                    other,
                    other_start: previous.start,
                    other_last: previous.end.saturating_sub(1),
                }
            };
            let span = raw
                .get_ref()
                .start
                .as_ref()
                .map_or(raw.span(), Spanned::span);
            return Err(context.error(&span, kind));
        }
        let end = check_end(raw, partition, start, disk, context)?;
        previous = Some(Previous {
            label: &partition.label,
            start,
            end,
        });
    }
    Ok(())
}

/// Checks where a partition ends that starts at sector `start`; returns the sector after its last, at least.
fn check_end(
    raw: &Spanned<RawPartition>,
    partition: &PartitionSpec,
    start: u64,
    disk: &DiskSpec,
    context: &Context<'_>,
) -> Result<u64> {
    let label = || partition.label.clone();
    let start_byte = start.saturating_mul(SECTOR_SIZE);
    let end = match (partition.size, disk.size) {
        (PartitionSize::Fixed(size), _) => start.saturating_add(size.div_euclid(SECTOR_SIZE)),
        (PartitionSize::Rest, DiskSize::Fixed(disk)) => {
            if start_byte >= disk {
                let kind = LayoutError::NothingLeft {
                    label: label(),
                    start: start_byte,
                    disk,
                };
                return Err(context.error(&size_span(raw), kind));
            }
            disk.div_euclid(SECTOR_SIZE)
        }
        _ => start.saturating_add(1),
    };
    let end_byte = end.saturating_mul(SECTOR_SIZE);
    if end > MBR_SECTORS_MAX {
        let kind = LayoutError::BeyondMbr {
            label: label(),
            end: end_byte,
        };
        return Err(context.error(&size_span(raw), kind));
    }
    if let DiskSize::Fixed(disk) = disk.size
        && end_byte > disk
    {
        let kind = LayoutError::BeyondDisk {
            label: label(),
            end: end_byte,
            disk,
        };
        return Err(context.error(&size_span(raw), kind));
    }
    Ok(end)
}
