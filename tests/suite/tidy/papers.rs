//! Rules over the project's papers: what they name exists.

use std::collections::BTreeSet;

/// Lines of docs/architecture.md.
const ARCHITECTURE_LINES_MAX: usize = 250;

/// Directories whose names in backticks are paths of the project.
const PROJECT_DIRECTORIES: &[&str] = &[
    "src/",
    "tests/",
    "docs/",
    "scripts/",
    "examples/",
    "benches/",
];

/// Links to files that are not there. `exists` takes a path from the project's root.
pub(super) fn dead_links(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for rest in line.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or(rest);
            let file = target.split('#').next().unwrap_or(target);
            if file.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !exists(&from_root(path, file)) {
                violations.push(format!(
                    "{path}:{number}: link to `{target}`, which does not exist"
                ));
            }
        }
    }
    violations
}

/// A link's path from the project's root.
fn from_root(paper: &str, link: &str) -> String {
    let mut parts: Vec<&str> = paper.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Paths of the project in backticks that are not there. The changelog and the decisions speak of their time.
pub(super) fn dead_paths(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    if path == "CHANGELOG.md" || path.starts_with("docs/decisions/") {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for span in line.split('`').skip(1).step_by(2) {
            let is_path = PROJECT_DIRECTORIES
                .iter()
                .any(|directory| span.starts_with(directory));
            let is_pattern = span.contains(|c: char| c.is_whitespace() || "*{}<>…:".contains(c));
            if is_path && !is_pattern && !exists(span) {
                violations.push(format!("{path}:{number}: `{span}` does not exist"));
            }
        }
    }
    violations
}

/// Papers that a source or a script mentions (`docs/….md`) and that are not there.
pub(super) fn dead_mentions(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (at, _) in line.match_indices("docs/") {
            let rest = line.get(at..).unwrap_or_default();
            let end = rest.find(|c: char| !(c.is_alphanumeric() || "/-_.".contains(c)));
            let paper = rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest);
            let paper = paper.trim_end_matches('.');
            if paper.ends_with(".md") && !exists(paper) {
                violations.push(format!("{path}:{number}: `{paper}` does not exist"));
            }
        }
    }
    violations
}

/// An architecture that nobody reads to its end.
pub(super) fn long_architecture(path: &str, text: &str) -> Vec<String> {
    let count = text.lines().count();
    if path != "docs/architecture.md" || count <= ARCHITECTURE_LINES_MAX {
        return Vec::new();
    }
    vec![format!(
        "{path}: {count} lines, more than {ARCHITECTURE_LINES_MAX}"
    )]
}

/// The functions of a source that the test harness runs.
pub(super) fn test_names(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split('(').next().unwrap_or(rest);
            if std::mem::take(&mut is_test) {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

/// Sentences of docs/semantics.md (its list items) that name no test, or one that is not there. An item ends in
/// ``(`mount.rs: name`, `src/fs/view.rs: name`)``; a name without directory lies in `tests/suite/`.
pub(super) fn promises_without_test(
    text: &str,
    tests_of: impl Fn(&str) -> BTreeSet<String>,
) -> Vec<String> {
    let items = items(text);
    if items.is_empty() {
        return vec!["no sentence at all".to_owned()];
    }
    let mut violations = Vec::new();
    for item in &items {
        let cited = cited_tests(item);
        if cited.is_empty() {
            violations.push(format!("names no test: {item}"));
        }
        for (file, name) in cited {
            let path = if file.contains('/') {
                file.to_owned()
            } else {
                format!("tests/suite/{file}")
            };
            if !tests_of(&path).contains(name) {
                violations.push(format!("{path} has no test `{name}`: {item}"));
            }
        }
    }
    violations
}

/// List items, with the lines that continue them.
fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut in_item = false;
    for line in text.lines() {
        if let Some(item) = line.strip_prefix("- ") {
            items.push(item.to_owned());
            in_item = true;
        } else if let (true, Some(more), Some(item)) =
            (in_item, line.strip_prefix("  "), items.last_mut())
        {
            item.push(' ');
            item.push_str(more.trim());
        } else {
            in_item = false;
        }
    }
    items
}

/// File and function of each test in the parenthesis that ends an item.
fn cited_tests(item: &str) -> Vec<(&str, &str)> {
    let Some((_, citation)) = item
        .strip_suffix(')')
        .and_then(|item| item.rsplit_once('('))
    else {
        return Vec::new();
    };
    citation
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|span| span.split_once(": "))
        .collect()
}

mod tests {
    use super::*;

    #[test]
    fn dead_links_are_seen() {
        let exists = |path: &str| ["docs/config.md", "README.md", "docs"].contains(&path);
        let text = "[a](docs/config.md) [b](docs/confg.md)\n[c](https://example.org/x) [d](#part) [e](docs)\n";
        let dead = dead_links("README.md", text, exists);
        assert_eq!(
            dead,
            ["README.md:1: link to `docs/confg.md`, which does not exist"]
        );
        let text = "[a](../config.md#keys), [b](../../README.md), [c](config.md)\n";
        assert_eq!(dead_links("docs/formats/x.md", text, exists).len(), 1);
    }

    #[test]
    fn dead_paths_are_seen() {
        let exists = |path: &str| path == "src/lib.rs";
        let text = "`src/lib.rs`, `src/liv.rs`, `src/*.rs`, `make test`, `lib.rs`\n";
        assert_eq!(
            dead_paths("README.md", text, exists),
            ["README.md:1: `src/liv.rs` does not exist"]
        );
        assert!(dead_paths("docs/decisions/0001-x.md", text, exists).is_empty());
    }

    #[test]
    fn dead_mentions_are_seen() {
        let exists = |path: &str| path == "docs/cli.md";
        let text = "/// See docs/cli.md. And docs/clj.md; docs/x/y.md.\n//! docs/formats/*.md\n";
        assert_eq!(
            dead_mentions("src/cli.rs", text, exists),
            [
                "src/cli.rs:1: `docs/clj.md` does not exist",
                "src/cli.rs:1: `docs/x/y.md` does not exist"
            ]
        );
    }

    #[test]
    fn a_long_architecture_is_seen() {
        let text = "\n".repeat(ARCHITECTURE_LINES_MAX + 1);
        assert_eq!(long_architecture("docs/architecture.md", &text).len(), 1);
        assert!(long_architecture("docs/config.md", &text).is_empty());
    }

    #[test]
    fn sentences_without_a_test_are_seen() {
        let source = "#[test]\nfn reads_end() {\n}\nfn no_test() {\n}\n    #[test]\n    #[cfg(unix)]\n    fn other() {}\n";
        let tests_of = |path: &str| match path {
            "tests/suite/mount.rs" | "src/fs/view.rs" => test_names(source),
            _ => BTreeSet::new(),
        };
        let broken = |text: &str| promises_without_test(text, tests_of);
        let good = "# Title\nText.\n- One (really). (`mount.rs: reads_end`)\n- Two\n  lines. (`src/fs/view.rs: other`, `mount.rs: other`)\n";
        assert_eq!(broken(good), Vec::<String>::new());
        for bad in [
            "Nothing promised.\n",
            "- No test.\n",
            "- No test (`ENOENT`)\n",
            "- Gone. (`mount.rs: reads_on`)\n",
            "- No test function. (`mount.rs: no_test`)\n",
            "- Other file. (`boot.rs: reads_end`)\n",
            "- One of two. (`mount.rs: reads_end`, `mount.rs: reads_on`)\n",
        ] {
            assert_eq!(broken(bad).len(), 1, "{bad}");
        }
    }
}
