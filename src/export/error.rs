//! Why an image could not be exported.

use std::io;
use std::path::{Path, PathBuf};

use crate::synth::source::ReadError;
use crate::units::ByteCount;

/// Why an image could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The directory of the destination.
    #[error("{}: directory does not exist", .0.display())]
    MissingDirectory(PathBuf),
    /// It is something that cannot hold an image.
    #[error("{}: destination is {kind}", path.display())]
    NotAFile {
        /// The destination.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The next image would contain this one.
    #[error("{}: destination lies inside the source {}", path.display(), directory.display())]
    InsideSource {
        /// The destination.
        path: PathBuf,
        /// The source.
        directory: PathBuf,
    },
    /// The export would destroy what it reads.
    #[error("{}: destination is a file that the image is made from", .0.display())]
    IsSource(PathBuf),
    /// Images are read-only.
    #[error("{}: destination lies inside a miragefs mount", .0.display())]
    InsideMount(PathBuf),
    /// All that the device holds would be lost.
    #[error("{}: destination is a block device", .0.display())]
    NeedsForce(PathBuf),
    /// Somebody would see it change.
    #[error("{}: device is in use: {usage}", path.display())]
    DeviceInUse {
        /// The device.
        path: PathBuf,
        /// By whom.
        usage: String,
    },
    /// The image is longer.
    #[error("{}: device has {}; the image needs {}", path.display(), ByteCount(*device_len), ByteCount(*image_len))]
    DeviceTooSmall {
        /// The device.
        path: PathBuf,
        /// Its length in bytes.
        device_len: u64,
        /// The image's length in bytes.
        image_len: u64,
    },
    /// The file system is too full.
    #[error("{}: {} are free; the image's data needs {}", path.display(), ByteCount(*available), ByteCount(*needed))]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// Bytes free for this user.
        available: u64,
        /// Bytes of data, rounded out to blocks of the file system.
        needed: u64,
    },
    /// Sharing was asked for, and the file system cannot.
    #[error("{}: its blocks cannot be shared", path.display())]
    CannotShare {
        /// The source file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Sharing was asked for, and contents lie where it is not possible.
    #[error("{} of sources do not lie on whole blocks of {} in the image", ByteCount(*unaligned), ByteCount(*block_size))]
    Unaligned {
        /// Bytes.
        unaligned: u64,
        /// Of the destination's file system, in bytes.
        block_size: u64,
    },
    /// A source.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The destination.
    #[error("{}: cannot be written", path.display())]
    Write {
        /// The destination.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// The caller asked for it.
    #[error("export cancelled")]
    Cancelled,
}

impl ExportError {
    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_path_buf(),
            source,
        }
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::MissingDirectory(path) => format!("create it: mkdir -p {}", path.display()),
            Self::InsideSource { .. } | Self::IsSource(_) | Self::InsideMount(_) => {
                "export to a directory apart from all sources and mounts".to_owned()
            }
            Self::NeedsForce(path) => {
                format!("--force overwrites everything on {}", path.display())
            }
            Self::DeviceInUse { .. } => "unmount or stop what uses it first".to_owned(),
            Self::CannotShare { .. } => {
                "XFS and btrfs share blocks, of files on one file system; --reflink=auto copies the rest".to_owned()
            }
            Self::Unaligned { .. } => {
                "partitions that start on 4KiB, with `block-size = 4096` in [partition.ext4], can be shared; --reflink=auto copies the rest".to_owned()
            }
            Self::Read(ReadError::Stale { .. }) => {
                "export again; the source must not change meanwhile".to_owned()
            }
            _ => return None,
        })
    }

    /// Whether the command line asked for something that cannot be, so that trying again will not help.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NotAFile { .. }
                | Self::InsideSource { .. }
                | Self::IsSource(_)
                | Self::InsideMount(_)
                | Self::NeedsForce(_)
        )
    }
}
