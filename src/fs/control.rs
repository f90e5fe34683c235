//! The directory `.miragefs`: what the mount tells about itself. It is there for who asks for it by name and in no
//! listing, so that no copy of the images takes it along.
//!
//! Invariant: a text is made when its file is opened; a reader sees one moment.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use super::edition::{NoPapers, Papers, Picture};
use crate::sync::AtomicU64;
use crate::synth::generation::Image;
use crate::synth::segments::SegmentMap;

/// The directory.
pub(super) const DIRECTORY_NAME: &str = ".miragefs";

/// A file in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ControlFile {
    Status,
    Config,
    Picture(Picture),
    Log,
    /// The number of the generation as a script, for a page that may not fetch.
    Number,
    /// Reading it asks for a new generation. In no listing: `cat *` must not ask.
    Reload,
}

impl ControlFile {
    const ALL: [Self; 8] = [
        Self::Status,
        Self::Config,
        Self::Picture(Picture::Json),
        Self::Picture(Picture::Svg),
        Self::Picture(Picture::Html),
        Self::Log,
        Self::Number,
        Self::Reload,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Status => "status.json",
            Self::Config => "config.toml",
            Self::Picture(Picture::Json) => "layout.json",
            Self::Picture(Picture::Svg) => "layout.svg",
            Self::Picture(Picture::Html) => "layout.html",
            Self::Log => "log",
            Self::Number => "generation.js",
            Self::Reload => "reload",
        }
    }

    pub(super) const fn is_listed(self) -> bool {
        !matches!(self, Self::Reload)
    }

    /// Whoever may read the images may read all but what acts.
    pub(super) const fn permissions(self) -> u16 {
        match self {
            Self::Reload => 0o400,
            _ => 0o444,
        }
    }
}

/// The inodes of a directory `.miragefs`.
#[derive(Debug, Clone)]
pub(super) struct ControlInodes {
    pub(super) directory: u64,
    pub(super) files: Vec<(ControlFile, u64)>,
}

impl ControlInodes {
    /// For the images of one config.
    pub(super) fn of_shelf(next_inode: &AtomicU64) -> Self {
        Self::new(&ControlFile::ALL, next_inode)
    }

    /// For a mount of several configs.
    pub(super) fn of_mount(next_inode: &AtomicU64) -> Self {
        Self::new(&[ControlFile::Status, ControlFile::Log], next_inode)
    }

    fn new(files: &[ControlFile], next_inode: &AtomicU64) -> Self {
        let next = || next_inode.fetch_add(1, Ordering::Relaxed);
        Self {
            directory: next(),
            files: files.iter().map(|file| (*file, next())).collect(),
        }
    }

    pub(super) fn find(&self, name: &std::ffi::OsStr) -> Option<u64> {
        let mut files = self.files.iter();
        files
            .find(|(file, _)| name == file.name())
            .map(|(_, inode)| *inode)
    }
}

/// Texts that stay the same for a generation, each made when it is first asked for.
pub(super) struct Texts {
    papers: Arc<dyn Papers>,
    generation: u64,
    mtime: i64,
    config: OnceLock<Arc<Image>>,
    pictures: [OnceLock<Arc<Image>>; 3],
}

impl Default for Texts {
    fn default() -> Self {
        Self::new(Arc::new(NoPapers), 0, UNIX_EPOCH)
    }
}

impl Texts {
    pub(super) fn new(papers: Arc<dyn Papers>, generation: u64, since: SystemTime) -> Self {
        Self {
            papers,
            generation,
            mtime: seconds(since),
            config: OnceLock::new(),
            pictures: Default::default(),
        }
    }

    pub(super) fn config(&self) -> Arc<Image> {
        let make = || text_image(ControlFile::Config, self.papers.config(), self.mtime);
        Arc::clone(self.config.get_or_init(make))
    }

    pub(super) fn picture(&self, picture: Picture) -> Arc<Image> {
        let [json, svg, html] = &self.pictures;
        let cell = match picture {
            Picture::Json => json,
            Picture::Svg => svg,
            Picture::Html => html,
        };
        let make = || {
            let text = self.papers.picture(picture, self.generation);
            text_image(ControlFile::Picture(picture), text, self.mtime)
        };
        Arc::clone(cell.get_or_init(make))
    }
}

/// A text as the contents of a file.
pub(super) fn text_image(file: ControlFile, text: String, mtime: i64) -> Arc<Image> {
    let name = file.name();
    let mut source = SegmentMap::new();
    source.push_bytes(name, name, text.into_bytes().into());
    Arc::new(Image::new(
        name.to_owned(),
        Arc::new(source),
        mtime,
        [0; 32],
    ))
}

/// Whole seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> i64 {
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}
