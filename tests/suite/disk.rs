//! Whole disks from a config: the partition table, what lies in the partitions, the boot loader, and determinism.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use miragefs::config::{self, Environment};
use miragefs::synth::boot::{BootLoader, InstallTarget};
use miragefs::synth::cache::BlockCache;
use miragefs::synth::generation::{Image, PlanOptions, Planned, plan};
use miragefs::synth::source::{ByteSource, Origin};
use miragefs::units::{Lba, to_usize};
use tempfile::TempDir;

use crate::ext4::build::{
    TIMES, difference, expected_items, fsck_findings, lost_and_found, set_mtime, varied_tree,
};
use crate::ext4::decoder::{Checked, Decoded, decode};
use crate::ext4::properties::digest;
use crate::support::{
    check_byte_source, require_tool, run, run_text, skip, skip_unless_asked, write_to_file,
};

const EXTLINUX: &str = "/usr/bin/extlinux";

/// A directory with a config and the sources `boot` and `home`.
struct Lab {
    directory: TempDir,
}

/// The layout that `parted --align=none` makes of 256 MB: nothing on a MiB, nothing on a block.
const UNALIGNED: &str = r#"
name = "lab"
[disk]
size = "1GiB"
[[partition]]
label = "boot"
start = "1s"
size = "500000s"
active = true
bootloader = "extlinux"
copy = [{ from = "boot", to = "/" }]
[[partition.files]]
path = "/syslinux.cfg"
text = "DEFAULT x\nLABEL x\n LINUX vmlinuz\n"
[[partition]]
label = "home"
start = "500001s"
size = "1597151s"
copy = [{ from = "home", to = "/user" }]
[images]
"disk.img" = { format = "raw" }
"disk.vmdk" = { format = "vmdk" }
"boot.ova" = { format = "ova" }
"#;

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (boot, home) = (directory.path().join("boot"), directory.path().join("home"));
        fs::create_dir(&boot).unwrap();
        fs::write(boot.join("vmlinuz"), vec![b'k'; 5_000_000]).unwrap();
        // Holes in what the boot loader reads would end its reading.
        File::create(boot.join("initrd.img"))
            .unwrap()
            .set_len(3_000_001)
            .unwrap();
        varied_tree(&home);
        for path in [&boot, &home] {
            for name in ["", "vmlinuz", "initrd.img"] {
                if path.join(name).exists() {
                    set_mtime(&path.join(name), 1_500_000_000, 500);
                }
            }
        }
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn plan(&self, text: &str) -> Planned {
        plan_in(self.path(), text)
    }

    /// Writes an image to a file.
    fn export(&self, image: &Image) -> PathBuf {
        let path = self.path().join("exported");
        write_to_file(&*image.source, &path);
        path
    }
}

/// Plans a config that lies in `directory`, as if read from there.
fn plan_in(directory: &Path, text: &str) -> Planned {
    let path = directory.join("lab.toml");
    let loaded = config::load_text(text.to_owned(), &path, &Environment::default()).unwrap();
    plan(&loaded.spec, &options()).unwrap()
}

fn options() -> PlanOptions {
    PlanOptions {
        cache: Arc::new(BlockCache::new(4 << 20)),
        config_mtime: TIMES.default,
        skip_unreadable: false,
        mountpoint: None,
        cache_directory: None,
        progress: None,
    }
}

fn image<'a>(planned: &'a Planned, name: &str) -> &'a Arc<Image> {
    let mut images = planned.generation.images.iter();
    images.find(|image| image.name == name).unwrap()
}

/// Our own reading of the file system from this sector on.
fn decode_at(source: &dyn ByteSource, start: u64, sectors: u64) -> Checked<Decoded> {
    let read = |offset: u64, buf: &mut [u8]| {
        source
            .read_exact_at(start * 512 + offset, buf)
            .map_err(|error| error.to_string())
    };
    decode(&read, sectors * 512)
}

pub(crate) fn has_extlinux() -> bool {
    let there = Path::new(EXTLINUX).exists() && Path::new("/usr/lib/EXTLINUX/mbr.bin").exists();
    if !there {
        skip("extlinux is not installed");
    }
    there
}

