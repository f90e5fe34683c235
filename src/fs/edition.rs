//! What the layers above hand over: a config at one moment, and the way to its next one.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::synth::generation::Generation;

/// What a picture of the disk is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Picture {
    /// `layout.json`.
    Json,
    /// `layout.svg`.
    Svg,
    /// `layout.html`.
    Html,
}

/// What there is to read about a generation besides its images. Made when somebody reads it, so that a generation that
/// nobody asks about costs nothing.
pub trait Papers: Send + Sync {
    /// The config as resolved.
    fn config(&self) -> String;

    /// The disk as people think of it, for the generation of this number.
    fn picture(&self, picture: Picture, generation: u64) -> String;
}

/// Papers of what has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoPapers;

impl Papers for NoPapers {
    fn config(&self) -> String {
        String::new()
    }

    fn picture(&self, _: Picture, _: u64) -> String {
        String::new()
    }
}

/// A config and its sources at one moment, planned.
pub struct Edition {
    /// The images.
    pub generation: Generation,
    /// What can be read about it.
    pub papers: Arc<dyn Papers>,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// Whether the config says something else than for the edition before, even if all images are the same.
    pub is_edited: bool,
}

impl Edition {
    /// Images with nothing to tell about them.
    #[must_use]
    pub fn of(generation: Generation) -> Self {
        Self {
            generation,
            papers: Arc::new(NoPapers),
            warnings: Vec::new(),
            is_edited: true,
        }
    }
}

impl Edition {
    /// Names and identities of the images, those that take work among them.
    pub fn identities(&self) -> impl Iterator<Item = (&str, &[u8; 32])> {
        let ready = self.generation.images.iter();
        let pending = self.generation.pending.iter();
        ready
            .map(|image| (image.name.as_str(), &image.identity))
            .chain(pending.map(|image| (image.name(), image.identity())))
    }
}

/// Why there is no new edition: a config with a mistake, or sources that cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong, with file, line and column where there are such: one line each.
    pub errors: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.errors.join("; "))
    }
}

/// What may have changed since the last edition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Anything: events were lost, there are none, or somebody asked for a look at all of it.
    pub all: bool,
    /// Names of the host that were touched, or directories in which something was.
    pub paths: BTreeSet<PathBuf>,
}

impl Changes {
    /// Anything may have changed.
    #[must_use]
    pub const fn anything() -> Self {
        Self {
            all: true,
            paths: BTreeSet::new(),
        }
    }

    /// Both.
    pub fn extend(&mut self, other: Self) {
        self.all |= other.all;
        self.paths.extend(other.paths);
    }
}

/// What an edition depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watched {
    /// Files and symlinks by name: the config, what it includes and the paths that it names, as typed and absolute.
    pub names: Vec<PathBuf>,
    /// Directories with all that is directly in them.
    pub directories: Vec<PathBuf>,
}

/// The way from a config to its editions. It remembers what it needs in order to read only what changed.
pub trait Planner: Send {
    /// Reads the config and plans it; what is not among `changes` is as it was the last time.
    ///
    /// # Errors
    /// [`Refusal`] for every mistake of the person who writes config and sources.
    fn plan(&mut self, changes: &Changes) -> Result<Edition, Refusal>;

    /// What the last call of [`Planner::plan`] looked at, whether it came to something or not.
    fn watched(&self) -> Watched;
}
