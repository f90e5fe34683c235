//! The header: the first bytes of the file, with the extension that names the feature bits.
//!
//! Invariant: what is written is what qemu writes for a new image of the same size and places, byte for byte.

use zerocopy::big_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::CLUSTER_BITS;
use super::refcounts::REFCOUNT_ORDER;
use crate::units::{low32, to_u64};

/// The header as on disk (`docs/interop/qcow2.rst`, "Header", and "Additional fields").
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawQcowHeader {
    /// `QFI\xfb`.
    pub magic: [u8; 4],
    /// 3.
    pub version: U32,
    /// Offset of the backing file's name, 0 for none.
    pub backing_file_offset: U64,
    /// Length of that name.
    pub backing_file_size: U32,
    /// A cluster has 2^this bytes.
    pub cluster_bits: U32,
    /// Bytes of the disk.
    pub size: U64,
    /// 0: not encrypted.
    pub crypt_method: U32,
    /// Entries of the L1 table.
    pub l1_size: U32,
    /// Offset of the L1 table.
    pub l1_table_offset: U64,
    /// Offset of the refcount table.
    pub refcount_table_offset: U64,
    /// Clusters of the refcount table.
    pub refcount_table_clusters: U32,
    /// Internal snapshots.
    pub nb_snapshots: U32,
    /// Offset of the snapshot table.
    pub snapshots_offset: U64,
    /// Features that a reader must know.
    pub incompatible_features: U64,
    /// Features that a reader may ignore.
    pub compatible_features: U64,
    /// Features that a writer must know, or clear.
    pub autoclear_features: U64,
    /// A refcount has 2^this bits.
    pub refcount_order: U32,
    /// Bytes of this structure.
    pub header_length: U32,
    /// 0: zlib, if anything were compressed.
    pub compression_type: u8,
    /// Zeros up to a multiple of 8.
    pub padding: [u8; 7],
}

/// In front of the data of a header extension.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawHeaderExtension {
    /// What the data is.
    pub extension_type: U32,
    /// Bytes of data, without padding to 8.
    pub length: U32,
}

/// An entry of the feature name table.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawFeatureName {
    /// 0 incompatible, 1 compatible, 2 autoclear.
    pub feature_type: u8,
    /// Number of the bit.
    pub bit: u8,
    /// Its name, padded with zeros.
    pub name: [u8; 46],
}

const _: () = {
    assert!(size_of::<RawQcowHeader>() == 112);
    assert!(std::mem::offset_of!(RawQcowHeader, size) == 24);
    assert!(std::mem::offset_of!(RawQcowHeader, l1_table_offset) == 40);
    assert!(std::mem::offset_of!(RawQcowHeader, refcount_table_offset) == 48);
    assert!(std::mem::offset_of!(RawQcowHeader, incompatible_features) == 72);
    assert!(std::mem::offset_of!(RawQcowHeader, header_length) == 100);
    assert!(std::mem::offset_of!(RawQcowHeader, compression_type) == 104);
    assert!(size_of::<RawHeaderExtension>() == 8);
    assert!(size_of::<RawFeatureName>() == 48);
};

const MAGIC: [u8; 4] = *b"QFI\xfb";
const VERSION: u32 = 3;
/// The feature name table.
const EXTENSION_FEATURE_NAMES: u32 = 0x6803_f857;
/// Names of all bits that qemu knew in version 7.2, for readers that meet one they do not know.
const FEATURE_NAMES: [(u8, u8, &str); 8] = [
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];

/// Bytes of the header with its extension and the end of extensions.
pub const HEADER_LEN: usize = size_of::<RawQcowHeader>()
    + size_of::<RawHeaderExtension>()
    + FEATURE_NAMES.len() * size_of::<RawFeatureName>()
    + size_of::<RawHeaderExtension>();
const _: () = assert!(HEADER_LEN == 512);

/// What varies between headers; all offsets in bytes of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QcowHeader {
    /// Bytes of the disk, a multiple of 512.
    pub size: u64,
    /// Offset of the L1 table.
    pub l1_table_offset: u64,
    /// Entries of the L1 table.
    pub l1_size: u32,
    /// Offset of the refcount table.
    pub refcount_table_offset: u64,
    /// Clusters of the refcount table.
    pub refcount_table_clusters: u32,
}

