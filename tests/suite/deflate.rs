//! Really compressed grains: their index, what is kept of it between mounts, and what readers see.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use miragefs::config::{self, Environment};
use miragefs::formats::vmdk::deflate::GrainCompressor;
use miragefs::synth::cache::BlockCache;
use miragefs::synth::generation::{Image, PlanOptions, Planned, plan};
use miragefs::synth::grain_index::{IndexError, IndexState};
use miragefs::synth::pending::PrepareError;
use miragefs::synth::source::ReadError;
use miragefs::units::to_u64;

use crate::support::conformance::check_byte_source;
use crate::support::{noise, read, require_tool, run, run_text, write_to_file};

/// Two files of a few MiB that compress, one that does not, in a partition with room.
struct Lab {
    directory: tempfile::TempDir,
}

const CONFIG: &str = r#"
name = "packed"
source-date-epoch = 1700000000
[[partition]]
label = "data"
size = "32MiB"
copy = [{ from = "source", to = "/" }]
[images]
"disk.img" = { format = "raw" }
"boot.ova" = { format = "ova", compression = "deflate" }
"disk.vmdk" = { format = "vmdk", layout = "stream-optimized", compression = "deflate", level = 1, grain-directory = "front" }
"lab.ovf" = { format = "ovf", compression = "deflate", level = 12, manifest = "sha1" }
"#;

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("text"), text(3_000_000, "one")).unwrap();
        fs::write(source.join("more"), text(2_000_001, "two")).unwrap();
        fs::write(source.join("noise"), noise(5, 500_000)).unwrap();
        fs::write(source.join("zeros"), vec![0; 400_000]).unwrap();
        fs::write(directory.path().join("lab.toml"), CONFIG).unwrap();
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    fn plan(&self) -> Planned {
        let config = self.path().join("lab.toml");
        let loaded = config::load_text(
            fs::read_to_string(&config).unwrap(),
            &config,
            &Environment::default(),
        )
        .unwrap();
        let options = PlanOptions {
            cache: Arc::new(BlockCache::new(8 << 20)),
            config_mtime: 0,
            skip_unreadable: false,
            mountpoint: None,
            cache_directory: Some(self.cache()),
            progress: None,
        };
        plan(&loaded.spec, &options).unwrap()
    }

    /// Prepares one image and tells what that took.
    fn prepare(&self, name: &str) -> (Vec<Arc<Image>>, IndexState) {
        let planned = self.plan();
        let mut pending = planned.generation.pending.iter();
        let pending = pending.find(|image| image.name() == name).unwrap();
        let images = pending.prepare().unwrap();
        (images, pending.progress().state())
    }

    fn store(&self) -> PathBuf {
        let mut found: Vec<_> = fs::read_dir(self.cache())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "grains"))
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

