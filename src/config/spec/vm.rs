//! `[vm]`: the machine around the disk.

use std::path::PathBuf;

use super::Location;
use crate::config::guest_os::GUEST_OS_TABLE;

/// `[vm]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSpec {
    /// Memory in bytes, a multiple of 1 MiB.
    pub memory: u64,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// What runs in it.
    pub guest_os: GuestOs,
    /// Firmware.
    pub firmware: Firmware,
    /// VMware's hardware version, the N of `vmx-N`.
    pub hardware_version: u32,
    /// The controller of the disk.
    pub disk_controller: DiskController,
    /// Network cards, at most 10.
    pub networks: Vec<NetworkSpec>,
    /// Notes for people; may have several lines.
    pub annotation: Option<String>,
    /// What the machine is sold or given away as.
    pub product: ProductSpec,
    /// Further keys of a VMX, in the order of the keys; never one that miragefs sets itself.
    pub vmx: Vec<(String, String)>,
    /// The machine as somebody else described it. All of the above but the controller are defaults then.
    pub template: Option<TemplateSpec>,
}

impl Default for VmSpec {
    /// What an empty table means.
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            cpus: 2,
            guest_os: GuestOs::default(),
            firmware: Firmware::Bios,
            hardware_version: 13,
            disk_controller: DiskController::Scsi(ScsiController::LsiLogic),
            networks: vec![NetworkSpec {
                name: "nat".to_owned(),
                adapter: NetworkAdapter::E1000,
            }],
            annotation: None,
            product: ProductSpec::default(),
            vmx: Vec::new(),
            template: None,
        }
    }
}

/// `guest-os`: one row of the table of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestOs {
    /// The name in the config.
    pub name: &'static str,
    /// CIM_OperatingSystem.OSType, `ovf:id`.
    pub ovf_id: u16,
    /// vSphere's VirtualMachineGuestOsIdentifier, `vmw:osType`.
    pub vmw_os_type: &'static str,
    /// `guestOS` of a VMX.
    pub vmx_guest_os: &'static str,
    /// The name for people.
    pub description: &'static str,
}

impl Default for GuestOs {
    fn default() -> Self {
        *GUEST_OS_TABLE.first().expect("the table has a default")
    }
}

impl GuestOs {
    /// The row of a VMX's `guestOS`, which VMware reads without regard to case.
    #[must_use]
    pub fn from_vmx(guest_os: &str) -> Option<Self> {
        let mut rows = GUEST_OS_TABLE.iter();
        rows.find(|row| row.vmx_guest_os.eq_ignore_ascii_case(guest_os))
            .copied()
    }

    /// The row of an OVF's `vmw:osType`.
    #[must_use]
    pub fn from_vmw_os_type(os_type: &str) -> Option<Self> {
        let mut rows = GUEST_OS_TABLE.iter();
        rows.find(|row| row.vmw_os_type == os_type).copied()
    }

    /// The first row of an OVF's `ovf:id`.
    #[must_use]
    pub fn from_ovf_id(id: u16) -> Option<Self> {
        GUEST_OS_TABLE.iter().find(|row| row.ovf_id == id).copied()
    }
}

/// `firmware`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// BIOS.
    Bios,
    /// UEFI.
    Efi,
}

/// `disk-controller`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskController {
    /// SCSI of this model.
    Scsi(ScsiController),
    /// AHCI.
    Sata,
    /// PIIX4, the first channel.
    Ide,
}

/// `scsi-controller`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScsiController {
    /// LSI Logic parallel.
    LsiLogic,
    /// LSI Logic SAS.
    LsiLogicSas,
    /// BusLogic parallel.
    BusLogic,
    /// VMware paravirtual.
    PvScsi,
}

/// An entry of `networks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Name of the network.
    pub name: String,
    /// Model of the card.
    pub adapter: NetworkAdapter,
}

/// `adapter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkAdapter {
    /// Intel 82545EM.
    E1000,
    /// Intel 82574L.
    E1000e,
    /// VMware paravirtual.
    Vmxnet3,
}

/// `product`, `product-version`, `vendor` and `properties`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProductSpec {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Who makes it.
    pub vendor: Option<String>,
    /// What can be set when the machine is deployed; keys are unique.
    pub properties: Vec<PropertySpec>,
}

/// An entry of `properties`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertySpec {
    /// Its key: `[A-Za-z0-9_.-]{1,255}`.
    pub key: String,
    /// The value until somebody sets another one; fits the type.
    pub value: String,
    /// What values it takes.
    pub kind: PropertyType,
    /// A name for people.
    pub label: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether whoever deploys the machine is asked for it.
    pub user_configurable: bool,
}

/// `type` of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyType {
    /// Any text.
    String,
    /// `true` or `false`.
    Boolean,
    /// A whole number from 0 to 2^64 - 1.
    Unsigned,
    /// A whole number from -2^63 to 2^63 - 1.
    Signed,
    /// A fraction.
    Real,
}

/// `template`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateSpec {
    /// The file, absolute; it exists.
    pub path: PathBuf,
    /// What it is.
    pub format: TemplateFormat,
    /// Where it was typed.
    pub location: Location,
}

/// What a template is, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateFormat {
    /// VMware's configuration of a machine.
    Vmx,
    /// An OVF descriptor.
    Ovf,
}
