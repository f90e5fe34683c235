//! What the kernel complains about while a test works on a device.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use crate::support::skip;

/// The least urgent level that counts as a complaint: warning.
const WARNING: u32 = 4;
/// More than any record of the log takes.
const RECORD_MAX: usize = 16_384;

/// The kernel's log from one moment on.
pub(crate) struct KernelLog(File);

impl KernelLog {
    /// The log from now on, if it can be read here; says so if not.
    pub(crate) fn from_now() -> Option<Self> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg");
        match opened {
            Ok(mut file) => {
                file.seek(SeekFrom::End(0)).unwrap();
                Some(Self(file))
            }
            Err(error) => {
                skip(format!("the kernel's log cannot be read: {error}"));
                None
            }
        }
    }

    /// Warnings and errors since then that name a device, such as `loop0`, and failed assertions of ext4 and its journal,
    /// which name none.
    pub(crate) fn complaints(&mut self, device: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut record = vec![0; RECORD_MAX];
        loop {
            match self.0.read(&mut record) {
                Ok(len) => {
                    let record = String::from_utf8_lossy(&record[..len]).into_owned();
                    complaints.extend(complaint(&record, device));
                }
                // Records were overwritten before they could be read; the next read goes on behind them.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return complaints,
                Err(error) => panic!("/dev/kmsg: {error}"),
            }
        }
    }
}

/// The text of a record `priority,sequence,time,flags;text`, if it is a complaint about the device.
fn complaint(record: &str, device: &str) -> Option<String> {
    let (head, rest) = record.split_once(';')?;
    let text = rest.lines().next()?;
    let priority: u32 = head.split(',').next()?.parse().ok()?;
    let failed_assertion = ["fs/ext4/", "fs/jbd2/"]
        .iter()
        .any(|place| text.contains(place));
    // Linux 6.18 says this of file systems that mke2fs made as well, when preallocated files are written to in parallel.
    if text.contains("ext4_convert_unwritten_extents_endio") {
        return None;
    }
    let urgent = priority % 8 <= WARNING;
    (urgent && (names(text, device) || failed_assertion)).then(|| text.to_owned())
}

/// Whether a text has the device's name as a word of its own: `loop1` is none in `loop10`.
fn names(text: &str, device: &str) -> bool {
    text.match_indices(device).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let behind = text[at + device.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !behind.is_some_and(char::is_alphanumeric)
    })
}

#[test]
fn complaints_are_told_from_other_lines() {
    let found = |record: &str| complaint(record, "loop1").is_some();
    assert!(found(
        "2,1022,77,-;EXT4-fs error (device loop1): ext4_validate_block_bitmap:420: bad\n"
    ));
    assert!(found(
        "4,9,77,-;JBD2: recovery failed on loop1-8\n SUBSYSTEM=block\n"
    ));
    assert!(found(
        "4,9,77,-;WARNING: CPU: 1 PID: 3 at fs/ext4/inode.c:1234\n"
    ));
    assert!(!found("6,9,77,-;EXT4-fs (loop1): mounted filesystem r/w\n"));
    assert!(!found(
        "4,9,77,-;EXT4-fs warning (device loop1): ext4_convert_unwritten_extents_endio:3830: Inode (18)\n"
    ));
    assert!(!found("2,9,77,-;EXT4-fs error (device loop10): bad\n"));
    assert!(!found("2,9,77,-;EXT4-fs error (device loop0): bad\n"));
}
