//! Trees, sizes and shapes of file systems, generated: all that a source can hold, odd cases more often than in life.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use miragefs::config::spec::{Ext4Spec, FeatureSet, Journal};
use miragefs::synth::ext4::SizeRequest;
use miragefs::units::{to_u64, to_usize};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};

use super::build::set_mtime;
use crate::support::{noise, skip};

/// What a block of attributes loses to its header, ACLs, a capability, names and entries.
const BESIDES_VALUES: u32 = 400;
/// Version 2 of `struct vfs_cap_data`: `CAP_NET_RAW` permitted and effective.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// One thing to make in a tree.
#[derive(Debug, Clone)]
enum Step {
    Directory,
    File(u64),
    /// A file of holes, however large.
    Sparse(u64),
    Symlink(usize),
    /// Another name of something made before, in whatever directory.
    HardLink(Index),
    /// This many files with names of this length.
    Many(usize, usize),
    Fifo,
    Socket,
    /// A device of blocks or characters, its major and minor number.
    Device(bool, u32, u32),
}

#[derive(Debug, Clone)]
pub(super) struct Made {
    below: Index,
    name: Vec<u8>,
    step: Step,
    mode: u32,
    mtime: (i64, i64),
    owner: Option<(u32, u32)>,
    attributes: Attributes,
    access: Option<Acl>,
    default: Option<Acl>,
    has_capability: bool,
}

/// Attributes of one's own, name and length of each, or one of a few sets that others have too.
#[derive(Debug, Clone)]
enum Attributes {
    None,
    Own(Vec<(String, usize)>),
    Shared(u8),
}

/// Permissions of users and groups by number.
#[derive(Debug, Clone)]
struct Acl {
    users: BTreeMap<u32, u16>,
    groups: BTreeMap<u32, u16>,
}

impl Acl {
    /// As `system.posix_acl_access` is set: version 2 and entries of tag, permissions and number
    /// (include/uapi/linux/posix_acl_xattr.h).
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        let mut entry = |tag: u16, permissions: u16, id: u32| {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        };
        entry(1, 7, u32::MAX);
        for (id, permissions) in &self.users {
            entry(2, *permissions, *id);
        }
        entry(4, 5, u32::MAX);
        for (id, permissions) in &self.groups {
            entry(8, *permissions, *id);
        }
        entry(0x10, 7, u32::MAX);
        entry(0x20, 4, u32::MAX);
        bytes
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| {
        if byte == 0 || byte == b'/' {
            b'x'
        } else {
            byte
        }
    });
    prop_oneof![
        4 => "[a-z]{1,12}".prop_map(String::into_bytes),
        2 => prop::collection::vec(byte.clone(), 1..40),
        1 => prop::collection::vec(byte, 255),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let major = prop_oneof![0_u32..256, 256_u32..4096];
    let minor = prop_oneof![0_u32..256, 256_u32..0x10_0000];
    prop_oneof![
        6 => Just(Step::Directory),
        8 => (0_u64..20_000).prop_map(Step::File),
        2 => select(vec![4095_u64, 4096, 4097, 300_000]).prop_map(Step::File),
        2 => (0_u64..3_000_000).prop_map(Step::Sparse),
        4 => prop_oneof![1_usize..130, 4000_usize..4096].prop_map(Step::Symlink),
        4 => any::<Index>().prop_map(Step::HardLink),
        2 => (1_usize..120, 4_usize..200).prop_map(|(count, len)| Step::Many(count, len)),
        1 => (200_usize..900, 4_usize..60).prop_map(|(count, len)| Step::Many(count, len)),
        1 => Just(Step::Fifo),
        1 => Just(Step::Socket),
        2 => (any::<bool>(), major, minor)
            .prop_map(|(of_blocks, major, minor)| Step::Device(of_blocks, major, minor)),
    ]
}

/// All that ext4 can store, but for those from 2310-04-04 to 2378-04-22: e2fsck takes them for mistakes of old kernels,
/// which stored times before 1970 like that (e2fsck/pass1.c, `EXT4_EXTRA_NEGATIVE_DATE_CUTOFF`).
fn mtime() -> impl Strategy<Value = (i64, i64)> {
    let borders = vec![
        -0x8000_0000,
        -1,
        0,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0x1_0000_0000,
        0x2_7fff_ffff,
        0x3_0000_0000,
        0x3_7fff_ffff,
    ];
    let seconds = prop_oneof![
        2 => -0x8000_0000_i64..0,
        2 => 0_i64..0x8000_0000,
        2 => 0x8000_0000_i64..0x2_8000_0000,
        1 => 0x3_0000_0000_i64..0x3_8000_0000,
        1 => select(borders),
    ];
    (seconds, 0_i64..1_000_000_000)
}

