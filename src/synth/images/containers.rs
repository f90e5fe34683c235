//! Containers of other hypervisors.

use std::sync::Arc;

use uuid::Uuid;

use super::{Failure, Images};
use crate::config::spec::VhdLayout;
use crate::synth::fingerprint;
use crate::synth::qcow2::Qcow2;
use crate::synth::source::ByteSource;
use crate::synth::vdi::{self, Vdi};
use crate::synth::vhd::{DynamicVhd, VhdParams, fixed_vhd};
use crate::synth::vhdx::{Vhdx, VhdxParams};

impl Images {
    pub(super) fn vhd(
        &self,
        name: &str,
        layout: VhdLayout,
    ) -> Result<Arc<dyn ByteSource>, Failure> {
        let disk = Arc::clone(&self.disk);
        let params = VhdParams {
            // Of the image, not of its contents: VirtualBox knows its disks by it, and two of one machine apart.
            unique_id: *self.uuid("VHD", name).as_bytes(),
            time: self.spec.times.default,
        };
        Ok(match layout {
            VhdLayout::Dynamic => Arc::new(DynamicVhd::new(disk, &self.data, params)?),
            VhdLayout::Fixed => Arc::new(fixed_vhd(disk, params)?),
        })
    }

    pub(super) fn vhdx(&self, name: &str) -> Result<Arc<dyn ByteSource>, Failure> {
        let contents: String = self.content.map(|byte| format!("{byte:02x}")).concat();
        let params = VhdxParams {
            file_write_guid: self.uuid("VHDX file", &format!("{name} {contents}")),
            data_write_guid: self.uuid("VHDX contents", &contents),
            page_83_data: self.uuid("VHDX", name),
        };
        let disk = Arc::clone(&self.disk);
        Ok(Arc::new(Vhdx::new(disk, &self.data, params)?))
    }

    pub(super) fn qcow2(&self) -> Result<Arc<dyn ByteSource>, Failure> {
        Ok(Arc::new(Qcow2::new(Arc::clone(&self.disk), &self.data)?))
    }

    pub(super) fn vdi(&self, name: &str) -> Result<Arc<dyn ByteSource>, Failure> {
        let ids = vdi::ids(&self.spec.seed, name, &self.content);
        Ok(Arc::new(Vdi::new(Arc::clone(&self.disk), &self.data, ids)?))
    }

    /// An identifier that depends on the seed, `purpose` and `name`.
    fn uuid(&self, purpose: &str, name: &str) -> Uuid {
        fingerprint::uuid(&self.spec.seed, &format!("{purpose} {name}"))
    }
}
