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
    others: Vec<Self>,
    more: u64,
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
            others: Vec::new(),
            more: 0,
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
            others: Vec::new(),
            more: 0,
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

    /// The same with others of its kind, and a number of those that are not put into words.
    #[must_use]
    pub fn with_others(mut self, others: Vec<Self>, more: u64) -> Self {
        self.others = others;
        self.more = more;
        self
    }

    /// This error and the others that came with it.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.others)
    }

    /// How many more there are besides.
    #[must_use]
    pub const fn more(&self) -> u64 {
        self.more
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What led to it, the nearest first.
    pub fn causes(&self) -> impl Iterator<Item = String> {
        let mut next = self.source();
        std::iter::from_fn(move || {
            let cause = next?;
            next = cause.source();
            Some(cause.to_string())
        })
    }

    /// `error:`, the causes, a blank line, `hint:`; others behind another blank line; without a newline at the end.
    #[must_use]
    pub fn report(&self) -> String {
        let mut reports: Vec<String> = self.all().map(Self::report_alone).collect();
        if self.more > 0 {
            reports.push(format!("and {} more errors", self.more));
        }
        reports.join("\n\n")
    }

    fn report_alone(&self) -> String {
        let mut text = format!("error: {self}");
        for cause in self.causes() {
            write!(text, "\n  caused by: {cause}").expect("writing to a String cannot fail");
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

    #[test]
    fn several_are_told_together() {
        let error = |message| CliError::new(ErrorKind::Config, message);
        let first = error("first").with_hint("turn");
        let second = error("second").with_source(io::Error::other("low"));
        let all = first.with_others(vec![second], 3);
        assert_eq!(
            all.report(),
            "error: first\n\nhint: turn\n\nerror: second\n  caused by: low\n\nand 3 more errors"
        );
        assert_eq!(all.exit_code(), 2);
    }
}
