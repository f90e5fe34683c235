//! VMDK images.

use std::sync::Arc;

use super::{Failure, Images, Named, Prepared, flat_name};
use crate::config::spec::{Compression, StreamSpec, VmdkLayout};
use crate::synth::fingerprint;
use crate::synth::index_store::StorePlace;
use crate::synth::machine::disk_controller;
use crate::synth::vmdk::{
    DescriptorParams, DiskIds, GrainForm, SparseVmdk, StreamVmdk, VmdkError, adapter_type,
    content_id, flat_descriptor,
};

impl Images {
    pub(super) fn vmdk(
        &self,
        name: String,
        layout: VmdkLayout,
        prepared: &Prepared<'_>,
    ) -> Result<Vec<Named>, Failure> {
        Ok(match layout {
            VmdkLayout::MonolithicSparse => {
                let descriptor = self.descriptor(name.clone());
                let vmdk = SparseVmdk::new(Arc::clone(&self.disk), &self.data, descriptor)?;
                vec![(name, Arc::new(vmdk))]
            }
            VmdkLayout::MonolithicFlat => {
                let extent_name = flat_name(&name);
                let descriptor = self.descriptor(extent_name.clone());
                let text = flat_descriptor(descriptor, self.disk.len())?;
                vec![
                    (name, Arc::new(text)),
                    (extent_name, Arc::clone(&self.disk)),
                ]
            }
            VmdkLayout::StreamOptimized(stream) => {
                let vmdk = self.stream_vmdk(name.clone(), stream, prepared)?;
                vec![(name, Arc::new(vmdk))]
            }
        })
    }

    pub(super) fn stream_vmdk(
        &self,
        extent_name: String,
        stream: StreamSpec,
        prepared: &Prepared<'_>,
    ) -> Result<StreamVmdk, VmdkError> {
        let form = match (stream.compression, &prepared.index) {
            (Compression::Stored, _) => GrainForm::Stored,
            (Compression::Deflate { level }, index) => GrainForm::Deflated {
                index: index
                    .clone()
                    .expect("compressed grains are indexed before their VMDK is made"),
                level,
                cache: &self.cache,
                store: self
                    .cache_directory
                    .as_deref()
                    .map(|directory| StorePlace::new(directory, self.store_id(&[level]))),
            },
        };
        StreamVmdk::new(
            Arc::clone(&self.disk),
            &self.data,
            self.descriptor(extent_name),
            stream.directory,
            form,
        )
    }

    fn descriptor(&self, extent_name: String) -> DescriptorParams {
        DescriptorParams {
            content_id: content_id(&self.content),
            ids: DiskIds {
                image: fingerprint::uuid(&self.spec.seed, &format!("VMDK {extent_name}")),
                modification: fingerprint::content_uuid(&self.content, "VMDK"),
            },
            extent_name,
            adapter: adapter_type(disk_controller(&self.spec.vm, self.template.as_deref())),
        }
    }
}
