//! VHDX images against the tools that read and write them.

use std::collections::BTreeMap;
use std::sync::Arc;

use miragefs::synth::data_map::DataMap;
use miragefs::synth::fingerprint;
use miragefs::synth::source::{ByteSource, ReadError, Run, Step};
use miragefs::synth::vhdx::{Vhdx, VhdxError, VhdxParams};

use crate::images::{export, two_partitions};
use crate::planned::image;
use crate::support::{
    MemoryDisk, check_byte_source, read, require_tool, run, run_text, write_to_file,
};
use crate::vhd::{Mounted, check_with_tools, disks};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const BLOCK: u64 = 2 * MIB;
/// Where the block allocation table begins.
const TABLE: u64 = 3 * MIB;

fn params() -> VhdxParams {
    VhdxParams {
        file_write_guid: fingerprint::uuid("seed", "file"),
        data_write_guid: fingerprint::uuid("seed", "data"),
        page_83_data: fingerprint::uuid("seed", "disk"),
    }
}

pub(crate) fn vhdx(disk: &MemoryDisk) -> Vhdx {
    Vhdx::new(Arc::new(disk.clone()), &DataMap::of(disk), params()).unwrap()
}

/// Beyond a chunk of 4 GiB, whose sector bitmap has an entry of its own.
fn chunks() -> MemoryDisk {
    MemoryDisk::new(9 * GIB)
        .with_noise(4 * GIB - 1000, 2000)
        .with_noise(8 * GIB + 3 * BLOCK, 512)
        .with_noise(9 * GIB - 512, 512)
}

#[test]
fn vhdx_conforms() {
    for (_, disk) in disks() {
        check_byte_source(&vhdx(&disk));
    }
    check_byte_source(&vhdx(&chunks()));
}

#[test]
fn tools_read_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.vhdx");
    let id = params().data_write_guid.to_string();
    for (_, disk) in disks() {
        check_with_tools(&disk, &vhdx(&disk), "vhdx", &path, &["Dynamic", &id]);
        if require_tool("qemu-img") {
            let path = path.to_str().unwrap();
            let checked = run_text("qemu-img", ["check", "-f", "vhdx", path]);
            assert!(checked.contains("No errors were found"), "{checked}");
        }
    }
}

fn u32_at(image: &dyn ByteSource, offset: u64) -> u64 {
    let bytes = read(image, offset, 4).try_into().unwrap();
    u64::from(u32::from_le_bytes(bytes))
}

fn u64_at(image: &dyn ByteSource, offset: u64) -> u64 {
    u64::from_le_bytes(read(image, offset, 8).try_into().unwrap())
}

/// What a VHDX says, by the format's description alone.
struct Decoded<'a> {
    image: &'a dyn ByteSource,
    /// GUID to offset and length.
    regions: BTreeMap<Vec<u8>, (u64, u64)>,
    /// GUID to the item's bytes.
    items: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The first four bytes of the GUIDs, which tell them apart.
const BAT: [u8; 4] = [0x66, 0x77, 0xc2, 0x2d];
const METADATA: [u8; 4] = [0x06, 0xa2, 0x7c, 0x8b];
const FILE_PARAMETERS: [u8; 4] = [0x37, 0x67, 0xa1, 0xca];
const VIRTUAL_DISK_SIZE: [u8; 4] = [0x24, 0x42, 0xa5, 0x2f];
const PAGE_83: [u8; 4] = [0xab, 0x12, 0xca, 0xbe];
const LOGICAL_SECTOR: [u8; 4] = [0x1d, 0xbf, 0x41, 0x81];
const PHYSICAL_SECTOR: [u8; 4] = [0xc7, 0x48, 0xa3, 0xcd];

impl<'a> Decoded<'a> {
    fn of(image: &'a dyn ByteSource) -> Self {
        assert_eq!(read(image, 0, 8), b"vhdxfile");
        assert_eq!(read(image, 192 * KIB, 4), b"regi");
        let guid = |at| read(image, at, 4);
        let entries = (0..u32_at(image, 192 * KIB + 8)).map(|i| 192 * KIB + 16 + 32 * i);
        let regions: BTreeMap<_, _> = entries
            .map(|at| (guid(at), (u64_at(image, at + 16), u32_at(image, at + 24))))
            .collect();
        let (metadata, _) = regions[&METADATA[..]];
        assert_eq!(read(image, metadata, 8), b"metadata");
        let count = u32_at(image, metadata + 8) >> 16;
        let entries = (0..count).map(|i| metadata + 32 + 32 * i);
        let items = entries
            .map(|at| {
                let offset = metadata + u32_at(image, at + 16);
                (guid(at), read(image, offset, u32_at(image, at + 20)))
            })
            .collect();
        Self {
            image,
            regions,
            items,
        }
    }

