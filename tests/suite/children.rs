//! Disks that a guest writes to over images of the mount: children made by qemu-img, what becomes of them when the
//! config or a source changes, and machines that boot from each kind of image in place.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, UNIX_EPOCH};

use miragefs::units::to_usize;
use sha2::{Digest, Sha256};

use crate::lab::{boot, check_file_systems, partitions, project, require_lab};
use crate::mounted::{Workspace, output, require_fuse, stderr};
use crate::served::{Served, data_ranges, read_range};
use crate::support::{long_tests, require_tool, run, run_text};

/// One disk in every form that qemu opens.
const IMAGES: &str = "[images]\n\
     \"disk.img\" = { format = \"raw\" }\n\
     \"disk.vmdk\" = { format = \"vmdk\" }\n\
     \"disk.qcow2\" = { format = \"qcow2\" }\n\
     \"disk.vdi\" = { format = \"vdi\" }\n\
     \"disk.vhd\" = { format = \"vhd\" }\n\
     \"fixed.vhd\" = { format = \"vhd\", layout = \"fixed\" }\n\
     \"disk.vhdx\" = { format = \"vhdx\" }\n\
     \"stream.vmdk\" = { format = \"vmdk\", layout = \"stream-optimized\" }\n\
     \"flat.vmdk\" = { format = \"vmdk\", layout = \"monolithic-flat\" }\n";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn can_boot() -> bool {
    let tools = ["qemu-system-x86_64", "qemu-img", "e2fsck", "sfdisk"];
    require_lab() && tools.into_iter().all(require_tool) && require_tool("debugfs")
}

fn mount_lab() -> Served {
    let workspace = Workspace::new();
    let lab = project("examples/lab/lab.toml");
    let config = format!("include = [\"{}\"]\n{IMAGES}", lab.display());
    fs::write(workspace.config(), config).unwrap();
    Served::new(workspace)
}

/// Makes an empty child over `base`.
fn create(format: &str, base: &Path, base_format: &str, child: &Path) {
    let options = ["create", "-q", "-f", format, "-F", base_format, "-b"];
    run(
        "qemu-img",
        options.into_iter().chain([text(base), text(child)]),
    );
}

/// SHA-256 over the length, and over place and bytes of all that is no hole.
fn digest(path: &Path) -> [u8; 32] {
    let file = File::open(path).unwrap();
    let mut hash = Sha256::new();
    hash.update(file.metadata().unwrap().len().to_le_bytes());
    for (start, end) in data_ranges(&file) {
        hash.update(start.to_le_bytes());
        let mut at = start;
        while at < end {
            let mut bytes = vec![0xa5; to_usize((end - at).min(1 << 20))];
            file.read_exact_at(&mut bytes, at).unwrap();
            hash.update(&bytes);
            at += u64::try_from(bytes.len()).unwrap();
        }
    }
    hash.finalize().into()
}

fn cat(disk: &Path, partition: u64, path: &str) -> Vec<u8> {
    let image = format!("{}?offset={partition}", disk.display());
    run("debugfs", ["-R", &format!("cat {path}"), image.as_str()])
}

