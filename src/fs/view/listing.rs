//! Directories of the mount: names and attributes.

use std::ffi::OsStr;
use std::sync::Arc;

use super::super::control::{self, ControlInodes};
use super::super::shelf::Shelf;
use super::{Attributes, Kind, Node, ROOT_INODE, State, View};

/// A line of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name, `.` and `..` among them.
    pub name: String,
    /// What it names.
    pub attributes: Attributes,
}

/// A directory with what is in it.
enum Directory {
    /// Of a mount of several configs.
    Root,
    Shelf(Arc<str>),
    Control(ControlInodes),
}

impl View {
    /// What `name` leads to in the directory `parent`.
    #[must_use]
    pub fn lookup(&self, parent: u64, name: &OsStr) -> Option<Attributes> {
        match self.directory(parent)? {
            Directory::Control(control) => self.attributes(control.find(name)?, None),
            Directory::Root if name == control::DIRECTORY_NAME => {
                self.directory_attributes(self.mount_control.as_ref()?.directory)
            }
            Directory::Root => {
                let inode = self.directory_of(name.to_str()?)?;
                self.directory_attributes(inode)
            }
            Directory::Shelf(shelf) => {
                let state = self.state.read();
                let shelf = state.shelves.get(&shelf)?;
                if name == control::DIRECTORY_NAME {
                    return Some(self.control_attributes(shelf.control.directory, shelf.mtime()));
                }
                Some(self.file_attributes(shelf.find(name)?))
            }
        }
    }

    fn directory(&self, inode: u64) -> Option<Directory> {
        match self.node(inode) {
            Some(Node::Shelf(name)) => Some(Directory::Shelf(name)),
            Some(Node::Control(Some(name))) => {
                let state = self.state.read();
                Some(Directory::Control(
                    state.shelves.get(&name)?.control.clone(),
                ))
            }
            Some(Node::Control(None)) => Some(Directory::Control(self.mount_control.clone()?)),
            None if inode == ROOT_INODE => Some(Directory::Root),
            Some(Node::File(..)) | None => None,
        }
    }

    /// The attributes of a directory; `None` if `inode` is none.
    pub(super) fn directory_attributes(&self, inode: u64) -> Option<Attributes> {
        let state = self.state.read();
        match state.nodes.get(&inode) {
            Some(Node::Shelf(name)) => Some(self.shelf_attributes(state.shelves.get(name)?)),
            Some(Node::Control(Some(name))) => {
                Some(self.control_attributes(inode, state.shelves.get(name)?.mtime()))
            }
            Some(Node::Control(None)) => Some(self.control_attributes(inode, newest(&state))),
            None if inode == ROOT_INODE => {
                let subdirectories = u32::try_from(state.shelves.len()).unwrap_or(u32::MAX);
                let attributes = self.control_attributes(inode, newest(&state));
                Some(Attributes {
                    link_count: subdirectories.saturating_add(2),
                    ..attributes
                })
            }
            Some(Node::File(..)) | None => None,
        }
    }

    fn shelf_attributes(&self, shelf: &Shelf) -> Attributes {
        self.control_attributes(shelf.inode, shelf.mtime())
    }

    fn control_attributes(&self, inode: u64, mtime: i64) -> Attributes {
        Attributes {
            inode,
            kind: Kind::Directory,
            permissions: self.surroundings.file_mode.of_directory(),
            link_count: 2,
            owner: self.owner,
            size: 0,
            sectors: 0,
            mtime,
        }
    }

    /// The lines of the directory `inode`, `.` and `..` first; `None` if it is none.
    #[must_use]
    pub fn entries_of(&self, inode: u64) -> Option<Vec<DirectoryEntry>> {
        let directory = self.directory(inode)?;
        let dot = self.directory_attributes(inode)?;
        let above = match &directory {
            Directory::Control(_) => self.parent_of_control(inode)?,
            Directory::Root | Directory::Shelf(_) => ROOT_INODE,
        };
        let mut entries = vec![entry(".", dot)];
        entries.push(entry("..", self.directory_attributes(above)?));
        match directory {
            Directory::Root => {
                let state = self.state.read();
                let shelves = state.shelves.values();
                entries.extend(shelves.map(|one| entry(&one.name, self.shelf_attributes(one))));
            }
            Directory::Shelf(name) => {
                let state = self.state.read();
                let shown = &state.shelves.get(&name)?.shown;
                let line = |one: &Arc<_>| self.file_attributes(one);
                entries.extend(shown.iter().map(|one| entry(&one.image.name, line(one))));
            }
            Directory::Control(control) => {
                let listed = control.files.iter().filter(|(file, _)| file.is_listed());
                // Nothing is drawn for a listing: nobody may keep what it says, so the size is asked for again.
                let size = 0;
                entries.extend(listed.map(|(file, inode)| {
                    let attributes = Attributes {
                        inode: *inode,
                        kind: Kind::RegularFile,
                        permissions: file.permissions() & self.surroundings.file_mode.bits(),
                        link_count: 1,
                        size,
                        ..dot
                    };
                    entry(file.name(), attributes)
                }));
            }
        }
        Some(entries)
    }

    /// The lines of the root, `.` and `..` first.
    #[must_use]
    pub fn entries(&self) -> Vec<DirectoryEntry> {
        self.entries_of(ROOT_INODE).unwrap_or_default()
    }

    fn parent_of_control(&self, inode: u64) -> Option<u64> {
        match self.node(inode)? {
            Node::Control(Some(name)) => self.directory_of(&name),
            Node::Control(None) => Some(ROOT_INODE),
            Node::Shelf(_) | Node::File(..) => None,
        }
    }
}

fn newest(state: &State) -> i64 {
    state.shelves.values().map(Shelf::mtime).max().unwrap_or(0)
}

fn entry(name: &str, attributes: Attributes) -> DirectoryEntry {
    DirectoryEntry {
        name: name.to_owned(),
        attributes,
    }
}
