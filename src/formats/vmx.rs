//! VMX: VMware's configuration of a machine, lines of `key = "value"`.
//!
//! Sources: open-vm-tools `lib/dict/dictll.c` for the lines, VMware's own files and packer's template for the keys;
//! there is no schema. Invariant: [`entries`] reads back what [`Line`] writes.

use std::fmt::{self, Display, Write};

/// What varies between configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vmx<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// VMware's name of the guest's system.
    pub guest_os: &'a str,
    /// `bios` or `efi`.
    pub firmware: &'a str,
    /// The N of `vmx-N`.
    pub hardware_version: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB, a multiple of 4.
    pub memory_mib: u64,
    /// The disk's controller.
    pub controller: Controller<'a>,
    /// Where the disk is on it.
    pub slot: Slot,
    /// The VMDK: absolute, or relative to the configuration.
    pub disk_path: &'a str,
    /// Network cards in order.
    pub networks: Vec<Network<'a>>,
    /// Notes for people.
    pub annotation: Option<&'a str>,
    /// Further keys.
    pub extra: Vec<(&'a str, &'a str)>,
}

/// A kind of controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller<'a> {
    /// SCSI; `virtualDev` is `lsilogic`, `lsisas1068`, `buslogic` or `pvscsi`.
    Scsi(&'a str),
    /// AHCI.
    Sata,
    /// PIIX4, which is always there.
    Ide,
    /// NVMe.
    Nvme,
}

impl Controller<'_> {
    /// How its keys begin.
    #[must_use]
    pub const fn prefix(&self) -> &'static str {
        match self {
            Self::Scsi(_) => "scsi",
            Self::Sata => "sata",
            Self::Ide => "ide",
            Self::Nvme => "nvme",
        }
    }
}

/// A place for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Number of the controller.
    pub bus: u32,
    /// Number of the device on it.
    pub unit: u32,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network<'a> {
    /// Name of the network.
    pub name: &'a str,
    /// `virtualDev`: `e1000`, `e1000e`, `vmxnet3` or `vlance`.
    pub model: &'a str,
}

impl Display for Vmx<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Line(".encoding", "UTF-8").fmt(f)?;
        Line("config.version", "8").fmt(f)?;
        number(f, "virtualHW.version", self.hardware_version.into())?;
        Line("displayName", self.name).fmt(f)?;
        if let Some(annotation) = self.annotation {
            Line("annotation", annotation).fmt(f)?;
        }
        Line("guestOS", self.guest_os).fmt(f)?;
        Line("firmware", self.firmware).fmt(f)?;
        number(f, "numvcpus", self.cpus.into())?;
        number(f, "memsize", self.memory_mib)?;
        write_bridges(f)?;
        Line("vmci0.present", "TRUE").fmt(f)?;
        Line("hpet0.present", "TRUE").fmt(f)?;
        // Without it VMware looks for a floppy drive of the host.
        Line("floppy0.present", "FALSE").fmt(f)?;
        write_controller(f, self.controller, self.slot.bus)?;
        f.write_str(&disk_lines(
            self.controller.prefix(),
            self.slot,
            self.disk_path,
        ))?;
        for (index, network) in self.networks.iter().enumerate() {
            write_network(f, index, network)?;
        }
        for (key, value) in &self.extra {
            Line(key, value).fmt(f)?;
        }
        Ok(())
    }
}

/// The lines that make a controller present; none for IDE.
#[must_use]
pub fn controller_lines(controller: Controller<'_>, bus: u32) -> String {
    let mut text = String::new();
    write_controller(&mut text, controller, bus).expect("a text takes everything");
    text
}

fn write_controller(to: &mut impl Write, controller: Controller<'_>, bus: u32) -> fmt::Result {
    let key = |field: &str| format!("{}{bus}.{field}", controller.prefix());
    match controller {
        Controller::Ide => Ok(()),
        Controller::Sata | Controller::Nvme => write!(to, "{}", Line(&key("present"), "TRUE")),
        Controller::Scsi(model) => {
            write!(to, "{}", Line(&key("present"), "TRUE"))?;
            write!(to, "{}", Line(&key("virtualDev"), model))
        }
    }
}

/// The lines of a disk that is opened for reading only: writes go to a redo log of the running machine.
#[must_use]
pub fn disk_lines(prefix: &str, slot: Slot, path: &str) -> String {
    let Slot { bus, unit } = slot;
    let key = |field: &str| format!("{prefix}{bus}:{unit}.{field}");
    [
        (key("present"), "TRUE"),
        (key("fileName"), path),
        (key("mode"), "independent-nonpersistent"),
    ]
    .iter()
    .map(|(key, value)| Line(key, value).to_string())
    .collect()
}

