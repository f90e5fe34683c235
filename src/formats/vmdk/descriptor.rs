//! The descriptor: the text in a VMDK that names its content id, its VMDK extent and its geometry.
//!
//! Invariant: header keys, then the extent, then `ddb.*`, LF line ends; VirtualBox and qemu reject or misread others.

use std::fmt;

use uuid::Uuid;

use super::DESCRIPTOR_SECTORS;

/// `createType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateType {
    /// One growable file.
    MonolithicSparse,
    /// This text, and the disk's bytes in a file of their own.
    MonolithicFlat,
    /// One file written in a single pass.
    StreamOptimized,
}

impl CreateType {
    /// The word in the descriptor.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MonolithicSparse => "monolithicSparse",
            Self::MonolithicFlat => "monolithicFlat",
            Self::StreamOptimized => "streamOptimized",
        }
    }
}

impl CreateType {
    /// The kind of VMDK extent; a flat one's line also says where in its file it begins.
    const fn extent_type(self) -> &'static str {
        match self {
            Self::MonolithicSparse | Self::StreamOptimized => "SPARSE",
            Self::MonolithicFlat => "FLAT",
        }
    }
}

/// `ddb.adapterType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdapterType {
    /// IDE.
    Ide,
    /// BusLogic parallel SCSI.
    BusLogic,
    /// Any other SCSI controller.
    LsiLogic,
}

impl AdapterType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::BusLogic => "buslogic",
            Self::LsiLogic => "lsilogic",
        }
    }

    /// Cylinders, heads and sectors per track of a disk of `capacity` sectors.
    fn geometry(self, capacity: u64) -> (u64, u64, u64) {
        match self {
            // ATA's ceiling of cylinders, as qemu.
            Self::Ide => (capacity.div_euclid(16 * 63).min(16383), 16, 63),
            Self::BusLogic | Self::LsiLogic => (capacity.div_ceil(255 * 63).min(65535), 255, 63),
        }
    }
}

/// `ddb.uuid.*`: VirtualBox writes them into a VMDK that has none, which a file that cannot be written does not survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskIds {
    /// The same for all contents.
    pub image: Uuid,
    /// Another one for other contents.
    pub modification: Uuid,
}

/// What varies between descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The kind of file.
    pub create_type: CreateType,
    /// Content id, neither `ffffffff` (no parent) nor `fffffffe`.
    pub cid: u32,
    /// Long content id; its last four bytes are `cid`.
    pub long_content_id: [u8; 16],
    /// For VirtualBox.
    pub ids: DiskIds,
    /// Size of the disk in sectors.
    pub capacity: u64,
    /// The file that holds the disk: the one with this descriptor, but for a flat disk.
    pub extent_name: String,
    /// The kind of controller.
    pub adapter: AdapterType,
}

/// Bytes kept for the embedded descriptor.
pub const DESCRIPTOR_LEN: usize = 10240;
const _: () = assert!(crate::units::to_u64(DESCRIPTOR_LEN) == DESCRIPTOR_SECTORS * 512);

/// The text is longer than the sectors kept for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("VMDK descriptor of {len} bytes: at most {DESCRIPTOR_LEN} bytes are kept for it")]
pub struct DescriptorTooLong {
    /// Bytes of the text.
    pub len: usize,
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cylinders, heads, sectors) = self.adapter.geometry(self.capacity);
        let long_content_id = u128::from_be_bytes(self.long_content_id);
        // The extent line has no escapes: what would end the name or the line is replaced.
        let extent_name: String = self
            .extent_name
            .chars()
            .map(|c| if c == '"' || c.is_control() { '_' } else { c })
            .collect();
        write!(
            f,
            "# Disk DescriptorFile\n\
             version=1\n\
             encoding=\"UTF-8\"\n\
             CID={cid:08x}\n\
             parentCID=ffffffff\n\
             createType=\"{create_type}\"\n\
             \n\
             # Extent description\n\
             RW {capacity} {extent_type} \"{extent_name}\"{extent_offset}\n\
             \n\
             # The Disk Data Base\n\
             #DDB\n\
             \n\
             ddb.adapterType = \"{adapter}\"\n\
             ddb.geometry.cylinders = \"{cylinders}\"\n\
             ddb.geometry.heads = \"{heads}\"\n\
             ddb.geometry.sectors = \"{sectors}\"\n\
             ddb.longContentID = \"{long_content_id:032x}\"\n\
             ddb.toolsInstallType = \"4\"\n\
             ddb.toolsVersion = \"2147483647\"\n\
             ddb.uuid.image = \"{image}\"\n\
             ddb.uuid.modification = \"{modification}\"\n\
             ddb.uuid.parent = \"{nil}\"\n\
             ddb.uuid.parentmodification = \"{nil}\"\n\
             ddb.virtualHWVersion = \"4\"\n",
            cid = self.cid,
            image = self.ids.image,
            modification = self.ids.modification,
            nil = Uuid::nil(),
            create_type = self.create_type.as_str(),
            capacity = self.capacity,
            extent_type = self.create_type.extent_type(),
            extent_offset = if self.create_type == CreateType::MonolithicFlat {
                " 0"
            } else {
                ""
            },
            adapter = self.adapter.as_str(),
        )
    }
}

