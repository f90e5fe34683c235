//! `miragefs export`.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use super::error::{CliError, ErrorKind};
use super::load::{self, LoadOptions};
use super::log::Log;
use super::{ExportArgs, ReflinkArg, image, output};
use crate::config::spec::{BootCode, Spec};
use crate::export::{self, ExportError, ExportOptions, Exported, Progress, Reflink, Transfer};
use crate::units::ByteCount;

/// Writes one image.
///
/// # Errors
/// Config, destination, a source that changed, a signal.
pub(super) fn export(args: &ExportArgs) -> Result<(), CliError> {
    let to_stdout = args.dest == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        let error = CliError::new(ErrorKind::Usage, "standard output is a terminal");
        return Err(error.with_hint("name a file, or redirect it"));
    }
    // For what an index has to tell.
    Log::start(None)?;
    let asked = LoadOptions::usual(args.skip_unreadable);
    let loaded = load::load(&args.config, &asked)?;
    output::warn(&loaded.warnings);
    let image = image::find(&loaded.planned.generation, &args.image)?;
    let mut sources = loaded.sources();
    sources.extend(files_of_config(&loaded.spec));
    let cancel = Arc::new(AtomicBool::new(false));
    if !to_stdout {
        cancel_on_signals(&cancel)?;
    }
    let options = ExportOptions {
        force: args.force,
        reflink: match args.reflink {
            ReflinkArg::Auto => Reflink::Auto,
            ReflinkArg::Always => Reflink::Always,
            ReflinkArg::Never => Reflink::Never,
        },
        sources: &sources,
        cancel: &cancel,
    };
    let bar = bar();
    let mut show = |progress: Progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    };
    let result = if to_stdout {
        export::to_stream(&image, &mut io::stdout().lock(), &options, &mut show).map(|()| None)
    } else {
        export::to_path(&image, &args.dest, &options, &mut show).map(Some)
    };
    bar.finish_and_clear();
    match result {
        Ok(None) => Ok(()),
        Ok(Some(exported)) => output::print(&summary(&exported)),
        Err(error) => Err(to_cli_error(&error)),
    }
}

/// What was written, and how.
fn summary(exported: &Exported) -> String {
    let Transfer {
        shared,
        copied,
        written,
        unaligned,
    } = exported.transfer;
    let mut line = format!(
        "{}: {} shared with the sources, {} copied by the kernel, {} written\n",
        exported.path.display(),
        ByteCount(shared),
        ByteCount(copied),
        ByteCount(written)
    );
    if unaligned > 0 {
        line.push_str(&format!(
            "not shared: {}, which do not lie on whole blocks in the image\n",
            ByteCount(unaligned)
        ));
    }
    line
}

/// What is read besides the sources.
fn files_of_config(spec: &Spec) -> impl Iterator<Item = std::path::PathBuf> {
    let boot_code = match &spec.disk.boot_code {
        BootCode::None => None,
        BootCode::File(path) => Some(path.clone()),
    };
    let partitions = spec.partitions.iter();
    let manifests = partitions
        .flat_map(|partition| &partition.copies)
        .filter_map(|copy| copy.owners.clone());
    [
        Some(spec.config_path.clone()),
        boot_code,
        spec.extlinux.clone(),
        spec.vm
            .template
            .as_ref()
            .map(|template| template.path.clone()),
    ]
    .into_iter()
    .flatten()
    .chain(manifests)
}

/// The first signal lets the export clean up, a second one ends the process. Towards a pipe there is nothing to clean
/// up, and the first one ends it even while the pipe is full.
fn cancel_on_signals(cancel: &Arc<AtomicBool>) -> Result<(), CliError> {
    let register = || -> io::Result<()> {
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(cancel))?;
            signal_hook::flag::register(signal, Arc::clone(cancel))?;
        }
        // A file above the limit of the shell (ulimit -f) is an error like others, and not the end.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(())
    };
    register().map_err(|error| {
        CliError::new(ErrorKind::Runtime, "signals cannot be caught").with_source(error)
    })
}

/// Drawn only on a terminal.
fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{wide_bar} {percent}% {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    )
    .expect("the template is well-formed");
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar
}

fn to_cli_error(error: &ExportError) -> CliError {
    let kind = if error.is_usage() {
        ErrorKind::Usage
    } else {
        ErrorKind::Runtime
    };
    let reported = CliError::from_error(kind, error);
    match error.hint() {
        Some(hint) => reported.with_hint(hint),
        None => reported,
    }
}
