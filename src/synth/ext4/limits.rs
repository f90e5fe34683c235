//! What ext4 cannot hold of single files, whatever the size of the file system.

use std::collections::BTreeMap;

use super::directory::{self, DirectoryPlan};
use super::error::Ext4Error;
use super::xattr;
use crate::formats::ext4::htree::HashSeed;
use crate::formats::ext4::{BLOCK_SIZE, inode};
use crate::synth::mistakes::Mistakes;
use crate::synth::tree::{NodeId, NodeKind, Special, Tree, XattrSetId};

/// Blocks of a file are numbered with 32 bits.
pub(super) const FILE_BLOCKS_MAX: u64 = 0xffff_ffff;

/// Checks one node, directories and attributes aside.
pub(super) fn check_node(tree: &Tree, id: NodeId, kind: &NodeKind<'_>) -> Result<(), Ext4Error> {
    match kind {
        NodeKind::File { size, .. } if size.div_ceil(BLOCK_SIZE) > FILE_BLOCKS_MAX => {
            Err(Ext4Error::FileTooLarge {
                path: tree.path_of(id),
                size: *size,
                limit: FILE_BLOCKS_MAX.saturating_mul(BLOCK_SIZE),
            })
        }
        NodeKind::Special(Special::CharacterDevice(number) | Special::BlockDevice(number))
            if inode::device(number.major, number.minor).is_none() =>
        {
            Err(Ext4Error::DeviceNumber {
                path: tree.path_of(id),
                major: number.major,
                minor: number.minor,
            })
        }
        _ => Ok(()),
    }
}

/// All that is wrong with a tree, in its order: planning stops at the first of it.
#[must_use]
pub fn mistakes_of(tree: &Tree) -> Mistakes<Ext4Error> {
    let mut mistakes = Mistakes::default();
    let bad_sets: BTreeMap<XattrSetId, Ext4Error> = (0..)
        .map(XattrSetId)
        .zip(tree.xattr_sets())
        .filter_map(|(id, set)| Some((id, xattr::check(set).err()?)))
        .collect();
    for (id, node) in tree.nodes() {
        if matches!(node.kind, NodeKind::Directory)
            && directory::may_be_too_large(tree.entries(id).len())
        {
            // How full the leaves are depends on the seed by a little; too large is too large with any.
            let seed = HashSeed::from_bytes([0; 16]);
            mistakes.take(DirectoryPlan::new(tree, id, seed));
        }
        mistakes.take(check_node(tree, id, &node.kind));
        if let Some(error) = bad_sets.get(&node.xattrs) {
            mistakes.note_with(|| error.clone().of_file(tree.path_of(id)));
        }
    }
    mistakes
}
