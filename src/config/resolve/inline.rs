//! `mkdir`, `files`, `symlink` and `device`: what the config itself puts into a partition.

use std::ops::Range;

use base64::DecodeError;
use base64::prelude::{BASE64_STANDARD as STANDARD, Engine as _};
use toml::Spanned;

use super::content::{image_path, mode, owner};
use super::{Context, Result};
use crate::config::error::{Base64Error, ConfigErrorKind};
use crate::config::raw::{RawDevice, RawDirectory, RawFile, RawSymlink, Text};
use crate::config::spec::{
    DeviceKind, ImagePath, InlineDevice, InlineDirectory, InlineFile, InlineSymlink, Piece,
};

/// Linux has 12 bits for the driver and 20 for its device.
const MAJOR_MAX: i64 = (1 << 12) - 1;
const MINOR_MAX: i64 = (1 << 20) - 1;
/// A block with the terminator.
const TARGET_LEN_MAX: usize = 4095;

pub(super) fn directory(
    typed: &Spanned<RawDirectory>,
    context: &Context<'_>,
) -> Result<InlineDirectory> {
    let raw = typed.get_ref();
    let table = "an entry of mkdir";
    let path = required("path", &raw.path, table, &typed.span(), context)?;
    Ok(InlineDirectory {
        path: image_path("path", path, context)?,
        mode: mode(raw.mode.as_ref(), context)?.unwrap_or(0o755),
        owner: owner(raw.owner.as_ref(), context)?.unwrap_or_default(),
        location: context.locate(&typed.span()),
    })
}

pub(super) fn file(typed: &Spanned<RawFile>, context: &Context<'_>) -> Result<InlineFile> {
    let raw = typed.get_ref();
    let table = "an entry of files";
    let path = required("path", &raw.path, table, &typed.span(), context)?;
    let contents = match &raw.base64 {
        None => {
            let text = required("text", &raw.text, table, &typed.span(), context)?;
            text.get_ref().clone().into_bytes()
        }
        Some(typed) if raw.text.is_some() => {
            return Err(context.error(&typed.span(), ConfigErrorKind::TwoContents));
        }
        Some(typed) => decode(typed.get_ref())
            .map_err(|reason| context.error(&typed.span(), ConfigErrorKind::Base64(reason)))?,
    };
    Ok(InlineFile {
        path: leaf_path(path, context)?,
        // Names in a text are replaced when all partitions are known.
        contents: vec![Piece::Bytes(contents)],
        mode: mode(raw.mode.as_ref(), context)?.unwrap_or(0o644),
        owner: owner(raw.owner.as_ref(), context)?.unwrap_or_default(),
        location: context.locate(&typed.span()),
    })
}

pub(super) fn symlink(typed: &Spanned<RawSymlink>, context: &Context<'_>) -> Result<InlineSymlink> {
    let raw = typed.get_ref();
    let table = "an entry of symlink";
    let path = required("path", &raw.path, table, &typed.span(), context)?;
    let target = required("target", &raw.target, table, &typed.span(), context)?;
    let text = target.get_ref();
    if text.is_empty() || text.len() > TARGET_LEN_MAX || text.contains('\0') {
        let (key, value) = ("target", text.clone());
        let rule = "expected 1 to 4095 bytes without NUL";
        return Err(context.error(&target.span(), ConfigErrorKind::Text { key, value, rule }));
    }
    Ok(InlineSymlink {
        path: leaf_path(path, context)?,
        target: text.clone(),
        owner: owner(raw.owner.as_ref(), context)?.unwrap_or_default(),
        location: context.locate(&typed.span()),
    })
}

pub(super) fn device(typed: &Spanned<RawDevice>, context: &Context<'_>) -> Result<InlineDevice> {
    let raw = typed.get_ref();
    let table = "an entry of device";
    let path = required("path", &raw.path, table, &typed.span(), context)?;
    let word = required("type", &raw.kind, table, &typed.span(), context)?;
    let words = ["char", "block", "fifo", "socket"].map(|word| (word, word));
    let word = context
        .choice("type", Some(word), &words)?
        .expect("a word was given");
    let numbers = [
        ("major", &raw.major, MAJOR_MAX),
        ("minor", &raw.minor, MINOR_MAX),
    ];
    let kind = if matches!(word, "fifo" | "socket") {
        for (key, number, _) in numbers {
            if let Some(number) = number {
                let kind = ConfigErrorKind::NumberOfNoDevice { key, word };
                return Err(context.error(&number.span(), kind));
            }
        }
        if word == "fifo" {
            DeviceKind::Fifo
        } else {
            DeviceKind::Socket
        }
    } else {
        let [major, minor] = numbers.map(|(key, number, max)| {
            let number = number.as_ref().ok_or_else(|| {
                context.error(&typed.span(), ConfigErrorKind::MissingKey { key, table })
            })?;
            let number = context.integer(key, number, 0, max)?;
            Ok(u32::try_from(number).expect("the bound is within 32 bits"))
        });
        let (major, minor) = (major?, minor?);
        if word == "char" {
            DeviceKind::Character { major, minor }
        } else {
            DeviceKind::Block { major, minor }
        }
    };
    Ok(InlineDevice {
        path: leaf_path(path, context)?,
        kind,
        mode: mode(raw.mode.as_ref(), context)?.unwrap_or(0o600),
        owner: owner(raw.owner.as_ref(), context)?.unwrap_or_default(),
        location: context.locate(&typed.span()),
    })
}

/// The bytes of a base64 text (RFC 4648, section 4) with white space anywhere.
fn decode(text: &str) -> std::result::Result<Vec<u8>, Base64Error> {
    let (offsets, characters): (Vec<usize>, String) = (1..)
        .zip(text.chars())
        .filter(|(_, character)| !character.is_ascii_whitespace())
        .unzip();
    let not_ascii = offsets
        .iter()
        .zip(characters.chars())
        .find(|(_, character)| !character.is_ascii());
    if let Some((offset, found)) = not_ascii {
        let offset = *offset;
        return Err(Base64Error::Character { offset, found });
    }
    // From here on bytes are characters.
    let offset_of = |index: usize| offsets.get(index).copied().unwrap_or(index);
    let count = characters.len();
    STANDARD.decode(characters).map_err(|error| match error {
        DecodeError::InvalidByte(index, byte) => Base64Error::Character {
            offset: offset_of(index),
            found: char::from(byte),
        },
        DecodeError::InvalidLastSymbol(index, _) => Base64Error::LastCharacter {
            offset: offset_of(index),
        },
        DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => {
            Base64Error::Length { count }
        }
    })
}

fn required<'a>(
    key: &'static str,
    typed: &'a Text,
    table: &'static str,
    entry: &Range<usize>,
    context: &Context<'_>,
) -> Result<&'a Spanned<String>> {
    typed
        .as_ref()
        .ok_or_else(|| context.error(entry, ConfigErrorKind::MissingKey { key, table }))
}

/// The path of what is no directory.
fn leaf_path(typed: &Spanned<String>, context: &Context<'_>) -> Result<ImagePath> {
    let path = image_path("path", typed, context)?;
    if path.0.is_empty() || typed.get_ref().ends_with('/') {
        let kind = ConfigErrorKind::ImagePath {
            key: "path",
            value: typed.get_ref().clone(),
            rule: "it must name a file, not a directory",
        };
        return Err(context.error(&typed.span(), kind));
    }
    Ok(path)
}
