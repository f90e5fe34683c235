//! Block devices: whether one may be overwritten.
//!
//! Invariant: nothing is written to a device that is mounted, swapped to or held by another one, nor to a disk one of
//! whose partitions is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use super::error::ExportError;
use super::mounts;

/// Major and minor number.
type Number = (u32, u32);

/// Opens the device at `path` for an image of `image_len` bytes.
pub(super) fn open(path: &Path, image_len: u64, force: bool) -> Result<File, ExportError> {
    if !force {
        return Err(ExportError::NeedsForce(path.to_path_buf()));
    }
    let fail = |source| ExportError::write(path, source);
    let in_use = |usage| ExportError::DeviceInUse {
        path: path.to_path_buf(),
        usage,
    };
    let rdev = fs::metadata(path).map_err(fail)?.rdev();
    if let Some(usage) = usage((major(rdev), minor(rdev))).map_err(fail)? {
        return Err(in_use(usage));
    }
    // EXCL claims the device: the kernel refuses while anybody else does, in other mount namespaces too (open(2)).
    let opened = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_EXCL)
        .open(path);
    let mut device = match opened {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            return Err(in_use("the kernel says that it is busy".to_owned()));
        }
        opened => opened.map_err(fail)?,
    };
    let device_len = device.seek(SeekFrom::End(0)).map_err(fail)?;
    device.rewind().map_err(fail)?;
    if device_len < image_len {
        return Err(ExportError::DeviceTooSmall {
            path: path.to_path_buf(),
            device_len,
            image_len,
        });
    }
    Ok(device)
}

/// By whom the device or one of its partitions is used.
fn usage(number: Number) -> io::Result<Option<String>> {
    let mounts = mounts::all()?;
    let swaps = swaps();
    for (name, number) in with_partitions(number) {
        if let Some(mount) = mounts.iter().find(|mount| mount.is_of(number)) {
            return Ok(Some(format!("{name} is mounted on {}", mount.mountpoint)));
        }
        if swaps.contains(&number) {
            return Ok(Some(format!("{name} is used as swap space")));
        }
        let holders = fs::read_dir(sysfs(number).join("holders"));
        if let Some(Ok(holder)) = holders.ok().and_then(|mut entries| entries.next()) {
            let holder = holder.file_name();
            return Ok(Some(format!(
                "{name} is part of {}",
                holder.to_string_lossy()
            )));
        }
    }
    Ok(None)
}

/// Where the kernel describes a device (sysfs(5)).
fn sysfs((major, minor): Number) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// The device and its partitions by name. Where sysfs is not mounted, opening still finds out who uses it.
fn with_partitions(number: Number) -> Vec<(String, Number)> {
    let directory = sysfs(number);
    let own_name = fs::canonicalize(&directory)
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "it".to_owned());
    let mut found = vec![(own_name, number)];
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !path.join("partition").exists() {
            continue;
        }
        let text = fs::read_to_string(path.join("dev")).unwrap_or_default();
        let numbers = text.trim().split_once(':');
        let number =
            numbers.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        if let Some(number) = number {
            found.push((entry.file_name().to_string_lossy().into_owned(), number));
        }
    }
    found
}

/// The devices that are swapped to (proc_swaps(5)); none where the kernel knows no swap.
fn swaps() -> Vec<Number> {
    let table = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let paths = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    paths.filter_map(mounts::device_number).collect()
}
