//! One config over time: when something changes it is planned again, and what comes of it takes the place of what was.
//!
//! Invariant: what is shown is always one whole edition. A config or a source that cannot be planned changes nothing of
//! it; the next state that can be planned heals that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::edition::{Changes, Edition, Planner, Refusal};
use super::pending::{self, PreparationFailed, Prepared};
use super::settle::Settle;
use super::shelf::{Answer, Work};
use super::view::Wish;
use super::watch::{SubscriberId, Watches, Watching};
use crate::synth::generation::Image;
use crate::synth::pending::PendingImage;

/// A mistake that is gone within this time is not worth a word: files are written piece by piece.
const GRACE: Duration = Duration::from_secs(1);
/// How often something that could not be planned is tried again: not all that may heal it can be watched.
const RETRY: Duration = Duration::from_secs(2);
/// How often everything is looked at where changes are not told.
const POLL: Duration = Duration::from_secs(2);
/// Directories that are watched for the first time and taken for changed; with more of them all are looked at.
const ADDED_MAX: usize = 16;
/// Polling takes at most this fraction of the time.
const POLL_SHARE: u32 = 10;

/// What a keeper is told.
#[derive(Debug)]
pub enum Event {
    /// Something that is watched was touched.
    Touched,
    /// SIGHUP, or a reader's wish.
    Wish(Wish),
    /// The images of this round of preparation are done.
    Prepared(u64),
    /// Its time is over.
    Stop,
}

/// Where editions go.
pub trait Stage: Send + Sync {
    /// What to call the config in the log, with a colon and a space behind it; nothing if there is only one.
    fn prefix(&self) -> String;

    /// Whether `edition` would show anything else than what is shown; with `retry` images that could not be prepared
    /// are a difference.
    fn differs(&self, edition: &Edition, retry: bool) -> bool;

    /// Shows `edition`; `None` if it shows nothing else than what is shown. Returns what is to be prepared.
    fn publish(&self, edition: Edition, retry: bool) -> Option<Work>;

    /// Shows the files of an image that was awaited, or takes note of why there are none; `false` if nobody waits for
    /// them any more.
    fn complete(&self, image: &PendingImage, result: Result<&[Arc<Image>], String>) -> bool;

    /// Takes note of why the newest state is not shown.
    fn refuse(&self, refusal: Refusal);

    /// Takes note of how changes are noticed.
    fn watching(&self, watching: Watching);

    /// Answers a request for a new look.
    fn answer(&self, answer: Answer);
}

/// Told once, when the images that the first edition could not show at once are prepared.
pub type OnPrepared = Box<dyn FnOnce(Result<(), PreparationFailed>) + Send>;

/// Shows the editions of `planner` on `stage` until it is told to stop, which nothing does but `events`: what a mount
/// does, without one. `first` is what the edition that is shown already lacks.
pub fn follow(
    planner: Box<dyn Planner>,
    stage: Arc<dyn Stage>,
    events: (Sender<Event>, Receiver<Event>),
    first: Work,
) {
    let watches = Arc::new(Watches::new());
    let keeper = Keeper::new(planner, stage, watches, events, false);
    keeper.run(Some(first), Box::new(|_| {}));
}

/// An edition that is shown when all its images are prepared.
struct Candidate {
    edition: Edition,
    ticket: Option<u64>,
    round: u64,
    prepared: Arc<parking_lot::Mutex<Vec<Arc<Image>>>>,
    failed: Arc<parking_lot::Mutex<Option<String>>>,
}

/// A state that could not be planned.
struct Trouble {
    since: Instant,
    told: Option<Refusal>,
    retry: Instant,
}

/// Keeps what is shown up to date with a config and its sources.
pub(super) struct Keeper {
    planner: Box<dyn Planner>,
    stage: Arc<dyn Stage>,
    watches: Arc<Watches>,
    subscription: SubscriberId,
    events: Receiver<Event>,
    sender: Sender<Event>,
    wait: bool,
    state: State,
}

/// What a keeper knows from one event to the next.
#[derive(Default)]
struct State {
    settle: Settle,
    changes: Changes,
    ticket: Option<u64>,
    trouble: Option<Trouble>,
    poll: Option<Instant>,
    cost: Duration,
    round: u64,
    preparing: Vec<Arc<PendingImage>>,
    candidate: Option<Candidate>,
}

