//! The partitions of a config: what each holds before and after its place is known, taken from the memory where nothing
//! of it changed.

use std::sync::Arc;

use super::boot::BootLoader;
use super::cache::Cached;
use super::ext4::{Ext4, Ext4Plan, JOURNAL_FS_BLOCKS_MIN, SizeRequest};
use super::fingerprint::Fingerprint;
use super::generation::PlanOptions;
use super::host_file::HostFiles;
use super::identifiers::Identifiers;
use super::memory::{KeptPartition, PartitionKey, PlanMemory, Roots, TreeDigests};
use super::mistakes::Mistakes;
use super::partition::{self, FilesystemReport, Found, PartitionTree, ScanOptions};
use super::plan_error::{PlanError, PlanWarning};
use super::source::ByteSource;
use crate::config::spec::{DiskSize, Filesystem, Journal, PartitionSize, PartitionSpec, Spec};
use crate::units::{Lba, SECTOR_SIZE};

/// Trees from which on a thread is worth its start.
const NODES_FOR_THREADS: usize = 1000;

/// What a partition holds before its place is known.
pub(super) enum Contents<'a> {
    Empty,
    Swap,
    /// As in an earlier plan.
    Kept(Arc<KeptPartition>),
    Scanned(Box<Scanned<'a>>),
}

/// A partition whose sources were scanned.
pub(super) struct Scanned<'a> {
    file_system: FileSystem<'a>,
    files: HostFiles,
    digests: TreeDigests,
    warnings: Vec<PlanWarning>,
    roots: Roots,
}

/// A file system before and after its size is known.
enum FileSystem<'a> {
    /// Waits for the size.
    Tree(Box<PartitionTree<'a>>),
    /// As small as possible; the size follows from it.
    Planned(Box<Ext4Plan>),
}

impl Contents<'_> {
    /// The sectors that it takes, if that does not depend on the place.
    pub(super) fn fitted(&self) -> Option<u64> {
        match self {
            Self::Empty | Self::Swap => None,
            Self::Kept(kept) => kept.fitted,
            Self::Scanned(scanned) => scanned.fitted(),
        }
    }
}

impl Scanned<'_> {
    fn fitted(&self) -> Option<u64> {
        let FileSystem::Planned(plan) = &self.file_system else {
            return None;
        };
        let sectors_per_block = plan.block_size() / SECTOR_SIZE;
        Some(plan.block_count().saturating_mul(sectors_per_block))
    }
}

/// What a partition holds once its place is known.
pub(super) enum Filled {
    Empty,
    Swap(Arc<dyn ByteSource>, Box<FilesystemReport>),
    Ext4(Arc<KeptPartition>),
}

impl Filled {
    pub(super) fn source(&self) -> Option<Arc<dyn ByteSource>> {
        match self {
            Self::Empty => None,
            Self::Swap(source, _) => Some(Arc::clone(source)),
            Self::Ext4(kept) => Some(Arc::clone(&kept.source)),
        }
    }

    pub(super) fn report(&self) -> Option<FilesystemReport> {
        match self {
            Self::Empty => None,
            Self::Swap(_, report) => Some(*report.clone()),
            Self::Ext4(kept) => Some(kept.report.clone()),
        }
    }

    pub(super) fn ext4(&self) -> Option<Arc<Ext4>> {
        self.kept().map(|kept| Arc::clone(&kept.ext4))
    }

    pub(super) fn files(&self) -> Option<&Arc<HostFiles>> {
        self.kept().map(|kept| &kept.files)
    }

    pub(super) fn digests(&self) -> Option<TreeDigests> {
        self.kept().map(|kept| kept.digests)
    }

    pub(super) fn warnings(&self) -> Vec<PlanWarning> {
        self.kept()
            .map_or_else(Vec::new, |kept| kept.warnings.clone())
    }

    pub(super) fn into_kept(self) -> Option<Arc<KeptPartition>> {
        match self {
            Self::Ext4(kept) => Some(kept),
            Self::Empty | Self::Swap(..) => None,
        }
    }

    const fn kept(&self) -> Option<&Arc<KeptPartition>> {
        match self {
            Self::Ext4(kept) => Some(kept),
            Self::Empty | Self::Swap(..) => None,
        }
    }
}

