//! From a validated config to a set of planned images that never changes.

use std::path::PathBuf;
use std::sync::Arc;

use super::boot::{BootLoader, load_boot_code};
use super::cache::{BlockCache, Cached};
use super::data_map::DataMap;
use super::disk::{DiskLayout, PlaceRequest, PlacedPartition, Placement, Size, place};
use super::ext4::{Ext4, Ext4Plan, JOURNAL_FS_BLOCKS_MIN, SizeRequest};
use super::fingerprint::{self, Fingerprint};
use super::host_file::HostFiles;
use super::images::Images;
use super::machine::{Template, has_efi};
use super::mistakes::Mistakes;
use super::partition::{self, FilesystemReport, Found, PartitionTree};
use super::pending::PendingImage;
use super::plan_error::{PlanError, PlanErrors, PlanWarning};
use super::segments::SegmentMap;
use super::source::ByteSource;
use super::tree::ScanProgress;
use crate::config::spec::{
    BootCode, DiskSize, Ext4Spec, FeatureSet, Filesystem, Journal, PartitionSize, PartitionSpec,
    Spec,
};
use crate::units::{Lba, SECTOR_SIZE};

/// One file that miragefs publishes.
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub source: Arc<dyn ByteSource>,
    /// Where it has data.
    pub data: DataMap,
    /// Modification time to show, whole seconds since 1970.
    pub mtime: i64,
    /// Equal for equal bytes from the same host files: the identity fingerprint.
    pub identity: [u8; 32],
}

impl Image {
    /// Walks the runs of `source` and keeps its map.
    #[must_use]
    pub fn new(name: String, source: Arc<dyn ByteSource>, mtime: i64, identity: [u8; 32]) -> Self {
        let data = DataMap::of(&*source);
        Self {
            name,
            source,
            data,
            mtime,
            identity,
        }
    }
}

/// An immutable set of planned images.
#[derive(Default)]
pub struct Generation {
    /// The images in the order of the config.
    pub images: Vec<Arc<Image>>,
    /// Those that cannot be read yet.
    pub pending: Vec<Arc<PendingImage>>,
}

/// A generation and what there is to tell of it.
pub struct Planned {
    /// The images.
    pub generation: Generation,
    /// For each image of the generation the entry of [`Spec::images`] that it belongs to, by index.
    pub spec_of_image: Vec<usize>,
    /// The partitions as placed, in the order of the config.
    pub partitions: Vec<PartitionReport>,
    /// Length of the disk in bytes.
    pub disk_len: u64,
    /// The disk's signature; `None` without a partition table.
    pub disk_signature: Option<u32>,
    /// What the partitions hold, in the same order; `None` for one without ext4.
    pub file_systems: Vec<Option<Arc<Ext4>>>,
    /// What the user should know.
    pub warnings: Vec<PlanWarning>,
}

/// A partition as placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionReport {
    /// Its label.
    pub label: String,
    /// First sector.
    pub start: Lba,
    /// Length in sectors.
    pub sectors: u64,
    /// Type byte.
    pub type_code: u8,
    /// Boot flag.
    pub active: bool,
    /// Whether extlinux is installed.
    pub has_boot_loader: bool,
    /// The file system; `None` for an empty partition.
    pub filesystem: Option<FilesystemReport>,
}

/// What planning needs besides the config.
#[derive(Clone)]
pub struct PlanOptions {
    /// Where rendered blocks are kept.
    pub cache: Arc<BlockCache>,
    /// The newest modification time of the config's files, seconds since 1970.
    pub config_mtime: i64,
    /// Whether files and directories that cannot be read are left out with a warning; else they are mistakes.
    pub skip_unreadable: bool,
    /// Where the images will be, absolute: a VMX names its disk by it. Without it by the bare name.
    pub mountpoint: Option<PathBuf>,
    /// Where indexes are kept between mounts; `None` keeps none.
    pub cache_directory: Option<PathBuf>,
    /// Where to tell how far the scan of the sources is.
    pub progress: Option<Arc<ScanProgress>>,
}

