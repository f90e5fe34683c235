//! `newest`: which of the files or directories that match `from` an entry of `copy` takes.
//!
//! Invariant: all entries of a partition that look into one directory take the same version, so that a kernel never meets
//! the initrd of another one; a version that one of them lacks is as if it were not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;
use toml::Spanned;

use super::{Context, Result};
use crate::config::error::ConfigErrorKind;
use crate::config::raw::RawCopy;
use crate::config::version::Version;
use crate::config::warning::ConfigWarningKind;

/// Ends of names that package managers and editors give to what is not, or no longer, the file.
pub(crate) const LEFTOVERS: [&str; 12] = [
    "~",
    ".bak",
    ".dpkg-bak",
    ".dpkg-dist",
    ".dpkg-new",
    ".dpkg-old",
    ".dpkg-tmp",
    ".new",
    ".old",
    ".old-dkms",
    ".part",
    ".tmp",
];

/// Why nothing can be taken.
#[derive(Debug, Error)]
pub enum NewestError {
    /// Nothing to choose by.
    #[error(
        "`from` is \"{value}\"; with newest = true the name after the last `/` has one `*`, and no name before it has any"
    )]
    Star {
        /// As typed.
        value: String,
    },
    /// No name fits.
    #[error("`from`: nothing in `{}` is called `{name}`", directory.display())]
    Nothing {
        /// Where was looked.
        directory: PathBuf,
        /// The name with its `*`.
        name: String,
    },
    /// Several entries, and no version that all have.
    #[error(
        "`from`: no version in `{}` is one of {}; the newest are {}",
        directory.display(),
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and "),
        newest.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" and ")
    )]
    NothingInCommon {
        /// Where was looked.
        directory: PathBuf,
        /// The names with their `*`.
        names: Vec<String>,
        /// What each has.
        newest: Vec<String>,
    },
}

impl NewestError {
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Star { .. } => {
                "write it as in { from = \"root/boot/vmlinuz-*\", newest = true, to = \"/vmlinuz\" }"
                    .to_owned()
            }
            Self::Nothing { .. } => format!(
                "`*` stands for at least one character; names that end in {} do not count",
                LEFTOVERS.join(" ")
            ),
            Self::NothingInCommon { .. } => {
                "entries of a partition with newest = true that look into one directory take the same version; look elsewhere for what has versions of its own"
                    .to_owned()
            }
        }
    }
}

/// What an entry wants.
struct Wish<'a> {
    /// Its place among the entries of the partition.
    index: usize,
    from: &'a Spanned<String>,
    /// What comes before and behind the `*`.
    around: (&'a str, &'a str),
    /// What may stand for it.
    versions: BTreeSet<Version>,
}

impl Wish<'_> {
    fn name(&self) -> String {
        self.name_with("*")
    }

    fn name_with(&self, version: &str) -> String {
        format!("{}{version}{}", self.around.0, self.around.1)
    }

    fn newest(&self) -> Option<String> {
        let newest = self.versions.last()?;
        Some(self.name_with(newest.as_str()))
    }
}

/// The path that each entry takes, where that is not what `from` says.
pub(super) fn choose(
    copies: &[Spanned<RawCopy>],
    context: &mut Context<'_>,
) -> Result<Vec<Option<PathBuf>>> {
    let mut directories: BTreeMap<PathBuf, Vec<Wish<'_>>> = BTreeMap::new();
    for (index, copy) in copies.iter().enumerate() {
        let raw = copy.get_ref();
        // Without `from` there is another mistake, which is told in its turn.
        let Some(from) = raw.from.as_ref().filter(|_| raw.newest) else {
            continue;
        };
        let (directory, wish) = wish(index, from, context)?;
        directories.entry(directory).or_default().push(wish);
    }
    let mut chosen = vec![None; copies.len()];
    for (directory, wishes) in directories {
        let version = common_newest(&directory, &wishes, context)?;
        for wish in &wishes {
            if let Some(place) = chosen.get_mut(wish.index) {
                *place = Some(directory.join(wish.name_with(version.as_str())));
            }
        }
    }
    Ok(chosen)
}

fn wish<'a>(
    index: usize,
    from: &'a Spanned<String>,
    context: &Context<'_>,
) -> Result<(PathBuf, Wish<'a>)> {
    let error = |kind| context.error(&from.span(), ConfigErrorKind::Newest(kind));
    let value = from.get_ref();
    let (above, name) = value.rsplit_once('/').unwrap_or(("", value));
    let around = name
        .split_once('*')
        .filter(|(_, behind)| !behind.contains('*') && !above.contains('*'));
    let Some(around) = around else {
        let value = value.clone();
        return Err(error(NewestError::Star { value }));
    };
    let above = if value.starts_with('/') && above.is_empty() {
        "/"
    } else {
        above
    };
    let typed = context.sources.directory(&from.span()).join(above);
    let (directory, _) = context.readable("from", typed, &from.span())?;
    context.directories.borrow_mut().insert(directory.clone());
    let versions = versions_in(&directory, around).map_err(|error| {
        let (key, path) = ("from", directory.clone());
        context.error(
            &from.span(),
            ConfigErrorKind::Inaccessible { key, path, error },
        )
    })?;
    let wish = Wish {
        index,
        from,
        around,
        versions,
    };
    if wish.versions.is_empty() {
        let name = wish.name();
        return Err(error(NewestError::Nothing { directory, name }));
    }
    Ok((directory, wish))
}

/// What stands for `*` in names of `directory`.
fn versions_in(directory: &Path, around: (&str, &str)) -> std::io::Result<BTreeSet<Version>> {
    let mut versions = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let version = name
            .to_str()
            .filter(|name| !LEFTOVERS.iter().any(|end| name.ends_with(end)))
            .and_then(|name| name.strip_prefix(around.0)?.strip_suffix(around.1))
            .filter(|version| !version.is_empty());
        versions.extend(version.map(Version::new));
    }
    Ok(versions)
}

/// The newest version that all have.
fn common_newest(
    directory: &Path,
    wishes: &[Wish<'_>],
    context: &mut Context<'_>,
) -> Result<Version> {
    let is_common = |version: &&Version| wishes.iter().all(|wish| wish.versions.contains(version));
    let all: BTreeSet<&Version> = wishes.iter().flat_map(|wish| &wish.versions).collect();
    let common = all.iter().rev().copied().find(is_common);
    // Which entry lacks the version that another one has.
    let incomplete = all.last().and_then(|newest| {
        let has = wishes.iter().find(|wish| wish.versions.contains(newest))?;
        let lacks = wishes.iter().find(|wish| !wish.versions.contains(newest))?;
        Some((*newest, has, lacks))
    });
    match (common, incomplete) {
        (Some(common), None) => Ok(common.clone()),
        (Some(common), Some((newest, has, lacks))) => {
            let kind = ConfigWarningKind::NewestIncomplete {
                directory: directory.to_path_buf(),
                newest: has.name_with(newest.as_str()),
                missing: lacks.name_with(newest.as_str()),
                taken: common.as_str().to_owned(),
            };
            context.warn(context.locate(&lacks.from.span()), kind);
            Ok(common.clone())
        }
        (None, _) => {
            let kind = NewestError::NothingInCommon {
                directory: directory.to_path_buf(),
                names: wishes.iter().map(Wish::name).collect(),
                newest: wishes.iter().filter_map(Wish::newest).collect(),
            };
            // The last one is where the others are known.
            let span = wishes.last().map_or(0..0, |wish| wish.from.span());
            Err(context.error(&span, ConfigErrorKind::Newest(kind)))
        }
    }
}
