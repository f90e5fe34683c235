//! How far a scan or an index is, on a terminal, once it takes long enough to be wondered about.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::synth::grain_index::IndexProgress;
use crate::synth::tree::ScanProgress;

/// What is done sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);
const INTERVAL: Duration = Duration::from_millis(100);

/// Runs `work`, a scan; if it takes long and stderr is a terminal, another thread draws how far it is.
pub(super) fn shown<T>(progress: &ScanProgress, work: impl FnOnce() -> T) -> T {
    drawn(|elapsed| text(progress, elapsed), work)
}

/// The same for an image that is prepared.
pub(super) fn prepared<T>(progress: &IndexProgress, work: impl FnOnce() -> T) -> T {
    drawn(|_| progress.state().to_string(), work)
}

/// Runs `work`; if it takes long and stderr is a terminal, another thread draws `line` meanwhile.
fn drawn<T>(line: impl Fn(Duration) -> String + Sync, work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        let started = Instant::now();
        let line = &line;
        scope.spawn(move || {
            let waits = |time| is_done.recv_timeout(time) == Err(RecvTimeoutError::Timeout);
            if !waits(PATIENCE) {
                return;
            }
            let spinner = spinner();
            loop {
                spinner.set_message(line(started.elapsed()));
                spinner.tick();
                if !waits(INTERVAL) {
                    break;
                }
            }
            spinner.finish_and_clear();
        });
        let result = work();
        // The thread ends when this end is gone, and the scope waits for it: what follows finds an empty line.
        drop(done);
        result
    })
}

fn spinner() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is well-formed");
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    spinner.set_style(style);
    spinner
}

/// `scanning: 120000 files, 60000 per second, /usr/share/doc`.
fn text(progress: &ScanProgress, elapsed: Duration) -> String {
    let files = progress.files();
    let milliseconds = elapsed.as_millis().max(1);
    let per_second = u128::from(files)
        .saturating_mul(1000)
        .checked_div(milliseconds)
        .unwrap_or(0);
    let directory = progress.directory();
    // Names may hold what a terminal would take for commands.
    let directory: String = directory
        .to_string_lossy()
        .chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect();
    format!("scanning: {files} files, {per_second} per second, {directory}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_the_time_so_far() {
        let progress = ScanProgress::new();
        let line = text(&progress, Duration::ZERO);
        assert_eq!(line, "scanning: 0 files, 0 per second, ");
        assert_eq!(shown(&progress, || 7), 7);
    }
}
