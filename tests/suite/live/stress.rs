//! Hundreds of edits under readers, loop mounts and copies: every copy that succeeds is one generation, whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::{Live, sha256};
use crate::kernel_log::KernelLog;
use crate::loops::{LoopDevice, Mount, can_mount};
use crate::mounted::{Workspace, output, require_fuse, stderr, wait_until};
use crate::support::{long_tests, next_random, noise};

const IMAGES: [&str; 3] = ["disk.img", "disk.vmdk", "boot.ova"];
/// States of the config and of the source.
const CONFIGS: u64 = 4;
const SOURCES: u64 = 3;

fn config(state: u64) -> String {
    // Each has another length, so that blocks move.
    let text = "x".repeat(usize::try_from(state * 5000 + 1).unwrap());
    format!(
        "name = \"stress\"\nsource-date-epoch = 1700000000\n[disk]\nsize = \"12MiB\"\nboot-code = \"none\"\n\
         [[partition]]\nlabel = \"data\"\nsize = \"rest\"\n\
         copy = [ {{ from = \"src\", to = \"/src\" }} ]\n\
         files = [ {{ path = \"/a.txt\", text = \"{text}\" }} ]\n"
    )
}

fn source(state: u64) -> Vec<u8> {
    noise(
        state + 100,
        usize::try_from(200_000 + state * 10_000).unwrap(),
    )
}

/// Replaces a file, so that a reader never finds half of one.
fn replace(path: &Path, contents: &[u8]) {
    let draft = path.with_extension("draft");
    fs::write(&draft, contents).unwrap();
    // The same contents always have the same time.
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    File::options()
        .append(true)
        .open(&draft)
        .unwrap()
        .set_modified(time)
        .unwrap();
    fs::rename(draft, path).unwrap();
}

/// The digests of every image in every state.
fn expected() -> BTreeMap<(&'static str, String), (u64, u64)> {
    let workspace = Workspace::new();
    let src = workspace.path().join("src");
    fs::create_dir(&src).unwrap();
    let mut known = BTreeMap::new();
    for source_state in 0..SOURCES {
        replace(&src.join("file"), &source(source_state));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        File::open(&src).unwrap().set_modified(time).unwrap();
        for config_state in 0..CONFIGS {
            fs::write(workspace.config(), config(config_state)).unwrap();
            for image in IMAGES {
                let dest = workspace.path().join("exported");
                let mut command = workspace.miragefs();
                command.arg("export").arg(workspace.config()).arg(image);
                let exported = output(command.arg(&dest));
                assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
                let digest = sha256(&fs::read(&dest).unwrap());
                known.insert((image, digest), (config_state, source_state));
            }
        }
    }
    known
}

/// What the readers found.
#[derive(Default)]
struct Tally {
    whole: AtomicUsize,
    refused: AtomicUsize,
    strangers: Mutex<Vec<String>>,
}

