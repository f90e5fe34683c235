//! What would keep a `syslinux.cfg` from booting: a `DEFAULT` that names nothing, files that the partition lacks.
//!
//! Invariant: only warnings come out of here, and only for what is certain to fail or very likely a mistake. The
//! language is that of syslinux 6.04 (`com32/elflink/ldlinux/readconfig.c`): keywords in any case, labels exact.

use std::fmt;

/// Names of the configuration file, in the order in which the boot loader tries them.
const CONFIG_NAMES: [&str; 2] = ["extlinux.conf", "syslinux.cfg"];
/// Where it looks after its own directory.
const CONFIG_DIRECTORIES: [&str; 3] = ["/boot/syslinux", "/syslinux", "/"];
/// Keywords that give a label what it starts, and with the kind that is a module.
const KERNEL_KEYWORDS: [&str; 7] = [
    "kernel", "linux", "boot", "bss", "pxe", "fdimage", "comboot",
];

/// Something that will not boot as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslinuxWarning {
    /// `DEFAULT` is neither a label nor a file.
    DefaultNamesNothing {
        /// Its first word.
        name: String,
        /// Line, from 1.
        line: usize,
        /// The labels that there are.
        labels: Vec<String>,
    },
    /// Neither `DEFAULT` nor `UI`: the boot loader stops at its prompt.
    NoDefault {
        /// The labels that there are.
        labels: Vec<String>,
    },
    /// A file that the partition lacks.
    MissingFile {
        /// The keyword in capitals.
        keyword: String,
        /// The path as typed.
        path: String,
        /// Where that leads in the partition.
        resolved: String,
        /// Line, from 1.
        line: usize,
    },
}

impl fmt::Display for SyslinuxWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DefaultNamesNothing { name, line, .. } => write!(
                f,
                "line {line}: DEFAULT `{name}` names no label and no file of the partition"
            ),
            Self::NoDefault { .. } => {
                f.write_str("has neither DEFAULT nor UI, so nothing boots by itself")
            }
            Self::MissingFile {
                keyword,
                path,
                resolved,
                line,
            } => write!(
                f,
                "line {line}: {keyword} `{path}` does not exist in the partition (looked for {resolved})"
            ),
        }
    }
}

impl SyslinuxWarning {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::DefaultNamesNothing { labels, .. } | Self::NoDefault { labels } => {
                match labels.first() {
                    Some(first) => {
                        format!("labels are {}; write `DEFAULT {first}`", labels.join(", "))
                    }
                    None => "add a LABEL with LINUX and INITRD, and name it in DEFAULT".to_owned(),
                }
            }
            Self::MissingFile { keyword, .. } if keyword == "COM32" || keyword == "UI" => {
                "copy the module and the libraries it needs from /usr/lib/syslinux/modules/bios to the boot loader's directory".to_owned()
            }
            Self::MissingFile { .. } => {
                "names are case-sensitive, and relative ones start at the directory of the configuration file".to_owned()
            }
        }
    }
}

/// Paths at which the boot loader looks for its configuration, in order; the first that exists is used.
/// `install_directory` is absolute, `/` for the root.
#[must_use]
pub fn config_candidates(install_directory: &str) -> Vec<String> {
    std::iter::once(install_directory)
        .chain(CONFIG_DIRECTORIES)
        .flat_map(|directory| CONFIG_NAMES.map(|name| resolve(directory, name)))
        .collect()
}

/// Looks through a configuration file. `config_path` is its absolute path in the partition, `install_directory` that
/// of the boot loader; `exists` tells whether there is a file at an absolute path without `.` and `..`.
#[must_use]
pub fn check(
    config: &[u8],
    config_path: &str,
    install_directory: &str,
    exists: impl Fn(&str) -> bool,
) -> Vec<SyslinuxWarning> {
    let text = String::from_utf8_lossy(config);
    let parsed = Parsed::of(&text);
    let checker = Checker {
        config_directory: config_path.rsplit_once('/').map_or("/", |(head, _)| head),
        install_directory,
        module_directories: &parsed.module_directories,
        exists,
    };
    let mut warnings = checker.check_start(&parsed);
    let missing = parsed.files.iter();
    warnings.extend(missing.filter_map(|file| checker.check_file(file)));
    warnings
}

