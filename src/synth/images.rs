//! The images of a config, all over one disk.
//!
//! Invariant: images share the disk, its map and the cache; none of them reads anything while it is planned. What needs
//! more than the plan is left pending.

mod containers;
mod package;
mod vmdk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::BlockCache;
use super::data_map::DataMap;
use super::fingerprint::Fingerprint;
use super::generation::{Generation, Image};
use super::grain_index::{GrainIndex, IndexError, IndexProgress};
use super::index_store::{GrainStore, StoreId};
use super::machine::{MachineError, Template, disk_controller};
use super::memory::Indexes;
use super::ova::{OvaError, disk_member_name};
use super::pending::{PendingImage, PrepareError};
use super::plan_error::PlanError;
use super::segments::SegmentMap;
use super::source::ByteSource;
use super::unit_map::UnitMap;
use super::vagrant::BoxError;
use super::vmdk::{StreamVmdk, VmdkError};
use crate::config::spec::{
    Compression, DirectoryPlace, ImageFormat, ImageSpec, Location, ManifestPosition, Spec,
    VmdkLayout,
};
use crate::formats::vmdk::GRAIN_LEN;

/// What images are made of; cheap to clone.
#[derive(Clone)]
pub(super) struct Images {
    /// The config; what partitions hold is not looked at.
    pub(super) spec: Arc<Spec>,
    pub(super) disk: Arc<dyn ByteSource>,
    /// Where the disk has data.
    pub(super) data: Arc<DataMap>,
    /// The partitions in the order of the config, each as long as it is on the disk.
    pub(super) partitions: Arc<[SegmentMap]>,
    /// The machine as the config's template describes it.
    pub(super) template: Option<Arc<Template>>,
    /// The content fingerprint of the disk.
    pub(super) content: [u8; 32],
    /// The identity fingerprint of the disk.
    pub(super) identity: Fingerprint,
    /// The same without what changes at a reboot.
    pub(super) stamps: Fingerprint,
    /// Modification time of the images, seconds since 1970.
    pub(super) mtime: i64,
    pub(super) cache: Arc<BlockCache>,
    /// Those that are made, by the level of compression.
    pub(super) indexes: Indexes,
    /// Where the images will be, for what names another one.
    pub(super) mountpoint: Option<PathBuf>,
    /// Where indexes are kept.
    pub(super) cache_directory: Option<PathBuf>,
}

/// NAME_MAX of Linux.
const NAME_LEN_MAX: usize = 255;
/// More than descriptor, manifest and tar around a disk ever take.
const PACKAGE_LEN_MAX: u64 = 8 << 20;

/// A file to publish: its name and its bytes.
type Named = (String, Arc<dyn ByteSource>);

/// Why a container cannot hold the disk.
type Failure = Box<dyn std::error::Error>;

/// What was done for an image before it is built.
#[derive(Default)]
struct Prepared<'a> {
    /// The index of its compressed grains.
    index: Option<Arc<GrainIndex>>,
    /// Where to tell how far hashing is; without it nothing is hashed.
    progress: Option<&'a IndexProgress>,
}

/// What an image needs before its bytes are decided: an index of grains compressed at this level, or only the disk's
/// digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    level: Option<u8>,
    directory: DirectoryPlace,
}

impl Images {
    /// The images, and for each that is ready the index of its entry in the config.
    pub(super) fn plan(&self) -> Result<(Generation, Vec<usize>), PlanError> {
        let mut generation = Generation::default();
        let mut spec_of_image = Vec::with_capacity(self.spec.images.len());
        let specs = &self.spec.images;
        let mut taken: BTreeSet<String> = specs.iter().map(|image| image.name.clone()).collect();
        for (index, image) in specs.iter().enumerate() {
            let names = file_names(image);
            for name in names.iter().skip(1) {
                if !taken.insert(name.clone()) {
                    return Err(PlanError::ImageClash {
                        location: image.location.clone(),
                        name: image.name.clone(),
                        companion: name.clone(),
                    });
                }
            }
            if let Some(name) = names.iter().find(|name| name.len() > NAME_LEN_MAX) {
                return Err(PlanError::Image {
                    location: image.location.clone(),
                    name: image.name.clone(),
                    reason: format!("`{name}`: a file name has at most {NAME_LEN_MAX} bytes"),
                    hint: Some("give the image a shorter name".to_owned()),
                });
            }
            let failed = |reason: Failure| PlanError::Image {
                location: image.location.clone(),
                name: image.name.clone(),
                hint: hint(&*reason),
                reason: reason.to_string(),
            };
            if let Some(needs) = self.needs(image) {
                let len_at_most = self.len_at_most(needs).map_err(failed)?;
                let job = Job {
                    images: self.clone(),
                    image: image.clone(),
                    needs,
                };
                let work = Box::new(move |progress: &_| job.prepare(progress));
                let identity = self.of_image(&self.identity, image, &image.name);
                let pending = PendingImage::new(names, index, identity, len_at_most, work);
                generation.pending.push(Arc::new(pending));
                continue;
            }
            for image in self.build(image, &Prepared::default()).map_err(failed)? {
                generation.images.push(image);
                spec_of_image.push(index);
            }
        }
        Ok((generation, spec_of_image))
    }

