//! Merging sources and inline files into one tree: directories merge, other clashes replace, later entries win.

mod entries;

use std::sync::Arc;

use super::packed::{PackedEntry, PackedKind, PackedNode, Tables};
use super::unreadable::Unreadable;
use super::{
    Attributes, BlockRange, Node, NodeId, NodeKind, ScanMemory, ScanProgress, Special, Timestamp,
    Tree, TreeError, TreeWarning, XattrSetId, order, scan,
};
use crate::config::spec::{CopySpec, ImagePath, Location, Owner, Times};
use crate::synth::host_file::HostFiles;
use crate::synth::mistakes::Mistakes;
use crate::synth::names::Name;
use crate::synth::packed_time::PackedTime;
use crate::units::to_usize;

/// The most names that one inode may have (`EXT4_LINK_MAX`, kernel fs/ext4/ext4.h).
const LINK_COUNT_MAX: u32 = 65_000;
/// The longest symlink target that ext4 stores: a block with its terminator.
const SYMLINK_LEN_MAX: usize = 4095;

/// Builds a [`Tree`] entry by entry, in the order of the config.
#[derive(Debug)]
pub struct TreeBuilder {
    nodes: Vec<PackedNode>,
    /// The names in each directory, sorted.
    directories: Vec<Vec<PackedEntry>>,
    pub(super) tables: Tables,
    pub(super) times: Times,
    pub(super) warnings: Vec<TreeWarning>,
    /// Whether no file may have holes.
    pub(super) fully_mapped: bool,
    /// Bytes of a block: holes are whole ones.
    pub(super) hole_unit: u64,
    pub(super) mistakes: Mistakes<TreeError>,
    pub(super) unreadable: Unreadable,
    pub(super) progress: Option<Arc<ScanProgress>>,
    pub(super) memory: Option<Arc<ScanMemory>>,
}

