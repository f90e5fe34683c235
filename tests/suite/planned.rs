//! Images planned from a small config over real directories, as the commands do it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use miragefs::config::spec::Spec;
use miragefs::config::{self, Environment, Loaded};
use miragefs::synth::cache::BlockCache;
use miragefs::synth::generation::{Image, PlanOptions, Planned, plan};
use miragefs::synth::plan_error::PlanErrors;

/// One partition of 32 MiB that starts at 1 MiB and holds the directory `source`; what else it can hold is small.
pub(crate) const CONFIG: &str = r#"
name = "small"
source-date-epoch = 1700000000

[[partition]]
label = "data"
size = "32MiB"
copy = [{ from = "source", to = "/", owner = "0:0" }]
files = [{ path = "/inline.txt", text = "from the config\n" }]

[images]
"disk.img" = { format = "raw" }
"disk.vmdk" = { format = "vmdk", layout = "monolithic-sparse" }
"boot.ova" = { format = "ova" }
"#;

/// First byte of the partition.
pub(crate) const PARTITION_OFFSET: u64 = 1 << 20;
/// Length of the large file.
pub(crate) const LARGE_LEN: usize = 5_000_003;

/// Writes [`CONFIG`] and its sources below `directory` and returns the config's path.
pub(crate) fn write_config(directory: &Path) -> PathBuf {
    let source = directory.join("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("large"), crate::support::noise(1, LARGE_LEN)).unwrap();
    fs::write(source.join("sub/small"), "small\n").unwrap();
    fs::write(source.join("zeros"), vec![0; 300_000]).unwrap();
    let config = directory.join("small.toml");
    fs::write(&config, CONFIG).unwrap();
    config
}

/// Plans a config.
pub(crate) fn plan_config(config: &Path) -> Planned {
    let Loaded { spec, .. } = config::load(config).unwrap();
    try_plan(&spec).unwrap()
}

/// Plans a config of this text, whose relative paths begin at `directory`.
pub(crate) fn plan_text(directory: &Path, text: &str) -> Planned {
    let path = directory.join("planned.toml");
    let Loaded { spec, .. } =
        config::load_text(text.to_owned(), &path, &Environment::default()).unwrap();
    try_plan(&spec).unwrap()
}

/// Plans what is valid so far.
pub(crate) fn try_plan(spec: &Spec) -> Result<Planned, PlanErrors> {
    let options = PlanOptions {
        cache: Arc::new(BlockCache::new(8 << 20)),
        config_mtime: 0,
        skip_unreadable: false,
        mountpoint: None,
        cache_directory: None,
        progress: None,
    };
    plan(spec, &options)
}

/// The image `name`.
pub(crate) fn image(planned: &Planned, name: &str) -> Arc<Image> {
    let mut images = planned.generation.images.iter();
    Arc::clone(images.find(|image| image.name == name).unwrap())
}

/// Runs the binary.
pub(crate) fn miragefs<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Output {
    Command::new(env!("CARGO_BIN_EXE_miragefs"))
        .env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"))
        .args(arguments)
        .output()
        .unwrap()
}
