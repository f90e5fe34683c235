//! An ext4 file system computed from a tree.
//!
//! Planning decides inode numbers, block numbers and checksums of bitmaps once; rendering any block afterwards takes
//! nothing but the plan, and cannot fail. File contents are read from their sources when they are asked for.
//!
//! Invariant: every block has exactly one owner, and the bitmaps say so.

mod alloc;
mod demand;
mod directory;
mod error;
mod fit;
mod inventory;
mod layout;
mod limits;
mod nesting;
mod numbers;
mod place;
mod plan;
mod render;
mod runs;
mod source;
mod usage;
mod xattr;

pub use demand::SizeRequest;
pub use error::Ext4Error;
pub use inventory::{Area, AreaKind};
pub use layout::Layout;
pub use limits::mistakes_of;
pub use numbers::JOURNAL_FS_BLOCKS_MIN;
pub use plan::{Ext4Params, Ext4Plan};
pub use runs::Slack;
pub use source::Ext4;
