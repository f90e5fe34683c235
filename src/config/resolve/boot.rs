//! What starts the machine: boot code, boot loader, and where their pieces are installed.

use std::fs;
use std::path::PathBuf;

use thiserror::Error;
use toml::Spanned;

use super::layout::LayoutError;
use super::{Context, Result, content, examine};
use crate::config::ConfigWarningKind;
use crate::config::error::ConfigErrorKind;
use crate::config::raw::{RawBootloader, RawDisk, RawPartition, RawVm};
use crate::config::spec::{
    BootCode, DiskSpec, Firmware, ImagePath, PartitionSpec, PartitionTable, VmSpec,
};

/// What comes before the disk signature in the boot sector.
const BOOT_CODE_LEN: u64 = 440;
/// `dirlen` of ldlinux.sys with the NUL.
const DIRECTORY_LEN_MAX: usize = 255;
/// Where distributions put mbr.bin: Debian, syslinux-common, Arch, others, Fedora and Alpine.
const BOOT_CODE_DIRECTORIES: [&str; 5] = [
    "usr/lib/EXTLINUX",
    "usr/lib/syslinux/mbr",
    "usr/lib/syslinux/bios",
    "usr/lib/syslinux",
    "usr/share/syslinux",
];
/// Executables that carry the pieces of extlinux.
const EXTLINUX_PATHS: [&str; 4] = [
    "usr/bin/extlinux",
    "sbin/extlinux",
    "usr/sbin/extlinux",
    "usr/bin/syslinux",
];

/// Why the machine would not boot.
#[derive(Debug, Error)]
pub enum BootError {
    /// No executable to take the pieces from.
    #[error("partition `{label}` has bootloader = \"extlinux\", but extlinux is not installed")]
    ExtlinuxNotInstalled {
        /// The partition.
        label: String,
    },
    /// extlinux is for BIOS.
    #[error(
        "partition `{label}` has bootloader = \"extlinux\", which needs BIOS firmware; [vm] firmware is \"efi\""
    )]
    Efi {
        /// The partition.
        label: String,
    },
    /// The boot code starts the active partition only.
    #[error("partition `{label}` has a boot loader but is not active")]
    NotActive {
        /// The partition.
        label: String,
    },
    /// The boot code refuses two.
    #[error("partitions `{first}` and `{second}` are both active; a disk has at most one")]
    TwoActive {
        /// The first.
        first: String,
        /// The second.
        second: String,
    },
    /// Only what is active is started.
    #[error(
        "partitions `{first}` and `{second}` both have a boot loader; only one partition can have it, because only one can be active"
    )]
    TwoBootloaders {
        /// The first.
        first: String,
        /// The second.
        second: String,
    },
    /// A directory for a boot loader that is not there.
    #[error("partition `{label}` has `bootloader-directory` but no `bootloader`")]
    DirectoryWithoutBootloader {
        /// The partition.
        label: String,
    },
    /// ldlinux.sys has 256 bytes for the directory's name.
    #[error("`bootloader-directory` has {len} bytes; extlinux holds at most {DIRECTORY_LEN_MAX}")]
    DirectoryTooLong {
        /// Its length.
        len: usize,
    },
    /// No mbr.bin on this system.
    #[error("boot-code \"syslinux\": no mbr.bin of {BOOT_CODE_LEN} bytes in {}", searched.join(", "))]
    BootCodeNotFound {
        /// The directories.
        searched: Vec<String>,
    },
    /// A boot code of another length.
    #[error("`boot-code`: `{}` has {len} bytes; boot code has exactly {BOOT_CODE_LEN}", path.display())]
    BootCodeLength {
        /// The file.
        path: PathBuf,
        /// Its length.
        len: u64,
    },
}

