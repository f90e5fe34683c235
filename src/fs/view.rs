//! What a reader of the mount sees, without FUSE: names, attributes, handles, bytes.
//!
//! Invariant: an inode number belongs to one image name and one identity for as long as the view lives and is never
//! given to another; an open handle keeps its image, whatever happens to the names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::status::{self, Awaited};
use crate::synth::generation::{Generation, Image};
use crate::synth::pending::PendingImage;
use crate::synth::source::ReadError;
use crate::units::{SECTOR_SIZE, to_u64, to_usize};

/// The inode of the directory that holds the images; FUSE's `FUSE_ROOT_ID`.
pub const ROOT_INODE: u64 = 1;

/// `st_blksize`: what the page cache works in.
pub const BLOCK_SIZE: u32 = 4096;

/// Who the files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The root.
    Directory,
    /// An image.
    RegularFile,
}

/// What `stat` shows of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub inode: u64,
    /// Type.
    pub kind: Kind,
    /// Permission bits.
    pub permissions: u16,
    /// Names of the inode; 2 for the root.
    pub link_count: u32,
    /// Owner.
    pub owner: Owner,
    /// Length in bytes.
    pub size: u64,
    /// Sectors of 512 bytes that hold data.
    pub sectors: u64,
    /// Modification time, in seconds since 1970.
    pub mtime: i64,
}

/// A line of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name, `.` and `..` among them.
    pub name: String,
    /// What it names.
    pub attributes: Attributes,
}

/// What `lseek` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next byte of data.
    Data,
    /// The next byte of a hole, the end of the file included.
    Hole,
}

/// The names and inodes of one generation.
struct Table {
    /// In the order of the config.
    names: Vec<(String, u64)>,
    images: HashMap<u64, Arc<Image>>,
}

impl Table {
    /// The table of `generation`: an image that `previous` has under the same name with the same identity keeps its
    /// inode, and with it the kernel's cached pages; any other gets a fresh one from `next_inode`.
    fn after(previous: Option<&Self>, generation: &Generation, next_inode: &AtomicU64) -> Self {
        let mut names = Vec::with_capacity(generation.images.len());
        let mut images = HashMap::with_capacity(generation.images.len());
        for image in &generation.images {
            let inode = previous
                .and_then(|previous| previous.unchanged(image))
                .unwrap_or_else(|| next_inode.fetch_add(1, Ordering::Relaxed));
            names.push((image.name.clone(), inode));
            images.insert(inode, Arc::clone(image));
        }
        Self { names, images }
    }

    fn unchanged(&self, image: &Image) -> Option<u64> {
        let inode = self.inode_of(OsStr::new(&image.name))?;
        let before = self.images.get(&inode)?;
        (before.identity == image.identity).then_some(inode)
    }

    fn inode_of(&self, name: &OsStr) -> Option<u64> {
        self.names
            .iter()
            .find(|(known, _)| known.as_bytes() == name.as_bytes())
            .map(|(_, inode)| *inode)
    }
}

/// The directory of images as its readers see it.
pub struct View {
    owner: Owner,
    table: RwLock<Table>,
    next_inode: AtomicU64,
    /// Images that will be there later.
    awaited: RwLock<Vec<Awaited>>,
    handles: RwLock<HashMap<u64, Arc<Image>>>,
    next_handle: AtomicU64,
}

impl View {
    /// Shows the images of `generation` as files of `owner`.
    #[must_use]
    pub fn new(generation: &Generation, owner: Owner) -> Self {
        let next_inode = AtomicU64::new(ROOT_INODE.saturating_add(1));
        Self {
            owner,
            table: RwLock::new(Table::after(None, generation, &next_inode)),
            next_inode,
            awaited: RwLock::new(
                generation
                    .pending
                    .iter()
                    .map(|image| Awaited {
                        image: Arc::clone(image),
                        failure: None,
                    })
                    .collect(),
            ),
            handles: RwLock::new(HashMap::new()),
            next_handle: AtomicU64::new(1),
        }
    }

