//! Units of storage and lossless conversions between integer types.
//!
//! Every size inside miragefs is a `u64` of bytes unless its name says otherwise (`*_sectors`, `*_blocks`).

use std::fmt;

/// Bytes of a sector: the unit of partition tables and of VMDK.
pub const SECTOR_SIZE: u64 = 512;
/// Bytes of a kibibyte.
pub const KIB: u64 = 1024;
/// Bytes of a mebibyte.
pub const MIB: u64 = 1024 * KIB;
/// Bytes of a gibibyte.
pub const GIB: u64 = 1024 * MIB;
/// Bytes of a tebibyte.
pub const TIB: u64 = 1024 * GIB;

/// Index of a 512-byte sector on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

impl Lba {
    /// Byte offset of the sector, or `None` above `u64::MAX`.
    #[must_use]
    pub const fn checked_offset(self) -> Option<u64> {
        self.0.checked_mul(SECTOR_SIZE)
    }
}

const _: () = assert!(usize::BITS == 64, "miragefs is written for 64-bit hosts");

/// A length in memory as a length on disk; lossless on every supported host.
#[must_use]
#[expect(
    clippy::as_conversions,
    reason = "usize is 64 bits wide, asserted above"
)]
pub const fn to_u64(value: usize) -> u64 {
    value as u64
}

/// A length on disk as a length in memory; lossless on every supported host.
#[must_use]
#[expect(
    clippy::as_conversions,
    reason = "usize is 64 bits wide, asserted above"
)]
pub const fn to_usize(value: u64) -> usize {
    value as usize
}

/// The low 32 bits of `value`, for fields that are stored in halves.
#[must_use]
#[expect(clippy::as_conversions, reason = "truncation is the purpose")]
pub const fn low32(value: u64) -> u32 {
    value as u32
}

/// The high 32 bits of `value`, for fields that are stored in halves.
#[must_use]
pub const fn high32(value: u64) -> u32 {
    low32(value >> 32)
}

/// The low 16 bits of `value`, for fields that are stored in halves.
#[must_use]
#[expect(clippy::as_conversions, reason = "truncation is the purpose")]
pub const fn low16(value: u32) -> u16 {
    value as u16
}

/// The high 16 bits of `value`, for fields that are stored in halves.
#[must_use]
pub const fn high16(value: u32) -> u16 {
    low16(value >> 16)
}

/// A byte count for people: exact bytes with a rounded figure behind, `1572864 bytes (1.5 MiB)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// The rounded figure alone: `1.5 MiB`, `17 TiB`, `512 bytes`.
    #[must_use]
    pub fn rounded(self) -> String {
        let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
        for (unit, name) in units {
            if self.0 >= unit {
                // One decimal place, in integers: tenths of the unit.
                let tenths = u128::from(self.0)
                    .saturating_mul(10)
                    .div_euclid(u128::from(unit));
                let (whole, tenth) = (tenths.div_euclid(10), tenths.rem_euclid(10));
                return if tenth == 0 {
                    format!("{whole} {name}")
                } else {
                    format!("{whole}.{tenth} {name}")
                };
            }
        }
        format!("{} bytes", self.0)
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < KIB {
            write!(f, "{} bytes", self.0)
        } else {
            write!(f, "{} bytes ({})", self.0, self.rounded())
        }
    }
}

/// Why a size or an offset could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSizeError {
    /// No digits at the start.
    #[error("`{0}` is no size: expected a number with an optional unit")]
    NotANumber(String),
    /// The unit is not one of the known ones.
    #[error(
        "`{text}`: unknown unit `{unit}`; known are K, M, G, T, KiB, MiB, GiB, TiB and s (512-byte sectors)"
    )]
    UnknownUnit {
        /// What was typed.
        text: String,
        /// The part that is not understood.
        unit: String,
    },
    /// The value does not fit 64 bits.
    #[error("`{0}` is above 2^64 - 1 bytes")]
    TooLarge(String),
}

/// Reads `1MiB`, `256M`, `2048s`, `4096` or `0x1000` as bytes. K/M/G/T and KiB/MiB/GiB/TiB are powers of 1024.
///
/// # Errors
/// [`ParseSizeError`] names the text and what is wrong with it.
pub fn parse_size(text: &str) -> Result<u64, ParseSizeError> {
    let trimmed = text.trim();
    if let Some(hex) = trimmed
        .strip_prefix("0x")
        .or_else(|| trimmed.strip_prefix("0X"))
    {
        return match u64::from_str_radix(hex, 16) {
            Ok(value) => Ok(value),
            Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => {
                Err(ParseSizeError::TooLarge(text.to_owned()))
            }
            Err(_) => Err(ParseSizeError::NotANumber(text.to_owned())),
        };
    }
    let digits_len = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = trimmed.split_at(digits_len);
    if digits.is_empty() {
        return Err(ParseSizeError::NotANumber(text.to_owned()));
    }
    let factor = match unit.trim() {
        "" | "B" => 1,
        "s" => SECTOR_SIZE,
        "K" | "k" | "KiB" => KIB,
        "M" | "MiB" => MIB,
        "G" | "GiB" => GIB,
        "T" | "TiB" => TIB,
        other => {
            return Err(ParseSizeError::UnknownUnit {
                text: text.to_owned(),
                unit: other.to_owned(),
            });
        }
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| ParseSizeError::TooLarge(text.to_owned()))
}

/// `value` rounded up to a multiple of `unit` (not zero), or `None` above `u64::MAX`.
#[must_use]
pub const fn checked_round_up(value: u64, unit: u64) -> Option<u64> {
    value.checked_next_multiple_of(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("4096", 4096),
            ("1K", 1024),
            ("256MiB", 256 << 20),
            ("256M", 256 << 20),
            ("1GiB", 1 << 30),
            ("2T", 2 << 40),
            ("2048s", 1 << 20),
            ("0x100400", 0x0010_0400),
            (" 1 MiB ", 1 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn bad_sizes_say_why() {
        assert_eq!(
            parse_size("12MB").unwrap_err().to_string(),
            "`12MB`: unknown unit `MB`; known are K, M, G, T, KiB, MiB, GiB, TiB and s (512-byte sectors)"
        );
        assert_eq!(
            parse_size("large").unwrap_err().to_string(),
            "`large` is no size: expected a number with an optional unit"
        );
        assert_eq!(
            parse_size("99999999999T").unwrap_err().to_string(),
            "`99999999999T` is above 2^64 - 1 bytes"
        );
        assert_eq!(
            parse_size("-1").unwrap_err(),
            ParseSizeError::NotANumber("-1".to_owned())
        );
    }

    #[test]
    fn byte_counts_are_exact_and_readable() {
        assert_eq!(ByteCount(1_572_864).to_string(), "1572864 bytes (1.5 MiB)");
        assert_eq!(
            ByteCount(17 * TIB).to_string(),
            "18691697672192 bytes (17 TiB)"
        );
        assert_eq!(ByteCount(512).to_string(), "512 bytes");
        assert_eq!(ByteCount(u64::MAX).rounded(), "16777215.9 TiB");
    }
}
