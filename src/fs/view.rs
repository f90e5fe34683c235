//! What a reader of the mount sees, without FUSE: names, attributes, handles, bytes.
//!
//! Invariant: an open handle keeps its image, whatever happens to the names; an inode that the kernel may still know
//! is answered for as long as somebody reads it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::control::{ControlFile, ControlInodes};
use super::edition::{Edition, Refusal};
use super::log_tail::LogTail;
use super::shelf::{Answer, Published, Shelf, Shown, Validators};
use super::watch::Watching;
use crate::sync::{AtomicU64, RwLock};
use crate::synth::cache::BlockCache;
use crate::synth::generation::{Generation, Image};
use crate::synth::pending::PendingImage;
use crate::synth::source::ReadError;
use crate::units::{SECTOR_SIZE, to_u64};

mod bytes;
mod file_mode;
mod listing;
mod texts;

pub use bytes::{Seek, read, readable_len, seek};
pub use file_mode::FileMode;
pub use listing::DirectoryEntry;

/// The inode of the directory that holds the images; FUSE's `FUSE_ROOT_ID`.
pub const ROOT_INODE: u64 = 1;

/// `st_blksize`: what the page cache works in.
pub const BLOCK_SIZE: u32 = 4096;

/// The name of the images of a mount of one config, which are not below a directory of their own.
pub const ONLY: &str = "";

/// Who the files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The root, or the images of one of several configs.
    Directory,
    /// An image.
    RegularFile,
}

/// What `stat` shows of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub inode: u64,
    /// Type.
    pub kind: Kind,
    /// Permission bits.
    pub permissions: u16,
    /// Names of the inode; of a directory 2 and one for each directory in it.
    pub link_count: u32,
    /// Owner.
    pub owner: Owner,
    /// Length in bytes.
    pub size: u64,
    /// Sectors of 512 bytes that hold data.
    pub sectors: u64,
    /// Modification time, in seconds since 1970.
    pub mtime: i64,
}

/// What the view tells the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Somebody asks for a new look at config and sources.
    Reload(u64),
    /// A source file has changed under a reader.
    Stale(PathBuf),
}

/// Takes wishes about the images of a shelf; called by workers, so it must not wait.
pub type Listener = Box<dyn Fn(&str, Wish) + Send + Sync>;

/// What the kernel may know by number, besides images.
#[derive(Debug, Clone)]
enum Node {
    Shelf(Arc<str>),
    /// `.miragefs` of a shelf, or of the mount.
    Control(Option<Arc<str>>),
    File(Option<Arc<str>>, ControlFile),
}

/// All names and what they lead to.
struct State {
    shelves: BTreeMap<Arc<str>, Shelf>,
    nodes: HashMap<u64, Node>,
    validators: Validators,
}

/// What was done since the mount began.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) opens: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) stale_reads: AtomicU64,
    pub(super) failed_reads: AtomicU64,
    pub(super) panics: AtomicU64,
    tickets: AtomicU64,
}

/// What a mount shows besides its images.
#[derive(Default)]
pub struct Surroundings {
    /// The last lines of the log.
    pub log: Arc<LogTail>,
    /// Where rendered blocks are kept.
    pub cache: Option<Arc<BlockCache>>,
    /// Where the images are.
    pub mountpoint: PathBuf,
    /// Who may read them.
    pub file_mode: FileMode,
}

/// The images of one or several configs as their readers see them.
pub struct View {
    owner: Owner,
    state: RwLock<State>,
    next_inode: AtomicU64,
    /// `.miragefs` of a mount of several configs.
    mount_control: Option<ControlInodes>,
    handles: RwLock<HashMap<u64, Arc<Shown>>>,
    next_handle: AtomicU64,
    /// What is read, by inode: images, also those that have no name any more, and texts that are open.
    living: RwLock<HashMap<u64, Weak<Shown>>>,
    pub(super) counters: Counters,
    surroundings: Surroundings,
    listener: RwLock<Option<Listener>>,
    started: SystemTime,
}

impl View {
    /// Shows the images of `generation` as files of `owner`.
    #[must_use]
    pub fn new(generation: Generation, owner: Owner) -> Self {
        let view = Self::of_one(owner, PathBuf::new(), Surroundings::default());
        let published = view.publish(ONLY, Edition::of(generation), false);
        debug_assert!(published.is_some(), "a first edition is always new");
        view
    }

