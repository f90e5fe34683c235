//! What one config shows: the images of its newest generation by name, and what there is to tell about it.
//!
//! Invariant: an inode number belongs to one image name and one identity and is never given to another. An image that
//! a new generation leaves as it is keeps inode and modification time; another one of the same name is at least one
//! second younger than the one before, so that equal times mean equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::control::{ControlInodes, Texts};
use super::edition::{Edition, Refusal};
use super::watch::Watching;
use crate::sync::AtomicU64;
use crate::synth::generation::Image;
use crate::synth::pending::PendingImage;

/// Changed source files that are remembered by name.
const STALE_FILES_MAX: usize = 100;

/// Stands for a generation; whoever keeps it keeps the generation alive.
#[derive(Debug)]
pub(super) struct Token(pub(super) u64);

/// An image as it is shown.
pub(super) struct Shown {
    pub(super) inode: u64,
    pub(super) image: Arc<Image>,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    pub(super) permissions: u16,
    /// The generation that brought these bytes.
    pub(super) since: u64,
    /// The shelf, for the faults of reads.
    pub(super) shelf: Arc<str>,
    /// The generation that it is read by.
    pub(super) token: Arc<Token>,
}

/// An image that is not there, or was not when its generation began.
#[derive(Debug, Clone)]
pub(super) struct Awaited {
    pub(super) image: Arc<PendingImage>,
    /// Why it will never be there.
    pub(super) failure: Option<String>,
}

/// What a new edition came to.
#[derive(Debug)]
pub struct Published {
    /// The number of the generation.
    pub number: u64,
    /// Names that lead elsewhere than before: changed, added, gone.
    pub names: Vec<String>,
    /// What is to be prepared.
    pub work: Work,
}

/// Images that cannot be read yet.
#[derive(Debug, Default)]
pub struct Work {
    /// To be prepared for this generation.
    pub new: Vec<Arc<PendingImage>>,
    /// Of earlier generations, of no use any more.
    pub obsolete: Vec<Arc<PendingImage>>,
}

/// The files of an image that were prepared for an earlier generation and are as they would be again.
fn files_of<'a>(pending: &PendingImage, before: &'a [Arc<Shown>]) -> Option<Vec<&'a Arc<Shown>>> {
    let find = |name: &String| before.iter().find(|shown| shown.image.name == *name);
    let files: Vec<_> = pending.names().iter().map(find).collect::<Option<_>>()?;
    let first = files.first()?;
    (first.image.identity == *pending.identity()).then_some(files)
}

/// How the last request for a new look ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Answer {
    /// The ticket that was answered; all before it are too.
    pub ticket: u64,
    /// Whether there is a new generation.
    pub is_new: bool,
    /// Why there is none, if that is a mistake.
    pub errors: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The images of one config.
pub(super) struct Shelf {
    /// The directory.
    pub(super) inode: u64,
    pub(super) control: ControlInodes,
    pub(super) name: Arc<str>,
    pub(super) config: PathBuf,
    /// 0 before the first one.
    pub(super) number: u64,
    /// When the generation appeared.
    pub(super) since: SystemTime,
    /// In the order of the config.
    pub(super) shown: Vec<Arc<Shown>>,
    pub(super) awaited: Vec<Awaited>,
    pub(super) texts: Arc<Texts>,
    pub(super) warnings: Vec<String>,
    /// Why the newest state of config and sources is not shown, and since when.
    pub(super) refusal: Option<(Refusal, SystemTime)>,
    pub(super) watching: Watching,
    /// Source files that readers of a generation, by its number, cannot have any more, because they changed.
    pub(super) stale: BTreeSet<(PathBuf, u64)>,
    pub(super) answer: Option<Answer>,
    token: Arc<Token>,
    /// Generations that may still be read.
    tokens: Vec<Weak<Token>>,
}

