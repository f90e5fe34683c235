//! `miragefs unmount`.

use std::io;

use super::UnmountArgs;
use super::error::{CliError, ErrorKind};
use crate::fs::mountpoint::{self, UnmountError};
use crate::fs::unmounter;

/// Takes the mount away.
///
/// # Errors
/// What is mounted there is not ours, or the kernel refused.
pub(super) fn unmount(args: &UnmountArgs) -> Result<(), CliError> {
    mountpoint::unmount(&args.mountpoint, args.now).map_err(|error| to_cli_error(&error))
}

/// Takes mounts away for a daemon, as it asks on stdin, until that is closed.
///
/// # Errors
/// The pipes broke.
pub(super) fn serve() -> Result<(), CliError> {
    unmounter::serve(io::stdin().lock(), io::stdout().lock()).map_err(|source| {
        CliError::new(ErrorKind::Runtime, "requests cannot be served").with_source(source)
    })
}

fn to_cli_error(error: &UnmountError) -> CliError {
    let reported = CliError::from_error(ErrorKind::Runtime, error);
    match error {
        UnmountError::NotOurs { .. } => reported.with_hint("umount(8) takes other mounts away"),
        UnmountError::Fusermount { .. } => {
            reported.with_hint("only root and the user who mounted may unmount")
        }
        UnmountError::Host { path, .. } if path.ends_with("fusermount3") => {
            reported.with_hint("ordinary users need fusermount3: install the package fuse3")
        }
        _ => reported,
    }
}
