//! `[partition.ext4]`: what shapes a file system.

use thiserror::Error;
use toml::Spanned;
use uuid::Uuid;

use super::{Context, Result};
use crate::config::error::ConfigErrorKind;
use crate::config::raw::{RawExt4, RawJournal, RawSize};
use crate::config::spec::{Ext4Spec, FeatureSet, Journal, SLACK_BITS_DEFAULT, SLACK_BITS_MAX};
use crate::units::ByteCount;

/// Half of the blocks: what mke2fs allows.
const RESERVED_PERCENT_MAX: i64 = 50;
/// The first 11 inodes are ext4's own, and lost+found and the root need theirs.
const INODES_MIN: i64 = 16;
/// What a kernel mounts whose pages have 4096 bytes, and what mke2fs makes.
const BLOCK_SIZES: [u32; 3] = [1024, 2048, 4096];
/// At most the smallest block.
const INODE_SIZES: [u32; 4] = [128, 256, 512, 1024];
/// The kernel's `JBD2_MIN_JOURNAL_BLOCKS`.
const JOURNAL_BLOCKS_MIN: u64 = 1024;
/// What mke2fs allows; more than enough for any use.
const JOURNAL_BLOCKS_MAX: u64 = 10_240_000;

/// Why a file system cannot have the shape that was asked for.
#[derive(Debug, Error)]
pub enum Ext4SpecError {
    /// No block size.
    #[error("`block-size` is {value}; expected 1024, 2048 or 4096")]
    BlockSize {
        /// As typed, in bytes.
        value: u64,
    },
    /// No inode size.
    #[error("`inode-size` is {value}; expected 128, 256, 512 or 1024")]
    InodeSize {
        /// As typed, in bytes.
        value: u64,
    },
    /// No UUID.
    #[error("`uuid` is \"{value}\"; expected hex digits in groups of 8, 4, 4, 4 and 12")]
    Uuid {
        /// As typed.
        value: String,
    },
    /// The UUID that stands for none.
    #[error("`uuid` is all zeros, which means that there is none")]
    NilUuid,
    /// A journal that the kernel refuses.
    #[error("`journal` is {}; with blocks of {block_size} bytes it has at least {}", ByteCount(*size), ByteCount(*min))]
    JournalTooSmall {
        /// Bytes as typed.
        size: u64,
        /// Bytes of a block.
        block_size: u32,
        /// Bytes at least.
        min: u64,
    },
    /// A journal that mke2fs refuses.
    #[error("`journal` is {}; with blocks of {block_size} bytes it has at most {}", ByteCount(*size), ByteCount(*max))]
    JournalTooLarge {
        /// Bytes as typed.
        size: u64,
        /// Bytes of a block.
        block_size: u32,
        /// Bytes at most.
        max: u64,
    },
}

impl Ext4SpecError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::BlockSize { value } => {
                format!("write block-size = {}", fitting(&BLOCK_SIZES, *value))
            }
            Self::InodeSize { value } => {
                format!("write inode-size = {}", fitting(&INODE_SIZES, *value))
            }
            Self::Uuid { .. } | Self::NilUuid => {
                "`uuidgen` prints one; left out it derives from the seed and the label".to_owned()
            }
            Self::JournalTooSmall { min, .. } => format!(
                "write journal = \"{}\" or more, or journal = false for none",
                ByteCount(*min).rounded().replace(' ', "")
            ),
            Self::JournalTooLarge { .. } => {
                "1 GiB is what mke2fs gives the largest file systems".to_owned()
            }
        }
    }
}

/// The smallest of `sizes` that is at least `value`, else the largest.
fn fitting(sizes: &[u32], value: u64) -> u32 {
    let found = sizes.iter().find(|size| u64::from(**size) >= value);
    found.or(sizes.last()).copied().unwrap_or_default()
}

