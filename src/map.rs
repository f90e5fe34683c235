//! The disk as people think of it: partitions to scale, what the blocks of each hold, where every file lies, what is
//! free, and which grains a VMDK stores.
//!
//! ```text
//! Pieces of a plan ──▶ Layout ──▶ layout.json   all of it
//!                            └──▶ layout.svg    a picture; what is too small to see is drawn as its directory
//!                            └──▶ layout.html   the same to move about in, one file that needs no other
//! ```
//!
//! Invariant: bars are to scale, and what a bar shows adds up to what it stands for.

mod draw;
mod html;
mod layout;
mod svg;
mod tree;

pub use html::html;
pub use layout::{Layout, PartitionLayout, Region, RegionKind, Share};
pub use svg::svg;
pub use tree::{Branch, Leaf};

use serde::Serialize;

/// What is drawn, as data; docs/picture.md describes it. `generation` is its number in a mount.
#[must_use]
pub fn json(layout: &Layout, generation: Option<u64>) -> String {
    #[derive(Serialize)]
    struct Numbered<'a> {
        generation: Option<u64>,
        #[serde(flatten)]
        layout: &'a Layout,
    }
    let mut text = serde_json::to_string(&Numbered { generation, layout }).unwrap_or_default();
    text.push('\n');
    text
}
