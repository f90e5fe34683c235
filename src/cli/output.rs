//! Printing: results to stdout, warnings to stderr.

use std::io::{self, Write};

use super::error::{CliError, ErrorKind};

/// Writes `text` to stdout as it is; a reader that closed the pipe has seen enough.
///
/// # Errors
/// A full disk, for example.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::new(
            ErrorKind::Runtime,
            "standard output cannot be written",
        )
        .with_source(error)),
        _ => Ok(()),
    }
}

/// Writes `warning: …` lines to stderr.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        // Nothing can be said about a stderr that is closed.
        drop(writeln!(io::stderr(), "warning: {warning}"));
    }
}
