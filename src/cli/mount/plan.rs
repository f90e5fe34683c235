//! A mount as it was asked for: on the command line, or by mount(8) for a line of fstab.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::cli::error::{CliError, ErrorKind};
use crate::cli::{
    CACHE_SIZE_DEFAULT, CacheMode, HelperArgs, MountArgs, parse_file_mode, parse_threads,
};
use crate::fs::view::FileMode;
use crate::units::parse_size;

/// Mount options that mean nothing here but stand in every fstab.
const IGNORED_OPTIONS: [&str; 26] = [
    "rw",
    "ro",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "diratime",
    "nodiratime",
    "lazytime",
    "sync",
    "async",
    "auto",
    "noauto",
    "user",
    "nofail",
    "_netdev",
    "comment",
    "defaults",
    "default-permissions",
];

/// Mount options that mean what the long option of the same name means.
const OWN_OPTIONS: [&str; 9] = [
    "foreground",
    "allow-other",
    "cache-size",
    "cache",
    "file-mode",
    "threads",
    "wait",
    "log",
    "skip-unreadable",
];

/// A mount as asked for, options merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    pub(super) config: PathBuf,
    pub(super) mountpoint: PathBuf,
    pub(super) foreground: bool,
    pub(super) allow_other: bool,
    pub(super) cache_size: u64,
    pub(super) cache: CacheMode,
    pub(super) file_mode: FileMode,
    pub(super) threads: Option<usize>,
    pub(super) wait: bool,
    pub(super) log: Option<PathBuf>,
    pub(super) skip_unreadable: bool,
    pub(super) readiness_pipe: bool,
}

impl MountPlan {
    /// What `miragefs mount` was asked for; `-o` wins over long options.
    ///
    /// # Errors
    /// An unknown mount option, or a value that is not understood.
    pub fn from_args(args: MountArgs) -> Result<Self, CliError> {
        let mut plan = Self {
            config: args.config,
            mountpoint: args.mountpoint,
            foreground: args.foreground,
            allow_other: args.allow_other,
            cache_size: args.cache_size,
            cache: args.cache,
            file_mode: args.file_mode,
            threads: args.threads,
            wait: args.wait,
            log: args.log,
            skip_unreadable: args.skip_unreadable,
            readiness_pipe: args.readiness_pipe,
        };
        plan.apply(&args.options, false)?;
        Ok(plan)
    }

    /// What mount(8) asked for.
    ///
    /// # Errors
    /// As [`MountPlan::from_args`]; with `-s` unknown options are ignored.
    pub fn from_helper_args(args: HelperArgs) -> Result<Self, CliError> {
        let mut plan = Self {
            config: args.config,
            mountpoint: args.mountpoint,
            foreground: false,
            allow_other: false,
            cache_size: parse_size(CACHE_SIZE_DEFAULT).expect("the default is a size"),
            cache: CacheMode::Keep,
            file_mode: FileMode::default(),
            threads: None,
            wait: false,
            log: None,
            skip_unreadable: false,
            readiness_pipe: false,
        };
        plan.apply(&args.options, args.sloppy)?;
        Ok(plan)
    }

    fn apply(&mut self, options: &[String], sloppy: bool) -> Result<(), CliError> {
        for option in options.iter().filter(|option| !option.is_empty()) {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            // fuse writes allow_other, our long options have hyphens.
            let hyphened = name.replace('_', "-");
            if IGNORED_OPTIONS.contains(&name)
                || hyphened == "default-permissions"
                || name.starts_with("x-")
            {
                continue;
            }
            if !self.set(&hyphened, value)? && !sloppy {
                return Err(unknown_option(name, &hyphened));
            }
        }
        Ok(())
    }

