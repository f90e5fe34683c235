//! OVA packages against the tools that read them.
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
use std::thread;

use miragefs::config::spec::{ManifestSpec, PackageSpec, VmSpec};
use miragefs::synth::ova::{Ova, OvaParams, disk_member_name};
use miragefs::synth::source::{ByteSource, ReadError, Run, Step};
use miragefs::units::{to_u64, to_usize};
use sha2::{Digest, Sha256};

use crate::support::{
    MemoryDisk, check_byte_source, next_random, read, require_tool, run, run_text, write_to_file,
};
use crate::vmdk::{disk, stream};

const NAME: &str = "lab";

fn vm() -> VmSpec {
    VmSpec::default()
}

/// The usual manifest.
const SHA256: Option<ManifestSpec> = PackageSpec::DEFAULT.manifest;

fn ova_of(disk: &MemoryDisk, vm: &VmSpec, manifest: Option<ManifestSpec>) -> Ova {
    let params = OvaParams {
        name: NAME,
        vm,
        template: None,
        disk_capacity: disk.len(),
        mtime: 1_700_000_000,
        manifest,

        digests: None,
    };
    Ova::new(params, Arc::new(stream(disk, &disk_member_name(NAME)))).unwrap()
}

/// The package around `disk`.
pub(crate) fn ova(disk: &MemoryDisk) -> Ova {
    ova_of(disk, &vm(), SHA256)
}

