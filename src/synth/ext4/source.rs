//! A planned file system as bytes.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets are checked against the partition's length, which is below 2^48"
)]

use std::sync::Arc;

use super::place::{Place, Placed};
use super::plan::Ext4Plan;
use crate::formats::ext4::geometry::{BLOCK_LEN_MAX, Geometry};
use crate::synth::host_file::{HostFile, HostFiles};
use crate::synth::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use crate::synth::tree::{Content, NodeId, NodeKind};
use crate::units::{to_u64, to_usize};

/// A file system, its boot sector in front and zeros behind its last block.
#[derive(Debug)]
pub struct Ext4 {
    plan: Ext4Plan,
    files: Arc<HostFiles>,
    boot_sector: Option<[u8; 512]>,
    len: u64,
}

impl Ext4 {
    pub(super) const fn new(
        plan: Ext4Plan,
        len: u64,
        boot_sector: Option<[u8; 512]>,
        files: Arc<HostFiles>,
    ) -> Self {
        Self {
            plan,
            files,
            boot_sector,
            len,
        }
    }

    /// The plan it is rendered from.
    #[must_use]
    pub const fn plan(&self) -> &Ext4Plan {
        &self.plan
    }

    pub(super) fn files(&self) -> &HostFiles {
        &self.files
    }

    /// How many of its source files some users of the host may not read.
    #[must_use]
    pub fn closed_file_count(&self) -> u64 {
        self.files.closed_count()
    }

    fn file_system_len(&self) -> u64 {
        self.plan.block_count() * self.plan.block_size()
    }

    fn geometry(&self) -> &Geometry {
        &self.plan.layout.geometry
    }

    /// Fills `part` from byte `within` of a block that is no file contents.
    fn render_part(&self, block: u64, place: Place, within: usize, part: &mut [u8]) {
        let block_len = self.geometry().block_len();
        if part.len() == block_len {
            part.fill(0);
            self.render(block, place, part);
            return;
        }
        let mut scratch = [0; BLOCK_LEN_MAX];
        let whole = &mut scratch[..block_len];
        self.render(block, place, whole);
        part.copy_from_slice(&whole[within..within + part.len()]);
    }

    /// Renders into zeros of a block's length.
    fn render(&self, block: u64, place: Place, bytes: &mut [u8]) {
        self.plan.render(place, block, bytes);
        if let (0, Some(boot_sector)) = (block, &self.boot_sector) {
            bytes[..boot_sector.len()].copy_from_slice(boot_sector);
        }
    }

    /// Fills `buf` from `offset` of a file; what is beyond its end is zero.
    fn read_file(&self, id: NodeId, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let NodeKind::File { size, content, .. } = self.plan.tree.kind(id) else {
            unreachable!("only files have data");
        };
        let in_file = to_usize(size.saturating_sub(offset).min(to_u64(buf.len())));
        let (bytes, padding) = buf.split_at_mut(in_file);
        padding.fill(0);
        if bytes.is_empty() {
            return Ok(());
        }
        match content {
            Content::Host(index) => self.files.read_exact_at(index, offset, bytes),
            Content::Inline(contents) => {
                let start = to_usize(offset);
                bytes.copy_from_slice(&contents[start..start + in_file]);
                Ok(())
            }
        }
    }

    /// The origin of file contents at `offset` and how far it reaches.
    fn run_of_file(&self, id: NodeId, offset: u64) -> Run {
        let NodeKind::File { size, content, .. } = self.plan.tree.kind(id) else {
            unreachable!("only files have data");
        };
        if offset >= size {
            let len = size.next_multiple_of(self.plan.block_size()) - offset;
            return Run {
                len,
                origin: Origin::Computed("padding of a file's last block"),
            };
        }
        let origin = match content {
            Content::Host(index) => Origin::HostFile {
                file: HostFile::new(Arc::clone(&self.files), index),
                offset,
            },
            Content::Inline(_) => Origin::Computed("file of the config or the boot loader"),
        };
        Run {
            len: size - offset,
            origin,
        }
    }

    /// Where within its structure a byte of a block lies, for blocks that hold several or more than one.
    fn offset_in_structure(&self, placed: Placed, offset_in_block: u64) -> u64 {
        match placed.place {
            Place::Superblock { group }
                if offset_in_block >= self.plan.layout.superblock_offset(group) =>
            {
                offset_in_block - self.plan.layout.superblock_offset(group)
            }
            Place::Boot | Place::Superblock { .. }
                if self.boot_sector.is_some() && offset_in_block >= 512 =>
            {
                offset_in_block - 512
            }
            Place::GroupDescriptors { .. } => offset_in_block % self.geometry().descriptor_size(),
            Place::InodeTable { .. } => offset_in_block % self.geometry().inode_size(),
            _ => offset_in_block,
        }
    }

    fn before_superblock(&self, offset: u64) -> String {
        if offset < 512 && self.boot_sector.is_some() {
            "boot sector of the partition (extlinux)".to_owned()
        } else {
            "unused space before the superblock".to_owned()
        }
    }

