//! Web servers and qemu over a mount whose config is edited.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::{Live, config, sha256};
use crate::mounted::{require_fuse, require_root, wait_until};
use crate::support::{next_random, noise, require_tool, run_text};

/// The snippet of docs/serving.md, as it is there.
fn snippet() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/serving.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, behind) = text.split_once("```nginx\n").unwrap();
    let (snippet, _) = behind.split_once("```").unwrap();
    snippet.to_owned()
}

/// nginx over a directory, ended when it is dropped.
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    fn new(prefix: &Path, root: &Path, sendfile: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        fs::create_dir_all(prefix.join("temp")).unwrap();
        let server = snippet()
            .replace("listen 80;", &format!("listen 127.0.0.1:{port};"))
            .replace("/srv/images", &root.display().to_string())
            .replace("sendfile on;", &format!("sendfile {sendfile};"));
        assert!(server.contains(&port.to_string()), "{server}");
        let temp = prefix.join("temp");
        let temp = temp.display();
        let main = format!(
            "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log {0}/error.log;\nevents {{ worker_connections 512; }}\n\
             http {{ access_log off; client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0};\n\
             uwsgi_temp_path {0}; scgi_temp_path {0};\n{server}}}\n",
            temp
        );
        let path = prefix.join("nginx.conf");
        fs::write(&path, main).unwrap();
        let child = Command::new("nginx")
            .arg("-p")
            .arg(prefix)
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { child, port };
        wait_until("nginx listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        nginx
    }

    /// Status, headers in lower case, and the body.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        stream
            .write_all(format!("{request}\r\n").as_bytes())
            .unwrap();
        let mut bytes = Vec::new();
        // A connection that is cut ends the body early.
        drop(stream.read_to_end(&mut bytes));
        Answer::parse(&bytes)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Whether all that was promised came.
    fn is_whole(&self) -> bool {
        self.header("content-length").parse() == Ok(self.body.len())
    }
}

fn live(sendfile: &str) -> Option<(Live, Nginx)> {
    if !require_fuse() || !require_root() || !require_tool("nginx") {
        return None;
    }
    // nginx may be another user than the one who mounts.
    let live = Live::with_options(&config("first"), &["--allow-other"]);
    fs::write(live.source("file"), noise(9, 600_000)).unwrap();
    live.settle();
    let prefix = live.workspace().path().join(format!("nginx-{sendfile}"));
    let nginx = Nginx::new(&prefix, &live.workspace().mountpoint(), sendfile);
    Some((live, nginx))
}

#[test]
fn heads_ranges_and_conditions_are_answered() {
    for sendfile in ["on", "off"] {
        let Some((live, nginx)) = live(sendfile) else {
            return;
        };
        let expected = live.export("boot.ova");
        let head = nginx.ask("HEAD", "/boot.ova", &[]);
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), expected.len().to_string());
        assert_eq!(head.header("accept-ranges"), "bytes");
        let etag = head.header("etag").to_owned();
        assert!(!etag.is_empty());
        assert!(nginx.ask("GET", "/boot.ova", &[]).body == expected);

        let range = nginx.ask("GET", "/boot.ova", &[("Range", "bytes=1000-1999")]);
        assert_eq!((range.status, &*range.body), (206, &expected[1000..2000]));
        let tail = nginx.ask("GET", "/boot.ova", &[("Range", "bytes=-512")]);
        assert_eq!(tail.body, expected[expected.len() - 512..]);
        let several = nginx.ask("GET", "/boot.ova", &[("Range", "bytes=0-9,5000-5009")]);
        assert_eq!(several.status, 206);
        assert!(
            several
                .header("content-type")
                .starts_with("multipart/byteranges")
        );
        for part in [&expected[..10], &expected[5000..5010]] {
            assert!(several.body.windows(10).any(|window| window == part));
        }
        let beyond = nginx.ask("GET", "/boot.ova", &[("Range", "bytes=99999999999-")]);
        assert_eq!(beyond.status, 416);
        let none = nginx.ask("GET", "/boot.ova", &[("If-None-Match", &etag)]);
        assert_eq!(none.status, 304);

        // A download that is resumed after an edit begins again, with the new bytes.
        let condition = [("Range", "bytes=100000-"), ("If-Range", etag.as_str())];
        let resumed = nginx.ask("GET", "/boot.ova", &condition);
        assert_eq!(
            (resumed.status, &*resumed.body),
            (206, &expected[100_000..])
        );
        fs::write(live.workspace().config(), config("second")).unwrap();
        live.settle();
        let renewed = live.export("boot.ova");
        assert!(renewed != expected);
        let resumed = nginx.ask("GET", "/boot.ova", &condition);
        assert_eq!(resumed.status, 200);
        assert!(resumed.body == renewed);
        assert_ne!(resumed.header("etag"), etag);
    }
}

