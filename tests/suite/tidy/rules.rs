//! Rules over Rust sources and other texts. Each takes a path from the project's root and the text, and returns its
//! violations, one line each.

/// What each layer may name, besides the standard library and other crates.
const ARROWS: &[(&str, &[&str])] = &[
    ("units", &["units"]),
    ("sync", &["sync"]),
    ("formats", &["formats", "units"]),
    ("config", &["config", "units"]),
    (
        "synth",
        &["synth", "formats", "config::spec", "sync", "units"],
    ),
    ("fs", &["fs", "synth", "sync", "units"]),
    ("export", &["export", "synth", "units"]),
    ("map", &["map", "synth", "units"]),
    (
        "cli",
        &["cli", "config", "export", "fs", "map", "synth", "units"],
    ),
];

/// Where fuser may be named.
const FUSER_MODULES: &[&str] = &[
    "src/fs/adapter.rs",
    "src/fs/adapter/reading.rs",
    "src/fs/errno.rs",
    "src/fs/mount.rs",
];

/// Ways to the host that `formats` and `synth` have no use for.
const HOST_WORDS: &[&str] = &[
    "rustix",
    "libc",
    "std::fs",
    "std::env",
    "std::process",
    "std::net",
];
/// What `formats` has no use for on top of that: it is functions over bytes and numbers.
const IMPURE_WORDS: &[&str] = &["std::path", "std::time", "std::thread", "std::sync"];

/// Ways to the terminal.
const PRINTS: &[&str] = &[
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
    "dbg!",
    "io::stdout",
    "io::stderr",
];

/// Sources of chance.
const CHANCE: &[&str] = &[
    "rand",
    "getrandom",
    "RandomState",
    "thread_rng",
    "new_v4",
    "now_v1",
    "now_v6",
    "now_v7",
];

/// File, type, and why no order of hashes reaches image bytes there.
pub(super) const HASH_ORDER_EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "src/synth/tree/scan.rs",
    "HashMap",
    "joins hard links: looked up by device and inode, never walked",
)];

/// Lines of a source file.
const LINES_MAX: usize = 650;

// Put together so that this file does not break its own rules.
const PROMISES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
const BUILD_MACHINE_PATH: &str = concat!("/wo", "rk/");
const IGNORE_ATTRIBUTE: &str = concat!("#[ig", "nore");

/// The layer that a file belongs to; `None` for `lib.rs` and `main.rs`.
fn layer_of(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("src/")?;
    let first = inner.split('/').next()?;
    let layer = first.strip_suffix(".rs").unwrap_or(first);
    (layer != "lib" && layer != "main").then_some(layer)
}

/// Whether a file is one of `below`, or lies in their directory.
fn is_in(path: &str, module: &str) -> bool {
    path.strip_prefix("src/")
        .and_then(|inner| inner.strip_prefix(module))
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// Line numbers and lines without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter_map(|(number, line)| {
        if line.trim_start().starts_with("//") {
            return None;
        }
        Some((number, line.split(" // ").next().unwrap_or(line)))
    })
}

/// As [`code`], without the tests: those of a file come last, and modules called `tests` have nothing else.
fn production_code<'a>(path: &str, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let is_test_module = path.ends_with("/tests.rs") || path.contains("/tests/");
    code(text).take_while(move |(_, line)| !is_test_module && *line != "mod tests {")
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Positions behind each occurrence of `word` that is no part of a longer word.
fn behind_words<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(word).filter_map(move |(at, _)| {
        let (before, rest) = line.split_at(at);
        let after = rest.strip_prefix(word)?;
        let is_longer = before.ends_with(is_word_char)
            || (word.ends_with(is_word_char) && after.starts_with(is_word_char));
        (!is_longer).then_some(after)
    })
}

fn has_word(line: &str, word: &str) -> bool {
    behind_words(line, word).next().is_some()
}

