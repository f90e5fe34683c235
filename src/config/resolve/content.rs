//! `copy`: sources of a partition, and the values that all entries share.

use std::path::PathBuf;

use ignore::gitignore::GitignoreBuilder;
use toml::Spanned;

use super::{Context, Result, file_type_name, ids};
use crate::config::error::ConfigErrorKind;
use crate::config::raw::RawCopy;
use crate::config::spec::{CopySpec, ImagePath, Owner, Sparse};

/// The permission bits with set-user-id, set-group-id and sticky.
const MODE_MAX: u16 = 0o7777;
/// EXT4_NAME_LEN.
const COMPONENT_LEN_MAX: usize = 255;

/// An entry of `copy`, which takes `chosen` if its `from` has a `*`.
pub(super) fn copy(
    typed: &Spanned<RawCopy>,
    chosen: Option<PathBuf>,
    context: &Context<'_>,
) -> Result<CopySpec> {
    let raw = typed.get_ref();
    let Some(from) = &raw.from else {
        let (key, table) = ("from", "an entry of copy");
        return Err(context.error(&typed.span(), ConfigErrorKind::MissingKey { key, table }));
    };
    if from.get_ref().is_empty() {
        let (key, value, rule) = ("from", String::new(), "expected a path");
        return Err(context.error(&from.span(), ConfigErrorKind::Text { key, value, rule }));
    }
    let path = chosen.unwrap_or_else(|| context.absolute(from));
    let (path, metadata) = context.readable("from", path, &from.span())?;
    if !metadata.is_dir() && !metadata.is_file() {
        let kind = ConfigErrorKind::FileType {
            key: "from",
            path,
            found: file_type_name(&metadata),
            expected: "a directory or a regular file",
        };
        return Err(context.error(&from.span(), kind));
    }
    let (to, to_is_directory) = match &raw.to {
        None => (ImagePath::default(), true),
        Some(to) => (image_path("to", to, context)?, to.get_ref().ends_with('/')),
    };
    let (uid_map, gid_map) = ids::maps(raw, context)?;
    Ok(CopySpec {
        from: path,
        to,
        to_is_directory,
        owner: owner(raw.owner.as_ref(), context)?,
        owners: owners(raw.owners.as_ref(), context)?,
        mode: mode(raw.mode.as_ref(), context)?,
        uid_map,
        gid_map,
        exclude: patterns("exclude", &raw.exclude, context)?,
        include: patterns("include", &raw.include, context)?,
        cross_mounts: raw.cross_mounts,
        sparse: sparse(raw.sparse.as_ref(), context)?,
        xattrs: xattrs(&raw.xattrs, context)?,
        location: context.locate(&typed.span()),
    })
}

/// The manifest's path; what is in it is looked at when planning.
fn owners(typed: Option<&Spanned<String>>, context: &Context<'_>) -> Result<Option<PathBuf>> {
    let Some(typed) = typed else {
        return Ok(None);
    };
    if typed.get_ref().is_empty() {
        let (key, value, rule) = ("owners", String::new(), "expected a path");
        return Err(context.error(&typed.span(), ConfigErrorKind::Text { key, value, rule }));
    }
    let (path, _) = context.regular_file("owners", context.absolute(typed), &typed.span())?;
    Ok(Some(path))
}

/// An absolute path; doubled slashes and `.` mean nothing, as everywhere.
pub(super) fn image_path(
    key: &'static str,
    typed: &Spanned<String>,
    context: &Context<'_>,
) -> Result<ImagePath> {
    let text = typed.get_ref();
    let parts = || {
        text.split('/')
            .filter(|part| !part.is_empty() && *part != ".")
    };
    let rule = if !text.starts_with('/') {
        "it must start with `/`, the root of the partition"
    } else if parts().any(|part| part == "..") {
        "it must not contain `..`"
    } else if text.contains('\0') {
        "it must not contain NUL"
    } else if parts().any(|part| part.len() > COMPONENT_LEN_MAX) {
        "a name in it is longer than 255 bytes, the limit of ext4"
    } else {
        return Ok(ImagePath(
            parts().map(|part| part.as_bytes().to_vec()).collect(),
        ));
    };
    let value = text.clone();
    Err(context.error(
        &typed.span(),
        ConfigErrorKind::ImagePath { key, value, rule },
    ))
}

