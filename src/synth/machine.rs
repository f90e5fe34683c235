//! The machine around the disk, as the texts that hypervisors import.
//!
//! Invariant: same machine and same disk, same text.

use crate::config::spec::{Firmware, NetworkAdapter, ScsiController, VmSpec};
use crate::formats::ovf::{Network, Ovf};
use crate::units::MIB;

/// What an OVF descriptor is made of.
#[derive(Debug, Clone, Copy)]
pub struct OvfParams<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// The machine.
    pub vm: &'a VmSpec,
    /// File name of the disk, relative to the descriptor.
    pub disk_href: &'a str,
    /// Exact bytes of that file.
    pub disk_file_len: u64,
    /// Size of the disk inside, in bytes.
    pub disk_capacity: u64,
}

/// Why a machine cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {}

/// The OVF descriptor: XML in UTF-8.
///
/// # Errors
/// [`MachineError`]; a machine that the config alone describes has none.
pub fn ovf_text(params: &OvfParams<'_>) -> Result<Vec<u8>, MachineError> {
    let vm = params.vm;
    let networks = vm
        .networks
        .iter()
        .map(|network| Network {
            name: &network.name,
            sub_type: match network.adapter {
                NetworkAdapter::E1000 => "E1000",
                NetworkAdapter::E1000e => "E1000e",
                NetworkAdapter::Vmxnet3 => "VmxNet3",
            },
        })
        .collect();
    let ovf = Ovf {
        name: params.name,
        disk_href: params.disk_href,
        disk_file_len: params.disk_file_len,
        disk_capacity: params.disk_capacity,
        os_id: vm.guest_os.ovf_id,
        vmw_os_type: vm.guest_os.vmw_os_type,
        os_description: vm.guest_os.description,
        hardware_version: vm.hardware_version,
        cpus: vm.cpus,
        memory_mib: vm.memory / MIB,
        scsi_sub_type: match vm.scsi_controller {
            ScsiController::LsiLogic => "lsilogic",
            ScsiController::LsiLogicSas => "lsilogicsas",
            ScsiController::BusLogic => "buslogic",
            ScsiController::PvScsi => "VirtualSCSI",
        },
        networks,
        firmware: match vm.firmware {
            Firmware::Bios => "bios",
            Firmware::Efi => "efi",
        },
    };
    Ok(ovf.to_string().into_bytes())
}
