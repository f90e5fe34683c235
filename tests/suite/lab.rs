//! `examples/lab` as a user has it: mounted by the binary, judged by tools and by a machine that boots from it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use miragefs::units::to_u64;

use crate::mounted::{Workspace, output, require_fuse, stderr};
use crate::served::{Served, read_range, read_range_direct};
use crate::support::{require_tool, run, run_text};

/// Machines are emulated: two at once would only make both late.
static ONE_MACHINE: Mutex<()> = Mutex::new(());

/// Waits until no other machine runs.
pub(crate) fn one_machine() -> MutexGuard<'static, ()> {
    ONE_MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether the lab can be mounted; its generated sources are made on the first call.
pub(crate) fn require_lab() -> bool {
    static PREPARED: OnceLock<()> = OnceLock::new();
    let tools = ["python3", "dpkg", "apt-get", "busybox", "extlinux"];
    if !require_fuse() || !tools.into_iter().all(require_tool) {
        return false;
    }
    PREPARED.get_or_init(|| {
        run::<&str>(project("examples/lab/prepare.sh").to_str().unwrap(), []);
    });
    true
}

fn mount_lab() -> Served {
    Served::of_config(Workspace::new(), &project("examples/lab/lab.toml"))
}

/// A member of an archive: its name, and where its data lies.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// The members of the OVA in order. Only headers are read, past the page cache: `tar --list` would read the record
/// that holds the manifest, and read-ahead could.
pub(crate) fn members(ova: &Path) -> Vec<Member> {
    let mut members = Vec::new();
    let mut at = 0;
    loop {
        let header = read_range_direct(ova, at, 512).unwrap();
        if header[0] == 0 {
            return members;
        }
        let text = |start: usize, len| {
            let field = std::str::from_utf8(&header[start..start + len]).unwrap();
            field.split('\0').next().unwrap().to_owned()
        };
        let size = u64::from_str_radix(&text(124, 11), 8).unwrap();
        members.push(Member {
            name: text(0, 100),
            offset: at + 512,
            size,
        });
        at += 512 + size.next_multiple_of(512);
    }
}

fn member(ova: &Path, suffix: &str) -> Member {
    let mut found = members(ova).into_iter();
    found.find(|found| found.name.ends_with(suffix)).unwrap()
}

/// Boots `image` and asserts that the guest found everything as it should be.
pub(crate) fn boot(image: &Path, format: &str, controller: &str, snapshot: &str) {
    let _turn = one_machine();
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(project("scripts/boot-vm.sh"));
    command.arg(image).args([format, controller]);
    command.env("TMPDIR", scratch.path());
    command.env("BOOT_SNAPSHOT", snapshot);
    command.env("BOOT_TIMEOUT", "600");
    let booted = output(&mut command);
    let said = String::from_utf8_lossy(&booted.stdout).into_owned();
    assert!(booted.status.success(), "{said}\n{}", stderr(&booted));
    assert!(said.lines().any(|line| line == "MIRAGEFS-GUEST: ok"));
}

#[test]
fn a_machine_boots_from_the_raw_disk() {
    if !require_lab() || !require_tool("qemu-system-x86_64") {
        return;
    }
    let lab = mount_lab();
    boot(&lab.file("disk.img"), "raw", "nvme", "on");
    assert_eq!(lab.digest_jobs(), 0);
}

/// The lab with `[partition.ext4]` in both partitions.
fn mount_shaped_lab(ext4: &str) -> Served {
    let text = fs::read_to_string(project("examples/lab/lab.toml")).unwrap();
    let lab = project("examples/lab/generated");
    let table = format!("[partition.ext4]\n{ext4}\n\n");
    let shaped = text
        .replace("\"generated/", &format!("\"{}/", lab.display()))
        .replacen(
            "[[partition]]\nlabel = \"home\"",
            &format!("{table}[[partition]]\nlabel = \"home\""),
            1,
        )
        .replacen("[vm]", &format!("{table}[vm]"), 1);
    assert_eq!(shaped.matches(&table).count(), 2);
    let workspace = Workspace::new();
    fs::write(workspace.config(), shaped).unwrap();
    Served::new(workspace)
}

#[test]
fn machines_boot_from_other_shapes_of_ext4() {
    let tools = ["qemu-system-x86_64", "e2fsck", "sfdisk"];
    if !require_lab() || !tools.into_iter().all(require_tool) {
        return;
    }
    for ext4 in [
        "block-size = 1024\ninode-size = 128",
        "features = \"modern\"",
        "features = \"compat\"\nblock-size = 2048",
    ] {
        let lab = mount_shaped_lab(ext4);
        boot(&lab.file("disk.img"), "raw", "nvme", "on");
        check_file_systems(&lab.file("disk.img"), 2);
    }
}

#[test]
fn a_machine_boots_from_the_vmdk() {
    if !require_lab() || !require_tool("qemu-system-x86_64") {
        return;
    }
    let lab = mount_lab();
    boot(&lab.file("disk.vmdk"), "vmdk", "pvscsi", "on");
    assert_eq!(lab.digest_jobs(), 0);
}

#[test]
fn a_machine_boots_from_the_ova_in_place_without_hashing() {
    if !require_lab() || !require_tool("qemu-system-x86_64") {
        return;
    }
    let lab = mount_lab();
    let ova = lab.file("boot.ova");
    let disk = member(&ova, ".vmdk");
    let format = format!("ova:{}:{}", disk.offset, disk.size);
    boot(&ova, &format, "pvscsi", "on");
    assert_eq!(lab.digest_jobs(), 0, "{}", lab.log());
}

