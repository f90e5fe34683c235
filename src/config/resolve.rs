//! From the typed values to the [`Spec`]: defaults, limits, and whether the paths exist.
//!
//! Invariant: sources are looked at with `stat` and `faccessat` only, never opened, except that [`newest`] lists a directory.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use toml::Spanned;

use super::document::SourceMap;
use super::error::{ConfigError, ConfigErrorKind};
use super::raw::{RawConfig, RawSize};
use super::spec::{Location, OnChange, Spec, Times};
use super::{ConfigWarning, ConfigWarningKind, Environment};
use crate::units::parse_size;

pub(crate) mod boot;
mod content;
pub(crate) mod ext4;
mod ids;
mod images;
mod inline;
pub(crate) mod layout;
pub(crate) mod newest;
mod partition;
mod variables;
pub(crate) mod vm;

/// The time of what has no source, if nobody gives one: 2000-01-01.
const DEFAULT_TIME: i64 = 946_684_800;

/// The greatest time that eleven octal digits of a ustar header hold.
const TIME_MAX: i64 = 0o77_777_777_777;

/// Longest name of the VM.
const NAME_LEN_MAX: usize = 80;

type Result<T> = std::result::Result<T, ConfigError>;

/// What every step of the validation needs.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    sources: &'a SourceMap,
    environment: &'a Environment,
    pub(crate) warnings: Vec<ConfigWarning>,
    /// Paths that the config names, as typed and absolute: what they lead to may change.
    pub(crate) paths: RefCell<Vec<PathBuf>>,
    /// Directories whose names decide what is taken, symlinks resolved.
    pub(crate) directories: RefCell<BTreeSet<PathBuf>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(sources: &'a SourceMap, environment: &'a Environment) -> Self {
        Self {
            sources,
            environment,
            warnings: Vec::new(),
            paths: RefCell::default(),
            directories: RefCell::default(),
        }
    }

    fn locate(&self, span: &Range<usize>) -> Location {
        self.sources.locate(span)
    }

    fn error(&self, span: &Range<usize>, kind: impl Into<ConfigErrorKind>) -> ConfigError {
        self.sources.error(span, kind.into())
    }

    fn warn(&mut self, location: Location, kind: ConfigWarningKind) {
        self.warnings.push(ConfigWarning { location, kind });
    }

    /// A number of bytes; words such as "auto" are the caller's.
    fn size(&self, key: &'static str, typed: &Spanned<RawSize>) -> Result<u64> {
        match typed.get_ref() {
            RawSize::Number(value) => u64::try_from(*value).map_err(|_| {
                let (value, min, max) = (*value, 0, i64::MAX);
                self.error(
                    &typed.span(),
                    ConfigErrorKind::OutOfRange {
                        key,
                        value,
                        min,
                        max,
                    },
                )
            }),
            RawSize::Text(text) => parse_size(text).map_err(|reason| {
                let kind = if is_fraction(text) {
                    let text = text.clone();
                    ConfigErrorKind::FractionalSize { key, text }
                } else {
                    ConfigErrorKind::Size { key, reason }
                };
                self.error(&typed.span(), kind)
            }),
        }
    }

    /// An integer from `min` to `max`.
    fn integer(&self, key: &'static str, typed: &Spanned<i64>, min: i64, max: i64) -> Result<i64> {
        let value = *typed.get_ref();
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        Err(self.error(
            &typed.span(),
            ConfigErrorKind::OutOfRange {
                key,
                value,
                min,
                max,
            },
        ))
    }

    /// One of the words of `known`; `None` if nothing was typed.
    fn choice<T: Clone>(
        &self,
        key: &'static str,
        typed: Option<&Spanned<String>>,
        known: &[(&'static str, T)],
    ) -> Result<Option<T>> {
        let Some(typed) = typed else {
            return Ok(None);
        };
        let text = typed.get_ref();
        if let Some((_, value)) = known.iter().find(|(word, _)| word == text) {
            return Ok(Some(value.clone()));
        }
        let kind = ConfigErrorKind::UnknownValue {
            key,
            value: text.clone(),
            known: known.iter().map(|(word, _)| *word).collect(),
        };
        Err(self.error(&typed.span(), kind))
    }

    /// A text that is not empty and has no control characters.
    fn printable(&self, key: &'static str, typed: &Spanned<String>) -> Result<String> {
        let value = typed.get_ref().clone();
        if value.is_empty() || value.chars().any(char::is_control) {
            let rule = "expected at least one character, and no control characters";
            return Err(self.error(&typed.span(), ConfigErrorKind::Text { key, value, rule }));
        }
        Ok(value)
    }

    /// The path typed at `span`, made absolute.
    fn absolute(&self, typed: &Spanned<String>) -> PathBuf {
        self.sources.directory(&typed.span()).join(typed.get_ref())
    }

    /// `path` with symlinks resolved and its metadata; we may read it.
    fn readable(
        &self,
        key: &'static str,
        path: PathBuf,
        span: &Range<usize>,
    ) -> Result<(PathBuf, fs::Metadata)> {
        self.paths.borrow_mut().push(path.clone());
        examine(&path).map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => ConfigErrorKind::Missing { key, path },
                io::ErrorKind::PermissionDenied => ConfigErrorKind::Forbidden { key, path },
                _ => ConfigErrorKind::Inaccessible { key, path, error },
            };
            self.error(span, kind)
        })
    }

    /// A regular file that we may read.
    fn regular_file(
        &self,
        key: &'static str,
        path: PathBuf,
        span: &Range<usize>,
    ) -> Result<(PathBuf, fs::Metadata)> {
        let (path, metadata) = self.readable(key, path, span)?;
        if metadata.is_file() {
            return Ok((path, metadata));
        }
        let kind = ConfigErrorKind::FileType {
            key,
            path,
            found: file_type_name(&metadata),
            expected: "a regular file",
        };
        Err(self.error(span, kind))
    }
}

