//! Which extended attributes of a source are taken, and reading them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{TreeWarning, XattrSet};
use crate::config::spec::CopySpec;

/// The most that Linux gives: `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` (include/uapi/linux/limits.h).
const XATTR_LEN_MAX: usize = 64 * 1024;
/// Enough for nearly every file.
const XATTR_LEN_USUAL: usize = 512;

/// Taken unless the config says otherwise: what belongs to the files rather than to the host.
const TAKEN: [&str; 4] = [
    "user.*",
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
];
/// Never taken: they are the host's own, and would be wrong in the image.
const NEVER: [&str; 3] = ["trusted.overlay.*", "security.ima", "security.evm"];

/// The attribute whose first entries are the permission bits.
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// What becomes of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    /// Left out, and the user should know.
    Left,
    /// Left out because somebody said so.
    Unwanted,
}

/// The attributes that a copy entry leaves out, by name.
#[derive(Debug, Default)]
pub(super) struct LeftOut(BTreeMap<String, (u64, PathBuf)>);

impl LeftOut {
    pub(super) fn add(&mut self, name: &[u8], path: &Path) {
        let name = String::from_utf8_lossy(name).into_owned();
        let (count, _) = self
            .0
            .entry(name)
            .or_insert_with(|| (0, path.to_path_buf()));
        *count = count.saturating_add(1);
    }

    /// One warning for each name.
    pub(super) fn into_warnings(self, spec: &CopySpec) -> impl Iterator<Item = TreeWarning> {
        self.0
            .into_iter()
            .map(|(name, (count, path))| TreeWarning::ExtendedAttribute {
                location: spec.location.clone(),
                name,
                count,
                path,
            })
    }
}

/// The extended attributes of one file.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attributes {
    /// Those that are taken.
    pub(super) taken: XattrSet,
    /// The names of those that the user should know are not.
    pub(super) left_out: Vec<Box<[u8]>>,
}

impl Attributes {
    pub(super) const fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.left_out.is_empty()
    }
}

/// The attributes of `path`, which is not followed if it is a symlink, as far as they concern `spec`.
///
/// # Errors
/// The host's, where it has attributes at all.
pub(super) fn read(path: &Path, spec: &CopySpec) -> Result<Attributes, Errno> {
    let names = match grown(|buffer| rustix::fs::llistxattr(path, buffer)) {
        Ok(names) => names,
        // No such attributes on this file system.
        Err(Errno::NOTSUP) => return Ok(Attributes::default()),
        Err(error) => return Err(error),
    };
    let mut attributes = Attributes::default();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        match fate(name, &spec.xattrs) {
            Fate::Unwanted => {}
            Fate::Left => attributes.left_out.push(name.into()),
            Fate::Taken => match grown(|buffer| rustix::fs::lgetxattr(path, name, buffer)) {
                Ok(mut value) => {
                    if let Some(mode) = spec.mode.filter(|_| name == ACCESS_ACL) {
                        change_mode(&mut value, mode);
                    }
                    attributes.taken.push((name.into(), value.into()));
                }
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            },
        }
    }
    attributes.taken.sort();
    Ok(attributes)
}

