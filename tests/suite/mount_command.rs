//! `miragefs mount` and `miragefs unmount` as processes, with real mounts.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use miragefs::units::to_u64;
use rustix::process::Signal;

use crate::mount::errno;
use crate::mounted::{
    Workspace, mounted_type, output, require_fuse, require_program, require_root, stderr,
    wait_until,
};

#[test]
fn a_background_mount_is_ready_when_it_returns() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let log = workspace.path().join("log");
    let mounted = output(workspace.mount_command().arg("--log").arg(&log));
    // That the output ended shows that the daemon has left our terminal.
    assert_eq!(
        (mounted.status.code(), stderr(&mounted).as_str()),
        (Some(0), "")
    );
    assert!(!fs::read(workspace.image()).unwrap().is_empty());
    let unmounted = workspace.unmount();
    assert_eq!(unmounted.status.code(), Some(0), "{}", stderr(&unmounted));
    assert_eq!(mounted_type(&workspace.mountpoint()), None);
    wait_until("the log tells of both", || {
        let text = fs::read_to_string(&log).unwrap();
        text.contains(": mounted\n") && text.contains(": unmounted\n")
    });
    let again = workspace.unmount();
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).ends_with("images: not mounted\n"));
}

#[test]
fn mount_helper_calls_mount() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let helper = workspace.path().join("mount.miragefs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_miragefs"), &helper).unwrap();
    for program in [Path::new(env!("CARGO_BIN_EXE_miragefs")), &helper] {
        let mut command = Command::new(program);
        command.arg(workspace.config()).arg(workspace.mountpoint());
        let mounted = output(command.args(["-o", "rw,nodev,threads=2,x-systemd.automount"]));
        assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
        assert!(workspace.image().exists());
        assert_eq!(workspace.unmount().status.code(), Some(0));
    }
}

#[test]
fn failed_starts_say_why_and_mount_nothing() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let full = workspace.path();
    let missing = workspace.path().join("none");
    for (config, mountpoint, code, text) in [
        (
            &*missing,
            &*workspace.mountpoint(),
            2,
            "none: cannot be read",
        ),
        (&*workspace.config(), full, 1, ": mount point is not empty"),
        (
            &*workspace.config(),
            &*missing,
            1,
            ": mount point does not exist",
        ),
        (
            &*workspace.config(),
            Path::new("/proc"),
            1,
            "already a mount point",
        ),
    ] {
        for foreground in [false, true] {
            let mut command = workspace.miragefs();
            command.arg("mount").arg(config).arg(mountpoint);
            if foreground {
                command.arg("--foreground");
            }
            let failed = output(&mut command);
            assert_eq!(failed.status.code(), Some(code), "{}", stderr(&failed));
            assert!(
                stderr(&failed).starts_with("error: "),
                "{}",
                stderr(&failed)
            );
            assert!(stderr(&failed).contains(text), "{}", stderr(&failed));
            assert!(failed.stdout.is_empty());
        }
    }
    assert_eq!(mounted_type(&workspace.mountpoint()), None);
}

#[test]
fn only_our_mounts_are_unmounted() {
    let workspace = Workspace::new();
    let mut command = workspace.miragefs();
    let refused = output(command.arg("unmount").arg("/proc"));
    assert_eq!(refused.status.code(), Some(1));
    let text = stderr(&refused);
    assert!(
        text.starts_with("error: /proc: not a miragefs mount (type proc"),
        "{text}"
    );
    assert!(mounted_type(Path::new("/proc")).is_some());
}

#[test]
fn termination_leaves_no_dead_mount() {
    if !require_fuse() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let workspace = Workspace::new();
        let mut daemon = workspace.mount_in_foreground();
        daemon.signal(signal);
        assert_eq!(daemon.exit_code(), Some(0));
        assert_eq!(mounted_type(&workspace.mountpoint()), None);
    }
}

#[test]
fn termination_serves_open_files_to_their_end() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let mut file = File::open(workspace.image()).unwrap();
    daemon.signal(Signal::TERM);
    wait_until("the name goes", || {
        mounted_type(&workspace.mountpoint()).is_none()
    });
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert!(!bytes.is_empty());
    assert!(daemon.is_running());
    drop(file);
    assert_eq!(daemon.exit_code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let file = File::open(workspace.image()).unwrap();
    daemon.signal(Signal::TERM);
    wait_until("the name goes", || {
        mounted_type(&workspace.mountpoint()).is_none()
    });
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.exit_code(), Some(0));
    drop(file);
}

#[test]
fn unmount_now_ends_the_daemon() {
    if !require_fuse() || !require_root() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let file = File::open(workspace.image()).unwrap();
    let mut command = workspace.miragefs();
    let unmounted = output(
        command
            .args(["unmount", "--now"])
            .arg(workspace.mountpoint()),
    );
    assert_eq!(unmounted.status.code(), Some(0), "{}", stderr(&unmounted));
    assert_eq!(daemon.exit_code(), Some(0));
    drop(file);
}

