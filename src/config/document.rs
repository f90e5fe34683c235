//! The config file and what it includes, put together as one TOML document.
//!
//! Invariant: every span of the merged document is an offset into the texts laid end to end, so that any value can be
//! traced to its file, line and column, and relative paths to the directory of the file that names them.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::error::{ConfigError, ConfigErrorKind};
use super::keys;
use super::raw::RawConfig;
use super::spec::Location;

/// The texts of a config, in the order of reading.
#[derive(Debug, Default)]
pub(crate) struct SourceMap {
    files: Vec<SourceFile>,
}

#[derive(Debug)]
struct SourceFile {
    /// As reached from the command line or an `include`, absolute.
    path: PathBuf,
    /// Without symlinks: what tells files apart.
    canonical: PathBuf,
    /// Offset of the text's first byte.
    base: usize,
    text: String,
}

impl SourceMap {
    /// The files, the config first.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// The place where `span` begins.
    pub(crate) fn locate(&self, span: &Range<usize>) -> Location {
        let file = self.file_at(span.start);
        let before = file
            .text
            .get(..span.start.saturating_sub(file.base))
            .unwrap_or(&file.text);
        let line_start = before.rfind('\n').map_or(0, |end| end.saturating_add(1));
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        let characters = before.get(line_start..).unwrap_or("").chars().count();
        Location {
            file: file.path.clone(),
            line: from_one(lines),
            column: from_one(characters),
        }
    }

    /// Where relative paths typed at `span` start.
    pub(crate) fn directory(&self, span: &Range<usize>) -> &Path {
        let path = &self.file_at(span.start).path;
        path.parent().unwrap_or(path)
    }

    /// An error at the beginning of `span`.
    pub(crate) fn error(&self, span: &Range<usize>, kind: ConfigErrorKind) -> ConfigError {
        ConfigError::at(self.locate(span), kind)
    }

    fn file_at(&self, offset: usize) -> &SourceFile {
        let after = self.files.partition_point(|file| file.base <= offset);
        self.files
            .get(after.saturating_sub(1))
            .expect("spans come from files of the map")
    }

    fn contains(&self, canonical: &Path) -> bool {
        self.files.iter().any(|file| file.canonical == canonical)
    }

    /// The document of one file, with the spans of the whole map.
    fn parse_file(&self, file_index: usize) -> Result<DeTable<'_>, ConfigError> {
        let file = self
            .files
            .get(file_index)
            .expect("indices come from pushing to the map");
        match DeTable::parse(&file.text) {
            Ok(table) => Ok(shift_table(table.into_inner(), file.base)),
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let kind = match (error.message(), file.text.get(span.clone())) {
                    ("duplicate key", Some(key)) => ConfigErrorKind::Syntax {
                        message: format!("duplicate key `{key}`"),
                    },
                    _ => syntax(&error),
                };
                Err(self.error(&shift(&span, file.base), kind))
            }
        }
    }

    /// Adds a text and returns its index.
    fn push(&mut self, path: PathBuf, canonical: PathBuf, text: String) -> usize {
        let file_index = self.files.len();
        // One more than the text is long: the end of a text is a place too.
        let base = self.files.last().map_or(0, |last| {
            last.base.saturating_add(last.text.len()).saturating_add(1)
        });
        self.files.push(SourceFile {
            path,
            canonical,
            base,
            text,
        });
        file_index
    }
}

fn from_one(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1)
}

/// Reads a file as text.
///
/// # Errors
/// The file cannot be read or is no UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigErrorKind> {
    let unreadable = |error| ConfigErrorKind::Unreadable {
        path: path.to_owned(),
        error,
    };
    let bytes = fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| {
        unreadable(io::Error::new(
            io::ErrorKind::InvalidData,
            error.utf8_error(),
        ))
    })
}

/// Parses `text` and all that it includes, checks the keys, merges, and gives the values their types.
///
/// # Errors
/// Syntax, unknown keys, wrong types; includes that cannot be read or form a cycle.
pub(crate) fn parse(text: String, path: &Path) -> Result<(RawConfig, SourceMap), ConfigError> {
    let mut loader = Loader::default();
    let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    loader.load(text, path.to_owned(), canonical)?;
    let Loader {
        sources,
        merge_order,
        ..
    } = loader;
    let mut merged = DeTable::new();
    for file_index in merge_order {
        let table = sources.parse_file(file_index)?;
        keys::check(&sources, &table, &keys::ROOT)?;
        merge(&mut merged, table);
    }
    let root = Deserializer::from(Spanned::new(0..0, merged));
    match RawConfig::deserialize(root) {
        Ok(raw) => Ok((raw, sources)),
        Err(error) => Err(sources.error(&error.span().unwrap_or(0..0), syntax(&error))),
    }
}

