//! From a validated config to a set of planned images that never changes.

use std::path::PathBuf;
use std::sync::Arc;

use super::boot::{BootLoader, load_boot_code};
use super::cache::BlockCache;
use super::data_map::DataMap;
use super::disk::{DiskLayout, PlaceRequest, PlacedPartition, Placement, Size, place};
use super::ext4::Ext4;
use super::fingerprint::{self, Fingerprint};
use super::images::Images;
use super::machine::{Template, has_efi};
use super::memory::{KeptDisk, PlanMemory};
use super::mistakes::Mistakes;
use super::partition::FilesystemReport;
use super::partitions::{Contents, Filled, Partitions};
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
#[derive(Clone, Default)]
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
    /// Where the disk has data.
    pub data: Arc<DataMap>,
    /// What the user should know.
    pub warnings: Vec<PlanWarning>,
}

/// What a plan came to, in pieces that are cheap to keep: for who draws it, or compares it with another.
#[derive(Clone)]
pub struct Pieces {
    /// The name of the machine.
    pub name: String,
    /// The partitions as placed.
    pub partitions: Vec<PartitionReport>,
    /// Their file systems; `None` for one without ext4.
    pub file_systems: Vec<Option<Arc<Ext4>>>,
    /// Whether there is a partition table, and so a boot sector.
    pub has_table: bool,
    /// The images that can be read.
    pub images: Vec<Arc<Image>>,
    /// The names of those that cannot yet.
    pub pending: Vec<String>,
    /// Length of the disk in bytes.
    pub disk_len: u64,
    /// Where the disk has data.
    pub data: Arc<DataMap>,
}

impl Pieces {
    /// The pieces of what was planned for the machine `name`.
    #[must_use]
    pub fn of(planned: &Planned, name: &str) -> Self {
        let pending = planned.generation.pending.iter();
        Self {
            name: name.to_owned(),
            partitions: planned.partitions.clone(),
            file_systems: planned.file_systems.clone(),
            has_table: planned.disk_signature.is_some(),
            images: planned.generation.images.clone(),
            pending: pending.flat_map(|image| image.names().to_vec()).collect(),
            disk_len: planned.disk_len,
            data: Arc::clone(&planned.data),
        }
    }
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
    replan(spec, options, &mut PlanMemory::forgetful())
}

/// The same, but what `memory` has of an earlier plan is not read again.
///
/// # Errors
/// As [`plan`]; the memory then has what it had.
pub fn replan(
    spec: &Spec,
    options: &PlanOptions,
    memory: &mut PlanMemory,
) -> Result<Planned, PlanErrors> {
    let mut mistakes = Mistakes::default();
    let boot_loader = mistakes.take(load_boot_loader(spec)).flatten();
    let boot_code = mistakes.take(read_boot_code(spec)).flatten();
    let template = mistakes.take(load_template(spec)).flatten();
    let partitions = Partitions::new(spec, options, boot_loader.as_ref(), memory);
    let scanned = spec.partitions.iter();
    let contents = all_of(scanned.map(|one| partitions.contents(one)), mistakes)?;
    let placement = place_partitions(spec, &contents)?;
    let contents = spec.partitions.iter().zip(contents);
    let places = contents.zip(&placement.partitions);
    let filled = places.map(|((one, contents), place)| partitions.fill(one, contents, *place));
    let placed = all_of(filled, Mistakes::default())?;
    let signature = fingerprint::disk_signature(&spec.seed);
    let fingerprints = Fingerprints::of(
        spec,
        &placement,
        &placed,
        boot_loader.as_ref(),
        boot_code.as_ref(),
    );
    let layout = disk_layout(spec, &placement, &placed, boot_code, signature);
    let kept = KeptDisk::of(&layout, &fingerprints, memory);
    let host_files = || placed.iter().filter_map(Filled::files);
    let newest = host_files().filter_map(|files| files.newest_mtime()).max();
    let template_mtime = template.as_ref().map_or(i64::MIN, Template::mtime);
    let images = Images {
        spec: Arc::new(without_contents(spec)),
        data: Arc::clone(&kept.data),
        disk: Arc::clone(&kept.disk),
        partitions: layout.partition_images().into(),
        template: template.map(Arc::new),
        content: fingerprints.content,
        identity: fingerprints.identity,
        stamps: fingerprints.stamps,
        mtime: newest
            .unwrap_or(i64::MIN)
            .max(options.config_mtime)
            .max(template_mtime),
        cache: Arc::clone(&options.cache),
        indexes: Arc::clone(&kept.indexes),
        mountpoint: options.mountpoint.clone(),
        cache_directory: options
            .cache_directory
            .clone()
            .filter(|_| !host_files().any(|files| files.have_weak_identities())),
    };
    let (generation, spec_of_image) = images.plan()?;
    let reports = spec
        .partitions
        .iter()
        .zip(&placed)
        .zip(&placement.partitions);
    let planned = Planned {
        generation,
        spec_of_image,
        partitions: reports
            .map(|((partition, filled), place)| report(partition, *place, filled.report()))
            .collect(),
        disk_len: placement.disk_len,
        disk_signature: matches!(spec.disk.table, crate::config::spec::PartitionTable::Mbr)
            .then_some(signature),
        file_systems: placed.iter().map(Filled::ext4).collect(),
        data: Arc::clone(&kept.data),
        warnings: placed.iter().flat_map(Filled::warnings).collect(),
    };
    let kept_partitions = placed.into_iter().filter_map(Filled::into_kept).collect();
    memory.keep(kept_partitions, kept);
    Ok(planned)
}

