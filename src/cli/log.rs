//! Where log lines go: stderr, a file, or syslog once there is no terminal any more.
//!
//! Invariant: one line per event, written at once; a log that cannot be written never stops a mount.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;
use signal_hook::consts::SIGXFSZ;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::util::SubscriberInitExt;

use super::error::{CliError, ErrorKind};
use crate::fs::log_tail::LogTail;

/// The socket of syslog; the journal listens there too.
const SYSLOG_SOCKET: &str = "/dev/log";

/// Facility `daemon` of RFC 3164, shifted to its place.
const FACILITY_DAEMON: u8 = 3 << 3;

enum Sink {
    Stderr,
    File(File),
    Syslog(UnixDatagram),
    Nowhere,
}

/// The log of this process.
#[derive(Clone)]
pub(super) struct Log {
    sink: Arc<RwLock<Sink>>,
    tail: Arc<LogTail>,
}

impl Log {
    /// Starts logging to `file`, else to stderr; level by `MIRAGEFS_LOG`, else info.
    ///
    /// # Errors
    /// The file cannot be opened, or the level is not understood.
    pub(super) fn start(file: Option<&Path>) -> Result<Self, CliError> {
        // A file of the cache above the limit of the shell (ulimit -f) is an error like others, and not the end.
        drop(signal_hook::flag::register(
            SIGXFSZ,
            Arc::new(AtomicBool::new(false)),
        ));
        let sink = match file {
            Some(path) => Sink::File(open(path)?),
            None => Sink::Stderr,
        };
        let log = Self {
            sink: Arc::new(RwLock::new(sink)),
            tail: Arc::default(),
        };
        let filter = EnvFilter::builder()
            .with_default_directive(LevelFilter::INFO.into())
            .with_env_var("MIRAGEFS_LOG")
            .from_env()
            .map_err(|_| {
                // Its own text says the same three times over.
                let value = std::env::var("MIRAGEFS_LOG").unwrap_or_default();
                let message = format!("MIRAGEFS_LOG=`{value}` is not understood");
                CliError::new(ErrorKind::Usage, message)
                    .with_hint("known are error, warn, info, debug and trace")
            })?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(log.clone())
            .with_timer(log.clone())
            .with_ansi(false)
            .with_target(false)
            .finish();
        // Takes fuser's messages too, which go through the `log` crate. A second start in one process keeps the
        // first log.
        drop(subscriber.try_init());
        Ok(log)
    }

    /// Leaves the terminal: what went to stderr goes to syslog from now on, if there is one.
    pub(super) fn leave_terminal(&self) {
        let mut sink = self.sink.write();
        if matches!(*sink, Sink::Stderr) {
            *sink = connect_syslog().map_or(Sink::Nowhere, Sink::Syslog);
        }
        drop(sink);
        // A panic is reported on stderr, which nobody reads any more.
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!("{}", panic.to_string().replace('\n', " "));
        }));
    }

    /// The last lines, for who looks into the mount.
    pub(super) fn tail(&self) -> Arc<LogTail> {
        Arc::clone(&self.tail)
    }

    /// The log file, if there is one.
    pub(super) fn file(&self) -> Option<File> {
        match &*self.sink.read() {
            Sink::File(file) => file.try_clone().ok(),
            Sink::Stderr | Sink::Syslog(_) | Sink::Nowhere => None,
        }
    }
}

fn open(path: &Path) -> Result<File, CliError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| {
            let message = format!("{}: log file cannot be opened", path.display());
            CliError::new(ErrorKind::Runtime, message).with_source(error)
        })
}

fn connect_syslog() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(SYSLOG_SOCKET).ok()?;
    // A log daemon that does not read must not stop readers of the mount.
    socket.set_nonblocking(true).ok()?;
    Some(socket)
}

/// A line with the time in front, if it has none.
fn stamped(line: &str) -> String {
    if line.starts_with(|c: char| c.is_ascii_digit()) {
        return line.to_owned();
    }
    let now = humantime::format_rfc3339_millis(std::time::SystemTime::now());
    format!("{now} {}", line.trim_start())
}

/// Severity of RFC 3164.
const fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

impl FormatTime for Log {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        match &*self.sink.read() {
            Sink::File(_) => SystemTime.format_time(writer),
            // The journal and syslog have a clock of their own.
            Sink::Stderr | Sink::Syslog(_) | Sink::Nowhere => Ok(()),
        }
    }
}

/// Takes one line.
pub(super) struct LineWriter {
    log: Log,
    severity: u8,
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.log.tail.push(stamped(&String::from_utf8_lossy(line)));
        let result = match &*self.log.sink.read() {
            Sink::Stderr => io::stderr().write_all(line),
            Sink::File(file) => (&mut &*file).write_all(line),
            Sink::Syslog(socket) => {
                let priority = FACILITY_DAEMON | self.severity;
                let process = std::process::id();
                let text = String::from_utf8_lossy(line);
                let message = format!("<{priority}>miragefs[{process}]: {}", text.trim());
                socket.send(message.as_bytes()).map(drop)
            }
            Sink::Nowhere => Ok(()),
        };
        // tracing would report a failure on stderr, where it is no more welcome.
        drop(result);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter {
            log: self.clone(),
            severity: severity(Level::INFO),
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> LineWriter {
        LineWriter {
            log: self.clone(),
            severity: severity(*meta.level()),
        }
    }
}
