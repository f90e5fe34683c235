//! What changed from one plan to another: partitions, files, bytes of images.

mod bytes;
mod files;

use std::sync::Arc;

use serde::Serialize;

pub use self::bytes::ImageBytes;
pub use self::files::{FileChange, FileChanges};
use super::generation::{Image, PartitionReport, Pieces};
use crate::units::SECTOR_SIZE;

/// What changed between two plans.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct GenerationDiff {
    /// Partitions that came, went, or are not as before, in the order of the disk.
    pub partitions: Vec<PartitionDiff>,
    /// Images that came, went, or have other bytes, in the order of the config.
    pub images: Vec<ImageDiff>,
}

/// A partition that is not as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionDiff {
    /// Its label.
    pub label: String,
    /// First byte on the disk and length in bytes, before; `None` for a new one.
    pub before: Option<Extent>,
    /// The same now; `None` for one that is gone.
    pub after: Option<Extent>,
    /// What changed inside.
    #[serde(flatten)]
    pub files: FileChanges,
}

/// A place on the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

/// An image that is not as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageDiff {
    /// Its name.
    pub name: String,
    /// Bytes before; `None` for a new one, or one that was not ready.
    pub size_before: Option<u64>,
    /// Bytes now; `None` for one that is gone, or is not ready.
    pub size_after: Option<u64>,
    /// Whether it is there only later.
    pub pending: bool,
    /// How many bytes differ, where both can be read.
    pub bytes: Option<ImageBytes>,
}

impl GenerationDiff {
    /// What is different in `new`.
    #[must_use]
    pub fn between(old: &Pieces, new: &Pieces) -> Self {
        Self {
            partitions: partitions(old, new),
            images: images(Shown::of(old), Shown::of(new)),
        }
    }

    /// The same for a few images alone.
    #[must_use]
    pub fn of_images(old: &[Arc<Image>], new: &[Arc<Image>]) -> Self {
        let of = |images| Shown {
            images,
            pending: &[],
        };
        Self {
            partitions: Vec::new(),
            images: images(of(old), of(new)),
        }
    }

    /// Whether nothing is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.images.is_empty()
    }
}

fn partitions(old: &Pieces, new: &Pieces) -> Vec<PartitionDiff> {
    let find = |pieces: &Pieces, label: &str| {
        let mut labels = pieces.partitions.iter();
        labels.position(|partition| partition.label == label)
    };
    let extent = |partition: &PartitionReport| Extent {
        offset: partition.start.0.saturating_mul(SECTOR_SIZE),
        len: partition.sectors.saturating_mul(SECTOR_SIZE),
    };
    let file_system =
        |pieces: &Pieces, index: usize| pieces.file_systems.get(index).cloned().flatten();
    let mut changed = Vec::new();
    for (index, partition) in new.partitions.iter().enumerate() {
        let before = find(old, &partition.label);
        let files = FileChanges::between(
            before.and_then(|before| file_system(old, before)).as_ref(),
            file_system(new, index).as_ref(),
        );
        let diff = PartitionDiff {
            label: partition.label.clone(),
            before: before
                .and_then(|before| old.partitions.get(before))
                .map(extent),
            after: Some(extent(partition)),
            files,
        };
        if diff.before != diff.after || !diff.files.is_empty() {
            changed.push(diff);
        }
    }
    for (index, partition) in old.partitions.iter().enumerate() {
        if find(new, &partition.label).is_none() {
            changed.push(PartitionDiff {
                label: partition.label.clone(),
                before: Some(extent(partition)),
                after: None,
                files: FileChanges::between(file_system(old, index).as_ref(), None),
            });
        }
    }
    changed
}

fn images(old: Shown<'_>, new: Shown<'_>) -> Vec<ImageDiff> {
    let ready = new.images.iter().map(|image| &image.name);
    let names: Vec<&String> = ready.chain(new.pending).collect();
    let gone = old.images.iter().map(|image| &image.name);
    let gone = gone.filter(|name| !names.contains(name));
    let diffs = names.iter().copied().chain(gone).filter_map(|name| {
        let (before, after) = (old.find(name), new.find(name));
        if let (Some(before), Some(after)) = (before, after)
            && before.identity == after.identity
        {
            return None;
        }
        let size = |image: &Arc<Image>| image.source.len();
        Some(ImageDiff {
            name: name.clone(),
            size_before: before.map(size),
            size_after: after.map(size),
            pending: new.pending.contains(name),
            bytes: before
                .zip(after)
                .map(|(before, after)| ImageBytes::between(&*before.source, &*after.source)),
        })
    });
    diffs.collect()
}

/// The images of a generation.
#[derive(Clone, Copy)]
struct Shown<'a> {
    images: &'a [Arc<Image>],
    pending: &'a [String],
}

impl<'a> Shown<'a> {
    fn of(pieces: &'a Pieces) -> Self {
        Self {
            images: &pieces.images,
            pending: &pieces.pending,
        }
    }

    fn find(&self, name: &str) -> Option<&'a Arc<Image>> {
        self.images.iter().find(|image| image.name == name)
    }
}
