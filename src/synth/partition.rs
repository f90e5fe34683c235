//! One partition: its tree, the boot loader's files in it, and its file system once the size is known.

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::boot::{BootLoader, InstallTarget};
use super::ext4::{self, Ext4, Ext4Error, Ext4Params, Ext4Plan, SizeRequest};
use super::host_file::HostFiles;
use super::identifiers::{Identifiers, file_system_uuid};
use super::mistakes::Mistakes;
use super::plan_error::{PlanError, PlanWarning};
use super::segments::{Segment, SegmentMap};
use super::syslinux_config;
use super::tree::{
    Content, NodeId, NodeKind, ScanMemory, ScanProgress, Tree, TreeBuilder, TreeCounts,
};
use crate::config::spec::{Ext4Spec, Filesystem, ImagePath, OnChange, PartitionSpec, Spec};
use crate::formats::swap::{self, SwapHeader};
use crate::units::{GIB, Lba, MIB, SECTOR_SIZE, to_usize};

/// The boot loader has 32 bits for the size of a file.
const BOOT_FILE_LEN_MAX: u64 = 4 * GIB;
/// A configuration file larger than this is not looked into.
const BOOT_CONFIG_LEN_MAX: u64 = MIB;
/// Symlinks that are followed before a path is given up, as the kernel does.
const SYMLINKS_MAX: u32 = 40;
const LDLINUX_SYS: &str = "ldlinux.sys";
const LDLINUX_C32: &str = "ldlinux.c32";

/// A tree that is going to be a partition.
#[derive(Debug)]
pub(super) struct PartitionTree<'a> {
    pub(super) spec: &'a PartitionSpec,
    pub(super) ext4: &'a Ext4Spec,
    pub(super) tree: Tree,
}

/// How sources are scanned.
#[derive(Clone)]
pub(super) struct ScanOptions {
    /// Whether what cannot be read is left out.
    pub(super) skip_unreadable: bool,
    pub(super) progress: Option<Arc<ScanProgress>>,
    /// What was listed before.
    pub(super) scans: Option<Arc<ScanMemory>>,
}

/// What scanning the sources of a partition brings to light besides its tree.
#[derive(Default)]
pub(super) struct Found {
    pub(super) files: HostFiles,
    pub(super) warnings: Vec<PlanWarning>,
    pub(super) mistakes: Mistakes<PlanError>,
}

/// What `check` tells of a file system or a swap area; a swap area has no nodes, inodes or journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemReport {
    /// What it is: `ext4`, `swap`.
    pub kind: &'static str,
    /// UUID.
    pub uuid: String,
    /// Nodes by kind.
    pub counts: TreeCounts,
    /// Bytes free for users other than root; of a swap area, the bytes that can be swapped to.
    pub free_bytes: u64,
    /// Free inodes.
    pub free_inodes: u32,
    /// Inodes in all.
    pub inode_count: u32,
    /// Bytes of the journal, 0 if there is none.
    pub journal_bytes: u64,
    /// Significant bits that the lengths of subtrees are rounded up to; 0 if they are not.
    pub slack_bits: u8,
    /// Bytes between subtrees that this leaves free; they count as free ones too.
    pub slack_bytes: u64,
}

impl<'a> PartitionTree<'a> {
    /// Scans the sources; `None` for an empty partition and a swap area, and if there are mistakes.
    pub(super) fn scan(
        spec: &'a Spec,
        partition: &'a PartitionSpec,
        boot_loader: Option<&BootLoader>,
        options: &ScanOptions,
        found: &mut Found,
    ) -> Option<Self> {
        let Filesystem::Ext4(ext4) = &partition.filesystem else {
            return None;
        };
        let mut builder = TreeBuilder::new(spec.times);
        builder.hole_unit(ext4.block_size.into());
        if options.skip_unreadable {
            builder.skip_unreadable();
        }
        if let Some(memory) = &options.scans {
            builder.remember(Arc::clone(memory));
        }
        if spec.on_change == OnChange::Keep {
            found.files.keep_contents();
        }
        if let Some(progress) = &options.progress {
            builder.report_to(Arc::clone(progress));
        }
        if partition.bootloader_directory.is_some() {
            builder.map_fully();
        }
        for copy in &partition.copies {
            builder.copy(copy, &mut found.files);
        }
        builder.entries(partition, &Identifiers::of(spec));
        if let (Some(directory), Some(boot_loader)) = (&partition.bootloader_directory, boot_loader)
        {
            // Its contents say where it lies, so they are filled in when that is known.
            let unpatched = vec![0; to_usize(boot_loader.ldlinux_sys_len())];
            let location = &partition.location;
            builder.boot_loader_file(directory, LDLINUX_SYS, &unpatched, true, location);
            let module = boot_loader.ldlinux_c32();
            builder.boot_loader_file(directory, LDLINUX_C32, &module, false, location);
        }
        match builder.finish(&mut found.files) {
            Ok((tree, warnings)) => {
                let warnings = warnings.into_iter().map(PlanWarning::Tree);
                found.warnings.extend(warnings);
                Some(Self {
                    spec: partition,
                    ext4,
                    tree,
                })
            }
            Err(unfinished) => {
                let beyond = ext4::mistakes_of(&unfinished.tree, ext4);
                found.mistakes.extend(unfinished.mistakes, PlanError::Tree);
                let located = |reason| located(partition, reason);
                found.mistakes.extend(beyond, located);
                None
            }
        }
    }

