//! Merging sources and inline files into one tree: directories merge, other clashes replace, later entries win.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Attributes, Content, DeviceNumber, Entry, Node, NodeId, NodeKind, Special, Timestamp, Tree,
    TreeError, TreeWarning, XattrSet, XattrSetId, order, scan,
};
use crate::config::spec::{
    CopySpec, DeviceKind, ImagePath, InlineDevice, InlineDirectory, InlineFile, InlineSymlink,
    Location, Owner, PartitionSpec, Times,
};
use crate::synth::host_file::HostFiles;
use crate::synth::identifiers::Identifiers;

/// The most names that one inode may have (`EXT4_LINK_MAX`, kernel fs/ext4/ext4.h).
const LINK_COUNT_MAX: u32 = 65_000;
/// The longest symlink target that ext4 stores: a block with its terminator.
const SYMLINK_LEN_MAX: usize = 4095;

/// Builds a [`Tree`] entry by entry, in the order of the config.
#[derive(Debug)]
pub struct TreeBuilder {
    pub(super) nodes: Vec<Node>,
    pub(super) times: Times,
    pub(super) warnings: Vec<TreeWarning>,
    /// Whether no file may have holes.
    pub(super) fully_mapped: bool,
    /// Bytes of a block: holes are whole ones.
    pub(super) hole_unit: u64,
    /// Sets of extended attributes and their indices.
    xattr_sets: BTreeMap<XattrSet, XattrSetId>,
}

