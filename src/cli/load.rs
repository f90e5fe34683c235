//! From a config file to planned images: the one way for all subcommands.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{CliError, ErrorKind};
use crate::synth::cache::{BlockCache, Cached};
use crate::synth::generation::{Generation, Image};
use crate::synth::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use crate::units::{to_u64, to_usize};

/// What a config says, planned.
pub(super) struct Planned {
    /// The images.
    pub(super) generation: Arc<Generation>,
    /// The directories they read from.
    pub(super) source_directories: Vec<PathBuf>,
    /// What should be told but does not stop anything.
    pub(super) warnings: Vec<String>,
}

/// Reads and plans `config`; computed blocks may take `cache_size` bytes of memory.
///
/// Temporary: one image, `disk.img`, that holds the config file itself. Planning takes over here.
///
/// # Errors
/// What is wrong with the config or its sources.
pub(super) fn load_generation(config: &Path, cache_size: u64) -> Result<Planned, CliError> {
    let bytes = fs::read(config).map_err(|error| {
        CliError::new(
            ErrorKind::Config,
            format!("{}: cannot be read", config.display()),
        )
        .with_source(error)
        .with_hint("`miragefs init` writes a starter config")
    })?;
    let cache = Arc::new(BlockCache::new(cache_size));
    let source = Cached::new(Arc::new(ConfigBytes(bytes)), cache);
    let image = Image::new(
        "disk.img".to_owned(),
        Arc::new(source),
        946_684_800,
        [0; 32],
    );
    Ok(Planned {
        generation: Arc::new(Generation {
            images: vec![Arc::new(image)],
        }),
        source_directories: Vec::new(),
        warnings: Vec::new(),
    })
}

/// The bytes of the config file.
struct ConfigBytes(Vec<u8>);

impl ByteSource for ConfigBytes {
    fn len(&self) -> u64 {
        to_u64(self.0.len())
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len())?;
        let from = self.0.get(to_usize(offset)..).unwrap_or_default();
        buf.copy_from_slice(from.get(..buf.len()).unwrap_or_default());
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        Run {
            len: self.len().saturating_sub(offset),
            origin: Origin::Computed("config file"),
        }
    }

    fn explain_at(&self, offset: u64, trail: &mut Vec<Step>) {
        trail.push(Step {
            what: "config file".to_owned(),
            offset,
        });
    }
}
