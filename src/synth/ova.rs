//! An OVA: OVF descriptor, VMDK and manifest in one tar, with every offset known before a byte is read.
//!
//! Invariant: only the manifest's data depends on what the disk holds; it begins a 4096-byte page of its own, so that
//! the page with the VMDK's end holds none of it.

mod manifest;

use std::sync::Arc;

use sha2::{Digest, Sha256};
use zerocopy::IntoBytes;

use self::manifest::MemberDigest;
use super::machine::{MachineError, OvfParams, ovf_text};
use super::region::{Region, copy_padded, read_regions};
use super::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use crate::config::spec::{ManifestSpec, VmSpec};
use crate::formats::tar::{BLOCK_LEN, END_LEN, Member, RECORD_LEN, TarError};
use crate::units::{ByteCount, checked_round_up, to_u64};

/// Where the manifest's data must begin: the page of the kernel's page cache.
const PAGE_LEN: u64 = 4096;
/// Hex digits of a SHA-256.
const DIGEST_HEX_LEN: usize = 64;

/// What an OVA is made of besides its VMDK.
#[derive(Debug, Clone, Copy)]
pub struct OvaParams<'a> {
    /// The machine's name and the base name of the members; at most 84 bytes.
    pub name: &'a str,
    /// The machine.
    pub vm: &'a VmSpec,
    /// Size of the disk inside the VMDK, in bytes.
    pub disk_capacity: u64,
    /// Time of the members, seconds since 1970.
    pub mtime: i64,
    /// The manifest, if there is one.
    pub manifest: Option<ManifestSpec>,
}

/// Why an OVA cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OvaError {
    /// A member does not fit a tar header.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The machine cannot be described.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The archive would be longer than 2^64 - 1 bytes.
    #[error("{name}: VMDK of {len}: the archive around it would end above 2^64 - 1 bytes")]
    TooLarge {
        /// The member.
        name: String,
        /// Its length.
        len: ByteCount,
    },
}

/// File name of the disk inside the OVA of machine `name`; also the extent name in that VMDK's descriptor.
#[must_use]
pub fn disk_member_name(name: &str) -> String {
    format!("{name}-disk1.vmdk")
}

/// A VM package as one tar.
pub struct Ova {
    regions: Vec<Region<Kind>>,
    len: u64,
    members: Vec<MemberPlan>,
    ovf: Vec<u8>,
    vmdk: Arc<dyn ByteSource>,
    /// `None` without a manifest.
    manifest: Option<ManifestPlan>,
}

struct MemberPlan {
    name: String,
    header: [u8; 512],
}

/// The manifest's text around the VMDK's digest.
struct ManifestPlan {
    before: String,
    digest: MemberDigest,
}

/// Index into `Ova::members`.
type MemberIndex = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Header(MemberIndex),
    Ovf,
    Vmdk,
    Manifest,
    Padding,
}

impl Ova {
    /// An OVA around `vmdk`, a streamOptimized VMDK.
    ///
    /// # Errors
    /// [`OvaError`] if a name or time does not fit a tar header, or the machine cannot be described.
    pub fn new(params: OvaParams<'_>, vmdk: Arc<dyn ByteSource>) -> Result<Self, OvaError> {
        let disk_name = disk_member_name(params.name);
        let ovf_name = format!("{}.ovf", params.name);
        let manifest_name = format!("{}.mf", params.name);
        let mut ovf = ovf_text(&OvfParams {
            name: params.name,
            vm: params.vm,
            disk_href: &disk_name,
            disk_file_len: vmdk.len(),
            disk_capacity: params.disk_capacity,
        })?;
        let too_large = || OvaError::TooLarge {
            name: disk_name.clone(),
            len: ByteCount(vmdk.len()),
        };
        if params.manifest.is_some() {
            pad_ovf(&mut ovf, vmdk.len()).ok_or_else(too_large)?;
        }
        let manifest = params.manifest.map(|_| ManifestPlan {
            before: format!(
                "SHA256({ovf_name})= {}\nSHA256({disk_name})= ",
                hex(&Sha256::digest(&ovf))
            ),
            digest: MemberDigest::new(Arc::clone(&vmdk)),
        });
        let mut contents = vec![
            (ovf_name, to_u64(ovf.len()), Kind::Ovf),
            (disk_name.clone(), vmdk.len(), Kind::Vmdk),
        ];
        if let Some(plan) = &manifest {
            contents.push((manifest_name, to_u64(plan.text_len()), Kind::Manifest));
        }
        let mut layout = Layout::default();
        let mut members = Vec::new();
        for (index, (name, size, kind)) in contents.into_iter().enumerate() {
            let member = Member {
                name: &name,
                size,
                mtime: params.mtime,
            };
            let mut header = [0; 512];
            header.copy_from_slice(member.to_raw()?.as_bytes());
            members.push(MemberPlan { name, header });
            layout
                .push(Kind::Header(index), BLOCK_LEN)
                .and_then(|()| layout.push(kind, size))
                .and_then(|()| layout.pad(BLOCK_LEN))
                .ok_or_else(too_large)?;
        }
        layout
            .push(Kind::Padding, END_LEN)
            .and_then(|()| layout.pad(RECORD_LEN))
            .ok_or_else(too_large)?;
        Ok(Self {
            regions: layout.regions,
            len: layout.len,
            members,
            ovf,
            vmdk,
            manifest,
        })
    }

