//! The page: `layout.html`, one file that needs no other.

use serde::Serialize;
use serde::ser::{SerializeSeq, SerializeTuple, Serializer};

use super::draw::escape;
use super::layout::{ImageLine, Layout, PartitionLayout, Region, Share};
use super::tree::{Branch, Leaf};
use crate::units::ByteCount;

/// The disk of `layout` to move about in; `generation` is its number in a mount, whose newer ones the page follows.
#[must_use]
pub fn html(layout: &Layout, generation: Option<u64>) -> String {
    let data = Data {
        generation,
        disk_len: layout.disk_len,
        kinds: Share::ALL
            .map(|share| (share.class(), share.title()))
            .into(),
        regions: &layout.regions,
        partitions: layout.partitions.iter().map(Partition::of).collect(),
        grains: &layout.grains,
        images: &layout.images,
    };
    // Nothing in it may end the script that holds it.
    let data = serde_json::to_string(&data)
        .unwrap_or_default()
        .replace('<', "\\u003c");
    let name = escape(&layout.name);
    let number = generation.map_or_else(String::new, |number| format!("generation {number}"));
    // Names come last: nothing in them is a place to fill.
    include_str!("page.html")
        .replace("@STYLE@", include_str!("style.css"))
        .replace("@SCRIPT@", include_str!("page.js"))
        .replace("@GENERATION@", &number)
        .replace("@SIZE@", &ByteCount(layout.disk_len).to_string())
        .replacen("@TITLE@", &format!("The disk of {name}"), 1)
        .replacen("@NAME@", &name, 1)
        .replacen("@DATA@", &data, 1)
}

/// What the script draws.
#[derive(Serialize)]
struct Data<'a> {
    generation: Option<u64>,
    disk_len: u64,
    /// Classes and titles of what blocks hold, in the order of the legend.
    kinds: Vec<(&'static str, &'static str)>,
    regions: &'a [Region],
    partitions: Vec<Partition<'a>>,
    grains: &'a [(u64, u64)],
    images: &'a [ImageLine],
}

#[derive(Serialize)]
struct Partition<'a> {
    label: &'a str,
    offset: u64,
    len: u64,
    type_code: u8,
    active: bool,
    filesystem: &'static str,
    block_size: u64,
    blocks: u64,
    groups: &'a [u64],
    runs: &'a [(Share, u64, u64)],
    shares: &'a [(Share, u64)],
    root: Option<PackedBranch<'a>>,
}

impl<'a> Partition<'a> {
    fn of(partition: &'a PartitionLayout) -> Self {
        Self {
            label: &partition.label,
            offset: partition.offset,
            len: partition.len,
            type_code: partition.type_code,
            active: partition.active,
            filesystem: partition.filesystem,
            block_size: partition.block_size,
            blocks: partition.blocks,
            groups: &partition.groups,
            runs: &partition.runs,
            shares: &partition.shares,
            root: partition.root.as_ref().map(PackedBranch),
        }
    }
}

/// A branch without the names of its fields: there may be 100,000 files.
struct PackedBranch<'a>(&'a Branch);

impl Serialize for PackedBranch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let branch = self.0;
        let mut packed = serializer.serialize_tuple(7)?;
        packed.serialize_element(&branch.name)?;
        packed.serialize_element(&branch.size)?;
        packed.serialize_element(&branch.files)?;
        packed.serialize_element(&branch.blocks.0)?;
        packed.serialize_element(&branch.blocks.1)?;
        packed.serialize_element(&List(&branch.branches, PackedBranch))?;
        packed.serialize_element(&List(&branch.leaves, PackedLeaf))?;
        packed.end()
    }
}

struct PackedLeaf<'a>(&'a Leaf);

impl Serialize for PackedLeaf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let leaf = self.0;
        match &*leaf.extents {
            [] => (&leaf.name, leaf.size).serialize(serializer),
            extents if leaf.is_further_name => {
                (&leaf.name, leaf.size, extents, 1).serialize(serializer)
            }
            [(first, count)] => (&leaf.name, leaf.size, first, count).serialize(serializer),
            extents => (&leaf.name, leaf.size, extents).serialize(serializer),
        }
    }
}

/// Elements as they are packed.
struct List<'a, T, P>(&'a [T], fn(&'a T) -> P);

impl<T, P: Serialize> Serialize for List<'_, T, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for element in self.0 {
            list.serialize_element(&(self.1)(element))?;
        }
        list.end()
    }
}
