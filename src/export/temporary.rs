//! A file that vanishes unless it is finished.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// How many names are tried; a name that is taken was left by a killed process of the same id.
const ATTEMPTS: u32 = 1000;

/// A new file beside the destination, removed when dropped.
pub(super) struct TemporaryFile {
    file: File,
    /// `None` once it has its final name.
    path: Option<PathBuf>,
}

impl TemporaryFile {
    /// Creates it in `directory` with mode 0644 without the umask's bits.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let process = std::process::id();
        for attempt in 0..ATTEMPTS {
            // Short, whatever the image is called: names have at most 255 bytes.
            let path = directory.join(format!(".miragefs-export-{process}-{attempt}.tmp"));
            let created = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&path);
            match created {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path: Some(path),
                    });
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The open file.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Gives it the owner, as far as we may, and the permissions of the file that it is going to replace.
    pub(super) fn take_over(&self, replaced: &Metadata) -> io::Result<()> {
        let own = self.file.metadata()?;
        if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid()) {
            // Only root may give files away.
            drop(fchown(
                &self.file,
                Some(replaced.uid()),
                Some(replaced.gid()),
            ));
        }
        let mode = replaced.permissions().mode() & 0o777;
        self.file.set_permissions(Permissions::from_mode(mode))
    }

    /// Gives it its final name; what had that name is gone.
    pub(super) fn persist(mut self, path: &Path) -> io::Result<()> {
        if let Some(temporary) = &self.path {
            fs::rename(temporary, path)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // There is nobody to tell; the caller reports why the export failed.
            drop(fs::remove_file(path));
        }
    }
}
