//! What `.miragefs/status.json` says; docs/cli-json.md describes it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use serde::Serialize;

use super::shelf::{Answer, Awaited, Shelf, Shown};
use super::view::Counters;
use super::watch::Watching;
use crate::synth::cache::BlockCache;

/// What there is to tell of the whole mount.
pub(super) struct MountFacts<'a> {
    pub(super) mountpoint: &'a Path,
    pub(super) started: SystemTime,
    pub(super) cache: Option<&'a BlockCache>,
    pub(super) counters: &'a Counters,
    pub(super) open_handles: usize,
}

#[derive(Serialize)]
struct MountStatus<'a> {
    version: &'static str,
    pid: u32,
    mountpoint: &'a Path,
    mounted_since: String,
    machines: Vec<MachineLine<'a>>,
    #[serde(flatten)]
    activity: Activity,
}

/// One of several configs, in short.
#[derive(Serialize)]
struct MachineLine<'a> {
    name: &'a str,
    config: &'a Path,
    generation: u64,
    since: String,
    state: &'static str,
    images: usize,
    errors: &'a [String],
}

#[derive(Serialize)]
struct ShelfStatus<'a> {
    version: &'static str,
    pid: u32,
    mountpoint: &'a Path,
    mounted_since: String,
    config: &'a Path,
    generation: u64,
    since: String,
    state: &'static str,
    refused: Option<Refused<'a>>,
    warnings: &'a [String],
    watching: &'a Watching,
    generations_read: Vec<u64>,
    images: Vec<ImageStatus<'a>>,
    stale_files: Vec<StaleFile<'a>>,
    reload: Option<&'a Answer>,
    #[serde(flatten)]
    activity: Activity,
}

/// Why the newest state of config and sources is not shown.
#[derive(Serialize)]
struct Refused<'a> {
    since: String,
    errors: &'a [String],
    hint: Option<&'a str>,
}

#[derive(Serialize)]
struct StaleFile<'a> {
    path: &'a Path,
    generation: u64,
}

#[derive(Serialize)]
struct Activity {
    cache: Option<CacheStatus>,
    opens: u64,
    open_handles: usize,
    reads: u64,
    bytes_read: u64,
    stale_reads: u64,
    failed_reads: u64,
    panics: u64,
}

#[derive(Serialize)]
struct CacheStatus {
    capacity: u64,
    bytes: u64,
    hits: u64,
    misses: u64,
}

#[derive(Serialize)]
struct ImageStatus<'a> {
    name: &'a str,
    /// `ready`, `waiting`, `compressing`, `hashing` or `failed`.
    state: &'static str,
    size: Option<u64>,
    mtime: Option<i64>,
    /// The generation that brought these bytes.
    generation: Option<u64>,
    #[serde(flatten)]
    progress: Option<Progress>,
    error: Option<&'a str>,
}

#[derive(Serialize)]
struct Progress {
    bytes_done: u64,
    bytes: u64,
    bytes_per_second: u64,
    seconds_left: Option<u64>,
}

/// The status of the images of one config.
pub(super) fn of_shelf(shelf: &Shelf, facts: &MountFacts<'_>) -> String {
    let ready = shelf.shown.iter().map(|shown| ready(shown));
    let waiting = shelf.awaited.iter().flat_map(|awaited| {
        let names = awaited.image.names().iter();
        names.map(|name| waiting(name, awaited))
    });
    let stale = shelf.stale.iter();
    text(&ShelfStatus {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        mountpoint: facts.mountpoint,
        mounted_since: timestamp(facts.started),
        config: &shelf.config,
        generation: shelf.number,
        since: timestamp(shelf.since),
        state: state(shelf),
        refused: shelf.refusal.as_ref().map(|(refusal, since)| Refused {
            since: timestamp(*since),
            errors: &refusal.errors,
            hint: refusal.hint.as_deref(),
        }),
        warnings: &shelf.warnings,
        watching: &shelf.watching,
        generations_read: shelf.alive().collect(),
        images: ready.chain(waiting).collect(),
        stale_files: stale
            .map(|(path, generation)| StaleFile {
                path,
                generation: *generation,
            })
            .collect(),
        reload: shelf.answer.as_ref(),
        activity: activity(facts),
    })
}

/// The status of a mount of several configs.
pub(super) fn of_mount<'a>(
    shelves: impl Iterator<Item = &'a Shelf>,
    facts: &MountFacts<'_>,
) -> String {
    let machines = shelves.map(|shelf| MachineLine {
        name: &shelf.name,
        config: &shelf.config,
        generation: shelf.number,
        since: timestamp(shelf.since),
        state: state(shelf),
        images: shelf.shown.len(),
        errors: shelf
            .refusal
            .as_ref()
            .map_or(&[], |(refusal, _)| &refusal.errors),
    });
    text(&MountStatus {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        mountpoint: facts.mountpoint,
        mounted_since: timestamp(facts.started),
        machines: machines.collect(),
        activity: activity(facts),
    })
}

/// `broken` while the newest state of config and sources cannot be shown, `preparing` while images are awaited.
fn state(shelf: &Shelf) -> &'static str {
    if shelf.refusal.is_some() {
        "broken"
    } else if shelf.awaited.iter().any(|one| one.failure.is_none()) {
        "preparing"
    } else {
        "current"
    }
}

fn activity(facts: &MountFacts<'_>) -> Activity {
    let counters = facts.counters;
    Activity {
        cache: facts.cache.map(|cache| {
            let stats = cache.stats();
            CacheStatus {
                capacity: cache.capacity(),
                bytes: stats.bytes,
                hits: stats.hits,
                misses: stats.misses,
            }
        }),
        opens: counters.opens.load(Ordering::Relaxed),
        open_handles: facts.open_handles,
        reads: counters.reads.load(Ordering::Relaxed),
        bytes_read: counters.bytes.load(Ordering::Relaxed),
        stale_reads: counters.stale_reads.load(Ordering::Relaxed),
        failed_reads: counters.failed_reads.load(Ordering::Relaxed),
        panics: counters.panics.load(Ordering::Relaxed),
    }
}

fn ready(shown: &Shown) -> ImageStatus<'_> {
    ImageStatus {
        name: &shown.image.name,
        state: "ready",
        size: Some(shown.image.source.len()),
        mtime: Some(shown.mtime),
        generation: Some(shown.since),
        progress: None,
        error: None,
    }
}

fn waiting<'a>(name: &'a str, awaited: &'a Awaited) -> ImageStatus<'a> {
    let state = awaited.image.progress().state();
    let (bytes_done, bytes) = state.bytes();
    let word = match (&awaited.failure, bytes) {
        (Some(_), _) => "failed",
        (None, 0) => "waiting",
        (None, _) if state.hash_len > 0 => "hashing",
        (None, _) => "compressing",
    };
    ImageStatus {
        name,
        state: word,
        size: None,
        mtime: None,
        generation: None,
        progress: Some(Progress {
            bytes_done,
            bytes,
            bytes_per_second: state.rate(),
            seconds_left: state.remaining().map(|left| left.as_secs()),
        }),
        error: awaited.failure.as_deref(),
    }
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

fn text(status: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(status).unwrap_or_default();
    text.push('\n');
    text
}
