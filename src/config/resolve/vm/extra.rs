//! `vmx`: further keys of a VMX.

use super::VmError;
use crate::config::raw::{RawVariable, RawVm};
use crate::config::resolve::{Context, Result};

/// Keys that miragefs writes itself, in lower case, and where the config says them.
const OURS: &[(&str, &str)] = &[
    (".encoding", "leave it out: the file is UTF-8"),
    ("config.version", "leave it out: it is always 8"),
    ("virtualhw.version", "write hardware-version in [vm]"),
    ("displayname", "write `name` at the top of the config"),
    ("annotation", "write annotation in [vm]"),
    ("guestos", "write guest-os in [vm]"),
    ("firmware", "write firmware in [vm]"),
    ("numvcpus", "write cpus in [vm]"),
    ("memsize", "write memory in [vm]"),
    ("vmci0.present", "leave it out: it is always TRUE"),
    ("hpet0.present", "leave it out: it is always TRUE"),
    ("floppy0.present", "leave it out: it is always FALSE"),
];
const BRIDGE_KEYS: &[&str] = &["present", "virtualdev", "functions"];
const CONTROLLER_KEYS: &[&str] = &["present", "virtualdev"];
const CARD_KEYS: &[&str] = &[
    "vnet",
    "present",
    "virtualdev",
    "connectiontype",
    "networkname",
    "addresstype",
];
/// Cards that `networks` can describe.
const CARDS: usize = super::NETWORKS_MAX;

pub(super) fn resolve(raw: &RawVm, context: &Context<'_>) -> Result<Vec<(String, String)>> {
    let mut extra: Vec<(String, String)> = Vec::new();
    for (typed, value) in raw.vmx.iter().flat_map(|typed| typed.get_ref()) {
        let key = typed.get_ref().clone();
        let is_key = !key.is_empty()
            && key
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"=#\"".contains(&byte));
        if !is_key {
            return Err(context.error(&typed.span(), VmError::VmxKey { key }));
        }
        if let Some(says) = ours(&key) {
            return Err(context.error(&typed.span(), VmError::VmxOurs { key, says }));
        }
        let is_same = |(other, _): &&(String, String)| other.eq_ignore_ascii_case(&key);
        if let Some((first, _)) = extra.iter().find(is_same) {
            let first = first.clone();
            let kind = VmError::VmxTwice { first, second: key };
            return Err(context.error(&typed.span(), kind));
        }
        let text = match value.get_ref() {
            RawVariable::Number(value) => value.to_string(),
            RawVariable::Text(value) => value.clone(),
        };
        let is_foreign = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
        if text.chars().any(is_foreign) {
            return Err(context.error(&value.span(), VmError::Control { key: "vmx" }));
        }
        extra.push((key, text));
    }
    Ok(extra)
}

/// Where the config says what `key` sets, if miragefs writes it: whichever controller and cards there are, so that a
/// key does not change its meaning when they do.
fn ours(key: &str) -> Option<&'static str> {
    let key = key.to_ascii_lowercase();
    if let Some((_, says)) = OURS.iter().find(|(ours, _)| *ours == key) {
        return Some(says);
    }
    let (device, field) = key.split_once('.')?;
    match device {
        "scsi0" | "sata0" | "ide0" if CONTROLLER_KEYS.contains(&field) => {
            Some("write disk-controller and scsi-controller in [vm]")
        }
        "scsi0:0" | "sata0:0" | "ide0:0" => Some("leave it out: the disk is there"),
        _ => {
            let (kind, number) = split_number(device)?;
            match kind {
                "pcibridge" if BRIDGE_KEYS.contains(&field) => {
                    Some("leave it out: the bridges are always the same")
                }
                "ethernet" if CARD_KEYS.contains(&field) && number < CARDS => {
                    Some("write networks in [vm]")
                }
                _ => None,
            }
        }
    }
}

fn split_number(device: &str) -> Option<(&str, usize)> {
    let kind = device.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let number = device.strip_prefix(kind)?.parse().ok()?;
    Some((kind, number))
}
