//! `miragefs mount`, and the same as mount(8) asks for it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::CacheMode;
use super::error::{CliError, ErrorKind};
use super::image;
use super::load::{self, LoadOptions, LoadedPlan};
use super::log::Log;
use super::output::{self, Warning};
use super::planner::{ConfigDirectory, ConfigPlanner};
use crate::fs::confine::Confinement;
use crate::fs::keepers::Machine;
use crate::fs::mount::{self, Exhibits, MountError, MountOptions};
use crate::fs::mountpoint::MountpointError;
use crate::fs::view::{self, Surroundings};
use crate::synth::cache::BlockCache;

mod plan;

pub use plan::MountPlan;

/// What a background mount writes to its parent once the images can be read.
const READY: &str = "ready\n";

/// Mounts as `plan` says and returns the exit code: of the whole mount in the foreground, of its start otherwise.
///
/// # Errors
/// Config, mount point, FUSE.
pub(super) fn mount(plan: &MountPlan) -> Result<u8, CliError> {
    if plan.foreground {
        serve(plan).map(|()| 0)
    } else {
        start_in_background(plan)
    }
}

fn serve(plan: &MountPlan) -> Result<(), CliError> {
    let asked = LoadOptions {
        cache: Arc::new(BlockCache::new(plan.cache_size)),
        skip_unreadable: plan.skip_unreadable,
        // One that is not there is found out later, with a better message.
        mountpoint: plan.mountpoint.canonicalize().ok(),
        is_awaited: false,
        may_read_trusted: Some(load::may_read_trusted()),
    };
    let Loaded {
        exhibits,
        mut warnings,
        found,
    } = load(&plan.config, &asked)?;
    if let Some(log) = &plan.log {
        check_log(log, &plan.mountpoint, &found.sources)?;
    }
    let log = Log::start(plan.log.as_deref())?;
    if plan.readiness_pipe {
        // It fails only for a process that leads a session already, which is as good.
        if let Err(error) = rustix::process::setsid() {
            tracing::debug!("no session of its own: {error}");
        }
        // Whoever gives up waiting ends this as well.
        if let Err(error) =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        {
            tracing::debug!("the end of the parent will not be noticed: {error}");
        }
    }
    warnings.extend(closed_files(plan, &found));
    output::warn(&warnings);
    let options = MountOptions {
        mountpoint: plan.mountpoint.clone(),
        source_name: std::path::absolute(&plan.config).unwrap_or_default().into(),
        source_directories: found.sources.clone(),
        allow_other: plan.allow_other,
        wait: plan.wait,
        direct: plan.cache == CacheMode::Direct,
        threads: plan.threads,
        confinement: Some(confinement(&asked, &found)?),
    };
    let surroundings = Surroundings {
        log: log.tail(),
        cache: Some(asked.cache),
        mountpoint: asked.mountpoint.unwrap_or_default(),
        file_mode: plan.file_mode,
    };
    let on_ready = || {
        if plan.readiness_pipe {
            announce(&log)
        } else {
            Ok(())
        }
    };
    mount::run(exhibits, &options, surroundings, on_ready).map_err(|error| to_cli_error(&error))
}

/// What is to be mounted, planned.
struct Loaded {
    exhibits: Exhibits,
    warnings: Vec<Warning>,
    found: Found,
}

/// What the plans of all configs read.
#[derive(Debug, Default)]
struct Found {
    sources: Vec<PathBuf>,
    /// Source files that some users of the host may not read.
    closed_files: u64,
    /// Whether `trusted.*` attributes are among what is wanted.
    trusted: bool,
}

impl Found {
    fn add(&mut self, loaded: &LoadedPlan) {
        self.sources.extend(loaded.sources());
        let file_systems = loaded.planned.file_systems.iter().flatten();
        let closed: u64 = file_systems.map(|one| one.closed_file_count()).sum();
        self.closed_files = self.closed_files.saturating_add(closed);
        self.trusted |= load::wants_trusted(&loaded.spec);
    }
}

/// Whoever reads an image reads the sources with the daemon's rights.
fn closed_files(plan: &MountPlan, found: &Found) -> Option<Warning> {
    let is_open = plan.allow_other && plan.file_mode.bits() & 0o044 != 0;
    (is_open && found.closed_files > 0).then(|| Warning {
        message: format!(
            "{} source files are not readable by all users of this host, but become so through the images",
            found.closed_files
        ),
        hint: Some(
            "mount without --allow-other, or with --file-mode=0440 for the group alone".to_owned(),
        ),
    })
}

/// What the daemon gives up once it is mounted.
fn confinement(asked: &LoadOptions, found: &Found) -> Result<Confinement, CliError> {
    let program = std::env::current_exe().map_err(|source| {
        CliError::new(ErrorKind::Runtime, "this program cannot be found again").with_source(source)
    })?;
    let places = asked.mountpoint.iter().chain(&found.sources);
    Ok(Confinement {
        unmounter: vec![program.into(), "unmounter".into()],
        writable: load::made_cache_directory(places.map(PathBuf::as_path))
            .into_iter()
            .collect(),
        reads_trusted: found.trusted,
    })
}

