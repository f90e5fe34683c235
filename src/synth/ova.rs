//! An OVA: OVF descriptor, VMDK and manifest in one tar, with every offset known before a byte is read; or the same as
//! loose files.
//!
//! Invariant: only the manifest's data depends on what the disk holds. As the last member it begins a 4096-byte page of
//! its own, so that the page with the VMDK's end holds none of it.

use std::sync::Arc;

use super::archive::{Archive, ArchiveError, Content};
use super::grain_index::{IndexError, IndexProgress};
use super::index_store::DigestStore;
use super::machine::{MachineError, OvfParams, Template, ovf_text};
use super::manifest::{Manifest, MemberDigest, Observed};
use super::segments::SegmentMap;
use super::source::{ByteSource, ReadError, Run, Step};
use crate::config::spec::{ManifestPosition, ManifestSpec, VmSpec};
use crate::formats::tar::BLOCK_LEN;
use crate::units::{ByteCount, checked_round_up, to_u64};

/// Where the manifest's data must begin: the page of the kernel's page cache.
const PAGE_LEN: u64 = 4096;
/// What explanations call the OVF.
const OVF: &str = "OVF descriptor";

/// What a package is made of besides its VMDK.
#[derive(Debug, Clone)]
pub struct OvaParams<'a> {
    /// The machine's name and, in an OVA, the base name of the members; at most 84 bytes.
    pub name: &'a str,
    /// The machine.
    pub vm: &'a VmSpec,
    /// Its template, if it has one.
    pub template: Option<&'a Template>,
    /// Size of the disk inside the VMDK, in bytes.
    pub disk_capacity: u64,
    /// Time of the members, seconds since 1970.
    pub mtime: i64,
    /// The manifest, if there is one.
    pub manifest: Option<ManifestSpec>,
    /// Where the disk's digest is kept between mounts, if it is.
    pub digests: Option<DigestStore>,
}

/// Why a package cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OvaError {
    /// A member does not fit a tar.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The machine cannot be described.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// File name of the disk of a package called `name`; also the extent name in that VMDK's descriptor.
#[must_use]
pub fn disk_member_name(name: &str) -> String {
    format!("{name}-disk1.vmdk")
}

/// A VM package as one tar.
pub struct Ova {
    archive: SegmentMap,
    /// The member, as it is served.
    disk: Arc<dyn ByteSource>,
    manifest: Option<Arc<Manifest>>,
    position: Option<ManifestPosition>,
}

/// A VM package as files.
pub struct Package {
    /// The descriptor.
    pub ovf: SegmentMap,
    /// The VMDK.
    pub disk: Arc<dyn ByteSource>,
    /// The manifest, if there is one.
    pub manifest: Option<Arc<Manifest>>,
}

/// The descriptor, the disk and the manifest of a package whose files have the base name `base`.
struct Parts {
    ovf: Arc<[u8]>,
    disk: Arc<dyn ByteSource>,
    manifest: Option<Arc<Manifest>>,
}

impl Parts {
    fn new(
        params: OvaParams<'_>,
        base: &str,
        disk: Arc<dyn ByteSource>,
        pad: impl FnOnce(&mut Vec<u8>) -> Result<(), OvaError>,
    ) -> Result<Self, OvaError> {
        let disk_name = disk_member_name(base);
        let mut ovf = ovf_text(&OvfParams {
            name: params.name,
            vm: params.vm,
            template: params.template,
            disk_href: &disk_name,
            disk_file_len: disk.len(),
            disk_capacity: params.disk_capacity,
        })?;
        pad(&mut ovf)?;
        let Some(spec) = params.manifest else {
            return Ok(Self {
                ovf: ovf.into(),
                disk,
                manifest: None,
            });
        };
        let digest = MemberDigest::new(Arc::clone(&disk), spec.algorithm, params.digests);
        let digest = Arc::new(digest);
        let manifest = Manifest::new(
            spec.algorithm,
            (&format!("{base}.ovf"), &ovf),
            &disk_name,
            Arc::clone(&digest),
        );
        Ok(Self {
            ovf: ovf.into(),
            disk: Arc::new(Observed::new(disk, digest)),
            manifest: Some(Arc::new(manifest)),
        })
    }
}

impl Package {
    /// A package around `disk`, a streamOptimized VMDK, whose files have the base name `base`.
    ///
    /// # Errors
    /// [`OvaError`] if the machine cannot be described.
    pub fn new(
        params: OvaParams<'_>,
        base: &str,
        disk: Arc<dyn ByteSource>,
    ) -> Result<Self, OvaError> {
        let parts = Parts::new(params, base, disk, |_| Ok(()))?;
        let mut ovf = SegmentMap::new();
        ovf.push_bytes(OVF, OVF, parts.ovf);
        Ok(Self {
            ovf,
            disk: parts.disk,
            manifest: parts.manifest,
        })
    }
}

