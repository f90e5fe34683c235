//! Images of a whole config: which files there are, and that each holds the disk.

use std::path::Path;

use miragefs::config::{self, Environment};
use miragefs::synth::generation::{Image, Planned};

use crate::mounted::{Workspace, output, require_fuse, stderr};
use crate::planned::{image, plan_text};
use crate::support::conformance::check_byte_source;
use crate::support::{read, require_tool, run, run_text, write_to_file};

/// Two partitions with something in each, and the images that `images` says.
pub(crate) fn two_partitions(directory: &Path, images: &str) -> Planned {
    std::fs::create_dir_all(directory.join("home")).unwrap();
    std::fs::write(directory.join("home/notes"), vec![b'n'; 200_000]).unwrap();
    let text = format!(
        r#"
name = "two"
[disk]
size = "48MiB"
[[partition]]
label = "boot"
size = "16MiB"
files = [{{ path = "/motd", text = "welcome" }}]
[[partition]]
label = "home"
copy = [{{ from = "home", to = "/" }}]
[images]
{images}
"#
    );
    plan_text(directory, &text)
}

fn names(planned: &Planned) -> Vec<&str> {
    let images = planned.generation.images.iter();
    images.map(|image| image.name.as_str()).collect()
}

/// Writes an image where its name says.
pub(crate) fn export(directory: &Path, image: &Image) -> String {
    let path = directory.join(&image.name);
    write_to_file(&*image.source, &path);
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_flat_vmdk_has_a_second_file() {
    let directory = tempfile::tempdir().unwrap();
    let planned = two_partitions(
        directory.path(),
        "'disk.img' = { format = 'raw' }\n'lab.vmdk' = { format = 'vmdk', layout = 'monolithic-flat' }",
    );
    assert_eq!(names(&planned), ["disk.img", "lab.vmdk", "lab-flat.vmdk"]);
    assert_eq!(planned.spec_of_image, [0, 1, 1]);
    let (raw, flat) = (
        image(&planned, "disk.img"),
        image(&planned, "lab-flat.vmdk"),
    );
    assert!(std::sync::Arc::ptr_eq(&raw.source, &flat.source));
    check_byte_source(&*image(&planned, "lab.vmdk").source);
    if !require_tool("qemu-img") {
        return;
    }
    let [raw, vmdk, _] = ["disk.img", "lab.vmdk", "lab-flat.vmdk"]
        .map(|name| export(directory.path(), &image(&planned, name)));
    run(
        "qemu-img",
        ["compare", "-f", "raw", "-F", "vmdk", &raw, &vmdk],
    );
    let info = run_text("qemu-img", ["info", "--output=json", &vmdk]);
    assert!(
        info.contains("\"create-type\": \"monolithicFlat\""),
        "{info}"
    );
}

#[test]
fn a_partition_is_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let planned = two_partitions(
        directory.path(),
        "'disk.img' = { format = 'raw' }\n'home.img' = { format = 'raw', partition = 'home' }",
    );
    let (disk, home) = (image(&planned, "disk.img"), image(&planned, "home.img"));
    check_byte_source(&*home.source);
    let place = &planned.partitions[1];
    assert_eq!(home.source.len(), place.sectors * 512);
    let start = place.start.0 * 512;
    for offset in [0, 1024, 3 << 20, home.source.len() - 65536] {
        let (ours, theirs) = (
            read(&*home.source, offset, 65536),
            read(&*disk.source, start + offset, 65536),
        );
        assert_eq!(ours, theirs, "{offset}");
    }
    if require_tool("e2fsck") {
        let path = export(directory.path(), &home);
        run("e2fsck", ["-fn", &path]);
        let listed = run_text("debugfs", ["-R", "cat /notes", &path]);
        assert_eq!(listed, "n".repeat(200_000));
    }
}

#[test]
fn companions_do_not_hide_images() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("lab.toml");
    let text = "[images]\n'a.vmdk' = { format = 'vmdk', layout = 'monolithic-flat' }\n\
                'a-flat.vmdk' = { format = 'raw' }\n[[partition]]\nsize = '16MiB'\n";
    let loaded = config::load_text(text.to_owned(), &config, &Environment::default()).unwrap();
    let errors = crate::planned::try_plan(&loaded.spec).err().unwrap();
    let error = &errors.errors()[0];
    assert_eq!(
        error.to_string(),
        format!(
            "{}:2:1: image `a.vmdk`: its other file would be called `a-flat.vmdk`, and there is one of that name",
            config.display()
        )
    );
    assert!(error.hint().unwrap().contains("another name"));
}

/// In a mount the disk is named so that a copy of the VMX elsewhere finds it; exported, the two lie side by side.
#[test]
fn a_vmx_finds_its_disk() {
    let directory = tempfile::tempdir().unwrap();
    let images = "'lab.vmx' = { format = 'vmx', disk = 'b.vmdk' }\n'a.vmdk' = { format = 'vmdk' }\n\
                  'b.vmdk' = { format = 'vmdk', layout = 'monolithic-flat' }";
    let planned = two_partitions(directory.path(), images);
    let vmx = image(&planned, "lab.vmx").source.clone();
    check_byte_source(&*vmx);
    let text = String::from_utf8(read(&*vmx, 0, vmx.len())).unwrap();
    assert!(text.contains("scsi0:0.fileName = \"b.vmdk\"\n"), "{text}");
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let config = "[[partition]]\nsize = '16MiB'\n[images]\n'disk.vmdk' = { format = 'vmdk' }\n\
                  'lab.vmx' = { format = 'vmx' }\n";
    std::fs::write(workspace.config(), config).unwrap();
    let mounted = output(&mut workspace.mount_command());
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    let mountpoint = workspace.mountpoint().canonicalize().unwrap();
    let text = std::fs::read_to_string(mountpoint.join("lab.vmx")).unwrap();
    let disk = mountpoint.join("disk.vmdk");
    let line = format!("scsi0:0.fileName = \"{}\"\n", disk.display());
    assert!(text.contains(&line), "{text}");
    assert!(
        text.contains("scsi0:0.mode = \"independent-nonpersistent\"\n"),
        "{text}"
    );
    assert_eq!(workspace.unmount().status.code(), Some(0));
}

#[test]
fn a_machine_that_no_vmx_can_be_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("lab.toml");
    let text = "[vm]\nmemory = '1022MiB'\n[images]\n'a.vmx' = { format = 'vmx' }\n'a.vmdk' = { format = 'vmdk' }\n\
                [[partition]]\nsize = '16MiB'\n";
    let loaded = config::load_text(text.to_owned(), &config, &Environment::default()).unwrap();
    let errors = crate::planned::try_plan(&loaded.spec).err().unwrap();
    let error = &errors.errors()[0];
    assert_eq!(
        error.to_string(),
        format!(
            "{}:4:1: image `a.vmx`: memory of 1022 MiB: a VMX takes multiples of 4 MiB only",
            config.display()
        )
    );
    assert_eq!(error.hint().as_deref(), Some("write memory = \"1024MiB\""));
}
