//! The directory tree of one partition: metadata of the sources, merged as the config says.
//!
//! Invariant: only metadata is read here, never the contents of a file; and nothing that differs between hosts
//! (inode numbers, devices, the order of readdir) reaches a [`Tree`].

mod build;
mod error;
mod filter;
mod holes;
mod ids;
mod memory;
mod order;
mod owners;
mod packed;
mod progress;
mod scan;
mod unreadable;
mod xattr;

pub use build::{TreeBuilder, Unfinished};
pub use error::{TreeError, TreeWarning};
pub use memory::{ScanMemory, attributes_digest};
pub use owners::{Misfit, OwnersError};
pub use progress::ScanProgress;

use std::sync::Arc;

use packed::{PackedEntry, PackedKind, PackedNode, Tables};

use crate::config::spec::ImagePath;
use crate::synth::names::Names;
use crate::units::to_usize;

/// Index of a node in [`Tree::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);
    /// The directory `/lost+found`, which every tree has.
    pub const LOST_AND_FOUND: Self = Self(1);

    /// The index as a `usize`.
    #[must_use]
    pub fn index(self) -> usize {
        usize::try_from(self.0).expect("usize is 64 bits wide")
    }
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// What an inode says of its file besides where the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, 0 to 07777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time; the other times are set to the same.
    pub mtime: Timestamp,
    /// Whether the file carries ext4's immutable flag.
    pub immutable: bool,
}

/// A file, directory, symlink or special file, as a tree shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node<'a> {
    /// Owner, mode, time.
    pub attributes: Attributes,
    /// How many names it has inside the tree (for a directory: how many subdirectories, which its `..` count).
    pub link_count: u32,
    /// The directory that holds its first name; the root's is the root.
    pub parent: NodeId,
    /// What it is.
    pub kind: NodeKind<'a>,
    /// Its extended attributes.
    pub xattrs: XattrSetId,
}

/// Index of a set of extended attributes; equal sets have equal indices within a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct XattrSetId(pub u32);

impl XattrSetId {
    /// No attributes.
    pub const NONE: Self = Self(0);
}

/// Extended attributes as the host gives them: name with prefix, and value. Sorted by name.
pub type XattrSet = Vec<(Box<[u8]>, Box<[u8]>)>;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind<'a> {
    /// A directory; its names are [`Tree::entries`].
    Directory,
    /// A regular file.
    File {
        /// Length in bytes.
        size: u64,
        /// Where the bytes are.
        content: Content<'a>,
        /// The blocks that hold data, if there are holes between them.
        ranges: Option<&'a [BlockRange]>,
    },
    /// A symlink and its target, 1 to 4095 bytes.
    Symlink(&'a [u8]),
    /// A file without contents of its own.
    Special(Special),
}

/// Blocks of a file that hold data. Ranges of a file are in order, do not touch, and none is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRange {
    /// First block within the file.
    pub file_block: u32,
    /// Number of blocks.
    pub len: u32,
    /// Blocks of all ranges before.
    pub before: u32,
}

/// Kinds of special files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A character device.
    CharacterDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
}

/// What a device file stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// The driver, 0 to 4095.
    pub major: u32,
    /// The device of that driver, 0 to 2^20 - 1.
    pub minor: u32,
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// 1 to 255 bytes without `/` and NUL.
    pub name: &'a [u8],
    /// What it names.
    pub node: NodeId,
}

/// The names in a directory, sorted by their bytes, without `.` and `..`.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a> {
    names: &'a Names,
    packed: &'a [PackedEntry],
}

impl<'a> Entries<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.packed.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.packed.is_empty()
    }

    /// The name at a position.
    #[must_use]
    pub fn get(self, position: usize) -> Option<Entry<'a>> {
        let packed = self.packed.get(position)?;
        Some(Entry {
            name: self.names.get(packed.name),
            node: packed.node,
        })
    }

    /// All, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Entry<'a>> + DoubleEndedIterator {
        self.packed.iter().map(move |packed| Entry {
            name: self.names.get(packed.name),
            node: packed.node,
        })
    }
}

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// In the source file with this index in the generation's `HostFiles`.
    Host(u32),
    /// In memory: a file of the config, or one of the boot loader.
    Inline(&'a Arc<[u8]>),
}

/// A complete tree. Nodes are numbered so that a directory's children are contiguous and subtrees nest: the root, its
/// children, then each child's subtree in the order of names.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<PackedNode>,
    entries: Vec<PackedEntry>,
    tables: Tables,
    /// Of what has more than one name and is no directory, sorted.
    link_counts: Vec<(NodeId, u32)>,
}

/// How many nodes of each kind a tree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeCounts {
    /// Directories, the root and lost+found included.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symlinks.
    pub symlinks: u64,
    /// Devices, fifos and sockets.
    pub special_files: u64,
    /// Regular files with holes.
    pub sparse_files: u64,
    /// Bytes of all regular files, holes included.
    pub file_bytes: u64,
}

