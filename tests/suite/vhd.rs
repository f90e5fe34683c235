//! VHD images against the tools that read and write them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use miragefs::synth::data_map::DataMap;
use miragefs::synth::fingerprint;
use miragefs::synth::segments::SegmentMap;
use miragefs::synth::source::{ByteSource, Origin, ReadError, Run, Step};
use miragefs::synth::vhd::{DynamicVhd, VhdError, VhdParams, fixed_vhd};
use miragefs::units::to_usize;

use crate::images::{export, two_partitions};
use crate::planned::image;
use crate::support::{
    MemoryDisk, check_byte_source, read, require_tool, run, run_text, write_to_file,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const BLOCK: u64 = 2 * MIB;
/// 2040 GiB.
const LONGEST: u64 = 0xff00_0000 * 512;

/// 2023-11-14, as seconds since 1970.
const TIME: i64 = 1_700_000_000;
const PARAMS: VhdParams = VhdParams {
    unique_id: *b"0123456789abcdef",
    time: TIME,
};

/// Disks that have little in common.
pub(crate) fn disks() -> Vec<(&'static str, MemoryDisk)> {
    let mut fragmented = MemoryDisk::new(40 * MIB);
    for block in 0..10 {
        // From the middle of one block into the next, and a sector in the one behind.
        fragmented = fragmented
            .with_noise(block * 2 * BLOCK + BLOCK - 700 - block, 1400)
            .with_noise(block * 2 * BLOCK + BLOCK + 512 * (block + 2), 512);
    }
    vec![
        (
            "mixed",
            MemoryDisk::new(100 * MIB)
                .with_noise(0, 512)
                .with_noise(9 * MIB, 5 * MIB)
                .with_noise(50 * MIB + 77, 60_000)
                .with_noise(100 * MIB - 512, 512),
        ),
        ("empty", MemoryDisk::new(11 * MIB)),
        ("full", MemoryDisk::new(8 * MIB).with_noise(0, 8 * MIB)),
        ("fragmented", fragmented),
        (
            "64 KiB",
            MemoryDisk::new(64 * KIB).with_noise(100, 64 * KIB - 100),
        ),
        (
            "last block partial",
            MemoryDisk::new(7 * MIB + 64 * KIB)
                .with_noise(MIB, 9)
                .with_noise(7 * MIB - 5, 64 * KIB + 5),
        ),
    ]
}

pub(crate) fn dynamic(disk: &MemoryDisk) -> DynamicVhd {
    DynamicVhd::new(Arc::new(disk.clone()), &DataMap::of(disk), PARAMS).unwrap()
}

pub(crate) fn fixed(disk: &MemoryDisk) -> SegmentMap {
    fixed_vhd(Arc::new(disk.clone()), PARAMS).unwrap()
}

#[test]
fn dynamic_conforms() {
    for (_, disk) in disks() {
        check_byte_source(&dynamic(&disk));
    }
}

#[test]
fn fixed_conforms() {
    for (_, disk) in disks() {
        check_byte_source(&fixed(&disk));
    }
}

/// What differs in a footer: time stamp, creator and its version, geometry (qemu's is the largest whenever it is told
/// to keep the disk's length), checksum, unique id.
fn mask_footer(footer: &mut [u8]) {
    assert_eq!(&footer[..8], b"conectix");
    for range in [24..36, 56..60, 64..84] {
        footer[range].fill(0);
    }
}

#[test]
fn both_are_what_qemu_img_writes() {
    if !require_tool("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [raw, theirs] = ["disk.img", "theirs.vhd"].map(|name| directory.path().join(name));
    for (name, disk) in disks() {
        write_to_file(&disk, &raw);
        let both: [(&str, &dyn ByteSource); 2] =
            [("dynamic", &dynamic(&disk)), ("fixed", &fixed(&disk))];
        for (subformat, ours) in both {
            let options = format!("subformat={subformat},force_size");
            let (raw, theirs) = (raw.to_str().unwrap(), theirs.to_str().unwrap());
            let arguments = ["convert", "-f", "raw", "-O", "vpc", "-o"];
            run(
                "qemu-img",
                arguments.into_iter().chain([&*options, raw, theirs]),
            );
            let mut theirs = std::fs::read(theirs).unwrap();
            let mut ours = read(ours, 0, ours.len());
            for image in [&mut theirs, &mut ours] {
                let end = image.len();
                mask_footer(&mut image[end - 512..]);
                if subformat == "dynamic" {
                    mask_footer(&mut image[..512]);
                }
            }
            let differing = ours.iter().zip(&theirs).position(|(a, b)| a != b);
            assert_eq!(
                (name, subformat, ours.len(), differing),
                (name, subformat, theirs.len(), None)
            );
        }
    }
}

/// A VHD or VHDX as libvhdi reads it, mounted until it goes out of scope.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts `image` in the directory beside it.
    pub(crate) fn of(image: &Path) -> Self {
        let mount_point = image.with_file_name("mounted");
        std::fs::create_dir_all(&mount_point).unwrap();
        run("vhdimount", [image, &mount_point]);
        Self(mount_point)
    }

    /// The raw disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.0.join("vhdi1")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("fusermount3").arg("-u").arg(&self.0).status();
        assert!(unmounted.unwrap().success(), "unmounting {:?}", self.0);
    }
}

