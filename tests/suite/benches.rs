//! The scripts of `benches/` that compare with other programs run and print their tables. Times neither pass nor fail.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::mounted::require_fuse;
use crate::support::{long_tests, noise, require_tool};

fn have_tools() -> bool {
    require_fuse()
        && ["python3", "mke2fs", "time", "find", "du"]
            .into_iter()
            .all(require_tool)
}

/// What a script prints.
#[expect(
    clippy::print_stdout,
    reason = "the tables are what `make test-long` shows"
)]
fn output_of(script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(script)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .env("MIRAGEFS", env!("CARGO_BIN_EXE_miragefs"))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {text}\n{errors}");
    println!("{text}{errors}");
    text
}

/// A program of `benches/`, which cargo builds beside the tests.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().unwrap().parent().unwrap();
    profile.join("examples").join(name)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Cells of the rows of a table that begin with `first`.
fn rows<'a>(text: &'a str, first: &str) -> Vec<Vec<&'a str>> {
    let begin = format!("| {first} |");
    text.lines()
        .filter(|line| line.starts_with(&begin))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The number that a cell begins with.
fn number(cell: &str) -> f64 {
    let digits = cell.split(' ').next().unwrap().replace(',', "");
    digits.parse().unwrap()
}

#[test]
fn many_small_files_are_compared_with_mke2fs() {
    if !have_tools() {
        return;
    }
    let (sizes, rounds): (&[&str], _) = if long_tests() {
        (&["10000", "100000", "1000000"], "3")
    } else {
        (&["10000"], "1")
    };
    let text = output_of("benches/tree.sh", sizes, &[("ROUNDS", rounds)]);
    for command in [
        "`find -printf`",
        "`miragefs check`",
        "`miragefs mount` to the first byte",
        "`mke2fs -d`",
    ] {
        let found = rows(&text, command);
        assert_eq!(found.len(), sizes.len(), "{command}: {text}");
        for row in found {
            assert!(row[1..].iter().all(|cell| number(cell) > 0.0), "{row:?}");
        }
    }
}

#[test]
fn edits_are_compared_with_mke2fs() {
    if !have_tools() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    for index in 0..400 {
        let at = tree.join(format!("{}/{}", index % 7, index % 40));
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join(format!("{index}")), noise(index, 20_000)).unwrap();
    }
    let arguments = [tree.to_str().unwrap()];
    let text = output_of("benches/edits.sh", &arguments, &[("EDITS", "3")]);
    let unchanged = text
        .lines()
        .filter(|line| line.ends_with(" 0 differ without an edit"))
        .count();
    assert!(unchanged >= 2, "a layout changes without an edit: {text}");
    for kind in ["grow by a block", "add a file", "delete a file"] {
        let found = rows(&text, kind);
        assert_eq!(found.len(), unchanged, "{kind}: {text}");
        for row in found {
            // At least the inode changes.
            let share = number(row[6]);
            assert!(share > 0.0 && share <= 100.0, "{row:?}");
        }
    }
}

#[test]
fn the_read_path_is_compared_with_other_servers() {
    if !require_fuse() || !["python3", "tar", "cp"].into_iter().all(require_tool) {
        return;
    }
    let reader = example("read_path");
    assert!(
        reader.exists(),
        "`cargo build --examples` is missing; `cargo test` does it"
    );
    let variables = [("READ_PATH", reader.to_str().unwrap())];
    let text = output_of("benches/read_path.sh", &["--quick"], &variables);
    let mut subjects = vec!["real file", "zeros server", "pread server"];
    for (name, programs) in [
        ("xmount", &["xmount"][..]),
        ("nbdkit + nbdfuse", &["nbdkit", "nbdfuse"]),
        ("qemu-storage-daemon", &["qemu-storage-daemon"]),
    ] {
        // Only `setup.sh bench` installs them: their absence is no failure, and the program names it.
        let missing = programs.iter().find(|program| !is_installed(program));
        match missing {
            None => subjects.push(name),
            Some(program) => {
                let line = format!("left out: {program} is not installed");
                assert!(text.contains(&line), "{line}: {text}");
            }
        }
    }
    subjects.extend(["disk.img", "disk.vmdk", "boot.ova"]);
    for state in ["warm", "cold", "O_DIRECT"] {
        for work in ["1 MiB in sequence", "4 KiB at random"] {
            for readers in ["", ", 4 readers"] {
                let title = format!("{state}, {work}{readers} (");
                let begin = text.find(&title).expect(&title);
                let section: Vec<_> = text[begin..].lines().skip(1).collect();
                for (line, name) in section.iter().zip(&subjects) {
                    assert!(line.trim_start().starts_with(name), "{title}: {line}");
                }
            }
        }
    }
    for what in [
        "export of disk.img to cp",
        "2,000 small files: disk.img in sequence to tar",
    ] {
        assert!(text.contains(what), "{what}: {text}");
    }
}

#[test]
fn compressed_images_are_compared_with_qemu_img() {
    let tools = ["python3", "qemu-img", "cp"];
    if !require_fuse() || !tools.into_iter().all(require_tool) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for index in 0..100 {
        fs::write(tree.join(format!("{index}")), noise(index, 100_000)).unwrap();
    }
    let arguments = [tree.to_str().unwrap()];
    let variables = [("ROUNDS", "1"), ("LEVELS", "1 6")];
    let text = output_of("benches/deflate.sh", &arguments, &variables);
    for level in [1, 6] {
        let sizes = ["", ", once more", ", one file touched"].map(|what| {
            let found = rows(&text, &format!("index, level {level}{what}"));
            assert_eq!(found.len(), 1, "{text}");
            number(found[0][4])
        });
        // Noise stays what it is.
        assert!(
            sizes.iter().all(|size| (9.5..12.0).contains(size)),
            "{text}"
        );
    }
    let converted = rows(&text, "`qemu-img convert`");
    assert_eq!(number(converted[0][2]), 1.0);
    for what in ["front to back", "the same 4 MiB again"] {
        let found = rows(&text, what);
        assert!(
            found[0][1..].iter().all(|cell| number(cell) > 0.0),
            "{text}"
        );
    }
}