    fn number(&self, item: [u8; 4]) -> u64 {
        let mut bytes = [0; 8];
        let item = &self.items[&item[..]];
        let len = item.len().min(8);
        bytes[..len].copy_from_slice(&item[..len]);
        u64::from_le_bytes(bytes)
    }

    /// The entry of a block: state and offset.
    fn entry(&self, block: u64) -> (u64, u64) {
        // The size is followed by flags, all 0.
        let ratio = (1 << 23) * self.number(LOGICAL_SECTOR) / self.number(FILE_PARAMETERS);
        let (table, len) = self.regions[&BAT[..]];
        let at = 8 * (block + block / ratio);
        assert!(at < len, "block {block}");
        let entry = u64_at(self.image, table + at);
        (entry & 7, entry >> 20 << 20)
    }

    /// A block, or `None` if it is said to be all zeros.
    fn block(&self, block: u64) -> Option<Vec<u8>> {
        match self.entry(block) {
            (6, offset) => Some(read(self.image, offset, self.number(FILE_PARAMETERS))),
            (2, 0) => None,
            (state, offset) => panic!("block {block}: state {state} at {offset:#x}"),
        }
    }
}

/// A region table or a header, whose checksum is at byte 4.
fn assert_checksum(image: &dyn ByteSource, offset: u64, len: u64) {
    let mut bytes = read(image, offset, len);
    let stored: [u8; 4] = bytes[4..8].try_into().unwrap();
    bytes[4..8].fill(0);
    // Bit by bit, by the polynomial.
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    assert_eq!(!crc, u32::from_le_bytes(stored), "checksum at {offset:#x}");
}

#[test]
fn headers_and_tables_are_twice_there() {
    let (_, disk) = disks().swap_remove(0);
    let image = vhdx(&disk);
    let headers = [64, 128].map(|kib| {
        assert_checksum(&image, kib * KIB, 4096);
        read(&image, kib * KIB, 4096)
    });
    assert_eq!(headers.each_ref().map(|header| header[8]), [1, 2]);
    assert_eq!(headers[0][16..], headers[1][16..]);
    // An empty log: a GUID of zeros, and no entry that could be one's.
    assert_eq!(headers[0][48..64], [0; 16]);
    assert_eq!(image.known_zero_at(MIB), (true, MIB));
    for kib in [192, 256] {
        assert_checksum(&image, kib * KIB, 64 * KIB);
    }
    let tables = [192, 256].map(|kib| read(&image, kib * KIB, 64 * KIB));
    assert!(tables[0] == tables[1], "the copies differ");
}

/// Structure by structure, as the two put regions and blocks at other places.
#[test]
fn structures_are_what_qemu_img_writes() {
    if !require_tool("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [raw, theirs] = ["disk.img", "theirs.vhdx"].map(|name| directory.path().join(name));
    let [raw_text, theirs_text] = [&raw, &theirs].map(|path| path.to_str().unwrap());
    let with_chunks = disks().into_iter().chain([("chunks", chunks())]);
    for (name, disk) in with_chunks {
        write_to_file(&disk, &raw);
        let arguments = ["convert", "-f", "raw", "-O", "vhdx", "-o", "block_size=2M"];
        run(
            "qemu-img",
            arguments.into_iter().chain([raw_text, theirs_text]),
        );
        let theirs = FileSource::open(&theirs);
        let ours = vhdx(&disk);
        // Versions, length and place of the log; all else in a header is the writer's own.
        for offset in [64 * KIB + 64, 128 * KIB + 64] {
            assert_eq!(
                read(&ours, offset, 4096 - 64),
                read(&theirs, offset, 4096 - 64)
            );
        }
        let (ours, theirs) = (Decoded::of(&ours), Decoded::of(&theirs));
        let lengths = |decoded: &Decoded<'_>| -> Vec<u64> {
            decoded.regions.values().map(|(_, len)| *len).collect()
        };
        assert_eq!(lengths(&ours), lengths(&theirs), "{name}");
        let [mut our_metadata, mut their_metadata] = [&ours, &theirs].map(|decoded| {
            let (offset, len) = decoded.regions[&METADATA[..]];
            read(decoded.image, offset, len)
        });
        for metadata in [&mut our_metadata, &mut their_metadata] {
            // Page 83, and the physical sector size: 512 bytes in theirs.
            metadata[0x1_0010..0x1_0020].fill(0);
            metadata[0x1_0024..0x1_0028].fill(0);
        }
        assert!(our_metadata == their_metadata, "metadata of {name}");
        for block in 0..disk.len().div_ceil(BLOCK) {
            assert!(
                ours.block(block) == theirs.block(block),
                "block {block} of {name}"
            );
        }
        // Entries of sector bitmaps and behind the last: all that is not a block's.
        let [our_table, their_table] = [&ours, &theirs].map(|decoded| {
            let (offset, len) = decoded.regions[&BAT[..]];
            let table = read(decoded.image, offset, len);
            let states = table.chunks(8).map(|entry| entry[0]);
            states.collect::<Vec<_>>()
        });
        assert!(our_table == their_table, "states in the table of {name}");
    }
}

