//! The only code that opens source files for reading.
//!
//! Invariant: a byte is given out only from the file that was planned: same device, inode, size, mtime and ctime
//! when it was opened and again after the bytes were read. Opening never leaves the source directory, never
//! follows a symlink, and never opens anything but a regular file.

mod age;
mod identity;
mod open_files;
mod opening;
mod source_fd;

use age::{is_young, wait_out_tick};
pub use identity::Identity;
use open_files::Held;
pub use opening::{read_small_file, read_with_mtime};
use opening::{reopen, with_descriptors};
pub use source_fd::SourceFd;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, SeekFrom};
use rustix::io::Errno;

use super::names::{Name, Names};
use super::packed_time::PackedTime;
use super::source::{Change, ReadError};
use crate::units::{to_u64, to_usize};

/// Bytes of a file whose contents may be held.
const KEPT_FILE_LEN_MAX: u64 = 64 << 10;

/// A directory that source files are opened below.
#[derive(Debug)]
pub struct SourceDirectory {
    /// The path as resolved from the config, for messages.
    pub path: PathBuf,
    /// The directory itself, so that renaming it or mounting over it changes nothing.
    pub fd: OwnedFd,
    /// Whether files on other file systems below it may be opened.
    pub cross_mounts: bool,
}

/// A source directory and the names below it.
#[derive(Debug)]
struct Source {
    directory: Arc<SourceDirectory>,
    /// Not there yet while the source is being scanned.
    names: Option<Arc<Names>>,
    /// Whether a server that may be away is asked about its files.
    is_remote: bool,
}

/// Index of a [`SourceDirectory`] in [`HostFiles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceId(u32);

/// Index of a directory of a source in [`HostFiles`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryId(u32);

/// A directory of a source, as far as its files share what it says.
#[derive(Debug, Clone, Copy)]
struct Directory {
    source: SourceId,
    /// The directory above and the name in it; `None` for the source itself.
    place: Option<(DirectoryId, Name)>,
    /// Device of the files.
    device: u64,
}

/// One planned file. There may be millions, so what can be shared is with the directory.
#[derive(Debug)]
struct PlannedFile {
    inode: u64,
    size: u64,
    mtime: PackedTime,
    ctime: PackedTime,
    directory: DirectoryId,
    name: Name,
}

const _: () = assert!(size_of::<PlannedFile>() == 40);

/// The source files of a partition, or of several.
#[derive(Default)]
pub struct HostFiles {
    sources: Vec<Source>,
    directories: Vec<Directory>,
    files: Vec<PlannedFile>,
    /// Files whose timestamps were so fresh when scanned that a later write could have gone unseen.
    young: BTreeSet<u32>,
    newest_mtime: Option<i64>,
    /// Files that some users of the host may not read.
    closed_count: u64,
    /// When the first file was added.
    scanned: Option<SystemTime>,
    /// Whether small files that were read are held, so that they can be read after they changed.
    keeps_contents: bool,
    held: Held,
}

impl fmt::Debug for HostFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFiles")
            .field("directories", &self.directories.len())
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// One source file of a generation.
#[derive(Clone)]
pub struct HostFile {
    files: Arc<HostFiles>,
    index: u32,
}

impl fmt::Debug for HostFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostFile({})", self.path().display())
    }
}

impl PartialEq for HostFile {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && Arc::ptr_eq(&self.files, &other.files)
    }
}

impl Eq for HostFile {}

impl HostFiles {
    /// No files yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds small files that were read in memory and goes on giving their bytes after they changed, for as long as
    /// there is room for them.
    pub const fn keep_contents(&mut self) {
        self.keeps_contents = true;
    }

    /// Adds a source.
    pub fn add_source(&mut self, directory: Arc<SourceDirectory>) -> SourceId {
        // What else is mounted below it is not known.
        let is_remote = directory.cross_mounts || source_fd::is_remote(&directory.fd);
        self.sources.push(Source {
            directory,
            names: None,
            is_remote,
        });
        SourceId(index_u32(self.sources.len().saturating_sub(1)))
    }

