//! The command line: what can be typed, and one function per subcommand.
//!
//! Invariant: only here and in `main` anything is printed; results go to stdout, all else to stderr.

mod check;
mod diff_text;
mod error;
mod explain;
mod export;
mod image;
mod init;
mod load;
mod log;
mod map;
mod mount;
pub mod output;
mod planner;
mod progress;
mod reload;
mod status;
mod table;
mod unmount;
mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::error::{CliError, ErrorKind};
pub use self::mount::MountPlan;
use crate::fs::view::FileMode;
use crate::units::{SECTOR_SIZE, parse_size};

/// The default of `--cache-size`.
const CACHE_SIZE_DEFAULT: &str = "32MiB";

/// The default of `--file-mode`.
const FILE_MODE_DEFAULT: &str = "0444";

/// Workers beyond this only cost memory.
const THREADS_MAX: u64 = 256;

/// Virtual machine images that are computed when they are read.
#[derive(Debug, Parser)]
#[command(name = "miragefs", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 success, 1 failure at run time, 2 mistake in the command line or the config.\n\
    Environment: MIRAGEFS_LOG sets the level of the log (error, warn, info, debug, trace)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// A subcommand.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the images of a config as files below a directory
    Mount(MountArgs),
    /// Take a mount away; open files are served until they are closed
    Unmount(UnmountArgs),
    /// Tell what a mount shows and how it is doing
    Status(StatusArgs),
    /// Have a mount look at its config and sources again, and wait until it has
    Reload(ReloadArgs),
    /// Validate a config and its sources and print the plan
    Check(CheckArgs),
    /// Print what each save of the config or its sources changes, without a mount
    Watch(WatchArgs),
    /// Draw the disk: partitions, files, free space
    Map(MapArgs),
    /// Write one image as a real file, without FUSE
    Export(ExportArgs),
    /// Tell which structure or which source file a byte of an image comes from
    Explain(ExplainArgs),
    /// Write a commented starter config
    Init(InitArgs),
    /// How a mount that gave up its privileges has itself taken away
    #[command(hide = true)]
    Unmounter,
    /// What mount(8) and /etc/fstab call: `miragefs CONFIG MOUNTPOINT -o …`.
    #[command(skip)]
    MountHelper(HelperArgs),
}

/// `miragefs mount`.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// The config file, or a directory of configs (`*.toml`), each shown below a directory of its own
    pub config: PathBuf,
    /// An empty directory
    pub mountpoint: PathBuf,
    /// Stay in the foreground and log to stderr
    #[arg(long)]
    pub foreground: bool,
    /// Let other users read the images
    #[arg(long)]
    pub allow_other: bool,
    /// Memory for computed blocks, bookkeeping included
    #[arg(long, value_name = "SIZE", default_value = CACHE_SIZE_DEFAULT, value_parser = parse_size)]
    pub cache_size: u64,
    /// What the kernel keeps of what was read: `keep` all pages while there is memory, `direct` none, which is faster for
    /// mounts that are only copied from
    #[arg(long, value_enum, default_value_t = CacheMode::Keep)]
    pub cache: CacheMode,
    /// Permission bits of the images, in octal: 0444, or fewer
    #[arg(long, value_name = "MODE", default_value = FILE_MODE_DEFAULT, value_parser = parse_file_mode)]
    pub file_mode: FileMode,
    /// Reads that are worked on at once [default: one per CPU, 2 to 8]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    pub threads: Option<usize>,
    /// Return only once all images can be read, those that need an index too; after an edit, show the old ones until then
    #[arg(long)]
    pub wait: bool,
    /// Leave out what cannot be read, with warnings, instead of refusing
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Append the log to FILE instead of stderr or syslog
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Mount options; each option above is one too
    #[arg(short, value_name = "OPT,OPT=VALUE", value_delimiter = ',')]
    pub options: Vec<String>,
    /// Say `ready` on stdout, then leave the terminal: how a background mount starts itself
    #[arg(long, hide = true, requires = "foreground")]
    pub readiness_pipe: bool,
}

/// What the kernel keeps of what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CacheMode {
    /// Pages stay as long as there is memory
    Keep,
    /// Every read is asked of the daemon
    Direct,
}

/// `miragefs unmount`.
#[derive(Debug, Args)]
pub struct UnmountArgs {
    /// Where the images are mounted
    pub mountpoint: PathBuf,
    /// Do not wait for open files: reads of them fail from now on
    #[arg(long)]
    pub now: bool,
}

