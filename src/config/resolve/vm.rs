//! `[vm]`: the machine around the disk.

use toml::Spanned;

use super::{Context, Result};
use crate::config::error::ConfigErrorKind;
use crate::config::guest_os::GUEST_OS_TABLE;
use crate::config::raw::{RawNetwork, RawVm};
use crate::config::spec::{Firmware, GuestOs, NetworkAdapter, NetworkSpec, ScsiController, VmSpec};
use crate::units::{GIB, MIB};

/// More than any hypervisor gives; a bound against slips of the finger.
const CPUS_MAX: i64 = 1024;
/// `vmx-7` is the first with the devices that a config can name.
const HARDWARE_VERSION_MIN: i64 = 7;
const HARDWARE_VERSION_MAX: i64 = 99;

pub(super) fn resolve(raw: &RawVm, context: &Context<'_>) -> Result<VmSpec> {
    let memory = match &raw.memory {
        None => GIB,
        Some(typed) => {
            let bytes = context.size("memory", typed)?;
            if bytes == 0 || !bytes.is_multiple_of(MIB) {
                let (key, unit_name) = ("memory", "1 MiB");
                return Err(context.error(
                    &typed.span(),
                    ConfigErrorKind::NotMultiple {
                        key,
                        bytes,
                        unit_name,
                    },
                ));
            }
            bytes
        }
    };
    let firmware = [("bios", Firmware::Bios), ("efi", Firmware::Efi)];
    let controllers = [
        ("lsilogic", ScsiController::LsiLogic),
        ("lsilogicsas", ScsiController::LsiLogicSas),
        ("buslogic", ScsiController::BusLogic),
        ("pvscsi", ScsiController::PvScsi),
    ];
    let networks = match &raw.networks {
        None => vec![NetworkSpec {
            name: "nat".to_owned(),
            adapter: NetworkAdapter::E1000,
        }],
        Some(typed) => typed
            .iter()
            .map(|network| resolve_network(network, context))
            .collect::<Result<_>>()?,
    };
    Ok(VmSpec {
        memory,
        cpus: bounded(context, "cpus", raw.cpus.as_ref(), (1, CPUS_MAX), 2)?,
        guest_os: guest_os(raw, context)?,
        firmware: context
            .choice("firmware", raw.firmware.as_ref(), &firmware, &[])?
            .unwrap_or(Firmware::Bios),
        hardware_version: bounded(
            context,
            "hardware-version",
            raw.hardware_version.as_ref(),
            (HARDWARE_VERSION_MIN, HARDWARE_VERSION_MAX),
            13,
        )?,
        scsi_controller: context
            .choice(
                "scsi-controller",
                raw.scsi_controller.as_ref(),
                &controllers,
                &[],
            )?
            .unwrap_or(ScsiController::LsiLogic),
        networks,
    })
}

fn bounded(
    context: &Context<'_>,
    key: &'static str,
    typed: Option<&Spanned<i64>>,
    (min, max): (i64, i64),
    default: u32,
) -> Result<u32> {
    let Some(typed) = typed else {
        return Ok(default);
    };
    let value = context.integer(key, typed, min, max)?;
    Ok(u32::try_from(value).expect("the bounds are within 32 bits"))
}

fn guest_os(raw: &RawVm, context: &Context<'_>) -> Result<GuestOs> {
    let known: Vec<_> = GUEST_OS_TABLE
        .iter()
        .map(|guest| (guest.name, *guest))
        .collect();
    let default = *GUEST_OS_TABLE.first().expect("the table has a default");
    Ok(context
        .choice("guest-os", raw.guest_os.as_ref(), &known, &[])?
        .unwrap_or(default))
}

fn resolve_network(typed: &Spanned<RawNetwork>, context: &Context<'_>) -> Result<NetworkSpec> {
    let network = typed.get_ref();
    let Some(name) = &network.name else {
        let (key, table) = ("name", "an entry of networks");
        return Err(context.error(&typed.span(), ConfigErrorKind::MissingKey { key, table }));
    };
    let adapters = [
        ("e1000", NetworkAdapter::E1000),
        ("e1000e", NetworkAdapter::E1000e),
        ("vmxnet3", NetworkAdapter::Vmxnet3),
    ];
    Ok(NetworkSpec {
        name: context.printable("name", name)?,
        adapter: context
            .choice("adapter", network.adapter.as_ref(), &adapters, &[])?
            .unwrap_or(NetworkAdapter::E1000),
    })
}
