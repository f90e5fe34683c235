//! One pass over a descriptor.

use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, QName, ResolveResult};
use quick_xml::{NsReader, XmlVersion};

use super::found::{Fields, Found, resource_type, text};
use super::mistake::Problem;
use super::tag::{Attribute, Tag};
use crate::units::to_usize;

/// A descriptor nests eight deep, with extensions a few more.
const DEPTH_MAX: usize = 64;
const HARD_DISK: u32 = 17;

/// Whose name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Ovf,
    Ovf2,
    Vmware,
    /// The classes of CIM that items and systems are made of.
    Cim,
    Other,
}

/// An element that is open.
struct Open {
    owner: Owner,
    local: String,
}

impl Open {
    fn is(&self, owner: Owner, local: &str) -> bool {
        self.owner == owner && self.local == local
    }
}

/// Where, and what.
type Fault = (usize, Problem);

/// What a pass yields.
pub(super) struct Parsed {
    pub(super) file: Tag,
    pub(super) disk: Tag,
    pub(super) found: Found,
    /// Where the hardware begins.
    pub(super) hardware_start: usize,
}

pub(super) struct Parser<'a> {
    reader: NsReader<&'a [u8]>,
    /// Where the reader's text begins in ours.
    base: usize,
    /// Where the current event begins.
    start: usize,
    stack: Vec<Open>,
    /// Text of the innermost element so far.
    text: String,
    has_envelope: bool,
    has_system: bool,
    /// Where the hardware begins.
    hardware_start: Option<usize>,
    file: Option<Tag>,
    disk: Option<Tag>,
    /// Where the open item begins, and its children.
    item: Option<(usize, Fields)>,
    items: Vec<(usize, Fields)>,
    found: Found,
}

impl<'a> Parser<'a> {
    pub(super) fn new(whole: &'a str) -> Self {
        // The reader would not count it.
        let behind_mark = whole.strip_prefix('\u{feff}');
        let base = behind_mark.map_or(0, |rest| whole.len().saturating_sub(rest.len()));
        Self {
            reader: NsReader::from_str(behind_mark.unwrap_or(whole)),
            base,
            start: 0,
            stack: Vec::new(),
            text: String::new(),
            has_envelope: false,
            has_system: false,
            hardware_start: None,
            file: None,
            disk: None,
            item: None,
            items: Vec::new(),
            found: Found::default(),
        }
    }

    /// Reads all of it.
    pub(super) fn run(mut self) -> Result<Parsed, Fault> {
        loop {
            self.start = self.position();
            let event = match self.reader.read_event() {
                Ok(event) => event,
                Err(error) => {
                    let at = self.absolute(self.reader.error_position());
                    let message = error.to_string();
                    return Err((at, Problem::Syntax { message }));
                }
            };
            match event {
                Event::Start(tag) => self.open(&tag, false)?,
                Event::Empty(tag) => {
                    self.open(&tag, true)?;
                    self.close();
                }
                Event::End(_) => self.close(),
                Event::Text(text) => self.text.push_str(&text.xml10_content()),
                Event::CData(text) => self.text.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => self.reference(&reference)?,
                Event::Decl(declaration) => {
                    if let Some(Ok(encoding)) = declaration.encoding()
                        && !encoding.eq_ignore_ascii_case("UTF-8")
                        && !encoding.eq_ignore_ascii_case("US-ASCII")
                    {
                        let encoding = encoding.into_owned();
                        return Err(self.fault(Problem::Encoding { encoding }));
                    }
                }
                Event::DocType(_) => return Err(self.fault(Problem::Doctype)),
                Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => return self.finish(),
            }
        }
    }

    /// Where the current event ends.
    fn position(&self) -> usize {
        self.absolute(self.reader.buffer_position())
    }

    fn absolute(&self, position: u64) -> usize {
        to_usize(position).saturating_add(self.base)
    }

    const fn fault(&self, problem: Problem) -> Fault {
        (self.start, problem)
    }

    fn syntax(&self, error: &impl ToString) -> Fault {
        let message = error.to_string();
        self.fault(Problem::Syntax { message })
    }

    fn reference(&mut self, reference: &quick_xml::events::BytesRef<'_>) -> Result<(), Fault> {
        if let Some(letter) = reference
            .resolve_char_ref()
            .map_err(|error| self.syntax(&error))?
        {
            self.text.push(letter);
            return Ok(());
        }
        let name = reference.xml10_content();
        match quick_xml::escape::resolve_predefined_entity(&name) {
            Some(letter) => {
                self.text.push_str(letter);
                Ok(())
            }
            None => Err(self.syntax(&format!("entity `{name}` is not declared"))),
        }
    }

