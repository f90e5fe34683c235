//! `FICLONERANGE`: a range of one file shares the blocks of another's (ioctl_ficlonerange(2), include/uapi/linux/fs.h).
#![expect(
    unsafe_code,
    reason = "no crate wraps this request; see docs/decisions/0017-clone-range.md"
)]

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, opcode};

/// `struct file_clone_range`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct FileCloneRange {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}

const FICLONERANGE: Opcode = opcode::write::<FileCloneRange>(0x94, 13);

/// Has `len` bytes of `to`, from `to_offset` on, share the blocks of those of `from`. All three numbers are multiples of the
/// file system's block size; `len` is not zero, which would mean everything up to the end.
///
/// # Errors
/// The kernel's: `EXDEV` between file systems, `EOPNOTSUPP` where blocks cannot be shared, `EINVAL` for ranges that are
/// not made of whole blocks.
pub(super) fn clone_range(
    from: impl AsFd,
    from_offset: u64,
    len: u64,
    to: impl AsFd,
    to_offset: u64,
) -> Result<(), Errno> {
    let range = FileCloneRange {
        src_fd: from.as_fd().as_raw_fd().into(),
        src_offset: from_offset,
        src_length: len,
        dest_offset: to_offset,
    };
    // SAFETY: the opcode is that of FICLONERANGE, whose argument is a pointer to this structure, which the kernel reads and
    // does not keep; the descriptor in it is borrowed for longer than the call.
    unsafe { rustix::ioctl::ioctl(to, Setter::<FICLONERANGE, _>::new(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_that_of_the_headers() {
        // linux/fs.h, on architectures with the usual encoding.
        assert_eq!(FICLONERANGE, 0x4020_940d);
        assert_eq!(size_of::<FileCloneRange>(), 32);
    }

    #[test]
    fn where_blocks_cannot_be_shared_it_says_so() {
        let (from, to) = (std::io::pipe().unwrap(), tempfile::tempfile().unwrap());
        assert!(clone_range(&from.0, 0, 4096, &to, 0).is_err());
    }
}
