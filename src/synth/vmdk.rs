//! VMDK images over any disk: every table, marker and offset follows from which grains the plan has data in.
//!
//! Invariant: opening one reads nothing and keeps nothing per grain; tables are rendered when they are read.

mod adler;
mod sparse;
mod stream;
mod tables;

pub use sparse::SparseVmdk;
pub(crate) use stream::with_compressed;
pub use stream::{GrainForm, StreamVmdk};

use super::data_map::DataMap;
use super::segments::SegmentMap;
use super::unit_map::UnitMap;
use crate::config::spec::{DiskController, ScsiController};
use crate::formats::vmdk::GRAIN_LEN;
pub use crate::formats::vmdk::descriptor::{AdapterType, DiskIds};
use crate::formats::vmdk::descriptor::{CreateType, Descriptor, DescriptorTooLong};
use crate::units::{ByteCount, SECTOR_SIZE};

/// Why a disk cannot be shown as VMDK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VmdkError {
    /// Importers loop or fail on a partial last grain.
    #[error("disk of {0}: a VMDK's is a multiple of 65536 bytes (64 KiB), and not empty")]
    DiskLen(ByteCount),
    /// Grain tables hold sector numbers of 32 bits.
    #[error("VMDK of {0}: grain tables with 32-bit sectors reach up to 2 TiB")]
    FileLen(ByteCount),
    /// The descriptor does not fit.
    #[error(transparent)]
    Descriptor(#[from] DescriptorTooLong),
}

/// The two content ids of a VMDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentId {
    /// `CID`, neither `ffffffff` nor `fffffffe`.
    pub cid: u32,
    /// `longContentID`; its last four bytes are `cid`.
    pub long_content_id: [u8; 16],
}

/// The content ids of a disk with this content fingerprint: equal for equal contents, so that a child disk notices
/// when its parent changed.
#[must_use]
pub fn content_id(fingerprint: &[u8; 32]) -> ContentId {
    let cid = unreserved(crc32fast::hash(fingerprint));
    let mut long_content_id = [0; 16];
    let (head, tail) = long_content_id.split_at_mut(12);
    for (target, byte) in head.iter_mut().zip(fingerprint) {
        *target = *byte;
    }
    tail.copy_from_slice(&cid.to_be_bytes());
    ContentId {
        cid,
        long_content_id,
    }
}

/// VMware keeps `ffffffff` for "no parent" and `fffffffe` for itself.
fn unreserved(cid: u32) -> u32 {
    if cid >= 0xffff_fffe {
        cid & 0x7fff_ffff
    } else {
        cid
    }
}

/// `ddb.adapterType` for a controller: it knows IDE, BusLogic and LSI Logic, which stands for all others.
#[must_use]
pub const fn adapter_type(controller: DiskController) -> AdapterType {
    match controller {
        DiskController::Ide => AdapterType::Ide,
        DiskController::Scsi(ScsiController::BusLogic) => AdapterType::BusLogic,
        DiskController::Scsi(
            ScsiController::LsiLogic | ScsiController::LsiLogicSas | ScsiController::PvScsi,
        )
        | DiskController::Sata => AdapterType::LsiLogic,
    }
}

/// What the caller decides about a descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescriptorParams {
    /// The content ids.
    pub content_id: ContentId,
    /// The identifiers that VirtualBox looks for.
    pub ids: DiskIds,
    /// The VMDK's own file name.
    pub extent_name: String,
    /// The kind of controller.
    pub adapter: AdapterType,
}

impl DescriptorParams {
    fn render(self, create_type: CreateType, capacity: u64) -> Result<Vec<u8>, DescriptorTooLong> {
        Descriptor {
            create_type,
            cid: self.content_id.cid,
            ids: self.ids,
            long_content_id: self.content_id.long_content_id,
            capacity,
            extent_name: self.extent_name,
            adapter: self.adapter,
        }
        .render()
    }
}

/// The descriptor of a monolithicFlat VMDK over a disk of `disk_len` bytes, which lies in the file that `params` names.
///
/// # Errors
/// [`VmdkError`] if the disk is no multiple of 64 KiB, or the descriptor is too long for qemu to read.
pub fn flat_descriptor(params: DescriptorParams, disk_len: u64) -> Result<SegmentMap, VmdkError> {
    check_disk_len(disk_len)?;
    let text = params.render(CreateType::MonolithicFlat, disk_len / SECTOR_SIZE)?;
    let mut map = SegmentMap::new();
    let structure = "VMDK descriptor";
    let bytes = text.into();
    map.push_bytes(structure, structure, bytes);
    Ok(map)
}

/// The allocated grains of a disk of `disk_len` bytes.
fn plan_grains(data: &DataMap, disk_len: u64) -> Result<UnitMap, VmdkError> {
    check_disk_len(disk_len)?;
    Ok(UnitMap::new(data, disk_len, GRAIN_LEN))
}

fn check_disk_len(disk_len: u64) -> Result<(), VmdkError> {
    if disk_len == 0 || !disk_len.is_multiple_of(GRAIN_LEN) {
        return Err(VmdkError::DiskLen(ByteCount(disk_len)));
    }
    Ok(())
}

/// Fails unless every sector of a file of `sectors` has a number of 32 bits.
fn check_file_sectors(sectors: u64) -> Result<(), VmdkError> {
    if sectors > 1 << 32 {
        let len = sectors.saturating_mul(SECTOR_SIZE);
        return Err(VmdkError::FileLen(ByteCount(len)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ids_agree_and_avoid_the_reserved() {
        let id = content_id(&[7; 32]);
        assert_eq!(id.long_content_id[..12], [7; 12]);
        assert_eq!(id.long_content_id[12..], id.cid.to_be_bytes());
        assert_ne!(id, content_id(&[8; 32]));
        for cid in [0xffff_ffff, 0xffff_fffe] {
            assert!(unreserved(cid) < 0xffff_fffe);
        }
        assert_eq!(unreserved(0xffff_fffd), 0xffff_fffd);
    }

    #[test]
    fn odd_disks_are_refused() {
        let data = DataMap::default();
        for len in [0, 1, GRAIN_LEN - 512, GRAIN_LEN + 512] {
            assert!(plan_grains(&data, len).is_err());
        }
        assert_eq!(
            plan_grains(&data, 1_048_064).unwrap_err().to_string(),
            "disk of 1048064 bytes (1023.5 KiB): a VMDK's is a multiple of 65536 bytes (64 KiB), and not empty"
        );
        assert_eq!(plan_grains(&data, 3 * GRAIN_LEN).unwrap().unit_count(), 3);
    }

    #[test]
    fn files_end_at_32_bit_sectors() {
        assert_eq!(check_file_sectors(1 << 32), Ok(()));
        assert_eq!(
            check_file_sectors((1 << 32) + 1).unwrap_err().to_string(),
            "VMDK of 2199023256064 bytes (2 TiB): grain tables with 32-bit sectors reach up to 2 TiB"
        );
    }
}
