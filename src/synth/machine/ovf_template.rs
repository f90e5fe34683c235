//! The machine of an OVF descriptor in other terms.

use super::TemplateProblem;
use super::hardware::{Card, CardModel, Controller, Guest, Hardware, scsi_model};
use crate::config::spec::{Firmware, GuestOs, ProductSpec, ScsiController, VmSpec};
use crate::formats::ovf::{Found, FoundController};
use crate::formats::vmx::Slot;
use crate::units::MIB;

pub(super) fn hardware(found: &Found) -> Result<Hardware, TemplateProblem> {
    let default = VmSpec::default();
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
        extra: found.extra.clone(),
    })
}

fn unknown(what: &'static str, name: &str) -> TemplateProblem {
    let name = name.to_owned();
    TemplateProblem::Unknown { what, name }
}

fn guest(found: &Found) -> Guest {
    let os_type = found.vmw_os_type.as_deref().unwrap_or_default();
    GuestOs::from_vmw_os_type(os_type)
        .or_else(|| GuestOs::from_ovf_id(found.os_id?))
        .map_or_else(
            || Guest::other(os_type, os_type.contains("64")),
            Guest::from,
        )
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
        network: network.to_owned(),
        model: CardModel::named(first).ok_or_else(|| unknown("network card", model))?,
    })
}