#[test]
fn a_download_under_way_ends_with_its_own_generation() {
    for sendfile in ["on", "off"] {
        let Some((live, nginx)) = live(sendfile) else {
            return;
        };
        let expected = live.export("disk.img");
        let mut stream = TcpStream::connect(("127.0.0.1", nginx.port)).unwrap();
        stream.write_all(b"GET /disk.img HTTP/1.0\r\n\r\n").unwrap();
        let mut first = vec![0; 10_000];
        stream.read_exact(&mut first).unwrap();
        fs::write(live.workspace().config(), config("second")).unwrap();
        live.settle();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        first.extend(rest);
        let answer = Answer::parse(&first);
        assert!(answer.body == expected, "{sendfile}");

        // A source that changes ends a download early, or it had the bytes before: it is never mixed.
        let expected = live.export("disk.img");
        let mut stream = TcpStream::connect(("127.0.0.1", nginx.port)).unwrap();
        stream.write_all(b"GET /disk.img HTTP/1.0\r\n\r\n").unwrap();
        let mut bytes = vec![0; 10_000];
        stream.read_exact(&mut bytes).unwrap();
        fs::write(live.source("file"), noise(10, 600_000)).unwrap();
        live.settle();
        assert!(live.export("disk.img") != expected);
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
        bytes.extend(rest);
        let answer = Answer::parse(&bytes);
        assert!(expected.starts_with(&answer.body), "{sendfile}");
        assert!(!answer.body.is_empty());
    }
}

/// One client: asks for ranges until it has the whole of one generation.
fn download(nginx: &Nginx, seed: u64) -> Option<(String, Vec<u8>)> {
    let mut random = seed;
    let head = nginx.ask("HEAD", "/boot.ova", &[]);
    if head.status != 200 {
        return None;
    }
    let etag = head.header("etag").to_owned();
    let len: usize = head.header("content-length").parse().unwrap();
    let mut bytes = Vec::new();
    while bytes.len() < len {
        random = next_random(random);
        let size = usize::try_from(random % 400_000 + 1000).unwrap();
        let last = (bytes.len() + size).min(len) - 1;
        let range = format!("bytes={}-{last}", bytes.len());
        let headers = [("Range", range.as_str()), ("If-Range", etag.as_str())];
        let part = nginx.ask("GET", "/boot.ova", &headers);
        // Another generation begins at its beginning.
        if part.status != 206 || part.header("etag") != etag || !part.is_whole() {
            return None;
        }
        bytes.extend(part.body);
    }
    Some((etag, bytes))
}

#[test]
fn fifty_clients_get_whole_generations_while_the_config_is_edited() {
    const CLIENTS: u64 = 50;
    let Some((live, nginx)) = live("on") else {
        return;
    };
    // The digest of each validator's generation, by whoever edits.
    let known: Mutex<BTreeMap<String, String>> = Mutex::default();
    let note = |known: &Mutex<BTreeMap<String, String>>| {
        let etag = nginx
            .ask("HEAD", "/boot.ova", &[])
            .header("etag")
            .to_owned();
        let digest = sha256(&live.export("boot.ova"));
        let before = known.lock().unwrap().insert(etag.clone(), digest.clone());
        assert!(before.is_none_or(|before| before == digest), "{etag}");
    };
    note(&known);
    let is_over = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    let found: Mutex<Vec<(String, String)>> = Mutex::default();
    std::thread::scope(|threads| {
        for client in 0..CLIENTS {
            let (nginx, is_over, done, found) = (&nginx, &is_over, &done, &found);
            threads.spawn(move || {
                let mut seed = client + 1;
                let mut has_one = false;
                // Everybody ends with one, and goes on as long as there are edits.
                while !has_one || !is_over.load(Ordering::Relaxed) {
                    seed = next_random(seed);
                    if let Some((etag, bytes)) = download(nginx, seed) {
                        found.lock().unwrap().push((etag, sha256(&bytes)));
                        if !std::mem::replace(&mut has_one, true) {
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        for edit in 0..8 {
            std::thread::sleep(Duration::from_millis(600));
            fs::write(live.workspace().config(), config(&format!("edit {edit}"))).unwrap();
            live.settle();
            note(&known);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(
        done.load(Ordering::Relaxed),
        usize::try_from(CLIENTS).unwrap()
    );
    let (known, found) = (known.lock().unwrap(), found.lock().unwrap());
    for (etag, digest) in found.iter() {
        assert_eq!(known.get(etag), Some(digest), "{etag}");
    }
    let etags: std::collections::BTreeSet<_> = found.iter().map(|(etag, _)| etag).collect();
    assert!(
        etags.len() > 2,
        "bodies of {} generations only",
        etags.len()
    );
}

#[test]
fn qemu_reads_the_disk_over_http() {
    let Some((live, nginx)) = live("on") else {
        return;
    };
    if !require_tool("qemu-img") {
        return;
    }
    let url = format!("http://127.0.0.1:{}/disk.vmdk", nginx.port);
    let info = Command::new("qemu-img")
        .args(["info", &url])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&info.stderr).into_owned();
    if errors.contains("Unknown protocol") {
        crate::support::skip("qemu has no block driver for http (qemu-block-extra)");
        return;
    }
    let raw: PathBuf = live.workspace().path().join("raw");
    run_text(
        "qemu-img",
        ["convert", "-O", "raw", &url, raw.to_str().unwrap()],
    );
    assert!(fs::read(raw).unwrap() == live.export("disk.img"));
}
