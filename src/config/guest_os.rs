//! Names of `guest-os` and what they mean in an OVF.
//!
//! `ovf_id` is CIM_OperatingSystem.OSType (DMTF DSP0004's ValueMap), `vmw_os_type` is vSphere's
//! VirtualMachineGuestOsIdentifier.

use super::spec::GuestOs;

/// Every guest that a config can name; the first is the default.
pub const GUEST_OS_TABLE: &[GuestOs] = &[
    row(
        "other-linux-64",
        101,
        "otherLinux64Guest",
        "Other Linux (64-bit)",
    ),
    row("other-linux", 36, "otherLinuxGuest", "Other Linux (32-bit)"),
    row(
        "debian-64",
        96,
        "debian10_64Guest",
        "Debian GNU/Linux (64-bit)",
    ),
    row("debian", 95, "debian10Guest", "Debian GNU/Linux (32-bit)"),
    row("ubuntu-64", 94, "ubuntu64Guest", "Ubuntu Linux (64-bit)"),
    row("ubuntu", 93, "ubuntuGuest", "Ubuntu Linux (32-bit)"),
    row(
        "rhel-64",
        80,
        "rhel7_64Guest",
        "Red Hat Enterprise Linux (64-bit)",
    ),
    row("centos-64", 107, "centos64Guest", "CentOS (64-bit)"),
    row("centos", 106, "centosGuest", "CentOS (32-bit)"),
    // CIM has no number for Fedora: the general one for 64-bit Linux.
    row("fedora-64", 101, "fedora64Guest", "Fedora Linux (64-bit)"),
    row(
        "sles-64",
        85,
        "sles12_64Guest",
        "SUSE Linux Enterprise (64-bit)",
    ),
    row("opensuse-64", 83, "opensuse64Guest", "openSUSE (64-bit)"),
    row(
        "oracle-linux-64",
        109,
        "oracleLinux64Guest",
        "Oracle Linux (64-bit)",
    ),
    row("freebsd-64", 78, "freebsd64Guest", "FreeBSD (64-bit)"),
    row("freebsd", 42, "freebsdGuest", "FreeBSD (32-bit)"),
    row("other-64", 102, "otherGuest64", "Other (64-bit)"),
];

const fn row(
    name: &'static str,
    ovf_id: u16,
    vmw_os_type: &'static str,
    description: &'static str,
) -> GuestOs {
    GuestOs {
        name,
        ovf_id,
        vmw_os_type,
        description,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_guest_types_are_unique() {
        let names: BTreeSet<_> = GUEST_OS_TABLE.iter().map(|guest| guest.name).collect();
        let types: BTreeSet<_> = GUEST_OS_TABLE
            .iter()
            .map(|guest| guest.vmw_os_type)
            .collect();
        assert_eq!(names.len(), GUEST_OS_TABLE.len());
        assert_eq!(types.len(), GUEST_OS_TABLE.len());
    }
}
