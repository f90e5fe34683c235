//! Metadata markers of a streamOptimized VMDK: the sector in front of a table, directory or footer, and at the end.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A metadata marker as on disk (technote "Markers"); `size` 0 tells it from a grain's.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawMarker {
    /// Sectors that follow.
    pub num_sectors: U64,
    /// 0.
    pub size: U32,
    /// A `MARKER_*` number.
    pub marker_type: U32,
    /// Zeros.
    pub pad: [u8; 496],
}

const _: () = {
    assert!(size_of::<RawMarker>() == 512);
    assert!(std::mem::offset_of!(RawMarker, marker_type) == 12);
};

/// What a metadata marker announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// The end of the stream.
    EndOfStream,
    /// A grain table of 4 sectors.
    GrainTable,
    /// The grain directory.
    GrainDirectory {
        /// Its sectors.
        sectors: u64,
    },
    /// The footer of 1 sector.
    Footer,
}

impl Marker {
    /// The 512 bytes on disk.
    #[must_use]
    pub fn to_raw(self) -> RawMarker {
        let (num_sectors, marker_type) = match self {
            Self::EndOfStream => (0, 0),
            Self::GrainTable => (super::GRAIN_TABLE_SECTORS, 1),
            Self::GrainDirectory { sectors } => (sectors, 2),
            Self::Footer => (1, 3),
        };
        RawMarker {
            num_sectors: U64::new(num_sectors),
            marker_type: U32::new(marker_type),
            ..RawMarker::new_zeroed()
        }
    }

    /// What a marker announces, or `None` unless [`Self::to_raw`] writes exactly these bytes.
    #[must_use]
    pub fn from_raw(raw: &RawMarker) -> Option<Self> {
        let marker = match raw.marker_type.get() {
            0 => Self::EndOfStream,
            1 => Self::GrainTable,
            2 => Self::GrainDirectory {
                sectors: raw.num_sectors.get(),
            },
            3 => Self::Footer,
            _ => return None,
        };
        (marker.to_raw() == *raw).then_some(marker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Marker; 4] = [
        Marker::EndOfStream,
        Marker::GrainTable,
        Marker::GrainDirectory { sectors: 256 },
        Marker::Footer,
    ];

    #[test]
    fn encodes_reference_bytes() {
        // The technote's table of marker types.
        let heads: [[u8; 16]; 4] = [
            [0; 16],
            [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0],
        ];
        for (marker, head) in ALL.into_iter().zip(heads) {
            assert_eq!(marker.to_raw().as_bytes()[..16], head, "{marker:?}");
        }
    }

    #[test]
    fn round_trips() {
        for marker in ALL {
            assert_eq!(Marker::from_raw(&marker.to_raw()), Some(marker));
        }
        let mut unknown = Marker::Footer.to_raw();
        unknown.marker_type = U32::new(4);
        assert_eq!(Marker::from_raw(&unknown), None);
    }

    #[test]
    fn writes_every_byte() {
        for marker in ALL {
            let mut buf = [0xa5; 512];
            marker.to_raw().write_to(&mut buf).unwrap();
            assert_eq!(buf[16..], [0; 496]);
        }
    }
}
