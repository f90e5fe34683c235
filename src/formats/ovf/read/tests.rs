#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets and lengths of test data"
)]

use super::*;
use crate::formats::ovf::{Controller, Network, Ovf, Product};
use proptest::prelude::*;

/// As an exporter writes it: its own prefixes, order of attributes, quotes, comments and extensions.
const FOREIGN: &str = r#"<?xml version='1.0' encoding='UTF-8'?>
<!-- exported -->
<o:Envelope xmlns:o="http://schemas.dmtf.org/ovf/envelope/1" xmlns:r="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:s="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:v="http://www.vmware.com/schema/ovf">
  <o:References>
    <o:File o:size="7" o:id='f"1' o:compression="gzip" o:chunkSize="99"
            o:href="old.vmdk.gz"/>
  </o:References>
  <o:DiskSection>
    <o:Info>disks &amp; more</o:Info>
    <o:Disk o:populatedSize="5" o:format="x" o:diskId="d1" o:fileRef='f"1' o:capacity="20" o:capacityAllocationUnits="byte * 2^30" v:note="kept"></o:Disk>
  </o:DiskSection>
  <o:VirtualSystem o:id="old">
    <o:Info>old</o:Info>
    <o:Name>old &#x26; <![CDATA[<good>]]></o:Name>
    <o:OperatingSystemSection o:id="94" v:osType="ubuntu64Guest"><o:Info/></o:OperatingSystemSection>
    <o:AnnotationSection><o:Info/><o:Annotation>two
lines &lt;here&gt;</o:Annotation></o:AnnotationSection>
    <o:VirtualHardwareSection>
      <o:Info/>
      <o:System><s:ElementName>x</s:ElementName><s:InstanceID>0</s:InstanceID><s:VirtualSystemType>vmx-14 vmx-10</s:VirtualSystemType></o:System>
      <o:Item><r:AllocationUnits>hertz * 10^6</r:AllocationUnits><r:InstanceID>1</r:InstanceID><r:ResourceType>3</r:ResourceType><r:VirtualQuantity>4</r:VirtualQuantity></o:Item>
      <o:Item><r:AllocationUnits>byte * 2^30</r:AllocationUnits><r:InstanceID>2</r:InstanceID><r:ResourceType>4</r:ResourceType><r:VirtualQuantity>2</r:VirtualQuantity></o:Item>
      <o:Item><r:Address>1</r:Address><r:InstanceID>3</r:InstanceID><r:ResourceSubType>VirtualSCSI</r:ResourceSubType><r:ResourceType>6</r:ResourceType></o:Item>
      <o:Item><r:AddressOnParent>2</r:AddressOnParent><r:ElementName>Disk</r:ElementName><r:HostResource>/disk/d1</r:HostResource><r:InstanceID>4</r:InstanceID><r:Parent>3</r:Parent><r:ResourceType>17</r:ResourceType></o:Item>
      <o:Item><r:Connection>VM Network</r:Connection><r:InstanceID>5</r:InstanceID><r:ResourceSubType>VmxNet3</r:ResourceSubType><r:ResourceType>10</r:ResourceType></o:Item>
      <v:Config o:required="false" v:key="firmware" v:value="efi"/>
      <v:ExtraConfig o:required="false" v:key="a.b" v:value="c&quot;d"/>
    </o:VirtualHardwareSection>
  </o:VirtualSystem>
</o:Envelope>
"#;

const DISK: Replacement<'_> = Replacement {
    href: "lab-disk1.vmdk",
    file_len: 865_792,
    capacity: 1 << 30,
};

fn parse(text: &str) -> Result<Descriptor, Mistake> {
    Descriptor::parse(text.to_owned())
}

#[test]
fn all_but_the_disk_stays_byte_for_byte() {
    let expected = FOREIGN
        .replace(
            "<o:File o:size=\"7\" o:id='f\"1' o:compression=\"gzip\" o:chunkSize=\"99\"\n            o:href=\"old.vmdk.gz\"/>",
            "<o:File o:size=\"865792\" o:id=\"f&quot;1\" o:href=\"lab-disk1.vmdk\"/>",
        )
        .replace(
            "<o:Disk o:populatedSize=\"5\" o:format=\"x\" o:diskId=\"d1\" o:fileRef='f\"1' o:capacity=\"20\" o:capacityAllocationUnits=\"byte * 2^30\" v:note=\"kept\">",
            &format!("<o:Disk o:format=\"{STREAM_FORMAT}\" o:diskId=\"d1\" o:fileRef=\"f&quot;1\" o:capacity=\"1073741824\" o:capacityAllocationUnits=\"byte\" v:note=\"kept\">"),
        );
    let new = parse(FOREIGN).unwrap().with_disk(&DISK);
    assert_eq!(new, expected);
    // Once more, nothing changes.
    assert_eq!(parse(&new).unwrap().with_disk(&DISK), expected);
}