/// Boots from a child of `format` over the lab's image `base`, which writes; then it is clean and holds what the guest
/// wrote, and the image under it is what it was.
fn a_child_takes_what_the_guest_writes(lab: &Served, format: &str, base: &str, base_format: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let child = scratch.path().join("child");
    let base = lab.file(base);
    let before = digest(&base);
    create(format, &base, base_format, &child);
    let empty = fs::metadata(&child).unwrap().len();
    boot(&child, format, "pvscsi", "off");
    assert!(fs::metadata(&child).unwrap().len() > empty);

    run("qemu-img", ["check", "-q", "-f", format, text(&child)]);
    let copy = scratch.path().join("disk.img");
    let convert = ["convert", "-f", format, "-O", "raw"];
    run(
        "qemu-img",
        [&convert[..], &[text(&child), text(&copy)]].concat(),
    );
    check_file_systems(&copy, 2);
    for start in partitions(&copy) {
        assert_eq!(cat(&copy, start, "/guest.txt"), b"written by the guest\n");
    }
    assert!(digest(&base) == before, "{}: changed", base.display());
    for start in partitions(&lab.file("disk.img")) {
        assert_eq!(cat(&lab.file("disk.img"), start, "/guest.txt"), b"");
    }
    let log = lab.log();
    // A machine that is switched off leaves reads behind that nobody waits for: the kernel has forgotten them.
    let forgotten = "Failed to send FUSE reply: No such file or directory";
    let complaints = log
        .lines()
        .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
        .filter(|line| !line.contains(forgotten));
    assert_eq!(complaints.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_machine_writes_to_a_child_vmdk() {
    if !can_boot() {
        return;
    }
    let lab = mount_lab();
    a_child_takes_what_the_guest_writes(&lab, "vmdk", "disk.vmdk", "vmdk");
}

#[test]
fn a_machine_writes_to_a_child_qcow2() {
    if !can_boot() {
        return;
    }
    let lab = mount_lab();
    a_child_takes_what_the_guest_writes(&lab, "qcow2", "disk.qcow2", "qcow2");
}

#[test]
fn machines_write_to_children_over_other_images() {
    if !long_tests() || !can_boot() {
        return;
    }
    let lab = mount_lab();
    for (base, format) in [
        ("disk.vmdk", "vmdk"),
        ("stream.vmdk", "vmdk"),
        ("disk.img", "raw"),
        ("disk.vdi", "vdi"),
        ("disk.vhd", "vpc"),
        ("disk.vhdx", "vhdx"),
    ] {
        a_child_takes_what_the_guest_writes(&lab, "qcow2", base, format);
    }
}

#[test]
fn a_machine_boots_from_the_vhdx() {
    if !can_boot() {
        return;
    }
    let lab = mount_lab();
    boot(&lab.file("disk.vhdx"), "vhdx", "nvme", "on");
}

#[test]
fn machines_boot_from_the_other_images() {
    if !long_tests() || !can_boot() {
        return;
    }
    let lab = mount_lab();
    for (image, format, controller) in [
        ("disk.qcow2", "qcow2", "virtio"),
        ("disk.vdi", "vdi", "ide"),
        ("disk.vhd", "vpc", "ide"),
        ("fixed.vhd", "vpc", "ide"),
        ("stream.vmdk", "vmdk", "pvscsi"),
        ("flat.vmdk", "vmdk", "pvscsi"),
    ] {
        boot(&lab.file(image), format, controller, "on");
    }
}

/// A small disk with a text of the config and a file of the host.
struct Small {
    served: Served,
}

const OLD: &str = "the text that the child was made over\n";
const NEW: &str = "another one\n";
/// Where nothing lies but free space.
const FREE: u64 = 12 << 20;

impl Small {
    /// With a line for the top of the config.
    fn new(head: &str) -> Self {
        let workspace = Workspace::new();
        fs::create_dir(workspace.path().join("src")).unwrap();
        fs::write(workspace.path().join("src/notes.txt"), "as planned\n").unwrap();
        fs::write(workspace.config(), Self::config(head, OLD)).unwrap();
        Self {
            served: Served::new(workspace),
        }
    }

    fn config(head: &str, text: &str) -> String {
        format!(
            "{head}\n[disk]\nsize = \"16MiB\"\nboot-code = \"none\"\n\
             [[partition]]\nlabel = \"data\"\nsize = \"rest\"\n\
             copy = [{{ from = \"src\", to = \"/\" }}]\n\
             files = [{{ path = \"/hello.txt\", text = '''{text}''' }}]\n{IMAGES}"
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.served.workspace().path().join(name)
    }

    fn image(&self, name: &str) -> PathBuf {
        self.served.file(name)
    }

    /// Mounts anew with another text in the config.
    fn mount_with(&self, text: &str) {
        let config = self.served.workspace().config();
        fs::write(config, Self::config("", text)).unwrap();
        self.served.mount_again();
    }

    /// Writes to the host's file, at a time of `seconds` since 1970, and mounts anew.
    fn mount_with_notes(&self, notes: &str, seconds: u64) {
        let path = self.path("src/notes.txt");
        fs::write(&path, notes).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        let file = File::options().write(true).open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        self.served.mount_again();
    }

    /// A child over an image of the mount, in which a guest wrote to free space.
    fn child(&self, format: &str, image: &str) -> PathBuf {
        let child = self.path(&format!("child-of-{image}"));
        create(format, &self.image(image), format, &child);
        accepted(qemu_io(
            &child,
            format,
            &format!("write -P 0x5a {FREE} 64k"),
        ));
        child
    }
}

fn qemu_io(image: &Path, format: &str, command: &str) -> Output {
    let mut qemu_io = Command::new("qemu-io");
    output(qemu_io.args(["-f", format, "-c", command]).arg(image))
}

fn accepted(done: Output) {
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", stderr(&done));
}

/// The child gives what it holds itself and what lies under it.
fn assert_readable(child: &Path, format: &str) {
    accepted(qemu_io(child, format, "read 0 64k"));
    accepted(qemu_io(child, format, &format!("read -P 0x5a {FREE} 64k")));
}

/// Neither what lies under the child can be read, nor anything written to it, nor a copy made.
fn assert_refused(child: &Path) {
    for command in ["read 0 64k".to_owned(), format!("write {} 64k", FREE / 2)] {
        let refused = qemu_io(child, "vmdk", &command);
        let said = String::from_utf8_lossy(&refused.stdout).into_owned() + &stderr(&refused);
        assert!(!refused.status.success(), "{command}: {said}");
        assert!(
            said.contains("failed: Invalid argument"),
            "{command}: {said}"
        );
    }
    let copy = child.with_extension("copy");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "vmdk", "-O", "raw"]);
    let refused = output(convert.arg(child).arg(copy));
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("Invalid argument"));
}