    /// Adds a directory of a source, whose files are on `device`; `place` is where it is, `None` for the source itself.
    /// Names are those that [`HostFiles::name_sources`] brings.
    pub fn add_directory(
        &mut self,
        source: SourceId,
        place: Option<(DirectoryId, Name)>,
        device: u64,
    ) -> DirectoryId {
        self.directories.push(Directory {
            source,
            place,
            device,
        });
        DirectoryId(index_u32(self.directories.len().saturating_sub(1)))
    }

    /// The same directory for files on another device.
    pub fn directory_on(&mut self, directory: DirectoryId, device: u64) -> DirectoryId {
        let known = *self.directory(directory);
        if known.device == device {
            return directory;
        }
        match self.directories.last() {
            // A file system that shows two devices shows them for many files in turn.
            Some(last)
                if last.device == device
                    && last.source == known.source
                    && last.place == known.place =>
            {
                DirectoryId(index_u32(self.directories.len().saturating_sub(1)))
            }
            _ => self.add_directory(known.source, known.place, device),
        }
    }

    /// Adds a planned file, on the device of its directory, and returns its index; `None` beyond 2^32 files.
    pub fn add_file(
        &mut self,
        directory: DirectoryId,
        name: Name,
        identity: Identity,
    ) -> Option<u32> {
        debug_assert_eq!(self.directory(directory).device, identity.device);
        let index = u32::try_from(self.files.len()).ok()?;
        let scanned = *self.scanned.get_or_insert_with(SystemTime::now);
        if is_young(&identity, scanned) {
            self.young.insert(index);
        }
        self.files.push(PlannedFile {
            inode: identity.inode,
            size: identity.size,
            mtime: identity.mtime,
            ctime: identity.ctime,
            directory,
            name,
        });
        Some(index)
    }

    /// Gives the sources that were added since the last call the names that were used with them.
    pub fn name_sources(&mut self, names: &Arc<Names>) {
        for source in self.sources.iter_mut().rev() {
            if source.names.is_some() {
                break;
            }
            source.names = Some(Arc::clone(names));
        }
        self.files.shrink_to_fit();
        self.directories.shrink_to_fit();
    }

    /// How many files are planned.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// What the file at `index` was when it was planned.
    #[must_use]
    pub fn identity(&self, index: u32) -> Option<Identity> {
        self.planned(index).map(|planned| self.identity_of(planned))
    }

    fn identity_of(&self, planned: &PlannedFile) -> Identity {
        Identity {
            device: self.directory(planned.directory).device,
            inode: planned.inode,
            size: planned.size,
            mtime: planned.mtime,
            ctime: planned.ctime,
        }
    }

    /// Notes that some users of the host may not read a file that was added.
    pub const fn note_closed(&mut self) {
        self.closed_count = self.closed_count.saturating_add(1);
    }

    /// How many files some users of the host may not read, by the permission bits of the file and its directories.
    #[must_use]
    pub const fn closed_count(&self) -> u64 {
        self.closed_count
    }

    /// Notes that something with this modification time, in seconds since 1970, was scanned.
    pub fn note_mtime(&mut self, seconds: i64) {
        self.newest_mtime = self.newest_mtime.max(Some(seconds));
    }

    /// The newest modification time of all that was scanned, in whole seconds since 1970.
    #[must_use]
    pub const fn newest_mtime(&self) -> Option<i64> {
        self.newest_mtime
    }

