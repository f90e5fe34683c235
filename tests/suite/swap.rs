//! Swap areas: what mkswap writes, found by the tools that look for one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use miragefs::config;
use miragefs::synth::cache::BlockCache;
use miragefs::synth::generation::{PlanOptions, Planned, plan};
use miragefs::synth::source::{Origin, Step};
use serde_json::Value;
use tempfile::TempDir;

use crate::planned::{image, miragefs, plan_config};
use crate::support::{check_byte_source, read, require_tool, run, run_text, write_to_file};

const SIZE: u64 = 3 << 20;
const START: u64 = 1 << 20;

/// Two partitions: a swap area that is no whole number of pages, and one that takes the rest of the disk.
const CONFIG: &str = r#"
name = "small"
[disk]
size = "16MiB"
[[partition]]
label = "swap-area"
size = "6143s"
filesystem = "swap"
[[partition]]
label = "more"
filesystem = "swap"
type = "0x83"
[images]
"disk.img" = { format = "raw" }
"#;

fn write_config(text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("small.toml");
    fs::write(&config, text).unwrap();
    (directory, config)
}

fn check_json(config: &Path) -> Value {
    let output = miragefs(["check".as_ref(), "--json".as_ref(), config.as_os_str()]);
    assert_eq!(output.status.code(), Some(0));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The first partition in a file of its own.
fn first_partition(planned: &Planned, directory: &Path) -> PathBuf {
    let path = directory.join("partition");
    let disk = image(planned, "disk.img");
    fs::write(&path, read(&*disk.source, START, SIZE - 512)).unwrap();
    path
}

#[test]
fn the_area_is_what_mkswap_writes() {
    if !require_tool("mkswap") {
        return;
    }
    let (directory, config) = write_config(CONFIG);
    let partition = first_partition(&plan_config(&config), directory.path());
    let report = check_json(&config);
    let uuid = report["partitions"][0]["filesystem"]["uuid"]
        .as_str()
        .unwrap();
    let made = directory.path().join("made");
    File::create(&made).unwrap().set_len(SIZE - 512).unwrap();
    run(
        "mkswap",
        ["-U", uuid, "-L", "swap-area", made.to_str().unwrap()],
    );
    let made = fs::read(&made).unwrap();
    assert!(made.iter().any(|byte| *byte != 0));
    assert!(fs::read(&partition).unwrap() == made);
}

#[test]
fn tools_find_the_area_and_check_says_the_same() {
    let tools = ["swaplabel", "blkid", "file", "sfdisk"];
    if !tools.into_iter().all(require_tool) {
        return;
    }
    let (directory, config) = write_config(CONFIG);
    let planned = plan_config(&config);
    let partition = first_partition(&planned, directory.path());
    let partition = partition.to_str().unwrap();
    let report = check_json(&config);
    let found = &report["partitions"][0]["filesystem"];
    let uuid = found["uuid"].as_str().unwrap();
    assert_eq!(found["type"], "swap");
    assert_eq!(found["free_bytes"], 766 * 4096);
    assert_eq!(found["inodes"], 0);

    let labels = run_text("swaplabel", [partition]);
    assert_eq!(labels, format!("LABEL: swap-area\nUUID:  {uuid}\n"));
    let probed = run_text("blkid", ["-p", "-o", "export", partition]);
    for line in [
        "LABEL=swap-area",
        &format!("UUID={uuid}"),
        "VERSION=1",
        "TYPE=swap",
    ] {
        assert!(probed.lines().any(|found| found == line), "{probed}");
    }
    let described = run_text("file", ["-b", "-s", partition]);
    assert!(
        described.contains("4k page size, little endian, version 1, size 766 pages, 0 bad pages"),
        "{described}"
    );

    let disk = directory.path().join("disk.img");
    write_to_file(&*image(&planned, "disk.img").source, &disk);
    let table = run("sfdisk", ["-J".as_ref(), disk.as_os_str()]);
    let table: Value = serde_json::from_slice(&table).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let types: Vec<_> = partitions.iter().map(|entry| &entry["type"]).collect();
    assert_eq!(types, ["82", "83"]);
    let second = partitions[1]["start"].as_u64().unwrap() * 512;
    let at = second.to_string();
    let probed = run_text(
        "blkid",
        ["-p", "-O", &at, "-o", "export", disk.to_str().unwrap()],
    );
    assert!(probed.contains("LABEL=more\n"), "{probed}");
}

#[test]
fn check_prints_the_area_in_its_tables() {
    let (_directory, config) = write_config(CONFIG);
    let output = miragefs(["check".as_ref(), config.as_os_str()]);
    let text = String::from_utf8(output.stdout).unwrap();
    let uuid = check_json(&config)["partitions"][0]["filesystem"]["uuid"].clone();
    let words = |label: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.contains(label)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    };
    let partition = words("swap-area").join(" ");
    assert!(
        partition.starts_with("1 swap-area 2048 3145216 ")
            && partition.ends_with(" 0x82 no swap none"),
        "{text}"
    );
    let area = words(uuid.as_str().unwrap());
    assert!(area.contains(&(766 * 4096).to_string()), "{text}");
}

#[test]
fn the_area_conforms_and_explains_itself() {
    let (_directory, config) = write_config(CONFIG);
    let planned = plan_config(&config);
    let disk = &image(&planned, "disk.img").source;
    check_byte_source(&**disk);
    assert_eq!(disk.run_at(START).origin, Origin::Computed("swap header"));
    assert_eq!(disk.run_at(START).len, 4096);
    assert!(disk.run_at(START + 4096).origin.is_zero());
    let last = |offset| -> Step {
        let mut trail = Vec::new();
        disk.explain_at(offset, &mut trail);
        trail.pop().unwrap()
    };
    assert_eq!(last(START + 7).what, "swap header");
    assert_eq!(last(START + 4096).what, "swap space");
}

/// Whether there is an area and what it is called shows in both fingerprints.
#[test]
fn images_with_another_area_have_another_identity() {
    let (_directory, config) = write_config(CONFIG);
    let identity = |text: &str| {
        fs::write(&config, text).unwrap();
        image(&plan_config(&config), "disk.img").identity
    };
    let first = identity(CONFIG);
    assert_eq!(identity(CONFIG), first);
    let relabelled = CONFIG.replace("swap-area", "swap-aria");
    let seeded = format!("seed = \"other\"\n{CONFIG}");
    let emptied = CONFIG.replacen(
        "filesystem = \"swap\"",
        "filesystem = \"none\"\ntype = \"swap\"",
        1,
    );
    for other in [relabelled, seeded, emptied] {
        assert_ne!(identity(&other), first, "{other}");
    }
}

#[test]
fn a_rest_too_small_for_an_area_is_an_error() {
    let (_directory, config) = write_config(
        "[disk]\nsize = '2MiB'\n[[partition]]\nstart = '4020s'\nfilesystem = 'swap'\n",
    );
    let loaded = config::load(&config).unwrap();
    let options = PlanOptions {
        cache: std::sync::Arc::new(BlockCache::new(1 << 20)),
        config_mtime: 0,
        skip_unreadable: false,
        mountpoint: None,
        cache_directory: None,
        progress: None,
    };
    let errors = plan(&loaded.spec, &options).err().unwrap();
    let [error] = errors.errors() else {
        panic!("{errors:?}");
    };
    assert_eq!(
        error.to_string(),
        format!(
            "{}:3:1: partition `partition-1`: swap area of 38912 bytes (38 KiB) is too small; it needs at least 40960 \
             bytes (40 KiB)",
            config.display()
        )
    );
}
