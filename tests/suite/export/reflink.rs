//! Exports that share blocks with their sources, on the kernel's XFS and btrfs, and where that is not possible.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use miragefs::export::{self, ExportError, ExportOptions, Exported, Reflink};
use miragefs::synth::generation::Image;
use miragefs::units::{MIB, to_u64};

use crate::loops::{Mount, can_mount};
use crate::planned::{image, miragefs, plan_config};
use crate::support::{noise, read, require_tool, run};

const BLOCK: u64 = 4096;

/// A file system of 512 MiB in a file, mounted, with sources in it.
struct Host {
    mount: Mount,
    _file: tempfile::TempDir,
}

impl Host {
    fn new(file_system: &str) -> Option<Self> {
        let program = format!("mkfs.{file_system}");
        if !can_mount() || !require_tool(&program) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("host.img");
        File::create(&file).unwrap().set_len(512 * MIB).unwrap();
        run(&program, [&file]);
        let mount = Mount::of_type(file_system, &file, "loop");
        let host = Self {
            mount,
            _file: directory,
        };
        fs::create_dir(host.path("src")).unwrap();
        fs::create_dir(host.path("out")).unwrap();
        Some(host)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join(name)
    }

    fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(self.mount.path()).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Files of all sizes around whole blocks, and one of `large` bytes. Returns the bytes in whole blocks.
    fn fill(&self, large: usize) -> u64 {
        let sizes = [0, 1, 4095, 4096, 4097, 8192, 10_000, 65_536, 200_001, large];
        for (seed, size) in sizes.iter().enumerate() {
            let path = self.path("src").join(format!("{size}"));
            fs::write(path, noise(to_u64(seed), *size)).unwrap();
        }
        run("sync", ["-f".as_ref(), self.mount.path().as_os_str()]);
        sizes.map(|size| to_u64(size) / BLOCK * BLOCK).iter().sum()
    }

    /// A planned disk over the sources, whose partition begins at `start`.
    fn plan(&self, start: &str) -> (PathBuf, Arc<Image>) {
        let config = self.path("lab.toml");
        let text = format!(
            "name = \"reflink\"\n[disk]\nsize = \"auto\"\nboot-code = \"none\"\n[[partition]]\nlabel = \"data\"\n\
             start = \"{start}\"\nsize = \"300MiB\"\next4 = {{ block-size = 4096 }}\n\
             copy = [ {{ from = \"src\", to = \"/\" }} ]\n"
        );
        fs::write(&config, text).unwrap();
        let planned = plan_config(&config);
        (config, image(&planned, "disk.img"))
    }
}

fn export_to(image: &Image, to: &Path, reflink: Reflink) -> Result<Exported, ExportError> {
    let cancel = AtomicBool::new(false);
    let options = ExportOptions {
        force: false,
        reflink,
        sources: &[],
        cancel: &cancel,
    };
    export::to_path(image, to, &options, &mut |_| ())
}

fn check_bytes(image: &Image, path: &Path) {
    let expected = read(&*image.source, 0, image.source.len());
    assert!(fs::read(path).unwrap() == expected);
}

/// Everything that consists of whole blocks is shared, and nothing that is written to the image reaches its source.
fn check_sharing(file_system: &str) {
    let Some(host) = Host::new(file_system) else {
        return;
    };
    let whole = host.fill(40 << 20);
    let (_, image) = host.plan("1MiB");
    let before = host.free();
    for reflink in [Reflink::Auto, Reflink::Always] {
        let exported = export_to(&image, &host.path("out"), reflink).unwrap();
        let transfer = exported.transfer;
        assert_eq!((transfer.shared, transfer.copied), (whole, 0));
        assert_eq!(transfer.shared + transfer.written, image.data.data_len());
        run("sync", ["-f".as_ref(), host.mount.path().as_os_str()]);
        // Data that is not shared, file system metadata, and the like of the host.
        let used = before.saturating_sub(host.free());
        assert!(used < transfer.written + 24 * MIB, "{used} bytes are used");
        check_bytes(&image, &exported.path);
    }
    let written = File::options()
        .write(true)
        .open(host.path("out/disk.img"))
        .unwrap();
    let zeros = [0; 4096];
    for part in 0..image.source.len() / MIB {
        written.write_all_at(&zeros, part * MIB).unwrap();
    }
    drop(written);
    check_bytes(
        &image,
        &export_to(&image, &host.path("out"), Reflink::Never)
            .unwrap()
            .path,
    );
}