impl Keeper {
    /// Shows the editions of `planner` on `stage`; with `wait` only once all their images can be read.
    pub(super) fn new(
        planner: Box<dyn Planner>,
        stage: Arc<dyn Stage>,
        watches: Arc<Watches>,
        (sender, events): (Sender<Event>, Receiver<Event>),
        wait: bool,
    ) -> Self {
        let wake = sender.clone();
        // One that ended needs no waking.
        let subscription = watches.subscribe(Box::new(move || drop(wake.send(Event::Touched))));
        Self {
            planner,
            stage,
            watches,
            subscription,
            events,
            sender,
            wait,
            state: State::default(),
        }
    }

    /// Works until it is stopped. `first` is what the edition that is shown already lacks; without it there is none yet.
    pub(super) fn run(mut self, first: Option<Work>, on_prepared: OnPrepared) {
        match first {
            Some(work) => self.prepare(work, Some(on_prepared)),
            None => on_prepared(Ok(())),
        }
        // What happened between the first plan and the first watch is not known: all of it is looked at once more.
        self.watch();
        while let Some(event) = self.next_event() {
            match event {
                Some(Event::Stop) => break,
                Some(event) => self.take(event),
                None => {}
            }
            if self.deadline().is_some_and(|due| due <= Instant::now()) {
                self.renew();
            }
        }
        self.stop_preparing();
        self.watches.unsubscribe(self.subscription);
    }

