//! How a tree is kept in memory: 32 bytes for a node and 8 for each of its names, the names' letters not counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Attributes, BlockRange, Content, NodeId, NodeKind, Special, Timestamp, XattrSet, XattrSetId,
};
use crate::synth::names::{Name, Names};
use crate::synth::packed_time::PackedTime;
use crate::units::to_usize;

/// A node.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedNode {
    pub(super) mtime: PackedTime,
    /// The directory that holds its first name.
    pub(super) parent: NodeId,
    /// What it shares with many others.
    pub(super) shared: SharedId,
    pub(super) kind: PackedKind,
}

/// What a node is.
#[derive(Debug, Clone, Copy)]
pub(super) enum PackedKind {
    Directory {
        /// In a builder the index of the directory's list of names, in a tree its first name.
        first: u32,
        /// How many names it has; 0 in a builder.
        len: u32,
        /// How many subdirectories it has; 0 in a builder.
        subdirectories: u32,
    },
    Host {
        file: u32,
        size: u64,
    },
    /// The index of the bytes.
    Inline(u32),
    Symlink(Name),
    Special(Special),
}

const _: () = assert!(size_of::<PackedNode>() == 32);

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedEntry {
    pub(super) name: Name,
    pub(super) node: NodeId,
}

const _: () = assert!(size_of::<PackedEntry>() == 8);

/// Index of a [`Shared`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SharedId(u32);

/// Attributes that many nodes have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shared {
    mode: u16,
    uid: u32,
    gid: u32,
    immutable: bool,
    xattrs: XattrSetId,
}

/// Everything that nodes refer to.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    /// Shared with `HostFiles` once the tree is finished.
    names: Arc<Names>,
    shared: Vec<Shared>,
    shared_ids: BTreeMap<Shared, SharedId>,
    xattr_sets: Vec<XattrSet>,
    xattr_ids: BTreeMap<XattrSet, XattrSetId>,
    inline: Vec<Arc<[u8]>>,
    /// Of files with holes.
    ranges: BTreeMap<NodeId, Box<[BlockRange]>>,
}

impl Tables {
    /// With the empty set of extended attributes, which is the first.
    pub(super) fn new() -> Self {
        let mut tables = Self::default();
        tables.xattr_set(XattrSet::new());
        tables
    }

    /// Keeps a name or a symlink's target; `None` beyond 4 GiB of them.
    pub(super) fn name(&mut self, string: &[u8]) -> Option<Name> {
        Arc::get_mut(&mut self.names)
            .expect("names are shared when all are there")
            .push(string)
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// The id of attributes, equal for equal ones.
    pub(super) fn share(&mut self, attributes: &Attributes, xattrs: XattrSetId) -> SharedId {
        let shared = Shared {
            mode: attributes.mode,
            uid: attributes.uid,
            gid: attributes.gid,
            immutable: attributes.immutable,
            xattrs,
        };
        let all = &mut self.shared;
        *self.shared_ids.entry(shared).or_insert_with(|| {
            all.push(shared);
            SharedId(index_u32(all.len().saturating_sub(1)))
        })
    }

    fn shared(&self, id: SharedId) -> Shared {
        *self
            .shared
            .get(to_usize(id.0.into()))
            .expect("ids come from these tables")
    }

    /// The attributes of a node.
    pub(super) fn attributes(&self, node: &PackedNode) -> Attributes {
        let shared = self.shared(node.shared);
        Attributes {
            mode: shared.mode,
            uid: shared.uid,
            gid: shared.gid,
            mtime: Timestamp {
                seconds: node.mtime.seconds(),
                nanoseconds: node.mtime.nanoseconds(),
            },
            immutable: shared.immutable,
        }
    }

    /// The extended attributes of a node.
    pub(super) fn xattrs(&self, node: &PackedNode) -> XattrSetId {
        self.shared(node.shared).xattrs
    }

    /// The id of a sorted set, equal for equal sets.
    pub(super) fn xattr_set(&mut self, set: XattrSet) -> XattrSetId {
        let all = &mut self.xattr_sets;
        if set.is_empty() && !all.is_empty() {
            return XattrSetId::NONE;
        }
        if let Some(id) = self.xattr_ids.get(&set) {
            return *id;
        }
        let id = XattrSetId(index_u32(all.len()));
        all.push(set.clone());
        self.xattr_ids.insert(set, id);
        id
    }

    pub(super) fn xattr_sets(&self) -> &[XattrSet] {
        &self.xattr_sets
    }

    /// Keeps the bytes of a file.
    pub(super) fn inline(&mut self, bytes: Arc<[u8]>) -> PackedKind {
        self.inline.push(bytes);
        PackedKind::Inline(index_u32(self.inline.len().saturating_sub(1)))
    }

    pub(super) fn inline_mut(&mut self, index: u32) -> Option<&mut Arc<[u8]>> {
        self.inline.get_mut(to_usize(index.into()))
    }

    /// Says where a file has data.
    pub(super) fn set_ranges(&mut self, node: NodeId, ranges: Box<[BlockRange]>) {
        self.ranges.insert(node, ranges);
    }

    /// Renumbers what goes by node; what has no new number is dropped.
    pub(super) fn renumber(&mut self, new: impl Fn(NodeId) -> Option<NodeId>) {
        self.ranges = std::mem::take(&mut self.ranges)
            .into_iter()
            .filter_map(|(node, ranges)| Some((new(node)?, ranges)))
            .collect();
    }

    /// Drops what is only needed while nodes are added, and shares the names.
    pub(super) fn finish(&mut self) -> Arc<Names> {
        if let Some(names) = Arc::get_mut(&mut self.names) {
            names.shrink();
        }
        self.shared_ids = BTreeMap::new();
        self.xattr_ids = BTreeMap::new();
        self.shared.shrink_to_fit();
        Arc::clone(&self.names)
    }

    /// What a node is, for those who read a tree.
    pub(super) fn kind(&self, id: NodeId, node: &PackedNode) -> NodeKind<'_> {
        match node.kind {
            PackedKind::Directory { .. } => NodeKind::Directory,
            PackedKind::Host { file, size } => NodeKind::File {
                size,
                content: Content::Host(file),
                ranges: self.ranges.get(&id).map(AsRef::as_ref),
            },
            PackedKind::Inline(index) => {
                let bytes = self
                    .inline
                    .get(to_usize(index.into()))
                    .expect("indices come from these tables");
                NodeKind::File {
                    size: crate::units::to_u64(bytes.len()),
                    content: Content::Inline(bytes),
                    ranges: None,
                }
            }
            PackedKind::Symlink(target) => NodeKind::Symlink(self.names.get(target)),
            PackedKind::Special(special) => NodeKind::Special(special),
        }
    }
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("no table is longer than the list of nodes")
}
