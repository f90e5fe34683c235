//! The auxiliary data vector: 500 bytes of settings that the boot loader may rewrite, stored twice after
//! `ldlinux.sys`.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::dword_sum;

/// Bytes of one vector: `ADV_SIZE`.
pub const ADV_LEN: usize = 512;
/// Bytes of both copies.
pub const ADV_AREA_LEN: usize = 2 * ADV_LEN;

const ADV_MAGIC1: u32 = 0x5a2d_2fa5;
/// What the checksum and the sum of all data dwords add up to.
const ADV_MAGIC2: u32 = 0xa304_1767;
const ADV_MAGIC3: u32 = 0xdd28_bf64;

/// One vector, as `libinstaller/setadv.c` lays it out.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
struct RawAdv {
    magic1: U32,
    checksum: U32,
    data: [u8; 500],
    magic3: U32,
}

const _: () = assert!(size_of::<RawAdv>() == ADV_LEN);
const _: () = assert!(core::mem::offset_of!(RawAdv, magic3) == 508);

/// Both copies of a vector without settings.
pub(super) fn empty_area() -> [u8; ADV_AREA_LEN] {
    let mut adv = RawAdv::new_zeroed();
    adv.magic1 = ADV_MAGIC1.into();
    adv.checksum = ADV_MAGIC2.wrapping_sub(dword_sum(&adv.data)).into();
    adv.magic3 = ADV_MAGIC3.into();
    let mut area = [0; ADV_AREA_LEN];
    for copy in area.as_chunks_mut::<ADV_LEN>().0 {
        copy.copy_from_slice(adv.as_bytes());
    }
    area
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last 1024 bytes of an `ldlinux.sys` that extlinux 6.04 of Debian 12 installed.
    #[test]
    fn encodes_reference_bytes() {
        let area = empty_area();
        for copy in area.as_chunks::<ADV_LEN>().0 {
            assert_eq!(copy[..8], [0xa5, 0x2f, 0x2d, 0x5a, 0x67, 0x17, 0x04, 0xa3]);
            assert_eq!(copy[8..508], [0; 500]);
            assert_eq!(copy[508..], [0x64, 0xbf, 0x28, 0xdd]);
        }
    }
}
