//! Machines as OVF and VMX: every combination of hardware, and templates of others.
#![expect(
    clippy::unwrap_used,
    reason = "a failing step is to end the test where it happens"
)]

mod templates;

use std::collections::BTreeSet;
use std::path::Path;

use miragefs::config::guest_os::GUEST_OS_TABLE;
use miragefs::config::spec::{
    DiskController, Firmware, NetworkAdapter, NetworkSpec, ProductSpec, PropertySpec, PropertyType,
    ScsiController, VmSpec,
};
use miragefs::config::{self, Environment};
use miragefs::synth::machine::{OvfParams, VmxParams, ovf_text, vmx_text};

use crate::support::{read, require_tool, run, skip_unless_asked};

const CONTROLLERS: [DiskController; 6] = [
    DiskController::Scsi(ScsiController::LsiLogic),
    DiskController::Scsi(ScsiController::LsiLogicSas),
    DiskController::Scsi(ScsiController::BusLogic),
    DiskController::Scsi(ScsiController::PvScsi),
    DiskController::Sata,
    DiskController::Ide,
];

/// No card to three, each model, one network twice, a name that needs escapes.
fn card_sets() -> Vec<Vec<NetworkSpec>> {
    use NetworkAdapter::{E1000, E1000e, Vmxnet3};
    let sets: [&[(&str, NetworkAdapter)]; 6] = [
        &[],
        &[("nat", E1000)],
        &[("VMnet8", E1000e)],
        &[("VM Network", Vmxnet3)],
        &[("bridged", E1000e), ("bridged", E1000)],
        &[
            ("R&D <\"1\">", Vmxnet3),
            ("hostonly", E1000e),
            ("nat", E1000),
        ],
    ];
    let spec = |(name, adapter): &(&str, NetworkAdapter)| NetworkSpec {
        name: (*name).to_owned(),
        adapter: *adapter,
    };
    sets.iter()
        .map(|set| set.iter().map(spec).collect())
        .collect()
}

fn property(key: &str, value: &str, kind: PropertyType) -> PropertySpec {
    PropertySpec {
        key: key.to_owned(),
        value: value.to_owned(),
        kind,
        label: None,
        description: None,
        user_configurable: false,
    }
}

/// Without and with each section, and with all of them.
fn section_sets() -> Vec<VmSpec> {
    let product = ProductSpec {
        name: Some("Lab <1> & \"more\"".to_owned()),
        version: Some("2.0".to_owned()),
        vendor: Some("Examples".to_owned()),
        properties: Vec::new(),
    };
    let mut properties = vec![
        property("a.boolean", "true", PropertyType::Boolean),
        property(
            "an-unsigned",
            "18446744073709551615",
            PropertyType::Unsigned,
        ),
        property("a_signed", "-3", PropertyType::Signed),
        property("a.real", "0.5", PropertyType::Real),
    ];
    properties.push(PropertySpec {
        label: Some("Name of the <machine>".to_owned()),
        description: Some("two\nlines".to_owned()),
        user_configurable: true,
        ..property("hostname", "\"lab\" & co", PropertyType::String)
    });
    let annotation = Some("First line\n\tsecond \"line\" | <end>".to_owned());
    let vmx = vec![(
        "isolation.tools.copy.disable".to_owned(),
        "TRUE|\"1\"".to_owned(),
    )];
    let mut only_properties = ProductSpec::default();
    only_properties.properties.clone_from(&properties);
    let all = ProductSpec {
        properties,
        ..product.clone()
    };
    let base = VmSpec::default();
    vec![
        base.clone(),
        VmSpec {
            product,
            ..base.clone()
        },
        VmSpec {
            annotation: annotation.clone(),
            ..base.clone()
        },
        VmSpec {
            product: only_properties,
            ..base.clone()
        },
        VmSpec {
            vmx: vmx.clone(),
            ..base.clone()
        },
        VmSpec {
            product: all,
            annotation,
            vmx,
            ..base
        },
    ]
}

/// All of these with each other.
fn machines() -> Vec<VmSpec> {
    let mut machines = Vec::new();
    for sections in section_sets() {
        for firmware in [Firmware::Bios, Firmware::Efi] {
            for disk_controller in CONTROLLERS {
                for networks in card_sets() {
                    machines.push(VmSpec {
                        firmware,
                        disk_controller,
                        networks,
                        ..sections.clone()
                    });
                }
            }
        }
    }
    machines
}

