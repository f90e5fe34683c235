//! Cylinders, heads and sectors of a disk, as the specification's appendix derives them from its length.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "the divisors are constants or at least 4, and all values are below 2^31 after the first step"
)]

use crate::units::{low16, low32};

/// An ATA geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Cylinders.
    pub cylinders: u16,
    /// Heads.
    pub heads: u8,
    /// Sectors per track.
    pub sectors_per_track: u8,
}

/// Cylinders that the field can hold.
const CYLINDERS_MAX: u64 = 65_535;

/// The geometry of a disk of `sectors` (appendix "CHS Calculation"). Their product is at most `sectors`: the last
/// cylinder is left out where it is not full, and all beyond 127 GiB.
#[must_use]
pub fn geometry(sectors: u64) -> Geometry {
    let sectors = sectors.min(CYLINDERS_MAX * 16 * 255);
    let (heads, sectors_per_track) = tracks(sectors);
    let cylinders = sectors / u64::from(sectors_per_track) / u64::from(heads);
    Geometry {
        cylinders: low16(low32(cylinders)),
        heads,
        sectors_per_track,
    }
}

/// Heads, and sectors per track: the first choice that needs fewer than 1024 cylinders, if any does.
fn tracks(sectors: u64) -> (u8, u8) {
    if sectors >= CYLINDERS_MAX * 16 * 63 {
        return (16, 255);
    }
    let tracks = sectors / 17;
    let heads = tracks.div_ceil(1024).max(4);
    match u8::try_from(heads) {
        Ok(heads @ ..=16) if tracks < u64::from(heads) * 1024 => return (heads, 17),
        _ => {}
    }
    if sectors / 31 < 16 * 1024 {
        (16, 31)
    } else {
        (16, 63)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sectors: u64) -> (u16, u8, u8) {
        let geometry = geometry(sectors);
        (
            geometry.cylinders,
            geometry.heads,
            geometry.sectors_per_track,
        )
    }

    /// Footers of `qemu-img create -f vpc` (7.2.22) without `force_size`: it rounds the length up to a geometry of the
    /// same algorithm, so that these lengths have exactly these.
    #[test]
    fn encodes_reference_geometries() {
        for (sectors, expected) in QEMU {
            assert_eq!(of(*sectors), *expected, "{sectors} sectors");
            let (cylinders, heads, sectors_per_track) = *expected;
            let product = u64::from(cylinders) * u64::from(heads) * u64::from(sectors_per_track);
            assert_eq!(product, *sectors);
        }
    }

    const QEMU: &[(u64, (u16, u8, u8))] = &[
        (136, (2, 4, 17)),
        (2108, (31, 4, 17)),
        (22576, (332, 4, 17)),
        (81940, (964, 5, 17)),
        (204_816, (1004, 12, 17)),
        (409_696, (826, 16, 31)),
        (525_168, (521, 16, 63)),
        (1_032_192, (1024, 16, 63)),
        (65_011_968, (64_496, 16, 63)),
        (67_111_920, (16_449, 16, 255)),
        (266_338_320, (65_279, 16, 255)),
    ];

    #[test]
    fn the_product_never_exceeds_the_disk() {
        let mut sectors = 68;
        while sectors < 1 << 33 {
            let (cylinders, heads, sectors_per_track) = of(sectors);
            let product = u64::from(cylinders) * u64::from(heads) * u64::from(sectors_per_track);
            assert!(product > 0 && product <= sectors, "{sectors} sectors");
            sectors += sectors / 3 + 1;
        }
    }

    #[test]
    fn rejects_overflow() {
        // 127 GiB and more.
        assert_eq!(of(65_535 * 16 * 255), (65_535, 16, 255));
        assert_eq!(of(u64::MAX), (65_535, 16, 255));
        // The last of 63 sectors per track.
        assert_eq!(of(65_535 * 16 * 63 - 1), (65_534, 16, 63));
        assert_eq!(of(65_535 * 16 * 63), (16_191, 16, 255));
        assert_eq!(of(0), (0, 4, 17));
    }
}
