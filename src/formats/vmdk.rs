//! VMware's virtual disk format, the subset that miragefs writes: monolithicSparse and streamOptimized.
//!
//! Source: VMware "Virtual Disk Format 5.0" (technical note). Sectors are 512 bytes, all integers little-endian.

pub mod deflate;
pub mod descriptor;
pub mod grain;
pub mod header;
pub mod marker;

/// Sectors of a grain, VMDK's allocation unit (`grainSize`).
pub const GRAIN_SECTORS: u64 = 128;
/// Bytes of a grain.
pub const GRAIN_LEN: u64 = 64 * 1024;
/// Entries of a grain table (`numGTEsPerGT`); the format allows no other number.
pub const GTES_PER_GT: u64 = 512;
/// Sectors of a grain table: 512 entries of 4 bytes.
pub const GRAIN_TABLE_SECTORS: u64 = 4;
/// Bytes of a grain table.
pub const GRAIN_TABLE_LEN: u64 = 2048;
/// Entries of a grain directory in one sector.
pub const GDES_PER_SECTOR: u64 = 128;
/// First sector of the embedded descriptor; readers hard-code it (qemu's `DESC_OFFSET` is 0x200).
pub const DESCRIPTOR_SECTOR: u64 = 1;
/// Sectors kept for the embedded descriptor; qemu looks for the CID in these only.
pub const DESCRIPTOR_SECTORS: u64 = 20;
/// First sector behind the embedded descriptor.
pub const DESCRIPTOR_END: u64 = 21;