/// Lines of production code with one of `words`.
fn lines_with(path: &str, text: &str, words: &[&str], why: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in production_code(path, text) {
        for word in words.iter().filter(|word| has_word(line, word)) {
            violations.push(format!("{path}:{number}: `{word}`: {why}"));
        }
    }
    violations
}

/// Paths from the crate's root that the layer may not name.
pub(super) fn forbidden_arrows(path: &str, text: &str) -> Vec<String> {
    let (root, layer, allowed): (_, _, &[&str]) = match layer_of(path) {
        None if path == "src/main.rs" => ("miragefs::", "main", &["cli"]),
        None => return Vec::new(),
        Some(layer) => match ARROWS.iter().find(|(name, _)| *name == layer) {
            Some((_, allowed)) => ("crate::", layer, allowed),
            None => {
                return vec![format!(
                    "{path}: `{layer}` is no layer; add it to the arrows"
                )];
            }
        },
    };
    let mut violations = Vec::new();
    for (number, line) in code(text) {
        for rest in behind_words(line, root) {
            let end = rest
                .find(|c| !is_word_char(c) && c != ':')
                .unwrap_or(rest.len());
            let target = rest.get(..end).unwrap_or(rest);
            let is_allowed = allowed.iter().any(|allowed| {
                target
                    .strip_prefix(allowed)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            });
            if !is_allowed {
                violations.push(format!("{path}:{number}: {layer} → {root}{target}"));
            }
        }
    }
    for (number, line) in production_code(path, text) {
        if climbs_to_the_root(path, line) {
            violations.push(format!(
                "{path}:{number}: `super` up to the root; say `crate`"
            ));
        }
    }
    violations
}

/// Whether as many `super` as the file's module is deep follow each other: that would hide an arrow.
fn climbs_to_the_root(path: &str, line: &str) -> bool {
    let depth = path.matches('/').count();
    has_word(line, &"super::".repeat(depth))
}

/// fuser outside the three modules that translate for it.
pub(super) fn stray_fuser(path: &str, text: &str) -> Vec<String> {
    if FUSER_MODULES.contains(&path) {
        return Vec::new();
    }
    lines_with(
        path,
        text,
        &["fuser::"],
        "only fs/adapter, fs/errno and fs/mount know it",
    )
}

/// Files, processes and the environment where bytes are computed.
pub(super) fn stray_io(path: &str, text: &str) -> Vec<String> {
    let why = "only synth/host_file, synth/index_store and synth/tree touch the host";
    match layer_of(path) {
        Some("formats") => {
            let mut violations = lines_with(path, text, HOST_WORDS, why);
            violations.extend(lines_with(path, text, IMPURE_WORDS, "formats is pure"));
            violations
        }
        Some("synth")
            if !["synth/host_file", "synth/index_store", "synth/tree"]
                .iter()
                .any(|place| is_in(path, place)) =>
        {
            lines_with(path, text, HOST_WORDS, why)
        }
        _ => Vec::new(),
    }
}

/// Printing anywhere but in `cli` and `main`.
pub(super) fn stray_prints(path: &str, text: &str) -> Vec<String> {
    if path == "src/main.rs" || layer_of(path) == Some("cli") {
        return Vec::new();
    }
    lines_with(path, text, PRINTS, "only cli and main print")
}

/// Wall clocks where bytes are computed, and chance anywhere.
pub(super) fn clocks_and_chance(path: &str, text: &str) -> Vec<String> {
    let mut violations = lines_with(path, text, CHANCE, "same config, same sources, same bytes");
    let may_look_at_the_clock =
        matches!(layer_of(path), Some("fs" | "export" | "cli")) || is_in(path, "synth/host_file");
    if !may_look_at_the_clock {
        let why = "no clock reaches image bytes";
        violations.extend(lines_with(path, text, &["SystemTime"], why));
    }
    violations
}

