//! What is kept between mounts below the user's cache directory: the lengths of compressed grains, and digests.
//!
//! Invariant: deleting any of it costs time only. A record counts only if its checksum is right; a file that is not
//! ours is replaced; nothing here can fail a mount. Records are appended one by one, so that what was computed before
//! the end of a process is there afterwards.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "counts of records and their fixed lengths"
)]

mod digest;
mod record;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

pub use self::digest::DigestStore;
use self::record::{HEADER_LEN, RECORD_LEN, RawHeader, RawRecord};
use super::grain_index::{GrainKey, IndexedGrain};
use crate::units::to_u64;

/// Which store: that of one image of one config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId([u8; 16]);

impl StoreId {
    /// The store of what these texts name: equal texts, equal stores.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(to_u64(part.len()).to_le_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        for (byte, of_digest) in id.iter_mut().zip(digest) {
            *byte = of_digest;
        }
        Self(id)
    }

    fn file_name(self, ending: &str) -> String {
        format!("{:032x}.{ending}", u128::from_be_bytes(self.0))
    }
}

/// Where the store of an index is, to forget what turned out wrong.
#[derive(Debug, Clone)]
pub struct StorePlace(PathBuf);

impl StorePlace {
    /// The store `id` below `directory`.
    #[must_use]
    pub fn new(directory: &Path, id: StoreId) -> Self {
        Self(directory.join(id.file_name("grains")))
    }

    /// Takes the file away, so that the next mount makes the index anew.
    pub fn forget(&self) {
        if let Err(error) = fs::remove_file(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{}: cannot be removed: {error}", self.0.display());
        }
    }
}

/// The compressed grains that are known, in memory and in a file.
#[derive(Debug, Default)]
pub struct GrainStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<GrainKey, Known>,
    /// Where new records go; `None` if they are kept in memory only.
    file: Option<File>,
    path: PathBuf,
    /// What the file is for.
    header: Option<[u8; 16]>,
}

/// A grain, and whether somebody wanted it since the store was opened.
#[derive(Debug, Clone, Copy)]
struct Known {
    grain: IndexedGrain,
    wanted: bool,
}

impl GrainStore {
    /// A store without a file.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// The store `id` below `directory`, which is made if it is not there. What cannot be used is said in the log, and
    /// then the store starts empty.
    #[must_use]
    pub fn open(directory: &Path, id: StoreId) -> Self {
        let path = directory.join(id.file_name("grains"));
        let opened = make_directory(directory).and_then(|()| open_locked(&path));
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => {
                let path = path.display();
                tracing::warn!(
                    "{path}: cannot be used, so nothing is kept for the next mount: {error}"
                );
                return Self::default();
            }
        };
        let known = match load(&mut file, id, &path) {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!("{}: cannot be read: {error}", path.display());
                return Self::default();
            }
        };
        Self {
            state: Mutex::new(State {
                known,
                file: Some(file),
                path,
                header: Some(id.0),
            }),
        }
    }

    /// The grain of this key, if it is known.
    #[must_use]
    pub fn get(&self, key: &GrainKey) -> Option<IndexedGrain> {
        let mut state = self.state.lock();
        let known = state.known.get_mut(key)?;
        known.wanted = true;
        Some(known.grain)
    }

    /// How many grains are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().known.len()
    }

    /// Whether no grain is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers a grain, here and in the file.
    pub fn insert(&self, key: GrainKey, grain: IndexedGrain) {
        let mut state = self.state.lock();
        state.known.insert(
            key,
            Known {
                grain,
                wanted: true,
            },
        );
        let Some(file) = &mut state.file else {
            return;
        };
        if let Err(error) = file.write_all(RawRecord::new(key, grain).bytes()) {
            let path = state.path.display();
            tracing::warn!(
                "{path}: cannot be written, so no more is kept for the next mount: {error}"
            );
            state.file = None;
        }
    }
}

/// Configs come and go: with more files than this the older half goes.
const FILES_MAX: usize = 512;

/// Records that nobody wants may stay, beside as many as are wanted.
const UNWANTED_MIN: usize = 1024;

impl GrainStore {
    /// Leaves out what nobody wanted since the store was opened, if that is more than half of it.
    pub fn compact(&self) {
        let mut state = self.state.lock();
        let wanted: Vec<_> = state
            .known
            .iter()
            .filter(|(_, known)| known.wanted)
            .collect();
        let unwanted = state.known.len() - wanted.len();
        if state.file.is_none() || unwanted < wanted.len().max(UNWANTED_MIN) {
            return;
        }
        let Some(header) = state.header else {
            return;
        };
        let mut bytes = RawHeader::new(header).bytes().to_vec();
        for (key, known) in wanted {
            bytes.extend_from_slice(RawRecord::new(*key, known.grain).bytes());
        }
        let path = state.path.clone();
        let reopened = replace(&path, &bytes).and_then(|()| open_locked(&path));
        state.known.retain(|_, known| known.wanted);
        match reopened {
            Ok(file) => state.file = Some(file),
            Err(error) => tracing::warn!("{}: cannot be made smaller: {error}", path.display()),
        }
    }
}

/// Makes the directory if it is not there, and takes out what was not written to for longest if there is much.
fn make_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("grains" | "digest" | "new"))
            && let Ok(modified) = fs::metadata(&path).and_then(|metadata| metadata.modified())
        {
            files.push((modified, path));
        }
    }
    if files.len() > FILES_MAX {
        files.sort_unstable();
        for (_, path) in files.iter().take(files.len() / 2) {
            // Another process may have been quicker.
            drop(fs::remove_file(path));
        }
    }
    Ok(())
}

/// Opens the file for reading and appending; only one process at a time has it.
fn open_locked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(io::Error::other("another process is writing to it")),
    }
}

/// The records of the file, which afterwards ends with the last whole one.
fn load(file: &mut File, id: StoreId, path: &Path) -> io::Result<BTreeMap<GrainKey, Known>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut known = BTreeMap::new();
    let ours = RawHeader::new(id.0);
    if bytes.get(..HEADER_LEN) != Some(ours.bytes()) {
        if !bytes.is_empty() {
            tracing::warn!(
                "{}: is no index of this image; it is made anew",
                path.display()
            );
        }
        file.set_len(0)?;
        file.write_all(ours.bytes())?;
        return Ok(known);
    }
    let records = bytes.get(HEADER_LEN..).unwrap_or_default();
    let mut bad: usize = 0;
    for record in records.chunks(RECORD_LEN) {
        match RawRecord::read(record) {
            Some((key, grain)) => {
                let wanted = false;
                known.insert(key, Known { grain, wanted });
            }
            None => bad += 1,
        }
    }
    let whole = records.len() / RECORD_LEN;
    if bad > 0 {
        tracing::warn!("{}: {bad} damaged records are ignored", path.display());
    }
    // Behind a record that was cut off, the next one would not be found.
    if records.len() % RECORD_LEN != 0 {
        file.set_len(to_u64(HEADER_LEN + whole * RECORD_LEN))?;
    }
    file.seek(SeekFrom::End(0))?;
    Ok(known)
}

/// Writes a small file whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

#[cfg(test)]
mod tests;