/// Plans all images of a config. Only metadata of the sources is read, besides manifests of owners, the boot loader's
/// pieces and its configuration file.
///
/// # Errors
/// [`PlanErrors`] says all that does not fit or cannot be read, and where in the config.
pub fn plan(spec: &Spec, options: &PlanOptions) -> Result<Planned, PlanErrors> {
    let mut found = Found::default();
    let boot_loader = found.mistakes.take(load_boot_loader(spec)).flatten();
    let boot_code = found.mistakes.take(read_boot_code(spec)).flatten();
    let template = found.mistakes.take(load_template(spec)).flatten();
    let mut content = Fingerprint::new();
    let mut places = Fingerprint::new();
    let mut contents = Vec::with_capacity(spec.partitions.len());
    for partition in &spec.partitions {
        let tree = PartitionTree::scan(spec, partition, boot_loader.as_ref(), options, &mut found);
        if let Some(tree) = &tree {
            let Found {
                files,
                warnings,
                mistakes,
            } = &mut found;
            mistakes.take(partition::check_boot(
                &tree.tree, partition, files, warnings,
            ));
            content.tree(&tree.tree);
            places.tree_files(&tree.tree);
        }
        match Contents::new(spec, partition, tree) {
            Ok(planned) => contents.push(planned),
            Err(mistakes) => found.mistakes.extend(mistakes, |mistake| mistake),
        }
    }
    let Found {
        files,
        mut warnings,
        mistakes,
    } = found;
    PlanErrors::unless(mistakes, ())?;
    let placement = place_partitions(spec, &contents)?;
    describe_disk(
        &mut content,
        spec,
        &placement,
        boot_loader.as_ref(),
        boot_code.as_ref(),
    );
    let files = Arc::new(files);
    let mut placed = Vec::new();
    let mut reports = Vec::new();
    let mut file_systems = Vec::new();
    let mut mistakes = Mistakes::default();
    for ((partition, contents), place) in spec
        .partitions
        .iter()
        .zip(contents)
        .zip(&placement.partitions)
    {
        let filled = Filling {
            spec,
            partition,
            place: *place,
            boot_loader: boot_loader.as_ref(),
            files: &files,
            cache: &options.cache,
        };
        match filled.fill(contents, &mut warnings) {
            Ok(filled) => {
                reports.push(report(partition, *place, filled.report));
                placed.push(placed_partition(partition, *place, filled.source));
                file_systems.push(filled.ext4);
            }
            Err(others) => mistakes.extend(others, |mistake| mistake),
        }
    }
    PlanErrors::unless(mistakes, ())?;
    let signature = fingerprint::disk_signature(&spec.seed);
    let layout = DiskLayout {
        len: placement.disk_len,
        table: spec.disk.table,
        partitions: placed,
        boot_code,
        signature,
    };
    let disk: Arc<dyn ByteSource> = Arc::new(layout.assemble());
    let mut identity = content.clone();
    identity.bytes(&places.finish());
    let mut stamps = identity.clone();
    identity.host_files(&files);
    // Another version may write other bytes for the same plan.
    stamps.bytes(env!("CARGO_PKG_VERSION").as_bytes());
    stamps.host_file_stamps(&files);
    let template_mtime = template.as_ref().map_or(i64::MIN, Template::mtime);
    let images = Images {
        spec: Arc::new(without_contents(spec)),
        data: Arc::new(DataMap::of(&*disk)),
        disk,
        partitions: layout.partition_images().into(),
        template: template.map(Arc::new),
        content: content.finish(),
        identity,
        stamps,
        mtime: files
            .newest_mtime()
            .unwrap_or(i64::MIN)
            .max(options.config_mtime)
            .max(template_mtime),
        cache: Arc::clone(&options.cache),
        indexes: Arc::default(),
        mountpoint: options.mountpoint.clone(),
        cache_directory: options
            .cache_directory
            .clone()
            .filter(|_| !files.have_weak_identities()),
    };
    let (generation, spec_of_image) = images.plan()?;
    Ok(Planned {
        generation,
        spec_of_image,
        partitions: reports,
        disk_len: placement.disk_len,
        disk_signature: matches!(spec.disk.table, crate::config::spec::PartitionTable::Mbr)
            .then_some(signature),
        file_systems,
        warnings,
    })
}

