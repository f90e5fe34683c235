//! The boot loader against the real `extlinux --install` on a loop-mounted file system, byte for byte.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests: failing is what they are for"
)]
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets in images of a few MiB"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use miragefs::synth::boot::{BootLoader, InstallTarget, InstalledBootLoader, load_boot_code};
use miragefs::units::Lba;
use tempfile::TempDir;

const EXTLINUX: &str = "/usr/bin/extlinux";
const BOOT_CODE: &str = "/usr/lib/EXTLINUX/mbr.bin";
const MIB: u64 = 1 << 20;

/// Whether the test can run; a visible SKIP where not, a failure with `REQUIRE_ALL=1`.
fn required(what: &str, there: bool) -> bool {
    if !there {
        let required = std::env::var_os("REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!required, "{what} is required by REQUIRE_ALL=1");
        eprintln!("SKIP: {what} is not there");
    }
    there
}

fn can_install() -> bool {
    required("extlinux", Path::new(EXTLINUX).exists())
        && required("mke2fs", Path::new("/sbin/mke2fs").exists())
        && required("debugfs", Path::new("/sbin/debugfs").exists())
        && required("root", rustix::process::geteuid().is_root())
        && required("a loop device", Path::new("/dev/loop-control").exists())
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// An ext4 file system in a file, from `start` sectors on.
struct Partition {
    directory: TempDir,
    start: u64,
    len: u64,
    block_len: u64,
}

impl Partition {
    fn make(start: u64, len: u64, block_len: u64, options: &[&str]) -> Self {
        let partition = Self {
            directory: tempfile::tempdir().unwrap(),
            start,
            len,
            block_len,
        };
        let image = File::create(partition.image()).unwrap();
        image.set_len(start * 512 + len).unwrap();
        run(Command::new("/sbin/mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", &block_len.to_string()])
            .args(["-E", &format!("offset={}", start * 512)])
            .args(options)
            .arg(partition.image())
            .arg(format!("{}k", len / 1024)));
        partition
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Mounts the file system while `work` runs.
    fn with_mounted(&self, work: impl FnOnce(&Path)) {
        let mounted = Mounted::new(self);
        work(&mounted.mount_point);
    }

    fn install(&self, directory: &str) {
        self.with_mounted(|root| {
            let target = root.join(directory.trim_start_matches('/'));
            fs::create_dir_all(&target).unwrap();
            run(Command::new(EXTLINUX).arg("--install").arg(target));
        });
    }

    fn debugfs(&self, commands: &str) -> String {
        let script = self.directory.path().join("script");
        fs::write(&script, commands).unwrap();
        let image = format!("{}?offset={}", self.image().display(), self.start * 512);
        run(Command::new("/sbin/debugfs")
            .arg("-f")
            .arg(script)
            .arg(image))
    }

    /// The blocks of the file, in file order.
    fn blocks(&self, path: &str, file_len: u64) -> Vec<u64> {
        let count = file_len.div_ceil(self.block_len);
        let commands: String = (0..count)
            .map(|block| format!("bmap {path} {block}\n"))
            .collect();
        let output = self.debugfs(&commands);
        let blocks: Vec<u64> = output
            .lines()
            .filter_map(|line| line.parse().ok())
            .collect();
        assert_eq!(blocks.len(), usize::try_from(count).unwrap(), "{output}");
        blocks
    }

    fn file(&self, path: &str) -> Vec<u8> {
        let dump = self.directory.path().join("dump");
        self.debugfs(&format!("dump {path} {}\n", dump.display()));
        fs::read(dump).unwrap()
    }

    fn boot_sector(&self) -> [u8; 512] {
        let mut sector = [0; 512];
        let image = File::open(self.image()).unwrap();
        image.read_exact_at(&mut sector, self.start * 512).unwrap();
        sector
    }

    /// What our functions make of the blocks that extlinux got, and how many runs of blocks these are.
    fn ours(&self, directory: &str) -> (InstalledBootLoader, usize) {
        let loader = BootLoader::load(Path::new(EXTLINUX)).unwrap();
        let path = below(directory, "ldlinux.sys");
        let blocks = self.blocks(&path, loader.ldlinux_sys_len());
        let block_sectors = self.block_len / 512;
        let sectors: Vec<u64> = blocks
            .iter()
            .flat_map(|block| block * block_sectors..(block + 1) * block_sectors)
            .collect();
        let target = InstallTarget {
            sectors: &sectors,
            start: Lba(self.start),
            total_sectors: self.len / 512,
            directory: directory.as_bytes(),
        };
        let breaks = blocks.windows(2).filter(|pair| pair[0] + 1 != pair[1]);
        (loader.install(&target).unwrap(), breaks.count() + 1)
    }

    /// Installs with extlinux and compares all that it wrote; returns the number of runs of `ldlinux.sys`.
    fn check(&self, directory: &str) -> usize {
        self.install(directory);
        let (ours, runs) = self.ours(directory);
        assert_same(&ours.boot_sector, &self.boot_sector(), "boot sector");
        let sys = self.file(&below(directory, "ldlinux.sys"));
        assert_same(&ours.ldlinux_sys, &sys, "ldlinux.sys");
        let c32 = self.file(&below(directory, "ldlinux.c32"));
        assert_same(&ours.ldlinux_c32, &c32, "ldlinux.c32");
        runs
    }
}

fn below(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

/// A mounted file system, unmounted on drop.
struct Mounted {
    mount_point: PathBuf,
}

impl Mounted {
    fn new(partition: &Partition) -> Self {
        let mount_point = partition.directory.path().join("mnt");
        fs::create_dir_all(&mount_point).unwrap();
        // A loop device that mount sets up goes away with the mount.
        run(Command::new("mount")
            .args(["-t", "ext4", "-o"])
            .arg(format!("loop,offset={}", partition.start * 512))
            .args([&partition.image(), &mount_point]));
        Self { mount_point }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.mount_point).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{}: cannot be unmounted", self.mount_point.display());
        }
    }
}

fn assert_same(ours: &[u8], theirs: &[u8], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "length of {what}");
    let differences: Vec<_> = ours
        .iter()
        .zip(theirs)
        .enumerate()
        .filter(|(_, (our, their))| our != their)
        .take(8)
        .collect();
    assert!(differences.is_empty(), "{what}: {differences:x?}");
}

