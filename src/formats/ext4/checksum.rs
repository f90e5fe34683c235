//! `metadata_csum`: CRC-32C as the kernel's `ext4_chksum` computes it, without the final inversion. `uninit_bg`: CRC-16
//! as its `crc16` does.

/// A running checksum. The seeds are spelt out in kernel `fs/ext4/super.c` and e2fsprogs `lib/ext2fs/csum.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum(u32);

impl Checksum {
    /// The start value of everything: all ones.
    pub const START: Self = Self(u32::MAX);

    /// The seed of a file system: its UUID.
    #[must_use]
    pub fn of_uuid(uuid: &[u8; 16]) -> Self {
        Self::START.update(uuid)
    }

    /// The seed of an inode's own structures: its number and its generation, which is always 0 here.
    #[must_use]
    pub fn of_inode(self, inode_number: u32) -> Self {
        self.update_u32(inode_number).update_u32(0)
    }

    /// Goes over `bytes`.
    #[must_use]
    pub fn update(self, bytes: &[u8]) -> Self {
        // The crate inverts before and after, as the usual CRC-32C is defined; ext4 does neither.
        Self(!crc32c::crc32c_append(!self.0, bytes))
    }

    /// Goes over a little-endian integer.
    #[must_use]
    pub fn update_u32(self, value: u32) -> Self {
        self.update(&value.to_le_bytes())
    }

    /// The value as it is stored.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The lower half, where a structure stores only that.
    #[must_use]
    pub const fn low16(self) -> u16 {
        crate::units::low16(self.0)
    }

    /// The upper half.
    #[must_use]
    pub const fn high16(self) -> u16 {
        crate::units::high16(self.0)
    }
}

/// A running CRC-16 with the polynomial 0xA001, reflected (kernel lib/crc16.c).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum16(u16);

impl Checksum16 {
    /// The start value of group descriptors: all ones.
    pub const START: Self = Self(u16::MAX);

    /// Goes over `bytes`.
    #[must_use]
    pub fn update(self, bytes: &[u8]) -> Self {
        const POLYNOMIAL: u16 = 0xa001;
        let mut value = self.0;
        for byte in bytes {
            value ^= u16::from(*byte);
            for _ in 0..u8::BITS {
                let carry = value & 1 != 0;
                value >>= 1;
                if carry {
                    value ^= POLYNOMIAL;
                }
            }
        }
        Self(value)
    }

    /// The value as it is stored.
    #[must_use]
    pub const fn value(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_is_that_of_modbus() {
        // The check value of CRC-16/MODBUS over "123456789": the same polynomial and start value.
        assert_eq!(Checksum16::START.update(b"123456789").value(), 0x4b37);
    }

    #[test]
    fn is_crc32c_without_final_inversion() {
        // The check value of CRC-32C over "123456789" is e3069283, with both inversions.
        assert_eq!(!Checksum::START.update(b"123456789").value(), 0xe306_9283);
        let whole = Checksum::START.update(b"123456789");
        assert_eq!(Checksum::START.update(b"1234").update(b"56789"), whole);
    }
}
