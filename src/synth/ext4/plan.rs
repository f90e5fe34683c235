//! From a tree to a file system: numbers, layout, then the sums over both.

use std::sync::Arc;

use uuid::Uuid;

use super::alloc::Allocation;
use super::demand::{Options, SizeRequest};
use super::error::Ext4Error;
use super::fit::Sizing;
use super::layout::Layout;
use super::limits;
use super::numbers::COUNT_MAX_32;
use super::render::zone_root;
use super::runs::Slack;
use super::source::Ext4;
use super::usage::Groups;
use crate::config::spec::{Ext4Spec, FeatureSet, Journal};
use crate::formats::ext4::checksum::Checksum;
use crate::formats::ext4::geometry::{Checksums, Features, Geometry};
use crate::formats::ext4::htree::HashSeed;
use crate::formats::ext4::superblock::{JournalBackup, Superblock};
use crate::synth::host_file::HostFiles;
use crate::synth::mistakes::Mistakes;
use crate::synth::tree::{NodeId, Tree};
use crate::units::low32;

/// Percent kept for root in a file system of given size, as mke2fs has it.
const DEFAULT_RESERVED_PERCENT: u8 = 5;
/// The latest time that the superblock holds: 40 bits.
const TIME_MAX: u64 = (1 << 40) - 1;

/// What a file system is made of besides its tree.
#[derive(Debug, Clone)]
pub struct Ext4Params<'a> {
    /// `[partition.ext4]`.
    pub spec: &'a Ext4Spec,
    /// What the partition is called in messages.
    pub name: &'a str,
    /// Volume name, at most 16 bytes.
    pub label: &'a str,
    /// UUID.
    pub uuid: Uuid,
    /// Time of creation in seconds since 1970.
    pub time: i64,
    /// How large.
    pub size: SizeRequest,
}

/// A planned file system whose inline files may still be replaced.
#[derive(Debug)]
pub struct Ext4Plan {
    pub(super) tree: Tree,
    pub(super) layout: Layout,
    pub(super) allocation: Allocation,
    pub(super) groups: Groups,
    pub(super) superblock: Superblock,
    pub(super) seed: Checksum,
    pub(super) time: i64,
}

impl Ext4Plan {
    /// Plans the file system.
    ///
    /// # Errors
    /// [`Ext4Error`] if the tree does not fit, and for each file that is beyond ext4's limits.
    pub fn new(tree: Tree, params: &Ext4Params<'_>) -> Result<Self, Mistakes<Ext4Error>> {
        let hash_seed_bytes = *Uuid::new_v5(&params.uuid, b"hash seed").as_bytes();
        let hash_seed = HashSeed::from_bytes(hash_seed_bytes);
        let seed = Checksum::of_uuid(params.uuid.as_bytes());
        let fixed = matches!(params.size, SizeRequest::Fixed(_));
        let default_percent = if fixed { DEFAULT_RESERVED_PERCENT } else { 0 };
        let mut options = Options {
            geometry: geometry(params.spec),
            journal: params.spec.journal,
            inodes: params.spec.inodes.map(u64::from),
            reserved_percent: params
                .spec
                .reserved_percent
                .unwrap_or(default_percent)
                .into(),
            resize_inode: fixed,
        };
        let mut allocation =
            Allocation::new(&tree, hash_seed, options.geometry).map_err(|first| {
                let all = limits::mistakes_of(&tree, params.spec);
                if all.is_empty() { first.into() } else { all }
            })?;
        let layout = match layout(&tree, &mut allocation, params, &options) {
            // Only the descriptors differ with 64bit, so that nothing needs to be numbered again.
            Err(Ext4Error::TooLarge { .. }) if is_narrow(&options, params.size) => {
                options.geometry = options.geometry.widened();
                layout(&tree, &mut allocation, params, &options)?
            }
            other => other?,
        };
        let groups = Groups::new(&tree, &layout, &allocation, bitmap_seed(&layout, seed));
        let superblock = superblock(params, &layout, &groups, hash_seed_bytes);
        Ok(Self {
            tree,
            layout,
            allocation,
            groups,
            superblock,
            seed,
            time: params.time,
        })
    }

    /// Bytes of a block.
    #[must_use]
    pub const fn block_size(&self) -> u64 {
        self.layout.geometry.block_size()
    }

    /// Number of blocks.
    #[must_use]
    pub const fn block_count(&self) -> u64 {
        self.layout.block_count
    }

    /// The tree.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The sectors of a file's blocks, counted from the start of the partition, in the order of the file.
    #[must_use]
    pub fn sectors_of(&self, id: NodeId) -> Vec<u64> {
        let sectors_per_block = self.layout.geometry.sectors_per_block();
        self.allocation
            .extents(&self.layout, &self.tree, id)
            .flat_map(|extent| {
                let start = extent.start.saturating_mul(sectors_per_block);
                let len = u64::from(extent.len).saturating_mul(sectors_per_block);
                start..start.saturating_add(len)
            })
            .collect()
    }

    /// Replaces the bytes of an inline file by as many others.
    pub fn replace_inline(&mut self, id: NodeId, bytes: Arc<[u8]>) {
        self.tree.replace_inline(id, bytes);
    }

