//! Machines that somebody else described, from the config to the images.

use std::fs;
use std::path::{Path, PathBuf};

use miragefs::config::spec::{DiskController, ProductSpec, ScsiController, Spec, VmSpec};
use miragefs::config::{self, Environment};
use miragefs::synth::machine::{
    OvfParams, Template, VmxParams, disk_controller, ovf_text, vmx_text,
};

use super::{check_xml, machines, read};
use crate::ova::members;
use crate::planned::{image, miragefs, plan_text, try_plan};

/// What a web form for beginners makes of "Ubuntu, 1 GB".
const EASY_VMX: &str = r##"#!/usr/bin/vmware
config.version = "8"
virtualHW.version = "7"
displayName = "Form"
# made by a form
guestinfo.vmware.product.long = "VMware Player"
guestOS = "ubuntu"
memsize = "1024"
uuid.bios = "56 4d 00 00"
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-raw"
ide1:0.fileName = "auto detect"
scsi0.present = "TRUE"
scsi0.virtualDev = "lsilogic"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "Form.vmdk"
ethernet0.present = "TRUE"
ethernet0.connectionType = "nat"
ethernet0.virtualDev = "e1000"
ethernet0.generatedAddress = "00:0c:29:00:00:01"
"##;

fn partition(template: &Path, more: &str) -> String {
    format!(
        "name = \"lab\"\nsource-date-epoch = 0\n[vm]\ntemplate = {template:?}\n{more}\n\
         [[partition]]\nsize = \"1MiB\"\nfilesystem = \"none\"\n"
    )
}

