//! What an inode of the image says of a source file: the source's attributes with the config's and the manifest's
//! overrides, its extended attributes, its holes.

use std::path::Path;

use super::super::holes::block_ranges;
use super::super::ids;
use super::super::owners::Given;
use super::super::xattr;
use super::super::{Attributes, BlockRange, Timestamp, TreeError, XattrSetId};
use super::listing::{Metadata, join};
use super::place::File;
use super::{Scan, below};
use crate::config::spec::Sparse;
use crate::units::SECTOR_SIZE;

/// How much less than its length a host must store of a file before it is asked for holes: a grain of a VMDK. Less
/// comes from small gaps, compression or files kept in an inode.
const HOLES_LEN_MIN: u64 = 64 * 1024;

impl Scan<'_> {
    /// The blocks with data of a file whose host stores clearly less than its length; `None` without holes.
    pub(super) fn data_ranges(
        &self,
        index: u32,
        file: &File<'_>,
    ) -> Result<Option<Box<[BlockRange]>>, TreeError> {
        let stored = file.metadata.sectors.saturating_mul(SECTOR_SIZE);
        let is_sparse = file.metadata.size.saturating_sub(stored) >= HOLES_LEN_MIN;
        if !is_sparse || self.builder.fully_mapped || self.spec.sparse == Sparse::Never {
            return Ok(None);
        }
        let path = join(file.relative, file.name);
        let ranges = self.files.data_ranges(index, &path).map_err(|error| {
            self.host_error(file.relative, file.name, "asked for its holes", error)
        })?;
        let unit = self.builder.hole_unit;
        Ok(block_ranges(&ranges, file.metadata.size, unit))
    }

    /// Attributes of the source with the config's overrides; where they cannot be had, that is a mistake.
    pub(super) fn attributes(
        &mut self,
        metadata: &Metadata,
        relative: &Path,
        name: &[u8],
    ) -> Attributes {
        self.files.note_mtime(metadata.mtime.seconds());
        let mistakes = &mut self.builder.mistakes;
        let given = match &self.owners {
            Some(owners) => {
                let (path, kind) = (below(relative, name), metadata.file_type());
                let given = owners.given(&path, kind, (metadata.size, metadata.links));
                mistakes.take(given).unwrap_or_default()
            }
            None => Given::default(),
        };
        let path = || below(&self.root.path.join(relative), name);
        let ids = (metadata.uid, metadata.gid);
        let owner = ids::owner(self.spec, &given, ids, path, mistakes);
        let seen = Timestamp {
            seconds: metadata.mtime.seconds(),
            nanoseconds: metadata.mtime.nanoseconds(),
        };
        let mode = given.mode.or(self.spec.mode);
        Attributes {
            mode: mode.unwrap_or(metadata.mode & 0o7777),
            uid: owner.uid,
            gid: owner.gid,
            mtime: self.builder.clamped(given.time.unwrap_or(seen)),
            immutable: false,
        }
    }

    /// The extended attributes of a source file that has these permission bits, and a note of those that are left out.
    pub(super) fn xattrs(
        &mut self,
        found: xattr::Attributes,
        mode: u16,
        relative: &Path,
        name: &[u8],
    ) -> XattrSetId {
        if found.is_empty() {
            return XattrSetId::NONE;
        }
        let path = self.root.path.join(below(relative, name));
        for name in &found.left_out {
            self.left_out.add(name, &path);
        }
        let mut set = found.taken;
        if self.owners.is_some() {
            xattr::follow_mode(&mut set, mode);
        }
        let mapped = ids::map_xattrs(self.spec, &mut set, &path);
        self.builder.mistakes.take(mapped);
        self.builder.tables.xattr_set(set)
    }
}
