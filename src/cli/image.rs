//! An image by the name that was typed.

use std::sync::Arc;

use super::error::{CliError, ErrorKind};
use super::progress;
use crate::synth::generation::{Generation, Image};
use crate::synth::grain_index::IndexError;
use crate::synth::pending::{PendingImage, PrepareError};
use crate::synth::source::ReadError;

/// The image `name`; one that is not ready is prepared first, and a terminal shows how far that is.
///
/// # Errors
/// There is none; the hint names the nearest one, or all. It cannot be prepared.
pub(super) fn find(generation: &Generation, name: &str) -> Result<Arc<Image>, CliError> {
    let found = generation.images.iter().find(|image| image.name == name);
    if let Some(found) = found {
        return Ok(Arc::clone(found));
    }
    let mut pending = generation.pending.iter();
    if let Some(found) = pending.find(|image| image.names().iter().any(|known| known == name)) {
        return prepare(found, name);
    }
    let error = CliError::new(
        ErrorKind::Usage,
        format!("image `{name}`: the config names no such image"),
    );
    let pending = generation.pending.iter().flat_map(|image| image.names());
    let names: Vec<&str> = generation
        .images
        .iter()
        .map(|image| image.name.as_str())
        .chain(pending.map(String::as_str))
        .collect();
    let nearest = names
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min();
    Err(match nearest {
        Some((distance, known)) if distance <= 2 => {
            error.with_hint(format!("did you mean `{known}`?"))
        }
        _ => error.with_hint(format!("there are {}", names.join(", "))),
    })
}

fn prepare(pending: &PendingImage, name: &str) -> Result<Arc<Image>, CliError> {
    let prepared = progress::prepared(pending.progress(), || pending.prepare());
    let images = prepared.map_err(|error| {
        let message = format!("image `{}`: cannot be prepared", pending.name());
        CliError::new(ErrorKind::Runtime, message)
            .with_hint(preparation_hint(&error))
            .with_source(error)
    })?;
    let found = images.into_iter().find(|image| image.name == name);
    Ok(found.expect("an image has the files that it said it would have"))
}

/// What to do about an image that cannot be prepared.
pub(super) fn preparation_hint(error: &PrepareError) -> String {
    match error {
        PrepareError::Index(IndexError::Read(ReadError::Unrepeatable { .. })) => {
            "try again: what was kept of it is gone, and it is made anew"
        }
        PrepareError::Index(IndexError::Read(_)) => {
            "leave the sources alone while it is prepared, and try again; what is done is kept"
        }
        PrepareError::Index(IndexError::Stopped) => "try again; what is done is kept",
        PrepareError::Image(_) => "make the disk smaller, or publish it in another format",
    }
    .to_owned()
}
