//! `miragefs watch`: what each save changes, without a mount.

use std::sync::Arc;
use std::sync::mpsc;

use parking_lot::Mutex;
use serde::Serialize;

use super::error::CliError;
use super::load::LoadOptions;
use super::log::Log;
use super::planner::{ConfigPlanner, Latest};
use super::{WatchArgs, diff_text, output};
use crate::fs::edition::{Edition, Refusal};
use crate::fs::reload::{self, Stage};
use crate::fs::shelf::{Answer, Work};
use crate::fs::watch::Watching;
use crate::synth::diff::GenerationDiff;
use crate::synth::generation::{Image, Pieces};
use crate::synth::pending::PendingImage;

/// A line of `--json`; docs/cli-json.md describes it.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event<'a> {
    /// A generation, the first one with nothing to compare it to.
    Generation {
        generation: u64,
        #[serde(flatten)]
        diff: &'a GenerationDiff,
    },
    /// An image of the generation that took work.
    Ready {
        generation: u64,
        #[serde(flatten)]
        diff: &'a GenerationDiff,
    },
    Refused {
        errors: &'a [String],
        hint: Option<&'a str>,
    },
}

/// Plans the config, and again whenever it or its sources change, until it is interrupted.
///
/// # Errors
/// The config does not work to begin with.
pub(super) fn watch(args: &WatchArgs) -> Result<(), CliError> {
    Log::start(None)?;
    let options = LoadOptions {
        is_awaited: false,
        ..LoadOptions::usual(args.skip_unreadable)
    };
    let mut planner = ConfigPlanner::new(&args.config, options, None);
    let (loaded, edition) = planner.first()?;
    output::warn(&loaded.warnings);
    let stage = Printer {
        json: args.json,
        latest: planner.latest(),
        shown: Mutex::new(Shown {
            generation: 0,
            pieces: None,
            identities: Vec::new(),
            before: None,
        }),
    };
    let work = stage.publish(edition, false).unwrap_or_default();
    reload::follow(Box::new(planner), Arc::new(stage), mpsc::channel(), work);
    Ok(())
}

/// What was told last.
struct Shown {
    generation: u64,
    pieces: Option<Pieces>,
    /// Of all images, those that take work among them.
    identities: Vec<(String, [u8; 32])>,
    /// The generation before, for images that are ready later.
    before: Option<Pieces>,
}

/// Prints what changes.
struct Printer {
    json: bool,
    latest: Latest,
    shown: Mutex<Shown>,
}

impl Printer {
    fn tell(&self, event: &Event<'_>, text: &str) {
        let told = if self.json {
            serde_json::to_string(event).map(|line| format!("{line}\n"))
        } else {
            Ok(text.to_owned())
        };
        // Whoever closed the pipe has seen enough; the next write ends us.
        drop(output::print(&told.unwrap_or_default()));
    }
}

fn identities(edition: &Edition) -> Vec<(String, [u8; 32])> {
    let ready = edition.generation.images.iter();
    let pending = edition.generation.pending.iter();
    ready
        .map(|image| (image.name.clone(), image.identity))
        .chain(pending.map(|image| (image.name().to_owned(), *image.identity())))
        .collect()
}

impl Stage for Printer {
    fn prefix(&self) -> String {
        String::new()
    }

    fn differs(&self, edition: &Edition, _: bool) -> bool {
        let shown = self.shown.lock();
        edition.is_edited || shown.identities != identities(edition)
    }

    fn publish(&self, edition: Edition, retry: bool) -> Option<Work> {
        if !self.differs(&edition, retry) {
            return None;
        }
        let pieces = self.latest.lock().clone()?;
        let mut shown = self.shown.lock();
        shown.identities = identities(&edition);
        shown.generation = shown.generation.saturating_add(1);
        let generation = shown.generation;
        let diff = shown
            .pieces
            .as_ref()
            .map_or_else(GenerationDiff::default, |old| {
                GenerationDiff::between(old, &pieces)
            });
        let heading = if shown.pieces.is_some() {
            format!("generation {generation}\n")
        } else {
            let images = pieces.images.iter().map(|image| image.name.as_str());
            let all = images.chain(pieces.pending.iter().map(String::as_str));
            let names: Vec<&str> = all.collect();
            format!("generation {generation}: {}\n", names.join(", "))
        };
        shown.before = shown.pieces.replace(pieces);
        drop(shown);
        let text = format!("{heading}{}", diff_text::text(&diff));
        let diff = &diff;
        self.tell(&Event::Generation { generation, diff }, &text);
        Some(Work {
            new: edition.generation.pending,
            obsolete: Vec::new(),
        })
    }

    fn complete(&self, image: &PendingImage, result: Result<&[Arc<Image>], String>) -> bool {
        let mut shown = self.shown.lock();
        let is_newest = shown
            .identities
            .iter()
            .any(|(name, identity)| name == image.name() && identity == image.identity());
        let Ok(images) = result else {
            return is_newest;
        };
        if !is_newest {
            return false;
        }
        let generation = shown.generation;
        let old: Vec<Arc<Image>> = shown
            .before
            .iter()
            .flat_map(|before| &before.images)
            .filter(|old| image.names().contains(&old.name))
            .cloned()
            .collect();
        let diff = GenerationDiff::of_images(&old, images);
        if let Some(pieces) = &mut shown.pieces {
            pieces.images.extend(images.iter().cloned());
            pieces.pending.retain(|name| !image.names().contains(name));
        }
        drop(shown);
        let text = diff_text::text(&diff);
        let diff = &diff;
        self.tell(&Event::Ready { generation, diff }, &text);
        true
    }

    fn refuse(&self, refusal: Refusal) {
        // For people it is in the log, which is on the same terminal.
        let event = Event::Refused {
            errors: &refusal.errors,
            hint: refusal.hint.as_deref(),
        };
        self.tell(&event, "");
    }

    fn watching(&self, watching: Watching) {
        if let Some(reason) = watching.reason {
            tracing::warn!("changes are looked for every few seconds: {reason}");
        }
    }

    fn answer(&self, _: Answer) {}
}
