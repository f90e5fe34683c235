//! Reading the metadata of one source and merging it into a tree.

mod ahead;
mod attributes;
pub(super) mod listing;
mod place;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, ResolveFlags};
use rustix::io::Errno;

use super::build::{NewNode, Slot, TreeBuilder};
use super::filter::{Fate, Filter};
use super::owners::Owners;
use super::xattr::{self, LeftOut};
use super::{Attributes, NodeId, Special, TreeError, TreeWarning};
use crate::config::spec::CopySpec;
use crate::synth::host_file::{HostFiles, SourceDirectory, SourceId};
use ahead::Ahead;
use listing::{
    ATTRIBUTES_ACTION, Extra, Lister, Metadata, Problem, join, metadata_at, open_directory,
};
use place::{File, Made, OnTheWay, Place};

/// `S_IROTH` and `S_IXOTH`.
const OTHERS_READ: u16 = 0o4;
const OTHERS_SEARCH: u16 = 0o1;

/// Adds the source that `spec` names.
pub(super) fn copy(
    builder: &mut TreeBuilder,
    spec: &CopySpec,
    files: &mut HostFiles,
) -> Result<(), TreeError> {
    let metadata = metadata_at(CWD, &spec.from)
        .map_err(|error| host_error(spec, &spec.from, "read", error))?;
    match metadata.file_type() {
        FileType::Directory => copy_directory(builder, spec, files, &metadata),
        FileType::RegularFile => copy_file(builder, spec, files, &metadata),
        other => Err(TreeError::NoSource {
            location: spec.location.clone(),
            path: spec.from.clone(),
            kind: kind_name(other),
        }),
    }
}

/// A source that is a directory: its contents become those of `to`.
fn copy_directory(
    builder: &mut TreeBuilder,
    spec: &CopySpec,
    files: &mut HostFiles,
    metadata: &Metadata,
) -> Result<(), TreeError> {
    let fd = open_directory(CWD, &spec.from, ResolveFlags::empty())
        .map_err(|error| host_error(spec, &spec.from, "listed", error))?;
    let root = Arc::new(SourceDirectory {
        path: spec.from.clone(),
        fd,
        cross_mounts: spec.cross_mounts,
    });
    let filter = Filter::new(spec)?;
    let known = builder
        .memory
        .as_ref()
        .map(|memory| memory.listings_of(spec, metadata.device, metadata.inode));
    if let Some(known) = &known {
        known.note_root(&root);
    }
    let lister = Lister {
        known,
        ..lister(spec, &root, &filter)
    };
    let mut scan = Scan::new(builder, &lister, files, Arc::clone(&root))?;
    let node = scan.builder.make_directories(&spec.to.0, &spec.location)?;
    let attributes = scan.attributes(metadata, Path::new(""), b"");
    let extra = xattr::read(&root.path, spec)
        .map_err(|error| host_error(spec, &root.path, ATTRIBUTES_ACTION, error))?;
    let xattrs = scan.xattrs(extra, attributes.mode, Path::new(""), b"");
    scan.builder.set_attributes(node, &attributes, Some(xattrs));
    let directory = scan.files.add_directory(scan.source, None, metadata.device);
    scan.descend(Made {
        node,
        directory,
        is_closed: is_closed(&spec.from),
    });
    scan.complete();
    scan.finish();
    Ok(())
}