fn patterns(
    key: &'static str,
    typed: &[Spanned<String>],
    context: &Context<'_>,
) -> Result<Vec<String>> {
    for pattern in typed {
        check_pattern(key, pattern, context)?;
    }
    Ok(typed
        .iter()
        .map(|pattern| pattern.get_ref().clone())
        .collect())
}

fn check_pattern(key: &'static str, typed: &Spanned<String>, context: &Context<'_>) -> Result<()> {
    let pattern = typed.get_ref().clone();
    let reason = match pattern_mistake(&pattern) {
        Some(mistake) => mistake.to_owned(),
        // The root only anchors later matches; nothing is read.
        None => match GitignoreBuilder::new("/").add_line(None, &pattern) {
            Ok(_) => return Ok(()),
            Err(ignore::Error::Glob { err, .. }) => err,
            Err(other) => other.to_string(),
        },
    };
    let kind = ConfigErrorKind::Pattern {
        key,
        pattern,
        reason,
    };
    Err(context.error(&typed.span(), kind))
}

/// What a .gitignore passes over in silence; here it would be a pattern that never matches.
fn pattern_mistake(pattern: &str) -> Option<&'static str> {
    if pattern.starts_with('#') {
        return Some("is a comment");
    }
    if pattern
        .strip_prefix('!')
        .unwrap_or(pattern)
        .trim()
        .is_empty()
    {
        return Some("names nothing");
    }
    has_unclosed_class(pattern).then_some("unclosed character class; missing `]`")
}

fn has_unclosed_class(pattern: &str) -> bool {
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            '[' => {
                letters.next_if(|letter| matches!(letter, '!' | '^'));
                // The first stands for itself.
                letters.next_if_eq(&']');
                if !letters.any(|letter| letter == ']') {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

fn sparse(typed: Option<&Spanned<String>>, context: &Context<'_>) -> Result<Sparse> {
    let Some(typed) = typed else {
        return Ok(Sparse::Auto);
    };
    match typed.get_ref().as_str() {
        "auto" => Ok(Sparse::Auto),
        "never" => Ok(Sparse::Never),
        other => {
            let kind = ConfigErrorKind::UnknownValue {
                key: "sparse",
                value: other.to_owned(),
                known: vec!["auto", "never"],
            };
            Err(context.error(&typed.span(), kind))
        }
    }
}

fn xattrs(typed: &[Spanned<String>], context: &Context<'_>) -> Result<Vec<String>> {
    for pattern in typed {
        let text = pattern.get_ref();
        let name = text.strip_prefix('!').unwrap_or(text);
        let name = name.strip_suffix('*').unwrap_or(name);
        let reason = if matches!(text.as_str(), "" | "!") {
            "names nothing"
        } else if name.contains('*') {
            "`*` stands only at the end"
        } else if !name.contains('.') && !name.is_empty() {
            "names begin with a namespace such as `user.`"
        } else {
            continue;
        };
        let kind = ConfigErrorKind::Pattern {
            key: "xattrs",
            pattern: text.clone(),
            reason: reason.to_owned(),
        };
        return Err(context.error(&pattern.span(), kind));
    }
    Ok(typed
        .iter()
        .map(|pattern| pattern.get_ref().clone())
        .collect())
}

pub(super) fn owner(
    typed: Option<&Spanned<String>>,
    context: &Context<'_>,
) -> Result<Option<Owner>> {
    let Some(typed) = typed else {
        return Ok(None);
    };
    // u32::MAX is -1, which chown takes for "leave as it is".
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u32>().ok())
            .flatten()
            .filter(|number| *number != u32::MAX)
    };
    let value = typed.get_ref();
    let parsed = value
        .split_once(':')
        .and_then(|(uid, gid)| Some((number(uid)?, number(gid)?)));
    match parsed {
        Some((uid, gid)) => Ok(Some(Owner { uid, gid })),
        None => Err(context.error(
            &typed.span(),
            ConfigErrorKind::Owner {
                value: value.clone(),
            },
        )),
    }
}

pub(super) fn mode(typed: Option<&Spanned<String>>, context: &Context<'_>) -> Result<Option<u16>> {
    let Some(typed) = typed else {
        return Ok(None);
    };
    let value = typed.get_ref();
    let octal = value.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u16::from_str_radix(value, 8) {
        Ok(mode) if octal && mode <= MODE_MAX => Ok(Some(mode)),
        _ => Err(context.error(
            &typed.span(),
            ConfigErrorKind::Mode {
                value: value.clone(),
            },
        )),
    }
}