/// Name, offset and size of each member, by ustar's description.
pub(crate) fn members(ova: &dyn ByteSource) -> Vec<(String, u64, u64)> {
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    let mut members = Vec::new();
    let mut offset = 0;
    loop {
        let header = read(ova, offset, 512);
        if header.iter().all(|byte| *byte == 0) {
            return members;
        }
        let size = u64::from_str_radix(&text(&header[124..136]), 8).unwrap();
        members.push((text(&header[..100]), offset + 512, size));
        offset += 512 + size.next_multiple_of(512);
    }
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn ova_conforms() {
    check_byte_source(&ova(&disk()));
    check_byte_source(&ova_of(&disk(), &vm(), None));
}

#[test]
fn member_of_ova_is_the_vmdk() {
    let disk = disk();
    let ova = ova(&disk);
    let vmdk = stream(&disk, "lab-disk1.vmdk");
    let members = members(&ova);
    let names: Vec<&str> = members.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(names, ["lab.ovf", "lab-disk1.vmdk", "lab.mf"]);
    assert!(read(&ova, members[1].1, members[1].2) == read(&vmdk, 0, vmdk.len()));
    // Everything but the members and their headers is zero, up to a whole record.
    let end = members[2].1 + members[2].2;
    assert!(ova.len() >= end + 1024 && ova.len().is_multiple_of(10_240));
    assert!(read(&ova, end, ova.len() - end).iter().all(|b| *b == 0));
}

#[test]
fn the_manifest_has_a_page_of_its_own() {
    for mib in 1..9 {
        let disk = MemoryDisk::new(mib << 20).with_noise(0, mib << 16);
        let members = members(&ova(&disk));
        assert_eq!(members[2].1 % 4096, 0);
        assert!((members[1].1 + members[1].2 - 1) / 4096 < members[2].1 / 4096);
    }
}

#[test]
fn same_input_same_bytes() {
    let whole = |ova: Ova| read(&ova, 0, ova.len());
    assert!(whole(ova(&disk())) == whole(ova(&disk())));
}

#[test]
fn the_manifest_is_right() {
    if !require_tool("sha256sum") || !require_tool("tar") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("boot.ova");
    write_to_file(&ova(&disk()), &file);
    run(
        "tar",
        ["-C", path_text(directory.path()), "-xf", path_text(&file)],
    );
    let manifest = std::fs::read_to_string(directory.path().join("lab.mf")).unwrap();
    let mut expected = String::new();
    for name in ["lab.ovf", "lab-disk1.vmdk"] {
        let sums = run_text("sha256sum", [directory.path().join(name)]);
        expected.push_str(&format!("SHA256({name})= {}\n", &sums[..64]));
    }
    assert_eq!(manifest, expected);
}

/// GNU tar, given the members, writes the very same archive.
#[test]
fn tar_lists_and_writes_the_same() {
    if !require_tool("tar") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("boot.ova");
    let again = directory.path().join("again.ova");
    for manifest in [SHA256, None] {
        write_to_file(&ova_of(&disk(), &vm(), manifest), &file);
        let listed = run_text("tar", ["--numeric-owner", "-tvf", path_text(&file)]);
        let lines: Vec<&str> = listed.lines().collect();
        assert!(
            lines[0].starts_with("-rw-r--r-- 0/0")
                && lines[0].ends_with("2023-11-14 22:13 lab.ovf"),
            "{listed}"
        );
        let mut names = vec!["lab.ovf", "lab-disk1.vmdk"];
        if manifest == SHA256 {
            names.push("lab.mf");
        }
        assert_eq!(lines.len(), names.len());
        let path = path_text(directory.path());
        run("tar", ["-C", path, "-xf", path_text(&file)]);
        let fixed = [
            "--format=ustar",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mode=0644",
            "--mtime=@1700000000",
        ];
        let place = ["-C", path, "-cf", path_text(&again)];
        run("tar", fixed.iter().chain(&place).chain(&names));
        assert!(std::fs::read(&file).unwrap() == std::fs::read(&again).unwrap());
    }
}

#[test]
fn qemu_reads_the_vmdk_in_place() {
    if !require_tool("qemu-img") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("boot.ova");
    let raw = directory.path().join("disk.img");
    let disk = disk();
    let ova = ova(&disk);
    write_to_file(&disk, &raw);
    write_to_file(&ova, &file);
    let (_, offset, size) = members(&ova).remove(1);
    let inside = serde_json::json!({
        "driver": "vmdk",
        "file": {
            "driver": "raw", "offset": offset, "size": size,
            "file": { "driver": "file", "filename": path_text(&file) },
        },
    });
    let image = format!("json:{inside}");
    assert_eq!(
        run_text("qemu-img", ["compare", path_text(&raw), &image]),
        "Images are identical.\n"
    );
    let checked = run_text("qemu-img", ["check", &image]);
    assert!(checked.contains("No errors were found"), "{checked}");
}

#[test]
fn seven_zip_tests_the_archive() {
    if !require_tool("7zz") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("boot.ova");
    write_to_file(&ova(&disk()), &file);
    let tested = run_text("7zz", ["t", "-ttar", path_text(&file)]);
    assert!(tested.contains("Everything is Ok"), "{tested}");
}

#[test]
fn only_an_unknown_digest_may_block() {
    let ova = ova(&disk());
    let manifest = members(&ova).remove(2);
    assert!(!ova.may_block(0, manifest.1));
    assert!(ova.may_block(manifest.1 - 1, 2));
    assert!(ova.may_block(0, u64::MAX));
    assert!(!ova.may_block(manifest.1 + 1, 0));
    assert!(!ova.may_block(manifest.1 + manifest.2, 1));
    assert_eq!(ova.second_read_bytes(), 0);
    drop(read(&ova, manifest.1, manifest.2));
    assert!(!ova.may_block(0, u64::MAX));
}

#[test]
fn a_front_to_back_reader_is_read_once() {
    let disk = MemoryDisk::new(32 << 20).with_noise(5000, 25 << 20);
    let ova = ova(&disk);
    let mut hasher = Sha256::new();
    let mut offset = 0;
    while offset < ova.len() {
        let len = 131_072.min(ova.len() - offset);
        hasher.update(read(&ova, offset, len));
        offset += len;
    }
    let reads = ova.second_read_bytes();
    assert!(reads * 50 < ova.len(), "{reads} of {}", ova.len());
    assert_eq!(hasher.finalize(), Sha256::digest(read(&ova, 0, ova.len())));
}

/// Readers at once, each in its own order, some asking for the manifest midway: all see the same bytes, and the
/// manifest is that of the member.
#[test]
fn readers_in_odd_order_agree() {
    let disk = disk();
    let expected = read(&ova(&disk), 0, ova(&disk).len());
    for threads in 1..=4_u64 {
        let ova = ova(&disk);
        let piece = 65_000;
        let pieces = ova.len().div_ceil(piece);
        thread::scope(|scope| {
            for reader in 0..threads {
                let (ova, expected) = (&ova, &expected);
                scope.spawn(move || {
                    let mut order: Vec<u64> = (0..pieces).collect();
                    let mut state = reader + 1;
                    // Near neighbours change places, as with readahead; the last reader jumps about.
                    let reach = if reader == 3 { pieces } else { 8 };
                    for index in 0..pieces {
                        state = next_random(state);
                        let other = (index + (state >> 40) % reach).min(pieces - 1);
                        order.swap(to_usize(index), to_usize(other));
                    }
                    for index in order {
                        let offset = index * piece;
                        let len = piece.min(ova.len() - offset);
                        let bytes = read(ova, offset, len);
                        let at = to_usize(offset);
                        assert!(bytes == expected[at..at + bytes.len()], "at {offset:#x}");
                    }
                });
            }
        });
        assert!(to_u64(expected.len()) == ova.len());
    }
}

/// A VMDK whose bytes beyond the first MiB cannot be read.
struct Failing(Arc<dyn ByteSource>);

impl ByteSource for Failing {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        if offset + to_u64(buf.len()) > 1 << 20 {
            return Err(ReadError::Stale {
                path: "/srv/kernel".into(),
                change: miragefs::synth::source::Change::Truncated,
            });
        }
        self.0.read_exact_at(offset, buf)
    }
    fn run_at(&self, offset: u64) -> Run {
        self.0.run_at(offset)
    }
    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        self.0.explain_at(offset, trail);
    }
}

#[test]
fn a_source_that_fails_fails_the_manifest() {
    let disk = MemoryDisk::new(4 << 20).with_noise(0, 4 << 20);
    let vmdk: Arc<dyn ByteSource> = Arc::new(Failing(Arc::new(stream(&disk, "x.vmdk"))));
    let vm = vm();
    let params = OvaParams {
        name: NAME,
        vm: &vm,
        template: None,
        disk_capacity: disk.len(),
        mtime: 0,
        manifest: SHA256,

        digests: None,
    };
    let ova = Ova::new(params, vmdk).unwrap();
    let manifest = members(&ova).remove(2);
    for _ in 0..2 {
        let mut buf = [0xa5; 10];
        let error = ova.read_exact_at(manifest.1, &mut buf).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/srv/kernel: ended before its planned size"
        );
    }
}

#[test]
fn long_names_are_refused() {
    let disk = MemoryDisk::new(1 << 20);
    let name = "n".repeat(90);
    let vm = vm();
    let params = OvaParams {
        name: &name,
        vm: &vm,
        template: None,
        disk_capacity: disk.len(),
        mtime: 0,
        manifest: None,

        digests: None,
    };
    let error = Ova::new(params, Arc::new(stream(&disk, "x")))
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        format!("{name}-disk1.vmdk: tar member name of 101 bytes; 1 to 100 fit")
    );
}
