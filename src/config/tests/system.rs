//! Mistakes that lie in the system or the file's name rather than in the text.

use std::error::Error as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::*;

const BOOTING: &str = "[[partition]]\nactive = true\nbootloader = 'extlinux'";

#[test]
fn boot_loader_that_is_not_installed_names_the_package() {
    let lab = Lab::new();
    fs::remove_file(lab.path("system/usr/bin/extlinux")).unwrap();
    let error = lab.load(BOOTING).unwrap_err();
    assert_eq!(
        lab.strip(&error.to_string()),
        "lab.toml:3:14: partition `partition-1` has bootloader = \"extlinux\", but extlinux is not installed"
    );
    assert_eq!(
        error.hint().unwrap(),
        "install the package `extlinux` (Debian, Ubuntu), or name the executable: [bootloader] extlinux = \"/path/to/extlinux\""
    );
    // A path works on any machine.
    let text = format!("[bootloader]\nextlinux = '440.bin'\n{BOOTING}");
    let extlinux = lab.load(&text).unwrap().spec.extlinux;
    assert_eq!(extlinux, Some(lab.path("440.bin").canonicalize().unwrap()));
}

#[test]
fn boot_code_that_is_not_installed_names_the_packages() {
    let lab = Lab::new();
    let boot_code = lab.path("system/usr/lib/EXTLINUX/mbr.bin");
    // One of another length is passed over.
    fs::write(boot_code, [0; 439]).unwrap();
    let error = lab.load(BOOTING).unwrap_err();
    assert_eq!(
        lab.strip(&error.to_string()),
        "lab.toml:1:1: boot-code \"syslinux\": no mbr.bin of 440 bytes in /usr/lib/EXTLINUX, /usr/lib/syslinux/mbr, /usr/lib/syslinux/bios, /usr/lib/syslinux, /usr/share/syslinux"
    );
    assert_eq!(
        error.hint().unwrap(),
        "install the package `extlinux` or `syslinux-common` (Debian, Ubuntu), or give the path of a boot code"
    );
}

#[test]
fn name_comes_from_the_file_only_if_it_fits() {
    let lab = Lab::new();
    let path = lab.path("my lab.toml");
    let error = load_text("[[partition]]".to_owned(), &path, &lab.environment).unwrap_err();
    assert_eq!(
        lab.strip(&error.to_string()),
        "my lab.toml:1:1: `name` is missing, and the file's name `my lab` cannot stand in for it"
    );
    assert_eq!(
        error.hint().unwrap(),
        "add name = \"…\" at the top of the config"
    );
}

#[test]
fn config_that_is_no_text_says_so() {
    let lab = Lab::new();
    fs::write(lab.path("lab.toml"), b"name = '\xff'").unwrap();
    let error = super::super::load(&lab.path("lab.toml")).unwrap_err();
    assert_eq!(lab.strip(&error.to_string()), "lab.toml: cannot be read");
    assert_eq!(
        error.source().unwrap().to_string(),
        "invalid utf-8 sequence of 1 bytes from index 8"
    );
}

/// Root may read everything, so as root the test runs itself again as an ordinary user.
#[test]
fn forbidden_sources_are_found_without_opening_them() {
    if rustix::process::geteuid().is_root() {
        // A copy, because the build directory may be closed to others.
        let directory = TempDir::new().unwrap();
        let everyone = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), everyone).unwrap();
        let program = directory.path().join("tests");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let child = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(program)
            .args(["--exact", "--nocapture"])
            .arg("config::tests::system::forbidden_sources_are_found_without_opening_them")
            .env("TMPDIR", "/tmp")
            .output();
        let child = match child {
            Ok(child) => child,
            Err(error) if std::env::var_os("REQUIRE_ALL").is_none() => {
                println!("SKIP: setpriv: {error}");
                return;
            }
            Err(error) => panic!("setpriv: {error}"),
        };
        let output = String::from_utf8_lossy(&child.stdout);
        assert!(
            child.status.success() && output.contains("1 passed"),
            "{output}{}",
            String::from_utf8_lossy(&child.stderr)
        );
        return;
    }
    let lab = Lab::new();
    let forbid = |name: &str, mode| {
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    forbid("440.bin", 0o200);
    forbid("boot", 0o600);
    for name in ["440.bin", "boot"] {
        let text = format!("[[partition]]\ncopy = [{{ from = '{name}' }}]");
        let error = lab.load(&text).unwrap_err();
        assert_eq!(
            lab.strip(&error.to_string()),
            format!("lab.toml:2:18: `from`: `{name}` may not be read")
        );
        assert_eq!(
            error.hint().unwrap(),
            "run as a user who may read it, or change its permissions"
        );
    }
    forbid("boot", 0o700);
}
