//! Images that are prepared while the mount is being served, and how far they are.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::view::View;
use crate::synth::grain_index::IndexState;
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

/// Prepares one image after the other, each on all cores, and shows those that are done in `view`. One that fails is
/// reported and left out; the first such failure is the result.
pub(super) fn prepare_all(
    view: &View,
    pending: &[Arc<PendingImage>],
) -> Result<(), PreparationFailed> {
    let mut result = Ok(());
    for image in pending {
        match with_reports(image) {
            Ok(images) => {
                view.publish(image, Ok(&images));
                tracing::info!(
                    "{}: ready, {}",
                    image.name(),
                    summary(&image.progress().state())
                );
            }
            Err(source) => result = result.and(Err(give_up(view, image, source))),
        }
    }
    result
}

/// The same where no thread can be had for the work: none of the images will be there.
pub(super) fn give_up_all(
    view: &View,
    pending: &[Arc<PendingImage>],
    error: &io::Error,
) -> Result<(), PreparationFailed> {
    let mut result = Ok(());
    for image in pending {
        let source = PrepareError::Image(format!("no thread can be started: {error}"));
        result = result.and(Err(give_up(view, image, source)));
    }
    result
}

/// Takes note, in the log and in the status, of an image that will not be there.
fn give_up(view: &View, image: &PendingImage, source: PrepareError) -> PreparationFailed {
    let mut reason = source.to_string();
    // The host's own words are the last cause.
    let mut cause = std::error::Error::source(&source);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    let name = image.name().to_owned();
    tracing::error!("{name}: cannot be prepared: {reason}");
    view.publish(image, Err(reason));
    PreparationFailed { name, source }
}

type Prepared = Result<Vec<Arc<crate::synth::generation::Image>>, PrepareError>;

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
