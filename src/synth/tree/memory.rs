//! What the host said of directories of the sources, so that a later scan asks only about those that were touched.
//!
//! Invariant: what is forgotten is asked for again, and nothing is taken from here that was listed with other filters or
//! from another directory of the same name.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::filter::{Fate, Filter};
use super::scan::lister;
use super::scan::listing::{Lister, Listing, metadata_at};
use crate::config::spec::CopySpec;
use crate::synth::host_file::SourceDirectory;

/// Names that are remembered at most, about 140 bytes each. Directories beyond are listed each time, and what is kept
/// of them is a digest.
const NAMES_MAX: usize = 500_000;

/// Which directory, and what of the copy entry decides what is taken of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct SourceKey {
    from: PathBuf,
    device: u64,
    inode: u64,
    shape: String,
}

/// Listings of all sources.
#[derive(Debug, Default)]
pub struct ScanMemory {
    sources: Mutex<BTreeMap<SourceKey, Arc<KnownListings>>>,
    names: Arc<AtomicUsize>,
}

/// Listings of one source, by the path below it.
#[derive(Debug)]
pub(super) struct KnownListings {
    spec: CopySpec,
    /// The directory that the paths are below.
    root: Mutex<Option<Arc<SourceDirectory>>>,
    directories: Mutex<BTreeMap<PathBuf, Known>>,
    names: Arc<AtomicUsize>,
    is_used: AtomicBool,
}

/// A directory that was listed.
#[derive(Debug)]
struct Known {
    /// The directory's own, with which it was listed.
    fate: Fate,
    what: What,
}

#[derive(Debug)]
enum What {
    /// It is being listed, or could not be.
    Nothing,
    Listing(Arc<Listing>),
    /// Of a listing that there is no room for.
    Digest(u64),
}

/// A digest of what `stat` says of a path, its symlink not followed; `None` for what is not there.
#[must_use]
pub fn attributes_digest(path: &Path) -> Option<u64> {
    let metadata = metadata_at(rustix::fs::CWD, path).ok()?;
    let mut hasher = DefaultHasher::new();
    metadata.hash(&mut hasher);
    Some(hasher.finish())
}

fn digest(listing: &Listing) -> u64 {
    let mut hasher = DefaultHasher::new();
    listing.hash(&mut hasher);
    hasher.finish()
}

impl ScanMemory {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn listings_of(
        &self,
        spec: &CopySpec,
        device: u64,
        inode: u64,
    ) -> Arc<KnownListings> {
        let key = SourceKey {
            from: spec.from.clone(),
            device,
            inode,
            shape: shape(spec),
        };
        let mut sources = self.sources.lock();
        let known = sources.entry(key).or_insert_with(|| {
            Arc::new(KnownListings {
                spec: spec.clone(),
                root: Mutex::default(),
                directories: Mutex::default(),
                names: Arc::clone(&self.names),
                is_used: AtomicBool::new(false),
            })
        });
        known.is_used.store(true, Ordering::Relaxed);
        Arc::clone(known)
    }

    /// Something at `path` of the host may have changed: the directory that holds it is listed again, so is the one that
    /// holds that, and so are the directory at `path` and all below it.
    pub fn forget(&self, path: &Path) {
        for source in self.sources.lock().values() {
            source.forget(path);
        }
    }

    /// All directories are listed again.
    pub fn forget_all(&self) {
        self.sources.lock().clear();
    }

    /// Looks at everything that is known and forgets what is another now; returns the paths of those directories.
    #[must_use]
    pub fn look_again(&self) -> Vec<PathBuf> {
        let sources: Vec<_> = self.sources.lock().values().cloned().collect();
        let changed: Vec<PathBuf> = sources.iter().flat_map(|one| one.look_again()).collect();
        for path in &changed {
            self.forget(path);
        }
        changed
    }

    /// Forgets the sources that no scan since the last call asked for.
    pub fn forget_unused(&self) {
        let mut sources = self.sources.lock();
        sources.retain(|_, source| source.is_used.swap(false, Ordering::Relaxed));
    }

