//! The keys of `[partition.ext4]` as the commands see them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::build::{assert_clean, write_image};
use crate::planned::{image, plan_config};
use crate::support::{require_tool, run_text};
use miragefs::synth::generation::Planned;

/// A disk without a table whose file system has these keys.
fn planned(directory: &Path, ext4: &str) -> Planned {
    let config = directory.join("keys.toml");
    let text = format!(
        "name = \"keys\"\n[disk]\nsize = \"64MiB\"\ntable = \"none\"\n[[partition]]\nlabel = \"root\"\n\
         files = [{{ path = \"/fstab\", text = \"UUID={{{{partition.root.uuid}}}} LABEL={{{{partition.root.label}}}}\" }}]\n\
         [partition.ext4]\n{ext4}\n\
         [images]\n\"disk.img\" = {{ format = \"raw\" }}\n"
    );
    fs::write(&config, text).unwrap();
    plan_config(&config)
}

#[test]
fn label_and_uuid_are_those_of_the_config() {
    if !["e2fsck", "dumpe2fs", "debugfs"]
        .into_iter()
        .all(require_tool)
    {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let keys = "label = \"a volume\"\nuuid = \"0F0e0d0c-0b0a-0908-0706-050403020100\"";
    let planned = planned(directory.path(), keys);
    let uuid = "0f0e0d0c-0b0a-0908-0706-050403020100";
    let report = planned.partitions[0].filesystem.as_ref().unwrap();
    assert_eq!(
        (report.uuid.as_str(), planned.partitions[0].label.as_str()),
        (uuid, "root")
    );
    let path = directory.path().join("image");
    write_image(&*image(&planned, "disk.img").source, &path);
    assert_clean(&path);
    let header = run_text("dumpe2fs", ["-h".as_ref(), path.as_os_str()]);
    for line in [
        "Filesystem volume name:   a volume".to_owned(),
        format!("Filesystem UUID:          {uuid}"),
    ] {
        assert!(header.contains(&line), "{line}\n{header}");
    }
    let fstab = run_text(
        "debugfs",
        ["-R".as_ref(), "cat /fstab".as_ref(), path.as_os_str()],
    );
    assert_eq!(fstab, format!("UUID={uuid} LABEL=a volume"));
}

#[test]
fn every_key_changes_the_fingerprint() {
    let directory = tempfile::tempdir().unwrap();
    let keys = [
        "",
        "label = \"root2\"",
        "uuid = \"0f0e0d0c-0b0a-0908-0706-050403020100\"",
        "journal = false",
        "journal = \"5MiB\"",
        "journal = \"6MiB\"",
        "block-size = 1024",
        "block-size = 2048",
        "inode-size = 128",
        "inode-size = 512",
        "features = \"modern\"",
        "features = \"compat\"",
        "reserved-percent = 3",
        "inodes = 5000",
    ];
    let identities: BTreeSet<[u8; 32]> = keys
        .iter()
        .map(|keys| image(&planned(directory.path(), keys), "disk.img").identity)
        .collect();
    assert_eq!(identities.len(), keys.len());
    // What is the default anyway changes nothing.
    for default in [
        "block-size = 4096",
        "inode-size = 256",
        "features = \"std\"",
        "journal = true",
    ] {
        let identity = image(&planned(directory.path(), default), "disk.img").identity;
        assert!(identities.contains(&identity), "{default}");
    }
}
