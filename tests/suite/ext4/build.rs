//! Planning file systems of source directories, and what such a directory holds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use miragefs::config::spec::{CopySpec, Ext4Spec, ImagePath, Location, Sparse, Times};
use miragefs::synth::ext4::{Ext4, Ext4Error, Ext4Params, Ext4Plan, SizeRequest};
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::source::{ByteSource, Origin};
use miragefs::synth::tree::{Tree, TreeBuilder};
use miragefs::units::to_usize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::decoder::{Checked, Decoded, Item, decode, decode_with_holes};

/// The time of what has no source.
pub(crate) const TIMES: Times = Times {
    default: 946_684_800,
    clamp: None,
};
/// File contents up to this length are written to images; longer ones stay holes where only metadata is looked at.
const WRITTEN_MAX: u64 = 64 << 20;

pub(crate) fn location() -> Location {
    Location {
        file: PathBuf::from("test.toml"),
        line: 1,
        column: 1,
    }
}

/// The entry `{ from = "…", to = "/" }`.
pub(crate) fn copy_of(from: &Path) -> CopySpec {
    CopySpec {
        from: from.to_path_buf(),
        to: ImagePath::default(),
        to_is_directory: true,
        owner: None,
        owners: None,
        uid_map: None,
        gid_map: None,
        mode: None,
        exclude: Vec::new(),
        include: Vec::new(),
        cross_mounts: false,
        xattrs: Vec::new(),
        // Large files of the tests are holes on the host; here they stand for data.
        sparse: Sparse::Never,
        location: location(),
    }
}

pub(crate) fn try_build(from: &Path, size: SizeRequest) -> Result<Ext4, Ext4Error> {
    try_build_entry(&copy_of(from), size)
}

pub(crate) fn try_build_entry(entry: &CopySpec, size: SizeRequest) -> Result<Ext4, Ext4Error> {
    let mut files = HostFiles::new();
    let mut builder = TreeBuilder::new(TIMES);
    builder.copy(entry, &mut files);
    let (tree, _warnings) = builder.finish(&mut files).unwrap();
    source_of(tree, files, size)
}

/// The file system of a source directory, shaped as `spec` says; holes of sources stay holes, and `trusted.*` is taken.
pub(crate) fn try_build_shaped(
    from: &Path,
    spec: &Ext4Spec,
    size: SizeRequest,
) -> Result<Ext4, Ext4Error> {
    let mut files = HostFiles::new();
    let mut builder = TreeBuilder::new(TIMES);
    builder.hole_unit(spec.block_size.into());
    let entry = CopySpec {
        sparse: Sparse::Auto,
        xattrs: vec!["trusted.*".to_owned()],
        ..copy_of(from)
    };
    builder.copy(&entry, &mut files);
    let (tree, _warnings) = builder.finish(&mut files).unwrap();
    shaped_source_of(tree, files, spec, size)
}

pub(crate) fn plan_of(
    tree: Tree,
    spec: &Ext4Spec,
    size: SizeRequest,
) -> Result<Ext4Plan, Ext4Error> {
    let params = Ext4Params {
        spec,
        name: "test",
        label: "test",
        uuid: Uuid::from_u128(7),
        time: TIMES.default,
        size,
    };
    Ext4Plan::new(tree, &params)
        .map_err(|mistakes| mistakes.into_first().expect("refused for a mistake"))
}

/// The file system of a tree.
pub(crate) fn source_of(
    tree: Tree,
    files: HostFiles,
    size: SizeRequest,
) -> Result<Ext4, Ext4Error> {
    shaped_source_of(tree, files, &Ext4Spec::DEFAULT, size)
}

/// The file system of a tree, shaped as `spec` says.
pub(crate) fn shaped_source_of(
    tree: Tree,
    files: HostFiles,
    spec: &Ext4Spec,
    size: SizeRequest,
) -> Result<Ext4, Ext4Error> {
    let plan = plan_of(tree, spec, size)?;
    let len = match size {
        SizeRequest::Fixed(bytes) => bytes,
        SizeRequest::Fit { .. } => plan.block_count() * plan.block_size(),
    };
    Ok(plan.into_source(len, None, Arc::new(files)))
}

/// The file system of a source directory.
pub(crate) fn build(from: &Path, size: SizeRequest) -> Ext4 {
    try_build(from, size).unwrap()
}

