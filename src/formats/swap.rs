//! The header of a swap area, version 1: its first page (kernel include/linux/swap.h, `union swap_header`).
//!
//! Invariant: [`SwapHeader::to_raw`] gives the bytes that `mkswap` writes on a little-endian machine with pages of
//! 4096 bytes.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::units::ByteCount;

/// Bytes of a page, and of the header.
pub const PAGE_SIZE: u64 = 4096;
/// `MIN_GOODPAGES` of util-linux disk-utils/mkswap.c: fewer are not worth an area.
pub const PAGES_MIN: u64 = 10;
/// Pages whose last one has a 32-bit number.
pub const PAGES_MAX: u64 = 1 << 32;
/// Bytes of a label; `mkswap` keeps the last byte of the field as a NUL.
pub const LABEL_LEN_MAX: usize = 15;

/// `SWAP_VERSION`, the only one that the kernel takes.
const VERSION: u32 = 1;
/// `SWAP_SIGNATURE`, the last bytes of the page.
const SIGNATURE: [u8; 10] = *b"SWAPSPACE2";

/// The header as it is stored; `reserved` and `magic` are those of the union's other half.
#[repr(C)]
#[derive(Debug, Clone, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[expect(missing_docs, reason = "named as in kernel include/linux/swap.h")]
pub struct RawSwapHeader {
    pub bootbits: [u8; 1024],
    pub version: U32,
    pub last_page: U32,
    pub nr_badpages: U32,
    pub sws_uuid: [u8; 16],
    pub sws_volume: [u8; 16],
    pub padding: [U32; 117],
    pub badpages: [U32; 1],
    pub reserved: [u8; 2546],
    pub magic: [u8; 10],
}

const _: () = assert!(size_of::<RawSwapHeader>() == 4096);
const _: () = assert!(std::mem::offset_of!(RawSwapHeader, version) == 1024);
const _: () = assert!(std::mem::offset_of!(RawSwapHeader, badpages) == 1536);
const _: () = assert!(std::mem::offset_of!(RawSwapHeader, magic) == 4086);

/// What varies between swap areas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwapHeader {
    /// UUID.
    pub uuid: [u8; 16],
    /// Label, at most [`LABEL_LEN_MAX`] bytes, padded with NUL.
    label: [u8; 16],
    /// Number of the last page, the header being page 0.
    last_page: u32,
}

/// Why there is no header for an area.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// Fewer pages than `mkswap` takes.
    #[error("swap area of {} is too small; it needs at least {}", ByteCount(*len), ByteCount(PAGES_MIN * PAGE_SIZE))]
    TooSmall {
        /// Bytes of the area.
        len: u64,
    },
    /// More pages than 32 bits number.
    #[error("swap area of {} is too large; its pages have 32-bit numbers, which is {}", ByteCount(*len), ByteCount(PAGES_MAX * PAGE_SIZE))]
    TooLarge {
        /// Bytes of the area.
        len: u64,
    },
    /// A label that does not fit its field.
    #[error("swap label has {len} bytes; it has at most {LABEL_LEN_MAX}")]
    LabelTooLong {
        /// Bytes of the label.
        len: usize,
    },
}

impl SwapHeader {
    /// The header of an area of `len` bytes; what follows the last whole page is not used.
    ///
    /// # Errors
    /// [`SwapError`] for an area or a label outside their limits.
    pub fn new(len: u64, uuid: [u8; 16], label: &str) -> Result<Self, SwapError> {
        let pages = len.div_euclid(PAGE_SIZE);
        if pages < PAGES_MIN {
            return Err(SwapError::TooSmall { len });
        }
        let Ok(last_page) = u32::try_from(pages.saturating_sub(1)) else {
            return Err(SwapError::TooLarge { len });
        };
        let mut field = [0; 16];
        let text = label.as_bytes();
        match field.get_mut(..text.len()) {
            Some(start) if text.len() <= LABEL_LEN_MAX => start.copy_from_slice(text),
            _ => return Err(SwapError::LabelTooLong { len: text.len() }),
        }
        Ok(Self {
            uuid,
            label: field,
            last_page,
        })
    }

