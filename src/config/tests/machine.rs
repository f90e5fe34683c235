//! Mistakes in `[vm]`.

use super::errors::check;

#[test]
fn controllers_and_cards() {
    check(&[
        (
            "[vm]\ndisk-controller = 'nvme'",
            "lab.toml:2:19: `disk-controller` is \"nvme\"; expected \"scsi\", \"sata\" or \"ide\"",
            "write disk-controller = \"scsi\", \"sata\" or \"ide\"; left out it is \"scsi\"",
        ),
        (
            "[vm]\ndisk-controller = 'sata'\nscsi-controller = 'pvscsi'",
            "lab.toml:3:19: `scsi-controller` is the model of a SCSI controller; disk-controller is \"sata\"",
            "leave `scsi-controller` out, or write disk-controller = \"scsi\"",
        ),
        (
            "[vm]\nhardware-version = 9\ndisk-controller = 'sata'",
            "lab.toml:3:19: disk-controller = \"sata\" needs hardware version 10; `hardware-version` is 9",
            "write hardware-version = 10 or more, or disk-controller = \"ide\"",
        ),
        (
            "[vm]\nnetworks = [{name='a'},{name='a'},{name='a'},{name='a'},{name='a'},{name='a'},{name='a'},{name='a'},{name='a'},{name='a'},{name='b'}]",
            "lab.toml:2:123: `networks` has 11 entries; a machine has at most 10 network cards",
            "keep 10 of them",
        ),
        (
            "[vm]\nguest-os = 'windows-10-65'",
            "lab.toml:2:12: `guest-os` is \"windows-10-65\"; expected one of 57 names, such as \"other-linux-64\"",
            "did you mean \"windows-10-64\"?",
        ),
        (
            "[vm]\nguest-os = 'beos'",
            "lab.toml:2:12: `guest-os` is \"beos\"; expected one of 57 names, such as \"other-linux-64\"",
            "\"other-linux-64\" is any Linux and \"other-64\" anything else; docs/config.md lists all names",
        ),
    ]);
}

#[test]
fn what_people_read() {
    check(&[
        (
            "[vm]\nannotation = \"a\\u0001\"",
            "lab.toml:2:14: `annotation` has a control character; only line feeds and tabs may be in it",
            "leave it out; \\n is a line feed in a text of TOML",
        ),
        (
            "[vm]\nproduct = ''",
            "lab.toml:2:11: `product` is \"\"; expected at least one character, and no control characters",
            "write a text on one line, or leave it out",
        ),
        (
            "[vm]\nproperties = [{ value = 'x' }]",
            "lab.toml:2:15: `key` is missing in an entry of properties",
            "name the property, as in { key = \"hostname\", value = \"lab\", user-configurable = true }",
        ),
        (
            "[vm]\nproperties = [{ key = 'a b', value = 'x' }]",
            "lab.toml:2:23: `key` is \"a b\"; expected 1 to 255 of A-Z, a-z, 0-9, `.`, `_` and `-`",
            "write a key such as \"hostname\" or \"guestinfo.dns\"",
        ),
        (
            "[vm]\nproperties = [{ key = 'a', value = 'x' }, { key = 'a', value = 'y' }]",
            "lab.toml:2:43: property `a` is there twice",
            "keep one of the two",
        ),
        (
            "[vm]\nproperties = [{ key = 'a' }]",
            "lab.toml:2:15: property `a` has no value, and user-configurable is false",
            "give it a value, or write user-configurable = true",
        ),
        (
            "[vm]\nproperties = [{ key = 'a', type = 'uint64', value = -1 }]",
            "lab.toml:2:53: property `a` is \"-1\"; its type is \"uint64\"",
            "write a whole number from 0 on, such as value = 3",
        ),
        (
            "[vm]\nproperties = [{ key = 'a', type = 'boolean', value = 1 }]",
            "lab.toml:2:54: property `a` is \"1\"; its type is \"boolean\"",
            "write value = \"true\" or value = \"false\"",
        ),
        (
            "[vm]\nproperties = [{ key = 'a', type = 'real64', value = 'NaN' }]",
            "lab.toml:2:53: property `a` is \"NaN\"; its type is \"real64\"",
            "write a number, such as value = \"0.5\"",
        ),
        (
            "[vm]\nproperties = [{ key = 'a', value = true }]",
            "lab.toml:2:36: `value` is a boolean; expected a text in quotes or an integer",
            "write value = \"…\", also for true and false",
        ),
        (
            "[vm]\nproperties = 'a'",
            "lab.toml:2:14: `properties` is a text; expected an array of tables",
            "write properties = [{ key = \"hostname\", value = \"lab\" }]",
        ),
    ]);
}

#[test]
fn further_keys() {
    check(&[
        (
            "[vm.vmx]\nMemSize = 4",
            "lab.toml:2:1: `vmx`: `MemSize` is set by miragefs itself",
            "write memory in [vm]",
        ),
        (
            "[vm.vmx]\n'scsi0:0.fileName' = 'x.vmdk'",
            "lab.toml:2:1: `vmx`: `scsi0:0.fileName` is set by miragefs itself",
            "leave it out: the disk is there",
        ),
        (
            "[vm.vmx]\n'a b' = 'x'",
            "lab.toml:2:1: `vmx`: \"a b\" is no key of a VMX: those are printable ASCII without blanks, `=`, `#` and quotes",
            "write it as in a .vmx, such as \"isolation.tools.copy.disable\"",
        ),
        (
            "[vm.vmx]\n'b.C' = 'x'\n'b.c' = 'x'",
            "lab.toml:3:1: `vmx`: `b.C` and `b.c` are one key: case does not count in a VMX",
            "remove `b.c`",
        ),
        (
            "[vm.vmx]\nsound.present = 'FALSE'",
            "lab.toml:2:1: `vmx` is a table; expected a table of texts and integers",
            "write [vm.vmx] on a line of its own, and below \"isolation.tools.copy.disable\" = \"TRUE\"",
        ),
        (
            "[vm.vmx]\na = \"\\u0000\"",
            "lab.toml:2:5: `vmx` has a control character; only line feeds and tabs may be in it",
            "leave it out; \\n is a line feed in a text of TOML",
        ),
    ]);
}

#[test]
fn templates() {
    check(&[
        (
            "[vm]\ntemplate = 'lab.ova'",
            "lab.toml:2:12: `template` is \"lab.ova\"; its name must end in .vmx or .ovf",
            "name VMware's configuration of a machine (.vmx) or an OVF descriptor (.ovf)",
        ),
        (
            "[vm]\ntemplate = 'none.vmx'",
            "lab.toml:2:12: `template`: `none.vmx` does not exist",
            "relative paths start at the directory of the config file that names them",
        ),
        (
            "[vm]\ntemplate = 'machine.VMX'\ncpus = 3",
            "lab.toml:3:8: `cpus` is given beside `template`, which describes the whole machine",
            "leave `cpus` out and change the template instead",
        ),
        (
            "[vm]\ntemplate = 'machine.ovf'\ndisk-controller = 'ide'",
            "lab.toml:3:19: `disk-controller` is given beside `template`, which describes the whole machine",
            "leave `disk-controller` out and change the template instead",
        ),
        (
            "[vm]\ntemplate = 'machine.VMX'\n[vm.vmx]\n'a.b' = 'c'",
            "lab.toml:3:1: `vmx` is given beside `template`, which describes the whole machine",
            "leave `vmx` out and change the template instead",
        ),
    ]);
}
