//! Printing: results to stdout, warnings to stderr.

use std::io::{self, Write};

use serde::Serialize;

use super::error::{CliError, ErrorKind};

/// Writes `text` to stdout as it is; a reader that closed the pipe has seen enough.
///
/// # Errors
/// A full disk, for example.
pub fn print(text: &str) -> Result<(), CliError> {
    match try_print(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::new(
            ErrorKind::Runtime,
            "standard output cannot be written",
        )
        .with_source(error)),
        _ => Ok(()),
    }
}

/// Writes `text` to stdout as it is.
///
/// # Errors
/// The host's, a closed pipe among them.
pub fn try_print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// `value` as JSON for people, with a newline at the end.
///
/// # Panics
/// If a map of `value` has keys that are no text: our own types have none.
#[must_use]
pub fn json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("our own types are JSON");
    text.push('\n');
    text
}

/// Something that should be told but does not stop anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Writes `warning: …` lines to stderr, each with its hint behind it.
pub fn warn(warnings: &[Warning]) {
    let mut stderr = io::stderr().lock();
    for warning in warnings {
        // Nothing can be said about a stderr that is closed.
        drop(writeln!(stderr, "warning: {}", warning.message));
        if let Some(hint) = &warning.hint {
            drop(writeln!(stderr, "   hint: {hint}"));
        }
    }
}
