//! Compressed images in a mount: they appear when their index is ready, and `--wait` waits for them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use miragefs::units::to_u64;

use crate::mounted::{Workspace, mounted_type, output, require_fuse, stderr, wait_until};
use crate::support::{noise, require_tool, run, run_text};

/// A config with a stored disk image, a compressed OVA and one whose manifest comes second.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    let config = "name = \"suite\"\nsource-date-epoch = 1700000000\n\
         [[partition]]\nlabel = \"data\"\nsize = \"64MiB\"\ncopy = [{ from = \"src\", to = \"/\" }]\n\
         [images]\n\"disk.img\" = { format = \"raw\" }\n\
         \"boot.ova\" = { format = \"ova\", compression = \"deflate\", level = 12 }\n\
         \"second.ova\" = { format = \"ova\", manifest = \"sha512\", manifest-position = \"second\" }\n";
    fs::write(workspace.config(), config).unwrap();
    let source = workspace.path().join("src");
    fs::create_dir(&source).unwrap();
    for number in 0..10 {
        // Half of it is noise: it takes time, and comes out smaller.
        let mut bytes = noise(number, 2 << 20);
        bytes.resize(4 << 20, 7);
        fs::write(source.join(format!("file{number}")), bytes).unwrap();
    }
    workspace
}

fn mount_command(workspace: &Workspace) -> Command {
    let mut command = workspace.mount_command();
    command.arg("--log").arg(workspace.path().join("log"));
    command
}

