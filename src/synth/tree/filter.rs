//! Which files of a source are taken: `exclude` and `include` of a copy entry.

use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::TreeError;
use crate::config::spec::CopySpec;

/// What becomes of a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    /// Nothing, and nothing below it.
    LeftOut,
    /// It is taken only if something below it is; files are never on the way.
    OnTheWay,
    /// It is taken, and what is below unless a pattern says otherwise.
    Taken,
}

/// The patterns of one copy entry.
#[derive(Debug)]
pub(super) struct Filter {
    exclude: Gitignore,
    /// Empty: all is included.
    include: Gitignore,
}

impl Filter {
    pub(super) fn new(spec: &CopySpec) -> Result<Self, TreeError> {
        Ok(Self {
            exclude: matcher(spec, "exclude", &spec.exclude)?,
            include: matcher(spec, "include", &spec.include)?,
        })
    }

    /// The fate of what lies directly below the source, as far as no pattern decides.
    pub(super) fn at_root(&self) -> Fate {
        if self.include.is_empty() {
            Fate::Taken
        } else {
            Fate::OnTheWay
        }
    }

    /// The fate of a name in a directory whose own fate is `above`; `path` is from the source.
    pub(super) fn judge<P: AsRef<Path>>(
        &self,
        path: impl Fn() -> P,
        is_directory: bool,
        above: Fate,
    ) -> Fate {
        if !self.exclude.is_empty() && self.exclude.matched(path(), is_directory).is_ignore() {
            return Fate::LeftOut;
        }
        if self.include.is_empty() {
            return above;
        }
        // The matcher was made for files to ignore: its "ignore" is a pattern that matches, its "whitelist" one with `!`.
        let is_taken = match self.include.matched(path(), is_directory) {
            Match::Ignore(_) => true,
            Match::Whitelist(_) => false,
            Match::None => above == Fate::Taken,
        };
        match (is_taken, is_directory) {
            (true, _) => Fate::Taken,
            (false, true) => Fate::OnTheWay,
            (false, false) => Fate::LeftOut,
        }
    }
}

fn matcher(
    spec: &CopySpec,
    key: &'static str,
    patterns: &[String],
) -> Result<Gitignore, TreeError> {
    let bad = |pattern: &str, error: &ignore::Error| TreeError::BadPattern {
        location: spec.location.clone(),
        key,
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    };
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        let added = builder.add_line(None, pattern);
        added.map_err(|error| bad(pattern, &error))?;
    }
    builder.build().map_err(|error| bad("", &error))
}