/// A file, for the decoder.
struct FileSource(std::fs::File, u64);

impl FileSource {
    fn open(path: &std::path::Path) -> Self {
        let file = std::fs::File::open(path).unwrap();
        let len = file.metadata().unwrap().len();
        Self(file, len)
    }
}

impl ByteSource for FileSource {
    fn len(&self) -> u64 {
        self.1
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, buf, offset).unwrap();
        Ok(())
    }
    fn run_at(&self, _: u64) -> Run {
        unreachable!("only read")
    }
    fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}
}

#[test]
fn items_say_what_the_disk_is() {
    let image = vhdx(&chunks());
    let decoded = Decoded::of(&image);
    assert_eq!(decoded.number(FILE_PARAMETERS), BLOCK);
    assert_eq!(decoded.number(VIRTUAL_DISK_SIZE), 9 * GIB);
    assert_eq!(decoded.number(LOGICAL_SECTOR), 512);
    assert_eq!(decoded.number(PHYSICAL_SECTOR), 4096);
    let id = params().page_83_data.to_bytes_le();
    assert_eq!(decoded.items[&PAGE_83[..]], id);
}

/// Far more than a VHD can hold, and as much as a VHDX can: the plan takes memory by runs, and every block is found.
#[test]
fn vast_disks_are_cheap() {
    for len in [2 * TIB, 64 * TIB] {
        let mut disk = MemoryDisk::new(len);
        for i in 0..20 {
            disk = disk.with_noise(i * (len / 20) + 12_345, 1_000_000);
        }
        let disk = disk.with_noise(len - 512, 512);
        let image = vhdx(&disk);
        let table = 8 * (len / BLOCK + (len / BLOCK - 1) / 2048);
        let data = image.len() - TABLE - table.next_multiple_of(MIB);
        // Some of the twenty lie across two blocks.
        assert_eq!(data % BLOCK, 0);
        assert!((21..=41).contains(&(data / BLOCK)), "{data}");
        check_byte_source(&image);
        let decoded = Decoded::of(&image);
        for i in 0..20 {
            let block = (i * (len / 20) + 12_345) / BLOCK;
            let data = decoded.block(block).unwrap();
            assert!(
                data == read(&disk, block * BLOCK, BLOCK),
                "block {block} differs"
            );
            assert_eq!(decoded.block(block + 2), None);
        }
        let last = len / BLOCK - 1;
        let data = decoded.block(last).unwrap();
        assert!(data == read(&disk, last * BLOCK, BLOCK), "the last block");
        if len == 2 * TIB {
            check_places_with_tools(&disk, &image);
        }
    }
}

/// Behind the entry of the first sector bitmap all entries are one further.
#[test]
fn tools_read_beyond_a_chunk() {
    let disk = MemoryDisk::new(4 * GIB + 8 * MIB)
        .with_noise(4 * GIB - 1000, 2000)
        .with_noise(4 * GIB + 8 * MIB - 512, 512);
    let image = vhdx(&disk);
    check_places_with_tools(&disk, &image);
    let directory = tempfile::tempdir().unwrap();
    let [raw, path] = ["disk.img", "disk.vhdx"].map(|name| directory.path().join(name));
    write_to_file(&disk, &raw);
    write_to_file(&image, &path);
    let [raw, path] = [&raw, &path].map(|path| path.to_str().unwrap());
    if require_tool("qemu-img") {
        let arguments = ["compare", "-f", "raw", "-F", "vhdx", raw, path];
        assert_eq!(run_text("qemu-img", arguments), "Images are identical.\n");
    }
    if require_tool("7zz") {
        let tested = run_text("7zz", ["t", path]);
        assert!(tested.contains("Everything is Ok"), "{tested}");
    }
}

/// Tools would take long for all of it: qemu-img reads every block of a VHDX, whether it is allocated or not.
fn check_places_with_tools(disk: &MemoryDisk, image: &dyn ByteSource) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.vhdx");
    write_to_file(image, &path);
    if require_tool("qemu-img") {
        let checked = run_text("qemu-img", ["check", "-f", "vhdx", path.to_str().unwrap()]);
        assert!(checked.contains("No errors were found"), "{checked}");
    }
    if require_tool("vhdimount") {
        let mounted = Mounted::of(&path);
        let theirs = FileSource::open(&mounted.disk());
        assert_eq!(theirs.len(), disk.len());
        for i in 0..20 {
            let offset = i * (disk.len() / 20);
            let (ours, theirs) = (
                read(disk, offset, 2 * BLOCK),
                read(&theirs, offset, 2 * BLOCK),
            );
            assert!(ours == theirs, "libvhdi reads other bytes at {offset:#x}");
        }
        let last = disk.len() - BLOCK;
        assert!(
            read(disk, last, BLOCK) == read(&theirs, last, BLOCK),
            "at the end"
        );
    }
}

