//! `examples/seed` as a user has it: the tutorial's sectors, clean file systems, and a machine that boots from them.

use std::fs;
use std::path::PathBuf;

use crate::disk::partition_table;
use crate::lab::{boot, check_file_systems, project, require_lab};
use crate::mounted::{Workspace, stderr};
use crate::planned::miragefs;
use crate::served::Served;
use crate::support::{require_tool, run_text};

fn config() -> PathBuf {
    project("examples/seed/seed.toml")
}

fn mount_seed() -> Served {
    Served::of_config(Workspace::new(), &config())
}

#[test]
fn the_sectors_are_those_of_the_tutorial() {
    if !require_lab() || !require_tool("sfdisk") {
        return;
    }
    let seed = mount_seed();
    let disk = seed.file("disk.img");
    assert_eq!(fs::metadata(&disk).unwrap().len(), 1_073_741_824);
    assert_eq!(
        partition_table(&disk),
        [
            (1, 500_000, "83".to_owned(), true),
            (500_001, 1_597_151, "83".to_owned(), false)
        ]
    );
}

#[test]
fn the_file_systems_are_clean_where_no_block_is_aligned() {
    let tools = ["e2fsck", "sfdisk", "debugfs"];
    if !require_lab() || !tools.into_iter().all(require_tool) {
        return;
    }
    let seed = mount_seed();
    let disk = seed.file("disk.img");
    check_file_systems(&disk, 2);
    let home = format!("{}?offset={}", disk.display(), 500_001 * 512);
    let stat = run_text("debugfs", ["-R", "stat /vmuser/cavity", home.as_str()]);
    let owner: Vec<_> = stat
        .lines()
        .find(|line| line.starts_with("User:"))
        .unwrap()
        .split_whitespace()
        .take(4)
        .collect();
    assert_eq!(owner, ["User:", "1000", "Group:", "100"]);
}

#[test]
fn the_boot_loader_is_told_a_label_that_there_is() {
    if !require_lab() {
        return;
    }
    let checked = miragefs(["check".as_ref(), config().as_os_str()]);
    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(stderr(&checked), "");
    // As the tutorial has it, in a config whose paths still lead somewhere.
    let scratch = tempfile::tempdir().unwrap();
    let lab = project("examples/lab");
    let text = fs::read_to_string(config()).unwrap();
    let mistaken = text
        .replace("\nDEFAULT client\n", "\nDEFAULT arch\n")
        .replace("../lab", lab.to_str().unwrap());
    assert_ne!(mistaken, text);
    let path = scratch.path().join("seed.toml");
    fs::write(&path, mistaken).unwrap();
    let checked = miragefs(["check".as_ref(), path.as_os_str()]);
    let warned = stderr(&checked);
    assert!(warned.contains("DEFAULT `arch` names no label"), "{warned}");
}

#[test]
fn a_machine_boots_from_sector_one() {
    if !require_lab() || !require_tool("qemu-system-x86_64") {
        return;
    }
    let seed = mount_seed();
    boot(&seed.file("disk.img"), "raw", "nvme", "on");
    assert_eq!(seed.digest_jobs(), 0);
}