/// Hash tables where bytes are computed.
pub(super) fn hash_orders(path: &str, text: &str) -> Vec<String> {
    if !matches!(layer_of(path), Some("formats" | "synth")) {
        return Vec::new();
    }
    let words: Vec<&str> = ["HashMap", "HashSet"]
        .into_iter()
        .filter(|word| {
            let mut exceptions = HASH_ORDER_EXCEPTIONS.iter();
            !exceptions.any(|(file, excepted, _)| *file == path && excepted == word)
        })
        .collect();
    lines_with(
        path,
        text,
        &words,
        "their order is not reproducible; use a BTree or a sorted list",
    )
}

/// Structures as stored (`RawFoo`) without a compile-time assertion of their size.
pub(super) fn unasserted_structures(path: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in code(text) {
        for rest in behind_words(line, "struct ") {
            let end = rest.find(|c| !is_word_char(c)).unwrap_or(rest.len());
            let name = rest.get(..end).unwrap_or(rest);
            let assertion = format!("size_of::<{name}>() == ");
            if name.starts_with("Raw") && !text.contains(&assertion) {
                violations.push(format!(
                    "{path}:{number}: no assertion of the size of {name}"
                ));
            }
        }
    }
    violations
}

/// Files that hold more than one concept.
pub(super) fn long_files(path: &str, text: &str) -> Vec<String> {
    let count = text.lines().count();
    if count <= LINES_MAX {
        return Vec::new();
    }
    vec![format!(
        "{path}: {count} lines; split by concept at {LINES_MAX}"
    )]
}

/// Comments that draw lines.
pub(super) fn banners(path: &str, text: &str) -> Vec<String> {
    let is_banner = |line: &str| {
        let body = line.trim_start().strip_prefix("//");
        body.map(|body| body.trim_start_matches(['/', '!']).trim())
            .is_some_and(|body| {
                let ruled = |c: char| "-=*#~_".contains(c);
                body.len() >= 4
                    && (body.chars().take(4).all(ruled) || body.chars().rev().take(4).all(ruled))
                    || line.contains("/////")
            })
    };
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| is_banner(line))
        .map(|(number, _)| format!("{path}:{number}: banner comment"))
        .collect()
}

/// Work left for later.
pub(super) fn promises(path: &str, text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in PROMISES.iter().filter(|word| has_word(line, word)) {
            violations.push(format!("{path}:{number}: {word}"));
        }
    }
    violations
}

/// Tests that do not run.
pub(super) fn ignored_tests(path: &str, text: &str) -> Vec<String> {
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.trim_start().starts_with(IGNORE_ATTRIBUTE))
        .map(|(number, _)| format!("{path}:{number}: a test that never runs"))
        .collect()
}

/// Paths that exist on one machine only.
pub(super) fn build_machine_paths(path: &str, text: &str) -> Vec<String> {
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.contains(BUILD_MACHINE_PATH))
        .map(|(number, _)| format!("{path}:{number}: path of a build machine"))
        .collect()
}

/// A module of the suite that its parent does not declare, and whose tests therefore never run. `text_of` gives the
/// text of a file.
pub(super) fn undeclared_module<'a>(
    path: &str,
    text_of: impl Fn(&str) -> Option<&'a str>,
) -> Option<String> {
    let (directory, name) = path.strip_suffix(".rs")?.rsplit_once('/')?;
    if path == "tests/suite/main.rs" {
        return None;
    }
    let parent = if directory == "tests/suite" {
        "tests/suite/main.rs".to_owned()
    } else {
        format!("{directory}.rs")
    };
    let declaration = format!("mod {name};");
    let declared = text_of(&parent).is_some_and(|text| {
        code(text)
            .any(|(_, line)| line == declaration || line.ends_with(&format!(" {declaration}")))
    });
    (!declared).then(|| format!("{path}: {parent} has no `{declaration}`"))
}

mod tests {
    use super::*;

    /// Each text must break the rule in `path`, `broken` times.
    #[track_caller]
    fn breaks(rule: fn(&str, &str) -> Vec<String>, path: &str, text: &str, broken: usize) {
        let violations = rule(path, text);
        assert_eq!(violations.len(), broken, "{path}: {text}\n{violations:?}");
    }

