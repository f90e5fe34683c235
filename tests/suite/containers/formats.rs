//! Every form in which a disk is taken away.

use miragefs::config::{self, Environment};

/// One image of a config.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    /// Its name in `[images]`.
    pub(super) name: &'static str,
    /// Its table.
    keys: &'static str,
    /// The file with the disk: the image, a file beside it, or a member of the archive that it is.
    pub(super) disk: &'static str,
    /// qemu's name of that file's format.
    pub(super) driver: &'static str,
}

impl Format {
    pub(super) fn is_tar(&self) -> bool {
        self.name.ends_with(".ova") || self.name.ends_with(".box")
    }

    /// Whether the disk's bytes lie in another file, which the descriptor names.
    pub(super) fn is_flat(&self) -> bool {
        self.keys.contains("monolithic-flat")
    }

    /// Whether the grains' directory lies in front of them.
    pub(super) fn is_front(&self) -> bool {
        self.keys.contains("grain-directory = 'front'")
    }

    /// Whether importers find an OVF in it.
    pub(super) fn is_package(&self) -> bool {
        self.name.ends_with(".ova") || self.name.ends_with(".ovf")
    }

    /// Whether it has digests that COT can check.
    pub(super) fn has_only_sha1(&self) -> bool {
        self.keys.contains("manifest = 'sha1'") || self.keys.contains("manifest = 'none'")
    }

    pub(super) fn is_vhd(&self) -> bool {
        self.driver == "vpc"
    }
}

/// A disk that is the image itself.
const fn plain(name: &'static str, driver: &'static str, keys: &'static str) -> Format {
    Format {
        name,
        keys,
        disk: name,
        driver,
    }
}

/// A VMDK inside or beside the image.
const fn package(name: &'static str, disk: &'static str, keys: &'static str) -> Format {
    Format {
        name,
        keys,
        disk,
        driver: "vmdk",
    }
}

/// The name of the machine in every config here.
pub(super) const MACHINE: &str = "lab";
const MEMBER: &str = "lab-disk1.vmdk";

/// The whole disk in every container, with every setting of it at least once.
pub(super) const FORMATS: [Format; 22] = [
    plain("disk.img", "raw", "format = 'raw'"),
    plain(
        "sparse.vmdk",
        "vmdk",
        "format = 'vmdk', layout = 'monolithic-sparse'",
    ),
    plain(
        "flat.vmdk",
        "vmdk",
        "format = 'vmdk', layout = 'monolithic-flat'",
    ),
    plain(
        "footer.vmdk",
        "vmdk",
        "format = 'vmdk', layout = 'stream-optimized', grain-directory = 'footer', compression = 'stored'",
    ),
    plain(
        "front.vmdk",
        "vmdk",
        "format = 'vmdk', layout = 'stream-optimized', grain-directory = 'front'",
    ),
    plain(
        "deflate.vmdk",
        "vmdk",
        "format = 'vmdk', layout = 'stream-optimized', compression = 'deflate', level = 1",
    ),
    plain(
        "deflate-front.vmdk",
        "vmdk",
        "format = 'vmdk', layout = 'stream-optimized', compression = 'deflate', grain-directory = 'front'",
    ),
    package(
        "stored.ova",
        MEMBER,
        "format = 'ova', manifest = 'sha256', manifest-position = 'last'",
    ),
    package(
        "front.ova",
        MEMBER,
        "format = 'ova', manifest = 'sha1', grain-directory = 'front'",
    ),
    package("none.ova", MEMBER, "format = 'ova', manifest = 'none'"),
    package(
        "second.ova",
        MEMBER,
        "format = 'ova', manifest = 'sha512', manifest-position = 'second'",
    ),
    package(
        "deflate.ova",
        MEMBER,
        "format = 'ova', compression = 'deflate'",
    ),
    package(
        "deflate-second.ova",
        MEMBER,
        "format = 'ova', compression = 'deflate', manifest = 'sha1', manifest-position = 'second'",
    ),
    package(
        "loose.ovf",
        "loose-disk1.vmdk",
        "format = 'ovf', manifest = 'sha1'",
    ),
    package(
        "deflate.ovf",
        "deflate-disk1.vmdk",
        "format = 'ovf', compression = 'deflate', manifest = 'none'",
    ),
    plain("dynamic.vhd", "vpc", "format = 'vhd', layout = 'dynamic'"),
    plain("fixed.vhd", "vpc", "format = 'vhd', layout = 'fixed'"),
    plain("disk.vhdx", "vhdx", "format = 'vhdx'"),
    plain("disk.qcow2", "qcow2", "format = 'qcow2'"),
    plain("disk.vdi", "vdi", "format = 'vdi'"),
    package(
        "virtualbox.box",
        "box-disk001.vmdk",
        "format = 'vagrant', provider = 'virtualbox'",
    ),
    Format {
        name: "libvirt.box",
        keys: "format = 'vagrant', provider = 'libvirt'",
        disk: "box.img",
        driver: "qcow2",
    },
];

/// The raw image of one partition, in configs that have one of this label.
pub(super) const PARTITION: Format = plain("boot.img", "raw", "format = 'raw', partition = 'boot'");

/// A machine around one of the VMDKs.
pub(super) const VMX: Format = package(
    "lab.vmx",
    "sparse.vmdk",
    "format = 'vmx', disk = 'sparse.vmdk'",
);

/// `[images]` with these.
pub(super) fn images_table<'a>(formats: impl IntoIterator<Item = &'a Format>) -> String {
    let rows = formats
        .into_iter()
        .map(|format| format!("'{}' = {{ {} }}\n", format.name, format.keys));
    format!("[images]\n{}", rows.collect::<String>())
}

/// What the config takes for a key of an image, by its own message.
fn choices(keys: &str) -> Vec<String> {
    let text = format!("[images]\nx = {{ {keys} }}\n[[partition]]\nsize = '16MiB'\n");
    let error = config::load_text(text, "choices.toml".as_ref(), &Environment::default())
        .err()
        .unwrap();
    let message = error.to_string();
    let (_, known) = message.split_once("; expected ").unwrap();
    let quoted = known.lines().next().unwrap().split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// A format or setting that the config learns is one that these tests must try.
#[test]
fn every_setting_is_tried() {
    let stream = "format = 'vmdk', layout = 'stream-optimized'";
    for (key, others) in [
        ("format", ""),
        ("layout", "format = 'vmdk'"),
        ("layout", "format = 'vhd'"),
        ("grain-directory", stream),
        ("compression", stream),
        ("manifest", "format = 'ova'"),
        ("manifest-position", "format = 'ova'"),
        ("provider", "format = 'vagrant'"),
    ] {
        let comma = if others.is_empty() { "" } else { ", " };
        let known = choices(&format!("{others}{comma}{key} = 'unheard-of'"));
        assert!(known.len() >= 2, "{key}: {known:?}");
        for choice in known {
            let setting = format!("{key} = '{choice}'");
            let mut formats = FORMATS.iter().chain([&VMX]);
            let tried = formats.any(|format| format.keys.contains(&setting));
            assert!(tried, "no image here has {setting}");
        }
    }
}
