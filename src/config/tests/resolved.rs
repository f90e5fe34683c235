//! A config that was written out again comes to the same.

use super::Lab;
use crate::config::keys::{Key, ROOT, Shape, TableKeys};
use crate::config::resolved;
use crate::config::spec::{Location, Spec};
use crate::config::starter::STARTER;

/// Every key that a config can have.
const EVERYTHING: &str = r#"
name = "everything"
seed = "a seed"
source-date-epoch = 1700000000
on-change = "keep"
[variables]
server = "10.0.0.1 \"quoted\""
[disk]
size = "2GiB"
table = "mbr"
boot-code = "440.bin"
[bootloader]
extlinux = "440.bin"
[[partition]]
label = "boot"
start = "2048s"
size = "64MiB"
active = true
type = "0x83"
filesystem = "ext4"
bootloader = "extlinux"
bootloader-directory = "/boot"
copy = [
    { from = "boot", to = "/b/", owner = "1:2", mode = "0700", exclude = ["*.swp", "a\"b"], include = ["*"], cross-mounts = true, sparse = "never", xattrs = ["user.*"] },
    { from = "vmuser", to = "/v", uid-map = ["100000:0:65536"], gid-map = "all-root" },
    { from = "440.bin", to = "/dir/" },
    { from = "440.*", newest = true, to = "/newest/" },
    { from = "440.bin", to = "/named", owners = "owners.mtree" },
]
mkdir = [ { path = "/made", mode = "0711", owner = "5:6" } ]
files = [
    { path = "/t", text = "to {{server}}, {{{{ and {{partition.boot.uuid}} {{partition.boot.label}} {{partition.swap.partuuid}}\n", mode = "0600", owner = "7:8" },
    { path = "/b64", base64 = "AP+A" },
]
symlink = [ { path = "/l", target = "t", owner = "9:10" } ]
device = [ { path = "/null", type = "char", major = 1, minor = 3, mode = "0666", owner = "0:0" }, { path = "/fifo", type = "fifo" } ]
[partition.ext4]
features = "modern"
label = "volume"
uuid = "00112233-4455-6677-8899-aabbccddeeff"
journal = "8MiB"
block-size = 4096
inode-size = 512
reserved-percent = 3
inodes = 4096
slack-bits = 4
[[partition]]
label = "swap"
size = "16MiB"
filesystem = "swap"
[[partition]]
label = "auto"
size = "auto"
free = "5MiB"
[[partition]]
label = "rest"
filesystem = "none"
[vm]
memory = "3GiB"
cpus = 3
guest-os = "debian-12-64"
firmware = "bios"
hardware-version = 15
disk-controller = "scsi"
scsi-controller = "pvscsi"
networks = [ { name = "lab net", adapter = "vmxnet3" } ]
annotation = "two\nlines"
product = "p"
product-version = "1"
vendor = "v"
properties = [ { key = "hostname", value = "lab", type = "string", label = "l", description = "d", user-configurable = true } ]
[vm.vmx]
"isolation.tools.copy.disable" = "TRUE"
[images]
"disk.img" = { format = "raw" }
"boot.img" = { format = "raw", partition = "boot" }
"disk.vmdk" = { format = "vmdk", layout = "monolithic-flat" }
"stream.vmdk" = { format = "vmdk", layout = "stream-optimized", grain-directory = "front", compression = "deflate", level = 3 }
"boot.ova" = { format = "ova", compression = "deflate", level = 9, manifest = "sha512", manifest-position = "second" }
"box.ovf" = { format = "ovf", manifest = "none" }
"lab.vmx" = { format = "vmx", disk = "disk.vmdk" }
"d.vhd" = { format = "vhd", layout = "fixed" }
"d.vhdx" = { format = "vhdx" }
"d.qcow2" = { format = "qcow2" }
"d.vdi" = { format = "vdi" }
"d.box" = { format = "vagrant", provider = "libvirt" }
"#;

fn without_locations(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    spec.disk.location = Location::none();
    let partitions = spec.partitions.iter();
    spec.partitions = partitions.map(|one| one.without_locations()).collect();
    for image in &mut spec.images {
        image.location = None;
    }
    if let Some(template) = &mut spec.vm.template {
        template.location = Location::none();
    }
    spec
}

fn lab() -> Lab {
    let lab = Lab::new();
    std::fs::write(lab.path("owners.mtree"), "#mtree\n").unwrap();
    lab
}

/// What the text of a config comes to, written out.
fn check(lab: &Lab, text: &str) -> String {
    let spec = lab.load(text).unwrap().spec;
    let written = resolved(&spec);
    let again = match lab.load(&written) {
        Ok(loaded) => loaded.spec,
        Err(error) => panic!("{error}\n{written}"),
    };
    assert_eq!(
        without_locations(&again),
        without_locations(&spec),
        "{written}"
    );
    assert_eq!(resolved(&again), written);
    written
}

#[test]
fn a_resolved_config_comes_to_the_same() {
    let lab = lab();
    check(&lab, "[[partition]]");
    check(&lab, STARTER);
    check(
        &lab,
        "[disk]\ntable = \"none\"\n[[partition]]\n[vm]\nnetworks = []",
    );
    check(
        &lab,
        "[[partition]]\n[vm]\ntemplate = \"machine.VMX\"\ndisk-controller = \"sata\"",
    );
    check(&lab, "[[partition]]\n[vm]\ntemplate = \"machine.ovf\"");
    check(&lab, EVERYTHING);
}

#[test]
fn every_key_is_written_out() {
    let written = check(&lab(), EVERYTHING);
    let mut missing = Vec::new();
    fn look(table: &TableKeys, written: &str, missing: &mut Vec<String>) {
        for Key { name, shape } in table.keys {
            match shape {
                Shape::Table(inner) | Shape::Tables(inner) | Shape::NamedTables(inner) => {
                    look(inner, written, missing);
                }
                _ => {}
            }
            let as_key = format!("{name} = ");
            let as_heading = format!("{name}]");
            if !written.contains(&as_key) && !written.contains(&as_heading) {
                missing.push(format!("{}: {name}", table.title));
            }
        }
    }
    look(&ROOT, &written, &mut missing);
    // What they say is said in its place.
    assert_eq!(
        missing,
        ["the top level: variables", "copy: newest", "[vm]: template"]
    );
}
