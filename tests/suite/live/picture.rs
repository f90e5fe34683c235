//! The picture of the disk: as files, and as a page that a browser shows.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use miragefs::units::{MIB, to_u64};
use serde_json::{Value, json};

use super::{Live, config};
use crate::mounted::{Workspace, output, require_fuse, require_program, stderr, wait_until};
use crate::support::{noise, require_tool, run, run_text, write_to_file};

/// A config with files of several kinds, one of them with a name that is markup elsewhere.
fn workspace() -> Workspace {
    let workspace = Workspace::new();
    let source = workspace.path().join("src");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    fs::write(source.join("large"), noise(1, 9_000_000)).unwrap();
    fs::write(source.join("deep/er/middle"), noise(2, 3_000_000)).unwrap();
    fs::write(source.join("a<b>&\"c\".txt"), noise(3, 2_000_000)).unwrap();
    fs::write(source.join("sm\u{e4}ll"), "x").unwrap();
    let config = config("hello").replace("24MiB", "64MiB");
    fs::write(workspace.config(), config).unwrap();
    workspace
}

fn map(workspace: &Workspace, dest: &Path) {
    let mut command = workspace.miragefs();
    let mapped = output(command.arg("map").arg(workspace.config()).arg(dest));
    assert_eq!(mapped.status.code(), Some(0), "{}", stderr(&mapped));
}

/// The three files, in a directory.
fn pictures(workspace: &Workspace) -> PathBuf {
    let directory = workspace.path().join("pictures");
    fs::create_dir(&directory).unwrap();
    map(workspace, &directory);
    directory
}

#[test]
fn the_picture_is_well_formed_and_names_every_file_that_can_be_seen() {
    if !require_tool("xmllint") {
        return;
    }
    let workspace = workspace();
    let svg = pictures(&workspace).join("layout.svg");
    run("xmllint", ["--noout".as_ref(), svg.as_os_str()]);
    let text = fs::read_to_string(&svg).unwrap();
    for title in [
        "/src/large: 9000000 bytes",
        "/src/deep/: 3000000 bytes",
        "/src/deep/er/middle: 3000000 bytes",
        "/src/a&lt;b&gt;&amp;&quot;c&quot;.txt: 2000000 bytes",
        "partition data: ",
        "journal",
        "grains stored from grain ",
    ] {
        assert!(text.contains(title), "{title}");
    }
    // To a name or to standard output it is the same.
    let other = workspace.path().join("other.svg");
    map(&workspace, &other);
    assert_eq!(fs::read_to_string(other).unwrap(), text);
    let mut command = workspace.miragefs();
    let printed = output(command.arg("map").arg(workspace.config()));
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), text);
}

#[test]
fn pictures_go_where_they_disturb_nothing() {
    let workspace = workspace();
    let refused = |dest: &Path| {
        let mut command = workspace.miragefs();
        let refused = output(command.arg("map").arg(workspace.config()).arg(dest));
        assert_eq!(refused.status.code(), Some(2));
        stderr(&refused)
    };
    let inside = refused(&workspace.path().join("src/picture.svg"));
    assert!(inside.contains("lies inside the source "), "{inside}");
    let unknown = refused(&workspace.path().join("picture.png"));
    assert!(
        unknown.contains("nor a name that ends in .svg, .html or .json"),
        "{unknown}"
    );
}

/// All files of a branch with their paths.
fn leaves(path: &str, branch: &Value, found: &mut Vec<(String, Value)>) {
    for below in branch["branches"].as_array().into_iter().flatten() {
        leaves(
            &format!("{path}/{}", below["name"].as_str().unwrap()),
            below,
            found,
        );
    }
    for leaf in branch["leaves"].as_array().into_iter().flatten() {
        found.push((
            format!("{path}/{}", leaf["name"].as_str().unwrap()),
            leaf.clone(),
        ));
    }
}

