//! Why a tree cannot be built, and what a user should know though it can.

use std::path::PathBuf;

use super::owners::OwnersError;
use crate::config::spec::Location;

/// Something that a user should know though the plan goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeWarning {
    /// Extended attributes that the copy entry does not ask for.
    #[error("{location}: extended attribute {name} of {count} files is left out, first of {}", path.display())]
    ExtendedAttribute {
        /// The copy entry.
        location: Location,
        /// The attribute's name.
        name: String,
        /// How many files carry it.
        count: u64,
        /// The first of them.
        path: PathBuf,
    },
    /// Another file system is mounted below a source.
    #[error("{}: is a mount point; it becomes an empty {becomes}", path.display())]
    MountPoint {
        /// The mount point.
        path: PathBuf,
        /// What it is in the image.
        becomes: &'static str,
    },
    /// A manifest says other lengths than the files have.
    #[error(
        "{}:{line}: {} has {found} bytes, not the {said} that the manifest says; so it is with {count} files",
        manifest.display(), path.display()
    )]
    ManifestSize {
        /// The manifest.
        manifest: PathBuf,
        /// Line of the first file.
        line: u32,
        /// The first file.
        path: PathBuf,
        /// Its length in the manifest.
        said: u64,
        /// Its length in the source.
        found: u64,
        /// How many files it concerns.
        count: u64,
    },
    /// A file or directory that the host does not let us read, where that is no mistake.
    #[error("{}: cannot be read; {becomes}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What becomes of it: `it is left out`, `it is empty in the image`.
        becomes: &'static str,
    },
    /// More of them.
    #[error("{count} more files and directories cannot be read; they are left out or empty")]
    MoreUnreadable {
        /// How many.
        count: u64,
    },
    /// A source has a file of the boot loader's.
    #[error("{path}: the source's file is replaced by the boot loader's")]
    BootLoaderFile {
        /// The path in the image.
        path: String,
    },
}

impl TreeWarning {
    /// What to do about it, if anything.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MountPoint { .. } => Some(
                "`cross-mounts = true` in the copy entry includes other file systems".to_owned(),
            ),
            Self::ExtendedAttribute { name, .. } => Some(format!(
                "`xattrs = [\"{name}\"]` in the copy entry takes it, `xattrs = [\"!{name}\"]` says that it is not wanted"
            )),
            Self::ManifestSize { .. } => Some(
                "contents come from the source; a manifest without size= says nothing of them"
                    .to_owned(),
            ),
            Self::BootLoaderFile { .. } | Self::Unreadable { .. } | Self::MoreUnreadable { .. } => {
                None
            }
        }
    }
}

/// Why a tree cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The manifest of a copy entry.
    #[error(transparent)]
    Owners(Box<OwnersError>),
    /// The host refused something.
    #[error("{location}: {}: cannot be {action}", path.display())]
    Host {
        /// The copy entry.
        location: Location,
        /// The source.
        path: PathBuf,
        /// What was tried: `read`, `listed`, …
        action: &'static str,
        /// The host's error.
        source: std::io::Error,
    },
    /// A directory meets something that is none.
    #[error("{location}: {path}: {new} cannot take the place of {old}")]
    Clash {
        /// The entry that comes later.
        location: Location,
        /// The path in the image.
        path: String,
        /// What comes.
        new: &'static str,
        /// What is there.
        old: &'static str,
    },
    /// A directory on the way to `to` is none.
    #[error("{location}: {path}: is {kind} in the image, so nothing can be put below it")]
    NotADirectory {
        /// The entry.
        location: Location,
        /// The path in the image.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// The source is a special file.
    #[error("{location}: {}: is {kind}; a source is a directory or a regular file", path.display())]
    NoSource {
        /// The entry.
        location: Location,
        /// The source.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// An entry of `exclude` or `include` is no gitignore pattern.
    #[error("{location}: {key} pattern `{pattern}`: {reason}")]
    BadPattern {
        /// The entry.
        location: Location,
        /// `exclude` or `include`.
        key: &'static str,
        /// The pattern.
        pattern: String,
        /// What the matcher says.
        reason: String,
    },
    /// A user or group that no range of the map holds.
    #[error("{location}: {}: belongs to {what} {id}, which is in no range of `{key}`", path.display())]
    UnmappedId {
        /// The copy entry.
        location: Location,
        /// The source.
        path: PathBuf,
        /// `user` or `group`.
        what: &'static str,
        /// `uid-map` or `gid-map`.
        key: &'static str,
        /// On the host.
        id: u32,
    },
    /// Limits of ext4.
    #[error("{path}: {what} is {value}; ext4 holds at most {limit}")]
    Limit {
        /// The path in the image.
        path: String,
        /// What is too large: `symlink target`, `number of names`.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
}

impl From<OwnersError> for TreeError {
    fn from(error: OwnersError) -> Self {
        Self::Owners(Box::new(error))
    }
}

impl TreeError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Owners(error) => Some(error.hint().to_owned()),
            Self::Host { action: "read" | "listed" | "opened" | "examined", .. } => Some(
                "miragefs reads files as the user who runs it: change the file's permissions, leave it out with `exclude`, \
                 or all such files with --skip-unreadable"
                    .to_owned(),
            ),
            Self::Clash { .. } => Some("remove one of the two, or give one another `to`".to_owned()),
            Self::NotADirectory { .. } => {
                Some("name a directory; symlinks of the image are not followed".to_owned())
            }
            Self::UnmappedId { key, id, .. } => Some(format!(
                "add a range such as \"{id}:{id}:1\" to `{key}`, leave the file out with `exclude`, or give `owner` instead"
            )),
            Self::BadPattern { .. } => Some("patterns follow gitignore's rules".to_owned()),
            _ => None,
        }
    }
}
