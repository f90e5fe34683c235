//! `uid-map` and `gid-map`: which users and groups of the host are which in the image.

use toml::Spanned;

use super::{Context, Result};
use crate::config::error::ConfigErrorKind;
use crate::config::raw::{RawCopy, RawIdMap};
use crate::config::spec::{IdMap, IdRange};

/// The greatest identifier; u32::MAX is -1, which chown takes for "leave as it is".
const ID_MAX: u32 = u32::MAX - 1;

/// Validates both maps of a copy entry: users, then groups.
pub(super) fn maps(raw: &RawCopy, context: &Context<'_>) -> Result<(Option<IdMap>, Option<IdMap>)> {
    let one = |key, typed: &Option<Spanned<RawIdMap>>| {
        let Some(typed) = typed else {
            return Ok(None);
        };
        if raw.owner.is_some() {
            return Err(context.error(&typed.span(), ConfigErrorKind::MapBesideOwner { key }));
        }
        map(key, typed, context).map(Some)
    };
    Ok((one("uid-map", &raw.uid_map)?, one("gid-map", &raw.gid_map)?))
}

fn map(key: &'static str, typed: &Spanned<RawIdMap>, context: &Context<'_>) -> Result<IdMap> {
    let error = |range: &str, reason: String| {
        let range = range.to_owned();
        context.error(
            &typed.span(),
            ConfigErrorKind::IdRange { key, range, reason },
        )
    };
    let texts = match typed.get_ref() {
        RawIdMap::Word(word) if word == "all-root" => return Ok(IdMap::AllRoot),
        RawIdMap::Word(word) => {
            let reason = "is not \"all-root\" nor an array of \"HOST:IMAGE:COUNT\"".to_owned();
            return Err(error(word, reason));
        }
        RawIdMap::Ranges(texts) => texts,
    };
    let mut ranges = Vec::with_capacity(texts.len());
    for text in texts {
        let range = range(text).map_err(|reason| error(text, reason))?;
        ranges.push((range, text));
    }
    ranges.sort_by_key(|(range, _)| range.host);
    for pair in ranges.windows(2) {
        if let [(first, first_text), (second, text)] = pair
            && second.host.checked_sub(first.host) < Some(first.count)
        {
            return Err(error(
                text,
                format!("overlaps \"{first_text}\" on the host's side"),
            ));
        }
    }
    Ok(IdMap::Ranges(
        ranges.into_iter().map(|(range, _)| range).collect(),
    ))
}

fn range(text: &str) -> std::result::Result<IdRange, String> {
    let numbers: Option<Vec<u32>> = text.split(':').map(number).collect();
    let Some([host, image, count]) = numbers.as_deref() else {
        return Err("is not \"HOST:IMAGE:COUNT\", three numbers of at most 32 bits".to_owned());
    };
    let range = IdRange {
        host: *host,
        image: *image,
        count: *count,
    };
    if range.count == 0 {
        return Err("has no identifiers: its count is 0".to_owned());
    }
    for (side, start) in [("the host's", range.host), ("the image's", range.image)] {
        let last = u64::from(start)
            .saturating_add(u64::from(range.count))
            .saturating_sub(1);
        if last > u64::from(ID_MAX) {
            return Err(format!(
                "ends with {last} on {side} side; the greatest identifier is {ID_MAX}"
            ));
        }
    }
    Ok(range)
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
