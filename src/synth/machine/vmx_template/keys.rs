//! Keys of a VMX: which belong to a device, and which to a place.

use std::fmt;

use crate::formats::vmx::Slot;

/// A device on a controller: `scsi0:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::synth::machine) struct Device {
    pub(super) prefix: &'static str,
    pub(super) slot: Slot,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.prefix, self.slot.bus, self.slot.unit)
    }
}

impl Device {
    /// The device of a key in lower case, and what the key says of it.
    pub(in crate::synth::machine) fn split(key: &str) -> Option<(Self, &str)> {
        let (name, field) = key.split_once('.')?;
        let (controller, unit) = name.split_once(':')?;
        let prefixes = ["scsi", "sata", "ide", "nvme"];
        let prefix = prefixes
            .into_iter()
            .find(|prefix| controller.starts_with(prefix))?;
        let slot = Slot {
            bus: number(controller.strip_prefix(prefix)?)?,
            unit: number(unit)?,
        };
        Some((Self { prefix, slot }, field))
    }

    /// Whether a key in lower case is the device's.
    pub(super) fn owns(&self, key: &str) -> bool {
        Self::split(key).is_some_and(|(device, _)| device == *self)
    }

    /// Whether a key in lower case makes the device's controller what it is.
    pub(super) fn is_controller(&self, key: &str) -> bool {
        let controller = format!("{}{}", self.prefix, self.slot.bus);
        key.split_once('.').is_some_and(|(name, field)| {
            name == controller && matches!(field, "present" | "virtualdev")
        })
    }
}

/// Digits only: `+1` and `01` are no numbers of devices.
fn number(digits: &str) -> Option<u32> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'));
    is_plain.then(|| digits.parse().ok()).flatten()
}

/// What VMware generates when a machine is made, moved or run: files beside the VMX, identities, states.
const TIED: &[&str] = &[
    "checkpoint.vmstate",
    "checkpoint.vmstate.readonly",
    "cleanshutdown",
    "extendedconfigfile",
    "migrate.hostlog",
    "nvram",
    "policy.vm.mvmtid",
    "replay.filename",
    "sched.swap.derivedname",
    "snapshot.current",
    "snapshot.lastuid",
    "snapshot.numsnapshots",
    "uuid.bios",
    "uuid.location",
    "vc.uuid",
    "vm.genid",
    "vm.genidx",
    "vmci0.id",
    "vmxstats.filename",
];

/// Whether a key in lower case ties the machine to another place.
pub(in crate::synth::machine) fn is_tied(key: &str) -> bool {
    if TIED.contains(&key) {
        return true;
    }
    let Some((device, field)) = key.split_once('.') else {
        return false;
    };
    let kind = device.trim_end_matches(|letter: char| letter.is_ascii_digit());
    match kind {
        "ethernet" => matches!(field, "generatedaddress" | "generatedaddressoffset"),
        "scsi" => field == "saswwid",
        "snapshot" => kind.len() < device.len(),
        _ => false,
    }
}
