//! How fresh a file's timestamps are: within a tick of the clock a write can go unseen.

use std::time::{Duration, SystemTime};

use super::Identity;

/// Timestamps of file systems have ticks of up to this length (HZ = 100 and some slack).
const TIMESTAMP_TICK: Duration = Duration::from_millis(20);

/// A write within the tick of the last one leaves equal timestamps, so a file this fresh could change unseen. Most files
/// were not when the scan began, at `scanned`, and then the clock needs no look.
pub(super) fn is_young(identity: &Identity, scanned: SystemTime) -> bool {
    let since_1970 = scanned.duration_since(SystemTime::UNIX_EPOCH);
    let was_settled = settled(identity)
        .zip(since_1970.ok())
        .is_some_and(|(settled, scanned)| settled <= scanned);
    !was_settled && remaining_tick(identity, SystemTime::now()).is_some()
}

/// Waits until a write would show in the timestamps.
pub(super) fn wait_out_tick(identity: &Identity) {
    if let Some(remaining) = remaining_tick(identity, SystemTime::now()) {
        std::thread::sleep(remaining);
    }
}

/// When a write would show in the timestamps, as a time since 1970.
fn settled(identity: &Identity) -> Option<Duration> {
    let newest = identity.mtime.max(identity.ctime);
    let stamp = Duration::new(u64::try_from(newest.seconds()).ok()?, newest.nanoseconds());
    stamp.checked_add(TIMESTAMP_TICK)
}

/// How long after `now` a write could still go unseen.
fn remaining_tick(identity: &Identity, now: SystemTime) -> Option<Duration> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    // A stamp far in the future tells nothing about ticks: it was set by hand.
    settled(identity)?
        .checked_sub(now)
        .filter(|remaining| *remaining <= TIMESTAMP_TICK && !remaining.is_zero())
}