/// The config without what the partitions hold, which may be large and is planned already.
fn without_contents(spec: &Spec) -> Spec {
    Spec {
        config_path: spec.config_path.clone(),
        name: spec.name.clone(),
        seed: spec.seed.clone(),
        times: spec.times,
        disk: spec.disk.clone(),
        partitions: Vec::new(),
        extlinux: None,
        vm: spec.vm.clone(),
        images: spec.images.clone(),
    }
}

/// What a partition holds.
enum Contents<'a> {
    Empty,
    Swap,
    FileSystem(FileSystem<'a>),
}

/// A file system before and after its size is known.
enum FileSystem<'a> {
    /// Waits for the size.
    Tree(Box<PartitionTree<'a>>),
    /// As small as possible; the size follows from it.
    Planned(Box<Ext4Plan>),
}

impl<'a> Contents<'a> {
    fn new(
        spec: &Spec,
        partition: &PartitionSpec,
        tree: Option<PartitionTree<'a>>,
    ) -> Result<Self, Mistakes<PlanError>> {
        let Some(tree) = tree else {
            return Ok(match partition.filesystem {
                Filesystem::Swap => Self::Swap,
                Filesystem::None | Filesystem::Ext4(_) => Self::Empty,
            });
        };
        if !is_auto(spec, partition) {
            return Ok(Self::FileSystem(FileSystem::Tree(Box::new(tree))));
        }
        let block_size = u64::from(tree.ext4.block_size);
        let free_blocks = partition.free.unwrap_or(0).div_ceil(block_size);
        let plan = tree.plan(spec, SizeRequest::Fit { free_blocks })?;
        Ok(Self::FileSystem(FileSystem::Planned(Box::new(plan))))
    }
}

/// A partition whose place is known.
struct Filling<'a> {
    spec: &'a Spec,
    partition: &'a PartitionSpec,
    place: (Lba, u64),
    boot_loader: Option<&'a BootLoader>,
    files: &'a Arc<HostFiles>,
    cache: &'a Arc<BlockCache>,
}

/// What a partition holds, and what is to be told of it; nothing for an empty one.
#[derive(Default)]
struct Filled {
    source: Option<Arc<dyn ByteSource>>,
    report: Option<FilesystemReport>,
    ext4: Option<Arc<Ext4>>,
}

impl Filling<'_> {
    fn fill(
        &self,
        contents: Contents<'_>,
        warnings: &mut Vec<PlanWarning>,
    ) -> Result<Filled, Mistakes<PlanError>> {
        match contents {
            Contents::Empty => Ok(Filled::default()),
            Contents::Swap => {
                let (swap, report) = partition::swap(self.spec, self.partition, self.place.1)?;
                Ok(Filled {
                    source: Some(Arc::new(swap)),
                    report: Some(report),
                    ext4: None,
                })
            }
            Contents::FileSystem(filesystem) => {
                let plan = filesystem.plan(self.spec, self.partition, self.place.1)?;
                warn_of_missing_journal(&plan, self.partition, warnings);
                let report = partition::report(&plan, self.spec, self.partition);
                let (partition, place) = (self.partition, self.place);
                let ext4 = partition::finish(plan, partition, place, self.boot_loader, self.files)?;
                let ext4 = Arc::new(ext4);
                let source: Arc<dyn ByteSource> = Arc::<Ext4>::clone(&ext4);
                let cached = Cached::new(source, Arc::clone(self.cache));
                Ok(Filled {
                    source: Some(Arc::new(cached)),
                    report: Some(report),
                    ext4: Some(ext4),
                })
            }
        }
    }
}