/// Reads an image to its end, or until a changed source refuses it; `None` then.
fn copy_of(path: &Path, random: u64) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; usize::try_from(random % 1_000_000 + 4096).unwrap()];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Some(bytes),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error}");
                return None;
            }
        }
        // Some are slower than the edits.
        if random.is_multiple_of(3) {
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

fn read_all_the_time(live: &Live, image: &'static str, seed: u64, known: &Known, scene: &Scene) {
    let mut random = seed;
    while !scene.is_over.load(Ordering::Relaxed) {
        random = next_random(random);
        let Some(bytes) = copy_of(&live.file(image), random) else {
            scene.tally.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        scene.judge(known, image, &bytes);
    }
}

/// `cp` as a process, which finds holes.
fn copy_all_the_time(live: &Live, known: &Known, scene: &Scene) {
    let dest = live.workspace().path().join("copy");
    let mut turn = 0;
    while !scene.is_over.load(Ordering::Relaxed) {
        let image = IMAGES[turn % IMAGES.len()];
        turn += 1;
        let copied = output(Command::new("cp").arg(live.file(image)).arg(&dest));
        if copied.status.success() {
            scene.judge(known, image, &fs::read(&dest).unwrap());
        } else {
            // A source changed, or an edit fell between its look at the name and its opening.
            let words = ["Stale file handle", "was replaced while being copied"];
            let told = stderr(&copied);
            assert!(words.iter().any(|word| told.contains(word)), "{told}");
            scene.tally.refused.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Mounts the file system of whatever generation there is, and reads it until a source changes.
fn mount_all_the_time(live: &Live, scene: &Scene, kernel: &mut KernelLog) {
    while !scene.is_over.load(Ordering::Relaxed) {
        let device = LoopDevice::new(&live.file("disk.img"));
        let offset = 1 << 20;
        let mount = Mount::new(device.path(), &format!("ro,loop,offset={offset}"));
        let text = fs::read(mount.path().join("a.txt")).unwrap();
        // The config's own file is there whatever happens to the sources.
        assert!(text.iter().all(|byte| *byte == b'x'));
        let lengths: Vec<u64> = (0..CONFIGS).map(|state| state * 5000 + 1).collect();
        let len = u64::try_from(text.len()).unwrap();
        assert!(lengths.contains(&len), "{len}");
        let file = mount.path().join("src/file");
        if let Ok(contents) = fs::read(&file) {
            let is_known = (0..SOURCES).any(|state| source(state) == contents);
            assert!(is_known, "{} bytes of no generation", contents.len());
        }
        mount.unmount();
        let complaints = kernel.complaints(device.name());
        // A refused read of a changed source is an I/O error of the device; nothing else is.
        let others: Vec<_> = complaints
            .iter()
            .filter(|line| !line.contains("I/O error"))
            .collect();
        assert!(others.is_empty(), "{others:?}");
        scene.mounts.fetch_add(1, Ordering::Relaxed);
    }
}

type Known = BTreeMap<(&'static str, String), (u64, u64)>;

#[derive(Default)]
struct Scene {
    is_over: AtomicBool,
    tally: Tally,
    mounts: AtomicUsize,
}

impl Scene {
    fn judge(&self, known: &Known, image: &'static str, bytes: &[u8]) {
        let digest = sha256(bytes);
        if known.contains_key(&(image, digest)) {
            self.tally.whole.fetch_add(1, Ordering::Relaxed);
        } else {
            let stranger = format!("{image}: {} bytes", bytes.len());
            self.tally.strangers.lock().unwrap().push(stranger);
        }
    }
}

/// Threads, open files and resident memory in KiB of a process.
fn resources(pid: i64) -> (usize, usize, u64) {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let resident = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (count("task"), count("fd"), resident)
}

/// How long the stress goes on: for some edits, or, as `scripts/soak.sh` has it, for some time.
struct Length {
    seconds: Option<u64>,
    start: Instant,
    edits: u64,
    edits_max: u64,
    minutes: u64,
}

impl Length {
    fn new() -> Self {
        let asked = std::env::var("MIRAGEFS_SOAK_SECONDS").ok();
        Self {
            seconds: asked.map(|seconds| seconds.parse().unwrap()),
            start: Instant::now(),
            edits: 0,
            edits_max: if long_tests() { 1000 } else { 200 },
            minutes: 0,
        }
    }

    /// Asked before each edit.
    fn is_over(&mut self) -> bool {
        self.edits += 1;
        match self.seconds {
            Some(seconds) => self.start.elapsed().as_secs() >= seconds,
            None => self.edits > self.edits_max,
        }
    }

    fn is_half(&self) -> bool {
        match self.seconds {
            Some(seconds) => self.start.elapsed().as_secs() >= seconds / 2,
            None => self.edits > self.edits_max / 2,
        }
    }

    /// Once in each minute.
    fn is_minute(&mut self) -> bool {
        let minutes = self.start.elapsed().as_secs() / 60;
        let is_new = minutes > self.minutes;
        self.minutes = minutes;
        is_new
    }
}

/// A line of counters.
#[expect(clippy::print_stdout, reason = "whoever runs a soak watches it")]
fn tell(live: &Live, pid: i64, scene: &Scene) {
    let status = live.status();
    let (threads, files, resident) = resources(pid);
    println!(
        "generation {}, {} reads of {} MiB, {} stale, {} failed; {} whole copies, {} refused, {} mounts; {threads} threads, \
         {files} descriptors, {} MiB resident",
        status["generation"],
        status["reads"],
        status["bytes_read"].as_u64().unwrap() >> 20,
        status["stale_reads"],
        status["failed_reads"],
        scene.tally.whole.load(Ordering::Relaxed),
        scene.tally.refused.load(Ordering::Relaxed),
        scene.mounts.load(Ordering::Relaxed),
        resident >> 10
    );
}

#[test]
fn every_copy_is_one_generation_whatever_is_edited_meanwhile() {
    if !require_fuse() || !can_mount() {
        return;
    }
    let Some(mut kernel) = KernelLog::from_now() else {
        return;
    };
    let known = expected();
    assert_eq!(
        known.len(),
        IMAGES.len() * usize::try_from(CONFIGS * SOURCES).unwrap()
    );
    let live = Live::new(&config(0));
    let (file, directory) = (live.source("file"), live.source(""));
    let edit_source = |state: u64| {
        replace(&file, &source(state));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        File::open(&directory).unwrap().set_modified(time).unwrap();
    };
    edit_source(0);
    live.settle();
    let mut length = Length::new();
    let pid = live.status()["pid"].as_i64().unwrap();
    let scene = Scene::default();
    let mut halfway = None;
    std::thread::scope(|threads| {
        for (seed, image) in (1..).zip(IMAGES) {
            let (live, known, scene) = (&live, &known, &scene);
            threads.spawn(move || read_all_the_time(live, image, seed, known, scene));
        }
        threads.spawn(|| copy_all_the_time(&live, &known, &scene));
        threads.spawn(|| mount_all_the_time(&live, &scene, &mut kernel));
        let over = Over(&scene.is_over);
        let mut random = 42;
        while !length.is_over() {
            random = next_random(random);
            match random % 3 {
                0 => edit_source(random / 3 % SOURCES),
                _ => replace(
                    &live.workspace().config(),
                    config(random / 3 % CONFIGS).as_bytes(),
                ),
            }
            // In bursts: what is not acted on within one shows after it.
            let pause = if (random / 7).is_multiple_of(4) {
                350
            } else {
                10
            };
            std::thread::sleep(Duration::from_millis(pause));
            if length.is_half() && halfway.is_none() {
                halfway = Some(resources(pid));
            }
            if length.is_minute() {
                tell(&live, pid, &scene);
            }
        }
        drop(over);
    });
    let strangers = scene.tally.strangers.lock().unwrap();
    assert!(strangers.is_empty(), "{strangers:?}\n{}", live.log());
    let whole = scene.tally.whole.load(Ordering::Relaxed);
    assert!(whole > 20, "{whole} whole copies only");
    assert!(scene.mounts.load(Ordering::Relaxed) > 2);
    live.settle();
    let generation = live.generation();
    assert!(generation > 20, "{generation} generations only");
    wait_until("every old generation is freed", || {
        let status = live.status();
        status["generations_read"] == serde_json::json!([status["generation"]])
    });
    assert!(!live.log().contains("ERROR"), "{}", live.log());
    let (threads, files, resident) = halfway.unwrap();
    let (threads_now, files_now, resident_now) = resources(pid);
    assert!(
        threads_now <= threads + 2,
        "{threads} threads, then {threads_now}"
    );
    assert!(
        files_now <= files + 8,
        "{files} open files, then {files_now}"
    );
    assert!(
        resident_now <= resident + resident / 2 + 8192,
        "{resident} KiB, then {resident_now} KiB"
    );
}

/// Ends the others, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_loop_device_keeps_its_generation() {
    if !require_fuse() || !can_mount() {
        return;
    }
    let live = Live::new(&config(1));
    fs::write(live.source("file"), source(0)).unwrap();
    live.settle();
    let device: PathBuf = live.file("disk.img");
    let mount = Mount::new(&device, "ro,loop,offset=1048576");
    let known = live.generation();
    for state in [2, 3, 0] {
        fs::write(live.workspace().config(), config(state)).unwrap();
        live.settle();
    }
    assert!(live.generation() > known);
    let text = fs::read(mount.path().join("a.txt")).unwrap();
    assert_eq!(text.len(), 5001);
    assert!(fs::read(mount.path().join("src/file")).unwrap() == source(0));
    mount.unmount();
}