/// `miragefs status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the images are mounted, or the directory of one machine in it
    pub mountpoint: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `miragefs reload`.
#[derive(Debug, Args)]
pub struct ReloadArgs {
    /// Where the images are mounted, or the directory of one machine in it
    pub mountpoint: PathBuf,
}

/// `miragefs check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The config file
    pub config: PathBuf,
    /// Leave out what cannot be read, with warnings, instead of refusing
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `miragefs watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The config file
    pub config: PathBuf,
    /// Leave out what cannot be read, with warnings, instead of refusing
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Print a line of JSON for each generation
    #[arg(long)]
    pub json: bool,
}

/// `miragefs map`.
#[derive(Debug, Args)]
pub struct MapArgs {
    /// The config file
    pub config: PathBuf,
    /// A file ending in .svg, .html or .json, a directory for all three, or `-` for standard output
    #[arg(default_value = "-")]
    pub dest: PathBuf,
    /// What to write to standard output
    #[arg(long, value_enum, default_value_t = MapFormat::Svg)]
    pub format: MapFormat,
    /// Leave out what cannot be read, with warnings, instead of refusing
    #[arg(long)]
    pub skip_unreadable: bool,
}

/// How a disk is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MapFormat {
    /// A picture
    Svg,
    /// A page to move about in
    Html,
    /// What is drawn, as data
    Json,
}

/// `miragefs export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The config file
    pub config: PathBuf,
    /// Name of the image, as `check` lists it
    pub image: String,
    /// A file, a directory, a block device, or `-` for standard output
    pub dest: PathBuf,
    /// Leave out what cannot be read, with warnings, instead of refusing
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Write to a block device
    #[arg(long)]
    pub force: bool,
    /// Share blocks with the sources instead of copying them, where XFS or btrfs can
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ReflinkArg::Auto)]
    pub reflink: ReflinkArg,
}

/// As cp(1) has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReflinkArg {
    /// Where it is possible
    Auto,
    /// Fail where it is not
    Always,
    /// Write every byte
    Never,
}

