//! What a reader is told when its bytes cannot be produced, and what the log says about it.

use std::io;

use fuser::Errno;

use crate::synth::source::ReadError;

/// The error number for `error`; the log names the image and the source file.
pub(super) fn of_read_error(error: &ReadError, image_name: &str) -> Errno {
    let errno = number(error);
    match error {
        ReadError::Host { source, .. } => {
            tracing::warn!("{image_name}: {error}: {source}");
        }
        ReadError::Unrepeatable { .. } => {
            tracing::warn!("{image_name}: {error}; mount again, which makes the index anew");
        }
        ReadError::Stale { .. } | ReadError::OutOfRange { .. } => {
            tracing::warn!("{image_name}: {error}");
        }
    }
    errno
}

fn number(error: &ReadError) -> Errno {
    match error {
        ReadError::Stale { .. } => Errno::ESTALE,
        ReadError::Host { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Errno::EACCES
        }
        // Reads are clipped to the image, so a range outside it is our own mistake.
        ReadError::Host { .. } | ReadError::OutOfRange { .. } | ReadError::Unrepeatable { .. } => {
            Errno::EIO
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::synth::source::Change;

    #[test]
    fn every_kind_has_its_number() {
        let host = |errno| ReadError::Host {
            path: PathBuf::from("vmuser/notes"),
            source: Arc::new(io::Error::from_raw_os_error(errno)),
        };
        let stale = ReadError::Stale {
            path: PathBuf::from("vmuser/notes"),
            change: Change::Truncated,
        };
        let outside = ReadError::OutOfRange {
            offset: 8,
            len: 1,
            end: 8,
        };
        for (error, expected) in [
            (stale, libc::ESTALE),
            (host(libc::EACCES), libc::EACCES),
            (host(libc::EPERM), libc::EACCES),
            (host(libc::EIO), libc::EIO),
            (host(libc::EMFILE), libc::EIO),
            (outside, libc::EIO),
            (ReadError::Unrepeatable { grain: 3 }, libc::EIO),
        ] {
            assert_eq!(
                of_read_error(&error, "disk.img").code(),
                expected,
                "{error}"
            );
        }
    }
}
