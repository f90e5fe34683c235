//! What a daemon can still do once it serves, and who may read what it serves.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::mount::errno;
use crate::mounted::{
    Workspace, mounted_type, output, require_fuse, require_program, require_root, stderr,
    wait_until,
};

/// `CAP_DAC_READ_SEARCH` (linux/capability.h).
const DAC_READ_SEARCH: u64 = 1 << 2;
/// `CAP_SYS_ADMIN`.
const SYS_ADMIN: u64 = 1 << 21;

/// The process that serves `mountpoint`, and the one that takes it away.
pub(crate) struct Processes {
    pub(crate) daemon: u32,
    unmounter: u32,
}

impl Processes {
    pub(crate) fn of(mountpoint: &Path) -> Self {
        let daemon = find(|id, words| {
            words.first().is_some_and(|word| word == "mount")
                && words.iter().any(|word| mountpoint.ends_with(word))
                && words.iter().any(|word| word == "--foreground")
                && id != std::process::id()
        });
        let daemon = daemon.expect("a process serves the mount");
        let unmounter = find(|id, words| words == ["unmounter"] && parent(id) == Some(daemon));
        Self {
            daemon,
            unmounter: unmounter.expect("a process beside the daemon"),
        }
    }
}

fn find(mut wanted: impl FnMut(u32, &[String]) -> bool) -> Option<u32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).skip(1);
        let words: Vec<String> = words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .filter(|word| !word.is_empty())
            .collect();
        wanted(id, &words).then_some(id)
    })
}

fn field(status: &str, name: &str) -> Option<String> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.to_owned())
}

fn parent(id: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    field(&status, "PPid:")?.parse().ok()
}

/// Permitted and effective capabilities of each thread, and whether it may gain new privileges.
fn threads(id: u32) -> Vec<(u64, u64, bool)> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).unwrap();
    let one = |task: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let bits = |name| u64::from_str_radix(&field(&status, name).unwrap(), 16).unwrap();
        let no_new = field(&status, "NoNewPrivs:").unwrap() == "1";
        (bits("CapPrm:"), bits("CapEff:"), no_new)
    };
    tasks.map(one).collect()
}

#[test]
fn every_thread_of_a_daemon_has_given_up_what_it_does_not_need() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let log = workspace.path().join("log");
    let mounted = output(workspace.mount_command().arg("--log").arg(&log));
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    let kept = if rustix::process::geteuid().is_root() {
        DAC_READ_SEARCH
    } else {
        0
    };
    let processes = Processes::of(&workspace.mountpoint());
    let found = threads(processes.daemon);
    assert!(found.len() > 3, "workers, keeper, signals: {found:?}");
    for thread in found {
        assert_eq!(thread, (kept, kept, true));
    }
    for (permitted, _, _) in threads(processes.unmounter) {
        assert_eq!(permitted & !(DAC_READ_SEARCH | SYS_ADMIN), 0);
    }
    let text = fs::read_to_string(&log).unwrap();
    assert!(
        text.contains("no new privileges; Landlock: version"),
        "{text}"
    );
    assert_eq!(workspace.unmount().status.code(), Some(0));
    let gone = |id: u32| !Path::new(&format!("/proc/{id}")).exists();
    wait_until("both processes are gone", || {
        gone(processes.daemon) && gone(processes.unmounter)
    });
}

#[test]
fn a_daemon_takes_its_mount_away_though_it_may_not_unmount() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let processes = Processes::of(&workspace.mountpoint());
    // As a service manager does, which signals all processes of a service.
    for id in [processes.unmounter, processes.daemon] {
        let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        rustix::process::kill_process(id, Signal::TERM).unwrap();
    }
    assert_eq!(daemon.exit_code(), Some(0));
    assert_eq!(mounted_type(&workspace.mountpoint()), None);
}

#[test]
fn the_helper_goes_with_a_daemon_that_is_killed() {
    if !require_fuse() {
        return;
    }
    let workspace = Workspace::new();
    let mut daemon = workspace.mount_in_foreground();
    let processes = Processes::of(&workspace.mountpoint());
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.exit_code(), None);
    wait_until("it is gone", || {
        !Path::new(&format!("/proc/{}", processes.unmounter)).exists()
    });
    assert_eq!(
        errno(fs::read_dir(workspace.mountpoint())),
        Some(libc::ENOTCONN)
    );
    let again = output(&mut workspace.mount_command());
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert!(!fs::read(workspace.image()).unwrap().is_empty());
    assert_eq!(workspace.unmount().status.code(), Some(0));
}

/// Runs `cat` on `path` as nobody.
fn nobody_reads(path: &Path) -> bool {
    let mut command = Command::new("cat");
    command.arg(path).uid(65534).gid(65534);
    output(&mut command).status.success()
}

#[test]
fn others_read_only_what_they_were_given() {
    if !require_fuse() || !require_root() || !require_program("cat") {
        return;
    }
    let workspace = Workspace::new();
    fs::set_permissions(workspace.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let image = workspace.image();
    for (options, mode, readable) in [
        (&[][..], 0o444, false),
        (&["--allow-other"], 0o444, true),
        (&["--allow-other", "--file-mode", "0440"], 0o440, false),
        (&["-o", "allow_other,file_mode=400"], 0o400, false),
    ] {
        let mounted = output(workspace.mount_command().args(options));
        assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
        let found = fs::metadata(&image).unwrap();
        assert_eq!(found.mode() & 0o7777, mode, "{options:?}");
        let directory = fs::metadata(workspace.mountpoint()).unwrap();
        assert_eq!(directory.mode() & 0o7777, mode | mode >> 2, "{options:?}");
        assert_eq!(nobody_reads(&image), readable, "{options:?}");
        let text = workspace.mountpoint().join(".miragefs/status.json");
        assert_eq!(nobody_reads(&text), readable, "{options:?}");
        let options = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let path = workspace.mountpoint();
        let line = options
            .lines()
            .find(|line| line.contains(path.to_str().unwrap()));
        assert!(line.unwrap().contains("default_permissions"));
        assert_eq!(workspace.unmount().status.code(), Some(0));
    }
}

#[test]
fn whoever_opens_closed_sources_to_others_is_told() {
    if !require_fuse() || !require_root() {
        return;
    }
    let workspace = Workspace::new();
    let sources = workspace.path().join("src");
    for (name, mode) in [("open", 0o755), ("closed", 0o750)] {
        fs::create_dir_all(sources.join(name)).unwrap();
        fs::write(sources.join(name).join("file"), name).unwrap();
        fs::write(sources.join(name).join("secret"), name).unwrap();
        let only_owner = fs::Permissions::from_mode(0o600);
        fs::set_permissions(sources.join(name).join("secret"), only_owner).unwrap();
        fs::set_permissions(sources.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(workspace.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(
        workspace.config(),
        "name = \"suite\"\n[disk]\nsize = \"16MiB\"\nboot-code = \"none\"\n[[partition]]\nlabel = \"data\"\n\
         size = \"rest\"\ncopy = [ { from = \"src\", to = \"/\" } ]\n",
    )
    .unwrap();
    for (options, told) in [
        (&["--allow-other"][..], true),
        (&["--allow-other", "--file-mode=0400"], false),
        (&[], false),
    ] {
        let mounted = output(workspace.mount_command().args(options));
        assert_eq!(mounted.status.code(), Some(0));
        let expected = "3 source files are not readable by all users of this host";
        let text = stderr(&mounted);
        assert_eq!(text.contains(expected), told, "{options:?}: {text}");
        assert_eq!(workspace.unmount().status.code(), Some(0));
    }
}