/// `miragefs explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The config file
    pub config: PathBuf,
    /// Name of the image, as `check` lists it
    pub image: String,
    /// 1049600, 0x100400, 1MiB, 2048s or lba:2048
    #[arg(value_parser = parse_offset)]
    pub offset: u64,
    /// Leave out what cannot be read, with warnings, instead of refusing
    #[arg(long)]
    pub skip_unreadable: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `miragefs init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write it
    #[arg(default_value = ".")]
    pub dir: PathBuf,
}

/// The arguments that mount(8) gives its helpers (mount(8), "External helpers").
#[derive(Debug, Parser)]
#[command(
    name = "mount.miragefs",
    version,
    about = "Show the images of a config as files below a directory"
)]
pub struct HelperArgs {
    /// The config file
    pub config: PathBuf,
    /// An empty directory
    pub mountpoint: PathBuf,
    /// Mount options
    #[arg(short, value_name = "OPT,OPT=VALUE", value_delimiter = ',')]
    pub options: Vec<String>,
    /// Ignore unknown mount options
    #[arg(short)]
    pub sloppy: bool,
    /// Do everything but mount
    #[arg(short)]
    pub fake: bool,
    /// Ignored: there is no /etc/mtab
    #[arg(short)]
    pub no_mtab: bool,
    /// Ignored
    #[arg(short)]
    pub verbose: bool,
    /// Ignored
    #[arg(short = 'N', value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Ignored
    #[arg(short = 't', value_name = "TYPE")]
    pub file_system_type: Option<String>,
}

fn parse_threads(text: &str) -> Result<usize, String> {
    text.parse::<u64>()
        .ok()
        .filter(|count| (1..=THREADS_MAX).contains(count))
        .map(crate::units::to_usize)
        .ok_or_else(|| format!("`{text}`: expected a number from 1 to {THREADS_MAX}"))
}

fn parse_file_mode(text: &str) -> Result<FileMode, String> {
    u16::from_str_radix(text, 8)
        .ok()
        .and_then(FileMode::new)
        .ok_or_else(|| format!("`{text}`: expected 0400, 0440 or 0444: images are read-only"))
}

fn parse_offset(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("lba:") {
        Some(lba) => lba
            .parse::<u64>()
            .ok()
            .and_then(|lba| lba.checked_mul(SECTOR_SIZE))
            .ok_or_else(|| format!("`{text}`: expected a sector number behind `lba:`"))?,
        None => parse_size(text).map_err(|error| error.to_string())?,
    };
    Ok(parsed)
}

/// Reads the command line, the program's name first.
///
/// # Errors
/// clap's: a mistake, or a request for help or the version; it knows its text and its exit code.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    if is_helper_call(&args) {
        return HelperArgs::try_parse_from(args).map(Command::MountHelper);
    }
    Cli::try_parse_from(args).map(|cli| cli.command)
}

/// All that can be typed, for the reference in the docs.
#[must_use]
pub fn definition() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Whether mount(8) called: by our name, or because the first argument is a file instead of a subcommand.
fn is_helper_call(args: &[OsString]) -> bool {
    let program = args.first().map(Path::new).and_then(Path::file_name);
    if program.is_some_and(|name| name == "mount.miragefs" || name == "mount.fuse.miragefs") {
        return true;
    }
    let Some(first) = args
        .get(1)
        .filter(|first| !first.as_encoded_bytes().starts_with(b"-"))
    else {
        return false;
    };
    let is_subcommand = definition()
        .get_subcommands()
        .any(|known| *known.get_name() == **first)
        || first == "help";
    // A mistyped subcommand should be told so, a config that does not exist too.
    let looks_like_a_path = first.as_encoded_bytes().contains(&b'/')
        || Path::new(first).extension().is_some()
        || Path::new(first).is_file();
    !is_subcommand && looks_like_a_path
}

/// Runs a subcommand and returns the exit code.
///
/// # Errors
/// [`CliError`], to be reported on stderr.
pub fn run(command: Command) -> Result<u8, CliError> {
    match command {
        Command::Mount(args) => mount::mount(&MountPlan::from_args(args)?),
        Command::MountHelper(args) => {
            let fake = args.fake;
            let plan = MountPlan::from_helper_args(args)?;
            if fake { Ok(0) } else { mount::mount(&plan) }
        }
        Command::Unmount(args) => unmount::unmount(&args).map(|()| 0),
        Command::Status(args) => status::status(&args).map(|()| 0),
        Command::Reload(args) => reload::reload(&args).map(|()| 0),
        Command::Check(args) => check::check(&args).map(|()| 0),
        Command::Watch(args) => watch::watch(&args).map(|()| 0),
        Command::Map(args) => map::map(&args).map(|()| 0),
        Command::Export(args) => export::export(&args).map(|()| 0),
        Command::Explain(args) => explain::explain(&args).map(|()| 0),
        Command::Unmounter => unmount::serve().map(|()| 0),
        Command::Init(args) => init::init(&args).map(|()| 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
        <HelperArgs as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn mistakes_exit_with_2_and_help_with_0() {
        for (line, code) in [
            ("miragefs", 2),
            ("miragefs mout lab /m", 2),
            ("miragefs mount lab.toml", 2),
            ("miragefs mount lab.toml /m --threads 0", 2),
            ("miragefs mount lab.toml /m --cache-size 3MB", 2),
            ("miragefs explain lab.toml disk.img lba:x", 2),
            ("miragefs --version", 0),
            ("miragefs help mount", 0),
        ] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), code, "{line}");
        }
    }

    #[test]
    fn helpers_are_recognised() {
        for (line, helper) in [
            ("miragefs /etc/lab.toml /m -o rw,nosuid", true),
            ("miragefs lab.toml /m", true),
            (
                "/sbin/mount.miragefs lab /m -n -o ro -t fuse.miragefs",
                true,
            ),
            ("miragefs mount lab.toml /m", false),
        ] {
            let command = parsed(line).unwrap();
            assert_eq!(matches!(command, Command::MountHelper(_)), helper, "{line}");
        }
    }

    #[test]
    fn offsets_take_all_forms() {
        for (text, offset) in [
            ("1049600", 1_049_600),
            ("0x100400", 0x0010_0400),
            ("1MiB", 1 << 20),
            ("2048s", 1 << 20),
            ("lba:2048", 1 << 20),
        ] {
            assert_eq!(parse_offset(text), Ok(offset), "{text}");
        }
        assert!(parse_offset("lba:36028797018963968").is_err());
    }
}
