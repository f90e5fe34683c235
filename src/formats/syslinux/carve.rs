//! Finding the boot loader's parts inside the `extlinux` or `syslinux` executable, which embeds them.
//!
//! The executables of distributions are stripped, so the parts are recognised by what they hold. Every part must be
//! found exactly once: a guess could give a disk that does not boot.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use super::ldlinux::PatchArea;
use super::{BOOT_SECTOR_LEN, LDLINUX_MAGIC, Pieces, SECTOR_LEN, u32_at};

/// Offset in the boot sector of its copy of the magic: `bsMagic`.
const BS_MAGIC_OFFSET: usize = 0x1f8;
/// Offset in the boot sector of the link into `ldlinux.sys`, whose high bits are constant: `bsForwardPtr`.
const BS_FORWARD_OFFSET: usize = 0x1fc;
/// How the core begins.
const LDLINUX_BANNER: &[u8] = b"\r\nSYSLINUX ";
/// The banner and the version come before the patch area, within this many bytes.
const BANNER_DISTANCE_MAX: usize = 64;
/// Between two embedded parts lies at most this much padding.
const PADDING_MAX: usize = 64;
/// Lengths in bytes that a core can have; known ones have 58368 and 58880.
const LDLINUX_LEN: Range<usize> = 16 * 1024..96 * 1024;
/// How a 32-bit little-endian ELF file begins, which the module is.
const ELF32_MAGIC: &[u8] = b"\x7fELF\x01\x01\x01";

/// A part of the boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// The boot sector of the partition.
    BootSector,
    /// `ldlinux.sys`.
    LdlinuxSys,
    /// `ldlinux.c32`.
    LdlinuxC32,
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BootSector => "boot sector",
            Self::LdlinuxSys => "ldlinux.sys",
            Self::LdlinuxC32 => "ldlinux.c32",
        })
    }
}

/// Why the parts cannot be taken from an executable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarveError {
    /// Not an executable of a kind that embeds the boot loader.
    #[error("executable: is no little-endian ELF file with a section table")]
    NotElf,
    /// A section that the search needs is missing.
    #[error("executable: has no section {0}")]
    NoSection(&'static str),
    /// No place looks like the part.
    #[error("{0}: not found in the executable")]
    NotFound(Piece),
    /// Several places look like the part.
    #[error("{piece}: found {count} times in the executable, expected once")]
    Ambiguous {
        /// Which part.
        piece: Piece,
        /// How many places match.
        count: usize,
    },
    /// The length of the core cannot be told.
    #[error(
        "ldlinux.sys: starts at {offset:#x} of the executable, but {count} lengths fit, expected one"
    )]
    Length {
        /// Byte offset in the executable.
        offset: usize,
        /// How many lengths fit.
        count: usize,
    },
    /// What was found has no patch area that could be filled in.
    #[error(
        "ldlinux.sys: starts at {offset:#x} of the executable, but its patch area is not usable"
    )]
    PatchArea {
        /// Byte offset in the executable.
        offset: usize,
    },
}

/// Takes the boot loader's parts out of an `extlinux` or `syslinux` executable of syslinux 6.04; older ones without
/// `ldlinux.c32` are refused.
///
/// # Errors
/// [`CarveError`] says which part is missing or not unique.
pub fn carve(executable: &[u8]) -> Result<Pieces, CarveError> {
    let sections = Sections::parse(executable).ok_or(CarveError::NotElf)?;
    let magics = find_all(executable, &LDLINUX_MAGIC.to_le_bytes());

    let (boot_offset, boot_sector) = find_boot_sector(executable, &magics)?;
    let sys_offset = find_ldlinux_sys(executable, &magics, boot_sector)?;
    let c32 = find_ldlinux_c32(executable, &sections)?;

    // The core ends where the next part begins, or with its section.
    let section_end = sections
        .end_of(sys_offset)
        .ok_or(CarveError::NotFound(Piece::LdlinuxSys))?;
    let next = [boot_offset, c32.start]
        .into_iter()
        .filter(|start| *start > sys_offset)
        .fold(section_end, usize::min);
    let len = ldlinux_sys_len(executable, &sections, sys_offset, next)?;
    let ldlinux_sys = sys_offset
        .checked_add(len)
        .and_then(|end| executable.get(sys_offset..end))
        .ok_or(CarveError::NotFound(Piece::LdlinuxSys))?;
    if PatchArea::find(ldlinux_sys).is_err() {
        return Err(CarveError::PatchArea { offset: sys_offset });
    }
    let ldlinux_c32 = executable
        .get(c32)
        .ok_or(CarveError::NotFound(Piece::LdlinuxC32))?;
    Ok(Pieces {
        boot_sector: *boot_sector,
        ldlinux_sys: ldlinux_sys.to_vec(),
        ldlinux_c32: ldlinux_c32.to_vec(),
    })
}