fn id() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..70_000, 65_535_u32..65_538, 70_000_u32..u32::MAX]
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let len = prop_oneof![4 => 0_usize..40, 2 => 60_usize..600, 1 => 600_usize..3500];
    let own = prop::collection::vec(("[a-z]{1,20}", len), 1..4);
    prop_oneof![
        5 => Just(Attributes::None),
        2 => own.prop_map(Attributes::Own),
        2 => (0_u8..3).prop_map(Attributes::Shared),
    ]
}

fn acl() -> impl Strategy<Value = Option<Acl>> {
    let permissions = |most| prop::collection::btree_map(id(), 0_u16..8, 0..most);
    let acl = (permissions(4), permissions(3)).prop_map(|(users, groups)| Acl { users, groups });
    prop::option::weighted(0.15, acl)
}

pub(super) fn made() -> impl Strategy<Value = Made> {
    let place = (any::<Index>(), name(), step());
    let owner = prop::option::weighted(0.3, (id(), id()));
    let plain = (0_u32..0o10000, mtime(), owner);
    let extended = (attributes(), acl(), acl(), prop::bool::weighted(0.1));
    (place, plain, extended).prop_map(
        |(
            (below, name, step),
            (mode, mtime, owner),
            (attributes, access, default, has_capability),
        )| Made {
            below,
            name,
            step,
            mode,
            mtime,
            owner,
            attributes,
            access,
            default,
            has_capability,
        },
    )
}

pub(super) fn size() -> impl Strategy<Value = SizeRequest> {
    prop_oneof![
        2 => (0_u64..600).prop_map(|free_blocks| SizeRequest::Fit { free_blocks }),
        1 => (16_000_u64..40_000).prop_map(|sectors| SizeRequest::Fixed(sectors * 512)),
        1 => (0_u64..800).prop_map(|sectors| SizeRequest::Fixed((129 << 20) + sectors * 512)),
    ]
}

/// Mostly the default shape.
pub(super) fn shape() -> impl Strategy<Value = Ext4Spec> {
    let features = prop_oneof![
        3 => Just(FeatureSet::Std),
        1 => Just(FeatureSet::Modern),
        1 => Just(FeatureSet::Compat),
    ];
    let journal = prop_oneof![
        3 => Just(Journal::Default),
        1 => Just(Journal::None),
        1 => (4_u64..10).prop_map(|mib| Journal::Size(mib << 20)),
    ];
    let block_size = prop_oneof![3 => Just(4096_u32), 1 => Just(2048), 2 => Just(1024)];
    let inode_size =
        prop_oneof![3 => Just(256_u32), 1 => Just(128), 1 => Just(512), 1 => Just(1024)];
    let slack_bits = prop_oneof![1 => Just(Ext4Spec::DEFAULT.slack_bits), 1 => 0_u8..=8];
    (features, journal, block_size, inode_size, slack_bits).prop_map(
        |(features, journal, block_size, inode_size, slack_bits)| Ext4Spec {
            features,
            journal,
            block_size,
            inode_size,
            slack_bits,
            ..Ext4Spec::DEFAULT
        },
    )
}

/// The same cases on every run, unless `PROPTEST_CASES` asks for another number of them; of that one in `share` is
/// taken.
pub(super) fn runner(cases: u32, share: u32) -> TestRunner {
    let mut config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        config.cases = config.cases.div_ceil(share);
        return TestRunner::new(config);
    }
    config.cases = cases;
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// What generated trees can hold on this host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    is_root: bool,
    has_attributes: bool,
}

impl Host {
    /// Looks, and says what is left out.
    pub(super) fn look() -> Self {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            skip("devices, odd owners and capabilities in generated trees take root");
        }
        let directory = tempfile::tempdir().unwrap();
        let name = "user.probe";
        let has_attributes = lsetxattr(directory.path(), name, b"1", XattrFlags::empty()).is_ok();
        if !has_attributes {
            skip("the file system of the temporary directory has no extended attributes");
        }
        Self {
            is_root,
            has_attributes,
        }
    }
}

/// Which times files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// All that ext4 can store.
    All,
    /// Those from 1970 to 2038, which every reader knows.
    Plain,
}

/// Makes the tree below `root`, for a file system of a shape; names that are taken are left out.
pub(super) fn make(root: &Path, steps: &[Made], host: Host, shape: &Ext4Spec, span: Span) {
    let mut maker = Maker {
        root,
        host,
        block_size: shape.block_size,
        span,
        directories: vec![PathBuf::new()],
        others: Vec::new(),
    };
    for made in steps {
        let parent = made.below.get(&maker.directories).clone();
        let relative = parent.join(OsStr::from_bytes(&made.name));
        let path = root.join(&relative);
        let is_taken = path.as_os_str().len() > 3000
            || matches!(made.name.as_slice(), b"." | b".." | b"lost+found")
            || fs::symlink_metadata(&path).is_ok();
        if !is_taken && maker.place(&path, relative, &made.step) {
            maker.dress(&path, made);
        }
    }
}

