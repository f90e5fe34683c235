//! Ways to save a config: each gives one new generation, and no error in between.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::{Live, config, read_all, validators};
use crate::mounted::{output, require_fuse, stderr, wait_until};

/// Saves a text to a path.
type Save = fn(&Path, &str);

/// How editors do it.
const WAYS: [(&str, Save); 7] = [
    ("in place", |path, text| {
        let mut file = File::options().write(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.set_len(text.len().try_into().unwrap()).unwrap();
    }),
    ("truncate, then write", |path, text| {
        let mut file = File::options()
            .write(true)
            .truncate(true)
            .open(path)
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        file.write_all(text.as_bytes()).unwrap();
    }),
    ("in pieces", |path, text| {
        let mut file = File::create(path).unwrap();
        for piece in text.as_bytes().chunks(40) {
            file.write_all(piece).unwrap();
            file.flush().unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
    }),
    ("another file renamed over it", |path, text| {
        let draft = path.with_extension("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, path).unwrap();
    }),
    ("the old one kept beside it", |path, text| {
        fs::rename(path, path.with_extension("toml~")).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        fs::write(path, text).unwrap();
    }),
    ("deleted and written again", |path, text| {
        fs::remove_file(path).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        fs::write(path, text).unwrap();
    }),
    ("a symlink swapped", |path, text| {
        let (target, link) = (path.with_extension("target"), path.with_extension("link"));
        fs::write(&target, text).unwrap();
        std::os::unix::fs::symlink(target.file_name().unwrap(), &link).unwrap();
        fs::rename(link, path).unwrap();
    }),
];

#[test]
fn every_way_to_save_gives_one_generation_and_no_error() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    live.settle();
    let mut known = live.generation();
    let path = live.workspace().config();
    for (number, (what, save)) in (0..).zip(WAYS) {
        let text = config(&format!("{number} saved {what}"));
        save(&path, &text);
        let expected = known + 1;
        live.wait_for(expected);
        // Whatever else it might lead to would have come by now.
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(live.generation(), expected, "{what}\n{}", live.log());
        assert!(!live.log().contains("ERROR"), "{what}\n{}", live.log());
        let shown = fs::read(live.file("disk.img")).unwrap();
        assert!(shown == live.export("disk.img"), "{what}");
        known = expected;
    }
    // Through the symlink that is there now.
    fs::write(path.with_extension("target"), config("behind the link")).unwrap();
    live.wait_for(known + 1);
}

#[test]
fn open_files_keep_their_generation_and_new_opens_see_the_new_one() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    let image = live.file("disk.img");
    let before = File::open(&image).unwrap();
    let unread = File::open(&image).unwrap();
    let first = live.export("disk.img");
    assert!(read_all(&before) == first);
    let (old_inode, old_mtime, _) = validators(&image);
    fs::write(live.workspace().config(), config("second")).unwrap();
    live.wait_for(2);
    let (inode, mtime, _) = validators(&image);
    assert_ne!(inode, old_inode);
    assert!(mtime > old_mtime, "{mtime} is not after {old_mtime}");
    let second = live.export("disk.img");
    assert!(first != second);
    assert!(fs::read(&image).unwrap() == second);
    // One from cached pages, one of which nothing was read before.
    assert!(read_all(&before) == first);
    assert!(read_all(&unread) == first);
    assert_eq!(live.status()["generations_read"], serde_json::json!([1, 2]));
    drop((before, unread));
    wait_until("the first generation is freed", || {
        live.status()["generations_read"] == serde_json::json!([2])
    });
}

#[test]
fn an_edit_leaves_alone_what_it_does_not_concern() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    let all = ["disk.img", "disk.vmdk", "boot.ova"];
    let before = all.map(|name| validators(&live.file(name)));
    let memory = format!("{}[vm]\nmemory = \"2GiB\"\n", config("first"));
    fs::write(live.workspace().config(), memory).unwrap();
    live.wait_for(2);
    let after = all.map(|name| validators(&live.file(name)));
    assert_eq!(before[..2], after[..2]);
    assert_ne!(before[2].0, after[2].0);
    assert!(after[2].1 > before[2].1);
    // A comment is a new generation of the same images.
    let mut text = fs::read_to_string(live.workspace().config()).unwrap();
    text.insert_str(0, "# a comment\n");
    fs::write(live.workspace().config(), text).unwrap();
    live.wait_for(3);
    assert_eq!(after, all.map(|name| validators(&live.file(name))));
}

