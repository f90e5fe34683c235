//! A mount that the kernel must not complain about and must leave clean.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::build::fsck_findings_besides;
use crate::kernel_log::KernelLog;
use crate::loops::{LoopDevice, Mount};

/// Fails unless e2fsck has nothing to say about what the kernel wrote. The kernel may leave extent trees that are wider
/// or deeper than they need be; e2fsck offers to optimise those and counts nothing as wrong.
#[track_caller]
pub(super) fn assert_sound(image: &Path) {
    let findings = fsck_findings_besides(image.to_str().unwrap(), |line| {
        line.starts_with("Inode ")
            && line.contains(" extent tree (at level ")
            && line.ends_with("  Optimize? no")
    });
    if let Some(findings) = findings {
        panic!("{}: {findings}", image.display());
    }
}

/// An image mounted read-write, with an eye on the kernel's log.
pub(super) struct Watched {
    // In the order in which they are given up.
    mount: Mount,
    log: Option<KernelLog>,
    device: LoopDevice,
    image: PathBuf,
}

impl Watched {
    pub(super) fn new(image: &Path, options: &str) -> Self {
        let device = LoopDevice::new(image);
        let log = KernelLog::from_now();
        Self {
            mount: Mount::new(device.path(), options),
            log,
            device,
            image: image.to_path_buf(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Writes back what the kernel holds, `sync -f`.
    pub(super) fn sync(&self) {
        rustix::fs::syncfs(File::open(self.path()).unwrap()).unwrap();
    }

    /// Unmounts without asking for more.
    pub(super) fn unmount(self) {
        self.mount.unmount();
    }

    /// Unmounts; fails if the kernel had a complaint meanwhile or e2fsck has one now.
    #[track_caller]
    pub(super) fn finish(mut self) {
        self.sync();
        self.mount.unmount();
        if let Some(log) = &mut self.log {
            let complaints = log.complaints(self.device.name());
            assert!(complaints.is_empty(), "{complaints:#?}");
        }
        drop(self.device);
        assert_sound(&self.image);
    }
}