    fn what(&self, placed: Placed, offset_in_block: u64) -> String {
        let plan = &self.plan;
        let path = |node: NodeId| plan.tree.path_of(node);
        match placed.place {
            Place::Boot => self.before_superblock(offset_in_block),
            Place::Superblock { group: 0 }
                if offset_in_block < plan.layout.superblock_offset(0) =>
            {
                self.before_superblock(offset_in_block)
            }
            Place::Superblock { group: 0 } => "superblock".to_owned(),
            Place::Superblock { group } => format!("backup superblock in group {group}"),
            Place::GroupDescriptors { index } => {
                let geometry = self.geometry();
                let group = index * geometry.descriptors_per_block()
                    + offset_in_block / geometry.descriptor_size();
                if group < plan.layout.group_count {
                    format!("group descriptor {group}")
                } else {
                    "unused space behind the group descriptors".to_owned()
                }
            }
            Place::ReservedGdt { group } => {
                format!("reserved group descriptor block in group {group}")
            }
            Place::BlockBitmap { group } => format!("block bitmap of group {group}"),
            Place::InodeBitmap { group } => format!("inode bitmap of group {group}"),
            Place::InodeTable { group, first_inode } => {
                let inode = u64::from(first_inode) + offset_in_block / self.geometry().inode_size();
                let node = u32::try_from(inode)
                    .ok()
                    .and_then(|inode| plan.allocation.node_of_inode(inode));
                let owner = match (inode, node) {
                    (7, _) => ", for growing the file system".to_owned(),
                    (8, _) => ", the journal".to_owned(),
                    (12, None) if plan.layout.orphan.len() > 0 => ", the orphan file".to_owned(),
                    (_, Some(node)) => format!(", {}", path(node)),
                    (0..=10, None) => ", reserved".to_owned(),
                    (_, None) => ", free".to_owned(),
                };
                format!("inode table of group {group}: inode {inode}{owner}")
            }
            Place::Indirect => "indirect block of the resize inode".to_owned(),
            Place::Journal { index } => format!("journal block {index}"),
            Place::JournalTree { index } => format!("extent tree of the journal, block {index}"),
            Place::Orphans { index } => format!("orphan file, block {index}"),
            Place::Directory { node, index } => format!("directory {}, block {index}", path(node)),
            Place::Symlink { node } => format!("target of symlink {}", path(node)),
            Place::Xattrs { index } => {
                let (attributes, sharers) = plan.allocation.xattrs.block(index);
                format!(
                    "extended attributes: {} in this block, shared by {sharers} inodes",
                    attributes.len()
                )
            }
            Place::ExtentTree { node, index, .. } => {
                format!("extent tree of {}, block {index}", path(node))
            }
            Place::Data { node, .. } => format!("file {}", path(node)),
            Place::Free => "free block".to_owned(),
        }
    }
}

impl ByteSource for Ext4 {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len)?;
        let block_size = self.plan.block_size();
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let wanted = to_u64(rest.len());
            if at >= self.file_system_len() {
                rest.fill(0);
                return Ok(());
            }
            let block = at / block_size;
            let within = at % block_size;
            let placed = self.plan.resolve(block);
            let is_data = matches!(placed.place, Place::Data { .. });
            let (zero, blocks) = self.plan.zero_run(placed);
            let run_blocks = if zero || is_data { blocks } else { 1 };
            let len = run_blocks
                .saturating_mul(block_size)
                .saturating_sub(within)
                .min(wanted);
            let (part, behind) = rest.split_at_mut(to_usize(len));
            match placed.place {
                Place::Data { node, index } => {
                    self.read_file(node, index * block_size + within, part)?;
                }
                _ if zero => part.fill(0),
                place => {
                    self.render_part(block, place, to_usize(within), part);
                }
            }
            at += len;
            rest = behind;
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        if offset >= self.len {
            return Run::EMPTY;
        }
        let end = self.file_system_len();
        if offset >= end {
            return Run {
                len: self.len - offset,
                origin: Origin::Zero,
            };
        }
        let block_size = self.plan.block_size();
        let within = offset % block_size;
        let placed = self.plan.resolve(offset / block_size);
        let (zero, blocks) = self.plan.zero_run(placed);
        let len = blocks
            .saturating_mul(block_size)
            .saturating_sub(within)
            .min(end - offset);
        match placed.place {
            Place::Data { node, index } => {
                let run = self.run_of_file(node, index * block_size + within);
                Run {
                    len: run.len.min(len),
                    origin: run.origin,
                }
            }
            _ if zero => Run {
                len,
                origin: Origin::Zero,
            },
            _ => Run {
                len,
                origin: Origin::Computed("ext4 metadata"),
            },
        }
    }

    fn known_zero_at(&self, offset: u64) -> (bool, u64) {
        let end = self.file_system_len();
        if offset >= end {
            return (true, self.len.saturating_sub(offset));
        }
        let block_size = self.plan.block_size();
        let (is_zero, blocks) = self.plan.known_zero(offset / block_size);
        let len = blocks
            .saturating_mul(block_size)
            .saturating_sub(offset % block_size);
        (is_zero, len.min(end - offset))
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        if offset >= self.len {
            return;
        }
        if offset >= self.file_system_len() {
            let what = "behind the file system's last block".to_owned();
            trail.push(Step {
                what,
                offset: offset - self.file_system_len(),
            });
            return;
        }
        let block_size = self.plan.block_size();
        let block = offset / block_size;
        let within = offset % block_size;
        let placed = self.plan.resolve(block);
        trail.push(Step {
            what: format!("ext4 block {block}"),
            offset: within,
        });
        let what = self.what(placed, within);
        match placed.place {
            Place::Data { node, index } => {
                let in_file = index * block_size + within;
                trail.push(Step {
                    what,
                    offset: in_file,
                });
                let run = self.run_of_file(node, in_file);
                let what = match run.origin {
                    Origin::HostFile { file, .. } => {
                        format!("source file {}", file.path().display())
                    }
                    Origin::Computed(what) => what.to_owned(),
                    Origin::Zero => "hole".to_owned(),
                };
                trail.push(Step {
                    what,
                    offset: in_file,
                });
            }
            _ => {
                let offset = self.offset_in_structure(placed, within);
                trail.push(Step { what, offset });
            }
        }
    }
}