fn spec(directory: &Path, text: String) -> Spec {
    let path = directory.join("lab.toml");
    config::load_text(text, &path, &Environment::default())
        .unwrap()
        .spec
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

fn template(directory: &Path, name: &str, text: &str) -> (VmSpec, Template) {
    let path = write(directory, name, text);
    let vm = spec(directory, partition(&path, "")).vm;
    let template = Template::load(vm.template.as_ref().unwrap()).unwrap();
    (vm, template)
}

fn texts(vm: &VmSpec, template: Option<&Template>) -> (String, String) {
    let ovf = OvfParams {
        name: "lab",
        vm,
        template,
        disk_href: "lab-disk1.vmdk",
        disk_file_len: 865_792,
        disk_capacity: 1 << 20,
    };
    let vmx = VmxParams {
        name: "lab",
        vm,
        template,
        disk_path: "/srv/images/disk.vmdk",
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(ovf_text(&ovf).unwrap()), text(vmx_text(&vmx).unwrap()))
}

/// The descriptor in the package of a config.
fn ovf_of_package(directory: &Path, config: &str) -> String {
    let ova = image(&plan_text(directory, config), "boot.ova")
        .source
        .clone();
    let (name, offset, size) = members(&*ova).remove(0);
    assert_eq!(name, "lab.ovf");
    String::from_utf8(read(&*ova, offset, size)).unwrap()
}

#[test]
fn a_vmx_becomes_an_ovf() {
    let directory = tempfile::tempdir().unwrap();
    let (vm, template) = template(directory.path(), "form.vmx", EASY_VMX);
    let (ovf, vmx) = texts(&vm, Some(&template));
    for part in [
        "<Name>lab</Name>",
        "<OperatingSystemSection ovf:id=\"93\" vmw:osType=\"ubuntuGuest\">",
        "<vssd:VirtualSystemType>vmx-7</vssd:VirtualSystemType>",
        "<rasd:ElementName>1 virtual CPU(s)</rasd:ElementName>",
        "<rasd:VirtualQuantity>1024</rasd:VirtualQuantity>",
        "<rasd:ResourceSubType>lsilogic</rasd:ResourceSubType>",
        "<rasd:Connection>nat</rasd:Connection>",
        "vmw:value=\"bios\"",
    ] {
        assert!(ovf.contains(part), "{part} in {ovf}");
    }
    check_xml(directory.path(), [ovf]);
    let expected = EASY_VMX
        .replace("#!/usr/bin", ".encoding = \"UTF-8\"\n#!/usr/bin")
        .replace("displayName = \"Form\"", "displayName = \"lab\"")
        .replace("uuid.bios = \"56 4d 00 00\"\n", "")
        .replace("ethernet0.generatedAddress = \"00:0c:29:00:00:01\"\n", "")
        .replace(
            "scsi0:0.fileName = \"Form.vmdk\"\n",
            "scsi0:0.fileName = \"/srv/images/disk.vmdk\"\nscsi0:0.mode = \"independent-nonpersistent\"\n",
        );
    assert_eq!(vmx, expected);
}

/// Every machine of ours, read back from its own texts and written in the other format.
#[test]
fn our_own_texts_are_templates() {
    let directory = tempfile::tempdir().unwrap();
    for vm in machines() {
        let (ovf, vmx) = texts(&vm, None);
        let (of_vmx, template_vmx) = template(directory.path(), "own.vmx", &vmx);
        let (of_ovf, template_ovf) = template(directory.path(), "own.ovf", &ovf);
        assert_eq!(
            disk_controller(&of_vmx, Some(&template_vmx)),
            vm.disk_controller
        );
        assert_eq!(
            disk_controller(&of_ovf, Some(&template_ovf)),
            vm.disk_controller
        );
        // As themselves they change nothing.
        assert_eq!(texts(&of_ovf, Some(&template_ovf)).0, ovf);
        let mut lines: Vec<_> = vmx.lines().collect();
        let again = texts(&of_vmx, Some(&template_vmx)).1;
        let mut again: Vec<_> = again.lines().collect();
        lines.sort_unstable();
        again.sort_unstable();
        assert_eq!(again, lines);
        // An OVF says all that a VMX does.
        assert_eq!(texts(&of_ovf, Some(&template_ovf)).1, vmx);
        // A VMX knows no product, and its further keys stay its own.
        let plain = VmSpec {
            product: ProductSpec::default(),
            vmx: Vec::new(),
            ..vm
        };
        assert_eq!(texts(&of_vmx, Some(&template_vmx)).0, texts(&plain, None).0);
    }
}

#[test]
fn a_package_has_the_template_with_our_disk() {
    let directory = tempfile::tempdir().unwrap();
    let foreign = texts(&VmSpec::default(), None)
        .0
        .replace("lab-disk1.vmdk", "theirs.vmdk")
        .replace(
            "<Name>lab</Name>",
            "<Name>theirs</Name>\n    <!-- a remark -->",
        )
        .replace("ovf:capacity=\"1048576\"", "ovf:capacity=\"1\"")
        .replace("865792", "7");
    let path = write(directory.path(), "theirs.ovf", &foreign);
    let planned = ovf_of_package(directory.path(), &partition(&path, ""));
    let disk_len = 2 << 20;
    let size = planned
        .split("ovf:size=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let expected = foreign
        .replace("theirs.vmdk", "lab-disk1.vmdk")
        .replace(
            "ovf:capacity=\"1\"",
            &format!("ovf:capacity=\"{disk_len}\""),
        )
        .replace("ovf:size=\"7\"", &format!("ovf:size=\"{size}\""));
    // Blanks behind the root element come from the package.
    assert_eq!(planned.trim_end(), expected.trim_end());
    check_xml(directory.path(), [planned]);
}

/// What is given away beside the disk, from the config to the package.
#[test]
fn the_config_fills_the_sections() {
    let directory = tempfile::tempdir().unwrap();
    let config = r#"
name = "lab"
[vm]
disk-controller = "sata"
annotation = """two
lines"""
product = "Lab"
product-version = "2.0"
vendor = "Examples"
properties = [
    { key = "hostname", label = "Name", description = "of the machine", user-configurable = true },
    { key = "count", type = "uint64", value = 3 },
]
vmx = { "isolation.tools.copy.disable" = "TRUE", "mks.keyboard" = 2 }
[[partition]]
size = "1MiB"
filesystem = "none"
"#;
    let text = ovf_of_package(directory.path(), config);
    let expected = r#"      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="bios"/>
      <vmw:ExtraConfig ovf:required="false" vmw:key="isolation.tools.copy.disable" vmw:value="TRUE"/>
      <vmw:ExtraConfig ovf:required="false" vmw:key="mks.keyboard" vmw:value="2"/>
    </VirtualHardwareSection>
    <AnnotationSection>
      <Info>Notes on the machine</Info>
      <Annotation>two&#10;lines</Annotation>
    </AnnotationSection>
    <ProductSection>
      <Info>Information about the product</Info>
      <Product>Lab</Product>
      <Vendor>Examples</Vendor>
      <Version>2.0</Version>
      <Property ovf:key="hostname" ovf:type="string" ovf:userConfigurable="true" ovf:value="">
        <Label>Name</Label>
        <Description>of the machine</Description>
      </Property>
      <Property ovf:key="count" ovf:type="uint64" ovf:userConfigurable="false" ovf:value="3"/>
    </ProductSection>
  </VirtualSystem>
</Envelope>"#;
    assert!(text.trim_end().ends_with(expected), "{text}");
    check_xml(directory.path(), [text]);
}

#[test]
fn a_changed_template_is_another_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "form.vmx", EASY_VMX);
    let config = partition(&path, "");
    let before = image(&plan_text(directory.path(), &config), "boot.ova");
    let disk = image(&plan_text(directory.path(), &config), "disk.vmdk");
    write(
        directory.path(),
        "form.vmx",
        &EASY_VMX.replace("1024", "2048"),
    );
    let after = image(&plan_text(directory.path(), &config), "boot.ova");
    assert_ne!(before.identity, after.identity);
    // The disk's content ids know nothing of the machine.
    let later = image(&plan_text(directory.path(), &config), "disk.vmdk");
    let bytes =
        |image: &miragefs::synth::generation::Image| read(&*image.source, 0, image.source.len());
    assert!(bytes(&disk) == bytes(&later));
    let file = fs::metadata(&path).unwrap();
    assert_eq!(after.mtime, std::os::unix::fs::MetadataExt::mtime(&file));
}

