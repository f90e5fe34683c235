//! When to act on changes: once they have come to rest, not too often, and not only after they end.

use std::time::{Duration, Instant};

/// How long nothing may happen before a change is acted on.
pub(super) const QUIET: Duration = Duration::from_millis(100);
/// How long changes that never rest are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between one look at the sources and the next: at most a few per second.
const SPACING: Duration = Duration::from_millis(250);

/// Changes on their way to rest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settle {
    first: Option<Instant>,
    last: Option<Instant>,
    acted: Option<Instant>,
}

impl Settle {
    /// Something changed.
    pub(super) fn note(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// When to act; `None` while nothing changed.
    pub(super) fn due(&self) -> Option<Instant> {
        let rest = self.last?.checked_add(QUIET)?;
        let limit = self.first?.checked_add(PATIENCE)?;
        let due = rest.min(limit);
        let spaced = self.acted.and_then(|acted| acted.checked_add(SPACING));
        Some(spaced.map_or(due, |spaced| due.max(spaced)))
    }

    /// All that changed so far is acted on now.
    pub(super) fn act(&mut self, now: Instant) {
        *self = Self {
            acted: Some(now),
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, millis: u64) -> Instant {
        start.checked_add(Duration::from_millis(millis)).unwrap()
    }

    #[test]
    fn nothing_is_due_before_something_changed() {
        assert_eq!(Settle::default().due(), None);
    }

    #[test]
    fn a_change_is_due_when_it_has_come_to_rest() {
        let start = Instant::now();
        let mut settle = Settle::default();
        settle.note(start);
        assert_eq!(settle.due(), Some(after(start, 100)));
        settle.note(after(start, 60));
        assert_eq!(settle.due(), Some(after(start, 160)));
    }

    #[test]
    fn changes_without_rest_are_due_after_five_seconds() {
        let start = Instant::now();
        let mut settle = Settle::default();
        for millis in (0..=4950).step_by(50) {
            settle.note(after(start, millis));
        }
        assert_eq!(settle.due(), Some(after(start, 5000)));
    }

    #[test]
    fn acts_are_spaced() {
        let start = Instant::now();
        let mut settle = Settle::default();
        settle.note(start);
        settle.act(after(start, 100));
        assert_eq!(settle.due(), None);
        settle.note(after(start, 110));
        assert_eq!(settle.due(), Some(after(start, 350)));
        settle.note(after(start, 300));
        assert_eq!(settle.due(), Some(after(start, 400)));
    }
}
