//! The boot sector of a disk with a master boot record: boot code, disk signature, up to four primary partitions.
//!
//! Invariant: [`BootSector::encode`] gives the bytes that `sfdisk` writes for the same table, boot code aside.

use std::io::Cursor;

use mbrman::{BOOT_ACTIVE, BOOT_INACTIVE, CHS, MBRHeader, MBRPartitionEntry};

use crate::units::{ByteCount, SECTOR_SIZE};

/// Bytes of boot code before the disk signature.
pub const BOOT_CODE_LEN: usize = 440;
/// Partition entries in a boot sector.
pub const ENTRIES_MAX: usize = 4;
/// The first sector that no partition may reach: start and length are 32-bit sector counts.
pub const SECTORS_MAX: u64 = 1 << 32;

/// Heads of the geometry that libfdisk assumes where the kernel names none.
const HEADS: u8 = 255;
/// Sectors per track of that geometry.
const SECTORS_PER_TRACK: u8 = 63;
/// The last cylinder that the 10 bits of an address can name.
const CYLINDER_MAX: u16 = 1023;

/// The boot sector of a disk: "classical generic MBR" with the disk signature of Windows NT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootSector {
    /// The code that the BIOS jumps to.
    pub code: [u8; BOOT_CODE_LEN],
    /// The disk signature at 0x1b8; `sfdisk` calls it label-id.
    pub signature: u32,
    /// The primary partitions in the order of their numbers, at most [`ENTRIES_MAX`].
    pub entries: Vec<Entry>,
}

/// A primary partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// First sector, counted from the start of the disk.
    pub start_lba: u32,
    /// Length in sectors, at least 1.
    pub sectors: u32,
    /// The type byte, 0x83 for Linux.
    pub type_code: u8,
    /// The boot flag.
    pub active: bool,
}

/// Why a boot sector cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootSectorError {
    /// More partitions than entries.
    #[error("partition table has {count} primary partitions; an MBR holds at most {ENTRIES_MAX}")]
    TooManyEntries {
        /// Partitions asked for.
        count: usize,
    },
    /// A partition of no sectors.
    #[error("partition {number}: has no sectors")]
    Empty {
        /// Its number, from 1.
        number: usize,
    },
    /// The end is beyond what 32-bit sector numbers reach.
    #[error("partition {number}: ends at {end}; an MBR reaches {}", ByteCount(SECTORS_MAX * SECTOR_SIZE))]
    EndOutOfReach {
        /// Its number, from 1.
        number: usize,
        /// Where it would end.
        end: ByteCount,
    },
}

impl BootSector {
    /// The 512 bytes of sector 0.
    ///
    /// # Errors
    /// [`BootSectorError`] names the partition that no entry can hold.
    pub fn encode(&self) -> Result<[u8; 512], BootSectorError> {
        if self.entries.len() > ENTRIES_MAX {
            let count = self.entries.len();
            return Err(BootSectorError::TooManyEntries { count });
        }
        let mut header = MBRHeader::new(self.signature.to_le_bytes());
        header.bootstrap_code = self.code;
        for (number, entry) in (1..=ENTRIES_MAX).zip(&self.entries) {
            header[number] = entry.to_raw(number)?;
        }
        let mut bytes = [0; 512];
        header
            .write_into(&mut Cursor::new(bytes.as_mut_slice()))
            .expect("a header with valid boot flags encodes to 512 bytes");
        Ok(bytes)
    }
}

impl Entry {
    fn to_raw(self, number: usize) -> Result<MBRPartitionEntry, BootSectorError> {
        let Some(last_offset) = self.sectors.checked_sub(1) else {
            return Err(BootSectorError::Empty { number });
        };
        let Some(last_lba) = self.start_lba.checked_add(last_offset) else {
            let end_sector = u64::from(self.start_lba).saturating_add(u64::from(self.sectors));
            let end = ByteCount(end_sector.saturating_mul(SECTOR_SIZE));
            return Err(BootSectorError::EndOutOfReach { number, end });
        };
        Ok(MBRPartitionEntry {
            boot: if self.active {
                BOOT_ACTIVE
            } else {
                BOOT_INACTIVE
            },
            first_chs: chs(self.start_lba),
            sys: self.type_code,
            last_chs: chs(last_lba),
            starting_lba: self.start_lba,
            sectors: self.sectors,
        })
    }
}