#[test]
fn a_dead_mount_is_cleared() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.exit_code(), None);
    let dead = fs::read_dir(workspace.mountpoint());
    assert_eq!(errno(dead), Some(libc::ENOTCONN));
    let mounted = output(&mut workspace.mount_command());
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    assert!(workspace.image().exists());
    assert_eq!(workspace.unmount().status.code(), Some(0));
    assert_eq!(mounted_type(&workspace.mountpoint()), None);
}

#[test]
fn two_mounts_on_one_directory_are_refused() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let second = output(&mut workspace.mount_command());
    assert_eq!(second.status.code(), Some(1));
    assert!(
        stderr(&second).contains("already a mount point"),
        "{}",
        stderr(&second)
    );
    assert!(workspace.image().exists());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.exit_code(), Some(0));
}

/// In a mount namespace of its own, since /dev/fuse is closed to ordinary users where no udev runs: there it is
/// covered by a node with udev's mode. Nobody else sees the node, and $1, its directory, is open to root alone.
const AS_ORDINARY_USER: &str = r#"
    set -eu
    private=$1 program=$2 config=$3 mountpoint=$4
    as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"; }
    trap 'umount -l "$mountpoint" 2>/dev/null || true' EXIT
    mknod -m 666 "$private/fuse" c 10 229
    mount --bind "$private/fuse" /dev/fuse
    as_user "$program" mount "$config" "$mountpoint"
    findmnt -n -o FSTYPE,SOURCE,OPTIONS "$mountpoint"
    as_user stat -c '%u:%g %a' "$mountpoint/disk.img"
    as_user cat "$mountpoint/disk.img" >/dev/null
    as_user "$program" unmount "$mountpoint"
    findmnt "$mountpoint" || echo gone
"#;

#[test]
fn ordinary_users_mount_through_fusermount3() {
    if !require_fuse() || !require_root() {
        return;
    }
    for program in ["setpriv", "unshare", "findmnt", "fusermount3"] {
        if !require_program(program) {
            return;
        }
    }
    let workspace = Workspace::new();
    let mode = |bits| fs::Permissions::from_mode(bits);
    fs::set_permissions(workspace.path(), mode(0o755)).unwrap();
    let mountpoint = workspace.mountpoint();
    std::os::unix::fs::chown(&mountpoint, Some(65534), Some(65534)).unwrap();
    let private = workspace.path().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, mode(0o700)).unwrap();
    // The build directory need not be open to others.
    let program = workspace.path().join("miragefs");
    fs::copy(env!("CARGO_BIN_EXE_miragefs"), &program).unwrap();

    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]);
    command.args(["sh", "-c", AS_ORDINARY_USER, "sh"]);
    command.args([&private, &program, &workspace.config(), &mountpoint]);
    let result = output(&mut command);
    assert!(result.status.success(), "{}", stderr(&result));
    let text = String::from_utf8_lossy(&result.stdout);
    let lines: Vec<_> = text.lines().collect();
    // The source is the config, by which mount(8) knows the line of fstab.
    let shown = format!(
        "fuse.miragefs {} ro,nosuid,nodev,",
        workspace.config().display()
    );
    assert!(lines[0].starts_with(&shown), "{text}");
    assert!(lines[0].contains("default_permissions"), "{text}");
    assert_eq!(lines[1..], ["65534:65534 444", "gone"]);
}

#[test]
fn a_log_that_would_be_hidden_or_copied_is_refused() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let log = workspace.mountpoint().join("log");
    let mut command = workspace.miragefs();
    command
        .arg("mount")
        .arg(workspace.config())
        .arg(workspace.mountpoint());
    let refused = output(command.arg("--log").arg(&log));
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("log lies inside"),
        "{}",
        stderr(&refused)
    );
    assert!(!log.exists());
}

#[test]
fn the_kernel_keeps_pages_unless_the_mount_is_direct() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let bytes_read = || {
        let status = workspace.mountpoint().join(".miragefs/status.json");
        let text = fs::read_to_string(status).unwrap();
        let status: serde_json::Value = serde_json::from_str(&text).unwrap();
        status["bytes_read"].as_u64().unwrap()
    };
    let mut images = Vec::new();
    for (options, again) in [
        (&[][..], false),
        (&["--cache=direct"], true),
        (&["-o", "cache=direct"], true),
    ] {
        let mounted = output(workspace.mount_command().args(options));
        assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
        let first = fs::read(workspace.image()).unwrap();
        let before = bytes_read();
        let second = fs::read(workspace.image()).unwrap();
        let asked = bytes_read() - before;
        // A status is read too.
        assert_eq!(
            asked > to_u64(second.len()) / 2,
            again,
            "{options:?}: {asked}"
        );
        assert!(first == second);
        images.push(first);
        assert_eq!(workspace.unmount().status.code(), Some(0));
    }
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
}