/// Makes the partitions of one config.
pub(super) struct Partitions<'a> {
    spec: &'a Spec,
    options: &'a PlanOptions,
    boot_loader: Option<&'a BootLoader>,
    memory: &'a PlanMemory,
    surroundings: [u8; 32],
}

impl<'a> Partitions<'a> {
    pub(super) fn new(
        spec: &'a Spec,
        options: &'a PlanOptions,
        boot_loader: Option<&'a BootLoader>,
        memory: &'a PlanMemory,
    ) -> Self {
        Self {
            spec,
            options,
            boot_loader,
            memory,
            surroundings: surroundings(spec, options, boot_loader),
        }
    }

    fn key(&self, partition: &PartitionSpec) -> PartitionKey {
        PartitionKey {
            spec: partition.without_locations(),
            surroundings: self.surroundings,
            location: Some(partition.location.clone()),
        }
    }

    /// What a partition holds: as it was, or scanned.
    pub(super) fn contents(
        &self,
        partition: &'a PartitionSpec,
    ) -> Result<Contents<'a>, Mistakes<PlanError>> {
        match partition.filesystem {
            Filesystem::None => return Ok(Contents::Empty),
            Filesystem::Swap => return Ok(Contents::Swap),
            Filesystem::Ext4(_) => {}
        }
        if let Some(kept) = self.memory.find(&self.key(partition)) {
            return Ok(Contents::Kept(kept));
        }
        self.scan(partition)
            .map(|scanned| Contents::Scanned(Box::new(scanned)))
    }

    fn scan(&self, partition: &'a PartitionSpec) -> Result<Scanned<'a>, Mistakes<PlanError>> {
        // Before anything else is read of them, so that nothing that happens meanwhile is taken for old.
        let roots = self.roots_of(partition);
        let mut found = Found::default();
        let options = ScanOptions {
            skip_unreadable: self.options.skip_unreadable,
            progress: self.options.progress.clone(),
            scans: self.memory.scans.clone(),
        };
        let tree =
            PartitionTree::scan(self.spec, partition, self.boot_loader, &options, &mut found);
        let Found {
            files,
            mut warnings,
            mut mistakes,
        } = found;
        let Some(tree) = tree else {
            return Err(mistakes);
        };
        mistakes.take(partition::check_boot(
            &tree.tree,
            partition,
            &files,
            &mut warnings,
        ));
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let digests = TreeDigests::of(&tree, &files);
        let file_system = if self.is_auto(partition) {
            let block_size = u64::from(tree.ext4.block_size);
            let free_blocks = partition.free.unwrap_or(0).div_ceil(block_size);
            let plan = tree.plan(self.spec, SizeRequest::Fit { free_blocks })?;
            FileSystem::Planned(Box::new(plan))
        } else {
            FileSystem::Tree(Box::new(tree))
        };
        Ok(Scanned {
            file_system,
            files,
            digests,
            warnings,
            roots,
        })
    }

    /// What the sources themselves are, where anybody will ask.
    fn roots_of(&self, partition: &PartitionSpec) -> Roots {
        let sources = KeptPartition::sources_of(partition);
        let asked = self.memory.scans.as_ref().map(|_| &*sources);
        Roots::of(asked.unwrap_or_default())
    }

    /// `rest` of a disk that is as small as possible is nothing more than needed.
    fn is_auto(&self, partition: &PartitionSpec) -> bool {
        match partition.size {
            PartitionSize::Auto => true,
            PartitionSize::Rest => self.spec.disk.size == DiskSize::Auto,
            PartitionSize::Fixed(_) => false,
        }
    }

    /// What a partition holds in its place.
    pub(super) fn fill(
        &self,
        partition: &'a PartitionSpec,
        contents: Contents<'a>,
        place: (Lba, u64),
    ) -> Result<Filled, Mistakes<PlanError>> {
        match contents {
            Contents::Empty => Ok(Filled::Empty),
            Contents::Swap => {
                let (swap, report) = partition::swap(self.spec, partition, place.1)?;
                Ok(Filled::Swap(Arc::new(swap), Box::new(report)))
            }
            Contents::Kept(kept) if kept.place == place => Ok(Filled::Ext4(kept)),
            // What was listed is known, but the size or the boot loader's position is another.
            Contents::Kept(_) => self.finish(partition, self.scan(partition)?, place),
            Contents::Scanned(scanned) => self.finish(partition, *scanned, place),
        }
    }

    fn finish(
        &self,
        partition: &PartitionSpec,
        scanned: Scanned<'_>,
        place: (Lba, u64),
    ) -> Result<Filled, Mistakes<PlanError>> {
        let fitted = scanned.fitted();
        let Scanned {
            file_system,
            files,
            digests,
            mut warnings,
            roots,
        } = scanned;
        let plan = match file_system {
            FileSystem::Planned(plan) => *plan,
            FileSystem::Tree(tree) => {
                let bytes = place
                    .1
                    .checked_mul(SECTOR_SIZE)
                    .expect("placed partitions end below 2^64 bytes");
                tree.plan(self.spec, SizeRequest::Fixed(bytes))?
            }
        };
        warn_of_missing_journal(&plan, partition, &mut warnings);
        let report = partition::report(&plan, self.spec, partition);
        let files = Arc::new(files);
        let ext4 = partition::finish(plan, partition, place, self.boot_loader, &files)?;
        let ext4 = Arc::new(ext4);
        let source: Arc<dyn ByteSource> = Arc::<Ext4>::clone(&ext4);
        let cached = Cached::new(source, Arc::clone(&self.options.cache));
        let key = self.key(partition);
        let location = key.location.filter(|_| !warnings.is_empty());
        Ok(Filled::Ext4(Arc::new(KeptPartition {
            key: PartitionKey { location, ..key },
            roots,
            sources: KeptPartition::sources_of(partition),
            place,
            fitted,
            ext4,
            source: Arc::new(cached),
            report,
            files,
            digests,
            warnings,
        })))
    }
}

