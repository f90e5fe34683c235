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

use fuser::{Config, Session, SessionACL};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::adapter::Adapter;
use super::connection;
use super::mountpoint::{
    self, Device, FILE_SYSTEM_NAME, MountpointError, UnmountError, check_mountpoint, find_mount,
};
use super::pending::{self, PreparationFailed};
use super::view::{Owner, View};
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
    /// Worker threads, at least 1; `None` is one per CPU, within 2 to 8.
    pub threads: Option<usize>,
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

/// A mount that is being served.
pub struct Mounted {
    view: Arc<View>,
    path: PathBuf,
    device: Device,
    session: Workers,
}

impl Mounted {
    /// Mounts the images of `generation` and serves them on threads of their own. When it returns, the images can be
    /// read.
    ///
    /// # Errors
    /// [`MountError::Mountpoint`] and [`MountError::Refused`].
    pub fn new(generation: &Generation, options: &MountOptions) -> Result<Self, MountError> {
        let path = check_mountpoint(&options.mountpoint, &options.source_directories)?;
        let refused = |source| MountError::Refused {
            path: path.clone(),
            source,
        };
        let owner = Owner {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        };
        let view = Arc::new(View::new(generation, owner));
        let device_fd =
            connection::open(&path, options.source_name(), options.allow_other).map_err(refused)?;
        match start(Adapter::new(Arc::clone(&view)), device_fd, &path, options) {
            Ok((device, session)) => Ok(Self {
                view,
                path,
                device,
                session,
            }),
            Err(source) => {
                drop(mountpoint::detach(&path));
                Err(MountError::Refused { path, source })
            }
        }
    }

    /// The mount point without symlinks.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the name away; files that are open are served until they are closed. Does nothing if the mount is gone.
    ///
    /// # Errors
    /// [`UnmountError`], if the mount table cannot be read or the kernel refused.
    pub fn detach(&self) -> Result<(), UnmountError> {
        detach_device(&self.path, self.device)
    }

    /// Waits until the last reader is gone after the mount was taken away, by us or by others.
    ///
    /// # Errors
    /// [`MountError::Session`] if the connection to the kernel broke; the mount is gone then too.
    pub fn wait(self) -> Result<(), MountError> {
        let Self {
            view: _,
            path,
            device,
            session,
        } = self;
        let Err(source) = join(session) else {
            // The kernel has let go of it. Its device number may be another mount's by now, on the same path even, so
            // nothing may be taken away any more.
            return Ok(());
        };
        // After a failure the mount may still be there, served by nobody.
        detach_device(&path, device)?;
        Err(MountError::Session { path, source })
    }
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

fn detach_device(path: &Path, device: Device) -> Result<(), UnmountError> {
    let mount = find_mount(path).map_err(|source| UnmountError::Host {
        path: path.to_path_buf(),
        source,
    })?;
    match mount {
        Some(mount) if mount.device == device => mountpoint::detach(path),
        _ => Ok(()),
    }
}

/// Shakes hands with the kernel and starts the workers.
fn start(
    adapter: Adapter,
    device_fd: OwnedFd,
    path: &Path,
    options: &MountOptions,
) -> io::Result<(Device, Workers)> {
    let acl = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    let mut config = Config::default();
    config.n_threads = Some(options.threads.unwrap_or_else(default_threads).max(1));
    let session = Session::from_fd(adapter, device_fd, acl, config)?;
    let mount = find_mount(path)?.ok_or_else(|| io::Error::other("the mount vanished at once"))?;
    if let Err(error) = mountpoint::raise_read_ahead(mount.device, READ_AHEAD_KIB) {
        tracing::debug!("{}: read-ahead stays as it is: {error}", path.display());
    }
    let thread = thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || session.run())?;
    Ok((mount.device, thread))
}

/// One worker per CPU: at least two, so that one slow read does not stop all others.
fn default_threads() -> usize {
    thread::available_parallelism().map_or(2, |count| count.get().clamp(2, 8))
}

/// What ends a served mount.
enum Event {
    Signal(i32),
    Prepared(Result<(), PreparationFailed>),
    Ended(Result<(), MountError>),
}

