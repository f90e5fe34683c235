//! `[vm]`.

use super::{Inline, Text, path_text, quoted};
use crate::config::spec::{
    DiskController, Firmware, NetworkAdapter, NetworkSpec, PropertySpec, PropertyType,
    ScsiController, TemplateFormat, VmSpec,
};

pub(super) fn write(text: &mut Text, vm: &VmSpec) {
    text.heading("[vm]");
    if let Some(template) = &vm.template {
        text.line("template", &path_text(&template.path));
        // An OVF says it itself.
        if template.format == TemplateFormat::Vmx {
            controller(text, vm.disk_controller);
        }
        return;
    }
    text.line("memory", &vm.memory);
    text.line("cpus", &vm.cpus);
    text.line("guest-os", &quoted(vm.guest_os.name));
    let firmware = match vm.firmware {
        Firmware::Bios => "bios",
        Firmware::Efi => "efi",
    };
    text.line("firmware", &quoted(firmware));
    text.line("hardware-version", &vm.hardware_version);
    controller(text, vm.disk_controller);
    let networks: Vec<String> = vm.networks.iter().map(network).collect();
    if networks.is_empty() {
        text.line("networks", &"[]");
    }
    text.array("networks", &networks);
    let product = &vm.product;
    for (key, value) in [
        ("annotation", &vm.annotation),
        ("product", &product.name),
        ("product-version", &product.version),
        ("vendor", &product.vendor),
    ] {
        text.optional(key, value.as_deref().map(quoted).as_ref());
    }
    let properties: Vec<String> = product.properties.iter().map(property).collect();
    text.array("properties", &properties);
    if !vm.vmx.is_empty() {
        text.heading("[vm.vmx]");
        for (key, value) in &vm.vmx {
            text.line(&quoted(key), &quoted(value));
        }
    }
}

fn controller(text: &mut Text, controller: DiskController) {
    let model = match controller {
        DiskController::Sata => return text.line("disk-controller", &quoted("sata")),
        DiskController::Ide => return text.line("disk-controller", &quoted("ide")),
        DiskController::Scsi(ScsiController::LsiLogic) => "lsilogic",
        DiskController::Scsi(ScsiController::LsiLogicSas) => "lsilogicsas",
        DiskController::Scsi(ScsiController::BusLogic) => "buslogic",
        DiskController::Scsi(ScsiController::PvScsi) => "pvscsi",
    };
    text.line("disk-controller", &quoted("scsi"));
    text.line("scsi-controller", &quoted(model));
}

fn network(network: &NetworkSpec) -> String {
    let adapter = match network.adapter {
        NetworkAdapter::E1000 => "e1000",
        NetworkAdapter::E1000e => "e1000e",
        NetworkAdapter::Vmxnet3 => "vmxnet3",
    };
    Inline::default()
        .with("name", quoted(&network.name))
        .with("adapter", quoted(adapter))
        .text()
}

fn property(property: &PropertySpec) -> String {
    let kind = match property.kind {
        PropertyType::String => "string",
        PropertyType::Boolean => "boolean",
        PropertyType::Unsigned => "unsigned",
        PropertyType::Signed => "signed",
        PropertyType::Real => "real",
    };
    Inline::default()
        .with("key", quoted(&property.key))
        .with("value", quoted(&property.value))
        .with("type", quoted(kind))
        .with_optional("label", property.label.as_deref().map(quoted))
        .with_optional("description", property.description.as_deref().map(quoted))
        .with("user-configurable", property.user_configurable)
        .text()
}
