#![expect(
    clippy::arithmetic_side_effects,
    reason = "offsets and lengths of test data"
)]

use super::*;
use crate::config::spec::{Firmware, ScsiController, VmSpec};
use proptest::prelude::*;

/// As Workstation leaves it behind.
const FOREIGN: &str = r#"#!/usr/bin/vmplayer
.encoding = "windows-1252"
config.version = "8"
virtualHW.version = "16"
# my own remark
DisplayName = "old"
guestOS = "debian10-64"
memsize = "2048"
numvcpus = "4"
firmware = "efi"
annotation = "two|0Alines"
nvram = "old.nvram"
extendedConfigFile = "old.vmxf"
uuid.bios = "56 4d"
uuid.location = "56 4d"
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-image"
ide1:0.fileName = "/srv/iso/tools.iso"
scsi0.present = "TRUE"
scsi0.virtualDev = "pvscsi"
scsi0.sasWWID = "50 05"
scsi0:1.present = "TRUE"
scsi0:1.fileName = "old-000002.vmdk"
scsi0:1.redo = ""
scsi0:0.present = "FALSE"
scsi0:0.fileName = "gone.vmdk"
ethernet0.present = "TRUE"
ethernet0.connectionType = "hostonly"
ethernet0.virtualDev = "vmxnet3"
ethernet0.addressType = "generated"
ethernet0.generatedAddress = "00:0c:29:00:00:01"
ethernet0.generatedAddressOffset = "0"
ethernet2.present = "TRUE"
ethernet2.connectionType = "custom"
ethernet2.vnet = "VMnet3"
ethernet2.address = "00:50:56:00:00:01"
sound.present = "TRUE"
snapshot0.uid = "1"
snapshot.action = "keep"
"#;

const SCSI: DiskController = DiskController::Scsi(ScsiController::LsiLogicSas);

fn parse(text: &str) -> Result<VmxTemplate, (u32, VmxProblem)> {
    VmxTemplate::parse(text.to_owned())
}

fn rewritten(text: &str, wanted: DiskController) -> String {
    let template = parse(text).unwrap();
    template.with_disk("lab", "/mnt/lab.vmdk", wanted).unwrap()
}

#[test]
fn our_disk_takes_the_place_of_theirs() {
    let expected = r#"#!/usr/bin/vmplayer
.encoding = "UTF-8"
config.version = "8"
virtualHW.version = "16"
# my own remark
displayName = "lab"
guestOS = "debian10-64"
memsize = "2048"
numvcpus = "4"
firmware = "efi"
annotation = "two|0Alines"
ide1:0.present = "TRUE"
ide1:0.deviceType = "cdrom-image"
ide1:0.fileName = "/srv/iso/tools.iso"
scsi0.present = "TRUE"
scsi0.virtualDev = "pvscsi"
scsi0:1.present = "TRUE"
scsi0:1.fileName = "/mnt/lab.vmdk"
scsi0:1.mode = "independent-nonpersistent"
scsi0:0.present = "FALSE"
scsi0:0.fileName = "gone.vmdk"
ethernet0.present = "TRUE"
ethernet0.connectionType = "hostonly"
ethernet0.virtualDev = "vmxnet3"
ethernet0.addressType = "generated"
ethernet2.present = "TRUE"
ethernet2.connectionType = "custom"
ethernet2.vnet = "VMnet3"
ethernet2.address = "00:50:56:00:00:01"
sound.present = "TRUE"
snapshot.action = "keep"
"#;
    let new = rewritten(FOREIGN, SCSI);
    assert_eq!(new, expected);
    assert_eq!(rewritten(&new, SCSI), expected);
    // Line ends stay as they are, and a last line gets one.
    let dos = FOREIGN.replace('\n', "\r\n");
    assert_eq!(
        rewritten(dos.trim_end(), SCSI),
        expected.replace('\n', "\r\n")
    );
}

#[test]
fn a_template_without_disk_gets_one_at_the_configured_controller() {
    let bare = "config.version = \"8\"\nvirtualHW.version = \"13\"";
    let tail = |controller: &str, device: &str| {
        format!(
            ".encoding = \"UTF-8\"\n{bare}\ndisplayName = \"lab\"\n{controller}{device}.present = \"TRUE\"\n\
             {device}.fileName = \"/mnt/lab.vmdk\"\n{device}.mode = \"independent-nonpersistent\"\n"
        )
    };
    let scsi = "scsi0.present = \"TRUE\"\nscsi0.virtualDev = \"lsisas1068\"\n";
    assert_eq!(rewritten(bare, SCSI), tail(scsi, "scsi0:0"));
    let sata = "sata0.present = \"TRUE\"\n";
    assert_eq!(rewritten(bare, DiskController::Sata), tail(sata, "sata0:0"));
    assert_eq!(rewritten(bare, DiskController::Ide), tail("", "ide0:0"));
    // A controller of the template stays as it is, a place that is taken stays taken.
    let busy = format!(
        "{bare}\nSATA0.present = \"true\"\nsata0:0.present = \"TRUE\"\nsata0:0.deviceType = \"cdrom-raw\"\n"
    );
    let new = rewritten(&busy, DiskController::Sata);
    assert_eq!(new.matches("ATA0.present").count(), 1, "{new}");
    assert!(
        new.contains("sata0:1.fileName = \"/mnt/lab.vmdk\""),
        "{new}"
    );
    // One that was switched off is switched on, where it was.
    let off = "config.version = \"8\"\nscsi0.present = \"FALSE\"\nscsi0.virtualDev = \"buslogic\"\nhpet0.present = \"TRUE\"\n";
    let new = rewritten(off, SCSI);
    assert!(
        new.contains(&format!("config.version = \"8\"\n{scsi}hpet0")),
        "{new}"
    );
    assert!(!new.contains("buslogic"));
}

