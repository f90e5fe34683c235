//! The OVF descriptor: the XML that tells an importer which virtual machine to build around a disk.
//!
//! Source: DMTF DSP0243 1.1 (OVF) and its schema DSP8023. Invariant: same values, same bytes; children of `System` and
//! `Item` in alphabetical order, as the schema's sequences want them.

use std::fmt::{self, Display, Write};

/// What varies between descriptors. Names for people may hold any character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ovf<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// File name of the disk, relative to the descriptor.
    pub disk_href: &'a str,
    /// Exact bytes of that file.
    pub disk_file_len: u64,
    /// Size of the disk inside, in bytes; must equal the VMDK's capacity.
    pub disk_capacity: u64,
    /// CIM_OperatingSystem.OSType.
    pub os_id: u16,
    /// VMware's name of the guest's system.
    pub vmw_os_type: &'a str,
    /// The guest's system for people.
    pub os_description: &'a str,
    /// The N of `vmx-N`.
    pub hardware_version: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// `ResourceSubType` of the SCSI controller: `lsilogic`, `lsilogicsas`, `VirtualSCSI` or `buslogic`.
    pub scsi_sub_type: &'a str,
    /// Network cards in order.
    pub networks: Vec<Network<'a>>,
    /// `bios` or `efi`.
    pub firmware: &'a str,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network<'a> {
    /// Name of the network it is on.
    pub name: &'a str,
    /// `ResourceSubType`: `E1000`, `E1000e` or `VmxNet3`.
    pub sub_type: &'a str,
}

/// CIM_ResourceAllocationSettingData.ResourceType of a processor.
const RESOURCE_PROCESSOR: u32 = 3;
const RESOURCE_MEMORY: u32 = 4;
const RESOURCE_SCSI: u32 = 6;
const RESOURCE_ETHERNET: u32 = 10;
const RESOURCE_DISK: u32 = 17;
const RESOURCE_GRAPHICS: u32 = 24;

const PROCESSOR_ID: u32 = 1;
const MEMORY_ID: u32 = 2;
const CONTROLLER_ID: u32 = 3;
const DISK_ID: u32 = 4;
const FIRST_NETWORK_ID: u32 = 5;
/// VMware numbers network cards from slot 7 on.
const FIRST_NETWORK_ADDRESS: u32 = 7;

impl Display for Ovf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(concat!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
            "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\"",
            " xmlns:cim=\"http://schemas.dmtf.org/wbem/wscim/1/common\"",
            " xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\"",
            " xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData\"",
            " xmlns:vmw=\"http://www.vmware.com/schema/ovf\"",
            " xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData\"",
            " xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n",
        ))?;
        self.write_disk(f)?;
        self.write_networks(f)?;
        let name = Escaped(self.name);
        writeln!(
            f,
            "  <VirtualSystem ovf:id=\"{name}\">\n    <Info>A virtual machine</Info>\n    <Name>{name}</Name>\n    \
             <OperatingSystemSection ovf:id=\"{}\" vmw:osType=\"{}\">\n      \
             <Info>The kind of installed guest operating system</Info>\n      <Description>{}</Description>\n    \
             </OperatingSystemSection>",
            self.os_id,
            Escaped(self.vmw_os_type),
            Escaped(self.os_description),
        )?;
        self.write_hardware(f)?;
        f.write_str("  </VirtualSystem>\n</Envelope>\n")
    }
}

