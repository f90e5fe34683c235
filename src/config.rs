//! From the config as typed to a validated [`spec::Spec`].
//!
//! Invariant: what the text and a `stat` of the paths that it names can tell is checked here, with file, line and
//! column; what the sources hold is looked at by `synth`. No source is opened, but `newest` lists the names of a directory.

use std::env;
use std::path::{Path, PathBuf};

mod document;
pub mod error;
pub mod guest_os;
mod hint;
mod keys;
mod raw;
mod resolve;
mod resolved;
pub mod spec;
mod starter;
mod version;
mod warning;

pub use error::{ConfigError, ConfigErrorKind};
pub use resolved::resolved;
pub use starter::STARTER;
pub use warning::{ConfigWarning, ConfigWarningKind};

/// A config that was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it asks for.
    pub spec: spec::Spec,
    /// What the user should know, in the order of finding.
    pub warnings: Vec<ConfigWarning>,
    /// The config and all it includes, absolute, the config first: what a reload watches.
    pub files: Vec<PathBuf>,
    /// The paths that it names, absolute, symlinks in them not resolved: what they lead to may change.
    pub paths: Vec<PathBuf>,
    /// Directories whose names decide what is taken (`newest`), absolute, symlinks resolved.
    pub directories: Vec<PathBuf>,
}

/// What a config depends on besides its text and the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The variable SOURCE_DATE_EPOCH, seconds since 1970.
    pub source_date_epoch: Option<String>,
    /// Below which directory installed boot-loader files are searched: `/`, except in tests.
    pub system_root: PathBuf,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            source_date_epoch: None,
            system_root: PathBuf::from("/"),
        }
    }
}

impl Environment {
    /// What this process runs in.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            source_date_epoch: env::var_os("SOURCE_DATE_EPOCH")
                .map(|value| value.to_string_lossy().into_owned()),
            ..Self::default()
        }
    }
}

/// Reads and validates the config at `path`.
///
/// # Errors
/// The first mistake, with its place.
pub fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = document::read_text(path).map_err(ConfigError::without_location)?;
    load_text(text, path, &Environment::of_process())
}

/// Validates `text` as if it had been read from `path`; what it includes is read.
///
/// # Errors
/// The first mistake, with its place.
pub fn load_text(
    text: String,
    path: &Path,
    environment: &Environment,
) -> Result<Loaded, ConfigError> {
    let path = std::path::absolute(path).map_err(|error| {
        ConfigError::without_location(ConfigErrorKind::Unreadable {
            path: path.to_owned(),
            error,
        })
    })?;
    let (raw, sources) = document::parse(text, &path)?;
    let mut context = resolve::Context::new(&sources, environment);
    let spec = resolve::resolve(raw, path, &mut context)?;
    Ok(Loaded {
        spec,
        warnings: context.warnings,
        files: sources.paths(),
        paths: context.paths.into_inner(),
        directories: context.directories.into_inner().into_iter().collect(),
    })
}

#[cfg(test)]
mod tests;