/// The address as cylinder, head and sector; beyond the last cylinder the highest address there is, as libfdisk does.
fn chs(lba: u32) -> CHS {
    CHS::from_lba_exact(lba, CYLINDER_MAX, HEADS, SECTORS_PER_TRACK).unwrap_or(CHS::new(
        CYLINDER_MAX,
        HEADS - 1,
        SECTORS_PER_TRACK,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start_lba: u32, sectors: u32, type_code: u8, active: bool) -> Entry {
        Entry {
            start_lba,
            sectors,
            type_code,
            active,
        }
    }

    fn sector(signature: u32, entries: Vec<Entry>) -> BootSector {
        BootSector {
            code: [0xa5; BOOT_CODE_LEN],
            signature,
            entries,
        }
    }

    /// Bytes 0x1b8 to the end, by sfdisk of util-linux 2.38.1 on a 20 GiB file: the first three partitions lie
    /// below, across and beyond cylinder 1023.
    #[test]
    fn encodes_reference_bytes() {
        let table = sector(
            0x1234_5678,
            vec![
                entry(2048, 524_288, 0x83, true),
                entry(526_336, 1_597_151, 0x83, false),
                entry(2_129_920, 30_000_000, 0x82, false),
                entry(33_554_432, 2048, 0x0c, false),
            ],
        );
        let bytes = table.encode().unwrap();
        assert_eq!(bytes[..0x1b8], [0xa5; BOOT_CODE_LEN]);
        #[rustfmt::skip]
        assert_eq!(bytes[0x1b8..], [
            0x78, 0x56, 0x34, 0x12, 0x00, 0x00,
            0x80, 0x20, 0x21, 0x00, 0x83, 0xc2, 0x22, 0x20, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00,
            0x00, 0xc2, 0x23, 0x20, 0x83, 0x2e, 0x09, 0x84, 0x00, 0x08, 0x08, 0x00, 0xdf, 0x5e, 0x18, 0x00,
            0x00, 0x94, 0x11, 0x84, 0x82, 0xfe, 0xff, 0xff, 0x00, 0x80, 0x20, 0x00, 0x80, 0xc3, 0xc9, 0x01,
            0x00, 0xfe, 0xff, 0xff, 0x0c, 0xfe, 0xff, 0xff, 0x00, 0x00, 0x00, 0x02, 0x00, 0x08, 0x00, 0x00,
            0x55, 0xaa,
        ]);
    }

    /// The same tool on a 400 MiB file, with partitions from sector 1 on that touch.
    #[test]
    fn encodes_unaligned_reference_bytes() {
        let table = sector(
            0xdead_beef,
            vec![
                entry(1, 500_000, 0x83, true),
                entry(500_001, 200_000, 0x83, false),
            ],
        );
        let bytes = table.encode().unwrap();
        #[rustfmt::skip]
        assert_eq!(bytes[0x1b8..0x1e0], [
            0xef, 0xbe, 0xad, 0xde, 0x00, 0x00,
            0x80, 0x00, 0x02, 0x00, 0x83, 0x1f, 0x21, 0x1f, 0x01, 0x00, 0x00, 0x00, 0x20, 0xa1, 0x07, 0x00,
            0x00, 0x1f, 0x22, 0x1f, 0x83, 0x92, 0x08, 0x2b, 0x21, 0xa1, 0x07, 0x00, 0x40, 0x0d, 0x03, 0x00,
            0x00, 0x00,
        ]);
        assert_eq!(bytes[0x1e0..0x1fe], [0; 30]);
    }

    #[test]
    fn round_trips() {
        let table = sector(7, vec![entry(u32::MAX, 1, 0x83, true)]);
        let bytes = table.encode().unwrap();
        let header = MBRHeader::read_from(&mut Cursor::new(bytes)).unwrap();
        assert_eq!(header.disk_signature, [7, 0, 0, 0]);
        assert_eq!(header[1].starting_lba, u32::MAX);
        assert_eq!(header[1].sectors, 1);
        assert!(header[1].is_active());
        assert!(header[2].is_unused());
    }

    #[test]
    fn rejects_overflow() {
        let too_far = sector(
            0,
            vec![
                entry(2048, 4096, 0x83, false),
                entry(u32::MAX, 2, 0x83, false),
            ],
        );
        assert_eq!(
            too_far.encode().unwrap_err().to_string(),
            "partition 2: ends at 2199023256064 bytes (2 TiB); an MBR reaches 2199023255552 bytes (2 TiB)"
        );
        assert_eq!(
            sector(0, vec![entry(5, 0, 0x83, false)]).encode(),
            Err(BootSectorError::Empty { number: 1 })
        );
        assert_eq!(
            sector(0, vec![entry(1, 1, 0x83, false); 5])
                .encode()
                .unwrap_err()
                .to_string(),
            "partition table has 5 primary partitions; an MBR holds at most 4"
        );
    }
}
