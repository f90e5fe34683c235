//! What the host does not let us read: mistakes, or left out with a warning.

use std::path::PathBuf;

use rustix::io::Errno;

use super::TreeWarning;

/// So many are named; of the others only the number is told.
const NAMED_MAX: usize = 100;

/// Files and directories that could not be read, if that is no mistake.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// Whether they are skipped.
    pub(super) skip: bool,
    named: Vec<TreeWarning>,
    more: u64,
}

impl Unreadable {
    /// Whether a refusal of the host is to be a warning.
    pub(super) fn skips(&self, error: Errno) -> bool {
        self.skip && matches!(error, Errno::ACCESS | Errno::PERM)
    }

    /// Notes one, and what becomes of it.
    pub(super) fn note(&mut self, path: PathBuf, becomes: &'static str) {
        if self.named.len() < NAMED_MAX {
            self.named.push(TreeWarning::Unreadable { path, becomes });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// A warning for each, and one for those that are not named.
    pub(super) fn into_warnings(self) -> impl Iterator<Item = TreeWarning> {
        let count = self.more;
        let more = (count > 0).then_some(TreeWarning::MoreUnreadable { count });
        self.named.into_iter().chain(more)
    }
}
