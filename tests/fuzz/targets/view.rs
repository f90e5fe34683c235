//! Any sequence of requests to a view, beside a model that keeps lists of everything and looks through them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use miragefs::fs::edition::Edition;
use miragefs::fs::view::{self, Kind, ONLY, Owner, ROOT_INODE, Seek, View};
use miragefs::synth::generation::{Generation, Image};
use miragefs::synth::source::{ByteSource, Origin, ReadError, Run, Step, check_range};

const NAMES: [&str; 4] = ["disk.img", "disk.vmdk", "boot.ova", "x"];
const RUN: u64 = 1000;

/// Runs of data and holes of a thousand bytes, told apart by an identity.
struct Pattern {
    identity: u8,
}

impl Pattern {
    fn byte(&self, offset: u64) -> u8 {
        let [low, ..] = (offset / 7).to_le_bytes();
        if self.is_hole(offset) {
            0
        } else {
            low.wrapping_add(self.identity) | 1
        }
    }

    fn is_hole(&self, offset: u64) -> bool {
        (offset / RUN + u64::from(self.identity)).is_multiple_of(3)
    }
}

impl ByteSource for Pattern {
    fn len(&self) -> u64 {
        u64::from(self.identity) * 1500
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len())?;
        for (byte, at) in buf.iter_mut().zip(offset..) {
            *byte = self.byte(at);
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        if offset >= self.len() {
            return Run::EMPTY;
        }
        let end = ((offset / RUN + 1) * RUN).min(self.len());
        let origin = if self.is_hole(offset) {
            Origin::Zero
        } else {
            Origin::Computed("pattern")
        };
        Run {
            len: end - offset,
            origin,
        }
    }

    fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}
}

/// Takes requests out of bytes; zeros when there are no more.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// Small numbers, numbers near the ends of 64 bits, and any.
    fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small),
            200..=219 => u64::MAX - u64::from(self.byte()),
            220..=229 => u64::MAX / 2 + u64::from(self.byte()),
            230..=239 => u64::from(self.byte()) * 100,
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }
}

/// An image as the model knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    name: usize,
    identity: u8,
    inode: u64,
    mtime: i64,
}

struct Model {
    view: View,
    shown: Vec<Known>,
    /// Everything that was ever shown.
    ever: Vec<Known>,
    /// Handle and image; `None` once it is closed.
    handles: Vec<(u64, Option<Known>)>,
}

fn image(name: usize, identity: u8) -> Arc<Image> {
    let source = Arc::new(Pattern { identity });
    let name = NAMES[name].to_owned();
    Arc::new(Image::new(name, source, 1_700_000_000, [identity; 32]))
}

impl Model {
    /// Images by name and identity, 0 for those that are not there.
    fn publish(&mut self, identities: [u8; 4]) {
        let wanted: Vec<(usize, u8)> = identities
            .into_iter()
            .enumerate()
            .filter(|(_, identity)| *identity > 0)
            .collect();
        let images = wanted
            .iter()
            .map(|(name, identity)| image(*name, *identity));
        let generation = Generation {
            images: images.collect(),
            pending: Vec::new(),
        };
        let edition = Edition {
            is_edited: false,
            ..Edition::of(generation)
        };
        let before: Vec<(usize, u8)> = self
            .shown
            .iter()
            .map(|known| (known.name, known.identity))
            .collect();
        let published = self.view.publish(ONLY, edition, false);
        assert_eq!(published.is_some(), before != wanted);
        if published.is_none() {
            return;
        }
        drop(published);
        let mut shown = Vec::new();
        for (name, identity) in wanted {
            let found = self
                .view
                .lookup(ROOT_INODE, OsStr::new(NAMES[name]))
                .unwrap();
            let known = Known {
                name,
                identity,
                inode: found.inode,
                mtime: found.mtime,
            };
            match self
                .shown
                .iter()
                .find(|old| (old.name, old.identity) == (name, identity))
            {
                Some(old) => assert_eq!(known, *old, "what stays as it is keeps inode and time"),
                None => {
                    assert!(self.ever.iter().all(|old| old.inode != known.inode));
                    let last = self.ever.iter().filter(|old| old.name == name);
                    assert!(last.map(|old| old.mtime).max() < Some(known.mtime));
                    self.ever.push(known);
                }
            }
            shown.push(known);
        }
        self.shown = shown;
    }

    fn is_alive(&self, inode: u64) -> Option<Known> {
        let open = self.handles.iter().filter_map(|(_, known)| *known);
        let mut alive = self.shown.iter().copied().chain(open);
        alive.find(|known| known.inode == inode)
    }

    fn lookup(&self, parent: u64, name: &[u8]) {
        if name == b".miragefs" {
            return;
        }
        let found = self.view.lookup(parent, OsStr::from_bytes(name));
        if self
            .view
            .attributes(parent, None)
            .is_some_and(|one| one.kind == Kind::Directory)
            && parent != ROOT_INODE
        {
            // The control directory.
            return;
        }
        let known = self
            .shown
            .iter()
            .find(|known| NAMES[known.name].as_bytes() == name);
        let expected = known
            .filter(|_| parent == ROOT_INODE)
            .map(|known| known.inode);
        assert_eq!(found.map(|found| found.inode), expected);
    }

