//! `explain`, `check` and `init`: what is said of a byte is checked against debugfs and against the byte itself.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use miragefs::synth::source::{ByteSource, Origin, Step};
use serde_json::Value;

use crate::planned::{LARGE_LEN, PARTITION_OFFSET, image, miragefs, plan_config, write_config};
use crate::support::{read, require_tool, run_text, write_to_file};

fn trail(source: &dyn ByteSource, offset: u64) -> Vec<Step> {
    let mut trail = Vec::new();
    source.explain_at(offset, &mut trail);
    trail
}

fn explain(config: &Path, name: &str, offset: &str) -> Value {
    let arguments = ["explain", "--json", config.to_str().unwrap(), name, offset];
    let output = miragefs(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_run_has_a_trail_and_tells_the_truth() {
    let directory = tempfile::tempdir().unwrap();
    let planned = plan_config(&write_config(directory.path()));
    for image in &planned.generation.images {
        let source = &*image.source;
        let mut offset = 0;
        let mut from_files = 0;
        while offset < source.len() {
            let run = source.run_at(offset);
            let last = offset + run.len - 1;
            for at in [offset, last] {
                assert!(!trail(source, at).is_empty(), "{}: {at}", image.name);
            }
            let len = run.len.min(1 << 16);
            let bytes = read(source, offset, len);
            match run.origin {
                Origin::Zero => assert!(
                    bytes.iter().all(|byte| *byte == 0),
                    "{}: {offset}",
                    image.name
                ),
                Origin::Computed(what) => assert!(!what.is_empty()),
                Origin::HostFile {
                    file,
                    offset: in_file,
                } => {
                    let mut expected = vec![0; bytes.len()];
                    let host = fs::File::open(file.path()).unwrap();
                    host.read_exact_at(&mut expected, in_file).unwrap();
                    assert!(bytes == expected, "{}: {offset}", image.name);
                    from_files += run.len;
                }
            }
            offset += run.len;
        }
        assert!(trail(source, source.len()).is_empty());
        // `zeros`, `large` and `small`; a byte of 64 KiB of each stored grain stands apart.
        assert!(from_files > 5_200_000, "{}: {from_files}", image.name);
    }
}

#[test]
fn debugfs_agrees() {
    if !require_tool("debugfs") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path());
    let planned = plan_config(&config);
    let disk = image(&planned, "disk.img");
    let file = directory.path().join("disk.img");
    write_to_file(&*disk.source, &file);
    let file_system = format!("{}?offset={PARTITION_OFFSET}", file.display());
    let debugfs = |request: &str| run_text("debugfs", ["-R", request, &file_system]);
    let what = |offset: u64| -> Vec<String> {
        trail(&*disk.source, offset)
            .into_iter()
            .map(|step| step.what)
            .collect()
    };

    assert_eq!(what(0), ["boot sector: boot code"]);
    assert_eq!(what(446), ["boot sector: partition entry 1"]);
    let superblock = what(PARTITION_OFFSET + 1024);
    assert_eq!(superblock.first().unwrap(), "partition 1 \"data\"");
    assert!(
        superblock.last().unwrap().starts_with("superblock"),
        "{superblock:?}"
    );

    // "Inode 12 is part of block group 0\n\tlocated at block 8, offset 0x0b00"
    let found = debugfs("imap /sub/small");
    let words: Vec<&str> = found.split_whitespace().collect();
    let after = |word: &str| {
        let index = words.iter().position(|found| *found == word).unwrap();
        words[index + 1].trim_end_matches(',')
    };
    let block: u64 = after("block")
        .parse()
        .or_else(|_| {
            let index = words.iter().rposition(|found| *found == "block").unwrap();
            words[index + 1].trim_end_matches(',').parse()
        })
        .unwrap();
    let in_block = u64::from_str_radix(after("offset").trim_start_matches("0x"), 16).unwrap();
    let inode = what(PARTITION_OFFSET + block * 4096 + in_block);
    let number = after("Inode");
    let last = inode.last().unwrap();
    assert!(
        last.contains(&format!("inode {number}")),
        "{inode:?}: {found}"
    );

    for block in debugfs("blocks /large").split_whitespace().step_by(97) {
        let block: u64 = block.parse().unwrap();
        let steps = trail(&*disk.source, PARTITION_OFFSET + block * 4096 + 7);
        let in_file = steps.last().unwrap().offset;
        let logical = in_file / 4096;
        assert_eq!(
            debugfs(&format!("bmap /large {logical}")).trim(),
            block.to_string()
        );
        assert_eq!(in_file % 4096, 7);
        assert!(
            steps.iter().any(|step| step.what.contains("/large")),
            "{steps:?}"
        );
    }
}

#[test]
fn a_byte_of_a_file_is_found_in_every_image() {
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path());
    let planned = plan_config(&config);
    let large = fs::canonicalize(directory.path().join("source/large")).unwrap();
    let contents = fs::read(&large).unwrap();
    assert_eq!(contents.len(), LARGE_LEN);
    for name in ["disk.img", "disk.vmdk", "boot.ova"] {
        let image = image(&planned, name);
        let bytes = read(&*image.source, 0, image.source.len());
        let needle = &contents[1_000_000..1_000_064];
        let at = bytes
            .windows(needle.len())
            .position(|window| window == needle)
            .unwrap();
        for typed in [at.to_string(), format!("{at:#x}")] {
            let found = explain(&config, name, &typed);
            assert_eq!(found["image"], name);
            assert_eq!(found["offset"], at);
            assert_eq!(found["run"]["origin"], "source-file");
            assert_eq!(found["run"]["path"], large.to_str().unwrap());
            assert_eq!(found["run"]["path_offset"], 1_000_000);
        }
    }
    let lba = explain(&config, "disk.img", "lba:2048");
    assert_eq!(lba["offset"], PARTITION_OFFSET);
    assert_eq!(lba, explain(&config, "disk.img", "2048s"));
    assert_eq!(lba, explain(&config, "disk.img", "1MiB"));
    assert_eq!(lba["trail"][0]["what"], "partition 1 \"data\"");
    assert_eq!(lba["trail"][0]["offset"], 0);
}

