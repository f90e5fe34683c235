//! VDI images against the tools that read and write them.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets and lengths of test data"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a failing step is to end the test where it happens"
)]

use std::fs::{File, copy};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use miragefs::synth::data_map::DataMap;
use miragefs::synth::source::ByteSource;
use miragefs::synth::vdi::{Vdi, VdiError, VdiIds, ids};

use crate::images::{export, two_partitions};
use crate::planned::image;
use crate::support::{
    FullDisk, MemoryDisk, check_byte_source, read, require_tool, run, run_text, write_to_file,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// Data at both ends, across borders of blocks, alone in a block, and a last block of 64 KiB; more entries than a sector of
/// the map has.
fn mixed() -> MemoryDisk {
    let len = 130 * MIB + 64 * KIB;
    MemoryDisk::new(len)
        .with_noise(0, 512)
        .with_noise(3 * MIB - 4096, 2 * MIB)
        .with_noise(40 * MIB, MIB)
        .with_noise(51 * MIB - 1, 1)
        .with_noise(len - 512, 512)
}

/// Disks that have little in common.
fn disks() -> Vec<(&'static str, MemoryDisk)> {
    let full = 5 * MIB + 512;
    vec![
        ("mixed", mixed()),
        ("empty", MemoryDisk::new(3 * MIB)),
        ("one sector", MemoryDisk::new(512).with_noise(0, 512)),
        ("full", MemoryDisk::new(full).with_noise(0, full)),
    ]
}

/// 2 TiB with 20 MB of content, the last sector among it.
fn vast() -> MemoryDisk {
    let mut disk = MemoryDisk::new(2 * TIB).with_noise(2 * TIB - 512, 512);
    for i in 0..20 {
        disk = disk.with_noise(i * 100_000_000_000 + 12_345, 1_000_000);
    }
    disk
}

fn test_ids() -> VdiIds {
    ids("seed", "disk.vdi", &[0x42; 32])
}

pub(crate) fn vdi<D: ByteSource + Clone + 'static>(disk: &D) -> Vdi {
    Vdi::new(Arc::new(disk.clone()), &DataMap::of(disk), test_ids()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `qemu-img check` finds nothing.
fn check_clean(path: &Path) {
    let checked = run_text("qemu-img", ["check", "-f", "vdi", text(path)]);
    assert!(
        checked.starts_with("No errors were found on the image.\n"),
        "{checked}"
    );
}

/// The two hold the same disk.
fn compare(raw: &Path, vdi: &Path) {
    let arguments = ["compare", "-f", "raw", "-F", "vdi", text(raw), text(vdi)];
    assert_eq!(run_text("qemu-img", arguments), "Images are identical.\n");
}

#[test]
fn images_conform() {
    for (_, disk) in disks() {
        check_byte_source(&vdi(&disk));
    }
    check_byte_source(&vdi(&vast()));
    check_byte_source(&vdi(&FullDisk(2 * TIB + 512)));
}

#[test]
fn it_is_what_qemu_img_writes() {
    if !require_tool("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("disk.img");
    let theirs = directory.path().join("theirs.vdi");
    for (name, disk) in disks() {
        write_to_file(&disk, &raw);
        let arguments = ["convert", "-f", "raw", "-O", "vdi", text(&raw)];
        run("qemu-img", [&arguments[..], &[text(&theirs)]].concat());
        let image = vdi(&disk);
        let mut ours = read(&image, 0, image.len());
        let mut theirs = std::fs::read(&theirs).unwrap();
        for image in [&mut ours, &mut theirs] {
            // The two UUIDs, which are by chance there.
            image[392..424].fill(0);
        }
        let differing = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!((name, ours.len(), differing), (name, theirs.len(), None));
    }
}

#[test]
fn tools_read_images() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("disk.img");
    let image = directory.path().join("disk.vdi");
    for (name, disk) in disks() {
        write_to_file(&disk, &raw);
        write_to_file(&vdi(&disk), &image);
        if require_tool("qemu-img") {
            check_clean(&image);
            compare(&raw, &image);
            let info = run_text("qemu-img", ["info", text(&image)]);
            assert!(info.contains("file format: vdi\n"), "{info}");
            assert!(info.contains(&format!("({} bytes)", disk.len())), "{info}");
        }
        if require_tool("7zz") {
            let listed = run_text("7zz", ["l", "-slt", "-tvdi", text(&image)]);
            let ids = test_ids();
            for (field, uuid) in [("Creat", ids.image), ("Modif", ids.modification)] {
                assert!(
                    listed.contains(&format!("{field}  : {{{uuid}}}")),
                    "{listed}"
                );
            }
            let extracted = run("7zz", ["x", "-so", "-tvdi", text(&image)]);
            assert!(extracted == read(&disk, 0, disk.len()), "{name}: 7zz");
        }
        if require_tool("file") {
            let kind = run_text("file", ["--brief", text(&image)]);
            let expected = format!("{} bytes", disk.len());
            assert!(
                kind.contains("VirtualBox Disk Image") && kind.contains(&expected),
                "{kind}"
            );
        }
    }
}

#[test]
fn qemu_reads_2_tib() {
    if !require_tool("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("disk.img");
    let image = directory.path().join("disk.vdi");
    write_to_file(&vast(), &raw);
    write_to_file(&vdi(&vast()), &image);
    check_clean(&image);
    compare(&raw, &image);
}

/// Every block of 2 TiB allocated; the tables alone are written to the file.
#[test]
fn qemu_finds_full_images_clean() {
    if !require_tool("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.vdi");
    let image = vdi(&FullDisk(2 * TIB));
    let tables = image.len() - 2 * TIB;
    assert_eq!(tables, 512 + (2 << 20) * 4);
    let file = File::create(&path).unwrap();
    file.write_all_at(&read(&image, 0, tables), 0).unwrap();
    file.set_len(image.len()).unwrap();
    check_clean(&path);
}

/// A number of four bytes.
fn u32_at(image: &dyn ByteSource, offset: u64) -> u32 {
    u32::from_le_bytes(read(image, offset, 4).try_into().unwrap())
}

/// Where a block of the disk is in the file, by the format's description alone; `None` if not allocated.
fn decode_block(image: &dyn ByteSource, block: u64) -> Option<u64> {
    let number = u32_at(image, u64::from(u32_at(image, 340)) + 4 * block);
    let data = u64::from(u32_at(image, 344));
    (number != u32::MAX).then(|| data + u64::from(number) * MIB)
}

#[test]
fn raw_of_vdi_is_the_disk() {
    for (name, disk) in disks() {
        let image = vdi(&disk);
        for block in 0..disk.len().div_ceil(MIB) {
            let len = MIB.min(disk.len() - block * MIB);
            let expected = read(&disk, block * MIB, len);
            match decode_block(&image, block) {
                Some(at) => assert!(read(&image, at, len) == expected, "{name}: {block}"),
                None => assert!(expected.iter().all(|b| *b == 0), "{name}: {block}"),
            }
        }
    }
    let full = FullDisk(2 * TIB);
    let image = vdi(&full);
    for block in [0, 1, 1_234_567, (2 << 20) - 1] {
        let at = decode_block(&image, block).unwrap();
        assert!(
            read(&image, at, MIB) == read(&full, block * MIB, MIB),
            "{block}"
        );
    }
}

/// A qcow2 child over the image, and a copy of the image itself, take what a guest writes.
#[test]
fn qemu_writes_over_images() {
    if !require_tool("qemu-img") || !require_tool("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (raw, base, child, own) = (path("raw"), path("base"), path("child"), path("own"));
    let disk = mixed();
    write_to_file(&disk, &raw);
    write_to_file(&vdi(&disk), &base);
    let create = ["create", "-f", "qcow2", "-F", "vdi", "-b"];
    run(
        "qemu-img",
        [&create[..], &[text(&base), text(&child)]].concat(),
    );
    copy(&base, &own).unwrap();
    // In an allocated block, in an empty one, and in the last, partial one.
    for at in [512, 10 * MIB, disk.len() - 512] {
        let write = format!("write -P 0x5a {at} 512");
        for (format, file) in [("raw", &raw), ("qcow2", &child), ("vdi", &own)] {
            run("qemu-io", ["-f", format, "-c", &write, text(file)]);
        }
    }
    check_clean(&own);
    compare(&raw, &own);
    let arguments = [
        "compare",
        "-f",
        "raw",
        "-F",
        "qcow2",
        text(&raw),
        text(&child),
    ];
    assert_eq!(run_text("qemu-img", arguments), "Images are identical.\n");
}

#[test]
fn explanations_lead_to_the_disk() {
    let disk = mixed();
    let image = vdi(&disk);
    let explain = |offset| {
        let mut trail = Vec::new();
        image.explain_at(offset, &mut trail);
        trail
            .iter()
            .map(|step| format!("{}+{:#x}", step.what, step.offset))
            .collect::<Vec<_>>()
    };
    assert_eq!(explain(0x170), ["VDI header+0x170"]);
    assert_eq!(
        explain(512 + 4 * 3 + 1),
        ["VDI block map, entry of block 3+0x1"]
    );
    // 131 entries take two sectors of the map, and a bit of the second.
    assert_eq!(explain(1536 - 1), ["VDI padding+0x1f3"]);
    assert_eq!(
        explain(1536 + MIB + 5),
        ["VDI block 2+0x5", "test disk+0x200005"]
    );
    // Five blocks, one of three, one, one: the last has 64 KiB of disk.
    assert_eq!(image.len(), 1536 + 7 * MIB);
    assert_eq!(explain(image.len() - 1), ["VDI padding+0xeffff"]);
}

#[test]
fn identifiers_follow_seed_name_and_contents() {
    let of = |seed, name, byte| ids(seed, name, &[byte; 32]);
    let one = of("a", "disk.vdi", 1);
    assert_eq!(one, of("a", "disk.vdi", 1));
    let changed = of("a", "disk.vdi", 2);
    assert_eq!(one.image, changed.image);
    assert_ne!(one.modification, changed.modification);
    assert_ne!(one.image, of("b", "disk.vdi", 1).image);
    assert_ne!(one.image, of("a", "other.vdi", 1).image);
}

#[test]
fn impossible_disks_are_refused() {
    let refused = |len| {
        let disk = MemoryDisk::new(len);
        Vdi::new(Arc::new(disk.clone()), &DataMap::of(&disk), test_ids())
            .err()
            .unwrap()
    };
    assert!(matches!(refused(0), VdiError::DiskLen(_)));
    assert!(matches!(refused(MIB + 100), VdiError::DiskLen(_)));
    let most = 536_870_784 * MIB;
    assert_eq!(
        refused(most + 512).to_string(),
        "disk of 562949819204096 bytes (511.9 TiB): a VDI's has at most 536870784 blocks of 1 MiB, 562949819203584 bytes \
         (511.9 TiB)"
    );
    let disk = MemoryDisk::new(most).with_noise(most - 1, 1);
    let image = vdi(&disk);
    check_byte_source(&image);
    assert_eq!(image.len(), (1 << 31) + MIB);
}

#[test]
fn a_config_has_a_vdi() {
    let directory = tempfile::tempdir().unwrap();
    let images = "'disk.img' = { format = 'raw' }\n'disk.vdi' = { format = 'vdi' }";
    let planned = two_partitions(directory.path(), images);
    let (raw, vdi) = (image(&planned, "disk.img"), image(&planned, "disk.vdi"));
    check_byte_source(&*vdi.source);
    if !require_tool("qemu-img") {
        return;
    }
    let [raw, vdi] = [raw, vdi].map(|image| export(directory.path(), &image));
    check_clean(Path::new(&vdi));
    compare(Path::new(&raw), Path::new(&vdi));
}
