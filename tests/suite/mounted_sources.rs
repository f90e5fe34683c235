//! A mount over real directories: what happens when they change, who may read them, and what other programs make of
//! the images.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use miragefs::units::{MIB, TIB, to_u64};
use sha2::{Digest, Sha256};

use crate::mount::errno;
use crate::mounted::{
    Workspace, mounted_type, output, require_fuse, require_root, stderr, wait_until,
};
use crate::served::{IMAGES, Served, assert_same_bytes, data_ranges, read_range};
use crate::support::{noise, require_tool, run, run_text};

/// Where the sources of these tests lie in a workspace.
fn sources(workspace: &Workspace) -> PathBuf {
    workspace.path().join("src")
}

fn victim(workspace: &Workspace) -> PathBuf {
    sources(workspace).join("victim")
}

/// A config of one partition of `size` over `src`, which holds two files of noise, 1 MiB each.
fn workspace_of(size: &str) -> Workspace {
    let workspace = Workspace::new();
    let config = format!(
        "name = \"suite\"\nsource-date-epoch = 1700000000\n[disk]\nsize = \"{size}\"\nboot-code = \"none\"\n\
         [[partition]]\nlabel = \"data\"\nsize = \"rest\"\n\
         copy = [ {{ from = \"src\", to = \"/\", owner = \"1000:100\" }} ]\n"
    );
    fs::write(workspace.config(), config).unwrap();
    fs::create_dir(sources(&workspace)).unwrap();
    fs::write(victim(&workspace), noise(1, 1 << 20)).unwrap();
    fs::write(sources(&workspace).join("witness"), noise(2, 1 << 20)).unwrap();
    workspace
}

/// Where 1 KiB of `bytes` is found whole in `image`.
fn place_of(image: &[u8], bytes: &[u8]) -> u64 {
    let pattern = &bytes[512 * 1024..513 * 1024];
    let found = image.windows(1024).position(|window| window == pattern);
    to_u64(found.unwrap())
}

/// Where the middles of victim and witness lie in each image, and that image.
struct Places {
    image: &'static str,
    victim: u64,
    witness: u64,
}

fn places(served: &Served) -> Vec<Places> {
    let contents = |name| fs::read(sources(served.workspace()).join(name)).unwrap();
    let (victim, witness) = (contents("victim"), contents("witness"));
    let places = |image| {
        let bytes = fs::read(served.file(image)).unwrap();
        Places {
            image,
            victim: place_of(&bytes, &victim),
            witness: place_of(&bytes, &witness),
        }
    };
    IMAGES.map(places).into()
}

/// Does something to the file at a path.
type Change = fn(&Path);

/// What may happen to a source file under a mount.
const CHANGES: [(&str, Change); 8] = [
    ("edited, mtime restored", |path| {
        let mtime = fs::metadata(path).unwrap().modified().unwrap();
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"x", 9).unwrap();
        file.set_modified(mtime).unwrap();
    }),
    ("appended to", |path| {
        let mut file = File::options().append(true).open(path).unwrap();
        file.write_all(b"x").unwrap();
    }),
    ("truncated", |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(4096).unwrap();
    }),
    ("replaced by its equal", |path| {
        let copy = path.with_extension("new");
        run("cp", ["-a".as_ref(), path.as_os_str(), copy.as_os_str()]);
        fs::rename(copy, path).unwrap();
    }),
    ("replaced by a symlink to itself", |path| {
        let moved = path.with_extension("moved");
        fs::rename(path, &moved).unwrap();
        std::os::unix::fs::symlink(moved, path).unwrap();
    }),
    ("replaced by a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("replaced by a fifo", |path| {
        fs::remove_file(path).unwrap();
        run("mkfifo", [path]);
        assert!(fs::metadata(path).unwrap().file_type().is_fifo());
    }),
    ("deleted", |path| fs::remove_file(path).unwrap()),
];

/// An image as it is now, open with and without O_DIRECT: what changes later shows in new generations only.
struct Opened {
    cached: File,
    direct: File,
}

impl Opened {
    fn new(image: &Path) -> Self {
        let cached = File::open(image).unwrap();
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_DIRECT);
        let direct = options.open(image).unwrap();
        Self { cached, direct }
    }
}

