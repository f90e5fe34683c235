//! The patch area of `ldlinux.sys`: lengths, checksum, extents, the vectors' sectors, the directory.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::adv::{ADV_AREA_LEN, ADV_LEN};
use super::{LDLINUX_MAGIC, PatchError, Placement, SECTOR_LEN, dword_sum, u32_at, write_field};

/// `struct patch_area`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
struct RawPatchArea {
    magic: U32,
    instance: U32,
    data_sectors: U16,
    adv_sectors: U16,
    dwords: U32,
    checksum: U32,
    maxtransfer: U16,
    epaoffset: U16,
}

const _: () = assert!(size_of::<RawPatchArea>() == 24);
const _: () = assert!(core::mem::offset_of!(RawPatchArea, checksum) == 16);
const _: () = assert!(core::mem::offset_of!(RawPatchArea, epaoffset) == 22);

/// `struct ext_patch_area`: where the fields lie that are not in the patch area itself.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
struct RawExtPatchArea {
    advptroffset: U16,
    diroffset: U16,
    dirlen: U16,
    subvoloffset: U16,
    subvollen: U16,
    secptroffset: U16,
    secptrcnt: U16,
    sect1ptr0: U16,
    sect1ptr1: U16,
    raidpatch: U16,
}

const _: () = assert!(size_of::<RawExtPatchArea>() == 20);
const _: () = assert!(core::mem::offset_of!(RawExtPatchArea, sect1ptr1) == 16);

/// `struct syslinux_extent`: a run of sectors.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
struct RawExtent {
    lba: U64,
    len: U16,
}

const _: () = assert!(size_of::<RawExtent>() == 10);

/// One BIOS read stays below 64 KiB, so an extent does too.
const EXTENT_BYTES_END: usize = 64 * 1024;

/// Where the fields of an `ldlinux.sys` lie, in bytes; not yet checked against any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PatchArea {
    offset: usize,
    adv_ptr: usize,
    directory: usize,
    directory_len: usize,
    extents: usize,
    extent_count: usize,
    /// Place in the boot sector of the low half of the first sector's number.
    pub(super) sect1ptr0: usize,
    /// Place in the boot sector of the high half.
    pub(super) sect1ptr1: usize,
}

/// Byte offset of the patch area: the first aligned magic.
pub(super) fn find_magic(ldlinux_sys: &[u8]) -> Option<usize> {
    (0..ldlinux_sys.len())
        .step_by(4)
        .find(|offset| u32_at(ldlinux_sys, *offset) == Some(LDLINUX_MAGIC))
}

impl PatchArea {
    /// Looks up the patch area and the fields that it leads to.
    pub(super) fn find(ldlinux_sys: &[u8]) -> Result<Self, PatchError> {
        let offset = find_magic(ldlinux_sys).ok_or(PatchError::NoPatchArea)?;
        let (raw, _) = ldlinux_sys
            .get(offset..)
            .and_then(|rest| RawPatchArea::read_from_prefix(rest).ok())
            .ok_or(PatchError::NoPatchArea)?;
        let ext_offset = usize::from(raw.epaoffset.get());
        let (ext, _) = ldlinux_sys
            .get(ext_offset..)
            .and_then(|rest| RawExtPatchArea::read_from_prefix(rest).ok())
            .ok_or(PatchError::FieldOutside {
                file: "ldlinux.sys",
                field: "epaoffset",
                offset: ext_offset,
                len: size_of::<RawExtPatchArea>(),
                end: ldlinux_sys.len(),
            })?;
        Ok(Self {
            offset,
            adv_ptr: usize::from(ext.advptroffset.get()),
            directory: usize::from(ext.diroffset.get()),
            directory_len: usize::from(ext.dirlen.get()),
            extents: usize::from(ext.secptroffset.get()),
            extent_count: usize::from(ext.secptrcnt.get()),
            sect1ptr0: usize::from(ext.sect1ptr0.get()),
            sect1ptr1: usize::from(ext.sect1ptr1.get()),
        })
    }

    /// Fills in all fields and returns the sector of the file's first 512 bytes.
    pub(super) fn patch(
        &self,
        ldlinux_sys: &mut [u8],
        placement: &Placement<'_>,
    ) -> Result<u64, PatchError> {
        let len = ldlinux_sys.len();
        let data_sectors = u16::try_from(len / SECTOR_LEN)
            .ok()
            .filter(|_| len.is_multiple_of(SECTOR_LEN))
            .ok_or(PatchError::Length { len })?;
        let sectors = file_sectors(placement.sectors, usize::from(data_sectors))?;
        let (data, adv) = sectors.split_at(usize::from(data_sectors));
        // The boot sector names the first one, so the table starts with the second.
        let (first_sector, rest) = data.split_first().ok_or(PatchError::Length { len })?;

        let extents = self.encode_extents(rest)?;
        let adv_ptr: Vec<u8> = adv.iter().flat_map(|sector| sector.to_le_bytes()).collect();
        let directory = self.encode_directory(placement.directory)?;
        for (name, offset, bytes) in [
            ("secptroffset", self.extents, &extents),
            ("advptroffset", self.adv_ptr, &adv_ptr),
            ("diroffset", self.directory, &directory),
        ] {
            write_field(ldlinux_sys, "ldlinux.sys", name, offset, bytes)?;
        }
        self.finish(ldlinux_sys, data_sectors)?;
        Ok(*first_sector)
    }

