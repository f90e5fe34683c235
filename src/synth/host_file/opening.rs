//! Opening files on the host, so that nothing but a regular file is ever opened: to open a device or a fifo may do something.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::open_files::Held;
use crate::units::to_u64;

/// `/proc/self/fd`, where descriptors of this process can be opened anew (proc_pid_fd(5)).
static DESCRIPTORS: LazyLock<Result<OwnedFd, Errno>> = LazyLock::new(|| {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/fd", flags, Mode::empty())
});

/// Opens for reading what `found`, a descriptor with `O_PATH`, leads to, whatever its name leads to by now.
pub(super) fn reopen(found: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let descriptors = DESCRIPTORS.as_ref().map_err(|error| *error)?;
    let number = DecInt::from_fd(found);
    // NONBLOCK does nothing to regular files, and keeps others from waiting.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::openat(descriptors, number.as_c_str(), flags, Mode::empty())
}

/// How often it is tried to open something when there are too many descriptors.
const ATTEMPTS: u32 = 16;

/// Opens something; if there are too many descriptors, again without those that are only held. Others may be faster, so that is
/// done several times.
pub(super) fn with_descriptors<T>(open: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut attempts = 1..ATTEMPTS;
    loop {
        match open() {
            Err(Errno::MFILE | Errno::NFILE) if attempts.next().is_some() => {
                Held::give_way();
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}

/// The whole contents of a small file that the plan needs, such as the boot loader's executable. Symlinks are
/// followed: the user typed the path.
///
/// # Errors
/// Those of the host; [`io::ErrorKind::InvalidInput`] for what is no regular file and
/// [`io::ErrorKind::FileTooLarge`] above `limit` bytes.
pub fn read_small_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_with_mtime(path, limit).map(|(contents, _)| contents)
}

/// [`read_small_file`], and the file's modification time in seconds since 1970.
///
/// # Errors
/// The same.
pub fn read_with_mtime(path: &Path, limit: u64) -> io::Result<(Vec<u8>, i64)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&found)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is no regular file",
        ));
    }
    let file = File::from(reopen(found.as_fd())?);
    let metadata = file.metadata()?;
    let mut contents = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut contents)?;
    if to_u64(contents.len()) > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("is larger than {limit} bytes"),
        ));
    }
    Ok((contents, metadata.mtime()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_small_file(&path, 5).unwrap(), b"12345");
        let kind = |path: &Path, limit| read_small_file(path, limit).unwrap_err().kind();
        assert_eq!(kind(&path, 4), io::ErrorKind::FileTooLarge);
        assert_eq!(kind(directory.path(), 5), io::ErrorKind::InvalidInput);
        assert_eq!(
            kind(&directory.path().join("none"), 5),
            io::ErrorKind::NotFound
        );
    }
}
