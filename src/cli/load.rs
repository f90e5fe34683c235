//! From a config file to planned images: the one way for all subcommands.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::thread::CapabilitySet;

use super::error::{CliError, ErrorKind};
use super::output::Warning;
use super::{CACHE_SIZE_DEFAULT, progress};
use crate::config::spec::{CopySpec, Spec};
use crate::config::{self, Loaded};
use crate::synth::cache::BlockCache;
use crate::synth::generation::{self, PlanOptions, Planned};
use crate::synth::memory::PlanMemory;
use crate::synth::plan_error::PlanErrors;
use crate::synth::tree::ScanProgress;
use crate::units::parse_size;

/// What a config says, planned.
pub(super) struct LoadedPlan {
    /// The validated config.
    pub(super) spec: Spec,
    /// The images.
    pub(super) planned: Planned,
    /// What should be told but does not stop anything.
    pub(super) warnings: Vec<Warning>,
}

impl LoadedPlan {
    /// The directories and files that the images are read from.
    pub(super) fn sources(&self) -> Vec<PathBuf> {
        sources_of(&self.spec)
    }
}

/// The directories and files that a config takes its images from.
pub(super) fn sources_of(spec: &Spec) -> Vec<PathBuf> {
    let mut copies = spec
        .partitions
        .iter()
        .flat_map(|partition| &partition.copies);
    copies.by_ref().map(|copy| copy.from.clone()).collect()
}

/// What a command asks of the plan.
#[derive(Debug, Clone)]
pub(super) struct LoadOptions {
    /// Where computed blocks are kept.
    pub(super) cache: Arc<BlockCache>,
    /// Whether what cannot be read is left out with a warning.
    pub(super) skip_unreadable: bool,
    /// Where the images will be.
    pub(super) mountpoint: Option<PathBuf>,
    /// Whether somebody at the terminal waits for it.
    pub(super) is_awaited: bool,
    /// Whether `trusted.*` attributes could be read at first, if that may have been given up since.
    pub(super) may_read_trusted: Option<bool>,
}

impl LoadOptions {
    /// For a command without `--cache-size`.
    pub(super) fn usual(skip_unreadable: bool) -> Self {
        let cache_size = parse_size(CACHE_SIZE_DEFAULT).expect("the default is well-formed");
        Self {
            cache: Arc::new(BlockCache::new(cache_size)),
            skip_unreadable,
            mountpoint: None,
            is_awaited: true,
            may_read_trusted: None,
        }
    }
}

/// Reads and plans `config`.
///
/// # Errors
/// All that is wrong with the config or its sources.
pub(super) fn load(config: &Path, asked: &LoadOptions) -> Result<LoadedPlan, CliError> {
    plan(read(config)?, asked, &mut PlanMemory::forgetful())
}

/// Reads `config`.
///
/// # Errors
/// The first mistake.
pub(super) fn read(config: &Path) -> Result<Loaded, CliError> {
    config::load(config).map_err(|error| {
        let hint = error.hint();
        with_optional_hint(CliError::from_error(ErrorKind::Config, &error), hint)
    })
}

/// Plans what a config says; what `memory` has is not read again.
///
/// # Errors
/// All that is wrong with its sources.
pub(super) fn plan(
    loaded: Loaded,
    asked: &LoadOptions,
    memory: &mut PlanMemory,
) -> Result<LoadedPlan, CliError> {
    let Loaded {
        spec,
        warnings,
        files,
        paths: _,
        directories: _,
    } = loaded;
    let progress = Arc::new(ScanProgress::new());
    let mut all: Vec<Warning> = Vec::new();
    let cache_directory = cache_directory().filter(|directory| {
        let hidden = hidden_by(directory, &spec, asked.mountpoint.as_deref());
        let takes_work = spec.images.iter().any(|image| image.format.takes_work());
        all.extend(hidden.as_ref().filter(|_| takes_work).map(|place| Warning {
            message: format!(
                "{}: lies inside {}, so that nothing is kept there for the next time",
                directory.display(),
                place.display()
            ),
            hint: Some("let XDG_CACHE_HOME name a directory elsewhere".to_owned()),
        }));
        hidden.is_none()
    });
    let options = PlanOptions {
        cache: Arc::clone(&asked.cache),
        config_mtime: newest_mtime(&files),
        skip_unreadable: asked.skip_unreadable,
        mountpoint: asked.mountpoint.clone(),
        cache_directory,
        progress: Some(Arc::clone(&progress)),
    };
    let mut work = || generation::replan(&spec, &options, memory);
    let planned = if asked.is_awaited {
        progress::shown(&progress, work)
    } else {
        work()
    };
    let planned = planned.map_err(|errors| to_cli_error(&errors))?;
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

/// The first of `places` that a file at `path` would lie in or below; none if its directory is not there, which writing it
/// tells better.
pub(super) fn place_around<'a>(
    path: &Path,
    mut places: impl Iterator<Item = &'a Path>,
) -> Option<&'a Path> {
    let parent = path.parent();
    let directory = parent.filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).canonicalize().ok()?;
    places.find(|place| {
        place
            .canonicalize()
            .is_ok_and(|place| directory.starts_with(place))
    })
}

/// Where indexes are kept: `$XDG_CACHE_HOME/miragefs`, without that variable /var/cache for root and `~/.cache` for others;
/// `None` if there is no home.
fn cache_directory() -> Option<PathBuf> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CACHE_HOME").or_else(|| {
        if rustix::process::geteuid().is_root() {
            return Some(PathBuf::from("/var/cache"));
        }
        Some(absolute("HOME")?.join(".cache"))
    })?;
    Some(base.join("miragefs"))
}

/// That directory, made if it is missing; `None` if it lies inside one of `places`.
pub(super) fn made_cache_directory<'a>(
    mut places: impl Iterator<Item = &'a Path>,
) -> Option<PathBuf> {
    let directory = cache_directory()?;
    let there = directory
        .ancestors()
        .find_map(|path| path.canonicalize().ok())?;
    if places.any(|place| there.starts_with(place)) {
        return None;
    }
    // Without it nothing is kept, which whoever keeps something will tell.
    let mut builder = std::fs::DirBuilder::new();
    drop(builder.recursive(true).mode(0o700).create(&directory));
    Some(directory)
}

/// Whether a config wants `trusted.*` attributes of its sources.
pub(super) fn wants_trusted(spec: &Spec) -> bool {
    let mut copies = spec
        .partitions
        .iter()
        .flat_map(|partition| &partition.copies);
    copies.any(CopySpec::wants_trusted)
}

/// Whether this thread may read `trusted.*` attributes: without that they are not even listed.
pub(super) fn may_read_trusted() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// The mount point or the source that `directory` lies in. The mount would hide what is kept, and a source would change
/// while it is read.
fn hidden_by(directory: &Path, spec: &Spec, mountpoint: Option<&Path>) -> Option<PathBuf> {
    // It need not be there yet.
    let there = directory
        .ancestors()
        .find_map(|path| path.canonicalize().ok())?;
    let sources = spec
        .partitions
        .iter()
        .flat_map(|partition| &partition.copies)
        .map(|copy| copy.from.as_path());
    mountpoint
        .into_iter()
        .chain(sources)
        .find(|place| there.starts_with(place))
        .map(Path::to_path_buf)
}

/// The first error, with the others behind it.
fn to_cli_error(errors: &PlanErrors) -> CliError {
    let mut all = errors.errors().iter().map(|error| {
        with_optional_hint(CliError::from_error(ErrorKind::Config, error), error.hint())
    });
    let first = all.next().expect("a plan that failed has an error");
    first.with_others(all.collect(), errors.more())
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
