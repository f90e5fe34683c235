//! Two fingerprints of a plan, and the identifiers that derive from the config's seed.
//!
//! The *content* fingerprint is equal on any machine for equal configs and sources; VMDK's content ids come from it.
//! The *identity* fingerprint also covers which host files are read; caches and FUSE inodes go by it.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::host_file::{HostFiles, Identity};
use super::tree::{Content, Node, NodeId, NodeKind, Special, Tree};
use crate::units::to_u64;

/// The namespace of all identifiers: a random UUID, fixed for ever.
const NAMESPACE: Uuid = Uuid::from_u128(0x5b0c_8e52_6d1f_4b67_9f3e_2f1a_84c7_d9e0);
/// Changes when equal plans give other bytes than before, so that nothing mixes images of two versions.
const FORMAT_VERSION: u32 = 1;

/// An identifier for `purpose`, equal for equal seeds.
#[must_use]
pub fn uuid(seed: &str, purpose: &str) -> Uuid {
    let of_seed = Uuid::new_v5(&NAMESPACE, seed.as_bytes());
    Uuid::new_v5(&of_seed, purpose.as_bytes())
}

/// An identifier for `purpose`, equal for equal contents.
#[must_use]
pub fn content_uuid(content: &[u8; 32], purpose: &str) -> Uuid {
    let of_content = Uuid::new_v5(&NAMESPACE, content);
    Uuid::new_v5(&of_content, purpose.as_bytes())
}

/// The disk's signature: never zero, which would mean "none".
#[must_use]
pub fn disk_signature(seed: &str) -> u32 {
    let [a, b, c, d, ..] = *uuid(seed, "disk signature").as_bytes();
    u32::from_le_bytes([a, b, c, d]).max(1)
}

/// A fingerprint in the making. Every part is preceded by its length or is of fixed length, so that different plans
/// never feed equal bytes.
#[derive(Clone)]
pub struct Fingerprint(Sha256);

impl Default for Fingerprint {
    fn default() -> Self {
        Self::new()
    }
}

impl Fingerprint {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let mut this = Self(Sha256::new());
        this.number(FORMAT_VERSION.into());
        this
    }

    /// Adds a number.
    pub fn number(&mut self, value: u64) {
        self.0.update(value.to_le_bytes());
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.number(to_u64(bytes.len()));
        self.0.update(bytes);
    }

    /// Adds a tree: names, attributes and sizes, and the bytes of inline files.
    pub fn tree(&mut self, tree: &Tree) {
        self.number(to_u64(tree.node_count()));
        for (id, node) in tree.nodes() {
            self.node(tree, id, &node);
        }
        self.number(to_u64(tree.xattr_sets().len()));
        for set in tree.xattr_sets() {
            self.number(to_u64(set.len()));
            for (name, value) in set {
                self.bytes(name);
                self.bytes(value);
            }
        }
    }

    fn node(&mut self, tree: &Tree, id: NodeId, node: &Node<'_>) {
        let attributes = &node.attributes;
        self.number(u64::from(attributes.mode) | u64::from(attributes.immutable) << 16);
        self.number(u64::from(attributes.uid) | u64::from(attributes.gid) << 32);
        self.number(attributes.mtime.seconds.cast_unsigned());
        self.number(attributes.mtime.nanoseconds.into());
        self.number(node.xattrs.0.into());
        match node.kind {
            NodeKind::Directory => {
                let entries = tree.entries(id);
                self.number(1);
                self.number(to_u64(entries.len()));
                for entry in entries.iter() {
                    self.bytes(entry.name);
                    self.number(entry.node.0.into());
                }
            }
            NodeKind::File {
                size,
                content: Content::Host(_),
                ranges,
            } => {
                self.number(2);
                self.number(size);
                for range in ranges.into_iter().flatten() {
                    self.number(u64::from(range.file_block) << 32 | u64::from(range.len));
                }
            }
            NodeKind::File {
                content: Content::Inline(bytes),
                ..
            } => {
                self.number(3);
                self.bytes(bytes);
            }
            NodeKind::Symlink(target) => {
                self.number(4);
                self.bytes(target);
            }
            NodeKind::Special(special) => {
                let (kind, major, minor) = match special {
                    Special::CharacterDevice(number) => (5, number.major, number.minor),
                    Special::BlockDevice(number) => (6, number.major, number.minor),
                    Special::Fifo => (7, 0, 0),
                    Special::Socket => (8, 0, 0),
                };
                self.number(kind);
                self.number(u64::from(major) << 32 | u64::from(minor));
            }
        }
    }

    /// Adds which of the host files each file of a tree is.
    pub fn tree_files(&mut self, tree: &Tree) {
        for (_, node) in tree.nodes() {
            if let NodeKind::File {
                content: Content::Host(index),
                ..
            } = node.kind
            {
                self.number(index.into());
            }
        }
    }

    /// Adds which host files are read: the digest of [`Fingerprint::host_file_stamps`] and the devices, as runs of files
    /// on the same one.
    pub fn host_files(&mut self, stamps: &[u8; 32], files: &HostFiles) {
        self.bytes(stamps);
        let mut run: Option<(u64, u64)> = None;
        for index in 0_u32.. {
            let device = files.identity(index).map(|identity| identity.device);
            run = match (run, device) {
                (Some((known, count)), Some(device)) if known == device => {
                    Some((known, count.saturating_add(1)))
                }
                (ended, next) => {
                    if let Some((device, count)) = ended {
                        self.number(device);
                        self.number(count);
                    }
                    next.map(|device| (device, 1))
                }
            };
            if device.is_none() {
                break;
            }
        }
    }

    /// Adds which host files are read, without the numbers of their devices, which change at a reboot.
    pub fn host_file_stamps(&mut self, files: &HostFiles) {
        self.number(to_u64(files.file_count()));
        for index in 0_u32.. {
            let Some(identity) = files.identity(index) else {
                break;
            };
            self.identity(&identity);
        }
    }

    /// All but the device.
    fn identity(&mut self, identity: &Identity) {
        self.number(identity.inode);
        self.number(identity.size);
        for time in [identity.mtime, identity.ctime] {
            self.number(time.seconds().cast_unsigned());
            self.number(time.nanoseconds().into());
        }
    }

    /// The fingerprint.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_depend_on_seed_and_purpose_only() {
        assert_eq!(uuid("a", "x"), uuid("a", "x"));
        assert_ne!(uuid("a", "x"), uuid("b", "x"));
        assert_ne!(uuid("a", "x"), uuid("a", "y"));
        assert_eq!(uuid("a", "x").get_version_num(), 5);
        assert_ne!(disk_signature("a"), 0);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&[u8]]| {
            let mut fingerprint = Fingerprint::new();
            for part in parts {
                fingerprint.bytes(part);
            }
            fingerprint.finish()
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_eq!(of(&[b"ab"]), of(&[b"ab"]));
    }
}
