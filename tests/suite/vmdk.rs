//! VMDK images against the tools that read and write them.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets and lengths of test data"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a failing step is to end the test where it happens"
)]

use std::path::Path;
use std::sync::Arc;

use miragefs::config::spec::{DirectoryPlace, VmSpec};
use miragefs::synth::data_map::DataMap;
use miragefs::synth::source::ByteSource;
use miragefs::synth::vmdk::{
    AdapterType, DescriptorParams, DiskIds, GrainForm, SparseVmdk, StreamVmdk, VmdkError,
    adapter_type, content_id,
};
use miragefs::units::to_usize;
use uuid::Uuid;

use crate::support::{
    MemoryDisk, check_byte_source, read, require_tool, run, run_text, skip_unless_asked,
    write_to_file,
};

const MIB: u64 = 1 << 20;
const GRAIN: u64 = 65_536;

/// 100 MiB with data at both ends, across borders of grains and tables, in parts of grains, and an empty last table
/// but one grain.
pub(crate) fn disk() -> MemoryDisk {
    MemoryDisk::new(100 * MIB)
        .with_noise(0, 512)
        .with_noise(MIB, 3 * GRAIN)
        .with_noise(2 * MIB + 100, 5000)
        .with_noise(2 * MIB + 60_000, 20_000)
        // The last grain of table 0 and the first of table 1.
        .with_noise(32 * MIB - 4096, 8192)
        // A single grain alone, its last byte data; then one of which only the last byte is.
        .with_noise(40 * MIB, GRAIN)
        .with_noise(50 * MIB + GRAIN - 1, 1)
        .with_noise(100 * MIB - 512, 512)
}

/// Disks that have little in common.
fn disks() -> Vec<(&'static str, MemoryDisk)> {
    vec![
        ("mixed", disk()),
        ("empty", MemoryDisk::new(3 * MIB)),
        ("one grain", MemoryDisk::new(GRAIN).with_noise(0, GRAIN)),
        ("full", MemoryDisk::new(5 * MIB).with_noise(0, 5 * MIB)),
        (
            "empty table in the middle",
            MemoryDisk::new(96 * MIB)
                .with_noise(7, 9)
                .with_noise(95 * MIB, 10),
        ),
    ]
}

fn params(name: &str) -> DescriptorParams {
    DescriptorParams {
        content_id: content_id(&[0x42; 32]),
        ids: DiskIds {
            image: Uuid::from_u128(1),
            modification: Uuid::from_u128(2),
        },
        extent_name: name.to_owned(),
        adapter: adapter_type(VmSpec::default().disk_controller),
    }
}

pub(crate) fn sparse(disk: &MemoryDisk) -> SparseVmdk {
    let data = DataMap::of(disk);
    SparseVmdk::new(Arc::new(disk.clone()), &data, params("disk.vmdk")).unwrap()
}

fn stored(disk: &MemoryDisk, data: &DataMap, name: &str, directory: DirectoryPlace) -> StreamVmdk {
    let disk = Arc::new(disk.clone());
    StreamVmdk::new(disk, data, params(name), directory, GrainForm::Stored).unwrap()
}

pub(crate) fn stream(disk: &MemoryDisk, name: &str) -> StreamVmdk {
    let data = DataMap::of(disk);
    stored(disk, &data, name, DirectoryPlace::Footer)
}