    /// Sets one of [`OWN_OPTIONS`]; `false` if `name` is none of them.
    fn set(&mut self, name: &str, value: Option<&str>) -> Result<bool, CliError> {
        match name {
            "foreground" => self.foreground = flag(name, value)?,
            "allow-other" => self.allow_other = flag(name, value)?,
            "wait" => self.wait = flag(name, value)?,
            "skip-unreadable" => self.skip_unreadable = flag(name, value)?,
            "cache-size" => {
                self.cache_size = parse_size(required(name, value)?).map_err(|error| {
                    CliError::new(ErrorKind::Usage, format!("-o {name}: {error}"))
                })?;
            }
            "cache" => {
                self.cache = CacheMode::from_str(required(name, value)?, false).map_err(|_| {
                    let message = format!("-o {name}: expected `keep` or `direct`");
                    CliError::new(ErrorKind::Usage, message)
                })?;
            }
            "file-mode" => {
                self.file_mode = parse_file_mode(required(name, value)?).map_err(|message| {
                    CliError::new(ErrorKind::Usage, format!("-o {name}: {message}"))
                })?;
            }
            "threads" => {
                let threads = parse_threads(required(name, value)?).map_err(|message| {
                    CliError::new(ErrorKind::Usage, format!("-o {name}: {message}"))
                })?;
                self.threads = Some(threads);
            }
            "log" => self.log = Some(PathBuf::from(required(name, value)?)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The command line of the process that serves this mount in the background.
    pub(super) fn background_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec![
            "mount".into(),
            "--foreground".into(),
            "--readiness-pipe".into(),
        ];
        args.extend(["--cache-size".into(), self.cache_size.to_string().into()]);
        if self.cache == CacheMode::Direct {
            args.push("--cache=direct".into());
        }
        let file_mode = format!("--file-mode={:04o}", self.file_mode.bits());
        args.push(file_mode.into());
        if let Some(threads) = self.threads {
            args.extend(["--threads".into(), threads.to_string().into()]);
        }
        if let Some(log) = &self.log {
            args.extend(["--log".into(), log.into()]);
        }
        if self.allow_other {
            args.push("--allow-other".into());
        }
        if self.wait {
            args.push("--wait".into());
        }
        if self.skip_unreadable {
            args.push("--skip-unreadable".into());
        }
        // Behind `--`, since a path may start with a hyphen.
        args.extend([
            "--".into(),
            (&self.config).into(),
            (&self.mountpoint).into(),
        ]);
        args
    }
}

fn flag(name: &str, value: Option<&str>) -> Result<bool, CliError> {
    match value {
        None => Ok(true),
        Some(value) => {
            let message = format!("-o {name}: takes no value, got `{value}`");
            Err(CliError::new(ErrorKind::Usage, message))
        }
    }
}

fn required<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, CliError> {
    value.ok_or_else(|| CliError::new(ErrorKind::Usage, format!("-o {name}: needs a value")))
}

fn unknown_option(name: &str, hyphened: &str) -> CliError {
    let error = CliError::new(ErrorKind::Usage, format!("-o {name}: unknown mount option"));
    let nearest = OWN_OPTIONS
        .iter()
        .map(|known| (strsim::damerau_levenshtein(known, hyphened), known))
        .min();
    match nearest {
        Some((distance, known)) if distance <= 2 => {
            error.with_hint(format!("did you mean `{known}`?"))
        }
        _ => error.with_hint("`miragefs help mount` lists the options"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{self, Command};

    fn plan(line: &str) -> Result<MountPlan, CliError> {
        match cli::parse(line.split_whitespace().map(OsString::from)).unwrap() {
            Command::Mount(args) => MountPlan::from_args(args),
            Command::MountHelper(args) => MountPlan::from_helper_args(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn long_options_and_mount_options_agree() {
        let long = "miragefs mount c.toml /m --foreground --allow-other --cache-size 1MiB --threads 3 --wait --skip-unreadable --log l";
        let short = "miragefs mount c.toml /m -o foreground,allow_other,cache-size=1MiB -o threads=3,wait,skip-unreadable,log=l";
        let helper = "mount.miragefs c.toml /m -o rw,nodev,foreground,allow-other,cache_size=1048576,threads=3,wait,skip_unreadable,log=l,x-systemd.automount,comment=x";
        assert_eq!(plan(long).unwrap(), plan(short).unwrap());
        assert_eq!(plan(long).unwrap(), plan(helper).unwrap());
        assert_eq!(
            plan("miragefs mount c.toml /m").unwrap(),
            plan("miragefs c.toml /m -o defaults").unwrap()
        );
    }

    #[test]
    fn a_background_mount_is_asked_for_in_full() {
        let asked = plan(
            "miragefs mount c.toml /m --allow-other --threads 3 --wait --skip-unreadable --log l",
        )
        .unwrap();
        let mut args = vec![OsString::from("miragefs")];
        args.extend(asked.background_args());
        let Command::Mount(args) = cli::parse(args).unwrap() else {
            panic!("the command is mount");
        };
        let expected = MountPlan {
            foreground: true,
            readiness_pipe: true,
            ..asked
        };
        assert_eq!(MountPlan::from_args(args).unwrap(), expected);
    }

    #[test]
    fn mistaken_mount_options_are_usage_errors() {
        for (options, message, hint) in [
            (
                "thread=3",
                "-o thread: unknown mount option",
                "did you mean `threads`?",
            ),
            (
                "umask=022",
                "-o umask: unknown mount option",
                "`miragefs help mount` lists the options",
            ),
            (
                "threads=0",
                "-o threads: `0`: expected a number from 1 to 256",
                "",
            ),
            ("cache-size", "-o cache-size: needs a value", ""),
            ("wait=no", "-o wait: takes no value, got `no`", ""),
        ] {
            let error = plan(&format!("miragefs c.toml /m -o {options}")).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.exit_code(), 2);
            assert!(error.report().contains(hint), "{}", error.report());
        }
        plan("mount.miragefs c.toml /m -s -o umask=022").unwrap();
        plan("miragefs c.toml /m -o relatime,lazytime,nodiratime,sync").unwrap();
    }
}
