//! The block cache: computed bytes that were rendered once need not be rendered again.
//!
//! Invariant: a cached source gives the bytes and the errors of the source it wraps; the cache never holds bytes of
//! host files, and what it holds, with its bookkeeping, never exceeds its capacity.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lru::LruCache;

use super::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use crate::sync::{AtomicU64, Mutex};
use crate::units::{KIB, to_u64, to_usize};

/// Bytes of a cache block: a page, the unit in which the kernel asks, and a block of ext4.
pub const CACHE_BLOCK_SIZE: u64 = 4096;

/// Bytes of bookkeeping per cached block: the entry of the list (key, pointer with length, two links), its slot in
/// the hash table at the worst fill, the reference counts of the block, and the allocator's share of three
/// allocations.
const ENTRY_OVERHEAD: u64 = 192;

/// More shards than workers, so that two workers rarely meet on one lock.
const SHARDS_MAX: u64 = 16;

/// A shard smaller than this would hold too few blocks to be an LRU.
const SHARD_SIZE_MIN: u64 = 64 * KIB;

/// Which block: of which source, starting where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct BlockKey {
    source_id: u64,
    offset: u64,
}

/// Blocks of one shard, the least recently used first to go.
struct Shard {
    blocks: LruCache<BlockKey, Arc<[u8]>>,
    bytes: u64,
}

/// What the cache did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Blocks that were found.
    pub hits: u64,
    /// Blocks that had to be rendered.
    pub misses: u64,
    /// Bytes held now, with the bookkeeping.
    pub bytes: u64,
}

