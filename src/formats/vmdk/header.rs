//! `SparseExtentHeader`: sector 0 of a sparse VMDK extent, and the footer of a streamOptimized one.
//!
//! Invariant: of all that the format allows only our two layouts are written, and only they are read back.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{DESCRIPTOR_SECTOR, DESCRIPTOR_SECTORS, GRAIN_SECTORS, GTES_PER_GT};
use crate::units::{low16, low32};

/// The header as on disk (technote "Hosted Sparse Extent Header").
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawSparseExtentHeader {
    /// `KDMV`.
    pub magic_number: [u8; 4],
    /// 1 for sparse, 3 for stream.
    pub version: U32,
    /// See the `FLAG_*` constants.
    pub flags: U32,
    /// Size of the disk in sectors.
    pub capacity: U64,
    /// Sectors of a grain.
    pub grain_size: U64,
    /// First sector of the embedded descriptor.
    pub descriptor_offset: U64,
    /// Sectors of the embedded descriptor.
    pub descriptor_size: U64,
    /// Entries of a grain table.
    pub num_gtes_per_gt: U32,
    /// First sector of the redundant grain directory, 0 for none.
    pub rgd_offset: U64,
    /// First sector of the grain directory, or [`GD_AT_END`].
    pub gd_offset: U64,
    /// Sectors before the first grain or marker.
    pub over_head: U64,
    /// Not 0 while a writer has the file open.
    pub unclean_shutdown: u8,
    /// `\n`, with the next three: damaged by transfers in text mode.
    pub single_end_line_char: u8,
    /// A space.
    pub non_end_line_char: u8,
    /// `\r`.
    pub double_end_line_char1: u8,
    /// `\n`.
    pub double_end_line_char2: u8,
    /// 0 none, 1 deflate.
    pub compress_algorithm: U16,
    /// Zeros.
    pub pad: [u8; 433],
}

const _: () = {
    assert!(size_of::<RawSparseExtentHeader>() == 512);
    assert!(std::mem::offset_of!(RawSparseExtentHeader, num_gtes_per_gt) == 44);
    assert!(std::mem::offset_of!(RawSparseExtentHeader, gd_offset) == 56);
    assert!(std::mem::offset_of!(RawSparseExtentHeader, unclean_shutdown) == 72);
    assert!(std::mem::offset_of!(RawSparseExtentHeader, compress_algorithm) == 77);
};

/// `gdOffset` of a header whose grain directory is found through the footer.
pub const GD_AT_END: u64 = u64::MAX;

const MAGIC: [u8; 4] = *b"KDMV";
/// The four newline-test bytes are valid.
const FLAG_NEWLINE_TEST: u32 = 1;
/// The redundant grain tables are valid.
const FLAG_REDUNDANT_TABLES: u32 = 1 << 1;
/// Grains are compressed.
const FLAG_COMPRESSED: u32 = 1 << 16;
/// Markers precede grains and tables.
const FLAG_MARKERS: u32 = 1 << 17;
const COMPRESSION_DEFLATE: u16 = 1;

/// Which of our two layouts a header describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// monolithicSparse: two copies of directory and tables in front, grains as they are.
    Sparse,
    /// streamOptimized: deflated grains between markers.
    Stream,
}

/// What varies between headers; all positions in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SparseExtentHeader {
    /// The layout.
    pub layout: Layout,
    /// Size of the disk.
    pub capacity: u64,
    /// Redundant grain directory, 0 for none.
    pub rgd_offset: u64,
    /// Grain directory, or [`GD_AT_END`].
    pub gd_offset: u64,
    /// Sectors before the first grain or marker.
    pub over_head: u64,
}