/// Offset and bytes of the one boot sector around a magic.
fn find_boot_sector<'a>(
    executable: &'a [u8],
    magics: &[usize],
) -> Result<(usize, &'a [u8; BOOT_SECTOR_LEN]), CarveError> {
    let hits = magics.iter().filter_map(|magic| {
        let offset = magic.checked_sub(BS_MAGIC_OFFSET)?;
        let sector = executable.get(offset..)?.first_chunk::<BOOT_SECTOR_LEN>()?;
        let forward = u32_at(sector, BS_FORWARD_OFFSET)?;
        let matches = sector.starts_with(&[0xeb])
            && sector.get(2..11)? == b"\x90SYSLINUX"
            && forward & 0xfe00 == 0x3600
            && sector.ends_with(&[0x55, 0xaa]);
        matches.then_some((offset, sector))
    });
    exactly_one(Piece::BootSector, hits)
}

/// Offset of the one core that belongs to `boot_sector`.
fn find_ldlinux_sys(
    executable: &[u8],
    magics: &[usize],
    boot_sector: &[u8],
) -> Result<usize, CarveError> {
    let hits = magics.iter().filter_map(|&magic| {
        let window_start = magic.saturating_sub(BANNER_DISTANCE_MAX);
        let window = executable.get(window_start..magic)?;
        let banner = find_all(window, LDLINUX_BANNER).pop()?;
        let offset = window_start.checked_add(banner)?;
        let aligned = magic.checked_sub(offset)?.is_multiple_of(8);
        // The instance ties a boot sector to its core; installer code that mentions the magic has none.
        let instance = executable
            .get(magic.checked_add(4)?..)?
            .first_chunk::<4>()?;
        let paired = boot_sector.windows(4).any(|bytes| bytes == instance);
        (aligned && paired).then_some(offset)
    });
    exactly_one(Piece::LdlinuxSys, hits)
}

/// Where the one module lies.
fn find_ldlinux_c32(executable: &[u8], sections: &Sections) -> Result<Range<usize>, CarveError> {
    let hits = find_all(executable, ELF32_MAGIC)
        .into_iter()
        // The executable itself may be a 32-bit one.
        .filter(|offset| *offset != 0)
        .filter_map(|offset| {
            let end = sections.end_of(offset)?;
            let len = SectionTable::parse(executable.get(offset..end)?)?.end()?;
            let module_end = offset
                .checked_add(len)
                .filter(|module_end| *module_end <= end)?;
            Some(offset..module_end)
        });
    exactly_one(Piece::LdlinuxC32, hits)
}

/// The one length among the executable's constants that takes the core from `start` to just before `next`.
fn ldlinux_sys_len(
    executable: &[u8],
    sections: &Sections,
    start: usize,
    next: usize,
) -> Result<usize, CarveError> {
    let constants = sections
        .named(executable, b".rodata")
        .and_then(|range| executable.get(range))
        .ok_or(CarveError::NoSection(".rodata"))?;
    let room = next.saturating_sub(start);
    let lengths: BTreeSet<usize> = constants
        .as_chunks()
        .0
        .iter()
        .filter_map(|constant| usize::try_from(u32::from_le_bytes(*constant)).ok())
        .filter(|len| len.is_multiple_of(SECTOR_LEN) && LDLINUX_LEN.contains(len))
        .filter(|len| *len <= room && room.saturating_sub(*len) < PADDING_MAX)
        .collect();
    let count = lengths.len();
    lengths
        .first()
        .filter(|_| count == 1)
        .copied()
        .ok_or(CarveError::Length {
            offset: start,
            count,
        })
}

fn exactly_one<T>(piece: Piece, hits: impl Iterator<Item = T>) -> Result<T, CarveError> {
    let mut hits: Vec<T> = hits.collect();
    let count = hits.len();
    match hits.pop() {
        Some(hit) if count == 1 => Ok(hit),
        Some(_) => Err(CarveError::Ambiguous { piece, count }),
        None => Err(CarveError::NotFound(piece)),
    }
}

