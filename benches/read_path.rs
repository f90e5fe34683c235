//! The parts of `benches/read_path.py` that must be fast: servers that compose nothing, and a reader that measures itself.
//!
//! ```text
//! read_path zero MOUNTPOINT LEN keep|direct       one file of zeros
//! read_path pread MOUNTPOINT SOURCE keep|direct   one file that is another's bytes
//! read_path read FILE sequential|random BLOCK READERS COUNT direct|cached dropped|kept START:END…
//! ```
//!
//! The servers shake hands as miragefs does, so that what they reach is what FUSE allows. The reader prints seconds, bytes
//! and its own seconds of CPU; `dropped` throws the file's pages away first.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a program for measuring that may fail loudly"
)]

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEntry,
    ReplyOpen, Request,
};

const TTL: Duration = Duration::from_secs(3600);
const NAME: &str = "disk.img";

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; 1 << 20]);
}

/// One file `disk.img`.
struct Floor {
    /// `None` is zeros.
    source: Option<File>,
    len: u64,
    direct: bool,
}

impl Floor {
    fn attr(&self, inode: u64) -> FileAttr {
        let is_root = inode == 1;
        FileAttr {
            ino: INodeNo(inode),
            size: if is_root { 0 } else { self.len },
            blocks: self.len / 512,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind: if is_root {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm: if is_root { 0o555 } else { 0o444 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Floor {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
        config
            .add_capabilities(wanted.intersection(config.capabilities()))
            .unwrap();
        config.set_max_write(1 << 20).unwrap();
        config.set_max_background(64).unwrap();
        Ok(())
    }

    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == NAME {
            reply.entry(&TTL, &self.attr(2), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attr(ino.0));
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mut answer = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
        if self.direct || flags.0 & libc::O_DIRECT != 0 {
            answer |= FopenFlags::FOPEN_DIRECT_IO;
        }
        reply.opened(FileHandle(1), answer);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let len = self.len.saturating_sub(offset).min(size.into());
        BUFFER.with_borrow_mut(|buffer| {
            let bytes = &mut buffer[..usize::try_from(len).unwrap()];
            match self
                .source
                .as_ref()
                .map(|file| file.read_exact_at(bytes, offset))
            {
                None | Some(Ok(())) => reply.data(bytes),
                Some(Err(_)) => reply.error(Errno::EIO),
            }
        });
    }
}

fn serve(mountpoint: &Path, source: Option<File>, len: u64, direct: bool) {
    let floor = Floor {
        source,
        len,
        direct,
    };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::RO, MountOption::DefaultPermissions];
    let cpus = std::thread::available_parallelism().unwrap().get();
    config.n_threads = Some(cpus.clamp(2, 8) + 1);
    fuser::mount(floor, mountpoint, &config).unwrap();
}

/// What one reader reads.
struct Work {
    /// Offsets and lengths.
    blocks: Vec<(u64, usize)>,
}

fn run(file: &File, work: &Work) -> u64 {
    // Aligned for O_DIRECT.
    let longest = work.blocks.iter().map(|(_, len)| *len).max().unwrap_or(0);
    let mut space = vec![0_u8; longest + 4096];
    let skip = space.as_ptr().align_offset(4096);
    let buffer = &mut space[skip..skip + longest];
    let mut bytes = 0;
    for (offset, len) in &work.blocks {
        bytes += u64::try_from(file.read_at(&mut buffer[..*len], *offset).unwrap()).unwrap();
    }
    bytes
}

/// The blocks of all spans in order, then shared out. In sequence, nothing of a span is left out but what comes before its
/// first page and after its last: a disk of small files has many short ones.
fn plan(spans: &[(u64, u64)], random: bool, block: u64, readers: usize, count: usize) -> Vec<Work> {
    let step = usize::try_from(block).unwrap();
    let all: Vec<(u64, usize)> = spans
        .iter()
        .flat_map(|(start, end)| {
            let last = end / 4096 * 4096;
            (start.next_multiple_of(4096)..last)
                .step_by(step)
                .map(move |at| (at, usize::try_from(block.min(last - at)).unwrap()))
        })
        .collect();
    if random {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            all[usize::try_from(state % u64::try_from(all.len()).unwrap()).unwrap()]
        };
        return (0..readers)
            .map(|_| Work {
                blocks: (0..count / readers).map(|_| next()).collect(),
            })
            .collect();
    }
    let share = all.len().min(count).div_ceil(readers).max(1);
    all[..all.len().min(count)]
        .chunks(share)
        .map(|blocks| Work {
            blocks: blocks.to_vec(),
        })
        .collect()
}

fn measure(words: &[String]) {
    let [
        path,
        order,
        block,
        readers,
        count,
        direct,
        dropped,
        spans @ ..,
    ] = words
    else {
        panic!("seven words and spans");
    };
    let spans: Vec<(u64, u64)> = spans
        .iter()
        .map(|span| {
            let (start, end) = span.split_once(':').unwrap();
            (start.parse().unwrap(), end.parse().unwrap())
        })
        .collect();
    let mut options = File::options();
    options.read(true);
    if direct == "direct" {
        options.custom_flags(libc::O_DIRECT);
    }
    let file = options.open(path).unwrap();
    if dropped == "dropped" {
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    let work = plan(
        &spans,
        order == "random",
        block.parse().unwrap(),
        readers.parse().unwrap(),
        count.parse().unwrap(),
    );
    let start = Instant::now();
    let done: Vec<(u64, f64)> = std::thread::scope(|scope| {
        let started: Vec<_> = work
            .iter()
            .map(|work| {
                scope.spawn(|| {
                    let before = thread_cpu();
                    let bytes = run(&file, work);
                    (bytes, thread_cpu() - before)
                })
            })
            .collect();
        started.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let bytes: u64 = done.iter().map(|one| one.0).sum();
    let cpu: f64 = done.iter().map(|one| one.1).sum();
    println!("{seconds} {bytes} {cpu}");
}

/// CPU time of this thread.
fn thread_cpu() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = Duration::new(
        u64::try_from(now.tv_sec).unwrap(),
        u32::try_from(now.tv_nsec).unwrap(),
    );
    seconds.as_secs_f64()
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["zero", mountpoint, len, mode] => {
            serve(
                Path::new(mountpoint),
                None,
                len.parse().unwrap(),
                mode == "direct",
            );
        }
        ["pread", mountpoint, source, mode] => {
            let file = File::open(source).unwrap();
            let len = file.metadata().unwrap().len();
            serve(Path::new(mountpoint), Some(file), len, mode == "direct");
        }
        ["read", ..] => measure(&words[1..]),
        _ => panic!("read_path zero|pread|read …"),
    }
}