/// The last modification time of every image that was ever shown, by shelf and name.
pub(super) type Validators = BTreeMap<(Arc<str>, String), i64>;

impl Shelf {
    pub(super) fn new(name: &str, inode: u64, config: PathBuf, next_inode: &AtomicU64) -> Self {
        Self {
            inode,
            control: ControlInodes::of_shelf(next_inode),
            name: name.into(),
            config,
            number: 0,
            since: SystemTime::now(),
            shown: Vec::new(),
            awaited: Vec::new(),
            texts: Arc::default(),
            warnings: Vec::new(),
            refusal: None,
            watching: Watching::default(),
            stale: BTreeSet::new(),
            answer: None,
            token: Arc::new(Token(0)),
            tokens: Vec::new(),
        }
    }

    /// Whether `edition` shows other images than there are, or comes from a config that says something else; with
    /// `retry` also whether there are images that could not be prepared.
    pub(super) fn differs(&self, edition: &Edition, retry: bool) -> bool {
        let shown = self.shown.iter().map(|shown| &shown.image);
        let awaited = self.awaited.iter();
        let old: BTreeMap<&str, &[u8; 32]> = shown
            .map(|image| (image.name.as_str(), &image.identity))
            .chain(awaited.map(|one| (one.image.name(), one.image.identity())))
            .collect();
        let ready = edition.generation.images.iter();
        let mut new: BTreeMap<&str, &[u8; 32]> = ready
            .map(|image| (image.name.as_str(), &image.identity))
            .collect();
        for pending in &edition.generation.pending {
            new.insert(pending.name(), pending.identity());
            // Its other files go with it.
            for name in pending.names().iter().skip(1) {
                if let Some(identity) = old.get(name.as_str()) {
                    new.insert(name, identity);
                }
            }
        }
        let failed = self.awaited.iter().any(|one| one.failure.is_some());
        self.number == 0 || edition.is_edited || new != old || (retry && failed)
    }

    /// Shows `edition` instead of what there was, which is returned: it is to be kept until the kernel has forgotten
    /// the old names.
    pub(super) fn take(
        &mut self,
        edition: Edition,
        next_inode: &AtomicU64,
        validators: &mut Validators,
    ) -> (Published, Vec<Arc<Shown>>) {
        let generation = edition.generation;
        self.number = self.number.saturating_add(1);
        self.since = SystemTime::now();
        self.token = Arc::new(Token(self.number));
        self.tokens.retain(|token| token.strong_count() > 0);
        self.tokens.push(Arc::downgrade(&self.token));
        let alive: BTreeSet<u64> = self.alive().collect();
        self.stale.retain(|(_, number)| alive.contains(number));
        self.texts = Arc::new(Texts::new(edition.papers, self.number, self.since));
        self.warnings = edition.warnings;
        self.refusal = None;
        let before = std::mem::take(&mut self.shown);
        let mut names = BTreeSet::new();
        for image in generation.images {
            let old = before.iter().find(|shown| shown.image.name == image.name);
            let kept = old.filter(|shown| shown.image.identity == image.identity);
            if kept.is_none() {
                names.insert(image.name.clone());
            }
            let shown = self.show(image, kept, next_inode, validators);
            self.shown.push(shown);
        }
        let mut work = Work::default();
        let awaited = std::mem::take(&mut self.awaited);
        for pending in generation.pending {
            if let Some(files) = files_of(&pending, &before) {
                for old in files {
                    let image = Arc::clone(&old.image);
                    let shown = self.show(image, Some(old), next_inode, validators);
                    self.shown.push(shown);
                }
                continue;
            }
            let under_way = awaited
                .iter()
                .find(|one| one.failure.is_none() && one.image.identity() == pending.identity());
            if let Some(one) = under_way {
                self.awaited.push(one.clone());
                continue;
            }
            // Their absence was not remembered while they were awaited, but it may have been before.
            names.extend(pending.names().iter().cloned());
            work.new.push(Arc::clone(&pending));
            self.awaited.push(Awaited {
                image: pending,
                failure: None,
            });
        }
        let is_kept = |image: &Arc<PendingImage>| {
            let mut kept = self.awaited.iter();
            kept.any(|one| Arc::ptr_eq(&one.image, image))
        };
        let old = awaited.into_iter().map(|one| one.image);
        work.obsolete = old.filter(|image| !is_kept(image)).collect();
        let is_shown = |name: &str| self.shown.iter().any(|shown| shown.image.name == name);
        let gone = before.iter().map(|shown| shown.image.name.as_str());
        names.extend(gone.filter(|name| !is_shown(name)).map(str::to_owned));
        let published = Published {
            number: self.number,
            names: names.into_iter().collect(),
            work,
        };
        (published, before)
    }

