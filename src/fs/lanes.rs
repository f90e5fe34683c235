//! Who does the reads: workers, as many as there are lanes and one fewer than workers, so that one is always there for what
//! waits for no source.
//!
//! A read that finds all lanes taken is left to whoever is done first. One that is left for long, since all lanes are stuck in
//! a source that hangs, gets a thread of its own.
//!
//! Invariant: [`Lanes::run`] returns without having waited for other jobs; each job is done once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A read of a source that is there takes microseconds, one from a disk a few milliseconds. One that takes longer may take
/// for ever.
const PATIENCE: Duration = Duration::from_millis(2);

/// How many times the minder finds nothing before it sleeps.
const ROUNDS: u32 = 250;

/// Does a job; never unwinds.
type Do<J> = Box<dyn Fn(J) + Send + Sync>;
/// Does a job on a thread of its own.
type DoApart<J> = Box<dyn Fn(J) + Send + Sync>;

/// The lanes of a mount.
pub(super) struct Lanes<J: Send + 'static>(Arc<Shared<J>>);

struct Shared<J> {
    count: usize,
    state: Mutex<State<J>>,
    /// Told when there is something to mind again.
    minding: Condvar,
    run: Do<J>,
    run_apart: DoApart<J>,
}

struct State<J> {
    /// Lanes that are taken.
    taken: usize,
    left: VecDeque<(Instant, J)>,
    minder: Minder,
}

/// What becomes of jobs that are left for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Minder {
    /// There was none so far.
    None,
    Awake,
    Asleep,
    /// Nobody will leave jobs any more.
    Dismissed,
}

impl<J: Send + 'static> Lanes<J> {
    /// `count` lanes. Jobs are done by `run`, or by `run_apart`, which returns at once.
    pub(super) fn new(
        count: usize,
        run: impl Fn(J) + Send + Sync + 'static,
        run_apart: impl Fn(J) + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            count,
            state: Mutex::new(State {
                taken: 0,
                left: VecDeque::new(),
                minder: Minder::None,
            }),
            minding: Condvar::new(),
            run: Box::new(run),
            run_apart: Box::new(run_apart),
        }))
    }

    /// Does `job`, and then what others leave meanwhile; or leaves it to others, if all lanes are taken.
    pub(super) fn run(&self, job: J) {
        let shared = &*self.0;
        let mut state = shared.state.lock();
        if state.taken >= shared.count {
            state.left.push_back((Instant::now(), job));
            self.mind(&mut state);
            return;
        }
        state.taken = state.taken.saturating_add(1);
        drop(state);
        (shared.run)(job);
        while let Some(job) = shared.next() {
            (shared.run)(job);
        }
    }

    /// Has the minder look after what is left.
    fn mind(&self, state: &mut State<J>) {
        match state.minder {
            Minder::Awake | Minder::Dismissed => {}
            Minder::Asleep => {
                state.minder = Minder::Awake;
                self.0.minding.notify_one();
            }
            Minder::None => {
                let shared = Arc::clone(&self.0);
                let started = thread::Builder::new()
                    .name("minder".to_owned())
                    .spawn(move || shared.mind());
                match started {
                    Ok(_) => state.minder = Minder::Awake,
                    Err(error) => tracing::error!("no thread minds slow reads: {error}"),
                }
            }
        }
    }
}

impl<J: Send + 'static> Drop for Lanes<J> {
    fn drop(&mut self) {
        self.0.state.lock().minder = Minder::Dismissed;
        self.0.minding.notify_all();
    }
}

impl<J> Shared<J> {
    /// A job that was left; without one the lane is given back.
    fn next(&self) -> Option<J> {
        let mut state = self.state.lock();
        let next = state.left.pop_front();
        if next.is_none() {
            state.taken = state.taken.saturating_sub(1);
        }
        next.map(|(_, job)| job)
    }

    /// Gives jobs that are left for long threads of their own.
    fn mind(&self) {
        let mut quiet = 0_u32;
        loop {
            thread::sleep(PATIENCE);
            let mut state = self.state.lock();
            if state.minder == Minder::Dismissed {
                break;
            }
            let now = Instant::now();
            let is_old = |since: &Instant| now.duration_since(*since) >= PATIENCE;
            let old = state.left.iter().take_while(|(since, _)| is_old(since));
            let count = old.count();
            let stuck: Vec<_> = state.left.drain(..count).collect();
            quiet = if state.left.is_empty() && stuck.is_empty() {
                quiet.saturating_add(1)
            } else {
                0
            };
            if quiet >= ROUNDS {
                quiet = 0;
                state.minder = Minder::Asleep;
                while state.minder == Minder::Asleep {
                    self.minding.wait(&mut state);
                }
            }
            drop(state);
            for (_, job) in stuck {
                (self.run_apart)(job);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn jobs_beyond_the_lanes_are_left_to_who_is_done_first() {
        let (done, all_done) = mpsc::channel();
        let (entered, has_entered) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (entered, released) = (Mutex::new(entered), Mutex::new(released));
        let finish = done.clone();
        let run = move |job: u32| {
            if job == 0 {
                entered.lock().send(()).unwrap();
                released.lock().recv().unwrap();
            }
            finish.send((job, thread::current().id())).unwrap();
        };
        let apart = move |job: u32| done.send((job + 100, thread::current().id())).unwrap();
        let lanes = Lanes::new(1, run, apart);
        thread::scope(|scope| {
            let first = scope.spawn(|| lanes.run(0));
            has_entered.recv_timeout(SOON).unwrap();
            // The only lane is taken: this returns at once, and the job is not forgotten.
            lanes.run(1);
            let (job, _) = all_done.recv_timeout(SOON).unwrap();
            assert_eq!(job, 101, "the minder took it");
            release.send(()).unwrap();
            let id = first.thread().id();
            assert_eq!(all_done.recv_timeout(SOON).unwrap(), (0, id));
        });
        lanes.run(2);
        let own = thread::current().id();
        assert_eq!(all_done.recv_timeout(SOON).unwrap(), (2, own));
    }

    #[test]
    fn each_job_is_done_once_whatever_the_number_of_workers() {
        let done = Arc::new(Mutex::new(vec![0_u32; 20_000]));
        let (here, apart) = (Arc::clone(&done), Arc::clone(&done));
        let lanes = Lanes::new(
            2,
            move |job: usize| here.lock()[job] += 1,
            move |job: usize| apart.lock()[job] += 1,
        );
        thread::scope(|scope| {
            for worker in 0..5 {
                let lanes = &lanes;
                scope.spawn(move || (worker..20_000).step_by(5).for_each(|job| lanes.run(job)));
            }
        });
        // What is left belongs to nobody only if a lane was given back too early.
        assert_eq!(lanes.0.state.lock().taken, 0);
        assert!(done.lock().iter().all(|count| *count == 1));
    }
}
