//! A time in eight bytes, as ext4 has it: 34 bits of seconds and 30 of nanoseconds.

use crate::formats::ext4::inode::{SECONDS_MAX, SECONDS_MIN};

const NANOSECOND_BITS: u32 = 30;

/// A time between 1901 and 2446 to the nanosecond; others are the nearest of these. Ordered as times are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PackedTime(u64);

impl PackedTime {
    /// From seconds since 1970 and nanoseconds below 10^9.
    #[must_use]
    pub fn new(seconds: i64, nanoseconds: u32) -> Self {
        let clamped = seconds.clamp(SECONDS_MIN, SECONDS_MAX);
        let nanoseconds = if clamped == seconds { nanoseconds } else { 0 };
        let from_min = clamped.abs_diff(SECONDS_MIN);
        Self(from_min << NANOSECOND_BITS | u64::from(nanoseconds & ((1 << NANOSECOND_BITS) - 1)))
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        SECONDS_MIN.saturating_add_unsigned(self.0 >> NANOSECOND_BITS)
    }

    /// Nanoseconds, below 10^9.
    #[must_use]
    pub const fn nanoseconds(self) -> u32 {
        crate::units::low32(self.0 & ((1 << NANOSECOND_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_and_others_are_clamped() {
        for (seconds, nanoseconds) in [
            (0, 0),
            (-1, 999_999_999),
            (SECONDS_MIN, 1),
            (SECONDS_MAX, 7),
            (1 << 31, 5),
        ] {
            let packed = PackedTime::new(seconds, nanoseconds);
            assert_eq!(
                (packed.seconds(), packed.nanoseconds()),
                (seconds, nanoseconds)
            );
        }
        assert_eq!(
            PackedTime::new(i64::MAX, 9),
            PackedTime::new(SECONDS_MAX, 0)
        );
        assert_eq!(
            PackedTime::new(i64::MIN, 9),
            PackedTime::new(SECONDS_MIN, 0)
        );
        assert!(PackedTime::new(-5, 0) < PackedTime::new(-4, 1));
    }
}