/// A source that is one file: its directory is what it is opened below.
fn copy_file(
    builder: &mut TreeBuilder,
    spec: &CopySpec,
    files: &mut HostFiles,
    metadata: &Metadata,
) -> Result<(), TreeError> {
    let parent = spec.from.parent().unwrap_or(Path::new("/"));
    let name = spec.from.file_name().unwrap_or_default().as_bytes();
    let fd = open_directory(CWD, parent, ResolveFlags::empty())
        .map_err(|error| host_error(spec, parent, "opened", error))?;
    let mut components = spec.to.0.clone();
    if spec.to_is_directory || components.is_empty() {
        components.push(name.to_vec());
    }
    let root = Arc::new(SourceDirectory {
        path: parent.to_path_buf(),
        fd,
        // The file itself may be a mount point, as /etc/hosts is in a container: it is what the user named.
        cross_mounts: true,
    });
    let filter = Filter::new(spec)?;
    let lister = lister(spec, &root, &filter);
    let mut scan = Scan::new(builder, &lister, files, Arc::clone(&root))?;
    let (image_name, parents) = components
        .split_last()
        .expect("a name was pushed where there was none");
    let node = scan.builder.make_directories(parents, &spec.location)?;
    let directory = scan.files.add_directory(scan.source, None, metadata.device);
    let attributes = xattr::read(&spec.from, spec)
        .map_err(|error| host_error(spec, &spec.from, ATTRIBUTES_ACTION, error))?;
    let extra = Extra {
        attributes,
        ..Extra::default()
    };
    let file = File {
        relative: Path::new(""),
        name,
        metadata,
    };
    let made = Made {
        node,
        directory,
        is_closed: is_closed(parent),
    };
    let slot = scan.builder.slot(node, image_name)?;
    // The file's own name, which the image may not have.
    let host_name = scan.builder.tables.name(name);
    scan.regular_file(made, slot, &file, extra, host_name)?;
    scan.finish();
    Ok(())
}

/// Whether a directory, or one above it, may not be searched by all users of the host.
fn is_closed(directory: &Path) -> bool {
    directory.ancestors().any(|directory| {
        metadata_at(CWD, directory).is_ok_and(|found| found.mode & OTHERS_SEARCH == 0)
    })
}

pub(super) fn lister<'a>(
    spec: &'a CopySpec,
    root: &'a SourceDirectory,
    filter: &'a Filter,
) -> Lister<'a> {
    Lister {
        spec,
        root,
        filter,
        may_read_all: rustix::process::geteuid().is_root(),
        known: None,
    }
}

/// The scan of one source.
struct Scan<'a> {
    builder: &'a mut TreeBuilder,
    spec: &'a CopySpec,
    lister: &'a Lister<'a>,
    files: &'a mut HostFiles,
    root: Arc<SourceDirectory>,
    source: SourceId,
    /// Files with several names, by device and inode, joined within one copy entry.
    linked: HashMap<(u64, u64), NodeId>,
    /// What they were given where there is a manifest.
    linked_attributes: HashMap<NodeId, Attributes>,
    left_out: LeftOut,
    owners: Option<Owners<'a>>,
}

impl<'a> Scan<'a> {
    fn new(
        builder: &'a mut TreeBuilder,
        lister: &'a Lister<'a>,
        files: &'a mut HostFiles,
        root: Arc<SourceDirectory>,
    ) -> Result<Self, TreeError> {
        let owners = Owners::load(lister.spec, files, &mut builder.mistakes)?;
        let source = files.add_source(Arc::clone(&root));
        Ok(Self {
            builder,
            spec: lister.spec,
            lister,
            files,
            root,
            source,
            linked: HashMap::new(),
            linked_attributes: HashMap::new(),
            left_out: LeftOut::default(),
            owners,
        })
    }

    /// Adds what the manifest has and the source lacks.
    fn complete(&mut self) {
        if let Some(owners) = &self.owners {
            owners.complete(self.builder, self.lister.filter);
        }
    }

    /// Says what was left out.
    fn finish(self) {
        let warnings = &mut self.builder.warnings;
        warnings.extend(self.left_out.into_warnings(self.spec));
        warnings.extend(self.owners.and_then(Owners::into_warning));
    }

