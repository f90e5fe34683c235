//! Directories are merged one after the other, but listed ahead of that by other threads.
//!
//! Invariant: what is merged, and in which order, does not depend on how many threads there are.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;

use super::super::filter::Fate;
use super::listing::{Lister, Listing};

/// How many of the next directories are looked at for one that nobody lists yet.
const AHEAD_MAX: usize = 16;
/// How many names that nobody has merged yet are too many to list more.
const UNMERGED_MAX: usize = 100_000;
/// Directories that are listed before threads are worth their start.
const ALONE: usize = 32;
/// Threads besides the one that merges.
const THREADS_MAX: usize = 3;

/// What a directory holds, or why that is not known.
type Listed = Result<Arc<Listing>, Errno>;

/// Directories that are still to be listed; the next one is the last.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    jobs: Vec<Job>,
    unmerged: usize,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    relative: Arc<Path>,
    fate: Fate,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Waiting,
    Running,
    Done(Listed),
}

/// Ends the threads when the merging is over, also by an error.
pub(super) struct Close<'a>(&'a Ahead);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Ahead {
    pub(super) fn push(&self, relative: Arc<Path>, fate: Fate) {
        self.state.lock().jobs.push(Job {
            relative,
            fate,
            step: Step::Waiting,
        });
        self.changed.notify_one();
    }

    /// The next directory and what it holds.
    pub(super) fn next(&self, lister: &Lister<'_>) -> Option<(Arc<Path>, Listed)> {
        let mut state = self.state.lock();
        while matches!(state.jobs.last()?.step, Step::Running) {
            self.changed.wait(&mut state);
        }
        let Job {
            relative,
            fate,
            step,
        } = state.jobs.pop()?;
        let listing = match step {
            Step::Done(listing) => {
                let merged = listing.as_ref().map_or(0, |listing| listing.found.len());
                state.unmerged = state.unmerged.saturating_sub(merged);
                listing
            }
            Step::Waiting | Step::Running => {
                drop(state);
                lister.list(&relative, fate)
            }
        };
        Some((relative, listing))
    }

    /// How many threads may help once `listed` directories were listed.
    pub(super) fn threads_after(listed: usize) -> usize {
        if listed != ALONE {
            return 0;
        }
        std::thread::available_parallelism()
            .map_or(1, std::num::NonZero::get)
            .saturating_sub(1)
            .min(THREADS_MAX)
    }

    pub(super) const fn close_at_end(&self) -> Close<'_> {
        Close(self)
    }

    /// Lists what is next until there is nothing more to merge.
    pub(super) fn help(&self, lister: &Lister<'_>) {
        let mut state = self.state.lock();
        while !state.closed {
            let next = Some(&mut state)
                .filter(|state| state.unmerged < UNMERGED_MAX)
                .and_then(|state| {
                    let jobs = state.jobs.iter_mut().enumerate().rev().take(AHEAD_MAX);
                    let mut waiting = jobs.filter(|(_, job)| matches!(job.step, Step::Waiting));
                    waiting.next()
                });
            let Some((index, job)) = next else {
                self.changed.wait(&mut state);
                continue;
            };
            job.step = Step::Running;
            let (relative, fate) = (Arc::clone(&job.relative), job.fate);
            drop(state);
            let listing = lister.list(&relative, fate);
            state = self.state.lock();
            let unmerged = listing.as_ref().map_or(0, |listing| listing.found.len());
            state.unmerged = state.unmerged.saturating_add(unmerged);
            // A job that runs is neither taken nor moved: only the last one is taken, and only when it is done.
            if let Some(job) = state.jobs.get_mut(index) {
                job.step = Step::Done(listing);
            }
            self.changed.notify_all();
        }
    }
}