/// Rendered blocks of any number of sources, within one limit of memory.
pub struct BlockCache {
    shards: Vec<Mutex<Shard>>,
    shard_capacity: u64,
    next_source_id: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl BlockCache {
    /// A cache of at most `capacity_bytes` bytes with the bookkeeping; with 0 it holds nothing.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        let shard_count = (capacity_bytes / SHARD_SIZE_MIN).clamp(1, SHARDS_MAX);
        let shards = (0..shard_count)
            .map(|_| {
                Mutex::new(Shard {
                    blocks: LruCache::unbounded(),
                    bytes: 0,
                })
            })
            .collect();
        Self {
            shards,
            shard_capacity: capacity_bytes.checked_div(shard_count).unwrap_or(0),
            next_source_id: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The most bytes that it holds, with the bookkeeping.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        to_u64(self.shards.len()).saturating_mul(self.shard_capacity)
    }

    /// What the cache did so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.shards.iter().map(|shard| shard.lock().bytes).sum(),
        }
    }

    fn shard(&self, key: BlockKey) -> &Mutex<Shard> {
        // Neighbouring blocks go to different shards; sources start at different ones.
        let spread = (key.offset / CACHE_BLOCK_SIZE).wrapping_add(key.source_id);
        let index = spread
            .checked_rem(to_u64(self.shards.len()))
            .map_or(0, to_usize);
        self.shards
            .get(index)
            .expect("a remainder by the number of shards is below it")
    }

    fn get(&self, key: BlockKey) -> Option<Arc<[u8]>> {
        let found = self.shard(key).lock().blocks.get(&key).cloned();
        let counter = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    fn insert(&self, key: BlockKey, block: Arc<[u8]>) {
        let cost = entry_cost(&block);
        if cost > self.shard_capacity {
            return;
        }
        let mut shard = self.shard(key).lock();
        // Two readers may have rendered the same block at the same time: the later one replaces it.
        if let Some(replaced) = shard.blocks.put(key, block) {
            shard.bytes = shard.bytes.saturating_sub(entry_cost(&replaced));
        }
        shard.bytes = shard.bytes.saturating_add(cost);
        while shard.bytes > self.shard_capacity {
            let Some((_, evicted)) = shard.blocks.pop_lru() else {
                break;
            };
            shard.bytes = shard.bytes.saturating_sub(entry_cost(&evicted));
        }
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("shards", &self.shards.len())
            .field("shard_capacity", &self.shard_capacity)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

fn entry_cost(block: &[u8]) -> u64 {
    to_u64(block.len()).saturating_add(ENTRY_OVERHEAD)
}

/// A source whose computed bytes are kept in a [`BlockCache`].
///
/// Blocks are aligned in the source and clipped to the run they lie in.
pub struct Cached {
    inner: Arc<dyn ByteSource>,
    cache: Arc<BlockCache>,
    id: u64,
}

/// A place of its own in a [`BlockCache`], for what is no block of a source: compressed grains.
pub(super) struct CacheSlot {
    cache: Arc<BlockCache>,
    id: u64,
}

impl CacheSlot {
    /// A place that no one else has.
    pub(super) fn new(cache: &Arc<BlockCache>) -> Self {
        Self {
            cache: Arc::clone(cache),
            id: cache.next_source_id.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// What was kept under this number.
    pub(super) fn get(&self, number: u64) -> Option<Arc<[u8]>> {
        self.cache.get(self.key(number))
    }

    /// Keeps `bytes` under this number, as long as there is room.
    pub(super) fn insert(&self, number: u64, bytes: Arc<[u8]>) {
        self.cache.insert(self.key(number), bytes);
    }

    const fn key(&self, number: u64) -> BlockKey {
        BlockKey {
            source_id: self.id,
            // Shards are chosen by pages.
            offset: number.wrapping_mul(CACHE_BLOCK_SIZE),
        }
    }
}

impl Cached {
    /// Wraps `inner`; no other source ever has its blocks.
    #[must_use]
    pub fn new(inner: Arc<dyn ByteSource>, cache: Arc<BlockCache>) -> Self {
        let id = cache.next_source_id.fetch_add(1, Ordering::Relaxed);
        Self { inner, cache, id }
    }

    /// Where the cache block that holds `offset` starts: at the page, or where the run starts inside it.
    fn block_start(&self, offset: u64) -> u64 {
        let mut start = offset.saturating_sub(offset % CACHE_BLOCK_SIZE);
        while start < offset {
            let run_end = start.saturating_add(self.inner.run_at(start).len.max(1));
            if run_end > offset {
                break;
            }
            start = run_end;
        }
        start
    }

    /// Fills `buf` from `offset`, all inside one computed run that ends at `run_end`.
    fn read_computed(&self, offset: u64, run_end: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let mut block_start = self.block_start(offset);
        let mut at = offset;
        let mut rest = buf;
        // Blocks that are wanted whole and not cached are rendered in one go, straight into `buf`.
        while !rest.is_empty() {
            let block_end = block_end(block_start, run_end);
            if let Some(block) = self.cache.get(self.key(block_start)) {
                // The block may be shorter than this one if the source names its runs differently from elsewhere.
                let skip = to_usize(at.saturating_sub(block_start));
                if let Some(cached) = block.get(skip..).filter(|cached| !cached.is_empty()) {
                    let count = cached.len().min(rest.len());
                    let (now, later) = rest.split_at_mut(count);
                    now.copy_from_slice(cached.get(..count).unwrap_or(cached));
                    rest = later;
                    at = at.saturating_add(to_u64(count));
                    block_start = at;
                    continue;
                }
            }
            let wanted_end = at.saturating_add(to_u64(rest.len()));
            if at > block_start || wanted_end < block_end {
                let count = self.read_part(block_start, block_end, at, rest)?;
                rest = rest.split_at_mut(count).1;
                at = at.saturating_add(to_u64(count));
            } else {
                let count = self.whole_missing_len(at, run_end, wanted_end);
                let (now, later) = rest.split_at_mut(to_usize(count));
                self.render_blocks(at, now)?;
                rest = later;
                at = at.saturating_add(count);
            }
            block_start = at;
        }
        Ok(())
    }

    const fn key(&self, offset: u64) -> BlockKey {
        BlockKey {
            source_id: self.id,
            offset,
        }
    }

    /// Renders the block `block_start..block_end`, keeps it, and copies what is wanted of it from `at` on.
    fn read_part(
        &self,
        block_start: u64,
        block_end: u64,
        at: u64,
        buf: &mut [u8],
    ) -> Result<usize, ReadError> {
        let mut block = vec![0; to_usize(block_end.saturating_sub(block_start))];
        self.inner.read_exact_at(block_start, &mut block)?;
        let skip = to_usize(at.saturating_sub(block_start));
        let wanted = block.get(skip..).unwrap_or_default();
        let count = wanted.len().min(buf.len());
        let (now, _) = buf.split_at_mut(count);
        now.copy_from_slice(wanted.get(..count).unwrap_or(wanted));
        self.cache.insert(self.key(block_start), block.into());
        Ok(count)
    }

    /// How many bytes from `at` on, a block's start, are whole blocks up to `wanted_end` that are not cached; at
    /// least the first block.
    fn whole_missing_len(&self, at: u64, run_end: u64, wanted_end: u64) -> u64 {
        let mut end = block_end(at, run_end);
        while end < run_end {
            let next_end = block_end(end, run_end);
            let key = self.key(end);
            if next_end > wanted_end || self.cache.shard(key).lock().blocks.contains(&key) {
                break;
            }
            self.cache.misses.fetch_add(1, Ordering::Relaxed);
            end = next_end;
        }
        end.saturating_sub(at)
    }

    /// Renders whole blocks from `start` on straight into the caller's buffer and keeps copies of them.
    fn render_blocks(&self, start: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.inner.read_exact_at(start, buf)?;
        let end = start.saturating_add(to_u64(buf.len()));
        let mut offset = start;
        let mut rest: &[u8] = buf;
        while !rest.is_empty() {
            let len = block_end(offset, end).saturating_sub(offset);
            let (block, later) = rest.split_at(to_usize(len));
            self.cache.insert(self.key(offset), block.into());
            rest = later;
            offset = offset.saturating_add(len);
        }
        Ok(())
    }
}

/// Where the cache block that starts at `start` ends: at the next page, or with its run.
fn block_end(start: u64, run_end: u64) -> u64 {
    start
        .saturating_sub(start % CACHE_BLOCK_SIZE)
        .saturating_add(CACHE_BLOCK_SIZE)
        .min(run_end)
}

impl ByteSource for Cached {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len())?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let run = self.inner.run_at(at);
            let count = run.len.max(1).min(to_u64(rest.len()));
            let (now, later) = rest.split_at_mut(to_usize(count));
            match run.origin {
                Origin::Zero => now.fill(0),
                Origin::HostFile { .. } => self.inner.read_exact_at(at, now)?,
                Origin::Computed(_) => {
                    self.read_computed(at, at.saturating_add(run.len), now)?;
                }
            }
            rest = later;
            at = at.saturating_add(count);
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        self.inner.run_at(offset)
    }

    fn known_zero_at(&self, offset: u64) -> (bool, u64) {
        self.inner.known_zero_at(offset)
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        self.inner.explain_at(offset, trail);
    }

    fn may_block(&self, offset: u64, len: u64) -> bool {
        self.inner.may_block(offset, len)
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "offsets of a source of one megabyte"
)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::units::low32;

    /// Computed bytes with a hole, and runs whose ends are no multiples of a page; counts its reads.
    struct Pattern {
        /// End of each run, and whether it is zero.
        runs: Vec<(u64, bool)>,
        reads: AtomicUsize,
    }

    impl Pattern {
        fn new() -> Self {
            Self {
                runs: vec![
                    (10_000, false),
                    (10_100, false),
                    (10_300, true),
                    (300_000, false),
                    (700_000, true),
                    (1_000_001, false),
                ],
                reads: AtomicUsize::new(0),
            }
        }

        fn byte_at(&self, offset: u64) -> u8 {
            if self.run_at(offset).origin.is_zero() {
                return 0;
            }
            let mixed = low32(offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24);
            mixed.to_le_bytes()[0] | 1
        }
    }

    impl ByteSource for Pattern {
        fn len(&self) -> u64 {
            self.runs.last().unwrap().0
        }

        fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            check_range(offset, buf.len(), self.len())?;
            self.reads.fetch_add(1, Ordering::Relaxed);
            for (index, byte) in buf.iter_mut().enumerate() {
                *byte = self.byte_at(offset + to_u64(index));
            }
            Ok(())
        }

        fn run_at(&self, offset: u64) -> Run {
            let index = self.runs.partition_point(|(end, _)| *end <= offset);
            self.runs.get(index).map_or(Run::EMPTY, |(end, zero)| Run {
                len: end - offset,
                origin: if *zero {
                    Origin::Zero
                } else {
                    Origin::Computed("pattern")
                },
            })
        }

        fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}
    }

    fn cached(capacity: u64) -> (Arc<Pattern>, Arc<BlockCache>, Cached) {
        let inner = Arc::new(Pattern::new());
        let cache = Arc::new(BlockCache::new(capacity));
        let source: Arc<dyn ByteSource> = Arc::<Pattern>::clone(&inner);
        let cached = Cached::new(source, Arc::clone(&cache));
        (inner, cache, cached)
    }

    fn read(source: &dyn ByteSource, offset: u64, len: u64) -> Vec<u8> {
        let mut buf = vec![0xa5; to_usize(len)];
        source.read_exact_at(offset, &mut buf).unwrap();
        buf
    }

    /// Ranges of any size and alignment, the same in every run.
    fn ranges(count: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        (0..count).map(move |index| {
            let offset = random(len);
            let longest = if index % 4 == 0 { 70_000 } else { 9_000 };
            (offset, random((len - offset).min(longest) + 1))
        })
    }

    #[test]
    fn equals_the_uncached_source() {
        for capacity in [0, 5_000, 40_000, 1 << 20] {
            let (inner, _, cached) = cached(capacity);
            for (offset, len) in ranges(2_000, inner.len()) {
                assert!(
                    read(&cached, offset, len) == read(&*inner, offset, len),
                    "capacity {capacity}, {offset}+{len}"
                );
            }
            assert_eq!(read(&cached, 0, inner.len()), read(&*inner, 0, inner.len()));
        }
    }

    #[test]
    fn second_reads_render_nothing() {
        let (inner, cache, cached) = cached(8 << 20);
        read(&cached, 0, inner.len());
        let reads = inner.reads.load(Ordering::Relaxed);
        assert_eq!(reads, 4, "each computed run is rendered in one go");
        for (offset, len) in ranges(500, inner.len()) {
            read(&cached, offset, len);
        }
        assert_eq!(inner.reads.load(Ordering::Relaxed), reads);
        let stats = cache.stats();
        // 10000/4096, 100, 4 + 289700/4096 and 300001/4096 bytes, each run's ends clipped.
        assert_eq!(stats.misses, 3 + 1 + 72 + 75);
        assert!(stats.hits > 500);
    }

    #[test]
    fn ranges_outside_fail_and_empty_ones_succeed() {
        let (inner, _, cached) = cached(1 << 20);
        let mut buf = [0; 2];
        for offset in [inner.len() - 1, inner.len(), u64::MAX - 1, u64::MAX] {
            assert!(matches!(
                cached.read_exact_at(offset, &mut buf),
                Err(ReadError::OutOfRange { .. })
            ));
        }
        cached.read_exact_at(inner.len(), &mut []).unwrap();
    }

    #[test]
    fn never_exceeds_its_capacity() {
        for capacity in [0, 4_000, 4_288, 20_000, 100_000, 250_000] {
            let (inner, cache, cached) = cached(capacity);
            for (offset, len) in ranges(500, inner.len()) {
                read(&cached, offset, len);
                let held = cache.stats().bytes;
                assert!(held <= capacity, "{held} bytes held of {capacity}");
            }
            assert_eq!(cache.stats().bytes > 0, capacity > 292, "{capacity}");
        }
    }

    #[test]
    fn counts_what_it_holds() {
        let (inner, cache, cached) = cached(8 << 20);
        read(&cached, 0, inner.len());
        let blocks: u64 = 3 + 1 + 72 + 75;
        let computed = 10_100 + (300_000 - 10_300) + (1_000_001 - 700_000);
        assert_eq!(cache.stats().bytes, computed + blocks * ENTRY_OVERHEAD);
    }

    #[test]
    fn zeros_need_no_read() {
        let (inner, cache, cached) = cached(1 << 20);
        assert!(
            read(&cached, 300_000, 400_000)
                .iter()
                .all(|byte| *byte == 0)
        );
        assert_eq!(inner.reads.load(Ordering::Relaxed), 0);
        assert_eq!(cache.stats(), CacheStats::default());
    }

    #[test]
    fn sources_do_not_mix() {
        let cache = Arc::new(BlockCache::new(1 << 20));
        let short = Pattern {
            runs: vec![(8_192, true)],
            reads: AtomicUsize::new(0),
        };
        let first = Cached::new(Arc::new(Pattern::new()), Arc::clone(&cache));
        let second = Cached::new(Arc::new(short), cache);
        assert_ne!(read(&first, 0, 8_192), read(&second, 0, 8_192));
        assert_eq!(read(&second, 0, 8_192), vec![0; 8_192]);
    }

    #[test]
    fn concurrent_readers_agree() {
        let (inner, cache, cached) = cached(200_000);
        let whole = read(&*inner, 0, inner.len());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (cached, whole) = (&cached, &whole);
                scope.spawn(move || {
                    for (offset, len) in ranges(300 + thread, cached.len()) {
                        let (start, end) = (to_usize(offset), to_usize(offset + len));
                        assert_eq!(read(cached, offset, len), whole[start..end]);
                    }
                });
            }
        });
        assert!(cache.stats().bytes <= 200_000);
    }
}
