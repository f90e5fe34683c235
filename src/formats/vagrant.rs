//! The two texts of a Vagrant box: what says which provider it is for, and the settings that it brings along.
//!
//! Source: HashiCorp, "Box File Format" and "VirtualBox: Box Format"; vagrant-libvirt, "Box Format". Invariant: same values,
//! same bytes.

use crate::units::GIB;

/// Name of [`BoxText::metadata`].
pub const METADATA_NAME: &str = "metadata.json";
/// Name of [`BoxText::vagrantfile`].
pub const VAGRANTFILE_NAME: &str = "Vagrantfile";
/// The machine of a box for VirtualBox: Vagrant imports this name.
pub const OVF_NAME: &str = "box.ovf";
/// Its disk, as VirtualBox names it when Vagrant has it export a machine.
pub const VMDK_NAME: &str = "box-disk001.vmdk";
/// The disk of a box for libvirt: vagrant-libvirt uploads this name.
pub const IMAGE_NAME: &str = "box.img";

/// What varies between boxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxText {
    /// For VirtualBox.
    VirtualBox {
        /// The address of the first network card of every machine made from the box.
        base_mac: [u8; 6],
    },
    /// For libvirt, with a qcow2.
    Libvirt {
        /// Bytes of the disk.
        disk_len: u64,
        /// Memory in MiB.
        memory_mib: u64,
        /// Virtual CPUs.
        cpus: u32,
    },
}

impl BoxText {
    /// `metadata.json`.
    #[must_use]
    pub fn metadata(&self) -> String {
        match self {
            Self::VirtualBox { .. } => "{\n  \"provider\": \"virtualbox\"\n}\n".to_owned(),
            // Whole GiB: the volume that it is uploaded to must not be smaller than the disk.
            Self::Libvirt { disk_len, .. } => format!(
                "{{\n  \"provider\": \"libvirt\",\n  \"format\": \"qcow2\",\n  \"virtual_size\": {}\n}}\n",
                disk_len.div_ceil(GIB)
            ),
        }
    }

    /// The `Vagrantfile`: defaults that a user's own one overrides.
    #[must_use]
    pub fn vagrantfile(&self) -> String {
        let settings = match self {
            Self::VirtualBox { base_mac } => {
                let digits: String = base_mac.iter().map(|byte| format!("{byte:02X}")).collect();
                format!("  config.vm.base_mac = \"{digits}\"\n")
            }
            Self::Libvirt {
                memory_mib, cpus, ..
            } => format!(
                "  config.vm.provider :libvirt do |libvirt|\n    libvirt.memory = {memory_mib}\n    libvirt.cpus = {cpus}\n  end\n"
            ),
        };
        format!("Vagrant.configure(\"2\") do |config|\n{settings}end\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtualbox_has_an_address() {
        let text = BoxText::VirtualBox {
            base_mac: [8, 0, 0x27, 0xab, 0, 0x1f],
        };
        assert_eq!(text.metadata(), "{\n  \"provider\": \"virtualbox\"\n}\n");
        assert_eq!(
            text.vagrantfile(),
            "Vagrant.configure(\"2\") do |config|\n  config.vm.base_mac = \"080027AB001F\"\nend\n"
        );
    }

    #[test]
    fn libvirt_has_a_size_in_whole_gib() {
        let of = |disk_len| BoxText::Libvirt {
            disk_len,
            memory_mib: 1024,
            cpus: 2,
        };
        for (len, size) in [(1, 1), (GIB, 1), (GIB + 512, 2), (2048 * GIB, 2048)] {
            let metadata = of(len).metadata();
            assert!(
                metadata.ends_with(&format!("\"virtual_size\": {size}\n}}\n")),
                "{metadata}"
            );
        }
        assert_eq!(
            of(1).vagrantfile(),
            "Vagrant.configure(\"2\") do |config|\n  config.vm.provider :libvirt do |libvirt|\n    libvirt.memory = 1024\n    \
             libvirt.cpus = 2\n  end\nend\n"
        );
    }
}