fn read_at(file: &File, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0xa5; len];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Changes the victim and asserts that its bytes, and only they, are refused to readers of every image.
fn check_change(what: &str, change: Change, read_before: bool) {
    let served = Served::new(workspace_of("32MiB"));
    let places = places(&served);
    // The pages that the search brought in go with the mount.
    served.mount_again();
    let opened: Vec<Opened> = places
        .iter()
        .map(|place| Opened::new(&served.file(place.image)))
        .collect();
    if read_before {
        for (place, opened) in places.iter().zip(&opened) {
            read_at(&opened.direct, place.victim & !4095, 4096).unwrap();
        }
    }
    let path = victim(served.workspace());
    change(&path);
    for (place, opened) in places.iter().zip(&opened) {
        let context = format!("{what}, read before: {read_before}, {}", place.image);
        let refused = read_at(&opened.cached, place.victim, 1024);
        assert_eq!(errno(refused), Some(libc::ESTALE), "{context}");
        let direct = read_at(&opened.direct, place.victim, 1024);
        assert_eq!(errno(direct), Some(libc::ESTALE), "{context}");
        let witness = read_at(&opened.cached, place.witness, 1024).unwrap();
        let expected = noise(2, 513 * 1024);
        assert!(witness == expected[512 * 1024..], "{context}");
        let named = format!("{}: {}: ", place.image, path.display());
        assert!(served.log().contains(&named), "{context}\n{}", served.log());
    }
}

#[test]
fn a_source_that_changes_is_estale_in_every_image() {
    if !require_fuse() {
        return;
    }
    for (what, change) in CHANGES {
        check_change(what, change, false);
    }
}

#[test]
fn a_source_that_changes_after_it_was_read_is_estale_too() {
    if !require_fuse() {
        return;
    }
    for (what, change) in CHANGES {
        check_change(what, change, true);
    }
}

#[test]
fn a_manifest_over_a_changed_source_is_estale() {
    if !require_fuse() {
        return;
    }
    let served = Served::new(workspace_of("32MiB"));
    let ova = served.file("boot.ova");
    let file = File::open(ova).unwrap();
    let len = file.metadata().unwrap().len();
    fs::remove_file(victim(served.workspace())).unwrap();
    // The archive ends with the manifest and its padding to a record of 10240 bytes.
    let tail = read_at(&file, len - 10240, 10240);
    assert_eq!(errno(tail), Some(libc::ESTALE));
}

#[test]
fn cached_pages_of_a_changed_source_stay_the_old_ones() {
    if !require_fuse() {
        return;
    }
    let served = Served::new(workspace_of("32MiB"));
    for place in places(&served) {
        let image = File::open(served.file(place.image)).unwrap();
        let before = read_at(&image, place.victim, 1024).unwrap();
        fs::write(victim(served.workspace()), "other").unwrap();
        assert!(read_at(&image, place.victim, 1024).unwrap() == before);
    }
}

#[test]
fn a_mapping_of_a_changed_source_is_sigbus() {
    if !require_fuse() || !require_tool("python3") {
        return;
    }
    let served = Served::new(workspace_of("32MiB"));
    let offset = places(&served)[0].victim;
    served.mount_again();
    let script = "import mmap, os, sys\n\
        with open(sys.argv[1], 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:\n\
        \x20   os.remove(sys.argv[3])\n\
        \x20   print(m[0], flush=True)\n\
        \x20   print(m[int(sys.argv[2])], flush=True)";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(served.file("disk.img"));
    python.arg(offset.to_string());
    let ended = output(python.arg(victim(served.workspace())));
    let signal = std::os::unix::process::ExitStatusExt::signal(&ended.status);
    assert_eq!(signal, Some(libc::SIGBUS));
    assert_eq!(ended.stdout, b"0\n");
}

