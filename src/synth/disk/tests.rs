//! Placement as parted and sfdisk users expect it, and the assembled disk byte by byte.

use super::*;
use crate::synth::source::{Origin, Step};

const GIB_LEN: u64 = 1 << 30;

fn request(label: &str, start: Option<u64>, size: Size) -> PlaceRequest {
    PlaceRequest {
        label: label.to_owned(),
        start: start.map(Lba),
        size,
    }
}

fn placed(
    requests: &[PlaceRequest],
    disk_len: Option<u64>,
) -> Result<(Vec<(u64, u64)>, u64), String> {
    place(requests, PartitionTable::Mbr, disk_len)
        .map(|placement| {
            let partitions = placement.partitions.iter();
            let partitions = partitions
                .map(|(start, sectors)| (start.0, *sectors))
                .collect();
            (partitions, placement.disk_len)
        })
        .map_err(|error| error.to_string())
}

#[test]
fn partitions_start_on_the_next_mebibyte() {
    let requests = [
        request("boot", None, Size::Sectors(524_288)),
        request("odd", None, Size::Sectors(1)),
        request("home", None, Size::Rest),
    ];
    assert_eq!(
        placed(&requests, Some(GIB_LEN)),
        Ok((
            vec![(2048, 524_288), (526_336, 1), (528_384, 1_568_768)],
            GIB_LEN
        ))
    );
}

/// What `parted --align=none mkpart primary 0 256M` and `mkpart primary 256M 100%` give on 1 GiB.
#[test]
fn given_starts_are_kept_to_the_sector() {
    let requests = [
        request("boot", Some(1), Size::Sectors(500_000)),
        request("home", Some(500_001), Size::Rest),
    ];
    assert_eq!(
        placed(&requests, Some(GIB_LEN)),
        Ok((vec![(1, 500_000), (500_001, 1_597_151)], GIB_LEN))
    );
}

#[test]
fn an_auto_disk_ends_on_the_mebibyte_after_the_last_partition() {
    let requests = [
        request("boot", Some(1), Size::Sectors(2047)),
        request("home", None, Size::Sectors(2049)),
    ];
    assert_eq!(
        placed(&requests, None),
        Ok((vec![(1, 2047), (2048, 2049)], 3 << 20))
    );
    assert_eq!(
        placed(&[request("home", None, Size::Rest)], None).unwrap_err(),
        "partition \"home\": takes the rest of a disk whose size is not given"
    );
}

#[test]
fn rest_ends_before_the_next_given_start_and_on_a_mebibyte() {
    let requests = [
        request("a", None, Size::Rest),
        request("b", Some(10_000), Size::Sectors(10)),
    ];
    assert_eq!(
        placed(&requests, Some((16 << 20) + 65_536)),
        Ok((vec![(2048, 6144), (10_000, 10)], (16 << 20) + 65_536))
    );
    let last = [request("a", None, Size::Rest)];
    assert_eq!(
        placed(&last, Some((16 << 20) + 65_536)).map(|(partitions, _)| partitions),
        Ok(vec![(2048, 14 * 2048 + 2048)])
    );
}

#[test]
fn order_on_the_disk_need_not_be_the_order_of_numbers() {
    let requests = [
        request("late", Some(20_480), Size::Sectors(10)),
        request("early", Some(2048), Size::Sectors(10)),
    ];
    assert_eq!(
        placed(&requests, None).map(|(partitions, _)| partitions),
        Ok(vec![(20_480, 10), (2048, 10)])
    );
}

#[test]
fn impossible_places_say_why() {
    let text = |requests: &[PlaceRequest], disk_len| placed(requests, disk_len).unwrap_err();
    assert_eq!(
        text(
            &[
                request("boot", None, Size::Sectors(4096)),
                request("home", Some(6143), Size::Sectors(1)),
            ],
            Some(GIB_LEN)
        ),
        "partition \"home\": starts at sector 6143, but partition \"boot\" ends after sector 6143"
    );
    assert_eq!(
        text(&[request("boot", Some(0), Size::Sectors(1))], None),
        "partition \"boot\": starts at sector 0, which holds the partition table; the first free one is 1"
    );
    assert_eq!(
        text(
            &[request("boot", None, Size::Sectors(2_097_152))],
            Some(GIB_LEN)
        ),
        "partition \"boot\": ends at 1074790400 bytes (1 GiB); the disk has 1073741824 bytes (1 GiB)"
    );
    assert_eq!(
        text(&[request("big", None, Size::Sectors(1 << 32))], None),
        "partition \"big\": ends at 2199024304128 bytes (2 TiB); a partition table of type MBR reaches 2199023255552 bytes (2 TiB)"
    );
    assert_eq!(
        text(
            &[
                request("boot", None, Size::Rest),
                request("home", None, Size::Rest)
            ],
            Some(GIB_LEN)
        ),
        "partition \"home\": nothing is left for it between sector 2097152 and sector 2097152"
    );
    assert_eq!(
        text(&[request("boot", None, Size::Sectors(0))], None),
        "partition \"boot\": has no sectors"
    );
    for start in [2048, u64::MAX] {
        assert_eq!(
            text(&[request("x", Some(start), Size::Sectors(u64::MAX))], None),
            "partition \"x\": ends beyond 2^64 bytes"
        );
    }
}

