//! Exercisers that others wrote, on copies of our file systems: stress-ng's stressors of file systems, and fsx.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use miragefs::synth::ext4::SizeRequest;

use super::rich::Rich;
use super::watched::Watched;
use crate::loops::can_mount;
use crate::support::{long_tests, require_tool, skip};

/// stress-ng's stressors that change names, attributes, sizes and allocation.
const STRESSORS: [&str; 26] = [
    "access",
    "chattr",
    "chdir",
    "chmod",
    "chown",
    "copy-file",
    "dentry",
    "dir",
    "dirdeep",
    "dirmany",
    "fallocate",
    "fiemap",
    "filename",
    "fpunch",
    "hdd",
    "iomix",
    "link",
    "rename",
    "revio",
    "seek",
    "symlink",
    "touch",
    "utime",
    "xattr",
    "open",
    "sync-file",
];
/// Those that take all inodes there are, so that others could not begin.
const GREEDY: [&str; 4] = ["chdir", "dentry", "dirdeep", "dirmany"];
/// Those that a short run takes, all at once.
const SHORT: [&str; 8] = [
    "chown", "dentry", "fpunch", "link", "rename", "seek", "symlink", "xattr",
];
/// fsx with all its operations that ext4 has; its own default is four of them.
const FSX: &str = "
flen = 1048576
[weights]
close_open = 1
invalidate = 1
truncate = 5
fsync = 1
fdatasync = 1
posix_fallocate = 3
punch_hole = 5
sendfile = 1
posix_fadvise = 1
copy_file_range = 5
";

/// Stressors that can run at the same time.
fn beside_each_other() -> Vec<&'static str> {
    let all = STRESSORS.into_iter();
    all.filter(|stressor| !GREEDY.contains(stressor)).collect()
}

fn have_tools() -> bool {
    can_mount()
        && ["e2fsck", "getfattr", "setfacl"]
            .into_iter()
            .all(require_tool)
}

/// One worker of each stressor for some seconds, in a directory of its own.
fn stress(at: &Path, stressors: &[&str], seconds: u32) {
    fs::create_dir(at).unwrap();
    let mut command = Command::new("stress-ng");
    // Some of them leave files where they were started.
    command
        .current_dir(at)
        .args(["--timeout", &format!("{seconds}s"), "--verify", "--seed"])
        .args(["42", "--temp-path", at.to_str().unwrap()])
        .args(["--hdd-bytes", "64m", "--iomix-bytes", "16m"])
        .args(["--fallocate-bytes", "32m", "--seek-size", "16m"])
        .args(["--dirdeep-inodes", "5000"]);
    for stressor in stressors {
        command.args([&format!("--{stressor}"), "1"]);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn stress_ng_leaves_a_clean_file_system() {
    if !have_tools() || !require_tool("stress-ng") {
        return;
    }
    let sizes = [
        SizeRequest::Fixed(1 << 30),
        SizeRequest::Fit {
            free_blocks: 200_000,
        },
    ];
    for size in sizes.into_iter().take(if long_tests() { 2 } else { 1 }) {
        let Some(rich) = Rich::new(size) else { return };
        let watched = Watched::new(&rich.image(), "rw");
        let at = watched.path().join("stress");
        if long_tests() {
            for stressor in STRESSORS {
                stress(&at, &[stressor], 5);
                fs::remove_dir_all(&at).unwrap();
            }
            stress(&at, &beside_each_other(), 60);
        } else {
            stress(&at, &SHORT, 3);
        }
        fs::remove_dir_all(at).unwrap();
        rich.assert_equal_inside(watched.path());
        watched.finish();
    }
}

/// Where `scripts/setup.sh long` puts it, or anywhere on the path.
fn fsx() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/fsx");
    let paths = std::env::var_os("PATH")?;
    let found = std::iter::once(ours)
        .chain(std::env::split_paths(&paths).map(|directory| directory.join("fsx")))
        .find(|path| path.is_file());
    if found.is_none() {
        skip("fsx missing (`scripts/setup.sh long` builds it)");
    }
    found
}

#[test]
fn fsx_finds_every_byte_where_it_wrote_it() {
    if !long_tests() || !have_tools() {
        return;
    }
    let Some(fsx) = fsx() else { return };
    let Some(rich) = Rich::new(SizeRequest::Fixed(700 << 20)) else {
        return;
    };
    let config = rich.path("fsx.toml");
    fs::write(&config, FSX).unwrap();
    let watched = Watched::new(&rich.image(), "rw");
    for seed in 1..=4 {
        let output = Command::new(&fsx)
            .args(["-N", "10000", "-S", &seed.to_string(), "-f"])
            .arg(&config)
            .arg(watched.path().join(format!("dir/fsx-{seed}")))
            .output();
        let output = output.unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    watched.finish();
}
