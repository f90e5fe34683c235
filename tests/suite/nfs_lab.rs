//! `examples/nfs-lab`: machines that are downloaded and booted with their root over NFS, as `make lab` shows it.

use std::process::Command;

use crate::lab::{one_machine, project, require_lab};
use crate::loops::can_mount;
use crate::mounted::{output, require_root, stderr};
use crate::support::require_tool;

const TOOLS: [&str; 12] = [
    "ganesha.nfsd",
    "rpcbind",
    "rpcinfo",
    "nginx",
    "curl",
    "ip",
    "unshare",
    "nsenter",
    "qemu-system-x86_64",
    "qemu-img",
    "sfdisk",
    "mkfs.ext4",
];

/// The seconds in the last column of a row.
fn seconds(text: &str, row: &str) -> f64 {
    let begin = format!("| {row} ");
    let line = text.lines().find(|line| line.starts_with(&begin));
    let line = line.unwrap_or_else(|| panic!("{row}: no such row: {text}"));
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    cells[cells.len() - 2].parse().unwrap()
}

#[test]
fn machines_boot_over_nfs_before_and_after_edits_and_upgrades() {
    if !require_lab() || !require_root() || !can_mount() || !TOOLS.into_iter().all(require_tool) {
        return;
    }
    let _turn = one_machine();
    let mut command = Command::new(project("scripts/lab.sh"));
    command.env("MIRAGEFS", env!("CARGO_BIN_EXE_miragefs"));
    command.env("LAB", "small");
    let done = output(&mut command);
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{text}\n{}", stderr(&done));

    // What the guests say: four machines, of which the third has the newer initrd.
    let oks = text
        .lines()
        .filter_map(|line| line.strip_prefix("MIRAGEFS-LAB: ok: "));
    let oks: Vec<(&str, &str)> = oks.map(|ok| ok.split_once(", ").unwrap()).collect();
    let messages: Vec<&str> = oks.iter().map(|(message, _)| *message).collect();
    assert_eq!(messages, ["first", "second", "second", "classic"], "{text}");
    let versions: Vec<&str> = oks.iter().map(|(_, version)| *version).collect();
    assert_eq!((versions[0], versions[0]), (versions[1], versions[3]));
    assert_ne!(versions[1], versions[2]);
    assert_eq!(
        text.matches("under an overlay that takes writes").count(),
        4
    );
    assert_eq!(text.matches("MIRAGEFS-LAB: home: /dev/sda2, ").count(), 4);
    let told = stderr(&done);
    assert_eq!(told.matches("3 members as the manifest says").count(), 4);

    // The table has both ways, and sizes of what is really compressed.
    for row in [
        "notice, plan, compress what changed",
        "boot until the marker, and power off",
        "all",
    ] {
        assert!(seconds(&text, row) > 0.0, "{row}");
    }
    for line in [
        "stored.ova, compression = \"stored\"",
        "boot.ova, compression = \"deflate\"",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(
        text.trim_end()
            .ends_with("changed, upgraded and taken down"),
        "{text}"
    );
}