#[test]
fn xfs_shares_every_whole_block() {
    check_sharing("xfs");
}

#[test]
fn btrfs_shares_every_whole_block() {
    check_sharing("btrfs");
}

#[test]
fn a_disk_that_would_not_fit_is_shared() {
    let Some(host) = Host::new("xfs") else {
        return;
    };
    host.fill(240 << 20);
    let (_, image) = host.plan("1MiB");
    assert!(host.free() < 240 * MIB);
    let refused = export_to(&image, &host.path("out"), Reflink::Never);
    assert!(matches!(refused, Err(ExportError::NoSpace { .. })));
    assert_eq!(fs::read_dir(host.path("out")).unwrap().count(), 0);
    let exported = export_to(&image, &host.path("out"), Reflink::Auto).unwrap();
    assert!(exported.transfer.shared >= 240 * MIB);
}

#[test]
fn what_lies_on_no_whole_blocks_is_copied_and_said() {
    let Some(host) = Host::new("xfs") else {
        return;
    };
    let whole = host.fill(8 << 20);
    let (config, image) = host.plan("2049s");
    let exported = export_to(&image, &host.path("out"), Reflink::Auto).unwrap();
    let transfer = exported.transfer;
    assert_eq!(transfer.shared, 0);
    assert!(transfer.unaligned > whole / 2);
    assert_eq!(transfer.copied + transfer.written, image.data.data_len());
    check_bytes(&image, &exported.path);
    let refused = export_to(&image, &host.path("out"), Reflink::Always).unwrap_err();
    assert!(
        matches!(
            refused,
            ExportError::Unaligned {
                block_size: BLOCK,
                ..
            }
        ),
        "{refused}"
    );
    let out = host.path("out");
    let words = [
        "export".as_ref(),
        config.as_os_str(),
        "disk.img".as_ref(),
        out.as_os_str(),
    ];
    let done = miragefs(words);
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(
        text.contains("disk.img: 0 bytes shared with the sources, "),
        "{text}"
    );
    assert!(text.contains("not shared: "), "{text}");
}

#[test]
fn where_nothing_can_be_shared_the_kernel_copies() {
    let Some(host) = Host::new("ext4") else {
        return;
    };
    host.fill(16 << 20);
    let (_, image) = host.plan("1MiB");
    let exported = export_to(&image, &host.path("out"), Reflink::Auto).unwrap();
    let transfer = exported.transfer;
    assert_eq!((transfer.shared, transfer.unaligned), (0, 0));
    assert!(transfer.copied >= 16 * MIB, "{transfer:?}");
    assert_eq!(transfer.copied + transfer.written, image.data.data_len());
    check_bytes(&image, &exported.path);
    let exported = export_to(&image, &host.path("out"), Reflink::Never).unwrap();
    assert_eq!(exported.transfer.written, image.data.data_len());
    check_bytes(&image, &exported.path);
    fs::remove_file(host.path("out/disk.img")).unwrap();
    let refused = export_to(&image, &host.path("out"), Reflink::Always).unwrap_err();
    assert!(
        matches!(refused, ExportError::CannotShare { .. }),
        "{refused}"
    );
    assert_eq!(fs::read_dir(host.path("out")).unwrap().count(), 0);
}

#[test]
fn file_systems_of_their_own_are_read_and_written() {
    let Some(host) = Host::new("btrfs") else {
        return;
    };
    host.fill(4 << 20);
    let (_, image) = host.plan("1MiB");
    let elsewhere = tempfile::tempdir().unwrap();
    let exported = export_to(&image, elsewhere.path(), Reflink::Auto).unwrap();
    assert_eq!(exported.transfer.shared, 0);
    check_bytes(&image, &exported.path);
}
