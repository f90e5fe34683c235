//! What planning remembers, so that planning again reads only what changed.
//!
//! Invariant: with what was touched forgotten, a plan comes out as it would without a memory, byte for byte and
//! fingerprint for fingerprint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::data_map::DataMap;
use super::ext4::Ext4;
use super::grain_index::GrainIndex;
use super::host_file::HostFiles;
use super::partition::FilesystemReport;
use super::plan_error::PlanWarning;
use super::source::ByteSource;
use super::tree::{ScanMemory, attributes_digest};
use crate::config::spec::{CopySpec, PartitionSpec};
use crate::units::Lba;

/// A partition with a file system, as it was planned.
pub(super) struct KeptPartition {
    pub(super) key: PartitionKey,
    /// Files and directories that it was made of.
    pub(super) sources: Vec<PathBuf>,
    /// What those themselves were.
    pub(super) roots: Roots,
    pub(super) place: (Lba, u64),
    /// Sectors that it takes, if that follows from its contents.
    pub(super) fitted: Option<u64>,
    pub(super) ext4: Arc<Ext4>,
    pub(super) source: Arc<dyn ByteSource>,
    pub(super) report: FilesystemReport,
    pub(super) files: Arc<HostFiles>,
    pub(super) digests: TreeDigests,
    pub(super) warnings: Vec<PlanWarning>,
}

/// What the host said of the paths that a partition's sources are; nothing of one that is not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Roots(Vec<Option<u64>>);

impl Roots {
    pub(super) fn of(sources: &[PathBuf]) -> Self {
        Self(sources.iter().map(|path| attributes_digest(path)).collect())
    }
}

/// All that decides how a partition comes out, besides its sources and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionKey {
    /// Without places in the config.
    pub(super) spec: PartitionSpec,
    /// What it takes from the rest of the config, the boot loader and the options.
    pub(super) surroundings: [u8; 32],
    /// Where it is typed, for one whose warnings tell.
    pub(super) location: Option<crate::config::spec::Location>,
}

/// Fingerprints of a tree and its host files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TreeDigests {
    pub(super) content: [u8; 32],
    pub(super) places: [u8; 32],
    pub(super) identity: [u8; 32],
    pub(super) stamps: [u8; 32],
}

/// The disk of the last plan.
pub(super) struct KeptDisk {
    pub(super) identity: [u8; 32],
    pub(super) stamps: [u8; 32],
    pub(super) disk: Arc<dyn ByteSource>,
    pub(super) data: Arc<DataMap>,
    pub(super) indexes: Indexes,
}

/// Indexes of compressed grains, by the level of compression.
pub(super) type Indexes = Arc<Mutex<BTreeMap<u8, Arc<GrainIndex>>>>;

/// What planning remembers.
#[derive(Default)]
pub struct PlanMemory {
    /// `None` remembers nothing.
    pub(super) scans: Option<Arc<ScanMemory>>,
    pub(super) partitions: Vec<Arc<KeptPartition>>,
    pub(super) disk: Option<KeptDisk>,
}

impl PlanMemory {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            scans: Some(Arc::default()),
            ..Self::default()
        }
    }

    /// A memory that keeps nothing: for one plan alone.
    #[must_use]
    pub fn forgetful() -> Self {
        Self::default()
    }

    /// Something at `path` of the host may have changed: what was read of the directory that holds it, and of the
    /// directory at `path` itself and all below, is read again by the next plan.
    pub fn forget(&mut self, path: &Path) {
        if let Some(scans) = &self.scans {
            scans.forget(path);
        }
        let concerns = |source: &PathBuf| path.starts_with(source) || source.starts_with(path);
        self.partitions
            .retain(|kept| !kept.sources.iter().any(concerns));
    }

    /// Nothing that was read of the sources is trusted any more.
    pub fn forget_all(&mut self) {
        if let Some(scans) = &self.scans {
            scans.forget_all();
        }
        self.partitions.clear();
    }

    /// Looks at all sources again and forgets what is another now. What is as it was need not be planned again.
    pub fn look_again(&mut self) {
        let Some(scans) = self.scans.clone() else {
            return self.forget_all();
        };
        for path in scans.look_again() {
            self.forget(&path);
        }
        // What is no directory is not listed, and of a directory its own attributes are not among what is in it.
        self.partitions
            .retain(|kept| kept.roots == Roots::of(&kept.sources));
    }

    /// The directories of the host that were listed for the last plan, absolute: what is to be watched.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        self.scans
            .as_ref()
            .map_or_else(Vec::new, |scans| scans.directories())
    }

    /// The partition as it was planned for the same key, if nothing of it was forgotten.
    pub(super) fn find(&self, key: &PartitionKey) -> Option<Arc<KeptPartition>> {
        let mut kept = self.partitions.iter();
        kept.find(|kept| {
            kept.key.spec == key.spec
                && kept.key.surroundings == key.surroundings
                && (kept.key.location.is_none() || kept.key.location == key.location)
        })
        .cloned()
    }

    /// Replaces what is known by what a plan came to.
    pub(super) fn keep(&mut self, partitions: Vec<Arc<KeptPartition>>, disk: KeptDisk) {
        let Some(scans) = &self.scans else {
            return;
        };
        for copy in partitions.iter().flat_map(|kept| &kept.key.spec.copies) {
            scans.keep(copy);
        }
        self.partitions = partitions;
        self.disk = Some(disk);
        scans.forget_unused();
    }
}

impl KeptPartition {
    /// The paths that the sources of a partition are made of.
    pub(super) fn sources_of(spec: &PartitionSpec) -> Vec<PathBuf> {
        let copies = spec.copies.iter();
        let paths = |copy: &CopySpec| [Some(copy.from.clone()), copy.owners.clone()];
        copies.flat_map(paths).flatten().collect()
    }
}
