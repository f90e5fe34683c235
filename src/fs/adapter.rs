//! The FUSE protocol on one side, [`View`] on the other; nothing is decided here.
//!
//! Invariant: every request is answered exactly once and no handler ends its worker thread: a panic is caught, and
//! the reply that it dropped has answered `EIO`. No handler holds a lock while bytes are produced, and none waits for
//! anything that may take long: such reads move to a thread of their own.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags,
    PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use super::lanes::Lanes;
use super::view::{self, Attributes, BLOCK_SIZE, Kind, Seek, View};
use crate::units::{to_u64, to_usize};

mod reading;
mod work;

use reading::Read;
use work::{guarded, later};

/// How long the kernel may trust names, attributes and absences: nothing changes unless we tell it.
const TTL: Duration = Duration::from_secs(3600);

/// The kernel's limit of one request, also for reads: 256 pages.
const MAX_WRITE: u32 = 1 << 20;

/// Read-ahead requests under way at once.
const MAX_BACKGROUND: u16 = 64;

/// Inode numbers are never reused, so one generation number does for all.
const INODE_GENERATION: Generation = Generation(0);

/// What fuser 0.18 handles and a read-only file system gains by. Not among them, since fuser accepts but does not
/// implement them: `SETXATTR_EXT`, `HANDLE_KILLPRIV_V2`, `SECURITY_CTX`, `CREATE_SUPP_GROUP`, `ALLOW_IDMAP`,
/// `OVER_IO_URING`, `HAS_RESEND`, `REQUEST_TIMEOUT`, `SUBMOUNTS`, `MAP_ALIGNMENT`, `HAS_INODE_DAX`.
const WANTED_CAPABILITIES: InitFlags = InitFlags::FUSE_ASYNC_READ
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_ASYNC_DIO)
    .union(InitFlags::FUSE_EXPLICIT_INVAL_DATA)
    .union(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP)
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_READDIRPLUS_AUTO);

/// A [`View`] as fuser wants it.
pub(super) struct Adapter {
    view: Arc<View>,
    /// Whether the kernel keeps no pages of the images.
    direct: bool,
    /// Who does reads that take no long work.
    lanes: Lanes<Read>,
    /// Handles that the kernel caches for and that no slow read was asked of yet.
    untried: Arc<Mutex<HashSet<u64>>>,
}

impl Adapter {
    /// Workers may be occupied by `readers` reads at once: fewer than there are workers.
    pub(super) fn new(view: Arc<View>, direct: bool, readers: usize) -> Self {
        Self {
            lanes: reading::lanes(&view, readers),
            view,
            direct,
            untried: Arc::default(),
        }
    }

    /// Whether a slow read may be mere read-ahead, which must not start long work: a machine that boots from an OVA
    /// reads ahead into the manifest that nobody wants. Requests do not tell, but the kernel keeps the failure of
    /// read-ahead to itself and asks again for what a program waits for.
    fn may_be_read_ahead(&self, handle: u64) -> bool {
        self.untried.lock().remove(&handle)
    }

    /// Answers a request about an inode, on a thread of its own if that takes long.
    fn answer(
        &self,
        operation: &'static str,
        inode: INodeNo,
        answer: impl FnOnce() + Send + 'static,
    ) {
        if self.view.takes_long(inode.0) {
            later(&self.view, operation, answer);
        } else {
            guarded(&self.view, operation, answer);
        }
    }

    /// How long the kernel may remember what it was told of an inode.
    fn ttl(&self, inode: u64) -> Duration {
        if self.view.is_volatile(inode) {
            Duration::ZERO
        } else {
            TTL
        }
    }

    /// `None` if `inode` is no directory.
    fn list(
        &self,
        inode: u64,
        offset: u64,
        mut add: impl FnMut(u64, &view::DirectoryEntry) -> bool,
    ) -> Option<()> {
        let entries = self.view.entries_of(inode)?;
        for (entry, next) in entries.iter().zip(1..).skip(to_usize(offset)) {
            if add(next, entry) {
                break;
            }
        }
        Some(())
    }
}

fn file_attr(attributes: &Attributes) -> FileAttr {
    let magnitude = Duration::from_secs(attributes.mtime.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let mtime = if attributes.mtime < 0 {
        epoch.checked_sub(magnitude)
    } else {
        epoch.checked_add(magnitude)
    };
    let time = mtime.unwrap_or(epoch);
    FileAttr {
        ino: INodeNo(attributes.inode),
        size: attributes.size,
        blocks: attributes.sectors,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attributes.kind),
        perm: attributes.permissions,
        nlink: attributes.link_count,
        uid: attributes.owner.uid,
        gid: attributes.owner.gid,
        rdev: 0,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

const fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::RegularFile => FileType::RegularFile,
    }
}

/// An entry with inode 0: the kernel then remembers for the TTL that the name is absent, which it does not do for
/// the error `ENOENT`.
fn absent_entry() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        ..file_attr(&Attributes {
            inode: 0,
            kind: Kind::RegularFile,
            permissions: 0,
            link_count: 0,
            owner: view::Owner { uid: 0, gid: 0 },
            size: 0,
            sectors: 0,
            mtime: 0,
        })
    }
}