/// A file that a line names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamedFile<'a> {
    keyword: &'static str,
    path: &'a str,
    line: usize,
}

/// What counts in a configuration file.
#[derive(Debug, Default)]
struct Parsed<'a> {
    labels: Vec<&'a str>,
    /// The command of the last `DEFAULT`, and its line.
    default: Option<(&'a str, usize)>,
    /// Whether a `UI` overrides it.
    has_ui: bool,
    /// Whether stopping at the prompt is intended.
    has_prompt: bool,
    /// Where modules are looked for besides the boot loader's directory: `PATH`.
    module_directories: Vec<&'a str>,
    /// Whether labels may be defined in other files.
    has_include: bool,
    files: Vec<NamedFile<'a>>,
    /// A label that has been given no kernel yet: its name is the kernel's.
    pending: Option<(&'a str, usize)>,
}

impl<'a> Parsed<'a> {
    fn of(text: &'a str) -> Self {
        let mut parsed = Self::default();
        let mut in_text = false;
        for (line, content) in (1..).zip(text.lines()) {
            let (keyword, rest) = split_word(content);
            let keyword = keyword.to_ascii_lowercase();
            if in_text {
                in_text = keyword != "endtext";
            } else if keyword == "text" {
                in_text = true;
            } else {
                parsed.line(&keyword, rest, line);
            }
        }
        parsed.finish_label();
        parsed
    }

    fn line(&mut self, keyword: &str, rest: &'a str, line: usize) {
        let word = split_word(rest).0;
        match keyword {
            "label" => {
                self.finish_label();
                if !word.is_empty() {
                    self.labels.push(word);
                    self.pending = Some((word, line));
                }
            }
            "default" => self.default = Some((word, line)),
            "ui" => {
                self.has_ui = true;
                self.file("UI", word, line);
            }
            "include" => {
                self.has_include = true;
                self.file("INCLUDE", word, line);
            }
            "menu" => self.menu(rest, line),
            "prompt" => self.has_prompt = word != "0",
            "path" => self.module_directories.extend(rest.split(':')),
            "append" => self.append(rest, line),
            // Outside a label the boot loader ignores what follows here.
            _ if self.labels.is_empty() => {}
            "initrd" => self.file_list("INITRD", word, line),
            "com32" => self.kernel("COM32", word, line),
            "config" => self.kernel("CONFIG", word, line),
            "localboot" => self.pending = None,
            _ if KERNEL_KEYWORDS.contains(&keyword) => {
                let name = match keyword {
                    "linux" => "LINUX",
                    _ => "KERNEL",
                };
                self.kernel(name, word, line);
            }
            _ => {}
        }
    }

    /// `MENU INCLUDE` reads a file; entries that only exist in menus start nothing.
    fn menu(&mut self, rest: &'a str, line: usize) {
        let (command, rest) = split_word(rest);
        match command.to_ascii_lowercase().as_str() {
            "include" => {
                self.has_include = true;
                self.file("MENU INCLUDE", split_word(rest).0, line);
            }
            "goto" | "exit" | "quit" | "disable" | "disabled" | "separator" => self.pending = None,
            _ => {}
        }
    }

    /// `initrd=` among the kernel's parameters.
    fn append(&mut self, rest: &'a str, line: usize) {
        let parameters = rest.split_ascii_whitespace();
        for list in parameters.filter_map(|parameter| parameter.strip_prefix("initrd=")) {
            self.file_list("APPEND initrd=", list, line);
        }
    }

    fn kernel(&mut self, keyword: &'static str, path: &'a str, line: usize) {
        self.pending = None;
        self.file(keyword, path, line);
    }

    fn finish_label(&mut self) {
        if let Some((name, line)) = self.pending.take() {
            self.file("LABEL", name, line);
        }
    }

    fn file_list(&mut self, keyword: &'static str, list: &'a str, line: usize) {
        for path in list.split(',') {
            self.file(keyword, path, line);
        }
    }

    fn file(&mut self, keyword: &'static str, path: &'a str, line: usize) {
        if !path.is_empty() {
            self.files.push(NamedFile {
                keyword,
                path,
                line,
            });
        }
    }
}

struct Checker<'a, F> {
    config_directory: &'a str,
    install_directory: &'a str,
    module_directories: &'a [&'a str],
    exists: F,
}