    #[test]
    fn arrows_are_seen_in_any_form() {
        let up = "use crate::synth::tree::Tree;\n";
        breaks(forbidden_arrows, "src/formats/mbr.rs", up, 1);
        breaks(forbidden_arrows, "src/formats.rs", up, 1);
        breaks(forbidden_arrows, "src/synth/disk.rs", up, 0);
        breaks(forbidden_arrows, "src/config/raw.rs", up, 1);
        let inline = "    let spec: crate::config::Spec = crate::config::spec::Spec::default();\n";
        breaks(forbidden_arrows, "src/synth/disk.rs", inline, 1);
        let grouped = "use crate::{fs, formats};\n";
        breaks(forbidden_arrows, "src/fs/view.rs", grouped, 1);
        let format = "use crate::formats::ext4;\n";
        breaks(forbidden_arrows, "src/fs/view.rs", format, 1);
        breaks(forbidden_arrows, "src/cli/check.rs", format, 1);
        breaks(forbidden_arrows, "src/cli.rs", format, 1);
        let prefix = "use crate::config::specification::Spec;\n";
        breaks(forbidden_arrows, "src/synth.rs", prefix, 1);
        let comment = "//! Rendered by [`crate::synth`]. // crate::synth\n";
        breaks(forbidden_arrows, "src/formats/mbr.rs", comment, 0);
        let main = "use miragefs::cli;\nuse miragefs::synth::disk;\n";
        breaks(forbidden_arrows, "src/main.rs", main, 1);
        breaks(forbidden_arrows, "src/newcomer.rs", "", 1);
    }

    #[test]
    fn climbing_is_seen() {
        let climb = "use super::super::synth::tree::Tree;\n";
        breaks(forbidden_arrows, "src/formats/mbr.rs", climb, 1);
        breaks(forbidden_arrows, "src/formats/ext4/dir.rs", climb, 0);
        breaks(forbidden_arrows, "src/formats.rs", "use super::synth;\n", 1);
        breaks(
            forbidden_arrows,
            "src/formats/mbr.rs",
            "use super::tar;\n",
            0,
        );
    }

    #[test]
    fn fuser_is_seen() {
        let text = "use fuser::Errno;\n";
        breaks(stray_fuser, "src/fs/view.rs", text, 1);
        breaks(stray_fuser, "src/fs/errno.rs", text, 0);
        breaks(
            stray_fuser,
            "src/fs/view.rs",
            "use libfuser::Errno;\n// fuser::Errno\n",
            0,
        );
    }

    #[test]
    fn ways_to_the_host_are_seen() {
        for text in [
            "use std::fs;\n",
            "    let fd = rustix::fs::open(path)?;\n",
            "    libc::getuid()\n",
            "    std::env::var(\"X\")\n",
        ] {
            breaks(stray_io, "src/synth/disk.rs", text, 1);
            breaks(stray_io, "src/synth/host_files.rs", text, 1);
            breaks(stray_io, "src/formats/mbr.rs", text, 1);
            breaks(stray_io, "src/synth/host_file.rs", text, 0);
            breaks(stray_io, "src/synth/tree/scan.rs", text, 0);
            breaks(stray_io, "src/config/resolve.rs", text, 0);
        }
        breaks(stray_io, "src/formats/mbr.rs", "use std::path::Path;\n", 1);
        breaks(stray_io, "src/synth/disk.rs", "use std::path::Path;\n", 0);
        let in_tests = "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        breaks(stray_io, "src/synth/disk.rs", in_tests, 0);
        breaks(stray_io, "src/synth/disk/tests.rs", "use std::fs;\n", 0);
        let tests_elsewhere = "#[cfg(test)]\nmod tests;\n\nuse std::fs;\n";
        breaks(stray_io, "src/synth/disk.rs", tests_elsewhere, 1);
    }

