//! Reading the metadata of one source.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxAttributes,
    StatxFlags,
};
use rustix::io::Errno;

use super::build::TreeBuilder;
use super::filter::{Fate, Filter};
use super::ids;
use super::xattr::{self, LeftOut};
use super::{
    Attributes, BlockRange, Content, DeviceNumber, NodeId, NodeKind, Special, Timestamp, TreeError,
    TreeWarning,
};
use crate::config::spec::{CopySpec, Sparse};
use crate::synth::host_file::{HostFiles, Identity, SourceDirectory};
use crate::units::SECTOR_SIZE;

/// How much less than its length a host must store of a file before it is asked for holes: a grain of a VMDK. Less
/// comes from small gaps, compression or files kept in an inode.
const HOLES_LEN_MIN: u64 = 64 * 1024;
/// Bytes of names that one `getdents64` call may return.
const READDIR_BUFFER_LEN: usize = 64 * 1024;

/// Adds the source that `spec` names.
pub(super) fn copy(
    builder: &mut TreeBuilder,
    spec: &CopySpec,
    files: &mut HostFiles,
) -> Result<(), TreeError> {
    let stat =
        statx(CWD, &spec.from).map_err(|error| host_error(spec, &spec.from, "read", error))?;
    match file_type(&stat) {
        FileType::Directory => {
            let root = open_directory(CWD, &spec.from, None)
                .map_err(|error| host_error(spec, &spec.from, "listed", error))?;
            let root = SourceDirectory {
                path: spec.from.clone(),
                fd: root,
                cross_mounts: spec.cross_mounts,
            };
            let mut scan = Scan::new(builder, spec, files, root)?;
            let node = scan.builder.make_directories(&spec.to.0, &spec.location)?;
            scan.builder.node_mut(node).attributes = scan.attributes(&stat, Path::new(""))?;
            scan.extended_attributes(node, Path::new(""))?;
            scan.descend(node)?;
            scan.finish();
            Ok(())
        }
        FileType::RegularFile => copy_file(builder, spec, files, &stat),
        other => Err(TreeError::NoSource {
            location: spec.location.clone(),
            path: spec.from.clone(),
            kind: kind_name(other),
        }),
    }
}

/// A source that is one file: its directory is what it is opened below.
fn copy_file(
    builder: &mut TreeBuilder,
    spec: &CopySpec,
    files: &mut HostFiles,
    stat: &Statx,
) -> Result<(), TreeError> {
    let parent = spec.from.parent().unwrap_or(Path::new("/"));
    let name = spec.from.file_name().unwrap_or_default();
    let directory = open_directory(CWD, parent, None)
        .map_err(|error| host_error(spec, parent, "opened", error))?;
    let mut components = spec.to.0.clone();
    if spec.to_is_directory || components.is_empty() {
        components.push(name.as_bytes().to_vec());
    }
    let directory = SourceDirectory {
        path: parent.to_path_buf(),
        fd: directory,
        // The file itself may be a mount point, as /etc/hosts is in a container: it is what the user named.
        cross_mounts: true,
    };
    let mut scan = Scan::new(builder, spec, files, directory)?;
    let (image_name, parents) = components
        .split_last()
        .expect("a name was pushed where there was none");
    let node = scan.builder.make_directories(parents, &spec.location)?;
    let relative = Path::new(name);
    scan.regular_file(node, image_name, relative, stat)?;
    scan.finish();
    Ok(())
}

/// The scan of one source.
struct Scan<'a> {
    builder: &'a mut TreeBuilder,
    spec: &'a CopySpec,
    files: &'a mut HostFiles,
    directory_index: u32,
    root: Arc<SourceDirectory>,
    filter: Filter,
    /// Files with several names, by device and inode, joined within one copy entry.
    linked: HashMap<(u64, u64), NodeId>,
    left_out: LeftOut,
    /// Root may read everything; others are asked about with `faccessat`.
    may_read_all: bool,
}

/// A name found in a directory.
struct Found {
    name: Vec<u8>,
    stat: Statx,
    fate: Fate,
}

/// A directory of the source and where it is in the tree.
#[derive(Clone)]
enum Place {
    Made(NodeId),
    /// It comes into the tree with the first thing below it that is taken.
    OnTheWay(Rc<OnTheWay>),
}

struct OnTheWay {
    above: Place,
    found: Found,
    path: PathBuf,
    node: OnceCell<NodeId>,
}

