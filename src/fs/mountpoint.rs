//! Where images appear: which directories are fit for it, and how a mount is taken away again.
//!
//! Invariant: nothing is unmounted that `/proc/self/mountinfo` does not name as a mount of miragefs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// The source of our mounts and the subtype of their file system.
pub(super) const FILE_SYSTEM_NAME: &str = "miragefs";

/// Why a directory cannot be mounted on.
#[derive(Debug, thiserror::Error)]
pub enum MountpointError {
    /// There is nothing of that name.
    #[error("{}: mount point does not exist", .0.display())]
    Missing(PathBuf),
    /// It is a file or something else.
    #[error("{}: mount point is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Its entries would be hidden.
    #[error("{}: mount point is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// Something is mounted there.
    #[error("{}: already a mount point (type {file_system}, source {source_name})", path.display())]
    AlreadyMounted {
        /// The directory.
        path: PathBuf,
        /// Type of the file system.
        file_system: String,
        /// What is mounted.
        source_name: String,
        /// Whether it is a mount of miragefs.
        ours: bool,
    },
    /// Reading the sources would read the mount, or the mount would appear in an image.
    #[error("{}: mount point lies inside the source {}", path.display(), directory.display())]
    InsideSource {
        /// The mount point.
        path: PathBuf,
        /// The source.
        directory: PathBuf,
    },
    /// The mount would hide the source.
    #[error("{}: the source {} lies below the mount point", path.display(), directory.display())]
    SourceBelow {
        /// The mount point.
        path: PathBuf,
        /// The source.
        directory: PathBuf,
    },
    /// The host could not look at it.
    #[error("{}: mount point cannot be used", path.display())]
    Host {
        /// The path that failed.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// The mount of a daemon that died could not be taken away.
    #[error("{}: the dead mount there cannot be cleared", path.display())]
    DeadMount {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: UnmountError,
    },
}

/// Why a mount could not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Nothing is mounted there.
    #[error("{}: not mounted", .0.display())]
    NotMounted(PathBuf),
    /// Something else is mounted there.
    #[error("{}: not a miragefs mount (type {file_system}, source {source_name})", path.display())]
    NotOurs {
        /// The mount point.
        path: PathBuf,
        /// Type of the file system.
        file_system: String,
        /// What is mounted.
        source_name: String,
    },
    /// The system call or a file of the kernel failed.
    #[error("{}: cannot be unmounted", path.display())]
    Host {
        /// The mount point, or the file that failed.
        path: PathBuf,
        /// The host's error.
        source: io::Error,
    },
    /// fusermount3 refused.
    #[error("{}: cannot be unmounted: {message}", path.display())]
    Fusermount {
        /// The mount point.
        path: PathBuf,
        /// What it said.
        message: String,
    },
}

/// Major and minor number of a file system's device.
pub(super) type Device = (u32, u32);

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountInfo {
    pub(super) device: Device,
    pub(super) mountpoint: PathBuf,
    pub(super) file_system: String,
    pub(super) source: String,
}

impl MountInfo {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = text(fields.nth(2)?);
        let (major, minor) = device.split_once(':')?;
        let mountpoint = unescape(fields.nth(1)?);
        // Optional fields end with a lone hyphen.
        fields.find(|field| *field == b"-")?;
        Some(Self {
            device: (major.parse().ok()?, minor.parse().ok()?),
            mountpoint: PathBuf::from(OsString::from_vec(mountpoint)),
            file_system: text(fields.next()?),
            source: text(fields.next()?),
        })
    }

    /// As root the kernel drops the subtype; fusermount3 keeps it.
    fn is_ours(&self) -> bool {
        self.file_system == "fuse.miragefs"
            || (self.file_system == "fuse" && self.source == FILE_SYSTEM_NAME)
    }
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, later)) = rest.split_first() {
        let octal = later
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() {
            later.get(3..).unwrap_or_default()
        } else {
            later
        };
    }
    bytes
}

/// The uppermost mount at `mountpoint`, an absolute path without symlinks.
pub(super) fn find_mount(mountpoint: &Path) -> io::Result<Option<MountInfo>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let mounts = table.split(|byte| *byte == b'\n');
    // A later line covers an earlier one.
    Ok(mounts
        .filter_map(MountInfo::parse)
        .rfind(|mount| mount.mountpoint == mountpoint))
}

/// The absolute path without symlinks; also of the root of a dead mount, which itself cannot be looked at.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let error = match fs::canonicalize(path) {
        Ok(resolved) => return Ok(resolved),
        Err(error) => error,
    };
    let absolute = std::path::absolute(path)?;
    match (
        is_disconnected(&error),
        absolute.parent(),
        absolute.file_name(),
    ) {
        (true, Some(parent), Some(name)) => Ok(fs::canonicalize(parent)?.join(name)),
        _ => Err(error),
    }
}

/// The daemon behind the mount is gone.
fn is_disconnected(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTCONN) || error.raw_os_error() == Some(libc::ECONNABORTED)
}

