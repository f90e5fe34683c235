//! `docs/cli.md` is what the program itself says of its commands.

use std::fmt::Write;
use std::path::Path;

use clap::{Command, CommandFactory};
use miragefs::cli::{self, HelperArgs};

/// Columns of the help in the reference; terminals have their own.
const WIDTH: usize = 100;

const PREAMBLE: &str = "\
# The command line

Written by the test `cli_reference` from the program's own help: `MIRAGEFS_BLESS=1 cargo test cli_reference` rewrites it.
Results go to standard output, warnings, errors and progress to standard error. An error is printed as `error: …` with
its causes, and as `hint: …` what can be done about it.
";

/// The whole file.
fn reference() -> String {
    let mut text = PREAMBLE.to_owned();
    let mut program = cli::definition().term_width(WIDTH);
    program.build();
    section(&mut text, 2, &mut program);
    let subcommands: Vec<String> = program
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set() && subcommand.get_name() != "help")
        .map(|subcommand| subcommand.get_name().to_owned())
        .collect();
    for name in subcommands {
        section(&mut text, 3, program.find_subcommand_mut(&name).unwrap());
    }
    let mut helper = HelperArgs::command().term_width(WIDTH);
    helper.build();
    section(&mut text, 2, &mut helper);
    text
}

/// A heading and the help below it.
fn section(text: &mut String, level: usize, command: &mut Command) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let heading = format!("{} `{name}`", "#".repeat(level));
    let help = command.render_long_help().to_string();
    write!(text, "\n{heading}\n\n```text\n").unwrap();
    for line in help.trim_end().lines() {
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text.push_str("```\n");
}

#[test]
fn the_reference_is_what_help_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let wanted = reference();
    if std::env::var_os("MIRAGEFS_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = (1..)
        .zip(
            wanted
                .lines()
                .zip(found.lines().chain(std::iter::repeat(""))),
        )
        .find(|(_, (wanted, found))| wanted != found);
    assert!(
        wanted == found,
        "docs/cli.md is not what --help says (first at {difference:?}); MIRAGEFS_BLESS=1 rewrites it"
    );
}

#[test]
fn every_subcommand_and_option_has_a_help_text() {
    let program = cli::definition();
    assert!(
        program.get_subcommands().count() >= 6,
        "the commands of the README"
    );
    for subcommand in program.get_subcommands() {
        let name = subcommand.get_name();
        assert!(subcommand.get_about().is_some(), "{name}");
        for argument in subcommand.get_arguments() {
            assert!(
                argument.get_help().is_some(),
                "{name} {}",
                argument.get_id()
            );
        }
    }
}