/// Partitions as a table of `start, size, type, bootable`, by `sfdisk -J`.
pub(crate) fn partition_table(image: &Path) -> Vec<(u64, u64, String, bool)> {
    let json = run("sfdisk", ["-J".as_ref(), image.as_os_str()]);
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let table = &json["partitiontable"];
    assert_eq!(table["label"], "dos");
    assert_eq!(table["unit"], "sectors");
    let partitions = table["partitions"].as_array().unwrap().iter();
    partitions
        .map(|partition| {
            (
                partition["start"].as_u64().unwrap(),
                partition["size"].as_u64().unwrap(),
                partition["type"].as_str().unwrap().to_owned(),
                partition["bootable"].as_bool().unwrap_or(false),
            )
        })
        .collect()
}

#[test]
fn sfdisk_reads_the_table_that_the_config_asks_for() {
    if !require_tool("sfdisk") || !has_extlinux() {
        return;
    }
    let lab = Lab::new();
    let planned = lab.plan(UNALIGNED);
    let disk = image(&planned, "disk.img");
    assert_eq!(disk.source.len(), 1 << 30);
    let path = lab.export(disk);
    assert_eq!(
        partition_table(&path),
        [
            (1, 500_000, "83".to_owned(), true),
            (500_001, 1_597_151, "83".to_owned(), false)
        ]
    );
    let dump = run_text("sfdisk", ["-d".as_ref(), path.as_os_str()]);
    let id = format!("label-id: {:#010x}", planned.disk_signature.unwrap());
    assert!(dump.contains(&id), "{dump}");
    let code = fs::read("/usr/lib/EXTLINUX/mbr.bin").unwrap();
    let mut sector = [0; 512];
    disk.source.read_exact_at(0, &mut sector).unwrap();
    assert_eq!(sector[..440], code[..440]);
    assert_eq!(sector[510..], [0x55, 0xaa]);
}

#[test]
fn unaligned_partitions_are_clean_at_their_offsets() {
    if !require_tool("e2fsck") || !has_extlinux() {
        return;
    }
    let lab = Lab::new();
    let planned = lab.plan(UNALIGNED);
    let disk = image(&planned, "disk.img");
    let path = lab.export(disk);
    for start in [1, 500_001] {
        let at = format!("{}?offset={}", path.display(), start * 512);
        assert_eq!(fsck_findings(&at), None, "sector {start}");
    }
    let decoded = decode_at(&*disk.source, 500_001, 1_597_151).unwrap();
    // The source became /user; the root and lost+found are implied.
    let mut expected: std::collections::BTreeMap<_, _> = expected_items(&lab.path().join("home"))
        .into_iter()
        .filter(|(path, _)| path != b"lost+found")
        .map(|(path, item)| {
            let below = [b"user/".as_slice(), &path].concat();
            let below = below
                .strip_suffix(b"/")
                .map(<[u8]>::to_vec)
                .unwrap_or(below);
            (below, item)
        })
        .collect();
    let user = expected.get_mut(b"user".as_slice()).unwrap();
    user.links -= 1;
    let mut root = lost_and_found();
    (root.mode, root.links) = (0o040_755, 4);
    expected.insert(Vec::new(), root);
    expected.insert(b"lost+found".to_vec(), lost_and_found());
    assert_eq!(difference(&decoded.items, &expected), None);
}

#[test]
fn the_unaligned_disk_conforms() {
    if !has_extlinux() {
        return;
    }
    let lab = Lab::new();
    let planned = lab.plan(UNALIGNED);
    let disk = &image(&planned, "disk.img").source;
    // Behind the last partition there is nothing; the gap before the first one is one sector.
    let end = (500_001 + 1_597_151) * 512;
    assert_eq!(end, disk.len());
    let run = disk.run_at(0);
    assert!(
        matches!(run.origin, Origin::Computed(_)) && run.len == 440,
        "{run:?}"
    );
    check_byte_source(&**disk);
}

