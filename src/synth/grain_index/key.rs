//! What a grain's compressed form depends on, in a few bytes.
//!
//! Invariant: equal keys mean equal bytes of the disk, as far as a host that stamps changes tells. Device numbers, which
//! change at a reboot, and paths, which change when a directory is renamed, are no part of it.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets inside a grain of a disk"
)]

use sha2::{Digest, Sha256};

use crate::formats::vmdk::GRAIN_LEN;
use crate::formats::vmdk::deflate::LIBRARY;
use crate::synth::host_file::{HostFile, Identity};
use crate::synth::source::{ByteSource, Origin, ReadError};
use crate::units::to_usize;

/// The key of a grain.
pub type GrainKey = [u8; 16];

/// Tells what kind of piece follows; each piece has a fixed length or says its own.
const ZERO: u8 = 0;
const COMPUTED: u8 = 1;
const HOST_FILE: u8 = 2;

/// Makes the keys of a disk's grains at one level of compression.
pub(super) struct KeyMaker {
    base: Sha256,
    buf: Vec<u8>,
}

impl KeyMaker {
    pub(super) fn new(level: u8) -> Self {
        let mut base = Sha256::new();
        base.update(LIBRARY.as_bytes());
        base.update([0, level]);
        Self {
            base,
            buf: Vec::new(),
        }
    }

    /// The key of grain `grain` of `disk`. Host files are not read.
    ///
    /// # Errors
    /// Those of computed bytes, if a source has any.
    pub(super) fn key(&mut self, disk: &dyn ByteSource, grain: u64) -> Result<GrainKey, ReadError> {
        let mut hash = self.base.clone();
        let start = grain * GRAIN_LEN;
        let end = start + GRAIN_LEN;
        let mut at = start;
        while at < end {
            let run = disk.run_at(at);
            let len = run.len.min(end - at);
            match run.origin {
                Origin::Zero => {
                    hash.update([ZERO]);
                    hash.update(len.to_le_bytes());
                }
                Origin::HostFile { file, offset } => {
                    hash.update([HOST_FILE]);
                    hash.update(len.to_le_bytes());
                    hash.update(offset.to_le_bytes());
                    update_identity(&mut hash, &file);
                }
                Origin::Computed(_) => {
                    self.buf.resize(to_usize(len), 0);
                    disk.read_exact_at(at, &mut self.buf)?;
                    hash.update([COMPUTED]);
                    hash.update(len.to_le_bytes());
                    hash.update(&self.buf);
                }
            }
            at += len;
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut key = [0; 16];
        for (byte, of_digest) in key.iter_mut().zip(digest) {
            *byte = of_digest;
        }
        Ok(key)
    }
}

fn update_identity(hash: &mut Sha256, file: &HostFile) {
    let Identity {
        device: _,
        inode,
        size,
        mtime,
        ctime,
    } = file.identity();
    hash.update(inode.to_le_bytes());
    hash.update(size.to_le_bytes());
    for time in [mtime, ctime] {
        hash.update(time.seconds().to_le_bytes());
        hash.update(time.nanoseconds().to_le_bytes());
    }
}
