//! A machine whichever way it was described.

use super::{MachineError, OvfParams, Template, VmxParams};
use crate::config::spec::{
    DiskController, Firmware, GuestOs, NetworkAdapter, ProductSpec, PropertySpec, PropertyType,
    ScsiController, VmSpec,
};
use crate::formats::ovf::{self, Ovf};
use crate::formats::vmx::{self, Slot, Vmx};
use crate::units::MIB;

/// What every description says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hardware {
    pub(super) cpus: u32,
    pub(super) memory_mib: u64,
    pub(super) guest: Guest,
    pub(super) firmware: Firmware,
    pub(super) hardware_version: u32,
    pub(super) controller: Controller,
    pub(super) slot: Slot,
    pub(super) cards: Vec<Card>,
    pub(super) annotation: Option<String>,
    pub(super) product: ProductSpec,
    pub(super) extra: Vec<(String, String)>,
}

/// The guest's system under each of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) ovf_id: u16,
    pub(super) vmw_os_type: String,
    pub(super) vmx_guest_os: String,
    pub(super) description: String,
}

impl From<GuestOs> for Guest {
    fn from(row: GuestOs) -> Self {
        Self {
            ovf_id: row.ovf_id,
            vmw_os_type: row.vmw_os_type.to_owned(),
            vmx_guest_os: row.vmx_guest_os.to_owned(),
            description: row.description.to_owned(),
        }
    }
}

impl Guest {
    /// A system that the table does not know, under the name that somebody gave it.
    pub(super) fn other(name: &str, is_wide: bool) -> Self {
        let row = if is_wide {
            "otherGuest64"
        } else {
            "otherGuest"
        };
        let row = GuestOs::from_vmw_os_type(row).unwrap_or_default();
        Self {
            description: name.to_owned(),
            ..Self::from(row)
        }
    }
}

/// A kind of controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Scsi(ScsiController),
    Sata,
    Ide,
    Nvme,
}

impl From<DiskController> for Controller {
    fn from(controller: DiskController) -> Self {
        match controller {
            DiskController::Scsi(model) => Self::Scsi(model),
            DiskController::Sata => Self::Sata,
            DiskController::Ide => Self::Ide,
        }
    }
}

impl Controller {
    pub(super) const fn vmx(self) -> vmx::Controller<'static> {
        match self {
            Self::Scsi(model) => vmx::Controller::Scsi(scsi_names(model).0),
            Self::Sata => vmx::Controller::Sata,
            Self::Ide => vmx::Controller::Ide,
            Self::Nvme => vmx::Controller::Nvme,
        }
    }

    const fn ovf(self) -> ovf::Controller<'static> {
        match self {
            Self::Scsi(model) => ovf::Controller::Scsi(scsi_names(model).1),
            Self::Sata => ovf::Controller::Sata,
            Self::Ide => ovf::Controller::Ide,
            Self::Nvme => ovf::Controller::Nvme,
        }
    }
}

/// `virtualDev` of a VMX and `ResourceSubType` of an OVF.
const fn scsi_names(model: ScsiController) -> (&'static str, &'static str) {
    match model {
        ScsiController::LsiLogic => ("lsilogic", "lsilogic"),
        ScsiController::LsiLogicSas => ("lsisas1068", "lsilogicsas"),
        ScsiController::BusLogic => ("buslogic", "buslogic"),
        ScsiController::PvScsi => ("pvscsi", "VirtualSCSI"),
    }
}

/// The model under either of its names, without regard to case.
pub(super) fn scsi_model(name: &str) -> Option<ScsiController> {
    let mut models = [
        ScsiController::LsiLogic,
        ScsiController::LsiLogicSas,
        ScsiController::BusLogic,
        ScsiController::PvScsi,
    ]
    .into_iter();
    models.find(|model| {
        let (vmx, ovf) = scsi_names(*model);
        name.eq_ignore_ascii_case(vmx) || name.eq_ignore_ascii_case(ovf)
    })
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) network: String,
    pub(super) model: CardModel,
}

/// A model of network cards by its names in a VMX and in an OVF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CardModel {
    pub(super) vmx: &'static str,
    pub(super) ovf: &'static str,
}

const E1000: CardModel = card("e1000", "E1000");
const E1000E: CardModel = card("e1000e", "E1000e");
const VMXNET3: CardModel = card("vmxnet3", "VmxNet3");
const VMXNET2: CardModel = card("vmxnet", "VmxNet2");
/// What a card without `virtualDev` is.
pub(super) const PCNET: CardModel = card("vlance", "PCNet32");

const fn card(vmx: &'static str, ovf: &'static str) -> CardModel {
    CardModel { vmx, ovf }
}

