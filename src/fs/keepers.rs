//! Every config of a mount with its keeper; of a directory of configs, those that come and go.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::edition::{Changes, Edition, Planner, Refusal, Watched};
use super::pending::PreparationFailed;
use super::reload::{Event, Keeper, OnPrepared, Stage};
use super::settle::Settle;
use super::shelf::{Answer, Work};
use super::view::{ROOT_INODE, View, Wish};
use super::watch::{Watches, Watching};
use crate::synth::generation::Image;
use crate::synth::pending::PendingImage;

/// How long a config may be gone before its images go: editors replace files by removing them. Shorter than the keeper waits
/// before it complains.
const ABSENCE: Duration = Duration::from_millis(800);

/// A config, and what it comes to for the first time.
pub struct Machine {
    /// The name of its directory; [`ONLY`](super::view::ONLY) if there is no other.
    pub name: String,
    /// The config file.
    pub config: PathBuf,
    /// The way to its editions.
    pub planner: Box<dyn Planner>,
    /// The first.
    pub edition: Result<Edition, Refusal>,
}

/// A directory of configs.
pub trait Machines: Send {
    /// The configs that there are now, by the names of their directories.
    ///
    /// # Errors
    /// The host's, if the directory cannot be listed.
    fn list(&self) -> io::Result<BTreeMap<String, PathBuf>>;

    /// The way from one of them to its editions.
    fn planner(&self, name: &str, config: &std::path::Path) -> Box<dyn Planner>;

    /// The directory.
    fn directory(&self) -> PathBuf;
}

/// Makes the kernel forget what it was told. Never called by a handler: the kernel may hold what a request waits for.
pub(super) trait Forget: Send + Sync {
    /// What `name` leads to in a directory, or that it leads nowhere.
    fn name(&self, directory: u64, name: &OsStr);

    /// The attributes of an inode.
    fn attributes(&self, inode: u64);
}

/// A place in the view where the editions of one config are shown.
struct OnView {
    view: Arc<View>,
    shelf: String,
    forget: Arc<dyn Forget>,
}

impl Stage for OnView {
    fn prefix(&self) -> String {
        if self.shelf.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.shelf)
        }
    }

    fn differs(&self, edition: &Edition, retry: bool) -> bool {
        self.view.differs(&self.shelf, edition, retry)
    }

    fn publish(&self, edition: Edition, retry: bool) -> Option<Work> {
        let directory = self.view.directory_of(&self.shelf)?;
        let (published, before) = self.view.publish(&self.shelf, edition, retry)?;
        for name in &published.names {
            self.forget.name(directory, OsStr::new(name));
        }
        self.forget.attributes(directory);
        // Until here names that the kernel still knew led to what was before.
        drop(before);
        let changed = if published.names.is_empty() {
            "no image changed".to_owned()
        } else {
            published.names.join(", ")
        };
        tracing::info!(
            "{}generation {}: {changed}",
            self.prefix(),
            published.number
        );
        Some(published.work)
    }

    fn complete(&self, image: &PendingImage, result: Result<&[Arc<Image>], String>) -> bool {
        self.view.complete(&self.shelf, image, result)
    }

    fn refuse(&self, refusal: Refusal) {
        self.view.refuse(&self.shelf, refusal);
    }

    fn watching(&self, watching: Watching) {
        let reason = watching.reason.clone();
        let is_other = self.view.watch(&self.shelf, watching);
        if let Some(reason) = reason.filter(|_| is_other) {
            tracing::warn!(
                "{}changes are looked for every few seconds: {reason}",
                self.prefix()
            );
        }
    }

    fn answer(&self, answer: Answer) {
        self.view.answer(&self.shelf, answer);
    }
}

/// All keepers of a mount.
#[derive(Clone)]
pub(super) struct Keepers {
    view: Arc<View>,
    watches: Arc<Watches>,
    forget: Arc<dyn Forget>,
    wait: bool,
    senders: Arc<Mutex<BTreeMap<String, Sender<Event>>>>,
}

/// The key of the thread that looks after a directory of configs; no config has it.
const OVERSEER: &str = "/";

impl Keepers {
    pub(super) fn new(view: Arc<View>, forget: Arc<dyn Forget>, wait: bool) -> Self {
        let keepers = Self {
            view,
            watches: Arc::new(Watches::new()),
            forget,
            wait,
            senders: Arc::default(),
        };
        let senders = Arc::clone(&keepers.senders);
        keepers.view.listen(Box::new(move |shelf, wish| {
            if let Some(sender) = senders.lock().get(shelf) {
                // One that ended needs no wishes.
                drop(sender.send(Event::Wish(wish)));
            }
        }));
        keepers
    }

