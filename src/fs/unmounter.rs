//! A process beside the daemon that can do one thing which the daemon gave up: take its mount away.
//!
//! Unmounting needs `CAP_SYS_ADMIN`, or fusermount3 and so a set-user-ID program, and Landlock forbids it altogether. The
//! daemon asks for it with one line on a pipe; when the pipe closes, this process ends.
//!
//! Invariant: only the mount on the device that is named is unmounted, and only while it is ours.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use rustix::thread::CapabilitySet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::confine;
use super::mountpoint::{self, Device, UnmountError, find_mount};

/// What the helper says once signals do not end it any more.
const READY: &str = "ready";
/// What the helper answers when it has done it.
const DONE: &str = "done";

/// Takes mounts away.
#[derive(Debug, Default)]
pub(super) enum Unmounter {
    /// This process may do it.
    #[default]
    Ourselves,
    /// Another one does.
    Helper(Mutex<Helper>),
}

/// The process, as the daemon knows it.
#[derive(Debug)]
pub(super) struct Helper {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Unmounter {
    /// Starts `command`, a program and its arguments, which must call [`serve`].
    pub(super) fn start(command: &[OsString]) -> io::Result<Self> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| io::Error::other("no program is named"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Whoever waits for the end of what the daemon prints must not wait for this one.
            .stderr(Stdio::null())
            .current_dir("/")
            // Away from the terminal's signals: it is needed when they arrive.
            .process_group(0)
            .spawn()?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let answers = answers.ok_or_else(|| io::Error::other("a pipe is missing"))?;
        Ok(Self::Helper(Mutex::new(Helper {
            child,
            requests,
            answers: BufReader::new(answers),
        })))
    }

    /// Waits until nothing but the end of the daemon ends the helper.
    pub(super) fn wait_until_ready(&self) -> io::Result<()> {
        match self {
            Self::Ourselves => Ok(()),
            Self::Helper(helper) => helper.lock().expect_answer(READY),
        }
    }

    /// Lazily unmounts `path` if what is mounted there is on `device`.
    pub(super) fn detach(&self, path: &Path, device: Device) -> Result<(), UnmountError> {
        match self {
            Self::Ourselves => detach_device(path, device),
            Self::Helper(helper) => {
                helper
                    .lock()
                    .ask(path, device)
                    .map_err(|source| UnmountError::Host {
                        path: path.to_path_buf(),
                        source,
                    })
            }
        }
    }
}

impl Helper {
    fn ask(&mut self, path: &Path, device: Device) -> io::Result<()> {
        let requests = self.requests.as_mut().ok_or_else(gone)?;
        let mut request = format!("{} {} ", device.0, device.1).into_bytes();
        request.extend(path.as_os_str().as_bytes());
        // A path may hold any byte but this one.
        request.push(0);
        requests.write_all(&request)?;
        self.expect_answer(DONE)
    }

    fn expect_answer(&mut self, expected: &str) -> io::Result<()> {
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            return Err(gone());
        }
        match answer.trim_end() {
            answer if answer == expected => Ok(()),
            message => Err(io::Error::other(message.to_owned())),
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the process that may unmount is gone")
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It ends when its input does.
        drop(self.requests.take());
        drop(self.child.wait());
    }
}

/// What the helper does: waits for requests until there can be none any more.
///
/// # Errors
/// Signals cannot be ignored, or the pipe broke.
pub fn serve(requests: impl BufRead, mut answers: impl Write) -> io::Result<()> {
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        // Whoever ends the daemon and all its processes still wants the mount to be taken away.
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    confine::keep_capabilities(CapabilitySet::SYS_ADMIN | CapabilitySet::DAC_READ_SEARCH)?;
    writeln!(answers, "{READY}")?;
    answers.flush()?;
    answer(requests, answers)
}

fn answer(requests: impl BufRead, mut answers: impl Write) -> io::Result<()> {
    for request in requests.split(0) {
        let request = request?;
        let answer = match parse(&request) {
            Some((device, path)) => detach_device(&path, device).map_err(|error| error.to_string()),
            None => Err("the request is not understood".to_owned()),
        };
        let line = match &answer {
            Ok(()) => DONE,
            Err(message) => message,
        };
        writeln!(answers, "{}", line.replace('\n', " "))?;
        answers.flush()?;
    }
    Ok(())
}

fn parse(request: &[u8]) -> Option<(Device, PathBuf)> {
    let mut words = request.splitn(3, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    let device = (number()?, number()?);
    Some((device, PathBuf::from(OsStr::from_bytes(words.next()?))))
}

fn detach_device(path: &Path, device: Device) -> Result<(), UnmountError> {
    let mount = find_mount(path).map_err(|source| UnmountError::Host {
        path: path.to_path_buf(),
        source,
    })?;
    match mount {
        Some(mount) if mount.device == device => mountpoint::detach(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_a_device_and_any_path() {
        let expected = ((0, 71), PathBuf::from("/srv/my images\n"));
        assert_eq!(parse(b"0 71 /srv/my images\n"), Some(expected));
        for bad in [&b""[..], b"0", b"0 71", b"x 71 /srv", b"0 -1 /srv"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn nothing_is_unmounted_that_is_not_on_the_device() {
        // The root is mounted, on another device than this.
        let requests = &b"4095 1048575 /\0nonsense\0"[..];
        let mut answers = Vec::new();
        answer(requests, &mut answers).unwrap();
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers, "done\nthe request is not understood\n");
        assert!(find_mount(Path::new("/")).unwrap().is_some());
    }
}
