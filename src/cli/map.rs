//! `miragefs map`: the picture of a disk, without a mount.

use std::path::{Path, PathBuf};

use super::error::{CliError, ErrorKind};
use super::load::{self, LoadOptions, LoadedPlan};
use super::log::Log;
use super::{MapArgs, MapFormat, output};
use crate::map::{self, Layout};
use crate::synth::generation::Pieces;

/// Writes the picture.
///
/// # Errors
/// Config, or a destination that cannot be written.
pub(super) fn map(args: &MapArgs) -> Result<(), CliError> {
    Log::start(None)?;
    let targets = targets(args)?;
    let loaded = load::load(&args.config, &LoadOptions::usual(args.skip_unreadable))?;
    output::warn(&loaded.warnings);
    let layout = Layout::of(&Pieces::of(&loaded.planned, &loaded.spec.name));
    let Some(targets) = targets else {
        return output::print(&draw(&layout, args.format));
    };
    for (path, format) in targets {
        check_apart(&path, &loaded)?;
        std::fs::write(&path, draw(&layout, format)).map_err(|error| {
            let message = format!("{}: cannot be written", path.display());
            CliError::new(ErrorKind::Runtime, message).with_source(error)
        })?;
    }
    Ok(())
}

fn draw(layout: &Layout, format: MapFormat) -> String {
    match format {
        MapFormat::Svg => map::svg(layout, None),
        MapFormat::Html => map::html(layout, None),
        MapFormat::Json => map::json(layout, None),
    }
}

/// The files to write; `None` for standard output.
fn targets(args: &MapArgs) -> Result<Option<Vec<(PathBuf, MapFormat)>>, CliError> {
    let all = [
        ("svg", MapFormat::Svg),
        ("html", MapFormat::Html),
        ("json", MapFormat::Json),
    ];
    let dest = &args.dest;
    if dest.as_os_str() == "-" {
        return Ok(None);
    }
    if dest.is_dir() {
        let files = all.map(|(ending, format)| (dest.join(format!("layout.{ending}")), format));
        return Ok(Some(files.into()));
    }
    let ending = dest.extension().and_then(std::ffi::OsStr::to_str);
    let known = all
        .into_iter()
        .find(|(known, _)| ending.is_some_and(|ending| ending.eq_ignore_ascii_case(known)));
    match known {
        Some((_, format)) => Ok(Some(vec![(dest.clone(), format)])),
        None => {
            let message = format!(
                "{}: neither a directory nor a name that ends in .svg, .html or .json",
                dest.display()
            );
            Err(CliError::new(ErrorKind::Usage, message)
                .with_hint("without a destination the picture goes to standard output"))
        }
    }
}

/// A picture inside a source would become part of the next one.
fn check_apart(path: &Path, loaded: &LoadedPlan) -> Result<(), CliError> {
    let sources = loaded.sources();
    match load::place_around(path, sources.iter().map(PathBuf::as_path)) {
        None => Ok(()),
        Some(source) => {
            let message = format!(
                "{}: lies inside the source {}",
                path.display(),
                source.display()
            );
            Err(CliError::new(ErrorKind::Usage, message)
                .with_hint("write it to a directory apart from the sources"))
        }
    }
}
