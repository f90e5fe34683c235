//! The validated configuration: absolute paths, sizes in bytes, defaults filled in.
//!
//! Invariant: a [`Spec`] holds only what the plan can work with as far as the text alone can tell; what the sources
//! hold is looked at by `synth`.

use std::fmt;
use std::path::PathBuf;

use uuid::Uuid;

pub use self::images::*;
pub use self::vm::*;
use crate::units::Lba;

mod images;
mod vm;

/// A validated configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The config file, absolute.
    pub config_path: PathBuf,
    /// The VM's name and the base name of the OVA's members: `[A-Za-z0-9._-]{1,80}`.
    pub name: String,
    /// What every UUID, signature and hash seed derives from.
    pub seed: String,
    /// Times of what has no source, and the ceiling of all others.
    pub times: Times,
    /// What becomes of sources that change while they are read.
    pub on_change: OnChange,
    /// The disk.
    pub disk: DiskSpec,
    /// One to four partitions in the order of their start.
    pub partitions: Vec<PartitionSpec>,
    /// The executable to take extlinux's pieces from; `Some` if any partition has a boot loader.
    pub extlinux: Option<PathBuf>,
    /// The virtual machine around the disk.
    pub vm: VmSpec,
    /// The files to publish, in the order of the config.
    pub images: Vec<ImageSpec>,
}

/// `on-change`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// Reads of a file that changed fail.
    #[default]
    Fail,
    /// Small files that were read before go on being read as they were, for as long as memory for them lasts.
    Keep,
}

/// A place in a config file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Location {
    /// No place: for comparing what was typed, wherever it stands.
    #[must_use]
    pub fn none() -> Self {
        Self {
            file: PathBuf::new(),
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// Times that do not come from a source, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The time of what has no source.
    pub default: i64,
    /// Later times are lowered to this one; `None` leaves them.
    pub clamp: Option<i64>,
}

/// `[disk]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// Size of the whole image.
    pub size: DiskSize,
    /// How partitions are described.
    pub table: PartitionTable,
    /// What the first 440 bytes hold.
    pub boot_code: BootCode,
    /// Where the size was typed, else where `[disk]` begins.
    pub location: Location,
}

/// Size of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSize {
    /// Bytes, already rounded up to a multiple of 64 KiB (to the next MiB where rounding was needed).
    Fixed(u64),
    /// As small as the partitions need.
    Auto,
}

/// `[disk] table`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionTable {
    /// A master boot record with up to four primary partitions.
    Mbr,
    /// The only partition is the whole image.
    None,
}

/// `[disk] boot-code`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BootCode {
    /// Zeros.
    None,
    /// The first 440 bytes of this file, which exists.
    File(PathBuf),
}

/// `[[partition]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSpec {
    /// Label of the file system and name in messages; at most 16 bytes (15 of a swap area), unique.
    pub label: String,
    /// First sector, if the config says so; else the next MiB.
    pub start: Option<Lba>,
    /// Size.
    pub size: PartitionSize,
    /// The boot flag.
    pub active: bool,
    /// The type byte of the partition entry.
    pub type_code: u8,
    /// What is in it.
    pub filesystem: Filesystem,
    /// Directory inside the partition where extlinux is installed, absolute (`/`), if any.
    pub bootloader_directory: Option<ImagePath>,
    /// Bytes wanted free for non-root users with `size = "auto"`.
    pub free: Option<u64>,
    /// Sources, in order; later entries win.
    pub copies: Vec<CopySpec>,
    /// Directories of the config; they come after the sources.
    pub directories: Vec<InlineDirectory>,
    /// Files written in the config; they come after the directories.
    pub files: Vec<InlineFile>,
    /// Symlinks of the config; they come after the files.
    pub symlinks: Vec<InlineSymlink>,
    /// Special files of the config; they come last.
    pub devices: Vec<InlineDevice>,
    /// Where `[[partition]]` begins.
    pub location: Location,
}

impl PartitionSpec {
    /// The same, wherever it stands in the config.
    #[must_use]
    pub fn without_locations(&self) -> Self {
        let mut spec = self.clone();
        let copies = spec.copies.iter_mut().map(|copy| &mut copy.location);
        let directories = spec.directories.iter_mut().map(|one| &mut one.location);
        let files = spec.files.iter_mut().map(|one| &mut one.location);
        let symlinks = spec.symlinks.iter_mut().map(|one| &mut one.location);
        let devices = spec.devices.iter_mut().map(|one| &mut one.location);
        let all = copies
            .chain(directories)
            .chain(files)
            .chain(symlinks)
            .chain(devices);
        for location in all.chain([&mut spec.location]) {
            *location = Location::none();
        }
        spec
    }