    /// The source of a copy entry was not scanned again, since nothing in it was touched.
    pub fn keep(&self, spec: &CopySpec) {
        let shape = shape(spec);
        let sources = self.sources.lock();
        let same = |key: &SourceKey| key.from == spec.from && key.shape == shape;
        for (_, source) in sources.iter().filter(|(key, _)| same(key)) {
            source.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// All directories that were listed, absolute.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        let sources = self.sources.lock();
        let mut all: Vec<PathBuf> = sources
            .values()
            .flat_map(|source| source.absolute_directories())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// What of a copy entry decides what is listed.
fn shape(spec: &CopySpec) -> String {
    let shape = (
        &spec.exclude,
        &spec.include,
        &spec.xattrs,
        // An ACL says the mode too.
        spec.mode,
        spec.cross_mounts,
    );
    format!("{shape:?}")
}

impl KnownListings {
    /// Where the source is now.
    pub(super) fn note_root(&self, root: &Arc<SourceDirectory>) {
        *self.root.lock() = Some(Arc::clone(root));
    }

    pub(super) fn get(&self, relative: &Path) -> Option<Arc<Listing>> {
        match &self.directories.lock().get(relative)?.what {
            What::Listing(listing) => Some(Arc::clone(listing)),
            What::Nothing | What::Digest(_) => None,
        }
    }

    /// A directory is going to be listed.
    pub(super) fn expect(&self, relative: &Path, fate: Fate) {
        let what = What::Nothing;
        let known = Known { fate, what };
        self.directories
            .lock()
            .insert(relative.to_path_buf(), known);
    }

    /// Remembers a listing, if there is room for it and the directory was not forgotten meanwhile.
    pub(super) fn insert(&self, relative: &Path, listing: &Arc<Listing>) {
        let len = listing.found.len();
        let has_room = self.names.load(Ordering::Relaxed).saturating_add(len) <= NAMES_MAX;
        let what = if has_room {
            What::Listing(Arc::clone(listing))
        } else {
            What::Digest(digest(listing))
        };
        if let Some(known) = self.directories.lock().get_mut(relative) {
            known.what = what;
            if has_room {
                self.names.fetch_add(len, Ordering::Relaxed);
            }
        }
    }

    /// The directories that hold something else than is known, absolute.
    fn look_again(&self) -> Vec<PathBuf> {
        let root = self.root.lock().clone();
        let (Some(root), Ok(filter)) = (root, Filter::new(&self.spec)) else {
            return vec![self.spec.from.clone()];
        };
        let lister = lister(&self.spec, &root, &filter);
        let known: Vec<(PathBuf, Fate)> = {
            let directories = self.directories.lock();
            let known = directories.iter();
            known
                .map(|(path, known)| (path.clone(), known.fate))
                .collect()
        };
        let mut halves = known.chunks(known.len().div_ceil(2).max(1));
        let (one, other) = (halves.next(), halves.next());
        let look =
            |half: Option<&[(PathBuf, Fate)]>| self.changed_of(&lister, half.unwrap_or_default());
        std::thread::scope(|threads| {
            let other = threads.spawn(|| look(other));
            let mut changed = look(one);
            changed.extend(other.join().expect("listing does not panic"));
            changed
        })
    }

    fn changed_of(&self, lister: &Lister<'_>, directories: &[(PathBuf, Fate)]) -> Vec<PathBuf> {
        let is_as_known = |relative: &Path, fate: Fate| {
            let Ok(listing) = lister.read(relative, fate) else {
                return false;
            };
            match self
                .directories
                .lock()
                .get(relative)
                .map(|known| &known.what)
            {
                Some(What::Listing(known)) => **known == listing,
                Some(What::Digest(known)) => *known == digest(&listing),
                Some(What::Nothing) | None => false,
            }
        };
        directories
            .iter()
            .filter(|(relative, fate)| !is_as_known(relative, *fate))
            .map(|(relative, _)| self.absolute(relative))
            .collect()
    }

    fn forget(&self, path: &Path) {
        let mut directories = self.directories.lock();
        let mut gone = Vec::new();
        match path.strip_prefix(&self.spec.from) {
            Ok(relative) => {
                // A name that comes or goes changes the times of its directory, which are listed with that one's own
                // name.
                let above = relative.ancestors().skip(1).take(2);
                let listed = above.filter(|above| directories.contains_key(*above));
                gone.extend(listed.map(Path::to_path_buf));
                let below = (Bound::Included(relative), Bound::Unbounded);
                let below = directories.range::<Path, _>(below);
                gone.extend(
                    below
                        .map(|(known, _)| known)
                        .take_while(|known| known.starts_with(relative))
                        .cloned(),
                );
            }
            Err(_) if self.spec.from.starts_with(path) => gone.extend(directories.keys().cloned()),
            Err(_) => {}
        }
        for relative in gone {
            self.release(directories.remove(&relative));
        }
    }

    fn release(&self, known: Option<Known>) {
        if let Some(What::Listing(listing)) = known.map(|known| known.what) {
            self.names.fetch_sub(listing.found.len(), Ordering::Relaxed);
        }
    }

    fn absolute(&self, relative: &Path) -> PathBuf {
        if relative.as_os_str().is_empty() {
            self.spec.from.clone()
        } else {
            self.spec.from.join(relative)
        }
    }

    fn absolute_directories(&self) -> Vec<PathBuf> {
        let directories = self.directories.lock();
        let absolute = directories.keys().map(|relative| self.absolute(relative));
        absolute.collect()
    }
}

impl Drop for KnownListings {
    fn drop(&mut self) {
        let directories = std::mem::take(self.directories.get_mut());
        for listing in directories.into_values() {
            self.release(Some(listing));
        }
    }
}
