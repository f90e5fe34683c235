//! Planning again with a memory: whatever changed, the plan is the one that is made from nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miragefs::config::{self, Environment};
use miragefs::synth::cache::BlockCache;
use miragefs::synth::generation::{PlanOptions, Planned, plan, replan};
use miragefs::synth::memory::PlanMemory;
use miragefs::units::MIB;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tempfile::TempDir;

use crate::support::read;

/// A directory with two sources and what the config says about them.
struct Lab {
    directory: TempDir,
    text: String,
    memory: PlanMemory,
    cache: Arc<BlockCache>,
}

/// What is done to sources and config between two plans. Numbers choose files and directories.
#[derive(Debug, Clone)]
enum Edit {
    Write(u8, u16),
    Append(u8),
    Delete(u8),
    Chmod(u8, u16),
    Rename(u8, u8),
    Symlink(u8, u8),
    HardLink(u8, u8),
    MakeDirectory(u8),
    RemoveDirectory(u8),
    Touch(u8),
    /// Another text of the inline file.
    Inline(u8),
    /// A line in front, so that all places in the config move.
    Comment,
    Exclude(bool),
    Owner(u8),
    DiskSize(u8),
    SecondPartition(bool),
    /// The source is replaced by a copy of itself.
    ReplaceSource,
}

const FILES: u8 = 6;

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let file = 0..FILES;
    let edit = prop_oneof![
        4 => (file.clone(), any::<u16>()).prop_map(|(file, len)| Edit::Write(file, len % 9000)),
        2 => file.clone().prop_map(Edit::Append),
        2 => file.clone().prop_map(Edit::Delete),
        1 => (file.clone(), 0..0o1000_u16).prop_map(|(file, mode)| Edit::Chmod(file, mode | 0o400)),
        2 => (file.clone(), file.clone()).prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Edit::Symlink(from, to)),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Edit::HardLink(from, to)),
        1 => (0..2_u8).prop_map(Edit::MakeDirectory),
        1 => (0..2_u8).prop_map(Edit::RemoveDirectory),
        1 => file.prop_map(Edit::Touch),
        2 => any::<u8>().prop_map(Edit::Inline),
        1 => Just(Edit::Comment),
        1 => any::<bool>().prop_map(Edit::Exclude),
        1 => (0..3_u8).prop_map(Edit::Owner),
        1 => (0..3_u8).prop_map(Edit::DiskSize),
        1 => any::<bool>().prop_map(Edit::SecondPartition),
        1 => Just(Edit::ReplaceSource),
    ];
    prop::collection::vec(edit, 1..12)
}

/// What the config says besides the sources.
#[derive(Debug, Clone, Default)]
struct Settings {
    inline: u8,
    comments: usize,
    excludes: bool,
    owner: u8,
    disk_size: u8,
    has_second: bool,
}

impl Settings {
    fn text(&self) -> String {
        let exclude = if self.excludes {
            ", exclude = [\"f1\", \"d0/\"]"
        } else {
            ""
        };
        let second = if self.has_second {
            "[[partition]]\nlabel = \"second\"\nsize = \"8MiB\"\ncopy = [ { from = \"other\", to = \"/o\" } ]\n"
        } else {
            ""
        };
        format!(
            "{}name = \"again\"\n[disk]\nsize = \"{}MiB\"\nboot-code = \"none\"\n{second}\
             [[partition]]\nlabel = \"data\"\nsize = \"rest\"\n\
             copy = [ {{ from = \"src\", to = \"/\", owner = \"{}:1\"{exclude} }}, {{ from = \"other\", to = \"/x\" }} ]\n\
             files = [ {{ path = \"/inline\", text = \"{}\" }} ]\n",
            "# a line\n".repeat(self.comments),
            48 + u32::from(self.disk_size),
            self.owner,
            "x".repeat(self.inline.into()),
        )
    }
}

