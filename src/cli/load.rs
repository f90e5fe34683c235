//! From a config file to planned images: the one way for all subcommands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{CliError, ErrorKind};
use super::output::Warning;
use crate::config::{self, Loaded};
use crate::synth::cache::BlockCache;
use crate::synth::generation::{self, PlanOptions, Planned};

/// What a config says, planned.
pub(super) struct LoadedPlan {
    /// The validated config.
    pub(super) spec: config::spec::Spec,
    /// The images.
    pub(super) planned: Planned,
    /// What should be told but does not stop anything.
    pub(super) warnings: Vec<Warning>,
}

impl LoadedPlan {
    /// The directories and files that the images are read from.
    pub(super) fn sources(&self) -> Vec<PathBuf> {
        let copies = self
            .spec
            .partitions
            .iter()
            .flat_map(|partition| &partition.copies);
        copies.map(|copy| copy.from.clone()).collect()
    }
}

/// Reads and plans `config`; computed blocks may take `cache_size` bytes of memory.
///
/// # Errors
/// What is wrong with the config or its sources.
pub(super) fn load(config: &Path, cache_size: u64) -> Result<LoadedPlan, CliError> {
    let Loaded {
        spec,
        warnings,
        files,
    } = config::load(config).map_err(|error| {
        let hint = error.hint();
        with_optional_hint(CliError::from_error(ErrorKind::Config, &error), hint)
    })?;
    let options = PlanOptions {
        cache: Arc::new(BlockCache::new(cache_size)),
        config_mtime: newest_mtime(&files),
    };
    let planned = generation::plan(&spec, &options).map_err(|error| {
        let hint = error.hint();
        with_optional_hint(CliError::from_error(ErrorKind::Config, &error), hint)
    })?;
    let mut all: Vec<Warning> = Vec::new();
    for warning in &warnings {
        all.push(Warning {
            message: warning.to_string(),
            hint: None,
        });
    }
    for warning in &planned.warnings {
        all.push(Warning {
            message: warning.to_string(),
            hint: warning.hint(),
        });
    }
    Ok(LoadedPlan {
        spec,
        planned,
        warnings: all,
    })
}

fn with_optional_hint(error: CliError, hint: Option<String>) -> CliError {
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The newest modification time of the config's files; one that vanished just now counts as old.
fn newest_mtime(files: &[PathBuf]) -> i64 {
    let seconds = |file: &PathBuf| {
        let modified = std::fs::metadata(file)
            .and_then(|metadata| metadata.modified())
            .ok()?;
        let since_1970 = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
        i64::try_from(since_1970.as_secs()).ok()
    };
    files.iter().filter_map(seconds).max().unwrap_or(0)
}
