//! What can go wrong between a valid config and a planned generation, and what is worth a warning.

use std::fmt;

use super::boot::BootError;
use super::disk::PlaceError;
use super::ext4::Ext4Error;
use super::machine::TemplateError;
use super::mistakes::Mistakes;
use super::source::ReadError;
use super::syslinux_config::SyslinuxWarning;
use super::tree::{TreeError, TreeWarning};
use crate::config::spec::Location;
use crate::formats::swap::SwapError;
use crate::units::ByteCount;

/// Why a config cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A source.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file system.
    #[error("{location}: {reason}")]
    Ext4 {
        /// The partition in the config.
        location: Location,
        /// What does not fit.
        reason: Ext4Error,
    },
    /// A swap area.
    #[error("{location}: partition `{label}`: {reason}")]
    Swap {
        /// The partition in the config.
        location: Location,
        /// The partition.
        label: String,
        /// What does not fit.
        reason: SwapError,
    },
    /// The disk.
    #[error("{location}: {reason}")]
    Place {
        /// The disk in the config.
        location: Location,
        /// What does not fit.
        reason: PlaceError,
    },
    /// The boot loader or the boot code.
    #[error("{location}: {what} cannot be used")]
    Boot {
        /// What asks for it in the config.
        location: Location,
        /// `boot loader` or `boot code`.
        what: &'static str,
        /// What is wrong with it.
        source: Box<BootError>,
    },
    /// The machine's template.
    #[error("{location}: template cannot be used")]
    Template {
        /// Where the config names it.
        location: Location,
        /// What is wrong with it.
        source: Box<TemplateError>,
    },
    /// The machine that the template describes cannot boot from the disk.
    #[error(
        "{location}: template describes a machine with EFI firmware; partition `{label}` has bootloader = \"extlinux\", which needs BIOS"
    )]
    TemplateFirmware {
        /// Where the config names the template.
        location: Location,
        /// The partition.
        label: String,
    },
    /// The boot loader's configuration file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file that the boot loader reads is beyond its 32-bit sizes.
    #[error("{location}: partition `{label}`: {path} is {}; the boot loader reads files below 4 GiB", ByteCount(*size))]
    BootFileTooLarge {
        /// The partition in the config.
        location: Location,
        /// The partition.
        label: String,
        /// The file in the image.
        path: String,
        /// Its size.
        size: u64,
    },
    /// An image cannot hold the disk.
    #[error("{}image `{name}`: {reason}", at(location.as_ref()))]
    Image {
        /// Where the config names it; `None` for the usual images.
        location: Option<Location>,
        /// The image.
        name: String,
        /// The limit that it hit.
        reason: String,
        /// What to do about it, if that is known.
        hint: Option<String>,
    },
    /// A file that belongs to an image has the name of another one.
    #[error("{}image `{name}`: its other file would be called `{companion}`, and there is one of that name", at(location.as_ref()))]
    ImageClash {
        /// Where the config names it; `None` for the usual images.
        location: Option<Location>,
        /// The image.
        name: String,
        /// The name that is taken.
        companion: String,
    },
}

/// The beginning of a message about something at this place.
fn at(location: Option<&Location>) -> String {
    location.map_or_else(String::new, |location| format!("{location}: "))
}

impl PlanError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tree(error) => error.hint(),
            Self::Ext4 { reason, .. } => reason.hint(),
            Self::Boot { source, .. } => source.hint().map(str::to_owned),
            Self::Template { source, .. } => Some(source.hint()),
            Self::TemplateFirmware { .. } => {
                Some("set the template's firmware to bios, or leave the boot loader out".to_owned())
            }
            Self::Place {
                reason: PlaceError::BeyondDisk { .. } | PlaceError::NothingLeft { .. },
                ..
            } => Some("make the disk larger, or set its size to \"auto\"".to_owned()),
            Self::Swap {
                reason: SwapError::TooSmall { .. },
                ..
            } => Some("make the disk larger, or the partitions before it smaller".to_owned()),
            Self::Image { hint, .. } => Some(hint.clone().unwrap_or_else(|| {
                "publish the disk in another format, or make it smaller".to_owned()
            })),
            Self::ImageClash { .. } => Some(
                "give one of the two images another name; the other file follows the image's"
                    .to_owned(),
            ),
            Self::BootFileTooLarge { .. } => {
                Some("put it into another partition, or boot something smaller".to_owned())
            }
            Self::Place {
                reason: PlaceError::Overlap { .. },
                ..
            } => Some(
                "leave out `start`, and each partition begins behind the one before it".to_owned(),
            ),
            Self::Place {
                reason: PlaceError::BeyondMbr { .. },
                ..
            } => Some(
                "`table = \"none\"` makes one file system of the whole disk, without that limit"
                    .to_owned(),
            ),
            Self::Read(_) => Some("the file changed just now: try again".to_owned()),
            _ => None,
        }
    }
}

/// All that was found wrong with a config's sources: at least one mistake.
#[derive(Debug)]
pub struct PlanErrors(Mistakes<PlanError>);

impl PlanErrors {
    /// All, or the first hundred.
    #[must_use]
    pub fn errors(&self) -> &[PlanError] {
        self.0.kept()
    }

    /// How many there are besides.
    #[must_use]
    pub const fn more(&self) -> u64 {
        self.0.more()
    }

    /// The value, if there are no mistakes.
    pub(super) fn unless<T>(mistakes: Mistakes<PlanError>, value: T) -> Result<T, Self> {
        if mistakes.is_empty() {
            Ok(value)
        } else {
            Err(Self(mistakes))
        }
    }
}

impl From<PlanError> for PlanErrors {
    fn from(error: PlanError) -> Self {
        Self(error.into())
    }
}

/// What the user should know though the plan stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanWarning {
    /// About a source.
    Tree(TreeWarning),
    /// About the boot loader's configuration.
    Syslinux {
        /// The partition.
        label: String,
        /// The file in the image.
        path: String,
        /// What it is.
        warning: SyslinuxWarning,
    },
    /// There is no configuration that the boot loader would find.
    NoBootConfig {
        /// The partition.
        label: String,
        /// Where it looks, in order.
        candidates: Vec<String>,
    },
    /// The file system is too small for a journal.
    NoJournal {
        /// The partition.
        label: String,
        /// Its size in bytes.
        len: u64,
        /// The least that has one.
        needed: u64,
    },
}

impl fmt::Display for PlanWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(warning) => warning.fmt(f),
            Self::Syslinux {
                label,
                path,
                warning,
            } => write!(f, "partition `{label}`: {path}: {warning}"),
            Self::NoBootConfig { label, .. } => {
                write!(
                    f,
                    "partition `{label}`: has a boot loader but no configuration for it"
                )
            }
            Self::NoJournal { label, len, needed } => write!(
                f,
                "partition `{label}`: has no journal, because {} is below the {} that one needs",
                ByteCount(*len),
                ByteCount(*needed).rounded()
            ),
        }
    }
}

impl PlanWarning {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Tree(warning) => warning.hint(),
            Self::Syslinux { warning, .. } => Some(warning.hint()),
            Self::NoBootConfig { candidates, .. } => {
                Some(format!("it looks for {}", candidates.join(", then ")))
            }
            Self::NoJournal { .. } => Some("`journal = false` says that this is meant".to_owned()),
        }
    }
}
