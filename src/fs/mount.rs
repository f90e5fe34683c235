//! A mount from its first request to its last.
//!
//! Invariant: the mount is taken away by us, lazily, and only while it is still ours.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::adapter::Adapter;
use super::confine::{Confined, Confinement};
use super::connection;
use super::edition::Planner;
use super::keepers::{self, Forget, Keepers, Machine, Machines};
use super::mountpoint::{
    self, Device, FILE_SYSTEM_NAME, MountpointError, UnmountError, check_mountpoint, find_mount,
};
use super::pending::PreparationFailed;
use super::shelf::Work;
use super::unmounter::Unmounter;
use super::view::{Owner, Surroundings, View};
use crate::synth::generation::Generation;

/// Read-ahead that hides the latency of disks, in KiB.
const READ_AHEAD_KIB: u32 = 4096;

/// Ends with the last worker.
type Workers = JoinHandle<io::Result<()>>;

/// What to mount where.
#[derive(Debug, Clone, Default)]
pub struct MountOptions {
    /// An empty directory.
    pub mountpoint: PathBuf,
    /// What tables of mounts show as the source; empty for `miragefs`.
    pub source_name: OsString,
    /// The directories that images read from; none may lie below the mount point, nor the reverse.
    pub source_directories: Vec<PathBuf>,
    /// Whether other users may read the images.
    pub allow_other: bool,
    /// Whether the mount is ready only once every image can be read.
    pub wait: bool,
    /// Whether reads pass the kernel's page cache.
    pub direct: bool,
    /// Reads that are worked on at once, at least 1, one more worker answers the rest; `None` is one per CPU, within 2 to 8.
    pub threads: Option<usize>,
    /// What the process gives up once it is mounted; `None` for nothing.
    pub confinement: Option<Confinement>,
}

impl MountOptions {
    fn source_name(&self) -> &OsStr {
        if self.source_name.is_empty() {
            OsStr::new(FILE_SYSTEM_NAME)
        } else {
            &self.source_name
        }
    }
}

