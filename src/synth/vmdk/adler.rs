//! Adler-32 of grains: computed from bytes that pass by, so that the checksum behind a grain rarely needs a second read.
//!
//! Invariant: what is kept is bounded by a count of entries; losing an entry costs a read, never a wrong checksum.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;
use simd_adler32::Adler32;

use crate::formats::vmdk::GRAIN_LEN;
use crate::units::to_u64;

/// Grains whose checksum is kept; about 300 KiB when full.
const ENTRIES_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not zero");

/// Adler-32 of the first `covered` bytes of a grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    covered: u64,
    value: u32,
}

/// The checksums of the grains read last.
pub(super) struct AdlerCache {
    /// Created with the first entry: an unread image keeps nothing.
    entries: Mutex<Option<LruCache<u64, Progress>>>,
}

impl AdlerCache {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::new(None),
        }
    }

    /// Takes note of `data`, the bytes of `grain` from `from` on; they count if they continue what is known.
    pub(super) fn observe(&self, grain: u64, from: u64, data: &[u8]) {
        let known = self.progress(grain);
        let start = match known {
            Some(progress) if progress.covered == from => progress,
            // Known further than this already: reading a grain's front again must not forget it.
            Some(progress) if progress.covered > from => return,
            _ if from == 0 => Progress {
                covered: 0,
                value: 1,
            },
            _ => return,
        };
        let mut adler = Adler32::from_checksum(start.value);
        adler.write(data);
        let progress = Progress {
            covered: from.saturating_add(to_u64(data.len())),
            value: adler.finish(),
        };
        self.entries
            .lock()
            .get_or_insert_with(|| LruCache::new(ENTRIES_MAX))
            .put(grain, progress);
    }

    /// The checksum of all of `grain`, if known.
    pub(super) fn get(&self, grain: u64) -> Option<u32> {
        self.progress(grain)
            .filter(|progress| progress.covered == GRAIN_LEN)
            .map(|progress| progress.value)
    }

    fn progress(&self, grain: u64) -> Option<Progress> {
        self.entries.lock().as_mut()?.get(&grain).copied()
    }
}

/// The checksum of `data`.
pub(super) fn checksum(data: &[u8]) -> u32 {
    let mut adler = Adler32::new();
    adler.write(data);
    adler.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums() {
        // Adler-32 of 64 KiB of zeros: a stays 1, b is 65536 mod 65521.
        assert_eq!(checksum(&[0; 65536]), 0x000f_0001);
        // RFC 1950's algorithm on "Wikipedia".
        assert_eq!(checksum(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn pieces_in_order_add_up() {
        let data: Vec<u8> = (0..65536_u32)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect();
        let cache = AdlerCache::new();
        assert_eq!(cache.get(3), None);
        cache.observe(3, 0, &data[..1000]);
        cache.observe(3, 5000, &data[5000..]);
        assert_eq!(cache.get(3), None, "a gap is no continuation");
        cache.observe(3, 1000, &data[1000..60000]);
        cache.observe(3, 0, &data[..10]);
        cache.observe(3, 60000, &data[60000..]);
        assert_eq!(cache.get(3), Some(checksum(&data)));
        assert_eq!(cache.get(4), None);
    }
}