#[test]
fn names_come_and_go_with_the_config() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    // The kernel remembers that it is not there.
    assert!(!live.file("new.qcow2").exists());
    let images =
        "[images]\n\"disk.img\" = { format = \"raw\" }\n\"new.qcow2\" = { format = \"qcow2\" }\n";
    fs::write(
        live.workspace().config(),
        format!("{}{images}", config("first")),
    )
    .unwrap();
    live.wait_for(2);
    assert!(live.file("new.qcow2").exists());
    assert!(!live.file("boot.ova").exists());
    let mut names: Vec<_> = fs::read_dir(live.workspace().mountpoint())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["disk.img", "new.qcow2"]);
}

#[test]
fn a_broken_config_changes_nothing_until_it_is_well_again() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    let before = validators(&live.file("disk.img"));
    let broken = config("second").replace("size = \"rest\"", "size = rest");
    fs::write(live.workspace().config(), broken).unwrap();
    wait_until("the status tells what is wrong", || {
        live.status()["state"] == "broken"
    });
    let status = live.status();
    let error = status["refused"]["errors"][0].as_str().unwrap();
    assert!(error.contains("lab.toml:7:8: "), "{error}");
    assert!(live.log().contains(error), "{}", live.log());
    assert_eq!(status["generation"], 1);
    assert_eq!(validators(&live.file("disk.img")), before);
    assert!(!fs::read(live.file("disk.img")).unwrap().is_empty());
    // Asked for, the mistake is told at the terminal.
    let mut command = live.workspace().miragefs();
    let reload = output(command.arg("reload").arg(live.workspace().mountpoint()));
    assert_eq!(reload.status.code(), Some(2));
    assert!(
        stderr(&reload).contains("lab.toml:7:8: "),
        "{}",
        stderr(&reload)
    );
    fs::write(live.workspace().config(), config("second")).unwrap();
    live.wait_for(2);
    assert_eq!(live.status()["state"], "current");
    assert!(live.log().contains("can be shown again"), "{}", live.log());
}

#[test]
fn sighup_and_reload_look_again() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    let reload = || {
        let mut command = live.workspace().miragefs();
        let reload = output(command.arg("reload").arg(live.workspace().mountpoint()));
        assert_eq!(reload.status.code(), Some(0), "{}", stderr(&reload));
        String::from_utf8(reload.stdout).unwrap()
    };
    assert_eq!(reload(), "generation 1, as before: nothing changed\n");
    fs::write(live.workspace().config(), config("second")).unwrap();
    assert_eq!(reload(), "generation 2\n");
    // Nobody saves it a second time after the answer.
    assert_eq!(reload(), "generation 2, as before: nothing changed\n");
    let pid = live.status()["pid"].as_i64().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::HUP).unwrap();
    wait_until("the log tells of SIGHUP", || live.log().contains("SIGHUP"));
    let mut command = live.workspace().miragefs();
    let status = output(command.arg("status").arg(live.workspace().mountpoint()));
    let text = String::from_utf8(status.stdout).unwrap();
    assert!(text.contains("generation 2 since "), "{text}");
    assert!(text.contains("disk.vmdk"), "{text}");
}

#[test]
fn included_files_and_missing_sources_are_watched_too() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(
        &format!("include = [\"vm.toml\"]\n{}", config("first")).replace(
            "include",
            // The file is not there yet.
            "# include",
        ),
    );
    let root = live.workspace().path().to_path_buf();
    fs::write(root.join("vm.toml"), "[vm]\ncpus = 1\n").unwrap();
    let including = format!("include = [\"vm.toml\"]\n{}", config("first"));
    fs::write(live.workspace().config(), &including).unwrap();
    live.wait_for(2);
    fs::write(root.join("vm.toml"), "[vm]\ncpus = 3\n").unwrap();
    live.wait_for(3);
    // A source that is missing heals the config when it comes.
    let later = including.replace(
        "{ from = \"src\"",
        "{ from = \"later\", to = \"/later\" }, { from = \"src\"",
    );
    fs::write(live.workspace().config(), later).unwrap();
    wait_until("the missing source is told", || {
        live.status()["state"] == "broken"
    });
    fs::create_dir(root.join("later")).unwrap();
    live.wait_for(4);
}