    /// Everything below the source's root, depth first without recursion.
    fn descend(&mut self, root: Made) {
        let lister = self.lister;
        let ahead = Ahead::default();
        let mut places = vec![Place::Made(root)];
        ahead.push(Path::new("").into(), lister.filter.at_root());
        std::thread::scope(|threads| {
            let _close = ahead.close_at_end();
            let mut listed = 0_usize;
            while let (Some((relative, listing)), Some(place)) = (ahead.next(lister), places.pop())
            {
                listed = listed.saturating_add(1);
                for _ in 0..Ahead::threads_after(listed) {
                    threads.spawn(|| ahead.help(lister));
                }
                match listing {
                    Ok(listing) => self.merge(&relative, &listing, &place, &ahead, &mut places),
                    Err(error) => {
                        let action = "listed";
                        let problem = Problem { action, error };
                        self.refused(&relative, b"", problem, "it is empty in the image");
                    }
                }
            }
        });
    }

    /// The host did not let us have something: a mistake, or a warning that says what becomes of it.
    fn refused(&mut self, relative: &Path, name: &[u8], problem: Problem, becomes: &'static str) {
        let Problem { action, error } = problem;
        if let Some(owners) = &self.owners
            && action != ATTRIBUTES_ACTION
        {
            owners.pass_over(&below(relative, name));
        }
        if self.builder.unreadable.skips(error) {
            let path = below(&self.root.path.join(relative), name);
            self.builder.unreadable.note(path, becomes);
        } else {
            let mistake = self.host_error(relative, name, action, error);
            self.builder.mistakes.note(mistake);
        }
    }

    /// Takes what is in one directory; its own directories are to be listed next.
    fn merge(
        &mut self,
        relative: &Arc<Path>,
        listing: &listing::Listing,
        place: &Place,
        ahead: &Ahead,
        places: &mut Vec<Place>,
    ) {
        for (name, problem) in &listing.refused {
            self.refused(relative, name, *problem, "it is left out");
        }
        if let Some(progress) = &self.builder.progress {
            let count = crate::units::to_u64(listing.found.len());
            progress.note(&self.root.path, relative, count);
        }
        for found in &listing.found {
            let extra = found.extra.as_deref().cloned().unwrap_or_default();
            let file = File {
                relative,
                name: listing.name(found),
                metadata: &found.metadata,
            };
            let below = if found.fate == Fate::OnTheWay {
                Some(Place::OnTheWay(Rc::new(OnTheWay {
                    above: place.clone(),
                    relative: Arc::clone(relative),
                    name: file.name.into(),
                    metadata: found.metadata,
                    extra: extra.into(),
                    made: OnceCell::new(),
                })))
            } else {
                let made = self.make(place);
                let Some(parent) = self.builder.mistakes.take(made) else {
                    return;
                };
                let added = self.add(parent, &file, extra);
                let added = self.builder.mistakes.take(added);
                added.flatten().map(Place::Made)
            };
            if let Some(below) = below {
                places.push(below);
                ahead.push(join(relative, file.name).into(), found.fate);
            }
        }
    }

    /// A directory of the tree, made now with those above it if something was to be taken first.
    fn make(&mut self, place: &Place) -> Result<Made, TreeError> {
        let mut missing = Vec::new();
        let mut at = place;
        let mut made = loop {
            match at {
                Place::Made(made) => break *made,
                Place::OnTheWay(directory) => match directory.made.get() {
                    Some(made) => break *made,
                    None => {
                        missing.push(directory);
                        at = &directory.above;
                    }
                },
            }
        };
        while let Some(directory) = missing.pop() {
            let file = File {
                relative: &directory.relative,
                name: &directory.name,
                metadata: &directory.metadata,
            };
            let extra = directory.extra.take();
            let slot = self.builder.slot(made.node, file.name)?;
            made = self.directory(made, slot, &file, extra)?;
            let set = directory.made.set(made);
            debug_assert!(set.is_ok(), "only missing directories are made");
        }
        Ok(made)
    }

