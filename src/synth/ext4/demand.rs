//! What is asked of a layout: a size, room for the contents, and what the config says.

use crate::config::spec::Journal;
use crate::formats::ext4::geometry::Geometry;

/// How large a file system is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeRequest {
    /// At most this many bytes.
    Fixed(u64),
    /// As few blocks as hold the contents and this many free ones.
    Fit {
        /// Blocks that are to be free for users other than root.
        free_blocks: u64,
    },
}

/// What the contents need, in blocks and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Demand {
    /// The highest inode number in use.
    pub last_inode: u64,
    /// Blocks of directories and long symlinks with their slack.
    pub metadata_blocks: u64,
    /// Blocks of extended attributes.
    pub xattr_blocks: u64,
    /// Blocks of slack behind them.
    pub xattr_slack: u64,
    /// Blocks of file contents with their slack.
    pub data_blocks: u64,
    /// Blocks of slack among the above.
    pub slack_blocks: u64,
}

/// What the config asks of the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    /// Sizes and features.
    pub geometry: Geometry,
    /// The journal.
    pub journal: Journal,
    /// Inodes wanted; `None` for one per 16 KiB.
    pub inodes: Option<u64>,
    /// Percent of the blocks kept for root.
    pub reserved_percent: u64,
    /// Whether to leave room for growing the group descriptors.
    pub resize_inode: bool,
}
