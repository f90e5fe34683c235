//! Trees with what cannot be in an image: all of it is named at once, and what cannot be read can be left out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::planned::miragefs;
use crate::support::{require_tool, run, run_text, skip};

/// A directory that others may enter, with the directory `src` and a config.
fn workspace(config: &str) -> TempDir {
    let workspace = tempfile::tempdir().unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(workspace.path(), open).unwrap();
    fs::create_dir(workspace.path().join("src")).unwrap();
    fs::write(workspace.path().join("lab.toml"), config).unwrap();
    workspace
}

fn check(workspace: &TempDir, options: &[&str]) -> Output {
    let mut arguments: Vec<PathBuf> = vec!["check".into()];
    arguments.extend(options.iter().map(PathBuf::from));
    arguments.push(workspace.path().join("lab.toml"));
    miragefs(arguments)
}

/// What was written to stderr, with `/s` for the workspace.
fn said(workspace: &TempDir, output: &Output) -> String {
    let here = workspace.path().display().to_string();
    String::from_utf8_lossy(&output.stderr).replace(&here, "/s")
}

/// The lines that begin with `error:`, without that.
fn errors(said: &str) -> Vec<&str> {
    let lines = said.lines();
    lines
        .filter_map(|line| line.strip_prefix("error: "))
        .collect()
}

#[test]
fn all_mistakes_of_all_partitions_are_told_at_once() {
    let workspace = workspace(
        "[disk]\nsize = '64MiB'\n\
         [[partition]]\nlabel = 'one'\nsize = '16MiB'\n\
         copy = [{ from = 'src', owners = 'owners.mtree', uid-map = ['4294967000:0:1'], gid-map = ['4294967000:0:1'] }]\n\
         files = [{ path = '/dir', text = 'x' }, { path = '/a/b', text = 'x' }]\n\
         [[partition]]\nlabel = 'two'\nsize = '8MiB'\n\
         copy = [{ from = 'src/dir', to = '/a', owner = '0:0' }, { from = 'src/a', to = '/a', owner = '0:0' }]\n",
    );
    let path = |name: &str| workspace.path().join(name);
    fs::create_dir(path("src/dir")).unwrap();
    for name in ["a", "dir/file"] {
        fs::write(path("src").join(name), "x").unwrap();
    }
    let mut expected = vec![
        "/s/lab.toml:6:9: /s/src/a: belongs to user U, which is in no range of `uid-map`",
        "/s/lab.toml:6:9: /s/src/a: belongs to group G, which is in no range of `gid-map`",
        "/s/lab.toml:6:9: /s/owners.mtree:6: /s/src/none is a regular file that the source does not have",
        "/s/lab.toml:7:10: /dir: a file cannot take the place of a directory",
        "/s/lab.toml:7:41: /a: is a file in the image, so nothing can be put below it",
        "/long: symlink target in bytes is 4096; ext4 holds at most 4095",
        "/s/lab.toml:3:1: /dev/odd: device number 4096:0 is beyond 4095:1048575, the limit of ext4",
        "/s/lab.toml:3:1: /dev/odd-too: device number 0:1048576 is beyond 4095:1048575, the limit of ext4",
    ];
    expected.push("/s/lab.toml:11:57: /a: a file cannot take the place of a directory");
    fs::write(
        path("owners.mtree"),
        format!(
            "/set uid=0 gid=0\n.\n./dir type=dir\n./dir/file\n\n./none type=file\n\
             ./dev/odd type=char device=native,4096,0\n./dev/odd-too type=block device=0,1048576\n\
             ./long type=link link={}\n",
            "x".repeat(4096)
        ),
    )
    .unwrap();

    let output = check(&workspace, &[]);
    let told = said(&workspace, &output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let owner = fs::metadata(path("src/a")).unwrap();
    let (user, group) = {
        use std::os::unix::fs::MetadataExt;
        (
            format!("user {},", owner.uid()),
            format!("group {},", owner.gid()),
        )
    };
    let told = told.replace(&user, "user U,").replace(&group, "group G,");
    assert_eq!(errors(&told), expected);

    // The same as JSON, and nothing is mounted or written.
    let output = check(&workspace, &["--json"]);
    assert_eq!(output.status.code(), Some(2));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let listed = json["errors"].as_array().unwrap();
    assert_eq!(
        (listed.len(), &json["more_errors"]),
        (expected.len(), &Value::from(0))
    );
    let hint = "remove the line, write `optional` behind it, or leave the path out with `exclude`";
    assert_eq!(listed[2]["hint"], hint);
    assert!(
        listed[2]["message"]
            .as_str()
            .unwrap()
            .ends_with("the source does not have")
    );
    assert_eq!(listed[2]["causes"], Value::Array(Vec::new()));
    let image = path("disk.img");
    let export = miragefs([
        &PathBuf::from("export"),
        &path("lab.toml"),
        &"disk.img".into(),
        &image,
    ]);
    assert_eq!(export.status.code(), Some(2));
    assert_eq!(errors(&said(&workspace, &export)).len(), expected.len());
    assert!(!image.exists());
}

#[test]
fn two_partitions_that_are_too_small_are_told_together() {
    let workspace = workspace(
        "[disk]\nsize = '64MiB'\n[[partition]]\nlabel = 'one'\nsize = '1MiB'\ncopy = [{ from = 'src' }]\n\
         [[partition]]\nlabel = 'two'\nsize = '1MiB'\ncopy = [{ from = 'src' }]\n",
    );
    fs::write(workspace.path().join("src/large"), vec![7; 2 << 20]).unwrap();
    let output = check(&workspace, &[]);
    let told = said(&workspace, &output);
    let told = errors(&told);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(told.len(), 2, "{told:?}");
    for (error, label) in told.iter().zip(["one", "two"]) {
        assert!(
            error.contains(&format!("partition `{label}`: its contents need")),
            "{error}"
        );
    }
}

#[test]
fn a_hundred_mistakes_are_told_and_the_others_counted() {
    let workspace =
        workspace("[[partition]]\ncopy = [{ from = 'src', owners = 'owners.mtree' }]\n");
    let lines: String = (0..150)
        .map(|number| format!("./gone-{number:03} type=file\n"))
        .collect();
    fs::write(workspace.path().join("owners.mtree"), lines).unwrap();
    let output = check(&workspace, &["--json"]);
    let told = said(&workspace, &output);
    assert_eq!(errors(&told).len(), 100);
    assert!(told.ends_with("\n\nand 50 more errors\n"), "{told}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (
            json["errors"].as_array().unwrap().len(),
            &json["more_errors"]
        ),
        (100, &Value::from(50))
    );
}

