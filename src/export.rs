//! One image as a real file, on a block device or into a pipe, without FUSE.
//!
//! Invariant: the name of a destination file never leads to half an image. The bytes go to a temporary name beside it,
//! which replaces it after fsync, or is removed.

mod clone_range;
mod copy;
mod copy_ranges;
mod destination;
mod device;
mod error;
mod mounts;
mod share;
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
use self::copy_ranges::Copy;
use self::destination::{Destination, Target};
use self::share::{share, without};
use self::temporary::TemporaryFile;
use crate::synth::generation::Image;
use crate::synth::host_file::HostFile;
use crate::synth::source::{ByteSource, Origin};

/// What an export is allowed to do, and when it has to stop.
#[derive(Debug, Clone, Copy)]
pub struct ExportOptions<'a> {
    /// Whether a block device may be overwritten.
    pub force: bool,
    /// Whether blocks of sources are shared.
    pub reflink: Reflink,
    /// The directories and files that the image is made from: nothing is written there.
    pub sources: &'a [PathBuf],
    /// The export ends with [`ExportError::Cancelled`] soon after this became true. Writing to a pipe that is
    /// full waits regardless.
    pub cancel: &'a AtomicBool,
}

/// Whether a file that is written shares blocks with the sources, as cp(1) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reflink {
    /// Where the file system can, and the partitions lie so that it may.
    #[default]
    Auto,
    /// Everything that consists of whole blocks of a source, or it is an error.
    Always,
    /// Never; every byte is written.
    Never,
}

/// How the bytes came where they are. Holes count nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transfer {
    /// Bytes in blocks that are shared with sources.
    pub shared: u64,
    /// Bytes that the kernel copied from a source.
    pub copied: u64,
    /// Bytes that were written.
    pub written: u64,
    /// Bytes that would be shared if they lay on whole blocks in the image.
    pub unaligned: u64,
}

/// An image that was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// What was written, as resolved.
    pub path: PathBuf,
    /// How.
    pub transfer: Transfer,
}

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes dealt with; holes that are left out count neither here nor in `total`.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Writes `image` to `destination`.
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
) -> Result<Exported, ExportError> {
    let all_written = |path| Exported {
        path,
        transfer: Transfer {
            written: image.source.len(),
            ..Transfer::default()
        },
    };
    match destination::resolve(destination, &image.name)? {
        Destination::File(target) => {
            target.check_apart(options.sources)?;
            let transfer = to_file(image, &target, options, progress)?;
            let path = target.path;
            Ok(Exported { path, transfer })
        }
        Destination::Device(path) => {
            let device = device::open(&path, image.source.len(), options.force)?;
            let fail = |source| ExportError::write(&path, source);
            stream(image, &mut &device, &path, options, progress)?;
            device.sync_all().map_err(fail)?;
            Ok(all_written(path))
        }
        Destination::Stream(path) => {
            let mut file = open_stream(&path, options.cancel)?;
            stream(image, &mut file, &path, options, progress)?;
            Ok(all_written(path))
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
) -> Result<Transfer, ExportError> {
    let fail = |source| ExportError::write(&target.path, source);
    let temporary = TemporaryFile::create(&target.directory).map_err(fail)?;
    let file = temporary.file();
    file.set_len(image.source.len()).map_err(fail)?;
    let transfer = fill(image, target, file, options, progress)?;
    if let Some(replaced) = &target.replaced {
        temporary.take_over(replaced).map_err(fail)?;
    }
    file.sync_all().map_err(fail)?;
    verify_sources(&*image.source, options.cancel)?;
    temporary.persist(&target.path).map_err(fail)?;
    // The name is durable once the directory is; some file systems cannot sync one.
    drop(File::open(&target.directory).and_then(|directory| directory.sync_all()));
    Ok(transfer)
}

/// Gives `file` the image's bytes.
fn fill(
    image: &Image,
    target: &Target,
    file: &File,
    options: &ExportOptions<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Transfer, ExportError> {
    let all = image.data.ranges();
    // What must be read in order, to be hashed for example, is not left to the kernel.
    if image.source.may_block(0, image.source.len()) {
        target.check_free_space(all)?;
        let mut sink = Sink::Sparse(file);
        copy(image, &mut sink, &target.path, options.cancel, progress)?;
        return Ok(Transfer {
            written: image.data.data_len(),
            ..Transfer::default()
        });
    }
    let total = image.data.data_len();
    progress(Progress { done: 0, total });
    let block_size = target.block_size()?;
    let cancel = options.cancel;
    let shared = share(image, file, block_size, options.reflink, cancel, progress)?;
    let rest = without(all, &shared.ranges);
    target.check_free_space(&rest)?;
    let shared_len = len_of(&shared.ranges);
    let mut transfer = Transfer {
        shared: shared_len,
        unaligned: if shared.refused.is_none() {
            shared.unaligned
        } else {
            0
        },
        ..Transfer::default()
    };
    let mut copy = Copy {
        image,
        file,
        name: &target.path,
        cancel,
        in_kernel: options.reflink != Reflink::Never,
        transfer: &mut transfer,
        done: shared_len,
        total,
    };
    copy.run(&rest, progress)?;
    Ok(transfer)
}

/// Bytes in all.
fn len_of(ranges: &[(u64, u64)]) -> u64 {
    let lengths = ranges.iter().map(|(start, end)| end.saturating_sub(*start));
    lengths.sum()
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
