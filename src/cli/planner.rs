//! A config over time, as the mount asks for it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::CliError;
use super::load::{self, LoadOptions, LoadedPlan};
use super::output::Warning;
use crate::config::spec::{BootCode, Spec};
use crate::config::{Loaded, resolved};
use crate::fs::edition::{Changes, Edition, Papers, Picture, Planner, Refusal, Watched};
use crate::fs::keepers::{Machine, Machines};
use crate::fs::mountpoint;
use crate::map::{self, Layout};
use crate::synth::generation::Pieces;
use crate::synth::memory::PlanMemory;

/// Reads and plans one config again and again.
pub(super) struct ConfigPlanner {
    config: PathBuf,
    options: LoadOptions,
    /// Where the mount is, which no source may contain or lie in.
    mountpoint: Option<PathBuf>,
    /// What the config said the last time.
    spec: Option<Spec>,
    watched: Watched,
    memory: PlanMemory,
    latest: Latest,
}

/// The pieces of what a planner planned last.
pub(super) type Latest = Arc<Mutex<Option<Pieces>>>;

impl ConfigPlanner {
    /// For the config at `config`, whose images will be at `options.mountpoint`, below `mountpoint` or the same.
    pub(super) fn new(config: &Path, options: LoadOptions, mountpoint: Option<PathBuf>) -> Self {
        let config = std::path::absolute(config).unwrap_or_else(|_| config.to_path_buf());
        Self {
            watched: Watched {
                names: vec![config.clone()],
                directories: Vec::new(),
            },
            config,
            options,
            mountpoint,
            spec: None,
            memory: PlanMemory::new(),
            latest: Latest::default(),
        }
    }

    /// Where the pieces of each plan are put.
    pub(super) fn latest(&self) -> Latest {
        Arc::clone(&self.latest)
    }

    /// The first edition, for somebody who waits for it at the terminal.
    ///
    /// # Errors
    /// As for every command.
    pub(super) fn first(&mut self) -> Result<(LoadedPlan, Edition), CliError> {
        let options = LoadOptions {
            is_awaited: true,
            ..self.options.clone()
        };
        let loaded = load::read(&self.config)?;
        self.note_names(&loaded);
        let planned = load::plan(loaded, &options, &mut self.memory)?;
        let edition = self.edition(&planned);
        Ok((planned, edition))
    }

    /// Takes note of what a config depends on besides its sources' contents.
    fn note_names(&mut self, loaded: &Loaded) {
        let spec = &loaded.spec;
        let boot_code = match &spec.disk.boot_code {
            BootCode::File(path) => Some(path.clone()),
            BootCode::None => None,
        };
        let mut names = vec![self.config.clone()];
        names.extend(loaded.files.iter().cloned());
        names.extend(loaded.paths.iter().cloned());
        names.extend(load::sources_of(spec));
        names.extend(boot_code);
        names.extend(spec.extlinux.clone());
        let copies = spec
            .partitions
            .iter()
            .flat_map(|partition| &partition.copies);
        names.extend(copies.filter_map(|copy| copy.owners.clone()));
        names.extend(spec.vm.template.as_ref().map(|one| one.path.clone()));
        self.watched.names = names;
        self.watched.directories.clone_from(&loaded.directories);
    }

    fn edition(&mut self, planned: &LoadedPlan) -> Edition {
        let is_edited = self.spec.as_ref() != Some(&planned.spec);
        self.spec = Some(planned.spec.clone());
        let pieces = Pieces::of(&planned.planned, &planned.spec.name);
        *self.latest.lock() = Some(pieces.clone());
        Edition {
            generation: planned.planned.generation.clone(),
            papers: Arc::new(PlanPapers {
                spec: planned.spec.clone(),
                pieces,
            }),
            warnings: planned.warnings.iter().map(line).collect(),
            is_edited,
        }
    }
}

fn line(warning: &Warning) -> String {
    match &warning.hint {
        Some(hint) => format!("{}; hint: {hint}", warning.message),
        None => warning.message.clone(),
    }
}

