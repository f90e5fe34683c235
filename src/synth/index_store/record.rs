//! The bytes of a store of grains: a header and records of one length, each with a checksum.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::synth::grain_index::{GrainKey, IndexedGrain};

/// What a file of ours begins with.
const MAGIC: [u8; 8] = *b"mirgrain";
/// Changes with the meaning of records.
const VERSION: u32 = 1;

pub(super) const HEADER_LEN: usize = 32;
pub(super) const RECORD_LEN: usize = 32;

/// The beginning of the file.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawHeader {
    magic: [u8; 8],
    version: U32,
    id: [u8; 16],
    crc: U32,
}

/// A compressed grain.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawRecord {
    key: [u8; 16],
    len: U32,
    crc: U32,
    reserved: U32,
    /// CRC-32 of all in front.
    check: U32,
}

const _: () = {
    assert!(size_of::<RawHeader>() == HEADER_LEN);
    assert!(size_of::<RawRecord>() == RECORD_LEN);
};

/// The longest stream that is ever written.
const STREAM_LEN_MAX: u32 = 65_552;

impl RawHeader {
    pub(super) fn new(id: [u8; 16]) -> Self {
        let mut header = Self {
            magic: MAGIC,
            version: U32::new(VERSION),
            id,
            crc: U32::ZERO,
        };
        header.crc = checksum(header.as_bytes());
        header
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl RawRecord {
    pub(super) fn new(key: GrainKey, grain: IndexedGrain) -> Self {
        let mut record = Self {
            key,
            len: U32::new(grain.len),
            crc: U32::new(grain.crc),
            reserved: U32::ZERO,
            check: U32::ZERO,
        };
        record.check = checksum(record.as_bytes());
        record
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    /// What a record says; `None` if it is damaged.
    pub(super) fn read(bytes: &[u8]) -> Option<(GrainKey, IndexedGrain)> {
        let record = Self::read_from_bytes(bytes).ok()?;
        let sound = record.check == checksum(bytes) && record.reserved == U32::ZERO;
        let grain = IndexedGrain {
            len: record.len.get(),
            crc: record.crc.get(),
        };
        (sound && (1..=STREAM_LEN_MAX).contains(&grain.len)).then_some((record.key, grain))
    }
}

/// CRC-32 of all but the last four bytes.
fn checksum(bytes: &[u8]) -> U32 {
    let checked = bytes.len().saturating_sub(4);
    U32::new(crc32fast::hash(bytes.get(..checked).unwrap_or_default()))
}