#[test]
fn the_disk_is_of_the_template_s_controller() {
    let directory = tempfile::tempdir().unwrap();
    let ide = EASY_VMX.replace("scsi0:0", "ide0:0");
    let path = write(directory.path(), "form.vmx", &ide);
    let config = partition(&path, "");
    let vmdk = image(&plan_text(directory.path(), &config), "disk.vmdk");
    let head = read(&*vmdk.source, 512, 1024);
    assert!(String::from_utf8_lossy(&head).contains("ddb.adapterType = \"ide\""));
    let bare = "config.version = \"8\"\n";
    let path = write(directory.path(), "bare.vmx", bare);
    let text = partition(&path, "scsi-controller = \"pvscsi\"");
    let vm = spec(directory.path(), text).vm;
    let pvscsi = DiskController::Scsi(ScsiController::PvScsi);
    assert_eq!(vm.disk_controller, pvscsi);
    let template = Template::load(vm.template.as_ref().unwrap()).unwrap();
    let (ovf, vmx) = texts(&vm, Some(&template));
    assert!(ovf.contains("<rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>"));
    assert!(vmx.contains("scsi0.virtualDev = \"pvscsi\"\nscsi0:0.present"));
}

#[test]
fn an_export_does_not_replace_the_template() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "form.vmx", EASY_VMX);
    let config = write(directory.path(), "lab.toml", &partition(&path, ""));
    let arguments = [
        "export".as_ref(),
        config.as_os_str(),
        "boot.ova".as_ref(),
        path.as_os_str(),
    ];
    let output = miragefs(arguments);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("form.vmx"), "{message}");
    assert_eq!(fs::read_to_string(&path).unwrap(), EASY_VMX);
}

/// Message, causes and hint of a template that cannot be used.
#[test]
fn mistakes_of_templates_name_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let fails = |name: &str, contents: &[u8]| {
        let path = root.join(name);
        fs::write(&path, contents).unwrap();
        let errors = try_plan(&spec(root, partition(&path, ""))).err().unwrap();
        let [error] = errors.errors() else {
            panic!("one mistake: {errors:?}")
        };
        let cause = std::error::Error::source(error).unwrap();
        let place = format!("{}:4:12", root.join("lab.toml").display());
        assert_eq!(
            error.to_string(),
            format!("{place}: template cannot be used")
        );
        let cause = cause
            .to_string()
            .replace(&format!("{}/", root.display()), "");
        (cause, error.hint().unwrap())
    };
    let two = EASY_VMX.replace("ide1:0.deviceType = \"cdrom-raw\"\n", "");
    assert_eq!(
        fails("two.vmx", two.as_bytes()),
        (
            "two.vmx:14: scsi0:0 is a second hard disk, beside ide1:0".to_owned(),
            "there is one disk: remove the lines of scsi0:0".to_owned()
        )
    );
    let (cause, hint) = fails("x.ovf", b"<Envelope>\n");
    assert_eq!(
        cause,
        "x.ovf:1: the root element is `Envelope`, not the `Envelope` of OVF 1"
    );
    assert_eq!(
        hint,
        "name an OVF descriptor, such as `ovftool` or an export writes"
    );
    let (cause, hint) = fails("y.ovf", b"ok\n\xff");
    assert_eq!(
        (cause.as_str(), hint.as_str()),
        ("y.ovf:2: is no UTF-8", "save it as UTF-8")
    );
    let (cause, hint) = fails("large.vmx", &vec![b'#'; (4 << 20) + 1]);
    assert_eq!(cause, "large.vmx: cannot be read");
    assert_eq!(
        hint,
        "name the .vmx or .ovf itself, not the package or the disk"
    );
}

