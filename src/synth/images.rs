//! The images of a config, all over one disk.
//!
//! Invariant: images share the disk and its map; none of them reads anything while it is planned.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::data_map::DataMap;
use super::fingerprint::Fingerprint;
use super::generation::{Generation, Image};
use super::ova::{Ova, OvaParams, disk_member_name};
use super::plan_error::PlanError;
use super::qcow2::Qcow2;
use super::segments::SegmentMap;
use super::source::ByteSource;
use super::vagrant::{self, BoxParams};
use super::vdi::{self, Vdi};
use super::vmdk::{
    DescriptorParams, GrainForm, SparseVmdk, StreamVmdk, VmdkError, adapter_type, content_id,
    flat_descriptor,
};
use crate::config::spec::{
    ImageFormat, ImageSpec, PackageSpec, Spec, StreamSpec, VagrantProvider, VmdkLayout,
};

/// What images are made of.
pub(super) struct Images<'a> {
    pub(super) spec: &'a Spec,
    pub(super) disk: Arc<dyn ByteSource>,
    /// Where the disk has data.
    pub(super) data: DataMap,
    /// The partitions in the order of the config, each as long as it is on the disk.
    pub(super) partitions: Vec<SegmentMap>,
    /// The content fingerprint of the disk.
    pub(super) content: [u8; 32],
}

/// A file to publish: its name and its bytes.
type Named = (String, Arc<dyn ByteSource>);

/// Why a container cannot hold the disk.
type Failure = Box<dyn std::error::Error>;

impl Images<'_> {
    /// The images, and for each the index of its entry in the config.
    pub(super) fn plan(
        &self,
        identity: &Fingerprint,
        mtime: i64,
    ) -> Result<(Generation, Vec<usize>), PlanError> {
        let mut images = Vec::with_capacity(self.spec.images.len());
        let mut spec_of_image = Vec::with_capacity(self.spec.images.len());
        let mut names: BTreeSet<String> = self
            .spec
            .images
            .iter()
            .map(|image| image.name.clone())
            .collect();
        for (index, image) in self.spec.images.iter().enumerate() {
            let files = self.files(image).map_err(|reason| PlanError::Image {
                name: image.name.clone(),
                reason: reason.to_string(),
            })?;
            for (name, source) in files {
                if name != image.name && !names.insert(name.clone()) {
                    return Err(PlanError::ImageClash {
                        name: image.name.clone(),
                        companion: name,
                    });
                }
                let mut of_image = identity.clone();
                // The container's settings are small and few: their debug form tells them apart.
                of_image.bytes(
                    format!("{:?} {:?} {}", image.format, self.spec.vm, self.spec.name).as_bytes(),
                );
                of_image.bytes(name.as_bytes());
                images.push(Arc::new(Image::new(name, source, mtime, of_image.finish())));
                spec_of_image.push(index);
            }
        }
        Ok((Generation { images }, spec_of_image))
    }

    /// The files of one image, the image itself first.
    fn files(&self, image: &ImageSpec) -> Result<Vec<Named>, Failure> {
        let name = image.name.clone();
        Ok(match image.format {
            ImageFormat::Raw { partition } => vec![(name, self.raw(partition))],
            ImageFormat::Vmdk(layout) => self.vmdk(name, layout)?,
            ImageFormat::Ova(package) => vec![(name, self.ova(package)?)],
            ImageFormat::Qcow2 => {
                let qcow2 = Qcow2::new(Arc::clone(&self.disk), &self.data)?;
                vec![(name, Arc::new(qcow2))]
            }
            ImageFormat::Vdi => {
                let ids = vdi::ids(&self.spec.seed, &name, &self.content);
                let vdi = Vdi::new(Arc::clone(&self.disk), &self.data, ids)?;
                vec![(name, Arc::new(vdi))]
            }
            ImageFormat::Vagrant(provider) => vec![(name, self.vagrant(provider)?)],
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

    fn vmdk(&self, name: String, layout: VmdkLayout) -> Result<Vec<Named>, Failure> {
        let descriptor = self.descriptor(name.clone());
        Ok(match layout {
            VmdkLayout::MonolithicSparse => {
                let vmdk = SparseVmdk::new(Arc::clone(&self.disk), &self.data, descriptor)?;
                vec![(name, Arc::new(vmdk))]
            }
            VmdkLayout::MonolithicFlat => {
                let extent_name = format!("{}-flat.vmdk", stem(&name));
                let descriptor = self.descriptor(extent_name.clone());
                let text = flat_descriptor(descriptor, self.disk.len())?;
                vec![
                    (name, Arc::new(text)),
                    (extent_name, Arc::clone(&self.disk)),
                ]
            }
            VmdkLayout::StreamOptimized(stream) => {
                let vmdk = self.stream_vmdk(name.clone(), stream)?;
                vec![(name, Arc::new(vmdk))]
            }
        })
    }

    fn ova(&self, package: PackageSpec) -> Result<Arc<dyn ByteSource>, Failure> {
        let vmdk = self.stream_vmdk(disk_member_name(&self.spec.name), package.stream)?;
        let params = OvaParams {
            name: &self.spec.name,
            vm: &self.spec.vm,
            disk_capacity: self.disk.len(),
            mtime: self.spec.times.default,
            manifest: package.manifest,
        };
        Ok(Arc::new(Ova::new(params, Arc::new(vmdk))?))
    }

    fn vagrant(&self, provider: VagrantProvider) -> Result<Arc<dyn ByteSource>, Failure> {
        let params = BoxParams {
            name: &self.spec.name,
            vm: &self.spec.vm,
            seed: &self.spec.seed,
            disk_len: self.disk.len(),
            mtime: self.spec.times.default,
        };
        Ok(Arc::new(match provider {
            VagrantProvider::VirtualBox => {
                let vmdk = self.stream_vmdk(
                    vagrant::VMDK_MEMBER_NAME.to_owned(),
                    PackageSpec::DEFAULT.stream,
                )?;
                vagrant::virtualbox(&params, Arc::new(vmdk))?
            }
            VagrantProvider::Libvirt => {
                let qcow2 = Qcow2::new(Arc::clone(&self.disk), &self.data)?;
                vagrant::libvirt(&params, Arc::new(qcow2))?
            }
        }))
    }

    fn stream_vmdk(
        &self,
        extent_name: String,
        stream: StreamSpec,
    ) -> Result<StreamVmdk, VmdkError> {
        StreamVmdk::new(
            Arc::clone(&self.disk),
            &self.data,
            self.descriptor(extent_name),
            stream.directory,
            GrainForm::Stored,
        )
    }

    fn descriptor(&self, extent_name: String) -> DescriptorParams {
        DescriptorParams {
            content_id: content_id(&self.content),
            extent_name,
            adapter: adapter_type(self.spec.vm.scsi_controller),
        }
    }
}

/// The name of an image without what stands behind its last dot.
fn stem(name: &str) -> &str {
    Path::new(name)
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or(name)
}
