//! Disks beyond what a container can hold: `check` names the limit, the size and the image.

use std::fs;

use super::disks::{Example, zeros_as_data};
use crate::mounted::stderr;
use crate::planned::miragefs;

const TIB: u64 = 1 << 40;

/// `check` of `text`: its exit code and what it says on standard error.
fn check(directory: &std::path::Path, text: &str) -> (Option<i32>, String) {
    let config = directory.join("limits.toml");
    fs::write(&config, text).unwrap();
    let output = miragefs(["check", config.to_str().unwrap()]);
    (output.status.code(), stderr(&output))
}

/// A disk of this size without a file system, and images of it.
fn check_bare(size: &str, images: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut text = format!(
        "[disk]\ntable = 'none'\n[[partition]]\nfilesystem = 'none'\nsize = '{size}'\n[images]\n"
    );
    for (number, keys) in images.iter().enumerate() {
        text.push_str(&format!("'image-{number}' = {{ {keys} }}\n"));
    }
    check(directory.path(), &text)
}

/// The limits of formats whose tables, or whose readers, end with a length of the disk.
#[test]
fn disks_beyond_a_format_s_limit_are_named() {
    for (keys, fits, size, said) in [
        (
            "format = 'vhd'",
            "2040GiB",
            "2041GiB",
            "disk of 2191507062784 bytes (1.9 TiB): a VHD's is at most 2190433320960 bytes (2040 GiB)",
        ),
        (
            "format = 'vhd', layout = 'fixed'",
            "2040GiB",
            "2TiB",
            "disk of 2199023255552 bytes (2 TiB): a VHD's is at most 2190433320960 bytes (2040 GiB)",
        ),
        (
            "format = 'vhdx'",
            "64TiB",
            "65TiB",
            "disk of 71468255805440 bytes (65 TiB): a VHDX's is at most 70368744177664 bytes (64 TiB)",
        ),
        (
            "format = 'vdi'",
            "511TiB",
            "512TiB",
            "disk of 562949953421312 bytes (512 TiB): a VDI's has at most 536870784 blocks of 1 MiB, 562949819203584 bytes",
        ),
        (
            "format = 'qcow2'",
            "2048TiB",
            "2049TiB",
            "disk of 2252899325313024 bytes (2049 TiB): a qcow2's is at most 2048 TiB",
        ),
        (
            "format = 'vagrant', provider = 'libvirt'",
            "2048TiB",
            "2049TiB",
            "disk of 2252899325313024 bytes (2049 TiB): a qcow2's is at most 2048 TiB",
        ),
    ] {
        let (code, errors) = check_bare(fits, &[keys]);
        assert_eq!(code, Some(0), "{keys} of {fits}: {errors}");
        // Neither the raw disk nor a descriptor of it has a limit.
        let others = [
            "format = 'raw'",
            "format = 'vmdk', layout = 'monolithic-flat'",
        ];
        let (code, errors) = check_bare(size, &others);
        assert_eq!(code, Some(0), "{errors}");
        let (code, errors) = check_bare(size, &[others[0], others[1], keys]);
        assert_eq!(code, Some(2), "{keys} of {size}: {errors}");
        let expected = format!("image `image-2`: {said}");
        assert!(errors.contains(&expected), "{errors}");
    }
}

/// Images whose file ends at 2 TiB, as its tables have 32-bit sectors: the disk may be longer, what is in it not.
#[test]
fn vmdk_files_beyond_2_tib_are_named() {
    let example = zeros_as_data(3 * TIB, "none");
    let try_image = |example: &Example, keys: &str| {
        let text = format!("{}\n[images]\nx = {{ {keys} }}\n", example.text());
        check(&example.path(""), &text)
    };
    for keys in [
        "format = 'vmdk'",
        "format = 'vmdk', layout = 'stream-optimized'",
        "format = 'vmdk', layout = 'stream-optimized', grain-directory = 'front'",
        "format = 'ova'",
        "format = 'ova', manifest-position = 'second'",
        "format = 'ovf'",
        "format = 'vagrant'",
    ] {
        let (code, errors) = try_image(&example, keys);
        assert_eq!(code, Some(2), "{keys}: {errors}");
        let begin = errors
            .find("image `x`: VMDK of ")
            .unwrap_or_else(|| panic!("{errors}"));
        let said = &errors[begin..];
        let size = said.split(' ').nth(4).unwrap().parse::<u64>().unwrap();
        assert!((3 * TIB..3 * TIB + TIB / 8).contains(&size), "{said}");
        assert!(
            said.contains("(3 TiB): grain tables with 32-bit sectors reach up to 2 TiB"),
            "{said}"
        );
    }
    // Compressed they might fit: that is known when it is done.
    let deflate = "format = 'ova', compression = 'deflate'";
    let (code, errors) = try_image(&example, deflate);
    assert_eq!(code, Some(0), "{errors}");
    for keys in [
        "format = 'raw'",
        "format = 'qcow2'",
        "format = 'vdi'",
        "format = 'vhdx'",
    ] {
        let (code, errors) = try_image(&example, keys);
        assert_eq!(code, Some(0), "{keys}: {errors}");
    }
}

/// A disk of 5 TiB fits a VMDK that is mostly empty.
#[test]
fn mostly_empty_disks_fit_a_vmdk() {
    let images = [
        "format = 'vmdk'",
        "format = 'vmdk', layout = 'stream-optimized'",
        "format = 'ova'",
        "format = 'vagrant'",
    ];
    let (code, errors) = check_bare("5TiB", &images);
    assert_eq!(code, Some(0), "{errors}");
}
