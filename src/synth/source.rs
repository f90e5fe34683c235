//! The one trait: an immutable sequence of bytes of known length, readable at any offset.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::host_file::HostFile;
use crate::units::to_u64;

/// An immutable sequence of bytes of known length, readable at any offset.
///
/// Contract:
/// - `len` never changes.
/// - `read_exact_at` fills all of `buf` or fails. Any range outside `0..len` is [`ReadError::OutOfRange`],
///   never a panic, for every `u64`; an empty `buf` at `offset <= len` succeeds.
/// - Equal reads give equal bytes, or one of them fails.
/// - `run_at(o)` for `o < len` names the run that starts at `o`: its length is at least 1 and ends at or before
///   `len`. Runs never overlap and leave no gap. For `o >= len` the run has length 0.
/// - A run of [`Origin::Zero`] reads as zeros and reading it does no I/O.
pub trait ByteSource: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] beyond the end; the other kinds when a source file cannot give its planned bytes.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError>;

    /// The run that starts at `offset`: how many bytes from there on have one origin.
    fn run_at(&self, offset: u64) -> Run;

    /// Whether the bytes from `offset` on are known to be zero, and for how many of them that answer holds: at least the
    /// run's, at most up to the end; nothing for `offset >= len`. A source that knows the answer for many runs at once
    /// says so here.
    fn known_zero_at(&self, offset: u64) -> (bool, u64) {
        let run = self.run_at(offset);
        (run.origin.is_zero(), run.len)
    }

    /// Appends what the byte at `offset` is, outermost structure first; nothing for `offset >= len`.
    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>);

    /// Whether reading this range may take unbounded time, so that it must not run on a FUSE worker.
    fn may_block(&self, offset: u64, len: u64) -> bool {
        let _ = (offset, len);
        false
    }

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes of one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Length in bytes from the offset asked about.
    pub len: u64,
    /// Where the bytes come from.
    pub origin: Origin,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Known to be zero without looking: holes, free space, empty tables.
    Zero,
    /// Computed from the plan without I/O; the name of the structure in the field's words.
    Computed(&'static str),
    /// The contents of a source file.
    HostFile {
        /// Which file.
        file: HostFile,
        /// Byte offset in that file.
        offset: u64,
    },
}

impl Origin {
    /// Whether the bytes are known to be zero.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        matches!(self, Self::Zero)
    }
}

/// One line of an explanation: a structure, and where inside it the byte lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The structure or file, in the field's words: `partition 1 "boot"`, `inode table of group 0, inode 12`.
    pub what: String,
    /// Byte offset inside that structure.
    pub offset: u64,
}

/// Why bytes could not be produced.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The range is not inside the source.
    #[error("range {offset:#x}+{len:#x} is outside the source's {end:#x} bytes")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for.
        len: u64,
        /// Length of the source.
        end: u64,
    },
    /// A source file is not the one that was planned any more.
    #[error("{}: {change}", path.display())]
    Stale {
        /// The source file.
        path: PathBuf,
        /// What differs.
        change: Change,
    },
    /// The host could not read a source file.
    #[error("{}: cannot be read", path.display())]
    Host {
        /// The source file.
        path: PathBuf,
        /// The host's error.
        source: Arc<io::Error>,
    },
    /// A compressed grain came out differently from when it was indexed.
    #[error("grain {grain} of the disk: is compressed to other bytes than its index says")]
    Unrepeatable {
        /// The grain.
        grain: u64,
    },
}

/// How a source file differs from what was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The name is gone, or leads somewhere else.
    Vanished,
    /// The type, inode, size, mtime or ctime differs.
    Attributes(&'static str),
    /// The file ended before its planned size.
    Truncated,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vanished => f.write_str("vanished since it was planned"),
            Self::Attributes(which) => write!(f, "changed since it was planned ({which} differs)"),
            Self::Truncated => f.write_str("ended before its planned size"),
        }
    }
}

/// Fails unless `offset..offset + buf_len` lies inside `0..end`; what every implementor calls first.
///
/// # Errors
/// [`ReadError::OutOfRange`], also where the end of the range is above `u64::MAX`.
pub fn check_range(offset: u64, buf_len: usize, end: u64) -> Result<(), ReadError> {
    let len = to_u64(buf_len);
    match offset.checked_add(len) {
        Some(range_end) if range_end <= end => Ok(()),
        _ => Err(ReadError::OutOfRange { offset, len, end }),
    }
}

impl Run {
    /// The run that [`ByteSource::run_at`] gives at or beyond the end.
    pub const EMPTY: Self = Self {
        len: 0,
        origin: Origin::Zero,
    };
}
