//! The header, of which there are two: the one with the higher sequence number holds.
//!
//! Invariant: the log is empty, so that readers have nothing to replay.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{LOG_LEN, LOG_OFFSET};
use crate::units::low32;

/// The header as on disk (2.2.2).
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawHeader {
    /// `head`.
    pub signature: [u8; 4],
    /// CRC-32C of the 4096 bytes, this field being 0.
    pub checksum: U32,
    /// Higher in the header that holds.
    pub sequence_number: U64,
    /// Changes with every change of the file.
    pub file_write_guid: [u8; 16],
    /// Changes with every change of what the disk holds.
    pub data_write_guid: [u8; 16],
    /// Zero: the log is empty.
    pub log_guid: [u8; 16],
    /// 0.
    pub log_version: U16,
    /// 1.
    pub version: U16,
    /// Bytes of the log.
    pub log_length: U32,
    /// Byte offset of the log.
    pub log_offset: U64,
    /// Zeros.
    pub reserved: [u8; 4016],
}

const _: () = {
    assert!(size_of::<RawHeader>() == 4096);
    assert!(std::mem::offset_of!(RawHeader, data_write_guid) == 32);
    assert!(std::mem::offset_of!(RawHeader, version) == 66);
    assert!(std::mem::offset_of!(RawHeader, log_offset) == 72);
};

/// Byte offsets of the two headers, in the order of the file.
pub const HEADER_OFFSETS: [u64; 2] = [64 * 1024, 128 * 1024];

const SIGNATURE: [u8; 4] = *b"head";
const VERSION: u16 = 1;

/// What varies between headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Higher in the header that holds.
    pub sequence_number: u64,
    /// Identifies the file's bytes.
    pub file_write_guid: [u8; 16],
    /// Identifies the disk's bytes; a differencing disk notices by it that its parent changed.
    pub data_write_guid: [u8; 16],
}

impl Header {
    /// The 4096 bytes on disk.
    #[must_use]
    pub fn to_raw(&self) -> RawHeader {
        let mut raw = RawHeader {
            signature: SIGNATURE,
            sequence_number: U64::new(self.sequence_number),
            file_write_guid: self.file_write_guid,
            data_write_guid: self.data_write_guid,
            version: U16::new(VERSION),
            log_length: U32::new(low32(LOG_LEN)),
            log_offset: U64::new(LOG_OFFSET),
            ..RawHeader::new_zeroed()
        };
        raw.checksum = U32::new(crc32c::crc32c(raw.as_bytes()));
        raw
    }

    /// What a header says, or `None` unless [`Self::to_raw`] writes exactly these bytes.
    #[must_use]
    pub fn from_raw(raw: &RawHeader) -> Option<Self> {
        let header = Self {
            sequence_number: raw.sequence_number.get(),
            file_write_guid: raw.file_write_guid,
            data_write_guid: raw.data_write_guid,
        };
        (header.to_raw() == *raw).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::vhdx::hex;

    /// The second header of `qemu-img convert -O vhdx` (7.2.22): the first 80 bytes; the rest is zero.
    const QEMU: &str = "68656164 fae7dead 8c49f96000000000 d2091ad7eef542a59dd46f7903c864fd \
        c42384ed90f844e6952741e2abd7e188 00000000000000000000000000000000 0000 0100 00001000 0000100000000000";

    fn header() -> Header {
        let bytes = hex(QEMU);
        Header {
            sequence_number: 0x60f9_498c,
            file_write_guid: bytes[16..32].try_into().unwrap(),
            data_write_guid: bytes[32..48].try_into().unwrap(),
        }
    }

    #[test]
    fn encodes_reference_bytes() {
        let raw = header().to_raw();
        assert_eq!(raw.as_bytes()[..80], hex(QEMU));
        assert_eq!(raw.reserved, [0; 4016]);
    }

    #[test]
    fn round_trips() {
        assert_eq!(Header::from_raw(&header().to_raw()), Some(header()));
        let mut odd = header().to_raw();
        odd.log_guid = [1; 16];
        assert_eq!(Header::from_raw(&odd), None);
    }

    #[test]
    fn writes_every_byte() {
        let (mut one, mut other) = ([0xa5; 4096], [0x5a; 4096]);
        header().to_raw().write_to(&mut one).unwrap();
        header().to_raw().write_to(&mut other).unwrap();
        assert_eq!(one, other);
    }
}