    /// Adds one name; returns the directory to descend into, if it is one.
    fn add(
        &mut self,
        parent: Made,
        file: &File<'_>,
        extra: Extra,
    ) -> Result<Option<Made>, TreeError> {
        if let Some(special) = self.replacement(file) {
            let slot = self.builder.slot(parent.node, file.name)?;
            let attributes = self.attributes(file.metadata, file.relative, file.name);
            let (new, location) = (NewNode::Special(special), &self.spec.location);
            self.builder.fill(slot, new, &attributes, None, location)?;
            return Ok(None);
        }
        match extra.problem {
            Some(problem) if problem.action == ATTRIBUTES_ACTION => {
                let becomes = "it has no extended attributes";
                self.refused(file.relative, file.name, problem, becomes);
            }
            Some(problem) => {
                self.refused(file.relative, file.name, problem, "it is left out");
                return Ok(None);
            }
            None => {}
        }
        let slot = self.builder.slot(parent.node, file.name)?;
        if self.lister.stops_at(file.metadata) {
            return self.mount_point(slot, file).map(|()| None);
        }
        match file.metadata.file_type() {
            FileType::Directory => return self.directory(parent, slot, file, extra).map(Some),
            FileType::RegularFile => {
                let name = Some(slot.name);
                self.regular_file(parent, slot, file, extra, name)?;
            }
            FileType::Symlink => self.symlink(slot, file, extra)?,
            _ => match file.metadata.special() {
                Some(special) => self.special(slot, file, extra, special)?,
                None => {
                    let (relative, name) = (file.relative, file.name);
                    return Err(self.host_error(relative, name, "examined", Errno::INVAL));
                }
            },
        }
        Ok(None)
    }

    /// The special file that the manifest puts in the place of what the source has.
    fn replacement(&self, file: &File<'_>) -> Option<Special> {
        let owners = self.owners.as_ref()?;
        let (path, metadata) = (join(file.relative, file.name), file.metadata);
        owners.special(&path, metadata.file_type(), metadata.size)
    }

    fn directory(
        &mut self,
        parent: Made,
        slot: Slot,
        file: &File<'_>,
        extra: Extra,
    ) -> Result<Made, TreeError> {
        let name = slot.name;
        let attributes = self.attributes(file.metadata, file.relative, file.name);
        let xattrs = self.xattrs(extra.attributes, attributes.mode, file.relative, file.name);
        let node = self.builder.fill(
            slot,
            NewNode::Directory,
            &attributes,
            Some(xattrs),
            &self.spec.location,
        )?;
        let place = Some((parent.directory, name));
        let device = file.metadata.device;
        Ok(Made {
            node,
            directory: self.files.add_directory(self.source, place, device),
            is_closed: parent.is_closed || file.metadata.mode & OTHERS_SEARCH == 0,
        })
    }

    /// Another file system begins here: an empty directory or file stands for it.
    fn mount_point(&mut self, slot: Slot, file: &File<'_>) -> Result<(), TreeError> {
        let path = join(file.relative, file.name);
        if let Some(owners) = &self.owners {
            owners.pass_over(&path);
        }
        let attributes = self.attributes(file.metadata, file.relative, file.name);
        let (new, becomes) = if file.metadata.file_type() == FileType::Directory {
            (NewNode::Directory, "directory")
        } else {
            (NewNode::Inline(&[]), "file")
        };
        self.builder.warnings.push(TreeWarning::MountPoint {
            path: self.root.path.join(path),
            becomes,
        });
        self.builder
            .fill(slot, new, &attributes, None, &self.spec.location)
            .map(|_| ())
    }