    /// Sets the lengths and, last of all, the checksum over everything.
    fn finish(&self, ldlinux_sys: &mut [u8], data_sectors: u16) -> Result<(), PatchError> {
        let area = self.area_mut(ldlinux_sys)?;
        area.data_sectors = data_sectors.into();
        area.adv_sectors = ADV_SECTORS.into();
        area.dwords = u32::from(data_sectors)
            .saturating_mul(DWORDS_PER_SECTOR)
            .into();
        area.checksum = 0.into();
        let sum = dword_sum(ldlinux_sys);
        self.area_mut(ldlinux_sys)?.checksum = LDLINUX_MAGIC.wrapping_sub(sum).into();
        Ok(())
    }

    fn area_mut<'a>(&self, ldlinux_sys: &'a mut [u8]) -> Result<&'a mut RawPatchArea, PatchError> {
        ldlinux_sys
            .get_mut(self.offset..)
            .and_then(|rest| RawPatchArea::mut_from_prefix(rest).ok())
            .map(|(area, _)| area)
            .ok_or(PatchError::NoPatchArea)
    }

    fn encode_directory(&self, directory: &[u8]) -> Result<Vec<u8>, PatchError> {
        let limit = self.directory_len.saturating_sub(1);
        if directory.len() > limit || directory.contains(&0) {
            let len = directory.len();
            return Err(PatchError::Directory { len, limit });
        }
        let mut field = directory.to_vec();
        field.push(0);
        Ok(field)
    }

    /// The whole table, unused entries zero.
    fn encode_extents(&self, sectors: &[u64]) -> Result<Vec<u8>, PatchError> {
        let extents = merge_extents(sectors);
        if extents.len() > self.extent_count {
            return Err(PatchError::TooManyExtents {
                need: extents.len(),
                limit: self.extent_count,
            });
        }
        let mut table = extents;
        table.resize(self.extent_count, RawExtent::new_zeroed());
        Ok(table.as_bytes().to_vec())
    }
}

/// Little-endian 32-bit words of a sector, the unit of the checksum.
const DWORDS_PER_SECTOR: u32 = 128;
/// Sectors of the two vectors.
const ADV_SECTORS: u16 = 2;
const _: () = assert!(ADV_AREA_LEN == 2 * ADV_LEN && ADV_LEN == SECTOR_LEN);

/// The sectors of the file with its vectors, checked to be mapped.
fn file_sectors(sectors: &[u64], data_sectors: usize) -> Result<&[u64], PatchError> {
    let need = data_sectors.saturating_add(usize::from(ADV_SECTORS));
    let sectors = sectors.get(..need).ok_or(PatchError::TooFewSectors {
        have: sectors.len(),
        need,
    })?;
    match sectors.iter().position(|sector| *sector == 0) {
        Some(index) => Err(PatchError::Hole { index }),
        None => Ok(sectors),
    }
}

/// Joins sectors that follow each other, up to the length of one BIOS read.
fn merge_extents(sectors: &[u64]) -> Vec<RawExtent> {
    let mut extents: Vec<RawExtent> = Vec::new();
    for &sector in sectors {
        if let Some(last) = extents.last_mut() {
            let len = usize::from(last.len.get());
            let follows = last.lba.get().checked_add(u64::from(last.len.get())) == Some(sector);
            let joined_bytes = len.saturating_add(1).saturating_mul(SECTOR_LEN);
            if follows && joined_bytes < EXTENT_BYTES_END {
                last.len = last.len.get().saturating_add(1).into();
                continue;
            }
        }
        extents.push(RawExtent {
            lba: sector.into(),
            len: 1.into(),
        });
    }
    extents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(sectors: &[u64]) -> Vec<(u64, u16)> {
        merge_extents(sectors)
            .iter()
            .map(|extent| (extent.lba.get(), extent.len.get()))
            .collect()
    }

    #[test]
    fn extents_join_what_follows() {
        assert_eq!(merged(&[]), []);
        assert_eq!(merged(&[8, 9, 10, 40, 41, 12]), [(8, 3), (40, 2), (12, 1)]);
        assert_eq!(merged(&[u64::MAX, 0]), [(u64::MAX, 1), (0, 1)]);
    }

    #[test]
    fn extents_stay_below_64_kib() {
        let sectors: Vec<u64> = (100..400).collect();
        assert_eq!(merged(&sectors), [(100, 127), (227, 127), (354, 46)]);
    }

    #[test]
    fn extent_is_ten_bytes_little_endian() {
        let extent = merge_extents(&[0x0102_0304_0506_0708])[0];
        assert_eq!(extent.as_bytes(), [8, 7, 6, 5, 4, 3, 2, 1, 1, 0]);
    }

    #[test]
    fn holes_and_short_lists_are_rejected() {
        assert_eq!(file_sectors(&[5, 6, 7, 8], 1), Ok(&[5, 6, 7][..]));
        assert_eq!(
            file_sectors(&[5, 0, 7], 1),
            Err(PatchError::Hole { index: 1 })
        );
        assert_eq!(
            file_sectors(&[5, 6], 1),
            Err(PatchError::TooFewSectors { have: 2, need: 3 })
        );
    }
}
