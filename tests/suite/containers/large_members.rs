//! Members of archives beyond 8 GiB, whose sizes no octal number of a tar header can say.

use std::path::Path;
use std::sync::Arc;

use miragefs::synth::generation::{Image, Planned};
use miragefs::synth::source::ByteSource;
use miragefs::units::to_u64;
use sha2::{Digest, Sha256};

use super::disks::zeros_as_data;
use super::readers::{python, require_python_readers};
use crate::mounted::{TestMount, require_fuse};
use crate::support::{long_tests, read, require_tool, run_text};

const GIB: u64 = 1 << 30;
/// From here on the size is a number of base 256.
const OCTAL_END: u64 = 8 * GIB;

/// A member, as its header says.
#[derive(Debug, PartialEq)]
struct Member {
    name: String,
    offset: u64,
    size: u64,
}

/// The members of an archive by the letter of ustar and GNU's base 256; no header is any other than a plain file's.
fn members(archive: &dyn ByteSource) -> Vec<Member> {
    let mut members = Vec::new();
    let mut offset = 0;
    loop {
        let header = read(archive, offset, 512);
        if header[0] == 0 {
            return members;
        }
        assert_eq!(
            (header[156], &header[257..265]),
            (b'0', &b"ustar\x0000"[..])
        );
        let name = header[..100].split(|byte| *byte == 0).next().unwrap();
        let size = match header[124] {
            0x80 => u64::from_be_bytes(header[128..136].try_into().unwrap()),
            _ => {
                let digits = std::str::from_utf8(&header[124..135]).unwrap();
                u64::from_str_radix(digits, 8).unwrap()
            }
        };
        assert_eq!(header[124] == 0x80, size >= OCTAL_END, "{size}");
        offset += 512;
        members.push(Member {
            name: String::from_utf8(name.to_vec()).unwrap(),
            offset,
            size,
        });
        offset += size.next_multiple_of(512);
    }
}

/// SHA-256 of the first and the last 512 bytes, as tests/readers/read.py takes it.
fn ends(archive: &dyn ByteSource, member: &Member) -> String {
    let len = member.size.min(512);
    let mut sha256 = Sha256::new();
    sha256.update(read(archive, member.offset, len));
    sha256.update(read(archive, member.offset + member.size - len, len));
    sha256
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Name and size of each member that GNU tar lists; it seeks over what is in them.
fn gnu_tar(archive: &Path) -> Vec<(String, u64)> {
    let listed = run_text("tar", [Path::new("-tvf"), archive]);
    let lines = listed.lines().map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        assert!(line.starts_with("-rw-r--r-- "), "{line}");
        (fields[5].to_owned(), fields[2].parse().unwrap())
    });
    lines.collect()
}

/// The same of 7-Zip.
fn seven_zip(archive: &Path) -> Vec<(String, u64)> {
    let archive = archive.to_str().unwrap();
    let listed = run_text("7zz", ["l", "-slt", "-ttar", archive]);
    let (_, entries) = listed.split_once("----------\n").unwrap();
    let values = |key: &str| {
        let key = format!("{key} = ");
        let found = entries.lines().filter_map(|line| line.strip_prefix(&key));
        found.map(str::to_owned).collect::<Vec<_>>()
    };
    // Member headers alone: an extended one would be told.
    assert!(
        values("Characteristics")
            .iter()
            .all(|said| !said.contains("PAX")),
        "{listed}"
    );
    let sizes = values("Size").into_iter().map(|size| size.parse().unwrap());
    values("Path").into_iter().zip(sizes).collect()
}

const IMAGES: &str = "[images]
'lab.ova' = { format = 'ova', manifest = 'none' }
'front.ova' = { format = 'ova', manifest = 'none', grain-directory = 'front' }
'virtualbox.box' = { format = 'vagrant' }
'libvirt.box' = { format = 'vagrant', provider = 'libvirt' }
";

fn check(planned: &Planned, larger: bool) {
    let images: Vec<Arc<Image>> = planned.generation.images.clone();
    let mount = TestMount::new(images.clone());
    for image in &images {
        let path = mount.file(&image.name);
        let expected = members(&*image.source);
        let disk = expected.iter().max_by_key(|member| member.size).unwrap();
        assert_eq!(disk.size >= OCTAL_END, larger, "{disk:?}");
        let names: Vec<_> = expected
            .iter()
            .map(|member| (member.name.clone(), member.size))
            .collect();
        if require_tool("tar") {
            assert_eq!(gnu_tar(&path), names, "{}", image.name);
        }
        if require_tool("7zz") {
            assert_eq!(seven_zip(&path), names, "{}", image.name);
        }
        if require_python_readers() {
            let said = python("tarfile", [&path]).remove(&path).unwrap();
            let fields: Vec<_> = expected
                .iter()
                .map(|member| {
                    let digest = ends(&*image.source, member);
                    format!("{}:0:{}:{digest}", member.name, member.size)
                })
                .collect();
            assert_eq!(said, fields, "{}", image.name);
        }
    }
}

/// Headers are read through a mount: nobody reads the 9 GiB.
#[test]
fn members_beyond_8_gib_are_read_by_all() {
    if !require_fuse() {
        return;
    }
    check(&zeros_as_data(9 * GIB, "mbr").plan(IMAGES), true);
    check(&zeros_as_data(7 * GIB, "none").plan(IMAGES), false);
}

/// A digest of all of it, and a reader that takes it through a pipe.
#[test]
fn a_member_beyond_8_gib_has_its_digest() {
    if !long_tests() || !require_fuse() || !require_tool("sha256sum") {
        return;
    }
    let example = zeros_as_data(9 * GIB, "mbr");
    let planned = example.plan("[images]\n'lab.ova' = { format = 'ova' }\n");
    let mount = TestMount::new(planned.generation.images.clone());
    let script = "tar -xOf - lab-disk1.vmdk < \"$1\" | sha256sum; tar -xOf - lab.mf < \"$1\"";
    let ova = mount.file("lab.ova");
    let said = run_text("sh", ["-c", script, "sh", ova.to_str().unwrap()]);
    let sum = said.split(' ').next().unwrap();
    assert!(
        said.contains(&format!("SHA256(lab-disk1.vmdk)= {sum}\n")),
        "{said}"
    );
    let listed = members(&*planned.generation.images[0].source);
    assert_eq!(to_u64(listed.len()), 3);
}