    fn open(&mut self, tag: &BytesStart<'_>, is_empty: bool) -> Result<(), Fault> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(self.fault(Problem::TooDeep { max: DEPTH_MAX }));
        }
        let (resolved, local) = self.reader.resolver().resolve_element(tag.name());
        if let ResolveResult::Unknown(prefix) = &resolved {
            return Err(self.syntax(&format!("prefix `{prefix}` is not declared")));
        }
        let open = Open {
            owner: owner(&resolved),
            local: local.into_inner().to_owned(),
        };
        if self.stack.is_empty() {
            self.root(&open, tag)?;
        }
        match open.owner {
            Owner::Ovf => self.open_ovf(&open.local, tag, is_empty)?,
            Owner::Vmware => self.open_vmware(&open.local, tag, is_empty)?,
            Owner::Ovf2 | Owner::Cim | Owner::Other => {}
        }
        self.text.clear();
        self.stack.push(open);
        Ok(())
    }

    fn root(&mut self, open: &Open, tag: &BytesStart<'_>) -> Result<(), Fault> {
        if open.is(Owner::Ovf2, "Envelope") {
            return Err(self.fault(Problem::Version2));
        }
        if !open.is(Owner::Ovf, "Envelope") || self.has_envelope {
            let found = tag.name().into_inner().to_owned();
            return Err(self.fault(Problem::NotOvf { found }));
        }
        self.has_envelope = true;
        Ok(())
    }

    fn open_ovf(&mut self, local: &str, tag: &BytesStart<'_>, is_empty: bool) -> Result<(), Fault> {
        let parent = self.stack.last();
        let is_below = |name| parent.is_some_and(|open| open.is(Owner::Ovf, name));
        match local {
            "File" if is_below("References") => {
                let tag = self.tag(tag, is_empty)?;
                let href = self.required(&tag, "File", "href")?;
                self.required(&tag, "File", "id")?;
                if self.file.is_some() {
                    return Err(self.fault(Problem::SecondFile { href }));
                }
                self.file = Some(tag);
            }
            "Disk" if is_below("DiskSection") => {
                let tag = self.tag(tag, is_empty)?;
                let id = self.required(&tag, "Disk", "diskId")?;
                if self.disk.is_some() {
                    return Err(self.fault(Problem::SecondDisk { id }));
                }
                if tag.get("parentRef").is_some() {
                    return Err(self.fault(Problem::Delta { id }));
                }
                self.disk = Some(tag);
            }
            "VirtualSystemCollection" => return Err(self.fault(Problem::Collection)),
            "VirtualSystem" if self.has_system => return Err(self.fault(Problem::Collection)),
            "VirtualSystem" => self.has_system = true,
            "VirtualHardwareSection" if self.hardware_start.is_some() => {
                return Err(self.fault(Problem::SecondHardware));
            }
            "VirtualHardwareSection" => self.hardware_start = Some(self.start),
            "StorageItem" | "EthernetPortItem" => return Err(self.fault(Problem::Version2)),
            "OperatingSystemSection" => {
                let tag = self.tag(tag, is_empty)?;
                self.found.os_id = tag.get("id").and_then(|id| id.parse().ok());
                self.found.vmw_os_type = tag.get_vmware("osType").map(str::to_owned);
            }
            "Item" if is_below("VirtualHardwareSection") => {
                self.item = Some((self.start, Fields::new()));
            }
            _ => {}
        }
        Ok(())
    }

    fn open_vmware(
        &mut self,
        local: &str,
        tag: &BytesStart<'_>,
        is_empty: bool,
    ) -> Result<(), Fault> {
        let parent = self.stack.last();
        if !parent.is_some_and(|open| open.is(Owner::Ovf, "VirtualHardwareSection"))
            || !matches!(local, "Config" | "ExtraConfig")
        {
            return Ok(());
        }
        let tag = self.tag(tag, is_empty)?;
        let (Some(key), Some(value)) = (tag.get_vmware("key"), tag.get_vmware("value")) else {
            return Ok(());
        };
        if local == "ExtraConfig" {
            self.found.extra.push((key.to_owned(), value.to_owned()));
        } else if key == "firmware" {
            self.found.firmware = Some(value.to_owned());
        }
        Ok(())
    }

    fn close(&mut self) {
        // The reader has checked that each end has its start.
        let Some(open) = self.stack.pop() else {
            return;
        };
        let text = std::mem::take(&mut self.text);
        let parent = self.stack.last();
        if open.is(Owner::Ovf, "Item") {
            self.items.extend(self.item.take());
        } else if let Some((_, fields)) = &mut self.item
            && open.owner == Owner::Cim
            && parent.is_some_and(|open| open.is(Owner::Ovf, "Item"))
        {
            fields.entry(open.local).or_insert(text);
        } else if open.is(Owner::Cim, "VirtualSystemType") {
            self.found.hardware_version = hardware_version(&text);
        } else if open.is(Owner::Ovf, "Annotation")
            && parent.is_some_and(|open| open.is(Owner::Ovf, "AnnotationSection"))
        {
            self.found.annotation = Some(text);
        }
    }

    fn tag(&self, start: &BytesStart<'_>, is_empty: bool) -> Result<Tag, Fault> {
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| self.syntax(&error))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| self.syntax(&error))?;
            let (owner, local) = self.attribute_name(attribute.key)?;
            attributes.push(Attribute {
                name: attribute.key.into_inner().to_owned(),
                is_vmware: owner == Owner::Vmware,
                local: matches!(owner, Owner::Ovf | Owner::Vmware).then_some(local),
                raw: attribute.value.into_owned(),
                value: value.into_owned(),
            });
        }
        Ok(Tag {
            range: self.start..self.position(),
            name: start.name().into_inner().to_owned(),
            attributes,
            is_empty,
        })
    }

    /// The schema wants attributes with OVF's prefix; VirtualBox reads those without, too, and so do we.
    fn attribute_name(&self, name: QName<'_>) -> Result<(Owner, String), Fault> {
        let (resolved, local) = self.reader.resolver().resolve_attribute(name);
        let owner = match &resolved {
            ResolveResult::Unknown(prefix) => {
                return Err(self.syntax(&format!("prefix `{prefix}` is not declared")));
            }
            ResolveResult::Unbound => Owner::Ovf,
            ResolveResult::Bound(_) => owner(&resolved),
        };
        Ok((owner, local.into_inner().to_owned()))
    }

    fn required(
        &self,
        tag: &Tag,
        element: &'static str,
        attribute: &'static str,
    ) -> Result<String, Fault> {
        match tag.get(attribute) {
            Some(value) => Ok(value.to_owned()),
            None => Err(self.fault(Problem::MissingAttribute { element, attribute })),
        }
    }

    fn finish(mut self) -> Result<Parsed, Fault> {
        if let Some(open) = self.stack.last() {
            let message = format!("the text ends inside of `{}`", open.local);
            return Err(self.fault(Problem::Syntax { message }));
        }
        if !self.has_envelope {
            let found = String::new();
            return Err(self.fault(Problem::NotOvf { found }));
        }
        let missing = |element, place| (self.start, Problem::Missing { element, place });
        if !self.has_system {
            return Err(missing("VirtualSystem", ""));
        }
        let file = self
            .file
            .take()
            .ok_or_else(|| missing("File", " in References"))?;
        let disk = self
            .disk
            .take()
            .ok_or_else(|| missing("Disk", " in DiskSection"))?;
        let id = disk.get("diskId").unwrap_or_default().to_owned();
        let file_id = file.get("id").unwrap_or_default();
        if disk.get("fileRef") != Some(file_id) {
            let problem = Problem::DiskOfOtherFile {
                disk: id,
                file: file_id.to_owned(),
            };
            return Err((disk.range.start, problem));
        }
        let hard_disk = hard_disk(&self.items, &id)?
            .ok_or_else(|| missing("Item", " of a hard disk in VirtualHardwareSection"))?;
        let items: Vec<Fields> = self.items.into_iter().map(|(_, fields)| fields).collect();
        self.found.take_items(&items, &hard_disk);
        Ok(Parsed {
            file,
            disk,
            found: self.found,
            hardware_start: self.hardware_start.unwrap_or(0),
        })
    }
}

