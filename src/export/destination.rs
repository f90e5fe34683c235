//! What a destination path leads to, and whether an image may be written there.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use super::error::ExportError;
use super::mounts;

/// Symlinks that are followed before a path is given up, as the kernel does.
const SYMLINKS_MAX: u32 = 40;

/// What the destination is.
pub(super) enum Destination {
    /// A regular file, or nothing yet.
    File(Target),
    /// A block device.
    Device(PathBuf),
    /// A FIFO or a character device.
    Stream(PathBuf),
}

/// Where a file is going to be.
pub(super) struct Target {
    /// Its path, no symlink.
    pub(super) path: PathBuf,
    /// The directory, without symlinks.
    pub(super) directory: PathBuf,
    /// What is there now.
    pub(super) replaced: Option<Metadata>,
}

/// Finds out what `destination` is; a directory stands for the file `image_name` in it.
pub(super) fn resolve(destination: &Path, image_name: &str) -> Result<Destination, ExportError> {
    let (path, found) = match look_at(destination)? {
        Some(found) if found.is_dir() => {
            let path = destination.join(image_name);
            let found = look_at(&path)?;
            (path, found)
        }
        found => (destination.to_path_buf(), found),
    };
    let Some(found) = found else {
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(ExportError::MissingDirectory(path));
        }
        return Ok(Destination::File(Target::new(&path, None)?));
    };
    let file_type = found.file_type();
    let refused = |kind| ExportError::NotAFile {
        path: path.clone(),
        kind,
    };
    if file_type.is_file() {
        Ok(Destination::File(Target::new(&path, Some(found))?))
    } else if file_type.is_block_device() {
        Ok(Destination::Device(path))
    } else if file_type.is_fifo() || file_type.is_char_device() {
        Ok(Destination::Stream(path))
    } else if file_type.is_dir() {
        Err(refused("a directory"))
    } else {
        Err(refused("a socket"))
    }
}

fn look_at(path: &Path) -> Result<Option<Metadata>, ExportError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ExportError::write(path, error)),
    }
}

impl Target {
    /// Follows symlinks at `path`, the last of which may lead to nothing.
    fn new(path: &Path, replaced: Option<Metadata>) -> Result<Self, ExportError> {
        let mut path = path.to_path_buf();
        for _ in 0..SYMLINKS_MAX {
            let Ok(link) = fs::read_link(&path) else {
                break;
            };
            path = parent(&path).join(link);
        }
        let directory = parent(&path);
        let directory = fs::canonicalize(directory).map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                ExportError::MissingDirectory(directory.to_path_buf())
            } else {
                ExportError::write(directory, error)
            }
        })?;
        let Some(name) = path.file_name() else {
            return Err(ExportError::MissingDirectory(path));
        };
        Ok(Self {
            path: directory.join(name),
            directory,
            replaced,
        })
    }

    /// Fails if the file would be part of a source, or is one, or lies where images are shown.
    pub(super) fn check_apart(&self, sources: &[PathBuf]) -> Result<(), ExportError> {
        let fail = |error| ExportError::write(&self.directory, error);
        let identity = |found: &Metadata| (found.dev(), found.ino());
        // By number, not by name: a bind mount gives a directory a second name.
        let above: Vec<(u64, u64)> = self
            .directory
            .ancestors()
            .filter_map(|directory| fs::metadata(directory).ok())
            .map(|found| identity(&found))
            .collect();
        let own = self.replaced.as_ref().map(identity);
        for source in sources {
            let Ok(found) = fs::metadata(source) else {
                continue;
            };
            if found.is_dir() && above.contains(&identity(&found)) {
                return Err(ExportError::InsideSource {
                    path: self.path.clone(),
                    directory: source.clone(),
                });
            }
            if own == Some(identity(&found)) {
                return Err(ExportError::IsSource(self.path.clone()));
            }
        }
        let device = fs::metadata(&self.directory).map_err(fail)?.dev();
        let number = (major(device), minor(device));
        let mounts = mounts::all().map_err(fail)?;
        if mounts
            .iter()
            .any(|mount| mount.is_miragefs() && mount.device == number)
        {
            return Err(ExportError::InsideMount(self.path.clone()));
        }
        Ok(())
    }

    /// Bytes of a block of the file system.
    pub(super) fn block_size(&self) -> Result<u64, ExportError> {
        let file_system = rustix::fs::statvfs(&self.directory)
            .map_err(|error| ExportError::write(&self.directory, error.into()))?;
        Ok(file_system.f_bsize.max(1))
    }

    /// Fails unless the data fits beside what is there: the old file goes only when the new one is complete.
    pub(super) fn check_free_space(&self, data: &[(u64, u64)]) -> Result<(), ExportError> {
        let file_system = rustix::fs::statvfs(&self.directory)
            .map_err(|error| ExportError::write(&self.directory, error.into()))?;
        let block_size = file_system.f_frsize.max(1);
        let available = file_system.f_bavail.saturating_mul(block_size);
        let needed = allocated_len(data, block_size);
        if needed > available {
            return Err(ExportError::NoSpace {
                path: self.directory.clone(),
                available,
                needed,
            });
        }
        Ok(())
    }
}

/// The directory of `path`, `.` where it has none.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Bytes of all blocks of `block_size` bytes (not zero) that hold data.
fn allocated_len(data: &[(u64, u64)], block_size: u64) -> u64 {
    let mut blocks: u64 = 0;
    let mut next: u64 = 0;
    for (start, end) in data {
        let first = start.div_euclid(block_size).max(next);
        next = end.div_ceil(block_size).max(next);
        blocks = blocks.saturating_add(next.saturating_sub(first));
    }
    blocks.saturating_mul(block_size)
}
