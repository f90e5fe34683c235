//! OVF packages, in a tar or as files.

use std::sync::Arc;

use super::{Failure, Images, Named, Prepared, stem};
use crate::config::spec::{ImageSpec, PackageSpec, VagrantProvider};
use crate::formats::vmdk::deflate::LIBRARY;
use crate::synth::index_store::DigestStore;
use crate::synth::machine::{VmxParams, vmx_text};
use crate::synth::ova::{Ova, OvaParams, Package, disk_member_name};
use crate::synth::segments::SegmentMap;
use crate::synth::source::ByteSource;
use crate::synth::vagrant::{self, BoxParams};

impl Images {
    pub(super) fn ova(
        &self,
        image: &ImageSpec,
        package: PackageSpec,
        prepared: &Prepared<'_>,
    ) -> Result<Arc<dyn ByteSource>, Failure> {
        let disk_name = disk_member_name(&self.spec.name);
        let vmdk = self.stream_vmdk(disk_name, package.stream, prepared)?;
        let ova = Ova::new(self.package_params(image, package), Arc::new(vmdk))?;
        if let Some(progress) = prepared.progress {
            ova.settle(progress)?;
        }
        Ok(Arc::new(ova))
    }

    pub(super) fn ovf(
        &self,
        image: &ImageSpec,
        package: PackageSpec,
        prepared: &Prepared<'_>,
    ) -> Result<Vec<Named>, Failure> {
        let base = stem(&image.name);
        let vmdk = self.stream_vmdk(disk_member_name(base), package.stream, prepared)?;
        let params = self.package_params(image, package);
        let built = Package::new(params, base, Arc::new(vmdk))?;
        let mut files: Vec<Named> = vec![
            (image.name.clone(), Arc::new(built.ovf)),
            (disk_member_name(base), built.disk),
        ];
        if let Some(manifest) = built.manifest {
            files.push((format!("{base}.mf"), manifest));
        }
        Ok(files)
    }

    /// A machine around image number `disk`, a VMDK, which VMware may not write to.
    pub(super) fn vmx(&self, disk: usize) -> Result<Arc<dyn ByteSource>, Failure> {
        let disk = self.spec.images.get(disk);
        let disk_name = &disk.expect("a VMX names an image of its config").name;
        let disk_path = match &self.mountpoint {
            // Beside it, where both are copied to.
            None => disk_name.clone(),
            Some(mountpoint) => {
                let path = mountpoint.join(disk_name);
                path.into_os_string().into_string().map_err(|path| {
                    format!("mount point {}: a VMX holds UTF-8 only", path.display())
                })?
            }
        };
        let text = vmx_text(&VmxParams {
            name: &self.spec.name,
            vm: &self.spec.vm,
            template: self.template.as_deref(),
            disk_path: &disk_path,
        })?;
        let mut map = SegmentMap::new();
        map.push_bytes("VMX", "VMX", text.into());
        Ok(Arc::new(map))
    }

    pub(super) fn vagrant(
        &self,
        provider: VagrantProvider,
        prepared: &Prepared<'_>,
    ) -> Result<Arc<dyn ByteSource>, Failure> {
        let params = BoxParams {
            name: &self.spec.name,
            vm: &self.spec.vm,
            template: self.template.as_deref(),
            seed: &self.spec.seed,
            disk_len: self.disk.len(),
            mtime: self.spec.times.default,
        };
        Ok(Arc::new(match provider {
            VagrantProvider::VirtualBox => {
                let name = vagrant::VMDK_MEMBER_NAME.to_owned();
                let vmdk = self.stream_vmdk(name, PackageSpec::DEFAULT.stream, prepared)?;
                vagrant::virtualbox(&params, Arc::new(vmdk))?
            }
            VagrantProvider::Libvirt => vagrant::libvirt(&params, self.qcow2()?)?,
        }))
    }

    pub(super) fn package_params(&self, image: &ImageSpec, package: PackageSpec) -> OvaParams<'_> {
        OvaParams {
            name: &self.spec.name,
            vm: &self.spec.vm,
            template: self.template.as_deref(),
            disk_capacity: self.disk.len(),
            mtime: self.spec.times.default,
            manifest: package.manifest,
            digests: self.cache_directory.as_deref().map(|directory| {
                let key = self.of_image(&self.stamps, image, LIBRARY);
                DigestStore::new(directory, self.store_id(image.name.as_bytes()), key)
            }),
        }
    }
}
