//! What ext4 cannot hold of single files, whatever the size of the file system.

use std::collections::BTreeMap;

use super::directory::{self, DirectoryPlan};
use super::error::Ext4Error;
use super::plan::geometry;
use super::xattr;
use crate::config::spec::Ext4Spec;
use crate::formats::ext4::geometry::Geometry;
use crate::formats::ext4::htree::HashSeed;
use crate::formats::ext4::inode;
use crate::synth::mistakes::Mistakes;
use crate::synth::tree::{NodeId, NodeKind, Special, Tree, XattrSetId};
use crate::units::to_u64;

/// Blocks of a file are numbered with 32 bits.
pub(super) const FILE_BLOCKS_MAX: u64 = 0xffff_ffff;

/// Checks one node, directories and attributes aside.
pub(super) fn check_node(
    tree: &Tree,
    id: NodeId,
    kind: &NodeKind<'_>,
    geometry: &Geometry,
) -> Result<(), Ext4Error> {
    let block_size = geometry.block_size();
    match kind {
        NodeKind::File { size, .. } if size.div_ceil(block_size) > FILE_BLOCKS_MAX => {
            Err(Ext4Error::FileTooLarge {
                path: tree.path_of(id),
                size: *size,
                block_size,
                limit: FILE_BLOCKS_MAX.saturating_mul(block_size),
            })
        }
        NodeKind::Symlink(target) if to_u64(target.len()) > geometry.symlink_len_max() => {
            Err(Ext4Error::SymlinkTooLong {
                path: tree.path_of(id),
                len: to_u64(target.len()),
                limit: geometry.symlink_len_max(),
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
pub fn mistakes_of(tree: &Tree, spec: &Ext4Spec) -> Mistakes<Ext4Error> {
    let geometry = &geometry(spec);
    let mut mistakes = Mistakes::default();
    let bad_sets: BTreeMap<XattrSetId, Ext4Error> = (0..)
        .map(XattrSetId)
        .zip(tree.xattr_sets())
        .filter_map(|(id, set)| Some((id, xattr::check(set, geometry).err()?)))
        .collect();
    for (id, node) in tree.nodes() {
        if matches!(node.kind, NodeKind::Directory)
            && directory::may_be_too_large(tree.entries(id).len(), geometry)
        {
            // How full the leaves are depends on the seed by a little; too large is too large with any.
            let seed = HashSeed::from_bytes([0; 16]);
            mistakes.take(DirectoryPlan::new(tree, id, seed, geometry));
        }
        mistakes.take(check_node(tree, id, &node.kind, geometry));
        if let Some(error) = bad_sets.get(&node.xattrs) {
            mistakes.note_with(|| error.clone().of_file(tree.path_of(id)));
        }
    }
    mistakes
}
