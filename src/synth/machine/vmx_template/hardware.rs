//! The machine of a VMX in other terms.

use super::{Device, Pair, VmxProblem, VmxTemplate};
use crate::config::spec::{DiskController, Firmware, GuestOs, ProductSpec, ScsiController, VmSpec};
use crate::synth::machine::TemplateProblem;
use crate::synth::machine::hardware::{
    Card, CardModel, Controller, Guest, Hardware, PCNET, scsi_model,
};
use crate::units::MIB;

const CPUS_MAX: u64 = 1024;
/// 24 TiB: vSphere 8.
const MEMORY_MIB_MAX: u64 = 24 << 20;
const HARDWARE_VERSION_MAX: u64 = 99;
/// VMware has slots for ten.
const CARDS_MAX: u32 = 10;

/// Line, and what is wrong.
type Fault = (u32, TemplateProblem);

impl VmxTemplate {
    pub(in crate::synth::machine) fn hardware(
        &self,
        wanted: DiskController,
    ) -> Result<Hardware, Fault> {
        let default = VmSpec::default();
        let number = |key, max, default| self.number(key, max, default);
        let place = self.place(wanted)?;
        let firmware = match self.pair("firmware") {
            None => Firmware::Bios,
            Some(pair) if pair.value.eq_ignore_ascii_case("bios") => Firmware::Bios,
            Some(pair) if pair.value.eq_ignore_ascii_case("efi") => Firmware::Efi,
            Some(pair) => return Err(unknown(pair, "firmware")),
        };
        let version = number(
            "virtualhw.version",
            HARDWARE_VERSION_MAX,
            default.hardware_version.into(),
        )?;
        Ok(Hardware {
            cpus: narrow(number("numvcpus", CPUS_MAX, 1)?),
            memory_mib: number("memsize", MEMORY_MIB_MAX, default.memory / MIB)?,
            guest: self.guest(),
            firmware,
            hardware_version: narrow(version),
            controller: self.controller(place, wanted)?,
            slot: place.slot,
            cards: self.cards()?,
            annotation: self.value("annotation").map(str::to_owned),
            product: ProductSpec::default(),
            extra: Vec::new(),
        })
    }

    fn number(&self, key: &'static str, max: u64, default: u64) -> Result<u64, Fault> {
        let Some(pair) = self.pair(key) else {
            return Ok(default);
        };
        let value = pair.value.trim().parse().ok();
        value
            .filter(|value| (1..=max).contains(value))
            .ok_or_else(|| {
                let value = pair.value.clone();
                let problem = VmxProblem::Number { key, value, max };
                (pair.line, problem.into())
            })
    }

    fn guest(&self) -> Guest {
        let name = self.value("guestos").unwrap_or("other");
        GuestOs::from_vmx(name).map_or_else(
            || {
                let is_wide = name.to_ascii_lowercase().ends_with("-64");
                Guest {
                    vmx_guest_os: name.to_owned(),
                    ..Guest::other(name, is_wide)
                }
            },
            Guest::from,
        )
    }

    fn controller(&self, place: Device, wanted: DiskController) -> Result<Controller, Fault> {
        match place.prefix {
            "sata" => return Ok(Controller::Sata),
            "ide" => return Ok(Controller::Ide),
            "nvme" => return Ok(Controller::Nvme),
            _ => {}
        }
        if self.missing_controller(place, wanted).is_some() {
            return Ok(wanted.into());
        }
        let key = format!("scsi{}.virtualdev", place.slot.bus);
        match self.pair(&key) {
            // VMware's first model: the word for another one came later.
            None => Ok(Controller::Scsi(ScsiController::BusLogic)),
            Some(pair) => scsi_model(&pair.value)
                .map(Controller::Scsi)
                .ok_or_else(|| unknown(pair, "SCSI controller")),
        }
    }

    fn cards(&self) -> Result<Vec<Card>, Fault> {
        let mut cards = Vec::new();
        for index in 0..CARDS_MAX {
            let key = |field: &str| format!("ethernet{index}.{field}");
            if !self.is_true(&key("present")) {
                continue;
            }
            let model = match self.pair(&key("virtualdev")) {
                None => PCNET,
                Some(pair) => {
                    CardModel::named(&pair.value).ok_or_else(|| unknown(pair, "network card"))?
                }
            };
            // ESXi names its port group, Workstation a kind of connection or a virtual switch.
            let network = self
                .value(&key("networkname"))
                .or_else(|| match self.value(&key("connectiontype")) {
                    Some("custom") => self.value(&key("vnet")),
                    kind => kind,
                })
                .unwrap_or("bridged");
            cards.push(Card {
                network: network.to_owned(),
                model,
            });
        }
        Ok(cards)
    }
}

fn unknown(pair: &Pair, what: &'static str) -> Fault {
    let name = pair.value.clone();
    (pair.line, TemplateProblem::Unknown { what, name })
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).expect("the bounds are within 32 bits")
}