#[test]
fn the_data_adds_up_and_is_where_others_see_it() {
    if !require_tool("debugfs") {
        return;
    }
    let workspace = workspace();
    let text = fs::read_to_string(pictures(&workspace).join("layout.json")).unwrap();
    let layout: Value = serde_json::from_str(&text).unwrap();
    let number = |value: &Value| value.as_u64().unwrap();
    let mut end = 0;
    for region in layout["regions"].as_array().unwrap() {
        assert_eq!(number(&region["offset"]), end);
        end += number(&region["len"]);
    }
    assert_eq!(end, 64 * MIB);
    let partition = &layout["partitions"][0];
    let mut block = 0;
    let mut sums = std::collections::BTreeMap::new();
    for run in partition["runs"].as_array().unwrap() {
        assert_eq!(number(&run[1]), block);
        block += number(&run[2]);
        *sums.entry(run[0].as_str().unwrap()).or_insert(0) += number(&run[2]) * 4096;
    }
    assert_eq!(block, number(&partition["blocks"]));
    for share in partition["shares"].as_array().unwrap() {
        assert_eq!(sums.remove(share[0].as_str().unwrap()), share[1].as_u64());
    }
    assert!(sums.is_empty(), "{sums:?}");

    // The file system itself is asked.
    let planned = crate::planned::plan_config(&workspace.config());
    let ext4 = planned.file_systems[0].as_ref().unwrap();
    let image = workspace.path().join("ext4.img");
    write_to_file(&**ext4, &image);
    let mut files = Vec::new();
    leaves("", &partition["root"], &mut files);
    let names: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    assert!(names.contains(&"/src/sm\u{e4}ll"), "{names:?}");
    for (path, leaf) in files.iter().filter(|(path, _)| !path.contains('"')) {
        let blocks = run_text(
            "debugfs",
            ["-R", &format!("blocks \"{path}\""), image.to_str().unwrap()],
        );
        let mut expected: Vec<u64> = Vec::new();
        for extent in leaf["extents"].as_array().unwrap() {
            expected.extend(number(&extent[0])..number(&extent[0]) + number(&extent[1]));
        }
        let told: Vec<u64> = blocks
            .split_whitespace()
            .map(|one| one.parse().unwrap())
            .collect();
        assert_eq!(told, expected, "{path}");
    }
    // Grains are those in which the disk has data.
    let disk = crate::planned::image(&planned, "disk.img");
    let stored: Vec<u64> = layout["grains"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|run| number(&run[0])..number(&run[0]) + number(&run[1]))
        .collect();
    for grain in 0..1024 {
        let start = grain * 65_536;
        let has_data = disk
            .data
            .next_data(start)
            .is_some_and(|data| data < start + 65_536);
        assert_eq!(stored.contains(&grain), has_data, "grain {grain}");
    }
}

/// Chromium, driven over WebDriver (W3C).
struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    fn new(is_dark: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
        };
        wait_until("the driver listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        // 0 is dark.
        let scheme = format!(
            "--blink-settings=preferredColorScheme={}",
            u8::from(!is_dark)
        );
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            &scheme,
        ];
        let asked = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        } } });
        let made = browser.post("/session", &asked);
        browser.session = made["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, &body.to_string())
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let answer = whole_answer(&mut stream);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let answer: Value = serde_json::from_str(body).unwrap();
        assert!(answer["value"]["error"].is_null(), "{answer}");
        answer["value"].clone()
    }

    fn go(&self, url: &str) {
        self.post(
            &format!("/session/{}/url", self.session),
            &json!({ "url": url }),
        );
    }

    fn run(&self, script: &str) -> Value {
        let path = format!("/session/{}/execute/sync", self.session);
        self.post(&path, &json!({ "script": script, "args": [] }))
    }

    /// Errors and warnings of the page since the last call.
    fn complaints(&self) -> Vec<String> {
        let path = format!("/session/{}/se/log", self.session);
        let lines = self.post(&path, &json!({ "type": "browser" }));
        let lines = lines.as_array().unwrap();
        let severe = lines.iter().filter(|line| line["level"] != "INFO");
        severe.map(ToString::to_string).collect()
    }
}

/// An answer as long as it says: the driver leaves connections open.
fn whole_answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65_536];
    loop {
        let count = stream.read(&mut chunk).unwrap();
        assert_ne!(count, 0, "the driver closed the connection");
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.trim().parse().unwrap());
        if body.len() >= length {
            return text.into_owned();
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", &format!("/session/{}", self.session), "");
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}

fn have_browser() -> bool {
    require_program("chromedriver") && require_program("chromium")
}