impl TreeBuilder {
    /// A tree with nothing but its root and lost+found.
    #[must_use]
    pub fn new(times: Times) -> Self {
        let mut builder = Self {
            nodes: Vec::new(),
            times,
            warnings: Vec::new(),
            fully_mapped: false,
            hole_unit: 4096,
            xattr_sets: BTreeMap::from([(XattrSet::new(), XattrSetId::NONE)]),
        };
        let root = builder.implied_attributes(0o755);
        builder.add_node(NodeId::ROOT, root, NodeKind::Directory(Vec::new()));
        let lost_and_found = builder.implied_attributes(0o700);
        builder.add_entry(
            NodeId::ROOT,
            b"lost+found",
            lost_and_found,
            NodeKind::Directory(Vec::new()),
        );
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

    /// Adds a source. Its regular files are registered in `files`.
    ///
    /// # Errors
    /// [`TreeError`] names the source, the place in the config and the reason.
    pub fn copy(&mut self, spec: &CopySpec, files: &mut HostFiles) -> Result<(), TreeError> {
        scan::copy(self, spec, files)
    }

    /// Adds what the config itself puts into a partition: directories, files, symlinks, devices.
    ///
    /// # Errors
    /// [`TreeError`] of the first entry that does not fit what is there.
    pub fn entries(
        &mut self,
        partition: &PartitionSpec,
        identifiers: &Identifiers,
    ) -> Result<(), TreeError> {
        for directory in &partition.directories {
            self.directory(directory)?;
        }
        for file in &partition.files {
            self.inline(file, identifiers)?;
        }
        for symlink in &partition.symlinks {
            self.symlink(symlink)?;
        }
        for device in &partition.devices {
            self.device(device)?;
        }
        Ok(())
    }

    /// Adds a file of the config; `identifiers` are those of the same config.
    ///
    /// # Errors
    /// [`TreeError`] if the path meets a directory or leads through something that is none.
    pub fn inline(
        &mut self,
        file: &InlineFile,
        identifiers: &Identifiers,
    ) -> Result<NodeId, TreeError> {
        let attributes = self.attributes(file.mode, file.owner);
        let kind = inline_file(&identifiers.fill(&file.contents));
        self.place(&file.path, kind, attributes, &file.location)
    }

    /// Adds a directory of the config, or gives one that is there its attributes.
    ///
    /// # Errors
    /// [`TreeError`] if the path meets or leads through something that is none.
    pub fn directory(&mut self, directory: &InlineDirectory) -> Result<NodeId, TreeError> {
        let attributes = self.attributes(directory.mode, directory.owner);
        if directory.path.0.is_empty() {
            self.node_mut(NodeId::ROOT).attributes = attributes;
            return Ok(NodeId::ROOT);
        }
        let kind = NodeKind::Directory(Vec::new());
        self.place(&directory.path, kind, attributes, &directory.location)
    }

    /// Adds a symlink of the config.
    ///
    /// # Errors
    /// As [`TreeBuilder::inline`].
    pub fn symlink(&mut self, symlink: &InlineSymlink) -> Result<NodeId, TreeError> {
        let attributes = self.attributes(0o777, symlink.owner);
        let kind = NodeKind::Symlink(symlink.target.as_bytes().into());
        self.place(&symlink.path, kind, attributes, &symlink.location)
    }

    /// Adds a special file of the config.
    ///
    /// # Errors
    /// As [`TreeBuilder::inline`].
    pub fn device(&mut self, device: &InlineDevice) -> Result<NodeId, TreeError> {
        let attributes = self.attributes(device.mode, device.owner);
        let special = match device.kind {
            DeviceKind::Character { major, minor } => {
                Special::CharacterDevice(DeviceNumber { major, minor })
            }
            DeviceKind::Block { major, minor } => {
                Special::BlockDevice(DeviceNumber { major, minor })
            }
            DeviceKind::Fifo => Special::Fifo,
            DeviceKind::Socket => Special::Socket,
        };
        let kind = NodeKind::Special(special);
        self.place(&device.path, kind, attributes, &device.location)
    }

    /// Adds a file of the boot loader, as `extlinux --install` leaves it, and says if it replaces another.
    ///
    /// # Errors
    /// As [`TreeBuilder::inline`].
    pub fn boot_loader_file(
        &mut self,
        directory: &ImagePath,
        name: &str,
        bytes: &[u8],
        immutable: bool,
        location: &Location,
    ) -> Result<(), TreeError> {
        let mut path = directory.clone();
        path.0.push(name.as_bytes().to_vec());
        if self.lookup(&path).is_some() {
            self.warnings.push(TreeWarning::BootLoaderFile {
                path: path.to_string(),
            });
        }
        let attributes = Attributes {
            immutable,
            ..self.attributes(0o444, Owner::default())
        };
        self.place(&path, inline_file(bytes), attributes, location)
            .map(|_| ())
    }

    /// The finished tree and what the user should know.
    ///
    /// # Errors
    /// [`TreeError::Limit`] for what ext4 cannot hold.
    pub fn finish(self) -> Result<(Tree, Vec<TreeWarning>), TreeError> {
        let mut xattr_sets = vec![XattrSet::new(); self.xattr_sets.len()];
        for (set, id) in self.xattr_sets {
            if let Some(slot) = usize::try_from(id.0)
                .ok()
                .and_then(|index| xattr_sets.get_mut(index))
            {
                *slot = set;
            }
        }
        let tree = Tree {
            nodes: order::order(self.nodes),
            xattr_sets,
        };
        for (index, node) in tree.nodes.iter().enumerate() {
            let id = NodeId(u32::try_from(index).expect("nodes are numbered with 32 bits"));
            check_limits(&tree, id, node)?;
        }
        Ok((tree, self.warnings))
    }

    fn place(
        &mut self,
        path: &ImagePath,
        kind: NodeKind,
        attributes: Attributes,
        location: &Location,
    ) -> Result<NodeId, TreeError> {
        let Some((name, parents)) = path.0.split_last() else {
            return Err(TreeError::Clash {
                location: location.clone(),
                path: "/".to_owned(),
                new: kind_name(&kind),
                old: "the root directory",
            });
        };
        let parent = self.make_directories(parents, location)?;
        self.put(parent, name, attributes, kind, location)
    }

    /// The directory at `components`, made where it is missing.
    pub(super) fn make_directories(
        &mut self,
        components: &[Vec<u8>],
        location: &Location,
    ) -> Result<NodeId, TreeError> {
        let mut directory = NodeId::ROOT;
        for (depth, name) in components.iter().enumerate() {
            directory = match self.child(directory, name) {
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
                    self.add_entry(directory, name, attributes, NodeKind::Directory(Vec::new()))
                }
            };
        }
        Ok(directory)
    }

    /// Puts a node at a name: directories merge and take the later attributes, other kinds replace each other.
    pub(super) fn put(
        &mut self,
        parent: NodeId,
        name: &[u8],
        attributes: Attributes,
        kind: NodeKind,
        location: &Location,
    ) -> Result<NodeId, TreeError> {
        let Some(old) = self.child(parent, name) else {
            return Ok(self.add_entry(parent, name, attributes, kind));
        };
        let is_directory = matches!(kind, NodeKind::Directory(_));
        if is_directory != self.is_directory(old) {
            return Err(TreeError::Clash {
                location: location.clone(),
                path: self.path_below(parent, name),
                new: kind_name(&kind),
                old: self.kind_name(old),
            });
        }
        if is_directory {
            self.node_mut(old).attributes = attributes;
            return Ok(old);
        }
        // Another name of the replaced file may live on, so the node itself stays as it is.
        let node = self.add_node(parent, attributes, kind);
        self.set_entry(parent, name, node);
        Ok(node)
    }

    /// Gives an existing file one more name; a directory in its place is a clash.
    pub(super) fn link(
        &mut self,
        parent: NodeId,
        name: &[u8],
        node: NodeId,
        location: &Location,
    ) -> Result<(), TreeError> {
        if self
            .child(parent, name)
            .is_some_and(|old| self.is_directory(old))
        {
            return Err(TreeError::Clash {
                location: location.clone(),
                path: self.path_below(parent, name),
                new: self.kind_name(node),
                old: "a directory",
            });
        }
        self.set_entry(parent, name, node);
        Ok(())
    }

