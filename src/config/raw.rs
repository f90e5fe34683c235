//! The config as typed: one struct per table, every value with its place.
//!
//! Invariant: nothing is checked or defaulted here; positions are offsets of [`super::document::SourceMap`].

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

pub(crate) type Text = Option<Spanned<String>>;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawConfig {
    pub(crate) name: Text,
    pub(crate) seed: Text,
    pub(crate) source_date_epoch: Option<Spanned<i64>>,
    pub(crate) on_change: Text,
    /// Followed while the document was put together.
    #[serde(rename = "include")]
    pub(crate) _include: Option<IgnoredAny>,
    #[serde(default)]
    pub(crate) variables: BTreeMap<Spanned<String>, RawVariable>,
    pub(crate) disk: Option<Spanned<RawDisk>>,
    #[serde(default)]
    pub(crate) bootloader: RawBootloader,
    #[serde(default)]
    pub(crate) partition: Vec<Spanned<RawPartition>>,
    #[serde(default)]
    pub(crate) vm: RawVm,
    pub(crate) images: Option<Spanned<BTreeMap<Spanned<String>, Spanned<RawImage>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawDisk {
    pub(crate) size: Option<Spanned<RawSize>>,
    pub(crate) table: Text,
    pub(crate) boot_code: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawBootloader {
    pub(crate) extlinux: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawPartition {
    pub(crate) label: Text,
    pub(crate) start: Option<Spanned<RawSize>>,
    pub(crate) size: Option<Spanned<RawSize>>,
    pub(crate) free: Option<Spanned<RawSize>>,
    pub(crate) active: Option<Spanned<bool>>,
    #[serde(rename = "type")]
    pub(crate) type_code: Text,
    pub(crate) filesystem: Text,
    pub(crate) bootloader: Text,
    pub(crate) bootloader_directory: Text,
    #[serde(default)]
    pub(crate) copy: Vec<Spanned<RawCopy>>,
    #[serde(default)]
    pub(crate) files: Vec<Spanned<RawFile>>,
    #[serde(default)]
    pub(crate) mkdir: Vec<Spanned<RawDirectory>>,
    #[serde(default)]
    pub(crate) symlink: Vec<Spanned<RawSymlink>>,
    #[serde(default)]
    pub(crate) device: Vec<Spanned<RawDevice>>,
    pub(crate) ext4: Option<Spanned<RawExt4>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawCopy {
    pub(crate) from: Text,
    pub(crate) to: Text,
    pub(crate) owner: Text,
    pub(crate) owners: Text,
    pub(crate) mode: Text,
    #[serde(default)]
    pub(crate) exclude: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) include: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) newest: bool,
    #[serde(default)]
    pub(crate) cross_mounts: bool,
    #[serde(default)]
    pub(crate) xattrs: Vec<Spanned<String>>,
    pub(crate) sparse: Text,
    pub(crate) uid_map: Option<Spanned<RawIdMap>>,
    pub(crate) gid_map: Option<Spanned<RawIdMap>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawFile {
    pub(crate) path: Text,
    pub(crate) text: Text,
    pub(crate) base64: Text,
    pub(crate) mode: Text,
    pub(crate) owner: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawDirectory {
    pub(crate) path: Text,
    pub(crate) mode: Text,
    pub(crate) owner: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawSymlink {
    pub(crate) path: Text,
    pub(crate) target: Text,
    pub(crate) owner: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawDevice {
    pub(crate) path: Text,
    #[serde(rename = "type")]
    pub(crate) kind: Text,
    pub(crate) major: Option<Spanned<i64>>,
    pub(crate) minor: Option<Spanned<i64>>,
    pub(crate) mode: Text,
    pub(crate) owner: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawExt4 {
    pub(crate) features: Text,
    pub(crate) label: Text,
    pub(crate) uuid: Text,
    pub(crate) journal: Option<Spanned<RawJournal>>,
    pub(crate) block_size: Option<Spanned<RawSize>>,
    pub(crate) inode_size: Option<Spanned<RawSize>>,
    pub(crate) reserved_percent: Option<Spanned<i64>>,
    pub(crate) inodes: Option<Spanned<RawSize>>,
    pub(crate) slack_bits: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawVm {
    pub(crate) memory: Option<Spanned<RawSize>>,
    pub(crate) cpus: Option<Spanned<i64>>,
    pub(crate) guest_os: Text,
    pub(crate) firmware: Text,
    pub(crate) hardware_version: Option<Spanned<i64>>,
    pub(crate) disk_controller: Text,
    pub(crate) scsi_controller: Text,
    pub(crate) networks: Option<Vec<Spanned<RawNetwork>>>,
    pub(crate) annotation: Text,
    pub(crate) product: Text,
    pub(crate) product_version: Text,
    pub(crate) vendor: Text,
    pub(crate) properties: Option<Spanned<Vec<Spanned<RawProperty>>>>,
    pub(crate) vmx: Option<Spanned<BTreeMap<Spanned<String>, Spanned<RawVariable>>>>,
    pub(crate) template: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawProperty {
    pub(crate) key: Text,
    pub(crate) value: Option<Spanned<RawVariable>>,
    pub(crate) r#type: Text,
    pub(crate) label: Text,
    pub(crate) description: Text,
    pub(crate) user_configurable: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawNetwork {
    pub(crate) name: Text,
    pub(crate) adapter: Text,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawImage {
    pub(crate) format: Text,
    pub(crate) partition: Text,
    pub(crate) disk: Text,
    pub(crate) layout: Text,
    pub(crate) grain_directory: Text,
    pub(crate) compression: Text,
    pub(crate) level: Option<Spanned<i64>>,
    pub(crate) manifest: Text,
    pub(crate) manifest_position: Text,
    pub(crate) provider: Text,
}

/// The value of a variable.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawVariable {
    Number(i64),
    Text(String),
}

/// A word, or ranges.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawIdMap {
    Word(String),
    Ranges(Vec<String>),
}

/// Whether there is one, or its size.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawJournal {
    Switch(bool),
    Number(i64),
    Text(String),
}

/// A number, or a text that may have a unit or be a word.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawSize {
    Number(i64),
    Text(String),
}
