//! What tells that files of the host changed: inotify, and where it does not reach, the clock.
//!
//! Invariant: reading never looks like a change. Directories are watched one by one, so that nothing below a mount point
//! or an excluded directory is; whoever subscribes gets paths, each once until he takes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use notify::event::{EventKindMask, ModifyKind};
use notify::{Config, ErrorKind, Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use serde::Serialize;

use super::edition::{Changes, Watched};

/// Touched paths that are told one by one; with more of them everything is looked at.
const PATHS_MAX: usize = 10_000;

/// Symlinks that are followed, as the kernel does.
const SYMLINKS_MAX: u32 = 40;

/// File systems that change without inotify's notice, by `f_type` of statfs(2).
const REMOTE: [(u64, &str); 8] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x0bd0_0bd0, "Lustre"),
];

/// How changes are noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Watching {
    /// `inotify`, `polling`, or `nothing`.
    pub by: &'static str,
    /// Watched directories.
    pub directories: usize,
    /// Why not, or not only, by inotify.
    pub reason: Option<String>,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            by: "nothing",
            directories: 0,
            reason: None,
        }
    }
}

/// Wakes a subscriber; called on the watcher's thread.
pub(super) type Wake = Box<dyn Fn() + Send>;

/// Who subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SubscriberId(u64);

struct Subscriber {
    names: BTreeSet<PathBuf>,
    directories: BTreeSet<PathBuf>,
    changes: Changes,
    is_awake: bool,
    wake: Wake,
}

impl Subscriber {
    fn touch(&mut self, path: &Path) {
        if self.changes.paths.len() >= PATHS_MAX {
            self.changes.all = true;
        }
        if !self.changes.all && !self.changes.paths.contains(path) {
            self.changes.paths.insert(path.to_path_buf());
        }
        self.rouse();
    }

    fn rouse(&mut self) {
        if !std::mem::replace(&mut self.is_awake, true) {
            (self.wake)();
        }
    }

    fn concerns(&self, path: &Path) -> bool {
        let parent = path.parent().unwrap_or(path);
        self.names.contains(path)
            || self.directories.contains(parent)
            || self.directories.contains(path)
    }
}

#[derive(Default)]
struct Subscribers {
    next: u64,
    all: BTreeMap<SubscriberId, Subscriber>,
    /// Watched directories and who is concerned.
    directories: HashMap<PathBuf, BTreeSet<SubscriberId>>,
    /// Directories that may be others than when they were watched, and all below them.
    suspects: BTreeSet<PathBuf>,
}

impl Subscribers {
    /// Whether somebody watches the directory, or would if it were there.
    fn is_watched(&self, directory: &Path) -> bool {
        let mut all = self.all.values();
        self.directories.contains_key(directory)
            || all.any(|subscriber| subscriber.directories.contains(directory))
    }

    fn take(&mut self, event: &Event) {
        if event.need_rescan() {
            for subscriber in self.all.values_mut() {
                subscriber.changes.all = true;
                subscriber.rouse();
            }
            return;
        }
        for path in &event.paths {
            if is_about_names(event.kind) && self.is_watched(path) {
                self.suspects.insert(path.clone());
            }
            let parent = path.parent().unwrap_or(path);
            let concerned = [parent, path.as_path()];
            let ids: BTreeSet<SubscriberId> = concerned
                .into_iter()
                .filter_map(|directory| self.directories.get(directory))
                .flatten()
                .copied()
                .collect();
            for id in ids {
                if let Some(subscriber) = self.all.get_mut(&id)
                    && subscriber.concerns(path)
                {
                    subscriber.touch(path);
                }
            }
        }
    }
}

/// Whether a name came, went or leads elsewhere.
const fn is_about_names(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
    )
}

/// All that is watched for a mount: one inotify instance, of which the kernel gives a user only 128.
pub(super) struct Watches {
    subscribers: Arc<Mutex<Subscribers>>,
    /// `None` where inotify cannot be had, for the reason given.
    watcher: Mutex<Result<INotifyWatcher, String>>,
}

