//! Vagrant boxes against the tools that unpack them, and Vagrant.
#![expect(
    clippy::unwrap_used,
    reason = "a failing step is to end the test where it happens"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use miragefs::synth::generation::Planned;
use miragefs::synth::source::ByteSource;
use tempfile::TempDir;

use crate::images::{export, two_partitions};
use crate::planned::image;
use crate::support::{check_byte_source, read, require_tool, run, run_text};

const IMAGES: &str = "
'disk.img' = { format = 'raw' }
'virtualbox.box' = { format = 'vagrant' }
'libvirt.box' = { format = 'vagrant', provider = 'libvirt' }
";
const BOXES: [(&str, &str, &[&str]); 2] = [
    (
        "virtualbox",
        "virtualbox.box",
        &[
            "metadata.json",
            "Vagrantfile",
            "box.ovf",
            "box-disk001.vmdk",
        ],
    ),
    (
        "libvirt",
        "libvirt.box",
        &["metadata.json", "Vagrantfile", "box.img"],
    ),
];

/// A config with both boxes, all images written to a directory.
struct Lab {
    directory: TempDir,
    planned: Planned,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let planned = two_partitions(directory.path(), IMAGES);
        for image in &planned.generation.images {
            export(directory.path(), image);
        }
        Self { directory, planned }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Unpacks a box with this tool into a directory of its own.
    fn unpack(&self, tool: &str, name: &str) -> PathBuf {
        let target = self.path(&format!("{name}.{tool}"));
        std::fs::create_dir(&target).unwrap();
        let file = self.path(name);
        run(tool, ["-C", text(&target), "-xf", text(&file)]);
        target
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn boxes_conform() {
    let directory = tempfile::tempdir().unwrap();
    let planned = two_partitions(directory.path(), IMAGES);
    for (_, name, _) in BOXES {
        let source = &image(&planned, name).source;
        check_byte_source(&**source);
        // Nothing waits for a digest, or reads the disk, before it is asked for.
        assert!(!source.may_block(0, source.len()));
    }
}

#[test]
fn tar_lists_and_writes_the_same() {
    if !require_tool("tar") {
        return;
    }
    let lab = Lab::new();
    for (_, name, members) in BOXES {
        let listed = run_text("tar", ["-tf", text(&lab.path(name))]);
        assert_eq!(listed.lines().collect::<Vec<_>>(), members);
        let unpacked = lab.unpack("tar", name);
        let again = lab.path("again");
        let arguments = [
            "--format=ustar",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mode=0644",
            "--mtime=@946684800",
            "-C",
            text(&unpacked),
            "-cf",
            text(&again),
        ];
        run("tar", arguments.iter().chain(members));
        let (again, ours) = (std::fs::read(again), std::fs::read(lab.path(name)));
        assert!(again.unwrap() == ours.unwrap(), "{name}");
    }
}

#[test]
fn disks_are_the_raw_one() {
    if !require_tool("bsdtar") || !require_tool("qemu-img") {
        return;
    }
    let lab = Lab::new();
    for ((_, name, members), format) in BOXES.iter().zip(["vmdk", "qcow2"]) {
        let unpacked = lab.unpack("bsdtar", name);
        let disk = unpacked.join(members.last().unwrap());
        let raw = lab.path("disk.img");
        let arguments = [
            "compare",
            "-f",
            "raw",
            "-F",
            format,
            text(&raw),
            text(&disk),
        ];
        assert_eq!(run_text("qemu-img", arguments), "Images are identical.\n");
        run("qemu-img", ["check", "-f", format, text(&disk)]);
    }
}

#[test]
fn texts_say_what_providers_ask_for() {
    if !require_tool("tar") {
        return;
    }
    let lab = Lab::new();
    let virtualbox = lab.unpack("tar", "virtualbox.box");
    let libvirt = lab.unpack("tar", "libvirt.box");
    let metadata = |directory: &Path| -> serde_json::Value {
        let text = std::fs::read_to_string(directory.join("metadata.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(
        metadata(&virtualbox),
        serde_json::json!({ "provider": "virtualbox" })
    );
    assert_eq!(
        metadata(&libvirt),
        serde_json::json!({ "provider": "libvirt", "format": "qcow2", "virtual_size": 1 })
    );
    let ovf = std::fs::read_to_string(virtualbox.join("box.ovf")).unwrap();
    let disk_len = std::fs::metadata(virtualbox.join("box-disk001.vmdk"))
        .unwrap()
        .len();
    let reference =
        format!("ovf:href=\"box-disk001.vmdk\" ovf:id=\"file1\" ovf:size=\"{disk_len}\"");
    assert!(ovf.contains(&reference), "{ovf}");
    let capacity = image(&lab.planned, "disk.img").source.len();
    assert!(
        ovf.contains(&format!("ovf:capacity=\"{capacity}\"")),
        "{ovf}"
    );
    // The descriptor in the VMDK names the file as it is called here.
    let vmdk = std::fs::read(virtualbox.join("box-disk001.vmdk")).unwrap();
    let descriptor = String::from_utf8_lossy(&vmdk[512..2048]);
    assert!(descriptor.contains("\"box-disk001.vmdk\""), "{descriptor}");
}

/// Vagrant with a home of its own.
fn vagrant(home: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("vagrant");
    command
        .args(arguments)
        .current_dir(home)
        .env("VAGRANT_HOME", home.join("vagrant"))
        .env("HOME", home)
        .env("VAGRANT_CHECKPOINT_DISABLE", "1")
        .env("LC_ALL", "C.UTF-8");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}\n{errors}");
    text
}

#[test]
fn vagrant_adds_boxes() {
    if !require_tool("vagrant") {
        return;
    }
    let lab = Lab::new();
    let home = lab.path("home of vagrant");
    std::fs::create_dir(&home).unwrap();
    for (provider, name, _) in BOXES {
        let file = lab.path(name);
        let arguments = ["box", "add", "--name", provider, text(&file)];
        vagrant(&home, &arguments);
    }
    let listed = vagrant(&home, &["box", "list"]);
    for (provider, name, members) in BOXES {
        let line = listed.lines().find(|line| line.starts_with(provider));
        assert!(
            line.unwrap().contains(&format!("({provider}, 0)")),
            "{listed}"
        );
        let added = home.join(format!("vagrant/boxes/{provider}/0/{provider}"));
        for member in members {
            assert!(added.join(member).is_file(), "{name}: {member}");
        }
        // The settings of the box are read together with those of the machine that uses it.
        let own = format!("Vagrant.configure('2') {{ |config| config.vm.box = '{provider}' }}\n");
        std::fs::write(home.join("Vagrantfile"), own).unwrap();
        let checked = vagrant(&home, &["validate", "--ignore-provider"]);
        assert!(checked.contains("validated successfully"), "{checked}");
    }
}

#[test]
fn explanations_lead_to_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let planned = two_partitions(directory.path(), IMAGES);
    let explain = |source: &dyn ByteSource, offset| {
        let mut trail = Vec::new();
        source.explain_at(offset, &mut trail);
        let steps = trail.into_iter().map(|step| step.what);
        steps.take(2).collect::<Vec<_>>()
    };
    let source = &image(&planned, "libvirt.box").source;
    assert_eq!(explain(&**source, 3), ["tar header of metadata.json"]);
    assert_eq!(explain(&**source, 515), ["tar member metadata.json"]);
    assert_eq!(explain(&**source, 1023), ["tar padding"]);
    // Two texts of a block each, and three headers.
    let header = read(&**source, 2560, 4);
    assert_eq!(header, *b"QFI\xfb");
    assert_eq!(
        explain(&**source, 2560 + 24),
        ["tar member box.img", "qcow2 header"]
    );
}
