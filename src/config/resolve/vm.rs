//! `[vm]`: the machine around the disk.

mod error;
mod extra;
mod product;

use std::ffi::OsStr;

use toml::Spanned;

pub(crate) use self::error::VmError;
use super::{Context, Result};
use crate::config::error::ConfigErrorKind;
use crate::config::guest_os::GUEST_OS_TABLE;
use crate::config::keys::nearest;
use crate::config::raw::{RawNetwork, RawVm};
use crate::config::spec::{
    DiskController, Firmware, GuestOs, NetworkAdapter, NetworkSpec, ScsiController, TemplateFormat,
    TemplateSpec, VmSpec,
};
use crate::units::MIB;

/// More than any hypervisor gives; a bound against slips of the finger.
const CPUS_MAX: i64 = 1024;
/// `vmx-7` is the first with the devices that a config can name.
const HARDWARE_VERSION_MIN: i64 = 7;
const HARDWARE_VERSION_MAX: i64 = 99;
/// The first with AHCI.
const SATA_HARDWARE_VERSION: u32 = 10;
/// VMware has slots for ten.
const NETWORKS_MAX: usize = 10;

pub(super) fn resolve(raw: &RawVm, context: &Context<'_>) -> Result<VmSpec> {
    let default = VmSpec::default();
    if let Some(typed) = &raw.template {
        let template = template(typed, context)?;
        refuse_beside_template(raw, template.format, context)?;
        return Ok(VmSpec {
            disk_controller: disk_controller(raw, context)?,
            template: Some(template),
            ..default
        });
    }
    let firmware = [("bios", Firmware::Bios), ("efi", Firmware::Efi)];
    let hardware_version = bounded(
        context,
        "hardware-version",
        raw.hardware_version.as_ref(),
        (HARDWARE_VERSION_MIN, HARDWARE_VERSION_MAX),
        default.hardware_version,
    )?;
    let disk_controller = disk_controller(raw, context)?;
    if disk_controller == DiskController::Sata && hardware_version < SATA_HARDWARE_VERSION {
        let span = raw.disk_controller.as_ref().map_or(0..0, Spanned::span);
        let kind = VmError::SataTooEarly {
            hardware_version,
            needed: SATA_HARDWARE_VERSION,
        };
        return Err(context.error(&span, kind));
    }
    Ok(VmSpec {
        memory: memory(raw, default.memory, context)?,
        cpus: bounded(
            context,
            "cpus",
            raw.cpus.as_ref(),
            (1, CPUS_MAX),
            default.cpus,
        )?,
        guest_os: guest_os(raw, context)?,
        firmware: context
            .choice("firmware", raw.firmware.as_ref(), &firmware)?
            .unwrap_or(default.firmware),
        hardware_version,
        disk_controller,
        networks: networks(raw, default.networks, context)?,
        annotation: product::annotation(raw, context)?,
        product: product::resolve(raw, context)?,
        vmx: extra::resolve(raw, context)?,
        template: None,
    })
}

fn memory(raw: &RawVm, default: u64, context: &Context<'_>) -> Result<u64> {
    let Some(typed) = &raw.memory else {
        return Ok(default);
    };
    let bytes = context.size("memory", typed)?;
    if bytes == 0 || !bytes.is_multiple_of(MIB) {
        let kind = ConfigErrorKind::NotMultiple {
            key: "memory",
            bytes,
            unit_name: "1 MiB",
        };
        return Err(context.error(&typed.span(), kind));
    }
    Ok(bytes)
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
    let Some(typed) = &raw.guest_os else {
        return Ok(GuestOs::default());
    };
    let value = typed.get_ref();
    let known = GUEST_OS_TABLE.iter().find(|guest| guest.name == value);
    known.copied().ok_or_else(|| {
        let kind = VmError::GuestOs {
            value: value.clone(),
            nearest: nearest(value, GUEST_OS_TABLE.iter().map(|guest| guest.name)),
        };
        context.error(&typed.span(), kind)
    })
}