impl Planner for ConfigPlanner {
    fn plan(&mut self, changes: &Changes) -> Result<Edition, Refusal> {
        if changes.all {
            self.memory.look_again();
        }
        for path in &changes.paths {
            self.memory.forget(path);
        }
        let loaded = load::read(&self.config).map_err(|error| refusal(&error))?;
        self.note_names(&loaded);
        if let Some(mountpoint) = &self.mountpoint {
            for source in load::sources_of(&loaded.spec) {
                mountpoint::check_apart(mountpoint, &source).map_err(|error| Refusal {
                    errors: vec![error.to_string()],
                    hint: Some("take sources from directories apart from the mount".to_owned()),
                })?;
            }
        }
        if load::wants_trusted(&loaded.spec)
            && self.options.may_read_trusted == Some(true)
            && !load::may_read_trusted()
        {
            return Err(Refusal {
                errors: vec![
                    "xattrs: trusted.* is new, and this mount gave up the right to read it"
                        .to_owned(),
                ],
                hint: Some("unmount, and mount again".to_owned()),
            });
        }
        let planned =
            load::plan(loaded, &self.options, &mut self.memory).map_err(|error| refusal(&error))?;
        Ok(self.edition(&planned))
    }

    fn watched(&self) -> Watched {
        let mut directories = self.memory.directories();
        directories.extend(self.watched.directories.iter().cloned());
        directories.sort_unstable();
        directories.dedup();
        Watched {
            names: self.watched.names.clone(),
            directories,
        }
    }
}

/// An error as lines of the log and the status.
fn refusal(error: &CliError) -> Refusal {
    let line = |error: &CliError| {
        let causes = error.causes();
        causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
    };
    let mut errors: Vec<String> = error.all().map(line).collect();
    if error.more() > 0 {
        errors.push(format!("and {} more errors", error.more()));
    }
    Refusal {
        errors,
        hint: error.hint().map(str::to_owned),
    }
}

/// What can be read about a plan.
struct PlanPapers {
    spec: Spec,
    pieces: Pieces,
}

impl Papers for PlanPapers {
    fn config(&self) -> String {
        resolved(&self.spec)
    }

    fn picture(&self, picture: Picture, generation: u64) -> String {
        let layout = Layout::of(&self.pieces);
        match picture {
            Picture::Json => map::json(&layout, Some(generation)),
            Picture::Svg => map::svg(&layout, Some(generation)),
            Picture::Html => map::html(&layout, Some(generation)),
        }
    }
}

/// A directory with a config for each machine.
pub(super) struct ConfigDirectory {
    directory: PathBuf,
    options: LoadOptions,
}

impl ConfigDirectory {
    /// `directory` with its `*.toml`, to be shown below `options.mountpoint`.
    pub(super) fn new(directory: &Path, options: LoadOptions) -> Self {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf());
        Self { directory, options }
    }

    /// Plans the config of every machine; a mistake in one is no reason not to show the others.
    ///
    /// # Errors
    /// The host's, if the directory cannot be listed.
    pub(super) fn machines(&self) -> io::Result<Vec<(Machine, Result<LoadedPlan, CliError>)>> {
        let machines = self.list()?.into_iter().map(|(name, config)| {
            let mut planner = self.config_planner(&name, &config);
            let (loaded, edition) = match planner.first() {
                Ok((loaded, edition)) => (Ok(loaded), Ok(edition)),
                Err(error) => {
                    let refusal = refusal(&error);
                    (Err(error), Err(refusal))
                }
            };
            let machine = Machine {
                name,
                config,
                planner: Box::new(planner),
                edition,
            };
            (machine, loaded)
        });
        Ok(machines.collect())
    }

    fn config_planner(&self, name: &str, config: &Path) -> ConfigPlanner {
        let mountpoint = self.options.mountpoint.clone();
        let options = LoadOptions {
            mountpoint: mountpoint.as_ref().map(|root| root.join(name)),
            ..self.options.clone()
        };
        ConfigPlanner::new(config, options, mountpoint)
    }
}

impl Machines for ConfigDirectory {
    fn list(&self) -> io::Result<BTreeMap<String, PathBuf>> {
        let mut configs = BTreeMap::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(std::ffi::OsStr::to_str);
            let Some(stem) = stem.filter(|stem| !stem.starts_with(['.', '_'])) else {
                continue;
            };
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
                && !path.is_dir()
            {
                configs.insert(stem.to_owned(), path);
            }
        }
        Ok(configs)
    }

    fn planner(&self, name: &str, config: &Path) -> Box<dyn Planner> {
        Box::new(self.config_planner(name, config))
    }

    fn directory(&self) -> PathBuf {
        self.directory.clone()
    }
}
