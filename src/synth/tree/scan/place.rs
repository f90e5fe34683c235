//! Where something of the source is, there and in the tree.

use std::cell::{OnceCell, RefCell};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use super::super::NodeId;
use super::listing::{Extra, Metadata};
use crate::synth::host_file::DirectoryId;

/// A directory of the source that is in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub(super) node: NodeId,
    /// As the planned files know it.
    pub(super) directory: DirectoryId,
    /// Whether some users of the host may not look into it.
    pub(super) is_closed: bool,
}

/// A directory of the source and where it is in the tree.
#[derive(Clone)]
pub(super) enum Place {
    Made(Made),
    /// It comes into the tree with the first thing below it that is taken.
    OnTheWay(Rc<OnTheWay>),
}

pub(super) struct OnTheWay {
    pub(super) above: Place,
    pub(super) relative: Arc<Path>,
    pub(super) name: Box<[u8]>,
    pub(super) metadata: Metadata,
    pub(super) extra: RefCell<Extra>,
    pub(super) made: OnceCell<Made>,
}

/// Something in a directory of the source.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    /// The directory, below the source.
    pub(super) relative: &'a Path,
    pub(super) name: &'a [u8],
    pub(super) metadata: &'a Metadata,
}
