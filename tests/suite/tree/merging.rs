//! Several sources in one tree: directories merge, later entries win, and what cannot be is an error with its place.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use miragefs::config::spec::{InlineFile, Owner, Piece};
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::identifiers::Identifiers;
use miragefs::synth::tree::{NodeKind, TreeBuilder};
use tempfile::TempDir;

use super::{entry, error_of, image_path, location, plan};
use crate::ext4::build::TIMES;

/// A source with a directory, a file in it and a symlink, all marked.
fn source(mark: &str, mode: u32) -> TempDir {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("d/common"), mark).unwrap();
    fs::write(source.path().join("d").join(mark), mark).unwrap();
    symlink(mark, source.path().join("link")).unwrap();
    fs::set_permissions(source.path().join("d"), fs::Permissions::from_mode(mode)).unwrap();
    source
}

#[test]
fn directories_merge_and_later_entries_win() {
    let (first, second) = (source("first", 0o700), source("second", 0o755));
    let both = [entry(first.path(), "/", 1), entry(second.path(), "/", 2)];
    let planned = plan(&both);
    assert_eq!(
        planned.paths(),
        ["/d", "/d/common", "/d/first", "/d/second", "/link"]
    );
    assert_eq!(planned.bytes("/d/common"), b"second");
    assert_eq!(planned.bytes("/d/first"), b"first");
    assert_eq!(planned.node("/d").attributes.mode, 0o755);
    assert!(matches!(
        planned.node("/link").kind,
        NodeKind::Symlink(b"second")
    ));
    let [a, b] = both;
    let planned = plan(&[b, a]);
    assert_eq!(planned.bytes("/d/common"), b"first");
    assert_eq!(planned.node("/d").attributes.mode, 0o700);
}

#[test]
fn a_replaced_name_leaves_the_others_of_the_file() {
    let first = tempfile::tempdir().unwrap();
    fs::write(first.path().join("a"), "old").unwrap();
    fs::hard_link(first.path().join("a"), first.path().join("b")).unwrap();
    let second = tempfile::tempdir().unwrap();
    fs::write(second.path().join("a"), "new").unwrap();
    let planned = plan(&[entry(first.path(), "/", 1), entry(second.path(), "/", 2)]);
    assert_eq!(planned.bytes("/a"), b"new");
    assert_eq!(planned.bytes("/b"), b"old");
    assert_eq!(planned.node("/a").link_count, 1);
    assert_eq!(planned.node("/b").link_count, 1);
    // Nothing is left of a file whose every name was replaced.
    fs::write(second.path().join("b"), "new too").unwrap();
    let planned = plan(&[entry(first.path(), "/", 1), entry(second.path(), "/", 2)]);
    assert_eq!(planned.tree.counts().files, 2);
}

#[test]
fn files_and_symlinks_replace_each_other() {
    let first = tempfile::tempdir().unwrap();
    fs::write(first.path().join("x"), "file").unwrap();
    symlink("target", first.path().join("y")).unwrap();
    let second = tempfile::tempdir().unwrap();
    symlink("x", second.path().join("x")).unwrap();
    fs::write(second.path().join("y"), "file").unwrap();
    let planned = plan(&[entry(first.path(), "/", 1), entry(second.path(), "/", 2)]);
    assert!(matches!(planned.node("/x").kind, NodeKind::Symlink(_)));
    assert_eq!(planned.bytes("/y"), b"file");
}

