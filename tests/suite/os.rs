//! `examples/os`: machines whose root is a partition of the mount, read-write, and the file systems that they leave.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::lab::{check_file_systems, members, one_machine, partitions, project, require_lab};
use crate::loops::{Mount, can_mount};
use crate::mounted::{Workspace, output, require_fuse, require_root, stderr};
use crate::planned::miragefs;
use crate::served::{Served, assert_same_bytes};
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

/// The user that unpacks without root.
const NOBODY: u32 = 65_534;

fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(program).current_dir("/");
    command
}

/// The manifest of `tree`, and what an ordinary user gets out of its archive, as `prepare.sh --rootless` does it.
fn unpack_as_nobody(tree: &Path, directory: &Path) {
    let archive = directory.join("root.tar");
    let mut tar = Command::new("tar");
    tar.args(["--acls", "--format=posix", "-cf"]).arg(&archive);
    assert_success(&output(tar.arg("-C").arg(tree).arg(".")));
    let keywords = "--options=!all,type,uid,gid,mode,time,device,link";
    let manifest = run(
        "bsdtar",
        [
            "-cf",
            "-",
            "--format=mtree",
            keywords,
            "-C",
            tree.to_str().unwrap(),
            ".",
        ],
    );
    fs::write(directory.join("root.mtree"), manifest).unwrap();
    let root = directory.join("root");
    fs::create_dir(&root).unwrap();
    chown(&root, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut tar = as_nobody("tar".as_ref());
    tar.args(["--acls", "--exclude=./dev/*", "-xf"])
        .arg(&archive);
    assert_success(&output(tar.arg("-C").arg(&root)));
    let made = [root.join("dev/pts"), root.join("dev/shm")];
    assert_success(&output(as_nobody("mkdir".as_ref()).args(made)));
    let mut chmod = as_nobody("chmod".as_ref());
    assert_success(&output(chmod.args(["-R", "u+rwX"]).arg(root)));
}

#[test]
fn an_ordinary_user_gets_the_debian_that_root_gets() {
    let tools = ["bsdtar", "tar", "setpriv"];
    if !require_debian() || !tools.into_iter().all(require_tool) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    open(scratch.path());
    let tree = project("examples/os/generated/root");
    unpack_as_nobody(&tree, scratch.path());

    let by_root = project("examples/os/os.toml");
    let text = fs::read_to_string(&by_root).unwrap();
    let entry = "\"generated/root\", to = \"/\"";
    let rootless = text.replace(entry, "\"root\", to = \"/\", owners = \"root.mtree\"");
    assert_ne!(rootless, text);
    fs::write(path("os.toml"), rootless).unwrap();
    // The program may lie where only root can go.
    fs::copy(env!("CARGO_BIN_EXE_miragefs"), path("miragefs")).unwrap();
    let mut export = as_nobody(&path("miragefs"));
    export.arg("export").arg(path("os.toml"));
    export.arg("disk.img").arg(path("theirs.img"));
    let exported = output(&mut export);
    assert_success(&exported);
    assert!(
        !stderr(&exported).contains("warning"),
        "{}",
        stderr(&exported)
    );
    let ours = path("ours.img");
    let arguments = ["export".as_ref(), by_root.as_os_str(), "disk.img".as_ref()];
    assert_success(&miragefs(arguments.into_iter().chain([ours.as_os_str()])));
    assert_same_bytes(&path("theirs.img"), &ours);
}