    /// Looks after a config whose first edition is shown.
    pub(super) fn start(
        &self,
        name: &str,
        planner: Box<dyn Planner>,
        first: Option<Work>,
        on_prepared: OnPrepared,
    ) -> io::Result<()> {
        let (sender, events) = self.enlist(name);
        let stage = OnView {
            view: Arc::clone(&self.view),
            shelf: name.to_owned(),
            forget: Arc::clone(&self.forget),
        };
        let keeper = Keeper::new(
            planner,
            Arc::new(stage),
            Arc::clone(&self.watches),
            (sender, events),
            self.wait,
        );
        thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || keeper.run(first, on_prepared))
            .map(drop)
    }

    /// Looks after a directory of configs.
    pub(super) fn oversee(&self, machines: Box<dyn Machines>) -> io::Result<()> {
        let (sender, events) = self.enlist(OVERSEER);
        let overseer = Overseer {
            keepers: self.clone(),
            machines,
            absent: BTreeMap::new(),
            settle: Settle::default(),
        };
        thread::Builder::new()
            .name("configs".to_owned())
            .spawn(move || overseer.run(&events, sender))
            .map(drop)
    }

    fn enlist(&self, name: &str) -> (Sender<Event>, Receiver<Event>) {
        let (sender, events) = mpsc::channel();
        self.senders.lock().insert(name.to_owned(), sender.clone());
        (sender, events)
    }

    /// Asks for a new look at everything.
    pub(super) fn reload_all(&self) {
        for sender in self.senders.lock().values() {
            drop(sender.send(Event::Wish(Wish::Reload(0))));
        }
    }

    /// Ends what can be ended.
    pub(super) fn stop(&self) {
        for sender in self.senders.lock().values() {
            drop(sender.send(Event::Stop));
        }
    }

    /// Shows the first edition of a config in a directory of its own and keeps it.
    fn add(&self, machine: Machine) {
        let name = machine.name;
        if !self.view.add_shelf(&name, &machine.config) {
            return;
        }
        let first = show_first(&self.view, &name, machine.edition);
        self.forget.name(ROOT_INODE, OsStr::new(&name));
        self.forget.attributes(ROOT_INODE);
        tracing::info!("{name}: added");
        let on_prepared = Box::new(|_: Result<(), PreparationFailed>| {});
        if let Err(error) = self.start(&name, machine.planner, first, on_prepared) {
            tracing::error!("{name}: will not be renewed: no thread can be started: {error}");
        }
    }

    fn remove(&self, name: &str) {
        if let Some(sender) = self.senders.lock().remove(name) {
            drop(sender.send(Event::Stop));
        }
        self.view.remove_shelf(name);
        self.forget.name(ROOT_INODE, OsStr::new(name));
        self.forget.attributes(ROOT_INODE);
        tracing::info!("{name}: removed");
    }
}

/// Shows what a config comes to for the first time; `None` if that is nothing yet, which its keeper will tell.
pub(super) fn show_first(
    view: &View,
    name: &str,
    edition: Result<Edition, Refusal>,
) -> Option<Work> {
    match edition {
        Ok(edition) => {
            let (published, _) = view.publish(name, edition, false)?;
            Some(published.work)
        }
        Err(refusal) => {
            view.refuse(name, refusal);
            None
        }
    }
}

/// Looks after a directory of configs.
struct Overseer {
    keepers: Keepers,
    machines: Box<dyn Machines>,
    /// Configs that are gone, and since when.
    absent: BTreeMap<String, Instant>,
    settle: Settle,
}

impl Overseer {
    fn run(mut self, events: &Receiver<Event>, sender: Sender<Event>) {
        let watches = Arc::clone(&self.keepers.watches);
        let id = watches.subscribe(Box::new(move || drop(sender.send(Event::Touched))));
        let directory = self.machines.directory();
        let watched = Watched {
            names: vec![directory.clone()],
            directories: vec![directory],
        };
        drop(watches.watch(id, &watched));
        self.look();
        loop {
            match self.next(events) {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Event::Touched) => {
                    drop(watches.take(id));
                    self.settle.note(Instant::now());
                }
                Ok(Event::Wish(_)) => self.look(),
                Ok(Event::Prepared(_)) | Err(RecvTimeoutError::Timeout) => {}
            }
            if self.due().is_some_and(|due| due <= Instant::now()) {
                self.look();
                drop(watches.watch(id, &watched));
            }
        }
        watches.unsubscribe(id);
    }

    fn due(&self) -> Option<Instant> {
        let absences = self.absent.values();
        let gone = absences.filter_map(|since| since.checked_add(ABSENCE));
        gone.chain(self.settle.due()).min()
    }

    fn next(&self, events: &Receiver<Event>) -> Result<Event, RecvTimeoutError> {
        match self.due() {
            Some(due) => events.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Adds what is new and takes away what has been gone for a while.
    fn look(&mut self) {
        let now = Instant::now();
        self.settle.act(now);
        let configs = match self.machines.list() {
            Ok(configs) => configs,
            Err(error) => {
                let directory = self.machines.directory();
                tracing::error!("{}: cannot be listed: {error}", directory.display());
                return;
            }
        };
        for name in self.keepers.view.shelves() {
            if configs.contains_key(&name) {
                self.absent.remove(&name);
                continue;
            }
            let since = *self.absent.entry(name.clone()).or_insert(now);
            if now.saturating_duration_since(since) >= ABSENCE {
                self.absent.remove(&name);
                self.keepers.remove(&name);
            }
        }
        let known = self.keepers.view.shelves();
        for (name, config) in configs {
            if known.contains(&name) {
                continue;
            }
            let mut planner = self.machines.planner(&name, &config);
            let edition = planner.plan(&Changes::anything());
            self.keepers.add(Machine {
                name,
                config,
                planner,
                edition,
            });
        }
    }
}
