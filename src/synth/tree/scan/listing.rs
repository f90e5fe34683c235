//! What one directory of a source holds: names, metadata, extended attributes and symlink targets, read together.
//!
//! Nothing here depends on other directories, so several can be listed at a time.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes,
    StatxFlags,
};
use rustix::io::Errno;

use super::super::filter::{Fate, Filter};
use super::super::memory::KnownListings;
use super::super::xattr::{self, Attributes};
use super::super::{DeviceNumber, Special};
use crate::config::spec::CopySpec;
use crate::synth::host_file::{Identity, SourceDirectory};
use crate::synth::packed_time::PackedTime;

/// Bytes of names that one `getdents64` call may return.
const READDIR_BUFFER_LEN: usize = 64 * 1024;

/// What `statx` says of a file, as far as a plan needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::synth::tree) struct Metadata {
    pub(super) mode: u16,
    /// Whether a file system is mounted here.
    pub(super) mount_root: bool,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// What a device file stands for.
    pub(super) number: DeviceNumber,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Sectors that the host stores of it.
    pub(super) sectors: u64,
    pub(super) mtime: PackedTime,
    pub(super) ctime: PackedTime,
}

impl Metadata {
    fn from_statx(stat: &Statx) -> Self {
        let time =
            |stamp: &rustix::fs::StatxTimestamp| PackedTime::new(stamp.tv_sec, stamp.tv_nsec);
        Self {
            mode: stat.stx_mode,
            mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
            links: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            number: DeviceNumber {
                major: stat.stx_rdev_major,
                minor: stat.stx_rdev_minor,
            },
            device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            size: stat.stx_size,
            sectors: stat.stx_blocks,
            mtime: time(&stat.stx_mtime),
            ctime: time(&stat.stx_ctime),
        }
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode.into())
    }

    pub(super) const fn identity(&self) -> Identity {
        Identity {
            device: self.device,
            inode: self.inode,
            size: self.size,
            mtime: self.mtime,
            ctime: self.ctime,
        }
    }

    /// What kind of special file it is, if it is one.
    pub(super) fn special(&self) -> Option<Special> {
        match self.file_type() {
            FileType::CharacterDevice => Some(Special::CharacterDevice(self.number)),
            FileType::BlockDevice => Some(Special::BlockDevice(self.number)),
            FileType::Fifo => Some(Special::Fifo),
            FileType::Socket => Some(Special::Socket),
            _ => None,
        }
    }
}

/// What is tried when extended attributes are read.
pub(super) const ATTRIBUTES_ACTION: &str = "asked for extended attributes";

/// What was tried, and what the host said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    /// `read`, `examined`, …
    pub(super) action: &'static str,
    pub(super) error: Errno,
}

/// What few files have.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(super) struct Extra {
    pub(super) attributes: Attributes,
    /// Of a symlink.
    pub(super) target: Vec<u8>,
    /// Why it cannot be taken.
    pub(super) problem: Option<Problem>,
}

/// A name found in a directory.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::synth::tree) struct Found {
    name: Range<u32>,
    pub(super) metadata: Metadata,
    pub(super) fate: Fate,
    pub(super) extra: Option<Box<Extra>>,
}

/// What was found in a directory, sorted by name, without what is left out.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::synth::tree) struct Listing {
    names: Vec<u8>,
    pub(in crate::synth::tree) found: Vec<Found>,
    /// Names about which the host tells nothing.
    pub(super) refused: Vec<(Box<[u8]>, Problem)>,
}

impl Listing {
    /// The name of something found in this directory.
    pub(super) fn name(&self, found: &Found) -> &[u8] {
        self.names.get(usize_range(&found.name)).unwrap_or_default()
    }
}

fn usize_range(range: &Range<u32>) -> Range<usize> {
    let index = |value: u32| crate::units::to_usize(value.into());
    index(range.start)..index(range.end)
}

/// Lists directories of one source.
#[derive(Debug)]
pub(in crate::synth::tree) struct Lister<'a> {
    pub(super) spec: &'a CopySpec,
    pub(super) root: &'a SourceDirectory,
    pub(super) filter: &'a Filter,
    /// Root may read everything; others are asked about with `faccessat`.
    pub(super) may_read_all: bool,
    /// What was listed before.
    pub(super) known: Option<Arc<KnownListings>>,
}