    /// Shows the files of an image that was awaited, or takes note of why there are none.
    pub fn publish(&self, awaited: &PendingImage, result: Result<&[Arc<Image>], String>) {
        let images = result.as_ref().map_or(&[][..], |images| images);
        let mut table = self.table.write();
        for image in images {
            let inode = self.next_inode.fetch_add(1, Ordering::Relaxed);
            table.names.push((image.name.clone(), inode));
            table.images.insert(inode, Arc::clone(image));
        }
        // Under both locks, so that whoever looks finds the image in one of the two.
        let mut all = self.awaited.write();
        match result {
            Ok(_) => all.retain(|one| one.image.names() != awaited.names()),
            Err(failure) => all
                .iter_mut()
                .filter(|one| one.image.names() == awaited.names())
                .for_each(|one| one.failure = Some(failure.clone())),
        }
    }

    /// Whether an image of that name will be there later, so that nobody may remember its absence.
    #[must_use]
    pub fn is_awaited(&self, name: &OsStr) -> bool {
        let awaited = self.awaited.read();
        awaited
            .iter()
            .filter(|one| one.failure.is_none())
            .flat_map(|one| one.image.names())
            .any(|known| known.as_bytes() == name.as_bytes())
    }

    /// The status of the mount at this moment, as a file.
    fn status(&self) -> Arc<Image> {
        let table = self.table.read();
        let images: Vec<_> = table
            .names
            .iter()
            .filter_map(|(_, inode)| table.images.get(inode).cloned())
            .collect();
        let file = status::file(&images, &self.awaited.read());
        drop(table);
        Arc::new(file)
    }

    /// The inode that `name` leads to in the directory `parent`.
    #[must_use]
    pub fn lookup(&self, parent: u64, name: &OsStr) -> Option<Attributes> {
        match parent {
            ROOT_INODE if name == status::DIRECTORY_NAME => {
                return self.attributes(status::DIRECTORY_INODE, None);
            }
            status::DIRECTORY_INODE if name == status::FILE_NAME => {
                return self.attributes(status::FILE_INODE, None);
            }
            ROOT_INODE => {}
            _ => return None,
        }
        let table = self.table.read();
        let inode = table.inode_of(name)?;
        let image = table.images.get(&inode)?;
        Some(self.file_attributes(inode, image))
    }

    /// The attributes of `inode`; of an open file also those of the image that `handle` was opened on.
    #[must_use]
    pub fn attributes(&self, inode: u64, handle: Option<u64>) -> Option<Attributes> {
        if inode == ROOT_INODE {
            return Some(self.root_attributes(&self.table.read()));
        }
        if inode == status::DIRECTORY_INODE {
            let root = self.root_attributes(&self.table.read());
            return Some(Attributes { inode, ..root });
        }
        let image = match handle.and_then(|handle| self.image(handle)) {
            Some(image) => image,
            None if inode == status::FILE_INODE => self.status(),
            None => self.table.read().images.get(&inode).cloned()?,
        };
        Some(self.file_attributes(inode, &image))
    }

    /// Opens `inode` and returns the handle; `None` if no image has that inode.
    #[must_use]
    pub fn open(&self, inode: u64) -> Option<u64> {
        let image = if inode == status::FILE_INODE {
            self.status()
        } else {
            self.table.read().images.get(&inode).cloned()?
        };
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.handles.write().insert(handle, image);
        Some(handle)
    }

    /// Closes `handle`.
    pub fn release(&self, handle: u64) {
        let image = self.handles.write().remove(&handle);
        // The last handle of an image frees its plan; that happens after the lock is released.
        drop(image);
    }

    /// The image that `handle` was opened on.
    #[must_use]
    pub fn image(&self, handle: u64) -> Option<Arc<Image>> {
        self.handles.read().get(&handle).cloned()
    }

    /// Whether what `inode` shows changes without notice, so that nothing of it may be kept.
    #[must_use]
    pub fn is_volatile(&self, inode: u64) -> bool {
        match inode {
            status::FILE_INODE => true,
            ROOT_INODE => !self.awaited.read().is_empty(),
            _ => false,
        }
    }

    /// The lines of the directory `inode`, `.` and `..` first; `None` if it is none.
    #[must_use]
    pub fn entries_of(&self, inode: u64) -> Option<Vec<DirectoryEntry>> {
        match inode {
            ROOT_INODE => Some(self.entries()),
            status::DIRECTORY_INODE => {
                let attributes = |inode| self.attributes(inode, None);
                let entry = |name: &str, inode| {
                    Some(DirectoryEntry {
                        name: name.to_owned(),
                        attributes: attributes(inode)?,
                    })
                };
                [
                    entry(".", inode),
                    entry("..", ROOT_INODE),
                    entry(status::FILE_NAME, status::FILE_INODE),
                ]
                .into_iter()
                .collect()
            }
            _ => None,
        }
    }