impl<F: Fn(&str) -> bool> Checker<'_, F> {
    /// Whether the configuration starts something by itself.
    fn check_start(&self, parsed: &Parsed<'_>) -> Vec<SyslinuxWarning> {
        let labels = || {
            parsed
                .labels
                .iter()
                .map(|&label| label.to_owned())
                .collect()
        };
        // A file that is included may define what is missing here.
        if parsed.has_ui || parsed.has_include {
            return Vec::new();
        }
        match parsed.default {
            None if parsed.has_prompt => Vec::new(),
            None => vec![SyslinuxWarning::NoDefault { labels: labels() }],
            // A default that is no label is taken for the name of a kernel.
            Some((name, line)) if !parsed.labels.contains(&name) && !self.is_there(name) => {
                vec![SyslinuxWarning::DefaultNamesNothing {
                    name: name.to_owned(),
                    line,
                    labels: labels(),
                }]
            }
            Some(_) => Vec::new(),
        }
    }

    fn check_file(&self, file: &NamedFile<'_>) -> Option<SyslinuxWarning> {
        (!self.is_there(file.path)).then(|| SyslinuxWarning::MissingFile {
            keyword: file.keyword.to_owned(),
            path: file.path.to_owned(),
            resolved: resolve(self.config_directory, file.path),
            line: file.line,
        })
    }

    fn is_there(&self, path: &str) -> bool {
        // Other partitions and network paths are not ours to judge.
        if path.contains("::") || path.contains("://") || path.starts_with('(') {
            return true;
        }
        let is_module = path
            .len()
            .checked_sub(4)
            .and_then(|start| path.get(start..))
            .is_some_and(|end| end.eq_ignore_ascii_case(".c32"));
        let is_in = |directory: &str| (self.exists)(&resolve(directory, path));
        is_in(self.config_directory)
            || is_module
                && (is_in(self.install_directory)
                    || self
                        .module_directories
                        .iter()
                        .any(|directory| is_in(directory)))
    }
}

/// The first word of `text`, and what follows the white space after it.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_ascii_start();
    let end = text
        .find(|character: char| character.is_ascii_whitespace())
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_ascii())
}