    fn attributes(&self, inode: u64, handle: Option<u64>) {
        let found = self.view.attributes(inode, handle);
        let Some(known) = self.is_alive(inode) else {
            // Nothing but directories and texts, whose inodes are never an image's.
            assert!(found.is_none() || self.ever.iter().all(|old| old.inode != inode));
            return;
        };
        let found = found.unwrap_or_else(|| panic!("inode {inode} is alive: {known:?}"));
        let source = Pattern {
            identity: known.identity,
        };
        assert_eq!(
            (found.inode, found.size, found.mtime),
            (inode, source.len(), known.mtime)
        );
        let data: u64 = (0..source.len())
            .map(|at| u64::from(!source.is_hole(at)))
            .sum();
        assert_eq!(found.sectors, data.div_ceil(512));
    }

    fn open(&mut self, inode: u64) {
        let opened = self.view.open(inode);
        let known = self.is_alive(inode);
        if self.ever.iter().any(|old| old.inode == inode) {
            assert_eq!(opened.is_some(), known.is_some(), "inode {inode}");
        }
        if let Some(handle) = opened {
            assert!(self.handles.iter().all(|(old, _)| *old != handle));
            match known {
                Some(_) => self.handles.push((handle, known)),
                // A text.
                None => self.view.release(handle),
            }
        }
    }

    fn known(&self, handle: u64) -> Option<Known> {
        let found = self.handles.iter().find(|(number, _)| *number == handle);
        found.and_then(|(_, known)| *known)
    }

    fn read(&self, handle: u64, offset: u64, len: u32) {
        let image = self.view.image(handle);
        let known = self.known(handle);
        assert_eq!(image.is_some(), known.is_some(), "handle {handle}");
        let (Some(image), Some(known)) = (image, known) else {
            return;
        };
        let source = Pattern {
            identity: known.identity,
        };
        let expected: Vec<u8> = (offset..source.len())
            .take(usize::try_from(len).unwrap())
            .map(|at| source.byte(at))
            .collect();
        assert_eq!(view::readable_len(&image, offset, len), expected.len());
        let mut buffer = vec![0xa5; usize::try_from(len.min(20_000)).unwrap()];
        let count = view::read(&image, offset, &mut buffer).unwrap();
        assert!(expected.starts_with(&buffer[..count]));
        assert_eq!(count, expected.len().min(buffer.len()));
    }

    fn seek(&self, handle: u64, offset: u64) {
        let (Some(image), Some(known)) = (self.view.image(handle), self.known(handle)) else {
            return;
        };
        let source = Pattern {
            identity: known.identity,
        };
        let offset = offset.cast_signed();
        for (seek, wanted) in [(Seek::Data, false), (Seek::Hole, true)] {
            let from = u64::try_from(offset)
                .ok()
                .filter(|from| *from < source.len());
            let found = from.and_then(|from| {
                let found = (from..source.len()).find(|at| source.is_hole(*at) == wanted);
                // The end counts as a hole.
                found.or(wanted.then(|| source.len()))
            });
            assert_eq!(view::seek(&image, offset, seek), found);
        }
    }
}

pub(crate) fn check(input: &[u8]) {
    let mut input = Input(input);
    let empty = Generation {
        images: vec![image(0, 1)],
        pending: Vec::new(),
    };
    let view = View::new(empty, Owner { uid: 1, gid: 2 });
    let first = view.lookup(ROOT_INODE, OsStr::new(NAMES[0])).unwrap();
    let known = Known {
        name: 0,
        identity: 1,
        inode: first.inode,
        mtime: first.mtime,
    };
    let mut model = Model {
        view,
        shown: vec![known],
        ever: vec![known],
        handles: Vec::new(),
    };
    for _ in 0..200 {
        if input.0.is_empty() {
            break;
        }
        match input.byte() % 10 {
            0 => {
                let identities = std::array::from_fn(|_| input.byte() % 4);
                model.publish(identities);
            }
            1 => model.lookup(
                input.number(),
                NAMES[usize::from(input.byte() % 4)].as_bytes(),
            ),
            2 => {
                let name: Vec<u8> = (0..input.byte() % 12).map(|_| input.byte()).collect();
                model.lookup(ROOT_INODE, &name);
            }
            3 => model.attributes(input.number(), None),
            4 => {
                let handle = input.number();
                model.attributes(input.number(), Some(handle));
            }
            5 => model.open(input.number()),
            6 | 7 => {
                let (handle, offset) = (input.number(), input.number());
                let len = u32::try_from(input.number() & 0xffff_ffff).unwrap();
                model.read(handle, offset, len);
            }
            8 => model.seek(input.number(), input.number()),
            _ => {
                let handle = input.number();
                model.view.release(handle);
                for (number, known) in &mut model.handles {
                    if *number == handle {
                        *known = None;
                    }
                }
            }
        }
        let listed = model.view.entries();
        assert_eq!(listed.len(), model.shown.len() + 2);
    }
}
