//! Grains that are really compressed: computed again on every read that the cache does not answer, and compared with
//! the index, so that a file whose size was told never changes under its reader.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets inside a grain, and those of grains inside a disk"
)]

use std::cell::RefCell;
use std::sync::Arc;

use crate::formats::vmdk::deflate::{GrainCompressor, MARKER_LEN};
use crate::formats::vmdk::{GRAIN_LEN, GRAIN_SECTORS};
use crate::synth::cache::{BlockCache, CacheSlot};
use crate::synth::grain_index::{GrainIndex, IndexedGrain};
use crate::synth::index_store::StorePlace;
use crate::synth::region::copy_padded;
use crate::synth::source::{ByteSource, Origin, ReadError, Step};
use crate::units::{to_u64, to_usize};

/// What a thread compresses with, and the grain at hand.
struct Workshop {
    compressor: GrainCompressor,
    grain: Vec<u8>,
}

thread_local! {
    static WORKSHOP: RefCell<Option<Workshop>> = const { RefCell::new(None) };
}

/// Reads grain `grain` of `disk`, compresses it at `level` and gives the stream to `then`.
pub(crate) fn with_compressed<T>(
    disk: &dyn ByteSource,
    grain: u64,
    level: u8,
    then: impl FnOnce(&[u8]) -> T,
) -> Result<T, ReadError> {
    // Taken out, not borrowed: the disk below may itself hold a compressed VMDK.
    let kept = WORKSHOP
        .take()
        .filter(|kept| kept.compressor.level() == level);
    let mut workshop = kept.unwrap_or_else(|| Workshop {
        compressor: GrainCompressor::new(level),
        grain: vec![0; to_usize(GRAIN_LEN)],
    });
    let result = disk
        .read_exact_at(grain * GRAIN_LEN, &mut workshop.grain)
        .map(|()| then(workshop.compressor.compress(&workshop.grain)));
    WORKSHOP.replace(Some(workshop));
    result
}

/// Compressed grains, found through their index.
pub(super) struct DeflatedGrains {
    pub(super) index: Arc<GrainIndex>,
    level: u8,
    slot: CacheSlot,
    /// Where the index is kept.
    store: Option<StorePlace>,
}

impl DeflatedGrains {
    pub(super) fn new(
        index: Arc<GrainIndex>,
        level: u8,
        cache: &Arc<BlockCache>,
        store: Option<StorePlace>,
    ) -> Self {
        Self {
            index,
            level,
            store,
            slot: CacheSlot::new(cache),
        }
    }

    /// Fills `buf` from byte `from` of grain `grain`, which is number `rank` of the allocated ones.
    pub(super) fn fill(
        &self,
        disk: &dyn ByteSource,
        (grain, rank): (u64, u64),
        from: u64,
        buf: &mut [u8],
    ) -> Result<(), ReadError> {
        let mut marker = [0; to_usize(MARKER_LEN)];
        let (lba, size) = marker.split_at_mut(8);
        lba.copy_from_slice(&(grain * GRAIN_SECTORS).to_le_bytes());
        size.copy_from_slice(&self.index.grain(rank).len.to_le_bytes());
        let head = to_usize(MARKER_LEN.saturating_sub(from)).min(buf.len());
        let (head, rest) = buf.split_at_mut(head);
        copy_padded(&marker, from, head);
        if rest.is_empty() {
            return Ok(());
        }
        let in_stream = from.saturating_sub(MARKER_LEN);
        if in_stream >= u64::from(self.index.grain(rank).len) {
            rest.fill(0);
            return Ok(());
        }
        copy_padded(&self.stream(disk, grain, rank)?, in_stream, rest);
        Ok(())
    }

    fn stream(&self, disk: &dyn ByteSource, grain: u64, rank: u64) -> Result<Arc<[u8]>, ReadError> {
        if let Some(stream) = self.slot.get(rank) {
            return Ok(stream);
        }
        let expected = self.index.grain(rank);
        let stream = with_compressed(disk, grain, self.level, |stream| {
            (IndexedGrain::of(stream) == expected).then(|| Arc::<[u8]>::from(stream))
        })?
        .ok_or_else(|| {
            // A record that is believed again would fail the next mount, too.
            if let Some(store) = &self.store {
                store.forget();
            }
            ReadError::Unrepeatable { grain }
        })?;
        self.slot.insert(rank, Arc::clone(&stream));
        Ok(stream)
    }

    /// Where the run of the byte at `within` ends inside the grain, which takes `len` bytes, and where it comes from.
    ///
    /// The padding behind the stream counts as part of it: holes of some bytes help nobody, and there would be one for
    /// each grain.
    pub(super) const fn run(within: u64, len: u64) -> (u64, Origin) {
        if within < MARKER_LEN {
            (MARKER_LEN, Origin::Computed("grain marker"))
        } else {
            (len, Origin::Computed("compressed grain"))
        }
    }

    /// Explains the byte at `within`: deflate has no byte of the disk to point at, only the grain.
    pub(super) fn explain(&self, (grain, rank): (u64, u64), within: u64, trail: &mut Vec<Step>) {
        let stream_end = MARKER_LEN + u64::from(self.index.grain(rank).len);
        let first = grain * GRAIN_LEN;
        let part = if within < MARKER_LEN {
            "grain marker".to_owned()
        } else if within < stream_end {
            format!(
                "deflate stream of the disk's bytes from {first:#x} to {:#x}",
                first + GRAIN_LEN
            )
        } else {
            "padding".to_owned()
        };
        trail.push(Step {
            what: format!("compressed VMDK grain {grain}, {part}"),
            offset: within,
        });
    }
}

const _: () = assert!(to_u64(size_of::<u64>() + size_of::<u32>()) == MARKER_LEN);
