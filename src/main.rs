//! Parses the command line, runs it, prints errors.

use std::io::Write;
use std::process::ExitCode;

use miragefs::cli;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // A closed pipe is no reason to fail: whoever reads the help has seen enough.
            drop(error.print());
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match cli::run(command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            drop(writeln!(std::io::stderr(), "{}", error.report()));
            ExitCode::from(error.exit_code())
        }
    }
}
