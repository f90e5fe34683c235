//! The digest of a member of a package, so that an unchanged image is hashed once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::spec::DigestAlgorithm;
use crate::synth::digest::hex_len;

use super::{StoreId, make_directory, replace};

/// Where the digest of one image's disk is kept: one small file, which says for which content it holds.
#[derive(Debug, Clone)]
pub struct DigestStore {
    directory: PathBuf,
    path: PathBuf,
    /// Content and algorithm, in hex.
    key: String,
}

impl DigestStore {
    /// The store `id` below `directory`, for the content that `key` stands for.
    #[must_use]
    pub fn new(directory: &Path, id: StoreId, key: [u8; 32]) -> Self {
        Self {
            directory: directory.to_path_buf(),
            path: directory.join(id.file_name("digest")),
            key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// The digest, if it was kept for this content; `len` is its length in hex digits.
    #[must_use]
    pub fn get(&self, len: usize) -> Option<String> {
        let text = fs::read_to_string(&self.path).ok()?;
        let Some((key, digest)) = parse(&text) else {
            tracing::warn!("{}: is damaged; it is made anew", self.path.display());
            return None;
        };
        (key == self.key && digest.len() == len).then(|| digest.to_owned())
    }

    /// Whether the digest of this kind is kept for this content.
    #[must_use]
    pub fn holds(&self, algorithm: DigestAlgorithm) -> bool {
        self.get(hex_len(algorithm)).is_some()
    }

    /// Keeps the digest.
    pub fn put(&self, digest: &str) {
        let line = format!("{} {digest}", self.key);
        let check = crc32fast::hash(line.as_bytes());
        let written = make_directory(&self.directory)
            .and_then(|()| replace(&self.path, format!("{line} {check:08x}\n").as_bytes()));
        if let Err(error) = written {
            tracing::warn!("{}: cannot be written: {error}", self.path.display());
        }
    }
}

/// Key and digest of a line whose checksum is right.
fn parse(text: &str) -> Option<(&str, &str)> {
    let (line, check) = text.strip_suffix('\n')?.rsplit_once(' ')?;
    let sound = check == format!("{:08x}", crc32fast::hash(line.as_bytes()));
    let (key, digest) = line.split_once(' ')?;
    let is_hex = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    (sound && is_hex).then_some((key, digest))
}