    /// Plans the file system for a size.
    pub(super) fn plan(
        self,
        spec: &Spec,
        size: SizeRequest,
    ) -> Result<Ext4Plan, Mistakes<PlanError>> {
        let params = Ext4Params {
            spec: self.ext4,
            name: &self.spec.label,
            label: self.spec.volume_label(),
            uuid: file_system_uuid(&spec.seed, self.spec),
            time: spec.times.default,
            size,
        };
        Ext4Plan::new(self.tree, &params).map_err(|reasons| {
            let mut mistakes = Mistakes::default();
            mistakes.extend(reasons, |reason| located(self.spec, reason));
            mistakes
        })
    }
}

fn located(partition: &PartitionSpec, reason: Ext4Error) -> PlanError {
    PlanError::Ext4 {
        location: partition.location.clone(),
        reason,
    }
}

/// Installs the boot loader, if there is one, and makes the file system readable.
pub(super) fn finish(
    mut plan: Ext4Plan,
    partition: &PartitionSpec,
    (start, sectors): (Lba, u64),
    boot_loader: Option<&BootLoader>,
    files: &Arc<HostFiles>,
) -> Result<Ext4, PlanError> {
    let mut boot_sector = None;
    if let (Some(directory), Some(boot_loader)) = (&partition.bootloader_directory, boot_loader) {
        let mut path = directory.clone();
        path.0.push(LDLINUX_SYS.into());
        let node = plan
            .tree()
            .find(&path)
            .expect("the scan put the boot loader's files into the tree");
        let target = InstallTarget {
            sectors: &plan.sectors_of(node),
            start,
            total_sectors: sectors,
            directory: &path_bytes(directory),
        };
        let installed = boot_loader
            .install(&target)
            .map_err(|source| PlanError::Boot {
                location: partition.location.clone(),
                what: "boot loader",
                source: Box::new(source),
            })?;
        plan.replace_inline(node, installed.ldlinux_sys);
        boot_sector = Some(installed.boot_sector);
    }
    let len = sectors
        .checked_mul(SECTOR_SIZE)
        .expect("placed partitions end below 2^64 bytes");
    Ok(plan.into_source(len, boot_sector, Arc::clone(files)))
}

/// What would keep the partition from booting.
pub(super) fn check_boot(
    tree: &Tree,
    partition: &PartitionSpec,
    files: &HostFiles,
    warnings: &mut Vec<PlanWarning>,
) -> Result<(), PlanError> {
    let Some(directory) = &partition.bootloader_directory else {
        return Ok(());
    };
    let candidates = syslinux_config::config_candidates(&directory.to_string());
    let found = candidates
        .iter()
        .find_map(|path| Some((path, follow(tree, path)?)));
    let Some((path, node)) = found else {
        warnings.push(PlanWarning::NoBootConfig {
            label: partition.label.clone(),
            candidates,
        });
        return Ok(());
    };
    let Some(config) = small_contents(tree, node, files)? else {
        return Ok(());
    };
    // Every file that the configuration names is asked about, so these are the files that the boot loader reads.
    let asked = std::cell::RefCell::new(vec![node]);
    let exists = |path: &str| match follow(tree, path) {
        Some(node) => {
            asked.borrow_mut().push(node);
            true
        }
        None => false,
    };
    for warning in syslinux_config::check(&config, path, &directory.to_string(), exists) {
        let label = partition.label.clone();
        warnings.push(PlanWarning::Syslinux {
            label,
            path: path.clone(),
            warning,
        });
    }
    for node in asked.into_inner() {
        if let NodeKind::File { size, .. } = tree.kind(node)
            && size >= BOOT_FILE_LEN_MAX
        {
            return Err(PlanError::BootFileTooLarge {
                location: partition.location.clone(),
                label: partition.label.clone(),
                path: tree.path_of(node),
                size,
            });
        }
    }
    Ok(())
}

