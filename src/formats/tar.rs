//! Headers of a tar archive: ustar as GNU tar writes it, with base-256 sizes from 8 GiB on and no PAX records.
//!
//! Source: POSIX.1-1988 ustar; base-256 as in GNU tar's manual, "Extensions to the archive format".

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A ustar header as on disk.
#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct RawTarHeader {
    /// Name, NUL-padded; no NUL at full length.
    pub name: [u8; 100],
    /// Permission bits, octal.
    pub mode: [u8; 8],
    /// Owner, octal.
    pub uid: [u8; 8],
    /// Group, octal.
    pub gid: [u8; 8],
    /// Bytes of data, octal or base-256.
    pub size: [u8; 12],
    /// Modification time, octal.
    pub mtime: [u8; 12],
    /// Sum of all bytes with this field as spaces: six octal digits, NUL, space.
    pub chksum: [u8; 8],
    /// `0`: a regular file.
    pub typeflag: u8,
    /// Target of a link.
    pub linkname: [u8; 100],
    /// `ustar\0`.
    pub magic: [u8; 6],
    /// `00`.
    pub version: [u8; 2],
    /// Owner's name.
    pub uname: [u8; 32],
    /// Group's name.
    pub gname: [u8; 32],
    /// Device, major number.
    pub devmajor: [u8; 8],
    /// Device, minor number.
    pub devminor: [u8; 8],
    /// Directories in front of `name`.
    pub prefix: [u8; 155],
    /// Zeros.
    pub pad: [u8; 12],
}

const _: () = {
    assert!(size_of::<RawTarHeader>() == 512);
    assert!(std::mem::offset_of!(RawTarHeader, chksum) == 148);
    assert!(std::mem::offset_of!(RawTarHeader, magic) == 257);
    assert!(std::mem::offset_of!(RawTarHeader, prefix) == 345);
};

/// Unit of a tar archive; members are padded to it.
pub const BLOCK_LEN: u64 = 512;
/// What the whole archive is padded to: GNU tar's default of 20 blocks.
pub const RECORD_LEN: u64 = 10240;
/// Zero blocks behind the last member, before padding.
pub const END_LEN: u64 = 1024;

/// Largest size in eleven octal digits, and largest time.
const OCTAL_MAX: u64 = (1 << 33) - 1;

/// A regular file, mode 0644, owner 0:0 without names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member<'a> {
    /// Name, at most 100 bytes.
    pub name: &'a str,
    /// Bytes of data.
    pub size: u64,
    /// Seconds since 1970, 0 to 2^33 - 1.
    pub mtime: i64,
}

/// What does not fit a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// The name is too long or empty.
    #[error("{name}: tar member name of {len} bytes; 1 to 100 fit")]
    Name {
        /// The name.
        name: String,
        /// Its bytes.
        len: usize,
    },
    /// The time has no octal form of eleven digits.
    #[error("{name}: modification time {mtime}; a tar member's is 0 to {OCTAL_MAX}")]
    Mtime {
        /// The member.
        name: String,
        /// Its time.
        mtime: i64,
    },
}

impl Member<'_> {
    /// The 512 bytes in front of the data.
    ///
    /// # Errors
    /// [`TarError`] names the member and the limit.
    pub fn to_raw(&self) -> Result<RawTarHeader, TarError> {
        let mut raw = RawTarHeader::new_zeroed();
        match raw.name.get_mut(..self.name.len()) {
            Some(field) if !self.name.is_empty() => field.copy_from_slice(self.name.as_bytes()),
            _ => {
                return Err(TarError::Name {
                    name: self.name.to_owned(),
                    len: self.name.len(),
                });
            }
        }
        let mtime = u64::try_from(self.mtime)
            .ok()
            .filter(|mtime| *mtime <= OCTAL_MAX)
            .ok_or_else(|| TarError::Mtime {
                name: self.name.to_owned(),
                mtime: self.mtime,
            })?;
        raw.mode = *b"0000644\0";
        raw.uid = *b"0000000\0";
        raw.gid = *b"0000000\0";
        raw.size = size_field(self.size);
        raw.mtime = octal_field(mtime);
        raw.typeflag = b'0';
        raw.magic = *b"ustar\0";
        raw.version = *b"00";
        raw.devmajor = *b"0000000\0";
        raw.devminor = *b"0000000\0";
        raw.chksum = [b' '; 8];
        // 512 bytes sum up to at most 130560: six octal digits.
        let sum: u32 = raw.as_bytes().iter().map(|byte| u32::from(*byte)).sum();
        let digits = format!("{sum:06o}\0 ");
        raw.chksum.copy_from_slice(digits.as_bytes());
        Ok(raw)
    }
}