#[test]
fn the_last_sector_that_an_mbr_reaches_can_be_used() {
    let requests = [request("big", Some(2048), Size::Sectors((1 << 32) - 2048))];
    assert_eq!(
        placed(&requests, None),
        Ok((vec![(2048, (1 << 32) - 2048)], 2 << 40))
    );
}

#[test]
fn without_a_table_the_partition_is_the_disk() {
    let whole = place(
        &[request("data", None, Size::Rest)],
        PartitionTable::None,
        Some((5 << 40) + 65_536),
    );
    assert_eq!(
        whole.unwrap().partitions,
        [(Lba(0), ((5 << 40) + 65_536) / 512)]
    );
    let shifted = place(
        &[request("data", Some(8), Size::Sectors(8))],
        PartitionTable::None,
        None,
    );
    assert_eq!(
        shifted.unwrap_err().to_string(),
        "partition \"data\": is not the whole disk, which a disk without partition table needs"
    );
}

fn filled(len: usize, byte: u8) -> Arc<dyn ByteSource> {
    let mut map = SegmentMap::new();
    let bytes: Arc<[u8]> = vec![byte; len].into();
    let structure = "fill";
    map.push(
        u64::try_from(len).unwrap(),
        structure,
        Segment::Bytes { bytes, structure },
    );
    Arc::new(map)
}

fn example() -> DiskLayout {
    let partition = |label: &str, start, sectors, source| PlacedPartition {
        label: label.to_owned(),
        start: Lba(start),
        sectors,
        type_code: 0x83,
        active: start == 1,
        source,
    };
    DiskLayout {
        len: 64 * 512,
        table: PartitionTable::Mbr,
        partitions: vec![
            partition("late", 20, 4, filled(3 * 512 + 7, 0xbb)),
            partition("first", 1, 5, filled(5 * 512, 0xaa)),
        ],
        boot_code: Some([0x90; BOOT_CODE_LEN]),
        signature: 0x0403_0201,
    }
}

#[test]
fn disks_hold_their_partitions_where_the_table_says() {
    let disk = example().assemble();
    assert_eq!(disk.len(), 64 * 512);
    let mut image = vec![0xa5; 64 * 512];
    disk.read_exact_at(0, &mut image).unwrap();
    assert_eq!(image[..440], [0x90; 440]);
    assert_eq!(image[440..446], [1, 2, 3, 4, 0, 0]);
    assert_eq!(image[446 + 8..446 + 16], [20, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(image[462], 0x80);
    assert_eq!(image[462 + 8..462 + 16], [1, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(image[510..512], [0x55, 0xaa]);
    let mut expected = vec![0; 64 * 512];
    expected[..512].copy_from_slice(&image[..512]);
    expected[512..6 * 512].fill(0xaa);
    expected[20 * 512..23 * 512 + 7].fill(0xbb);
    assert_eq!(image, expected);
}

#[test]
fn explanations_name_number_and_label() {
    let disk = example().assemble();
    let explain = |offset| {
        let mut trail = Vec::new();
        disk.explain_at(offset, &mut trail);
        trail
            .into_iter()
            .map(|Step { what, offset }| (what, offset))
            .next()
    };
    for (offset, what, within) in [
        (5, "boot sector: boot code", 5),
        (443, "boot sector: disk signature", 3),
        (462, "boot sector: partition entry 2", 0),
        (511, "boot sector: signature 0x55aa", 1),
    ] {
        assert_eq!(explain(offset), Some((what.to_owned(), within)));
    }
    assert_eq!(explain(513), Some(("partition 2 \"first\"".to_owned(), 1)));
    assert_eq!(explain(6 * 512), Some(("unpartitioned gap".to_owned(), 0)));
    assert_eq!(
        explain(24 * 512 - 1),
        Some((
            "partition 1 \"late\", behind the file system".to_owned(),
            504
        ))
    );
    assert_eq!(disk.run_at(6 * 512).origin, Origin::Zero);
    assert_eq!(disk.run_at(24 * 512).len, 40 * 512);
}

#[test]
fn a_disk_without_table_is_its_partition() {
    let mut layout = example();
    layout.table = PartitionTable::None;
    layout.partitions.truncate(1);
    layout.partitions[0].start = Lba(0);
    layout.partitions[0].sectors = 64;
    let disk = layout.assemble();
    let mut first = [0];
    disk.read_exact_at(0, &mut first).unwrap();
    assert_eq!((first[0], disk.len()), (0xbb, 64 * 512));
}
