//! What a daemon gives up once its mount is there: capabilities, new privileges, and with Landlock everything but reading.
//!
//! Invariant: applied before any thread but the first exists, so that no thread is left out. It is never undone.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// The newest rights that are asked for; an older kernel enforces those that it knows.
const LANDLOCK_ABI: ABI = ABI::V6;

/// What the daemon gives its terminal away for.
const NULL_DEVICE: &str = "/dev/null";

/// How a mount is to be confined.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// Program and arguments of a process that calls [`serve`](super::unmounter::serve).
    pub unmounter: Vec<OsString>,
    /// Directories where files may be written; those that are not there are passed over.
    pub writable: Vec<PathBuf>,
    /// Whether sources' `trusted.*` attributes are wanted, which only `CAP_SYS_ADMIN` may read.
    pub reads_trusted: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Confined {
    capabilities: CapabilitySet,
    landlock: Result<RestrictionStatus, RulesetError>,
}

impl Confinement {
    /// Confines the calling thread, and with it all that it will start.
    pub(super) fn apply(&self) -> io::Result<Confined> {
        rustix::thread::set_no_new_privs(true)?;
        let landlock = self.restrict();
        let mut wanted = CapabilitySet::DAC_READ_SEARCH;
        wanted.set(CapabilitySet::SYS_ADMIN, self.reads_trusted);
        let capabilities = keep_capabilities(wanted)?;
        Ok(Confined {
            capabilities,
            landlock,
        })
    }

    /// Reading stays allowed everywhere: an edit of the config may name any directory.
    fn restrict(&self) -> Result<RestrictionStatus, RulesetError> {
        let all = AccessFs::from_all(LANDLOCK_ABI);
        let kept = all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
        Ruleset::default()
            .handle_access(all)?
            .handle_access(AccessNet::from_all(LANDLOCK_ABI))?
            .scope(Scope::from_all(LANDLOCK_ABI))?
            .create()?
            .add_rules(path_beneath_rules(
                ["/"],
                AccessFs::ReadFile | AccessFs::ReadDir,
            ))?
            .add_rules(path_beneath_rules(&self.writable, kept))?
            .add_rules(path_beneath_rules([NULL_DEVICE], AccessFs::WriteFile))?
            .restrict_self()
    }
}

/// Gives up all capabilities of the calling thread but `wanted`, and returns those that are left.
pub(super) fn keep_capabilities(wanted: CapabilitySet) -> io::Result<CapabilitySet> {
    let kept = capabilities(None)?.permitted & wanted;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(kept)
}

impl Confined {
    /// Whether the kernel keeps the daemon from writing.
    pub(super) fn is_read_only(&self) -> bool {
        let available = |status: &RestrictionStatus| {
            matches!(status.landlock, LandlockStatus::Available { .. })
        };
        self.landlock.as_ref().is_ok_and(available)
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("capabilities: ")?;
        if self.capabilities.is_empty() {
            f.write_str("none")?;
        }
        for (index, (name, _)) in self.capabilities.iter_names().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}CAP_{name}")?;
        }
        f.write_str("; no new privileges; Landlock: ")?;
        match &self.landlock {
            Ok(status) => match status.landlock {
                LandlockStatus::Available { effective_abi, .. } => {
                    write!(f, "version {effective_abi:?}")
                }
                LandlockStatus::NotEnabled => f.write_str("not enabled in this kernel"),
                LandlockStatus::NotImplemented => f.write_str("not in this kernel"),
            },
            Err(error) => write!(f, "refused ({error})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a thread of its own: what is given up is given up for good.
    fn confined<T: Send>(writable: PathBuf, work: impl FnOnce(&Confined) -> T + Send) -> T {
        let confinement = Confinement {
            unmounter: Vec::new(),
            writable: vec![writable],
            reads_trusted: false,
        };
        let run = || {
            let confined = confinement.apply().unwrap();
            work(&confined)
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    #[test]
    fn files_are_written_where_they_may_be_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let (open, closed) = (
            directory.path().join("open"),
            directory.path().join("closed"),
        );
        std::fs::create_dir(&open).unwrap();
        std::fs::create_dir(&closed).unwrap();
        std::fs::write(closed.join("old"), b"old").unwrap();
        confined(open.clone(), |confined| {
            let is_required = std::env::var_os("REQUIRE_ALL").is_some();
            if !confined.is_read_only() && !is_required {
                return;
            }
            std::fs::write(open.join("new"), b"new").unwrap();
            std::fs::rename(open.join("new"), open.join("renamed")).unwrap();
            assert_eq!(std::fs::read(closed.join("old")).unwrap(), b"old");
            std::fs::write(NULL_DEVICE, b"gone").unwrap();
            let denied = |result: io::Result<()>| {
                let kind = result.unwrap_err().kind();
                assert_eq!(kind, io::ErrorKind::PermissionDenied);
            };
            denied(std::fs::write(closed.join("new"), b"new"));
            denied(std::fs::write(closed.join("old"), b"new"));
            denied(std::fs::remove_file(closed.join("old")));
            denied(std::fs::create_dir(closed.join("directory")));
            denied(std::process::Command::new("/bin/true").status().map(drop));
            denied(std::net::TcpStream::connect("127.0.0.1:9").map(drop));
        });
    }

    #[test]
    fn only_capabilities_for_reading_are_left() {
        confined(PathBuf::new(), |confined| {
            let left = capabilities(None).unwrap();
            assert_eq!(
                left.permitted & !CapabilitySet::DAC_READ_SEARCH,
                CapabilitySet::empty()
            );
            assert_eq!(left.effective, left.permitted);
            assert!(rustix::thread::no_new_privs().unwrap());
            assert!(confined.to_string().starts_with("capabilities: "));
        });
    }
}