    /// The next event, or nothing when it is time to act; ends with the senders.
    #[expect(
        clippy::option_option,
        reason = "an event, none in time, or none ever again"
    )]
    fn next_event(&self) -> Option<Option<Event>> {
        let Some(due) = self.deadline() else {
            return self.events.recv().ok().map(Some);
        };
        let wait = due.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(wait) {
            Ok(event) => Some(Some(event)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn take(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Touched => {
                let changes = self.watches.take(self.subscription);
                self.state.changes.extend(changes);
                self.state.settle.note(now);
            }
            Event::Wish(Wish::Reload(ticket)) => {
                self.state.ticket = self.state.ticket.max(Some(ticket));
                self.state.changes.all = true;
            }
            Event::Wish(Wish::Stale(path)) => {
                self.state.changes.paths.insert(path);
                self.state.settle.note(now);
            }
            Event::Prepared(round) => self.finish_candidate(round),
            Event::Stop => {}
        }
    }

    /// When to act next.
    fn deadline(&self) -> Option<Instant> {
        let state = &self.state;
        let asked = state.ticket.map(|_| Instant::now());
        let retry = state.trouble.as_ref().map(|trouble| trouble.retry);
        [asked, state.settle.due(), retry, state.poll]
            .into_iter()
            .flatten()
            .min()
    }

    /// Plans and shows what comes of it.
    fn renew(&mut self) {
        let now = Instant::now();
        self.state.settle.act(now);
        let mut changes = std::mem::take(&mut self.state.changes);
        changes.extend(self.watches.take(self.subscription));
        changes.all |= self.state.poll.is_some_and(|poll| poll <= now);
        let ticket = self.state.ticket.take();
        let planned = catch_unwind(AssertUnwindSafe(|| self.planner.plan(&changes)));
        self.state.cost = now.elapsed();
        tracing::debug!(
            "{}planned again in {:.1} ms",
            self.stage.prefix(),
            self.state.cost.as_secs_f64() * 1000.0
        );
        let planned = planned.unwrap_or_else(|_| {
            Err(Refusal {
                errors: vec!["planning panicked, which is a fault of miragefs".to_owned()],
                hint: None,
            })
        });
        match planned {
            Ok(edition) => self.show(edition, ticket),
            Err(refusal) => self.endure(refusal, ticket, now),
        }
        self.watch();
    }

    fn show(&mut self, edition: Edition, ticket: Option<u64>) {
        if let Some(Trouble { told: Some(_), .. }) = self.state.trouble.take() {
            tracing::info!(
                "{}the config and its sources can be shown again",
                self.stage.prefix()
            );
        }
        for warning in &edition.warnings {
            tracing::debug!("{}{warning}", self.stage.prefix());
        }
        if !self.stage.differs(&edition, ticket.is_some()) {
            // What was being prepared has been taken back. The view takes what changed besides the images.
            self.drop_candidate();
            drop(self.stage.publish(edition, ticket.is_some()));
            self.reply(ticket, false, None);
            return;
        }
        let Some(edition) = self.join_candidate(edition, ticket) else {
            return;
        };
        self.drop_candidate();
        if self.wait && !edition.generation.pending.is_empty() {
            self.prepare_candidate(edition, ticket);
            return;
        }
        let work = self.stage.publish(edition, ticket.is_some());
        let is_new = work.is_some();
        if let Some(work) = work {
            self.prepare(work, None);
        }
        self.reply(ticket, is_new, None);
    }

    /// Takes note of a state that cannot be planned; of one that is not gone after a while, in the log and the status.
    fn endure(&mut self, refusal: Refusal, ticket: Option<u64>, now: Instant) {
        let mut trouble = self.state.trouble.take().unwrap_or(Trouble {
            since: now,
            told: None,
            retry: now,
        });
        let lasts = now >= later(trouble.since, GRACE);
        if (lasts || ticket.is_some()) && trouble.told.as_ref() != Some(&refusal) {
            for error in &refusal.errors {
                tracing::error!("{}{error}", self.stage.prefix());
            }
            if let Some(hint) = &refusal.hint {
                tracing::error!("{}hint: {hint}", self.stage.prefix());
            }
            // What was being prepared is not what config and sources come to any more.
            self.drop_candidate();
            self.stage.refuse(refusal.clone());
            trouble.told = Some(refusal.clone());
        }
        trouble.retry = if trouble.told.is_some() {
            later(now, RETRY.max(self.state.cost.saturating_mul(POLL_SHARE)))
        } else {
            later(trouble.since, GRACE)
        };
        self.state.trouble = Some(trouble);
        self.reply(ticket, false, Some(refusal));
    }

    fn reply(&self, ticket: Option<u64>, is_new: bool, refusal: Option<Refusal>) {
        let Some(ticket) = ticket else {
            return;
        };
        let (errors, hint) =
            refusal.map_or_else(Default::default, |refusal| (refusal.errors, refusal.hint));
        self.stage.answer(Answer {
            ticket,
            is_new,
            errors,
            hint,
        });
    }

    /// Watches what the last plan looked at.
    fn watch(&mut self) {
        let outcome = self
            .watches
            .watch(self.subscription, &self.planner.watched());
        if let Some(outcome) = outcome {
            if !outcome.added.is_empty() {
                // What is as it is known need not be planned again, which is all of it in most cases.
                if outcome.added.len() > ADDED_MAX {
                    self.state.changes.all = true;
                } else {
                    self.state.changes.paths.extend(outcome.added);
                }
                self.state.settle.note(Instant::now());
            }
            let polls = outcome.watching.by != "inotify";
            self.state.poll = polls.then(Instant::now);
            self.stage.watching(outcome.watching);
        }
        if self.state.poll.is_some() {
            let pause = POLL.max(self.state.cost.saturating_mul(POLL_SHARE));
            self.state.poll = Some(later(Instant::now(), pause));
        }
    }

    /// Prepares what the shown edition lacks; it appears piece by piece.
    fn prepare(&mut self, work: Work, on_prepared: Option<OnPrepared>) {
        for image in &work.obsolete {
            image.progress().stop();
        }
        self.state.preparing.retain(|image| {
            let mut obsolete = work.obsolete.iter();
            !obsolete.any(|other| Arc::ptr_eq(other, image))
        });
        self.state.preparing.extend(work.new.iter().cloned());
        let tell = move |result| {
            if let Some(on_prepared) = on_prepared {
                on_prepared(result);
            }
        };
        if work.new.is_empty() {
            return tell(Ok(()));
        }
        let stage = Arc::clone(&self.stage);
        let show = move |image: &PendingImage, prepared: &Prepared| match prepared {
            Ok(files) => stage.complete(image, Ok(files)),
            Err(error) => stage.complete(image, Err(pending::reason(error))),
        };
        in_background(work.new, show, tell);
    }

    /// Prepares all that an edition lacks before it is shown.
    fn prepare_candidate(&mut self, edition: Edition, ticket: Option<u64>) {
        self.state.round = self.state.round.saturating_add(1);
        let round = self.state.round;
        let images = edition.generation.pending.clone();
        let candidate = Candidate {
            edition,
            ticket,
            round,
            prepared: Arc::default(),
            failed: Arc::default(),
        };
        let prepared = Arc::clone(&candidate.prepared);
        let failed = Arc::clone(&candidate.failed);
        self.state.candidate = Some(candidate);
        let show = move |_: &PendingImage, result: &Prepared| {
            match result {
                Ok(files) => prepared.lock().extend(files.iter().cloned()),
                Err(error) => {
                    failed.lock().get_or_insert(pending::reason(error));
                }
            }
            true
        };
        let sender = self.sender.clone();
        in_background(images, show, move |_| {
            drop(sender.send(Event::Prepared(round)));
        });
    }

    fn finish_candidate(&mut self, round: u64) {
        let is_it = |candidate: &mut Candidate| candidate.round == round;
        let Some(candidate) = self.state.candidate.take_if(is_it) else {
            return;
        };
        let mut edition = candidate.edition;
        let failed = candidate.failed.lock().take();
        if let Some(reason) = failed {
            let refusal = Refusal {
                errors: vec![format!("the images cannot be prepared: {reason}")],
                hint: None,
            };
            return self.endure(refusal, candidate.ticket, Instant::now());
        }
        let images = std::mem::take(&mut *candidate.prepared.lock());
        edition.generation.images.extend(images);
        edition.generation.pending.clear();
        let is_new = self.stage.publish(edition, true).is_some();
        self.reply(candidate.ticket, is_new, None);
    }

    /// Goes on preparing a candidate that has the same images as `edition`, which is given back otherwise.
    fn join_candidate(&mut self, edition: Edition, ticket: Option<u64>) -> Option<Edition> {
        let same =
            |candidate: &&mut Candidate| candidate.edition.identities().eq(edition.identities());
        let Some(candidate) = self.state.candidate.as_mut().filter(same) else {
            return Some(edition);
        };
        candidate.ticket = candidate.ticket.max(ticket);
        candidate.edition.is_edited |= edition.is_edited;
        candidate.edition.papers = edition.papers;
        candidate.edition.warnings = edition.warnings;
        None
    }

    fn drop_candidate(&mut self) {
        if let Some(candidate) = self.state.candidate.take() {
            for image in &candidate.edition.generation.pending {
                image.progress().stop();
            }
            // Whoever waited for it is answered with what comes next.
            self.state.ticket = self.state.ticket.max(candidate.ticket);
        }
    }

    fn stop_preparing(&mut self) {
        self.drop_candidate();
        for image in &self.state.preparing {
            image.progress().stop();
        }
    }
}

fn later(from: Instant, time: Duration) -> Instant {
    from.checked_add(time).unwrap_or(from)
}

/// Prepares images on a thread of their own. It is not waited for: it may be in the middle of a file that a dead host
/// serves.
fn in_background(
    images: Vec<Arc<PendingImage>>,
    show: impl Fn(&PendingImage, &Prepared) -> bool + Send + Sync + 'static,
    tell: impl FnOnce(Result<(), PreparationFailed>) + Send + 'static,
) {
    let show = Arc::new(show);
    let tell = Arc::new(parking_lot::Mutex::new(Some(tell)));
    let work = {
        let (images, show, tell) = (images.clone(), Arc::clone(&show), Arc::clone(&tell));
        move || {
            let result = pending::prepare_all(&images, &*show);
            if let Some(tell) = tell.lock().take() {
                tell(result);
            }
        }
    };
    let spawned = thread::Builder::new()
        .name("prepare".to_owned())
        .spawn(work);
    if let Err(error) = spawned {
        let result = pending::give_up_all(&images, &error, &*show);
        if let Some(tell) = tell.lock().take() {
            tell(result);
        }
    }
}

#[cfg(test)]
mod tests;
