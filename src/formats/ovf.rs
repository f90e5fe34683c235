//! The OVF descriptor: the XML that tells an importer which virtual machine to build around a disk.
//!
//! Source: DMTF DSP0243 1.1 (OVF) and its schema DSP8023; VMware's names for devices from open-vmdk's templates. Invariant:
//! same values, same bytes; children of `System` and `Item` in alphabetical order, as the schema's sequences want them.

mod item;
mod read;
mod sections;
mod xml;

use std::fmt::{self, Display};

use self::item::Item;
pub use self::read::{Descriptor, Found, FoundController, Mistake, Problem, Replacement};
use self::xml::Escaped;

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
    /// The disk's controller.
    pub controller: Controller<'a>,
    /// Number of that controller among those of its kind.
    pub controller_address: u32,
    /// Number of the disk on it.
    pub disk_address: u32,
    /// Network cards in order.
    pub networks: Vec<Network<'a>>,
    /// `bios` or `efi`.
    pub firmware: &'a str,
    /// Notes for people.
    pub annotation: Option<&'a str>,
    /// What the machine is given away as.
    pub product: Product<'a>,
    /// Keys of a VMX besides those that follow from the rest.
    pub extra: Vec<(&'a str, &'a str)>,
}

/// A kind of controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller<'a> {
    /// SCSI; `ResourceSubType` is `lsilogic`, `lsilogicsas`, `VirtualSCSI` or `buslogic`.
    Scsi(&'a str),
    /// AHCI.
    Sata,
    /// PIIX4.
    Ide,
    /// NVMe.
    Nvme,
}

/// Product, vendor and properties.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Product<'a> {
    /// Its name.
    pub name: Option<&'a str>,
    /// Who makes it.
    pub vendor: Option<&'a str>,
    /// Its version.
    pub version: Option<&'a str>,
    /// What can be set when the machine is deployed.
    pub properties: Vec<Property<'a>>,
}

/// A property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property<'a> {
    /// Its key.
    pub key: &'a str,
    /// `string`, `boolean`, `uint64`, `sint64` or `real64`.
    pub kind: &'a str,
    /// The value until somebody sets another one.
    pub value: &'a str,
    /// Whether whoever deploys the machine is asked for it.
    pub user_configurable: bool,
    /// A name for people.
    pub label: Option<&'a str>,
    /// What it is for.
    pub description: Option<&'a str>,
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network<'a> {
    /// Name of the network it is on.
    pub name: &'a str,
    /// `ResourceSubType`: `E1000`, `E1000e`, `VmxNet3` or `PCNet32`.
    pub sub_type: &'a str,
}

/// What VMware calls a streamOptimized VMDK; ESXi refuses the address without the fragment's word.
const STREAM_FORMAT: &str =
    "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized";

/// CIM_ResourceAllocationSettingData.ResourceType of a processor.
const RESOURCE_PROCESSOR: u32 = 3;
const RESOURCE_MEMORY: u32 = 4;
const RESOURCE_IDE: u32 = 5;
const RESOURCE_SCSI: u32 = 6;
const RESOURCE_ETHERNET: u32 = 10;
const RESOURCE_DISK: u32 = 17;
/// "Other storage device": AHCI and NVMe.
const RESOURCE_OTHER_STORAGE: u32 = 20;
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
        self.write_annotation(f)?;
        self.product.write(f)?;
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
             ovf:fileRef=\"file1\" ovf:format=\"{STREAM_FORMAT}\"/>\n  </DiskSection>",
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
        // Without a transport vSphere has nothing to give the properties to the guest with.
        let transport = if self.product.properties.is_empty() {
            ""
        } else {
            " ovf:transport=\"com.vmware.guestInfo\""
        };
        writeln!(
            f,
            "    <VirtualHardwareSection{transport}>\n      <Info>Virtual hardware requirements</Info>\n      \
             <System>\n        \
             <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n        \
             <vssd:InstanceID>0</vssd:InstanceID>\n        \
             <vssd:VirtualSystemIdentifier>{}</vssd:VirtualSystemIdentifier>\n        \
             <vssd:VirtualSystemType>vmx-{}</vssd:VirtualSystemType>\n      </System>",
            Escaped(self.name),
            self.hardware_version,
        )?;
        self.write_board(f)?;
        self.write_storage(f)?;
        let mut id = FIRST_NETWORK_ID;
        for (index, network) in (0_u32..).zip(&self.networks) {
            write_card(f, id, index, network)?;
            id = id.saturating_add(1);
        }
        Item::new(id, RESOURCE_GRAPHICS, "Video card")
            .with("AutomaticAllocation", "false")
            .optional()
            .write(f)?;
        // virt-v2v and vSphere look for it behind the items; importers' defaults differ, so it is always said.
        let firmware = ("firmware", self.firmware);
        sections::write_config(f, "Config", firmware)?;
        for pair in &self.extra {
            sections::write_config(f, "ExtraConfig", *pair)?;
        }
        f.write_str("    </VirtualHardwareSection>\n")
    }

    fn write_board(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
            .write(f)
    }

    fn write_storage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resource, kind, sub_type) = match self.controller {
            Controller::Scsi(model) => (RESOURCE_SCSI, "SCSI", Some(model)),
            Controller::Sata => (RESOURCE_OTHER_STORAGE, "SATA", Some("vmware.sata.ahci")),
            // ESXi complains of a sub-type here, PIIX4 though it is.
            Controller::Ide => (RESOURCE_IDE, "IDE", None),
            Controller::Nvme => (
                RESOURCE_OTHER_STORAGE,
                "NVMe",
                Some("vmware.nvme.controller"),
            ),
        };
        let address = self.controller_address;
        let name = format!("{kind} controller {address}");
        let mut controller = Item::new(CONTROLLER_ID, resource, &name)
            .with("Address", address)
            .with("Description", format!("{kind} Controller"));
        if let Some(sub_type) = sub_type {
            controller = controller.with("ResourceSubType", sub_type);
        }
        controller.write(f)?;
        Item::new(DISK_ID, RESOURCE_DISK, "Hard Disk 1")
            .with("AddressOnParent", self.disk_address)
            .with("HostResource", "ovf:/disk/vmdisk1")
            .with("Parent", CONTROLLER_ID)
            .write(f)
    }
}

fn write_card(
    f: &mut fmt::Formatter<'_>,
    id: u32,
    index: u32,
    network: &Network<'_>,
) -> fmt::Result {
    let Network { name, sub_type } = network;
    let number = index.saturating_add(1);
    let address = FIRST_NETWORK_ADDRESS.saturating_add(index);
    Item::new(id, RESOURCE_ETHERNET, &format!("Ethernet {number}"))
        .with("AddressOnParent", address)
        .with("AutomaticAllocation", "true")
        .with("Connection", name)
        .with(
            "Description",
            format!("{sub_type} ethernet adapter on \"{name}\""),
        )
        .with("ResourceSubType", sub_type)
        .write(f)
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
            controller: Controller::Scsi("lsilogic"),
            controller_address: 0,
            disk_address: 0,
            networks: vec![Network {
                name: "nat",
                sub_type: "E1000",
            }],
            firmware: "bios",
            annotation: None,
            product: Product::default(),
            extra: Vec::new(),
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
    fn names_are_escaped() {
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
