//! `miragefs status`: what the mount tells of itself, for people.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::error::{CliError, ErrorKind};
use super::table::{Align, Table};
use super::{StatusArgs, output};
use crate::units::ByteCount;

/// The directory in which a mount tells of itself.
pub(super) const CONTROL_DIRECTORY: &str = ".miragefs";

/// What is read of `status.json`, of a mount of one config, of one of several, or of all of them.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    config: PathBuf,
    #[serde(default)]
    pub(super) generation: u64,
    #[serde(default)]
    since: String,
    #[serde(default)]
    state: String,
    refused: Option<Refused>,
    #[serde(default)]
    warnings: Vec<String>,
    watching: Option<Watching>,
    #[serde(default)]
    generations_read: Vec<u64>,
    #[serde(default)]
    images: Vec<ImageStatus>,
    #[serde(default)]
    stale_files: Vec<StaleFile>,
    pub(super) reload: Option<Answer>,
    /// Of a mount of several configs.
    pub(super) machines: Option<Vec<MachineLine>>,
    mountpoint: PathBuf,
    mounted_since: String,
    pid: u32,
    cache: Option<Cache>,
    open_handles: u64,
    reads: u64,
    bytes_read: u64,
    stale_reads: u64,
    failed_reads: u64,
    panics: u64,
}

