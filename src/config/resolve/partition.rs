//! `[[partition]]`: one partition by itself.

use toml::Spanned;

use super::layout::{LayoutError, SWAP_SIZE_MIN};
use super::{Context, Result, content, ext4, inline, newest};
use crate::config::error::ConfigErrorKind;
use crate::config::raw::{RawCopy, RawPartition, RawSize};
use crate::config::spec::{
    CopySpec, DiskSize, DiskSpec, Filesystem, PartitionSize, PartitionSpec, PartitionTable,
};
use crate::units::{Lba, SECTOR_SIZE};

/// `s_volume_name`.
const LABEL_LEN_MAX: usize = 16;
/// `sws_volume` with the NUL that mkswap keeps.
const SWAP_LABEL_LEN_MAX: usize = 15;
/// Type of Linux file systems.
const TYPE_LINUX: u8 = 0x83;
/// Type of Linux swap areas.
const TYPE_SWAP: u8 = 0x82;

const SECTOR_UNIT: &str = "512 bytes (a sector)";

/// Validates the partition at `index` of `count`.
pub(super) fn resolve(
    typed: &Spanned<RawPartition>,
    index: usize,
    count: usize,
    disk: &DiskSpec,
    context: &mut Context<'_>,
) -> Result<PartitionSpec> {
    let raw = typed.get_ref();
    let kind = filesystem_kind(raw, context)?;
    let label = match &raw.label {
        None => format!("partition-{}", index.saturating_add(1)),
        Some(label) => self::label(label, kind, context)?,
    };
    let is_last = index.saturating_add(1) == count;
    let size = size(raw, &label, is_last, disk, context)?;
    let free = match &raw.free {
        None => None,
        Some(free) if size == PartitionSize::Auto => Some(context.size("free", free)?),
        Some(free) => {
            return Err(context.error(&free.span(), LayoutError::FreeWithoutAuto { label }));
        }
    };
    let bootloader = context.choice(
        "bootloader",
        raw.bootloader.as_ref(),
        &[("extlinux", true), ("none", false)],
    )? == Some(true);
    Ok(PartitionSpec {
        start: start(raw, disk, context)?,
        size,
        active: raw.active.as_ref().is_some_and(|active| *active.get_ref()),
        type_code: type_code(raw, kind, disk, context)?,
        filesystem: filesystem(typed, &label, (kind, size), context)?,
        bootloader_directory: super::boot::directory(raw, bootloader, &label, context)?,
        free,
        copies: copies(&raw.copy, context)?,
        directories: entries(&raw.mkdir, inline::directory, context)?,
        files: entries(&raw.files, inline::file, context)?,
        symlinks: entries(&raw.symlink, inline::symlink, context)?,
        devices: entries(&raw.device, inline::device, context)?,
        location: context.locate(&typed.span()),
        label,
    })
}

fn copies(typed: &[Spanned<RawCopy>], context: &mut Context<'_>) -> Result<Vec<CopySpec>> {
    let chosen = newest::choose(typed, context)?;
    let copies = typed.iter().zip(chosen);
    copies
        .map(|(copy, chosen)| content::copy(copy, chosen, context))
        .collect()
}

fn entries<T, U>(
    typed: &[Spanned<T>],
    resolve: fn(&Spanned<T>, &Context<'_>) -> Result<U>,
    context: &Context<'_>,
) -> Result<Vec<U>> {
    typed.iter().map(|entry| resolve(entry, context)).collect()
}

/// The word of `filesystem`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ext4,
    Swap,
    None,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Swap => "swap",
            Self::None => "none",
        }
    }

    /// What a partition is, in messages.
    fn holds(self) -> &'static str {
        match self {
            Self::Ext4 => "a file system",
            Self::Swap => "a swap area",
            Self::None => "empty",
        }
    }
}

fn filesystem_kind(raw: &RawPartition, context: &Context<'_>) -> Result<Kind> {
    let kinds = [Kind::Ext4, Kind::Swap, Kind::None].map(|kind| (kind.word(), kind));
    let typed = context.choice("filesystem", raw.filesystem.as_ref(), &kinds)?;
    Ok(typed.unwrap_or(Kind::Ext4))
}

/// The volume name of an ext4 file system.
pub(super) fn ext4_label(typed: &Spanned<String>, context: &Context<'_>) -> Result<String> {
    label(typed, Kind::Ext4, context)
}

fn label(typed: &Spanned<String>, kind: Kind, context: &Context<'_>) -> Result<String> {
    let label = context.printable("label", typed)?;
    let (holder, max) = match kind {
        Kind::Swap => ("a swap area", SWAP_LABEL_LEN_MAX),
        Kind::Ext4 | Kind::None => ("ext4", LABEL_LEN_MAX),
    };
    let len = label.len();
    if len > max {
        let kind = LayoutError::LabelTooLong {
            label,
            len,
            holder,
            max,
        };
        return Err(context.error(&typed.span(), kind));
    }
    Ok(label)
}