#[test]
fn a_partition_is_the_same_as_a_whole_disk() {
    // partition(disk(x)) = x: without a table the same partition is the whole image.
    let lab = Lab::new();
    let sectors = 1_597_056;
    let partition = "label = 'home'\ncopy = [{ from = 'home', to = '/user' }]\n";
    let images = "[images]\n'disk.img' = { format = 'raw' }\n";
    let inside = lab.plan(&format!(
        "name = 'lab'\n[disk]\nsize = '1GiB'\n[[partition]]\nstart = '3s'\nsize = '{sectors}s'\n{partition}{images}"
    ));
    let alone = lab.plan(&format!(
        "name = 'lab'\n[disk]\ntable = 'none'\nsize = '{sectors}s'\n[[partition]]\n{partition}{images}"
    ));
    assert_eq!(alone.disk_signature, None);
    let (disk, x) = (
        &image(&inside, "disk.img").source,
        &image(&alone, "disk.img").source,
    );
    assert_eq!(x.len(), sectors * 512);
    let mut offset = 0;
    while offset < x.len() {
        let step = (x.len() - offset).min(1 << 20);
        let (mut a, mut b) = (vec![1; to_usize(step)], vec![2; to_usize(step)]);
        disk.read_exact_at(3 * 512 + offset, &mut a).unwrap();
        x.read_exact_at(offset, &mut b).unwrap();
        assert!(a == b, "at {offset:#x} of the partition");
        offset += step;
    }
    let decoded = decode_at(&**x, 0, sectors).unwrap();
    assert!(decoded.items.contains_key(b"user/dir/odd".as_slice()));
}

#[test]
fn sizes_are_found_and_rests_are_filled() {
    if !require_tool("e2fsck") || !require_tool("sfdisk") {
        return;
    }
    let lab = Lab::new();
    let copy = "copy = [{ from = 'home', to = '/' }]";
    let planned = lab.plan(&format!(
        "name = 'lab'\n[disk]\nsize = '200MiB'\n\
         [[partition]]\nlabel = 'auto'\nsize = 'auto'\nfree = '3MiB'\n{copy}\n\
         [[partition]]\nlabel = 'empty'\nsize = '1MiB'\nfilesystem = 'none'\ntype = '0x82'\n\
         [[partition]]\nlabel = 'rest'\n{copy}\n[images]\n'disk.img' = {{ format = 'raw' }}\n"
    ));
    let disk = image(&planned, "disk.img");
    let path = lab.export(disk);
    let table = partition_table(&path);
    assert_eq!(table.len(), 3);
    assert_eq!(table[0].0, 2048);
    for (start, ..) in &table {
        assert_eq!(start % 2048, 0);
    }
    assert_eq!((table[1].1, table[1].2.as_str()), (2048, "82"));
    let (start, sectors, ..) = table[2];
    assert_eq!(start + sectors, 200 * 2048);
    let expected = expected_items(&lab.path().join("home"));
    for (start, sectors, free) in [(table[0].0, table[0].1, 3 << 20), (start, sectors, 0)] {
        let decoded = decode_at(&*disk.source, start, sectors).unwrap();
        assert_eq!(difference(&decoded.items, &expected), None);
        let at = format!("{}?offset={}", path.display(), start * 512);
        assert_eq!(fsck_findings(&at), None);
        let report = planned
            .partitions
            .iter()
            .find(|report| report.start.0 == start);
        let filesystem = report.unwrap().filesystem.clone().unwrap();
        assert!(filesystem.free_bytes >= free, "{filesystem:?}");
    }
    // All as small as it gets.
    let small = lab.plan(&format!(
        "name = 'lab'\n[disk]\nsize = 'auto'\n[[partition]]\nlabel = 'rest'\n{copy}\n\
         [images]\n'disk.img' = {{ format = 'raw' }}\n"
    ));
    let disk = image(&small, "disk.img");
    assert_eq!(disk.source.len() % (1 << 20), 0);
    assert!(disk.source.len() <= 8 << 20, "{}", disk.source.len());
    let report = &small.partitions[0];
    let decoded = decode_at(&*disk.source, report.start.0, report.sectors).unwrap();
    assert_eq!(difference(&decoded.items, &expected), None);
}

/// What debugfs reads from the first partition of an image.
fn debugfs(image: &Path, command: &str) -> String {
    let at = format!("{}?offset=512", image.display());
    run_text("debugfs", ["-R", command, &at])
}

