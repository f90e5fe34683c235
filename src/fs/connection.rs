//! The connection to the kernel: `mount(2)` where we may, fusermount3 where we may not.
//!
//! Invariant: what is returned is a mount that exists, and the descriptor that its requests come from. fuser could
//! do this too, but 0.18 gives up where /dev/fuse is not open to ordinary users, and ties the descriptor to a handle
//! that unmounts the path when dropped, whatever is mounted there by then.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::MountFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use super::mountpoint::{FILE_SYSTEM_NAME, fusermount};

/// Mounts on `path` and returns the descriptor that requests come from.
///
/// `source` is what tables of mounts show in front of it: by the config's path mount(8) knows which line of fstab is
/// mounted already.
pub(super) fn open(path: &Path, source: &OsStr, allow_other: bool) -> io::Result<OwnedFd> {
    match open_as_root(path, source, allow_other) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_through_fusermount(path, source, allow_other)
        }
        result => result,
    }
}

/// `EPERM` from `mount(2)` and `EACCES` from /dev/fuse both mean that we need fusermount3.
fn open_as_root(path: &Path, source: &OsStr, allow_other: bool) -> io::Result<OwnedFd> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions{}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
        if allow_other { ",allow_other" } else { "" },
    );
    rustix::mount::mount(
        source,
        path,
        format!("fuse.{FILE_SYSTEM_NAME}"),
        MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
        &*CString::new(data)?,
    )?;
    Ok(device.into())
}

fn open_through_fusermount(path: &Path, source: &OsStr, allow_other: bool) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut options = OsString::from(format!(
        "ro,nosuid,nodev,default_permissions,subtype={FILE_SYSTEM_NAME}{},fsname=",
        if allow_other { ",allow_other" } else { "" },
    ));
    options.push(escaped(source));
    // It answers on the socket that is its standard input.
    let child = Command::new(fusermount())
        .env("_FUSE_COMMFD", "0")
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(path)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    // Ours was the only other copy of its end, so this ends when it does.
    let received = receive_descriptor(&ours);
    let output = child.wait_with_output()?;
    match received? {
        Some(device) if output.status.success() => Ok(device),
        _ => {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
        }
    }
}

/// A value as fusermount3 reads it: commas and backslashes have a backslash in front.
fn escaped(value: &OsStr) -> OsString {
    let mut bytes = Vec::with_capacity(value.len());
    for byte in value.as_bytes() {
        if matches!(byte, b',' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(*byte);
    }
    OsString::from_vec(bytes)
}

/// One byte with a descriptor beside it; `None` if the other end closed without sending one.
fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    loop {
        let mut buffers = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut buffers, &mut ancillary, flags) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptor)
}