#[test]
fn a_byte_order_mark_and_line_ends_stay() {
    let text = format!("\u{feff}{}", FOREIGN.replace('\n', "\r\n"));
    let new = parse(&text).unwrap().with_disk(&DISK);
    assert!(new.starts_with("\u{feff}<?xml version='1.0' encoding='UTF-8'?>\r\n<!-- exported -->"));
    assert!(new.contains("    <o:File o:size=\"865792\" o:id=\"f&quot;1\" o:href=\"lab-disk1.vmdk\"/>\r\n  </o:References>"));
    assert!(new.ends_with("</o:Envelope>\r\n"));
}

#[test]
fn attributes_that_are_missing_are_added() {
    let text = FOREIGN
        .replace(" o:capacityAllocationUnits=\"byte * 2^30\"", "")
        .replace(" o:size=\"7\"", "");
    let new = parse(&text).unwrap().with_disk(&DISK);
    assert!(
        new.contains(" v:note=\"kept\" o:capacityAllocationUnits=\"byte\">"),
        "{new}"
    );
    assert!(
        new.contains(" o:href=\"lab-disk1.vmdk\" o:size=\"865792\"/>"),
        "{new}"
    );
}

#[test]
fn the_machine_is_found() {
    let found = parse(FOREIGN).unwrap().found().clone();
    let expected = Found {
        os_id: Some(94),
        vmw_os_type: Some("ubuntu64Guest".to_owned()),
        hardware_version: Some(14),
        firmware: Some("efi".to_owned()),
        annotation: Some("two\nlines <here>".to_owned()),
        cpus: Some(4),
        memory_mib: Some(2048),
        controller: Some(FoundController {
            resource_type: 6,
            sub_type: "VirtualSCSI".to_owned(),
            address: Some(1),
        }),
        disk_address: Some(2),
        cards: vec![("VmxNet3".to_owned(), "VM Network".to_owned())],
        odd: None,
        extra: vec![("a.b".to_owned(), "c\"d".to_owned())],
    };
    assert_eq!(found, expected);
}

/// What we write ourselves is read back.
#[test]
fn round_trips() {
    let text = Ovf {
        name: "lab",
        disk_href: DISK.href,
        disk_file_len: DISK.file_len,
        disk_capacity: DISK.capacity,
        os_id: 101,
        vmw_os_type: "otherLinux64Guest",
        os_description: "Other Linux (64-bit)",
        hardware_version: 13,
        cpus: 3,
        memory_mib: 1000,
        controller: Controller::Sata,
        controller_address: 0,
        disk_address: 0,
        networks: vec![Network {
            name: "<R&D>",
            sub_type: "E1000",
        }],
        firmware: "bios",
        annotation: Some("a\nb"),
        product: Product::default(),
        extra: vec![("key", "\"value\"")],
    }
    .to_string();
    let descriptor = parse(&text).unwrap();
    assert_eq!(descriptor.with_disk(&DISK), text);
    let found = descriptor.found();
    assert_eq!((found.cpus, found.memory_mib), (Some(3), Some(1000)));
    assert_eq!(found.controller.as_ref().unwrap().resource_type, 20);
    assert_eq!(found.cards, [("E1000".to_owned(), "<R&D>".to_owned())]);
    assert_eq!(found.annotation.as_deref(), Some("a\nb"));
    assert_eq!(found.extra, [("key".to_owned(), "\"value\"".to_owned())]);
}