/// Lines that compress to about a third.
fn text(len: usize, word: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut state: u64 = 1;
    while bytes.len() < len {
        state = crate::support::next_random(state);
        bytes.extend_from_slice(format!("{word} {:08x} of many\n", state >> 32).as_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn images_wait_for_their_index() {
    let lab = Lab::new();
    let planned = lab.plan();
    let ready: Vec<_> = planned
        .generation
        .images
        .iter()
        .map(|image| &image.name)
        .collect();
    assert_eq!(ready, ["disk.img"]);
    let names: Vec<_> = planned
        .generation
        .pending
        .iter()
        .map(|image| image.names().to_vec())
        .collect();
    assert_eq!(
        names,
        [
            vec!["boot.ova"],
            vec!["disk.vmdk"],
            vec!["lab.ovf", "lab-disk1.vmdk", "lab.mf"]
        ]
    );
    for pending in &planned.generation.pending {
        let images = pending.prepare().unwrap();
        let found: Vec<_> = images.iter().map(|image| image.name.clone()).collect();
        assert_eq!(found, pending.names());
        let len: u64 = images.iter().map(|image| image.source.len()).sum();
        assert!(len < pending.len_at_most().unwrap());
        for image in images {
            check_byte_source(&*image.source);
        }
    }
}

/// What independent readers make of compressed grains.
#[test]
fn tools_read_compressed_grains() {
    let lab = Lab::new();
    let raw = lab.path().join("disk.img");
    write_to_file(&*lab.plan().generation.images[0].source, &raw);
    for name in ["disk.vmdk", "lab.ovf"] {
        let (images, _) = lab.prepare(name);
        for image in &images {
            write_to_file(&*image.source, &lab.path().join(&image.name));
        }
        let vmdk = images
            .iter()
            .find(|image| image.name.ends_with(".vmdk"))
            .unwrap();
        let path = lab.path().join(&vmdk.name);
        let stored = fs::metadata(&raw).unwrap().len() / 4;
        assert!(
            vmdk.source.len() < stored,
            "{} is no compression",
            vmdk.source.len()
        );
        if require_tool("qemu-img") {
            let checked = run_text("qemu-img", ["check", "-f", "vmdk", text_of(&path)]);
            assert!(checked.contains("No errors were found"), "{checked}");
            let arguments = [
                "compare",
                "-f",
                "raw",
                "-F",
                "vmdk",
                text_of(&raw),
                text_of(&path),
            ];
            assert_eq!(run_text("qemu-img", arguments), "Images are identical.\n");
        }
        // 7-Zip wants the directory behind the grains.
        if name == "lab.ovf" && require_tool("7zz") {
            let extracted = run("7zz", ["x", "-so", "-tvmdk", text_of(&path)]);
            assert!(
                extracted == fs::read(&raw).unwrap(),
                "7zz extracts other bytes"
            );
        }
    }
    let sums = fs::read_to_string(lab.path().join("lab.mf")).unwrap();
    for (line, name) in sums.lines().zip(["lab.ovf", "lab-disk1.vmdk"]) {
        let sum = run_text("sha1sum", [lab.path().join(name)]);
        assert_eq!(line, format!("SHA1({name})= {}", &sum[..40]));
    }
}

#[test]
fn a_touched_file_costs_its_own_grains() {
    let lab = Lab::new();
    let (first, state) = lab.prepare("boot.ova");
    assert_eq!((state.known, state.compressed), (0, state.grains));
    assert!(state.grains > 80, "{state:?}");
    let (second, state) = lab.prepare("boot.ova");
    assert_eq!((state.known, state.compressed), (state.grains, 0));
    let whole = |images: &[Arc<Image>]| read(&*images[0].source, 0, images[0].source.len());
    assert!(
        whole(&first) == whole(&second),
        "an index gives other bytes than none"
    );
    // Same length, so that nothing else of the disk moves.
    let path = lab.path().join("source/more");
    fs::write(&path, text(2_000_001, "TWO")).unwrap();
    let (third, state) = lab.prepare("boot.ova");
    // 31 grains of the file, those it shares, and metadata: bitmaps, the inode and its group's descriptors.
    assert!((30..=40).contains(&state.compressed), "{state:?}");
    assert!(whole(&third) != whole(&second));
    assert_eq!(lab.prepare("boot.ova").1.compressed, 0);
}

/// Each grain is in the file before the next one is begun.
#[test]
fn an_end_in_the_middle_loses_little() {
    let lab = Lab::new();
    let planned = lab.plan();
    // Its level is the slowest.
    let pending = Arc::clone(&planned.generation.pending[2]);
    let worker = Arc::clone(&pending);
    let thread = std::thread::spawn(move || worker.prepare());
    while pending.progress().state().compressed < 5 {
        assert!(!thread.is_finished(), "ended by itself");
        std::thread::yield_now();
    }
    pending.progress().stop();
    let result = thread.join().unwrap();
    assert!(matches!(
        result,
        Err(PrepareError::Index(IndexError::Stopped))
    ));
    let done = pending.progress().state().compressed;
    drop((planned, pending));
    let (_, state) = lab.prepare("lab.ovf");
    assert_eq!(state.known, done);
    assert_eq!(state.compressed, state.grains - done);
}

#[test]
fn a_killed_process_loses_little() {
    let lab = Lab::new();
    let config = lab.path().join("lab.toml");
    let mut child = Command::new(env!("CARGO_BIN_EXE_miragefs"))
        .args(["export", text_of(&config), "boot.ova", "-"])
        .env("XDG_CACHE_HOME", lab.path().join("xdg"))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let directory = lab.path().join("xdg/miragefs");
    let record_bytes = || {
        let entries = fs::read_dir(&directory).into_iter().flatten();
        let sizes = entries.map(|entry| entry.unwrap().metadata().unwrap().len());
        sizes.max().unwrap_or(0)
    };
    while record_bytes() < 5 * 32 {
        assert!(child.try_wait().unwrap().is_none(), "ended by itself");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let kept = record_bytes();
    fs::rename(&directory, lab.cache()).unwrap();
    let (_, state) = lab.prepare("boot.ova");
    assert!(state.known >= kept / 32 - 1, "{state:?} of {kept} bytes");
}

#[test]
fn damaged_indexes_are_made_anew() {
    let lab = Lab::new();
    let (first, before) = lab.prepare("boot.ova");
    let path = lab.store();
    let sound = fs::read(&path).unwrap();
    for (damaged, known) in [
        (sound[..sound.len() - 7].to_vec(), before.grains - 1),
        (b"no index at all".to_vec(), 0),
        (Vec::new(), 0),
    ] {
        fs::write(&path, damaged).unwrap();
        let (images, state) = lab.prepare("boot.ova");
        assert_eq!(state.known, known);
        let [ours, theirs] = [&first, &images].map(|images| {
            let source = &images[0].source;
            read(&**source, 0, source.len())
        });
        assert!(ours == theirs);
        assert_eq!(fs::metadata(&path).unwrap().len(), to_u64(sound.len()));
    }
}

/// An index that lies is found out by the reader, not by the machine that boots from it.
#[test]
fn grains_that_do_not_fit_their_index_are_not_served() {
    let lab = Lab::new();
    lab.prepare("boot.ova");
    let path = lab.store();
    let mut bytes = fs::read(&path).unwrap();
    // Behind header and key of a record: the length, the checksum of the stream, and at its end its own checksum.
    let record = &mut bytes[32 + 32 * 20..32 + 32 * 21];
    record[20] ^= 1;
    let sum = crc32fast::hash(&record[..28]);
    record[28..].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let (images, state) = lab.prepare("boot.ova");
    assert_eq!(state.compressed, 0);
    let ova = &images[0].source;
    let mut buf = vec![0; 65_536];
    let mut failures = 0;
    for offset in (0..ova.len() - 65_536 - 20_000).step_by(65_536) {
        match ova.read_exact_at(offset, &mut buf) {
            Ok(()) => {}
            Err(ReadError::Unrepeatable { .. }) => failures += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..=3).contains(&failures), "{failures}");
    // What was wrong is not believed a second time.
    let (images, state) = lab.prepare("boot.ova");
    assert_eq!(state.known, 0);
    check_byte_source(&*images[0].source);
}

#[test]
fn a_source_that_changes_meanwhile_fails_the_preparation() {
    let lab = Lab::new();
    let planned = lab.plan();
    fs::write(lab.path().join("source/text"), "short").unwrap();
    let result = planned.generation.pending[0].prepare();
    let Err(PrepareError::Index(IndexError::Read(ReadError::Stale { path, .. }))) = result else {
        panic!("{:?}", result.err());
    };
    assert!(path.ends_with("source/text"));
}

/// With every extension of the processor's instruction set hidden the same bytes come out.
#[test]
fn compression_does_not_depend_on_the_processor() {
    let samples = [text(65_536, "sample"), noise(3, 65_536), vec![0; 65_536]];
    let mut sums = String::new();
    for level in 1..=12 {
        let mut compressor = GrainCompressor::new(level);
        for sample in &samples {
            let stream = compressor.compress(sample);
            sums.push_str(&format!(
                "sum {level} {} {:08x}\n",
                stream.len(),
                crc32fast::hash(stream)
            ));
        }
    }
    if std::env::var_os(MASKED).is_some() {
        print!("{sums}");
        return;
    }
    if !require_tool("qemu-x86_64") {
        return;
    }
    // The first has SSE2 alone, the last all that the emulator knows.
    for processor in [
        "qemu64,-sse3,-ssse3,-sse4.1,-sse4.2,-popcnt",
        "Nehalem",
        "max",
    ] {
        let output = Command::new("qemu-x86_64")
            .args(["-cpu", processor])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "deflate::compression_does_not_depend_on_the_processor",
            ])
            .args(["--nocapture", "--test-threads=1"])
            .env(MASKED, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{processor}: {output:?}");
        let theirs: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("sum "))
            .collect();
        let ours: Vec<_> = sums.lines().collect();
        // The harness writes the test's name in front of the first line.
        assert_eq!(theirs[theirs.len() - 35..], ours[1..], "{processor}");
    }
}

/// Set in the process that runs on another processor.
const MASKED: &str = "MIRAGEFS_TEST_MASKED";

/// However many images there are, each grain is compressed once at each level.
#[test]
fn images_share_the_index() {
    let lab = Lab::new();
    let config = "name = 'many'\n[[partition]]\nsize = '32MiB'\ncopy = [{ from = 'source', to = '/' }]\n[images]\n\
                  'a.ova' = { format = 'ova', compression = 'deflate' }\n\
                  'b.ovf' = { format = 'ovf', compression = 'deflate' }\n\
                  'c.vmdk' = { format = 'vmdk', layout = 'stream-optimized', compression = 'deflate', level = 1 }\n";
    fs::write(lab.path().join("lab.toml"), config).unwrap();
    let planned = lab.plan();
    let compressed: Vec<_> = planned
        .generation
        .pending
        .iter()
        .map(|image| {
            image.prepare().unwrap();
            image.progress().state().compressed
        })
        .collect();
    assert!(compressed[0] > 0);
    assert_eq!(compressed, [compressed[0], 0, compressed[0]]);
}

/// Two sources of equal names, sizes and times change places: the disk is another one, and so is its digest.
#[test]
fn a_kept_digest_is_of_these_files_at_these_places() {
    let lab = Lab::new();
    for (name, byte) in [("a", b'a'), ("b", b'b')] {
        let directory = lab.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("key"), [byte; 3000]).unwrap();
    }
    let digest_with = |first: &str, second: &str| {
        let config = format!(
            "name = 'swap'\nsource-date-epoch = 1000000000\n[[partition]]\nsize = '16MiB'\n\
             copy = [{{ from = 'a', to = '/{first}' }}, {{ from = 'b', to = '/{second}' }}]\n\
             [images]\n'lab.ovf' = {{ format = 'ovf' }}\n"
        );
        fs::write(lab.path().join("lab.toml"), config).unwrap();
        let planned = lab.plan();
        let [_, disk, manifest] = &planned.generation.images[..] else {
            panic!("three files");
        };
        let text = read(&*manifest.source, 0, manifest.source.len());
        let bytes = read(&*disk.source, 0, disk.source.len());
        (text, bytes)
    };
    let (one, disk) = digest_with("x", "y");
    let (other, swapped) = digest_with("y", "x");
    assert!(disk != swapped);
    assert!(one != other, "a digest of another disk was believed");
    assert!(digest_with("x", "y").0 == one);
}
