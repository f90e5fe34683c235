//! `[images]`: the files to publish.

use super::Location;

/// An entry of `[images]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// The file's name.
    pub name: String,
    /// Its format.
    pub format: ImageFormat,
    /// Where it was typed; `None` for the default images.
    pub location: Option<Location>,
}

/// Format of a published file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// The disk's bytes.
    Raw {
        /// Only those of this partition, by its index in [`Spec::partitions`].
        partition: Option<usize>,
    },
    /// A VMDK.
    Vmdk(VmdkLayout),
    /// A qcow2 of version 3, not compressed.
    Qcow2,
    /// A VDI that grows.
    Vdi,
    /// A Vagrant box.
    Vagrant(VagrantProvider),
    /// An OVF package in a tar.
    Ova(PackageSpec),
    /// An OVF package as loose files.
    Ovf(PackageSpec),
    /// A machine for VMware around another image.
    Vmx {
        /// That image, a VMDK that is not compressed, by its index in [`Spec::images`].
        disk: usize,
    },
    /// Microsoft's VHD.
    Vhd(VhdLayout),
    /// Microsoft's VHDX, dynamic.
    Vhdx,
}

/// `provider` of a Vagrant box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VagrantProvider {
    /// An OVF and a VMDK.
    VirtualBox,
    /// A qcow2.
    Libvirt,
}

impl ImageFormat {
    /// Whether the image takes work before it can be shown, which is worth being kept.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        let (stream, manifest) = match self {
            Self::Vmdk(VmdkLayout::StreamOptimized(stream)) => (stream, None),
            Self::Ova(package) => (&package.stream, package.manifest),
            Self::Ovf(package) => (&package.stream, None),
            _ => return false,
        };
        stream.compression != Compression::Stored
            || manifest.is_some_and(|manifest| manifest.position == ManifestPosition::Second)
    }
}

/// `layout` of a VMDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmdkLayout {
    /// Grains where the disk has data.
    MonolithicSparse,
    /// A descriptor beside the raw disk.
    MonolithicFlat,
    /// Compressed grains between markers, as inside an OVA.
    StreamOptimized(StreamSpec),
}

/// `layout` of a VHD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VhdLayout {
    /// Blocks where the disk has data.
    Dynamic,
    /// The raw disk with a footer behind it.
    Fixed,
}

/// How a streamOptimized VMDK is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSpec {
    /// Where the grain directory is.
    pub directory: DirectoryPlace,
    /// What grains are compressed with.
    pub compression: Compression,
}

/// `grain-directory` of a streamOptimized VMDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryPlace {
    /// Behind the grains, found through a footer: the technote's layout.
    Footer,
    /// Before the grains: the layout of VMware's own converter.
    Front,
}

/// `compression`, with `level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Stored blocks: every grain takes the same room.
    Stored,
    /// Really compressed: sizes are known once every grain was compressed.
    Deflate {
        /// 1 (fast) to [`DEFLATE_LEVEL_MAX`] (small).
        level: u8,
    },
}

/// The highest level of compression.
pub const DEFLATE_LEVEL_MAX: u8 = 12;
/// The usual level: smaller than zlib's usual one, and faster.
pub const DEFLATE_LEVEL_DEFAULT: u8 = 6;

/// What an OVF package is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageSpec {
    /// Its disk.
    pub stream: StreamSpec,
    /// Its manifest, if it has one.
    pub manifest: Option<ManifestSpec>,
}

impl PackageSpec {
    /// What an image of which only the format is said has.
    pub const DEFAULT: Self = Self {
        stream: StreamSpec {
            directory: DirectoryPlace::Footer,
            compression: Compression::Stored,
        },
        manifest: Some(ManifestSpec {
            algorithm: DigestAlgorithm::Sha256,
            position: ManifestPosition::Last,
        }),
    };
}

/// A manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManifestSpec {
    /// What the members are hashed with.
    pub algorithm: DigestAlgorithm,
    /// Where it stands among the members.
    pub position: ManifestPosition,
}

/// `manifest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// SHA-1, for vSphere up to 6.0.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512, for recent vSphere only.
    Sha512,
}

/// `manifest-position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestPosition {
    /// Behind the disk.
    Last,
    /// Between descriptor and disk.
    Second,
}
