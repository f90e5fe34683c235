//! Descriptors of source files, and closing them where that may take long.
//!
//! Closing a file of a FUSE or network file system asks its server, which may not answer. Whoever reads other files must not
//! wait for that, so such descriptors are closed by a thread of their file system.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Sender};

use parking_lot::Mutex;

/// File systems whose servers may be away (`linux/magic.h`, and each file system's own header).
const REMOTE_MAGICS: [i64; 8] = [
    0x6573_5546, // FUSE
    0x6969,      // NFS
    0x517b,      // SMB
    0xfe53_4d42, // SMB2
    0xff53_4d42, // CIFS
    0x0102_1997, // 9P
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
];

/// The closing threads, by the device of the file system.
static CLOSERS: LazyLock<Mutex<BTreeMap<u64, Sender<OwnedFd>>>> = LazyLock::new(Mutex::default);

/// Whether a server that may be away is asked about files of this file system.
pub(super) fn is_remote(directory: impl AsFd) -> bool {
    rustix::fs::fstatfs(directory).is_ok_and(|found| REMOTE_MAGICS.contains(&found.f_type))
}

/// A descriptor of a source file.
#[derive(Debug)]
pub struct SourceFd {
    /// There until it is dropped.
    fd: Option<OwnedFd>,
    /// The device, if closing may take long.
    remote: Option<u64>,
}

impl SourceFd {
    pub(super) const fn new(fd: OwnedFd, remote: Option<u64>) -> Self {
        Self {
            fd: Some(fd),
            remote,
        }
    }
}

impl AsFd for SourceFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let fd = self.fd.as_ref();
        fd.expect("a descriptor is there until it is dropped")
            .as_fd()
    }
}

impl Drop for SourceFd {
    fn drop(&mut self) {
        let (Some(fd), Some(device)) = (self.fd.take(), self.remote) else {
            return;
        };
        let mut closers = CLOSERS.lock();
        let closer = closers.entry(device).or_insert_with(start);
        // Without a thread it is closed here.
        drop(closer.send(fd));
    }
}

/// A thread that closes what it is sent.
fn start() -> Sender<OwnedFd> {
    let (sender, receiver) = mpsc::channel::<OwnedFd>();
    let close_all = move || receiver.into_iter().for_each(drop);
    let started = std::thread::Builder::new()
        .name("closing".to_owned())
        .spawn(close_all);
    if let Err(error) = started {
        tracing::debug!("no thread for closing files: {error}");
    }
    sender
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn remote_descriptors_are_closed_elsewhere_in_the_end() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        drop(SourceFd::new(writer.into(), Some(u64::MAX)));
        // Ends when the last writer is closed.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn the_root_is_no_server() {
        let root = std::fs::File::open("/proc/self").unwrap();
        assert!(!is_remote(&root));
    }
}