impl TreeDigests {
    fn of(tree: &PartitionTree<'_>, files: &HostFiles) -> Self {
        let digest = |describe: &dyn Fn(&mut Fingerprint)| {
            let mut fingerprint = Fingerprint::new();
            describe(&mut fingerprint);
            fingerprint.finish()
        };
        let of_tree = || digest(&|digest| digest.tree(&tree.tree));
        let of_files = || {
            let places = digest(&|digest| digest.tree_files(&tree.tree));
            let stamps = digest(&|digest| digest.host_file_stamps(files));
            let identity = digest(&|digest| digest.host_files(&stamps, files));
            (places, stamps, identity)
        };
        let (content, (places, stamps, identity)) = if tree.tree.node_count() < NODES_FOR_THREADS {
            (of_tree(), of_files())
        } else {
            std::thread::scope(|threads| {
                let content = threads.spawn(of_tree);
                let of_files = of_files();
                let content = content.join().expect("hashing does not panic");
                (content, of_files)
            })
        };
        Self {
            content,
            places,
            identity,
            stamps,
        }
    }
}

/// What partitions take from outside of their own part of the config.
fn surroundings(spec: &Spec, options: &PlanOptions, boot_loader: Option<&BootLoader>) -> [u8; 32] {
    let mut all = Fingerprint::new();
    // These are small and few: their debug form tells them apart.
    let texts = format!(
        "{:?}",
        (
            &spec.seed,
            spec.times,
            spec.disk.size == DiskSize::Auto,
            spec.on_change,
            options.skip_unreadable,
            Identifiers::of(spec),
        )
    );
    all.bytes(texts.as_bytes());
    if let Some(boot_loader) = boot_loader {
        let pieces = boot_loader.pieces();
        all.bytes(&pieces.boot_sector);
        all.bytes(&pieces.ldlinux_sys);
        all.bytes(&pieces.ldlinux_c32);
    }
    all.finish()
}

fn warn_of_missing_journal(
    plan: &Ext4Plan,
    partition: &PartitionSpec,
    warnings: &mut Vec<PlanWarning>,
) {
    let wanted =
        matches!(&partition.filesystem, Filesystem::Ext4(ext4) if ext4.journal == Journal::Default);
    if wanted && plan.journal_len() == 0 {
        let block_size = plan.block_size();
        warnings.push(PlanWarning::NoJournal {
            label: partition.label.clone(),
            len: plan.block_count().saturating_mul(block_size),
            needed: JOURNAL_FS_BLOCKS_MIN.saturating_mul(block_size),
        });
    }
}