/// Calls with a small buffer first, and with the largest where that is too small.
fn grown(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; XATTR_LEN_USUAL];
    match call(&mut small) {
        Ok(len) => Ok(small.get(..len).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; XATTR_LEN_MAX];
            let len = call(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

/// Gives the access ACL of a set, if it has one, these permission bits.
pub(super) fn follow_mode(set: &mut XattrSet, mode: u16) {
    for (_, value) in set.iter_mut().filter(|(name, _)| **name == *ACCESS_ACL) {
        change_mode(value, mode);
    }
}

/// What `chmod` does to an access ACL: the owner's and the others' entries follow the mode, and the group's bits are the
/// mask's where there is one (kernel fs/posix_acl.c, `__posix_acl_chmod_masq`).
fn change_mode(acl: &mut [u8], mode: u16) {
    const HEADER_LEN: usize = 4;
    const ENTRY_LEN: usize = 8;
    const USER_OBJ: u16 = 0x01;
    const GROUP_OBJ: u16 = 0x04;
    const MASK: u16 = 0x10;
    const OTHER: u16 = 0x20;
    let entries = acl.get_mut(HEADER_LEN..).unwrap_or_default();
    let tag = |entry: &[u8]| {
        entry
            .first_chunk()
            .map_or(0, |tag| u16::from_le_bytes(*tag))
    };
    let has_mask = entries
        .chunks_exact(ENTRY_LEN)
        .any(|entry| tag(entry) == MASK);
    for entry in entries.chunks_exact_mut(ENTRY_LEN) {
        let bits = match tag(entry) {
            USER_OBJ => mode >> 6,
            MASK => mode >> 3,
            GROUP_OBJ if !has_mask => mode >> 3,
            OTHER => mode,
            _ => continue,
        };
        if let Some(permissions) = entry.get_mut(2..4) {
            permissions.copy_from_slice(&(bits & 7).to_le_bytes());
        }
    }
}

/// The last pattern that matches decides.
fn fate(name: &[u8], patterns: &[String]) -> Fate {
    if NEVER.iter().any(|pattern| matches(pattern, name)) {
        return Fate::Unwanted;
    }
    let by_default = if TAKEN.iter().any(|pattern| matches(pattern, name)) {
        Fate::Taken
    } else {
        Fate::Left
    };
    patterns.iter().fold(by_default, |fate, pattern| {
        match pattern.strip_prefix('!') {
            Some(unwanted) if matches(unwanted, name) => Fate::Unwanted,
            None if matches(pattern, name) => Fate::Taken,
            _ => fate,
        }
    })
}

/// A pattern is a name, or the beginning of names with `*` behind it.
fn matches(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_pattern_decides() {
        for (name, patterns, expected) in [
            ("user.a", &[][..], Fate::Taken),
            ("security.capability", &[], Fate::Taken),
            ("system.posix_acl_default", &[], Fate::Taken),
            ("security.selinux", &[], Fate::Left),
            ("security.selinux", &["security.selinux"], Fate::Taken),
            ("trusted.x", &["trusted.*"], Fate::Taken),
            ("trusted.overlay.opaque", &["trusted.*"], Fate::Unwanted),
            ("security.ima", &["security.*"], Fate::Unwanted),
            ("user.a", &["!user.*"], Fate::Unwanted),
            ("user.a", &["!user.*", "user.a"], Fate::Taken),
            ("user.ab", &["!user.a"], Fate::Taken),
        ] {
            let patterns: Vec<String> = patterns
                .iter()
                .map(|pattern| (*pattern).to_owned())
                .collect();
            assert_eq!(
                fate(name.as_bytes(), &patterns),
                expected,
                "{name} {patterns:?}"
            );
        }
    }

    #[test]
    fn an_acl_follows_the_mode_as_with_chmod() {
        let acl = |entries: &[(u16, u16)]| {
            let mut bytes = 2_u32.to_le_bytes().to_vec();
            for (tag, permissions) in entries {
                bytes.extend(tag.to_le_bytes());
                bytes.extend(permissions.to_le_bytes());
                bytes.extend(5_u32.to_le_bytes());
            }
            bytes
        };
        // user::rw- user:5:rw- group::r-- mask::rw- other::r--, then chmod 640 as setfacl shows it.
        let mut with_mask = acl(&[(1, 6), (2, 6), (4, 4), (0x10, 6), (0x20, 4)]);
        change_mode(&mut with_mask, 0o640);
        assert_eq!(
            with_mask,
            acl(&[(1, 6), (2, 6), (4, 4), (0x10, 4), (0x20, 0)])
        );
        let owner = (b"user.x".as_slice().into(), acl(&[(1, 6)]).into());
        let access = (ACCESS_ACL.into(), acl(&[(1, 6), (4, 6), (0x20, 6)]).into());
        let mut set: XattrSet = vec![access, owner];
        follow_mode(&mut set, 0o421);
        assert_eq!(*set[0].1, *acl(&[(1, 4), (4, 2), (0x20, 1)]));
        assert_eq!(*set[1].1, *acl(&[(1, 6)]));
        let mut without_mask = acl(&[(1, 7), (4, 7), (0x20, 7)]);
        change_mode(&mut without_mask, 0o4751);
        assert_eq!(without_mask, acl(&[(1, 7), (4, 5), (0x20, 1)]));
    }
}