impl QcowHeader {
    /// The structure alone.
    #[must_use]
    pub fn to_raw(&self) -> RawQcowHeader {
        RawQcowHeader {
            magic: MAGIC,
            version: U32::new(VERSION),
            cluster_bits: U32::new(CLUSTER_BITS),
            size: U64::new(self.size),
            l1_size: U32::new(self.l1_size),
            l1_table_offset: U64::new(self.l1_table_offset),
            refcount_table_offset: U64::new(self.refcount_table_offset),
            refcount_table_clusters: U32::new(self.refcount_table_clusters),
            refcount_order: U32::new(REFCOUNT_ORDER),
            header_length: U32::new(low32(to_u64(size_of::<RawQcowHeader>()))),
            ..RawQcowHeader::new_zeroed()
        }
    }

    /// What a header says, or `None` unless it is exactly one that [`Self::to_raw`] writes.
    #[must_use]
    pub fn from_raw(raw: &RawQcowHeader) -> Option<Self> {
        let header = Self {
            size: raw.size.get(),
            l1_table_offset: raw.l1_table_offset.get(),
            l1_size: raw.l1_size.get(),
            refcount_table_offset: raw.refcount_table_offset.get(),
            refcount_table_clusters: raw.refcount_table_clusters.get(),
        };
        (header.to_raw() == *raw).then_some(header)
    }

    /// The first bytes of the file: the structure, the feature name table and the end of extensions.
    #[must_use]
    pub fn render(&self) -> [u8; HEADER_LEN] {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(self.to_raw().as_bytes());
        let names: Vec<RawFeatureName> = FEATURE_NAMES.iter().map(feature_name).collect();
        let names = names.as_bytes();
        let extension = RawHeaderExtension {
            extension_type: U32::new(EXTENSION_FEATURE_NAMES),
            length: U32::new(low32(to_u64(names.len()))),
        };
        bytes.extend_from_slice(extension.as_bytes());
        bytes.extend_from_slice(names);
        bytes.extend_from_slice(RawHeaderExtension::new_zeroed().as_bytes());
        bytes
            .try_into()
            .expect("the parts are those that HEADER_LEN adds up")
    }
}

fn feature_name((feature_type, bit, name): &(u8, u8, &str)) -> RawFeatureName {
    let mut raw = RawFeatureName {
        feature_type: *feature_type,
        bit: *bit,
        name: [0; 46],
    };
    for (target, byte) in raw.name.iter_mut().zip(name.bytes()) {
        *target = byte;
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `qemu-img convert -O qcow2` (7.2.22) of a 40 MiB disk: the first 112 bytes.
    const QEMU_HEADER: &str = "514649fb00000003 0000000000000000 00000000 00000010 0000000002800000 00000000 00000001 \
        0000000000030000 0000000000010000 00000001 00000000 0000000000000000 0000000000000000 0000000000000000 \
        0000000000000000 00000004 00000070 00 00000000000000";
    /// What follows it, up to the name of the first bit.
    const QEMU_EXTENSION: &str = "6803f857 00000180 00 00 646972747920626974 00";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        digits
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn header() -> QcowHeader {
        QcowHeader {
            size: 40 << 20,
            l1_table_offset: 0x3_0000,
            l1_size: 1,
            refcount_table_offset: 0x1_0000,
            refcount_table_clusters: 1,
        }
    }

    #[test]
    fn encodes_reference_bytes() {
        assert_eq!(header().to_raw().as_bytes(), bytes(QEMU_HEADER));
        let rendered = header().render();
        let expected = bytes(QEMU_EXTENSION);
        assert_eq!(rendered[112..112 + expected.len()], expected);
        assert_eq!(rendered[0x1c8..0x1db], *b"\x02\x01raw external data");
        assert_eq!(rendered[0x1f8..], [0; 8]);
    }

    #[test]
    fn round_trips() {
        assert_eq!(QcowHeader::from_raw(&header().to_raw()), Some(header()));
        let mut odd = header().to_raw();
        odd.incompatible_features = U64::new(1);
        assert_eq!(QcowHeader::from_raw(&odd), None);
    }

    #[test]
    fn writes_every_byte() {
        let mut buf = [0xa5; 112];
        header().to_raw().write_to(&mut buf).unwrap();
        assert!(!buf.contains(&0xa5));
    }

    #[test]
    fn names_fit_their_field() {
        for (_, _, name) in FEATURE_NAMES {
            assert!(name.len() <= 46, "{name}");
        }
    }
}
