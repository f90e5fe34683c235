//! `miragefs watch`: what each save changes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::Value;

use super::config;
use crate::mounted::Workspace;

/// A `miragefs watch` and the lines that it prints.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Watch {
    fn new(workspace: &Workspace, options: &[&str]) -> Self {
        let mut command: Command = workspace.miragefs();
        command.arg("watch").args(options).arg(workspace.config());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn event(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Waits for a line that has this in it.
    fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    fs::create_dir(workspace.path().join("src")).unwrap();
    fs::write(workspace.path().join("src/old"), "old").unwrap();
    fs::write(workspace.path().join("src/gone"), "gone").unwrap();
    fs::write(workspace.config(), config("first")).unwrap();
    workspace
}

#[test]
fn people_read_what_changed() {
    let workspace = workspace();
    let watch = Watch::new(&workspace, &[]);
    assert_eq!(watch.line(), "generation 1: disk.img, disk.vmdk, boot.ova");
    // Whatever is looked at once more after the first watch is over by then.
    std::thread::sleep(Duration::from_millis(800));
    fs::write(workspace.config(), config("longer than first")).unwrap();
    assert_eq!(watch.line(), "generation 2");
    assert_eq!(watch.line(), "partition data");
    assert_eq!(watch.line(), "  ~ /hello.txt  5 → 17 bytes  contents");
    let disk = watch.line();
    // The text, the inode with its size, and its checksum.
    assert!(
        disk.starts_with("disk.img: 25165824 bytes (24 MiB), "),
        "{disk}"
    );
    let differ: u64 = disk.split_whitespace().nth(5).unwrap().parse().unwrap();
    assert!((17..60).contains(&differ), "{disk}");
}

#[test]
fn scripts_read_every_change() {
    let workspace = workspace();
    let watch = Watch::new(&workspace, &["--json"]);
    let first = watch.event();
    assert_eq!(
        (&first["event"], &first["generation"]),
        (&"generation".into(), &1.into())
    );
    std::thread::sleep(Duration::from_millis(800));
    let source = workspace.path().join("src");
    fs::write(source.join("new"), vec![7; 100_000]).unwrap();
    fs::remove_file(source.join("gone")).unwrap();
    fs::rename(source.join("old"), source.join("renamed")).unwrap();
    let second = watch.event();
    let partition = &second["partitions"][0];
    assert_eq!(partition["label"], "data");
    assert_eq!(partition["added"][0]["path"], "/src/new");
    assert_eq!(partition["added"][0]["size_after"], 100_000);
    assert_eq!(partition["removed"][0]["path"], "/src/gone");
    assert_eq!(partition["renamed"][0]["path"], "/src/renamed");
    assert_eq!(partition["renamed"][0]["from"], "/src/old");
    assert_eq!(second["images"][0]["name"], "disk.img");
    fs::write(workspace.config(), "name = ").unwrap();
    let refused = watch.event();
    assert_eq!(refused["event"], "refused");
    let error = refused["errors"][0].as_str().unwrap();
    assert!(error.contains("lab.toml:1:"), "{error}");
}

#[test]
fn images_that_take_work_are_told_when_they_are_ready() {
    let workspace = workspace();
    let text = |hello: &str| {
        format!(
            "{}[images]\n\"boot.ova\" = {{ format = \"ova\", compression = \"deflate\" }}\n",
            config(hello)
        )
    };
    fs::write(workspace.config(), text("first")).unwrap();
    let watch = Watch::new(&workspace, &[]);
    assert_eq!(watch.line(), "generation 1: boot.ova");
    watch.wait_for("boot.ova: new, ");
    std::thread::sleep(Duration::from_millis(800));
    fs::write(workspace.config(), text("second")).unwrap();
    watch.wait_for("boot.ova: being prepared");
    watch.wait_for(" differ");
}
