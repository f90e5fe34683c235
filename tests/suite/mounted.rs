//! Mounts for tests: sources that behave on demand, guards that take mounts away, the binary as a child.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use miragefs::fs::mount::{MountOptions, Mounted};
use miragefs::fs::mountpoint;
use miragefs::synth::generation::{Generation, Image};
use miragefs::synth::source::{ByteSource, Origin, ReadError, Run, Step, check_range};
use miragefs::units::{low32, to_u64};
use tempfile::TempDir;

/// How long anything in these tests may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a [`Synthetic`] source does where it is not asked for plain bytes.
type Fault = Box<dyn Fn(u64, u64) -> Result<(), ReadError> + Send + Sync>;

/// Computed bytes and holes, in runs as given.
pub(crate) struct Synthetic {
    /// End of each run, and whether it is a hole.
    runs: Vec<(u64, bool)>,
    /// Called with start and end of every read.
    fault: Option<Fault>,
    slow: bool,
}

impl Synthetic {
    pub(crate) fn new(runs: &[(u64, bool)]) -> Self {
        Self {
            runs: runs.to_vec(),
            fault: None,
            slow: false,
        }
    }

    /// Reads go through `fault` first.
    pub(crate) fn with_fault(
        mut self,
        fault: impl Fn(u64, u64) -> Result<(), ReadError> + Send + Sync + 'static,
    ) -> Self {
        self.fault = Some(Box::new(fault));
        self
    }

    /// Reads may take unbounded time.
    pub(crate) fn slow(mut self) -> Self {
        self.slow = true;
        self
    }

    pub(crate) fn byte_at(&self, offset: u64) -> u8 {
        if self.run_at(offset).origin.is_zero() {
            return 0;
        }
        // Never zero, and different between pages and within one.
        let [low, ..] = low32(offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24).to_le_bytes();
        low | 1
    }

    /// All bytes from `start` to `end`.
    pub(crate) fn bytes(&self, start: u64, end: u64) -> Vec<u8> {
        (start..end).map(|offset| self.byte_at(offset)).collect()
    }
}

impl ByteSource for Synthetic {
    fn len(&self) -> u64 {
        self.runs.last().map_or(0, |(end, _)| *end)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buf.len(), self.len())?;
        if let Some(fault) = &self.fault {
            fault(offset, offset.saturating_add(to_u64(buf.len())))?;
        }
        for (byte, at) in buf.iter_mut().zip(offset..) {
            *byte = self.byte_at(at);
        }
        Ok(())
    }

    fn run_at(&self, offset: u64) -> Run {
        let index = self.runs.partition_point(|(end, _)| *end <= offset);
        self.runs.get(index).map_or(Run::EMPTY, |(end, hole)| Run {
            len: end.saturating_sub(offset),
            origin: if *hole {
                Origin::Zero
            } else {
                Origin::Computed("pattern")
            },
        })
    }

    fn explain_at(&self, _: u64, _: &mut Vec<Step>) {}

    fn may_block(&self, _: u64, _: u64) -> bool {
        self.slow
    }
}

/// The image `name` over `source`, from the 14th of November 2023.
pub(crate) fn image(name: &str, source: Arc<Synthetic>) -> Arc<Image> {
    Arc::new(Image::new(name.to_owned(), source, 1_700_000_000, [1; 32]))
}

/// Whether FUSE can be used here; says so if not, and fails where nothing may be skipped.
pub(crate) fn require_fuse() -> bool {
    require(Path::new("/dev/fuse").exists(), "/dev/fuse")
}

/// Whether we are root, for tests that become another user.
pub(crate) fn require_root() -> bool {
    require(rustix::process::geteuid().is_root(), "root")
}

/// Whether `program` is installed.
pub(crate) fn require_program(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    require(found.is_ok(), program)
}

fn require(available: bool, what: &str) -> bool {
    if !available {
        crate::support::skip(format!("{what} is not available"));
    }
    available
}

