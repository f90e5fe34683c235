//! How many reads are worked on by the workers themselves: all but one of them, so that one is always there for what waits
//! for no source.
//!
//! Invariant: whoever asks for a slot waits at most [`PATIENCE`]; a slot is given back when its holder is dropped.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A read of a source that is there takes microseconds, one from a disk a few milliseconds. One that takes longer may take
/// for ever.
const PATIENCE: Duration = Duration::from_millis(2);

/// The slots of a mount.
#[derive(Debug)]
pub(super) struct Slots {
    count: usize,
    /// When those that are taken were.
    taken: Mutex<Vec<Instant>>,
    given_back: Condvar,
}

/// A slot that is taken.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    since: Instant,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self {
            count,
            taken: Mutex::new(Vec::with_capacity(count)),
            given_back: Condvar::new(),
        }
    }

    /// A slot, unless none will soon be free.
    pub(super) fn take(&self) -> Option<Slot<'_>> {
        let mut taken = self.taken.lock();
        let now = Instant::now();
        // Readers that are stuck already are not worth waiting for.
        let deadline = taken.iter().max().map_or(now, |last| *last + PATIENCE);
        while taken.len() >= self.count {
            if self.given_back.wait_until(&mut taken, deadline).timed_out() {
                break;
            }
        }
        if taken.len() >= self.count {
            return None;
        }
        let since = Instant::now();
        taken.push(since);
        drop(taken);
        Some(Slot { slots: self, since })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock();
        if let Some(index) = taken.iter().position(|since| *since == self.since) {
            taken.swap_remove(index);
        }
        drop(taken);
        self.slots.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_few_and_come_back() {
        let slots = Slots::new(2);
        let first = slots.take().unwrap();
        let second = slots.take().unwrap();
        let start = Instant::now();
        assert!(slots.take().is_none());
        // Those are stuck by now.
        std::thread::sleep(PATIENCE);
        assert!(slots.take().is_none());
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(first);
        drop(slots.take().unwrap());
        drop(second);
        let both = (slots.take().unwrap(), slots.take().unwrap());
        assert!(slots.take().is_none());
        drop(both);
    }

    #[test]
    fn who_waits_gets_what_is_given_back() {
        let slots = Slots::new(1);
        let mut got = 0_u32;
        for _ in 0..200 {
            let held = slots.take().unwrap();
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| slots.take().is_some());
                drop(held);
                got += u32::from(waiting.join().unwrap());
            });
        }
        // The machine may be busy for longer than anybody waits.
        assert!(got > 100, "{got} of 200");
    }
}
