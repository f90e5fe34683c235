//! How far a scan is, for whoever watches from another thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// What was scanned so far.
#[derive(Debug, Default)]
pub struct ScanProgress {
    files: AtomicU64,
    directory: Mutex<PathBuf>,
}

impl ScanProgress {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Names found in directories so far.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// The directory that is being scanned, below its source; empty before the first.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.directory.lock().clone()
    }

    /// A directory was listed.
    pub(super) fn note(&self, root: &Path, relative: &Path, names: u64) {
        self.files.fetch_add(names, Ordering::Relaxed);
        // Whoever looks just now sees the next one.
        if let Some(mut directory) = self.directory.try_lock() {
            directory.clear();
            directory.push(root);
            directory.push(relative);
        }
    }
}