fn size(
    raw: &RawPartition,
    label: &str,
    is_last: bool,
    disk: &DiskSpec,
    context: &Context<'_>,
) -> Result<PartitionSize> {
    let rest = match disk.size {
        DiskSize::Fixed(_) => PartitionSize::Rest,
        DiskSize::Auto => PartitionSize::Auto,
    };
    let Some(typed) = &raw.size else {
        let wants_auto = raw.free.is_some() || !is_last;
        return Ok(if wants_auto {
            PartitionSize::Auto
        } else {
            rest
        });
    };
    match typed.get_ref() {
        RawSize::Text(word) if word == "auto" => Ok(PartitionSize::Auto),
        RawSize::Text(word) if word == "rest" && is_last => Ok(rest),
        RawSize::Text(word) if word == "rest" => {
            let label = label.to_owned();
            Err(context.error(&typed.span(), LayoutError::RestBeforeLast { label }))
        }
        _ => {
            let bytes = context.size("size", typed)?;
            if bytes == 0 || !bytes.is_multiple_of(SECTOR_SIZE) {
                let (key, unit_name) = ("size", SECTOR_UNIT);
                return Err(context.error(
                    &typed.span(),
                    ConfigErrorKind::NotMultiple {
                        key,
                        bytes,
                        unit_name,
                    },
                ));
            }
            Ok(PartitionSize::Fixed(bytes))
        }
    }
}

fn start(raw: &RawPartition, disk: &DiskSpec, context: &Context<'_>) -> Result<Option<Lba>> {
    let Some(typed) = &raw.start else {
        return Ok(None);
    };
    if disk.table == PartitionTable::None {
        let key = "start";
        return Err(context.error(&typed.span(), LayoutError::NeedsTable { key }));
    }
    let bytes = context.size("start", typed)?;
    if bytes == 0 || !bytes.is_multiple_of(SECTOR_SIZE) {
        let (key, unit_name) = ("start", SECTOR_UNIT);
        return Err(context.error(
            &typed.span(),
            ConfigErrorKind::NotMultiple {
                key,
                bytes,
                unit_name,
            },
        ));
    }
    Ok(Some(Lba(bytes.div_euclid(SECTOR_SIZE))))
}

fn type_code(raw: &RawPartition, kind: Kind, disk: &DiskSpec, context: &Context<'_>) -> Result<u8> {
    let Some(typed) = &raw.type_code else {
        return Ok(match kind {
            Kind::Swap => TYPE_SWAP,
            Kind::Ext4 | Kind::None => TYPE_LINUX,
        });
    };
    if disk.table == PartitionTable::None {
        let key = "type";
        return Err(context.error(&typed.span(), LayoutError::NeedsTable { key }));
    }
    let text = typed.get_ref();
    let code = match text.as_str() {
        "linux" => Some(TYPE_LINUX),
        "swap" => Some(TYPE_SWAP),
        hex => hex
            .strip_prefix("0x")
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
    };
    let value = text.clone();
    match code {
        // 0 marks an unused entry; 5, f and 85 hold logical partitions.
        Some(0) => Err(context.error(&typed.span(), LayoutError::UnusedType { value })),
        Some(0x05 | 0x0f | 0x85) => {
            Err(context.error(&typed.span(), LayoutError::ExtendedType { value }))
        }
        Some(code) => Ok(code),
        None => Err(context.error(&typed.span(), LayoutError::Type { value })),
    }
}

fn filesystem(
    typed: &Spanned<RawPartition>,
    label: &str,
    (kind, size): (Kind, PartitionSize),
    context: &Context<'_>,
) -> Result<Filesystem> {
    let raw = typed.get_ref();
    let filesystem = match kind {
        Kind::Ext4 => return Ok(Filesystem::Ext4(ext4::ext4(raw.ext4.as_ref(), context)?)),
        Kind::Swap => Filesystem::Swap,
        Kind::None => Filesystem::None,
    };
    let label = || label.to_owned();
    let needs_filesystem = [
        ("copy", raw.copy.first().map(Spanned::span)),
        ("mkdir", raw.mkdir.first().map(Spanned::span)),
        ("files", raw.files.first().map(Spanned::span)),
        ("symlink", raw.symlink.first().map(Spanned::span)),
        ("device", raw.device.first().map(Spanned::span)),
        ("ext4", raw.ext4.as_ref().map(Spanned::span)),
        ("bootloader", raw.bootloader.as_ref().map(Spanned::span)),
        ("free", raw.free.as_ref().map(Spanned::span)),
    ];
    for (key, span) in needs_filesystem {
        if let Some(span) = span {
            let (label, filesystem) = (label(), kind.word());
            let kind = LayoutError::NoFilesystem {
                label,
                key,
                filesystem,
            };
            return Err(context.error(&span, kind));
        }
    }
    let span = raw.size.as_ref().map_or(typed.span(), Spanned::span);
    match size {
        PartitionSize::Auto => {
            let (label, holds) = (label(), kind.holds());
            Err(context.error(&span, LayoutError::NothingToFit { label, holds }))
        }
        PartitionSize::Fixed(size) if kind == Kind::Swap && size < SWAP_SIZE_MIN => {
            let label = label();
            Err(context.error(&span, LayoutError::SwapTooSmall { label, size }))
        }
        PartitionSize::Fixed(_) | PartitionSize::Rest => Ok(filesystem),
    }
}