/// Resolves `mountpoint` and makes sure that images can be mounted there: an existing empty directory with nothing
/// mounted on it, apart from every source. A dead mount of ours is cleared first.
///
/// # Errors
/// [`MountpointError`] names the first rule that is broken.
pub fn check_mountpoint(
    mountpoint: &Path,
    source_dirs: &[PathBuf],
) -> Result<PathBuf, MountpointError> {
    let host = |source: io::Error| MountpointError::Host {
        path: mountpoint.to_path_buf(),
        source,
    };
    let path = match resolve(mountpoint) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MountpointError::Missing(mountpoint.to_path_buf()));
        }
        Err(error) => return Err(host(error)),
    };
    clear_dead_mount(&path)?;
    if let Some(mount) = find_mount(&path).map_err(host)? {
        return Err(MountpointError::AlreadyMounted {
            path,
            ours: mount.is_ours(),
            file_system: mount.file_system,
            source_name: mount.source,
        });
    }
    if !fs::metadata(&path).map_err(host)?.is_dir() {
        return Err(MountpointError::NotADirectory(path));
    }
    for directory in source_dirs {
        check_apart(&path, directory)?;
    }
    if fs::read_dir(&path).map_err(host)?.next().is_some() {
        return Err(MountpointError::NotEmpty(path));
    }
    Ok(path)
}

fn clear_dead_mount(path: &Path) -> Result<(), MountpointError> {
    let ours = find_mount(path).is_ok_and(|mount| mount.is_some_and(|mount| mount.is_ours()));
    // The kernel may answer stat from its cache for an hour; statfs always asks the daemon.
    if !ours || !rustix::fs::statfs(path).is_err_and(|error| is_disconnected(&error.into())) {
        return Ok(());
    }
    tracing::info!(
        "{}: clearing the mount of a daemon that is gone",
        path.display()
    );
    unmount(path, false).map_err(|source| MountpointError::DeadMount {
        path: path.to_path_buf(),
        source,
    })
}

/// Makes sure that neither of the two lies inside the other, also through bind mounts, which paths alone do not show.
///
/// # Errors
/// [`MountpointError::InsideSource`] and [`MountpointError::SourceBelow`].
pub fn check_apart(mountpoint: &Path, directory: &Path) -> Result<(), MountpointError> {
    let source = resolve(directory).unwrap_or_else(|_| directory.to_path_buf());
    if mountpoint.starts_with(&source) || is_ancestor(&source, mountpoint) {
        return Err(MountpointError::InsideSource {
            path: mountpoint.to_path_buf(),
            directory: source,
        });
    }
    if source.starts_with(mountpoint) || is_ancestor(mountpoint, &source) {
        return Err(MountpointError::SourceBelow {
            path: mountpoint.to_path_buf(),
            directory: source,
        });
    }
    Ok(())
}

/// Whether one of the directories that lead to `path`, or `path` itself, is the directory `ancestor`.
fn is_ancestor(ancestor: &Path, path: &Path) -> bool {
    let identity = |path: &Path| {
        fs::metadata(path)
            .ok()
            .map(|found| (found.dev(), found.ino()))
    };
    let Some(wanted) = identity(ancestor) else {
        return false;
    };
    path.ancestors()
        .any(|directory| identity(directory) == Some(wanted))
}

/// Takes the miragefs mount at `mountpoint` away: the name goes at once, files that are open are served until they
/// are closed. With `now` the connection is cut: open files fail from then on and the daemon ends.
///
/// # Errors
/// [`UnmountError`]: nothing or something else is mounted there, or the kernel refused.
pub fn unmount(mountpoint: &Path, now: bool) -> Result<(), UnmountError> {
    let path = resolve(mountpoint).map_err(|error| host(mountpoint, error))?;
    let mount = find_mount(&path).map_err(|error| host(&path, error))?;
    let Some(mount) = mount else {
        return Err(UnmountError::NotMounted(path));
    };
    if !mount.is_ours() {
        return Err(UnmountError::NotOurs {
            path,
            file_system: mount.file_system,
            source_name: mount.source,
        });
    }
    if now {
        cut(&path, mount.device)
    } else {
        detach(&path)
    }
}

/// Unmounts `path` and cuts its connection. With `MNT_FORCE` the kernel does both; an ordinary user needs the
/// control file system, which names a connection after its anonymous device, whose major number is 0.
fn cut(path: &Path, device: Device) -> Result<(), UnmountError> {
    let flags = UnmountFlags::FORCE | UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    match rustix::mount::unmount(path, flags) {
        Err(Errno::PERM) => {}
        result => return result.map_err(|error| host(path, error.into())),
    }
    let switch = PathBuf::from(format!("/sys/fs/fuse/connections/{}/abort", device.1));
    fs::write(&switch, "1").map_err(|error| host(&switch, error))?;
    fusermount_detach(path)
}

