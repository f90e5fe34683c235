//! Scanning sources and merging them into a tree, and what happens when a source changes afterwards.

mod merging;
mod owners;
mod scanning;
mod shaping;
mod staleness;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use miragefs::config::spec::{
    CopySpec, Ext4Spec, FeatureSet, ImagePath, Location, SLACK_BITS_DEFAULT, Times,
};
use miragefs::synth::ext4::{Ext4, Ext4Params, Ext4Plan, SizeRequest};
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::tree::{
    Content, Node, NodeKind, Tree, TreeBuilder, TreeError, TreeWarning, Unfinished,
};
use uuid::Uuid;

use crate::ext4::build::{TIMES, copy_of};

/// A tree being built, with what was read from the host for it.
struct Plan {
    tree: Tree,
    files: HostFiles,
    warnings: Vec<TreeWarning>,
}

/// A place in the test's config: copy entry `line`.
fn location(line: u32) -> Location {
    Location {
        file: "lab.toml".into(),
        line,
        column: 5,
    }
}

/// `{ from = …, to = … }`; `to` as typed.
fn entry(from: &Path, to: &str, line: u32) -> CopySpec {
    CopySpec {
        to: image_path(to),
        to_is_directory: to.ends_with('/'),
        location: location(line),
        ..copy_of(from)
    }
}

fn image_path(path: &str) -> ImagePath {
    let names = path.split('/').filter(|name| !name.is_empty());
    ImagePath(names.map(|name| name.as_bytes().to_vec()).collect())
}

fn plan_at(times: Times, entries: &[CopySpec]) -> Result<Plan, TreeError> {
    let mut files = HostFiles::new();
    let mut builder = TreeBuilder::new(times);
    for entry in entries {
        builder.copy(entry, &mut files);
    }
    let (tree, warnings) = builder.finish(&mut files).map_err(first_of)?;
    Ok(Plan {
        tree,
        files,
        warnings,
    })
}

fn first_of(unfinished: Box<Unfinished>) -> TreeError {
    let first = unfinished.mistakes.into_first();
    first.expect("a tree is refused for a mistake")
}

fn plan(entries: &[CopySpec]) -> Plan {
    plan_at(TIMES, entries).unwrap()
}

fn error_of(entries: &[CopySpec]) -> TreeError {
    plan_at(TIMES, entries)
        .err()
        .expect("the entries are refused")
}

impl Plan {
    fn find(&self, path: &str) -> Option<Node<'_>> {
        let id = self.tree.find(&image_path(path))?;
        Some(self.tree.node(id))
    }

    fn node(&self, path: &str) -> Node<'_> {
        self.find(path).unwrap_or_else(|| panic!("{path} is there"))
    }

    /// The bytes of a file.
    fn bytes(&self, path: &str) -> Vec<u8> {
        match self.node(path).kind {
            NodeKind::File {
                size,
                content: Content::Host(index),
                ..
            } => {
                let mut bytes = vec![0xa5; usize::try_from(size).unwrap()];
                self.files.read_exact_at(index, 0, &mut bytes).unwrap();
                bytes
            }
            NodeKind::File {
                content: Content::Inline(bytes),
                ..
            } => bytes.to_vec(),
            _ => panic!("{path} is a file"),
        }
    }

    /// All paths, sorted, without lost+found.
    fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let mut pending = vec![(String::new(), miragefs::synth::tree::NodeId::ROOT)];
        while let Some((path, id)) = pending.pop() {
            for entry in self.tree.entries(id).iter() {
                let name = std::ffi::OsStr::from_bytes(entry.name).to_string_lossy();
                let below = format!("{path}/{name}");
                if below != "/lost+found" {
                    paths.push(below.clone());
                    pending.push((below, entry.node));
                }
            }
        }
        paths.sort();
        paths
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.iter().map(ToString::to_string).collect()
    }

    /// A file system of 16 MiB.
    fn file_system(self) -> Ext4 {
        let spec = Ext4Spec {
            features: FeatureSet::Std,
            journal: true,
            reserved_percent: None,
            inodes: None,
            slack_bits: SLACK_BITS_DEFAULT,
        };
        let params = Ext4Params {
            spec: &spec,
            label: "test",
            uuid: Uuid::from_u128(7),
            time: TIMES.default,
            size: SizeRequest::Fixed(16 << 20),
        };
        let plan = Ext4Plan::new(self.tree, &params).unwrap();
        plan.into_source(16 << 20, None, Arc::new(self.files))
    }
}