/// A new node.
#[derive(Debug)]
pub(super) enum NewNode<'a> {
    Directory,
    /// A file of the host, by its index in `HostFiles`.
    Host {
        file: u32,
        size: u64,
        ranges: Option<Box<[BlockRange]>>,
    },
    Inline(&'a [u8]),
    Symlink(&'a [u8]),
    Special(Special),
}

/// A place for a name in a directory.
#[derive(Debug)]
pub(super) struct Slot {
    parent: NodeId,
    position: usize,
    /// What the name names so far.
    old: Option<NodeId>,
    pub(super) name: Name,
}

/// A tree that no file system is to be made of.
#[derive(Debug)]
pub struct Unfinished {
    /// What there is of it.
    pub tree: Tree,
    /// What is wrong, in the order of the config and of its sources.
    pub mistakes: Mistakes<TreeError>,
}

impl TreeBuilder {
    /// A tree with nothing but its root and lost+found.
    #[must_use]
    pub fn new(times: Times) -> Self {
        let mut builder = Self {
            nodes: Vec::new(),
            directories: Vec::new(),
            tables: Tables::new(),
            times,
            warnings: Vec::new(),
            fully_mapped: false,
            hole_unit: 4096,
            mistakes: Mistakes::default(),
            unreadable: Unreadable::default(),
            progress: None,
            memory: None,
        };
        let root = builder.implied_attributes(0o755);
        let root = builder.add_node(NodeId::ROOT, &root, None, NewNode::Directory);
        let lost_and_found = builder.implied_attributes(0o700);
        let node = builder.add_node(NodeId::ROOT, &lost_and_found, None, NewNode::Directory);
        let name = builder.tables.name(b"lost+found");
        if let (Ok(root), Ok(node), Some(name)) = (root, node, name) {
            builder.set_entry(root, 0, PackedEntry { name, node });
        }
        builder
    }

    /// Gives files no holes, whatever the config says: the boot loader reads none.
    pub const fn map_fully(&mut self) {
        self.fully_mapped = true;
    }

    /// Sets the bytes of a block: holes are whole ones. Without it they have 4096 bytes.
    pub const fn hole_unit(&mut self, block_size: u64) {
        self.hole_unit = block_size;
    }

    /// Leaves out what cannot be read, with warnings.
    pub const fn skip_unreadable(&mut self) {
        self.unreadable.skip = true;
    }

    /// Takes from `memory` what was listed before, and leaves there what is listed now.
    pub fn remember(&mut self, memory: Arc<ScanMemory>) {
        self.memory = Some(memory);
    }

    /// Tells how far the scan is.
    pub fn report_to(&mut self, progress: Arc<ScanProgress>) {
        self.progress = Some(progress);
    }

    /// Adds a source. Its regular files are registered in `files`; what is wrong with it, [`TreeBuilder::finish`] tells.
    pub fn copy(&mut self, spec: &CopySpec, files: &mut HostFiles) {
        if let Err(mistake) = scan::copy(self, spec, files) {
            self.mistakes.note(mistake);
        }
    }

    /// The finished tree and what the user should know; `files` are those that its sources were added with.
    ///
    /// # Errors
    /// [`Unfinished`] has all mistakes so far, and [`TreeError::Limit`] for what ext4 cannot hold.
    pub fn finish(
        self,
        files: &mut HostFiles,
    ) -> Result<(Tree, Vec<TreeWarning>), Box<Unfinished>> {
        let Self {
            nodes,
            directories,
            mut tables,
            mut warnings,
            mut mistakes,
            unreadable,
            ..
        } = self;
        files.name_sources(&tables.finish());
        let tree = order::order(nodes, directories, tables);
        for (id, node) in tree.nodes() {
            mistakes.take(check_limits(&tree, id, &node));
        }
        if !mistakes.is_empty() {
            return Err(Box::new(Unfinished { tree, mistakes }));
        }
        warnings.extend(unreadable.into_warnings());
        Ok((tree, warnings))
    }

    fn place(
        &mut self,
        path: &ImagePath,
        new: NewNode<'_>,
        attributes: &Attributes,
        location: &Location,
    ) -> Result<NodeId, TreeError> {
        let Some((name, parents)) = path.0.split_last() else {
            return Err(TreeError::Clash {
                location: location.clone(),
                path: "/".to_owned(),
                new: new.name(),
                old: "the root directory",
            });
        };
        let parent = self.make_directories(parents, location)?;
        let slot = self.slot(parent, name)?;
        self.fill(slot, new, attributes, None, location)
    }

    /// The directory at `components`, made where it is missing.
    pub(super) fn make_directories(
        &mut self,
        components: &[Vec<u8>],
        location: &Location,
    ) -> Result<NodeId, TreeError> {
        let mut directory = NodeId::ROOT;
        for (depth, name) in components.iter().enumerate() {
            let slot = self.slot(directory, name)?;
            directory = match slot.old {
                Some(child) if self.is_directory(child) => child,
                Some(child) => {
                    let path = components
                        .iter()
                        .take(depth.saturating_add(1))
                        .cloned()
                        .collect();
                    return Err(TreeError::NotADirectory {
                        location: location.clone(),
                        path: ImagePath(path).to_string(),
                        kind: self.kind_name(child),
                    });
                }
                None => {
                    let attributes = self.implied_attributes(0o755);
                    self.fill(slot, NewNode::Directory, &attributes, None, location)?
                }
            };
        }
        Ok(directory)
    }

    /// The place of a name in a directory.
    pub(super) fn slot(&mut self, parent: NodeId, name: &[u8]) -> Result<Slot, TreeError> {
        let (position, old) = match self.search(parent, name) {
            Ok(position) => (position, self.entry(parent, position)),
            Err(position) => (position, None),
        };
        let kept = match old {
            Some(old) => Some(old.name),
            None => self.tables.name(name),
        };
        let Some(name) = kept else {
            return Err(TreeError::Limit {
                path: self.path_below(parent, name),
                what: "length of all names and symlink targets in bytes",
                value: u64::from(u32::MAX).saturating_add(1),
                limit: u32::MAX.into(),
            });
        };
        Ok(Slot {
            parent,
            position,
            old: old.map(|entry| entry.node),
            name,
        })
    }

    /// Puts a node at a name: directories merge and take the later attributes, other kinds replace each other. Without
    /// extended attributes of its own a directory keeps those that it has.
    pub(super) fn fill(
        &mut self,
        slot: Slot,
        new: NewNode<'_>,
        attributes: &Attributes,
        xattrs: Option<XattrSetId>,
        location: &Location,
    ) -> Result<NodeId, TreeError> {
        let is_directory = matches!(new, NewNode::Directory);
        if let Some(old) = slot.old {
            if is_directory != self.is_directory(old) {
                return Err(self.clash(&slot, new.name(), self.kind_name(old), location));
            }
            if is_directory {
                self.set_attributes(old, attributes, xattrs);
                return Ok(old);
            }
        }
        // Another name of a replaced file may live on, so the node itself stays as it is.
        let node = self.add_node(slot.parent, attributes, xattrs, new)?;
        self.set_slot(&slot, node);
        Ok(node)
    }

    /// Gives an existing file one more name; a directory in its place is a clash.
    pub(super) fn link(
        &mut self,
        slot: &Slot,
        node: NodeId,
        location: &Location,
    ) -> Result<(), TreeError> {
        if slot.old.is_some_and(|old| self.is_directory(old)) {
            return Err(self.clash(slot, self.kind_name(node), "a directory", location));
        }
        self.set_slot(slot, node);
        Ok(())
    }

    fn clash(
        &self,
        slot: &Slot,
        new: &'static str,
        old: &'static str,
        location: &Location,
    ) -> TreeError {
        TreeError::Clash {
            location: location.clone(),
            path: self.path_below(slot.parent, self.tables.names().get(slot.name)),
            new,
            old,
        }
    }

    /// Adds a node without a name.
    fn add_node(
        &mut self,
        parent: NodeId,
        attributes: &Attributes,
        xattrs: Option<XattrSetId>,
        new: NewNode<'_>,
    ) -> Result<NodeId, TreeError> {
        let id =
            NodeId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 files are scanned"));
        let kind = match new {
            NewNode::Directory => {
                self.directories.push(Vec::new());
                PackedKind::Directory {
                    first: u32::try_from(self.directories.len().saturating_sub(1))
                        .expect("there are no more directories than nodes"),
                    len: 0,
                    subdirectories: 0,
                }
            }
            NewNode::Host { file, size, ranges } => {
                if let Some(ranges) = ranges {
                    self.tables.set_ranges(id, ranges);
                }
                PackedKind::Host { file, size }
            }
            NewNode::Inline(bytes) => self.tables.inline(Arc::from(bytes)),
            NewNode::Symlink(target) => match self.tables.name(target) {
                Some(target) => PackedKind::Symlink(target),
                None => {
                    return Err(TreeError::Limit {
                        path: self.path_of(parent),
                        what: "length of a symlink target in it in bytes",
                        value: crate::units::to_u64(target.len()),
                        limit: crate::units::to_u64(SYMLINK_LEN_MAX),
                    });
                }
            },
            NewNode::Special(special) => PackedKind::Special(special),
        };
        let shared = self
            .tables
            .share(attributes, xattrs.unwrap_or(XattrSetId::NONE));
        self.nodes.push(PackedNode {
            mtime: packed_time(attributes),
            parent,
            shared,
            kind,
        });
        Ok(id)
    }

    /// Gives a node other attributes, and other extended ones if there are any.
    pub(super) fn set_attributes(
        &mut self,
        id: NodeId,
        attributes: &Attributes,
        xattrs: Option<XattrSetId>,
    ) {
        let node = self
            .nodes
            .get_mut(id.index())
            .expect("node ids come from this builder");
        let xattrs = xattrs.unwrap_or_else(|| self.tables.xattrs(node));
        node.shared = self.tables.share(attributes, xattrs);
        node.mtime = packed_time(attributes);
    }

    fn set_slot(&mut self, slot: &Slot, node: NodeId) {
        let entry = PackedEntry {
            name: slot.name,
            node,
        };
        match slot.old {
            Some(_) => self.replace_entry(slot.parent, slot.position, entry),
            None => self.set_entry(slot.parent, slot.position, entry),
        }
    }

    fn replace_entry(&mut self, parent: NodeId, position: usize, entry: PackedEntry) {
        let slot = self.names_mut(parent).get_mut(position);
        *slot.expect("positions were found in this directory") = entry;
    }

    fn set_entry(&mut self, parent: NodeId, position: usize, entry: PackedEntry) {
        self.names_mut(parent).insert(position, entry);
    }

    fn names_mut(&mut self, directory: NodeId) -> &mut Vec<PackedEntry> {
        let PackedKind::Directory { first, .. } = self.node(directory).kind else {
            unreachable!("parents are directories");
        };
        self.directories
            .get_mut(to_usize(first.into()))
            .expect("every directory has a list of names")
    }

    /// The names in a directory; none for other nodes.
    fn names(&self, directory: NodeId) -> &[PackedEntry] {
        let PackedKind::Directory { first, .. } = self.node(directory).kind else {
            return &[];
        };
        self.directories
            .get(to_usize(first.into()))
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    fn entry(&self, directory: NodeId, position: usize) -> Option<PackedEntry> {
        self.names(directory).get(position).copied()
    }

    /// The position of a name, or where it would be.
    fn search(&self, directory: NodeId, name: &[u8]) -> Result<usize, usize> {
        let entries = self.names(directory);
        let names = self.tables.names();
        // Scans deliver names in order, so the place is nearly always the end.
        match entries.last().map(|last| names.get(last.name).cmp(name)) {
            None | Some(std::cmp::Ordering::Less) => Err(entries.len()),
            Some(_) => entries.binary_search_by(|entry| names.get(entry.name).cmp(name)),
        }
    }

    pub(super) fn lookup(&self, path: &ImagePath) -> Option<NodeId> {
        path.0
            .iter()
            .try_fold(NodeId::ROOT, |directory, name| self.child(directory, name))
    }

    pub(super) fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let position = self.search(parent, name).ok()?;
        self.entry(parent, position).map(|entry| entry.node)
    }

    fn node(&self, id: NodeId) -> &PackedNode {
        self.nodes
            .get(id.index())
            .expect("node ids come from this builder")
    }

    pub(super) fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id).kind, PackedKind::Directory { .. })
    }

    fn kind_name(&self, id: NodeId) -> &'static str {
        match self.node(id).kind {
            PackedKind::Directory { .. } => "a directory",
            PackedKind::Host { .. } | PackedKind::Inline(_) => "a file",
            PackedKind::Symlink(_) => "a symlink",
            PackedKind::Special(_) => "a special file",
        }
    }

    fn path_of(&self, id: NodeId) -> String {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let above = self.node(at).parent;
            let entry = self.names(above).iter().find(|entry| entry.node == at);
            names.extend(entry.map(|entry| self.tables.names().get(entry.name).to_vec()));
            at = above;
        }
        names.reverse();
        ImagePath(names).to_string()
    }

    fn path_below(&self, parent: NodeId, name: &[u8]) -> String {
        let directory = self.path_of(parent);
        let name = String::from_utf8_lossy(name);
        format!("{}/{name}", directory.trim_end_matches('/'))
    }

    pub(super) fn implied_attributes(&self, mode: u16) -> Attributes {
        self.attributes(mode, Owner::default())
    }

    /// A time of a source, lowered to the config's ceiling.
    pub(super) fn clamped(&self, seen: Timestamp) -> Timestamp {
        match self.times.clamp {
            Some(clamp) => seen.min(Timestamp {
                seconds: clamp,
                nanoseconds: 0,
            }),
            None => seen,
        }
    }

    fn attributes(&self, mode: u16, owner: Owner) -> Attributes {
        let mtime = Timestamp {
            seconds: self.times.default,
            nanoseconds: 0,
        };
        Attributes {
            mode,
            uid: owner.uid,
            gid: owner.gid,
            mtime,
            immutable: false,
        }
    }
}

impl NewNode<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::Host { .. } | Self::Inline(_) => "a file",
            Self::Symlink(_) => "a symlink",
            Self::Special(_) => "a special file",
        }
    }
}

fn packed_time(attributes: &Attributes) -> PackedTime {
    PackedTime::new(attributes.mtime.seconds, attributes.mtime.nanoseconds)
}

fn check_limits(tree: &Tree, id: NodeId, node: &Node<'_>) -> Result<(), TreeError> {
    if matches!(node.kind, NodeKind::Directory) || node.link_count <= LINK_COUNT_MAX {
        return Ok(());
    }
    Err(TreeError::Limit {
        path: tree.path_of(id),
        what: "number of names",
        value: node.link_count.into(),
        limit: LINK_COUNT_MAX.into(),
    })
}
