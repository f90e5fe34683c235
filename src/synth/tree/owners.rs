//! What an ownership manifest says about the files of a source: `owners` of a copy entry.
//!
//! Invariant: looking a path up changes nothing but that it was seen, so it works from several threads.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::fs::FileType;

use super::build::{NewNode, TreeBuilder};
use super::filter::{Fate, Filter};
use super::{Attributes, DeviceNumber, NodeId, Special, Timestamp, TreeError, TreeWarning};
use crate::config::spec::{CopySpec, Location};
use crate::formats::mtree::{Entry, Kind, LineError, Manifest};
use crate::synth::host_file::{HostFiles, read_with_mtime};
use crate::synth::mistakes::Mistakes;
use crate::units::GIB;

/// More than a manifest of some million paths with digests takes.
const MANIFEST_LEN_MAX: u64 = GIB;
/// Permission bits of what the manifest adds without saying them: those of an entry of `device`.
const ADDED_MODE: u16 = 0o600;

/// Why a manifest cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum OwnersError {
    /// The host refused it, or it is too large.
    #[error("{location}: {}: cannot be read as a manifest", path.display())]
    Unreadable {
        /// The copy entry.
        location: Location,
        /// The manifest.
        path: PathBuf,
        /// The host's error.
        source: std::io::Error,
    },
    /// A line is not understood.
    #[error("{location}: {}:{}: {}", path.display(), error.line, error.mistake)]
    Line {
        /// The copy entry.
        location: Location,
        /// The manifest.
        path: PathBuf,
        /// What is wrong, and where.
        error: LineError,
    },
    /// The source and the manifest do not fit each other.
    #[error("{location}: {}:{line}: {} {reason}", manifest.display(), path.display())]
    Path {
        /// The copy entry.
        location: Location,
        /// The manifest.
        manifest: PathBuf,
        /// The line that names the path.
        line: u32,
        /// The path in the source.
        path: PathBuf,
        /// Why not.
        reason: Misfit,
    },
}

/// How a path of the source does not fit its line; it stands behind the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The source does not have it.
    #[error("is {0} that the source does not have")]
    Missing(&'static str),
    /// It is something else.
    #[error("is {says} here, but {found} in the source")]
    OtherKind {
        /// In the manifest.
        says: &'static str,
        /// In the source.
        found: &'static str,
    },
    /// One file of several names has one owner, mode and time.
    #[error("is one file with a name before it that has another owner, mode or time")]
    OneFile,
}

impl OwnersError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "a manifest is a regular file of at most 1 GiB",
            Self::Line { error, .. } => error.mistake.hint(),
            Self::Path { reason, .. } => match reason {
                Misfit::Missing(_) => {
                    "remove the line, write `optional` behind it, or leave the path out with `exclude`"
                }
                Misfit::OtherKind { .. } => {
                    "a special file takes the place of an empty file or of none; else correct the line"
                }
                Misfit::OneFile => {
                    "hard links are one file: give all names the same, or make them separate files"
                }
            },
        }
    }
}

/// What a manifest says about one path; what it does not say, the copy entry does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mode: Option<u16>,
    pub(super) time: Option<Timestamp>,
}

/// The manifest of one copy entry.
pub(super) struct Owners<'a> {
    spec: &'a CopySpec,
    path: &'a Path,
    manifest: Manifest,
    /// Whether the source has the path, in the order of the entries.
    seen: Vec<AtomicBool>,
    /// Behind the entry that was looked up last.
    next: AtomicUsize,
    /// Directories that were not looked into.
    unseen: Mutex<Vec<PathBuf>>,
    sizes: Mutex<Option<Sizes>>,
}

/// Files of another length than their lines say.
struct Sizes {
    count: u64,
    line: u32,
    path: PathBuf,
    said: u64,
    found: u64,
}

