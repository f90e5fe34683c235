//! By what a source file is known to be the planned one.

use std::os::fd::AsFd;

use rustix::fs::Stat;

use crate::synth::packed_time::PackedTime;

/// What must stay the same for a source file's bytes to be the planned ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device of the file system.
    pub device: u64,
    /// Inode on the host.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: PackedTime,
    /// Change time.
    pub ctime: PackedTime,
}

/// File systems whose stamps may be equal for other contents: images that are made with all times set to one value and
/// with small inode numbers, and what a program answers (`linux/magic.h`, and each file system's own header).
const WEAK_MAGICS: [i64; 6] = [
    0x7371_7368, // squashfs
    0xe0f5_e1e2, // erofs
    0x9660,      // iso9660
    0x28cd_3d45, // cramfs
    0x7275,      // romfs
    0x6573_5546, // FUSE
];

/// Whether equal identities on the file system of `directory` may belong to other contents after a remount.
pub(super) fn is_weak(directory: impl AsFd) -> bool {
    rustix::fs::fstatfs(directory).is_ok_and(|found| WEAK_MAGICS.contains(&found.f_type))
}

impl Identity {
    /// The identity that `stat` shows.
    #[must_use]
    pub fn from_stat(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: PackedTime::new(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            ctime: PackedTime::new(stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        }
    }

    /// The first attribute that differs, by name.
    pub(super) fn difference(&self, now: &Self) -> Option<&'static str> {
        [
            ("device", self.device == now.device),
            ("inode", self.inode == now.inode),
            ("size", self.size == now.size),
            ("mtime", self.mtime == now.mtime),
            ("ctime", self.ctime == now.ctime),
        ]
        .into_iter()
        .find_map(|(name, same)| (!same).then_some(name))
    }
}

/// The kernel keeps nanoseconds below 10^9.
pub(super) fn nanoseconds(value: impl TryInto<u32>) -> u32 {
    value.try_into().unwrap_or(0)
}
