//! The rules of the house that no compiler checks, over the project's own files.
//!
//! Each rule is a function over one text in [`rules`] or [`papers`], where a sample that breaks it shows that it can
//! fail; here the rules meet the real files.

mod papers;
mod rules;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A text file of the project.
struct File {
    /// From the project's root, with `/`.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All text files below the root, without what is built, generated or hidden (`.ci` is the exception).
fn files() -> Vec<File> {
    let mut files = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(root().join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = if directory.is_empty() {
                name.clone()
            } else {
                format!("{directory}/{name}")
            };
            let skipped = path == "target" || path.ends_with("/generated");
            if skipped || (name.starts_with('.') && name != ".ci") {
                continue;
            }
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(entry.path())
            {
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 100, "the walk found the project");
    files
}

fn rust_files(below: &str) -> Vec<File> {
    let mut files = files();
    files.retain(|file| file.path.starts_with(below) && file.path.ends_with(".rs"));
    assert!(!files.is_empty(), "{below} has sources");
    files
}

fn papers() -> Vec<File> {
    let mut files = files();
    files.retain(|file| file.path.ends_with(".md"));
    files
}

/// Fails with all violations of a rule.
#[track_caller]
fn check(files: &[File], rule: impl Fn(&str, &str) -> Vec<String>) {
    let violations: Vec<String> = files
        .iter()
        .flat_map(|file| rule(&file.path, &file.text))
        .collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn arrows_between_layers_hold() {
    check(&rust_files("src/"), rules::forbidden_arrows);
}

#[test]
fn only_three_modules_mention_fuser() {
    check(&rust_files("src/"), rules::stray_fuser);
}

#[test]
fn formats_and_most_of_synth_touch_no_host() {
    check(&rust_files("src/"), rules::stray_io);
}

#[test]
fn only_the_command_line_prints() {
    check(&rust_files("src/"), rules::stray_prints);
}

#[test]
fn no_clock_and_no_chance_reaches_bytes() {
    check(&rust_files("src/"), rules::clocks_and_chance);
}

#[test]
fn no_hash_order_reaches_bytes() {
    let files = rust_files("src/");
    check(&files, rules::hash_orders);
    for (path, word, reason) in rules::HASH_ORDER_EXCEPTIONS {
        let file = files.iter().find(|file| file.path == *path);
        assert!(
            file.is_some_and(|file| file.text.contains(word)),
            "{path} has no {word} any more, so the exception \"{reason}\" can go"
        );
    }
}

#[test]
fn stored_structures_assert_their_size() {
    check(&rust_files("src/formats/"), rules::unasserted_structures);
}

#[test]
fn source_files_stay_small() {
    check(&rust_files("src/"), rules::long_files);
}

#[test]
fn comments_are_neither_banners_nor_promises() {
    check(&rust_files("src/"), rules::banners);
    check(&rust_files("tests/"), rules::banners);
    check(&files(), rules::promises);
}

#[test]
fn no_test_is_switched_off() {
    check(&rust_files("src/"), rules::ignored_tests);
    check(&rust_files("tests/"), rules::ignored_tests);
}

#[test]
fn no_path_of_a_build_machine_is_left() {
    check(&files(), rules::build_machine_paths);
}

#[test]
fn every_module_is_part_of_the_suite() {
    let files = rust_files("tests/suite/");
    let text_of = |path: &str| {
        let file = files.iter().find(|file| file.path == path);
        file.map(|file| file.text.as_str())
    };
    check(&files, |path, _| {
        rules::undeclared_module(path, text_of)
            .into_iter()
            .collect()
    });
}

#[test]
fn links_and_paths_in_papers_lead_somewhere() {
    let exists = |path: &str| root().join(path).exists();
    check(&papers(), |path, text| {
        papers::dead_links(path, text, exists)
    });
    check(&papers(), |path, text| {
        papers::dead_paths(path, text, exists)
    });
}

#[test]
fn papers_that_sources_mention_exist() {
    let exists = |path: &str| root().join(path).exists();
    let mut sources = files();
    sources.retain(|file| {
        // The samples of the rules themselves name papers that do not exist.
        !file.path.ends_with(".md") && !file.path.starts_with("tests/suite/tidy/")
    });
    check(&sources, |path, text| {
        papers::dead_mentions(path, text, exists)
    });
}

#[test]
fn the_architecture_fits_its_limit() {
    check(&papers(), papers::long_architecture);
}

#[test]
fn every_promise_to_readers_names_its_test() {
    let files = files();
    let tests_of = |path: &str| -> BTreeSet<String> {
        let file = files.iter().find(|file| file.path == path);
        file.map(|file| papers::test_names(&file.text))
            .unwrap_or_default()
    };
    let semantics = files
        .iter()
        .find(|file| file.path == "docs/semantics.md")
        .unwrap();
    let broken = papers::promises_without_test(&semantics.text, tests_of);
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}
