//! Errors as the person at the terminal sees them.

use std::error::Error;
use std::fmt::{self, Write};

/// What kind of mistake it was; it decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command line.
    Usage,
    /// The config or what it names.
    Config,
    /// The host, at run time.
    Runtime,
}

/// Why a command failed: the message, its causes, and what to do about it.
#[derive(Debug)]
pub struct CliError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
}

impl CliError {
    /// An error with a message of its own.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
            hint: None,
        }
    }

    /// An error that says what `error` says; its causes are kept.
    #[must_use]
    pub fn from_error(kind: ErrorKind, error: &(dyn Error + 'static)) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        let source = causes.into_iter().rev().fold(None, |source, message| {
            Some(Box::new(Cause { message, source }))
        });
        Self {
            kind,
            message: error.to_string(),
            source: source.map(|cause| -> Box<dyn Error + Send + Sync> { cause }),
            hint: None,
        }
    }

    /// The same with the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What kind of mistake it was.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// 1 for failures at run time, 2 for mistakes in the command line or the config.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Usage | ErrorKind::Config => 2,
            ErrorKind::Runtime => 1,
        }
    }

    /// `error:`, the causes, a blank line, `hint:`; without a newline at the end.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = format!("error: {self}");
        let mut next = self.source();
        while let Some(cause) = next {
            write!(text, "\n  caused by: {cause}").expect("writing to a String cannot fail");
            next = cause.source();
        }
        if let Some(hint) = &self.hint {
            write!(text, "\n\nhint: {hint}").expect("writing to a String cannot fail");
        }
        text
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CliError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

/// The text of a cause, kept after the error that had it.
#[derive(Debug)]
struct Cause {
    message: String,
    source: Option<Box<Self>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn reports_causes_and_hint() {
        let error = CliError::new(ErrorKind::Config, "lab.toml: cannot be read")
            .with_source(io::Error::from_raw_os_error(libc::ENOENT))
            .with_hint("`miragefs init` writes a starter config");
        assert_eq!(
            error.report(),
            "error: lab.toml: cannot be read\n  caused by: No such file or directory (os error 2)\n\n\
             hint: `miragefs init` writes a starter config"
        );
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn keeps_the_causes_of_an_error() {
        let middle =
            CliError::new(ErrorKind::Runtime, "middle").with_source(io::Error::other("low"));
        let top = CliError::new(ErrorKind::Runtime, "top").with_source(middle);
        let copy = CliError::from_error(ErrorKind::Usage, &top);
        assert_eq!(
            copy.report(),
            "error: top\n  caused by: middle\n  caused by: low"
        );
    }
}