#[test]
fn the_machine_is_found() {
    let hardware = parse(FOREIGN).unwrap().hardware(SCSI).unwrap();
    assert_eq!((hardware.cpus, hardware.memory_mib), (4, 2048));
    assert_eq!(hardware.guest.vmw_os_type, "debian10_64Guest");
    assert_eq!(hardware.firmware, Firmware::Efi);
    assert_eq!(hardware.hardware_version, 16);
    assert_eq!(
        hardware.controller,
        Controller::Scsi(ScsiController::PvScsi)
    );
    assert_eq!((hardware.slot.bus, hardware.slot.unit), (0, 1));
    let cards: Vec<_> = hardware
        .cards
        .iter()
        .map(|card| (card.network.as_str(), card.model.ovf))
        .collect();
    assert_eq!(cards, [("hostonly", "VmxNet3"), ("VMnet3", "PCNet32")]);
    assert_eq!(hardware.annotation.as_deref(), Some("two\nlines"));
    let unknown = parse("config.version=8\nguestOS=beos-64").unwrap();
    let hardware = unknown.hardware(SCSI).unwrap();
    assert_eq!(hardware.guest.vmw_os_type, "otherGuest64");
    assert_eq!(hardware.guest.description, "beos-64");
    assert_eq!(hardware.memory_mib, VmSpec::default().memory >> 20);
    assert_eq!(
        hardware.controller,
        Controller::Scsi(ScsiController::LsiLogicSas)
    );
}

#[test]
fn mistakes_name_line_and_reason() {
    for (text, message) in [
        ("", "1: is no VMX: there is no `config.version`"),
        ("<Envelope/>", "1: is no VMX: there is no `config.version`"),
        (
            "config.version = 8\nencryption.keySafe = x",
            "2: the machine is encrypted",
        ),
        (
            ".encoding = \"GBK\"\nconfig.version = 8\na = é",
            "1: declares the encoding GBK, and is UTF-8",
        ),
        (
            "config.version = 8\nide0:0.present = true\nnvme0:0.present = true",
            "3: nvme0:0 is a second hard disk, beside ide0:0",
        ),
    ] {
        let (line, problem) = parse(text).unwrap_err();
        assert_eq!(format!("{line}: {problem}"), message);
        assert!(!problem.hint().is_empty());
    }
    for (line, message) in [
        (
            "memsize = much",
            "2: `memsize` is \"much\"; expected a number from 1 to 25165824",
        ),
        (
            "numvcpus = 0",
            "2: `numvcpus` is \"0\"; expected a number from 1 to 1024",
        ),
        (
            "firmware = coreboot",
            "2: firmware \"coreboot\" is not known",
        ),
        (
            "ethernet0.present = TRUE\nethernet0.virtualDev = rtl8139",
            "3: network card \"rtl8139\" is not known",
        ),
        (
            "scsi0:0.present = TRUE\nscsi0.virtualDev = ncr",
            "3: SCSI controller \"ncr\" is not known",
        ),
    ] {
        let template = parse(&format!("config.version = 8\n{line}")).unwrap();
        let (at, problem) = template.hardware(SCSI).unwrap_err();
        assert_eq!(format!("{at}: {problem}"), message);
        assert!(!problem.hint().is_empty());
    }
    let mut full = "config.version = 8\n".to_owned();
    for device in ["ide0:0", "ide0:1", "ide1:0", "ide1:1"] {
        full.push_str(&format!(
            "{device}.present = TRUE\n{device}.deviceType = cdrom-raw\n"
        ));
    }
    let template = parse(&full).unwrap();
    let (_, problem) = template
        .with_disk("lab", "x", DiskController::Ide)
        .unwrap_err();
    assert_eq!(
        problem.to_string(),
        "has no hard disk, and no free place for one on ide0 and ide1"
    );
    assert!(template.with_disk("lab", "x", SCSI).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        let text = format!("config.version = 8\n{text}");
        if let Ok(template) = parse(&text) {
            drop(template.with_disk("lab", "x", SCSI));
            drop(template.hardware(SCSI));
        }
    }

    /// Whatever is cut, put in or moved: what is still read has our disk once, and is read the same again.
    #[test]
    fn mutated_templates_are_survived(
        at in 0..FOREIGN.len(),
        len in 0..80_usize,
        insert in "[a-z0-9:.=\"#\n |]{0,12}",
        wanted in prop::sample::select(vec![SCSI, DiskController::Sata, DiskController::Ide]),
    ) {
        let end = (at + len).min(FOREIGN.len());
        let text = format!("{}{insert}{}", &FOREIGN[..at], &FOREIGN[end..]);
        if let Ok(template) = parse(&text) {
            let new = template.with_disk("lab", "/mnt/lab.vmdk", wanted).unwrap();
            prop_assert_eq!(new.matches(".fileName = \"/mnt/lab.vmdk\"").count(), 1);
            prop_assert_eq!(rewritten(&new, wanted), new);
            drop(template.hardware(wanted));
        }
    }
}
