//! Numbering: the root, its children, then each child's subtree, so that inode numbers and data follow the tree.

use super::{Node, NodeId, NodeKind};

/// Drops what no name leads to, renumbers the rest and counts names.
///
/// lost+found comes right behind the root, because its inode number (11) is below all others.
pub(super) fn order(nodes: Vec<Node>) -> Vec<Node> {
    let mut new_ids: Vec<Option<NodeId>> = vec![None; nodes.len()];
    let mut old_ids: Vec<NodeId> = Vec::with_capacity(nodes.len());
    let mut parents: Vec<NodeId> = Vec::with_capacity(nodes.len());
    let mut number = |old: NodeId, parent: NodeId| {
        let slot = new_ids
            .get_mut(old.index())
            .expect("entries name nodes of this list");
        if slot.is_none() {
            *slot = Some(NodeId(
                u32::try_from(old_ids.len()).expect("no more nodes than before"),
            ));
            old_ids.push(old);
            parents.push(parent);
        }
        slot.expect("numbered just now")
    };
    number(NodeId::ROOT, NodeId::ROOT);
    number(NodeId::LOST_AND_FOUND, NodeId::ROOT);
    // Children are numbered when their directory is visited; visits go depth first in the order of names.
    let mut visits = vec![(NodeId::ROOT, NodeId::ROOT)];
    while let Some((old, new)) = visits.pop() {
        let NodeKind::Directory(entries) =
            &nodes.get(old.index()).expect("visited nodes exist").kind
        else {
            continue;
        };
        let first_visit = visits.len();
        // lost+found is numbered first, so its contents are too: numbers follow the order of visits everywhere.
        let (first, others): (Vec<_>, Vec<_>) = entries
            .iter()
            .partition(|entry| entry.node == NodeId::LOST_AND_FOUND);
        for entry in first.into_iter().chain(others) {
            let child = number(entry.node, new);
            if matches!(
                nodes.get(entry.node.index()).map(|node| &node.kind),
                Some(NodeKind::Directory(_))
            ) {
                visits.push((entry.node, child));
            }
        }
        if let Some(added) = visits.get_mut(first_visit..) {
            added.reverse();
        }
    }
    rebuild(nodes, &new_ids, &old_ids, &parents)
}

fn rebuild(
    nodes: Vec<Node>,
    new_ids: &[Option<NodeId>],
    old_ids: &[NodeId],
    parents: &[NodeId],
) -> Vec<Node> {
    let mut old_nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
    let mut ordered: Vec<Node> = Vec::with_capacity(old_ids.len());
    for (old, parent) in old_ids.iter().zip(parents) {
        let mut node = old_nodes
            .get_mut(old.index())
            .and_then(Option::take)
            .expect("each node is numbered once");
        node.parent = *parent;
        node.link_count = 0;
        if let NodeKind::Directory(entries) = &mut node.kind {
            entries.shrink_to_fit();
            for entry in entries {
                entry.node = new_ids
                    .get(entry.node.index())
                    .copied()
                    .flatten()
                    .expect("what has a name was numbered");
            }
        }
        ordered.push(node);
    }
    count_links(&mut ordered);
    ordered
}

fn count_links(nodes: &mut [Node]) {
    let mut counts = vec![0_u32; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        let NodeKind::Directory(entries) = &node.kind else {
            continue;
        };
        for entry in entries {
            let child = nodes
                .get(entry.node.index())
                .expect("entries name nodes of this list");
            // A directory counts its subdirectories, everything else its names.
            let counted = if matches!(child.kind, NodeKind::Directory(_)) {
                index
            } else {
                entry.node.index()
            };
            if let Some(count) = counts.get_mut(counted) {
                *count = count.saturating_add(1);
            }
        }
    }
    for (node, count) in nodes.iter_mut().zip(counts) {
        node.link_count = count;
    }
}