impl FileSystem<'_> {
    fn plan(
        self,
        spec: &Spec,
        partition: &PartitionSpec,
        sectors: u64,
    ) -> Result<Ext4Plan, Mistakes<PlanError>> {
        match self {
            Self::Planned(plan) => Ok(*plan),
            Self::Tree(tree) => {
                debug_assert_eq!(
                    tree.spec.label, partition.label,
                    "contents follow their partitions"
                );
                let bytes = sectors
                    .checked_mul(SECTOR_SIZE)
                    .expect("placed partitions end below 2^64 bytes");
                tree.plan(spec, SizeRequest::Fixed(bytes))
            }
        }
    }
}

/// The first bytes of the disk, if the config wants any.
fn read_boot_code(spec: &Spec) -> Result<Option<[u8; 440]>, PlanError> {
    let BootCode::File(path) = &spec.disk.boot_code else {
        return Ok(None);
    };
    let code = load_boot_code(path).map_err(|source| PlanError::Boot {
        location: spec.disk.location.clone(),
        what: "boot code",
        source: Box::new(source),
    })?;
    Ok(Some(code))
}

/// The pieces of extlinux, if a partition wants them.
fn load_boot_loader(spec: &Spec) -> Result<Option<BootLoader>, PlanError> {
    let Some(path) = &spec.extlinux else {
        return Ok(None);
    };
    let wants_it = |partition: &&PartitionSpec| partition.bootloader_directory.is_some();
    let partition = spec.partitions.iter().find(wants_it);
    let location = partition.map_or(&spec.disk.location, |partition| &partition.location);
    let loaded = BootLoader::load(path).map_err(|source| PlanError::Boot {
        location: location.clone(),
        what: "boot loader",
        source: Box::new(source),
    })?;
    Ok(Some(loaded))
}

/// The machine that somebody else described, if the config names one.
fn load_template(spec: &Spec) -> Result<Option<Template>, PlanError> {
    let Some(template) = &spec.vm.template else {
        return Ok(None);
    };
    let loaded = Template::load(template).map_err(|source| PlanError::Template {
        location: template.location.clone(),
        source: Box::new(source),
    })?;
    let mut partitions = spec.partitions.iter();
    match partitions.find(|partition| partition.bootloader_directory.is_some()) {
        Some(partition) if has_efi(&spec.vm, Some(&loaded)) => Err(PlanError::TemplateFirmware {
            location: template.location.clone(),
            label: partition.label.clone(),
        }),
        _ => Ok(Some(loaded)),
    }
}

/// `rest` of a disk that is as small as possible is nothing more than needed.
fn is_auto(spec: &Spec, partition: &PartitionSpec) -> bool {
    match partition.size {
        PartitionSize::Auto => true,
        PartitionSize::Rest => spec.disk.size == DiskSize::Auto,
        PartitionSize::Fixed(_) => false,
    }
}

