//! Tests of watching with the kernel's inotify.

use std::fs;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use super::*;

/// Longer than the kernel takes to tell.
const SOON: Duration = Duration::from_secs(5);
/// Long enough to believe that nothing is told.
const NEVER: Duration = Duration::from_millis(300);

struct Eye {
    watches: Watches,
    id: SubscriberId,
    woken: Receiver<()>,
}

impl Eye {
    fn new() -> Self {
        let watches = Watches::new();
        let (id, woken) = subscribe(&watches);
        Self { watches, id, woken }
    }

    fn watch(&self, names: &[PathBuf], directories: &[PathBuf]) -> Option<Outcome> {
        let watched = Watched {
            names: names.to_vec(),
            directories: directories.to_vec(),
        };
        self.watches.watch(self.id, &watched)
    }

    /// Waits until `path` is told, whatever else is.
    fn sees(&self, path: &Path) -> bool {
        while self.woken.recv_timeout(SOON).is_ok() {
            let changes = self.watches.take(self.id);
            if changes.all || changes.paths.contains(path) {
                return true;
            }
        }
        false
    }

    fn sees_nothing(&self) -> bool {
        self.woken.recv_timeout(NEVER).is_err()
    }

    /// Forgets what was told so far.
    fn rest(&self) {
        while self.woken.recv_timeout(NEVER).is_ok() {
            drop(self.watches.take(self.id));
        }
    }
}

fn subscribe(watches: &Watches) -> (SubscriberId, Receiver<()>) {
    let (wake, woken) = mpsc::channel();
    let id = watches.subscribe(Box::new(move || wake.send(()).unwrap_or_default()));
    (id, woken)
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    (directory, path)
}

#[test]
fn all_that_happens_in_a_directory_is_told() {
    let (_guard, root) = directory();
    let eye = Eye::new();
    let outcome = eye.watch(&[], std::slice::from_ref(&root)).unwrap();
    assert_eq!(outcome.added, std::slice::from_ref(&root));
    assert_eq!(outcome.watching.by, "inotify");
    let (file, other) = (root.join("file"), root.join("other"));
    fs::write(&file, "a").unwrap();
    assert!(eye.sees(&file));
    eye.rest();
    fs::write(&file, "b").unwrap();
    assert!(eye.sees(&file));
    eye.rest();
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file, permissions).unwrap();
    assert!(eye.sees(&file));
    eye.rest();
    fs::rename(&file, &other).unwrap();
    assert!(eye.sees(&other));
    eye.rest();
    fs::remove_file(&other).unwrap();
    assert!(eye.sees(&other));
}

#[test]
fn reading_is_no_change() {
    let (_guard, root) = directory();
    let file = root.join("file");
    fs::write(&file, "a").unwrap();
    let eye = Eye::new();
    eye.watch(&[], std::slice::from_ref(&root)).unwrap();
    fs::read(&file).unwrap();
    fs::metadata(&file).unwrap();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
    assert!(eye.sees_nothing());
    fs::write(&file, "b").unwrap();
    assert!(eye.sees(&file));
}

#[test]
fn of_a_name_only_that_name_is_told() {
    let (_guard, root) = directory();
    let config = root.join("lab.toml");
    fs::write(&config, "a").unwrap();
    let eye = Eye::new();
    eye.watch(std::slice::from_ref(&config), &[]).unwrap();
    fs::write(root.join("other"), "b").unwrap();
    assert!(eye.sees_nothing());
    let draft = root.join("draft");
    fs::write(&draft, "b").unwrap();
    fs::rename(&draft, &config).unwrap();
    assert!(eye.sees(&config));
}

#[test]
fn symlinks_on_the_way_are_told() {
    let (_guard, root) = directory();
    let (one, two) = (root.join("one"), root.join("two"));
    for directory in [&one, &two] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("lab.toml"), "a").unwrap();
    }
    let (link, draft) = (root.join("current"), root.join("draft"));
    std::os::unix::fs::symlink("one", &link).unwrap();
    let eye = Eye::new();
    eye.watch(&[link.join("lab.toml")], &[]).unwrap();
    fs::write(one.join("lab.toml"), "b").unwrap();
    assert!(eye.sees(&one.join("lab.toml")));
    eye.rest();
    std::os::unix::fs::symlink("two", &draft).unwrap();
    fs::rename(&draft, &link).unwrap();
    assert!(eye.sees(&link));
}

#[test]
fn a_directory_that_another_takes_the_place_of_is_watched_again() {
    let (_guard, root) = directory();
    let (data, new) = (root.join("data"), root.join("new"));
    for directory in [&data, &new] {
        fs::create_dir(directory).unwrap();
    }
    let eye = Eye::new();
    let directories = [root.clone(), data.clone()];
    eye.watch(&[], &directories).unwrap();
    assert!(eye.watch(&[], &directories).is_none(), "nothing new");
    fs::rename(&data, root.join("old")).unwrap();
    fs::rename(&new, &data).unwrap();
    assert!(eye.sees(&data));
    eye.rest();
    let outcome = eye.watch(&[], &directories).unwrap();
    assert_eq!(outcome.added, std::slice::from_ref(&data));
    fs::write(data.join("file"), "a").unwrap();
    assert!(eye.sees(&data.join("file")));
}

#[test]
fn a_directory_that_comes_later_is_watched_then() {
    let (_guard, root) = directory();
    let data = root.join("data");
    let eye = Eye::new();
    let directories = [root.clone(), data.clone()];
    let outcome = eye.watch(&[], &directories).unwrap();
    assert_eq!(outcome.added, std::slice::from_ref(&root));
    fs::create_dir(&data).unwrap();
    assert!(eye.sees(&data));
    let outcome = eye.watch(&[], &directories).unwrap();
    assert_eq!(outcome.added, std::slice::from_ref(&data));
}

#[test]
fn subscribers_do_not_disturb_each_other() {
    let (_guard, root) = directory();
    let eye = Eye::new();
    let (other, woken) = subscribe(&eye.watches);
    let directories = std::slice::from_ref(&root);
    eye.watch(&[], directories).unwrap();
    let watched = Watched {
        names: Vec::new(),
        directories: directories.to_vec(),
    };
    eye.watches.watch(other, &watched).unwrap();
    eye.watches.unsubscribe(other);
    let file = root.join("file");
    fs::write(&file, "a").unwrap();
    assert!(eye.sees(&file));
    assert!(woken.try_recv().is_err());
}

#[test]
fn lost_events_are_a_change_of_everything() {
    let eye = Eye::new();
    let lost = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    eye.watches.subscribers.lock().take(&lost);
    assert!(eye.watches.take(eye.id).all);
}

#[test]
fn a_flood_of_names_is_a_change_of_everything() {
    let (_guard, root) = directory();
    let eye = Eye::new();
    eye.watch(&[], std::slice::from_ref(&root)).unwrap();
    for number in 0..=PATHS_MAX {
        let event =
            Event::new(EventKind::Modify(ModifyKind::Any)).add_path(root.join(number.to_string()));
        eye.watches.subscribers.lock().take(&event);
    }
    let changes = eye.watches.take(eye.id);
    assert!(changes.all);
    assert_eq!(changes.paths.len(), PATHS_MAX);
}

#[test]
fn file_systems_that_change_elsewhere_are_polled() {
    // The test's own file system is none of them.
    assert_eq!(remote(Path::new("/")), None);
    assert_eq!(remote(Path::new("/nowhere")), None);
}