/// Eleven octal digits and NUL; `value` is at most [`OCTAL_MAX`].
fn octal_field(value: u64) -> [u8; 12] {
    let mut field = [0; 12];
    let digits = format!("{value:011o}");
    for (byte, digit) in field.iter_mut().zip(digits.bytes()) {
        *byte = digit;
    }
    field
}

/// Octal where it fits, else base-256: the top bit set, the number big-endian in the remaining bytes.
fn size_field(size: u64) -> [u8; 12] {
    if size <= OCTAL_MAX {
        return octal_field(size);
    }
    let mut field = [0; 12];
    let (head, tail) = field.split_at_mut(4);
    head.copy_from_slice(&[0x80, 0, 0, 0]);
    tail.copy_from_slice(&size.to_be_bytes());
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tar --format=ustar --owner=0 --group=0 --numeric-owner --mode=0644 -c f.txt` (GNU tar 1.34), 3 bytes,
    /// mtime 1700000000.
    #[test]
    fn encodes_reference_bytes() {
        let raw = Member {
            name: "f.txt",
            size: 3,
            mtime: 1_700_000_000,
        }
        .to_raw()
        .unwrap();
        let mut expected = [0_u8; 512];
        for (offset, text) in [
            (0, &b"f.txt"[..]),
            (100, b"0000644\x000000000\x000000000\x00"),
            (124, b"00000000003\x0014524770400\x00010226\x00 0"),
            (257, b"ustar\x0000"),
            (329, b"0000000\x000000000\x00"),
        ] {
            expected[offset..offset + text.len()].copy_from_slice(text);
        }
        assert_eq!(raw.as_bytes(), expected);
    }

    /// A 9 GiB file through `tar --format=gnu` (1.34): its size field.
    #[test]
    fn large_sizes_are_base_256() {
        assert_eq!(
            size_field(9 << 30),
            [0x80, 0, 0, 0, 0, 0, 0, 2, 0x40, 0, 0, 0]
        );
        assert_eq!(&size_field((8 << 30) - 1), b"77777777777\0");
        assert_eq!(size_field(8 << 30)[0], 0x80);
        assert_eq!(size_field(u64::MAX)[4..], [0xff; 8]);
    }

    #[test]
    fn writes_every_byte() {
        let mut buf = [0xa5; 512];
        Member {
            name: "a",
            size: u64::MAX >> 1,
            mtime: 0,
        }
        .to_raw()
        .unwrap()
        .write_to(&mut buf)
        .unwrap();
        assert!(!buf.contains(&0xa5));
    }

    #[test]
    fn rejects_overflow() {
        let name = "n".repeat(101);
        let member = Member {
            name: &name,
            size: 0,
            mtime: 0,
        };
        assert_eq!(
            member.to_raw().unwrap_err().to_string(),
            format!("{name}: tar member name of 101 bytes; 1 to 100 fit")
        );
        let full = Member {
            name: &name[1..],
            ..member.clone()
        };
        assert_eq!(full.to_raw().unwrap().name, [b'n'; 100]);
        for mtime in [-1, 1 << 33] {
            let member = Member {
                name: "x.ovf",
                size: 0,
                mtime,
            };
            assert_eq!(
                member.to_raw().unwrap_err().to_string(),
                format!("x.ovf: modification time {mtime}; a tar member's is 0 to 8589934591")
            );
        }
    }
}
