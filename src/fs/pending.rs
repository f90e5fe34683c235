//! Images that are prepared while the mount is being served, and how far they are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::synth::generation::Image;
use crate::synth::grain_index::{IndexError, IndexState};
use crate::synth::pending::{PendingImage, PrepareError};
use crate::units::ByteCount;

/// When the first line of progress is written, and then every so often.
const FIRST_REPORT: Duration = Duration::from_secs(2);
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// An image that could not be prepared.
#[derive(Debug, thiserror::Error)]
#[error("image `{name}`: cannot be prepared")]
pub struct PreparationFailed {
    /// The image.
    pub name: String,
    /// Why.
    #[source]
    pub source: PrepareError,
}

/// The files of an image, or why there are none.
pub(super) type Prepared = Result<Vec<Arc<Image>>, PrepareError>;

/// Prepares one image after the other, each on all cores. Each is handed to `show`, which tells whether anybody still
/// wants it, and reported; the first failure is the result.
pub(super) fn prepare_all(
    pending: &[Arc<PendingImage>],
    show: impl Fn(&PendingImage, &Prepared) -> bool,
) -> Result<(), PreparationFailed> {
    let mut result = Ok(());
    for image in pending {
        let prepared = with_reports(image);
        let is_wanted = show(image, &prepared);
        match prepared {
            Ok(_) if is_wanted => {
                let state = image.progress().state();
                tracing::info!("{}: ready, {}", image.name(), summary(&state));
            }
            Ok(_) => {}
            Err(source) => result = result.and(Err(report(image, source, is_wanted))),
        }
    }
    result
}

/// The same where no thread can be had for the work: none of the images will be there.
pub(super) fn give_up_all(
    pending: &[Arc<PendingImage>],
    error: &std::io::Error,
    show: impl Fn(&PendingImage, &Prepared) -> bool,
) -> Result<(), PreparationFailed> {
    let mut result = Ok(());
    for image in pending {
        let source = PrepareError::Image(format!("no thread can be started: {error}"));
        let is_wanted = show(image, &Err(source.clone()));
        result = result.and(Err(report(image, source, is_wanted)));
    }
    result
}

/// Takes note in the log of an image that will not be there.
fn report(image: &PendingImage, source: PrepareError, is_wanted: bool) -> PreparationFailed {
    let name = image.name().to_owned();
    // Who is stopped knows why.
    if is_wanted && !matches!(source, PrepareError::Index(IndexError::Stopped)) {
        tracing::error!("{name}: cannot be prepared: {}", reason(&source));
    }
    PreparationFailed { name, source }
}

/// An error and its causes; the host's own words are the last one.
pub(super) fn reason(error: &PrepareError) -> String {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    reason
}

/// Prepares an image while another thread writes to the log how far it is.
fn with_reports(image: &PendingImage) -> Prepared {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let report = move || {
            let mut wait = FIRST_REPORT;
            while is_done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                tracing::info!("{}: {}", image.name(), image.progress().state());
                wait = REPORT_INTERVAL;
            }
        };
        // Without a thread nothing is reported.
        drop(thread::Builder::new().spawn_scoped(scope, report));
        let prepared = catch_unwind(AssertUnwindSafe(|| image.prepare()));
        // The reporter ends when this end is gone.
        drop(done);
        prepared.unwrap_or_else(|_| {
            let reason = "a thread that prepares it panicked".to_owned();
            Err(PrepareError::Image(reason))
        })
    })
}
/// `1234 grains, 1200 of them known before, in 3.0 seconds`.
fn summary(state: &IndexState) -> String {
    let seconds = state.elapsed.as_secs_f64();
    if state.grains == 0 {
        return format!("{} hashed in {seconds:.1} seconds", ByteCount(state.hashed));
    }
    format!(
        "{} grains, {} of them known before, in {seconds:.1} seconds",
        state.grains, state.known
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_say_what_was_saved() {
        let state = IndexState {
            grains: 160,
            known: 32,
            compressed: 128,
            hash_len: 0,
            hashed: 0,
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(
            summary(&state),
            "160 grains, 32 of them known before, in 2.0 seconds"
        );
        let hashed = IndexState {
            grains: 0,
            hashed: 1000,
            ..state
        };
        assert_eq!(summary(&hashed), "1000 bytes hashed in 2.0 seconds");
    }
}
