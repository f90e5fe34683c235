//! `miragefs reload`: asks a mount for a new look at config and sources, and waits for what comes of it.
//!
//! No signal and no socket: whoever may read the file `reload` of the control directory may ask, from whatever
//! namespace he sees the mount. The file gives a ticket, and the status says when it was answered; so nobody hangs in
//! the kernel while the mount plans.

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::error::{CliError, ErrorKind};
use super::status::{self, Status};
use super::{ReloadArgs, output};

/// Between two looks at the status.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Deserialize)]
struct Ticket {
    ticket: u64,
}

/// Asks, waits, and tells.
///
/// # Errors
/// There is no mount, or there is no new generation, for the reason given.
pub(super) fn reload(args: &ReloadArgs) -> Result<(), CliError> {
    let mountpoint = &args.mountpoint;
    let status = status::parse(
        mountpoint,
        &status::control_text(mountpoint, "status.json")?,
    )?;
    let Some(machines) = status.machines else {
        return output::print(&reload_one(mountpoint, "")?);
    };
    let mut errors = Vec::new();
    for machine in machines {
        let prefix = format!("{}: ", machine.name);
        match reload_one(&mountpoint.join(&machine.name), &prefix) {
            Ok(text) => output::print(&text)?,
            Err(error) => errors.push(error),
        }
    }
    let mut errors = errors.into_iter();
    match errors.next() {
        Some(first) => Err(first.with_others(errors.collect(), 0)),
        None => Ok(()),
    }
}

fn reload_one(directory: &Path, prefix: &str) -> Result<String, CliError> {
    let text = status::control_text(directory, "reload")?;
    let Ticket { ticket } = serde_json::from_str(&text).map_err(|error| {
        let message = format!(
            "{}: the mount's answer is not understood",
            directory.display()
        );
        CliError::new(ErrorKind::Runtime, message).with_source(error)
    })?;
    let answered = wait_for(directory, ticket)?;
    let generation = answered.generation;
    let Some(answer) = answered.reload else {
        let message = format!("{}: the mount gave no answer", directory.display());
        return Err(CliError::new(ErrorKind::Runtime, message));
    };
    let mut errors = answer.errors.into_iter();
    if let Some(first) = errors.next() {
        let others = errors.map(|error| CliError::new(ErrorKind::Config, error));
        let error = CliError::new(ErrorKind::Config, format!("{prefix}{first}"));
        let error = error.with_others(others.collect(), 0);
        return Err(match answer.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        });
    }
    Ok(if answer.is_new {
        format!("{prefix}generation {generation}\n")
    } else {
        format!("{prefix}generation {generation}, as before: nothing changed\n")
    })
}

fn wait_for(directory: &Path, ticket: u64) -> Result<Status, CliError> {
    loop {
        let status = status::parse(directory, &status::control_text(directory, "status.json")?)?;
        if status
            .reload
            .as_ref()
            .is_some_and(|answer| answer.ticket >= ticket)
        {
            return Ok(status);
        }
        thread::sleep(PAUSE);
    }
}
