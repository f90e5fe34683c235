//! Disks of 2 TiB, or as long as a format allows, with little in them: what reads them without walking all of it agrees.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use miragefs::synth::generation::Image;
use miragefs::units::{to_u64, to_usize};
use sha2::{Digest, Sha256};

use super::contents::{safety, seven_zip_type};
use super::disks::{self, Example, all_images};
use super::formats::{FORMATS, Format, VMX, images_table};
use super::readers::{python, require_python_readers, text};
use crate::support::{long_tests, next_random, read, require_tool, run_text};

/// Slices of each image that are compared with a full export.
const SLICES: u64 = 200;
/// What tests/readers/read.py takes of each place.
const PLACE: u64 = 65_536;

/// One of each kind; all of them take as long as one test of minutes.
const SHORT: [&str; 11] = [
    "disk.img",
    "sparse.vmdk",
    "flat.vmdk",
    "footer.vmdk",
    "front.vmdk",
    "deflate-front.vmdk",
    "none.ova",
    "disk.vhdx",
    "disk.qcow2",
    "disk.vdi",
    "libvirt.box",
];

/// A vast disk in some containers, written with all its holes.
struct Exported {
    example: Example,
    len: u64,
    disks: Vec<(Format, PathBuf)>,
}

impl Exported {
    fn new(size: &str, len: u64, formats: Vec<Format>) -> Self {
        let example = disks::vast(size);
        let extra = formats
            .iter()
            .any(|format| format.name == VMX.disk)
            .then_some(&VMX);
        let planned = example.plan(&images_table(formats.iter().chain(extra)));
        assert_eq!(planned.disk_len, len);
        for image in all_images(&planned) {
            let path = example.export(&image);
            check_slices(&image, &path);
        }
        let disks = formats.into_iter().map(|format| {
            let disk = match format.is_tar() {
                true => example.unpack(format.name).join(format.disk),
                false => example.path(format.disk),
            };
            (format, disk)
        });
        Self {
            disks: disks.collect(),
            len,
            example,
        }
    }

    fn containers(&self) -> impl Iterator<Item = &(Format, PathBuf)> {
        self.disks
            .iter()
            .filter(|(format, _)| format.driver != "raw")
    }
}

/// Slices anywhere are those of the full export; half of them lie where data begins or ends.
fn check_slices(image: &Image, exported: &Path) {
    let file = File::open(exported).unwrap();
    let len = image.source.len();
    assert_eq!(file.metadata().unwrap().len(), len, "{}", image.name);
    let ranges = image.data.ranges();
    let mut state = len;
    let mut random = |below: u64| {
        state = next_random(state);
        (state >> 16) % below
    };
    for number in 0..SLICES {
        let anywhere = random(len);
        let (start, end) = ranges[to_usize(random(to_u64(ranges.len())))];
        let offset = match number % 4 {
            0 | 1 => anywhere,
            2 => start.saturating_sub(random(PLACE)),
            _ => end.saturating_sub(1 + random(PLACE)),
        };
        let slice = read(
            &*image.source,
            offset,
            (1 + random(PLACE)).min(len - offset),
        );
        let mut theirs = vec![0; slice.len()];
        file.read_exact_at(&mut theirs, offset).unwrap();
        assert!(slice == theirs, "{}: at {offset:#x}", image.name);
    }
}

/// Whether qemu is to compare all of such an image. It asks for each 64 KiB of a VMDK, which takes half a minute, so that
/// those in archives are left out; and it reads through every zero of a VHDX.
fn is_compared(format: &Format) -> bool {
    match format.driver {
        "vmdk" => format.is_flat() || long_tests() && format.disk == format.name,
        "vhdx" => false,
        _ => true,
    }
}

