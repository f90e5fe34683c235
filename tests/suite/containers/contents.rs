//! The same disk in every container: slices of it, and what readers find.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use miragefs::synth::generation::Image;
use miragefs::units::{to_u64, to_usize};
use sha2::{Digest, Sha256};

use super::disks::{self, Example};
use super::formats::{FORMATS, Format};
use super::readers::{Mounted, python, refusal, require_python_readers, text};
use crate::support::{next_random, read, require_tool, run, run_text};

/// Slices of each image that are compared with a full export.
const SLICES: u64 = 200;

/// A disk in every container, as files.
struct Exported {
    example: Example,
    raw: Vec<u8>,
    /// Where the disk is in each.
    disks: Vec<(Format, PathBuf)>,
}

impl Exported {
    fn new(example: Example) -> Self {
        for image in example.every_image() {
            let path = example.export(&image);
            check_slices(&image, &path);
        }
        let unpacked = |format: &Format| match format.is_tar() {
            true => example.unpack(format.name).join(format.disk),
            false => example.path(format.disk),
        };
        let disks = FORMATS.iter().map(|format| (*format, unpacked(format)));
        Self {
            disks: disks.collect(),
            raw: fs::read(example.path("disk.img")).unwrap(),
            example,
        }
    }

    fn len(&self) -> u64 {
        to_u64(self.raw.len())
    }

    fn raw(&self) -> PathBuf {
        self.example.path("disk.img")
    }

    /// The containers, which the raw image is none of.
    fn containers(&self) -> impl Iterator<Item = &(Format, PathBuf)> {
        self.disks
            .iter()
            .filter(|(format, _)| format.driver != "raw")
    }

    /// Length and SHA-256 of the disk, as tests/readers/read.py prints them.
    fn digest(&self) -> Vec<String> {
        let hex = Sha256::digest(&self.raw)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        vec![self.len().to_string(), hex]
    }
}

/// Any slice is that of the full export.
fn check_slices(image: &Image, exported: &Path) {
    let file = File::open(exported).unwrap();
    let len = image.source.len();
    assert_eq!(file.metadata().unwrap().len(), len, "{}", image.name);
    let mut state = len;
    let mut random = |below: u64| {
        state = next_random(state);
        (state >> 16) % below
    };
    for _ in 0..SLICES {
        let offset = random(len);
        // As often a few bytes as some grains.
        let reach = 1 << (1 + random(17));
        let slice = read(&*image.source, offset, random(reach).min(len - offset));
        let mut theirs = vec![0; slice.len()];
        file.read_exact_at(&mut theirs, offset).unwrap();
        let (name, end) = (&image.name, offset + to_u64(slice.len()));
        assert!(slice == theirs, "{name}: {offset:#x} to {end:#x}");
    }
}

fn check_with_qemu(exported: &Exported) {
    if !require_tool("qemu-img") {
        return;
    }
    let raw = exported.raw();
    for (format, disk) in exported.containers() {
        let arguments = ["compare", "-f", "raw", "-F", format.driver];
        let files = [text(&raw), text(disk)];
        let compared = run_text("qemu-img", arguments.into_iter().chain(files));
        assert_eq!(compared, "Images are identical.\n", "{}", format.name);
        // qemu cannot check a VHD.
        if !format.is_vhd() {
            let checked = run_text("qemu-img", ["check", "-f", format.driver, text(disk)]);
            assert!(
                checked.starts_with("No errors"),
                "{}: {checked}",
                format.name
            );
        }
    }
}

/// 7-Zip's name of a format that it reads.
pub(super) fn seven_zip_type(format: &Format) -> Option<&'static str> {
    match format.driver {
        "vmdk" if format.is_flat() => None,
        "vmdk" => Some("-tvmdk"),
        "vpc" => Some("-tvhd"),
        "vhdx" => Some("-tvhdx"),
        "qcow2" => Some("-tqcow"),
        "vdi" => Some("-tvdi"),
        _ => None,
    }
}

fn check_with_seven_zip(exported: &Exported) {
    if !require_tool("7zz") {
        return;
    }
    for (format, disk) in exported.containers() {
        let Some(kind) = seven_zip_type(format) else {
            continue;
        };
        if format.is_front() {
            let said = refusal("7zz", &["t", kind, text(disk)]);
            assert!(said.contains("Cannot open the file as"), "{said}");
            continue;
        }
        let tested = run_text("7zz", ["t", kind, text(disk)]);
        assert!(tested.contains("Everything is Ok"), "{tested}");
        let extracted = run("7zz", ["x", "-so", kind, text(disk)]);
        assert!(extracted == exported.raw, "7zz: {}", format.name);
    }
    for format in FORMATS.iter().filter(|format| format.is_tar()) {
        let archive = exported.example.path(format.name);
        let tested = run_text("7zz", ["t", "-ttar", text(&archive)]);
        assert!(tested.contains("Everything is Ok"), "{tested}");
    }
}

fn check_with_libyal(exported: &Exported) {
    for (format, disk) in exported.containers() {
        if format.driver == "vmdk" && require_tool("vmdkinfo") {
            let said = run_text("vmdkinfo", [disk]);
            let size = format!("({} bytes)", exported.len());
            assert!(said.contains(&size), "{said}");
        }
        if format.is_flat() {
            // libvmdk reads flat disks; its mounter does not.
            if require_tool("vmdkmount") {
                let mount_point = exported.example.path("refused");
                fs::create_dir(&mount_point).unwrap();
                let said = refusal("vmdkmount", &[text(disk), text(&mount_point)]);
                assert!(said.contains("Unsupported disk type"), "{said}");
            }
        } else if let Some(mounted) = Mounted::of(disk, format.driver) {
            let bytes = fs::read(mounted.disk()).unwrap();
            assert!(bytes == exported.raw, "libyal: {}", format.name);
        }
    }
}