/// What became of a wish to watch.
pub(super) struct Outcome {
    pub(super) watching: Watching,
    /// Directories that are watched from now on: what happened in them before is not known.
    pub(super) added: Vec<PathBuf>,
}

impl Watches {
    pub(super) fn new() -> Self {
        let subscribers: Arc<Mutex<Subscribers>> = Arc::default();
        let shared = Arc::clone(&subscribers);
        let handler = move |event: notify::Result<Event>| {
            if let Ok(event) = event {
                shared.lock().take(&event);
            }
        };
        // Without opens and closes of readers: those are our own.
        let kinds = EventKindMask::CREATE
            | EventKindMask::REMOVE
            | EventKindMask::MODIFY_DATA
            | EventKindMask::MODIFY_META
            | EventKindMask::MODIFY_NAME
            | EventKindMask::ACCESS_CLOSE;
        let config = Config::default()
            .with_follow_symlinks(false)
            .with_event_kinds(kinds);
        let watcher = INotifyWatcher::new(handler, config).map_err(|error| error.to_string());
        Self {
            subscribers,
            watcher: Mutex::new(watcher),
        }
    }

    pub(super) fn subscribe(&self, wake: Wake) -> SubscriberId {
        let mut subscribers = self.subscribers.lock();
        let id = SubscriberId(subscribers.next);
        subscribers.next = subscribers.next.saturating_add(1);
        subscribers.all.insert(
            id,
            Subscriber {
                names: BTreeSet::new(),
                directories: BTreeSet::new(),
                changes: Changes::default(),
                is_awake: false,
                wake,
            },
        );
        id
    }

    pub(super) fn unsubscribe(&self, id: SubscriberId) {
        drop(self.watch(id, &Watched::default()));
        self.subscribers.lock().all.remove(&id);
    }

    /// What changed since the last call.
    pub(super) fn take(&self, id: SubscriberId) -> Changes {
        let mut subscribers = self.subscribers.lock();
        let Some(subscriber) = subscribers.all.get_mut(&id) else {
            return Changes::default();
        };
        subscriber.is_awake = false;
        std::mem::take(&mut subscriber.changes)
    }

    /// From now on tells a subscriber of changes of `watched`, and of nothing else; `None` if it does already.
    pub(super) fn watch(&self, id: SubscriberId, watched: &Watched) -> Option<Outcome> {
        let names: BTreeSet<PathBuf> = watched.names.iter().flat_map(|name| links(name)).collect();
        if self
            .subscribers
            .lock()
            .has(id, &names, &watched.directories)
        {
            return None;
        }
        let directories: BTreeSet<PathBuf> = watched.directories.iter().cloned().collect();
        let parents = names.iter().filter_map(|name| name.parent());
        let wanted: BTreeSet<PathBuf> = parents
            .map(Path::to_path_buf)
            .chain(directories.iter().cloned())
            .collect();
        // The watcher's thread waits for the subscribers, and the watcher for its thread: never both locks at once.
        let mut watcher = self.watcher.lock();
        let mut subscribers = self.subscribers.lock();
        if let Some(subscriber) = subscribers.all.get_mut(&id) {
            subscriber.names = names;
            subscriber.directories = directories;
        }
        let (stale, missing) = subscribers.prepare(id, &wanted);
        drop(subscribers);
        let mut reason = None;
        let mut added = Vec::new();
        match &mut *watcher {
            Err(error) => reason = Some(format!("inotify is not to be had: {error}")),
            Ok(watcher) => {
                for directory in &stale {
                    // It is not watched any more if it is gone.
                    drop(watcher.unwatch(directory));
                }
                for directory in missing {
                    match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                        Ok(()) => added.push(directory),
                        Err(error) if is_gone(&error) => {}
                        Err(error) => {
                            reason = Some(reason_of(&error));
                            break;
                        }
                    }
                }
            }
        }
        let mut subscribers = self.subscribers.lock();
        for directory in &added {
            let concerned = subscribers.directories.entry(directory.clone());
            concerned.or_default().insert(id);
        }
        drop(subscribers);
        reason = reason.or_else(|| wanted.iter().find_map(|directory| remote(directory)));
        let by = if reason.is_some() {
            "polling"
        } else {
            "inotify"
        };
        let watching = Watching {
            by,
            directories: wanted.len(),
            reason,
        };
        Some(Outcome { watching, added })
    }
}

