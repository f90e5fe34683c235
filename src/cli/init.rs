//! `miragefs init`.

use super::InitArgs;
use super::error::{CliError, ErrorKind};

/// Not available yet.
///
/// # Errors
/// Always.
pub(super) fn init(_: &InitArgs) -> Result<(), CliError> {
    Err(CliError::new(
        ErrorKind::Runtime,
        "`init` is not available in this build",
    ))
}
