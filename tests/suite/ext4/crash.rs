//! Copies of an image taken while it is mounted and written to, and a plug that is pulled in the middle: the kernel's
//! recovery and e2fsck's both bring back a clean file system that has what had been synced.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use miragefs::synth::ext4::SizeRequest;

use super::build::assert_clean;
use super::churn::{Until, churn};
use super::rich::Rich;
use super::watched::Watched;
use crate::loops::{Mount, can_mount};
use crate::support::{long_tests, noise, require_tool, run_text};

/// Files that are written and synced before each crash.
const SYNCED: u64 = 100;
/// The journal is committed when we say so, not every five seconds: a copy takes time and has to be of one moment.
const QUIET: &str = "rw,commit=600";
/// `EXT4_IOC_SHUTDOWN` without a last commit, as a file system sees it when the power fails.
const PULL_THE_PLUG: &str = "
import fcntl, os, struct, sys
mounted = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(mounted, 0x8004587d, struct.pack('I', 2))
";

fn have_tools() -> bool {
    can_mount()
        && ["e2fsck", "dumpe2fs", "python3", "getfattr", "setfacl"]
            .into_iter()
            .all(require_tool)
}

/// What the files of a round hold.
fn contents(round: u64, index: u64) -> Vec<u8> {
    noise(round << 32 | index, 5000)
}

fn write_synced(watched: &Watched, round: u64) {
    let directory = watched.path().join(format!("synced-{round}"));
    fs::create_dir(&directory).unwrap();
    for index in 0..SYNCED {
        fs::write(directory.join(index.to_string()), contents(round, index)).unwrap();
    }
    watched.sync();
}

#[track_caller]
fn assert_synced(root: &Path, round: u64) {
    for index in 0..SYNCED {
        let found = fs::read(root.join(format!("synced-{round}/{index}"))).unwrap();
        assert_eq!(found, contents(round, index), "file {index}");
    }
}

fn copy(from: &Path, to: &Path) {
    let sparse = OsStr::new("--sparse=always");
    run_text("cp", [sparse, from.as_os_str(), to.as_os_str()]);
}

/// Recovers two copies of what a crash left, one by the kernel and one by e2fsck.
#[track_caller]
fn assert_recovers(rich: &Rich, crashed: &Path, round: u64) {
    let features = run_text("dumpe2fs", [OsStr::new("-h"), crashed.as_os_str()]);
    assert!(features.contains("needs_recovery"), "{features}");
    let copied = rich.path("copy");
    copy(crashed, &copied);
    let watched = Watched::new(&copied, "rw");
    assert_synced(watched.path(), round);
    watched.finish();
    copy(crashed, &copied);
    let output = Command::new("e2fsck").arg("-fy").arg(&copied).output();
    let output = output.unwrap();
    // 1: errors corrected; a journal that was replayed is one.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    assert_clean(&copied);
    let mount = Mount::new(&copied, "ro,loop");
    assert_synced(mount.path(), round);
    mount.unmount();
}

#[test]
fn copies_taken_while_mounted_recover() {
    if !have_tools() {
        return;
    }
    let rounds = if long_tests() { 12 } else { 2 };
    let Some(rich) = Rich::new(SizeRequest::Fixed(300 << 20)) else {
        return;
    };
    let watched = Watched::new(&rich.image(), QUIET);
    for round in 0..rounds {
        churn(watched.path(), 20 + round, 1, Until::Operations(1500));
        write_synced(&watched, round);
        // Not synced: partly in the kernel's memory, partly in the image.
        churn(watched.path(), 40 + round, 1, Until::Operations(500));
        let crashed = rich.path("crashed");
        copy(&rich.image(), &crashed);
        assert_recovers(&rich, &crashed, round);
    }
    watched.finish();
}

#[test]
fn a_plug_pulled_while_writing_does_no_harm() {
    if !have_tools() {
        return;
    }
    let rounds = if long_tests() { 12 } else { 2 };
    for round in 0..rounds {
        let Some(rich) = Rich::new(SizeRequest::Fit {
            free_blocks: 50_000,
        }) else {
            return;
        };
        let watched = Watched::new(&rich.image(), "rw,commit=1");
        write_synced(&watched, round);
        std::thread::scope(|scope| {
            let root = watched.path();
            let writers = scope.spawn(move || churn(root, 60 + round, 3, Until::PulledPlug));
            std::thread::sleep(Duration::from_millis(1500 + 300 * round));
            let pull = ["-c", PULL_THE_PLUG, root.to_str().unwrap()];
            run_text("python3", pull);
            let done: usize = writers.join().unwrap().values().sum();
            assert!(done > 100, "the plug was pulled after {done} operations");
        });
        watched.unmount();
        assert_recovers(&rich, &rich.image(), round);
    }
}