fn sha256_of(path: &Path) -> String {
    let digest = Sha256::digest(fs::read(path).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn copies_of_the_sources_give_the_same_bytes_in_another_process() {
    if !require_fuse() {
        return;
    }
    let first = Served::new(workspace_of("32MiB"));
    let second = Workspace::new();
    fs::copy(first.workspace().config(), second.config()).unwrap();
    let [from, to] = [sources(first.workspace()), sources(&second)];
    // Copied in another order, with other owners, other inodes and other change times.
    fs::create_dir(&to).unwrap();
    for name in ["witness", "victim", "."] {
        let arguments = ["--preserve=mode,timestamps", "-T"].map(std::ffi::OsStr::new);
        let (source, copy) = (from.join(name), to.join(name));
        if name == "." {
            run(
                "touch",
                ["-r".as_ref(), source.as_os_str(), copy.as_os_str()],
            );
        } else {
            run(
                "cp",
                arguments
                    .into_iter()
                    .chain([source.as_os_str(), copy.as_os_str()]),
            );
        }
    }
    let second = Served::new(second);
    for image in IMAGES {
        let sums = [&first, &second].map(|served| sha256_of(&served.file(image)));
        assert_eq!(sums[0], sums[1], "{image}");
    }
}

#[test]
fn every_way_to_read_gives_the_same_bytes() {
    if !require_fuse() || !require_tool("dd") || !require_tool("python3") {
        return;
    }
    let served = Served::new(workspace_of("32MiB"));
    for name in IMAGES {
        let image = served.file(name);
        let input = format!("if={}", image.display());
        let direct = run("dd", [&*input, "iflag=direct", "bs=300K", "status=none"]);
        let script = "import hashlib, mmap, sys\n\
            with open(sys.argv[1], 'rb') as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:\n\
            \x20   print(hashlib.sha256(m).hexdigest())";
        let mapped = run_text("python3", ["-c", script, image.to_str().unwrap()]);
        let cached = fs::read(&image).unwrap();
        assert!(direct == cached, "{name}");
        assert_eq!(mapped.trim_end(), sha256_of(&image), "{name}");
        // The middle of the file first, then its beginning: read-ahead in both directions.
        let half = to_u64(cached.len()) / 2;
        served.mount_again();
        let mut backwards = read_range(&image, half, to_u64(cached.len()) - half).unwrap();
        let mut whole = read_range(&image, 0, half).unwrap();
        whole.append(&mut backwards);
        assert!(whole == cached, "{name}");
    }
}

#[test]
fn mistakes_in_a_config_mount_nothing() {
    if !require_fuse() {
        return;
    }
    let workspace = workspace_of("32MiB");
    let good = fs::read_to_string(workspace.config()).unwrap();
    let config = workspace.config().display().to_string();
    for (from, to, place, text) in [
        ("boot-code", "boot-cod", ":5:", "boot-code"),
        ("32MiB", "large", ":4:", "large"),
        ("from = \"src\"", "from = \"none\"", ":9:", "none"),
        ("owner = \"1000:100\"", "owner = \"root\"", ":9:", "root"),
    ] {
        fs::write(workspace.config(), good.replace(from, to)).unwrap();
        for background in [false, true] {
            let mut command = workspace.mount_command();
            if !background {
                command.arg("--foreground");
            }
            let failed = output(&mut command);
            let said = stderr(&failed);
            assert_eq!(failed.status.code(), Some(2), "{said}");
            assert!(said.starts_with("error: "), "{said}");
            assert!(said.contains(&format!("{config}{place}")), "{said}");
            assert!(said.contains(text), "{said}");
            assert_eq!(mounted_type(&workspace.mountpoint()), None);
        }
    }
}

#[test]
fn mount_points_among_the_sources_are_refused_with_a_hint() {
    if !require_fuse() {
        return;
    }
    let workspace = workspace_of("32MiB");
    let inside = sources(&workspace).join("images");
    fs::create_dir(&inside).unwrap();
    for (mountpoint, text) in [
        (inside, "mount point lies inside the source"),
        (sources(&workspace), "mount point lies inside the source"),
        (workspace.path().to_path_buf(), "lies below the mount point"),
    ] {
        let mut command = workspace.miragefs();
        command.arg("mount").arg(workspace.config());
        let refused = output(command.arg(&mountpoint));
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(text), "{said}");
        assert!(
            said.contains("\nhint: mount on a directory apart"),
            "{said}"
        );
        assert_eq!(mounted_type(&mountpoint), None);
    }
}

/// Runs in a mount namespace of its own, in which /dev/fuse is open to all, as udev makes it; the arguments are a
/// private directory, the program, the config and the mount point. Prints the images' sums.
const AS_ORDINARY_USER: &str = r#"
set -e
cp -a /dev/fuse "$1/fuse"
chmod 0666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
user() { setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"; }
user "$2" mount "$3" "$4"
trap 'user "$2" unmount "$4"' EXIT
user sh -c 'cd "$1" && sha256sum disk.img disk.vmdk boot.ova' sh "$4"
"#;

#[test]
fn ordinary_users_mount_what_they_may_read_and_nothing_else() {
    let tools = ["setpriv", "unshare", "fusermount3", "sha256sum"];
    if !require_fuse() || !require_root() || !tools.into_iter().all(require_tool) {
        return;
    }
    let workspace = workspace_of("32MiB");
    let mode = fs::Permissions::from_mode;
    fs::set_permissions(workspace.path(), mode(0o755)).unwrap();
    let nobody = Some(65534);
    std::os::unix::fs::chown(workspace.mountpoint(), nobody, nobody).unwrap();
    // The build directory need not be open to others.
    let program = workspace.path().join("miragefs");
    fs::copy(env!("CARGO_BIN_EXE_miragefs"), &program).unwrap();

    fs::set_permissions(victim(&workspace), mode(0o600)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(&program).arg("mount").arg(workspace.config());
    let refused = output(command.arg(workspace.mountpoint()));
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("src/victim"), "{said}");
    assert_eq!(mounted_type(&workspace.mountpoint()), None);

    fs::set_permissions(victim(&workspace), mode(0o644)).unwrap();
    let private = workspace.path().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, mode(0o700)).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]);
    command.args(["sh", "-c", AS_ORDINARY_USER, "sh"]);
    command.args([&private, &program]);
    let theirs = output(command.args([workspace.config(), workspace.mountpoint()]));
    assert!(theirs.status.success(), "{}", stderr(&theirs));

    // Root's images of the same sources are the same.
    let ours = Served::new(workspace);
    let sums = String::from_utf8(theirs.stdout).unwrap();
    let expected = IMAGES.map(|image| format!("{}  {image}\n", sha256_of(&ours.file(image))));
    assert_eq!(sums, expected.concat());
}