fn check_with_qemu(exported: &Exported) {
    if !require_tool("qemu-img") {
        return;
    }
    let raw = exported.example.path("disk.img");
    for (format, disk) in exported.containers() {
        let (driver, disk) = (format.driver, text(disk));
        let json = run_text("qemu-img", ["info", "--output=json", "-f", driver, disk]);
        let info: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(info["virtual-size"], exported.len, "{}", format.name);
        if !format.is_vhd() {
            let checked = run_text("qemu-img", ["check", "-f", driver, disk]);
            assert!(
                checked.starts_with("No errors"),
                "{}: {checked}",
                format.name
            );
        }
        if is_compared(format) {
            let arguments = ["compare", "-f", "raw", "-F", driver, text(&raw), disk];
            let compared = run_text("qemu-img", arguments);
            assert_eq!(compared, "Images are identical.\n", "{}", format.name);
        }
    }
}

fn check_headers(exported: &Exported) {
    for (format, disk) in exported.containers() {
        if format.driver == "vmdk" && require_tool("vmdkinfo") {
            let said = run_text("vmdkinfo", [disk]);
            let size = format!("({} bytes)", exported.len);
            assert!(said.contains(&size), "{said}");
        }
        let kind = seven_zip_type(format).filter(|_| !format.is_front());
        if let Some(kind) = kind.filter(|_| require_tool("7zz")) {
            let said = run_text("7zz", ["l", "-slt", kind, text(disk)]);
            let size = format!("Size = {}", exported.len);
            assert!(said.lines().any(|line| line == size), "{said}");
        }
    }
}

/// Places in the disk, with data and without, the last one included.
fn places(disk: &Image) -> Vec<u64> {
    let last = disk.source.len() - PLACE;
    let ranges = disk.data.ranges();
    let starts = ranges.iter().step_by(1 + ranges.len() / 12);
    let mut places: Vec<_> = starts
        .map(|(start, _)| *start)
        .filter(|start| *start < last)
        .collect();
    places.extend([last / 2, last / 3 + 7, last]);
    places
}

fn check_with_python(exported: &Exported) {
    if !require_python_readers() {
        return;
    }
    let planned = exported
        .example
        .plan("[images]\n'disk.img' = { format = 'raw' }\n");
    let disk = &planned.generation.images[0];
    let places = places(disk);
    let mut sha256 = Sha256::new();
    for place in &places {
        sha256.update(read(&*disk.source, *place, PLACE));
    }
    let digest: String = sha256
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let expected = [exported.len.to_string(), digest];
    let places: Vec<_> = places.iter().map(u64::to_string).collect();
    let places = places.join(",");
    let containers = exported.containers().map(|(_, disk)| disk);
    for (disk, said) in python(&format!("dissect:{places}"), containers) {
        assert_eq!(said, expected, "dissect: {disk:?}");
    }
    let vmdks = exported
        .containers()
        .filter(|(format, _)| format.driver == "vmdk");
    for (disk, said) in python(&format!("pyvmdk:{places}"), vmdks.map(|(_, disk)| disk)) {
        assert_eq!(said, expected, "pyvmdk: {disk:?}");
    }
    // oslo.utils reads a file without a header of its own to the end.
    let with_header = |format: &Format| format.driver != "raw" && format.name != "fixed.vhd";
    let headers = exported
        .disks
        .iter()
        .filter(|(format, _)| with_header(format));
    let mut said = python("oslo", headers.clone().map(|(_, disk)| disk));
    for (format, disk) in headers {
        let expected = safety(format, exported.len, "gpt");
        assert_eq!(
            said.remove(disk).unwrap(),
            expected,
            "oslo.utils: {}",
            format.name
        );
    }
}

fn check(size: &str, len: u64, formats: Vec<Format>) {
    let exported = Exported::new(size, len, formats);
    check_with_qemu(&exported);
    check_headers(&exported);
    check_with_python(&exported);
}

/// A partition table's limit.
#[test]
fn two_tib_are_the_same_in_all() {
    let formats = FORMATS
        .iter()
        .filter(|format| !format.is_vhd() && (long_tests() || SHORT.contains(&format.name)));
    check("2TiB", 2 << 40, formats.copied().collect());
}

/// A VHD's limit.
#[test]
fn the_longest_vhds_are_the_same() {
    let formats = FORMATS
        .iter()
        .filter(|format| format.is_vhd() || format.driver == "raw");
    check("2040GiB", 2040 << 30, formats.copied().collect());
}
