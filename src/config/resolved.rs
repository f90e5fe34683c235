//! A validated config as text again: everything said out, nothing left to includes, variables and defaults.
//!
//! Invariant: the text is a config that comes to the same [`Spec`], but for where things stand in it.

mod images;
mod partition;
mod vm;

use std::fmt::Display;
use std::path::Path;

use super::spec::{BootCode, DiskSize, OnChange, PartitionTable, Spec};

/// The first line.
const HEADING: &str = "# as resolved: what the config and all that it includes come to\n";

/// `spec` as TOML.
///
/// Paths that are no UTF-8 cannot be typed in a config and so do not occur.
#[must_use]
pub fn resolved(spec: &Spec) -> String {
    let mut text = Text::default();
    text.line("name", &quoted(&spec.name));
    text.line("seed", &quoted(&spec.seed));
    match spec.times.clamp {
        Some(time) => text.line("source-date-epoch", &time),
        None => text.comment(&format!(
            "what has no source is of {}, seconds since 1970",
            spec.times.default
        )),
    }
    let on_change = match spec.on_change {
        OnChange::Fail => "fail",
        OnChange::Keep => "keep",
    };
    text.line("on-change", &quoted(on_change));
    text.heading("[disk]");
    match spec.disk.size {
        DiskSize::Fixed(bytes) => text.line("size", &bytes),
        DiskSize::Auto => text.line("size", &quoted("auto")),
    }
    let table = match spec.disk.table {
        PartitionTable::Mbr => "mbr",
        PartitionTable::None => "none",
    };
    text.line("table", &quoted(table));
    match &spec.disk.boot_code {
        BootCode::None if spec.disk.table == PartitionTable::None => {}
        BootCode::None => text.line("boot-code", &quoted("none")),
        BootCode::File(path) => text.line("boot-code", &path_text(path)),
    }
    if let Some(extlinux) = &spec.extlinux {
        text.heading("[bootloader]");
        text.line("extlinux", &path_text(extlinux));
    }
    for index in 0..spec.partitions.len() {
        partition::write(&mut text, spec, index);
    }
    vm::write(&mut text, &spec.vm);
    images::write(&mut text, spec);
    format!("{HEADING}{}", text.0)
}

/// TOML in the making.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, key: &str, value: &dyn Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn optional(&mut self, key: &str, value: Option<&impl Display>) {
        if let Some(value) = value {
            self.line(key, value);
        }
    }

    /// An array with a line for each element; nothing for none.
    fn array(&mut self, key: &str, elements: &[String]) {
        if elements.is_empty() {
            return;
        }
        self.0.push_str(&format!("{key} = [\n"));
        for element in elements {
            self.0.push_str(&format!("    {element},\n"));
        }
        self.0.push_str("]\n");
    }

    fn heading(&mut self, heading: &str) {
        self.0.push_str(&format!("\n{heading}\n"));
    }

    fn comment(&mut self, comment: &str) {
        self.0.push_str(&format!("# {comment}\n"));
    }
}

/// An inline table in the making.
#[derive(Default)]
struct Inline(Vec<String>);

impl Inline {
    fn with(mut self, key: &str, value: impl Display) -> Self {
        self.0.push(format!("{key} = {value}"));
        self
    }

    fn with_optional(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    fn text(&self) -> String {
        format!("{{ {} }}", self.0.join(", "))
    }
}

/// A TOML string on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// An array of strings on one line.
fn quoted_array(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn path_text(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn octal(mode: u16) -> String {
    quoted(&format!("{mode:04o}"))
}
