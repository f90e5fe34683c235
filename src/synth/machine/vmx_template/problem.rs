//! What is wrong with a VMX.

/// Why a VMX cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VmxProblem {
    /// Not even the least that VMware asks for.
    #[error("is no VMX: there is no `config.version`")]
    NotVmx,
    /// A carriage return that VMware takes for the end of a line.
    #[error("has a carriage return in the middle")]
    LoneCr,
    /// A VMX whose keys cannot be seen.
    #[error("the machine is encrypted")]
    Encrypted,
    /// Letters beyond ASCII in another encoding than is declared.
    #[error("declares the encoding {encoding}, and is UTF-8")]
    Encoding {
        /// As declared.
        encoding: String,
    },
    /// A second disk.
    #[error("{second} is a second hard disk, beside {first}")]
    SecondDisk {
        /// Where the first is.
        first: String,
        /// Where the other is.
        second: String,
    },
    /// No place for the disk.
    #[error("has no hard disk, and no free place for one on {controllers}")]
    NoSlot {
        /// The controllers.
        controllers: &'static str,
    },
    /// A number that is none.
    #[error("`{key}` is \"{}\"; expected a number from 1 to {max}", value.escape_default())]
    Number {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// The greatest.
        max: u64,
    },
}

impl VmxProblem {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let advice = match self {
            Self::NotVmx => {
                "name VMware's configuration of a machine, which has lines such as config.version = \"8\""
            }
            Self::LoneCr => "end lines with a line feed, or with both: dos2unix, or tr '\\r' '\\n'",
            Self::Encrypted => "take the encryption away in VMware, and copy the VMX again",
            Self::Encoding { .. } => "write .encoding = \"UTF-8\"",
            Self::SecondDisk { second, .. } => {
                return format!("there is one disk: remove the lines of {second}");
            }
            Self::NoSlot { .. } => "write another disk-controller in [vm]",
            Self::Number { .. } => "change it in the template",
        };
        advice.to_owned()
    }
}
