//! `miragefs explain`.

use super::ExplainArgs;
use super::error::{CliError, ErrorKind};

/// Not available yet.
///
/// # Errors
/// Always.
pub(super) fn explain(_: &ExplainArgs) -> Result<(), CliError> {
    Err(CliError::new(
        ErrorKind::Runtime,
        "`explain` is not available in this build",
    ))
}