    /// Bytes that can be swapped to: all pages but the header.
    #[must_use]
    pub fn usable_bytes(&self) -> u64 {
        u64::from(self.last_page).saturating_mul(PAGE_SIZE)
    }

    /// The stored form.
    #[must_use]
    pub fn to_raw(&self) -> RawSwapHeader {
        RawSwapHeader {
            version: VERSION.into(),
            last_page: self.last_page.into(),
            sws_uuid: self.uuid,
            sws_volume: self.label,
            magic: SIGNATURE,
            ..RawSwapHeader::new_zeroed()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [u8; 16] = 0x5b0c_8e52_6d1f_4b67_9f3e_2f1a_84c7_d9e0_u128.to_be_bytes();

    fn header(len: u64) -> SwapHeader {
        SwapHeader::new(len, UUID, "swap-area").unwrap()
    }

    /// By `mkswap -U 5b0c8e52-6d1f-4b67-9f3e-2f1a84c7d9e0 -L swap-area` of util-linux 2.38.1 on a file of 1 MiB; all
    /// other bytes of the file are zero.
    #[test]
    fn encodes_reference_bytes() {
        let raw = header(1 << 20).to_raw();
        let mut expected = [0; 4096];
        #[rustfmt::skip]
        expected[0x400..0x430].copy_from_slice(&[
            0x01, 0x00, 0x00, 0x00, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x5b, 0x0c, 0x8e, 0x52,
            0x6d, 0x1f, 0x4b, 0x67, 0x9f, 0x3e, 0x2f, 0x1a, 0x84, 0xc7, 0xd9, 0xe0, 0x73, 0x77, 0x61, 0x70,
            0x2d, 0x61, 0x72, 0x65, 0x61, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        ]);
        expected[0xff6..]
            .copy_from_slice(&[0x53, 0x57, 0x41, 0x50, 0x53, 0x50, 0x41, 0x43, 0x45, 0x32]);
        assert_eq!(raw.as_bytes(), expected);
    }

    #[test]
    fn round_trips() {
        let raw = header(1_000_000_000_511).to_raw();
        let read = RawSwapHeader::read_from_bytes(raw.as_bytes()).unwrap();
        assert_eq!(read.version.get(), 1);
        assert_eq!(read.last_page.get(), 244_140_624);
        assert_eq!(read.nr_badpages.get(), 0);
        assert_eq!(read.sws_uuid, UUID);
        assert_eq!(read.sws_volume, *b"swap-area\0\0\0\0\0\0\0");
        assert_eq!(header(1_000_000_000_511).usable_bytes(), 999_999_995_904);
    }

    #[test]
    fn writes_every_byte() {
        let mut buf = [0xa5; 4096];
        header(1 << 20).to_raw().write_to(&mut buf).unwrap();
        assert!(!buf.contains(&0xa5));
    }

    #[test]
    fn rejects_overflow() {
        let new = |len, label| SwapHeader::new(len, UUID, label);
        let text = |len, label| new(len, label).unwrap_err().to_string();
        assert_eq!(
            text(40_959, ""),
            "swap area of 40959 bytes (39.9 KiB) is too small; it needs at least 40960 bytes (40 KiB)"
        );
        assert_eq!(new(40_960, "").unwrap().usable_bytes(), 36_864);
        let raw = new((1 << 44) + 4095, "").unwrap().to_raw();
        assert_eq!(raw.last_page.get(), u32::MAX);
        assert_eq!(
            text((1 << 44) + 4096, ""),
            "swap area of 17592186048512 bytes (16 TiB) is too large; its pages have 32-bit numbers, which is \
             17592186044416 bytes (16 TiB)"
        );
        assert!(new(1 << 20, "fifteen-letters").is_ok());
        assert_eq!(
            text(1 << 20, "sixteen-letters."),
            "swap label has 16 bytes; it has at most 15"
        );
        assert!(new(1 << 20, "a label of more than sixteen bytes").is_err());
    }
}
