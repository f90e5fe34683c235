//! Running handlers: on the worker that got the request, or on a thread of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::fs::view::View;

/// Threads for requests that take long. A source that hangs takes one for each request that waits for it: the kernel reads
/// ahead up to 64 times at once, each program waits for one.
const LATER_MAX: usize = 1024;

/// Runs a handler; a panic costs its request, not the worker.
pub(super) fn guarded(view: &View, operation: &str, handler: impl FnOnce()) {
    // Unwinding drops the handler's reply, which sends EIO. What the handler shares is behind locks that do not
    // poison, and is only ever replaced whole.
    if catch_unwind(AssertUnwindSafe(handler)).is_err() {
        view.note_panic();
        tracing::error!("{operation}: the handler panicked; the reader got EIO");
    }
}

/// Handlers that have a thread of their own.
static LATER: AtomicUsize = AtomicUsize::new(0);

/// Gives back what [`LATER`] counted.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        LATER.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs the rest of a handler on a thread of its own.
pub(super) fn later(
    view: &Arc<View>,
    operation: &'static str,
    rest: impl FnOnce() + Send + 'static,
) {
    let view = Arc::clone(view);
    let before = LATER.fetch_add(1, Ordering::Relaxed);
    let counted = Counted;
    if before >= LATER_MAX {
        tracing::error!("a slow {operation} is one too many beside {before} others");
        return;
    }
    let rest = move || {
        rest();
        drop(counted);
    };
    // Without a thread the closure is dropped, and the reply in it answers EIO.
    if let Err(error) = thread::Builder::new()
        .name(format!("slow-{operation}"))
        .spawn(move || guarded(&view, operation, rest))
    {
        tracing::error!("a thread for a slow {operation} cannot be started: {error}");
    }
}