/// A file of `src`, some of them in a directory.
fn file_name(number: u8) -> PathBuf {
    match number % FILES {
        4 => PathBuf::from("d0/f4"),
        5 => PathBuf::from("d1/f5"),
        other => PathBuf::from(format!("f{other}")),
    }
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["src/d0", "src/d1", "other"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        for number in 0..FILES {
            fs::write(
                directory.path().join("src").join(file_name(number)),
                "first",
            )
            .unwrap();
        }
        fs::write(directory.path().join("other/file"), "other").unwrap();
        Self {
            directory,
            text: Settings::default().text(),
            memory: PlanMemory::new(),
            cache: Arc::new(BlockCache::new(MIB)),
        }
    }

    fn source(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("src")
    }

    /// Does it and forgets what a watcher would tell; what cannot be done is left.
    fn edit(&mut self, edit: &Edit, settings: &mut Settings) {
        for path in self.touched_by(edit, settings) {
            self.memory.forget(&path);
        }
    }

    /// Does it, and returns what a watcher would tell.
    fn touched_by(&mut self, edit: &Edit, settings: &mut Settings) -> Vec<PathBuf> {
        let path = |number: &u8| self.source().join(file_name(*number));
        let mut touched = Vec::new();
        match edit {
            Edit::Write(file, len) => {
                touched.extend(self.led_to(path(file)));
                drop(fs::write(path(file), vec![b'w'; usize::from(*len)]));
            }
            Edit::Append(file) => {
                let mut bytes = fs::read(path(file)).unwrap_or_default();
                bytes.push(b'a');
                touched.extend(self.led_to(path(file)));
                drop(fs::write(path(file), bytes));
            }
            Edit::Delete(file) => {
                touched.extend(self.names_of(path(file)));
                drop(fs::remove_file(path(file)));
            }
            Edit::Chmod(file, mode) => {
                let mode = fs::Permissions::from_mode(u32::from(*mode));
                touched.extend(self.led_to(path(file)));
                drop(fs::set_permissions(path(file), mode));
            }
            Edit::Rename(from, to) => {
                touched.extend(self.names_of(path(from)));
                touched.extend(self.names_of(path(to)));
                drop(fs::rename(path(from), path(to)));
            }
            Edit::Symlink(from, to) => {
                drop(symlink(file_name(*from), path(to)));
                touched.push(path(to));
            }
            Edit::HardLink(from, to) => {
                drop(fs::hard_link(path(from), path(to)));
                // The link count of the other name changes too.
                touched.extend([path(from), path(to)]);
                touched.extend((0..FILES).map(|number| path(&number)));
            }
            Edit::MakeDirectory(number) => {
                let directory = self.source().join(format!("d{number}"));
                drop(fs::create_dir(&directory));
                touched.push(directory);
            }
            Edit::RemoveDirectory(number) => {
                let directory = self.source().join(format!("d{number}"));
                drop(fs::remove_dir_all(&directory));
                touched.push(directory);
                touched.extend((0..FILES).map(|number| path(&number)));
            }
            Edit::Touch(file) => {
                if let Ok(opened) = fs::File::options().append(true).open(path(file)) {
                    opened.set_modified(std::time::SystemTime::now()).unwrap();
                }
                touched.extend(self.led_to(path(file)));
            }
            Edit::Inline(len) => settings.inline = *len,
            Edit::Comment => settings.comments = settings.comments.saturating_add(1),
            Edit::Exclude(excludes) => settings.excludes = *excludes,
            Edit::Owner(owner) => settings.owner = *owner,
            Edit::DiskSize(size) => settings.disk_size = *size,
            Edit::SecondPartition(has_second) => settings.has_second = *has_second,
            Edit::ReplaceSource => {
                let (old, new) = (self.source(), self.source().with_extension("new"));
                crate::support::run("cp", ["-a".as_ref(), old.as_os_str(), new.as_os_str()]);
                fs::remove_dir_all(&old).unwrap();
                fs::rename(&new, &old).unwrap();
                touched.push(old);
            }
        }
        self.text = settings.text();
        touched
    }

    /// All names of the file at `path`: its times are theirs, and its link count.
    fn names_of(&self, path: PathBuf) -> Vec<PathBuf> {
        let inode = |path: &PathBuf| fs::symlink_metadata(path).ok().map(|found| found.ino());
        let wanted = inode(&path);
        let names = (0..FILES).map(|number| self.source().join(file_name(number)));
        let mut names: Vec<_> = names
            .filter(|name| wanted.is_some() && inode(name) == wanted)
            .collect();
        names.push(path);
        names
    }

    /// The same for what `path` leads to, too, if it is a symlink: what is done to it is done to that.
    fn led_to(&self, path: PathBuf) -> Vec<PathBuf> {
        let mut paths = vec![path];
        while let Some(target) = paths.last().and_then(|last| {
            let target = fs::read_link(last).ok()?;
            Some(last.parent()?.join(target))
        }) {
            if paths.contains(&target) {
                break;
            }
            paths.push(target);
        }
        paths
            .into_iter()
            .flat_map(|path| self.names_of(path))
            .collect()
    }

    fn options(&self) -> PlanOptions {
        PlanOptions {
            cache: Arc::clone(&self.cache),
            config_mtime: 1_700_000_000,
            skip_unreadable: false,
            mountpoint: None,
            cache_directory: None,
            progress: None,
        }
    }

    /// Both plans, or the words of both failures.
    fn plans(&mut self) -> (Result<Planned, String>, Result<Planned, String>) {
        let path = self.directory.path().join("lab.toml");
        let loaded = config::load_text(self.text.clone(), &path, &Environment::default());
        let spec = loaded.unwrap().spec;
        let words = |errors: miragefs::synth::plan_error::PlanErrors| -> String {
            let all = errors.errors().iter();
            all.map(|error| format!("{error}\n")).collect()
        };
        let options = self.options();
        let again = replan(&spec, &options, &mut self.memory).map_err(words);
        (again, plan(&spec, &options).map_err(words))
    }
}