    /// A mount of the one config at `config`, still without images.
    #[must_use]
    pub fn of_one(owner: Owner, config: PathBuf, surroundings: Surroundings) -> Self {
        let view = Self::empty(owner, surroundings, |_| None);
        view.add_shelf_at(ONLY, ROOT_INODE, config);
        view
    }

    /// A mount of any number of configs, each below a directory of its own; still without one.
    #[must_use]
    pub fn of_many(owner: Owner, surroundings: Surroundings) -> Self {
        let view = Self::empty(owner, surroundings, |next_inode| {
            Some(ControlInodes::of_mount(next_inode))
        });
        if let Some(control) = &view.mount_control {
            view.state.write().add_control(control, None);
        }
        view
    }

    fn empty(
        owner: Owner,
        surroundings: Surroundings,
        control: impl FnOnce(&AtomicU64) -> Option<ControlInodes>,
    ) -> Self {
        let next_inode = AtomicU64::new(ROOT_INODE.saturating_add(1));
        Self {
            owner,
            state: RwLock::new(State {
                shelves: BTreeMap::new(),
                nodes: HashMap::new(),
                validators: Validators::new(),
            }),
            mount_control: control(&next_inode),
            next_inode,
            handles: RwLock::new(HashMap::new()),
            next_handle: AtomicU64::new(1),
            living: RwLock::new(HashMap::new()),
            counters: Counters::default(),
            surroundings,
            listener: RwLock::new(None),
            started: SystemTime::now(),
        }
    }

    /// Who is told of wishes.
    pub fn listen(&self, listener: Listener) {
        *self.listener.write() = Some(listener);
    }

    fn wish(&self, shelf: &str, wish: Wish) {
        if let Some(listener) = &*self.listener.read() {
            listener(shelf, wish);
        }
    }

    /// Adds a directory for the config at `config`, still without images; `false` if there is one of that name.
    pub fn add_shelf(&self, name: &str, config: &Path) -> bool {
        let inode = self.next_inode.fetch_add(1, Ordering::Relaxed);
        self.add_shelf_at(name, inode, config.to_path_buf())
    }

    fn add_shelf_at(&self, name: &str, inode: u64, config: PathBuf) -> bool {
        let mut state = self.state.write();
        if state.shelves.contains_key(name) {
            return false;
        }
        let shelf = Shelf::new(name, inode, config, &self.next_inode);
        let key = Arc::clone(&shelf.name);
        state.add_control(&shelf.control, Some(&key));
        state.nodes.insert(inode, Node::Shelf(Arc::clone(&key)));
        state.shelves.insert(key, shelf);
        true
    }

    /// Takes a config's images out of the mount; open handles keep theirs.
    pub fn remove_shelf(&self, name: &str) {
        let mut state = self.state.write();
        let removed = state.shelves.remove(name);
        if let Some(shelf) = &removed {
            state.nodes.remove(&shelf.inode);
            state.nodes.remove(&shelf.control.directory);
            for (_, inode) in &shelf.control.files {
                state.nodes.remove(inode);
            }
        }
        drop(state);
        // Its plan is freed after the lock is released.
        drop(removed);
    }

    /// The inode of the directory that holds a config's images.
    #[must_use]
    pub fn directory_of(&self, shelf: &str) -> Option<u64> {
        Some(self.state.read().shelves.get(shelf)?.inode)
    }

    /// The names of all configs.
    #[must_use]
    pub fn shelves(&self) -> Vec<String> {
        let state = self.state.read();
        state.shelves.keys().map(ToString::to_string).collect()
    }

    /// Whether [`View::publish`] would show anything else than is shown.
    #[must_use]
    pub fn differs(&self, shelf: &str, edition: &Edition, retry: bool) -> bool {
        let state = self.state.read();
        let shelf = state.shelves.get(shelf);
        shelf.is_some_and(|shelf| shelf.differs(edition, retry))
    }

    /// Shows the images of `edition` as the newest of a config. `None` if that would show nothing else than before;
    /// with `retry` images that could not be prepared are a difference. What was shown before is returned too: it is
    /// to be kept until the kernel has forgotten the names.
    #[must_use]
    pub fn publish(&self, shelf: &str, edition: Edition, retry: bool) -> Option<(Published, Kept)> {
        let mut state = self.state.write();
        let State {
            shelves,
            validators,
            ..
        } = &mut *state;
        let shelf = shelves.get_mut(shelf)?;
        if !shelf.differs(&edition, retry) {
            // What it warned of may be another thing now, and nothing is wrong any more.
            shelf.warnings = edition.warnings;
            shelf.refusal = None;
            return None;
        }
        let (published, before) = shelf.take(edition, &self.next_inode, validators);
        let shown = shelf.shown.clone();
        drop(state);
        self.remember(&shown);
        Some((published, Kept(before)))
    }