#[derive(Debug, Deserialize)]
struct Refused {
    since: String,
    errors: Vec<String>,
    hint: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Watching {
    by: String,
    directories: u64,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ImageStatus {
    name: String,
    state: String,
    size: Option<u64>,
    generation: Option<u64>,
    bytes_done: Option<u64>,
    bytes: Option<u64>,
    seconds_left: Option<u64>,
    error: Option<String>,
}

#[derive(Debug, Deserialize)]
struct StaleFile {
    path: PathBuf,
    generation: u64,
}

/// How a request for a new look ended.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) ticket: u64,
    pub(super) is_new: bool,
    pub(super) errors: Vec<String>,
    pub(super) hint: Option<String>,
}

/// One of several configs.
#[derive(Debug, Deserialize)]
pub(super) struct MachineLine {
    pub(super) name: String,
    config: PathBuf,
    generation: u64,
    since: String,
    state: String,
    images: u64,
    errors: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Cache {
    capacity: u64,
    bytes: u64,
    hits: u64,
    misses: u64,
}

/// Prints the status.
///
/// # Errors
/// There is no mount of ours, or it does not answer.
pub(super) fn status(args: &StatusArgs) -> Result<(), CliError> {
    let text = control_text(&args.mountpoint, "status.json")?;
    if args.json {
        return output::print(&text);
    }
    let status = parse(&args.mountpoint, &text)?;
    output::print(&for_people(&status))
}

/// What a file of the control directory says.
///
/// # Errors
/// There is no mount of ours, or it does not let us.
pub(super) fn control_text(mountpoint: &Path, file: &str) -> Result<String, CliError> {
    let path = mountpoint.join(CONTROL_DIRECTORY).join(file);
    std::fs::read_to_string(&path).map_err(|error| {
        let shown = mountpoint.display();
        match error.kind() {
            io::ErrorKind::NotFound => {
                let message = format!("{shown}: no miragefs mount");
                CliError::new(ErrorKind::Runtime, message)
                    .with_hint("name the directory where the images are")
            }
            io::ErrorKind::PermissionDenied => {
                let message = format!("{shown}: the mount does not answer to this user");
                CliError::new(ErrorKind::Runtime, message)
                    .with_hint("ask as the user who mounted, or mount with --allow-other")
            }
            io::ErrorKind::NotConnected => {
                let message = format!("{shown}: the daemon of the mount is gone");
                CliError::new(ErrorKind::Runtime, message)
                    .with_hint(format!("miragefs unmount {shown}"))
            }
            _ => {
                let message = format!("{}: cannot be read", path.display());
                CliError::new(ErrorKind::Runtime, message).with_source(error)
            }
        }
    })
}

/// The status that a mount gave.
///
/// # Errors
/// It is the text of another version, or of something else.
pub(super) fn parse(mountpoint: &Path, text: &str) -> Result<Status, CliError> {
    serde_json::from_str(text).map_err(|error| {
        let message = format!("{}: the status is not understood", mountpoint.display());
        CliError::new(ErrorKind::Runtime, message)
            .with_source(error)
            .with_hint(
                "the mount may be of another version of miragefs: unmount and mount it again",
            )
    })
}

fn for_people(status: &Status) -> String {
    let mut text = format!(
        "{}: mounted {} (process {})\n",
        status.mountpoint.display(),
        ago(&status.mounted_since),
        status.pid
    );
    match &status.machines {
        Some(machines) => describe_machines(&mut text, machines),
        None => describe_images(&mut text, status),
    }
    describe_activity(&mut text, status);
    text
}

fn describe_machines(text: &mut String, machines: &[MachineLine]) {
    let mut table = Table::new(&[
        ("machine", Align::Left),
        ("state", Align::Left),
        ("generation", Align::Right),
        ("since", Align::Left),
        ("images", Align::Right),
        ("config", Align::Left),
    ]);
    for machine in machines {
        table.row(vec![
            machine.name.clone(),
            machine.state.clone(),
            machine.generation.to_string(),
            ago(&machine.since),
            machine.images.to_string(),
            machine.config.display().to_string(),
        ]);
    }
    text.push_str(&table.text());
    for machine in machines {
        for error in &machine.errors {
            push(text, format_args!("error: {}: {error}\n", machine.name));
        }
    }
}

fn describe_images(text: &mut String, status: &Status) {
    push(
        text,
        format_args!(
            "{}: generation {} since {}, {}\n",
            status.config.display(),
            status.generation,
            ago(&status.since),
            status.state
        ),
    );
    if let Some(refused) = &status.refused {
        let since = ago(&refused.since);
        push(
            text,
            format_args!("not shown, since {since}, is the newest state of config and sources:\n"),
        );
        for error in &refused.errors {
            push(text, format_args!("error: {error}\n"));
        }
        if let Some(hint) = &refused.hint {
            push(text, format_args!("hint: {hint}\n"));
        }
    }
    for warning in &status.warnings {
        push(text, format_args!("warning: {warning}\n"));
    }
    let mut table = Table::new(&[
        ("image", Align::Left),
        ("size", Align::Right),
        ("state", Align::Left),
        ("generation", Align::Right),
    ]);
    for image in &status.images {
        table.row(vec![
            image.name.clone(),
            image
                .size
                .map_or_else(String::new, |size| ByteCount(size).to_string()),
            state_of(image),
            image
                .generation
                .map_or_else(String::new, |generation| generation.to_string()),
        ]);
    }
    text.push_str(&table.text());
    if let Some(watching) = &status.watching {
        let (directories, by) = (watching.directories, &watching.by);
        push(
            text,
            format_args!("changes: {directories} directories watched by {by}\n"),
        );
        if let Some(reason) = &watching.reason {
            push(text, format_args!("why not by inotify alone: {reason}\n"));
        }
    }
    let old: Vec<String> = status
        .generations_read
        .iter()
        .filter(|generation| **generation != status.generation)
        .map(ToString::to_string)
        .collect();
    if !old.is_empty() {
        push(
            text,
            format_args!("still read: generation {}\n", old.join(", ")),
        );
    }
    for stale in &status.stale_files {
        let path = stale.path.display();
        let generation = stale.generation;
        push(
            text,
            format_args!("changed under readers of generation {generation}: {path}\n"),
        );
    }
}

fn state_of(image: &ImageStatus) -> String {
    if let Some(error) = &image.error {
        return format!("{}: {error}", image.state);
    }
    match (image.bytes_done, image.bytes) {
        (Some(done), Some(all)) if all > 0 => {
            let percent = done.saturating_mul(100).checked_div(all).unwrap_or(0);
            let left = image
                .seconds_left
                .map_or_else(String::new, |left| format!(", {left} s left"));
            format!("{} ({percent} %{left})", image.state)
        }
        _ => image.state.clone(),
    }
}

fn describe_activity(text: &mut String, status: &Status) {
    let (reads, bytes) = (status.reads, ByteCount(status.bytes_read).rounded());
    let (stale, failed) = (status.stale_reads, status.failed_reads);
    push(
        text,
        format_args!(
            "reads: {reads} ({bytes}), {stale} refused since a source changed, {failed} failed; {} files open\n",
            status.open_handles
        ),
    );
    if status.panics > 0 {
        push(
            text,
            format_args!(
                "faults: {} requests failed by mistakes of miragefs, see the log\n",
                status.panics
            ),
        );
    }
    if let Some(cache) = &status.cache {
        let (bytes, capacity) = (ByteCount(cache.bytes), ByteCount(cache.capacity));
        push(
            text,
            format_args!(
                "cache: {} of {}, {} hits, {} misses\n",
                bytes.rounded(),
                capacity.rounded(),
                cache.hits,
                cache.misses
            ),
        );
    }
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line)
        .expect("writing to a string does not fail");
}

/// `2m 3s ago`; a time that is not understood as it is.
fn ago(timestamp: &str) -> String {
    let elapsed = humantime::parse_rfc3339(timestamp)
        .ok()
        .and_then(|then| SystemTime::now().duration_since(then).ok());
    match elapsed {
        Some(elapsed) => {
            let seconds = Duration::from_secs(elapsed.as_secs());
            format!("{} ago", humantime::format_duration(seconds))
        }
        None => timestamp.to_owned(),
    }
}