/// Validates the table; without one everything has its default.
pub(super) fn ext4(typed: Option<&Spanned<RawExt4>>, context: &Context<'_>) -> Result<Ext4Spec> {
    let default = RawExt4::default();
    let raw = typed.map_or(&default, Spanned::get_ref);
    let sets = [
        ("std", FeatureSet::Std),
        ("modern", FeatureSet::Modern),
        ("compat", FeatureSet::Compat),
    ];
    let features = context.choice("features", raw.features.as_ref(), &sets)?;
    let block_size = one_of(raw.block_size.as_ref(), "block-size", &BLOCK_SIZES, context)?;
    let block_size = block_size.unwrap_or(Ext4Spec::DEFAULT.block_size);
    let inode_size = one_of(raw.inode_size.as_ref(), "inode-size", &INODE_SIZES, context)?;
    let reserved_percent = match &raw.reserved_percent {
        None => None,
        Some(typed) => {
            let percent = context.integer("reserved-percent", typed, 0, RESERVED_PERCENT_MAX)?;
            Some(u8::try_from(percent).expect("the bound is within 8 bits"))
        }
    };
    let label = raw.label.as_ref();
    Ok(Ext4Spec {
        features: features.unwrap_or(Ext4Spec::DEFAULT.features),
        label: label
            .map(|label| super::partition::ext4_label(label, context))
            .transpose()?,
        uuid: raw
            .uuid
            .as_ref()
            .map(|typed| uuid(typed, context))
            .transpose()?,
        journal: journal(raw.journal.as_ref(), block_size, context)?,
        block_size,
        inode_size: inode_size.unwrap_or(Ext4Spec::DEFAULT.inode_size),
        reserved_percent,
        inodes: match &raw.inodes {
            None => None,
            Some(typed) => inodes(typed, context)?,
        },
        slack_bits: match &raw.slack_bits {
            None => SLACK_BITS_DEFAULT,
            Some(typed) => {
                let bits = context.integer("slack-bits", typed, 0, SLACK_BITS_MAX.into())?;
                u8::try_from(bits).expect("the bound is within 8 bits")
            }
        },
    })
}

fn one_of(
    typed: Option<&Spanned<RawSize>>,
    key: &'static str,
    sizes: &[u32],
    context: &Context<'_>,
) -> Result<Option<u32>> {
    let Some(typed) = typed else {
        return Ok(None);
    };
    let value = context.size(key, typed)?;
    let found = sizes.iter().find(|size| u64::from(**size) == value);
    found.copied().map(Some).ok_or_else(|| {
        let error = if key == "block-size" {
            Ext4SpecError::BlockSize { value }
        } else {
            Ext4SpecError::InodeSize { value }
        };
        context.error(&typed.span(), error)
    })
}

fn uuid(typed: &Spanned<String>, context: &Context<'_>) -> Result<Uuid> {
    // The parser takes other forms, too; as `blkid` and fstab have it is enough.
    const HYPHENATED_LEN: usize = 36;
    let text = typed.get_ref();
    let parsed = Uuid::try_parse(text)
        .ok()
        .filter(|_| text.len() == HYPHENATED_LEN);
    match parsed {
        Some(uuid) if uuid.is_nil() => Err(context.error(&typed.span(), Ext4SpecError::NilUuid)),
        Some(uuid) => Ok(uuid),
        None => {
            let value = text.clone();
            Err(context.error(&typed.span(), Ext4SpecError::Uuid { value }))
        }
    }
}

fn journal(
    typed: Option<&Spanned<RawJournal>>,
    block_size: u32,
    context: &Context<'_>,
) -> Result<Journal> {
    let Some(typed) = typed else {
        return Ok(Journal::Default);
    };
    let size = match typed.get_ref() {
        RawJournal::Switch(true) => return Ok(Journal::Default),
        RawJournal::Switch(false) => return Ok(Journal::None),
        RawJournal::Number(number) => RawSize::Number(*number),
        RawJournal::Text(text) => RawSize::Text(text.clone()),
    };
    let size = context.size("journal", &Spanned::new(typed.span(), size))?;
    let bytes_of = |blocks: u64| blocks.saturating_mul(block_size.into());
    let (min, max) = (bytes_of(JOURNAL_BLOCKS_MIN), bytes_of(JOURNAL_BLOCKS_MAX));
    let error = if size < min {
        Ext4SpecError::JournalTooSmall {
            size,
            block_size,
            min,
        }
    } else if size > max {
        Ext4SpecError::JournalTooLarge {
            size,
            block_size,
            max,
        }
    } else {
        return Ok(Journal::Size(size));
    };
    Err(context.error(&typed.span(), error))
}

fn inodes(typed: &Spanned<RawSize>, context: &Context<'_>) -> Result<Option<u32>> {
    match typed.get_ref() {
        RawSize::Text(word) if word == "auto" => Ok(None),
        RawSize::Text(value) => {
            let (key, value) = ("inodes", value.clone());
            let rule = "expected a count or \"auto\"";
            Err(context.error(&typed.span(), ConfigErrorKind::Text { key, value, rule }))
        }
        RawSize::Number(count) => {
            let count = Spanned::new(typed.span(), *count);
            let count = context.integer("inodes", &count, INODES_MIN, i64::from(u32::MAX))?;
            Ok(Some(u32::try_from(count).expect("the bound is 32 bits")))
        }
    }
}
