//! qcow2 images against the tools that read and write them.
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
use miragefs::synth::qcow2::{Qcow2, Qcow2Error};
use miragefs::synth::source::{ByteSource, Step};
use miragefs::units::{to_u64, to_usize};

use crate::images::{export, two_partitions};
use crate::planned::image;
use crate::support::{
    FullDisk, MemoryDisk, check_byte_source, read, require_tool, run, run_text, write_to_file,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const CLUSTER: u64 = 65_536;
/// What one L2 table maps.
const SPAN: u64 = 512 * MIB;

/// Data at both ends, across borders of clusters, in parts of clusters.
fn mixed() -> MemoryDisk {
    MemoryDisk::new(100 * MIB)
        .with_noise(0, 512)
        .with_noise(MIB, 3 * CLUSTER)
        .with_noise(2 * MIB + 100, 5000)
        .with_noise(2 * MIB + 60_000, 20_000)
        .with_noise(40 * MIB, CLUSTER)
        .with_noise(50 * MIB + CLUSTER - 1, 1)
        .with_noise(100 * MIB - 512, 512)
}

/// Four L2 tables, the third of them empty, data across the border of the first two, and a length that is no multiple of
/// the cluster, with data up to its end.
fn several_tables() -> MemoryDisk {
    let len = 3 * SPAN + 5 * MIB + 1536;
    MemoryDisk::new(len)
        .with_noise(7, 9)
        .with_noise(SPAN - 4096, 3 * CLUSTER)
        .with_noise(3 * SPAN, 1)
        .with_noise(len - 600, 600)
}

/// Disks that have little in common.
fn disks() -> Vec<(&'static str, MemoryDisk)> {
    let full = 5 * MIB + 512;
    vec![
        ("mixed", mixed()),
        ("several tables", several_tables()),
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

pub(crate) fn qcow2<D: ByteSource + Clone + 'static>(disk: &D) -> Qcow2 {
    Qcow2::new(Arc::new(disk.clone()), &DataMap::of(disk)).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn images_conform() {
    for (_, disk) in disks() {
        check_byte_source(&qcow2(&disk));
    }
    check_byte_source(&qcow2(&vast()));
    // So many clusters that the refcount table has more than one.
    check_byte_source(&qcow2(&FullDisk(20 * TIB + 512)));
}

#[test]
fn one_table_is_what_qemu_img_writes() {
    if !require_tool("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("disk.img");
    let theirs = directory.path().join("theirs.qcow2");
    for (name, disk) in disks() {
        if disk.len() > SPAN || name == "empty" {
            continue;
        }
        write_to_file(&disk, &raw);
        let arguments = ["convert", "-f", "raw", "-O", "qcow2", text(&raw)];
        run("qemu-img", [&arguments[..], &[text(&theirs)]].concat());
        let image = qcow2(&disk);
        let ours = read(&image, 0, image.len());
        let mut theirs = std::fs::read(&theirs).unwrap();
        // Their file ends behind the last written byte in some versions: holes at the end are zeros.
        if theirs.len() < ours.len() {
            theirs.resize(ours.len(), 0);
        }
        let differing = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!((name, ours.len(), differing), (name, theirs.len(), None));
    }
}

/// `qemu-img check` finds neither errors nor leaks and counts the clusters that have data.
fn check_clean(path: &Path) {
    let checked = run_text("qemu-img", ["check", "-f", "qcow2", text(path)]);
    assert!(
        checked.starts_with("No errors were found on the image.\n"),
        "{checked}"
    );
}

/// The two hold the same disk.
fn compare(raw: &Path, qcow2: &Path) {
    let arguments = ["compare", "-f", "raw", "-F", "qcow2"];
    let compared = run_text(
        "qemu-img",
        [&arguments[..], &[text(raw), text(qcow2)]].concat(),
    );
    assert_eq!(compared, "Images are identical.\n");
}

#[test]
fn tools_read_images() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("disk.img");
    let image = directory.path().join("disk.qcow2");
    for (name, disk) in disks() {
        write_to_file(&disk, &raw);
        write_to_file(&qcow2(&disk), &image);
        if require_tool("qemu-img") {
            check_clean(&image);
            compare(&raw, &image);
            let info = run_text("qemu-img", ["info", text(&image)]);
            assert!(info.contains("file format: qcow2\n"), "{info}");
            assert!(info.contains("corrupt: false\n"), "{info}");
            assert!(info.contains(&format!("({} bytes)", disk.len())), "{info}");
        }
        if require_tool("7zz") {
            let extracted = run("7zz", ["x", "-so", "-tqcow", text(&image)]);
            assert!(extracted == read(&disk, 0, disk.len()), "{name}: 7zz");
        }
        if require_tool("qcowinfo") {
            let info = run_text("qcowinfo", [text(&image)]);
            assert!(info.contains("Format version\t\t: 3\n"), "{info}");
            assert!(info.contains(&format!("({} bytes)", disk.len())), "{info}");
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
    let image = directory.path().join("disk.qcow2");
    write_to_file(&vast(), &raw);
    write_to_file(&qcow2(&vast()), &image);
    check_clean(&image);
    compare(&raw, &image);
}

/// Every cluster of 128 GiB allocated: 64 refcount blocks and 256 L2 tables. Tables alone are written to the file.
#[test]
fn qemu_finds_full_images_clean() {
    if !require_tool("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    let image = qcow2(&FullDisk(128 * GIB));
    let file = File::create(&path).unwrap();
    let tables = image.len() - 128 * GIB;
    assert!(tables < 32 * MIB, "{tables}");
    file.write_all_at(&read(&image, 0, tables), 0).unwrap();
    file.set_len(image.len()).unwrap();
    check_clean(&path);
    let checked = run_text(
        "qemu-img",
        ["check", "--output=json", "-f", "qcow2", text(&path)],
    );
    for line in [
        format!("\"image-end-offset\": {}", image.len()),
        "\"allocated-clusters\": 2097152".to_owned(),
        "\"total-clusters\": 2097152".to_owned(),
    ] {
        assert!(checked.contains(&line), "{line}: {checked}");
    }
}

/// A big-endian number of eight bytes.
fn u64_at(image: &dyn ByteSource, offset: u64) -> u64 {
    u64::from_be_bytes(read(image, offset, 8).try_into().unwrap())
}

/// Where a cluster of the disk is in the file, by the format's description alone; `None` if not allocated.
fn decode_cluster(image: &dyn ByteSource, cluster: u64) -> Option<u64> {
    const COPIED: u64 = 1 << 63;
    let l1 = u64_at(image, 40);
    let l2 = u64_at(image, l1 + 8 * (cluster / 8192));
    if l2 == 0 {
        return None;
    }
    let entry = u64_at(image, (l2 - COPIED) + 8 * (cluster % 8192));
    (entry != 0).then(|| entry - COPIED)
}

/// The count of a cluster of the file.
fn decode_refcount(image: &dyn ByteSource, cluster: u64) -> u64 {
    let table = u64_at(image, 48);
    let block = u64_at(image, table + 8 * (cluster / 32_768));
    if block == 0 {
        return 0;
    }
    let count = read(image, block + 2 * (cluster % 32_768), 2);
    u64::from(u16::from_be_bytes(count.try_into().unwrap()))
}

#[test]
fn raw_of_qcow2_is_the_disk() {
    for (name, disk) in disks() {
        let image = qcow2(&disk);
        assert_eq!(u64_at(&image, 24), disk.len());
        for cluster in 0..disk.len().div_ceil(CLUSTER) {
            let len = CLUSTER.min(disk.len() - cluster * CLUSTER);
            let expected = read(&disk, cluster * CLUSTER, len);
            match decode_cluster(&image, cluster) {
                Some(at) => assert!(read(&image, at, len) == expected, "{name}: {cluster}"),
                None => assert!(expected.iter().all(|b| *b == 0), "{name}: {cluster}"),
            }
        }
    }
}

#[test]
fn every_cluster_is_counted_once() {
    let full = qcow2(&FullDisk(17 * TIB));
    let vast = qcow2(&vast());
    let several = qcow2(&several_tables());
    for image in [&full, &vast, &several] {
        let clusters = image.len() / CLUSTER;
        let last_block = (clusters - 1) / 32_768;
        for cluster in [0, 1, 32_767, 32_768, 8192 * 32_768, clusters - 1] {
            if cluster < clusters {
                assert_eq!(decode_refcount(image, cluster), 1, "{cluster}");
            }
        }
        if clusters < (last_block + 1) * 32_768 {
            assert_eq!(decode_refcount(image, clusters), 0);
        }
    }
    // Ascending and without a gap: the last cluster of the disk is the last of the file.
    let last = decode_cluster(&full, 17 * TIB / CLUSTER - 1).unwrap();
    assert_eq!(last + CLUSTER, full.len());
    let middle = 9 * TIB / CLUSTER + 12_345;
    let at = decode_cluster(&full, middle).unwrap();
    assert!(
        read(&full, at, CLUSTER) == read(&FullDisk(17 * TIB), middle * CLUSTER, CLUSTER),
        "cluster {middle}"
    );
}

#[test]
fn only_clusters_with_data_are_stored() {
    // Header, refcount table and block, L1, one L2; 9 clusters, of which one holds parts of two segments.
    assert_eq!(qcow2(&mixed()).len(), (4 + 1 + 9) * CLUSTER);
    assert_eq!(qcow2(&MemoryDisk::new(3 * MIB)).len(), 4 * CLUSTER);
    // Three L2 tables of four; 1 + 4 + 1 + 1 clusters.
    assert_eq!(qcow2(&several_tables()).len(), (4 + 3 + 7) * CLUSTER);
    let vast = qcow2(&vast());
    assert!(vast.len() < 30 * MIB, "{}", vast.len());
}

/// A child over the image, and a copy of the image itself, take what a guest writes.
#[test]
fn qemu_writes_over_images() {
    if !require_tool("qemu-img") || !require_tool("qemu-io") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (raw, base, child, own) = (path("raw"), path("base"), path("child"), path("own"));
    let disk = several_tables();
    write_to_file(&disk, &raw);
    write_to_file(&qcow2(&disk), &base);
    let before = std::fs::read(&base).unwrap();
    let create = ["create", "-f", "qcow2", "-F", "qcow2", "-b"];
    run(
        "qemu-img",
        [&create[..], &[text(&base), text(&child)]].concat(),
    );
    copy(&base, &own).unwrap();
    // In an allocated cluster, in an empty one, where there is no L2 table, and in the last, partial one.
    let last = disk.len() - 512;
    for at in [512, 10 * MIB, 2 * SPAN + 5 * MIB, last] {
        let write = format!("write -P 0x5a {at} 512");
        for (format, file) in [("raw", &raw), ("qcow2", &child), ("qcow2", &own)] {
            run("qemu-io", ["-f", format, "-c", &write, text(file)]);
        }
    }
    for written in [&child, &own] {
        check_clean(written);
        compare(&raw, written);
    }
    assert!(std::fs::read(&base).unwrap() == before, "the base changed");
}

#[test]
fn explanations_lead_to_the_disk() {
    let disk = several_tables();
    let image = qcow2(&disk);
    let explain = |offset| {
        let mut trail: Vec<Step> = Vec::new();
        image.explain_at(offset, &mut trail);
        trail
            .iter()
            .map(|step| format!("{}+{:#x}", step.what, step.offset))
            .collect::<Vec<_>>()
    };
    assert_eq!(explain(24), ["qcow2 header+0x18"]);
    assert_eq!(
        explain(CLUSTER + 3),
        ["refcount table, entry of refcount block 0+0x3"]
    );
    assert_eq!(
        explain(2 * CLUSTER + 13),
        ["refcount block 0, count of file cluster 6+0x1"]
    );
    assert_eq!(
        explain(3 * CLUSTER + 8),
        ["L1 table, entry of L2 table 1+0x0"]
    );
    assert_eq!(
        explain(5 * CLUSTER + 16),
        ["L2 table 1, entry of cluster 8194+0x0"]
    );
    assert_eq!(
        explain(6 * CLUSTER),
        ["L2 table 3, entry of cluster 24576+0x0"]
    );
    // Behind the header and six tables: cluster 0, then the four around the border of the first two L2 tables.
    assert_eq!(
        explain(8 * CLUSTER + 5),
        ["qcow2 cluster 8191+0x5", "test disk+0x1fff0005"]
    );
    assert_eq!(explain(image.len() - 1)[0][..14], *"qcow2 padding+");
}

#[test]
fn impossible_disks_are_refused() {
    let refused = |disk: MemoryDisk| {
        Qcow2::new(Arc::new(disk.clone()), &DataMap::of(&disk))
            .err()
            .unwrap()
    };
    assert!(matches!(
        refused(MemoryDisk::new(0)),
        Qcow2Error::DiskLen(_)
    ));
    assert_eq!(
        refused(MemoryDisk::new(MIB + 100)).to_string(),
        "disk of 1048676 bytes (1 MiB): a qcow2's is a multiple of 512 bytes, and not empty"
    );
    let most = 2048 * TIB;
    assert_eq!(
        refused(MemoryDisk::new(most + 512)).to_string(),
        "disk of 2251799813685760 bytes (2048 TiB): a qcow2's is at most 2048 TiB, which an L1 table of 32 MiB maps with \
         clusters of 64 KiB"
    );
    check_byte_source(&qcow2(&MemoryDisk::new(most).with_noise(most - 1, 1)));
    let full = FullDisk(most);
    let result = Qcow2::new(Arc::new(full), &DataMap::of(&full));
    assert!(matches!(result, Err(Qcow2Error::TooFull(_))));
}

#[test]
fn equal_disks_give_equal_images() {
    let first = qcow2(&mixed());
    let second = qcow2(&mixed());
    assert_eq!(to_usize(first.len()), to_usize(second.len()));
    assert!(read(&first, 0, first.len()) == read(&second, 0, to_u64(to_usize(second.len()))));
}

#[test]
fn a_config_has_a_qcow2() {
    let directory = tempfile::tempdir().unwrap();
    let images = "'disk.img' = { format = 'raw' }\n'disk.qcow2' = { format = 'qcow2' }";
    let planned = two_partitions(directory.path(), images);
    let (raw, qcow2) = (image(&planned, "disk.img"), image(&planned, "disk.qcow2"));
    check_byte_source(&*qcow2.source);
    assert_ne!(raw.identity, qcow2.identity);
    if !require_tool("qemu-img") {
        return;
    }
    let [raw, qcow2] = [raw, qcow2].map(|image| export(directory.path(), &image));
    check_clean(Path::new(&qcow2));
    compare(Path::new(&raw), Path::new(&qcow2));
}