impl CardModel {
    /// The model under either of its names, without regard to case.
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut models = [E1000, E1000E, VMXNET3, VMXNET2, PCNET].into_iter();
        models.find(|model| {
            name.eq_ignore_ascii_case(model.vmx) || name.eq_ignore_ascii_case(model.ovf)
        })
    }
}

impl From<NetworkAdapter> for CardModel {
    fn from(adapter: NetworkAdapter) -> Self {
        match adapter {
            NetworkAdapter::E1000 => E1000,
            NetworkAdapter::E1000e => E1000E,
            NetworkAdapter::Vmxnet3 => VMXNET3,
        }
    }
}

impl Hardware {
    /// What the template says, else what the config says.
    pub(super) fn of(vm: &VmSpec, template: Option<&Template>) -> Result<Self, MachineError> {
        match template {
            None => Ok(Self::of_spec(vm)),
            Some(template) => template.hardware(vm),
        }
    }

    fn of_spec(vm: &VmSpec) -> Self {
        let cards = vm.networks.iter().map(|network| Card {
            network: network.name.clone(),
            model: network.adapter.into(),
        });
        Self {
            cpus: vm.cpus,
            memory_mib: vm.memory / MIB,
            guest: vm.guest_os.into(),
            firmware: vm.firmware,
            hardware_version: vm.hardware_version,
            controller: vm.disk_controller.into(),
            slot: Slot { bus: 0, unit: 0 },
            cards: cards.collect(),
            annotation: vm.annotation.clone(),
            product: vm.product.clone(),
            extra: vm.vmx.clone(),
        }
    }

    pub(super) const fn disk_controller(&self) -> DiskController {
        match self.controller {
            Controller::Scsi(model) => DiskController::Scsi(model),
            Controller::Sata | Controller::Nvme => DiskController::Sata,
            Controller::Ide => DiskController::Ide,
        }
    }

    const fn firmware_name(&self) -> &'static str {
        match self.firmware {
            Firmware::Bios => "bios",
            Firmware::Efi => "efi",
        }
    }

    fn extra(&self) -> Vec<(&str, &str)> {
        let pairs = self.extra.iter();
        pairs
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    }

    pub(super) fn ovf(&self, params: &OvfParams<'_>) -> String {
        let networks = self.cards.iter().map(|card| ovf::Network {
            name: &card.network,
            sub_type: card.model.ovf,
        });
        let product = ovf::Product {
            name: self.product.name.as_deref(),
            vendor: self.product.vendor.as_deref(),
            version: self.product.version.as_deref(),
            properties: self.product.properties.iter().map(property).collect(),
        };
        Ovf {
            name: params.name,
            disk_href: params.disk_href,
            disk_file_len: params.disk_file_len,
            disk_capacity: params.disk_capacity,
            os_id: self.guest.ovf_id,
            vmw_os_type: &self.guest.vmw_os_type,
            os_description: &self.guest.description,
            hardware_version: self.hardware_version,
            cpus: self.cpus,
            memory_mib: self.memory_mib,
            controller: self.controller.ovf(),
            controller_address: self.slot.bus,
            disk_address: self.slot.unit,
            networks: networks.collect(),
            firmware: self.firmware_name(),
            annotation: self.annotation.as_deref(),
            product,
            extra: self.extra(),
        }
        .to_string()
    }

    pub(super) fn vmx(&self, params: &VmxParams<'_>) -> String {
        let networks = self.cards.iter().map(|card| vmx::Network {
            name: &card.network,
            model: card.model.vmx,
        });
        let mut vmx = Vmx {
            name: params.name,
            guest_os: &self.guest.vmx_guest_os,
            firmware: self.firmware_name(),
            hardware_version: self.hardware_version,
            cpus: self.cpus,
            memory_mib: self.memory_mib,
            controller: self.controller.vmx(),
            slot: self.slot,
            disk_path: params.disk_path,
            networks: networks.collect(),
            annotation: self.annotation.as_deref(),
            extra: Vec::new(),
        };
        // A machine with a key twice does not start: what is written anyway wins over a template's extra keys.
        let written = vmx.to_string();
        let is_written = |key: &str| {
            let mut pairs = vmx::entries(&written).filter_map(|entry| entry.pair);
            pairs.any(|(other, _)| other.eq_ignore_ascii_case(key))
        };
        vmx.extra = self.extra();
        vmx.extra.retain(|(key, _)| !is_written(key));
        vmx.to_string()
    }
}

fn property(property: &PropertySpec) -> ovf::Property<'_> {
    ovf::Property {
        key: &property.key,
        kind: match property.kind {
            PropertyType::String => "string",
            PropertyType::Boolean => "boolean",
            PropertyType::Unsigned => "uint64",
            PropertyType::Signed => "sint64",
            PropertyType::Real => "real64",
        },
        value: &property.value,
        user_configurable: property.user_configurable,
        label: property.label.as_deref(),
        description: property.description.as_deref(),
    }
}