    /// What must be done before the image can be shown; `None` for nothing.
    fn needs(&self, image: &ImageSpec) -> Option<Needs> {
        let (stream, digest) = match image.format {
            ImageFormat::Raw { .. }
            | ImageFormat::Vmdk(VmdkLayout::MonolithicSparse | VmdkLayout::MonolithicFlat)
            | ImageFormat::Vmx { .. }
            | ImageFormat::Vhd(_)
            | ImageFormat::Vhdx
            | ImageFormat::Qcow2
            | ImageFormat::Vdi
            | ImageFormat::Vagrant(_) => return None,
            ImageFormat::Vmdk(VmdkLayout::StreamOptimized(stream)) => (stream, false),
            ImageFormat::Ova(package) => (
                package.stream,
                package.manifest.is_some_and(|manifest| {
                    let params = self.package_params(image, package);
                    manifest.position == ManifestPosition::Second
                        && !params
                            .digests
                            .is_some_and(|digests| digests.holds(manifest.algorithm))
                }),
            ),
            ImageFormat::Ovf(package) => (package.stream, false),
        };
        let level = match stream.compression {
            Compression::Stored => None,
            Compression::Deflate { level } => Some(level),
        };
        let directory = stream.directory;
        (level.is_some() || digest).then_some(Needs { level, directory })
    }