    /// Shows the files of an image that was awaited, or takes note of why there are none; `false` if nobody waits for
    /// them any more.
    pub fn complete(
        &self,
        shelf: &str,
        awaited: &PendingImage,
        result: Result<&[Arc<Image>], String>,
    ) -> bool {
        let mut state = self.state.write();
        let State {
            shelves,
            validators,
            ..
        } = &mut *state;
        let Some(shelf) = shelves.get_mut(shelf) else {
            return false;
        };
        let is_taken = shelf.complete(awaited, result, &self.next_inode, validators);
        let shown = shelf.shown.clone();
        drop(state);
        self.remember(&shown);
        is_taken
    }

    fn remember(&self, shown: &[Arc<Shown>]) {
        let mut living = self.living.write();
        living.retain(|_, image| image.strong_count() > 0);
        for image in shown {
            living.insert(image.inode, Arc::downgrade(image));
        }
    }

    /// Takes note of why the newest state of a config is not shown.
    pub fn refuse(&self, shelf: &str, refusal: Refusal) {
        if let Some(shelf) = self.state.write().shelves.get_mut(shelf) {
            let since = shelf.refusal.as_ref().map(|(_, since)| *since);
            shelf.refusal = Some((refusal, since.unwrap_or_else(SystemTime::now)));
        }
    }

    /// Takes note of how changes are noticed; returns whether there is another reason than before not to rely on inotify.
    pub fn watch(&self, shelf: &str, watching: Watching) -> bool {
        let mut state = self.state.write();
        let Some(shelf) = state.shelves.get_mut(shelf) else {
            return false;
        };
        let is_other = watching.reason.is_some() && watching.reason != shelf.watching.reason;
        shelf.watching = watching;
        is_other
    }

    /// Takes note of the answer to a request.
    pub fn answer(&self, shelf: &str, answer: Answer) {
        if let Some(shelf) = self.state.write().shelves.get_mut(shelf) {
            shelf.answer = Some(answer);
        }
    }

    /// Whether an image of that name will be there later, so that nobody may remember its absence.
    #[must_use]
    pub fn is_awaited(&self, parent: u64, name: &OsStr) -> bool {
        let state = self.state.read();
        state
            .shelf_at(parent)
            .is_some_and(|shelf| shelf.is_awaited(name))
    }

    /// The attributes of `inode`; of an open file also those of the image that `handle` was opened on.
    #[must_use]
    pub fn attributes(&self, inode: u64, handle: Option<u64>) -> Option<Attributes> {
        let opened = handle.and_then(|handle| self.shown(handle));
        if let Some(shown) = opened.filter(|shown| shown.inode == inode) {
            return Some(self.file_attributes(&shown));
        }
        if let Some(directory) = self.directory_attributes(inode) {
            return Some(directory);
        }
        let shown = self.living(inode).or_else(|| self.shown_at(inode))?;
        Some(self.file_attributes(&shown))
    }

    /// Opens `inode` and returns the handle; `None` if it is no file that is there.
    #[must_use]
    pub fn open(&self, inode: u64) -> Option<u64> {
        let shown = match self.node(inode) {
            Some(Node::File(Some(shelf), ControlFile::Reload)) => self.ask(&shelf, inode),
            _ => self.shown_at(inode)?,
        };
        self.counters.opens.fetch_add(1, Ordering::Relaxed);
        if self.is_control(inode) {
            // Whoever has it open is told its length by the inode alone.
            self.living.write().insert(inode, Arc::downgrade(&shown));
        }
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.handles.write().insert(handle, shown);
        Some(handle)
    }

    /// Closes `handle`.
    pub fn release(&self, handle: u64) {
        let image = self.handles.write().remove(&handle);
        // The last handle of an image frees its plan; that happens after the lock is released.
        drop(image);
    }

    /// The image that `handle` was opened on.
    #[must_use]
    pub fn image(&self, handle: u64) -> Option<Arc<Image>> {
        let handles = self.handles.read();
        handles.get(&handle).map(|shown| Arc::clone(&shown.image))
    }

    fn shown(&self, handle: u64) -> Option<Arc<Shown>> {
        self.handles.read().get(&handle).cloned()
    }