impl Ova {
    /// An OVA around `vmdk`, a streamOptimized VMDK.
    ///
    /// # Errors
    /// [`OvaError`] if a name or time does not fit a tar header, or the machine cannot be described.
    pub fn new(params: OvaParams<'_>, vmdk: Arc<dyn ByteSource>) -> Result<Self, OvaError> {
        let (name, mtime) = (params.name, params.mtime);
        let position = params.manifest.map(|spec| spec.position);
        let vmdk_len = vmdk.len();
        let parts = Parts::new(params, name, vmdk, |ovf| {
            if position == Some(ManifestPosition::Last) {
                pad_ovf(ovf, vmdk_len).ok_or_else(|| ArchiveError::TooLarge {
                    name: disk_member_name(name),
                    len: ByteCount(vmdk_len),
                })?;
            }
            Ok(())
        })?;
        let mut archive = Archive::new(mtime);
        archive.add(&format!("{name}.ovf"), Content::Bytes(parts.ovf, OVF))?;
        let manifest_name = format!("{name}.mf");
        let add_manifest = |archive: &mut Archive, at| match &parts.manifest {
            Some(manifest) if position == Some(at) => {
                let manifest: Arc<dyn ByteSource> = Arc::<Manifest>::clone(manifest);
                archive.add(&manifest_name, Content::Source(manifest))
            }
            _ => Ok(()),
        };
        add_manifest(&mut archive, ManifestPosition::Second)?;
        archive.add(
            &disk_member_name(name),
            Content::Source(Arc::clone(&parts.disk)),
        )?;
        add_manifest(&mut archive, ManifestPosition::Last)?;
        Ok(Self {
            archive: archive.finish(),
            disk: parts.disk,
            manifest: parts.manifest,
            position,
        })
    }

    /// Hashes the disk, on all cores, if the manifest stands before it: a reader from front to back shall not wait there.
    ///
    /// # Errors
    /// The disk's, and [`IndexError::Stopped`].
    pub fn settle(&self, progress: &IndexProgress) -> Result<(), IndexError> {
        match &self.manifest {
            Some(manifest) if self.position == Some(ManifestPosition::Second) => {
                manifest.settle(&*self.disk, progress)
            }
            _ => Ok(()),
        }
    }

    /// Bytes that were read in the background for the manifest alone.
    #[must_use]
    pub fn second_read_bytes(&self) -> u64 {
        self.manifest
            .as_ref()
            .map_or(0, |manifest| manifest.second_read_bytes())
    }
}

/// Lengthens the descriptor with blanks behind its root element, so that the manifest's data begins a page.
/// `None` if the archive would be longer than 2^64 - 1 bytes.
fn pad_ovf(ovf: &mut Vec<u8>, vmdk_len: u64) -> Option<()> {
    // Three headers lie in front of the manifest's data, and the VMDK; the descriptor has to fill up the page.
    let others = checked_round_up(vmdk_len, BLOCK_LEN)?.checked_add(3 * BLOCK_LEN)?;
    let whole = checked_round_up(others.checked_add(to_u64(ovf.len()))?, PAGE_LEN)?;
    let target = usize::try_from(whole.checked_sub(others)?).ok()?;
    if ovf.len() < target {
        ovf.resize(target.checked_sub(1)?, b' ');
        ovf.push(b'\n');
    }
    Some(())
}

impl ByteSource for Ova {
    fn len(&self) -> u64 {
        self.archive.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.archive.read_exact_at(offset, buf)
    }

    fn run_at(&self, offset: u64) -> Run {
        self.archive.run_at(offset)
    }

    fn known_zero_at(&self, offset: u64) -> (bool, u64) {
        self.archive.known_zero_at(offset)
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        self.archive.explain_at(offset, trail);
    }

    fn may_block(&self, offset: u64, len: u64) -> bool {
        self.archive.may_block(offset, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_moves_the_manifest_to_a_page() {
        for vmdk_len in [0, 1, 511, 512, 4096, 66048, 1 << 40] {
            for ovf_len in [4000, 4095, 4096, 4097] {
                let mut ovf = vec![b'x'; ovf_len];
                pad_ovf(&mut ovf, vmdk_len).unwrap();
                let vmdk_end = 512 + to_u64(ovf.len()).next_multiple_of(512) + 512 + vmdk_len;
                let data = vmdk_end.next_multiple_of(512) + 512;
                assert_eq!(data % 4096, 0, "{vmdk_len} {ovf_len}");
                assert!(ovf.len() - ovf_len < 4096);
            }
        }
        assert_eq!(pad_ovf(&mut vec![b'x'; 10], u64::MAX - 2000), None);
    }
}