    /// The directories that files are opened below, as the user knows them.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.sources
            .iter()
            .map(|source| source.directory.path.as_path())
    }

    /// Whether identities may be equal for other contents once a source is mounted anew, so that nothing that goes by
    /// them may be kept.
    #[must_use]
    pub fn have_weak_identities(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|source| identity::is_weak(&source.directory.fd))
    }

    /// The path of the file at `index`, for messages.
    #[must_use]
    pub fn path(&self, index: u32) -> PathBuf {
        let Some(planned) = self.planned(index) else {
            return PathBuf::new();
        };
        let source = self.source(planned);
        source.directory.path.join(self.relative_path(planned))
    }

    /// The path of a file below its source; empty while the source is being scanned.
    fn relative_path(&self, planned: &PlannedFile) -> PathBuf {
        let Some(names) = &self.source(planned).names else {
            return PathBuf::new();
        };
        let mut components = vec![planned.name];
        let mut at = self.directory(planned.directory);
        while let Some((above, name)) = at.place {
            components.push(name);
            at = self.directory(above);
        }
        let mut path = PathBuf::new();
        for name in components.into_iter().rev() {
            path.push(OsStr::from_bytes(names.get(name)));
        }
        path
    }

    /// Fills `buf` from `offset` of the file at `index`.
    ///
    /// # Errors
    /// [`ReadError::Stale`] if the file is not the planned one, before or after the bytes were read;
    /// [`ReadError::Host`] if the host cannot read it.
    pub fn read_exact_at(&self, index: u32, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let planned = self
            .planned(index)
            .expect("file indices come from this table");
        if !self.keeps_contents || planned.size > KEPT_FILE_LEN_MAX {
            return self.read_from_host(index, planned, offset, buf);
        }
        let contents = match self.held.contents(index) {
            Some(contents) => contents,
            None => {
                let mut contents = vec![0; to_usize(planned.size)];
                self.read_from_host(index, planned, 0, &mut contents)?;
                let contents: Arc<[u8]> = contents.into();
                self.held.keep_contents(index, Arc::clone(&contents));
                contents
            }
        };
        let start = to_usize(offset);
        let bytes = contents.get(start..start.saturating_add(buf.len()));
        buf.copy_from_slice(bytes.ok_or_else(|| self.stale(index, Change::Truncated))?);
        Ok(())
    }

    fn read_from_host(
        &self,
        index: u32,
        planned: &PlannedFile,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), ReadError> {
        let fd = self.open(index, planned, None)?;
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(&fd, rest, offset.saturating_add(to_u64(filled))) {
                Ok(0) => return Err(self.stale(index, Change::Truncated)),
                Ok(count) => filled = filled.saturating_add(count),
                Err(Errno::INTR) => {}
                Err(error) => return Err(self.host_error(index, error)),
            }
        }
        self.verify(index, planned, &fd)
    }

    /// The ranges of the file at `index` that the host stores, half-open; what is between them is a hole. Names may not
    /// be there yet, so the path below the source is given.
    ///
    /// # Errors
    /// The host's, and `ESTALE` if the file changed.
    pub fn data_ranges(&self, index: u32, path: &Path) -> Result<Vec<(u64, u64)>, Errno> {
        let planned = self
            .planned(index)
            .expect("file indices come from this table");
        let fd = self
            .open(index, planned, Some(path))
            .map_err(|_| Errno::STALE)?;
        let mut ranges = Vec::new();
        let mut offset = 0;
        while offset < planned.size {
            let start = match rustix::fs::seek(&fd, SeekFrom::Data(offset)) {
                Ok(start) => start,
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error),
            };
            let end = rustix::fs::seek(&fd, SeekFrom::Hole(start))?.min(planned.size);
            if end <= offset {
                break;
            }
            ranges.push((start, end));
            offset = end;
        }
        self.verify(index, planned, &fd).map_err(|_| Errno::STALE)?;
        Ok(ranges)
    }

    /// A descriptor of the file at `index` whose identity was just verified, for copying by reference.
    ///
    /// # Errors
    /// As [`HostFiles::read_exact_at`].
    pub fn verified_fd(&self, index: u32) -> Result<Arc<SourceFd>, ReadError> {
        let planned = self
            .planned(index)
            .expect("file indices come from this table");
        let fd = self.open(index, planned, None)?;
        self.verify(index, planned, &fd)?;
        Ok(fd)
    }

    fn planned(&self, index: u32) -> Option<&PlannedFile> {
        self.files.get(usize::try_from(index).ok()?)
    }

    fn directory(&self, id: DirectoryId) -> &Directory {
        self.directories
            .get(to_usize(id.0.into()))
            .expect("directory ids come from this table")
    }

    fn source(&self, planned: &PlannedFile) -> &Source {
        let SourceId(index) = self.directory(planned.directory).source;
        self.sources
            .get(to_usize(index.into()))
            .expect("source ids come from this table")
    }

    /// A descriptor of a file, which is at `path` below its source if that is given.
    fn open(
        &self,
        index: u32,
        planned: &PlannedFile,
        path: Option<&Path>,
    ) -> Result<Arc<SourceFd>, ReadError> {
        if let Some(fd) = self.held.open(index) {
            return Ok(fd);
        }
        let directory = &self.source(planned).directory;
        let mut resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if !directory.cross_mounts {
            resolve |= ResolveFlags::NO_XDEV;
        }
        let relative_path = match path {
            Some(path) => path.to_path_buf(),
            None => self.relative_path(planned),
        };
        let device = self.directory(planned.directory).device;
        let remote = self.source(planned).is_remote.then_some(device);
        let open = || {
            let fd = rustix::fs::openat2(
                &directory.fd,
                &relative_path,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            )?;
            Ok(SourceFd::new(fd, remote))
        };
        let found = match with_descriptors(open) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                return Err(self.stale(index, Change::Vanished));
            }
            Err(error) => return Err(self.host_error(index, error)),
        };
        if self.young.contains(&index) {
            wait_out_tick(&self.identity_of(planned));
        }
        // Only now it is known to be a regular file: to open anything else may do something.
        self.verify(index, planned, &found)?;
        let fd = with_descriptors(|| reopen(found.as_fd()))
            .map_err(|error| self.host_error(index, error))?;
        let fd = Arc::new(SourceFd::new(fd, remote));
        self.held.keep_open(index, &fd);
        Ok(fd)
    }

    fn verify(&self, index: u32, planned: &PlannedFile, fd: &SourceFd) -> Result<(), ReadError> {
        let stat = rustix::fs::fstat(fd.as_fd()).map_err(|error| self.host_error(index, error))?;
        let change = if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            self.identity_of(planned)
                .difference(&Identity::from_stat(&stat))
        } else {
            Some("type")
        };
        match change {
            None => Ok(()),
            Some(which) => {
                // A descriptor of the old file must not serve later reads after the name was restored.
                self.held.close(index);
                Err(self.stale(index, Change::Attributes(which)))
            }
        }
    }

    fn stale(&self, index: u32, change: Change) -> ReadError {
        ReadError::Stale {
            path: self.path(index),
            change,
        }
    }

    fn host_error(&self, index: u32, error: Errno) -> ReadError {
        ReadError::Host {
            path: self.path(index),
            source: Arc::new(io::Error::from(error)),
        }
    }
}

impl HostFile {
    /// The file at `index` of `files`.
    #[must_use]
    pub const fn new(files: Arc<HostFiles>, index: u32) -> Self {
        Self { files, index }
    }

    /// The path, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.files.path(self.index)
    }

    /// What the file was when it was planned.
    ///
    /// # Panics
    /// If it is not of its own table.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let known = self.files.identity(self.index);
        known.expect("a host file is in the table that it was made for")
    }

    /// See [`HostFiles::verified_fd`].
    ///
    /// # Errors
    /// As [`HostFiles::read_exact_at`].
    pub fn verified_fd(&self) -> Result<Arc<SourceFd>, ReadError> {
        self.files.verified_fd(self.index)
    }
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index)
        .expect("directories of sources are fewer than files, which are fewer than 2^32")
}