impl Ovf<'_> {
    fn write_disk(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  <References>\n    <File ovf:href=\"{}\" ovf:id=\"file1\" ovf:size=\"{}\"/>\n  </References>\n  \
             <DiskSection>\n    <Info>Virtual disk information</Info>\n    \
             <Disk ovf:capacity=\"{}\" ovf:capacityAllocationUnits=\"byte\" ovf:diskId=\"vmdisk1\" \
             ovf:fileRef=\"file1\" \
             ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\"/>\n  \
             </DiskSection>",
            Escaped(self.disk_href),
            self.disk_file_len,
            self.disk_capacity,
        )
    }

    /// One `Network` per name, in the order of the first card on it.
    fn write_networks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.networks.is_empty() {
            return Ok(());
        }
        f.write_str("  <NetworkSection>\n    <Info>The list of logical networks</Info>\n")?;
        for (index, network) in self.networks.iter().enumerate() {
            let earlier = self.networks.iter().take(index);
            if earlier.clone().any(|other| other.name == network.name) {
                continue;
            }
            let name = Escaped(network.name);
            writeln!(
                f,
                "    <Network ovf:name=\"{name}\">\n      <Description>The {name} network</Description>\n    </Network>"
            )?;
        }
        f.write_str("  </NetworkSection>\n")
    }

    fn write_hardware(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "    <VirtualHardwareSection>\n      <Info>Virtual hardware requirements</Info>\n      <System>\n        \
             <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n        \
             <vssd:InstanceID>0</vssd:InstanceID>\n        \
             <vssd:VirtualSystemIdentifier>{}</vssd:VirtualSystemIdentifier>\n        \
             <vssd:VirtualSystemType>vmx-{}</vssd:VirtualSystemType>\n      </System>",
            Escaped(self.name),
            self.hardware_version,
        )?;
        let cpu_name = format!("{} virtual CPU(s)", self.cpus);
        Item::new(PROCESSOR_ID, RESOURCE_PROCESSOR, &cpu_name)
            .with("AllocationUnits", "hertz * 10^6")
            .with("Description", "Number of Virtual CPUs")
            .with("VirtualQuantity", self.cpus)
            .write(f)?;
        let memory_name = format!("{}MB of memory", self.memory_mib);
        Item::new(MEMORY_ID, RESOURCE_MEMORY, &memory_name)
            .with("AllocationUnits", "byte * 2^20")
            .with("Description", "Memory Size")
            .with("VirtualQuantity", self.memory_mib)
            .write(f)?;
        Item::new(CONTROLLER_ID, RESOURCE_SCSI, "SCSI controller 0")
            .with("Address", 0)
            .with("Description", "SCSI Controller")
            .with("ResourceSubType", self.scsi_sub_type)
            .write(f)?;
        Item::new(DISK_ID, RESOURCE_DISK, "Hard Disk 1")
            .with("AddressOnParent", 0)
            .with("HostResource", "ovf:/disk/vmdisk1")
            .with("Parent", CONTROLLER_ID)
            .write(f)?;
        let mut id = FIRST_NETWORK_ID;
        for (index, network) in (0_u32..).zip(&self.networks) {
            let number = index.saturating_add(1);
            Item::new(id, RESOURCE_ETHERNET, &format!("Ethernet {number}"))
                .with(
                    "AddressOnParent",
                    FIRST_NETWORK_ADDRESS.saturating_add(index),
                )
                .with("AutomaticAllocation", "true")
                .with("Connection", network.name)
                .with(
                    "Description",
                    format!(
                        "{} ethernet adapter on \"{}\"",
                        network.sub_type, network.name
                    ),
                )
                .with("ResourceSubType", network.sub_type)
                .write(f)?;
            id = id.saturating_add(1);
        }
        Item::new(id, RESOURCE_GRAPHICS, "Video card")
            .with("AutomaticAllocation", "false")
            .optional()
            .write(f)?;
        // virt-v2v and vSphere look for it behind the items; importers' defaults differ, so it is always said.
        writeln!(
            f,
            "      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"{}\"/>\n    \
             </VirtualHardwareSection>",
            Escaped(self.firmware),
        )
    }
}