fn ovf(vm: &VmSpec) -> String {
    let params = OvfParams {
        name: "lab",
        vm,
        template: None,
        disk_href: "lab-disk1.vmdk",
        disk_file_len: 865_792,
        disk_capacity: 1 << 20,
    };
    String::from_utf8(ovf_text(&params).unwrap()).unwrap()
}

fn vmx(vm: &VmSpec) -> String {
    let params = VmxParams {
        name: "lab",
        vm,
        template: None,
        disk_path: "/srv/images/disk.vmdk",
    };
    String::from_utf8(vmx_text(&params).unwrap()).unwrap()
}

/// xmllint over many files in one call: well formed, and by DMTF's schema where one is at hand.
fn check_xml(directory: &Path, texts: impl IntoIterator<Item = String>) {
    if !require_tool("xmllint") {
        return;
    }
    let mut files = Vec::new();
    for (index, text) in texts.into_iter().enumerate() {
        let file = directory.join(format!("{index}.ovf"));
        std::fs::write(&file, text).unwrap();
        files.push(file.into_os_string());
    }
    let plain = ["--nonet", "--noout"].map(Into::into);
    run("xmllint", plain.iter().chain(&files));
    let Some(schema) = skip_unless_asked("MIRAGEFS_OVF_XSD") else {
        return;
    };
    let with_schema = ["--nonet", "--noout", "--schema", &schema].map(Into::into);
    run("xmllint", with_schema.iter().chain(&files));
}

#[test]
fn every_combination_follows_the_schema() {
    let machines = machines();
    assert_eq!(machines.len(), 432);
    let directory = tempfile::tempdir().unwrap();
    check_xml(directory.path(), machines.iter().map(ovf));
}

/// Names of the children of the elements `<tag…>`, in order.
fn children<'a>(text: &'a str, tag: &str) -> Vec<Vec<&'a str>> {
    let mut found = Vec::new();
    let mut inside: Option<Vec<&str>> = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with(&format!("<{tag}>")) || line.starts_with(&format!("<{tag} ")) {
            inside = Some(Vec::new());
        } else if line.starts_with(&format!("</{tag}>")) {
            found.extend(inside.take());
        } else if let Some(names) = &mut inside {
            let name = line.trim_start_matches('<').split([' ', '>', '/']).next();
            names.extend(name);
        }
    }
    found
}

#[test]
fn items_are_in_order_and_have_numbers_of_their_own() {
    for vm in machines() {
        let text = ovf(&vm);
        let items = children(&text, "Item");
        // Processor, memory, controller, disk, video card, and the network cards.
        assert_eq!(items.len(), vm.networks.len().checked_add(5).unwrap());
        for names in items.into_iter().chain(children(&text, "System")) {
            assert!(names.is_sorted(), "{names:?}");
            assert!(names.iter().any(|name| name.ends_with("InstanceID")));
        }
        let ids: Vec<_> = text.split("<rasd:InstanceID>").skip(1).collect();
        let ids: Vec<_> = ids.iter().map(|rest| rest.split('<').next()).collect();
        let unique: BTreeSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
        // Schema or not, VMware's keys stand behind the items.
        let last_item = text.rfind("</Item>").unwrap();
        assert!(text.find("<vmw:").unwrap() > last_item);
    }
}