/// What `check` tells of a planned file system.
pub(super) fn report(plan: &Ext4Plan, spec: &Spec, partition: &PartitionSpec) -> FilesystemReport {
    let (free_bytes, free_inodes, inode_count) = plan.free();
    let (slack, slack_bytes) = plan.slack();
    FilesystemReport {
        kind: "ext4",
        uuid: file_system_uuid(&spec.seed, partition).to_string(),
        counts: plan.tree().counts(),
        free_bytes,
        free_inodes,
        inode_count,
        journal_bytes: plan.journal_len(),
        slack_bits: slack.bits(),
        slack_bytes,
    }
}

/// Plans the swap area of a partition of this many sectors.
pub(super) fn swap(
    spec: &Spec,
    partition: &PartitionSpec,
    sectors: u64,
) -> Result<(SegmentMap, FilesystemReport), PlanError> {
    let len = sectors
        .checked_mul(SECTOR_SIZE)
        .expect("placed partitions end below 2^64 bytes");
    let uuid = file_system_uuid(&spec.seed, partition);
    let header = SwapHeader::new(len, uuid.into_bytes(), &partition.label).map_err(|reason| {
        PlanError::Swap {
            location: partition.location.clone(),
            label: partition.label.clone(),
            reason,
        }
    })?;
    let report = FilesystemReport {
        kind: "swap",
        uuid: uuid.to_string(),
        counts: TreeCounts::default(),
        free_bytes: header.usable_bytes(),
        free_inodes: 0,
        inode_count: 0,
        journal_bytes: 0,
        slack_bits: 0,
        slack_bytes: 0,
    };
    let page = Segment::Bytes {
        bytes: header.to_raw().as_bytes().into(),
        structure: "swap header",
    };
    let mut source = SegmentMap::new();
    source.push(swap::PAGE_SIZE, "swap header", page);
    source.push_zeros_to(len, "swap space");
    Ok((source, report))
}

/// The bytes of a small file: the boot loader's configuration, read once.
fn small_contents(
    tree: &Tree,
    node: NodeId,
    files: &HostFiles,
) -> Result<Option<Vec<u8>>, PlanError> {
    let NodeKind::File { size, content, .. } = tree.kind(node) else {
        return Ok(None);
    };
    match content {
        Content::Inline(bytes) => Ok(Some(bytes.to_vec())),
        Content::Host(_) if size > BOOT_CONFIG_LEN_MAX => Ok(None),
        Content::Host(index) => {
            let mut bytes = vec![0; to_usize(size)];
            files.read_exact_at(index, 0, &mut bytes)?;
            Ok(Some(bytes))
        }
    }
}

/// The file or directory that an absolute path of the image leads to, symlinks followed.
fn follow(tree: &Tree, path: &str) -> Option<NodeId> {
    let mut rest: Vec<Vec<u8>> = components(path.as_bytes());
    let mut trail = vec![NodeId::ROOT];
    let mut symlinks = 0;
    while let Some(name) = rest.pop() {
        if name == b".." {
            if trail.len() > 1 {
                trail.pop();
            }
            continue;
        }
        let directory = *trail.last()?;
        let node = tree.find_in(directory, &name)?;
        let NodeKind::Symlink(target) = tree.kind(node) else {
            trail.push(node);
            continue;
        };
        symlinks = u32::saturating_add(symlinks, 1);
        if symlinks > SYMLINKS_MAX {
            return None;
        }
        if target.starts_with(b"/") {
            trail.truncate(1);
        }
        rest.extend(components(target));
    }
    trail.last().copied()
}

/// The components of a path, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".");
    names.rev().map(<[u8]>::to_vec).collect()
}

/// `/`, or `/boot/extlinux`.
fn path_bytes(path: &ImagePath) -> Vec<u8> {
    let mut bytes = Vec::new();
    for component in &path.0 {
        bytes.push(b'/');
        bytes.extend_from_slice(component);
    }
    if bytes.is_empty() {
        bytes.push(b'/');
    }
    bytes
}
