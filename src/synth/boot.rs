//! What `extlinux --install` does, from the sectors that the layout gives to `ldlinux.sys`.
//!
//! Invariant: the lengths of both files are known before anything is laid out, and installing does no I/O.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::host_file::read_small_file;
use crate::formats::mbr::BOOT_CODE_LEN;
use crate::formats::syslinux::{
    self, CarveError, HEADS, PatchError, Pieces, Placement, SECTORS_PER_TRACK,
};
use crate::units::{KIB, Lba, MIB, to_u64};

/// Known executables have 100 to 250 KiB.
const EXECUTABLE_LEN_MAX: u64 = 8 * MIB;
/// Boot code is part of one sector; some loaders come as a whole one.
const BOOT_CODE_FILE_LEN_MAX: u64 = KIB / 2;

/// The parts of extlinux, ready to be installed into any number of partitions.
#[derive(Debug, Clone)]
pub struct BootLoader {
    pieces: Pieces,
    ldlinux_c32: Arc<[u8]>,
}

/// The partition and the place in it where the boot loader goes.
#[derive(Debug, Clone, Copy)]
pub struct InstallTarget<'a> {
    /// The 512-byte sectors of `ldlinux.sys` in file order, from the start of the partition; the rest of the last
    /// block may be included.
    pub sectors: &'a [u64],
    /// First sector of the partition on the disk.
    pub start: Lba,
    /// Length of the partition in 512-byte sectors.
    pub total_sectors: u64,
    /// The directory of `ldlinux.sys` inside the partition: `/` or `/boot/extlinux`, without trailing slash.
    pub directory: &'a [u8],
}

/// What the boot loader adds to a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledBootLoader {
    /// The first 512 bytes of the partition.
    pub boot_sector: [u8; syslinux::BOOT_SECTOR_LEN],
    /// Contents of `ldlinux.sys`, [`BootLoader::ldlinux_sys_len`] bytes.
    pub ldlinux_sys: Arc<[u8]>,
    /// Contents of `ldlinux.c32`.
    pub ldlinux_c32: Arc<[u8]>,
}

/// Why there is no boot loader or no boot code.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file cannot be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The executable, or the file of boot code.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// The executable does not hold the parts.
    #[error("{}: is no extlinux that the boot loader can be taken from", path.display())]
    Carve {
        /// The executable.
        path: PathBuf,
        /// Which part is missing.
        source: CarveError,
    },
    /// The boot loader does not fit the place it was given.
    #[error("boot loader in {directory}: cannot be installed")]
    Patch {
        /// The directory inside the partition.
        directory: String,
        /// What does not fit.
        source: PatchError,
    },
    /// The file of boot code is empty.
    #[error("{}: is empty; boot code has up to {BOOT_CODE_LEN} bytes", path.display())]
    EmptyBootCode {
        /// The file.
        path: PathBuf,
    },
}

impl BootError {
    /// What the user can do about it.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } | Self::Carve { .. } => Some(
                "install the package `extlinux` (Debian) or `syslinux-extlinux` (Fedora), or name a file of it in the config",
            ),
            Self::EmptyBootCode { .. } => {
                Some("syslinux's is called mbr.bin, in the package `extlinux` or `syslinux-common`")
            }
            Self::Patch { .. } => None,
        }
    }
}

impl BootLoader {
    /// Takes the boot loader out of an `extlinux` or `syslinux` executable, which is read but never run.
    ///
    /// # Errors
    /// [`BootError::Read`] and [`BootError::Carve`] name the executable.
    pub fn load(extlinux: &Path) -> Result<Self, BootError> {
        let executable =
            read_small_file(extlinux, EXECUTABLE_LEN_MAX).map_err(|source| BootError::Read {
                path: extlinux.to_owned(),
                source,
            })?;
        let pieces = syslinux::carve(&executable).map_err(|source| BootError::Carve {
            path: extlinux.to_owned(),
            source,
        })?;
        let ldlinux_c32 = pieces.ldlinux_c32.as_slice().into();
        Ok(Self {
            pieces,
            ldlinux_c32,
        })
    }