impl Descriptor {
    /// The text, which is to be followed by zeros up to [`DESCRIPTOR_LEN`].
    ///
    /// # Errors
    /// [`DescriptorTooLong`] if it does not fit there.
    pub fn render(&self) -> Result<Vec<u8>, DescriptorTooLong> {
        let text = self.to_string().into_bytes();
        if text.len() > DESCRIPTOR_LEN {
            return Err(DescriptorTooLong { len: text.len() });
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> Descriptor {
        Descriptor {
            create_type: CreateType::StreamOptimized,
            cid: 0x0123_abcd,
            long_content_id: *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\x01\x23\xab\xcd",
            ids: DiskIds {
                image: Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
                modification: Uuid::from_u128(1),
            },
            capacity: 81920,
            extent_name: "boot-disk1.vmdk".to_owned(),
            adapter: AdapterType::LsiLogic,
        }
    }

    #[test]
    fn encodes_reference_bytes() {
        // The keys and their order that qemu, VirtualBox's parser, libvmdk, 7-Zip and open-vmdk read; ids are made up.
        let expected = r#"# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=0123abcd
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW 81920 SPARSE "boot-disk1.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "6"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.longContentID = "00112233445566778899aabb0123abcd"
ddb.toolsInstallType = "4"
ddb.toolsVersion = "2147483647"
ddb.uuid.image = "01234567-89ab-cdef-0123-456789abcdef"
ddb.uuid.modification = "00000000-0000-0000-0000-000000000001"
ddb.uuid.parent = "00000000-0000-0000-0000-000000000000"
ddb.uuid.parentmodification = "00000000-0000-0000-0000-000000000000"
ddb.virtualHWVersion = "4"
"#;
        assert_eq!(
            String::from_utf8(descriptor().render().unwrap()).unwrap(),
            expected
        );
    }

    #[test]
    fn geometry_follows_the_adapter() {
        // `qemu-img convert -O vmdk` of 40 MiB writes 81/16/63 for its default, ide.
        assert_eq!(AdapterType::Ide.geometry(81920), (81, 16, 63));
        assert_eq!(AdapterType::Ide.geometry(u64::MAX).0, 16383);
        assert_eq!(AdapterType::BusLogic.geometry(1 << 32).0, 65535);
    }

    #[test]
    fn names_cannot_break_the_extent_line() {
        let odd = Descriptor {
            extent_name: "a\"\nCID=1 \u{e9}.vmdk".to_owned(),
            ..descriptor()
        };
        assert!(
            odd.to_string()
                .contains("\nRW 81920 SPARSE \"a__CID=1 \u{e9}.vmdk\"\n")
        );
    }

    #[test]
    fn rejects_overflow() {
        let long = Descriptor {
            extent_name: "x".repeat(DESCRIPTOR_LEN),
            ..descriptor()
        };
        let error = long.render().unwrap_err();
        assert!(error.len > DESCRIPTOR_LEN);
        assert_eq!(
            error.to_string(),
            format!(
                "VMDK descriptor of {} bytes: at most 10240 bytes are kept for it",
                error.len
            )
        );
    }
}