#[test]
fn mistakes_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path());
    let config = config.to_str().unwrap();
    for (arguments, words) in [
        (
            ["explain", config, "disk.img", "1GiB"],
            "disk.img` has 34603008 bytes (33 MiB)",
        ),
        (
            ["explain", config, "disk.im", "0"],
            "did you mean `disk.img`?",
        ),
        (
            ["explain", config, "other", "0"],
            "disk.img, disk.vmdk, boot.ova",
        ),
        (
            ["export", config, "disk", "/nonexistent"],
            "disk.img, disk.vmdk, boot.ova",
        ),
    ] {
        let output = miragefs(arguments);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(words), "{message}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn check_prints_the_plan() {
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path());
    let planned = plan_config(&config);
    let output = miragefs(["check".as_ref(), config.as_os_str()]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "small: disk of",
        "PARTITION",
        "data",
        "2048",
        "33554432",
        "ext4",
        "disk.vmdk",
        "monolithic-sparse",
        "manifest sha256",
    ] {
        assert!(text.contains(word), "{word}:\n{text}");
    }
    let output = miragefs(["check".as_ref(), "--json".as_ref(), config.as_os_str()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let partition = &report["partitions"][0];
    assert_eq!(partition["number"], 1);
    assert_eq!(partition["start_lba"], 2048);
    assert_eq!(partition["size"], 32 << 20);
    assert_eq!(partition["type"], "0x83");
    assert_eq!(partition["boot_loader"], Value::Null);
    // large, small, zeros, inline.txt; the root, lost+found, sub.
    assert_eq!(partition["filesystem"]["files"], 4);
    assert_eq!(partition["filesystem"]["directories"], 3);
    for (index, image) in planned.generation.images.iter().enumerate() {
        let found = &report["images"][index];
        assert_eq!(found["name"], image.name.as_str());
        assert_eq!(found["size"], image.source.len());
        assert_eq!(found["allocated_bytes"], image.data.data_len());
    }
    assert_eq!(report["warnings"], Value::Array(Vec::new()));
}

#[test]
fn check_says_the_free_counts_of_the_file_system() {
    if !require_tool("dumpe2fs") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path());
    let planned = plan_config(&config);
    let file = directory.path().join("disk.img");
    write_to_file(&*image(&planned, "disk.img").source, &file);
    let path = format!("{}?offset={PARTITION_OFFSET}", file.display());
    let dump = run_text("dumpe2fs", ["-h", &path]);
    let field = |name: &str| {
        let line = dump.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let number = |name: &str| field(name).parse::<u64>().unwrap();
    let output = miragefs(["check".as_ref(), "--json".as_ref(), config.as_os_str()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = &report["partitions"][0]["filesystem"];
    assert_eq!(found["uuid"], field("Filesystem UUID"));
    assert_eq!(found["inodes"], number("Inode count"));
    assert_eq!(found["free_inodes"], number("Free inodes"));
    // For others than root.
    let free = number("Free blocks").saturating_sub(number("Reserved block count")) * 4096;
    assert_eq!(found["free_bytes"], free);
}

#[test]
fn warnings_and_their_hints_go_to_stderr() {
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path());
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("32MiB", "7MiB");
    fs::remove_file(directory.path().join("source/large")).unwrap();
    fs::write(&config, text).unwrap();
    let output = miragefs(["check".as_ref(), "--json".as_ref(), config.as_os_str()]);
    assert_eq!(output.status.code(), Some(0));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.starts_with("warning: partition `data`: has no journal"),
        "{message}"
    );
    assert!(message.contains("hint: `journal = false`"), "{message}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(report["partitions"][0]["filesystem"]["journal_bytes"], 0);
}

#[test]
fn init_writes_a_config_once() {
    let directory = tempfile::tempdir().unwrap();
    let lab = directory.path().join("new/lab");
    let init = || miragefs(["init".as_ref(), lab.as_os_str()]);
    assert!(init().status.success());
    let config = lab.join("miragefs.toml");
    assert_eq!(
        fs::read_to_string(&config).unwrap(),
        miragefs::config::STARTER
    );
    fs::write(&config, "mine").unwrap();
    let second = init();
    assert_eq!(second.status.code(), Some(2));
    assert!(
        String::from_utf8(second.stderr)
            .unwrap()
            .contains("exists already")
    );
    assert_eq!(fs::read_to_string(&config).unwrap(), "mine");
}
