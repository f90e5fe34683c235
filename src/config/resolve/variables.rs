//! `[variables]`, and `{{name}}` in the texts of inline files.
//!
//! Invariant: afterwards every name is one that exists; what only the plan knows is left as a [`Piece`] of its own.

use std::collections::BTreeMap;

use toml::Spanned;

use super::{Context, Result};
use crate::config::error::ConfigErrorKind;
use crate::config::keys::nearest;
use crate::config::raw::{RawPartition, RawVariable};
use crate::config::spec::{Filesystem, PartitionSpec, PartitionTable, Piece};

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// Replaces the names in the texts of all partitions.
pub(super) fn expand(
    variables: &BTreeMap<Spanned<String>, RawVariable>,
    typed: &[Spanned<RawPartition>],
    partitions: &mut [PartitionSpec],
    table: PartitionTable,
    context: &Context<'_>,
) -> Result<()> {
    let names = Names::new(variables, partitions, table, context)?;
    for (raw, partition) in typed.iter().zip(partitions) {
        for (raw, file) in raw.get_ref().files.iter().zip(&mut partition.files) {
            if let Some(text) = &raw.get_ref().text {
                file.contents = names
                    .pieces(text.get_ref())
                    .map_err(|kind| context.error(&text.span(), kind))?;
            }
        }
    }
    Ok(())
}

/// All names and what they stand for; the reason for those that stand for nothing here.
struct Names(BTreeMap<String, std::result::Result<Piece, &'static str>>);

impl Names {
    fn new(
        variables: &BTreeMap<Spanned<String>, RawVariable>,
        partitions: &[PartitionSpec],
        table: PartitionTable,
        context: &Context<'_>,
    ) -> Result<Self> {
        let mut names = BTreeMap::new();
        for (name, value) in variables {
            let text = name.get_ref();
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            if text.is_empty() || !text.bytes().all(fits) {
                let name_error = ConfigErrorKind::VariableName { name: text.clone() };
                return Err(context.error(&name.span(), name_error));
            }
            let value = match value {
                RawVariable::Text(value) => value.clone(),
                RawVariable::Number(value) => value.to_string(),
            };
            names.insert(text.clone(), Ok(Piece::Bytes(value.into_bytes())));
        }
        for (index, partition) in partitions.iter().enumerate() {
            let has_filesystem = partition.filesystem != Filesystem::None;
            let of_filesystem = |piece| {
                has_filesystem
                    .then_some(piece)
                    .ok_or("the partition has no file system")
            };
            let of_table = (table == PartitionTable::Mbr)
                .then_some(Piece::PartitionUuid(index))
                .ok_or("without a partition table there is none");
            let label = &partition.label;
            for (property, piece) in [
                ("uuid", of_filesystem(Piece::Uuid(index))),
                ("label", of_filesystem(Piece::Label(index))),
                ("partuuid", of_table),
            ] {
                names.insert(format!("partition.{label}.{property}"), piece);
            }
        }
        Ok(Self(names))
    }

    fn pieces(&self, text: &str) -> std::result::Result<Vec<Piece>, ConfigErrorKind> {
        let mut pieces = Vec::new();
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(OPEN) {
            bytes.extend(before.as_bytes());
            if let Some(after) = after.strip_prefix(OPEN) {
                bytes.extend(OPEN.as_bytes());
                rest = after;
                continue;
            }
            let name = after
                .split_once(CLOSE)
                .filter(|(name, _)| !name.is_empty() && !name.contains(['\n', '{']));
            let Some((name, after)) = name else {
                let typed = text.len().saturating_sub(after.len());
                let before = text.get(..typed).unwrap_or(text);
                let line = before.matches('\n').count().saturating_add(1);
                return Err(ConfigErrorKind::Braces { line });
            };
            match self.piece(name.trim())? {
                Piece::Bytes(value) => bytes.extend(value),
                piece => {
                    pieces.push(Piece::Bytes(std::mem::take(&mut bytes)));
                    pieces.push(piece);
                }
            }
            rest = after;
        }
        bytes.extend(rest.as_bytes());
        pieces.push(Piece::Bytes(bytes));
        Ok(pieces)
    }

    fn piece(&self, name: &str) -> std::result::Result<Piece, ConfigErrorKind> {
        let (reason, nearest) = match self.0.get(name) {
            Some(Ok(piece)) => return Ok(piece.clone()),
            Some(Err(reason)) => (*reason, None),
            None => (
                "there is no such variable",
                nearest(name, self.0.keys().map(String::as_str)),
            ),
        };
        Err(ConfigErrorKind::UnknownVariable {
            name: name.to_owned(),
            reason: reason.to_owned(),
            nearest: nearest.map(str::to_owned),
        })
    }
}