fn log(workspace: &Workspace) -> String {
    fs::read_to_string(workspace.path().join("log")).unwrap_or_default()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn images_appear_when_they_are_ready() {
    if !require_fuse() {
        return;
    }
    let workspace = workspace();
    let mounted = output(&mut mount_command(&workspace));
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    let images = workspace.mountpoint();
    assert!(names(&images).contains(&"disk.img".to_owned()));
    // Asked for by name all the while: the kernel must not remember that it was absent.
    let mut absent = 0;
    wait_until("boot.ova is there", || {
        let there = images.join("boot.ova").exists();
        absent += u32::from(!there);
        there
    });
    assert!(absent > 0, "compressing 40 MiB takes longer than a lookup");
    wait_until("second.ova is there", || images.join("second.ova").exists());
    assert_eq!(names(&images), ["boot.ova", "disk.img", "second.ova"]);
    check_ova(
        &images.join("boot.ova"),
        &images.join("disk.img"),
        &workspace,
    );
    assert_eq!(workspace.unmount().status.code(), Some(0));
    wait_until("the log tells of both", || {
        log(&workspace).contains(": unmounted\n")
    });
    assert!(
        log(&workspace).contains("boot.ova: ready, "),
        "{}",
        log(&workspace)
    );
    assert!(log(&workspace).contains(", 0 of them known before, "));
}

/// How far the images are, for scripts and for people without the log.
#[test]
fn the_status_tells_how_far_images_are() {
    if !require_fuse() {
        return;
    }
    let workspace = workspace();
    let mounted = output(&mut mount_command(&workspace));
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    let images = workspace.mountpoint();
    let file = images.join(".miragefs/status.json");
    let status = || -> serde_json::Value {
        let text = fs::read_to_string(&file).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let state = |status: &serde_json::Value, name: &str| {
        let images = status["images"].as_array().unwrap();
        let image = images.iter().find(|image| image["name"] == name);
        image.unwrap()["state"].as_str().unwrap().to_owned()
    };
    let first = status();
    assert_eq!(state(&first, "disk.img"), "ready");
    assert_eq!(
        first["images"][0]["size"],
        fs::metadata(images.join("disk.img")).unwrap().len()
    );
    let mut seen = Vec::new();
    wait_until("all are ready", || {
        let now = status();
        for name in ["boot.ova", "second.ova"] {
            let state = state(&now, name);
            if !seen.contains(&state) {
                seen.push(state);
            }
        }
        state(&now, "second.ova") == "ready"
    });
    assert!(seen.contains(&"waiting".to_owned()), "{seen:?}");
    assert!(seen.contains(&"compressing".to_owned()), "{seen:?}");
    // By name only: no copy of the directory takes it along.
    assert_eq!(names(&images), ["boot.ova", "disk.img", "second.ova"]);
    assert!(names(&images.join(".miragefs")).contains(&"status.json".to_owned()));
    let mut opened = File::open(&file).unwrap();
    let mut text = String::new();
    opened.read_to_string(&mut text).unwrap();
    assert_eq!(opened.metadata().unwrap().len(), to_u64(text.len()));
    assert!(fs::write(&file, "x").is_err());
    assert_eq!(workspace.unmount().status.code(), Some(0));
}

/// The manifest is right, and the disk inside is the raw one.
fn check_ova(ova: &Path, raw: &Path, workspace: &Workspace) {
    let directory = workspace.path().join("unpacked");
    fs::create_dir_all(&directory).unwrap();
    let [ova, raw, into] = [ova, raw, &directory].map(|path| path.to_str().unwrap());
    run("tar", ["-xf", ova, "-C", into]);
    let manifest = fs::read_to_string(directory.join("suite.mf")).unwrap();
    assert_eq!(manifest.lines().count(), 2);
    for line in manifest.lines() {
        let (head, sum) = line.split_once(")= ").unwrap();
        let (algorithm, name) = head.split_once('(').unwrap();
        let tool = format!("{}sum", algorithm.to_lowercase());
        let found = run_text(&tool, [directory.join(name)]);
        assert_eq!(found.split_once(' ').unwrap().0, sum, "{name}");
    }
    if require_tool("qemu-img") {
        let vmdk = directory.join("suite-disk1.vmdk");
        let arguments = [
            "compare",
            "-f",
            "raw",
            "-F",
            "vmdk",
            raw,
            vmdk.to_str().unwrap(),
        ];
        assert_eq!(run_text("qemu-img", arguments), "Images are identical.\n");
    }
}

#[test]
fn wait_means_that_all_images_are_there() {
    if !require_fuse() {
        return;
    }
    let workspace = workspace();
    for known in [false, true] {
        let mounted = output(mount_command(&workspace).arg("--wait"));
        assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
        let images = workspace.mountpoint();
        assert_eq!(names(&images).len(), 3);
        check_ova(
            &images.join("second.ova"),
            &images.join("disk.img"),
            &workspace,
        );
        let order = run_text("tar", ["-tf", images.join("second.ova").to_str().unwrap()]);
        assert_eq!(order, "suite.ovf\nsuite.mf\nsuite-disk1.vmdk\n");
        assert_eq!(workspace.unmount().status.code(), Some(0));
        wait_until("the daemon is gone", || {
            log(&workspace).matches(": unmounted\n").count() == usize::from(known) + 1
        });
    }
    // The second time every grain was known, and the digest too.
    let log = log(&workspace);
    assert_eq!(log.matches("second.ova: ready").count(), 1, "{log}");
    let last = log.rfind("boot.ova: ready, ").unwrap();
    let grains = log[last..].split(' ').nth(2).unwrap();
    assert!(log[last..].contains(&format!("{grains} grains, {grains} of them known before")));
}

#[test]
fn a_failed_index_fails_who_waits_and_nobody_else() {
    if !require_fuse() {
        return;
    }
    // The file is to change while grains are compressed: on a machine that is quicker than this test, try again.
    let said = (0..5).find_map(|_| change_while_indexing());
    let said = said.expect("compressing 40 MiB takes longer than writing a file");
    assert!(
        said.starts_with("error: image `boot.ova`: cannot be prepared\n"),
        "{said}"
    );
    assert!(said.contains("src/file9: changed since it was planned"));
    assert!(said.contains("hint: leave the sources alone"));
}

/// Changes a source of a mount that waits for its index; what the mount said when it ended for that.
fn change_while_indexing() -> Option<String> {
    let workspace = workspace();
    let mut command = mount_command(&workspace);
    command.arg("--wait").arg("--foreground");
    let mut child = Ended(command.stderr(Stdio::piped()).spawn().unwrap());
    wait_until("it is mounted", || {
        mounted_type(&workspace.mountpoint()).is_some()
    });
    fs::write(workspace.path().join("src/file9"), "short").unwrap();
    wait_until("it says so", || {
        let log = log(&workspace);
        log.contains("cannot be prepared") || log.contains(": mounted")
    });
    if !log(&workspace).contains("boot.ova: cannot be prepared") {
        return None;
    }
    let status = child.0.wait().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(mounted_type(&workspace.mountpoint()), None);
    let mut said = String::new();
    let mut stderr = child.0.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    Some(said)
}

/// Ends a process with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn export_and_explain_make_the_index() {
    let workspace = workspace();
    let run_miragefs = |arguments: &[&str]| {
        let mut command = workspace.miragefs();
        let done = output(command.args(arguments));
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        String::from_utf8(done.stdout).unwrap()
    };
    let config = workspace.config();
    let config = config.to_str().unwrap();
    let checked = run_miragefs(&["check", config]);
    assert!(checked.contains("<= "), "{checked}");
    let json: serde_json::Value =
        serde_json::from_str(&run_miragefs(&["check", "--json", config])).unwrap();
    let ova = &json["images"][1];
    assert_eq!(
        (&ova["name"], &ova["size"]),
        (&"boot.ova".into(), &serde_json::Value::Null)
    );
    let most = ova["size_at_most"].as_u64().unwrap();
    let exported = workspace.path().join("boot.ova");
    run_miragefs(&["export", config, "boot.ova", exported.to_str().unwrap()]);
    let mut head = [0; 262];
    File::open(&exported)
        .unwrap()
        .read_exact(&mut head)
        .unwrap();
    assert_eq!(head[257..], *b"ustar");
    let len = fs::metadata(&exported).unwrap().len();
    assert!(len < most && len > 20 << 20, "{len} of {most}");
    let explained = run_miragefs(&["explain", config, "boot.ova", "1MiB"]);
    assert!(explained.contains("compressed VMDK grain"), "{explained}");
    let raw = workspace.path().join("disk.img");
    run_miragefs(&["export", config, "disk.img", raw.to_str().unwrap()]);
    check_ova(&exported, &raw, &workspace);
}

/// An index that grew in a source would change what is being indexed.
#[test]
fn a_cache_inside_a_source_is_not_used() {
    let workspace = workspace();
    let source = workspace.path().join("src");
    let out = workspace.path().join("out.ova");
    let mut command = workspace.miragefs();
    command
        .env("XDG_CACHE_HOME", &source)
        .arg("export")
        .arg(workspace.config());
    let exported = output(command.arg("boot.ova").arg(&out));
    assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
    let told = format!(
        "warning: {}: lies inside {}, so that nothing is kept there for the next time\n",
        source.join("miragefs").display(),
        source.canonicalize().unwrap().display()
    );
    assert!(stderr(&exported).contains(&told), "{}", stderr(&exported));
    assert!(!source.join("miragefs").exists());
}

/// A file of the cache that is not ours is replaced, and whoever waits is told why.
#[test]
fn a_foreign_index_is_told_of() {
    let workspace = workspace();
    let out = workspace.path().join("out.ova");
    let export = || {
        let mut command = workspace.miragefs();
        command.arg("export").arg(workspace.config());
        let exported = output(command.arg("boot.ova").arg(&out));
        assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
        (fs::read(&out).unwrap(), stderr(&exported))
    };
    let (first, said) = export();
    assert_eq!(said, "");
    let entries = fs::read_dir(workspace.path().join("cache/miragefs")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let index = paths
        .find(|path| path.extension().is_some_and(|ending| ending == "grains"))
        .unwrap();
    fs::write(&index, "the notes of somebody else").unwrap();
    let (second, said) = export();
    assert!(second == first);
    assert!(
        said.ends_with("is no index of this image; it is made anew\n"),
        "{said}"
    );
    let (third, said) = export();
    assert!(third == first);
    assert_eq!(said, "");
}

/// On such a file system another version may look the same.
#[test]
fn nothing_is_kept_of_sources_with_weak_stamps() {
    if !require_fuse() {
        return;
    }
    // A mount of ours as the source of another config.
    let inner = Workspace::new();
    let config = "[[partition]]\nsize = '16MiB'\nfilesystem = 'none'\n[images]\n'disk.img' = { format = 'raw' }\n";
    fs::write(inner.config(), config).unwrap();
    let mounted = output(&mut inner.mount_command());
    assert_eq!(mounted.status.code(), Some(0), "{}", stderr(&mounted));
    let outer = Workspace::new();
    let export = |from: &Path, to: &str| {
        let config = format!(
            "[[partition]]\nsize = '64MiB'\ncopy = [{{ from = {from:?}, to = '/' }}]\n\
             [images]\n'lab.ova' = {{ format = 'ova', compression = 'deflate', level = 1 }}\n"
        );
        fs::write(outer.config(), config).unwrap();
        let mut command = outer.miragefs();
        command.arg("export").arg(outer.config()).arg("lab.ova");
        let exported = output(command.arg(outer.path().join(to)));
        assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
    };
    export(&inner.mountpoint(), "weak.ova");
    assert!(!outer.path().join("cache").exists());
    let plain = outer.path().join("src");
    fs::create_dir(&plain).unwrap();
    fs::write(plain.join("file"), noise(1, 100_000)).unwrap();
    export(&plain, "strong.ova");
    assert!(outer.path().join("cache/miragefs").exists());
    assert_eq!(inner.unmount().status.code(), Some(0));
}