/// The PCI bridges that machines since version 7 have; with fewer VMware runs out of slots.
fn write_bridges(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    Line("pciBridge0.present", "TRUE").fmt(f)?;
    for bridge in 4..8 {
        let key = |field: &str| format!("pciBridge{bridge}.{field}");
        Line(&key("present"), "TRUE").fmt(f)?;
        Line(&key("virtualDev"), "pcieRootPort").fmt(f)?;
        Line(&key("functions"), "8").fmt(f)?;
    }
    Ok(())
}

fn write_network(f: &mut fmt::Formatter<'_>, index: usize, network: &Network<'_>) -> fmt::Result {
    let key = |field: &str| format!("ethernet{index}.{field}");
    Line(&key("present"), "TRUE").fmt(f)?;
    Line(&key("virtualDev"), network.model).fmt(f)?;
    match network.name {
        "nat" | "bridged" | "hostonly" => Line(&key("connectionType"), network.name).fmt(f)?,
        name if is_vmnet(name) => {
            Line(&key("connectionType"), "custom").fmt(f)?;
            Line(&key("vnet"), name).fmt(f)?;
        }
        // A port group of ESXi.
        name => Line(&key("networkName"), name).fmt(f)?,
    }
    Line(&key("addressType"), "generated").fmt(f)
}

/// `VMnet8` and the like: a virtual switch of Workstation.
fn is_vmnet(name: &str) -> bool {
    let (kind, number) = name.split_at_checked(5).unwrap_or(("", ""));
    kind.eq_ignore_ascii_case("vmnet")
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn number(f: &mut fmt::Formatter<'_>, key: &str, value: u64) -> fmt::Result {
    Line(key, &value.to_string()).fmt(f)
}

/// A key and its value as one line.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a>(pub &'a str, pub &'a str);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = \"", self.0)?;
        for c in self.1.chars() {
            match c {
                // What DictLL_MarshalLine escapes.
                '"' | '|' | '\u{7f}' | '\0'..='\u{8}' | '\u{a}'..='\u{1f}' => {
                    write!(f, "|{:02X}", u32::from(c))?;
                }
                _ => f.write_char(c)?,
            }
        }
        f.write_str("\"\n")
    }
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The line with its end.
    pub text: &'a str,
    /// Key and value; `None` for comments, empty lines and what VMware would leave alone as well.
    pub pair: Option<(&'a str, String)>,
}

/// Whether a key can be written: visible letters of ASCII that end no key.
#[must_use]
pub fn is_key(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"=#\"".contains(&byte))
}

/// The lines of a file.
pub fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    text.split_inclusive('\n').enumerate().map(|(index, line)| {
        let content = line.strip_suffix('\n').unwrap_or(line);
        let content = content.strip_suffix('\r').unwrap_or(content);
        let content = match index {
            0 => content.strip_prefix('\u{feff}').unwrap_or(content),
            _ => content,
        };
        Entry {
            text: line,
            pair: pair(content),
        }
    })
}

/// As DictLL_UnmarshalLine: blanks around both, a value in quotes or without, a comment behind.
fn pair(line: &str) -> Option<(&str, String)> {
    let blank = [' ', '\t'];
    let line = line.trim_start_matches(blank);
    let key_end = line.find([' ', '\t', '#', '=', '\0'])?;
    let (key, rest) = line.split_at(key_end);
    let rest = rest.trim_start_matches(blank).strip_prefix('=')?;
    let rest = rest.trim_start_matches(blank);
    let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
        quoted.split_once('"')?
    } else {
        rest.split_at(rest.find([' ', '\t', '#', '\0']).unwrap_or(rest.len()))
    };
    let rest = rest.trim_start_matches(blank);
    let is_whole = !key.is_empty() && (rest.is_empty() || rest.starts_with('#'));
    is_whole.then(|| (key, unescape(value)))
}

