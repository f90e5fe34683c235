//! A grain of a streamOptimized VMDK whose deflate stream has stored blocks only.
//!
//! Invariant: every such grain takes 129 sectors, so that positions in the file follow from how many grains lie in
//! front. The split into blocks of 65535 and 1 bytes is what zlib's level 0 and VMware's own converter write.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::GRAIN_SECTORS;

/// The bytes in front of a grain's data: grain marker, zlib header, header of the first stored block.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawGrainPrefix {
    /// First sector of the grain on the disk (technote "Grain Marker").
    pub lba: U64,
    /// Bytes of the zlib stream.
    pub cmp_size: U32,
    /// CMF and FLG of RFC 1950: deflate, window of 32 KiB, fastest.
    pub zlib_header: [u8; 2],
    /// The block of the first 65535 bytes.
    pub first_block: RawStoredBlockHeader,
}

/// Header of a stored deflate block that starts on a byte boundary (RFC 1951 3.2.4).
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawStoredBlockHeader {
    /// BFINAL in bit 0, BTYPE 00.
    pub last: u8,
    /// Bytes that follow.
    pub len: U16,
    /// Ones' complement of `len`.
    pub nlen: U16,
}

const _: () = {
    assert!(size_of::<RawGrainPrefix>() == 19);
    assert!(std::mem::offset_of!(RawGrainPrefix, zlib_header) == 12);
    assert!(size_of::<RawStoredBlockHeader>() == 5);
};

/// Sectors of a stored grain.
pub const STORED_GRAIN_SECTORS: u64 = GRAIN_SECTORS + 1;
/// Bytes of a stored grain.
pub const STORED_GRAIN_LEN: u64 = 66048;
/// Offset of the first data byte in a stored grain.
pub const BODY_OFFSET: u64 = 19;
/// Data bytes in the first block.
pub const BODY_LEN: u64 = 65535;
/// Offset of the second block's header.
pub const SECOND_BLOCK_OFFSET: u64 = BODY_OFFSET + BODY_LEN;
/// Offset of the last data byte.
pub const LAST_BYTE_OFFSET: u64 = SECOND_BLOCK_OFFSET + 5;
/// Offset of the Adler-32, big-endian; zeros follow it up to the sector's end.
pub const ADLER_OFFSET: u64 = LAST_BYTE_OFFSET + 1;
/// End of the Adler-32.
pub const ADLER_END: u64 = ADLER_OFFSET + 4;

/// Bytes of the zlib stream: all from its header to the Adler-32.
const CMP_SIZE: u32 = 65552;

const _: () = {
    assert!(STORED_GRAIN_SECTORS * 512 == STORED_GRAIN_LEN);
    assert!(ADLER_END == 65564);
    assert!(ADLER_END - 12 == 65552);
};

/// The header of the second block, which holds the last byte.
pub const SECOND_BLOCK: [u8; 5] = [1, 1, 0, 0xfe, 0xff];

/// The prefix of the grain that begins at sector `lba` of the disk.
#[must_use]
pub fn prefix(lba: u64) -> RawGrainPrefix {
    RawGrainPrefix {
        lba: U64::new(lba),
        cmp_size: U32::new(CMP_SIZE),
        zlib_header: [0x78, 0x01],
        first_block: RawStoredBlockHeader {
            last: 0,
            len: U16::new(0xffff),
            nlen: U16::new(0),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_reference_bytes() {
        // The layout of a grain as open-vmdk's `vmdk-convert -c 0` writes it, with sector 256 put in.
        assert_eq!(
            prefix(256).as_bytes(),
            [
                0, 1, 0, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0x78, 0x01, 0, 0xff, 0xff, 0, 0
            ]
        );
        let second = RawStoredBlockHeader {
            last: 1,
            len: U16::new(1),
            nlen: U16::new(!1),
        };
        assert_eq!(second.as_bytes(), SECOND_BLOCK);
        // RFC 1950: CMF and FLG as a big-endian number are a multiple of 31.
        assert_eq!(0x7801 % 31, 0);
    }

    #[test]
    fn round_trips() {
        let raw = prefix(u64::MAX);
        let back = RawGrainPrefix::read_from_bytes(raw.as_bytes()).unwrap();
        assert_eq!(back, raw);
    }

    #[test]
    fn writes_every_byte() {
        let mut buf = [0xa5; 19];
        prefix(0).write_to(&mut buf).unwrap();
        assert!(!buf.contains(&0xa5));
    }
}