fn is_for_writing(flags: OpenFlags) -> bool {
    flags.acc_mode() != OpenAccMode::O_RDONLY || flags.0 & (libc::O_TRUNC | libc::O_APPEND) != 0
}

const fn is_direct(flags: OpenFlags) -> bool {
    flags.0 & libc::O_DIRECT != 0
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let available = WANTED_CAPABILITIES.intersection(config.capabilities());
        let refused = |_| io::Error::other("the kernel refused its own offer");
        config.add_capabilities(available).map_err(refused)?;
        let invalid = |_| io::Error::other("fuser refused a limit");
        config.set_max_write(MAX_WRITE).map_err(invalid)?;
        config
            .set_max_background(MAX_BACKGROUND)
            .map_err(|_| io::Error::other("fuser refused a limit"))?;
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        guarded(&self.view, "lookup", || {
            // In this order: an image that is shown in between is found, not absent for an hour.
            let is_awaited = self.view.is_awaited(parent.0, name);
            let found = self.view.lookup(parent.0, name);
            if found.is_none() && is_awaited {
                reply.error(Errno::ENOENT);
                return;
            }
            let attr = found.as_ref().map_or_else(absent_entry, file_attr);
            reply.entry(&self.ttl(attr.ino.0), &attr, INODE_GENERATION);
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let view = Arc::clone(&self.view);
        let ttl = self.ttl(ino.0);
        let answer = move || match view.attributes(ino.0, fh.map(u64::from)) {
            Some(attributes) => reply.attr(&ttl, &file_attr(&attributes)),
            None => reply.error(Errno::ESTALE),
        };
        self.answer("getattr", ino, answer);
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if is_for_writing(flags) {
            return reply.error(Errno::EROFS);
        }
        let view = Arc::clone(&self.view);
        let untried = Arc::clone(&self.untried);
        let direct = self.direct || is_direct(flags);
        let answer = move || {
            let Some(handle) = view.open(ino.0) else {
                return reply.error(Errno::ESTALE);
            };
            let mut answer = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
            if direct || view.is_volatile(ino.0) {
                answer |= FopenFlags::FOPEN_DIRECT_IO;
            } else {
                untried.lock().insert(handle);
            }
            reply.opened(FileHandle(handle), answer);
        };
        self.answer("open", ino, answer);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        guarded(&self.view, "read", || {
            let Some(image) = self.view.image(fh.0) else {
                return reply.error(Errno::EBADF);
            };
            let len = view::readable_len(&image, offset, size);
            let may_block = image.source.may_block(offset, to_u64(len));
            if may_block && !is_direct(flags) && self.may_be_read_ahead(fh.0) {
                return reply.error(Errno::EAGAIN);
            }
            let read = Read {
                handle: fh.0,
                image,
                offset,
                len,
                reply,
            };
            if may_block {
                read.send_later(&self.view);
            } else {
                self.lanes.run(read);
            }
        });
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        guarded(&self.view, "lseek", || {
            let Some(image) = self.view.image(fh.0) else {
                return reply.error(Errno::EBADF);
            };
            let found = match whence {
                libc::SEEK_DATA => view::seek(&image, offset, Seek::Data),
                libc::SEEK_HOLE => view::seek(&image, offset, Seek::Hole),
                _ => return reply.error(Errno::EINVAL),
            };
            match found.and_then(|offset| i64::try_from(offset).ok()) {
                Some(offset) => reply.offset(offset),
                None => reply.error(Errno::ENXIO),
            }
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        guarded(&self.view, "release", || {
            self.untried.lock().remove(&fh.0);
            self.view.release(fh.0);
            reply.ok();
        });
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        guarded(&self.view, "readdir", || {
            let listed = self.list(ino.0, offset, |next, entry| {
                let kind = file_type(entry.attributes.kind);
                reply.add(INodeNo(entry.attributes.inode), next, kind, &entry.name)
            });
            match listed {
                Some(()) => reply.ok(),
                None => reply.error(Errno::ENOTDIR),
            }
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        guarded(&self.view, "readdirplus", || {
            let listed = self.list(ino.0, offset, |next, entry| {
                let attr = file_attr(&entry.attributes);
                let ttl = self.ttl(attr.ino.0);
                reply.add(attr.ino, next, &entry.name, &ttl, &attr, INODE_GENERATION)
            });
            match listed {
                Some(()) => reply.ok(),
                None => reply.error(Errno::ENOTDIR),
            }
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        guarded(&self.view, "statfs", || {
            let (files, data_len) = self.view.usage();
            let blocks = data_len.div_ceil(u64::from(BLOCK_SIZE));
            reply.statfs(blocks, 0, 0, files, 0, BLOCK_SIZE, 255, BLOCK_SIZE);
        });
    }

    // The mount is read-only, so the kernel refuses most of these itself; VMware's lock code needs EROFS, whatever
    // comes through.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    // ENOSYS once, and the kernel asks no more; fuser's defaults say the same but log a warning.

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    /// Asked whenever a program wonders whether a file is a terminal; what a regular file answers.
    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}