/// What all of them came to, or all that is wrong with any.
fn all_of<T>(
    results: impl Iterator<Item = Result<T, Mistakes<PlanError>>>,
    mut mistakes: Mistakes<PlanError>,
) -> Result<Vec<T>, PlanErrors> {
    let mut all = Vec::new();
    for result in results {
        match result {
            Ok(one) => all.push(one),
            Err(others) => mistakes.extend(others, |mistake| mistake),
        }
    }
    PlanErrors::unless(mistakes, all)
}

/// What identifies a disk and the images over it.
struct Fingerprints {
    content: [u8; 32],
    identity: Fingerprint,
    stamps: Fingerprint,
}

impl Fingerprints {
    fn of(
        spec: &Spec,
        placement: &Placement,
        placed: &[Filled],
        boot_loader: Option<&BootLoader>,
        boot_code: Option<&[u8; 440]>,
    ) -> Self {
        let digests: Vec<_> = placed.iter().filter_map(Filled::digests).collect();
        let mut content = Fingerprint::new();
        for digests in &digests {
            content.bytes(&digests.content);
        }
        describe_disk(&mut content, spec, placement, boot_loader, boot_code);
        let mut identity = content.clone();
        for digests in &digests {
            identity.bytes(&digests.places);
        }
        let mut stamps = identity.clone();
        // Another version may write other bytes for the same plan.
        stamps.bytes(env!("CARGO_PKG_VERSION").as_bytes());
        for digests in &digests {
            identity.bytes(&digests.identity);
            stamps.bytes(&digests.stamps);
        }
        Self {
            content: content.finish(),
            identity,
            stamps,
        }
    }
}

impl KeptDisk {
    /// The disk, and what is known of it already if it is that of the last plan.
    fn of(layout: &DiskLayout, fingerprints: &Fingerprints, memory: &mut PlanMemory) -> Self {
        let identity = fingerprints.identity.clone().finish();
        let stamps = fingerprints.stamps.clone().finish();
        match memory.disk.take() {
            Some(kept) if kept.identity == identity && kept.stamps == stamps => kept,
            _ => {
                let disk: Arc<dyn ByteSource> = Arc::new(layout.assemble());
                Self {
                    identity,
                    stamps,
                    data: Arc::new(DataMap::of(&*disk)),
                    disk,
                    indexes: Arc::default(),
                }
            }
        }
    }
}

fn disk_layout(
    spec: &Spec,
    placement: &Placement,
    placed: &[Filled],
    boot_code: Option<[u8; 440]>,
    signature: u32,
) -> DiskLayout {
    let partitions = spec.partitions.iter().zip(placed);
    let partitions = partitions.zip(&placement.partitions);
    DiskLayout {
        len: placement.disk_len,
        table: spec.disk.table,
        partitions: partitions
            .map(|((partition, filled), place)| {
                placed_partition(partition, *place, filled.source())
            })
            .collect(),
        boot_code,
        signature,
    }
}

/// The config without what the partitions hold, which may be large and is planned already.
fn without_contents(spec: &Spec) -> Spec {
    Spec {
        config_path: spec.config_path.clone(),
        name: spec.name.clone(),
        seed: spec.seed.clone(),
        times: spec.times,
        on_change: spec.on_change,
        disk: spec.disk.clone(),
        partitions: Vec::new(),
        extlinux: None,
        vm: spec.vm.clone(),
        images: spec.images.clone(),
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

fn place_partitions(spec: &Spec, contents: &[Contents<'_>]) -> Result<Placement, PlanError> {
    let requests: Vec<PlaceRequest> = spec
        .partitions
        .iter()
        .zip(contents)
        .map(|(partition, contents)| {
            let size = match (contents.fitted(), partition.size) {
                (Some(sectors), _) => Size::Sectors(sectors),
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
