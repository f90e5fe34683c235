//! What `extlinux --install` writes: the boot sector of the partition and `ldlinux.sys`, as functions of the
//! un-patched pieces and of the sectors that `ldlinux.sys` occupies.
//!
//! The pieces are not shipped with miragefs: they are taken out of the installed `extlinux` executable, which
//! embeds them ([`carve()`]). Field names are those of `libinstaller/syslxint.h` of syslinux 6.04.
//! Invariant: nothing here trusts the executable; every offset read from it is checked before it is used.

mod adv;
mod boot_sector;
mod carve;
mod ldlinux;

pub use adv::{ADV_AREA_LEN, ADV_LEN};
pub use carve::{CarveError, Piece, carve};

use ldlinux::PatchArea;

/// Bytes of a partition's boot sector.
pub const BOOT_SECTOR_LEN: usize = 512;
/// Sectors are of this length for syslinux, whatever the disk says.
const SECTOR_LEN: usize = 512;
/// Heads that `extlinux --install` records where the device has no geometry of its own, such as on a loop device.
pub const HEADS: u16 = 64;
/// Sectors per track that it records then.
pub const SECTORS_PER_TRACK: u16 = 32;

/// Marks the patch area and ties the boot sector to `ldlinux.sys`: `LDLINUX_MAGIC`.
const LDLINUX_MAGIC: u32 = 0x3eb2_02fe;

/// The un-patched parts of the boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    /// Boot sector of the partition, `ldlinux.bss`.
    pub boot_sector: [u8; BOOT_SECTOR_LEN],
    /// The loader's core, a multiple of 512 bytes.
    pub ldlinux_sys: Vec<u8>,
    /// The core's first module, copied as it is.
    pub ldlinux_c32: Vec<u8>,
}

impl Pieces {
    /// Length of the installed `ldlinux.sys` in bytes: the core and both copies of the auxiliary data vector.
    #[must_use]
    pub const fn installed_len(&self) -> usize {
        self.ldlinux_sys.len().saturating_add(ADV_AREA_LEN)
    }
}

/// Where the boot loader is being installed.
#[derive(Debug, Clone, Copy)]
pub struct Placement<'a> {
    /// The 512-byte sectors of `ldlinux.sys` with its auxiliary data vectors, in file order, counted from the start
    /// of the partition. More than needed may be given: the last block is not always full.
    pub sectors: &'a [u64],
    /// Length of the partition in 512-byte sectors.
    pub total_sectors: u64,
    /// First sector of the partition on the disk ("hidden sectors").
    pub hidden: u64,
    /// Heads of the geometry; [`HEADS`] unless the disk has one.
    pub heads: u16,
    /// Sectors per track of the geometry; [`SECTORS_PER_TRACK`] unless the disk has one.
    pub sectors_per_track: u16,
    /// The directory that holds `ldlinux.sys`, from the root of the file system: `/` or `/boot/extlinux`.
    pub directory: &'a [u8],
}

/// The boot loader as installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The first 512 bytes of the partition.
    pub boot_sector: [u8; BOOT_SECTOR_LEN],
    /// The contents of `ldlinux.sys`, auxiliary data vectors included.
    pub ldlinux_sys: Vec<u8>,
}

/// Why the pieces cannot be patched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// No patch area, or it names no extended one.
    #[error("ldlinux.sys: has no patch area with magic {LDLINUX_MAGIC:#x}")]
    NoPatchArea,
    /// A field that the extended patch area names lies outside its file.
    #[error("{file}: field {field} at {offset:#x} with {len} bytes is outside its {end} bytes")]
    FieldOutside {
        /// `ldlinux.sys` or `boot sector`.
        file: &'static str,
        /// The field's name in syslinux's source.
        field: &'static str,
        /// Byte offset.
        offset: usize,
        /// Length in bytes.
        len: usize,
        /// Length of the file.
        end: usize,
    },
    /// The length is none that the patch area can describe.
    #[error("ldlinux.sys: has {len} bytes; expected a multiple of 512 below 32 MiB")]
    Length {
        /// Length in bytes.
        len: usize,
    },
    /// The block list is shorter than the file.
    #[error("ldlinux.sys: {have} sectors are mapped, {need} are needed")]
    TooFewSectors {
        /// Sectors given.
        have: usize,
        /// Sectors of the file.
        need: usize,
    },
    /// A sector of the file is the boot sector itself, which is how block lists show holes.
    #[error("ldlinux.sys: sector {index} of the file is a hole")]
    Hole {
        /// Which sector of the file.
        index: usize,
    },
    /// The file is too fragmented.
    #[error("ldlinux.sys: lies in {need} extents; its extent table holds {limit}")]
    TooManyExtents {
        /// Extents of the file.
        need: usize,
        /// Entries of the table.
        limit: usize,
    },
    /// The path does not fit its field, or holds a NUL byte.
    #[error(
        "boot loader directory: path has {len} bytes; ldlinux.sys holds at most {limit} without NUL"
    )]
    Directory {
        /// Length of the path.
        len: usize,
        /// Longest path that fits.
        limit: usize,
    },
}

/// Patches the pieces for one partition, as `extlinux --install` does without further options.
///
/// # Errors
/// [`PatchError`] if the block list or the directory does not fit, or if the pieces are not what they claim to be.
pub fn patch(pieces: &Pieces, placement: &Placement<'_>) -> Result<Installed, PatchError> {
    let mut boot_sector = pieces.boot_sector;
    let mut ldlinux_sys = pieces.ldlinux_sys.clone();
    let area = PatchArea::find(&ldlinux_sys)?;
    let first_sector = area.patch(&mut ldlinux_sys, placement)?;
    boot_sector::patch(&mut boot_sector, &area, placement, first_sector)?;
    ldlinux_sys.extend_from_slice(&adv::empty_area());
    Ok(Installed {
        boot_sector,
        ldlinux_sys,
    })
}

/// Writes `bytes` at `offset` of `file`, which may lie anywhere.
fn write_field(
    file: &mut [u8],
    file_name: &'static str,
    field: &'static str,
    offset: usize,
    bytes: &[u8],
) -> Result<(), PatchError> {
    let (len, end) = (bytes.len(), file.len());
    offset
        .checked_add(len)
        .and_then(|field_end| file.get_mut(offset..field_end))
        .ok_or(PatchError::FieldOutside {
            file: file_name,
            field,
            offset,
            len,
            end,
        })?
        .copy_from_slice(bytes);
    Ok(())
}

/// The little-endian `u32` at `offset` of `bytes`, if it lies inside.
fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let (value, _) = bytes.get(offset..)?.split_first_chunk()?;
    Some(u32::from_le_bytes(*value))
}

/// The sum of all complete little-endian `u32`s of `bytes`, modulo 2^32.
fn dword_sum(bytes: &[u8]) -> u32 {
    let (dwords, _) = bytes.as_chunks();
    dwords.iter().fold(0, |sum: u32, dword| {
        sum.wrapping_add(u32::from_le_bytes(*dword))
    })
}

#[cfg(test)]
mod tests;