    /// Length of the installed `ldlinux.sys` in bytes, auxiliary data vectors included.
    #[must_use]
    pub const fn ldlinux_sys_len(&self) -> u64 {
        to_u64(self.pieces.installed_len())
    }

    /// Contents of `ldlinux.c32`, which are the same everywhere.
    #[must_use]
    pub fn ldlinux_c32(&self) -> Arc<[u8]> {
        Arc::clone(&self.ldlinux_c32)
    }

    /// The un-patched parts, equal for equal boot loaders: what fingerprints of images include.
    #[must_use]
    pub const fn pieces(&self) -> &Pieces {
        &self.pieces
    }

    /// What `extlinux --install` writes for that place.
    ///
    /// # Errors
    /// [`BootError::Patch`] if the block list or the directory does not fit.
    pub fn install(&self, target: &InstallTarget<'_>) -> Result<InstalledBootLoader, BootError> {
        let placement = Placement {
            sectors: target.sectors,
            total_sectors: target.total_sectors,
            hidden: target.start.0,
            heads: HEADS,
            sectors_per_track: SECTORS_PER_TRACK,
            directory: target.directory,
        };
        let installed =
            syslinux::patch(&self.pieces, &placement).map_err(|source| BootError::Patch {
                directory: String::from_utf8_lossy(target.directory).into_owned(),
                source,
            })?;
        Ok(InstalledBootLoader {
            boot_sector: installed.boot_sector,
            ldlinux_sys: installed.ldlinux_sys.into(),
            ldlinux_c32: self.ldlinux_c32(),
        })
    }
}

/// The boot code in `path`: at most 440 bytes of it, zeros behind a shorter one.
///
/// # Errors
/// [`BootError::Read`] also for files above 512 bytes, which are no boot code; [`BootError::EmptyBootCode`].
pub fn load_boot_code(path: &Path) -> Result<[u8; BOOT_CODE_LEN], BootError> {
    let contents =
        read_small_file(path, BOOT_CODE_FILE_LEN_MAX).map_err(|source| BootError::Read {
            path: path.to_owned(),
            source,
        })?;
    if contents.is_empty() {
        let path = path.to_owned();
        return Err(BootError::EmptyBootCode { path });
    }
    let mut code = [0; BOOT_CODE_LEN];
    for (to, from) in code.iter_mut().zip(&contents) {
        *to = *from;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_code_is_cut_and_padded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mbr.bin");
        std::fs::write(&path, [7; 439]).unwrap();
        let code = load_boot_code(&path).unwrap();
        assert_eq!((code[438], code[439]), (7, 0));
        std::fs::write(&path, [8; 512]).unwrap();
        assert_eq!(load_boot_code(&path).unwrap(), [8; 440]);
        std::fs::write(&path, [8; 513]).unwrap();
        let error = load_boot_code(&path).unwrap_err();
        assert!(matches!(error, BootError::Read { .. }), "{error}");
        std::fs::write(&path, []).unwrap();
        assert_eq!(
            load_boot_code(&path).unwrap_err().to_string(),
            format!(
                "{}: is empty; boot code has up to 440 bytes",
                path.display()
            )
        );
    }

    #[test]
    fn what_is_no_extlinux_is_refused_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("extlinux");
        let missing = BootLoader::load(&path).unwrap_err();
        assert!(matches!(missing, BootError::Read { .. }), "{missing}");
        assert!(missing.hint().unwrap().contains("package `extlinux`"));
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        let script = BootLoader::load(&path).unwrap_err();
        assert_eq!(
            script.to_string(),
            format!(
                "{}: is no extlinux that the boot loader can be taken from",
                path.display()
            )
        );
    }
}
