//! `miragefs check`.

use super::CheckArgs;
use super::error::{CliError, ErrorKind};

/// Not available yet.
///
/// # Errors
/// Always.
pub(super) fn check(_: &CheckArgs) -> Result<(), CliError> {
    Err(CliError::new(
        ErrorKind::Runtime,
        "`check` is not available in this build",
    ))
}