#[test]
fn extlinux_install_is_reproduced() {
    if !can_install() {
        return;
    }
    let partition = Partition::make(0, 64 * MIB, 4096, &[]);
    partition.check("/");
    // The comparison can fail: another directory is another ldlinux.sys.
    let (ours, _) = partition.ours("//");
    assert_ne!(*ours.ldlinux_sys, *partition.file("/ldlinux.sys"));
}

#[test]
fn extlinux_install_into_a_subdirectory_is_reproduced() {
    if !can_install() {
        return;
    }
    Partition::make(2048, 64 * MIB, 4096, &[]).check("/boot/extlinux");
}

#[test]
fn extlinux_install_with_small_blocks_and_odd_start_is_reproduced() {
    if !can_install() {
        return;
    }
    // Below 65536 sectors the boot sector has a 16-bit count as well.
    Partition::make(1, 16 * MIB, 1024, &[]).check("/");
    Partition::make(63, 64 * MIB, 2048, &["-O", "^extents,^64bit"]).check("/");
}

#[test]
fn extlinux_install_of_a_fragmented_file_is_reproduced() {
    if !can_install() {
        return;
    }
    let partition = Partition::make(2048, 4 * MIB, 1024, &["-O", "^has_journal", "-N", "8192"]);
    partition.with_mounted(scatter_free_space);
    let runs = partition.check("/");
    assert!(runs > 8, "ldlinux.sys lies in {runs} runs only");
}

/// Fills the file system with files of one block and removes every second one.
fn scatter_free_space(root: &Path) {
    let files: Vec<PathBuf> = (0..8000)
        .map(|number| root.join(format!("{number:04}")))
        .take_while(|path| {
            File::create(path)
                .and_then(|file| file.write_all_at(&[1; 1024], 0))
                .is_ok()
        })
        .collect();
    assert!(files.len() > 1000, "only {} files fit", files.len());
    // What is allocated late gets its place now.
    run(&mut Command::new("sync"));
    for path in files.iter().step_by(2) {
        fs::remove_file(path).unwrap();
    }
    run(&mut Command::new("sync"));
}

#[test]
fn boot_code_of_the_distribution_is_taken_as_it_is() {
    if !required("mbr.bin", Path::new(BOOT_CODE).exists()) {
        return;
    }
    let code = load_boot_code(Path::new(BOOT_CODE)).unwrap();
    assert_eq!(code.as_slice(), fs::read(BOOT_CODE).unwrap());
}