fn host(path: &Path, source: io::Error) -> UnmountError {
    UnmountError::Host {
        path: path.to_path_buf(),
        source,
    }
}

/// Lazily unmounts `path`, through fusermount3 where we are not allowed to.
pub(super) fn detach(path: &Path) -> Result<(), UnmountError> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Err(Errno::PERM) => fusermount_detach(path),
        result => result.map_err(|error| host(path, error.into())),
    }
}

/// The program that mounts and unmounts FUSE file systems for ordinary users.
pub(super) fn fusermount() -> OsString {
    std::env::var_os("FUSERMOUNT_PATH").unwrap_or_else(|| "fusermount3".into())
}

fn fusermount_detach(path: &Path) -> Result<(), UnmountError> {
    let program = fusermount();
    let output = Command::new(&program)
        .args(["-u", "-z", "--"])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| host(Path::new(&program), error))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(UnmountError::Fusermount {
        path: path.to_path_buf(),
        message,
    })
}

/// Raises the read-ahead of the file system on `device`: the kernel offers FUSE 128 KiB, which hides no latency.
///
/// # Errors
/// The host's; an ordinary user gets `EACCES`.
pub(super) fn raise_read_ahead(device: Device, kibibytes: u32) -> io::Result<()> {
    let (major, minor) = device;
    fs::write(
        format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"),
        kibibytes.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines_are_understood() {
        // From proc_pid_mountinfo(5), and one of fuse with an escaped space.
        let line =
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = MountInfo::parse(line).unwrap();
        assert_eq!(mount.device, (98, 0));
        assert_eq!(mount.mountpoint, Path::new("/mnt2"));
        assert_eq!(
            (mount.file_system.as_str(), mount.source.as_str()),
            ("ext3", "/dev/root")
        );
        assert!(!mount.is_ours());

        let line = br"71 29 0:52 / /srv/my\040images ro,nosuid,nodev,relatime - fuse miragefs ro";
        let mount = MountInfo::parse(line).unwrap();
        assert_eq!(mount.mountpoint, Path::new("/srv/my images"));
        assert!(mount.is_ours());
        assert_eq!(MountInfo::parse(b""), None);
        assert_eq!(MountInfo::parse(b"1 2 3:4 / /x rw"), None);
    }

    #[test]
    fn other_fuse_mounts_are_not_ours() {
        for (file_system, source, ours) in [
            ("fuse", "miragefs", true),
            ("fuse.miragefs", "miragefs", true),
            ("fuse", "sshfs", false),
            ("fuse.sshfs", "miragefs", false),
            ("ext4", "miragefs", false),
        ] {
            let mount = MountInfo {
                device: (0, 1),
                mountpoint: PathBuf::from("/m"),
                file_system: file_system.to_owned(),
                source: source.to_owned(),
            };
            assert_eq!(mount.is_ours(), ours, "{file_system} {source}");
        }
    }

    #[test]
    fn unescaping_keeps_what_is_no_escape() {
        assert_eq!(unescape(br"a\134b\x\04"), br"a\b\x\04");
    }

    #[test]
    fn unfit_mount_points_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let empty = root.join("empty");
        let full = root.join("full");
        fs::create_dir(&empty).unwrap();
        fs::create_dir(&full).unwrap();
        fs::write(full.join("file"), "").unwrap();
        let message = |path: &Path| check_mountpoint(path, &[]).unwrap_err().to_string();
        assert_eq!(check_mountpoint(&empty, &[]).unwrap(), empty);
        assert!(message(&full).ends_with("full: mount point is not empty"));
        assert!(message(&root.join("none")).ends_with("none: mount point does not exist"));
        assert!(message(&full.join("file")).ends_with("mount point is not a directory"));
        assert!(message(Path::new("/proc")).starts_with("/proc: already a mount point (type proc"));
    }

    #[test]
    fn mount_points_and_sources_are_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let (outer, inner) = (root.join("outer"), root.join("outer/inner"));
        fs::create_dir_all(&inner).unwrap();
        let check = |mountpoint: &Path, source: &Path| {
            check_mountpoint(mountpoint, &[root.join("other"), source.to_path_buf()])
        };
        assert!(matches!(
            check(&inner, &outer),
            Err(MountpointError::InsideSource { .. })
        ));
        assert!(matches!(
            check(&outer, &inner),
            Err(MountpointError::SourceBelow { .. })
        ));
        assert!(matches!(
            check(&inner, &inner),
            Err(MountpointError::InsideSource { .. })
        ));
        // Names alone are no containment: `inner2` does not lie in `inner`.
        let sibling = root.join("outer/inner2");
        fs::create_dir(&sibling).unwrap();
        check(&inner, &sibling).unwrap();
    }

    #[test]
    fn only_mounts_of_ours_are_unmounted() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            unmount(dir.path(), false),
            Err(UnmountError::NotMounted(_))
        ));
        assert!(matches!(
            unmount(Path::new("/proc"), false),
            Err(UnmountError::NotOurs { .. })
        ));
    }
}