#[test]
fn odd_disks_are_refused() {
    let refused = |len| {
        let disk = MemoryDisk::new(len);
        let data = DataMap::of(&disk);
        let result = Vhdx::new(Arc::new(disk), &data, params());
        result.err().unwrap()
    };
    assert!(matches!(refused(0), VhdxError::DiskLen(_)));
    assert!(matches!(refused(MIB + 1), VhdxError::DiskLen(_)));
    assert_eq!(
        refused(65 * TIB).to_string(),
        "disk of 71468255805440 bytes (65 TiB): a VHDX's is at most 70368744177664 bytes (64 TiB)"
    );
}

#[test]
fn explanations_lead_to_the_disk() {
    let disk = chunks();
    let image = vhdx(&disk);
    let explain = |offset| {
        let mut trail = Vec::new();
        image.explain_at(offset, &mut trail);
        trail
            .iter()
            .map(|step| format!("{}+{:#x}", step.what, step.offset))
            .collect::<Vec<_>>()
    };
    assert_eq!(explain(3), ["VHDX file type identifier+0x3"]);
    assert_eq!(explain(64 * KIB + 8), ["VHDX header+0x8"]);
    assert_eq!(explain(192 * KIB), ["VHDX region table+0x0"]);
    assert_eq!(explain(2 * MIB), ["VHDX metadata table+0x0"]);
    assert_eq!(explain(2 * MIB + 64 * KIB), ["VHDX metadata items+0x0"]);
    assert_eq!(
        explain(TABLE + 8 * 2047 + 1),
        ["block allocation table, entry of block 2047+0x3ff9"]
    );
    assert_eq!(
        explain(TABLE + 8 * 2048),
        ["block allocation table, entry of the sector bitmap before block 2048+0x4000"]
    );
    assert_eq!(
        explain(TABLE + 8 * 2049),
        ["block allocation table, entry of block 2048+0x4008"]
    );
    assert_eq!(
        explain(4 * MIB - 1),
        ["block allocation table, unused entries+0xf6ff0"].map(|_| format!(
            "block allocation table, unused entries+{:#x}",
            MIB - 1 - 8 * (4608 + 2)
        ))
    );
    assert_eq!(
        explain(4 * MIB + BLOCK + 5),
        ["VHDX block 2048+0x5", "test disk+0x100000005"]
    );
    let (_, disk) = disks().swap_remove(5);
    let image = vhdx(&disk);
    let mut trail = Vec::new();
    image.explain_at(image.len() - 1, &mut trail);
    assert_eq!(trail[0].what, "VHDX block, behind the end of the disk");
}

/// The GUIDs of the header that holds: file, data, and that of page 83.
fn guids(image: &dyn ByteSource) -> [Vec<u8>; 3] {
    let page_83 = Decoded::of(image).items[&PAGE_83[..]].clone();
    [
        read(image, 128 * KIB + 16, 16),
        read(image, 128 * KIB + 32, 16),
        page_83,
    ]
}

#[test]
fn images_of_a_config_hold_the_disk() {
    const IMAGES: &str = "'disk.img' = { format = 'raw' }\n'disk.vhdx' = { format = 'vhdx' }\n\
                          'other.vhdx' = { format = 'vhdx' }";
    let directory = tempfile::tempdir().unwrap();
    let planned = two_partitions(directory.path(), IMAGES);
    let [disk, other] = ["disk.vhdx", "other.vhdx"].map(|name| image(&planned, name));
    check_byte_source(&*disk.source);
    let [[file, data, id], [other_file, other_data, other_id]] =
        [&disk, &other].map(|image| guids(&*image.source));
    // Two files, of one disk's contents, as two disks.
    assert_ne!(file, other_file);
    assert_eq!(data, other_data);
    assert_ne!(id, other_id);
    if require_tool("qemu-img") {
        let [raw, vhdx] =
            ["disk.img", "disk.vhdx"].map(|name| export(directory.path(), &image(&planned, name)));
        let arguments = ["compare", "-f", "raw", "-F", "vhdx", &raw, &vhdx];
        assert_eq!(run_text("qemu-img", arguments), "Images are identical.\n");
    }
    // Other contents: a child notices, and the guest sees the same disk.
    std::fs::write(directory.path().join("home/more"), "x").unwrap();
    let changed = two_partitions(directory.path(), IMAGES);
    let [new_file, new_data, new_id] = guids(&*image(&changed, "disk.vhdx").source);
    assert_ne!(file, new_file);
    assert_ne!(data, new_data);
    assert_eq!(id, new_id);
}