/// Reads files and follows their includes.
#[derive(Debug, Default)]
struct Loader {
    sources: SourceMap,
    /// Indices into the map's files: what is included comes before what includes it.
    merge_order: Vec<usize>,
    /// The files that are being read, outermost first.
    open: Vec<PathBuf>,
}

impl Loader {
    fn load(&mut self, text: String, path: PathBuf, canonical: PathBuf) -> Result<(), ConfigError> {
        let file_index = self.sources.push(path, canonical.clone(), text);
        self.open.push(canonical);
        let includes = includes(&self.sources.parse_file(file_index)?);
        for include in includes {
            self.include(&include)?;
        }
        self.open.pop();
        self.merge_order.push(file_index);
        Ok(())
    }

    fn include(&mut self, include: &Spanned<String>) -> Result<(), ConfigError> {
        let span = include.span();
        let path = self.sources.directory(&span).join(include.get_ref());
        let canonical = fs::canonicalize(&path).map_err(|error| {
            let path = path.clone();
            self.sources
                .error(&span, ConfigErrorKind::Unreadable { path, error })
        })?;
        if self.open.contains(&canonical) {
            let kind = ConfigErrorKind::IncludeCycle {
                path: include.get_ref().clone(),
            };
            return Err(self.sources.error(&span, kind));
        }
        // A file that two others include counts once, where it came first.
        if self.sources.contains(&canonical) {
            return Ok(());
        }
        let text = read_text(&path).map_err(|kind| self.sources.error(&span, kind))?;
        self.load(text, path, canonical)
    }
}

/// The texts of `include`; a wrong type is found by the check of the keys.
fn includes(table: &DeTable<'_>) -> Vec<Spanned<String>> {
    let Some(DeValue::Array(items)) = table.get("include").map(Spanned::get_ref) else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| {
            let text = item.get_ref().as_str()?;
            Some(Spanned::new(item.span(), text.to_owned()))
        })
        .collect()
}

/// Puts `over` on top of `base`: tables are merged, lists of tables such as `[[partition]]` joined, all else replaced.
fn merge<'i>(base: &mut DeTable<'i>, over: DeTable<'i>) {
    for (name, value) in over {
        let Some((old_name, old)) = base.remove_entry(&name) else {
            base.insert(name, value);
            continue;
        };
        let (span, old_span) = (value.span(), old.span());
        match (old.into_inner(), value.into_inner()) {
            (DeValue::Table(mut old), DeValue::Table(new)) => {
                merge(&mut old, new);
                base.insert(old_name, Spanned::new(old_span, DeValue::Table(old)));
            }
            (DeValue::Array(mut old), DeValue::Array(new)) if name.get_ref() == "partition" => {
                for item in new {
                    old.push(item);
                }
                base.insert(old_name, Spanned::new(old_span, DeValue::Array(old)));
            }
            (_, new) => {
                base.insert(name, Spanned::new(span, new));
            }
        }
    }
}

fn shift(span: &Range<usize>, base: usize) -> Range<usize> {
    span.start.saturating_add(base)..span.end.saturating_add(base)
}

/// `table` with its spans moved by `base`.
fn shift_table(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    table
        .into_iter()
        .map(|(name, value)| {
            let span = shift(&name.span(), base);
            (
                Spanned::new(span, name.into_inner()),
                shift_value(value, base),
            )
        })
        .collect()
}

fn shift_value(value: Spanned<DeValue<'_>>, base: usize) -> Spanned<DeValue<'_>> {
    let span = shift(&value.span(), base);
    let shifted = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shift_table(table, base)),
        DeValue::Array(items) => DeValue::Array(
            items
                .into_iter()
                .map(|item| shift_value(item, base))
                .collect(),
        ),
        plain => plain,
    };
    Spanned::new(span, shifted)
}

fn syntax(error: &toml::de::Error) -> ConfigErrorKind {
    ConfigErrorKind::Syntax {
        message: error.message().trim().replace('\n', "; "),
    }
}