/// `path` below `directory` as an absolute path without `.`, `..` and empty components.
fn resolve(directory: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { directory };
    let mut components = Vec::new();
    for component in base.split('/').chain(path.split('/')) {
        match component {
            "" | "." => {}
            ".." => drop(components.pop()),
            name => components.push(name),
        }
    }
    format!("/{}", components.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(config: &str, files: &[&str]) -> Vec<String> {
        check(
            config.as_bytes(),
            "/boot/syslinux.cfg",
            "/boot/extlinux",
            |path| files.contains(&path),
        )
        .iter()
        .map(ToString::to_string)
        .collect()
    }

    #[test]
    fn a_good_configuration_gives_no_warning() {
        let config = "\
# the lab
SERIAL 0 115200
PROMPT 0
default client
Label client
  Linux ../vmlinuz ro
  Append root=/dev/nfs initrd=a.img,/b.img quiet
LABEL off
  TEXT HELP
    LINUX is not a keyword here
  ENDTEXT
  COM32 poweroff.c32
LABEL disk
  LOCALBOOT 0
";
        let files = [
            "/vmlinuz",
            "/boot/a.img",
            "/b.img",
            "/boot/extlinux/poweroff.c32",
        ];
        assert_eq!(texts(config, &files), [""; 0]);
    }

    /// The mistake of a well-known tutorial: it cannot boot, for ever.
    #[test]
    fn default_must_name_a_label_or_a_file() {
        let config = "DEFAULT arch\nLABEL client\nLINUX ./vmlinuz\n";
        assert_eq!(
            texts(config, &["/boot/vmlinuz"]),
            ["line 1: DEFAULT `arch` names no label and no file of the partition"]
        );
        assert_eq!(texts(config, &["/boot/vmlinuz", "/boot/arch"]), [""; 0]);
        let warnings = check(config.as_bytes(), "/syslinux.cfg", "/", |_| false);
        assert_eq!(
            warnings[0].hint(),
            "labels are client; write `DEFAULT client`"
        );
    }

    #[test]
    fn labels_are_case_sensitive_and_the_last_default_counts() {
        let config = "DEFAULT x\nLABEL client\nLINUX k\nDEFAULT Client ro\n";
        assert_eq!(
            texts(config, &["/boot/k"]),
            ["line 4: DEFAULT `Client` names no label and no file of the partition"]
        );
    }

    #[test]
    fn missing_files_name_keyword_line_and_place() {
        let config = "DEFAULT a\r\nAPPEND initrd=global.img\r\nLABEL a\r\n  LINUX vmlinuz\r\n  INITRD one,/two\r\nLABEL b\r\n  COM32 menu.c32\r\nLABEL vmlinuz2\r\n";
        let warnings = check(config.as_bytes(), "/syslinux.cfg", "/", |path| {
            path == "/two"
        });
        let found: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "line 2: APPEND initrd= `global.img` does not exist in the partition (looked for /global.img)",
                "line 4: LINUX `vmlinuz` does not exist in the partition (looked for /vmlinuz)",
                "line 5: INITRD `one` does not exist in the partition (looked for /one)",
                "line 7: COM32 `menu.c32` does not exist in the partition (looked for /menu.c32)",
                "line 8: LABEL `vmlinuz2` does not exist in the partition (looked for /vmlinuz2)",
            ]
        );
        assert!(warnings[1].hint().starts_with("names are case-sensitive"));
        assert!(
            warnings[3]
                .hint()
                .contains("/usr/lib/syslinux/modules/bios")
        );
    }

    #[test]
    fn includes_and_ui_silence_the_default() {
        assert_eq!(
            texts("INCLUDE more.cfg\nDEFAULT x\n", &["/boot/more.cfg"]),
            [""; 0]
        );
        assert_eq!(
            texts("UI menu.c32\nDEFAULT x\n", &["/boot/menu.c32"]),
            [""; 0]
        );
        assert_eq!(
            texts("MENU INCLUDE gone.cfg\n", &[]),
            [
                "line 1: MENU INCLUDE `gone.cfg` does not exist in the partition (looked for /boot/gone.cfg)"
            ]
        );
        assert_eq!(
            texts(
                "LABEL a\nCONFIG other.cfg\nLABEL n\nLINUX http://h/k\n",
                &["/boot/other.cfg"]
            ),
            ["has neither DEFAULT nor UI, so nothing boots by itself"]
        );
    }

    #[test]
    fn a_prompt_needs_no_default_and_path_leads_to_modules() {
        let config = "PROMPT 1\nPATH /modules:/more\nLABEL off\nCOM32 poweroff.c32\n";
        assert_eq!(texts(config, &["/more/poweroff.c32"]), [""; 0]);
        assert_eq!(texts(config, &[]).len(), 1);
    }

    #[test]
    fn strange_bytes_are_no_problem() {
        for config in [
            &b""[..],
            b"\0\xff\n",
            b"LABEL\nLINUX\nDEFAULT\nAPPEND initrd=",
            b"TEXT",
        ] {
            drop(check(config, "/syslinux.cfg", "/", |_| false));
        }
    }

    #[test]
    fn candidates_are_in_the_order_of_the_boot_loader() {
        assert_eq!(
            config_candidates("/boot/extlinux")[..3],
            [
                "/boot/extlinux/extlinux.conf",
                "/boot/extlinux/syslinux.cfg",
                "/boot/syslinux/extlinux.conf"
            ]
        );
        assert_eq!(config_candidates("/")[0], "/extlinux.conf");
        assert_eq!(resolve("/a/b", "../../../c/./d"), "/c/d");
    }
}
