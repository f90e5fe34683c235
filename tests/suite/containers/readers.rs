//! Readers by other people, and what they say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{require_tool, run, run_text, skip};

/// What a reader says of a file.
pub(super) type Said = Vec<String>;

/// A path as text.
pub(super) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether the Python readers of the project's list are installed; if not, the test is to return.
pub(super) fn require_python_readers() -> bool {
    let list = |path: &str| fs::read(project(path)).ok();
    let installed = list("target/tools/readers/requirements.txt");
    let found = installed.is_some() && installed == list("tests/readers/requirements.txt");
    if !found {
        skip("the Python readers are missing (`scripts/setup.sh` installs them)");
    }
    found
}

/// What tests/readers/read.py says of each file with the reader `name`.
pub(super) fn python<'a>(
    name: &str,
    files: impl IntoIterator<Item = &'a PathBuf>,
) -> BTreeMap<PathBuf, Said> {
    let python = project("target/tools/readers/bin/python");
    let script = project("tests/readers/read.py");
    let mut arguments = vec![text(&script).to_owned(), name.to_owned()];
    arguments.extend(files.into_iter().map(|file| text(file).to_owned()));
    let said = run_text(text(&python), &arguments);
    let lines = said.lines().map(|line| {
        let mut fields = line.split('\t').map(str::to_owned);
        (PathBuf::from(fields.next().unwrap()), fields.collect())
    });
    let lines: BTreeMap<_, _> = lines.collect();
    assert_eq!(lines.len(), arguments.len() - 2, "{said}");
    lines
}

/// Runs a tool that must refuse, and returns all that it says.
pub(super) fn refusal(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(!output.status.success(), "{tool} {arguments:?} succeeds");
    let [stdout, stderr] = [output.stdout, output.stderr].map(String::from_utf8);
    stdout.unwrap() + &stderr.unwrap()
}

/// An image as one of libyal's mounters shows it, until it goes out of scope.
pub(super) struct Mounted {
    mount_point: TempDir,
    disk: &'static str,
}

impl Mounted {
    /// Mounts `image`, a file of qemu's format `driver`; `None` if libyal has nothing for it, or it is not installed.
    pub(super) fn of(image: &Path, driver: &str) -> Option<Self> {
        let (tool, disk) = match driver {
            "vmdk" => ("vmdkmount", "vmdk1"),
            "vpc" | "vhdx" => ("vhdimount", "vhdi1"),
            "qcow2" => ("qcowmount", "qcow1"),
            _ => return None,
        };
        if !require_tool(tool) {
            return None;
        }
        let mount_point = tempfile::tempdir().unwrap();
        run(tool, [image, mount_point.path()]);
        Some(Self { mount_point, disk })
    }

    /// The raw disk.
    pub(super) fn disk(&self) -> PathBuf {
        self.mount_point.path().join(self.disk)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut command = Command::new("fusermount3");
        let unmounted = command.arg("-u").arg(self.mount_point.path()).status();
        assert!(unmounted.unwrap().success(), "{:?}", self.mount_point);
    }
}
