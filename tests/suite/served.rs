//! Real configs mounted through the binary, and what its log says; the same questions asked of any image.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;

use miragefs::units::to_usize;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::mounted::{Workspace, output, stderr};

/// The three images that a config has by default.
pub(crate) const IMAGES: [&str; 3] = ["disk.img", "disk.vmdk", "boot.ova"];

/// A background mount with a log of everything; taken away when dropped.
pub(crate) struct Served {
    workspace: Workspace,
}

impl Served {
    /// Mounts the workspace's own config.
    pub(crate) fn new(workspace: Workspace) -> Self {
        let config = workspace.config();
        Self::of_config(workspace, &config)
    }

    /// Mounts another config at the workspace's mount point.
    pub(crate) fn of_config(workspace: Workspace, config: &Path) -> Self {
        let served = Self { workspace };
        let mounted = served.mount(config);
        assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
        served
    }

    fn mount(&self, config: &Path) -> Output {
        let mut command = self.workspace.miragefs();
        command.env("MIRAGEFS_LOG", "debug").arg("mount");
        command.arg("--log").arg(self.workspace.path().join("log"));
        output(command.arg(config).arg(self.workspace.mountpoint()))
    }

    /// Unmounts and mounts the same config again: the kernel has forgotten all pages.
    pub(crate) fn mount_again(&self) {
        let unmounted = self.workspace.unmount();
        assert_eq!(unmounted.status.code(), Some(0), "{}", stderr(&unmounted));
        let mounted = self.mount(&self.workspace.config());
        assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    }

    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.workspace.mountpoint().join(name)
    }

    /// All that was logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.workspace.path().join("log")).unwrap()
    }

    /// How often a job was started to hash the disk inside the OVA.
    pub(crate) fn digest_jobs(&self) -> usize {
        self.log().matches("OVA digest: job started").count()
    }
}

/// `len` bytes from `offset` of a file.
pub(crate) fn read_range(path: &Path, offset: u64, len: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0xa5; to_usize(len)];
    File::open(path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// [`read_range`] past the page cache.
pub(crate) fn read_range_direct(path: &Path, offset: u64, len: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0xa5; to_usize(len)];
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)?;
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Start and end of each range that is no hole.
pub(crate) fn data_ranges(file: &File) -> Vec<(u64, u64)> {
    let seek = |to| rustix::fs::seek(file.as_fd(), to);
    let mut ranges = Vec::new();
    let mut offset = 0;
    loop {
        match seek(SeekFrom::Data(offset)) {
            Ok(start) => {
                let end = seek(SeekFrom::Hole(start)).unwrap();
                ranges.push((start, end));
                offset = end;
            }
            Err(Errno::NXIO) => return ranges,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether two files hold the same bytes; holes are skipped only where both have one.
pub(crate) fn assert_same_bytes(left: &Path, right: &Path) {
    let files = [File::open(left).unwrap(), File::open(right).unwrap()];
    let [left_len, right_len] = [&files[0], &files[1]].map(|file| file.metadata().unwrap().len());
    assert_eq!(left_len, right_len);
    for ranges in [data_ranges(&files[0]), data_ranges(&files[1])] {
        for (start, end) in ranges {
            let mut offset = start;
            while offset < end {
                let len = (end - offset).min(1 << 20);
                let bytes = [left, right].map(|path| read_range(path, offset, len).unwrap());
                assert!(bytes[0] == bytes[1], "{offset:#x}+{len:#x} differs");
                offset += len;
            }
        }
    }
}