/// `|22` is a quote; anything else behind `|` stays as it is.
fn unescape(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let escaped = (*first == b'|')
            .then(|| behind.split_at_checked(2))
            .flatten()
            .and_then(|(digits, after)| Some((hex_byte(digits)?, after)));
        let (byte, after) = escaped.unwrap_or((*first, behind));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vmx() -> Vmx<'static> {
        Vmx {
            name: "lazyvm",
            guest_os: "other-64",
            firmware: "bios",
            hardware_version: 13,
            cpus: 1,
            memory_mib: 512,
            controller: Controller::Scsi("lsilogic"),
            slot: Slot { bus: 0, unit: 0 },
            disk_path: "/srv/images/disk.vmdk",
            networks: vec![Network {
                name: "nat",
                model: "e1000",
            }],
            annotation: None,
            extra: Vec::new(),
        }
    }

    /// The keys of packer's template for a machine of this kind, in the form that Workstation writes.
    #[test]
    fn encodes_reference_bytes() {
        let expected = r#".encoding = "UTF-8"
config.version = "8"
virtualHW.version = "13"
displayName = "lazyvm"
guestOS = "other-64"
firmware = "bios"
numvcpus = "1"
memsize = "512"
pciBridge0.present = "TRUE"
pciBridge4.present = "TRUE"
pciBridge4.virtualDev = "pcieRootPort"
pciBridge4.functions = "8"
pciBridge5.present = "TRUE"
pciBridge5.virtualDev = "pcieRootPort"
pciBridge5.functions = "8"
pciBridge6.present = "TRUE"
pciBridge6.virtualDev = "pcieRootPort"
pciBridge6.functions = "8"
pciBridge7.present = "TRUE"
pciBridge7.virtualDev = "pcieRootPort"
pciBridge7.functions = "8"
vmci0.present = "TRUE"
hpet0.present = "TRUE"
floppy0.present = "FALSE"
scsi0.present = "TRUE"
scsi0.virtualDev = "lsilogic"
scsi0:0.present = "TRUE"
scsi0:0.fileName = "/srv/images/disk.vmdk"
scsi0:0.mode = "independent-nonpersistent"
ethernet0.present = "TRUE"
ethernet0.virtualDev = "e1000"
ethernet0.connectionType = "nat"
ethernet0.addressType = "generated"
"#;
        assert_eq!(vmx().to_string(), expected);
    }

    #[test]
    fn disks_hang_on_any_controller() {
        for (controller, lines) in [
            (Controller::Ide, "ide0:0.present = \"TRUE\"\n"),
            (
                Controller::Sata,
                "sata0.present = \"TRUE\"\nsata0:0.present = \"TRUE\"\n",
            ),
            (
                Controller::Nvme,
                "nvme0.present = \"TRUE\"\nnvme0:0.present = \"TRUE\"\n",
            ),
        ] {
            let text = Vmx {
                controller,
                ..vmx()
            }
            .to_string();
            assert!(
                text.contains(&format!("floppy0.present = \"FALSE\"\n{lines}")),
                "{text}"
            );
            assert!(!text.contains("scsi"));
        }
    }

    #[test]
    fn networks_are_those_of_workstation_or_esxi() {
        let text = |name| {
            let model = "vmxnet3";
            let networks = vec![Network { name, model }];
            Vmx { networks, ..vmx() }.to_string()
        };
        assert!(text("hostonly").contains("ethernet0.connectionType = \"hostonly\"\n"));
        assert!(
            text("VMnet12")
                .contains("ethernet0.connectionType = \"custom\"\nethernet0.vnet = \"VMnet12\"\n")
        );
        assert!(text("VM Network").contains("ethernet0.networkName = \"VM Network\"\n"));
        assert!(text("vmnet").contains("ethernet0.networkName = \"vmnet\"\n"));
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(
            Line("annotation", "a \"b\" | c\n\té").to_string(),
            "annotation = \"a |22b|22 |7C c|0A\té\"\n"
        );
    }

    /// The forms that the comment in dictll.c lists, and what it leaves alone.
    #[test]
    fn lines_are_read_as_vmware_reads_them() {
        let one = |line| entries(line).next().unwrap().pair;
        for (line, key, value) in [
            ("a = \"b\"", "a", "b"),
            ("\t a=b # c\r\n", "a", "b"),
            ("a = \"b # c\" # d\n", "a", "b # c"),
            ("a =", "a", ""),
            ("a = # c", "a", ""),
            ("a = \"|22|7C|zz|2\"", "a", "\"||zz|2"),
            ("\u{feff}.encoding = \"UTF-8\"", ".encoding", "UTF-8"),
        ] {
            assert_eq!(one(line), Some((key, value.to_owned())), "{line}");
        }
        for line in [
            "",
            "# a = b",
            "// a comment",
            "= b",
            "a",
            "a b = c",
            "a = \"b",
            "a = b c",
            "a = \"b\" c",
        ] {
            assert_eq!(
                entries(line).next().and_then(|entry| entry.pair),
                None,
                "{line}"
            );
        }
    }

    proptest! {
        #[test]
        fn round_trips(value in "\\PC*|[ -~\n\t\"|]*") {
            let text = Line("key", &value).to_string();
            prop_assert_eq!(text.matches('\n').count(), 1);
            let entry = entries(&text).next().unwrap();
            prop_assert_eq!(entry.text, text.as_str());
            prop_assert_eq!(entry.pair, Some(("key", value)));
        }

        #[test]
        fn any_text_is_split_without_loss(text in any::<String>()) {
            let joined: String = entries(&text).map(|entry| entry.text).collect();
            prop_assert_eq!(joined, text);
        }
    }
}
