//! One image as a real file, on a block device or into a pipe, without FUSE.
//!
//! Invariant: the name of a destination file never leads to half an image. The bytes go to a temporary name beside it,
//! which replaces it after fsync, or is removed.

mod copy;
mod destination;
mod device;
mod error;
mod mounts;
mod temporary;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub use self::error::ExportError;

use self::copy::{Sink, copy};
use self::destination::{Destination, Target};
use self::temporary::TemporaryFile;
use crate::synth::generation::Image;
use crate::synth::host_file::HostFile;
use crate::synth::source::{ByteSource, Origin};

/// What an export is allowed to do, and when it has to stop.
#[derive(Debug, Clone, Copy)]
pub struct ExportOptions<'a> {
    /// Whether a block device may be overwritten.
    pub force: bool,
    /// The directories and files that the image is made from: nothing is written there.
    pub sources: &'a [PathBuf],
    /// The export ends with [`ExportError::Cancelled`] soon after this became true. Writing to a pipe that is
    /// full waits regardless.
    pub cancel: &'a AtomicBool,
}

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes dealt with; holes that are left out count neither here nor in `total`.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Writes `image` to `destination` and returns the path that was written, as resolved.
///
/// A directory gets a file of the image's name. A regular file is replaced, through symlinks too, and keeps its mode;
/// a new one gets 0644 without the umask's bits. Known zeros become holes. A block device is overwritten from its first
/// byte on; what lies behind the image stays. A FIFO or a character device gets all bytes in order.
/// `progress` is called after every piece of at most 1 MiB.
///
/// # Errors
/// [`ExportError`]. What was there before a failure is there after it, except on a device or in a pipe.
pub fn to_path(
    image: &Image,
    destination: &Path,
    options: &ExportOptions<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, ExportError> {
    match destination::resolve(destination, &image.name)? {
        Destination::File(target) => {
            target.check_apart(options.sources)?;
            to_file(image, &target, options, progress)?;
            Ok(target.path)
        }
        Destination::Device(path) => {
            let device = device::open(&path, image.source.len(), options.force)?;
            let fail = |source| ExportError::write(&path, source);
            stream(image, &mut &device, &path, options, progress)?;
            device.sync_all().map_err(fail)?;
            Ok(path)
        }
        Destination::Stream(path) => {
            let mut file = open_stream(&path, options.cancel)?;
            stream(image, &mut file, &path, options, progress)?;
            Ok(path)
        }
    }
}

/// Opens a FIFO or a character device. A FIFO that nobody reads yet is asked again and again, so that waiting for its
/// reader can be cancelled.
fn open_stream(path: &Path, cancel: &AtomicBool) -> Result<File, ExportError> {
    const PAUSE: Duration = Duration::from_millis(50);
    let fail = |source| ExportError::write(path, source);
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    loop {
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => {
                // Only opening was not to block.
                rustix::fs::fcntl_setfl(&fd, OFlags::empty())
                    .map_err(|error| fail(error.into()))?;
                return Ok(fd.into());
            }
            Err(Errno::NXIO) if cancel.load(Ordering::Relaxed) => {
                return Err(ExportError::Cancelled);
            }
            Err(Errno::NXIO) => std::thread::sleep(PAUSE),
            Err(error) => return Err(fail(error.into())),
        }
    }
}

/// Writes all bytes of `image` to `out` in order, holes as zeros.
///
/// # Errors
/// [`ExportError::Read`], [`ExportError::Write`] or [`ExportError::Cancelled`]; part of the image may have been written.
pub fn to_stream(
    image: &Image,
    out: &mut dyn Write,
    options: &ExportOptions<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ExportError> {
    stream(image, out, Path::new("standard output"), options, progress)
}

/// [`to_stream`], called `name` in messages.
fn stream(
    image: &Image,
    mut out: &mut dyn Write,
    name: &Path,
    options: &ExportOptions<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ExportError> {
    copy(
        image,
        &mut Sink::Sequential(&mut out),
        name,
        options.cancel,
        progress,
    )?;
    out.flush()
        .map_err(|source| ExportError::write(name, source))?;
    verify_sources(&*image.source, options.cancel)
}

fn to_file(
    image: &Image,
    target: &Target,
    options: &ExportOptions<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ExportError> {
    target.check_free_space(&image.data)?;
    let fail = |source| ExportError::write(&target.path, source);
    let temporary = TemporaryFile::create(&target.directory).map_err(fail)?;
    let file = temporary.file();
    file.set_len(image.source.len()).map_err(fail)?;
    copy(
        image,
        &mut Sink::Sparse(file),
        &target.path,
        options.cancel,
        progress,
    )?;
    if let Some(replaced) = &target.replaced {
        temporary.take_over(replaced).map_err(fail)?;
    }
    file.sync_all().map_err(fail)?;
    verify_sources(&*image.source, options.cancel)?;
    temporary.persist(&target.path).map_err(fail)?;
    // The name is durable once the directory is; some file systems cannot sync one.
    drop(File::open(&target.directory).and_then(|directory| directory.sync_all()));
    Ok(())
}

/// Looks at every source file of the image once more. Each was checked when its bytes were read; a write through a
/// mapping shows in the timestamps only later.
fn verify_sources(source: &dyn ByteSource, cancel: &AtomicBool) -> Result<(), ExportError> {
    let mut last: Option<HostFile> = None;
    let mut offset = 0;
    while offset < source.len() {
        if cancel.load(Ordering::Relaxed) {
            return Err(ExportError::Cancelled);
        }
        let run = source.run_at(offset);
        if let Origin::HostFile { file, .. } = run.origin
            && last.as_ref() != Some(&file)
        {
            drop(file.verified_fd()?);
            last = Some(file);
        }
        offset = offset.saturating_add(run.len);
    }
    Ok(())
}
