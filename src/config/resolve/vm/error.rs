//! What is wrong with a machine.

use thiserror::Error;

use crate::config::guest_os::GUEST_OS_TABLE;
use crate::config::spec::GuestOs;

/// Why there can be no such machine.
#[derive(Debug, Error)]
pub enum VmError {
    /// A guest that the table does not know.
    #[error(
        "`guest-os` is \"{}\"; expected one of {} names, such as \"{}\"",
        value.escape_default(),
        GUEST_OS_TABLE.len(),
        GuestOs::default().name
    )]
    GuestOs {
        /// As typed.
        value: String,
        /// A name that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A model of SCSI controllers for another bus.
    #[error("`scsi-controller` is the model of a SCSI controller; disk-controller is \"{bus}\"")]
    ScsiModelOfOther {
        /// The bus.
        bus: &'static str,
    },
    /// AHCI came later.
    #[error(
        "disk-controller = \"sata\" needs hardware version {needed}; `hardware-version` is {hardware_version}"
    )]
    SataTooEarly {
        /// As typed.
        hardware_version: u32,
        /// The least.
        needed: u32,
    },
    /// More cards than slots.
    #[error("`networks` has {count} entries; a machine has at most {max} network cards")]
    TooManyNetworks {
        /// As typed.
        count: usize,
        /// The most.
        max: usize,
    },
    /// A key of the machine beside the template, which says it too.
    #[error("`{key}` is given beside `template`, which describes the whole machine")]
    BesideTemplate {
        /// The key.
        key: &'static str,
    },
    /// A template that is neither.
    #[error("`template` is \"{}\"; its name must end in .vmx or .ovf", name.escape_default())]
    TemplateName {
        /// As typed.
        name: String,
    },
    /// A text with control characters.
    #[error("`{key}` has a control character; only line feeds and tabs may be in it")]
    Control {
        /// The key.
        key: &'static str,
    },
    /// A long text.
    #[error("`{key}` has {len} bytes; at most {max} fit")]
    TooLong {
        /// The key.
        key: &'static str,
        /// Its length.
        len: usize,
        /// The most.
        max: usize,
    },
    /// A property's key that is none.
    #[error("`key` is \"{}\"; expected 1 to 255 of A-Z, a-z, 0-9, `.`, `_` and `-`", key.escape_default())]
    PropertyKey {
        /// As typed.
        key: String,
    },
    /// A property twice.
    #[error("property `{key}` is there twice")]
    PropertyTwice {
        /// The key.
        key: String,
    },
    /// A value of another type.
    #[error("property `{key}` is \"{}\"; its type is \"{kind}\"", value.escape_default())]
    PropertyValue {
        /// The key.
        key: String,
        /// As typed.
        value: String,
        /// The type as it is written.
        kind: &'static str,
    },
    /// A property that nobody can set and that has no value.
    #[error("property `{key}` has no value, and user-configurable is false")]
    PropertyWithoutValue {
        /// The key.
        key: String,
    },
    /// No key of a VMX.
    #[error("`vmx`: \"{}\" is no key of a VMX: those are printable ASCII without blanks, `=`, `#` and quotes", key.escape_default())]
    VmxKey {
        /// As typed.
        key: String,
    },
    /// A key that differs from another one in case only.
    #[error("`vmx`: `{first}` and `{second}` are one key: case does not count in a VMX")]
    VmxTwice {
        /// The first.
        first: String,
        /// The other.
        second: String,
    },
    /// A key of ours.
    #[error("`vmx`: `{key}` is set by miragefs itself")]
    VmxOurs {
        /// As typed.
        key: String,
        /// Where the config says it.
        says: &'static str,
    },
}

impl VmError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> String {
        let advice = match self {
            Self::GuestOs {
                nearest: Some(name),
                ..
            } => return format!("did you mean \"{name}\"?"),
            Self::GuestOs { .. } => {
                "\"other-linux-64\" is any Linux and \"other-64\" anything else; docs/config.md lists all names"
            }
            Self::ScsiModelOfOther { .. } => {
                "leave `scsi-controller` out, or write disk-controller = \"scsi\""
            }
            Self::SataTooEarly { needed, .. } => {
                return format!(
                    "write hardware-version = {needed} or more, or disk-controller = \"ide\""
                );
            }
            Self::TooManyNetworks { max, .. } => return format!("keep {max} of them"),
            Self::BesideTemplate { key } => {
                return format!("leave `{key}` out and change the template instead");
            }
            Self::TemplateName { .. } => {
                "name VMware's configuration of a machine (.vmx) or an OVF descriptor (.ovf)"
            }
            Self::Control { .. } => "leave it out; \\n is a line feed in a text of TOML",
            Self::TooLong { .. } => "shorten it",
            Self::PropertyKey { .. } => "write a key such as \"hostname\" or \"guestinfo.dns\"",
            Self::PropertyTwice { .. } => "keep one of the two",
            Self::PropertyValue { kind, .. } => match *kind {
                "boolean" => "write value = \"true\" or value = \"false\"",
                "uint64" => "write a whole number from 0 on, such as value = 3",
                "sint64" => "write a whole number, such as value = -3",
                _ => "write a number, such as value = \"0.5\"",
            },
            Self::PropertyWithoutValue { .. } => {
                "give it a value, or write user-configurable = true"
            }
            Self::VmxKey { .. } => {
                "write it as in a .vmx, such as \"isolation.tools.copy.disable\""
            }
            Self::VmxTwice { second, .. } => return format!("remove `{second}`"),
            Self::VmxOurs { says, .. } => {
                return (*says).to_owned();
            }
        };
        advice.to_owned()
    }
}