    #[test]
    fn prints_are_seen() {
        for text in [
            "println!(\"x\");\n",
            "eprint!(\"x\");\n",
            "std::io::stdout().lock();\n",
        ] {
            breaks(stray_prints, "src/synth/disk.rs", text, 1);
            breaks(stray_prints, "src/export.rs", text, 1);
            breaks(stray_prints, "src/cli/check.rs", text, 0);
            breaks(stray_prints, "src/main.rs", text, 0);
        }
    }

    #[test]
    fn clocks_chance_and_hash_orders_are_seen() {
        let clock = "let now = std::time::SystemTime::now();\n";
        breaks(clocks_and_chance, "src/synth/disk.rs", clock, 1);
        breaks(clocks_and_chance, "src/config.rs", clock, 1);
        breaks(clocks_and_chance, "src/synth/host_file.rs", clock, 0);
        breaks(clocks_and_chance, "src/fs/adapter.rs", clock, 0);
        for text in ["Uuid::new_v4();\n", "rand::random();\n"] {
            breaks(clocks_and_chance, "src/cli/mount.rs", text, 1);
        }
        breaks(clocks_and_chance, "src/cli/mount.rs", "operand::x();\n", 0);
        let hash = "use std::collections::HashMap;\n";
        breaks(hash_orders, "src/synth/disk.rs", hash, 1);
        breaks(hash_orders, "src/synth/tree/scan.rs", hash, 0);
        breaks(
            hash_orders,
            "src/synth/tree/scan.rs",
            "HashSet::new();\n",
            1,
        );
        breaks(hash_orders, "src/fs/view.rs", hash, 0);
    }

    #[test]
    fn unasserted_structures_are_seen() {
        let bare =
            "pub struct RawEntry {\n}\nconst _: () = assert!(size_of::<RawEntryTail>() == 4);\n";
        breaks(unasserted_structures, "src/formats/mbr.rs", bare, 1);
        let good = "struct RawEntry {}\nconst _: () = assert!(size_of::<RawEntry>() == 16);\n";
        breaks(unasserted_structures, "src/formats/mbr.rs", good, 0);
    }

    #[test]
    fn length_banners_and_promises_are_seen() {
        breaks(long_files, "src/x.rs", &"\n".repeat(LINES_MAX), 0);
        breaks(long_files, "src/x.rs", &"\n".repeat(LINES_MAX + 1), 1);
        for text in [
            "// ---- helpers ----\n",
            "    //===== x\n",
            "// part two ------\n",
            "/////\n",
        ] {
            breaks(banners, "src/x.rs", text, 1);
        }
        breaks(banners, "src/x.rs", "/// A row of `--` and `//`.\n//\n", 0);
        for word in PROMISES {
            breaks(promises, "README.md", &format!("{word}: later\n"), 1);
            breaks(promises, "README.md", &format!("{word}S\n"), 0);
        }
    }

    #[test]
    fn switched_off_tests_and_strange_paths_are_seen() {
        let text = format!("#[test]\n    {IGNORE_ATTRIBUTE}]\nfn f() {{}}\n");
        breaks(ignored_tests, "src/x.rs", &text, 1);
        let text = format!("see {BUILD_MACHINE_PATH}x\n");
        breaks(build_machine_paths, "README.md", &text, 1);
    }

    #[test]
    fn undeclared_modules_are_seen() {
        let text_of = |path: &str| match path {
            "tests/suite/main.rs" => Some("mod boot;\n// mod tree;\nmod ext4;\n"),
            "tests/suite/ext4.rs" => Some("pub(crate) mod build;\n"),
            _ => None,
        };
        for missing in ["tree", "boo", "ext4/kernel", "tree/build"] {
            let path = format!("tests/suite/{missing}.rs");
            assert!(undeclared_module(&path, text_of).is_some(), "{missing}");
        }
        for declared in ["boot", "ext4", "main", "ext4/build"] {
            let path = format!("tests/suite/{declared}.rs");
            assert_eq!(undeclared_module(&path, text_of), None);
        }
    }
}