/// What every reader of Microsoft's two formats must say: `format` is qemu's name, `info` are lines of vhdiinfo.
pub(crate) fn check_with_tools(
    disk: &MemoryDisk,
    image: &dyn ByteSource,
    format: &str,
    path: &Path,
    info: &[&str],
) {
    write_to_file(image, path);
    let directory = path.parent().unwrap();
    let image = path.to_str().unwrap();
    if require_tool("qemu-img") {
        let raw = directory.join("disk.img");
        write_to_file(disk, &raw);
        let raw = raw.to_str().unwrap();
        let compared = run_text(
            "qemu-img",
            ["compare", "-f", "raw", "-F", format, raw, image],
        );
        assert_eq!(compared, "Images are identical.\n");
        let json = run_text("qemu-img", ["info", "--output=json", "-f", format, image]);
        let size = format!("\"virtual-size\": {},", disk.len());
        assert!(json.contains(&size), "{json}");
    }
    let whole = read(disk, 0, disk.len());
    if require_tool("7zz") {
        let tested = run_text("7zz", ["t", image]);
        assert!(tested.contains("Everything is Ok"), "{tested}");
        assert!(
            !tested.contains("WARNING") && !tested.contains("ERROR"),
            "{tested}"
        );
        let extracted = run("7zz", ["x", "-so", image]);
        assert!(extracted == whole, "7zz extracts other bytes");
    }
    if require_tool("vhdiinfo") {
        let said = run_text("vhdiinfo", [image]);
        let size = format!("({} bytes)", disk.len());
        for line in info.iter().chain([&&*size]) {
            assert!(said.contains(line), "{line} in {said}");
        }
        let bytes = std::fs::read(Mounted::of(path).disk()).unwrap();
        assert!(bytes == whole, "libvhdi reads other bytes");
    }
}

#[test]
fn tools_read_both() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.vhd");
    let id = "30313233-3435-3637-3839-616263646566";
    for (_, disk) in disks() {
        check_with_tools(&disk, &dynamic(&disk), "vpc", &path, &["Dynamic", id]);
        check_with_tools(&disk, &fixed(&disk), "vpc", &path, &["Fixed", id]);
    }
}

fn u32_at(image: &dyn ByteSource, offset: u64) -> u64 {
    let bytes = read(image, offset, 4).try_into().unwrap();
    u64::from(u32::from_be_bytes(bytes))
}

fn u64_at(image: &dyn ByteSource, offset: u64) -> u64 {
    u64::from_be_bytes(read(image, offset, 8).try_into().unwrap())
}

/// A block of a dynamic VHD, by the format's description alone; `None` if not allocated.
fn decode_block(image: &dyn ByteSource, block: u64) -> Option<Vec<u8>> {
    let header = u64_at(image, 16);
    assert_eq!(read(image, header, 8), b"cxsparse");
    assert!(block < u32_at(image, header + 28), "block {block}");
    let sector = u32_at(image, u64_at(image, header + 16) + 4 * block);
    if sector == 0xffff_ffff {
        return None;
    }
    assert_eq!(read(image, sector * 512, 512), [0xff; 512]);
    Some(read(image, sector * 512 + 512, BLOCK))
}

/// The longest disk: the plan takes memory by runs, and every block can be found.
#[test]
fn the_longest_disk_is_cheap() {
    let mut disk = MemoryDisk::new(LONGEST);
    for i in 0..20 {
        disk = disk.with_noise(i * 100 * GIB + 12_345, 1_000_000);
    }
    let disk = disk.with_noise(LONGEST - 512, 512);
    let image = dynamic(&disk);
    let table = 4 * LONGEST / BLOCK;
    assert_eq!(image.len(), 1536 + table + 21 * (512 + BLOCK) + 512);
    check_byte_source(&image);
    for block in (0..20).map(|i| i * 100 * GIB / BLOCK) {
        let data = decode_block(&image, block).unwrap();
        assert!(
            data == read(&disk, block * BLOCK, BLOCK),
            "block {block} differs"
        );
        assert_eq!(decode_block(&image, block + 1), None);
    }
    let last = LONGEST / BLOCK - 1;
    let data = decode_block(&image, last).unwrap();
    assert!(data == read(&disk, last * BLOCK, BLOCK), "the last block");
    let fixed = fixed(&disk);
    assert_eq!(fixed.len(), LONGEST + 512);
    check_byte_source(&fixed);
    if require_tool("qemu-img") {
        let directory = tempfile::tempdir().unwrap();
        let both: [&dyn ByteSource; 2] = [&image, &fixed];
        for (image, name) in both.into_iter().zip(["dynamic.vhd", "fixed.vhd"]) {
            let path = directory.path().join(name);
            write_to_file(image, &path);
            let path = path.to_str().unwrap();
            let json = run_text("qemu-img", ["info", "--output=json", "-f", "vpc", path]);
            assert!(json.contains("\"virtual-size\": 2190433320960"), "{json}");
        }
    }
}