    /// The volume name of the file system or swap area.
    #[must_use]
    pub fn volume_label(&self) -> &str {
        match &self.filesystem {
            Filesystem::Ext4(Ext4Spec {
                label: Some(label), ..
            }) => label,
            _ => &self.label,
        }
    }
}

/// Size of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionSize {
    /// Bytes, a multiple of the sector size.
    Fixed(u64),
    /// What is left of the disk.
    Rest,
    /// As small as its contents and `free` need.
    Auto,
}

/// What a partition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filesystem {
    /// Nothing: all zeros.
    None,
    /// An ext4 file system.
    Ext4(Ext4Spec),
    /// A swap area.
    Swap,
}

/// `[partition.ext4]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ext4Spec {
    /// The set of features.
    pub features: FeatureSet,
    /// Volume name, at most 16 bytes; `None` is the partition's label.
    pub label: Option<String>,
    /// UUID; `None` derives one from the seed and the partition's label.
    pub uuid: Option<Uuid>,
    /// The journal.
    pub journal: Journal,
    /// Bytes of a block: 1024, 2048 or 4096.
    pub block_size: u32,
    /// Bytes of an inode: 128, 256, 512 or 1024.
    pub inode_size: u32,
    /// Blocks kept for root, in percent (0 to 50); `None` is the default (5, or 0 with `size = "auto"`).
    pub reserved_percent: Option<u8>,
    /// Number of inodes, or `None` for one per 16 KiB and enough for the contents.
    pub inodes: Option<u32>,
    /// Significant bits that the lengths of subtrees are rounded up to, at most [`SLACK_BITS_MAX`]; 0: not at all.
    pub slack_bits: u8,
}

impl Ext4Spec {
    /// What an empty table means.
    pub const DEFAULT: Self = Self {
        features: FeatureSet::Std,
        label: None,
        uuid: None,
        journal: Journal::Default,
        block_size: 4096,
        inode_size: 256,
        reserved_percent: None,
        inodes: None,
        slack_bits: SLACK_BITS_DEFAULT,
    };
}

/// Significant bits beyond which rounding leaves nothing worth having.
pub const SLACK_BITS_MAX: u8 = 16;
/// The usual slack: it takes about six percent.
pub const SLACK_BITS_DEFAULT: u8 = 6;

/// `features`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureSet {
    /// Debian 12's set without 64bit.
    Std,
    /// `Std` with 64bit, orphan_file and metadata_csum_seed.
    Modern,
    /// `Std` without metadata_csum, with uninit_bg: for old guests.
    Compat,
}

/// `journal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// None.
    None,
    /// One that fits the size of the file system, if that is not too small for any.
    Default,
    /// One of this many bytes, 1024 to 10,240,000 blocks.
    Size(u64),
}

/// An absolute path inside an image: components without `.`, `..`, empty names or NUL; the root has none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ImagePath(pub Vec<Vec<u8>>);

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        for component in &self.0 {
            write!(f, "/{}", String::from_utf8_lossy(component))?;
        }
        Ok(())
    }
}

/// An entry of `copy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySpec {
    /// The source with symlinks resolved, absolute; it exists.
    pub from: PathBuf,
    /// Where it goes: the directory that the contents of `from` become, or the final path of a file.
    pub to: ImagePath,
    /// Whether `to` was typed with a trailing slash: a file `from` then keeps its name below `to`.
    pub to_is_directory: bool,
    /// Owner of `to` and of all below, if given.
    pub owner: Option<Owner>,
    /// A manifest of mtree(5) that says whose files are, which mode they have and which are special; a regular file.
    /// It wins over all other keys for the paths that it names.
    pub owners: Option<PathBuf>,
    /// Users of the image for those of the source; never beside `owner`.
    pub uid_map: Option<IdMap>,
    /// Groups of the image for those of the source; never beside `owner`.
    pub gid_map: Option<IdMap>,
    /// Permission bits (0 to 07777) of `to` and of all below, if given.
    pub mode: Option<u16>,
    /// gitignore patterns of what is left out, relative to `from`.
    pub exclude: Vec<String>,
    /// gitignore patterns of what alone is taken, relative to `from`; none: everything. `exclude` wins.
    pub include: Vec<String>,
    /// Whether to descend into other file systems.
    pub cross_mounts: bool,
    /// Whether holes of the source stay holes.
    pub sparse: Sparse,
    /// Patterns of extended attributes: names, or beginnings with `*` behind; `!` in front for those not wanted. The
    /// last one that matches decides; what none matches follows the default.
    pub xattrs: Vec<String>,
    /// Where the entry was typed.
    pub location: Location,
}

