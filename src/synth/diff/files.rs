//! Which files of a partition changed: two trees, walked side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::synth::ext4::Ext4;
use crate::synth::host_file::Identity;
use crate::synth::tree::{Content, Entry, Node, NodeId, NodeKind, Special};

/// A file or directory that is not as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its path in the image; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// Where it was before, if that was elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Bytes before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_before: Option<u64>,
    /// Bytes now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_after: Option<u64>,
    /// What else is another: `contents`, `kind`, `mode`, `owner`, `mtime`, `attributes`, `target`, `place`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub what: Vec<&'static str>,
}

/// What changed in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FileChanges {
    /// New ones.
    pub added: Vec<FileChange>,
    /// Those that are gone.
    pub removed: Vec<FileChange>,
    /// Host files that have another path.
    pub renamed: Vec<FileChange>,
    /// Those that are others under the same path.
    pub changed: Vec<FileChange>,
    /// How many files lie elsewhere on the disk, though nothing else of them changed.
    pub moved: u64,
}

/// A node of one of the two trees.
#[derive(Clone, Copy)]
struct Side<'a> {
    ext4: &'a Ext4,
    id: NodeId,
}

impl FileChanges {
    /// What is different in `new`; `None` is a partition without files.
    #[must_use]
    pub fn between(old: Option<&Arc<Ext4>>, new: Option<&Arc<Ext4>>) -> Self {
        if let (Some(old), Some(new)) = (old, new)
            && Arc::ptr_eq(old, new)
        {
            return Self::default();
        }
        let mut walk = Walk::default();
        let side = |ext4| Side {
            ext4,
            id: NodeId::ROOT,
        };
        walk.directories(
            "",
            old.map(|ext4| side(&**ext4)),
            new.map(|ext4| side(&**ext4)),
        );
        walk.finish()
    }

    /// Whether nothing is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.removed.is_empty()
            && self.renamed.is_empty()
            && self.changed.is_empty()
            && self.moved == 0
    }
}

/// Changes while they are found.
#[derive(Default)]
struct Walk {
    changes: FileChanges,
    /// Host files of what is gone and of what is new, by identity.
    gone: BTreeMap<IdentityKey, Vec<usize>>,
    come: Vec<(IdentityKey, usize)>,
}

/// An identity in an order.
type IdentityKey = (u64, u64, u64, i64, u32);

fn key(identity: &Identity) -> IdentityKey {
    (
        identity.device,
        identity.inode,
        identity.size,
        identity.mtime.seconds(),
        identity.mtime.nanoseconds(),
    )
}

impl Walk {
    /// Compares two directories, one of which may not be there.
    fn directories(&mut self, path: &str, old: Option<Side<'_>>, new: Option<Side<'_>>) {
        let entries = |side: Option<Side<'_>>| -> Vec<(Box<[u8]>, NodeId)> {
            side.map_or_else(Vec::new, |side| {
                let entries = side.ext4.tree().entries(side.id);
                let owned = |entry: Entry<'_>| (entry.name.into(), entry.node);
                entries.iter().map(owned).collect()
            })
        };
        let (before, after) = (entries(old), entries(new));
        let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let gone = order.is_le().then(|| before.next()).flatten();
            let come = order.is_ge().then(|| after.next()).flatten();
            match (below(path, old, gone), below(path, new, come)) {
                (Some((path, old)), Some((_, new))) => self.both(&path, old, new),
                (Some((path, old)), None) => self.removed(&path, old),
                (None, Some((path, new))) => self.added(&path, new),
                (None, None) => return,
            }
        }
    }

    fn both(&mut self, path: &str, old: Side<'_>, new: Side<'_>) {
        let (before, after) = (old.node(), new.node());
        let is_directory = |node: &Node<'_>| matches!(node.kind, NodeKind::Directory);
        if is_directory(&before) != is_directory(&after) {
            self.removed(path, old);
            self.added(path, new);
            return;
        }
        let what = differences(old, new);
        let (size_before, size_after) = (size_of(&before), size_of(&after));
        if !what.is_empty() || size_before != size_after {
            self.changes.changed.push(FileChange {
                path: path.to_owned(),
                from: None,
                size_before,
                size_after,
                what,
            });
        } else if old.ext4.first_block_of(old.id) != new.ext4.first_block_of(new.id)
            && !is_directory(&before)
        {
            self.changes.moved = self.changes.moved.saturating_add(1);
        }
        if is_directory(&before) {
            self.directories(path, Some(old), Some(new));
        }
    }

    fn removed(&mut self, path: &str, old: Side<'_>) {
        let node = old.node();
        if let Some(identity) = old.ext4.identity_of(old.id) {
            let position = self.changes.removed.len();
            self.gone.entry(key(&identity)).or_default().push(position);
        }
        self.changes.removed.push(FileChange {
            path: path.to_owned(),
            from: None,
            size_before: size_of(&node),
            size_after: None,
            what: Vec::new(),
        });
        if matches!(node.kind, NodeKind::Directory) {
            self.directories(path, Some(old), None);
        }
    }

    fn added(&mut self, path: &str, new: Side<'_>) {
        let node = new.node();
        if let Some(identity) = new.ext4.identity_of(new.id) {
            self.come.push((key(&identity), self.changes.added.len()));
        }
        self.changes.added.push(FileChange {
            path: path.to_owned(),
            from: None,
            size_before: None,
            size_after: size_of(&node),
            what: Vec::new(),
        });
        if matches!(node.kind, NodeKind::Directory) {
            self.directories(path, None, Some(new));
        }
    }

    /// What came from where something went is the same file under another path.
    fn finish(mut self) -> FileChanges {
        let mut pairs = Vec::new();
        for (identity, added) in &self.come {
            if let Some(removed) = self.gone.get_mut(identity).and_then(Vec::pop) {
                pairs.push((removed, *added));
            }
        }
        let mut changes = self.changes;
        for (removed, added) in &pairs {
            if let (Some(before), Some(after)) =
                (changes.removed.get(*removed), changes.added.get(*added))
            {
                changes.renamed.push(FileChange {
                    path: after.path.clone(),
                    from: Some(before.path.clone()),
                    size_before: before.size_before,
                    size_after: after.size_after,
                    what: Vec::new(),
                });
            }
        }
        let removed: Vec<usize> = pairs.iter().map(|(removed, _)| *removed).collect();
        let added: Vec<usize> = pairs.iter().map(|(_, added)| *added).collect();
        without(&mut changes.removed, removed);
        without(&mut changes.added, added);
        changes
    }
}