#[test]
fn mistakes_name_line_and_reason() {
    let second_disk = "<o:Item><r:ElementName>Disk 2</r:ElementName><r:ResourceType>17</r:ResourceType></o:Item>\n      <v:Config";
    let mut wrong = Vec::new();
    for (from, to, message) in [
        ("<o:References>", "<o:References", "line 7: "),
        (
            "</o:Envelope>",
            "",
            "line 31: the text ends inside of `Envelope`",
        ),
        (
            "<!-- exported -->",
            "<!DOCTYPE o:Envelope>",
            "line 2: has a document type declaration",
        ),
        (
            "'UTF-8'",
            "'ISO-8859-1'",
            "line 1: is encoded in ISO-8859-1, not in UTF-8",
        ),
        (
            "envelope/1",
            "envelope/2",
            "line 3: is OVF 2, which VMware and VirtualBox do not import",
        ),
        (
            "envelope/1",
            "envelope/9",
            "line 3: the root element is `o:Envelope`, not the `Envelope` of OVF 1",
        ),
        (
            "<o:VirtualSystem o:id=\"old\">",
            "<o:VirtualSystem/><o:VirtualSystem>",
            "line 12: describes more than one machine",
        ),
        (
            "<o:VirtualHardwareSection>",
            "<o:VirtualHardwareSection/><o:VirtualHardwareSection>",
            "line 18: has a second VirtualHardwareSection",
        ),
        (
            "<o:References>",
            "<o:References><o:File o:id=\"f0\" o:href=\"x.iso\"/>",
            "line 5: refers to a second file, `old.vmdk.gz`",
        ),
        (
            "<o:Info>disks",
            "<o:Disk o:diskId=\"d0\"/><o:Info>disks",
            "line 10: has a second disk, `d1`",
        ),
        (
            "<v:Config",
            second_disk,
            "line 26: has a second disk, `Disk 2`",
        ),
        (
            " o:href=\"old.vmdk.gz\"",
            "",
            "line 5: `File` has no attribute `href`",
        ),
        (
            "o:fileRef='f\"1'",
            "o:fileRef='f2'",
            "line 10: disk `d1` is not in file `f\"1`",
        ),
        (
            "v:note=\"kept\"",
            "o:parentRef=\"d0\"",
            "line 10: disk `d1` is a delta of another disk",
        ),
        (
            "/disk/d1",
            "/file/f1",
            "line 24: a hard disk of the machine is `/file/f1`, not `ovf:/disk/d1`",
        ),
        (
            "<r:ResourceType>17<",
            "<r:ResourceType>18<",
            "line 31: has no `Item` of a hard disk in VirtualHardwareSection",
        ),
        ("&amp;", "&nbsp;", "line 9: entity `nbsp` is not declared"),
        (
            "<o:Info>old",
            "<zz:Info>old",
            "line 13: prefix `zz` is not declared",
        ),
    ] {
        let text = FOREIGN.replacen(from, to, 1);
        assert_ne!(text, FOREIGN, "{from}");
        let mistake = parse(&text).unwrap_err();
        if !mistake.to_string().starts_with(message) {
            wrong.push(format!("{mistake}, not {message}"));
        }
        assert!(!mistake.problem.hint().is_empty());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let deep = "<a>".repeat(100);
    let deep = FOREIGN.replacen("<o:Info>disks", &format!("{deep}<o:Info>disks"), 1);
    let mistake = parse(&deep).unwrap_err();
    assert_eq!(
        mistake.to_string(),
        "line 9: elements are nested more than 64 deep"
    );
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        drop(parse(&text));
    }

    /// Cuts, repeats and foreign letters anywhere in a descriptor: whatever is still read keeps all but the disk.
    #[test]
    fn mutated_descriptors_are_survived(
        at in 0..FOREIGN.len(),
        len in 0..60_usize,
        insert in "[<>/&;\"'a-z:= -]{0,12}",
        repeat in any::<bool>(),
    ) {
        let end = (at + len).min(FOREIGN.len());
        if let (Some(before), Some(cut), Some(after)) =
            (FOREIGN.get(..at), FOREIGN.get(at..end), FOREIGN.get(end..))
        {
            let middle = if repeat { cut } else { "" };
            let text = format!("{before}{insert}{middle}{after}");
            if let Ok(descriptor) = parse(&text) {
                let new = descriptor.with_disk(&DISK);
                let again = parse(&new).unwrap();
                prop_assert_eq!(again.found(), descriptor.found());
                prop_assert_eq!(again.with_disk(&DISK), new);
            }
        }
    }
}