#[test]
fn the_boot_loader_is_what_extlinux_would_install() {
    if !require_tool("debugfs") || !has_extlinux() {
        return;
    }
    let lab = Lab::new();
    let planned = lab.plan(UNALIGNED);
    let disk = image(&planned, "disk.img");
    let path = lab.export(disk);
    let loader = BootLoader::load(Path::new(EXTLINUX)).unwrap();
    let blocks = loader.ldlinux_sys_len().div_ceil(4096);
    let sectors: Vec<u64> = (0..blocks)
        .flat_map(|block| {
            let command = format!("bmap /ldlinux.sys {block}");
            let found: u64 = debugfs(&path, &command).trim().parse().unwrap();
            assert_ne!(found, 0, "no holes");
            found * 8..found * 8 + 8
        })
        .collect();
    let expected = loader
        .install(&InstallTarget {
            sectors: &sectors,
            start: Lba(1),
            total_sectors: 500_000,
            directory: b"/",
        })
        .unwrap();
    let mut sector = [0; 512];
    let file = File::open(&path).unwrap();
    file.read_exact_at(&mut sector, 512).unwrap();
    assert_eq!(sector, expected.boot_sector);
    for (name, contents) in [
        ("ldlinux.sys", &expected.ldlinux_sys),
        ("ldlinux.c32", &expected.ldlinux_c32),
    ] {
        let dump = lab.path().join("dump");
        debugfs(&path, &format!("dump /{name} {}", dump.display()));
        assert!(fs::read(&dump).unwrap() == **contents, "{name}");
    }
    let stat = debugfs(&path, "stat /ldlinux.sys");
    assert!(stat.contains("Mode:  0444   Flags: 0x80010"), "{stat}");
    // Everything is mapped: our reader takes no file with a hole.
    let decoded = decode_at(&*disk.source, 1, 500_000).unwrap();
    let initrd = decoded.inodes[b"initrd.img".as_slice()];
    assert_eq!(
        decoded.mappings[&initrd].blocks(),
        3_000_001_u64.div_ceil(4096)
    );
    verify_with_oracle(&path);
}

/// A script of our own that rebuilds what extlinux installs, where there is one.
fn verify_with_oracle(image: &Path) {
    let Some(oracle) = skip_unless_asked("MIRAGEFS_EXTLINUX_ORACLE") else {
        return;
    };
    let arguments = [&oracle, "verify", image.to_str().unwrap(), "1", "500000"];
    let text = run_text("python3", arguments);
    assert_eq!(text.matches("SAME").count(), 3, "{text}");
}

/// Set in the process that plans the same lab elsewhere: its directory.
const ELSEWHERE: &str = "MIRAGEFS_TEST_LAB";

fn digests(directory: &Path) -> Vec<String> {
    let planned = plan_in(directory, UNALIGNED);
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let images = planned.generation.images.iter();
    images
        .map(|image| {
            let digest: String = hex(digest(&*image.source));
            format!("digest {} {} {digest}", image.name, image.source.len())
        })
        .collect()
}

#[test]
fn equal_sources_give_equal_images_anywhere() {
    if let Some(directory) = std::env::var_os(ELSEWHERE) {
        for line in digests(Path::new(&directory)) {
            println!("{line}");
        }
        return;
    }
    if !has_extlinux() || !require_tool("cp") {
        return;
    }
    let lab = Lab::new();
    let first = digests(lab.path());
    assert_eq!(first.len(), 3);
    assert_eq!(digests(lab.path()), first, "again in this process");
    // A copy has other inodes, change times and, made backwards, another order of names.
    let copy = tempfile::Builder::new()
        .prefix("another-place-")
        .tempdir()
        .unwrap();
    for name in ["home", "boot"] {
        let (from, to) = (lab.path().join(name), copy.path().join(name));
        run_text("cp", ["-a".as_ref(), from.as_os_str(), to.as_os_str()]);
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "disk::equal_sources_give_equal_images_anywhere",
            "--nocapture",
        ])
        .env(ELSEWHERE, copy.path())
        .env("TZ", "Asia/Tokyo")
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let second: Vec<String> = text
        .lines()
        .filter_map(|line| Some(line[line.find("digest ")?..].to_owned()))
        .collect();
    assert_eq!(second, first, "{text}");
    // The comparison can fail: one byte more in one file.
    fs::write(copy.path().join("home/hello.txt"), "hello!\n").unwrap();
    assert_ne!(digests(copy.path()), first);
}