/// Writes an image to a file; zeros become holes, and so do the contents of files above 64 MiB, which are zeros too.
pub(crate) fn write_image(source: &dyn ByteSource, path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(source.len()).unwrap();
    let mut offset = 0;
    let mut buf = vec![0xa5; 1 << 20];
    while offset < source.len() {
        let run = source.run_at(offset);
        let len = run.len.min(1 << 20);
        let is_long = matches!(run.origin, Origin::HostFile { .. }) && run.len > WRITTEN_MAX;
        if run.origin.is_zero() || is_long {
            offset += run.len;
            continue;
        }
        let part = &mut buf[..to_usize(len)];
        source.read_exact_at(offset, part).unwrap();
        file.write_all_at(part, offset).unwrap();
        offset += len;
    }
}

/// Our own reading of a source.
pub(crate) fn decode_source(source: &dyn ByteSource) -> Checked<Decoded> {
    let read = |offset: u64, buf: &mut [u8]| {
        source
            .read_exact_at(offset, buf)
            .map_err(|error| error.to_string())
    };
    decode(&read, source.len())
}

/// Our own reading of a source whose files may have holes.
pub(crate) fn decode_source_with_holes(source: &dyn ByteSource) -> Checked<Decoded> {
    let read = |offset: u64, buf: &mut [u8]| {
        source
            .read_exact_at(offset, buf)
            .map_err(|error| error.to_string())
    };
    decode_with_holes(&read, source.len(), true)
}

/// What becomes of times: inodes of 128 bytes end in 2038 and have no nanoseconds.
pub(crate) fn clamp_times(
    mut items: BTreeMap<Vec<u8>, Item>,
    spec: &Ext4Spec,
) -> BTreeMap<Vec<u8>, Item> {
    if spec.inode_size == 128 {
        for item in items.values_mut() {
            let seconds = item.mtime.0.clamp(i32::MIN.into(), i32::MAX.into());
            item.mtime = (seconds, 0);
        }
    }
    items
}

/// Our own reading of an image file.
pub(crate) fn decode_file(path: &Path) -> Checked<Decoded> {
    let file = File::open(path).unwrap();
    let read = |offset: u64, buf: &mut [u8]| {
        file.read_exact_at(buf, offset)
            .map_err(|error| error.to_string())
    };
    decode(&read, file.metadata().unwrap().len())
}

/// Where link counts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// The names found; directories count their subdirectories.
    Counted,
    /// `st_nlink`.
    Stored,
}

/// What a directory on the host holds, by path from it. Every name is looked up.
pub(crate) fn items_of(root: &Path, links: Links) -> BTreeMap<Vec<u8>, Item> {
    let mut items = BTreeMap::new();
    let mut inodes: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut names: BTreeMap<u64, u64> = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = root.join(&relative);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        let key = relative.as_os_str().as_bytes().to_vec();
        let contents = if metadata.is_symlink() {
            fs::read_link(&path)
                .unwrap()
                .as_os_str()
                .as_bytes()
                .to_vec()
        } else if metadata.is_file() && metadata.len() <= WRITTEN_MAX {
            Sha256::digest(fs::read(&path).unwrap()).to_vec()
        } else {
            Vec::new()
        };
        if metadata.is_dir() {
            let parent = names.entry(metadata.ino()).or_insert(2);
            for entry in fs::read_dir(&path).unwrap() {
                let entry = entry.unwrap();
                *parent += u64::from(entry.file_type().unwrap().is_dir());
                pending.push(relative.join(entry.file_name()));
            }
        } else {
            *names.entry(metadata.ino()).or_insert(0) += 1;
        }
        inodes.insert(key.clone(), metadata.ino());
        items.insert(
            key,
            Item {
                mode: metadata.mode(),
                uid: metadata.uid(),
                gid: metadata.gid(),
                size: if metadata.is_dir() { 0 } else { metadata.len() },
                mtime: (
                    metadata.mtime(),
                    u32::try_from(metadata.mtime_nsec()).unwrap(),
                ),
                links: metadata.nlink(),
                contents,
                device: if kind.is_block_device() || kind.is_char_device() {
                    metadata.rdev()
                } else {
                    0
                },
            },
        );
    }
    if links == Links::Counted {
        for (path, item) in &mut items {
            item.links = names[&inodes[path]];
        }
    }
    items
}

/// What the image of a directory is to hold: the directory's items and lost+found.
pub(crate) fn expected_items(root: &Path) -> BTreeMap<Vec<u8>, Item> {
    let mut items = items_of(root, Links::Counted);
    if !items.contains_key(b"lost+found".as_slice()) {
        items.get_mut([].as_slice()).unwrap().links += 1;
        items.insert(b"lost+found".to_vec(), lost_and_found());
    }
    items
}