fn have_qemu() -> bool {
    require_fuse() && require_tool("qemu-img") && require_tool("qemu-io")
}

#[test]
fn a_child_vmdk_is_refused_when_the_config_changed() {
    if !have_qemu() {
        return;
    }
    let small = Small::new("");
    let children = ["disk.vmdk", "stream.vmdk", "flat.vmdk"].map(|base| small.child("vmdk", base));
    let cid = cid_of(&small.image("disk.vmdk"));
    small.served.mount_again();
    assert_eq!(cid_of(&small.image("disk.vmdk")), cid);
    for child in &children {
        assert_readable(child, "vmdk");
    }
    small.mount_with(NEW);
    assert_ne!(cid_of(&small.image("disk.vmdk")), cid);
    for child in &children {
        assert_refused(child);
    }
    // The change taken back, it is the same parent again.
    small.mount_with(OLD);
    for child in &children {
        assert_readable(child, "vmdk");
    }
}

/// The content id of a VMDK, as qemu-img reads it.
fn cid_of(vmdk: &Path) -> u64 {
    let report = run_text("qemu-img", ["info", "--output=json", text(vmdk)]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    report["format-specific"]["data"]["cid"].as_u64().unwrap()
}

#[test]
fn a_child_vmdk_is_refused_when_a_source_changed() {
    if !have_qemu() {
        return;
    }
    let small = Small::new("");
    small.mount_with_notes("as planned\n", 1_600_000_000);
    let child = small.child("vmdk", "disk.vmdk");
    // Of the same length at another time; longer at the same time.
    small.mount_with_notes("not planed\n", 1_600_000_001);
    assert_refused(&child);
    small.mount_with_notes("as planned, and more\n", 1_600_000_000);
    assert_refused(&child);
    // A file like the first one is as good as the first one.
    small.mount_with_notes("as planned\n", 1_600_000_000);
    assert_readable(&child, "vmdk");
}

/// What docs/limitations.md warns of: the content id goes by lengths and times, and nobody looks at contents.
#[test]
fn a_child_vmdk_does_not_notice_an_edit_that_keeps_length_and_time() {
    if !have_qemu() {
        return;
    }
    let small = Small::new("source-date-epoch = 1500000000");
    small.mount_with_notes("as planned\n", 1_600_000_000);
    let child = small.child("vmdk", "disk.vmdk");
    // Later times than the config's are lowered to it: this is no other time.
    small.mount_with_notes("not planed\n", 1_600_000_001);
    assert_readable(&child, "vmdk");
}

/// Where the text of `/hello.txt` lies in the disk.
fn place_of(disk: &Path, text: &str) -> u64 {
    let bytes = fs::read(disk).unwrap();
    let found = bytes
        .chunks(512)
        .position(|sector| sector.starts_with(text.as_bytes()));
    u64::try_from(found.unwrap() * 512).unwrap()
}

/// The text as the file system in `child` gives it.
fn hello_in(child: &Path, format: &str) -> Vec<u8> {
    let copy = child.with_extension("raw");
    let convert = ["convert", "-f", format, "-O", "raw"];
    run(
        "qemu-img",
        [&convert[..], &[text(child), text(&copy)]].concat(),
    );
    let start = partitions(&copy)[0];
    cat(&copy, start, "/hello.txt")
}

#[test]
fn a_child_qcow2_does_not_notice_that_the_config_changed() {
    let tools = ["sfdisk", "debugfs"];
    if !have_qemu() || !tools.into_iter().all(require_tool) {
        return;
    }
    let small = Small::new("");
    // A guest changes something in the neighbourhood of the text: the whole cluster is in the child from then on.
    let place = place_of(&small.image("disk.img"), OLD);
    let write = format!("write -P 0x5a {} 512", place + 512);
    let bases = [
        ("disk.qcow2", "qcow2"),
        ("disk.vmdk", "vmdk"),
        ("disk.img", "raw"),
    ];
    let mut children = Vec::new();
    for (base, base_format) in bases {
        let child = small.path(&format!("child-of-{base}"));
        create("qcow2", &small.image(base), base_format, &child);
        accepted(qemu_io(&child, "qcow2", &write));
        assert_eq!(hello_in(&child, "qcow2"), OLD.as_bytes());
        children.push(child);
    }
    small.mount_with(NEW);
    assert_eq!(place_of(&small.image("disk.img"), NEW), place);
    for child in children {
        // Nobody complains, and it is neither what was nor what is: as long as the new text, and part of the old one.
        run("qemu-img", ["check", "-q", "-f", "qcow2", text(&child)]);
        assert_eq!(hello_in(&child, "qcow2"), OLD.as_bytes()[..NEW.len()]);
    }
}

/// What docs/limitations.md advises.
#[test]
fn a_child_qcow2_is_kept_from_a_changed_base() {
    let tools = ["sfdisk", "debugfs"];
    if !have_qemu() || !tools.into_iter().all(require_tool) {
        return;
    }
    let small = Small::new("");
    let name = |text: &str| Small::config("", text).replace("\"disk.qcow2\"", "\"disk-2.qcow2\"");
    // A base of its own: a copy that stays.
    let kept = small.path("kept.qcow2");
    fs::copy(small.image("disk.qcow2"), &kept).unwrap();
    let pinned = small.path("pinned");
    create("qcow2", &kept, "qcow2", &pinned);
    let named = small.child("qcow2", "disk.qcow2");

    // A name that changes with the contents.
    fs::write(small.served.workspace().config(), name(NEW)).unwrap();
    small.served.mount_again();
    let refused = qemu_io(&named, "qcow2", "read 0 64k");
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("disk.qcow2': No such file or directory"));

    assert_eq!(hello_in(&pinned, "qcow2"), OLD.as_bytes());
    // With both bases at hand, a child moves from one to the other; its guest sees no difference.
    let base = small.image("disk-2.qcow2");
    let rebase = ["rebase", "-f", "qcow2", "-F", "qcow2", "-b"];
    for (child, old) in [(&pinned, &kept), (&named, &kept)] {
        let unsafe_to = ["rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b"];
        run(
            "qemu-img",
            [&unsafe_to[..], &[text(old), text(child)]].concat(),
        );
        run(
            "qemu-img",
            [&rebase[..], &[text(&base), text(child)]].concat(),
        );
    }
    fs::remove_file(&kept).unwrap();
    for child in [&pinned, &named] {
        run("qemu-img", ["check", "-q", "-f", "qcow2", text(child)]);
        assert_eq!(hello_in(child, "qcow2"), OLD.as_bytes());
    }
    assert_readable(&named, "qcow2");
    assert_eq!(read_range(&base, 0, 4).unwrap(), b"QFI\xfb");
}
