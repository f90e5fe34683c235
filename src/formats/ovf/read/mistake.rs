//! What is wrong with a descriptor.

use thiserror::Error;

/// Where, and what.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct Mistake {
    /// Line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub problem: Problem,
}

/// Why a descriptor cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// No XML.
    #[error("{message}")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// Nested beyond any descriptor.
    #[error("elements are nested more than {max} deep")]
    TooDeep {
        /// The most.
        max: usize,
    },
    /// Entities could make anything of a text.
    #[error("has a document type declaration")]
    Doctype,
    /// Other than UTF-8.
    #[error("is encoded in {encoding}, not in UTF-8")]
    Encoding {
        /// As declared.
        encoding: String,
    },
    /// Another root element.
    #[error("the root element is `{found}`, not the `Envelope` of OVF 1")]
    NotOvf {
        /// Its name.
        found: String,
    },
    /// Items of OVF 2.
    #[error("is OVF 2, which VMware and VirtualBox do not import")]
    Version2,
    /// More than one machine.
    #[error("describes more than one machine")]
    Collection,
    /// Alternatives.
    #[error("has a second VirtualHardwareSection")]
    SecondHardware,
    /// No element of this name.
    #[error("has no `{element}`{place}")]
    Missing {
        /// Its name.
        element: &'static str,
        /// Where it would be.
        place: &'static str,
    },
    /// An attribute that the schema requires.
    #[error("`{element}` has no attribute `{attribute}`")]
    MissingAttribute {
        /// The element.
        element: &'static str,
        /// The attribute.
        attribute: &'static str,
    },
    /// A second file.
    #[error("refers to a second file, `{href}`")]
    SecondFile {
        /// Its name.
        href: String,
    },
    /// A second disk.
    #[error("has a second disk, `{id}`")]
    SecondDisk {
        /// Its id, or that of the item.
        id: String,
    },
    /// A disk above another one.
    #[error("disk `{id}` is a delta of another disk")]
    Delta {
        /// Its id.
        id: String,
    },
    /// A disk whose file is another one, or none.
    #[error("disk `{disk}` is not in file `{file}`")]
    DiskOfOtherFile {
        /// The disk.
        disk: String,
        /// The only file.
        file: String,
    },
    /// A hard disk that is not the disk.
    #[error("a hard disk of the machine is `{resource}`, not `ovf:/disk/{disk}`")]
    OtherResource {
        /// What it is.
        resource: String,
        /// The only disk.
        disk: String,
    },
}

impl Problem {
    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Syntax { .. } | Self::TooDeep { .. } => {
                "`xmllint --noout FILE` names what is no XML"
            }
            Self::Doctype => "remove it; a descriptor needs none",
            Self::Encoding { .. } => "save it as UTF-8: `xmllint --encode UTF-8 FILE`",
            Self::NotOvf { .. } => "name an OVF descriptor, such as `ovftool` or an export writes",
            Self::Version2 => "export it as OVF 1.0",
            Self::Collection => "keep one VirtualSystem, right below Envelope",
            Self::SecondHardware => "keep one VirtualHardwareSection",
            Self::Missing { .. } => {
                "the template needs one File in References, one Disk in DiskSection and one hard disk with \
                 HostResource `ovf:/disk/ID`, whose places ours takes"
            }
            Self::MissingAttribute { .. } => "add it; the OVF schema requires it",
            Self::SecondFile { .. } => {
                "the disk is the only file there is: remove the File and the Item that uses it"
            }
            Self::SecondDisk { .. } => {
                "there is one disk: remove the others with their File, Disk and Item"
            }
            Self::Delta { .. } => "remove parentRef and the Disk that it names",
            Self::DiskOfOtherFile { .. } => "give the Disk the id of the File as its fileRef",
            Self::OtherResource { .. } => "write the disk's id behind `ovf:/disk/` in HostResource",
        }
    }
}