    fn show(
        &self,
        image: Arc<Image>,
        kept: Option<&Arc<Shown>>,
        next_inode: &AtomicU64,
        validators: &mut Validators,
    ) -> Arc<Shown> {
        let (inode, mtime, since) = if let Some(kept) = kept {
            (kept.inode, kept.mtime, kept.since)
        } else {
            let key = (Arc::clone(&self.name), image.name.clone());
            let last = validators.get(&key).copied();
            let mtime = image
                .mtime
                .max(last.map_or(i64::MIN, |last| last.saturating_add(1)));
            validators.insert(key, mtime);
            let inode = next_inode.fetch_add(1, Ordering::Relaxed);
            (inode, mtime, self.number)
        };
        Arc::new(Shown {
            inode,
            image,
            mtime,
            permissions: 0o444,
            since,
            shelf: Arc::clone(&self.name),
            token: Arc::clone(&self.token),
        })
    }

    /// Shows the files of an image that was awaited, or takes note of why there are none. `false` if they are those of
    /// a generation that is gone.
    pub(super) fn complete(
        &mut self,
        awaited: &PendingImage,
        result: Result<&[Arc<Image>], String>,
        next_inode: &AtomicU64,
        validators: &mut Validators,
    ) -> bool {
        let is_it = |one: &Awaited| std::ptr::eq(Arc::as_ptr(&one.image), awaited);
        if !self.awaited.iter().any(is_it) {
            return false;
        }
        match result {
            Ok(images) => {
                self.awaited.retain(|one| !is_it(one));
                for image in images {
                    let shown = self.show(Arc::clone(image), None, next_inode, validators);
                    self.shown.push(shown);
                }
            }
            Err(failure) => self
                .awaited
                .iter_mut()
                .filter(|one| is_it(one))
                .for_each(|one| one.failure = Some(failure.clone())),
        }
        true
    }

    pub(super) fn find(&self, name: &OsStr) -> Option<&Arc<Shown>> {
        let mut shown = self.shown.iter();
        shown.find(|shown| shown.image.name.as_bytes() == name.as_bytes())
    }

    /// Whether an image of that name will be there later, so that nobody may remember its absence.
    pub(super) fn is_awaited(&self, name: &OsStr) -> bool {
        self.awaited
            .iter()
            .filter(|one| one.failure.is_none())
            .flat_map(|one| one.image.names())
            .any(|known| known.as_bytes() == name.as_bytes())
    }

    /// The newest modification time of all images.
    pub(super) fn mtime(&self) -> i64 {
        let mtimes = self.shown.iter().map(|shown| shown.mtime);
        mtimes.max().unwrap_or(0)
    }

    pub(super) fn note_stale(&mut self, path: PathBuf, generation: u64) {
        if self.stale.len() < STALE_FILES_MAX {
            self.stale.insert((path, generation));
        }
    }

    /// The numbers of the generations that are still read, the newest among them.
    pub(super) fn alive(&self) -> impl Iterator<Item = u64> {
        let tokens = self.tokens.iter().filter_map(Weak::upgrade);
        tokens.map(|token| token.0)
    }
}
