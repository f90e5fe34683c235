//! Where extended attributes go: what is asked for most into the inode, the rest into blocks that equal sets share.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts of blocks and inodes below 2^32, in 64 bits"
)]

use std::collections::BTreeMap;

use super::error::Ext4Error;
use crate::formats::ext4::xattr::{self, Attribute, BLOCK_SHARERS_MAX, IN_INODE_LEN};
use crate::synth::tree::{Node, NodeId, Tree, XattrSet, XattrSetId};
use crate::units::{to_u64, to_usize};

/// One set as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StoredSet {
    in_inode: [u8; IN_INODE_LEN],
    in_block: Vec<Attribute>,
}

impl StoredSet {
    /// # Errors
    /// [`Ext4Error`] without the path.
    fn new(set: &XattrSet) -> Result<Self, Ext4Error> {
        let mut attributes = Vec::with_capacity(set.len());
        for (name, value) in set {
            let attribute =
                Attribute::from_host(name, value).map_err(|reason| Ext4Error::Xattr {
                    path: String::new(),
                    name: String::from_utf8_lossy(name).into_owned(),
                    reason: reason.to_string(),
                })?;
            attributes.push(attribute);
        }
        let Some((in_inode, in_block)) = xattr::split(&attributes) else {
            let len: usize = attributes.iter().map(Attribute::stored_len).sum();
            return Err(Ext4Error::XattrsTooLarge {
                path: String::new(),
                len: to_u64(len),
                limit: xattr::room(),
            });
        };
        Ok(Self {
            in_inode: xattr::in_inode(&in_inode),
            in_block,
        })
    }
}

/// Whether ext4 can hold a set.
///
/// # Errors
/// [`Ext4Error`] without the path.
pub(super) fn check(set: &XattrSet) -> Result<(), Ext4Error> {
    StoredSet::new(set).map(drop)
}

/// One block of attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SharedBlock {
    set: XattrSetId,
    sharers: u32,
}

/// The attributes of all nodes of a tree.
#[derive(Debug, Default)]
pub(super) struct XattrPlan {
    /// By the tree's index of the set.
    sets: Vec<StoredSet>,
    /// Blocks in the order of their first node.
    blocks: Vec<SharedBlock>,
    /// For each node with a block, its index.
    block_of_node: BTreeMap<NodeId, u64>,
}

impl XattrPlan {
    pub(super) fn new(tree: &Tree) -> Result<Self, Ext4Error> {
        let mut sets = Vec::with_capacity(tree.xattr_sets().len());
        for (index, set) in (0..).map(XattrSetId).zip(tree.xattr_sets()) {
            let stored = StoredSet::new(set);
            sets.push(stored.map_err(|error| error.of_file(path_of_first(tree, index)))?);
        }
        let mut plan = Self {
            sets,
            blocks: Vec::new(),
            block_of_node: BTreeMap::new(),
        };
        plan.share_blocks(tree);
        Ok(plan)
    }

    /// Gives each node a block with its set, a further one after every 1024 sharers.
    fn share_blocks(&mut self, tree: &Tree) {
        let mut current: BTreeMap<XattrSetId, usize> = BTreeMap::new();
        for (id, node) in tree.nodes() {
            if self.set(node.xattrs).in_block.is_empty() {
                continue;
            }
            let open = current.get(&node.xattrs).copied();
            let index = match open.filter(|index| self.blocks[*index].sharers < BLOCK_SHARERS_MAX) {
                Some(index) => index,
                None => {
                    self.blocks.push(SharedBlock {
                        set: node.xattrs,
                        sharers: 0,
                    });
                    self.blocks.len() - 1
                }
            };
            current.insert(node.xattrs, index);
            self.blocks[index].sharers += 1;
            self.block_of_node.insert(id, to_u64(index));
        }
    }

    fn set(&self, id: XattrSetId) -> &StoredSet {
        &self.sets[to_usize(id.0.into())]
    }

    /// How many blocks there are.
    pub(super) fn block_count(&self) -> u64 {
        to_u64(self.blocks.len())
    }

    /// The block of a node, if it has one.
    pub(super) fn block_of(&self, id: NodeId) -> Option<u64> {
        self.block_of_node.get(&id).copied()
    }

    /// The area behind the inode's fields.
    pub(super) fn in_inode(&self, node: &Node<'_>) -> [u8; IN_INODE_LEN] {
        self.set(node.xattrs).in_inode
    }

    /// The attributes of a block, and how many inodes share it.
    pub(super) fn block(&self, index: u64) -> (&[Attribute], u32) {
        let block = self.blocks[to_usize(index)];
        (&self.set(block.set).in_block, block.sharers)
    }
}

fn path_of_first(tree: &Tree, set: XattrSetId) -> String {
    let node = tree.nodes().find(|(_, node)| node.xattrs == set);
    node.map_or_else(String::new, |(id, _)| tree.path_of(id))
}
