//! `miragefs export`.

use super::ExportArgs;
use super::error::{CliError, ErrorKind};

/// Not available yet.
///
/// # Errors
/// Always.
pub(super) fn export(_: &ExportArgs) -> Result<(), CliError> {
    Err(CliError::new(
        ErrorKind::Runtime,
        "`export` is not available in this build",
    ))
}
