//! A set of planned images that never changes.

use std::sync::Arc;

use super::data_map::DataMap;
use super::source::ByteSource;

/// One file that miragefs publishes.
pub struct Image {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub source: Arc<dyn ByteSource>,
    /// Where it has data.
    pub data: DataMap,
    /// Modification time to show, whole seconds since 1970.
    pub mtime: i64,
    /// Equal for equal bytes from the same host files: the identity fingerprint.
    pub identity: [u8; 32],
}

impl Image {
    /// Walks the runs of `source` and keeps its map.
    #[must_use]
    pub fn new(name: String, source: Arc<dyn ByteSource>, mtime: i64, identity: [u8; 32]) -> Self {
        let data = DataMap::of(&*source);
        Self {
            name,
            source,
            data,
            mtime,
            identity,
        }
    }
}

/// An immutable set of planned images.
#[derive(Default)]
pub struct Generation {
    /// The images in the order of the config.
    pub images: Vec<Arc<Image>>,
}
