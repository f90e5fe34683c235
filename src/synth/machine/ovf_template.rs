//! The machine of an OVF descriptor in other terms.

use super::TemplateProblem;
use super::hardware::{Card, CardModel, Controller, Guest, Hardware, scsi_model};
use super::vmx_template::{Device, is_tied};
use crate::config::spec::{Firmware, GuestOs, ProductSpec, ScsiController, VmSpec};
use crate::formats::ovf::{Found, FoundController};
use crate::formats::vmx::{self, Slot};
use crate::units::MIB;

/// Cards that VMware gives a machine.
const CARDS_MAX: usize = 10;

pub(super) fn hardware(found: &Found) -> Result<Hardware, TemplateProblem> {
    let default = VmSpec::default();
    if let Some((what, name)) = &found.odd {
        return Err(unknown(what, name));
    }
    if found.cards.len() > CARDS_MAX {
        let count = found.cards.len().to_string();
        return Err(unknown("number of network cards", &count));
    }
    let (controller, bus) = controller(found.controller.as_ref())?;
    let cards = found
        .cards
        .iter()
        .map(|(model, network)| card(model, network))
        .collect::<Result<_, _>>()?;
    let firmware = match found.firmware.as_deref() {
        None | Some("bios") => Firmware::Bios,
        Some("efi") => Firmware::Efi,
        Some(name) => return Err(unknown("firmware", name)),
    };
    Ok(Hardware {
        cpus: found.cpus.unwrap_or(1),
        memory_mib: found.memory_mib.unwrap_or(default.memory / MIB),
        guest: guest(found),
        firmware,
        hardware_version: found.hardware_version.unwrap_or(default.hardware_version),
        controller,
        slot: Slot {
            bus,
            unit: found.disk_address.unwrap_or(0),
        },
        cards,
        annotation: found.annotation.clone(),
        product: ProductSpec::default(),
        extra: extra(&found.extra)?,
    })
}

/// VMware's extra keys, without those that name disks or tie the machine to another place.
fn extra(found: &[(String, String)]) -> Result<Vec<(String, String)>, TemplateProblem> {
    let mut extra: Vec<(String, String)> = Vec::new();
    for (key, value) in found {
        if !vmx::is_key(key) {
            return Err(unknown("key of VMware's", key));
        }
        let lower = key.to_ascii_lowercase();
        let is_disk = Device::split(&lower).is_some();
        let is_known = extra
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(key));
        if !is_disk && !is_known && !is_tied(&lower) {
            extra.push((key.clone(), value.clone()));
        }
    }
    Ok(extra)
}

fn unknown(what: &'static str, name: &str) -> TemplateProblem {
    let name = name.to_owned();
    TemplateProblem::Unknown { what, name }
}

fn guest(found: &Found) -> Guest {
    let os_type = found.vmw_os_type.as_deref().unwrap_or_default();
    GuestOs::from_vmw_os_type(os_type)
        .or_else(|| GuestOs::from_ovf_id(found.os_id?))
        .or_else(|| GuestOs::from_vmw_os_type(kin(found.os_id?)?))
        .map_or_else(
            || Guest::other(os_type, os_type.contains("64")),
            Guest::from,
        )
}

/// The next of kin of a CIM_OperatingSystem.OSType without a row of its own, so that a system of 64 bits stays one.
const fn kin(os_id: u16) -> Option<&'static str> {
    match os_id {
        90 | 92 | 98 | 100 => Some("otherLinux64Guest"),
        79 | 82 | 84 | 86..=89 | 91 | 97 | 99 | 108 => Some("otherLinuxGuest"),
        70 | 71 | 74 | 77 | 81 | 103 | 104 | 111 | 112 | 114 | 115 => Some("otherGuest64"),
        _ => None,
    }
}

/// The controller, and its number among those of its kind.
fn controller(found: Option<&FoundController>) -> Result<(Controller, u32), TemplateProblem> {
    let Some(found) = found else {
        return Ok((Controller::Scsi(ScsiController::LsiLogic), 0));
    };
    // A list of models: importers take the first that they know.
    let model = found.sub_type.split_whitespace().next().unwrap_or_default();
    let controller = match (found.resource_type, model.to_ascii_lowercase().as_str()) {
        (5, _) => Controller::Ide,
        (6, "") => Controller::Scsi(ScsiController::LsiLogic),
        (6, _) => {
            let known = scsi_model(model);
            Controller::Scsi(known.ok_or_else(|| unknown("SCSI controller", model))?)
        }
        (20, "vmware.sata.ahci" | "ahci") => Controller::Sata,
        (20, "vmware.nvme.controller") => Controller::Nvme,
        _ => return Err(unknown("disk controller", model)),
    };
    Ok((controller, found.address.unwrap_or(0)))
}

fn card(model: &str, network: &str) -> Result<Card, TemplateProblem> {
    let first = model.split_whitespace().next().unwrap_or("E1000");
    Ok(Card {
        // As VMware does without a name.
        network: if network.is_empty() {
            "bridged"
        } else {
            network
        }
        .to_owned(),
        model: CardModel::named(first).ok_or_else(|| unknown("network card", model))?,
    })
}