/// The only hard disk, which is `disk`.
fn hard_disk(items: &[(usize, Fields)], disk: &str) -> Result<Option<Fields>, Fault> {
    let mut disks = items
        .iter()
        .filter(|(_, fields)| resource_type(fields) == Some(HARD_DISK));
    let Some((at, fields)) = disks.next() else {
        return Ok(None);
    };
    if let Some((at, second)) = disks.next() {
        let id = text(second, "ElementName").to_owned();
        return Err((*at, Problem::SecondDisk { id }));
    }
    let resource = text(fields, "HostResource");
    // Both forms are in use.
    let path = resource.strip_prefix("ovf:").unwrap_or(resource);
    if path.strip_prefix("/disk/") == Some(disk) {
        return Ok(Some(fields.clone()));
    }
    let problem = Problem::OtherResource {
        resource: resource.to_owned(),
        disk: disk.to_owned(),
    };
    Err((*at, problem))
}

fn owner(resolved: &ResolveResult<'_>) -> Owner {
    let ResolveResult::Bound(Namespace(uri)) = resolved else {
        return Owner::Other;
    };
    match *uri {
        "http://schemas.dmtf.org/ovf/envelope/1" => Owner::Ovf,
        "http://schemas.dmtf.org/ovf/envelope/2" => Owner::Ovf2,
        "http://www.vmware.com/schema/ovf" => Owner::Vmware,
        uri if uri.starts_with("http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/") => Owner::Cim,
        _ => Owner::Other,
    }
}

/// `vmx-13`, or several of those; importers take the first that they know.
fn hardware_version(text: &str) -> Option<u32> {
    text.split([' ', ',', '\t', '\n'])
        .find_map(|word| word.trim().strip_prefix("vmx-")?.parse().ok())
}