/// All blocks of the longest disk: table entries and the file stay within 32-bit sectors.
#[test]
fn the_longest_full_disk_fits() {
    struct Full;
    impl ByteSource for Full {
        fn len(&self) -> u64 {
            LONGEST
        }
        fn read_exact_at(&self, _: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            buf.fill(7);
            Ok(())
        }
        fn run_at(&self, offset: u64) -> Run {
            Run {
                len: LONGEST - offset,
                origin: Origin::Computed("sevens"),
            }
        }
        fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}
    }
    let image = DynamicVhd::new(Arc::new(Full), &DataMap::of(&Full), PARAMS).unwrap();
    let last = LONGEST / BLOCK - 1;
    assert!(image.len() < 2 << 40, "{}", image.len());
    let sector = u32_at(&image, 1536 + 4 * last);
    assert_eq!(sector * 512 + 512 + BLOCK + 512, image.len());
    let data = decode_block(&image, last).unwrap();
    assert_eq!(data, vec![7; to_usize(BLOCK)]);
}

#[test]
fn longer_disks_are_refused() {
    let disk = MemoryDisk::new(LONGEST + 64 * KIB);
    let data = DataMap::of(&disk);
    let result = DynamicVhd::new(Arc::new(disk.clone()), &data, PARAMS);
    assert!(matches!(result, Err(VhdError::DiskTooLong(_))));
    let result = fixed_vhd(Arc::new(disk), PARAMS);
    assert!(matches!(result, Err(VhdError::DiskTooLong(_))));
}

#[test]
fn explanations_lead_to_the_disk() {
    let (_, disk) = disks().swap_remove(5);
    let explain = |image: &dyn ByteSource, offset| {
        let mut trail = Vec::new();
        image.explain_at(offset, &mut trail);
        trail
            .iter()
            .map(|step| format!("{}+{:#x}", step.what, step.offset))
            .collect::<Vec<_>>()
    };
    let image = dynamic(&disk);
    assert_eq!(explain(&image, 3), ["copy of the VHD footer+0x3"]);
    assert_eq!(explain(&image, 512), ["dynamic disk header+0x0"]);
    assert_eq!(
        explain(&image, 1536 + 13),
        ["block allocation table, entry of block 3+0xd"]
    );
    assert_eq!(
        explain(&image, 1536 + 16),
        ["block allocation table, unused entries+0x10"]
    );
    // The second allocated block is the last of the disk, which ends 1 MiB and 64 KiB inside it.
    let second = 2048 + 512 + BLOCK;
    assert_eq!(
        explain(&image, second + 1),
        ["sector bitmap of block 3+0x1"]
    );
    assert_eq!(
        explain(&image, second + 512 + 5),
        ["VHD block 3+0x5", "test disk+0x600005"]
    );
    assert_eq!(
        explain(&image, second + 512 + MIB + 64 * KIB),
        ["VHD block, behind the end of the disk+0x0"]
    );
    assert_eq!(explain(&image, image.len() - 1), ["VHD footer+0x1ff"]);
    let image = fixed(&disk);
    assert_eq!(explain(&image, 7), ["VHD, fixed disk+0x7", "test disk+0x7"]);
    assert_eq!(explain(&image, image.len() - 512), ["VHD footer+0x0"]);
}

#[test]
fn images_of_a_config_hold_the_disk() {
    const IMAGES: &str = "'disk.img' = { format = 'raw' }\n'disk.vhd' = { format = 'vhd' }\n\
                          'fixed.vhd' = { format = 'vhd', layout = 'fixed' }";
    let directory = tempfile::tempdir().unwrap();
    let planned = two_partitions(directory.path(), IMAGES);
    let raw = image(&planned, "disk.img").source.len();
    let [disk, fixed] = ["disk.vhd", "fixed.vhd"].map(|name| image(&planned, name).source.clone());
    check_byte_source(&*disk);
    assert_eq!(fixed.len(), raw + 512);
    assert!(disk.len() < raw, "{} of {raw}", disk.len());
    let footers = [&disk, &fixed].map(|image| read(&**image, image.len() - 512, 512));
    // Two disks of a machine have two identities; the time is that of what has no source, 2000-01-01.
    for (footer, name) in footers.iter().zip(["disk.vhd", "fixed.vhd"]) {
        let id = fingerprint::uuid("two", &format!("VHD {name}"));
        assert_eq!(footer[68..84], *id.as_bytes());
        assert_eq!(footer[24..28], [0; 4]);
    }
    if require_tool("qemu-img") {
        let [raw, disk, fixed] = ["disk.img", "disk.vhd", "fixed.vhd"]
            .map(|name| export(directory.path(), &image(&planned, name)));
        for vhd in [disk, fixed] {
            let compared = run_text(
                "qemu-img",
                ["compare", "-f", "raw", "-F", "vpc", &raw, &vhd],
            );
            assert_eq!(compared, "Images are identical.\n");
        }
    }
}