impl Lister<'_> {
    /// The directory at `relative` below the source, whose own fate is `above`.
    pub(super) fn list(&self, relative: &Path, above: Fate) -> Result<Arc<Listing>, Errno> {
        let Some(known) = &self.known else {
            return self.read(relative, above).map(Arc::new);
        };
        if let Some(listing) = known.get(relative) {
            return Ok(listing);
        }
        // Known before it is read, so that nothing that happens meanwhile is taken for old.
        known.expect(relative, above);
        let listing = Arc::new(self.read(relative, above)?);
        known.insert(relative, &listing);
        Ok(listing)
    }

    /// The same, asked of the host.
    pub(in crate::synth::tree) fn read(
        &self,
        relative: &Path,
        above: Fate,
    ) -> Result<Listing, Errno> {
        let fd = self.open(relative)?;
        let mut listing = self.names(&fd, relative, above)?;
        let mut path = self.root.path.join(relative);
        let Listing { names, found, .. } = &mut listing;
        for found in found {
            let name = names.get(usize_range(&found.name)).unwrap_or_default();
            path.push(OsStr::from_bytes(name));
            found.extra = self.extra(&fd, name, &found.metadata, &path);
            path.pop();
        }
        Ok(listing)
    }

    fn open(&self, relative: &Path) -> Result<OwnedFd, Errno> {
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let mut resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        if !self.spec.cross_mounts {
            resolve |= ResolveFlags::NO_XDEV;
        }
        open_directory(&self.root.fd, relative, resolve)
    }

    fn names(&self, fd: &OwnedFd, relative: &Path, above: Fate) -> Result<Listing, Errno> {
        let mut buffer = [MaybeUninit::uninit(); READDIR_BUFFER_LEN];
        let mut names = RawDir::new(fd, &mut buffer);
        let mut listing = Listing::default();
        while let Some(entry) = names.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let metadata = match metadata_at(fd, entry.file_name()) {
                Ok(metadata) => metadata,
                // Removed between the listing and the look at it.
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    let action = "examined";
                    listing
                        .refused
                        .push((name.into(), Problem { action, error }));
                    continue;
                }
            };
            let path = || relative.join(OsStr::from_bytes(name));
            let is_directory = metadata.file_type() == FileType::Directory;
            let fate = self.filter.judge(path, is_directory, above);
            // Nothing below a mount point is looked at, so nothing can be taken there.
            let leads_nowhere = fate == Fate::OnTheWay && self.stops_at(&metadata);
            if fate == Fate::LeftOut || leads_nowhere {
                continue;
            }
            let start = name_index(listing.names.len());
            listing.names.extend_from_slice(name);
            listing.found.push(Found {
                name: start..name_index(listing.names.len()),
                metadata,
                fate,
                extra: None,
            });
        }
        listing.refused.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let Listing { names, found, .. } = &mut listing;
        let name = |found: &Found| names.get(usize_range(&found.name)).unwrap_or_default();
        found.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        Ok(listing)
    }

    /// Whether another file system begins here that is not to be entered.
    pub(super) const fn stops_at(&self, metadata: &Metadata) -> bool {
        metadata.mount_root && !self.spec.cross_mounts
    }

    /// What a file has besides its metadata; `None` for nothing.
    fn extra(
        &self,
        fd: &OwnedFd,
        name: &[u8],
        metadata: &Metadata,
        path: &Path,
    ) -> Option<Box<Extra>> {
        if self.stops_at(metadata) {
            return None;
        }
        let mut extra = Extra::default();
        let read = self.read_extra(fd, name, metadata, path, &mut extra);
        extra.problem = read.err();
        let is_empty =
            extra.problem.is_none() && extra.attributes.is_empty() && extra.target.is_empty();
        (!is_empty).then(|| Box::new(extra))
    }

    fn read_extra(
        &self,
        fd: &OwnedFd,
        name: &[u8],
        metadata: &Metadata,
        path: &Path,
        extra: &mut Extra,
    ) -> Result<(), Problem> {
        let problem = |action| move |error| Problem { action, error };
        match metadata.file_type() {
            FileType::RegularFile if !self.may_read_all => {
                rustix::fs::accessat(fd, name, Access::READ_OK, AtFlags::EACCESS)
                    .map_err(problem("read"))?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(fd, name, Vec::new());
                extra.target = target.map_err(problem("read"))?.into_bytes();
            }
            _ => {}
        }
        extra.attributes = xattr::read(path, self.spec).map_err(problem(ATTRIBUTES_ACTION))?;
        Ok(())
    }
}

/// Opens a directory for listing.
pub(super) fn open_directory(
    at: impl AsFd,
    path: &Path,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(at, path, flags, Mode::empty(), resolve)
}

/// What a name in a directory, or a path, stands for; symlinks are not followed.
pub(in crate::synth::tree) fn metadata_at(
    at: impl AsFd,
    name: impl rustix::path::Arg,
) -> Result<Metadata, Errno> {
    let stat = rustix::fs::statx(at, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    Ok(Metadata::from_statx(&stat))
}

fn name_index(len: usize) -> u32 {
    u32::try_from(len).expect("the names in a directory take less than 4 GiB")
}

/// The path of something in a directory of a source.
pub(super) fn join(relative: &Path, name: &[u8]) -> PathBuf {
    relative.join(OsStr::from_bytes(name))
}