    /// Takes note of bytes that were given out.
    pub fn note_read(&self, len: usize) {
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.counters
            .bytes
            .fetch_add(to_u64(len), Ordering::Relaxed);
    }

    /// Takes note of a request that failed by a fault of ours.
    pub fn note_panic(&self) {
        self.counters.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that failed by a fault of ours.
    #[must_use]
    pub fn panic_count(&self) -> u64 {
        self.counters.panics.load(Ordering::Relaxed)
    }

    /// Takes note of a read that failed. A source that changed is looked at again.
    pub fn note_failure(&self, handle: u64, error: &ReadError) {
        let ReadError::Stale { path, .. } = error else {
            self.counters.failed_reads.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.counters.stale_reads.fetch_add(1, Ordering::Relaxed);
        let Some(shown) = self.shown(handle) else {
            return;
        };
        let mut state = self.state.write();
        let Some(shelf) = state.shelves.get_mut(&shown.shelf) else {
            return;
        };
        shelf.note_stale(path.clone(), shown.token.0);
        let is_newest = shelf.number == shown.token.0;
        drop(state);
        if is_newest {
            self.wish(&shown.shelf, Wish::Stale(path.clone()));
        }
    }

    /// Whether what `inode` shows changes without notice, so that nothing of it may be kept.
    #[must_use]
    pub fn is_volatile(&self, inode: u64) -> bool {
        match self.node(inode) {
            Some(Node::File(..)) => true,
            Some(Node::Shelf(name)) => {
                let state = self.state.read();
                let shelf = state.shelves.get(&name);
                shelf.is_some_and(|shelf| !shelf.awaited.is_empty())
            }
            Some(Node::Control(_)) | None => false,
        }
    }

    /// Whether to say what `inode` is may take a while: a picture must be drawn first.
    #[must_use]
    pub fn takes_long(&self, inode: u64) -> bool {
        matches!(
            self.node(inode),
            Some(Node::File(_, ControlFile::Picture(_) | ControlFile::Config))
        )
    }

    /// Number of images, and the bytes of data in all of them.
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        let state = self.state.read();
        let shown = state.shelves.values().flat_map(|shelf| &shelf.shown);
        shown.fold((0, 0), |(count, sum): (u64, u64), shown| {
            let data_len = shown.image.data.data_len();
            (count.saturating_add(1), sum.saturating_add(data_len))
        })
    }

    fn node(&self, inode: u64) -> Option<Node> {
        self.state.read().nodes.get(&inode).cloned()
    }

    /// The file of that inode: an image, or a text made for this moment.
    fn shown_at(&self, inode: u64) -> Option<Arc<Shown>> {
        match self.node(inode) {
            Some(Node::File(shelf, file)) => self.text(shelf.as_deref(), file, inode),
            Some(Node::Shelf(_) | Node::Control(_)) => None,
            None => self.living(inode),
        }
    }

    fn living(&self, inode: u64) -> Option<Arc<Shown>> {
        let newest = self.living.read().get(&inode).and_then(Weak::upgrade);
        newest.or_else(|| {
            // Shown by several generations, of which the newest went before who opened an older one.
            let handles = self.handles.read();
            handles.values().find(|shown| shown.inode == inode).cloned()
        })
    }

    fn is_control(&self, inode: u64) -> bool {
        matches!(self.node(inode), Some(Node::File(..)))
    }

    fn file_attributes(&self, shown: &Shown) -> Attributes {
        Attributes {
            inode: shown.inode,
            kind: Kind::RegularFile,
            permissions: shown.permissions & self.surroundings.file_mode.bits(),
            link_count: 1,
            owner: self.owner,
            size: shown.image.source.len(),
            sectors: shown.image.data.data_len().div_ceil(SECTOR_SIZE),
            mtime: shown.mtime,
        }
    }
}

/// What a generation showed before the next one: it is kept until the kernel has forgotten the names.
pub struct Kept(
    #[expect(dead_code, reason = "kept for as long as the value lives")] Vec<Arc<Shown>>,
);

impl State {
    fn add_control(&mut self, control: &ControlInodes, shelf: Option<&Arc<str>>) {
        let key = shelf.cloned();
        self.nodes
            .insert(control.directory, Node::Control(key.clone()));
        for (file, inode) in &control.files {
            self.nodes.insert(*inode, Node::File(key.clone(), *file));
        }
    }

    /// The shelf whose directory has that inode.
    fn shelf_at(&self, inode: u64) -> Option<&Shelf> {
        match self.nodes.get(&inode)? {
            Node::Shelf(name) => self.shelves.get(name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