/// A machine that would look for a boot loader where there is none.
#[test]
fn efi_does_not_start_a_bios_boot_loader() {
    if !crate::support::require_tool("extlinux") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let vmx = format!("{EASY_VMX}firmware = \"efi\"\n");
    let path = write(directory.path(), "efi.vmx", &vmx);
    let config = |bootloader| {
        format!(
            "name = \"lab\"\n[vm]\ntemplate = {path:?}\n[[partition]]\nlabel = \"boot\"\nsize = \"16MiB\"\n\
             active = true\nbootloader = \"{bootloader}\"\nfiles = [{{ path = \"/syslinux.cfg\", text = \"\" }}]\n"
        )
    };
    let errors = try_plan(&spec(directory.path(), config("extlinux")))
        .err()
        .unwrap();
    let error = &errors.errors()[0];
    assert!(
        error.to_string().ends_with(
            "template describes a machine with EFI firmware; partition `boot` has bootloader = \"extlinux\", \
             which needs BIOS"
        ),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("bios"));
    assert!(try_plan(&spec(directory.path(), config("none"))).is_ok());
}

/// Our descriptor with other lines in it, and what a VMX makes of that.
fn vmx_of_ovf(changes: &[(&str, &str)]) -> Result<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let (mut text, _) = texts(&VmSpec::default(), None);
    for (old, new) in changes {
        assert!(text.contains(old), "{old} in {text}");
        text = text.replacen(old, new, 1);
    }
    let (vm, template) = template(directory.path(), "theirs.ovf", &text);
    let params = VmxParams {
        name: "lab",
        vm: &vm,
        template: Some(&template),
        disk_path: "disk.vmdk",
    };
    match vmx_text(&params) {
        Ok(text) => Ok(String::from_utf8(text).unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

/// Keys that a descriptor brings along neither double ours, nor name a disk, nor bring what ties a machine to its place;
/// one that is no key is refused.
#[test]
fn extra_keys_of_a_descriptor_are_looked_at() {
    let extra = |keys: &[&str]| {
        let lines = keys.iter().map(|key| {
            format!("<vmw:ExtraConfig ovf:required=\"false\" vmw:key=\"{key}\" vmw:value=\"x\"/>")
        });
        let lines: String = lines.collect();
        let new = format!("{lines}\n    </VirtualHardwareSection>");
        vmx_of_ovf(&[("</VirtualHardwareSection>", &new)])
    };
    let text = extra(&[
        "HPET0.present",
        "uuid.bios",
        "nvram",
        "scsi0:1.fileName",
        "scsi0:0.mode",
        "mks.keyboard",
        "MKS.keyboard",
    ])
    .unwrap();
    assert_eq!(text.matches("= \"x\"").count(), 1, "{text}");
    assert!(text.contains("mks.keyboard = \"x\"\n"), "{text}");
    let error = extra(&["a = &quot;b&quot;&#10;scsi0:1.fileName"]).unwrap_err();
    assert!(error.contains("key of VMware's"), "{error}");
}

/// A system of 64 bits stays one, whatever the table knows of it, and numbers are believed only if they are some.
#[test]
fn odd_descriptors_are_read_with_care() {
    let os = "ovf:id=\"101\" vmw:osType=\"otherLinux64Guest\"";
    let text = vmx_of_ovf(&[(os, "ovf:id=\"100\"")]).unwrap();
    assert!(text.contains("guestOS = \"otherlinux-64\"\n"), "{text}");
    for (old, new, said) in [
        (
            "VirtualQuantity>1024<",
            "VirtualQuantity>0<",
            "size of memory",
        ),
        ("byte * 2^20", "byte * 10^9", "size of memory"),
        (
            "VirtualQuantity>2<",
            "VirtualQuantity>two<",
            "number of CPUs",
        ),
    ] {
        let error = vmx_of_ovf(&[(old, new)]).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn marks_and_returns_of_a_vmx_change_nothing_unseen() {
    let directory = tempfile::tempdir().unwrap();
    let marked = format!("\u{feff}{EASY_VMX}");
    let (vm, loaded) = template(directory.path(), "marked.vmx", &marked);
    let (_, vmx) = texts(&vm, Some(&loaded));
    assert!(!vmx.contains('\u{feff}'));
    // VMware takes a lone carriage return for the end of a line: a second disk could hide in a comment.
    let hidden = EASY_VMX.replace("# made", "# made\rscsi0:1.present = \"TRUE\"\r");
    let path = write(directory.path(), "hidden.vmx", &hidden);
    let vm = spec(directory.path(), partition(&path, "")).vm;
    let error = Template::load(vm.template.as_ref().unwrap()).unwrap_err();
    assert!(error.to_string().contains("carriage return"), "{error}");
    assert!(error.to_string().contains(":5:"), "{error}");
}
