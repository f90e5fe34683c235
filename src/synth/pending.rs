//! Images whose bytes can be told only after work that takes a while: really compressed grains, a manifest that comes
//! before the disk.
//!
//! Invariant: what is prepared here is complete; an image is never shown before its last byte is decided.

use std::fmt;
use std::sync::Arc;

use super::generation::Image;
use super::grain_index::{IndexError, IndexProgress};
use super::source::ReadError;

/// Why an image cannot be prepared.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PrepareError {
    /// The work was not finished.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// What came out does not fit the container.
    #[error("{0}")]
    Image(String),
}

impl From<ReadError> for PrepareError {
    fn from(error: ReadError) -> Self {
        Self::Index(IndexError::Read(error))
    }
}

/// Does the work and returns the files.
type Work = Box<dyn Fn(&IndexProgress) -> Result<Vec<Arc<Image>>, PrepareError> + Send + Sync>;

/// An image that is being prepared, or will be.
pub struct PendingImage {
    names: Vec<String>,
    spec_index: usize,
    identity: [u8; 32],
    len_at_most: Option<u64>,
    progress: IndexProgress,
    work: Work,
}

impl fmt::Debug for PendingImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingImage")
            .field("names", &self.names)
            .field("progress", &self.progress.state())
            .finish_non_exhaustive()
    }
}

impl PendingImage {
    pub(crate) fn new(
        names: Vec<String>,
        spec_index: usize,
        identity: [u8; 32],
        len_at_most: Option<u64>,
        work: Work,
    ) -> Self {
        Self {
            names,
            spec_index,
            identity,
            len_at_most,
            progress: IndexProgress::new(),
            work,
        }
    }

    /// The image's name, and those of its other files.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The image's name.
    ///
    /// # Panics
    /// Never: every image has one.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().expect("an image has a name")
    }

    /// The entry of the config that it belongs to, by index.
    #[must_use]
    pub const fn spec_index(&self) -> usize {
        self.spec_index
    }

    /// The identity that the first of its files will have.
    #[must_use]
    pub const fn identity(&self) -> &[u8; 32] {
        &self.identity
    }

    /// How long the image can become, if that is known.
    #[must_use]
    pub const fn len_at_most(&self) -> Option<u64> {
        self.len_at_most
    }

    /// How far it is.
    #[must_use]
    pub const fn progress(&self) -> &IndexProgress {
        &self.progress
    }

    /// Does what is to be done, on all cores; returns the files in the order of their names.
    ///
    /// # Errors
    /// [`PrepareError`]; a later call goes on where this one ended.
    pub fn prepare(&self) -> Result<Vec<Arc<Image>>, PrepareError> {
        (self.work)(&self.progress)
    }
}