    /// Bytes that an image can become at most, if they are known before it is compressed; fails where the disk fits no
    /// VMDK at all, and where its grains are stored and do not fit one file.
    fn len_at_most(&self, needs: Needs) -> Result<Option<u64>, Failure> {
        match StreamVmdk::stored_len(&self.data, self.disk.len(), needs.directory) {
            Ok(len) => Ok(len.checked_add(PACKAGE_LEN_MAX)),
            Err(VmdkError::FileLen(_)) if needs.level.is_some() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The files of one image, the image itself first.
    fn build(
        &self,
        image: &ImageSpec,
        prepared: &Prepared<'_>,
    ) -> Result<Vec<Arc<Image>>, Failure> {
        let files = self.files(image, prepared)?;
        debug_assert!(
            files.iter().map(|(name, _)| name).eq(&file_names(image)),
            "the names of files are known beforehand"
        );
        let built = files.into_iter().map(|(name, source)| {
            let identity = self.of_image(&self.identity, image, &name);
            Arc::new(Image::new(name, source, self.mtime, identity))
        });
        Ok(built.collect())
    }

    /// A fingerprint of the file `name` of an image.
    fn of_image(&self, disk: &Fingerprint, image: &ImageSpec, name: &str) -> [u8; 32] {
        let mut of_image = disk.clone();
        // The container's settings are small and few: their debug form tells them apart.
        of_image.bytes(format!("{:?}", image.format).as_bytes());
        let machine = self.described_machine(&image.format);
        of_image.bytes(machine.as_bytes());
        if let (false, Some(template)) = (machine.is_empty(), &self.template) {
            of_image.bytes(template.text().as_bytes());
        }
        of_image.bytes(name.as_bytes());
        of_image.finish()
    }

    /// What an image says of the machine, so that other changes of `[vm]` leave it as it is.
    fn described_machine(&self, format: &ImageFormat) -> String {
        match format {
            ImageFormat::Raw { .. }
            | ImageFormat::Vhd(_)
            | ImageFormat::Vhdx
            | ImageFormat::Qcow2
            | ImageFormat::Vdi => String::new(),
            ImageFormat::Vmdk(_) => {
                let controller = disk_controller(&self.spec.vm, self.template.as_deref());
                format!("{controller:?}")
            }
            ImageFormat::Ova(_)
            | ImageFormat::Ovf(_)
            | ImageFormat::Vmx { .. }
            | ImageFormat::Vagrant(_) => {
                let mut vm = self.spec.vm.clone();
                if let Some(template) = &mut vm.template {
                    template.location = Location::none();
                }
                format!("{vm:?} {}", self.spec.name)
            }
        }
    }

    fn files(&self, image: &ImageSpec, prepared: &Prepared<'_>) -> Result<Vec<Named>, Failure> {
        let name = image.name.clone();
        Ok(match image.format {
            ImageFormat::Raw { partition } => vec![(name, self.raw(partition))],
            ImageFormat::Vmdk(layout) => self.vmdk(name, layout, prepared)?,
            ImageFormat::Ova(package) => vec![(name, self.ova(image, package, prepared)?)],
            ImageFormat::Ovf(package) => self.ovf(image, package, prepared)?,
            ImageFormat::Vmx { disk } => vec![(name, self.vmx(disk)?)],
            ImageFormat::Vhd(layout) => {
                let vhd = self.vhd(&name, layout)?;
                vec![(name, vhd)]
            }
            ImageFormat::Qcow2 => vec![(name, self.qcow2()?)],
            ImageFormat::Vdi => {
                let vdi = self.vdi(&name)?;
                vec![(name, vdi)]
            }
            ImageFormat::Vagrant(provider) => vec![(name, self.vagrant(provider, prepared)?)],
            ImageFormat::Vhdx => {
                let vhdx = self.vhdx(&name)?;
                vec![(name, vhdx)]
            }
        })
    }

    fn raw(&self, partition: Option<usize>) -> Arc<dyn ByteSource> {
        match partition {
            None => Arc::clone(&self.disk),
            Some(index) => {
                let part = self.partitions.get(index);
                Arc::new(part.expect("images name partitions of the config").clone())
            }
        }
    }

    /// A store of this config.
    fn store_id(&self, purpose: &[u8]) -> StoreId {
        use std::os::unix::ffi::OsStrExt;
        let config = self.spec.config_path.as_os_str().as_bytes();
        StoreId::of(&[config, purpose])
    }
}

/// What to do about a failure.
fn hint(failure: &(dyn std::error::Error + 'static)) -> Option<String> {
    let machine = failure.downcast_ref::<MachineError>().or_else(|| {
        match (failure.downcast_ref(), failure.downcast_ref()) {
            (Some(OvaError::Machine(error)), _) | (_, Some(BoxError::Machine(error))) => {
                Some(error)
            }
            _ => None,
        }
    });
    machine.map(MachineError::hint)
}

/// The work for one image.
struct Job {
    images: Images,
    image: ImageSpec,
    needs: Needs,
}

impl Job {
    fn prepare(&self, progress: &IndexProgress) -> Result<Vec<Arc<Image>>, PrepareError> {
        let index = match self.needs.level {
            None => None,
            Some(level) => Some(self.index(level, progress)?),
        };
        let prepared = Prepared {
            index,
            progress: Some(progress),
        };
        self.images.build(&self.image, &prepared).map_err(|error| {
            match error.downcast::<IndexError>() {
                Ok(error) => PrepareError::Index(*error),
                Err(error) => PrepareError::Image(error.to_string()),
            }
        })
    }

    /// The index at this level, which images share. Whoever comes while it is made waits for it.
    fn index(&self, level: u8, progress: &IndexProgress) -> Result<Arc<GrainIndex>, PrepareError> {
        let images = &self.images;
        let mut indexes = images.indexes.lock();
        if let Some(index) = indexes.get(&level) {
            return Ok(Arc::clone(index));
        }
        let units = UnitMap::new(&images.data, images.disk.len(), GRAIN_LEN);
        let store = match &images.cache_directory {
            Some(directory) => GrainStore::open(directory, images.store_id(&[level])),
            None => GrainStore::in_memory(),
        };
        let index = GrainIndex::build(&images.disk, &units, level, &store, progress)?;
        store.compact();
        let index = Arc::new(index);
        indexes.insert(level, Arc::clone(&index));
        Ok(index)
    }
}

/// The names of the files that an image becomes, its own first.
fn file_names(image: &ImageSpec) -> Vec<String> {
    let mut names = vec![image.name.clone()];
    match image.format {
        ImageFormat::Vmdk(VmdkLayout::MonolithicFlat) => names.push(flat_name(&image.name)),
        ImageFormat::Ovf(package) => {
            let base = stem(&image.name);
            names.push(disk_member_name(base));
            if package.manifest.is_some() {
                names.push(format!("{base}.mf"));
            }
        }
        ImageFormat::Raw { .. }
        | ImageFormat::Vmdk(_)
        | ImageFormat::Ova(_)
        | ImageFormat::Vmx { .. }
        | ImageFormat::Vhd(_)
        | ImageFormat::Vhdx
        | ImageFormat::Qcow2
        | ImageFormat::Vdi
        | ImageFormat::Vagrant(_) => {}
    }
    names
}

/// Where the bytes of a flat VMDK are, as VMware names them.
fn flat_name(name: &str) -> String {
    format!("{}-flat.vmdk", stem(name))
}

/// The name of an image without what stands behind its last dot.
fn stem(name: &str) -> &str {
    Path::new(name)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or(name)
}
