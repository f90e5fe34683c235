//! `export` to block devices, which are loop devices here.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use miragefs::export::{self, ExportError, Exported};

use super::Lab;
use crate::mounted::require_root;
use crate::support::{require_tool, run_text};

/// A loop device over a file of its own.
struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// `None` says so if there are none here.
    fn new(backing: &Path, len: u64) -> Option<Self> {
        if !require_root() || !require_tool("losetup") {
            return None;
        }
        let file = File::create(backing).unwrap();
        file.write_all_at(&vec![0xa5; usize::try_from(len).unwrap()], 0)
            .unwrap();
        let path = run_text(
            "losetup",
            ["-fP".as_ref(), "--show".as_ref(), backing.as_os_str()],
        );
        Some(Self {
            path: PathBuf::from(path.trim()),
        })
    }

    fn bytes(&self, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(len).unwrap()];
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        bytes
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("-d").arg(&self.path).status();
        assert!(detached.unwrap().success());
    }
}

#[test]
fn devices_are_overwritten_only_by_force() {
    let lab = Lab::new();
    let len = lab.image.source.len();
    let Some(device) = LoopDevice::new(&lab.path("backing"), len + 4096) else {
        return;
    };
    let export =
        |force| export::to_path(&lab.image, &device.path, &lab.options(force), &mut |_| ());
    let error = export(false).unwrap_err();
    assert!(matches!(error, ExportError::NeedsForce(_)), "{error}");
    assert!(error.hint().unwrap().contains("--force"));
    assert!(device.bytes(len).iter().all(|byte| *byte == 0xa5));
    export(true).unwrap();
    let bytes = device.bytes(len + 4096);
    let (image, behind) = bytes.split_at(usize::try_from(len).unwrap());
    // Zeros too, whatever was there before.
    assert!(image == lab.bytes());
    assert!(behind.iter().all(|byte| *byte == 0xa5));
}

#[test]
fn small_devices_are_refused() {
    let lab = Lab::new();
    let len = lab.image.source.len();
    let Some(device) = LoopDevice::new(&lab.path("backing"), len - 4096) else {
        return;
    };
    let result = export::to_path(&lab.image, &device.path, &lab.options(true), &mut |_| ());
    let Err(ExportError::DeviceTooSmall {
        device_len,
        image_len,
        ..
    }) = result
    else {
        panic!("{result:?}");
    };
    assert_eq!((device_len, image_len), (len - 4096, len));
    assert!(device.bytes(len - 4096).iter().all(|byte| *byte == 0xa5));
}

#[test]
fn devices_in_use_are_refused() {
    let lab = Lab::new();
    let len = lab.image.source.len();
    let Some(device) = LoopDevice::new(&lab.path("backing"), len) else {
        return;
    };
    let export = || export::to_path(&lab.image, &device.path, &lab.options(true), &mut |_| ());
    let assert_in_use = |result: Result<Exported, ExportError>, words: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, ExportError::DeviceInUse { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    // One of its partitions is mounted.
    export().unwrap();
    run_text("partx", ["-u".as_ref(), device.path.as_os_str()]);
    let partition = PathBuf::from(format!("{}p1", device.path.display()));
    let mountpoint = lab.path("out");
    run_text(
        "mount",
        [
            "-o".as_ref(),
            "ro".as_ref(),
            partition.as_os_str(),
            mountpoint.as_os_str(),
        ],
    );
    let result = export();
    run_text("umount", [&mountpoint]);
    assert_in_use(result, &mountpoint.display().to_string());
    // Swap space.
    run_text("partx", ["-d".as_ref(), device.path.as_os_str()]);
    run_text("mkswap", [&device.path]);
    run_text("swapon", [&device.path]);
    let result = export();
    run_text("swapoff", [&device.path]);
    assert_in_use(result, "swap");
    // Claimed without a trace in any table.
    let claim = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&device.path)
        .unwrap();
    assert_in_use(export(), "busy");
    drop(claim);
    export().unwrap();
}
