//! VHD images over any disk: a footer behind it, or blocks behind a table that follows from where the plan has data.
//!
//! Invariant: opening one reads nothing and keeps nothing per block; the table is rendered when it is read.

mod dynamic;

pub use dynamic::DynamicVhd;

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::segments::{Segment, SegmentMap};
use super::source::ByteSource;
use crate::formats::vhd::footer::{DiskType, Footer, time_stamp};
use crate::formats::vhd::{DISK_LEN_MAX, FOOTER_LEN};
use crate::units::{ByteCount, SECTOR_SIZE};

/// Why a disk cannot be shown as VHD.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VhdError {
    /// All that is counted in sectors.
    #[error("disk of {0}: a VHD's is a multiple of 512 bytes, and not empty")]
    DiskLen(ByteCount),
    /// Beyond, qemu and Hyper-V open neither kind of VHD.
    #[error("disk of {0}: a VHD's is at most {DISK_LEN_MAX} bytes (2040 GiB)")]
    DiskTooLong(ByteCount),
}

/// What the caller decides about a VHD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VhdParams {
    /// Identifies the disk.
    pub unique_id: [u8; 16],
    /// When it was made, in seconds since 1970; times outside of 2000 to 2136 become the nearest.
    pub time: i64,
}

impl VhdParams {
    fn footer(self, disk_type: DiskType, disk_len: u64) -> Result<[u8; 512], VhdError> {
        if disk_len == 0 || !disk_len.is_multiple_of(SECTOR_SIZE) {
            return Err(VhdError::DiskLen(ByteCount(disk_len)));
        }
        if disk_len > DISK_LEN_MAX {
            return Err(VhdError::DiskTooLong(ByteCount(disk_len)));
        }
        let footer = Footer {
            disk_type,
            disk_len,
            time_stamp: time_stamp(self.time),
            unique_id: self.unique_id,
        };
        let mut bytes = [0; 512];
        bytes.copy_from_slice(footer.to_raw().as_bytes());
        Ok(bytes)
    }
}

/// A fixed VHD: the bytes of `disk`, then a footer.
///
/// # Errors
/// [`VhdError`] if the disk is empty, no multiple of a sector or longer than 2040 GiB.
pub fn fixed_vhd(disk: Arc<dyn ByteSource>, params: VhdParams) -> Result<SegmentMap, VhdError> {
    let footer = params.footer(DiskType::Fixed, disk.len())?;
    let mut image = SegmentMap::new();
    image.push(disk.len(), "VHD, fixed disk", Segment::Source(disk));
    let footer = Segment::Bytes {
        bytes: Arc::new(footer),
        structure: "VHD footer",
    };
    image.push(FOOTER_LEN, "VHD footer", footer);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    const PARAMS: VhdParams = VhdParams {
        unique_id: [7; 16],
        time: 0,
    };

    #[test]
    fn odd_disks_are_refused() {
        let refused = |len| {
            let result = PARAMS.footer(DiskType::Fixed, len);
            result.unwrap_err().to_string()
        };
        for len in [0, 1, MIB - 1, MIB + 511] {
            assert!(refused(len).contains("multiple of 512 bytes"), "{len}");
        }
        assert_eq!(
            refused(2 << 40),
            "disk of 2199023255552 bytes (2 TiB): a VHD's is at most 2190433320960 bytes (2040 GiB)"
        );
        assert!(refused(DISK_LEN_MAX + 512).contains("2040 GiB"));
        assert!(PARAMS.footer(DiskType::Dynamic, DISK_LEN_MAX).is_ok());
    }
}
