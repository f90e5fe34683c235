//! `newest`: which of several files an entry takes.

use std::fs;
use std::path::PathBuf;

use super::Lab;
use super::errors::check;
use crate::config::resolve::newest::LEFTOVERS;

const BOTH: &str = "[[partition]]\ncopy = [\n{ from = 'k/vmlinuz-*', newest = true, to = '/vmlinuz' },\n{ from = 'k/initrd.img-*', newest = true, to = '/initrd.img' } ]";

fn lab(names: &[&str]) -> Lab {
    let lab = Lab::new();
    fs::create_dir(lab.path("k")).unwrap();
    for name in names {
        fs::write(lab.path("k").join(name), name).unwrap();
    }
    lab
}

/// What each entry takes, and the warnings.
fn taken(lab: &Lab, text: &str) -> (Vec<String>, Vec<String>) {
    let loaded = lab.load(text).unwrap();
    let copies = loaded.spec.partitions[0].copies.iter();
    let names = copies.map(|copy| copy.from.file_name().unwrap().to_str().unwrap().to_owned());
    let warnings = loaded.warnings.iter();
    let warnings = warnings.map(|warning| lab.strip(&warning.to_string()));
    (names.collect(), warnings.collect())
}

#[test]
fn the_newest_version_is_taken() {
    let lab = lab(&[
        "vmlinuz-6.1.0-9-amd64",
        "vmlinuz-6.1.0-10-amd64",
        "initrd.img-6.1.0-9-amd64",
        "initrd.img-6.1.0-10-amd64",
        "config-6.1.0-11-amd64",
        "vmlinuz-",
    ]);
    let (names, warnings) = taken(&lab, BOTH);
    assert_eq!(
        names,
        ["vmlinuz-6.1.0-10-amd64", "initrd.img-6.1.0-10-amd64"]
    );
    assert!(warnings.is_empty(), "{warnings:?}");
    let loaded = lab.load(BOTH).unwrap();
    let directory = lab.path("k").canonicalize().unwrap();
    assert_eq!(loaded.directories, [directory]);
}