impl BootError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        let advice = match self {
            Self::ExtlinuxNotInstalled { .. } => {
                "install the package `extlinux` (Debian, Ubuntu), or name the executable: [bootloader] extlinux = \"/path/to/extlinux\""
            }
            Self::BootCodeNotFound { .. } => {
                "install the package `extlinux` or `syslinux-common` (Debian, Ubuntu), or give the path of a boot code"
            }
            Self::Efi { .. } => "write firmware = \"bios\" in [vm], or leave the boot loader out",
            Self::NotActive { .. } => "add active = true to it",
            Self::TwoActive { .. } => {
                "keep active = true on the partition that has the boot loader"
            }
            Self::TwoBootloaders { second, .. } => {
                return format!("leave `bootloader` out of `{second}`, or of the other");
            }
            Self::DirectoryWithoutBootloader { .. } => "add bootloader = \"extlinux\"",
            Self::DirectoryTooLong { .. } => "choose a shorter path, such as \"/boot/extlinux\"",
            Self::BootCodeLength { .. } => {
                "the usual one is mbr.bin of the package `extlinux` or `syslinux-common`"
            }
        };
        advice.to_owned()
    }
}

/// Where extlinux goes in a partition, if it has a boot loader.
pub(super) fn directory(
    raw: &RawPartition,
    bootloader: bool,
    label: &str,
    context: &Context<'_>,
) -> Result<Option<ImagePath>> {
    let Some(typed) = &raw.bootloader_directory else {
        return Ok(bootloader.then(ImagePath::default));
    };
    if !bootloader {
        let label = label.to_owned();
        let kind = BootError::DirectoryWithoutBootloader { label };
        return Err(context.error(&typed.span(), kind));
    }
    let path = content::image_path("bootloader-directory", typed, context)?;
    let len = path.to_string().len();
    if len > DIRECTORY_LEN_MAX {
        return Err(context.error(&typed.span(), BootError::DirectoryTooLong { len }));
    }
    Ok(Some(path))
}

/// Whether what has a boot loader would be started.
pub(super) fn check_partitions(
    typed: &[Spanned<RawPartition>],
    partitions: &[PartitionSpec],
    disk: &DiskSpec,
    vm: &VmSpec,
    raw_vm: &RawVm,
    context: &Context<'_>,
) -> Result<()> {
    check_one_bootloader(typed, partitions, context)?;
    let mut first_active: Option<&PartitionSpec> = None;
    for (raw, partition) in typed.iter().zip(partitions) {
        let label = || partition.label.clone();
        let active_span = raw.get_ref().active.as_ref().map(Spanned::span);
        let active_span = active_span.unwrap_or(raw.span());
        if partition.active && disk.table == PartitionTable::None {
            let key = "active";
            return Err(context.error(&active_span, LayoutError::NeedsTable { key }));
        }
        if let (true, Some(first)) = (partition.active, first_active) {
            let kind = BootError::TwoActive {
                first: first.label.clone(),
                second: label(),
            };
            return Err(context.error(&active_span, kind));
        }
        if partition.active {
            first_active = Some(partition);
        }
        if partition.bootloader_directory.is_none() {
            continue;
        }
        let span = bootloader_span(raw);
        if disk.table == PartitionTable::None {
            let key = "bootloader";
            return Err(context.error(&span, LayoutError::NeedsTable { key }));
        }
        if vm.firmware == Firmware::Efi {
            let span = raw_vm.firmware.as_ref().map_or(span, Spanned::span);
            return Err(context.error(&span, BootError::Efi { label: label() }));
        }
        if !partition.active {
            return Err(context.error(&span, BootError::NotActive { label: label() }));
        }
    }
    Ok(())
}

fn check_one_bootloader(
    typed: &[Spanned<RawPartition>],
    partitions: &[PartitionSpec],
    context: &Context<'_>,
) -> Result<()> {
    let mut booting = typed
        .iter()
        .zip(partitions)
        .filter(|(_, partition)| partition.bootloader_directory.is_some());
    let (Some((_, first)), Some((raw, second))) = (booting.next(), booting.next()) else {
        return Ok(());
    };
    let kind = BootError::TwoBootloaders {
        first: first.label.clone(),
        second: second.label.clone(),
    };
    Err(context.error(&bootloader_span(raw), kind))
}