/// Whether `text` begins with digits around a decimal point.
fn is_fraction(text: &str) -> bool {
    text.trim()
        .split_once('.')
        .is_some_and(|(whole, _)| whole.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Resolves symlinks and asks whether the effective user may read the file, or list and enter the directory.
fn examine(path: &Path) -> io::Result<(PathBuf, fs::Metadata)> {
    let resolved = fs::canonicalize(path)?;
    let metadata = fs::metadata(&resolved)?;
    let access = if metadata.is_dir() {
        Access::READ_OK | Access::EXEC_OK
    } else {
        Access::READ_OK
    };
    rustix::fs::accessat(CWD, &resolved, access, AtFlags::EACCESS)?;
    Ok((resolved, metadata))
}

fn file_type_name(metadata: &fs::Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt as _;
    let file_type = metadata.file_type();
    if file_type.is_file() {
        "a regular file"
    } else if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Validates `raw`, which was read from `config_path`.
pub(crate) fn resolve(
    raw: RawConfig,
    config_path: PathBuf,
    context: &mut Context<'_>,
) -> Result<Spec> {
    let name = name(&raw, &config_path, context)?;
    let seed = match &raw.seed {
        Some(seed) => context.printable("seed", seed)?,
        None => name.clone(),
    };
    let times = times(&raw, context)?;
    let choices = [("fail", OnChange::Fail), ("keep", OnChange::Keep)];
    let on_change = context
        .choice("on-change", raw.on_change.as_ref(), &choices)?
        .unwrap_or_default();
    let vm = vm::resolve(&raw.vm, context)?;
    let raw_disk = raw
        .disk
        .unwrap_or_else(|| Spanned::new(0..0, Default::default()));
    let mut disk = layout::disk(&raw_disk, context)?;
    let mut partitions = layout::partitions(&raw.partition, &disk, context)?;
    variables::expand(
        &raw.variables,
        &raw.partition,
        &mut partitions,
        disk.table,
        context,
    )?;
    boot::check_partitions(&raw.partition, &partitions, &disk, &vm, &raw.vm, context)?;
    disk.boot_code = boot::boot_code(&raw_disk, &partitions, disk.table, context)?;
    let extlinux = boot::extlinux(&raw.bootloader, &raw.partition, &partitions, context)?;
    let images = images::resolve(raw.images, &partitions, context)?;
    Ok(Spec {
        config_path,
        name,
        seed,
        times,
        on_change,
        disk,
        partitions,
        extlinux,
        vm,
        images,
    })
}

fn name(raw: &RawConfig, config_path: &Path, context: &Context<'_>) -> Result<String> {
    let fits = |name: &str| {
        (1..=NAME_LEN_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    if let Some(typed) = &raw.name {
        let value = typed.get_ref().clone();
        if fits(&value) {
            return Ok(value);
        }
        let rule = "expected 1 to 80 of A-Z, a-z, 0-9, `.`, `_` and `-`";
        let key = "name";
        return Err(context.error(&typed.span(), ConfigErrorKind::Text { key, value, rule }));
    }
    let stem = config_path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    if fits(&stem) {
        return Ok(stem.into_owned());
    }
    let stem = stem.into_owned();
    Err(context.error(&(0..0), ConfigErrorKind::NoName { stem }))
}

/// Only the key clamps the times of sources; the variable is for what has none.
fn times(raw: &RawConfig, context: &Context<'_>) -> Result<Times> {
    if let Some(typed) = &raw.source_date_epoch {
        let time = context.integer("source-date-epoch", typed, 0, TIME_MAX)?;
        return Ok(Times {
            default: time,
            clamp: Some(time),
        });
    }
    let default = match &context.environment.source_date_epoch {
        None => DEFAULT_TIME,
        Some(value) => value
            .parse()
            .ok()
            .filter(|time| (0..=TIME_MAX).contains(time))
            .ok_or_else(|| {
                ConfigError::without_location(ConfigErrorKind::Epoch {
                    value: value.clone(),
                    max: TIME_MAX,
                })
            })?,
    };
    Ok(Times {
        default,
        clamp: None,
    })
}