#[test]
fn a_directory_and_something_else_clash() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("d/x")).unwrap();
    let file = tempfile::tempdir().unwrap();
    fs::create_dir(file.path().join("d")).unwrap();
    fs::write(file.path().join("d/x"), "").unwrap();
    let link = tempfile::tempdir().unwrap();
    fs::create_dir(link.path().join("d")).unwrap();
    symlink("..", link.path().join("d/x")).unwrap();
    for (first, second, text) in [
        (
            &directory,
            &file,
            "a file cannot take the place of a directory",
        ),
        (
            &directory,
            &link,
            "a symlink cannot take the place of a directory",
        ),
        (
            &file,
            &directory,
            "a directory cannot take the place of a file",
        ),
        (
            &link,
            &directory,
            "a directory cannot take the place of a symlink",
        ),
    ] {
        let error = error_of(&[
            entry(first.path(), "/to", 1),
            entry(second.path(), "/to", 2),
        ]);
        assert_eq!(error.to_string(), format!("lab.toml:2:5: /to/d/x: {text}"));
        assert_eq!(
            error.hint().unwrap(),
            "remove one of the two, or give one another `to`"
        );
    }
    // A second name of a file meets a directory.
    fs::hard_link(file.path().join("d/x"), file.path().join("a")).unwrap();
    let error = error_of(&[entry(directory.path(), "/", 1), entry(file.path(), "/", 2)]);
    assert_eq!(
        error.to_string(),
        "lab.toml:2:5: /d/x: a file cannot take the place of a directory"
    );
}

#[test]
fn to_leads_through_directories_of_the_image_only() {
    let first = tempfile::tempdir().unwrap();
    fs::write(first.path().join("file"), "").unwrap();
    symlink("/", first.path().join("link")).unwrap();
    for (to, text) in [
        (
            "/file/below",
            "/file: is a file in the image, so nothing can be put below it",
        ),
        (
            "/file",
            "/file: is a file in the image, so nothing can be put below it",
        ),
        (
            "/link/below",
            "/link: is a symlink in the image, so nothing can be put below it",
        ),
    ] {
        let error = error_of(&[entry(first.path(), "/", 1), entry(first.path(), to, 2)]);
        assert_eq!(error.to_string(), format!("lab.toml:2:5: {text}"));
        assert_eq!(
            error.hint().unwrap(),
            "name a directory; symlinks of the image are not followed"
        );
    }
}

#[test]
fn a_file_goes_to_its_final_path_or_into_a_directory() {
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("name");
    fs::write(&file, "contents").unwrap();
    for (to, path) in [
        ("/", "/name"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/name"),
        ("/lost+found/", "/lost+found/name"),
    ] {
        let planned = plan(&[entry(&file, to, 1)]);
        assert_eq!(planned.bytes(path), b"contents", "{to}");
    }
    // Without a trailing slash a directory of that name is in the way.
    fs::create_dir_all(source.path().join("tree/b")).unwrap();
    let error = error_of(&[
        entry(&source.path().join("tree"), "/", 1),
        entry(&file, "/b", 2),
    ]);
    assert_eq!(
        error.to_string(),
        "lab.toml:2:5: /b: a file cannot take the place of a directory"
    );
}

#[test]
fn files_of_the_config_come_last() {
    let source = source("mark", 0o700);
    let mut files = HostFiles::new();
    let mut builder = TreeBuilder::new(TIMES);
    builder.copy(&entry(source.path(), "/", 1), &mut files);
    let inline = |path: &str| InlineFile {
        path: image_path(path),
        contents: vec![Piece::Bytes(b"inline".to_vec())],
        mode: 0o640,
        owner: Owner { uid: 5, gid: 6 },
        location: location(9),
    };
    for (path, text) in [
        (
            "/d",
            "lab.toml:9:5: /d: a file cannot take the place of a directory",
        ),
        (
            "/link/x",
            "lab.toml:9:5: /link: is a symlink in the image, so nothing can be put below it",
        ),
    ] {
        let error = builder
            .inline(&inline(path), &Identifiers::default())
            .unwrap_err();
        assert_eq!(error.to_string(), text);
    }
    builder
        .inline(&inline("/d/common"), &Identifiers::default())
        .unwrap();
    builder
        .inline(&inline("/new/path"), &Identifiers::default())
        .unwrap();
    let (tree, warnings) = builder.finish(&mut files).unwrap();
    assert!(warnings.is_empty());
    let planned = super::Plan {
        tree,
        files,
        warnings,
    };
    assert_eq!(planned.bytes("/d/common"), b"inline");
    let attributes = planned.node("/new/path").attributes;
    assert_eq!(
        (attributes.mode, attributes.uid, attributes.gid),
        (0o640, 5, 6)
    );
    assert_eq!(attributes.mtime.seconds, TIMES.default);
}
