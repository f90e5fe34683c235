//! `miragefs watch`: what each save changes, without a mount.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

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
    let (sender, events) = mpsc::channel();
    let stage = Printer {
        json: args.json,
        latest: planner.latest(),
        shown: Mutex::new(Shown {
            generation: 0,
            pieces: None,
            identities: Vec::new(),
            before: None,
            preparing: Vec::new(),
        }),
        end: Mutex::new(sender.clone()),
    };
    let work = stage.publish(edition, false).unwrap_or_default();
    reload::follow(Box::new(planner), Arc::new(stage), (sender, events), work);
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
    /// Images that are being prepared.
    preparing: Vec<Arc<PendingImage>>,
}

/// Prints what changes.
struct Printer {
    json: bool,
    latest: Latest,
    shown: Mutex<Shown>,
    /// Ends the watch.
    end: Mutex<Sender<reload::Event>>,
}

impl Printer {
    fn tell(&self, event: &Event<'_>, text: &str) {
        let told = if self.json {
            serde_json::to_string(event).map(|line| format!("{line}\n"))
        } else {
            Ok(text.to_owned())
        };
        // Whoever closed the pipe has seen enough.
        if output::try_print(&told.unwrap_or_default()).is_err() {
            drop(self.end.lock().send(reload::Event::Stop));
        }
    }
}

/// What is shown of an edition, to be compared with the next.
fn identities(edition: &Edition) -> Vec<(String, [u8; 32])> {
    let all = edition.identities();
    all.map(|(name, identity)| (name.to_owned(), *identity))
        .collect()
}

impl Shown {
    /// What of the images that take work is to be begun, and what to be ended: an image that is being prepared goes on.
    fn work(&mut self, pending: Vec<Arc<PendingImage>>) -> Work {
        let same = |one: &Arc<PendingImage>, other: &Arc<PendingImage>| {
            one.name() == other.name() && one.identity() == other.identity()
        };
        let mut work = Work::default();
        let before = std::mem::take(&mut self.preparing);
        for image in pending {
            match before.iter().find(|old| same(old, &image)) {
                Some(old) => self.preparing.push(Arc::clone(old)),
                None => {
                    self.preparing.push(Arc::clone(&image));
                    work.new.push(image);
                }
            }
        }
        let is_kept = |old: &Arc<PendingImage>| self.preparing.iter().any(|new| same(old, new));
        work.obsolete = before.into_iter().filter(|old| !is_kept(old)).collect();
        work
    }
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
        let work = shown.work(edition.generation.pending);
        drop(shown);
        let text = format!("{heading}{}", diff_text::text(&diff));
        let diff = &diff;
        self.tell(&Event::Generation { generation, diff }, &text);
        Some(work)
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
        shown
            .preparing
            .retain(|one| !std::ptr::eq(Arc::as_ptr(one), image));
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
