//! `miragefs explain`.

use std::fmt::Write;

use serde::Serialize;

use super::error::{CliError, ErrorKind};
use super::load::{self, LoadOptions};
use super::log::Log;
use super::{ExplainArgs, image, output};
use crate::synth::generation::Image;
use crate::synth::source::{Origin, Run, Step};
use crate::units::{ByteCount, SECTOR_SIZE};

/// What `--json` prints; docs/cli-json.md describes it.
#[derive(Debug, Serialize)]
struct Explanation<'a> {
    image: &'a str,
    offset: u64,
    trail: Vec<JsonStep>,
    run: JsonRun,
}

#[derive(Debug, Serialize)]
struct JsonStep {
    what: String,
    offset: u64,
}

#[derive(Debug, Serialize)]
struct JsonRun {
    length: u64,
    #[serde(flatten)]
    origin: JsonOrigin,
}

#[derive(Debug, Serialize)]
#[serde(tag = "origin", rename_all = "kebab-case")]
enum JsonOrigin {
    Zero,
    Computed { structure: String },
    SourceFile { path: String, path_offset: u64 },
}

/// Prints what a byte is.
///
/// # Errors
/// Config, an image that is not there, an offset outside it.
pub(super) fn explain(args: &ExplainArgs) -> Result<(), CliError> {
    // For what an index has to tell.
    Log::start(None)?;
    let asked = LoadOptions::usual(args.skip_unreadable);
    let loaded = load::load(&args.config, &asked)?;
    output::warn(&loaded.warnings);
    let image = image::find(&loaded.planned.generation, &args.image)?;
    let len = image.source.len();
    if args.offset >= len {
        let message = format!(
            "offset {}: image `{}` has {}",
            args.offset,
            image.name,
            ByteCount(len)
        );
        let error = CliError::new(ErrorKind::Usage, message);
        return Err(error.with_hint(format!("the last byte is {}", len.saturating_sub(1))));
    }
    let mut trail = Vec::new();
    image.source.explain_at(args.offset, &mut trail);
    let run = image.source.run_at(args.offset);
    output::print(&if args.json {
        json(&image, args.offset, trail, run)
    } else {
        text(&image, args.offset, &trail, &run)
    })
}

fn json(image: &Image, offset: u64, trail: Vec<Step>, run: Run) -> String {
    let origin = match run.origin {
        Origin::Zero => JsonOrigin::Zero,
        Origin::Computed(structure) => JsonOrigin::Computed {
            structure: structure.to_owned(),
        },
        Origin::HostFile { file, offset } => JsonOrigin::SourceFile {
            path: file.path().to_string_lossy().into_owned(),
            path_offset: offset,
        },
    };
    let steps = trail.into_iter().map(|step| JsonStep {
        what: step.what,
        offset: step.offset,
    });
    output::json(&Explanation {
        image: &image.name,
        offset,
        trail: steps.collect(),
        run: JsonRun {
            length: run.len,
            origin,
        },
    })
}

fn text(image: &Image, offset: u64, trail: &[Step], run: &Run) -> String {
    let (sector, in_sector) = (
        offset.div_euclid(SECTOR_SIZE),
        offset.rem_euclid(SECTOR_SIZE),
    );
    let mut text = format!(
        "{}: byte {offset} ({offset:#x}), byte {in_sector} of sector {sector}\n",
        image.name
    );
    let mut line = |what: &str, rest: String| {
        writeln!(text, "  {what}{rest}").expect("writing to a String cannot fail");
    };
    for step in trail {
        line(&step.what, format!(", byte {}", step.offset));
    }
    let len = ByteCount(run.len);
    match &run.origin {
        Origin::Zero => line("run of ", format!("{len} from here on: zeros")),
        Origin::Computed(structure) => {
            line(
                "run of ",
                format!("{len} from here on: computed, {structure}"),
            );
        }
        Origin::HostFile { file, offset } => {
            let path = file.path();
            let rest = format!(
                "{len} from here on: {} from byte {offset} on",
                path.display()
            );
            line("run of ", rest);
        }
    }
    text
}