fn bootloader_span(raw: &Spanned<RawPartition>) -> std::ops::Range<usize> {
    let typed = raw.get_ref().bootloader.as_ref();
    typed.map_or(raw.span(), Spanned::span)
}

/// The boot code; what was not typed follows from the partitions.
pub(super) fn boot_code(
    raw: &Spanned<RawDisk>,
    partitions: &[PartitionSpec],
    table: PartitionTable,
    context: &mut Context<'_>,
) -> Result<BootCode> {
    let booting = partitions
        .iter()
        .find(|partition| partition.bootloader_directory.is_some());
    let typed = raw.get_ref().boot_code.as_ref();
    let word = match typed {
        Some(typed) => typed.get_ref().as_str(),
        None if booting.is_some() => "syslinux",
        None => "none",
    };
    let span = typed.map_or(raw.span(), Spanned::span);
    if word == "none" {
        if let (Some(partition), Some(_)) = (booting, typed) {
            let label = partition.label.clone();
            context.warn(
                context.locate(&span),
                ConfigWarningKind::NoBootCode { label },
            );
        }
        return Ok(BootCode::None);
    }
    if table == PartitionTable::None {
        let key = "boot-code";
        return Err(context.error(&span, LayoutError::NeedsTable { key }));
    }
    match typed {
        Some(typed) if word != "syslinux" => {
            let path = context.absolute(typed);
            let (path, metadata) = context.regular_file("boot-code", path, &span)?;
            let len = metadata.len();
            if len != BOOT_CODE_LEN {
                return Err(context.error(&span, BootError::BootCodeLength { path, len }));
            }
            Ok(BootCode::File(path))
        }
        _ => installed_boot_code(context)
            .map(BootCode::File)
            .map_err(|kind| context.error(&span, kind)),
    }
}

fn installed_boot_code(context: &Context<'_>) -> std::result::Result<PathBuf, BootError> {
    let root = &context.environment.system_root;
    let is_boot_code =
        |metadata: &fs::Metadata| metadata.is_file() && metadata.len() == BOOT_CODE_LEN;
    BOOT_CODE_DIRECTORIES
        .iter()
        .filter_map(|directory| examine(&root.join(directory).join("mbr.bin")).ok())
        .find(|(_, metadata)| is_boot_code(metadata))
        .map(|(path, _)| path)
        .ok_or_else(|| BootError::BootCodeNotFound {
            searched: BOOT_CODE_DIRECTORIES
                .iter()
                .map(|directory| format!("/{directory}"))
                .collect(),
        })
}

/// The executable to take extlinux's pieces from, if a partition needs it.
pub(super) fn extlinux(
    raw: &RawBootloader,
    typed: &[Spanned<RawPartition>],
    partitions: &[PartitionSpec],
    context: &Context<'_>,
) -> Result<Option<PathBuf>> {
    let booting = typed
        .iter()
        .zip(partitions)
        .find(|(_, partition)| partition.bootloader_directory.is_some());
    let Some((raw_partition, partition)) = booting else {
        return Ok(None);
    };
    if let Some(typed) = raw
        .extlinux
        .as_ref()
        .filter(|typed| typed.get_ref() != "auto")
    {
        let path = context.absolute(typed);
        let (path, _) = context.regular_file("extlinux", path, &typed.span())?;
        return Ok(Some(path));
    }
    let root = &context.environment.system_root;
    EXTLINUX_PATHS
        .iter()
        .filter_map(|path| examine(&root.join(path)).ok())
        .find(|(_, metadata)| metadata.is_file())
        .map(|(path, _)| Some(path))
        .ok_or_else(|| {
            let label = partition.label.clone();
            let kind: ConfigErrorKind = BootError::ExtlinuxNotInstalled { label }.into();
            context.error(&bootloader_span(raw_partition), kind)
        })
}