impl<'a> Scan<'a> {
    fn new(
        builder: &'a mut TreeBuilder,
        spec: &'a CopySpec,
        files: &'a mut HostFiles,
        root: SourceDirectory,
    ) -> Result<Self, TreeError> {
        let filter = Filter::new(spec)?;
        let root = Arc::new(root);
        let directory_index = files.add_directory(Arc::clone(&root));
        let may_read_all = rustix::process::geteuid().is_root();
        Ok(Self {
            builder,
            spec,
            files,
            directory_index,
            root,
            filter,
            linked: HashMap::new(),
            left_out: LeftOut::default(),
            may_read_all,
        })
    }

    /// Says what was left out.
    fn finish(self) {
        self.builder
            .warnings
            .extend(self.left_out.into_warnings(self.spec));
    }

    /// Everything below the source's root, depth first without recursion.
    fn descend(&mut self, root: NodeId) -> Result<(), TreeError> {
        let mut pending = vec![(PathBuf::new(), Place::Made(root), self.filter.at_root())];
        while let Some((relative, place, fate)) = pending.pop() {
            let fd = match self.open_below(&relative) {
                Ok(fd) => fd,
                Err(error) => return Err(self.host_error(&relative, "listed", error)),
            };
            for found in self.list(&fd, &relative, fate)? {
                let path = relative.join(OsStr::from_bytes(&found.name));
                if found.fate == Fate::OnTheWay {
                    let on_the_way = OnTheWay {
                        above: place.clone(),
                        found,
                        path: path.clone(),
                        node: OnceCell::new(),
                    };
                    let place = Place::OnTheWay(Rc::new(on_the_way));
                    pending.push((path, place, Fate::OnTheWay));
                    continue;
                }
                let parent = self.make(&place)?;
                if let Some(directory) = self.add(&fd, parent, &found, &path)? {
                    pending.push((path, Place::Made(directory), Fate::Taken));
                }
            }
        }
        Ok(())
    }

    /// The node of a directory, made now with those above it if something was to be taken first.
    fn make(&mut self, place: &Place) -> Result<NodeId, TreeError> {
        let mut missing = Vec::new();
        let mut at = place;
        let mut node = loop {
            match at {
                Place::Made(node) => break *node,
                Place::OnTheWay(directory) => match directory.node.get() {
                    Some(node) => break *node,
                    None => {
                        missing.push(directory);
                        at = &directory.above;
                    }
                },
            }
        };
        while let Some(directory) = missing.pop() {
            node = self.directory(node, &directory.found, &directory.path)?;
            let set = directory.node.set(node);
            debug_assert!(set.is_ok(), "only missing directories are made");
        }
        Ok(node)
    }