/// Mounts `generation`, calls `on_ready` once the images can be read, and serves until the mount is gone.
///
/// SIGTERM and SIGINT take the name away; open files are served until the last is closed. A second one ends at once.
///
/// # Errors
/// [`MountError`]; the mount is gone in every case.
pub fn run(
    generation: &Generation,
    options: &MountOptions,
    on_ready: impl FnOnce() -> io::Result<()>,
) -> Result<(), MountError> {
    let (sender, events) = mpsc::channel();
    // Installed before the mount exists, so that no signal can leave it behind.
    let signals = forward_signals(sender.clone()).map_err(MountError::Signals)?;
    let mounted = Mounted::new(generation, options)?;
    let (path, device) = (mounted.path.clone(), mounted.device);
    let view = Arc::clone(&mounted.view);
    let waiter = {
        let sender = sender.clone();
        thread::spawn(move || {
            // The receiver may be gone after a second signal.
            drop(sender.send(Event::Ended(mounted.wait())));
        })
    };
    prepare_in_background(view, generation, sender);
    let mut serving = Serving {
        path: &path,
        device,
        generation,
        detached: false,
        on_ready: Some(on_ready),
    };
    if !options.wait || generation.pending.is_empty() {
        serving.ready()?;
    }
    let result = serving.until_the_end(&events);
    for pending in &generation.pending {
        pending.progress().stop();
    }
    if result? == End::Abandoned {
        return Ok(());
    }
    signals.close();
    // It sent its result and is about to end.
    drop(waiter.join());
    tracing::info!("{}: unmounted", path.display());
    Ok(())
}

/// How serving came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The last reader is gone.
    Served,
    /// Readers there may be get no more answers.
    Abandoned,
}

/// Not waited for: it may be in the middle of a file that a dead host serves.
fn prepare_in_background(view: Arc<View>, generation: &Generation, sender: Sender<Event>) {
    let pending = generation.pending.clone();
    if pending.is_empty() {
        return;
    }
    let events = sender.clone();
    let images = pending.clone();
    let shown = Arc::clone(&view);
    let spawned = thread::Builder::new()
        .name("prepare".to_owned())
        .spawn(move || {
            let result = pending::prepare_all(&shown, &images);
            drop(events.send(Event::Prepared(result)));
        });
    if let Err(error) = spawned {
        let failed = pending::give_up_all(&view, &pending, &error);
        drop(sender.send(Event::Prepared(failed)));
    }
}

/// A mount between its first request and its last.
struct Serving<'a, R> {
    path: &'a Path,
    device: Device,
    generation: &'a Generation,
    detached: bool,
    /// Until the mount is ready.
    on_ready: Option<R>,
}

impl<R: FnOnce() -> io::Result<()>> Serving<'_, R> {
    /// Tells whoever waits that the images can be read.
    fn ready(&mut self) -> Result<(), MountError> {
        let Some(on_ready) = self.on_ready.take() else {
            return Ok(());
        };
        let told = on_ready();
        tracing::info!("{}: mounted", self.path.display());
        if let Err(source) = told {
            detach_device(self.path, self.device)?;
            return Err(MountError::Ready {
                path: self.path.to_path_buf(),
                source,
            });
        }
        Ok(())
    }

    fn until_the_end(&mut self, events: &Receiver<Event>) -> Result<End, MountError> {
        loop {
            match events.recv() {
                Ok(Event::Ended(result)) if self.on_ready.is_some() => {
                    let path = self.path.to_path_buf();
                    return result.and(Err(MountError::Interrupted { path }));
                }
                Ok(Event::Ended(result)) => return result.map(|()| End::Served),
                Ok(Event::Prepared(_)) if self.detached => {}
                Ok(Event::Prepared(Ok(()))) => self.ready()?,
                Ok(Event::Prepared(Err(error))) if self.on_ready.is_some() => {
                    detach_device(self.path, self.device)?;
                    return Err(error.into());
                }
                // It was in the log.
                Ok(Event::Prepared(Err(_))) => {}
                Ok(Event::Signal(SIGHUP)) => {
                    tracing::warn!("SIGHUP: reloading is not available in this build");
                }
                Ok(Event::Signal(_)) if self.detached && self.on_ready.is_some() => {
                    let path = self.path.to_path_buf();
                    return Err(MountError::Interrupted { path });
                }
                Ok(Event::Signal(signal)) if self.detached => {
                    tracing::warn!("signal {signal} again: open files are abandoned");
                    return Ok(End::Abandoned);
                }
                Ok(Event::Signal(signal)) => {
                    tracing::info!("signal {signal}: unmounting {}", self.path.display());
                    for pending in &self.generation.pending {
                        pending.progress().stop();
                    }
                    detach_device(self.path, self.device)?;
                    self.detached = true;
                }
                Err(_) => return Ok(End::Served),
            }
        }
    }
}

fn forward_signals(sender: Sender<Event>) -> io::Result<Handle> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
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