    /// The lines of the directory of images, `.` and `..` first.
    #[must_use]
    pub fn entries(&self) -> Vec<DirectoryEntry> {
        let table = self.table.read();
        let root = self.root_attributes(&table);
        let dots = [".", ".."].map(|name| DirectoryEntry {
            name: name.to_owned(),
            attributes: root,
        });
        let files = table.names.iter().filter_map(|(name, inode)| {
            Some(DirectoryEntry {
                name: name.clone(),
                attributes: self.file_attributes(*inode, table.images.get(inode)?),
            })
        });
        dots.into_iter().chain(files).collect()
    }

    /// Number of images, and the bytes of data in all of them.
    #[must_use]
    pub fn usage(&self) -> (u64, u64) {
        let table = self.table.read();
        let data_len = table.images.values().fold(0, |sum: u64, image| {
            sum.saturating_add(image.data.data_len())
        });
        (to_u64(table.images.len()), data_len)
    }

    fn file_attributes(&self, inode: u64, image: &Image) -> Attributes {
        Attributes {
            inode,
            kind: Kind::RegularFile,
            permissions: 0o444,
            link_count: 1,
            owner: self.owner,
            size: image.source.len(),
            sectors: image.data.data_len().div_ceil(SECTOR_SIZE),
            mtime: image.mtime,
        }
    }

    fn root_attributes(&self, table: &Table) -> Attributes {
        let mtime = table.images.values().map(|image| image.mtime).max();
        Attributes {
            inode: ROOT_INODE,
            kind: Kind::Directory,
            permissions: 0o555,
            link_count: 2,
            owner: self.owner,
            size: 0,
            sectors: 0,
            mtime: mtime.unwrap_or(0),
        }
    }
}

/// How many of `wanted` bytes from `offset` on lie before the end of `image`.
#[must_use]
pub fn readable_len(image: &Image, offset: u64, wanted: u32) -> usize {
    to_usize(
        image
            .source
            .len()
            .saturating_sub(offset)
            .min(u64::from(wanted)),
    )
}

/// Fills the start of `buf` from `offset` of `image` and returns how many bytes there were: fewer than `buf` holds
/// only at the end of the image.
///
/// # Errors
/// As [`ByteSource::read_exact_at`](crate::synth::source::ByteSource::read_exact_at), except that no range is out of
/// range.
pub fn read(image: &Image, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
    let wanted = u32::try_from(buf.len()).unwrap_or(u32::MAX);
    let count = readable_len(image, offset, wanted);
    let (filled, _) = buf.split_at_mut(count);
    if !filled.is_empty() {
        image.source.read_exact_at(offset, filled)?;
    }
    Ok(count)
}

/// Where the next data or hole at or after `offset` starts; `None` (`ENXIO`) if there is none or `offset` is not
/// inside the image.
#[must_use]
pub fn seek(image: &Image, offset: i64, seek: Seek) -> Option<u64> {
    let offset = u64::try_from(offset).ok()?;
    match seek {
        Seek::Data => image.data.next_data(offset),
        Seek::Hole => image.data.next_hole(offset),
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "offsets of a source of three pages"
)]
mod tests {
    use super::*;
    use crate::synth::source::{ByteSource, Origin, Run, Step, check_range};

    /// 4096 ones, 8192 zeros, 10 ones.
    struct Holed;

    impl ByteSource for Holed {
        fn len(&self) -> u64 {
            12_298
        }

        fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
            check_range(offset, buf.len(), self.len())?;
            for (byte, at) in buf.iter_mut().zip(offset..) {
                *byte = u8::from(!self.run_at(at).origin.is_zero());
            }
            Ok(())
        }

        fn run_at(&self, offset: u64) -> Run {
            let (end, origin) = match offset {
                0..4096 => (4096, Origin::Computed("ones")),
                4096..12_288 => (12_288, Origin::Zero),
                12_288..12_298 => (12_298, Origin::Computed("ones")),
                _ => return Run::EMPTY,
            };
            let len = end - offset;
            Run { len, origin }
        }

        fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}
    }

    const OWNER: Owner = Owner { uid: 7, gid: 8 };

    fn image(name: &str, identity: u8) -> Arc<Image> {
        Arc::new(Image::new(
            name.to_owned(),
            Arc::new(Holed),
            1_700_000_000,
            [identity; 32],
        ))
    }

    fn generation(images: &[(&str, u8)]) -> Generation {
        Generation {
            images: images
                .iter()
                .map(|(name, identity)| image(name, *identity))
                .collect(),
            pending: Vec::new(),
        }
    }

    fn view() -> View {
        View::new(&generation(&[("disk.img", 1), ("boot.ova", 1)]), OWNER)
    }

    #[test]
    fn attributes_are_those_of_the_image() {
        let found = view().lookup(ROOT_INODE, OsStr::new("boot.ova"));
        let expected = Attributes {
            inode: 3,
            kind: Kind::RegularFile,
            permissions: 0o444,
            link_count: 1,
            owner: OWNER,
            size: 12_298,
            sectors: 9,
            mtime: 1_700_000_000,
        };
        assert_eq!(found, Some(expected));
        assert_eq!(view().attributes(3, None), Some(expected));
        let root = view().attributes(ROOT_INODE, None).unwrap();
        assert_eq!((root.kind, root.permissions), (Kind::Directory, 0o555));
    }

    #[test]
    fn absent_names_and_inodes_are_none() {
        let view = view();
        assert_eq!(view.lookup(ROOT_INODE, OsStr::new("disk.im")), None);
        assert_eq!(view.lookup(ROOT_INODE, OsStr::from_bytes(b"\xff")), None);
        assert_eq!(view.lookup(2, OsStr::new("disk.img")), None);
        assert_eq!(view.attributes(4, None), None);
        assert_eq!(view.open(4), None);
        assert_eq!(view.open(ROOT_INODE), None);
    }

    #[test]
    fn the_directory_lists_dots_and_images_in_order() {
        let entries = view().entries();
        let listed: Vec<_> = entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.attributes.inode))
            .collect();
        assert_eq!(
            listed,
            [(".", 1), ("..", 1), ("disk.img", 2), ("boot.ova", 3)]
        );
    }

    #[test]
    fn reads_are_short_only_at_the_end() {
        let image = image("disk.img", 1);
        let mut buf = [9; 20];
        assert_eq!(read(&image, 4090, &mut buf).unwrap(), 20);
        assert_eq!(buf[..6], [1; 6]);
        assert_eq!(buf[6..], [0; 14]);
        assert_eq!(read(&image, 12_290, &mut buf).unwrap(), 8);
        assert_eq!(read(&image, 12_298, &mut buf).unwrap(), 0);
        assert_eq!(read(&image, u64::MAX, &mut buf).unwrap(), 0);
    }

    #[test]
    fn seeks_find_data_and_holes() {
        let image = image("disk.img", 1);
        for (offset, data, hole) in [
            (0, Some(0), Some(4096)),
            (4095, Some(4095), Some(4096)),
            (4096, Some(12_288), Some(4096)),
            (12_297, Some(12_297), Some(12_298)),
            (12_298, None, None),
            (-1, None, None),
        ] {
            assert_eq!(seek(&image, offset, Seek::Data), data, "data at {offset}");
            assert_eq!(seek(&image, offset, Seek::Hole), hole, "hole at {offset}");
        }
    }

    #[test]
    fn handles_keep_their_image_until_released() {
        let view = view();
        let first = view.open(2).unwrap();
        let second = view.open(2).unwrap();
        assert_ne!(first, second);
        view.release(first);
        assert!(view.image(first).is_none());
        assert_eq!(view.image(second).unwrap().name, "disk.img");
    }

    #[test]
    fn inodes_follow_name_and_identity_and_are_never_reused() {
        let next_inode = AtomicU64::new(2);
        let first = Table::after(None, &generation(&[("a", 1), ("b", 1)]), &next_inode);
        assert_eq!(first.names, [("a".to_owned(), 2), ("b".to_owned(), 3)]);
        let second = Table::after(
            Some(&first),
            &generation(&[("b", 1), ("a", 2)]),
            &next_inode,
        );
        assert_eq!(second.names, [("b".to_owned(), 3), ("a".to_owned(), 4)]);
        let third = Table::after(Some(&second), &generation(&[("a", 1)]), &next_inode);
        assert_eq!(third.names, [("a".to_owned(), 5)]);
    }
}
