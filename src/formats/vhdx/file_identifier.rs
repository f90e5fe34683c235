//! The file type identifier, at byte 0.

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The identifier as on disk (2.2.1); zeros follow.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawFileIdentifier {
    /// `vhdxfile`.
    pub signature: [u8; 8],
    /// Who wrote the file, in UTF-16; for people only.
    pub creator: [U16; 256],
}

const _: () = {
    assert!(size_of::<RawFileIdentifier>() == 520);
    assert!(std::mem::offset_of!(RawFileIdentifier, creator) == 8);
};

const SIGNATURE: [u8; 8] = *b"vhdxfile";
/// Without a version, so that a newer program writes the same bytes.
const CREATOR: &str = "miragefs";

impl RawFileIdentifier {
    /// The identifier of every file.
    #[must_use]
    pub fn ours() -> Self {
        let mut creator = [U16::ZERO; 256];
        for (target, unit) in creator.iter_mut().zip(CREATOR.encode_utf16()) {
            *target = U16::new(unit);
        }
        Self {
            signature: SIGNATURE,
            creator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `qemu-img convert -O vhdx` (7.2.22): the signature and the first letters of "QEMU v7.2.22".
    const QEMU: [u8; 16] = *b"vhdxfileQ\0E\0M\0U\0";

    #[test]
    fn encodes_reference_bytes() {
        let raw = RawFileIdentifier::ours();
        assert_eq!(raw.as_bytes()[..8], QEMU[..8]);
        // As theirs, one letter in two bytes, the low one first.
        assert_eq!(&raw.as_bytes()[8..24], b"m\0i\0r\0a\0g\0e\0f\0s\0");
    }

    #[test]
    fn writes_every_byte() {
        let mut buf = [0xa5; 520];
        RawFileIdentifier::ours().write_to(&mut buf).unwrap();
        assert!(!buf.contains(&0xa5));
        assert_eq!(buf[24..], [0; 496]);
    }
}