#[test]
fn the_ovf_names_the_hardware() {
    for (controller, resource, sub_type) in [
        (CONTROLLERS[0], 6, Some("lsilogic")),
        (CONTROLLERS[1], 6, Some("lsilogicsas")),
        (CONTROLLERS[2], 6, Some("buslogic")),
        (CONTROLLERS[3], 6, Some("VirtualSCSI")),
        (CONTROLLERS[4], 20, Some("vmware.sata.ahci")),
        (CONTROLLERS[5], 5, None),
    ] {
        let text = ovf(&VmSpec {
            disk_controller: controller,
            networks: Vec::new(),
            ..VmSpec::default()
        });
        let item = text.split("<Item>").nth(3).unwrap();
        let resource = format!("<rasd:ResourceType>{resource}</rasd:ResourceType>");
        assert!(item.contains(&resource), "{item}");
        let expected =
            sub_type.map(|name| format!("<rasd:ResourceSubType>{name}</rasd:ResourceSubType>"));
        assert_eq!(item.contains("ResourceSubType"), expected.is_some());
        assert!(
            expected.is_none_or(|expected| item.contains(&expected)),
            "{item}"
        );
    }
    let text: String = machines().iter().map(ovf).collect();
    for part in [
        "ovf:capacity=\"1048576\"",
        "<vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>",
        "<rasd:VirtualQuantity>1024</rasd:VirtualQuantity>",
        "<rasd:ResourceSubType>E1000</rasd:ResourceSubType>",
        "<rasd:ResourceSubType>E1000e</rasd:ResourceSubType>",
        "<rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>",
        "vmw:key=\"firmware\" vmw:value=\"efi\"",
        "<VirtualHardwareSection ovf:transport=\"com.vmware.guestInfo\">",
        "<vmw:ExtraConfig ovf:required=\"false\" vmw:key=\"isolation.tools.copy.disable\" vmw:value=\"TRUE|&quot;1&quot;\"/>",
        "<Property ovf:key=\"a.boolean\" ovf:type=\"boolean\" ovf:userConfigurable=\"false\" ovf:value=\"true\"/>",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

/// Each line is a key that is there once, whatever the machine is.
#[test]
fn a_vmx_says_each_key_once() {
    for vm in machines() {
        let text = vmx(&vm);
        let mut keys = BTreeSet::new();
        for line in text.lines() {
            let (key, value) = line.split_once(" = ").unwrap();
            assert!(keys.insert(key.to_ascii_lowercase()), "{key}");
            assert!(
                value.starts_with('"') && value.ends_with('"') && value.matches('"').count() == 2
            );
        }
        assert!(text.ends_with('\n'));
        let disks = text
            .matches(".mode = \"independent-nonpersistent\"")
            .count();
        assert_eq!(disks, 1);
    }
}

/// What a VMX of ours can say, `[vm.vmx]` cannot: each such key is refused.
#[test]
fn the_config_knows_the_keys_of_a_vmx() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lab.toml");
    let mut keys = BTreeSet::new();
    for vm in machines() {
        let vm = VmSpec {
            vmx: Vec::new(),
            ..vm
        };
        let text = vmx(&vm);
        let of_lines = text
            .lines()
            .filter_map(|line| Some(line.split_once(" = ")?.0.to_owned()));
        keys.extend(of_lines);
    }
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        for key in [key.clone(), key.to_uppercase()] {
            let text = format!("[vm.vmx]\n{key:?} = \"x\"\n[[partition]]\n");
            let error = config::load_text(text, &path, &Environment::default()).unwrap_err();
            let message = error.to_string();
            assert!(
                message.ends_with(&format!("`vmx`: `{key}` is set by miragefs itself")),
                "{message}"
            );
            assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
        }
    }
}

#[test]
fn memory_of_a_vmx_is_a_multiple_of_four() {
    let vm = VmSpec {
        memory: 1022 << 20,
        ..VmSpec::default()
    };
    let params = VmxParams {
        name: "lab",
        vm: &vm,
        template: None,
        disk_path: "disk.vmdk",
    };
    let error = vmx_text(&params).unwrap_err();
    assert_eq!(
        error.to_string(),
        "memory of 1022 MiB: a VMX takes multiples of 4 MiB only"
    );
    assert_eq!(error.hint(), "write memory = \"1024MiB\"");
}

/// Every name of the table, from the config to both texts.
#[test]
fn guests_have_all_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lab.toml");
    for guest in GUEST_OS_TABLE {
        let text = format!("[vm]\nguest-os = {:?}\n[[partition]]\n", guest.name);
        let loaded = config::load_text(text, &path, &Environment::default()).unwrap();
        let vm = loaded.spec.vm;
        let section = format!(
            "<OperatingSystemSection ovf:id=\"{}\" vmw:osType=\"{}\">",
            guest.ovf_id, guest.vmw_os_type
        );
        assert!(ovf(&vm).contains(&section));
        assert!(vmx(&vm).contains(&format!("\nguestOS = \"{}\"\n", guest.vmx_guest_os)));
    }
}