fn assert_same(again: &Planned, fresh: &Planned) -> TestCaseResult {
    prop_assert_eq!(&again.partitions, &fresh.partitions);
    prop_assert_eq!(&again.warnings, &fresh.warnings);
    prop_assert_eq!(again.disk_len, fresh.disk_len);
    let pairs = again.generation.images.iter().zip(&fresh.generation.images);
    for (one, other) in pairs {
        prop_assert_eq!(&one.name, &other.name);
        prop_assert_eq!(one.identity, other.identity, "{}", one.name);
        prop_assert_eq!(one.mtime, other.mtime, "{}", one.name);
        prop_assert_eq!(one.source.len(), other.source.len(), "{}", one.name);
        let bytes = |source| read(source, 0, one.source.len());
        prop_assert!(bytes(&*one.source) == bytes(&*other.source), "{}", one.name);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn a_plan_with_a_memory_is_the_plan_without(rounds in prop::collection::vec((edits(), any::<bool>()), 1..5)) {
        let mut lab = Lab::new();
        let mut settings = Settings::default();
        let (again, fresh) = lab.plans();
        assert_same(&again.unwrap(), &fresh.unwrap())?;
        for (edits, is_watched) in rounds {
            for edit in &edits {
                if is_watched {
                    lab.edit(edit, &mut settings);
                } else {
                    drop(lab.touched_by(edit, &mut settings));
                }
            }
            if !is_watched {
                lab.memory.look_again();
            }
            match lab.plans() {
                (Ok(again), Ok(fresh)) => assert_same(&again, &fresh)?,
                (Err(again), Err(fresh)) => prop_assert_eq!(again, fresh),
                (again, fresh) => prop_assert!(false, "{:?} {:?}", again.err(), fresh.err()),
            }
        }
    }
}

/// Makes a memory and asks what it takes over.
fn replanned(lab: &mut Lab) -> Planned {
    lab.plans().0.unwrap()
}

#[test]
fn what_did_not_change_is_shared() {
    let mut lab = Lab::new();
    let mut settings = Settings {
        has_second: true,
        ..Settings::default()
    };
    lab.text = settings.text();
    let first = replanned(&mut lab);
    let shared = |first: &Planned, second: &Planned| -> Vec<bool> {
        let pairs = first.file_systems.iter().zip(&second.file_systems);
        pairs
            .map(|(one, other)| Arc::ptr_eq(one.as_ref().unwrap(), other.as_ref().unwrap()))
            .collect()
    };
    // Places in the config move, nothing else.
    lab.edit(&Edit::Comment, &mut settings);
    let second = replanned(&mut lab);
    assert_eq!(shared(&first, &second), [true, true]);
    lab.edit(&Edit::Inline(7), &mut settings);
    let third = replanned(&mut lab);
    assert_eq!(shared(&second, &third), [true, false]);
    lab.edit(&Edit::Write(0, 10), &mut settings);
    let fourth = replanned(&mut lab);
    assert_eq!(shared(&third, &fourth), [true, false]);
    // A look at all of it finds nothing new.
    lab.memory.look_again();
    let fifth = replanned(&mut lab);
    assert_eq!(shared(&fourth, &fifth), [true, true]);
    lab.memory.forget_all();
    let sixth = replanned(&mut lab);
    assert_eq!(shared(&fifth, &sixth), [false, false]);
}

#[test]
fn what_is_listed_is_to_be_watched() {
    let mut lab = Lab::new();
    drop(replanned(&mut lab));
    let root = lab.directory.path().canonicalize().unwrap();
    let expected: Vec<PathBuf> = ["other", "src", "src/d0", "src/d1"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    assert_eq!(lab.memory.directories(), expected);
    let mut settings = Settings::default();
    lab.edit(&Edit::RemoveDirectory(1), &mut settings);
    drop(replanned(&mut lab));
    assert_eq!(lab.memory.directories(), expected[..3]);
    lab.edit(&Edit::Exclude(true), &mut settings);
    drop(replanned(&mut lab));
    assert_eq!(lab.memory.directories(), expected[..2]);
}

/// Descriptors that this process has of files below `directory`.
fn descriptors_below(directory: &Path) -> usize {
    let own = fs::read_dir("/proc/self/fd").unwrap();
    let targets = own.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|path| path.starts_with(directory)).count()
}

#[test]
fn plans_that_are_gone_hold_no_descriptors() {
    let mut lab = Lab::new();
    let mut settings = Settings::default();
    let root = lab.directory.path().canonicalize().unwrap();
    let mut most = 0;
    for round in 0..50 {
        lab.edit(&Edit::Write(round % 4, 10), &mut settings);
        let planned = replanned(&mut lab);
        let image = &planned.generation.images[0];
        drop(read(&*image.source, 0, image.source.len()));
        most = most.max(descriptors_below(&root));
    }
    // The files, and the directories of this plan and the one before.
    assert!(most <= 7 + 2 * 4, "{most} descriptors");
    lab.memory = PlanMemory::new();
    assert_eq!(descriptors_below(&root), 0);
}