pub(crate) fn front(disk: &MemoryDisk, name: &str) -> StreamVmdk {
    stored(disk, &DataMap::of(disk), name, DirectoryPlace::Front)
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn sparse_conforms() {
    for (_, disk) in disks() {
        check_byte_source(&sparse(&disk));
    }
}

#[test]
fn stream_conforms() {
    for (_, disk) in disks() {
        check_byte_source(&stream(&disk, "disk.vmdk"));
        check_byte_source(&front(&disk, "disk.vmdk"));
    }
}

/// A checksum is that of the grain, whatever was read of the grain before: each case on an image of its own.
#[test]
fn checksums_do_not_depend_on_earlier_reads() {
    let disk = MemoryDisk::new(MIB).with_noise(3 * GRAIN, 2 * GRAIN);
    let image = stream(&disk, "x");
    let whole = read(&image, 0, image.len());
    let earlier: [&[(u64, u64)]; 6] = [
        &[],
        &[(0, 1000)],
        // A gap, an overlap, the end alone, and everything twice.
        &[(0, 1000), (2000, 66_048 - 2000)],
        &[(0, 5000), (3000, 62_560)],
        &[(40_000, 25_500)],
        &[(0, 40_000), (40_000, 20_000), (0, 40_000), (60_000, 5560)],
    ];
    for grain in 0..2 {
        let start = 128 * 512 + grain * 66_048;
        for reads in earlier {
            for (offset, len) in [(65_560, 4), (65_563, 1), (65_559, 2), (25_560, 40_100)] {
                let image = stream(&disk, "x");
                for (offset, len) in reads {
                    drop(read(&image, start + offset, *len));
                }
                let at = to_usize(start + offset);
                assert!(
                    read(&image, start + offset, len) == whole[at..at + to_usize(len)],
                    "{offset}+{len} of grain {grain} after {reads:?}"
                );
            }
        }
    }
}

#[test]
fn sparse_is_what_qemu_img_writes() {
    if !require_tool("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("disk.img");
    let theirs = directory.path().join("theirs.vmdk");
    for (name, disk) in disks() {
        write_to_file(&disk, &raw);
        run(
            "qemu-img",
            [
                "convert",
                "-f",
                "raw",
                "-O",
                "vmdk",
                path_text(&raw),
                path_text(&theirs),
            ],
        );
        let ours = sparse(&disk);
        let mut ours = read(&ours, 0, ours.len());
        let mut theirs = std::fs::read(&theirs).unwrap();
        // Their file ends behind the last grain's last written byte in some versions: holes at the end are zeros.
        if theirs.len() < ours.len() {
            theirs.resize(ours.len(), 0);
        }
        for image in [&mut ours, &mut theirs] {
            image[512..21 * 512].fill(0);
        }
        let differing = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!((name, ours.len(), differing), (name, theirs.len(), None));
    }
}

/// What a reader of either layout must say.
fn check_with_tools(disk: &MemoryDisk, image: &dyn ByteSource, directory: &Path) {
    let raw = directory.join("disk.img");
    let vmdk = directory.join("disk.vmdk");
    write_to_file(disk, &raw);
    write_to_file(image, &vmdk);
    let (raw, vmdk) = (path_text(&raw), path_text(&vmdk));
    if require_tool("qemu-img") {
        let checked = run_text("qemu-img", ["check", "-f", "vmdk", vmdk]);
        assert!(checked.contains("No errors were found"), "{checked}");
        let compared = run_text(
            "qemu-img",
            ["compare", "-f", "raw", "-F", "vmdk", raw, vmdk],
        );
        assert_eq!(compared, "Images are identical.\n");
    }
    if require_tool("7zz") {
        let tested = run_text("7zz", ["t", "-tvmdk", vmdk]);
        assert!(tested.contains("Everything is Ok"), "{tested}");
        let extracted = run("7zz", ["x", "-so", "-tvmdk", vmdk]);
        assert!(
            extracted == read(disk, 0, disk.len()),
            "7zz extracts other bytes"
        );
    }
    if require_tool("vmdkinfo") {
        let info = run_text("vmdkinfo", [vmdk]);
        let cid = format!("{:#010x}", content_id(&[0x42; 32]).cid);
        assert!(info.contains(&cid), "{info}");
        assert!(info.contains(&format!("({} bytes)", disk.len())), "{info}");
    }
}

#[test]
fn tools_read_sparse() {
    let directory = tempfile::tempdir().unwrap();
    for (_, disk) in disks() {
        check_with_tools(&disk, &sparse(&disk), directory.path());
    }
}

#[test]
fn tools_read_stream() {
    let directory = tempfile::tempdir().unwrap();
    for (_, disk) in disks() {
        check_with_tools(&disk, &stream(&disk, "disk.vmdk"), directory.path());
    }
}

/// The layout of VMware's own converter, which 7-Zip does not know.
#[test]
fn tools_read_front_directories() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("disk.img");
    let vmdk = directory.path().join("disk.vmdk");
    for (name, disk) in disks() {
        write_to_file(&disk, &raw);
        write_to_file(&front(&disk, "disk.vmdk"), &vmdk);
        let (raw, vmdk) = (path_text(&raw), path_text(&vmdk));
        if require_tool("qemu-img") {
            let checked = run_text("qemu-img", ["check", "-f", "vmdk", vmdk]);
            assert!(checked.contains("No errors were found"), "{checked}");
            let compared = run_text(
                "qemu-img",
                ["compare", "-f", "raw", "-F", "vmdk", raw, vmdk],
            );
            assert_eq!(compared, "Images are identical.\n", "{name}");
        }
        if require_tool("vmdkinfo") {
            let info = run_text("vmdkinfo", [vmdk]);
            assert!(info.contains(&format!("({} bytes)", disk.len())), "{info}");
        }
    }
}

/// VMware's open-source converter, asked for stored grains in the order of the disk, writes these bytes but for the
/// descriptor, wherever no grain is all zeros.
#[test]
fn front_is_what_vmdk_convert_writes() {
    let Some(converter) = skip_unless_asked("MIRAGEFS_VMDK_CONVERT") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("disk.img");
    let theirs = directory.path().join("theirs.vmdk");
    for (name, disk) in disks() {
        write_to_file(&disk, &raw);
        run(
            &converter,
            ["-c", "0", "-n", "1", path_text(&raw), path_text(&theirs)],
        );
        let ours = front(&disk, "disk.vmdk");
        let mut ours = read(&ours, 0, ours.len());
        let mut theirs = std::fs::read(&theirs).unwrap();
        for image in [&mut ours, &mut theirs] {
            image[512..21 * 512].fill(0);
        }
        let differing = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!((name, ours.len(), differing), (name, theirs.len(), None));
    }
}

fn u32_at(image: &dyn ByteSource, offset: u64) -> u64 {
    u64::from(u32::from_le_bytes(
        read(image, offset, 4).try_into().unwrap(),
    ))
}

fn u64_at(image: &dyn ByteSource, offset: u64) -> u64 {
    u64::from_le_bytes(read(image, offset, 8).try_into().unwrap())
}

/// A grain of the disk in a sparse or stream VMDK, by the format's description alone; `None` if not allocated.
fn decode_grain(image: &dyn ByteSource, grain: u64) -> Option<Vec<u8>> {
    let mut directory = u64_at(image, 56);
    if directory == u64::MAX {
        directory = u64_at(image, image.len() - 1024 + 56);
    }
    let table = u32_at(image, directory * 512 + 4 * (grain / 512));
    let sector = u32_at(image, table * 512 + 4 * (grain % 512));
    if sector == 0 {
        return None;
    }
    let at = sector * 512;
    if u32_at(image, 8) & 1 << 16 == 0 {
        return Some(read(image, at, GRAIN));
    }
    assert_eq!(u64_at(image, at), grain * 128, "marker of grain {grain}");
    let mut data = vec![0xa5; to_usize(GRAIN)];
    let stream = read(image, at + 12, u32_at(image, at + 8));
    inflate_stored(&stream, &mut data);
    Some(data)
}

/// The raw disk in a VMDK.
fn decode(image: &dyn ByteSource) -> Vec<u8> {
    assert_eq!(read(image, 0, 4), b"KDMV");
    let grains = u64_at(image, 12) / 128;
    (0..grains)
        .flat_map(|grain| decode_grain(image, grain).unwrap_or(vec![0; to_usize(GRAIN)]))
        .collect()
}

/// A zlib stream of stored blocks, RFC 1950 and 1951.
fn inflate_stored(stream: &[u8], mut target: &mut [u8]) {
    assert_eq!(stream[0] & 15, 8, "deflate");
    let mut rest = &stream[2..];
    let (mut a, mut b) = (1_u32, 0_u32);
    loop {
        let (last, len) = (rest[0], u16::from_le_bytes([rest[1], rest[2]]));
        assert_eq!(!len, u16::from_le_bytes([rest[3], rest[4]]), "NLEN");
        let data = &rest[5..5 + usize::from(len)];
        for byte in data {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        let (head, tail) = target.split_at_mut(data.len());
        head.copy_from_slice(data);
        target = tail;
        rest = &rest[5 + data.len()..];
        if last == 1 {
            break;
        }
        assert_eq!(last, 0, "stored block");
    }
    assert_eq!(rest, (b << 16 | a).to_be_bytes(), "adler-32");
    assert!(target.is_empty(), "a grain inflates to 64 KiB");
}

#[test]
fn raw_of_vmdk_is_the_disk() {
    for (name, disk) in disks() {
        let raw = read(&disk, 0, disk.len());
        let both: [&dyn ByteSource; 2] = [&sparse(&disk), &stream(&disk, "disk.vmdk")];
        for image in both {
            assert!(decode(image) == raw, "{name}");
        }
    }
}

#[test]
fn only_grains_with_data_are_stored() {
    let disk = disk();
    // 1 + 3 + 2 (one of which two segments share) + 2 + 1 + 1 + 1 grains.
    let grains = 11;
    let tables = 2 * (1 + 4 * 4);
    let over_head = u64::next_multiple_of(21 + tables, 128);
    assert_eq!(sparse(&disk).len(), (over_head + grains * 128) * 512);
    assert_eq!(
        stream(&disk, "x").len(),
        (128 + 129 * grains + 5 * 4 + 2 + 3) * 512
    );
}

/// 1 TiB with 20 MB of content: the plan takes memory by runs, and every table can be read.
#[test]
fn a_terabyte_is_cheap() {
    let mut disk = MemoryDisk::new(1 << 40);
    for i in 0..20 {
        disk = disk.with_noise(i * 50_000_000_000 + 12_345, 1_000_000);
    }
    let all: [&dyn ByteSource; 3] = [
        &sparse(&disk),
        &stream(&disk, "disk.vmdk"),
        &front(&disk, "disk.vmdk"),
    ];
    for image in all {
        assert!(image.len() < 350 * MIB, "{}", image.len());
        check_byte_source(image);
        // Grains with data, their neighbours, and the disk's last.
        for i in 0..20 {
            let first = (i * 50_000_000_000 + 12_345) / GRAIN;
            for grain in [first, first + 1, first + 15] {
                let data = decode_grain(image, grain).unwrap();
                assert!(data == read(&disk, grain * GRAIN, GRAIN), "grain {grain}");
            }
            for grain in [first + 17, first + 512, first + 600_000] {
                assert_eq!(decode_grain(image, grain), None, "grain {grain}");
            }
        }
        assert_eq!(decode_grain(image, (1 << 24) - 1), None);
    }
}

#[test]
fn explanations_lead_to_the_disk() {
    let disk = disk();
    let explain = |image: &dyn ByteSource, offset| {
        let mut trail = Vec::new();
        image.explain_at(offset, &mut trail);
        trail
            .iter()
            .map(|step| format!("{}+{:#x}", step.what, step.offset))
            .collect::<Vec<_>>()
    };
    let image = sparse(&disk);
    assert_eq!(explain(&image, 77), ["VMDK header+0x4d"]);
    assert_eq!(
        explain(&image, 128 * 512 + 2 * GRAIN + 5),
        ["VMDK grain 17+0x5", "test disk+0x110005"]
    );
    assert_eq!(
        explain(&image, 22 * 512 + 2048 + 4),
        ["redundant grain table 1, entry of grain 513+0x4"]
    );
    let image = stream(&disk, "x");
    assert_eq!(
        explain(&image, 128 * 512 + 2 * 66_048 + 19),
        ["stored VMDK grain 17, data+0x13", "test disk+0x110000"]
    );
    assert_eq!(
        explain(&image, 128 * 512 + 2 * 66_048 + 65_559),
        ["stored VMDK grain 17, data+0x10017", "test disk+0x11ffff"]
    );
    assert_eq!(
        explain(&image, 128 * 512 + 65_560),
        ["stored VMDK grain 0, adler-32+0x10018"]
    );
    assert_eq!(
        explain(&image, image.len() - 1),
        ["end-of-stream marker+0x1ff"]
    );
}

#[test]
fn odd_disks_are_refused() {
    let disk = MemoryDisk::new(MIB + 512);
    let result = SparseVmdk::new(
        Arc::new(disk.clone()),
        &DataMap::of(&disk),
        DescriptorParams {
            adapter: AdapterType::Ide,
            ..params("x")
        },
    );
    assert!(matches!(result, Err(VmdkError::DiskLen(_))));
    // Its tables alone would take more than 2 TiB.
    let vast = MemoryDisk::new(1 << 56);
    let data = DataMap::of(&vast);
    let result = SparseVmdk::new(Arc::new(vast.clone()), &data, params("x"));
    assert!(matches!(result, Err(VmdkError::FileLen(_))));
    let result = StreamVmdk::new(
        Arc::new(vast),
        &data,
        params("x"),
        DirectoryPlace::Footer,
        GrainForm::Stored,
    );
    assert!(matches!(result, Err(VmdkError::FileLen(_))));
}
