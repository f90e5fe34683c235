//! What is held of source files, for all generations together: descriptors of those read last, and, where the config
//! wants it, the contents of small ones.
//!
//! Invariant: what is held belongs to one file of one table, and goes with the table.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use lru::LruCache;
use parking_lot::Mutex;

use super::source_fd::SourceFd;
use crate::units::to_u64;

/// How many source files stay open at most, whatever the number of generations and machines; far below the usual limit
/// of 1024 descriptors.
const OPEN_FILES_MAX: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not zero");

/// Contents that are held at most, in bytes.
const KEPT_BYTES_MAX: u64 = 8 << 20;

/// A file of a table.
type Key = (u64, u32);

/// Those of this process: descriptors are limited by process.
static OPEN: LazyLock<Mutex<LruCache<Key, Arc<SourceFd>>>> =
    LazyLock::new(|| Mutex::new(LruCache::new(OPEN_FILES_MAX)));

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(|| {
    Mutex::new(Kept {
        contents: LruCache::unbounded(),
        bytes: 0,
    })
});

static NEXT_TABLE: AtomicU64 = AtomicU64::new(0);

struct Kept {
    contents: LruCache<Key, Arc<[u8]>>,
    bytes: u64,
}

/// What is held of the files of one table; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    table: u64,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            table: NEXT_TABLE.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Held {
    pub(super) fn open(&self, index: u32) -> Option<Arc<SourceFd>> {
        OPEN.lock().get(&(self.table, index)).cloned()
    }

    pub(super) fn keep_open(&self, index: u32, fd: &Arc<SourceFd>) {
        let evicted = OPEN.lock().push((self.table, index), Arc::clone(fd));
        // Dropping an evicted descriptor closes a file; that happens after the lock is released.
        drop(evicted);
    }

    /// Closes what is held open of all tables, so that others may open files.
    pub(super) fn give_way() {
        let mut open = OPEN.lock();
        let held = std::mem::replace(&mut *open, LruCache::new(OPEN_FILES_MAX));
        // Closing happens after the lock is released.
        drop(open);
        drop(held);
    }

    pub(super) fn close(&self, index: u32) {
        let removed = OPEN.lock().pop(&(self.table, index));
        drop(removed);
    }

    pub(super) fn contents(&self, index: u32) -> Option<Arc<[u8]>> {
        KEPT.lock().contents.get(&(self.table, index)).cloned()
    }

    pub(super) fn keep_contents(&self, index: u32, contents: Arc<[u8]>) {
        let mut kept = KEPT.lock();
        kept.bytes = kept.bytes.saturating_add(to_u64(contents.len()));
        if let Some(replaced) = kept.contents.put((self.table, index), contents) {
            kept.bytes = kept.bytes.saturating_sub(to_u64(replaced.len()));
        }
        while kept.bytes > KEPT_BYTES_MAX {
            let Some((_, evicted)) = kept.contents.pop_lru() else {
                break;
            };
            kept.bytes = kept.bytes.saturating_sub(to_u64(evicted.len()));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = OPEN.lock();
        let keys: Vec<Key> = open
            .iter()
            .map(|(key, _)| *key)
            .filter(|(table, _)| *table == self.table)
            .collect();
        let removed: Vec<_> = keys.iter().filter_map(|key| open.pop(key)).collect();
        drop(open);
        drop(removed);
        let mut kept = KEPT.lock();
        if kept.bytes == 0 {
            return;
        }
        let keys: Vec<Key> = kept
            .contents
            .iter()
            .map(|(key, _)| *key)
            .filter(|(table, _)| *table == self.table)
            .collect();
        for key in keys {
            if let Some(removed) = kept.contents.pop(&key) {
                kept.bytes = kept.bytes.saturating_sub(to_u64(removed.len()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_bounded_and_go_with_their_table() {
        let (first, second) = (Held::default(), Held::default());
        let block: Arc<[u8]> = vec![1; 1 << 20].into();
        for index in 0..12 {
            first.keep_contents(index, Arc::clone(&block));
        }
        assert!(first.contents(0).is_none());
        assert!(first.contents(11).is_some());
        assert!(second.contents(11).is_none());
        let table = first.table;
        drop(first);
        let again = Held { table };
        assert!(again.contents(11).is_none());
    }

    #[test]
    fn descriptors_go_with_their_table() {
        let held = Held::default();
        let file = tempfile::tempfile().unwrap();
        let fd = Arc::new(SourceFd::new(file.into(), None));
        held.keep_open(3, &fd);
        assert!(Arc::ptr_eq(&held.open(3).unwrap(), &fd));
        assert!(held.open(4).is_none());
        assert_eq!(Arc::strong_count(&fd), 2);
        drop(held);
        assert_eq!(Arc::strong_count(&fd), 1);
    }
}
