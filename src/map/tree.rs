//! The files of a partition as a tree with places: since blocks follow the tree, a directory is a stretch of the disk.

use serde::Serialize;

use crate::synth::ext4::Ext4;
use crate::synth::tree::{NodeId, NodeKind};

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Branch {
    /// Its name; bytes that are no UTF-8 are replaced. The root has none.
    pub name: String,
    /// Bytes of all files in it and below.
    pub size: u64,
    /// How many names those are, of symlinks and special files too.
    pub files: u64,
    /// The first block of its files, and the one behind the last; equal if they have none.
    pub blocks: (u64, u64),
    /// Directories in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<Self>,
    /// Files in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<Leaf>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Its extents in the order of the file: first block and number of blocks.
    pub extents: Vec<(u64, u64)>,
    /// Whether another directory holds the name that comes first, so that it lies there.
    #[serde(rename = "further-name", skip_serializing_if = "std::ops::Not::not")]
    pub is_further_name: bool,
}

impl Leaf {
    /// Its first block and the one behind its last, by their numbers.
    #[must_use]
    pub fn blocks(&self) -> Option<(u64, u64)> {
        let start = self.extents.iter().map(|(start, _)| *start).min()?;
        let ends = self.extents.iter();
        let end = ends.map(|(start, len)| start.saturating_add(*len)).max()?;
        Some((start, end))
    }
}

/// All files of a file system.
pub(super) fn of(ext4: &Ext4) -> Branch {
    branch(ext4, NodeId::ROOT, String::new())
}

fn branch(ext4: &Ext4, id: NodeId, name: String) -> Branch {
    let tree = ext4.tree();
    let mut directory = Branch {
        name,
        ..Branch::default()
    };
    let mut span: Option<(u64, u64)> = None;
    let mut widen = |blocks: Option<(u64, u64)>| {
        if let Some((start, end)) = blocks.filter(|(start, end)| start < end) {
            let (first, last) = span.unwrap_or((start, end));
            span = Some((first.min(start), last.max(end)));
        }
    };
    for entry in tree.entries(id).iter() {
        let name = String::from_utf8_lossy(entry.name).into_owned();
        match tree.kind(entry.node) {
            // Depth is bounded by the length of paths that the host has.
            NodeKind::Directory => {
                let below = branch(ext4, entry.node, name);
                widen(Some(below.blocks));
                directory.size = directory.size.saturating_add(below.size);
                directory.files = directory.files.saturating_add(below.files);
                directory.branches.push(below);
            }
            kind => {
                // A long symlink has a block among the directories; a further name of a file lies where the first one does.
                let (size, extents) = match kind {
                    NodeKind::File { size, .. } => (size, ext4.extents_of(entry.node)),
                    _ => (0, Vec::new()),
                };
                let leaf = Leaf {
                    name,
                    size,
                    extents,
                    is_further_name: tree.parent(entry.node) != id,
                };
                if !leaf.is_further_name {
                    widen(leaf.blocks());
                }
                directory.size = directory.size.saturating_add(size);
                directory.files = directory.files.saturating_add(1);
                directory.leaves.push(leaf);
            }
        }
    }
    directory.blocks = span.unwrap_or((0, 0));
    directory
}