/// What oslo.utils finds in the disk of an image, with the length if it knows one.
pub(super) fn safety(format: &Format, len: u64, bare: &str) -> Vec<String> {
    let len = len.to_string();
    let said: &[&str] = match format.driver {
        // An extent in another file might be any file of the host.
        "vmdk" if format.is_flat() => &["vmdk", "0", "descriptor"],
        // It looks for the copy of the footer in front, which a fixed VHD has not.
        "vpc" if format.name == "fixed.vhd" => &[bare, "", "safe"],
        "vpc" => &["vhd", &len, "safe"],
        "raw" => &[bare, "", "safe"],
        driver => &[driver, &len, "safe"],
    };
    said.iter().map(|field| (*field).to_owned()).collect()
}

fn check_with_python(exported: &Exported) {
    if !require_python_readers() {
        return;
    }
    let containers: Vec<_> = exported.containers().map(|(_, disk)| disk).collect();
    for (disk, said) in python("dissect", containers.iter().copied()) {
        assert_eq!(said, exported.digest(), "dissect: {disk:?}");
    }
    let vmdks = exported
        .containers()
        .filter(|(format, _)| format.driver == "vmdk");
    for (disk, said) in python("pyvmdk", vmdks.map(|(_, disk)| disk)) {
        assert_eq!(said, exported.digest(), "pyvmdk: {disk:?}");
    }
    // oslo.utils calls a partition table by the name of the newer kind.
    let bare = match exported.raw[510..512] {
        [0x55, 0xaa] => "gpt",
        _ => "raw",
    };
    let mut said = python("oslo", exported.disks.iter().map(|(_, disk)| disk));
    for (format, disk) in &exported.disks {
        let mut said = said.remove(disk).unwrap();
        let expected = safety(format, exported.len(), bare);
        if expected[1].is_empty() {
            said[1].clear();
        }
        assert_eq!(said, expected, "oslo.utils: {}", format.name);
    }
}

/// Headers by the letter of ustar: every member is a plain file, and no header extends another.
fn check_headers(archive: &Path) {
    let bytes = fs::read(archive).unwrap();
    let mut offset = 0;
    let mut members = 0;
    while bytes[offset] != 0 {
        let header = &bytes[offset..offset + 512];
        assert_eq!(header[156], b'0', "type of a member of {archive:?}");
        assert_eq!(header[257..265], *b"ustar\x0000");
        let size = std::str::from_utf8(&header[124..135]).unwrap();
        let size = u64::from_str_radix(size, 8).unwrap();
        offset += 512 + to_usize(size.next_multiple_of(512));
        members += 1;
    }
    assert!(members >= 2, "{archive:?}");
    assert!(bytes[offset..].iter().all(|byte| *byte == 0));
}

/// Everything that can be asked of a disk of some MiB.
fn check(example: Example) -> Exported {
    let exported = Exported::new(example);
    for format in FORMATS.iter().filter(|format| format.is_tar()) {
        check_headers(&exported.example.path(format.name));
    }
    check_with_qemu(&exported);
    check_with_seven_zip(&exported);
    check_with_libyal(&exported);
    check_with_python(&exported);
    exported
}

#[test]
fn an_empty_disk_is_the_same_in_all() {
    check(disks::empty());
}

#[test]
fn a_machine_is_the_same_in_all() {
    let exported = check(disks::lab());
    let boot = fs::read(exported.example.path("boot.img")).unwrap();
    assert!(exported.raw[1 << 20..].starts_with(&boot));
    check_with_cot(&exported);
}

#[test]
fn a_fragmented_disk_is_the_same_in_all() {
    check(disks::fragmented());
}

#[test]
fn a_full_disk_is_the_same_in_all() {
    let exported = check(disks::full());
    let boot = fs::read(exported.example.path("boot.img")).unwrap();
    assert!(exported.raw == boot, "one partition is the whole disk");
}

fn check_with_cot(exported: &Exported) {
    if !require_python_readers() {
        return;
    }
    let packages: Vec<_> = FORMATS
        .iter()
        .filter(|format| format.is_package())
        .collect();
    let files: Vec<_> = packages
        .iter()
        .map(|format| exported.example.path(format.name))
        .collect();
    let mut said = python("cot", &files);
    for (format, file) in packages.iter().zip(&files) {
        let said = said.remove(file).unwrap();
        let (machine, complaints) = said.split_first().unwrap();
        let capacity = format!("{} MiB harddisk @ SCSI 0:0", exported.len() >> 20);
        assert!(
            machine.contains(format.disk) && machine.contains(&capacity),
            "{machine}"
        );
        // COT takes every digest of an OVF 1 for SHA-1.
        let count = if format.has_only_sha1() { 0 } else { 2 };
        assert_eq!(complaints.len(), count, "{}: {complaints:?}", format.name);
        for complaint in complaints {
            assert!(
                complaint.starts_with("The sha1 checksum for file"),
                "{complaint}"
            );
        }
    }
}

/// The check of digests strikes: a byte in the middle is another one.
#[test]
fn cot_finds_a_changed_byte() {
    if !require_python_readers() {
        return;
    }
    let example = disks::lab();
    let planned = example.plan("[images]\n'x.ova' = { format = 'ova', manifest = 'sha1' }\n");
    let path = example.export(&planned.generation.images[0]);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"another", 2 << 20).unwrap();
    let said = python("cot", [&path]).remove(&path).unwrap();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].contains("lab-disk1.vmdk"), "{said:?}");
}
