//! A tar around members that are computed: every offset is known before a byte is read.

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::segments::{Segment, SegmentMap};
use super::source::ByteSource;
use crate::formats::tar::{BLOCK_LEN, END_LEN, Member, RECORD_LEN, TarError};
use crate::units::{ByteCount, checked_round_up};

/// Why members do not become an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// A member does not fit a tar header.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The archive would be longer than 2^64 - 1 bytes.
    #[error("{name} of {len}: the archive around it would end above 2^64 - 1 bytes")]
    TooLarge {
        /// The member.
        name: String,
        /// Its length.
        len: ByteCount,
    },
}

/// A member's bytes.
pub(super) enum Content {
    /// These, of the structure of that name.
    Bytes(Arc<[u8]>, &'static str),
    /// Those of another source.
    Source(Arc<dyn ByteSource>),
}

/// A tar to which members are added in their order.
pub(super) struct Archive {
    map: SegmentMap,
    /// Time of all members, seconds since 1970.
    mtime: i64,
}

impl Archive {
    pub(super) fn new(mtime: i64) -> Self {
        Self {
            map: SegmentMap::new(),
            mtime,
        }
    }

    /// Adds a member.
    ///
    /// # Errors
    /// [`ArchiveError`], if its name, size or time does not fit.
    pub(super) fn add(&mut self, name: &str, content: Content) -> Result<(), ArchiveError> {
        let (size, segment) = match content {
            Content::Bytes(bytes, structure) => (
                crate::units::to_u64(bytes.len()),
                Segment::Bytes { bytes, structure },
            ),
            Content::Source(source) => (source.len(), Segment::Source(source)),
        };
        let member = Member {
            name,
            size,
            mtime: self.mtime,
        };
        let header = member.to_raw()?;
        // With the end of the archive behind it.
        let end = self
            .map
            .len()
            .checked_add(BLOCK_LEN)
            .and_then(|start| start.checked_add(size))
            .and_then(|end| end.checked_add(END_LEN))
            .and_then(|end| checked_round_up(end, RECORD_LEN));
        if end.is_none() {
            return Err(ArchiveError::TooLarge {
                name: name.to_owned(),
                len: ByteCount(size),
            });
        }
        let what = format!("tar header of {name}");
        self.map
            .push_bytes(what, "tar header", header.as_bytes().into());
        self.map.push(size, format!("tar member {name}"), segment);
        self.pad(BLOCK_LEN);
        Ok(())
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> SegmentMap {
        self.map.push(END_LEN, "tar padding", Segment::Zero);
        self.pad(RECORD_LEN);
        self.map
    }

    fn pad(&mut self, unit: u64) {
        let end = checked_round_up(self.map.len(), unit);
        let end = end.expect("the end of the archive was checked for each member");
        self.map.push_zeros_to(end, "tar padding");
    }
}