    /// Adds a node without a name.
    pub(super) fn add_node(
        &mut self,
        parent: NodeId,
        attributes: Attributes,
        kind: NodeKind,
    ) -> NodeId {
        let id =
            NodeId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 files are scanned"));
        self.nodes.push(Node {
            attributes,
            link_count: 0,
            parent,
            kind,
            xattrs: XattrSetId::NONE,
        });
        id
    }

    /// Gives a node its extended attributes, sorted by name.
    pub(super) fn set_xattrs(&mut self, node: NodeId, mut set: XattrSet) {
        set.sort();
        let next = u32::try_from(self.xattr_sets.len()).expect("fewer sets than files");
        let id = *self.xattr_sets.entry(set).or_insert(XattrSetId(next));
        self.node_mut(node).xattrs = id;
    }

    fn add_entry(
        &mut self,
        parent: NodeId,
        name: &[u8],
        attributes: Attributes,
        kind: NodeKind,
    ) -> NodeId {
        let node = self.add_node(parent, attributes, kind);
        self.set_entry(parent, name, node);
        node
    }

    fn set_entry(&mut self, parent: NodeId, name: &[u8], node: NodeId) {
        let NodeKind::Directory(entries) = &mut self.node_mut(parent).kind else {
            unreachable!("parents are directories");
        };
        // Scans deliver names in order, so the place is nearly always the end.
        match entries.last().map(|last| (*last.name).cmp(name)) {
            None | Some(std::cmp::Ordering::Less) => entries.push(Entry {
                name: name.into(),
                node,
            }),
            Some(_) => match entries.binary_search_by(|entry| (*entry.name).cmp(name)) {
                Ok(index) => entries.get_mut(index).expect("found just now").node = node,
                Err(index) => entries.insert(
                    index,
                    Entry {
                        name: name.into(),
                        node,
                    },
                ),
            },
        }
    }

    pub(super) fn lookup(&self, path: &ImagePath) -> Option<NodeId> {
        path.0
            .iter()
            .try_fold(NodeId::ROOT, |directory, name| self.child(directory, name))
    }

    pub(super) fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let NodeKind::Directory(entries) = &self.node(parent).kind else {
            return None;
        };
        if entries.last().is_some_and(|last| &*last.name < name) {
            return None;
        }
        let index = entries
            .binary_search_by(|entry| (*entry.name).cmp(name))
            .ok()?;
        entries.get(index).map(|entry| entry.node)
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes
            .get(id.index())
            .expect("node ids come from this builder")
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes
            .get_mut(id.index())
            .expect("node ids come from this builder")
    }

    pub(super) fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id).kind, NodeKind::Directory(_))
    }

    fn kind_name(&self, id: NodeId) -> &'static str {
        kind_name(&self.node(id).kind)
    }

    fn path_below(&self, parent: NodeId, name: &[u8]) -> String {
        let mut names = vec![name.to_vec()];
        let mut at = parent;
        while at != NodeId::ROOT {
            let above = self.node(at).parent;
            if let NodeKind::Directory(entries) = &self.node(above).kind {
                names.extend(
                    entries
                        .iter()
                        .find(|entry| entry.node == at)
                        .map(|entry| entry.name.to_vec()),
                );
            }
            at = above;
        }
        names.reverse();
        ImagePath(names).to_string()
    }

    fn implied_attributes(&self, mode: u16) -> Attributes {
        self.attributes(mode, Owner::default())
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

fn inline_file(contents: &[u8]) -> NodeKind {
    NodeKind::File {
        size: crate::units::to_u64(contents.len()),
        content: Content::Inline(Arc::from(contents)),
        ranges: None,
    }
}

fn kind_name(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Directory(_) => "a directory",
        NodeKind::File { .. } => "a file",
        NodeKind::Symlink(_) => "a symlink",
        NodeKind::Special(_) => "a special file",
    }
}

fn check_limits(tree: &Tree, id: NodeId, node: &Node) -> Result<(), TreeError> {
    let (what, value, limit) = match &node.kind {
        NodeKind::Symlink(target) if target.len() > SYMLINK_LEN_MAX => (
            "symlink target in bytes",
            crate::units::to_u64(target.len()),
            crate::units::to_u64(SYMLINK_LEN_MAX),
        ),
        NodeKind::Directory(_) => return Ok(()),
        _ if node.link_count > LINK_COUNT_MAX => (
            "number of names",
            u64::from(node.link_count),
            u64::from(LINK_COUNT_MAX),
        ),
        _ => return Ok(()),
    };
    Err(TreeError::Limit {
        path: tree.path_of(id),
        what,
        value,
        limit,
    })
}
