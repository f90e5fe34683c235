//! What the mount tells about itself: the file `.miragefs/status.json`, which is there for who asks for it by name and
//! in no listing, so that no copy of the directory takes it along.
//!
//! Invariant: the text is made when the file is opened; a reader sees one moment.

use std::sync::Arc;

use serde::Serialize;

use crate::synth::generation::Image;
use crate::synth::pending::PendingImage;
use crate::synth::segments::SegmentMap;

/// The directory; above the inodes of all images.
pub(super) const DIRECTORY_INODE: u64 = u64::MAX - 1;
/// The file in it.
pub(super) const FILE_INODE: u64 = u64::MAX - 2;

pub(super) const DIRECTORY_NAME: &str = ".miragefs";
pub(super) const FILE_NAME: &str = "status.json";

/// An image that is not there, or was not when the mount began.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) image: Arc<PendingImage>,
    /// Why it will never be there.
    pub(super) failure: Option<String>,
}

#[derive(Serialize)]
struct Status<'a> {
    images: Vec<ImageStatus<'a>>,
}

#[derive(Serialize)]
struct ImageStatus<'a> {
    name: &'a str,
    /// `ready`, `waiting`, `compressing`, `hashing` or `failed`.
    state: &'static str,
    size: Option<u64>,
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

/// The status of a mount as the contents of a file.
pub(super) fn file(images: &[Arc<Image>], awaited: &[Awaited]) -> Image {
    let ready = images.iter().map(|image| ImageStatus {
        name: &image.name,
        state: "ready",
        size: Some(image.source.len()),
        progress: None,
        error: None,
    });
    let waiting = awaited.iter().flat_map(|awaited| {
        let names = awaited.image.names().iter();
        names.map(|name| status_of(name, awaited))
    });
    let status = Status {
        images: ready.chain(waiting).collect(),
    };
    let mut text = serde_json::to_string_pretty(&status).unwrap_or_default();
    text.push('\n');
    let mut source = SegmentMap::new();
    source.push_bytes(FILE_NAME, FILE_NAME, text.into_bytes().into());
    let mtime = images.iter().map(|image| image.mtime).max();
    Image::new(
        FILE_NAME.to_owned(),
        Arc::new(source),
        mtime.unwrap_or(0),
        [0; 32],
    )
}

fn status_of<'a>(name: &'a str, awaited: &'a Awaited) -> ImageStatus<'a> {
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
        progress: Some(Progress {
            bytes_done,
            bytes,
            bytes_per_second: state.rate(),
            seconds_left: state.remaining().map(|left| left.as_secs()),
        }),
        error: awaited.failure.as_deref(),
    }
}