impl SparseExtentHeader {
    /// The 512 bytes on disk.
    #[must_use]
    pub fn to_raw(&self) -> RawSparseExtentHeader {
        // Readers insist on these versions: ESXi refuses streams below 3, VirtualBox knows only 1 and 3.
        let (version, flags, compress_algorithm) = match self.layout {
            Layout::Sparse => (1, FLAG_NEWLINE_TEST | FLAG_REDUNDANT_TABLES, 0),
            Layout::Stream => (
                3,
                FLAG_NEWLINE_TEST | FLAG_COMPRESSED | FLAG_MARKERS,
                COMPRESSION_DEFLATE,
            ),
        };
        RawSparseExtentHeader {
            magic_number: MAGIC,
            version: U32::new(version),
            flags: U32::new(flags),
            capacity: U64::new(self.capacity),
            grain_size: U64::new(GRAIN_SECTORS),
            descriptor_offset: U64::new(DESCRIPTOR_SECTOR),
            descriptor_size: U64::new(DESCRIPTOR_SECTORS),
            num_gtes_per_gt: U32::new(low32(GTES_PER_GT)),
            rgd_offset: U64::new(self.rgd_offset),
            gd_offset: U64::new(self.gd_offset),
            over_head: U64::new(self.over_head),
            single_end_line_char: b'\n',
            non_end_line_char: b' ',
            double_end_line_char1: b'\r',
            double_end_line_char2: b'\n',
            compress_algorithm: U16::new(low16(u32::from(compress_algorithm))),
            ..RawSparseExtentHeader::new_zeroed()
        }
    }

    /// What a header says, or `None` unless it is exactly one that [`Self::to_raw`] writes.
    #[must_use]
    pub fn from_raw(raw: &RawSparseExtentHeader) -> Option<Self> {
        let layout = match raw.version.get() {
            1 => Layout::Sparse,
            3 => Layout::Stream,
            _ => return None,
        };
        let header = Self {
            layout,
            capacity: raw.capacity.get(),
            rgd_offset: raw.rgd_offset.get(),
            gd_offset: raw.gd_offset.get(),
            over_head: raw.over_head.get(),
        };
        (header.to_raw() == *raw).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `qemu-img convert -O vmdk` (7.2.22) of a 40 MiB disk: the first 80 bytes; the rest of the sector is zero.
    const QEMU_SPARSE: &str = "4b444d56 01000000 03000000 0040010000000000 8000000000000000 0100000000000000 \
        1400000000000000 00020000 1500000000000000 1e00000000000000 8000000000000000 00 0a200d0a 0000 00";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        digits
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn sparse() -> SparseExtentHeader {
        SparseExtentHeader {
            layout: Layout::Sparse,
            capacity: 81920,
            rgd_offset: 21,
            gd_offset: 30,
            over_head: 128,
        }
    }

    #[test]
    fn encodes_reference_bytes() {
        let mut expected = bytes(QEMU_SPARSE);
        expected.resize(512, 0);
        assert_eq!(sparse().to_raw().as_bytes(), expected);
    }

    #[test]
    fn encodes_stream_fields() {
        let raw = SparseExtentHeader {
            layout: Layout::Stream,
            rgd_offset: 0,
            gd_offset: GD_AT_END,
            ..sparse()
        }
        .to_raw();
        // Offsets and values of the technote's table, by hand.
        let bytes = raw.as_bytes();
        assert_eq!(bytes[4..12], [3, 0, 0, 0, 1, 0, 3, 0]);
        assert_eq!(bytes[48..56], [0; 8]);
        assert_eq!(bytes[56..64], [0xff; 8]);
        assert_eq!(bytes[72..79], [0, 0x0a, 0x20, 0x0d, 0x0a, 1, 0]);
    }

    #[test]
    fn round_trips() {
        for header in [
            sparse(),
            SparseExtentHeader {
                layout: Layout::Stream,
                rgd_offset: 0,
                gd_offset: 77,
                ..sparse()
            },
        ] {
            assert_eq!(SparseExtentHeader::from_raw(&header.to_raw()), Some(header));
        }
        let mut odd = sparse().to_raw();
        odd.pad[432] = 1;
        assert_eq!(SparseExtentHeader::from_raw(&odd), None);
    }

    #[test]
    fn writes_every_byte() {
        let mut buf = [0xa5; 512];
        sparse().to_raw().write_to(&mut buf).unwrap();
        assert_eq!(buf[79..], [0; 433]);
        assert!(!buf.contains(&0xa5));
    }
}