/// The directory that every image has.
pub(crate) fn lost_and_found() -> Item {
    Item {
        mode: 0o040_700,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: (TIMES.default, 0),
        links: 2,
        contents: Vec::new(),
        device: 0,
    }
}

/// The first difference between two sets of items, in words.
pub(crate) fn difference(
    ours: &BTreeMap<Vec<u8>, Item>,
    theirs: &BTreeMap<Vec<u8>, Item>,
) -> Option<String> {
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    for (path, item) in theirs {
        match ours.get(path) {
            None => return Some(format!("/{} is missing", shown(path))),
            Some(our) if our != item => {
                return Some(format!("/{}: {our:x?}, expected {item:x?}", shown(path)));
            }
            Some(_) => {}
        }
    }
    ours.keys()
        .find(|path| !theirs.contains_key(*path))
        .map(|path| format!("/{} is one too many", shown(path)))
}

/// What e2fsck says besides its passes and its summary; its exit status says less (some findings leave it at 0).
pub(crate) fn fsck_findings(image: &str) -> Option<String> {
    fsck_findings_besides(image, |_| false)
}

/// [`fsck_findings`], but for lines that are `allowed` and the empty ones behind them.
pub(crate) fn fsck_findings_besides(image: &str, allowed: fn(&str) -> bool) -> Option<String> {
    let output = Command::new("e2fsck")
        .args(["-fn", image])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let passes = text
        .lines()
        .filter(|line| line.starts_with("Pass "))
        .count();
    let summaries = text.lines().filter(|line| is_summary(line)).count();
    let remarks = text.lines().filter(|line| allowed(line)).count();
    let lines = text
        .lines()
        .filter(|line| !allowed(line) && (remarks == 0 || !line.is_empty()))
        .count();
    let clean = output.status.success() && passes == 5 && summaries == 1 && lines == 6;
    (!clean).then(|| format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// `test: 11/4096 files (0.0% non-contiguous), 1294/16384 blocks`.
fn is_summary(line: &str) -> bool {
    line.contains(" files (") && line.contains("% non-contiguous), ") && line.ends_with(" blocks")
}

/// Fails unless e2fsck has nothing to say.
pub(crate) fn assert_clean(image: &Path) {
    if let Some(findings) = fsck_findings(image.to_str().unwrap()) {
        panic!("{}: {findings}", image.display());
    }
}

/// A tree with a bit of everything: an index, a long symlink, hard links, odd sizes, attributes and names.
pub(crate) fn varied_tree(at: &Path) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    fs::create_dir_all(at.join("dir/sub/deeper")).unwrap();
    fs::write(at.join("empty"), "").unwrap();
    fs::write(at.join("hello.txt"), "hello\n").unwrap();
    fs::write(at.join("dir/block"), vec![1; 4096]).unwrap();
    fs::write(at.join("dir/odd"), vec![2; 123_457]).unwrap();
    fs::hard_link(at.join("hello.txt"), at.join("dir/sub/link")).unwrap();
    fs::hard_link(at.join("hello.txt"), at.join("another link")).unwrap();
    symlink("hello.txt", at.join("short")).unwrap();
    symlink("s".repeat(59), at.join("fast")).unwrap();
    symlink("s".repeat(60), at.join("slow")).unwrap();
    symlink("x".repeat(200), at.join("dir/long")).unwrap();
    fs::hard_link(at.join("dir/long"), at.join("dir/long too")).unwrap();
    for index in 0..300 {
        let name = format!("dir/sub/a-file-with-a-näme-{index}");
        fs::write(at.join(name), format!("{index}")).unwrap();
    }
    let odd = std::ffi::OsStr::from_bytes(b"n\xff\n\\ \x01o");
    fs::write(at.join(odd), "odd").unwrap();
    fs::write(at.join("n".repeat(255)), "long").unwrap();
    fs::set_permissions(at.join("dir/odd"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(
        at.join("dir/sub/deeper"),
        fs::Permissions::from_mode(0o1777),
    )
    .unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(at.join("dir/block"), Some(4_000_000_000), Some(70_000)).unwrap();
    }
    for (name, seconds, nanoseconds) in [
        ("hello.txt", -2_000_000_000, 1),
        ("empty", 4_294_967_296, 999_999_999),
        ("dir/block", 0x3_7fff_ffff, 123_456_789),
        ("dir/odd", 2_147_483_648, 5),
        ("dir", -1, 500_000_000),
    ] {
        set_mtime(&at.join(name), seconds, nanoseconds);
    }
}

/// Sets the modification time of what is no symlink.
pub(crate) fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