impl Subscribers {
    /// Whether all that a subscriber wants is watched already.
    fn has(&self, id: SubscriberId, names: &BTreeSet<PathBuf>, directories: &[PathBuf]) -> bool {
        let Some(known) = self.all.get(&id) else {
            return false;
        };
        self.suspects.is_empty()
            && known.names == *names
            && known.directories.len() == directories.len()
            && directories
                .iter()
                .all(|one| known.directories.contains(one))
    }

    /// Which directories are to be watched no more when a subscriber wants these, and which from now on.
    fn prepare(
        &mut self,
        id: SubscriberId,
        wanted: &BTreeSet<PathBuf>,
    ) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let suspects = std::mem::take(&mut self.suspects);
        let mut stale = Vec::new();
        let mut doubtful = Vec::new();
        self.directories.retain(|directory, concerned| {
            if !wanted.contains(directory) {
                concerned.remove(&id);
            }
            let is_suspect = directory.ancestors().any(|above| suspects.contains(above));
            if is_suspect && !concerned.is_empty() {
                doubtful.push((directory.clone(), concerned.clone()));
            }
            let keep = !concerned.is_empty() && !is_suspect;
            if !keep {
                stale.push(directory.clone());
            }
            keep
        });
        // Others are concerned by a directory that is another now: they look at everything, and watch it again.
        for (_, concerned) in &doubtful {
            for other in concerned.iter().filter(|other| **other != id) {
                if let Some(subscriber) = self.all.get_mut(other) {
                    subscriber.changes.all = true;
                    subscriber.rouse();
                }
            }
        }
        let mut missing = Vec::new();
        for directory in wanted {
            match self.directories.get_mut(directory) {
                Some(concerned) => {
                    // It is watched for others: what happened before is not known to this one either.
                    if concerned.insert(id) {
                        missing.push(directory.clone());
                    }
                }
                None => missing.push(directory.clone()),
            }
        }
        (stale, missing)
    }
}

/// A path and every symlink that leads to what it names.
fn links(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_path_buf()];
    let mut rest: Vec<OsString> = components(path);
    let mut at = PathBuf::from("/");
    let mut symlinks = 0_u32;
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match std::fs::read_link(&next) {
            Ok(target) if symlinks < SYMLINKS_MAX => {
                symlinks = symlinks.saturating_add(1);
                found.push(next);
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                rest.extend(components(&target));
            }
            _ => at = next,
        }
    }
    // What it is in the end, under its own name.
    found.push(at);
    found.dedup();
    found
}

/// Names of a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<_> = names.collect();
    names.reverse();
    names
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => matches!(
            error.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
        ),
        _ => false,
    }
}

fn reason_of(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::MaxFilesWatch => {
            "all inotify watches are used: raise fs.inotify.max_user_watches".to_owned()
        }
        _ => format!("inotify: {error}"),
    }
}

/// Why a directory cannot be watched, if its file system changes elsewhere.
fn remote(directory: &Path) -> Option<String> {
    let found = rustix::fs::statfs(directory).ok()?;
    let kind = u64::try_from(found.f_type).ok()? & 0xffff_ffff;
    let (_, name) = REMOTE.iter().find(|(known, _)| *known == kind)?;
    Some(format!(
        "{}: changes on {name} are not told by inotify",
        directory.display()
    ))
}

#[cfg(test)]
mod tests;