impl<'a> Owners<'a> {
    /// The manifest that a copy entry names, if it names one. Lines that are not understood are mistakes, and then there
    /// is none.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn load(
        spec: &'a CopySpec,
        files: &mut HostFiles,
        mistakes: &mut Mistakes<TreeError>,
    ) -> Result<Option<Self>, OwnersError> {
        let Some(path) = spec.owners.as_deref() else {
            return Ok(None);
        };
        let location = || spec.location.clone();
        let (text, mtime) =
            read_with_mtime(path, MANIFEST_LEN_MAX).map_err(|source| OwnersError::Unreadable {
                location: location(),
                path: path.to_path_buf(),
                source,
            })?;
        files.note_mtime(mtime);
        let manifest = match Manifest::parse(&text) {
            Ok(manifest) => manifest,
            Err(errors) => {
                for error in errors {
                    let (location, path) = (location(), path.to_path_buf());
                    let line = OwnersError::Line {
                        location,
                        path,
                        error,
                    };
                    mistakes.note(line.into());
                }
                return Ok(None);
            }
        };
        let mut seen = Vec::new();
        seen.resize_with(manifest.entries().len(), AtomicBool::default);
        Ok(Some(Self {
            spec,
            path,
            manifest,
            seen,
            next: AtomicUsize::new(0),
            unseen: Mutex::default(),
            sizes: Mutex::default(),
        }))
    }

    /// What the manifest says about a path of the source, which is of this kind and length and has so many names.
    ///
    /// # Errors
    /// The manifest says that it is something else.
    pub(super) fn given(
        &self,
        relative: &Path,
        kind: FileType,
        (size, names): (u64, u32),
    ) -> Result<Given, OwnersError> {
        let Some(entry) = self.see(relative) else {
            return Ok(Given::default());
        };
        if let Some(says) = entry.kind
            && says_kind(says) != kind
            && !(special(says).is_some() && may_be_replaced(kind, size))
        {
            let (says, found) = (kind_name(says), super::scan::kind_name(kind));
            return Err(self.misfit(entry, Misfit::OtherKind { says, found }));
        }
        if let Some(said) = entry.size()
            && kind == FileType::RegularFile
            && said != size
            // What bsdtar writes for names of an archive that are hard links.
            && !(said == 0 && names > 1)
        {
            self.note_size(entry, said, size);
        }
        Ok(Given {
            uid: entry.uid(),
            gid: entry.gid(),
            mode: entry.mode(),
            time: entry.time().map(timestamp),
        })
    }

    /// The special file that stands for what the source has at a path, if the manifest says so.
    pub(super) fn special(&self, relative: &Path, kind: FileType, size: u64) -> Option<Special> {
        if !may_be_replaced(kind, size) {
            return None;
        }
        special(self.see(relative)?.kind?)
    }

    /// A path of the source is one more name of a file that has these attributes.
    ///
    /// # Errors
    /// The manifest gives this name others.
    pub(super) fn join(
        &self,
        relative: &Path,
        first: &Attributes,
        this: &Attributes,
    ) -> Result<(), OwnersError> {
        match self.see(relative) {
            Some(entry) if first != this => Err(self.misfit(entry, Misfit::OneFile)),
            _ => Ok(()),
        }
    }

    /// Nothing below this directory is looked at.
    pub(super) fn pass_over(&self, relative: &Path) {
        self.unseen.lock().push(relative.to_path_buf());
    }

    /// Adds the special files and symlinks that the source lacks; what else it lacks is a mistake.
    pub(super) fn complete(&self, builder: &mut TreeBuilder, filter: &Filter) {
        for (entry, seen) in self.manifest.entries().iter().zip(&self.seen) {
            if seen.load(Ordering::Relaxed) || entry.optional || !self.is_wanted(entry, filter) {
                continue;
            }
            let added = self
                .node(entry)
                .map_err(TreeError::from)
                .and_then(|node| self.add(builder, entry, node));
            builder.mistakes.take(added);
        }
    }

    /// What the manifest itself says enough about to be made.
    fn node(&self, entry: &Entry) -> Result<NewNode<'_>, OwnersError> {
        let link = self.manifest.link(entry);
        match (entry.kind, link) {
            (Some(Kind::Symlink), Some(target)) => Ok(NewNode::Symlink(target)),
            (Some(kind), _) => match special(kind) {
                Some(special) => Ok(NewNode::Special(special)),
                None => Err(self.misfit(entry, Misfit::Missing(kind_name(kind)))),
            },
            (None, _) => Err(self.misfit(entry, Misfit::Missing("a file"))),
        }
    }

    /// Lengths that were not those of the source.
    pub(super) fn into_warning(self) -> Option<TreeWarning> {
        let manifest = self.path.to_path_buf();
        self.sizes
            .into_inner()
            .map(|sizes| TreeWarning::ManifestSize {
                manifest,
                line: sizes.line,
                path: sizes.path,
                said: sizes.said,
                found: sizes.found,
                count: sizes.count,
            })
    }

    fn see(&self, relative: &Path) -> Option<&Entry> {
        let path = relative.as_os_str().as_bytes();
        // Scans and manifests are sorted alike within directories, so it is nearly always the next one.
        let next = self.next.load(Ordering::Relaxed);
        let is_next = |entry: &Entry| self.manifest.path(entry) == path;
        let index = if self.manifest.entries().get(next).is_some_and(is_next) {
            next
        } else {
            self.manifest.find(path)?
        };
        self.next.store(index.saturating_add(1), Ordering::Relaxed);
        self.seen.get(index)?.store(true, Ordering::Relaxed);
        self.manifest.entries().get(index)
    }

    /// Whether a path that was not seen belongs to what the copy entry takes.
    fn is_wanted(&self, entry: &Entry, filter: &Filter) -> bool {
        let path = self.relative(entry);
        if self
            .unseen
            .lock()
            .iter()
            .any(|above| path.starts_with(above))
        {
            return false;
        }
        let mut fate = filter.at_root();
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        // The root itself is last.
        ancestors.pop();
        while let Some(part) = ancestors.pop() {
            let is_directory = !ancestors.is_empty() || entry.kind == Some(Kind::Directory);
            fate = filter.judge(|| part, is_directory, fate);
            if fate == Fate::LeftOut {
                return false;
            }
        }
        fate == Fate::Taken
    }

    fn add(
        &self,
        builder: &mut TreeBuilder,
        entry: &Entry,
        new: NewNode<'_>,
    ) -> Result<(), TreeError> {
        let path = self.relative(entry);
        let location = &self.spec.location;
        let mut directory = builder.make_directories(&self.spec.to.0, location)?;
        for part in path.parent().into_iter().flat_map(Path::iter) {
            directory = self.enter(builder, directory, part.as_bytes())?;
        }
        let name = path.file_name().unwrap_or_default().as_bytes();
        let mut attributes = self.attributes(builder, entry, ADDED_MODE);
        if matches!(new, NewNode::Symlink(_)) {
            attributes.mode = 0o777;
        }
        let slot = builder.slot(directory, name)?;
        builder
            .fill(slot, new, &attributes, None, location)
            .map(drop)
    }

    /// A directory on the way to what is added; the source has it, or it is made.
    fn enter(
        &self,
        builder: &mut TreeBuilder,
        above: NodeId,
        name: &[u8],
    ) -> Result<NodeId, TreeError> {
        match builder.child(above, name) {
            Some(node) if builder.is_directory(node) => Ok(node),
            _ => {
                let attributes = builder.implied_attributes(0o755);
                let slot = builder.slot(above, name)?;
                let (new, location) = (NewNode::Directory, &self.spec.location);
                builder.fill(slot, new, &attributes, None, location)
            }
        }
    }

    fn attributes(&self, builder: &TreeBuilder, entry: &Entry, mode: u16) -> Attributes {
        let implied = builder.implied_attributes(mode);
        let owner = self.spec.owner.unwrap_or_default();
        let time = entry.time().map_or(implied.mtime, timestamp);
        Attributes {
            uid: entry.uid().unwrap_or(owner.uid),
            gid: entry.gid().unwrap_or(owner.gid),
            mode: entry.mode().or(self.spec.mode).unwrap_or(mode),
            mtime: builder.clamped(time),
            ..implied
        }
    }

    fn note_size(&self, entry: &Entry, said: u64, found: u64) {
        let mut sizes = self.sizes.lock();
        let sizes = sizes.get_or_insert_with(|| Sizes {
            count: 0,
            line: entry.line,
            path: self.spec.from.join(self.relative(entry)),
            said,
            found,
        });
        sizes.count = sizes.count.saturating_add(1);
    }

    fn misfit(&self, entry: &Entry, reason: Misfit) -> OwnersError {
        OwnersError::Path {
            location: self.spec.location.clone(),
            manifest: self.path.to_path_buf(),
            line: entry.line,
            path: self.spec.from.join(self.relative(entry)),
            reason,
        }
    }

    fn relative(&self, entry: &Entry) -> &Path {
        Path::new(std::ffi::OsStr::from_bytes(self.manifest.path(entry)))
    }
}

/// Tools without root leave empty files where special files are to be.
const fn may_be_replaced(kind: FileType, size: u64) -> bool {
    match kind {
        FileType::RegularFile => size == 0,
        FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket => {
            true
        }
        _ => false,
    }
}

fn timestamp((seconds, nanoseconds): (i64, u32)) -> Timestamp {
    Timestamp {
        seconds,
        nanoseconds,
    }
}

const fn special(kind: Kind) -> Option<Special> {
    match kind {
        Kind::CharacterDevice(major, minor) => {
            Some(Special::CharacterDevice(DeviceNumber { major, minor }))
        }
        Kind::BlockDevice(major, minor) => {
            Some(Special::BlockDevice(DeviceNumber { major, minor }))
        }
        Kind::Fifo => Some(Special::Fifo),
        Kind::Socket => Some(Special::Socket),
        Kind::File | Kind::Directory | Kind::Symlink => None,
    }
}

const fn says_kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::CharacterDevice(..) => FileType::CharacterDevice,
        Kind::BlockDevice(..) => FileType::BlockDevice,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
    }
}

fn kind_name(kind: Kind) -> &'static str {
    super::scan::kind_name(says_kind(kind))
}