fn place_partitions(spec: &Spec, contents: &[Contents<'_>]) -> Result<Placement, PlanError> {
    let requests: Vec<PlaceRequest> = spec
        .partitions
        .iter()
        .zip(contents)
        .map(|(partition, contents)| {
            let size = match (contents, partition.size) {
                (Contents::FileSystem(FileSystem::Planned(plan)), _) => {
                    let sectors_per_block = plan.block_size() / SECTOR_SIZE;
                    Size::Sectors(plan.block_count().saturating_mul(sectors_per_block))
                }
                (_, PartitionSize::Fixed(bytes)) => Size::Sectors(bytes / SECTOR_SIZE),
                (_, PartitionSize::Rest | PartitionSize::Auto) => Size::Rest,
            };
            PlaceRequest {
                label: partition.label.clone(),
                start: partition.start,
                size,
            }
        })
        .collect();
    let disk_len = match spec.disk.size {
        DiskSize::Fixed(bytes) => Some(bytes),
        DiskSize::Auto => None,
    };
    place(&requests, spec.disk.table, disk_len).map_err(|reason| PlanError::Place {
        location: spec.disk.location.clone(),
        reason,
    })
}

/// Adds to the fingerprint what the trees do not say.
fn describe_disk(
    content: &mut Fingerprint,
    spec: &Spec,
    placement: &Placement,
    boot_loader: Option<&BootLoader>,
    boot_code: Option<&[u8; 440]>,
) {
    content.bytes(spec.seed.as_bytes());
    content.number(spec.times.default.cast_unsigned());
    content.number(placement.disk_len);
    content.number(u64::from(
        spec.disk.table == crate::config::spec::PartitionTable::Mbr,
    ));
    content.bytes(boot_code.map_or(&[], |code| code));
    if let Some(boot_loader) = boot_loader {
        let pieces = boot_loader.pieces();
        content.bytes(&pieces.boot_sector);
        content.bytes(&pieces.ldlinux_sys);
        content.bytes(&pieces.ldlinux_c32);
    }
    for (partition, (start, sectors)) in spec.partitions.iter().zip(&placement.partitions) {
        content.bytes(partition.label.as_bytes());
        content.number(start.0);
        content.number(*sectors);
        content.number(u64::from(partition.type_code) | u64::from(partition.active) << 8);
        match &partition.filesystem {
            Filesystem::None => {}
            Filesystem::Ext4(ext4) => {
                content.number(match ext4.journal {
                    Journal::None => 0,
                    Journal::Default => 1,
                    // At least 1024 blocks.
                    Journal::Size(bytes) => bytes,
                });
                content.number(ext4.reserved_percent.map_or(u64::MAX, u64::from));
                content.number(ext4.inodes.map_or(u64::MAX, u64::from));
                content.number(partition.free.unwrap_or(0));
                describe_shape(content, ext4);
            }
            // Its UUID follows from the seed and the label.
            Filesystem::Swap => content.bytes(b"swap area"),
        }
    }
}

/// Adds what shapes a file system, where it is not the default: fingerprints of configs without it stay as they were.
fn describe_shape(content: &mut Fingerprint, ext4: &Ext4Spec) {
    let default = &Ext4Spec::DEFAULT;
    if let Some(label) = &ext4.label {
        content.bytes(b"ext4 label");
        content.bytes(label.as_bytes());
    }
    if let Some(uuid) = &ext4.uuid {
        content.bytes(b"ext4 uuid");
        content.bytes(uuid.as_bytes());
    }
    if ext4.slack_bits != default.slack_bits {
        content.bytes(b"ext4 slack bits");
        content.number(ext4.slack_bits.into());
    }
    let sizes = (ext4.block_size, ext4.inode_size, ext4.features);
    if sizes != (default.block_size, default.inode_size, default.features) {
        content.bytes(b"ext4 geometry");
        content.number(ext4.block_size.into());
        content.number(ext4.inode_size.into());
        content.number(match ext4.features {
            FeatureSet::Std => 0,
            FeatureSet::Modern => 1,
            FeatureSet::Compat => 2,
        });
    }
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

fn report(
    partition: &PartitionSpec,
    (start, sectors): (Lba, u64),
    filesystem: Option<FilesystemReport>,
) -> PartitionReport {
    PartitionReport {
        label: partition.label.clone(),
        start,
        sectors,
        type_code: partition.type_code,
        active: partition.active,
        has_boot_loader: partition.bootloader_directory.is_some(),
        filesystem,
    }
}

fn placed_partition(
    partition: &PartitionSpec,
    (start, sectors): (Lba, u64),
    source: Option<Arc<dyn ByteSource>>,
) -> PlacedPartition {
    // A partition without contents is all padding.
    let source = source.unwrap_or_else(|| Arc::new(SegmentMap::new()));
    PlacedPartition {
        label: partition.label.clone(),
        start,
        sectors,
        type_code: partition.type_code,
        active: partition.active,
        source,
    }
}
