//! Mounts of images through loop devices, gone when they are dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{require_tool, run_text, skip};

/// Whether images can be mounted here; says so if not.
pub(crate) fn can_mount() -> bool {
    if !["mount", "umount", "losetup"].into_iter().all(require_tool) {
        return false;
    }
    let able = rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists();
    if !able {
        skip("mounting takes root and loop devices");
    }
    able
}

/// A loop device over an image, ours until it is dropped: messages about it are about this image.
pub(crate) struct LoopDevice(PathBuf);

impl LoopDevice {
    pub(crate) fn new(image: &Path) -> Self {
        let arguments = ["--find".as_ref(), "--show".as_ref(), image.as_os_str()];
        Self(PathBuf::from(run_text("losetup", arguments).trim_end()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The name without `/dev/`.
    pub(crate) fn name(&self) -> &str {
        self.0.file_name().unwrap().to_str().unwrap()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        drop(Command::new("losetup").arg("-d").arg(&self.0).output());
    }
}

/// A mounted file system.
pub(crate) struct Mount {
    directory: TempDir,
}

impl Mount {
    /// Mounts `what` with `mount -o options`; `loop` among them sets up a device that goes away with the mount.
    pub(crate) fn new(what: &Path, options: &str) -> Self {
        Self::of_type("ext4", what, options)
    }

    /// The same for another type of file system.
    pub(crate) fn of_type(file_system: &str, what: &Path, options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mount = Self { directory };
        run_text(
            "mount",
            [
                "-t".as_ref(),
                file_system.as_ref(),
                "-o".as_ref(),
                options.as_ref(),
                what.as_os_str(),
                mount.path().as_os_str(),
            ],
        );
        mount
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Unmounts now and fails if that fails. A child that another test starts holds copies of all descriptors until it
    /// runs its program, so "busy" may pass within moments.
    pub(crate) fn unmount(self) {
        for _ in 0..50 {
            let output = Command::new("umount").arg(self.path()).output().unwrap();
            if output.status.success() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        run_text("umount", [self.path()]);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Already gone after `unmount`; then this fails, which does no harm.
        let unmounted = Command::new("umount").arg("-q").arg(self.path()).output();
        drop(unmounted);
    }
}

/// A tmpfs, gone when dropped.
pub(crate) struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    pub(crate) fn new(at: &'a Path) -> Self {
        run_text(
            "mount",
            ["-t", "tmpfs", "miragefs-test", at.to_str().unwrap()],
        );
        Self(at)
    }

    /// Something else that is mounted at `at`.
    pub(crate) const fn of(at: &'a Path) -> Self {
        Self(at)
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        // Lazily: what a test still holds open on it must not keep it mounted for ever.
        drop(Command::new("umount").arg("-l").arg(self.0).output());
    }
}