    /// The names in a directory, sorted, with their metadata, without what is left out.
    fn list(&self, fd: &OwnedFd, relative: &Path, above: Fate) -> Result<Vec<Found>, TreeError> {
        let mut buffer = [MaybeUninit::uninit(); READDIR_BUFFER_LEN];
        let mut names = RawDir::new(fd, &mut buffer);
        let mut found = Vec::new();
        while let Some(entry) = names.next() {
            let entry = entry.map_err(|error| self.host_error(relative, "listed", error))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = || relative.join(OsStr::from_bytes(name));
            let stat = match statx(fd, Path::new(OsStr::from_bytes(name))) {
                Ok(stat) => stat,
                // Removed between the listing and the look at it.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(self.host_error(&path(), "examined", error)),
            };
            let is_directory = file_type(&stat) == FileType::Directory;
            let fate = self.filter.judge(path, is_directory, above);
            // Nothing below a mount point is looked at, so nothing can be taken there.
            let leads_nowhere = fate == Fate::OnTheWay && self.stops_at(&stat);
            if fate == Fate::LeftOut || leads_nowhere {
                continue;
            }
            found.push(Found {
                name: name.to_vec(),
                stat,
                fate,
            });
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Adds one name; returns the directory to descend into, if it is one.
    fn add(
        &mut self,
        fd: &OwnedFd,
        parent: NodeId,
        found: &Found,
        path: &Path,
    ) -> Result<Option<NodeId>, TreeError> {
        let stat = &found.stat;
        let kind = file_type(stat);
        if self.stops_at(stat) {
            return self.mount_point(parent, found, path, kind).map(|()| None);
        }
        match kind {
            FileType::Directory => return self.directory(parent, found, path).map(Some),
            FileType::RegularFile => {
                self.check_readable(fd, found, path)?;
                self.regular_file(parent, &found.name, path, stat)?;
            }
            FileType::Symlink => {
                let attributes = Attributes {
                    mode: 0o777,
                    ..self.attributes(stat, path)?
                };
                self.leaf(parent, &found.name, path, stat, attributes, |scan| {
                    let target = rustix::fs::readlinkat(fd, found.name.as_slice(), Vec::new());
                    let target = target.map_err(|error| scan.host_error(path, "read", error))?;
                    Ok(NodeKind::Symlink(target.into_bytes().into_boxed_slice()))
                })?;
            }
            other => {
                let Some(special) = special(other, stat) else {
                    return Err(self.host_error(path, "examined", Errno::INVAL));
                };
                let attributes = self.attributes(stat, path)?;
                let kind = |_: &mut Self| Ok(NodeKind::Special(special));
                self.leaf(parent, &found.name, path, stat, attributes, kind)?;
            }
        }
        Ok(None)
    }

    fn directory(
        &mut self,
        parent: NodeId,
        found: &Found,
        path: &Path,
    ) -> Result<NodeId, TreeError> {
        let attributes = self.attributes(&found.stat, path)?;
        let directory = NodeKind::Directory(Vec::new());
        let location = &self.spec.location;
        let node = self
            .builder
            .put(parent, &found.name, attributes, directory, location)?;
        self.extended_attributes(node, path)?;
        Ok(node)
    }

    /// Whether another file system begins here that is not to be entered.
    const fn stops_at(&self, stat: &Statx) -> bool {
        stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) && !self.spec.cross_mounts
    }

    /// Another file system begins here: an empty directory or file stands for it.
    fn mount_point(
        &mut self,
        parent: NodeId,
        found: &Found,
        path: &Path,
        kind: FileType,
    ) -> Result<(), TreeError> {
        let attributes = self.attributes(&found.stat, path)?;
        let (node, becomes) = if kind == FileType::Directory {
            (NodeKind::Directory(Vec::new()), "directory")
        } else {
            (
                NodeKind::File {
                    size: 0,
                    content: Content::Inline(Arc::from([])),
                    ranges: None,
                },
                "file",
            )
        };
        self.builder.warnings.push(TreeWarning::MountPoint {
            path: self.root.path.join(path),
            becomes,
        });
        self.builder
            .put(parent, &found.name, attributes, node, &self.spec.location)
            .map(|_| ())
    }

    fn regular_file(
        &mut self,
        parent: NodeId,
        name: &[u8],
        relative: &Path,
        stat: &Statx,
    ) -> Result<(), TreeError> {
        let attributes = self.attributes(stat, relative)?;
        self.leaf(parent, name, relative, stat, attributes, |scan| {
            let index = scan
                .files
                .add_file(scan.directory_index, relative, identity(stat))
                .expect("fewer than 2^32 files are scanned");
            let ranges = scan.data_ranges(index, relative, stat)?;
            Ok(NodeKind::File {
                size: stat.stx_size,
                content: Content::Host(index),
                ranges,
            })
        })
    }

    /// The blocks with data of a file whose host stores clearly less than its length; `None` without holes.
    fn data_ranges(
        &self,
        index: u32,
        relative: &Path,
        stat: &Statx,
    ) -> Result<Option<Box<[BlockRange]>>, TreeError> {
        let stored = stat.stx_blocks.saturating_mul(SECTOR_SIZE);
        let is_sparse = stat.stx_size.saturating_sub(stored) >= HOLES_LEN_MIN;
        if !is_sparse || self.builder.fully_mapped || self.spec.sparse == Sparse::Never {
            return Ok(None);
        }
        let ranges = self
            .files
            .data_ranges(index)
            .map_err(|error| self.host_error(relative, "asked for its holes", error))?;
        Ok(block_ranges(&ranges, stat.stx_size, self.builder.hole_unit))
    }

    /// Adds anything but a directory: one more name of a file that is there already, or a new one.
    fn leaf(
        &mut self,
        parent: NodeId,
        name: &[u8],
        relative: &Path,
        stat: &Statx,
        attributes: Attributes,
        kind: impl FnOnce(&mut Self) -> Result<NodeKind, TreeError>,
    ) -> Result<(), TreeError> {
        let key = (device(stat), stat.stx_ino);
        if stat.stx_nlink > 1
            && let Some(node) = self.linked.get(&key)
        {
            return self.builder.link(parent, name, *node, &self.spec.location);
        }
        let kind = kind(self)?;
        let node = self
            .builder
            .put(parent, name, attributes, kind, &self.spec.location)?;
        self.extended_attributes(node, relative)?;
        if stat.stx_nlink > 1 {
            self.linked.insert(key, node);
        }
        Ok(())
    }

    /// Attributes of the source with the config's overrides.
    fn attributes(&mut self, stat: &Statx, relative: &Path) -> Result<Attributes, TreeError> {
        self.files.note_mtime(stat.stx_mtime.tv_sec);
        let mode = self.spec.mode.unwrap_or(stat.stx_mode & 0o7777);
        let path = || self.root.path.join(relative);
        let owner = ids::owner(self.spec, stat.stx_uid, stat.stx_gid, path)?;
        let seen = Timestamp {
            seconds: stat.stx_mtime.tv_sec,
            nanoseconds: stat.stx_mtime.tv_nsec,
        };
        let mtime = match self.builder.times.clamp {
            Some(clamp) => seen.min(Timestamp {
                seconds: clamp,
                nanoseconds: 0,
            }),
            None => seen,
        };
        Ok(Attributes {
            mode,
            uid: owner.uid,
            gid: owner.gid,
            mtime,
            immutable: false,
        })
    }

    fn check_readable(&self, fd: &OwnedFd, found: &Found, path: &Path) -> Result<(), TreeError> {
        if self.may_read_all {
            return Ok(());
        }
        rustix::fs::accessat(fd, found.name.as_slice(), Access::READ_OK, AtFlags::EACCESS)
            .map_err(|error| self.host_error(path, "read", error))
    }

    /// Gives a node the attributes of its source.
    fn extended_attributes(&mut self, node: NodeId, relative: &Path) -> Result<(), TreeError> {
        let path = self.root.path.join(relative);
        let mut set = xattr::read(&path, self.spec, &mut self.left_out).map_err(|error| {
            host_error(self.spec, &path, "asked for extended attributes", error)
        })?;
        ids::map_xattrs(self.spec, &mut set, &path)?;
        self.builder.set_xattrs(node, set);
        Ok(())
    }

    fn open_below(&self, relative: &Path) -> Result<OwnedFd, Errno> {
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        open_directory(&self.root.fd, relative, Some(self.spec.cross_mounts))
    }

    fn host_error(&self, relative: &Path, action: &'static str, error: Errno) -> TreeError {
        host_error(self.spec, &self.root.path.join(relative), action, error)
    }
}

/// Opens a directory for listing; below a source (`cross_mounts` given) it neither leaves it nor follows symlinks.
fn open_directory(
    at: impl AsFd,
    path: &Path,
    cross_mounts: Option<bool>,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = match cross_mounts {
        None => ResolveFlags::empty(),
        Some(true) => {
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
        }
        Some(false) => {
            ResolveFlags::BENEATH
                | ResolveFlags::NO_SYMLINKS
                | ResolveFlags::NO_MAGICLINKS
                | ResolveFlags::NO_XDEV
        }
    };
    rustix::fs::openat2(at, path, flags, Mode::empty(), resolve)
}

fn statx(at: impl AsFd, path: &Path) -> Result<Statx, Errno> {
    rustix::fs::statx(at, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
}

fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

fn device(stat: &Statx) -> u64 {
    rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

fn identity(stat: &Statx) -> Identity {
    Identity {
        device: device(stat),
        inode: stat.stx_ino,
        size: stat.stx_size,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
    }
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a directory",
        FileType::RegularFile => "a regular file",
        FileType::Symlink => "a symlink",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Unknown => "a file of unknown type",
    }
}

/// Byte ranges as blocks of `unit` bytes that cover them; `None` if that is the whole file, or a file beyond ext4's limit.
fn block_ranges(ranges: &[(u64, u64)], size: u64, unit: u64) -> Option<Box<[BlockRange]>> {
    let mut blocks: Vec<BlockRange> = Vec::new();
    for (start, end) in ranges {
        let start = u32::try_from(start.checked_div(unit)?).ok()?;
        let end = u32::try_from(end.div_ceil(unit)).ok()?;
        match blocks.last_mut() {
            Some(last) if last.file_block.saturating_add(last.len) >= start => {
                last.len = end.saturating_sub(last.file_block);
            }
            last => {
                let before = last.map_or(0, |last| last.before.saturating_add(last.len));
                let len = end.saturating_sub(start);
                blocks.push(BlockRange {
                    file_block: start,
                    len,
                    before,
                });
            }
        }
    }
    let mapped: u64 = blocks.iter().map(|range| u64::from(range.len)).sum();
    (mapped < size.div_ceil(unit)).then(|| blocks.into_boxed_slice())
}

fn special(kind: FileType, stat: &Statx) -> Option<Special> {
    let number = DeviceNumber {
        major: stat.stx_rdev_major,
        minor: stat.stx_rdev_minor,
    };
    match kind {
        FileType::CharacterDevice => Some(Special::CharacterDevice(number)),
        FileType::BlockDevice => Some(Special::BlockDevice(number)),
        FileType::Fifo => Some(Special::Fifo),
        FileType::Socket => Some(Special::Socket),
        _ => None,
    }
}

fn host_error(spec: &CopySpec, path: &Path, action: &'static str, error: Errno) -> TreeError {
    TreeError::Host {
        location: spec.location.clone(),
        path: path.to_path_buf(),
        action,
        source: error.into(),
    }
}