    /// The file system's bytes; `len` is the partition's, whose part behind the last block is zero, and `boot_sector`
    /// is what the partition begins with.
    #[must_use]
    pub fn into_source(
        self,
        len: u64,
        boot_sector: Option<[u8; 512]>,
        files: Arc<HostFiles>,
    ) -> Ext4 {
        Ext4::new(self, len, boot_sector, files)
    }

    /// Free bytes for users other than root, free inodes, and inodes in all.
    #[must_use]
    pub fn free(&self) -> (u64, u32, u32) {
        let free = self
            .superblock
            .free_blocks
            .saturating_sub(self.superblock.reserved_blocks);
        (
            free.saturating_mul(self.block_size()),
            self.superblock.free_inodes,
            self.superblock.inode_count,
        )
    }

    /// How much slack there is between subtrees, and the bytes that it takes.
    #[must_use]
    pub const fn slack(&self) -> (Slack, u64) {
        let blocks = self.allocation.demand.slack_blocks;
        (
            self.allocation.slack,
            blocks.saturating_mul(self.block_size()),
        )
    }

    /// Bytes of the journal; 0 if there is none.
    #[must_use]
    pub const fn journal_len(&self) -> u64 {
        self.layout.journal.len().saturating_mul(self.block_size())
    }
}

/// Sizes and features as the config asks for them.
pub(super) fn geometry(spec: &Ext4Spec) -> Geometry {
    let features = match spec.features {
        FeatureSet::Std => Features::STD,
        FeatureSet::Modern => Features {
            wide: true,
            checksum_seed: true,
            // Without a journal the kernel keeps no orphans.
            orphan_file: spec.journal != Journal::None,
            ..Features::STD
        },
        FeatureSet::Compat => Features {
            checksums: Checksums::Descriptors,
            ..Features::STD
        },
    };
    Geometry::new(spec.block_size.into(), spec.inode_size.into(), features)
}

/// Whether a file system is beyond the limit of block numbers of 32 bits and may have wider ones.
fn is_narrow(options: &Options, size: SizeRequest) -> bool {
    let wants_more = match size {
        SizeRequest::Fixed(bytes) => {
            bytes > COUNT_MAX_32.saturating_mul(options.geometry.block_size())
        }
        SizeRequest::Fit { .. } => true,
    };
    wants_more && !options.geometry.features.wide
}

/// The layout with as much slack as asked for, or the most below it that fits and is moderate.
fn layout(
    tree: &Tree,
    allocation: &mut Allocation,
    params: &Ext4Params<'_>,
    options: &Options,
) -> Result<Layout, Ext4Error> {
    let mut attempts = Slack::from_bits(params.spec.slack_bits)
        .and_less()
        .peekable();
    loop {
        let slack = attempts.next().unwrap_or(Slack::Dense);
        let is_last = attempts.peek().is_none();
        allocation.nest(slack);
        if !is_last && !allocation.is_moderate() {
            continue;
        }
        allocation.settle(tree);
        let mut sizing = Sizing {
            label: params.name,
            demand: allocation.demand,
            options,
            place_trees: &mut |layout| allocation.place_trees(tree, layout),
        };
        let layout = sizing.layout(params.size);
        if is_last || layout.is_ok() {
            return layout;
        }
    }
}

/// The seed of bitmaps' checksums, if they have any.
fn bitmap_seed(layout: &Layout, seed: Checksum) -> Option<Checksum> {
    layout.geometry.has_checksums().then_some(seed)
}

fn superblock(
    params: &Ext4Params<'_>,
    layout: &Layout,
    groups: &Groups,
    hash_seed: [u8; 16],
) -> Superblock {
    let (used_in_groups, used_inodes) = groups.used();
    let used_blocks = used_in_groups.saturating_add(layout.geometry.first_block());
    let inode_count = layout.group_count.saturating_mul(layout.inodes_per_group);
    let mut label = [0; 16];
    for (to, from) in label.iter_mut().zip(params.label.bytes()) {
        *to = from;
    }
    let to_u32 = |value: u64| u32::try_from(value).expect("the layout keeps counts below 2^32");
    Superblock {
        geometry: layout.geometry,
        inode_count: to_u32(inode_count),
        block_count: layout.block_count,
        reserved_blocks: layout.reserved_blocks,
        free_blocks: layout.block_count.saturating_sub(used_blocks),
        free_inodes: to_u32(inode_count.saturating_sub(used_inodes)),
        inodes_per_group: to_u32(layout.inodes_per_group),
        reserved_gdt_blocks: crate::units::low16(low32(layout.reserved_gdt_blocks)),
        uuid: *params.uuid.as_bytes(),
        label,
        hash_seed,
        time: u64::try_from(params.time).unwrap_or(0).min(TIME_MAX),
        journal: journal_backup(layout),
        has_orphan_file: layout.orphan.len() > 0,
        // Only a hint to `statfs`, which the kernel computes itself.
        overhead_blocks: u32::try_from(layout.overhead_blocks()).unwrap_or(0),
    }
}

fn journal_backup(layout: &Layout) -> Option<JournalBackup> {
    if layout.journal.len() == 0 {
        return None;
    }
    Some(JournalBackup {
        i_block: zone_root(layout, layout.journal, layout.journal_tree),
        size: layout
            .journal
            .len()
            .saturating_mul(layout.geometry.block_size()),
    })
}