/// Runs the program as an ordinary user.
fn as_nobody(workspace: &TempDir, arguments: &[&str]) -> Output {
    let program = workspace.path().join("miragefs");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_miragefs"), &program).unwrap();
    }
    Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(program)
        .args(arguments)
        .current_dir(workspace.path())
        .output()
        .unwrap()
}

fn with_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_cannot_be_read_is_told_or_left_out() {
    if !["setpriv", "debugfs", "e2fsck"]
        .into_iter()
        .all(require_tool)
    {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("giving up root's rights takes root");
    }
    let workspace = workspace(
        "[disk]\nsize = '16MiB'\ntable = 'none'\n[[partition]]\ncopy = [{ from = 'src' }]\n\
         [images]\n'disk.img' = { format = 'raw' }\n",
    );
    let source = workspace.path().join("src");
    for name in [
        "closed/inside",
        "locked/inside",
        "open/fine",
        "open/secret",
        "secret",
    ] {
        let path = source.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    with_mode(&source.join("secret"), 0o600);
    with_mode(&source.join("open/secret"), 0o000);
    with_mode(&source.join("closed"), 0o710);
    // Its names can be read, but nothing behind them.
    with_mode(&source.join("locked"), 0o744);

    let output = as_nobody(&workspace, &["check", "lab.toml"]);
    let told = said(&workspace, &output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let mut listed = errors(&told);
    listed.sort_unstable();
    assert_eq!(
        listed,
        [
            "/s/lab.toml:5:9: /s/src/closed: cannot be listed",
            "/s/lab.toml:5:9: /s/src/locked/inside: cannot be examined",
            "/s/lab.toml:5:9: /s/src/open/secret: cannot be read",
            "/s/lab.toml:5:9: /s/src/secret: cannot be read",
        ]
    );
    assert!(told.contains("--skip-unreadable"), "{told}");

    let output = as_nobody(&workspace, &["check", "--skip-unreadable", "lab.toml"]);
    let told = said(&workspace, &output);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let mut listed: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .collect();
    listed.sort_unstable();
    assert_eq!(
        listed,
        [
            "warning: /s/src/closed: cannot be read; it is empty in the image",
            "warning: /s/src/locked/inside: cannot be read; it is left out",
            "warning: /s/src/open/secret: cannot be read; it is left out",
            "warning: /s/src/secret: cannot be read; it is left out",
        ]
    );

    let theirs = workspace.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(65_534), Some(65_534)).unwrap();
    let export = [
        "export",
        "--skip-unreadable",
        "lab.toml",
        "disk.img",
        "theirs/disk.img",
    ];
    let output = as_nobody(&workspace, &export);
    assert!(output.status.success(), "{}", said(&workspace, &output));
    let image = theirs.join("disk.img");
    let image = image.to_str().unwrap();
    run("e2fsck", ["-f", "-n", image]);
    let names = |directory: &str| -> Vec<String> {
        let listed = run_text("debugfs", ["-R", &format!("ls -p {directory}"), image]);
        let names = listed.lines().filter_map(|line| line.split('/').nth(5));
        names
            .filter(|name| !name.is_empty() && !name.starts_with('.'))
            .map(str::to_owned)
            .collect()
    };
    let mut root = names("/");
    root.sort();
    assert_eq!(root, ["closed", "locked", "lost+found", "open"]);
    assert_eq!(names("/open"), ["fine"]);
    assert_eq!(names("/closed"), Vec::<String>::new());
    assert!(run_text("debugfs", ["-R", "stat /closed", image]).contains("Mode:  0710"));

    // More than a hundred are counted.
    for number in 0..130 {
        let path = source.join(format!("open/hidden-{number:03}"));
        fs::write(&path, "x").unwrap();
        with_mode(&path, 0o600);
    }
    let output = as_nobody(&workspace, &["check", "--skip-unreadable", "lab.toml"]);
    let told = said(&workspace, &output);
    let count = told
        .lines()
        .filter(|line| line.starts_with("warning: "))
        .count();
    assert_eq!(count, 101, "{told}");
    assert!(
        told.contains("warning: 34 more files and directories cannot be read"),
        "{told}"
    );
}
