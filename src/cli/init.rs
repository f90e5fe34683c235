//! `miragefs init`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::InitArgs;
use super::error::{CliError, ErrorKind};
use super::output;
use crate::config::STARTER;

/// What the starter config is called.
const FILE_NAME: &str = "miragefs.toml";

/// Writes the starter config into a directory, which is created where it is missing.
///
/// # Errors
/// There is one already, or the host's.
pub(super) fn init(args: &InitArgs) -> Result<(), CliError> {
    if args.dir.exists() && !args.dir.is_dir() {
        let message = format!("{}: is not a directory", args.dir.display());
        let hint = format!("name a directory to write {FILE_NAME} into");
        return Err(CliError::new(ErrorKind::Usage, message).with_hint(hint));
    }
    let path = args.dir.join(FILE_NAME);
    write_new(&args.dir, &path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            let message = format!("{}: exists already", path.display());
            let hint = "it stays as it is; name another directory, or move it away";
            CliError::new(ErrorKind::Usage, message).with_hint(hint)
        } else {
            let message = format!("{}: cannot be written", path.display());
            CliError::new(ErrorKind::Runtime, message).with_source(error)
        }
    })?;
    let (path, dir) = (path.display(), args.dir.display());
    output::print(&format!(
        "wrote {path}\n\n\
         Next:\n\
         \x20 put a kernel and an initial RAM disk, vmlinuz and initrd.img, into {dir}/boot\n\
         \x20 put what the user's home is to hold into {dir}/vmuser\n\
         \x20 miragefs check {path}\n\
         \x20 miragefs mount {path} MOUNTPOINT\n"
    ))
}

/// Never overwrites: what exists is [`io::ErrorKind::AlreadyExists`].
fn write_new(dir: &Path, path: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        fs::create_dir_all(dir)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = file.write_all(STARTER.as_bytes());
    if written.is_err() {
        // Half a config helps nobody; the error says that it could not be written.
        drop(fs::remove_file(path));
    }
    written
}
