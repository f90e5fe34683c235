use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::spec::{
    BootCode, DiskSize, Filesystem, ImageFormat, ImagePath, Owner, PackageSpec, PartitionSize,
    PartitionTable, Piece, Times, VmdkLayout,
};
use super::{ConfigError, Environment, Loaded, STARTER, load_text};
use crate::units::{GIB, Lba, MIB};

mod content_errors;
mod errors;
mod ext4;
mod includes;
mod layout_errors;
mod machine;
mod newest;
mod resolved;
mod system;

/// A directory with sources, and a system with a boot loader.
struct Lab {
    directory: TempDir,
    environment: Environment,
}

impl Lab {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let root = directory.path();
        for path in [
            "boot",
            "vmuser",
            "system/usr/bin",
            "system/usr/lib/EXTLINUX",
        ] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        fs::write(root.join("system/usr/bin/extlinux"), "ELF").unwrap();
        let boot_code = root.join("system/usr/lib/EXTLINUX/mbr.bin");
        fs::write(boot_code, [0; 440]).unwrap();
        fs::write(root.join("short.bin"), [0; 439]).unwrap();
        fs::write(root.join("machine.VMX"), "").unwrap();
        fs::write(root.join("machine.ovf"), "").unwrap();
        fs::write(root.join("440.bin"), [0; 440]).unwrap();
        let environment = Environment {
            source_date_epoch: None,
            system_root: root.join("system"),
        };
        Self {
            directory,
            environment,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn load(&self, text: &str) -> Result<Loaded, ConfigError> {
        load_text(text.to_owned(), &self.path("lab.toml"), &self.environment)
    }

    /// The text of an error, without the directory of the lab.
    fn strip(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn smallest_config_gets_the_defaults() {
    let loaded = Lab::new().load("[[partition]]").unwrap();
    let spec = &loaded.spec;
    assert_eq!((spec.name.as_str(), spec.seed.as_str()), ("lab", "lab"));
    assert_eq!(
        spec.times,
        Times {
            default: 946_684_800,
            clamp: None
        }
    );
    assert_eq!(spec.disk.size, DiskSize::Auto);
    assert_eq!(spec.disk.table, PartitionTable::Mbr);
    assert_eq!(spec.disk.boot_code, BootCode::None);
    assert_eq!(spec.extlinux, None);
    let partition = &spec.partitions[0];
    assert_eq!(partition.label, "partition-1");
    assert_eq!(partition.size, PartitionSize::Auto);
    assert_eq!((partition.active, partition.type_code), (false, 0x83));
    assert_eq!((spec.vm.memory, spec.vm.cpus), (GIB, 2));
    assert_eq!(
        (spec.vm.guest_os.ovf_id, spec.vm.hardware_version),
        (101, 13)
    );
    let images: Vec<_> = spec
        .images
        .iter()
        .map(|image| (image.name.as_str(), image.format))
        .collect();
    assert_eq!(
        images,
        [
            ("disk.img", ImageFormat::Raw { partition: None }),
            ("disk.vmdk", ImageFormat::Vmdk(VmdkLayout::MonolithicSparse)),
            ("boot.ova", ImageFormat::Ova(PackageSpec::DEFAULT)),
        ]
    );
    assert_eq!(loaded.warnings, []);
}

#[test]
fn starter_is_valid() {
    let lab = Lab::new();
    let loaded = lab.load(STARTER).unwrap();
    let spec = &loaded.spec;
    assert_eq!(spec.name, "teaching-lab");
    assert_eq!(spec.disk.size, DiskSize::Fixed(GIB));
    let root = lab.directory.path().canonicalize().unwrap();
    let boot_code = root.join("system/usr/lib/EXTLINUX/mbr.bin");
    assert_eq!(spec.disk.boot_code, BootCode::File(boot_code));
    let extlinux = root.join("system/usr/bin/extlinux");
    assert_eq!(spec.extlinux, Some(extlinux));
    let [boot, home] = spec.partitions.as_slice() else {
        panic!("two partitions")
    };
    assert_eq!(boot.size, PartitionSize::Fixed(256 * MIB));
    assert_eq!(boot.bootloader_directory, Some(ImagePath::default()));
    assert_eq!(boot.copies[0].from, root.join("boot"));
    assert!(boot.copies[0].to_is_directory);
    let [Piece::Bytes(text)] = boot.files[0].contents.as_slice() else {
        panic!("a text without names")
    };
    assert!(text.starts_with(b"DEFAULT linux\n"));
    assert_eq!(home.size, PartitionSize::Rest);
    assert_eq!(home.copies[0].to.to_string(), "/vmuser");
    assert_eq!(
        home.copies[0].owner,
        Some(Owner {
            uid: 1000,
            gid: 100
        })
    );
    assert_eq!(home.copies[0].exclude, ["*.swp", ".cache/"]);
    let Filesystem::Ext4(ext4) = &home.filesystem else {
        panic!("ext4")
    };
    assert_eq!(ext4.reserved_percent, Some(5));
    assert_eq!(loaded.warnings, []);
}

#[test]
fn example_of_the_reference_is_valid() {
    let reference = include_str!("../../docs/config.md");
    let (_, rest) = reference.split_once("## Example").unwrap();
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let loaded = Lab::new().load(example).unwrap();
    assert_eq!(loaded.spec.partitions[1].size, PartitionSize::Rest);
}

/// No cut or damage of a config makes the parser panic.
#[test]
fn damaged_configs_are_errors_not_panics() {
    let lab = Lab::new();
    let mut rejected = 0;
    for end in (0..STARTER.len()).step_by(7) {
        let (before, after) = STARTER.split_at(end);
        rejected += u32::from(lab.load(before).is_err());
        for damage in ["\0", "=", "\"", "-1", "é"] {
            rejected += u32::from(lab.load(&format!("{before}{damage}{after}")).is_err());
        }
    }
    assert!(rejected > 1000, "{rejected}");
}

#[test]
fn sizes_places_and_words_are_read() {
    let lab = Lab::new();
    let text = r#"
        name = "n"
        seed = "s"
        source-date-epoch = 1700000000
        [disk]
        size = 1048577
        boot-code = "440.bin"
        [[partition]]
        start = "63s"
        size = "100s"
        filesystem = "none"
        type = "swap"
        [[partition]]
        label = "b"
        free = "1MiB"
        type = "0xFd"
        copy = [{ from = "440.bin", to = "//a/./b/", mode = "7777" }]
        [images]
        "z" = { format = "raw" }
        "a" = { format = "vmdk", layout = "stream-optimized" }
    "#;
    let loaded = lab.load(text).unwrap();
    let spec = &loaded.spec;
    assert_eq!(spec.times.clamp, Some(1_700_000_000));
    assert_eq!(spec.disk.size, DiskSize::Fixed(2 * MIB));
    assert_eq!(
        spec.disk.boot_code,
        BootCode::File(lab.path("440.bin").canonicalize().unwrap())
    );
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lab.strip(&warnings.join("\n")),
        "lab.toml:6:16: disk size 1048577 bytes (1 MiB) is no multiple of 64 KiB; rounded up to 2097152 bytes (2 MiB)"
    );
    let [first, second] = spec.partitions.as_slice() else {
        panic!("two partitions")
    };
    assert_eq!(first.start, Some(Lba(63)));
    assert_eq!(first.size, PartitionSize::Fixed(51_200));
    assert_eq!(first.type_code, 0x82);
    assert_eq!(second.size, PartitionSize::Auto);
    assert_eq!(second.free, Some(MIB));
    assert_eq!(second.type_code, 0xfd);
    assert_eq!(second.copies[0].to.to_string(), "/a/b");
    assert_eq!(second.copies[0].mode, Some(0o7777));
    let names: Vec<_> = spec.images.iter().map(|image| &image.name).collect();
    assert_eq!(names, ["z", "a"]);
}

#[test]
fn rest_is_auto_on_an_auto_disk() {
    let loaded = Lab::new().load("[[partition]]\nsize = 'rest'").unwrap();
    assert_eq!(loaded.spec.partitions[0].size, PartitionSize::Auto);
}

#[test]
fn boot_loader_without_boot_code_is_a_warning() {
    let lab = Lab::new();
    let text = "[disk]\nboot-code = 'none'\n[[partition]]\nactive = true\nbootloader = 'extlinux'";
    let loaded = lab.load(text).unwrap();
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lab.strip(&warnings.join("\n")),
        "lab.toml:2:13: partition `partition-1` has a boot loader, but with boot-code = \"none\" nothing on the disk starts it"
    );
}

#[test]
fn environment_gives_the_time_of_what_has_no_source() {
    let mut lab = Lab::new();
    lab.environment.source_date_epoch = Some("12".to_owned());
    let times = lab.load("[[partition]]").unwrap().spec.times;
    assert_eq!((times.default, times.clamp), (12, None));
    lab.environment.source_date_epoch = Some("soon".to_owned());
    let error = lab.load("[[partition]]").unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable SOURCE_DATE_EPOCH is \"soon\"; expected a number of seconds from 0 to 8589934591"
    );
}