/// A path of so many bytes, whose names are of lengths that names can have.
fn target(len: usize) -> String {
    let letter = |index| if index % 100 == 99 { '/' } else { 't' };
    (0..len).map(letter).collect()
}

struct Maker<'a> {
    root: &'a Path,
    host: Host,
    block_size: u32,
    span: Span,
    directories: Vec<PathBuf>,
    /// What can have a second name.
    others: Vec<PathBuf>,
}

impl Maker<'_> {
    /// Returns whether there is something new.
    fn place(&mut self, path: &Path, relative: PathBuf, step: &Step) -> bool {
        let node = |kind, device| mknodat(CWD, path, kind, Mode::RWXU, device).unwrap();
        match step {
            Step::Directory => fs::create_dir(path).unwrap(),
            Step::File(len) => fs::write(path, noise(*len, to_usize(*len))).unwrap(),
            Step::Sparse(len) => {
                let file = File::create(path).unwrap();
                file.set_len(*len).unwrap();
                file.write_all_at(b"x", len / 2).unwrap();
            }
            Step::Symlink(len) => {
                let most = to_usize(u64::from(self.block_size)) - 1;
                symlink(target(*len.min(&most)), path).unwrap();
            }
            Step::HardLink(to) => {
                if !self.others.is_empty() {
                    fs::hard_link(self.root.join(to.get(&self.others)), path).unwrap();
                }
                return false;
            }
            Step::Many(count, len) => {
                fs::create_dir(path).unwrap();
                for index in 0..*count {
                    let name = format!("{index:0len$}");
                    fs::write(path.join(name), "").unwrap();
                }
            }
            Step::Fifo => node(FileType::Fifo, 0),
            Step::Socket => node(FileType::Socket, 0),
            Step::Device(_, _, _) if !self.host.is_root => return false,
            Step::Device(of_blocks, major, minor) => {
                let kind = if *of_blocks {
                    FileType::BlockDevice
                } else {
                    FileType::CharacterDevice
                };
                node(kind, rustix::fs::makedev(*major, *minor));
            }
        }
        if matches!(step, Step::Directory | Step::Many(_, _)) {
            self.directories.push(relative);
        } else {
            self.others.push(relative);
        }
        true
    }

    /// Owner, mode, attributes and time, in an order in which none undoes another.
    fn dress(&self, path: &Path, made: &Made) {
        let kind = fs::symlink_metadata(path).unwrap().file_type();
        if let Some((uid, gid)) = made.owner.filter(|_| self.host.is_root) {
            lchown(path, Some(uid), Some(gid)).unwrap();
        }
        if !kind.is_symlink() {
            fs::set_permissions(path, fs::Permissions::from_mode(made.mode | 0o700)).unwrap();
        }
        let set = |name: &str, value: &[u8]| {
            lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
        };
        if self.host.has_attributes {
            // Links and special files have none of the user's.
            let of_user = kind.is_file() || kind.is_dir();
            if of_user || self.host.is_root {
                let class = if of_user { "user" } else { "trusted" };
                for (name, value) in self.values(&made.attributes) {
                    set(&format!("{class}.{name}"), &value);
                }
            }
            if let (Some(acl), false) = (&made.access, kind.is_symlink()) {
                set("system.posix_acl_access", &acl.to_bytes());
            }
            if let (Some(acl), true) = (&made.default, kind.is_dir()) {
                set("system.posix_acl_default", &acl.to_bytes());
            }
            if made.has_capability && kind.is_file() && self.host.is_root {
                set("security.capability", &CAPABILITY);
            }
        }
        let (seconds, nanoseconds) = made.mtime;
        let seconds = match self.span {
            Span::All => seconds,
            Span::Plain => seconds.rem_euclid(0x8000_0000),
        };
        set_mtime(path, seconds, nanoseconds);
    }

    /// Names and values that fit a block of the image.
    fn values(&self, attributes: &Attributes) -> Vec<(String, Vec<u8>)> {
        match attributes {
            Attributes::None => Vec::new(),
            Attributes::Shared(set) => vec![
                ("set".to_owned(), vec![b'0' + set; 200]),
                ("same".to_owned(), b"for all of them".to_vec()),
            ],
            Attributes::Own(own) => {
                let mut room = to_usize(u64::from(self.block_size - BESIDES_VALUES));
                let value = |(name, len): &(String, usize)| {
                    let len = (*len).min(room);
                    room -= len;
                    (name.clone(), noise(to_u64(len), len))
                };
                own.iter().map(value).collect()
            }
        }
    }
}