/// Offsets of all occurrences of `needle`, ascending.
fn find_all(haystack: &[u8], needle: &[u8]) -> Vec<usize> {
    haystack
        .windows(needle.len())
        .enumerate()
        .filter_map(|(offset, window)| (window == needle).then_some(offset))
        .collect()
}

/// Where an ELF file's section headers lie (System V ABI, chapter 4).
struct SectionTable {
    wide: bool,
    offset: usize,
    entry_len: usize,
    count: usize,
    names_index: usize,
}

impl SectionTable {
    /// Reads the header of a little-endian ELF file; nothing is checked against the file's length.
    fn parse(file: &[u8]) -> Option<Self> {
        const EI_CLASS_32: u8 = 1;
        const EI_CLASS_64: u8 = 2;
        const EI_DATA_LITTLE: u8 = 1;
        let class = *file.get(4)?;
        if !file.starts_with(b"\x7fELF") || *file.get(5)? != EI_DATA_LITTLE {
            return None;
        }
        let (wide, offset, counts) = match class {
            EI_CLASS_32 => (false, uint_at(file, 0x20, 4)?, 0x2e),
            EI_CLASS_64 => (true, uint_at(file, 0x28, 8)?, 0x3a),
            _ => return None,
        };
        Some(Self {
            wide,
            offset,
            entry_len: uint_at(file, counts, 2)?,
            count: uint_at(file, counts.checked_add(2)?, 2)?,
            names_index: uint_at(file, counts.checked_add(4)?, 2)?,
        })
    }

    /// Byte offset of the end of the table, which is the end of a file that the linker wrote.
    fn end(&self) -> Option<usize> {
        self.entry_len
            .checked_mul(self.count)?
            .checked_add(self.offset)
            .filter(|_| self.offset != 0 && self.count != 0)
    }

    /// Offset of the name, and place in the file, of the section at `index`; no place if it occupies none.
    fn section(&self, file: &[u8], index: usize) -> Option<(usize, Range<usize>)> {
        const SHT_NOBITS: usize = 8;
        let header = self
            .entry_len
            .checked_mul(index)?
            .checked_add(self.offset)
            .and_then(|start| file.get(start..start.checked_add(self.entry_len)?))?;
        let (start, len) = if self.wide {
            (uint_at(header, 0x18, 8)?, uint_at(header, 0x20, 8)?)
        } else {
            (uint_at(header, 0x10, 4)?, uint_at(header, 0x14, 4)?)
        };
        let len = if uint_at(header, 4, 4)? == SHT_NOBITS {
            0
        } else {
            len
        };
        Some((uint_at(header, 0, 4)?, start..start.checked_add(len)?))
    }
}

/// The sections of the executable.
struct Sections {
    /// Offset of the name in `names`, and place in the file.
    sections: Vec<(usize, Range<usize>)>,
    names: Range<usize>,
}

impl Sections {
    fn parse(executable: &[u8]) -> Option<Self> {
        let table = SectionTable::parse(executable)?;
        let sections: Vec<_> = (0..table.count)
            .map(|index| table.section(executable, index))
            .collect::<Option<_>>()?;
        let names = sections.get(table.names_index)?.1.clone();
        Some(Self { sections, names })
    }

    /// Where the section of that name lies.
    fn named(&self, executable: &[u8], name: &[u8]) -> Option<Range<usize>> {
        let names = executable.get(self.names.clone())?;
        self.sections
            .iter()
            .find(|(name_offset, _)| {
                names
                    .get(*name_offset..)
                    .and_then(|rest| rest.strip_prefix(name))
                    .is_some_and(|rest| rest.starts_with(&[0]))
            })
            .map(|(_, range)| range.clone())
    }

    /// Where the section that holds `offset` ends.
    fn end_of(&self, offset: usize) -> Option<usize> {
        self.sections
            .iter()
            .find(|(_, range)| range.contains(&offset))
            .map(|(_, range)| range.end)
    }
}

/// The little-endian number of `len` bytes (at most 8) at `offset`, if it lies inside.
fn uint_at(bytes: &[u8], offset: usize, len: usize) -> Option<usize> {
    let field = bytes.get(offset..offset.checked_add(len)?)?;
    let mut wide = [0; 8];
    wide.get_mut(..len)?.copy_from_slice(field);
    usize::try_from(u64::from_le_bytes(wide)).ok()
}