impl CopySpec {
    /// Whether attributes of the class `trusted` may be among those that are taken; only `CAP_SYS_ADMIN` may read them
    /// (xattr(7)).
    #[must_use]
    pub fn wants_trusted(&self) -> bool {
        const CLASS: &str = "trusted.";
        self.xattrs.iter().any(|pattern| {
            pattern.starts_with(CLASS)
                || pattern
                    .strip_suffix('*')
                    .is_some_and(|beginning| CLASS.starts_with(beginning))
        })
    }
}

/// `sparse`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sparse {
    /// Holes of files that the host clearly stores in less than their length.
    Auto,
    /// No holes: the bytes do not depend on how the host stores a file.
    Never,
}

/// `uid-map` or `gid-map`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdMap {
    /// All become 0.
    AllRoot,
    /// In the order of `host`, where they do not overlap.
    Ranges(Vec<IdRange>),
}

/// `count` identifiers from `host` on become those from `image` on; both ends are below 2^32 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First of the source.
    pub host: u32,
    /// First of the image.
    pub image: u32,
    /// How many, at least 1.
    pub count: u32,
}

impl IdMap {
    /// The identifier in the image; `None` outside all ranges.
    #[must_use]
    pub fn map(&self, id: u32) -> Option<u32> {
        let ranges = match self {
            Self::AllRoot => return Some(0),
            Self::Ranges(ranges) => ranges,
        };
        let after = ranges.partition_point(|range| range.host <= id);
        let range = ranges.get(after.checked_sub(1)?)?;
        let offset = id.checked_sub(range.host)?;
        (offset < range.count)
            .then(|| range.image.checked_add(offset))
            .flatten()
    }
}

/// Numeric owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// An entry of `files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    /// Where it goes; never the root.
    pub path: ImagePath,
    /// Its bytes, piece by piece.
    pub contents: Vec<Piece>,
    /// Permission bits, 0644 by default.
    pub mode: u16,
    /// Owner, 0:0 by default.
    pub owner: Owner,
    /// Where it was typed.
    pub location: Location,
}

/// A part of an inline file. Partitions are given by their index in [`Spec::partitions`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The UUID of the file system, which is ext4.
    Uuid(usize),
    /// The volume name of the file system, which is ext4.
    Label(usize),
    /// The PARTUUID; there is a partition table.
    PartitionUuid(usize),
}

/// An entry of `mkdir`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineDirectory {
    /// Where it goes; the root is possible.
    pub path: ImagePath,
    /// Permission bits, 0755 by default.
    pub mode: u16,
    /// Owner, 0:0 by default.
    pub owner: Owner,
    /// Where it was typed.
    pub location: Location,
}

/// An entry of `symlink`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineSymlink {
    /// Where it goes; never the root.
    pub path: ImagePath,
    /// Where it leads, 1 to 4095 bytes without NUL.
    pub target: String,
    /// Owner, 0:0 by default.
    pub owner: Owner,
    /// Where it was typed.
    pub location: Location,
}

/// An entry of `device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineDevice {
    /// Where it goes; never the root.
    pub path: ImagePath,
    /// What it is.
    pub kind: DeviceKind,
    /// Permission bits, 0600 by default.
    pub mode: u16,
    /// Owner, 0:0 by default.
    pub owner: Owner,
    /// Where it was typed.
    pub location: Location,
}

/// `type` of a `device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A character device.
    Character {
        /// The driver, 0 to 4095.
        major: u32,
        /// The device of that driver, 0 to 2^20 - 1.
        minor: u32,
    },
    /// A block device.
    Block {
        /// The driver, 0 to 4095.
        major: u32,
        /// The device of that driver, 0 to 2^20 - 1.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A Unix domain socket.
    Socket,
}