#[test]
fn opening_the_disk_in_the_ova_hashes_nothing() {
    if !require_lab() || !require_tool("qemu-img") {
        return;
    }
    let lab = mount_lab();
    let ova = lab.file("boot.ova");
    let disk = member(&ova, ".vmdk");
    let in_place = format!(
        "json:{{\"driver\": \"vmdk\", \"file\": {{\"driver\": \"raw\", \"offset\": {}, \"size\": {}, \
         \"file\": {{\"driver\": \"file\", \"filename\": \"{}\"}}}}}}",
        disk.offset,
        disk.size,
        ova.display()
    );
    let report = run_text("qemu-img", ["info", "--output=json", in_place.as_str()]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let disk_len = fs::metadata(lab.file("disk.img")).unwrap().len();
    assert_eq!(report["virtual-size"].as_u64(), Some(disk_len));
    assert_eq!(lab.digest_jobs(), 0, "{}", lab.log());
    // So that the count above means something.
    let manifest = member(&ova, ".mf");
    read_range(&ova, manifest.offset, manifest.size).unwrap();
    assert_eq!(lab.digest_jobs(), 1);
}

#[test]
fn the_manifest_is_right_and_computed_once() {
    if !require_lab() || !require_tool("tar") || !require_tool("sha256sum") {
        return;
    }
    let lab = mount_lab();
    let ova = lab.file("boot.ova");
    let manifest = member(&ova, ".mf");
    let text = read_range(&ova, manifest.offset, manifest.size).unwrap();
    assert_eq!(lab.digest_jobs(), 1);
    // Past the page cache: the daemon answers, and starts nothing for it.
    let direct = read_range_direct(&ova, manifest.offset, manifest.size).unwrap();
    assert!(direct == text);
    assert_eq!(lab.digest_jobs(), 1);

    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().to_str().unwrap();
    run("tar", ["-x", "-C", directory, "-f", ova.to_str().unwrap()]);
    assert!(fs::read(scratch.path().join(&manifest.name)).unwrap() == text);
    let script = format!("cd '{directory}' && sha256sum --strict --check lab.mf");
    let checked = run_text("sh", ["-c", script.as_str()]);
    assert_eq!(checked, "lab.ovf: OK\nlab-disk1.vmdk: OK\n");
    assert_eq!(lab.digest_jobs(), 1);
}

#[test]
fn reading_the_ova_front_to_back_is_enough_for_its_manifest() {
    if !require_lab() {
        return;
    }
    let lab = mount_lab();
    let bytes = to_u64(fs::read(lab.file("boot.ova")).unwrap().len());
    let log = lab.log();
    let (_, known) = log.split_once("OVA digest: known, ").unwrap();
    let (second, _) = known.split_once(' ').unwrap();
    let second: u64 = second.parse().unwrap();
    // Measured: none. A few percent are what the bounded buffer may give up on a busy machine.
    assert!(second <= bytes / 20, "{second} of {bytes} bytes read twice");
}

/// The partitions of a disk, as sfdisk finds them: start in bytes.
pub(crate) fn partitions(disk: &Path) -> Vec<u64> {
    let table = run_text("sfdisk", ["--json", disk.to_str().unwrap()]);
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let start = |partition: &serde_json::Value| partition["start"].as_u64().unwrap() * 512;
    partitions.iter().map(start).collect()
}

/// A guest's clock may be a little ahead of ours, and e2fsck speaks up about file systems that were written to in the
/// future: waits until `s_wtime` is past, for half a minute at most.
fn wait_for_last_write(disk: &Path, partition: u64) {
    let mut time = [0; 4];
    let disk = fs::File::open(disk).unwrap();
    disk.read_exact_at(&mut time, partition + 1024 + 0x30)
        .unwrap();
    let written = Duration::from_secs(u32::from_le_bytes(time).into());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for _ in 0..300 {
        if now() > written + Duration::from_secs(1) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Asserts that e2fsck finds nothing to say about any of `count` partitions.
pub(crate) fn check_file_systems(disk: &Path, count: usize) {
    let starts = partitions(disk);
    assert_eq!(starts.len(), count);
    for start in starts {
        wait_for_last_write(disk, start);
        let mut command = Command::new("e2fsck");
        command.arg("-fn");
        command.arg(format!("{}?offset={start}", disk.display()));
        let report = output(&mut command);
        let text = String::from_utf8_lossy(&report.stdout).into_owned();
        assert!(report.status.success(), "{text}\n{}", stderr(&report));
        let is_expected = |line: &str| {
            line.starts_with("Pass ") || (line.contains(" files (") && line.ends_with(" blocks"))
        };
        assert!(text.lines().all(is_expected), "{text}");
    }
}

#[test]
fn the_mounted_file_systems_are_clean() {
    let tools = ["e2fsck", "sfdisk"];
    if !require_lab() || !tools.into_iter().all(require_tool) {
        return;
    }
    let lab = mount_lab();
    check_file_systems(&lab.file("disk.img"), 2);
}

#[test]
fn file_systems_that_the_guest_wrote_to_are_clean() {
    let tools = ["e2fsck", "sfdisk", "debugfs", "qemu-system-x86_64"];
    if !require_lab() || !tools.into_iter().all(require_tool) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("disk.img");
    let lab = mount_lab();
    let mut cp = Command::new("cp");
    cp.args(["--sparse=auto", "--no-preserve=mode"]);
    let copied = output(cp.arg(lab.file("disk.img")).arg(&copy));
    assert!(copied.status.success(), "{}", stderr(&copied));
    boot(&copy, "raw", "nvme", "off");
    check_file_systems(&copy, 2);
    for start in partitions(&copy) {
        let image = format!("{}?offset={start}", copy.display());
        let text = run_text("debugfs", ["-R", "cat /guest.txt", image.as_str()]);
        assert_eq!(text, "written by the guest\n");
    }
}