/// Waits until `condition` holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "still waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The type of the file system mounted at `path`, if one is.
pub(crate) fn mounted_type(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("the kernel shows our mounts");
    let wanted = path.to_str().expect("paths of these tests are UTF-8");
    let line = table
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(wanted))?;
    let (_, behind) = line.split_once(" - ")?;
    behind.split(' ').next().map(str::to_owned)
}

/// A mount in this process; taken away when dropped.
pub(crate) struct TestMount {
    path: PathBuf,
    mounted: Option<Mounted>,
    _dir: TempDir,
}

impl TestMount {
    pub(crate) fn new(images: Vec<Arc<Image>>) -> Self {
        Self::with_threads(images, None)
    }

    pub(crate) fn with_threads(images: Vec<Arc<Image>>, threads: Option<usize>) -> Self {
        let dir = tempfile::tempdir().expect("temporary directories can be made");
        let options = MountOptions {
            source_name: std::ffi::OsString::new(),
            mountpoint: dir.path().to_path_buf(),
            threads,
            ..MountOptions::default()
        };
        let mounted = Mounted::new(
            &Generation {
                images,
                pending: Vec::new(),
            },
            &options,
        )
        .expect("the mount succeeds");
        Self {
            path: mounted.path().to_path_buf(),
            mounted: Some(mounted),
            _dir: dir,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Takes the mount out of this guard's care.
    pub(crate) fn take(&mut self) -> Mounted {
        self.mounted.take().expect("it is taken once")
    }
}

impl Drop for TestMount {
    fn drop(&mut self) {
        if let Some(mounted) = self.mounted.take() {
            drop(mounted.detach());
            // Readers are gone unless the test failed; then its error is worth more than a wait.
            if !std::thread::panicking() {
                mounted.wait().expect("the session ends well");
            }
        }
    }
}

/// A directory with a config and a mount point; whatever is mounted there is taken away when dropped.
pub(crate) struct Workspace {
    dir: TempDir,
}

impl Workspace {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directories can be made");
        let workspace = Self { dir };
        fs::create_dir(workspace.mountpoint()).expect("the directory is new");
        fs::write(
            workspace.config(),
            "name = \"suite\"\n[disk]\nsize = \"16MiB\"\nboot-code = \"none\"\n\
             [[partition]]\nlabel = \"data\"\nsize = \"rest\"\n\
             files = [ { path = \"/hello.txt\", text = \"hello\\n\" } ]\n",
        )
        .expect("the directory can be written");
        workspace
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("lab.toml")
    }

    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.mountpoint().join("disk.img")
    }

    pub(crate) fn miragefs(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_miragefs"));
        command.env_remove("MIRAGEFS_LOG");
        // What an earlier test left in the user's cache would be believed.
        command.env("XDG_CACHE_HOME", self.path().join("cache"));
        command
    }

    /// `miragefs mount CONFIG MOUNTPOINT`, to which options can be added.
    pub(crate) fn mount_command(&self) -> Command {
        let mut command = self.miragefs();
        command
            .arg("mount")
            .arg(self.config())
            .arg(self.mountpoint());
        command
    }

    /// Starts `miragefs mount --foreground` and waits until it serves.
    pub(crate) fn mount_in_foreground(&self) -> Daemon {
        let child = self
            .mount_command()
            .arg("--foreground")
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the binary can be run");
        let daemon = Daemon { child };
        wait_until("the image shows", || self.image().exists());
        daemon
    }

    pub(crate) fn unmount(&self) -> Output {
        let mut command = self.miragefs();
        command.arg("unmount").arg(self.mountpoint());
        output(&mut command)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // Mostly there is nothing to take away any more.
        drop(mountpoint::unmount(&self.mountpoint(), true));
    }
}

/// Runs `command` to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().expect("the program can be run")
}

/// What a program wrote to stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A foreground mount; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("the child is ours");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child is ours").is_none()
    }

    /// Waits for its end and returns its exit code; `None` if a signal ended it.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        wait_until("the daemon ends", || !self.is_running());
        let status: io::Result<_> = self.child.wait();
        status.expect("the child is ours").code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.is_running() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
