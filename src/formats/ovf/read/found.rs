//! The machine that a descriptor describes, as far as other descriptions can say it.

use std::collections::BTreeMap;

/// What was found; `None` and empty for what the descriptor does not say, or not in a way that is understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// `ovf:id` of the operating system.
    pub os_id: Option<u16>,
    /// `vmw:osType`.
    pub vmw_os_type: Option<String>,
    /// The first N of `vmx-N`.
    pub hardware_version: Option<u32>,
    /// VMware's key `firmware`.
    pub firmware: Option<String>,
    /// The text of the annotation.
    pub annotation: Option<String>,
    /// Virtual CPUs.
    pub cpus: Option<u32>,
    /// Memory in MiB.
    pub memory_mib: Option<u64>,
    /// The disk's controller.
    pub controller: Option<FoundController>,
    /// Number of the disk on it.
    pub disk_address: Option<u32>,
    /// Network cards in order: model and network.
    pub cards: Vec<(String, String)>,
    /// A number that is there and is not understood, or not possible: what it is of, and how it was written.
    pub odd: Option<(&'static str, String)>,
    /// VMware's extra keys.
    pub extra: Vec<(String, String)>,
}

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundController {
    /// CIM_ResourceAllocationSettingData.ResourceType.
    pub resource_type: u32,
    /// `ResourceSubType`, empty if there is none.
    pub sub_type: String,
    /// `Address`.
    pub address: Option<u32>,
}

/// Children of an `Item` by name.
pub(super) type Fields = BTreeMap<String, String>;

fn number<T: std::str::FromStr>(fields: &Fields, name: &str) -> Option<T> {
    fields.get(name)?.trim().parse().ok()
}

pub(super) fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).map_or("", |text| text.trim())
}

pub(super) fn resource_type(fields: &Fields) -> Option<u32> {
    number(fields, "ResourceType")
}

impl Found {
    /// Takes from the items what they say. `disk` is that of the hard disk.
    pub(super) fn take_items(&mut self, items: &[Fields], disk: &Fields) {
        for item in items {
            match resource_type(item) {
                Some(3) if self.cpus.is_none() => {
                    self.cpus = number(item, "VirtualQuantity").filter(|cpus| *cpus > 0);
                    self.note_odd(self.cpus.is_none(), "number of CPUs", item);
                }
                Some(4) if self.memory_mib.is_none() => {
                    self.memory_mib = memory_mib(item).filter(|mib| *mib > 0);
                    self.note_odd(self.memory_mib.is_none(), "size of memory", item);
                }
                Some(10) => self.cards.push((
                    text(item, "ResourceSubType").to_owned(),
                    text(item, "Connection").to_owned(),
                )),
                _ => {}
            }
        }
        let parent = text(disk, "Parent");
        let mut others = items.iter();
        self.controller = others
            .find(|item| !parent.is_empty() && text(item, "InstanceID") == parent)
            .and_then(|item| {
                Some(FoundController {
                    resource_type: resource_type(item)?,
                    sub_type: text(item, "ResourceSubType").to_owned(),
                    address: number(item, "Address"),
                })
            });
        self.disk_address = number(disk, "AddressOnParent");
    }

    fn note_odd(&mut self, is_odd: bool, what: &'static str, item: &Fields) {
        if is_odd && self.odd.is_none() {
            let (quantity, unit) = (text(item, "VirtualQuantity"), text(item, "AllocationUnits"));
            self.odd = Some((what, format!("{quantity} {unit}").trim().to_owned()));
        }
    }
}

/// `byte * 2^20` as the specification writes units, and the words of older exporters.
fn memory_mib(item: &Fields) -> Option<u64> {
    let quantity: u64 = number(item, "VirtualQuantity")?;
    let unit = text(item, "AllocationUnits").to_ascii_lowercase();
    let shift = match unit.as_str() {
        "byte" | "bytes" => 0,
        "kb" | "kilobytes" => 10,
        "mb" | "mib" | "megabytes" | "" => 20,
        "gb" | "gib" | "gigabytes" => 30,
        _ => {
            let exponent: String = unit.split_whitespace().collect();
            exponent.strip_prefix("byte*2^")?.parse().ok()?
        }
    };
    let bytes = quantity.checked_mul(1_u64.checked_shl(shift)?)?;
    Some(bytes >> 20)
}