/// What an entry of a directory names, with its path.
fn below<'a>(
    path: &str,
    side: Option<Side<'a>>,
    entry: Option<&(Box<[u8]>, NodeId)>,
) -> Option<(String, Side<'a>)> {
    let (side, (name, id)) = side.zip(entry)?;
    let path = format!("{path}/{}", String::from_utf8_lossy(name));
    Some((path, Side { id: *id, ..side }))
}

fn without(changes: &mut Vec<FileChange>, mut positions: Vec<usize>) {
    positions.sort_unstable();
    let mut index = 0_usize;
    changes.retain(|_| {
        let stays = positions.binary_search(&index).is_err();
        index = index.saturating_add(1);
        stays
    });
}

impl<'a> Side<'a> {
    fn node(&self) -> Node<'a> {
        self.ext4.tree().node(self.id)
    }
}

const fn size_of(node: &Node<'_>) -> Option<u64> {
    match node.kind {
        NodeKind::File { size, .. } => Some(size),
        _ => None,
    }
}

/// What of a file or directory is another, besides its size and what is in it.
fn differences(old: Side<'_>, new: Side<'_>) -> Vec<&'static str> {
    let (before, after) = (old.node(), new.node());
    let (one, other) = (&before.attributes, &after.attributes);
    let xattrs = |side: Side<'_>, node: &Node<'_>| {
        let sets = side.ext4.tree().xattr_sets();
        let index = crate::units::to_usize(node.xattrs.0.into());
        sets.get(index).cloned().unwrap_or_default()
    };
    let mut what = kind_difference(old, new, &before, &after);
    let others = [
        ("mode", one.mode != other.mode),
        ("owner", (one.uid, one.gid) != (other.uid, other.gid)),
        ("mtime", one.mtime != other.mtime),
        (
            "attributes",
            one.immutable != other.immutable || xattrs(old, &before) != xattrs(new, &after),
        ),
    ];
    what.extend(
        others
            .into_iter()
            .filter_map(|(name, is)| is.then_some(name)),
    );
    what
}

fn kind_difference(
    old: Side<'_>,
    new: Side<'_>,
    before: &Node<'_>,
    after: &Node<'_>,
) -> Vec<&'static str> {
    let what = match (before.kind, after.kind) {
        (NodeKind::Directory, NodeKind::Directory) => None,
        (NodeKind::File { content: one, .. }, NodeKind::File { content: other, .. }) => {
            let same = match (one, other) {
                (Content::Inline(one), Content::Inline(other)) => one == other,
                (Content::Host(_), Content::Host(_)) => {
                    old.ext4.identity_of(old.id) == new.ext4.identity_of(new.id)
                }
                _ => false,
            };
            (!same).then_some("contents")
        }
        (NodeKind::Symlink(one), NodeKind::Symlink(other)) => (one != other).then_some("target"),
        (NodeKind::Special(one), NodeKind::Special(other)) => is_other(one, other),
        _ => Some("kind"),
    };
    what.into_iter().collect()
}

fn is_other(one: Special, other: Special) -> Option<&'static str> {
    (one != other).then_some("kind")
}
