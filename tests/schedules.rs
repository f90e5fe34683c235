//! The block cache and the swap of generations under schedules that shuttle chooses: between any two uses of a lock or a counter,
//! any other thread may run.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a test that overflows or unwraps nothing fails, as it should"
)]

use std::ffi::OsStr;
use std::sync::Arc;

use miragefs::fs::edition::Edition;
use miragefs::fs::view::{self, ONLY, Owner, ROOT_INODE, View};
use miragefs::synth::cache::{BlockCache, CACHE_BLOCK_SIZE, Cached};
use miragefs::synth::generation::{Generation, Image};
use miragefs::synth::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, Runner, thread};

/// Schedules that are tried; `SCHEDULES` names another number.
fn schedules() -> usize {
    let asked = std::env::var("SCHEDULES").ok();
    asked.map_or(3000, |count| count.parse().unwrap())
}

fn under_all_schedules(test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(RandomScheduler::new(schedules()), config).run(test);
}

/// Computed bytes that tell their place and an identity.
struct Pattern {
    identity: u8,
    len: u64,
}

impl Pattern {
    fn byte(&self, offset: u64) -> u8 {
        let [low, ..] = (offset / 511).to_le_bytes();
        low.wrapping_mul(4) | self.identity
    }

    fn bytes(&self, start: u64, len: usize) -> Vec<u8> {
        (start..).take(len).map(|at| self.byte(at)).collect()
    }
}

impl ByteSource for Pattern {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len)?;
        for (byte, at) in buf.iter_mut().zip(offset..) {
            *byte = self.byte(at);
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        Run {
            len: self.len.saturating_sub(offset),
            origin: Origin::Computed("pattern"),
        }
    }

    fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}
}

#[test]
fn the_cache_gives_the_sources_bytes_and_stays_within_its_capacity() {
    under_all_schedules(|| {
        // Room for three of the five blocks.
        let cache = Arc::new(BlockCache::new(3 * (CACHE_BLOCK_SIZE + 200)));
        let pattern = Arc::new(Pattern {
            identity: 1,
            len: 5 * CACHE_BLOCK_SIZE,
        });
        let inner: Arc<dyn ByteSource> = Arc::<Pattern>::clone(&pattern);
        let source = Arc::new(Cached::new(inner, Arc::clone(&cache)));
        let readers: Vec<_> = (0..3_u64)
            .map(|reader| {
                let (source, cache) = (Arc::clone(&source), Arc::clone(&cache));
                let pattern = Arc::clone(&pattern);
                thread::spawn(move || {
                    for step in 0..3 {
                        let start = (reader * 3000 + step * 5000) % (3 * CACHE_BLOCK_SIZE);
                        let mut bytes = vec![0xa5; 6000];
                        source.read_exact_at(start, &mut bytes).unwrap();
                        assert!(bytes == pattern.bytes(start, 6000));
                        let stats = cache.stats();
                        assert!(stats.bytes <= cache.capacity(), "{stats:?}");
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

fn edition(identity: u8) -> Edition {
    let source = Arc::new(Pattern {
        identity,
        len: 1000 + u64::from(identity),
    });
    let image = Image::new("disk.img".to_owned(), source, 1_700_000_000, [identity; 32]);
    Edition::of(Generation {
        images: vec![Arc::new(image)],
        pending: Vec::new(),
    })
}

/// Opens, looks at and reads the image, as the kernel does for a program.
fn read_once(view: &View) {
    let found = view.lookup(ROOT_INODE, OsStr::new("disk.img"));
    let found = found.expect("an image that all generations have is never absent");
    let Some(handle) = view.open(found.inode) else {
        // Its generation went in between: the kernel looks it up again.
        return;
    };
    let image = view.image(handle).unwrap();
    let [identity, ..] = image.identity;
    let pattern = Pattern {
        identity,
        len: 1000 + u64::from(identity),
    };
    assert_eq!(found.size, pattern.len, "an inode is one image for ever");
    for handle in [Some(handle), None] {
        let attributes = view.attributes(found.inode, handle).unwrap();
        assert_eq!(
            (attributes.inode, attributes.size),
            (found.inode, pattern.len)
        );
        assert_eq!(attributes.mtime, found.mtime);
    }
    let mut bytes = vec![0xa5; 600];
    view::read(&image, 300, &mut bytes).unwrap();
    assert!(bytes == pattern.bytes(300, 600));
    view.release(handle);
    assert!(view.image(handle).is_none());
}

#[test]
fn readers_see_whole_generations_while_they_are_swapped() {
    under_all_schedules(|| {
        let view = Arc::new(View::of_one(
            Owner { uid: 0, gid: 0 },
            std::path::PathBuf::new(),
            view::Surroundings::default(),
        ));
        assert!(view.publish(ONLY, edition(1), false).is_some());
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let view = Arc::clone(&view);
                thread::spawn(move || (0..2).for_each(|_| read_once(&view)))
            })
            .collect();
        let keeper = {
            let view = Arc::clone(&view);
            thread::spawn(move || {
                for identity in [2, 2, 3, 1] {
                    drop(view.publish(ONLY, edition(identity), false));
                }
            })
        };
        for one in readers.into_iter().chain([keeper]) {
            one.join().unwrap();
        }
    });
}
