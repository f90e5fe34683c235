//! The boot sector of the partition: a FAT-like parameter block, and the place of `ldlinux.sys`.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ldlinux::PatchArea;
use super::{BOOT_SECTOR_LEN, PatchError, Placement, write_field};
use crate::units::{high32, low32};

/// The parameter block at 0x0b of `struct fat_boot_sector`, as far as extlinux fills it in.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
#[expect(non_snake_case, reason = "field names of syslxint.h")]
struct RawParameterBlock {
    bsBytesPerSec: U16,
    bsSecPerClust: u8,
    bsResSectors: U16,
    bsFATs: u8,
    bsRootDirEnts: U16,
    bsSectors: U16,
    bsMedia: u8,
    bsFATsecs: U16,
    bsSecPerTrack: U16,
    bsHeads: U16,
    bsHiddenSecs: U32,
    bsHugeSectors: U32,
}

/// Where the parameter block begins in the boot sector.
const PARAMETER_BLOCK_OFFSET: usize = 0x0b;

const _: () = assert!(PARAMETER_BLOCK_OFFSET + size_of::<RawParameterBlock>() == 0x24);
const _: () =
    assert!(PARAMETER_BLOCK_OFFSET + core::mem::offset_of!(RawParameterBlock, bsSectors) == 0x13);
const _: () = assert!(
    PARAMETER_BLOCK_OFFSET + core::mem::offset_of!(RawParameterBlock, bsSecPerTrack) == 0x18
);
const _: () = assert!(
    PARAMETER_BLOCK_OFFSET + core::mem::offset_of!(RawParameterBlock, bsHugeSectors) == 0x20
);

/// Fills in the parameter block and the first sector of `ldlinux.sys`.
pub(super) fn patch(
    boot_sector: &mut [u8; BOOT_SECTOR_LEN],
    area: &PatchArea,
    placement: &Placement<'_>,
    first_sector: u64,
) -> Result<(), PatchError> {
    let mut block = RawParameterBlock::new_zeroed();
    block.bsBytesPerSec = 512.into();
    // The 16-bit count is zero where the partition needs the 32-bit one.
    block.bsSectors = u16::try_from(placement.total_sectors).unwrap_or(0).into();
    block.bsSecPerTrack = placement.sectors_per_track.into();
    block.bsHeads = placement.heads.into();
    // Used only if the MBR passed no partition entry; larger values are cut, as extlinux does.
    block.bsHiddenSecs = low32(placement.hidden).into();
    block.bsHugeSectors = low32(placement.total_sectors).into();

    let fields = [
        ("bsBytesPerSec", PARAMETER_BLOCK_OFFSET, block.as_bytes()),
        (
            "sect1ptr0",
            area.sect1ptr0,
            &low32(first_sector).to_le_bytes(),
        ),
        (
            "sect1ptr1",
            area.sect1ptr1,
            &high32(first_sector).to_le_bytes(),
        ),
    ];
    for (name, offset, bytes) in fields {
        write_field(boot_sector, "boot sector", name, offset, bytes)?;
    }
    Ok(())
}