fn disk_controller(raw: &RawVm, context: &Context<'_>) -> Result<DiskController> {
    let models = [
        ("lsilogic", ScsiController::LsiLogic),
        ("lsilogicsas", ScsiController::LsiLogicSas),
        ("buslogic", ScsiController::BusLogic),
        ("pvscsi", ScsiController::PvScsi),
    ];
    let typed = raw.scsi_controller.as_ref();
    let model = context.choice("scsi-controller", typed, &models)?;
    let buses = [("scsi", "scsi"), ("sata", "sata"), ("ide", "ide")];
    let bus = context
        .choice("disk-controller", raw.disk_controller.as_ref(), &buses)?
        .unwrap_or("scsi");
    let other = match bus {
        "sata" => DiskController::Sata,
        "ide" => DiskController::Ide,
        _ => {
            let model = model.unwrap_or(ScsiController::LsiLogic);
            return Ok(DiskController::Scsi(model));
        }
    };
    match typed {
        None => Ok(other),
        Some(typed) => Err(context.error(&typed.span(), VmError::ScsiModelOfOther { bus })),
    }
}

fn networks(
    raw: &RawVm,
    default: Vec<NetworkSpec>,
    context: &Context<'_>,
) -> Result<Vec<NetworkSpec>> {
    let Some(typed) = &raw.networks else {
        return Ok(default);
    };
    if let Some(network) = typed.get(NETWORKS_MAX) {
        let kind = VmError::TooManyNetworks {
            count: typed.len(),
            max: NETWORKS_MAX,
        };
        return Err(context.error(&network.span(), kind));
    }
    typed
        .iter()
        .map(|network| resolve_network(network, context))
        .collect()
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
            .choice("adapter", network.adapter.as_ref(), &adapters)?
            .unwrap_or(NetworkAdapter::E1000),
    })
}

fn template(typed: &Spanned<String>, context: &Context<'_>) -> Result<TemplateSpec> {
    context.printable("template", typed)?;
    let path = context.absolute(typed);
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let format = match ending.to_ascii_lowercase().as_str() {
        "vmx" => TemplateFormat::Vmx,
        "ovf" => TemplateFormat::Ovf,
        _ => {
            let name = typed.get_ref().clone();
            return Err(context.error(&typed.span(), VmError::TemplateName { name }));
        }
    };
    let (path, _) = context.regular_file("template", path, &typed.span())?;
    Ok(TemplateSpec {
        path,
        format,
        location: context.locate(&typed.span()),
    })
}

/// The template says all of the machine; only where a VMX has no disk, the config says where ours goes.
fn refuse_beside_template(
    raw: &RawVm,
    format: TemplateFormat,
    context: &Context<'_>,
) -> Result<()> {
    fn span<T>(typed: Option<&Spanned<T>>) -> Option<std::ops::Range<usize>> {
        typed.map(Spanned::span)
    }
    let network = raw
        .networks
        .as_ref()
        .map(|networks| networks.first().map_or(0..0, Spanned::span));
    let mut keys = vec![
        ("memory", span(raw.memory.as_ref())),
        ("cpus", span(raw.cpus.as_ref())),
        ("guest-os", span(raw.guest_os.as_ref())),
        ("firmware", span(raw.firmware.as_ref())),
        ("hardware-version", span(raw.hardware_version.as_ref())),
        ("networks", network),
        ("annotation", span(raw.annotation.as_ref())),
        ("product", span(raw.product.as_ref())),
        ("product-version", span(raw.product_version.as_ref())),
        ("vendor", span(raw.vendor.as_ref())),
        ("properties", span(raw.properties.as_ref())),
        ("vmx", span(raw.vmx.as_ref())),
    ];
    if format == TemplateFormat::Ovf {
        keys.push(("disk-controller", span(raw.disk_controller.as_ref())));
        keys.push(("scsi-controller", span(raw.scsi_controller.as_ref())));
    }
    let mut typed = keys
        .into_iter()
        .filter_map(|(key, span)| Some((key, span?)));
    match typed.next() {
        None => Ok(()),
        Some((key, span)) => Err(context.error(&span, VmError::BesideTemplate { key })),
    }
}
