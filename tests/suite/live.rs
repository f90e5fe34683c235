//! Configs and sources that are edited under a mount: one consistent world for every reader, at once.

mod machines;
mod newest;
mod picture;
mod saving;
mod serving;
mod stale;
mod stress;
mod watching;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use miragefs::units::to_usize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::mounted::{Workspace, output, stderr, wait_until};

/// A background mount of the workspace's config that is edited.
pub(crate) struct Live {
    workspace: Workspace,
}

impl Live {
    /// Writes `config` and mounts it.
    pub(crate) fn new(config: &str) -> Self {
        Self::with_options(config, &[])
    }

    pub(crate) fn with_options(config: &str, options: &[&str]) -> Self {
        let workspace = Workspace::new();
        fs::create_dir(workspace.path().join("src")).unwrap();
        fs::write(workspace.config(), config).unwrap();
        let live = Self { workspace };
        live.mount(&live.workspace.config(), options);
        live
    }

    fn mount(&self, config: &Path, options: &[&str]) {
        let mut command = self.workspace.miragefs();
        command
            .arg("mount")
            .args(options)
            .arg("--log")
            .arg(self.log_path());
        let mounted = output(command.arg(config).arg(self.workspace.mountpoint()));
        assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    }

    fn log_path(&self) -> PathBuf {
        self.workspace.path().join("log")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap()
    }

    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    pub(crate) fn source(&self, name: &str) -> PathBuf {
        self.workspace.path().join("src").join(name)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.workspace.mountpoint().join(name)
    }

    pub(crate) fn status(&self) -> Value {
        status_of(&self.workspace.mountpoint())
    }

    pub(crate) fn generation(&self) -> u64 {
        self.status()["generation"].as_u64().unwrap()
    }

    /// Waits for a generation of that number.
    pub(crate) fn wait_for(&self, generation: u64) {
        wait_until(&format!("there is generation {generation}"), || {
            self.generation() >= generation
        });
    }

    /// Waits until all that changed so far is shown.
    pub(crate) fn settle(&self) {
        let mut command = self.workspace.miragefs();
        let reloaded = output(command.arg("reload").arg(self.workspace.mountpoint()));
        assert_eq!(reloaded.status.code(), Some(0), "{}", stderr(&reloaded));
    }

    /// What the config comes to as a real file.
    pub(crate) fn export(&self, image: &str) -> Vec<u8> {
        let dest = self.workspace.path().join("exported");
        let mut command = self.workspace.miragefs();
        command
            .arg("export")
            .arg(self.workspace.config())
            .arg(image);
        let exported = output(command.arg(&dest));
        assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
        fs::read(dest).unwrap()
    }
}

pub(crate) fn status_of(directory: &Path) -> Value {
    let text = fs::read_to_string(directory.join(".miragefs/status.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A config of one partition with one small file of this text, and the sources.
pub(crate) fn config(text: &str) -> String {
    format!(
        "name = \"live\"\n[disk]\nsize = \"24MiB\"\nboot-code = \"none\"\n\
         [[partition]]\nlabel = \"data\"\nsize = \"rest\"\n\
         copy = [ {{ from = \"src\", to = \"/src\" }} ]\n\
         files = [ {{ path = \"/hello.txt\", text = \"{text}\" }} ]\n"
    )
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_all(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; to_usize(file.metadata().unwrap().len())];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Inode, modification time and length.
fn validators(path: &Path) -> (u64, i64, u64) {
    let found = fs::metadata(path).unwrap();
    (found.ino(), found.mtime(), found.len())
}