#[test]
fn a_browser_shows_the_page_in_light_and_dark() {
    if !have_browser() {
        return;
    }
    let workspace = workspace();
    let page = pictures(&workspace).join("layout.html");
    let mut papers = Vec::new();
    for is_dark in [false, true] {
        let browser = Browser::new(is_dark);
        browser.go(&format!("file://{}", page.display()));
        assert_eq!(browser.run("return document.body.dataset.drawn"), "yes");
        let boxes = browser.run("return document.querySelectorAll('rect').length");
        assert!(boxes.as_u64().unwrap() > 10, "{boxes}");
        let says = "return [...document.querySelectorAll('rect')].map((r) => r.tip)";
        let tips = browser.run(says).to_string();
        assert!(tips.contains("/src/large\\n9,000,000 bytes"), "{tips}");
        // A directory is zoomed into, and the address remembers it.
        browser.run(
            "[...document.querySelectorAll('rect.branch')].find((r) => r.tip.startsWith('/src/deep/')).dispatchEvent(new MouseEvent('click'))",
        );
        let hash = browser.run("return location.hash");
        assert!(hash.as_str().unwrap().starts_with("#0:"), "{hash}");
        let rows = browser.run("return document.querySelector('table').textContent");
        assert!(
            rows.as_str().unwrap().contains("/src/deep/er/middle"),
            "{rows}"
        );
        assert!(!rows.as_str().unwrap().contains("/src/large"), "{rows}");
        assert_eq!(browser.complaints(), [""; 0]);
        papers.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
    }
    assert_eq!(papers, ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]);
}

#[test]
fn the_page_in_the_mount_follows_the_generations() {
    if !require_fuse() || !have_browser() {
        return;
    }
    let live = Live::new(&config("first"));
    live.settle();
    let known = live.generation();
    let browser = Browser::new(false);
    let page = live.file(".miragefs/layout.html");
    browser.go(&format!("file://{}#0:100:2000:", page.display()));
    let number = || browser.run("return document.getElementById('number').textContent");
    assert_eq!(number(), format!("generation {known}"));
    wait_until("the page has heard of the mount", || {
        browser.run("return document.getElementById('live').textContent") == "live"
    });
    fs::write(live.source("new-file"), noise(5, 3_000_000)).unwrap();
    live.settle();
    let newest = live.generation();
    assert!(newest > known);
    wait_until("the page shows the new generation", || {
        number() == format!("generation {newest}")
    });
    assert_eq!(browser.run("return document.body.dataset.drawn"), "yes");
    let table = browser.run("return document.querySelector('table').textContent");
    assert!(table.as_str().unwrap().contains("/src/new-file"), "{table}");
    // What was looked at is still looked at.
    let all = browser.run("return document.querySelector('[aria-label=\"show all\"]').disabled");
    assert_eq!(all, false);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_mount_tells_of_itself() {
    if !require_fuse() {
        return;
    }
    let live = Live::new(&config("first"));
    live.settle();
    let control = live.file(".miragefs");
    let read = |name: &str| fs::read_to_string(control.join(name)).unwrap();
    let resolved = read("config.toml");
    assert!(resolved.contains("on-change = \"fail\""), "{resolved}");
    // It is a config that comes to the same.
    let path = live.workspace().path().join("resolved.toml");
    fs::write(&path, resolved).unwrap();
    let dest = live.workspace().path().join("from-resolved");
    let mut command = live.workspace().miragefs();
    let exported = output(command.arg("export").arg(&path).arg("boot.ova").arg(&dest));
    assert_eq!(exported.status.code(), Some(0), "{}", stderr(&exported));
    assert!(fs::read(dest).unwrap() == fs::read(live.file("boot.ova")).unwrap());
    let layout: Value = serde_json::from_str(&read("layout.json")).unwrap();
    assert_eq!(layout["generation"], live.generation());
    assert!(read("layout.svg").contains(&format!("generation {}", live.generation())));
    assert!(read("layout.html").starts_with("<!DOCTYPE html>"));
    assert!(read("log").contains(": mounted\n"), "{}", read("log"));
    assert_eq!(
        read("generation.js"),
        format!("miragefsGeneration({});\n", live.generation())
    );
    // A size is that of what is read.
    for name in ["config.toml", "layout.json", "layout.svg", "layout.html"] {
        let len = fs::metadata(control.join(name)).unwrap().len();
        assert_eq!(len, to_u64(read(name).len()), "{name}");
    }
    // No listing has what acts, and nothing can be written.
    let listed: Vec<_> = fs::read_dir(&control)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!listed.contains(&"reload".to_owned()), "{listed:?}");
    assert!(listed.contains(&"status.json".to_owned()), "{listed:?}");
    assert!(fs::write(control.join("status.json"), "x").is_err());
    let names = fs::read_dir(live.workspace().mountpoint()).unwrap();
    assert_eq!(names.count(), 3);
}
