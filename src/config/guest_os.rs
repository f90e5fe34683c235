//! Names of `guest-os` and what they mean in an OVF and in a VMX.
//!
//! Sources: `ovf_id` is CIM_OperatingSystem.OSType of CIM 2.55, as Proxmox's importer lists it. `vmw_os_type` and
//! `vmx_guest_os` are the pairs of open-vm-tools' guest_os_tables.h; those younger than it are govmomi's identifiers and
//! the words in configurations that Workstation wrote.

use super::spec::GuestOs;

/// Every guest that a config can name; the first is the default. Of several rows with one `ovf_id` the first stands
/// for it.
pub const GUEST_OS_TABLE: &[GuestOs] = &[
    row(
        "other-linux-64",
        101,
        "otherLinux64Guest",
        "otherlinux-64",
        "Other Linux (64-bit)",
    ),
    row(
        "other-linux",
        36,
        "otherLinuxGuest",
        "otherlinux",
        "Other Linux (32-bit)",
    ),
    row(
        "other-linux-3-64",
        101,
        "other3xLinux64Guest",
        "other3xlinux-64",
        "Other Linux 3.x or later (64-bit)",
    ),
    row(
        "other-linux-4-64",
        101,
        "other4xLinux64Guest",
        "other4xlinux-64",
        "Other Linux 4.x or later (64-bit)",
    ),
    row(
        "other-linux-5-64",
        101,
        "other5xLinux64Guest",
        "other5xlinux-64",
        "Other Linux 5.x or later (64-bit)",
    ),
    row(
        "other-linux-6-64",
        101,
        "other6xLinux64Guest",
        "other6xlinux-64",
        "Other Linux 6.x or later (64-bit)",
    ),
    row(
        "debian-64",
        96,
        "debian10_64Guest",
        "debian10-64",
        "Debian GNU/Linux (64-bit)",
    ),
    row(
        "debian",
        95,
        "debian10Guest",
        "debian10",
        "Debian GNU/Linux (32-bit)",
    ),
    row(
        "debian-11-64",
        96,
        "debian11_64Guest",
        "debian11-64",
        "Debian GNU/Linux 11 (64-bit)",
    ),
    row(
        "debian-12-64",
        96,
        "debian12_64Guest",
        "debian12-64",
        "Debian GNU/Linux 12 (64-bit)",
    ),
    row(
        "debian-13-64",
        96,
        "debian13_64Guest",
        "debian13-64",
        "Debian GNU/Linux 13 (64-bit)",
    ),
    row(
        "ubuntu-64",
        94,
        "ubuntu64Guest",
        "ubuntu-64",
        "Ubuntu Linux (64-bit)",
    ),
    row(
        "ubuntu",
        93,
        "ubuntuGuest",
        "ubuntu",
        "Ubuntu Linux (32-bit)",
    ),
    row(
        "rhel-64",
        80,
        "rhel7_64Guest",
        "rhel7-64",
        "Red Hat Enterprise Linux (64-bit)",
    ),
    row(
        "rhel-6-64",
        80,
        "rhel6_64Guest",
        "rhel6-64",
        "Red Hat Enterprise Linux 6 (64-bit)",
    ),
    row(
        "rhel-8-64",
        80,
        "rhel8_64Guest",
        "rhel8-64",
        "Red Hat Enterprise Linux 8 (64-bit)",
    ),
    row(
        "rhel-9-64",
        80,
        "rhel9_64Guest",
        "rhel9-64",
        "Red Hat Enterprise Linux 9 (64-bit)",
    ),
    row(
        "centos-64",
        107,
        "centos64Guest",
        "centos-64",
        "CentOS (64-bit)",
    ),
    row("centos", 106, "centosGuest", "centos", "CentOS (32-bit)"),
    row(
        "centos-7-64",
        107,
        "centos7_64Guest",
        "centos7-64",
        "CentOS 7 (64-bit)",
    ),
    row(
        "centos-8-64",
        107,
        "centos8_64Guest",
        "centos8-64",
        "CentOS 8 (64-bit)",
    ),
    row(
        "centos-9-64",
        107,
        "centos9_64Guest",
        "centos9-64",
        "CentOS Stream 9 (64-bit)",
    ),
    // CIM has no number for these: the general one for 64-bit Linux.
    row(
        "fedora-64",
        101,
        "fedora64Guest",
        "fedora-64",
        "Fedora Linux (64-bit)",
    ),
    row(
        "rocky-linux-64",
        101,
        "rockylinux_64Guest",
        "rockylinux-64",
        "Rocky Linux (64-bit)",
    ),
    row(
        "alma-linux-64",
        101,
        "almalinux_64Guest",
        "almalinux-64",
        "AlmaLinux (64-bit)",
    ),
    row(
        "amazon-linux-2-64",
        101,
        "amazonlinux2_64Guest",
        "amazonlinux2-64",
        "Amazon Linux 2 (64-bit)",
    ),
    row(
        "photon-64",
        101,
        "vmwarePhoton64Guest",
        "vmware-photon-64",
        "VMware Photon OS (64-bit)",
    ),
    row(
        "sles-64",
        85,
        "sles12_64Guest",
        "sles12-64",
        "SUSE Linux Enterprise (64-bit)",
    ),
    row(
        "sles-15-64",
        85,
        "sles15_64Guest",
        "sles15-64",
        "SUSE Linux Enterprise 15 (64-bit)",
    ),
    row(
        "opensuse-64",
        83,
        "opensuse64Guest",
        "opensuse-64",
        "openSUSE (64-bit)",
    ),
    row(
        "oracle-linux-64",
        109,
        "oracleLinux64Guest",
        "oraclelinux-64",
        "Oracle Linux (64-bit)",
    ),
    row(
        "oracle-linux-8-64",
        109,
        "oracleLinux8_64Guest",
        "oraclelinux8-64",
        "Oracle Linux 8 (64-bit)",
    ),
    row(
        "oracle-linux-9-64",
        109,
        "oracleLinux9_64Guest",
        "oraclelinux9-64",
        "Oracle Linux 9 (64-bit)",
    ),
    row(
        "freebsd-64",
        78,
        "freebsd64Guest",
        "freeBSD-64",
        "FreeBSD (64-bit)",
    ),
    row("freebsd", 42, "freebsdGuest", "freeBSD", "FreeBSD (32-bit)"),
    row(
        "freebsd-13-64",
        78,
        "freebsd13_64Guest",
        "freeBSD13-64",
        "FreeBSD 13 (64-bit)",
    ),
    row(
        "freebsd-14-64",
        78,
        "freebsd14_64Guest",
        "freeBSD14-64",
        "FreeBSD 14 (64-bit)",
    ),
    row(
        "solaris-11-64",
        81,
        "solaris11_64Guest",
        "solaris11-64",
        "Oracle Solaris 11 (64-bit)",
    ),
    row(
        "esxi-7-64",
        104,
        "vmkernel7Guest",
        "vmkernel7",
        "VMware ESXi 7",
    ),
    row("dos", 14, "dosGuest", "dos", "MS-DOS"),
    row(
        "windows-xp",
        67,
        "winXPProGuest",
        "winXPPro",
        "Microsoft Windows XP Professional (32-bit)",
    ),
    row(
        "windows-7",
        105,
        "windows7Guest",
        "windows7",
        "Microsoft Windows 7 (32-bit)",
    ),
    row(
        "windows-7-64",
        105,
        "windows7_64Guest",
        "windows7-64",
        "Microsoft Windows 7 (64-bit)",
    ),
    row(
        "windows-8-64",
        114,
        "windows8_64Guest",
        "windows8-64",
        "Microsoft Windows 8 (64-bit)",
    ),
    // VMware calls Windows 10 and Windows Server 2016 "9".
    row(
        "windows-10",
        119,
        "windows9Guest",
        "windows9",
        "Microsoft Windows 10 (32-bit)",
    ),
    row(
        "windows-10-64",
        120,
        "windows9_64Guest",
        "windows9-64",
        "Microsoft Windows 10 (64-bit)",
    ),
    row(
        "windows-11-64",
        122,
        "windows11_64Guest",
        "windows11-64",
        "Microsoft Windows 11 (64-bit)",
    ),
    row(
        "windows-server-2003",
        69,
        "winNetStandardGuest",
        "winNetStandard",
        "Microsoft Windows Server 2003 (32-bit)",
    ),
    row(
        "windows-server-2008-64",
        77,
        "winLonghorn64Guest",
        "longhorn-64",
        "Microsoft Windows Server 2008 (64-bit)",
    ),
    row(
        "windows-server-2008-r2-64",
        103,
        "windows7Server64Guest",
        "windows7srv-64",
        "Microsoft Windows Server 2008 R2 (64-bit)",
    ),
    row(
        "windows-server-2012-64",
        112,
        "windows8Server64Guest",
        "windows8srv-64",
        "Microsoft Windows Server 2012 (64-bit)",
    ),
    row(
        "windows-server-2016-64",
        116,
        "windows9Server64Guest",
        "windows9srv-64",
        "Microsoft Windows Server 2016 (64-bit)",
    ),
    row(
        "windows-server-2019-64",
        121,
        "windows2019srv_64Guest",
        "windows2019srv-64",
        "Microsoft Windows Server 2019 (64-bit)",
    ),
    row(
        "windows-server-2022-64",
        123,
        "windows2019srvNext_64Guest",
        "windows2019srvNext-64",
        "Microsoft Windows Server 2022 (64-bit)",
    ),
    row(
        "windows-server-2025-64",
        123,
        "windows2022srvNext_64Guest",
        "windows2022srvNext-64",
        "Microsoft Windows Server 2025 (64-bit)",
    ),
    row("other", 1, "otherGuest", "other", "Other (32-bit)"),
    row(
        "other-64",
        102,
        "otherGuest64",
        "other-64",
        "Other (64-bit)",
    ),
];