    /// Bytes that were read in the background for the manifest alone.
    #[must_use]
    pub fn second_read_bytes(&self) -> u64 {
        self.manifest
            .as_ref()
            .map_or(0, |plan| plan.digest.second_read_bytes())
    }

    fn region_at(&self, offset: u64) -> Region<Kind> {
        let index = self.regions.partition_point(|region| region.end <= offset);
        *self
            .regions
            .get(index)
            .expect("regions cover the archive, the offset is inside")
    }

    fn fill(&self, kind: Kind, within: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        match kind {
            Kind::Header(index) => {
                let member = self.members.get(index).expect("regions name members");
                copy_padded(&member.header, within, buf);
            }
            Kind::Ovf => copy_padded(&self.ovf, within, buf),
            Kind::Padding => buf.fill(0),
            Kind::Vmdk => {
                self.vmdk.read_exact_at(within, buf)?;
                if let Some(plan) = &self.manifest {
                    plan.digest.observe(within, buf);
                }
            }
            Kind::Manifest => {
                let plan = self
                    .manifest
                    .as_ref()
                    .expect("the region exists with a manifest only");
                copy_padded(plan.text()?.as_bytes(), within, buf);
            }
        }
        Ok(())
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl ManifestPlan {
    /// Length of [`Self::text`].
    fn text_len(&self) -> usize {
        self.before
            .len()
            .saturating_add(DIGEST_HEX_LEN)
            .saturating_add(1)
    }

    /// The whole text; waits for the VMDK's digest.
    fn text(&self) -> Result<String, ReadError> {
        let text = format!("{}{}\n", self.before, hex(&self.digest.wait()?));
        debug_assert_eq!(text.len(), self.text_len());
        Ok(text)
    }
}

/// Regions of a tar, appended one after the other.
#[derive(Default)]
struct Layout {
    regions: Vec<Region<Kind>>,
    len: u64,
}

impl Layout {
    /// `None` above 2^64 - 1 bytes.
    fn push(&mut self, kind: Kind, len: u64) -> Option<()> {
        let end = self.len.checked_add(len)?;
        if len > 0 {
            self.regions.push(Region::new(kind, self.len, len));
        }
        self.len = end;
        Some(())
    }

    fn pad(&mut self, unit: u64) -> Option<()> {
        let end = checked_round_up(self.len, unit)?;
        self.push(Kind::Padding, end.checked_sub(self.len)?)
    }
}

impl ByteSource for Ova {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len)?;
        read_regions(
            offset,
            buf,
            |offset| self.region_at(offset),
            |region, within, part| self.fill(region.kind, within, part),
        )
    }

    fn run_at(&self, offset: u64) -> Run {
        if offset >= self.len {
            return Run::EMPTY;
        }
        let region = self.region_at(offset);
        let len = region.rest(offset);
        let origin = match region.kind {
            Kind::Header(_) => Origin::Computed("tar header"),
            Kind::Ovf => Origin::Computed("OVF descriptor"),
            Kind::Manifest => Origin::Computed("OVA manifest"),
            Kind::Padding => Origin::Zero,
            Kind::Vmdk => {
                let run = self.vmdk.run_at(region.within(offset));
                return Run {
                    len: run.len.min(len),
                    origin: run.origin,
                };
            }
        };
        Run { len, origin }
    }

    fn known_zero_at(&self, offset: u64) -> (bool, u64) {
        if offset >= self.len {
            return (true, 0);
        }
        let region = self.region_at(offset);
        if !matches!(region.kind, Kind::Vmdk) {
            let run = self.run_at(offset);
            return (run.origin.is_zero(), run.len);
        }
        let (is_zero, len) = self.vmdk.known_zero_at(region.within(offset));
        (is_zero, len.min(region.rest(offset)))
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        if offset >= self.len {
            return;
        }
        let region = self.region_at(offset);
        let within = region.within(offset);
        let name = |index: MemberIndex| self.members.get(index).map_or("", |member| &member.name);
        let what = match region.kind {
            Kind::Header(index) => format!("tar header of {}", name(index)),
            Kind::Ovf => format!("tar member {}", name(0)),
            Kind::Vmdk => format!("tar member {}", name(1)),
            Kind::Manifest => format!("tar member {}", name(2)),
            Kind::Padding => "tar padding".to_owned(),
        };
        trail.push(Step {
            what,
            offset: within,
        });
        if region.kind == Kind::Vmdk {
            self.vmdk.explain_at(within, trail);
        }
    }

    fn may_block(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len);
        let unknown = self
            .manifest
            .as_ref()
            .is_some_and(|plan| !plan.digest.is_known());
        self.regions.iter().any(|region| {
            len > 0
                && region.start < end
                && region.end > offset
                && match region.kind {
                    Kind::Manifest => unknown,
                    Kind::Vmdk => {
                        let from = offset.max(region.start);
                        let len = end.min(region.end).saturating_sub(from);
                        self.vmdk.may_block(region.within(from), len)
                    }
                    Kind::Header(_) | Kind::Ovf | Kind::Padding => false,
                }
        })
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

    #[test]
    fn digests_are_hex() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
    }
}
