//! `examples/os`: machines whose root is a partition of the mount, read-write, and the file systems that they leave.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::lab::{check_file_systems, members, one_machine, partitions, project, require_lab};
use crate::loops::{Mount, can_mount};
use crate::mounted::{Workspace, output, require_fuse, require_root, stderr};
use crate::served::Served;
use crate::support::{long_tests, require_tool, run, run_text};

/// Whether the Debian of `examples/os` can be mounted; it is unpacked on the first call, which takes minutes.
pub(crate) fn require_debian() -> bool {
    static PREPARED: OnceLock<()> = OnceLock::new();
    let tools = ["mmdebstrap", "apt-get", "extlinux", "sfdisk"];
    if !require_fuse() || !require_root() || !tools.into_iter().all(require_tool) {
        return false;
    }
    PREPARED.get_or_init(|| {
        run::<&str>(project("examples/os/prepare.sh").to_str().unwrap(), []);
    });
    true
}

fn can_boot() -> bool {
    ["qemu-system-x86_64", "qemu-img", "e2fsck", "debugfs"]
        .into_iter()
        .all(require_tool)
}

fn mount_debian() -> Served {
    Served::of_config(Workspace::new(), &project("examples/os/os.toml"))
}

fn assert_success(done: &Output) {
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}\n{}", stderr(done));
}

/// What debugfs prints for a command about the only partition of `disk`.
fn debugfs(disk: &Path, command: &str) -> String {
    let start = partitions(disk)[0];
    let image = format!("{}?offset={start}", disk.display());
    run_text("debugfs", ["-R", command, image.as_str()])
}

/// Boots the Debian in `image`, with a login and a shutdown, and checks what it left.
fn boot_debian(image: &Path, format: &str, controller: &str) {
    let _turn = one_machine();
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("disk.img");
    let mut command = Command::new(project("examples/os/boot.sh"));
    command.arg(image).args([format, controller]).arg(&copy);
    command.env("TMPDIR", scratch.path());
    let booted = output(&mut command);
    assert_success(&booted);
    let said = String::from_utf8_lossy(&booted.stdout);
    assert!(said.contains("root-of-miragefs login: "), "{said}");

    check_file_systems(&copy, 1);
    let boots = debugfs(&copy, "cat /var/lib/miragefs/boots");
    assert_eq!(boots.lines().count(), 1, "{boots}");
    assert!(boots.contains("-cloud-amd64"), "{boots}");
    // systemd writes a new identity into a machine that has none.
    let identity = debugfs(&copy, "cat /etc/machine-id");
    assert_eq!(identity.trim_end().len(), 32, "{identity}");
    let fstab = debugfs(&copy, "cat /etc/fstab");
    assert!(
        fstab.starts_with("UUID=") && !fstab.contains("{{"),
        "{fstab}"
    );
}

#[test]
fn a_root_without_initramfs_boots_read_write() {
    if !require_lab() || !can_boot() {
        return;
    }
    let tiny = Served::of_config(Workspace::new(), &project("examples/os/tiny.toml"));
    let _turn = one_machine();
    let scratch = tempfile::tempdir().unwrap();
    let overlay = scratch.path().join("overlay.qcow2");
    let copy = scratch.path().join("disk.img");
    let mut command = Command::new(project("scripts/boot-vm.sh"));
    command.arg(tiny.file("disk.img")).args(["raw", "nvme"]);
    command.env("TMPDIR", scratch.path());
    command.env("BOOT_OVERLAY", &overlay);
    command.env("BOOT_MARKER", "MIRAGEFS-OS: ok");
    command.env("BOOT_TIMEOUT", "600");
    assert_success(&output(&mut command));

    let paths = [overlay.as_os_str(), copy.as_os_str()];
    run_text(
        "qemu-img",
        ["convert".as_ref(), "-O".as_ref(), "raw".as_ref()]
            .into_iter()
            .chain(paths),
    );
    check_file_systems(&copy, 1);
    let booted = debugfs(&copy, "cat /root/booted");
    assert!(booted.ends_with(" from /dev/nvme0n1p1\n"), "{booted}");
    let noise = debugfs(&copy, "stat /var/lib/noise");
    assert!(noise.contains("Size: 4194304"), "{noise}");
    let tools = debugfs(&copy, "ls -p /bin").lines().count();
    assert!(tools > 200, "{tools} names in /bin");
    let root = debugfs(&copy, "ls -p /");
    assert!(!root.contains("/tmp/"), "{root}");
}

#[test]
fn debian_boots_to_a_login_and_leaves_a_clean_root() {
    if !require_debian() || !can_boot() {
        return;
    }
    let debian = mount_debian();
    boot_debian(&debian.file("disk.img"), "raw", "virtio");
    assert_eq!(debian.digest_jobs(), 0);
}

#[test]
fn debian_boots_from_the_vmdk_and_from_the_ova() {
    if !long_tests() || !require_debian() || !can_boot() {
        return;
    }
    let debian = mount_debian();
    boot_debian(&debian.file("disk.vmdk"), "vmdk", "pvscsi");
    let ova = debian.file("boot.ova");
    let disk = members(&ova)
        .into_iter()
        .find(|member| member.name.ends_with(".vmdk"))
        .unwrap();
    let format = format!("ova:{}:{}", disk.offset, disk.size);
    boot_debian(&ova, &format, "nvme");
    assert_eq!(debian.digest_jobs(), 0);
}

#[test]
fn the_kernel_finds_the_tree_of_debian_unchanged() {
    if !require_debian() || !can_mount() || !require_tool("rsync") {
        return;
    }
    let tree = project("examples/os/generated/root");
    let workspace = Workspace::new();
    let config = format!(
        "[[partition]]\nlabel = \"root\"\nsize = \"1GiB\"\ncopy = [{{ from = \"{}\", to = \"/\" }}]\n",
        tree.display()
    );
    fs::write(workspace.config(), config).unwrap();
    let served = Served::new(workspace);
    // Nothing in a tree of Debian is left out or warned of.
    assert!(!served.log().contains("WARN"), "{}", served.log());
    let disk = served.file("disk.img");
    let options = format!("ro,loop,offset={}", partitions(&disk)[0]);
    let mount = Mount::new(&disk, &options);
    let (from, to) = (format!("{}/", tree.display()), mount.path());
    // Names, types, contents, owners, modes, times, links, devices, ACLs and attributes.
    let differing = run_text(
        "rsync",
        [
            "--dry-run",
            "-aHAXc",
            "--numeric-ids",
            "--delete",
            "--itemize-changes",
            from.as_str(),
            to.to_str().unwrap(),
        ],
    );
    assert_eq!(differing, "*deleting   lost+found/\n");
    mount.unmount();
}