#[test]
fn a_kernel_never_meets_the_initrd_of_another() {
    let lab = lab(&[
        "vmlinuz-6.1.0-9-amd64",
        "vmlinuz-6.1.0-10-amd64",
        "initrd.img-6.1.0-9-amd64",
        "initrd.img-6.1.0-10-amd64.new",
    ]);
    let (names, warnings) = taken(&lab, BOTH);
    assert_eq!(names, ["vmlinuz-6.1.0-9-amd64", "initrd.img-6.1.0-9-amd64"]);
    let expected = "lab.toml:4:10: `from`: `k` has `vmlinuz-6.1.0-10-amd64` but no `initrd.img-6.1.0-10-amd64`; 6.1.0-9-amd64 is taken";
    let canonical = lab.path("k").canonicalize().unwrap();
    let warning = warnings[0].replace(canonical.to_str().unwrap(), "k");
    assert_eq!((warning.as_str(), warnings.len()), (expected, 1));
    // Each by itself: of another partition, and of another directory.
    let apart = "[[partition]]\ncopy = [{ from = 'k/vmlinuz-*', newest = true }]\n[[partition]]\ncopy = [{ from = 'k/initrd.img-*', newest = true }]";
    let (names, warnings) = taken(&lab, apart);
    assert_eq!(names, ["vmlinuz-6.1.0-10-amd64"]);
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn leftovers_do_not_count() {
    let lab = lab(&["vmlinuz-1"]);
    for end in LEFTOVERS {
        fs::write(lab.path("k").join(format!("vmlinuz-2{end}")), "").unwrap();
    }
    fs::write(lab.path("k").join(".vmlinuz-3"), "").unwrap();
    let text = "[[partition]]\ncopy = [{ from = 'k/vmlinuz-*', newest = true }]";
    assert_eq!(taken(&lab, text).0, ["vmlinuz-1"]);
}

#[test]
fn directories_and_symlinks_are_taken_too() {
    let lab = lab(&[]);
    for name in ["release-1", "release-2"] {
        fs::create_dir(lab.path("k").join(name)).unwrap();
    }
    std::os::unix::fs::symlink("release-1", lab.path("k/release-3")).unwrap();
    std::os::unix::fs::symlink("k", lab.path("l")).unwrap();
    let absolute = lab.path("l/release-*");
    let text = format!(
        "[[partition]]\ncopy = [{{ from = '{}', newest = true }}]",
        absolute.display()
    );
    assert_eq!(taken(&lab, &text).0, ["release-1"]);
    // The symlink to the directory may lead elsewhere later.
    let loaded = lab.load(&text).unwrap();
    assert!(loaded.paths.contains(&lab.path("l")), "{:?}", loaded.paths);
    let directories: Vec<PathBuf> = vec![lab.path("k").canonicalize().unwrap()];
    assert_eq!(loaded.directories, directories);
}

#[test]
fn mistakes() {
    let star =
        "write it as in { from = \"root/boot/vmlinuz-*\", newest = true, to = \"/vmlinuz\" }";
    check(&[
        (
            "[[partition]]\ncopy = [{ from = 'boot', newest = true }]",
            "lab.toml:2:18: `from` is \"boot\"; with newest = true the name after the last `/` has one `*`, and no name before it has any",
            star,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'b*/vmlinuz-*', newest = true }]",
            "lab.toml:2:18: `from` is \"b*/vmlinuz-*\"; with newest = true the name after the last `/` has one `*`, and no name before it has any",
            star,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot/*-*', newest = true }]",
            "lab.toml:2:18: `from` is \"boot/*-*\"; with newest = true the name after the last `/` has one `*`, and no name before it has any",
            star,
        ),
        (
            "[[partition]]\ncopy = [{ newest = true }]",
            "lab.toml:2:9: `from` is missing in an entry of copy",
            "name a file or directory of the host, as in { from = \"boot\", to = \"/\" }",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', newest = 'yes' }]",
            "lab.toml:2:35: `newest` is a text; expected true or false",
            "write newest = true or newest = false, without quotes",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'none/vmlinuz-*', newest = true }]",
            "lab.toml:2:18: `from`: `none` does not exist",
            "relative paths start at the directory of the config file that names them",
        ),
        (
            "[[partition]]\ncopy = [{ from = '440.bin/vmlinuz-*', newest = true }]",
            "lab.toml:2:18: `from`: `440.bin` cannot be looked at",
            "what stands before a `/` must be a directory; one here is a file",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot/vmlinuz-*', newest = true }]",
            "lab.toml:2:18: `from`: nothing in `boot` is called `vmlinuz-*`",
            "`*` stands for at least one character; names that end in ~ .bak .dpkg-bak .dpkg-dist .dpkg-new .dpkg-old .dpkg-tmp .new .old .old-dkms .part .tmp do not count",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot/vmlinuz-*' }]",
            "lab.toml:2:18: `from`: `boot/vmlinuz-*` does not exist",
            "newest = true takes the newest of what matches a `*`",
        ),
    ]);
}

#[test]
fn nothing_in_common_is_a_mistake() {
    let lab = lab(&["vmlinuz-2", "vmlinuz-10", "initrd.img-3"]);
    let error = lab.load(BOTH).unwrap_err();
    let expected = "lab.toml:4:10: `from`: no version in `k` is one of `vmlinuz-*` and `initrd.img-*`; the newest are `vmlinuz-10` and `initrd.img-3`";
    assert_eq!(lab.strip(&error.to_string()), expected);
    assert_eq!(
        error.hint().unwrap(),
        "entries of a partition with newest = true that look into one directory take the same version; look elsewhere for what has versions of its own"
    );
}
