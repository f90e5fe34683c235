//! A VMX of somebody else: which lines are its disk, and which machine it describes.
//!
//! Invariant: lines that are neither the disk, nor the name, nor tied to another place come out as they were read.

mod hardware;
mod keys;
mod problem;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(super) use self::keys::{Device, is_tied};
pub use self::problem::VmxProblem;
use super::TemplateProblem;
use super::hardware::Controller;
use crate::config::spec::DiskController;
use crate::formats::vmx::{self, Line, Slot, controller_lines, disk_lines};

/// A VMX that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VmxTemplate {
    text: String,
    pairs: Vec<Pair>,
    /// Where the template's hard disk is, if it has one.
    disk: Option<Device>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    /// Line, from 1.
    line: u32,
    /// In lower case: case does not count.
    key: String,
    value: String,
}

impl Pair {
    fn is_true(&self) -> bool {
        self.value.eq_ignore_ascii_case("TRUE")
    }
}

impl VmxTemplate {
    /// Reads a VMX.
    pub(super) fn parse(text: String) -> Result<Self, (u32, VmxProblem)> {
        // What is written is UTF-8 by declaration, and the mark would end up behind that line.
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        for (line, content) in (1..).zip(text.split('\n')) {
            if content.strip_suffix('\r').unwrap_or(content).contains('\r') {
                return Err((line, VmxProblem::LoneCr));
            }
        }
        let pairs: Vec<Pair> = (1..)
            .zip(vmx::entries(&text))
            .filter_map(|(line, entry)| {
                let (key, value) = entry.pair?;
                let key = key.to_ascii_lowercase();
                Some(Pair { line, key, value })
            })
            .collect();
        let find = |key: &str| pairs.iter().find(|pair| pair.key == key);
        if let Some(pair) = find("encryption.keysafe").or_else(|| find("encryption.data")) {
            return Err((pair.line, VmxProblem::Encrypted));
        }
        if find("config.version").is_none() {
            return Err((1, VmxProblem::NotVmx));
        }
        if let Some(pair) = find(".encoding")
            && !pair.value.eq_ignore_ascii_case("UTF-8")
            && !text.is_ascii()
        {
            let encoding = pair.value.clone();
            return Err((pair.line, VmxProblem::Encoding { encoding }));
        }
        let disk = only_disk(&pairs)?;
        Ok(Self { text, pairs, disk })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The last line of a key, which is written in lower case.
    fn pair(&self, key: &str) -> Option<&Pair> {
        self.pairs.iter().rev().find(|pair| pair.key == key)
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.pair(key).map(|pair| pair.value.as_str())
    }

    fn is_true(&self, key: &str) -> bool {
        self.pair(key).is_some_and(Pair::is_true)
    }

    /// The template's place for a disk, else the first free one on a controller of the kind `wanted`.
    fn place(&self, wanted: DiskController) -> Result<Device, (u32, TemplateProblem)> {
        if let Some(disk) = self.disk {
            return Ok(disk);
        }
        let (prefix, buses, units, controllers) = match wanted {
            DiskController::Scsi(_) => ("scsi", 4, 16, "scsi0 to scsi3"),
            DiskController::Sata => ("sata", 4, 30, "sata0 to sata3"),
            DiskController::Ide => ("ide", 2, 2, "ide0 and ide1"),
        };
        (0..buses)
            .flat_map(|bus| (0..units).map(move |unit| Slot { bus, unit }))
            // Unit 7 of a SCSI bus is the controller itself.
            .filter(|slot| prefix != "scsi" || slot.unit != 7)
            .map(|slot| Device { prefix, slot })
            .find(|device| !self.is_true(&format!("{device}.present")))
            .ok_or_else(|| (1, VmxProblem::NoSlot { controllers }.into()))
    }

    /// The text with our disk and our name in it.
    pub(super) fn with_disk(
        &self,
        name: &str,
        path: &str,
        wanted: DiskController,
    ) -> Result<String, (u32, TemplateProblem)> {
        let place = self.place(wanted)?;
        let controller = self.missing_controller(place, wanted);
        let is_missing = controller.is_some();
        let mut edit = Edit {
            new: vec![
                (Part::Encoding, Line(".encoding", "UTF-8").to_string()),
                (Part::Name, Line("displayName", name).to_string()),
                (Part::Controller, controller.unwrap_or_default()),
                (Part::Disk, disk_lines(place.prefix, place.slot, path)),
            ],
            line_end: if self.text.contains("\r\n") {
                "\r\n"
            } else {
                "\n"
            },
            text: String::new(),
        };
        if self.value(".encoding").is_none() {
            edit.push(Part::Encoding);
        }
        for entry in vmx::entries(&self.text) {
            let key = entry.pair.map(|(key, _)| key.to_ascii_lowercase());
            match key.as_deref() {
                Some(".encoding") => edit.push(Part::Encoding),
                Some("displayname") => edit.push(Part::Name),
                Some(key) if place.owns(key) => edit.push(Part::Disk),
                Some(key) if is_missing && place.is_controller(key) => edit.push(Part::Controller),
                Some(key) if is_tied(key) => {}
                _ => edit.text.push_str(entry.text),
            }
        }
        if !edit.text.ends_with('\n') {
            edit.text.push_str(edit.line_end);
        }
        for part in [Part::Name, Part::Controller, Part::Disk] {
            edit.push(part);
        }
        Ok(edit.text)
    }

    /// The lines of the disk's controller, unless the template has it already.
    fn missing_controller(&self, place: Device, wanted: DiskController) -> Option<String> {
        let bus = place.slot.bus;
        let is_there = place.prefix == "ide"
            || self.disk.is_some()
            || self.is_true(&format!("{}{bus}.present", place.prefix));
        (!is_there).then(|| controller_lines(Controller::from(wanted).vmx(), bus))
    }
}

/// What takes the place of lines of the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Encoding,
    Name,
    Controller,
    Disk,
}

/// A text in the making.
struct Edit {
    /// What is still to be written.
    new: Vec<(Part, String)>,
    line_end: &'static str,
    text: String,
}

impl Edit {
    /// Writes a part, once.
    fn push(&mut self, wanted: Part) {
        let Some(at) = self.new.iter().position(|(part, _)| *part == wanted) else {
            return;
        };
        let (_, lines) = self.new.remove(at);
        self.text.push_str(&lines.replace('\n', self.line_end));
    }
}

/// The only hard disk that is present.
fn only_disk(pairs: &[Pair]) -> Result<Option<Device>, (u32, VmxProblem)> {
    let types: BTreeMap<&str, String> = pairs
        .iter()
        .filter_map(|pair| {
            let device = pair.key.strip_suffix(".devicetype")?;
            Some((device, pair.value.to_ascii_lowercase()))
        })
        .collect();
    let mut first: Option<Device> = None;
    for pair in pairs.iter().filter(|pair| pair.is_true()) {
        let Some((device, "present")) = Device::split(&pair.key) else {
            continue;
        };
        let kind = types.get(device.to_string().as_str());
        if kind.is_some_and(|kind| kind.contains("cdrom") || kind.contains("passthru")) {
            continue;
        }
        match first {
            None => first = Some(device),
            Some(first) if first == device => {}
            Some(first) => {
                let problem = VmxProblem::SecondDisk {
                    first: first.to_string(),
                    second: device.to_string(),
                };
                return Err((pair.line, problem));
            }
        }
    }
    Ok(first)
}
