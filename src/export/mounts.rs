//! Which devices are mounted, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{major, minor};

/// A line of the table. Names are as the kernel escapes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// Major and minor number of the file system's device.
    pub(super) device: (u32, u32),
    pub(super) mountpoint: String,
    pub(super) file_system: String,
    pub(super) source: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ');
        let (major, minor) = head.nth(2)?.split_once(':')?;
        let mountpoint = head.nth(1)?;
        let mut tail = tail.split(' ');
        Some(Self {
            device: (major.parse().ok()?, minor.parse().ok()?),
            mountpoint: mountpoint.to_owned(),
            file_system: tail.next()?.to_owned(),
            source: tail.next()?.to_owned(),
        })
    }

    /// Whether it shows images. As root the kernel drops the subtype.
    pub(super) fn is_miragefs(&self) -> bool {
        self.file_system == "fuse.miragefs"
            || (self.file_system == "fuse" && self.source == "miragefs")
    }

    /// Whether the block device `number` is mounted here. Some file systems show a device of their own and name the
    /// block device as their source.
    pub(super) fn is_of(&self, number: (u32, u32)) -> bool {
        self.device == number || device_number(&self.source) == Some(number)
    }
}

/// All mounts that this process sees.
pub(super) fn all() -> io::Result<Vec<Mount>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let table = String::from_utf8_lossy(&table);
    Ok(table.lines().filter_map(Mount::parse).collect())
}

/// The number of the block device at `path`, if it is one.
pub(super) fn device_number(path: &str) -> Option<(u32, u32)> {
    use std::os::unix::fs::FileTypeExt;
    if !path.starts_with('/') {
        return None;
    }
    let found = fs::metadata(path).ok()?;
    found
        .file_type()
        .is_block_device()
        .then(|| (major(found.rdev()), minor(found.rdev())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        // From proc_pid_mountinfo(5).
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.device, &*mount.mountpoint), ((98, 0), "/mnt2"));
        assert_eq!((&*mount.file_system, &*mount.source), ("ext3", "/dev/root"));
        assert!(mount.is_of((98, 0)) && !mount.is_of((98, 1)) && !mount.is_miragefs());
        let line = r"71 29 0:52 / /srv/my\040images ro,nosuid - fuse miragefs ro";
        assert!(Mount::parse(line).unwrap().is_miragefs());
        assert_eq!(Mount::parse("1 2 3:4 / /x rw"), None);
    }
}