const fn row(
    name: &'static str,
    ovf_id: u16,
    vmw_os_type: &'static str,
    vmx_guest_os: &'static str,
    description: &'static str,
) -> GuestOs {
    GuestOs {
        name,
        ovf_id,
        vmw_os_type,
        vmx_guest_os,
        description,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_guest_types_are_unique() {
        let unique = |of: fn(&GuestOs) -> String| {
            let all: BTreeSet<_> = GUEST_OS_TABLE.iter().map(of).collect();
            assert_eq!(all.len(), GUEST_OS_TABLE.len());
        };
        unique(|guest| guest.name.to_owned());
        unique(|guest| guest.vmw_os_type.to_owned());
        unique(|guest| guest.vmx_guest_os.to_ascii_lowercase());
        unique(|guest| guest.description.to_owned());
    }

    /// Width of the guest, as each of the names tells it.
    #[test]
    fn names_agree_on_64_bits() {
        for guest in GUEST_OS_TABLE {
            let is_wide = guest.name.ends_with("-64");
            assert_eq!(
                guest.vmw_os_type.contains("64"),
                is_wide && !guest.name.starts_with("esxi"),
                "{guest:?}"
            );
            assert_eq!(
                guest.description.ends_with("(64-bit)"),
                is_wide && !guest.name.starts_with("esxi"),
                "{guest:?}"
            );
            assert_eq!(
                guest.vmx_guest_os.ends_with("-64"),
                guest.vmw_os_type.contains("64"),
                "{guest:?}"
            );
        }
    }

    #[test]
    fn the_reference_lists_all_names() {
        let reference = include_str!("../../docs/config.md");
        let row = reference
            .lines()
            .find(|line| line.starts_with("| `guest-os`"))
            .unwrap();
        let documented: Vec<_> = row
            .rsplit('|')
            .nth(1)
            .unwrap()
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        let known: BTreeSet<_> = GUEST_OS_TABLE.iter().map(|guest| guest.name).collect();
        assert_eq!(documented.len(), known.len());
        assert_eq!(documented.into_iter().collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn rows_are_found_by_each_name() {
        assert_eq!(GuestOs::from_vmx("UBUNTU-64").unwrap().name, "ubuntu-64");
        assert_eq!(
            GuestOs::from_vmw_os_type("windows9_64Guest").unwrap().name,
            "windows-10-64"
        );
        assert_eq!(GuestOs::from_ovf_id(101).unwrap().name, "other-linux-64");
        assert_eq!(GuestOs::from_vmx("beos"), None);
    }
}
