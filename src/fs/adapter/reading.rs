//! Producing the bytes of a read and sending them.

use std::cell::RefCell;
use std::sync::Arc;

use fuser::ReplyData;

use super::work::{guarded, later};
use crate::fs::errno;
use crate::fs::lanes::Lanes;
use crate::fs::view::{self, View};
use crate::synth::generation::Image;

thread_local! {
    /// Reads are rendered here and sent from here; a buffer per request would cost half as much again.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that somebody asked for.
pub(super) struct Read {
    pub(super) handle: u64,
    pub(super) image: Arc<Image>,
    pub(super) offset: u64,
    /// All of them inside the image.
    pub(super) len: usize,
    pub(super) reply: ReplyData,
}

/// Lanes for `readers` reads at once.
pub(super) fn lanes(view: &Arc<View>, readers: usize) -> Lanes<Read> {
    let (here, apart) = (Arc::clone(view), Arc::clone(view));
    Lanes::new(
        readers,
        move |read: Read| guarded(&here, "read", || read.send(&here)),
        move |read: Read| read.send_later(&apart),
    )
}

impl Read {
    /// Produces the bytes and sends them.
    fn send(self, view: &View) {
        READ_BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < self.len {
                buffer.resize(self.len, 0);
            }
            let (bytes, _) = buffer.split_at_mut(self.len);
            match view::read(&self.image, self.offset, bytes) {
                Ok(count) => {
                    view.note_read(count);
                    self.reply.data(bytes.get(..count).unwrap_or_default());
                }
                Err(error) => {
                    view.note_failure(self.handle, &error);
                    let errno = errno::of_read_error(&error, &self.image.name);
                    self.reply.error(errno);
                }
            }
        });
    }

    /// The same on a thread of its own, so that the worker can go on.
    pub(super) fn send_later(self, view: &Arc<View>) {
        let for_later = Arc::clone(view);
        later(view, "read", move || self.send(&for_later));
    }
}