/// Why a mount could not be made or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mount point is not fit.
    #[error(transparent)]
    Mountpoint(#[from] MountpointError),
    /// The kernel, or fusermount3, refused.
    #[error("{}: cannot be mounted", path.display())]
    Refused {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The mount could not be taken away.
    #[error(transparent)]
    Unmount(#[from] UnmountError),
    /// The connection to the kernel broke.
    #[error("{}: the FUSE connection failed", path.display())]
    Session {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An image that was waited for cannot be had.
    #[error(transparent)]
    Preparation(#[from] PreparationFailed),
    /// It was asked to end before it was ready.
    #[error("{}: was unmounted before all images were ready", path.display())]
    Interrupted {
        /// The mount point.
        path: PathBuf,
    },
    /// What is to be given up cannot be.
    #[error("{}: the daemon cannot be confined", path.display())]
    Confinement {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Signals cannot be received.
    #[error("signal handlers cannot be installed")]
    Signals(#[source] io::Error),
    /// Whoever waits for the mount could not be told.
    #[error("{}: nobody waits for the mount any more", path.display())]
    Ready {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is mounted.
pub enum Exhibits {
    /// The images of one config.
    One(Machine),
    /// Those of any number of configs, each below a directory of its own.
    Many {
        /// Those that there are.
        machines: Vec<Machine>,
        /// Where they come from.
        directory: Box<dyn Machines>,
    },
}

impl Exhibits {
    /// The view that shows them, still without images.
    fn view(&self, owner: Owner, surroundings: Surroundings) -> View {
        match self {
            Self::One(machine) => View::of_one(owner, machine.config.clone(), surroundings),
            Self::Many { .. } => View::of_many(owner, surroundings),
        }
    }

    fn into_parts(self) -> (Vec<Machine>, Option<Box<dyn Machines>>) {
        match self {
            Self::One(machine) => (vec![machine], None),
            Self::Many {
                machines,
                directory,
            } => (machines, Some(directory)),
        }
    }
}

/// A mount that is being served.
pub struct Mounted {
    place: Arc<Place>,
    session: Workers,
}

/// Where a mount is, and who may take it away.
struct Place {
    path: PathBuf,
    device: Device,
    unmounter: Unmounter,
    /// What the process gave up.
    confined: Option<Confined>,
}

impl Place {
    /// Whoever mounts is told of it in the log, and not at the terminal.
    fn log_confinement(&self) {
        let path = self.path.display();
        match &self.confined {
            Some(confined) if confined.is_read_only() => {
                tracing::info!("{path}: confined: {confined}");
            }
            Some(confined) => tracing::warn!("{path}: confined only in part: {confined}"),
            None => {}
        }
    }

    fn detach(&self) -> Result<(), UnmountError> {
        self.unmounter.detach(&self.path, self.device)
    }
}

/// Tells the kernel of a session what to forget.
struct Kernel(Notifier);

impl Forget for Kernel {
    fn name(&self, directory: u64, name: &OsStr) {
        if let Err(error) = self.0.inval_entry(INodeNo(directory), name) {
            tracing::debug!("{}: the kernel does not forget it: {error}", name.display());
        }
    }

    fn attributes(&self, inode: u64) {
        // A negative offset means the attributes alone.
        if let Err(error) = self.0.inval_inode(INodeNo(inode), -1, 0) {
            tracing::debug!("inode {inode}: the kernel does not forget it: {error}");
        }
    }
}

impl Mounted {
    /// Mounts the images of `generation`, for ever as they are, and serves them on threads of their own. When it
    /// returns, the images can be read.
    ///
    /// # Errors
    /// [`MountError::Mountpoint`] and [`MountError::Refused`].
    pub fn new(generation: &Generation, options: &MountOptions) -> Result<Self, MountError> {
        let view = View::new(generation.clone(), owner());
        Self::serve(&Arc::new(view), options).map(|(mounted, _)| mounted)
    }

    fn serve(view: &Arc<View>, options: &MountOptions) -> Result<(Self, Kernel), MountError> {
        let path = check_mountpoint(&options.mountpoint, &options.source_directories)?;
        let refused = |source| MountError::Refused {
            path: path.clone(),
            source,
        };
        let unmounter = start_unmounter(&path, options.confinement.as_ref())?;
        let device_fd =
            connection::open(&path, options.source_name(), options.allow_other).map_err(refused)?;
        let readers = options.threads.unwrap_or_else(default_threads).max(1);
        let adapter = Adapter::new(Arc::clone(view), options.direct, readers);
        let workers = readers.saturating_add(1);
        let started = shake_hands(adapter, device_fd, &path, options.allow_other, workers)
            .map_err(refused)
            .and_then(|(device, session)| {
                unmounter.wait_until_ready().map_err(refused)?;
                let confined = confine(&path, options.confinement.as_ref())?;
                let kernel = Kernel(session.notifier());
                let thread = thread::Builder::new()
                    .name("fuse".to_owned())
                    .spawn(move || session.run())
                    .map_err(refused)?;
                Ok((device, confined, thread, kernel))
            });
        match started {
            Ok((device, confined, session, kernel)) => {
                let place = Arc::new(Place {
                    path,
                    device,
                    unmounter,
                    confined,
                });
                Ok((Self { place, session }, kernel))
            }
            Err(error) => {
                if let Ok(Some(mount)) = find_mount(&path) {
                    drop(unmounter.detach(&path, mount.device));
                }
                Err(error)
            }
        }
    }

    /// The mount point without symlinks.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Takes the name away; files that are open are served until they are closed. Does nothing if the mount is gone.
    ///
    /// # Errors
    /// [`UnmountError`], if the mount table cannot be read or the kernel refused.
    pub fn detach(&self) -> Result<(), UnmountError> {
        self.place.detach()
    }

    /// Waits until the last reader is gone after the mount was taken away, by us or by others.
    ///
    /// # Errors
    /// [`MountError::Session`] if the connection to the kernel broke; the mount is gone then too.
    pub fn wait(self) -> Result<(), MountError> {
        let Self { place, session } = self;
        let Err(source) = join(session) else {
            // The kernel has let go of it. Its device number may be another mount's by now, on the same path even, so
            // nothing may be taken away any more.
            return Ok(());
        };
        // After a failure the mount may still be there, served by nobody.
        place.detach()?;
        let path = place.path.clone();
        Err(MountError::Session { path, source })
    }
}

/// The process that takes the mount away later, if this one will not be allowed to.
fn start_unmounter(
    path: &Path,
    confinement: Option<&Confinement>,
) -> Result<Unmounter, MountError> {
    let Some(confinement) = confinement else {
        return Ok(Unmounter::Ourselves);
    };
    Unmounter::start(&confinement.unmounter).map_err(|source| MountError::Confinement {
        path: path.to_path_buf(),
        source,
    })
}

fn confine(path: &Path, confinement: Option<&Confinement>) -> Result<Option<Confined>, MountError> {
    let confined = confinement.map(Confinement::apply).transpose();
    confined.map_err(|source| MountError::Confinement {
        path: path.to_path_buf(),
        source,
    })
}

fn join(session: Workers) -> io::Result<()> {
    match session.join() {
        // fuser takes only ENODEV for the end, but a worker that was just being handed a request when the last file
        // was closed gets this.
        Ok(Err(error)) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(()),
        Ok(result) => result,
        Err(_) => Err(io::Error::other("the session's thread panicked")),
    }
}

/// Shakes hands with the kernel; no worker runs yet.
fn shake_hands(
    adapter: Adapter,
    device_fd: OwnedFd,
    path: &Path,
    allow_other: bool,
    workers: usize,
) -> io::Result<(Device, Session<Adapter>)> {
    let acl = if allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    let mut config = Config::default();
    config.n_threads = Some(workers);
    let session = Session::from_fd(adapter, device_fd, acl, config)?;
    let mount = find_mount(path)?.ok_or_else(|| io::Error::other("the mount vanished at once"))?;
    if let Err(error) = mountpoint::raise_read_ahead(mount.device, READ_AHEAD_KIB) {
        tracing::debug!("{}: read-ahead stays as it is: {error}", path.display());
    }
    Ok((mount.device, session))
}

/// Reads at once: one per CPU, at least two, so that one slow read does not stop all others.
fn default_threads() -> usize {
    thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8))
}

/// What ends a served mount.
enum Event {
    Signal(i32),
    Prepared(Result<(), PreparationFailed>),
    Ended(Result<(), MountError>),
}

/// Mounts `exhibits`, calls `on_ready` once the images can be read, and serves them, renewed when config or sources
/// change, until the mount is gone.
///
/// SIGTERM and SIGINT take the name away; open files are served until the last is closed. A second one ends at once.
/// SIGHUP has everything looked at again.
///
/// # Errors
/// [`MountError`]; the mount is gone in every case.
pub fn run(
    exhibits: Exhibits,
    options: &MountOptions,
    surroundings: Surroundings,
    on_ready: impl FnOnce() -> io::Result<()>,
) -> Result<(), MountError> {
    let (sender, events) = mpsc::channel();
    // Installed before the mount exists, so that no signal can leave it behind.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(MountError::Signals)?;
    let view = Arc::new(exhibits.view(owner(), surroundings));
    let (machines, directory) = exhibits.into_parts();
    let shown: Vec<_> = machines
        .into_iter()
        .map(|machine| {
            if directory.is_some() {
                view.add_shelf(&machine.name, &machine.config);
            }
            let work = keepers::show_first(&view, &machine.name, machine.edition);
            (machine.name, machine.planner, work)
        })
        .collect();
    let (mounted, kernel) = Mounted::serve(&view, options)?;
    let place = Arc::clone(&mounted.place);
    // On a thread that is confined like all others.
    let signals = forward_signals(signals, sender.clone()).map_err(MountError::Signals)?;
    let waiter = {
        let sender = sender.clone();
        thread::spawn(move || {
            // The receiver may be gone after a second signal.
            drop(sender.send(Event::Ended(mounted.wait())));
        })
    };
    let keepers = Keepers::new(view, Arc::new(kernel), options.wait);
    let mut serving = Serving {
        place: &place,
        keepers: &keepers,
        detached: false,
        preparing: 0,
        on_ready: Some(on_ready),
    };
    serving.keep(shown, directory, &sender)?;
    if !options.wait || serving.preparing == 0 {
        serving.ready()?;
    }
    let result = serving.until_the_end(&events);
    keepers.stop();
    if result? == End::Abandoned {
        return Ok(());
    }
    signals.close();
    // It sent its result and is about to end.
    drop(waiter.join());
    tracing::info!("{}: unmounted", place.path.display());
    Ok(())
}

/// Whoever mounts owns the files.
fn owner() -> Owner {
    Owner {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    }
}

/// How serving came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The last reader is gone.
    Served,
    /// Readers there may be get no more answers.
    Abandoned,
}

/// A mount between its first request and its last.
struct Serving<'a, R> {
    place: &'a Place,
    keepers: &'a Keepers,
    detached: bool,
    /// Configs whose first images are being prepared.
    preparing: usize,
    /// Until the mount is ready.
    on_ready: Option<R>,
}

impl<R: FnOnce() -> io::Result<()>> Serving<'_, R> {
    /// Has every config kept; what cannot be is taken back.
    fn keep(
        &mut self,
        shown: Vec<(String, Box<dyn Planner>, Option<Work>)>,
        directory: Option<Box<dyn Machines>>,
        sender: &Sender<Event>,
    ) -> Result<(), MountError> {
        let mut kept = Ok(());
        for (name, planner, work) in shown {
            let sender = sender.clone();
            let prepares = work.as_ref().is_some_and(|work| !work.new.is_empty());
            self.preparing = self.preparing.saturating_add(prepares.into());
            let on_prepared = Box::new(move |result| {
                if prepares {
                    drop(sender.send(Event::Prepared(result)));
                }
            });
            kept = kept.and(self.keepers.start(&name, planner, work, on_prepared));
        }
        if let Some(directory) = directory {
            kept = kept.and(self.keepers.oversee(directory));
        }
        if let Err(source) = kept {
            self.place.detach()?;
            let path = self.place.path.clone();
            return Err(MountError::Refused { path, source });
        }
        Ok(())
    }

    /// Tells whoever waits that the images can be read.
    fn ready(&mut self) -> Result<(), MountError> {
        let Some(on_ready) = self.on_ready.take() else {
            return Ok(());
        };
        let told = on_ready();
        tracing::info!("{}: mounted", self.place.path.display());
        self.place.log_confinement();
        if let Err(source) = told {
            self.place.detach()?;
            return Err(MountError::Ready {
                path: self.place.path.clone(),
                source,
            });
        }
        Ok(())
    }

    fn until_the_end(&mut self, events: &Receiver<Event>) -> Result<End, MountError> {
        loop {
            match events.recv() {
                Ok(Event::Ended(result)) if self.on_ready.is_some() => {
                    let path = self.place.path.clone();
                    return result.and(Err(MountError::Interrupted { path }));
                }
                Ok(Event::Ended(result)) => return result.map(|()| End::Served),
                Ok(Event::Prepared(_)) if self.detached => {}
                Ok(Event::Prepared(Ok(()))) => {
                    self.preparing = self.preparing.saturating_sub(1);
                    if self.preparing == 0 {
                        self.ready()?;
                    }
                }
                Ok(Event::Prepared(Err(error))) if self.on_ready.is_some() => {
                    self.place.detach()?;
                    return Err(error.into());
                }
                // It was in the log.
                Ok(Event::Prepared(Err(_))) => {}
                Ok(Event::Signal(SIGHUP)) => {
                    tracing::info!("SIGHUP: looking at config and sources again");
                    self.keepers.reload_all();
                }
                Ok(Event::Signal(_)) if self.detached && self.on_ready.is_some() => {
                    let path = self.place.path.clone();
                    return Err(MountError::Interrupted { path });
                }
                Ok(Event::Signal(signal)) if self.detached => {
                    tracing::warn!("signal {signal} again: open files are abandoned");
                    return Ok(End::Abandoned);
                }
                Ok(Event::Signal(signal)) => {
                    tracing::info!("signal {signal}: unmounting {}", self.place.path.display());
                    self.keepers.stop();
                    self.place.detach()?;
                    self.detached = true;
                }
                Err(_) => return Ok(End::Served),
            }
        }
    }
}

fn forward_signals(mut signals: Signals, sender: Sender<Event>) -> io::Result<Handle> {
    let handle = signals.handle();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in &mut signals {
                if sender.send(Event::Signal(signal)).is_err() {
                    break;
                }
            }
        })?;
    Ok(handle)
}