/// A child that is ended when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts nginx on a free port over `root`, with everything it writes below `prefix`.
fn start_nginx(prefix: &Path, root: &Path) -> (Process, u16) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let user = if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let config = format!(
        "{user} daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log error.log;\n\
         events {{}}\n\
         http {{ access_log off; sendfile on; client_body_temp_path t1; proxy_temp_path t2;\n\
         fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n\
         server {{ listen 127.0.0.1:{port}; root {}; }} }}\n",
        root.display()
    );
    fs::write(prefix.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(prefix)
        .arg("-c")
        .arg(prefix.join("nginx.conf"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let nginx = Process(command.spawn().unwrap());
    wait_until("nginx listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    (nginx, port)
}

/// Status line with headers, and body of a GET request.
fn get(port: u16, path: &str, range: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{range}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let body = answer.split_off(end.unwrap() + 4);
    (String::from_utf8(answer).unwrap(), body)
}

fn header<'a>(headers: &'a str, name: &str) -> &'a str {
    let line = headers.lines().find(|line| line.starts_with(name));
    line.unwrap().split_once(": ").unwrap().1
}

#[test]
fn a_web_server_serves_ranges_of_the_images() {
    if !require_fuse() || !require_tool("nginx") {
        return;
    }
    let served = Served::new(workspace_of("32MiB"));
    let prefix = tempfile::tempdir().unwrap();
    let (_nginx, port) = start_nginx(prefix.path(), &served.workspace().mountpoint());
    let bytes = fs::read(served.file("boot.ova")).unwrap();
    let (headers, body) = get(port, "/boot.ova", "");
    assert!(headers.starts_with("HTTP/1.1 200 "), "{headers}");
    assert!(body == bytes);
    let mtime = fs::metadata(served.file("boot.ova")).unwrap().mtime();
    let tag = header(&headers, "ETag").to_owned();
    // nginx's tag is made of mtime and length.
    assert_eq!(tag, format!("\"{mtime:x}-{:x}\"", bytes.len()));
    for (range, start, end) in [
        ("0-0", 0, 1),
        ("511-4608", 511, 4609),
        ("1000000-", 1_000_000, bytes.len()),
        ("-700", bytes.len() - 700, bytes.len()),
    ] {
        let request = format!("Range: bytes={range}\r\n");
        let (headers, body) = get(port, "/boot.ova", &request);
        assert!(headers.starts_with("HTTP/1.1 206 "), "{headers}");
        assert!(body == bytes[start..end], "{range}");
        assert_eq!(header(&headers, "ETag"), tag);
    }
    let modified = header(&headers, "Last-Modified").to_owned();
    served.mount_again();
    let request = format!("If-Modified-Since: {modified}\r\nIf-None-Match: {tag}\r\n");
    let (headers, _) = get(port, "/boot.ova", &request);
    assert!(headers.starts_with("HTTP/1.1 304 "), "{headers}");
}

#[test]
fn a_terabyte_of_holes_is_copied_and_served_in_little_memory() {
    if !require_fuse() || !require_tool("cp") {
        return;
    }
    let workspace = workspace_of("1TiB");
    fs::write(sources(&workspace).join("large"), noise(3, 20_000_000)).unwrap();
    let mut command = workspace.mount_command();
    command.arg("--foreground").stderr(Stdio::null());
    let daemon = Process(command.spawn().unwrap());
    wait_until("the image shows", || workspace.image().exists());

    let image = workspace.image();
    let attributes = fs::metadata(&image).unwrap();
    assert_eq!(attributes.len(), TIB);
    assert!(
        attributes.blocks() * 512 < 64 * MIB,
        "{}",
        attributes.blocks()
    );
    let copy = workspace.path().join("copy.img");
    let mut cp = Command::new("cp");
    let copied = output(cp.arg("--sparse=auto").arg(&image).arg(&copy));
    assert!(copied.status.success(), "{}", stderr(&copied));
    let copied = fs::metadata(&copy).unwrap();
    assert!(
        copied.blocks() <= attributes.blocks() + 2048,
        "{}",
        copied.blocks()
    );
    assert!(!data_ranges(&File::open(&image).unwrap()).is_empty());
    assert_same_bytes(&image, &copy);

    let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    // 64 MiB and the cache's default of 32 MiB.
    assert!(kibibytes < 96 * 1024, "{kibibytes} KiB");
}