impl Tree {
    /// How many nodes there are; node 0 is the root, 1 is lost+found.
    #[must_use]
    pub const fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes in order.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, Node<'_>)> {
        self.nodes_from(NodeId::ROOT)
    }

    /// The nodes from this one on.
    pub fn nodes_from(&self, first: NodeId) -> impl Iterator<Item = (NodeId, Node<'_>)> {
        let rest = self.nodes.get(first.index()..).unwrap_or_default();
        (first.0..)
            .map(NodeId)
            .zip(rest)
            .map(|(id, packed)| (id, self.unpack(id, packed)))
    }

    /// All sets of extended attributes; index 0 is the empty one.
    #[must_use]
    pub fn xattr_sets(&self) -> &[XattrSet] {
        self.tables.xattr_sets()
    }

    /// The node with this id, which is of this tree.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Node<'_> {
        self.unpack(id, self.packed(id))
    }

    /// What a node is, without the rest.
    #[must_use]
    pub fn kind(&self, id: NodeId) -> NodeKind<'_> {
        self.tables.kind(id, self.packed(id))
    }

    /// The directory that holds a node's first name.
    #[must_use]
    pub fn parent(&self, id: NodeId) -> NodeId {
        self.packed(id).parent
    }

    fn packed(&self, id: NodeId) -> &PackedNode {
        self.nodes
            .get(id.index())
            .expect("node ids come from this tree")
    }

    fn unpack(&self, id: NodeId, packed: &PackedNode) -> Node<'_> {
        let link_count = match packed.kind {
            PackedKind::Directory { subdirectories, .. } => subdirectories,
            _ => self
                .link_counts
                .binary_search_by_key(&id, |(node, _)| *node)
                .ok()
                .and_then(|index| self.link_counts.get(index))
                .map_or(1, |(_, count)| *count),
        };
        Node {
            attributes: self.tables.attributes(packed),
            link_count,
            parent: packed.parent,
            kind: self.tables.kind(id, packed),
            xattrs: self.tables.xattrs(packed),
        }
    }

    /// The entries of a directory; none for other nodes.
    #[must_use]
    pub fn entries(&self, id: NodeId) -> Entries<'_> {
        let packed = match self.packed(id).kind {
            PackedKind::Directory { first, len, .. } => {
                let first = to_usize(first.into());
                self.entries
                    .get(first..first.saturating_add(to_usize(len.into())))
                    .unwrap_or_default()
            }
            _ => &[],
        };
        Entries {
            names: self.tables.names(),
            packed,
        }
    }

    /// The node at `path`, if there is one; symlinks are not followed.
    #[must_use]
    pub fn find(&self, path: &ImagePath) -> Option<NodeId> {
        path.0.iter().try_fold(NodeId::ROOT, |directory, name| {
            self.find_in(directory, name)
        })
    }

    /// What `name` names in a directory.
    #[must_use]
    pub fn find_in(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        let Entries { names, packed } = self.entries(directory);
        let index = packed
            .binary_search_by(|entry| names.get(entry.name).cmp(name))
            .ok()?;
        packed.get(index).map(|entry| entry.node)
    }

    /// Replaces the bytes of an inline file by others of the same length.
    ///
    /// # Panics
    /// If the node is no inline file of that length: the plan would not hold any more.
    pub fn replace_inline(&mut self, id: NodeId, bytes: Arc<[u8]>) {
        let PackedKind::Inline(index) = self.packed(id).kind else {
            panic!("only an inline file is replaced");
        };
        let old = self
            .tables
            .inline_mut(index)
            .expect("node ids come from this tree");
        assert!(old.len() == bytes.len(), "it is replaced by as many bytes");
        *old = bytes;
    }

    /// The first name of a node from the root, for messages: `/boot/vmlinuz`.
    #[must_use]
    pub fn path_of(&self, id: NodeId) -> String {
        let mut names = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            let parent = self.parent(at);
            let name = self.entries(parent).iter().find(|entry| entry.node == at);
            names
                .push(name.map_or_else(|| "?".into(), |entry| String::from_utf8_lossy(entry.name)));
            at = parent;
        }
        names.push("".into());
        names.reverse();
        if names.len() == 1 {
            "/".to_owned()
        } else {
            names.join("/")
        }
    }

    /// Counts of nodes by kind.
    #[must_use]
    pub fn counts(&self) -> TreeCounts {
        let mut counts = TreeCounts::default();
        for (_, node) in self.nodes() {
            match node.kind {
                NodeKind::Directory => counts.directories = counts.directories.saturating_add(1),
                NodeKind::File { size, ranges, .. } => {
                    counts.files = counts.files.saturating_add(1);
                    counts.sparse_files =
                        counts.sparse_files.saturating_add(ranges.is_some().into());
                    counts.file_bytes = counts.file_bytes.saturating_add(size);
                }
                NodeKind::Symlink(_) => counts.symlinks = counts.symlinks.saturating_add(1),
                NodeKind::Special(_) => {
                    counts.special_files = counts.special_files.saturating_add(1);
                }
            }
        }
        counts
    }
}