/// Plans the config, or every config of a directory. Of those, one with mistakes is a warning.
fn load(config: &Path, asked: &LoadOptions) -> Result<Loaded, CliError> {
    if !config.is_dir() {
        let mut planner = ConfigPlanner::new(config, asked.clone(), asked.mountpoint.clone());
        let (loaded, edition) = planner.first()?;
        let mut found = Found::default();
        found.add(&loaded);
        let machine = Machine {
            name: view::ONLY.to_owned(),
            config: std::path::absolute(config).unwrap_or_else(|_| config.to_path_buf()),
            planner: Box::new(planner),
            edition: Ok(edition),
        };
        return Ok(Loaded {
            exhibits: Exhibits::One(machine),
            warnings: loaded.warnings,
            found,
        });
    }
    let directory = ConfigDirectory::new(config, asked.clone());
    let planned = directory.machines().map_err(|error| {
        let message = format!(
            "{}: directory of configs cannot be listed",
            config.display()
        );
        CliError::new(ErrorKind::Config, message).with_source(error)
    })?;
    let mut machines = Vec::with_capacity(planned.len());
    let (mut warnings, mut found) = (Vec::new(), Found::default());
    for (machine, loaded) in planned {
        match loaded {
            Ok(loaded) => {
                found.add(&loaded);
                warnings.extend(loaded.warnings);
            }
            Err(error) => warnings.extend(error.all().map(|error| Warning {
                message: format!("{}: not shown: {error}", machine.name),
                hint: error.hint().map(str::to_owned),
            })),
        }
        machines.push(machine);
    }
    if machines.is_empty() {
        warnings.push(Warning {
            message: format!("{}: no configs (`*.toml`) in it", config.display()),
            hint: Some("each that is put there appears by itself".to_owned()),
        });
    }
    Ok(Loaded {
        exhibits: Exhibits::Many {
            machines,
            directory: Box::new(directory),
        },
        warnings,
        found,
    })
}

/// A log inside the mount point would be hidden, and one inside a source would become part of an image.
fn check_log(log: &Path, mountpoint: &Path, sources: &[PathBuf]) -> Result<(), CliError> {
    let places = std::iter::once(mountpoint).chain(sources.iter().map(PathBuf::as_path));
    let found = load::place_around(log, places);
    match found {
        None => Ok(()),
        Some(place) => {
            let message = format!("{}: log lies inside {}", log.display(), place.display());
            Err(CliError::new(ErrorKind::Usage, message).with_hint(
                "put it beside the mount point and the sources, into /var/log for example",
            ))
        }
    }
}

/// Tells the parent that the images can be read, and leaves its terminal and its directory.
fn announce(log: &Log) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(None)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(READY.as_bytes())?;
    stdout.flush()?;
    log.leave_terminal();
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    match log.file() {
        Some(file) => rustix::stdio::dup2_stderr(&file)?,
        None => rustix::stdio::dup2_stderr(&null)?,
    }
    std::env::set_current_dir("/")
}

/// Starts this program again, which serves the mount, and waits until it is ready or has failed. No fork: the
/// process has threads.
fn start_in_background(plan: &MountPlan) -> Result<u8, CliError> {
    let failed = |source: io::Error| {
        CliError::new(
            ErrorKind::Runtime,
            "the background process cannot be started",
        )
        .with_source(source)
    };
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(plan.background_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut line = String::new();
    if let Some(pipe) = child.stdout.take() {
        BufReader::new(pipe).read_line(&mut line).map_err(failed)?;
    }
    if line == READY {
        return Ok(0);
    }
    // It has said why on the stderr that we share.
    let status = child.wait().map_err(failed)?;
    match status.code().map(u8::try_from) {
        Some(Ok(code)) if code != 0 => Ok(code),
        _ => {
            let message = format!("the background process ended before it was ready ({status})");
            Err(CliError::new(ErrorKind::Runtime, message))
        }
    }
}

fn to_cli_error(error: &MountError) -> CliError {
    let kind = match error {
        MountError::Mountpoint(
            MountpointError::InsideSource { .. } | MountpointError::SourceBelow { .. },
        ) => ErrorKind::Config,
        _ => ErrorKind::Runtime,
    };
    let reported = CliError::from_error(kind, error);
    match hint(error) {
        Some(hint) => reported.with_hint(hint),
        None => reported,
    }
}

fn hint(error: &MountError) -> Option<String> {
    match error {
        MountError::Mountpoint(MountpointError::Missing(path)) => {
            Some(format!("create it: mkdir -p {}", path.display()))
        }
        MountError::Mountpoint(MountpointError::AlreadyMounted { path, ours, .. }) if *ours => {
            Some(format!("miragefs unmount {}", path.display()))
        }
        MountError::Mountpoint(
            MountpointError::AlreadyMounted { .. }
            | MountpointError::NotADirectory(_)
            | MountpointError::NotEmpty(_),
        ) => Some("choose an empty directory".to_owned()),
        MountError::Mountpoint(
            MountpointError::InsideSource { .. } | MountpointError::SourceBelow { .. },
        ) => Some("mount on a directory apart from all sources".to_owned()),
        MountError::Refused { source, .. } => refusal_hint(source),
        MountError::Preparation(failed) => Some(image::preparation_hint(&failed.source)),
        _ => None,
    }
}

fn refusal_hint(source: &io::Error) -> Option<String> {
    let text = source.to_string();
    if text.contains("user_allow_other") {
        return Some("let root add the line `user_allow_other` to /etc/fuse.conf".to_owned());
    }
    if text.contains("open /dev/fuse: Permission denied") {
        return Some("let root open it to all, as udev does: chmod 0666 /dev/fuse".to_owned());
    }
    if source.kind() != io::ErrorKind::NotFound {
        return None;
    }
    if Path::new("/dev/fuse").exists() {
        Some("ordinary users need fusermount3: install the package fuse3".to_owned())
    } else {
        Some("there is no /dev/fuse: load the module with `modprobe fuse`".to_owned())
    }
}
