//! A directory of configs, each shown below a directory of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{config, read_all, status_of, validators};
use crate::mounted::{Workspace, output, require_fuse, stderr, wait_until};

/// A mount of a directory of configs.
struct Rack {
    workspace: Workspace,
}

impl Rack {
    /// Mounts a directory with these configs.
    fn new(machines: &[(&str, &str)]) -> Self {
        let workspace = Workspace::new();
        let rack = Self { workspace };
        fs::create_dir_all(rack.configs().join("src")).unwrap();
        for (name, text) in machines {
            fs::write(rack.config(name), text).unwrap();
        }
        let mut command = rack.workspace.miragefs();
        command
            .arg("mount")
            .arg("--log")
            .arg(rack.workspace.path().join("log"));
        let mounted = output(command.arg(rack.configs()).arg(rack.workspace.mountpoint()));
        assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
        rack
    }

    fn configs(&self) -> PathBuf {
        self.workspace.path().join("configs")
    }

    fn config(&self, name: &str) -> PathBuf {
        self.configs().join(format!("{name}.toml"))
    }

    fn file(&self, path: &str) -> PathBuf {
        self.workspace.mountpoint().join(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.workspace.mountpoint()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    fn log(&self) -> String {
        fs::read_to_string(self.workspace.path().join("log")).unwrap()
    }
}

fn export(config: &Path, workspace: &Workspace) -> Vec<u8> {
    let dest = workspace.path().join("exported");
    let mut command = workspace.miragefs();
    let exported = output(command.arg("export").arg(config).arg("disk.img").arg(&dest));
    assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
    fs::read(dest).unwrap()
}

#[test]
fn each_config_has_a_directory_that_comes_changes_and_goes_with_it() {
    if !require_fuse() {
        return;
    }
    let rack = Rack::new(&[("a", &config("a")), ("b", &config("b")), ("_part", "x")]);
    assert_eq!(rack.names(), ["a", "b"]);
    let of = |name: &str| fs::read(rack.file(&format!("{name}/disk.img"))).unwrap();
    assert!(of("a") == export(&rack.config("a"), &rack.workspace));
    assert!(of("b") == export(&rack.config("b"), &rack.workspace));
    let witness = validators(&rack.file("b/disk.img"));
    let old = File::open(rack.file("a/disk.img")).unwrap();
    let before = read_all(&old);

    // The kernel remembers that it is not there.
    assert!(!rack.file("c").exists());
    fs::write(rack.config("c"), config("c")).unwrap();
    wait_until("the new one shows", || rack.file("c/disk.img").exists());
    assert!(of("c") == export(&rack.config("c"), &rack.workspace));

    fs::write(rack.config("a"), config("another")).unwrap();
    wait_until("the edited one is renewed", || {
        status_of(&rack.file("a"))["generation"] == 2
    });
    assert!(of("a") == export(&rack.config("a"), &rack.workspace));
    assert!(read_all(&old) == before);

    fs::remove_file(rack.config("a")).unwrap();
    wait_until("the removed one is gone", || !rack.file("a").exists());
    assert_eq!(rack.names(), ["b", "c"]);
    assert!(read_all(&old) == before);
    assert_eq!(validators(&rack.file("b/disk.img")), witness);

    // Back again, and younger than what was there, whatever its sources say.
    let mtime = old.metadata().unwrap();
    fs::write(rack.config("a"), config("third")).unwrap();
    wait_until("it is back", || rack.file("a/disk.img").exists());
    let mtime = std::os::unix::fs::MetadataExt::mtime(&mtime);
    assert!(validators(&rack.file("a/disk.img")).1 > mtime);
    assert!(!rack.log().contains("ERROR"), "{}", rack.log());
}

#[test]
fn one_broken_config_disturbs_no_other() {
    if !require_fuse() {
        return;
    }
    let rack = Rack::new(&[("bad", "name = "), ("good", &config("good"))]);
    assert_eq!(rack.names(), ["bad", "good"]);
    assert!(rack.file("good/disk.img").exists());
    assert_eq!(fs::read_dir(rack.file("bad")).unwrap().count(), 0);
    let status = status_of(&rack.workspace.mountpoint());
    let machines = status["machines"].as_array().unwrap();
    let states: Vec<_> = machines.iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["broken", "current"]);
    wait_until("the log tells", || rack.log().contains("bad: "));
    let mut command = rack.workspace.miragefs();
    let status = output(command.arg("status").arg(rack.workspace.mountpoint()));
    let text = String::from_utf8(status.stdout).unwrap();
    assert!(text.contains("error: bad: "), "{text}");
    fs::write(rack.config("bad"), config("healed")).unwrap();
    wait_until("it is well again", || rack.file("bad/disk.img").exists());
    // An editor's way: the directory stays through the gap.
    let inode = validators(&rack.file("good")).0;
    fs::remove_file(rack.config("good")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(400));
    fs::write(rack.config("good"), config("saved")).unwrap();
    wait_until("the saved one is shown", || {
        status_of(&rack.file("good"))["generation"] == 2
    });
    assert_eq!(validators(&rack.file("good")).0, inode);
}

#[test]
fn an_empty_directory_waits_for_its_first_config() {
    if !require_fuse() {
        return;
    }
    let rack = Rack::new(&[]);
    assert_eq!(rack.names(), [""; 0]);
    fs::write(rack.config("first"), config("first")).unwrap();
    wait_until("it shows", || rack.file("first/disk.img").exists());
    let reload = output(
        rack.workspace
            .miragefs()
            .arg("reload")
            .arg(rack.workspace.mountpoint()),
    );
    let text = String::from_utf8(reload.stdout).unwrap();
    assert_eq!(text, "first: generation 1, as before: nothing changed\n");
}
