//! What changed between two plans, against a reader that compares everything.

use std::fs;
use std::path::Path;

use miragefs::synth::diff::GenerationDiff;
use miragefs::synth::generation::Pieces;
use proptest::prelude::*;

use crate::planned::plan_text;
use crate::support::read;

const FILES: u8 = 5;

fn config(inline: &str) -> String {
    format!(
        "name = \"diff\"\n[disk]\nsize = \"16MiB\"\nboot-code = \"none\"\n\
         [[partition]]\nlabel = \"data\"\nsize = \"rest\"\n\
         copy = [ {{ from = \"src\", to = \"/\" }} ]\n\
         files = [ {{ path = \"/inline\", text = \"{inline}\" }} ]\n"
    )
}

fn pieces(directory: &Path, inline: &str) -> Pieces {
    Pieces::of(&plan_text(directory, &config(inline)), "diff")
}

#[derive(Debug, Clone)]
enum Edit {
    Add(u8, u16),
    Delete(u8),
    Rename(u8, u8),
    Inline(String),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let file = 0..FILES;
    let edit = prop_oneof![
        // Other names than those that are there: contents of files that changed cannot be compared any more.
        (file.clone(), any::<u16>()).prop_map(|(file, len)| Edit::Add(file, len % 20_000)),
        file.clone().prop_map(Edit::Delete),
        (file.clone(), file).prop_map(|(from, to)| Edit::Rename(from, to)),
        "[a-z]{0,40}".prop_map(Edit::Inline),
    ];
    prop::collection::vec(edit, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) })]

    #[test]
    fn what_is_told_is_what_differs(edits in edits()) {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("src");
        fs::create_dir(&source).unwrap();
        for number in 0..FILES {
            fs::write(source.join(format!("old-{number}")), vec![number + 1; 3000]).unwrap();
        }
        let old = pieces(directory.path(), "first");
        // All of it is in memory before anything changes.
        let bytes: Vec<Vec<u8>> = old
            .images
            .iter()
            .map(|image| read(&*image.source, 0, image.source.len()))
            .collect();
        let mut inline = "first".to_owned();
        for edit in &edits {
            match edit {
                Edit::Add(number, len) => {
                    let path = source.join(format!("new-{number}"));
                    fs::write(path, vec![0xee; usize::from(*len)]).unwrap();
                }
                Edit::Delete(number) => {
                    drop(fs::remove_file(source.join(format!("old-{number}"))));
                }
                Edit::Rename(from, to) => {
                    let from = source.join(format!("old-{from}"));
                    drop(fs::rename(from, source.join(format!("moved-{to}"))));
                }
                Edit::Inline(text) => inline.clone_from(text),
            }
        }
        let new = pieces(directory.path(), &inline);
        let diff = GenerationDiff::between(&old, &new);
        for (before, bytes) in old.images.iter().zip(&bytes) {
            let after = new.images.iter().find(|image| image.name == before.name).unwrap();
            let now = read(&*after.source, 0, after.source.len());
            let told = diff.images.iter().find(|image| image.name == before.name);
            let pairs = bytes.iter().zip(&now);
            let expected: u64 = pairs
                .filter(|(one, other)| one != other)
                .count()
                .try_into()
                .unwrap();
            let Some(told) = told else {
                prop_assert_eq!(expected, 0, "{}", before.name);
                prop_assert_eq!(bytes.len(), now.len());
                continue;
            };
            let counted = told.bytes.unwrap();
            // What is gone from the host cannot be compared: it may differ, and no more than that does.
            prop_assert!(counted.differing <= expected, "{}", before.name);
            prop_assert!(
                counted.differing + counted.not_compared >= expected,
                "{}: {} and {} of {}", before.name, counted.differing, counted.not_compared, expected
            );
        }
        let names = |pieces: &Pieces| -> Vec<String> {
            let tree = pieces.file_systems[0].as_ref().unwrap().tree();
            let root = tree.entries(miragefs::synth::tree::NodeId::ROOT);
            root.iter().map(|entry| format!("/{}", String::from_utf8_lossy(entry.name))).collect()
        };
        let (before, after) = (names(&old), names(&new));
        let mut expected: Vec<String> = after.iter().filter(|name| !before.contains(name)).cloned().collect();
        let files = diff.partitions.first().map(|partition| partition.files.clone()).unwrap_or_default();
        let added = files.added.iter().map(|change| change.path.clone());
        let renamed = files.renamed.iter().map(|change| change.path.clone());
        let mut told: Vec<String> = added.chain(renamed).collect();
        expected.sort();
        told.sort();
        prop_assert_eq!(told, expected);
        let mut expected: Vec<String> = before.iter().filter(|name| !after.contains(name)).cloned().collect();
        let removed = files.removed.iter().map(|change| change.path.clone());
        let from = files.renamed.iter().filter_map(|change| change.from.clone());
        let mut told: Vec<String> = removed.chain(from).collect();
        expected.sort();
        told.sort();
        prop_assert_eq!(told, expected);
    }
}

#[test]
fn equal_plans_do_not_differ() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("src")).unwrap();
    fs::write(directory.path().join("src/file"), "x").unwrap();
    let (old, new) = (pieces(directory.path(), "a"), pieces(directory.path(), "a"));
    assert!(GenerationDiff::between(&old, &new).is_empty());
}

#[test]
fn a_terabyte_is_compared_by_its_runs() {
    let directory = tempfile::tempdir().unwrap();
    let plan = |text: &str| {
        let config = format!(
            "name = \"vast\"\n[disk]\nsize = \"1TiB\"\nboot-code = \"none\"\n[[partition]]\nsize = \"rest\"\n\
             files = [ {{ path = \"/f\", text = \"{text}\" }} ]\n[images]\n\"disk.img\" = {{ format = \"raw\" }}\n"
        );
        Pieces::of(&plan_text(directory.path(), &config), "vast")
    };
    let (old, new) = (plan("aaaa"), plan("bbbb"));
    let diff = GenerationDiff::between(&old, &new);
    let counted = diff.images[0].bytes.unwrap();
    assert_eq!(counted.not_compared, 0);
    assert_eq!(counted.beyond, 0);
    // The four bytes; the file's inode says nothing of them.
    assert_eq!(counted.differing, 4);
}
