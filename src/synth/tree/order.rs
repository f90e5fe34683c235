//! Numbering: the root, its children, then each child's subtree, so that inode numbers and data follow the tree.

use super::packed::{PackedEntry, PackedKind, PackedNode, Tables};
use super::{NodeId, Tree};
use crate::units::to_usize;

/// Drops what no name leads to, renumbers the rest and counts names. `directories` are the names in each directory by
/// the index that the nodes have.
///
/// lost+found comes right behind the root, because its inode number (11) is below all others.
pub(super) fn order(
    nodes: Vec<PackedNode>,
    mut directories: Vec<Vec<PackedEntry>>,
    mut tables: Tables,
) -> Tree {
    let mut numbering = Numbering {
        new_ids: vec![None; nodes.len()],
        ordered: Vec::with_capacity(nodes.len()),
        old: nodes,
    };
    numbering.number(NodeId::ROOT, NodeId::ROOT);
    numbering.number(NodeId::LOST_AND_FOUND, NodeId::ROOT);
    // Children are numbered when their directory is visited; visits go depth first in the order of names.
    let mut visits = vec![NodeId::ROOT];
    while let Some(directory) = visits.pop() {
        let names = names_of(&mut directories, numbering.kind(directory));
        let first_visit = visits.len();
        // lost+found is numbered first, so its contents are too: numbers follow the order of visits everywhere.
        let is_lost_and_found = |entry: &&PackedEntry| entry.node == NodeId::LOST_AND_FOUND;
        let lost_and_found = names.iter().find(is_lost_and_found);
        let others = names.iter().filter(|entry| !is_lost_and_found(entry));
        for entry in lost_and_found.into_iter().chain(others) {
            let child = numbering.number(entry.node, directory);
            if matches!(numbering.kind(child), PackedKind::Directory { .. }) {
                visits.push(child);
            }
        }
        if let Some(added) = visits.get_mut(first_visit..) {
            added.reverse();
        }
    }
    let Numbering {
        new_ids,
        mut ordered,
        old,
    } = numbering;
    drop(old);
    ordered.shrink_to_fit();
    let new_id = |old: NodeId| new_ids.get(old.index()).copied().flatten();
    tables.renumber(new_id);
    let entries = flatten(&mut ordered, directories, new_id);
    let link_counts = count_links(&mut ordered, &entries);
    Tree {
        nodes: ordered,
        entries,
        tables,
        link_counts,
    }
}

struct Numbering {
    old: Vec<PackedNode>,
    new_ids: Vec<Option<NodeId>>,
    ordered: Vec<PackedNode>,
}

impl Numbering {
    /// The new number of a node, given now if it has none.
    fn number(&mut self, old: NodeId, parent: NodeId) -> NodeId {
        let slot = self
            .new_ids
            .get_mut(old.index())
            .expect("entries name nodes of this list");
        *slot.get_or_insert_with(|| {
            let new = u32::try_from(self.ordered.len()).expect("no more nodes than before");
            let node = self.old.get(old.index());
            self.ordered.push(PackedNode {
                parent,
                ..*node.expect("entries name nodes of this list")
            });
            NodeId(new)
        })
    }

    fn kind(&self, new: NodeId) -> PackedKind {
        self.ordered.get(new.index()).expect("it was numbered").kind
    }
}

fn names_of(directories: &mut [Vec<PackedEntry>], kind: PackedKind) -> &mut Vec<PackedEntry> {
    let PackedKind::Directory { first, .. } = kind else {
        unreachable!("only directories are visited");
    };
    directories
        .get_mut(to_usize(first.into()))
        .expect("every directory has a list of names")
}

/// All names in one list, in the order of their directories.
fn flatten(
    nodes: &mut [PackedNode],
    mut directories: Vec<Vec<PackedEntry>>,
    new_id: impl Fn(NodeId) -> Option<NodeId>,
) -> Vec<PackedEntry> {
    let mut entries: Vec<PackedEntry> = Vec::new();
    for node in nodes {
        let PackedKind::Directory { .. } = node.kind else {
            continue;
        };
        let names = std::mem::take(names_of(&mut directories, node.kind));
        let start = entries.len();
        entries.extend(names.into_iter().map(|entry| PackedEntry {
            node: new_id(entry.node).expect("what has a name was numbered"),
            ..entry
        }));
        let index = |value: usize| u32::try_from(value).expect("fewer than 2^32 names are scanned");
        node.kind = PackedKind::Directory {
            first: index(start),
            len: index(entries.len().saturating_sub(start)),
            subdirectories: 0,
        };
    }
    entries.shrink_to_fit();
    entries
}

/// Counts the subdirectories of directories, and the names of all else that has more than one.
fn count_links(nodes: &mut [PackedNode], entries: &[PackedEntry]) -> Vec<(NodeId, u32)> {
    let mut named = vec![false; nodes.len()];
    let mut repeated: Vec<NodeId> = Vec::new();
    for entry in entries {
        let node = nodes.get(entry.node.index());
        let node = node.expect("entries name nodes of this list");
        if matches!(node.kind, PackedKind::Directory { .. }) {
            let parent = node.parent.index();
            if let Some(PackedNode {
                kind: PackedKind::Directory { subdirectories, .. },
                ..
            }) = nodes.get_mut(parent)
            {
                *subdirectories = subdirectories.saturating_add(1);
            }
        } else if let Some(named) = named.get_mut(entry.node.index())
            && std::mem::replace(named, true)
        {
            repeated.push(entry.node);
        }
    }
    repeated.sort_unstable();
    let mut counts: Vec<(NodeId, u32)> = Vec::new();
    for node in repeated {
        match counts.last_mut() {
            Some((last, count)) if *last == node => *count = count.saturating_add(1),
            _ => counts.push((node, 2)),
        }
    }
    counts
}