/// One `Item` of the hardware: its children sorted by name.
struct Item {
    fields: Vec<(&'static str, String)>,
    required: bool,
}

impl Item {
    fn new(id: u32, resource_type: u32, name: &str) -> Self {
        Self {
            fields: vec![
                ("ElementName", name.to_owned()),
                ("InstanceID", id.to_string()),
                ("ResourceType", resource_type.to_string()),
            ],
            required: true,
        }
    }

    fn with(mut self, field: &'static str, value: impl Display) -> Self {
        self.fields.push((field, value.to_string()));
        self
    }

    /// An importer that does not know the item may leave it out.
    fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    fn write(mut self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fields.sort_unstable();
        f.write_str(if self.required {
            "      <Item>\n"
        } else {
            "      <Item ovf:required=\"false\">\n"
        })?;
        for (field, value) in &self.fields {
            writeln!(f, "        <rasd:{field}>{}</rasd:{field}>", Escaped(value))?;
        }
        f.write_str("      </Item>\n")
    }
}

/// Text for an element or a quoted attribute; what XML 1.0 cannot hold becomes U+FFFD.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                // As references they survive the normalisation of attributes and line ends.
                '\t' | '\n' | '\r' => write!(f, "&#{};", u32::from(c))?,
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ovf() -> Ovf<'static> {
        Ovf {
            name: "lazyvm",
            disk_href: "lazyvm-disk1.vmdk",
            disk_file_len: 865_792,
            disk_capacity: 100_663_296,
            os_id: 101,
            vmw_os_type: "otherLinux64Guest",
            os_description: "Other Linux (64-bit)",
            hardware_version: 10,
            cpus: 1,
            memory_mib: 512,
            scsi_sub_type: "lsilogic",
            networks: vec![Network {
                name: "nat",
                sub_type: "E1000",
            }],
            firmware: "bios",
        }
    }

    /// An item of a descriptor that virt-v2v, COT, Proxmox's parser and govmomi imported.
    #[test]
    fn encodes_reference_bytes() {
        let text = ovf().to_string();
        assert!(text.contains(
            r#"      <Item>
        <rasd:AddressOnParent>7</rasd:AddressOnParent>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Connection>nat</rasd:Connection>
        <rasd:Description>E1000 ethernet adapter on &quot;nat&quot;</rasd:Description>
        <rasd:ElementName>Ethernet 1</rasd:ElementName>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>E1000</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
      </Item>
"#
        ));
        assert!(text.contains(
            r#"      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="bios"/>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#
        ));
        assert!(
            text.contains(
                r#"<File ovf:href="lazyvm-disk1.vmdk" ovf:id="file1" ovf:size="865792"/>"#
            )
        );
        assert!(
            text.contains(r#"<Disk ovf:capacity="100663296" ovf:capacityAllocationUnits="byte""#)
        );
        assert_eq!(text, ovf().to_string());
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(
            Escaped("a&b<c>\"d\"\n\u{1}é").to_string(),
            "a&amp;b&lt;c&gt;&quot;d&quot;&#10;\u{fffd}é"
        );
        let odd = Ovf {
            networks: vec![Network {
                name: "<R&D>",
                sub_type: "E1000",
            }],
            ..ovf()
        };
        let text = odd.to_string();
        assert!(!text.contains("<R&D>"));
        assert!(text.contains("<rasd:Connection>&lt;R&amp;D&gt;</rasd:Connection>"));
    }

    #[test]
    fn cards_share_a_network() {
        let card = Network {
            name: "nat",
            sub_type: "VmxNet3",
        };
        let two = Ovf {
            networks: vec![card.clone(), card],
            ..ovf()
        };
        let text = two.to_string();
        assert_eq!(text.matches("<Network ").count(), 1);
        assert_eq!(text.matches("<rasd:Connection>").count(), 2);
        assert!(text.contains("<rasd:InstanceID>7</rasd:InstanceID>"));
        let none = Ovf {
            networks: Vec::new(),
            ..ovf()
        };
        assert!(!none.to_string().contains("NetworkSection"));
    }
}