    /// Adds a regular file, or one more name of it; `host_name` is its name below its source.
    fn regular_file(
        &mut self,
        parent: Made,
        slot: Slot,
        file: &File<'_>,
        extra: Extra,
        host_name: Option<crate::synth::names::Name>,
    ) -> Result<(), TreeError> {
        let Some(slot) = self.link_known(slot, file)? else {
            return Ok(());
        };
        let metadata = file.metadata;
        let directory = self.files.directory_on(parent.directory, metadata.device);
        let index = host_name
            .and_then(|name| self.files.add_file(directory, name, metadata.identity()))
            .expect("fewer than 2^32 files with 4 GiB of names are scanned");
        if parent.is_closed || metadata.mode & OTHERS_READ == 0 {
            self.files.note_closed();
        }
        let ranges = self.data_ranges(index, file)?;
        let new = NewNode::Host {
            file: index,
            size: metadata.size,
            ranges,
        };
        self.leaf(slot, file, extra, new, None)
    }

    fn symlink(&mut self, slot: Slot, file: &File<'_>, mut extra: Extra) -> Result<(), TreeError> {
        let Some(slot) = self.link_known(slot, file)? else {
            return Ok(());
        };
        let target = std::mem::take(&mut extra.target);
        self.leaf(slot, file, extra, NewNode::Symlink(&target), Some(0o777))
    }

    fn special(
        &mut self,
        slot: Slot,
        file: &File<'_>,
        extra: Extra,
        special: Special,
    ) -> Result<(), TreeError> {
        let Some(slot) = self.link_known(slot, file)? else {
            return Ok(());
        };
        self.leaf(slot, file, extra, NewNode::Special(special), None)
    }

    /// Gives a file that is there already one more name; gives the place back for one that is not.
    fn link_known(&mut self, slot: Slot, file: &File<'_>) -> Result<Option<Slot>, TreeError> {
        let metadata = file.metadata;
        let known = (metadata.links > 1)
            .then(|| self.linked.get(&(metadata.device, metadata.inode)))
            .flatten();
        let Some(node) = known.copied() else {
            return Ok(Some(slot));
        };
        if self.owners.is_some() {
            let attributes = self.attributes(metadata, file.relative, file.name);
            let path = join(file.relative, file.name);
            if let (Some(owners), Some(first)) = (&self.owners, self.linked_attributes.get(&node)) {
                owners.join(&path, first, &attributes)?;
            }
        }
        self.builder.link(&slot, node, &self.spec.location)?;
        Ok(None)
    }

    /// Adds anything but a directory.
    fn leaf(
        &mut self,
        slot: Slot,
        file: &File<'_>,
        extra: Extra,
        new: NewNode<'_>,
        mode: Option<u16>,
    ) -> Result<(), TreeError> {
        let metadata = file.metadata;
        let given = self.attributes(metadata, file.relative, file.name);
        let attributes = Attributes {
            mode: mode.unwrap_or(given.mode),
            ..given
        };
        let xattrs = self.xattrs(extra.attributes, given.mode, file.relative, file.name);
        let location = &self.spec.location;
        let node = self
            .builder
            .fill(slot, new, &attributes, Some(xattrs), location)?;
        if metadata.links > 1 {
            self.linked.insert((metadata.device, metadata.inode), node);
            if self.owners.is_some() {
                self.linked_attributes.insert(node, given);
            }
        }
        Ok(())
    }

    fn host_error(
        &self,
        relative: &Path,
        name: &[u8],
        action: &'static str,
        error: Errno,
    ) -> TreeError {
        let path = below(&self.root.path.join(relative), name);
        host_error(self.spec, &path, action, error)
    }
}

/// The path of a name in a directory, or of the directory itself.
fn below(directory: &Path, name: &[u8]) -> PathBuf {
    if name.is_empty() {
        directory.to_path_buf()
    } else {
        join(directory, name)
    }
}

/// What a kind of file is called in messages.
pub(super) fn kind_name(kind: FileType) -> &'static str {
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

fn host_error(spec: &CopySpec, path: &Path, action: &'static str, error: Errno) -> TreeError {
    TreeError::Host {
        location: spec.location.clone(),
        path: path.to_path_buf(),
        action,
        source: error.into(),
    }
}
