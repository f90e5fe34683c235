//! An image by the name that was typed.

use std::sync::Arc;

use super::error::{CliError, ErrorKind};
use crate::synth::generation::{Generation, Image};

/// The image `name`.
///
/// # Errors
/// There is none; the hint names the nearest one, or all.
pub(super) fn find(generation: &Generation, name: &str) -> Result<Arc<Image>, CliError> {
    let found = generation.images.iter().find(|image| image.name == name);
    if let Some(found) = found {
        return Ok(Arc::clone(found));
    }
    let error = CliError::new(
        ErrorKind::Usage,
        format!("image `{name}`: the config names no such image"),
    );
    let names = || generation.images.iter().map(|image| image.name.as_str());
    let nearest = names()
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min();
    Err(match nearest {
        Some((distance, known)) if distance <= 2 => {
            error.with_hint(format!("did you mean `{known}`?"))
        }
        _ => error.with_hint(format!(
            "there are {}",
            names().collect::<Vec<_>>().join(", ")
        )),
    })
}
