//! Users and groups of the host as those of the image: `owner`, `uid-map` and `gid-map` of a copy entry.

use std::path::{Path, PathBuf};

use super::owners::Given;
use super::{TreeError, XattrSet};
use crate::config::spec::{CopySpec, IdMap, Owner};
use crate::synth::mistakes::Mistakes;

/// Tags of POSIX ACL entries that name somebody (kernel include/uapi/linux/posix_acl.h).
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;
/// `VFS_CAP_REVISION_MASK`, and the revision with the user who is root of a user namespace
/// (kernel include/uapi/linux/capability.h).
const CAPABILITY_REVISION_MASK: u32 = 0xff00_0000;
const CAPABILITY_REVISION_2: u32 = 0x0200_0000;
const CAPABILITY_REVISION_3: u32 = 0x0300_0000;

/// The owner in the image of the source file at `path`, which is `uid` and `gid` on the host.
pub(super) fn owner(
    spec: &CopySpec,
    given: &Given,
    (uid, gid): (u32, u32),
    path: impl Fn() -> PathBuf,
    mistakes: &mut Mistakes<TreeError>,
) -> Owner {
    let uid = match given.uid.or(spec.owner.map(|owner| owner.uid)) {
        Some(uid) => uid,
        None => mistakes.take(user(spec, uid, &path)).unwrap_or(uid),
    };
    let gid = match given.gid.or(spec.owner.map(|owner| owner.gid)) {
        Some(gid) => gid,
        None => mistakes.take(group(spec, gid, &path)).unwrap_or(gid),
    };
    Owner { uid, gid }
}

/// Maps the users and groups that extended attributes of the file at `path` name.
pub(super) fn map_xattrs(
    spec: &CopySpec,
    set: &mut XattrSet,
    path: &Path,
) -> Result<(), TreeError> {
    if spec.uid_map.is_none() && spec.gid_map.is_none() {
        return Ok(());
    }
    for (name, value) in set {
        let mapped = match &**name {
            b"system.posix_acl_access" | b"system.posix_acl_default" => acl(spec, value, path)?,
            b"security.capability" => capability(spec, value, path)?,
            _ => None,
        };
        if let Some(mapped) = mapped {
            *value = mapped.into_boxed_slice();
        }
    }
    Ok(())
}

fn user(spec: &CopySpec, id: u32, path: impl Fn() -> PathBuf) -> Result<u32, TreeError> {
    map(spec, spec.uid_map.as_ref(), ("user", "uid-map"), id, path)
}

fn group(spec: &CopySpec, id: u32, path: impl Fn() -> PathBuf) -> Result<u32, TreeError> {
    map(spec, spec.gid_map.as_ref(), ("group", "gid-map"), id, path)
}

fn map(
    spec: &CopySpec,
    ids: Option<&IdMap>,
    (what, key): (&'static str, &'static str),
    id: u32,
    path: impl Fn() -> PathBuf,
) -> Result<u32, TreeError> {
    let Some(ids) = ids else {
        return Ok(id);
    };
    ids.map(id).ok_or_else(|| TreeError::UnmappedId {
        location: spec.location.clone(),
        path: path(),
        what,
        key,
        id,
    })
}

/// An access control list with its named users and groups mapped; `None` leaves it as it is.
///
/// Entries are 8 bytes behind a version of 4: tag and permissions with 16 bits, and an identifier with 32.
fn acl(spec: &CopySpec, value: &[u8], path: &Path) -> Result<Option<Vec<u8>>, TreeError> {
    let Some((version, rest)) = value.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let (chunks, []) = rest.as_chunks::<8>() else {
        return Ok(None);
    };
    let mut entries = Vec::with_capacity(chunks.len());
    for [t0, t1, p0, p1, id @ ..] in chunks {
        let tag = u16::from_le_bytes([*t0, *t1]);
        let id = u32::from_le_bytes(*id);
        let id = match tag {
            ACL_USER => user(spec, id, || path.to_path_buf())?,
            ACL_GROUP => group(spec, id, || path.to_path_buf())?,
            _ => id,
        };
        entries.push((tag, id, [*p0, *p1]));
    }
    // The order is by tag and identifier; of several that are one in the image the first would be the one that counts.
    entries.sort_by_key(|(tag, id, _)| (*tag, *id));
    entries.dedup_by_key(|(tag, id, _)| (*tag, *id));
    let mut mapped = version.to_vec();
    for (tag, id, permissions) in entries {
        mapped.extend(tag.to_le_bytes());
        mapped.extend(permissions);
        mapped.extend(id.to_le_bytes());
    }
    Ok(Some(mapped))
}

/// Capabilities of a user namespace with its root mapped; those that every root gives in the image have no root.
fn capability(spec: &CopySpec, value: &[u8], path: &Path) -> Result<Option<Vec<u8>>, TreeError> {
    let (Some((magic, _)), Some((sets, root))) = (
        value.split_first_chunk::<4>(),
        value.split_last_chunk::<4>(),
    ) else {
        return Ok(None);
    };
    let magic = u32::from_le_bytes(*magic);
    if value.len() != 24 || magic & CAPABILITY_REVISION_MASK != CAPABILITY_REVISION_3 {
        return Ok(None);
    }
    let root = user(spec, u32::from_le_bytes(*root), || path.to_path_buf())?;
    let mut mapped = sets.to_vec();
    if root != 0 {
        mapped.extend(root.to_le_bytes());
        return Ok(Some(mapped));
    }
    let magic = magic & !CAPABILITY_REVISION_MASK | CAPABILITY_REVISION_2;
    for (to, from) in mapped.iter_mut().zip(magic.to_le_bytes()) {
        *to = from;
    }
    Ok(Some(mapped))
}
