//! A Vagrant box: a tar of a disk and of the texts that tell Vagrant what to make of it.
//!
//! Invariant: nothing depends on what the disk holds; every offset is known before a byte is read.

use std::sync::Arc;

use super::archive::{Archive, ArchiveError, Content};
use super::fingerprint;
use super::machine::{MachineError, OvfParams, Template, memory_and_cpus, ovf_text};
use super::segments::SegmentMap;
use super::source::ByteSource;
use crate::config::spec::VmSpec;
use crate::formats::vagrant::{
    BoxText, IMAGE_NAME, METADATA_NAME, OVF_NAME, VAGRANTFILE_NAME, VMDK_NAME,
};

/// File name of the disk inside a box for VirtualBox; also the extent name in that VMDK's descriptor.
pub const VMDK_MEMBER_NAME: &str = VMDK_NAME;

/// The first half of VirtualBox's own addresses.
const VIRTUALBOX_MAC: [u8; 3] = [0x08, 0x00, 0x27];

/// What a box is made of besides its disk.
#[derive(Debug, Clone, Copy)]
pub struct BoxParams<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// The machine.
    pub vm: &'a VmSpec,
    /// Its template, if it has one.
    pub template: Option<&'a Template>,
    /// What the network card's address derives from.
    pub seed: &'a str,
    /// Bytes of the disk, not of the file around it.
    pub disk_len: u64,
    /// Time of the members, seconds since 1970.
    pub mtime: i64,
}

/// Why a box cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoxError {
    /// A member does not fit a tar.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The machine cannot be described.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// A box for VirtualBox around `vmdk`, a streamOptimized VMDK.
///
/// # Errors
/// [`BoxError`] if the time does not fit a tar header, or the machine cannot be described.
pub fn virtualbox(
    params: &BoxParams<'_>,
    vmdk: Arc<dyn ByteSource>,
) -> Result<SegmentMap, BoxError> {
    let ovf = ovf_text(&OvfParams {
        name: params.name,
        vm: params.vm,
        template: params.template,
        disk_href: VMDK_NAME,
        disk_file_len: vmdk.len(),
        disk_capacity: params.disk_len,
    })?;
    let text = BoxText::VirtualBox {
        base_mac: base_mac(params.seed),
    };
    archive(
        params.mtime,
        [
            (METADATA_NAME, computed(text.metadata(), "box metadata")),
            (
                VAGRANTFILE_NAME,
                computed(text.vagrantfile(), "Vagrantfile"),
            ),
            (OVF_NAME, computed(ovf, "OVF descriptor")),
            (VMDK_NAME, Content::Source(vmdk)),
        ],
    )
}

/// A box for libvirt around `qcow2`.
///
/// # Errors
/// [`BoxError`] if the time does not fit a tar header, or the machine cannot be described.
pub fn libvirt(params: &BoxParams<'_>, qcow2: Arc<dyn ByteSource>) -> Result<SegmentMap, BoxError> {
    let (memory_mib, cpus) = memory_and_cpus(params.vm, params.template)?;
    let text = BoxText::Libvirt {
        disk_len: params.disk_len,
        memory_mib,
        cpus,
    };
    archive(
        params.mtime,
        [
            (METADATA_NAME, computed(text.metadata(), "box metadata")),
            (
                VAGRANTFILE_NAME,
                computed(text.vagrantfile(), "Vagrantfile"),
            ),
            (IMAGE_NAME, Content::Source(qcow2)),
        ],
    )
}

/// An address of VirtualBox's own range, equal for equal seeds.
fn base_mac(seed: &str) -> [u8; 6] {
    let [a, b, c] = VIRTUALBOX_MAC;
    let [d, e, f, ..] = *fingerprint::uuid(seed, "Vagrant base MAC").as_bytes();
    [a, b, c, d, e, f]
}

fn computed(text: impl Into<Vec<u8>>, structure: &'static str) -> Content {
    Content::Bytes(text.into().into(), structure)
}

/// A tar of the members in this order.
fn archive<const N: usize>(
    mtime: i64,
    members: [(&str, Content); N],
) -> Result<SegmentMap, BoxError> {
    let mut archive = Archive::new(mtime);
    for (name, content) in members {
        archive.add(name, content)?;
    }
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_seed() {
        let one = base_mac("a");
        assert_eq!(one[..3], VIRTUALBOX_MAC);
        assert_eq!(one, base_mac("a"));
        assert_ne!(one, base_mac("b"));
    }
}
