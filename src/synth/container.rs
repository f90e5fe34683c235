//! Files around a disk: structures that are computed, and stretches of the disk between them.
//!
//! Invariant: what a region holds is said in one place; reading, holes and explanations follow from it.

use super::region::{Region, read_regions};
use super::source::{ByteSource, Origin, ReadError, Run, Step, check_range};

/// What a region holds.
pub(super) enum Content<'a> {
    /// Known zeros.
    Zero,
    /// A structure of that name.
    Computed(&'static str),
    /// Another source's bytes from this offset on.
    Inner(&'a dyn ByteSource, u64),
}

/// A format of such files. The offsets that it is asked about are inside the file.
pub(super) trait Container: Send + Sync {
    /// Tells regions apart.
    type Kind: Copy;

    /// The disk.
    fn disk(&self) -> &dyn ByteSource;

    /// Length of the file in bytes.
    fn file_len(&self) -> u64;

    /// The region that holds the byte at `offset`.
    fn region_at(&self, offset: u64) -> Region<Self::Kind>;

    /// What the byte `within` of a region of that kind and those behind it are.
    fn content(&self, kind: Self::Kind, within: u64) -> Content<'_>;

    /// Fills `buf` from byte `within` of a region that is computed.
    fn render(&self, kind: Self::Kind, within: u64, buf: &mut [u8]);

    /// What the byte `within` of a region is, and where inside that; `None` where the inner source says it all.
    fn describe(&self, kind: Self::Kind, within: u64) -> Option<(String, u64)>;
}

impl<C: Container> ByteSource for C {
    fn len(&self) -> u64 {
        self.file_len()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.file_len())?;
        read_regions(
            offset,
            buf,
            |offset| self.region_at(offset),
            |region, within, part| {
                match self.content(region.kind, within) {
                    Content::Zero => part.fill(0),
                    Content::Computed(_) => self.render(region.kind, within, part),
                    Content::Inner(source, at) => source.read_exact_at(at, part)?,
                }
                Ok(())
            },
        )
    }

    fn run_at(&self, offset: u64) -> Run {
        if offset >= self.file_len() {
            return Run::EMPTY;
        }
        let region = self.region_at(offset);
        let len = region.rest(offset);
        let origin = match self.content(region.kind, region.within(offset)) {
            Content::Zero => Origin::Zero,
            Content::Computed(structure) => Origin::Computed(structure),
            Content::Inner(source, at) => {
                let run = source.run_at(at);
                return Run {
                    len: run.len.min(len),
                    origin: run.origin,
                };
            }
        };
        Run { len, origin }
    }

    fn known_zero_at(&self, offset: u64) -> (bool, u64) {
        if offset >= self.file_len() {
            return (true, 0);
        }
        let region = self.region_at(offset);
        let len = region.rest(offset);
        match self.content(region.kind, region.within(offset)) {
            Content::Zero => (true, len),
            Content::Computed(_) => (false, len),
            Content::Inner(source, at) => {
                let (is_zero, inner_len) = source.known_zero_at(at);
                (is_zero, inner_len.min(len))
            }
        }
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        if offset >= self.file_len() {
            return;
        }
        let region = self.region_at(offset);
        let within = region.within(offset);
        if let Some((what, offset)) = self.describe(region.kind, within) {
            trail.push(Step { what, offset });
        }
        if let Content::Inner(source, at) = self.content(region.kind, within) {
            source.explain_at(at, trail);
        }
    }

    fn may_block(&self, _: u64, _: u64) -> bool {
        let disk = self.disk();
        disk.may_block(0, disk.len())
    }
}
