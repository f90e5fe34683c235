//! Partitions and boot loaders that do not fit: one table of text, message and hint.

use super::errors::check;

#[test]
fn partitions_that_do_not_fit() {
    check(&[
        (
            "",
            "lab.toml:1:1: the disk has no partition",
            "add a [[partition]]; `miragefs init` writes an example",
        ),
        (
            "[[partition]]\n[[partition]]\n[[partition]]\n[[partition]]\n[[partition]]\n",
            "lab.toml:5:1: the disk has 5 partitions; a master boot record holds at most 4",
            "put several sources into one partition, as directories, or write a second config for a second disk",
        ),
        (
            "[disk]\ntable = 'none'\n[[partition]]\n[[partition]]\n",
            "lab.toml:4:1: the disk has 2 partitions; with table = \"none\" there is exactly one",
            "leave `table` out to get a master boot record",
        ),
        (
            "[disk]\ntable = 'none'\n[[partition]]\nstart = '1s'",
            "lab.toml:4:9: `start` needs a partition table; [disk] table is \"none\"",
            "leave `table` out to get a master boot record",
        ),
        (
            "[disk]\ntable = 'none'\n[[partition]]\ntype = 'linux'",
            "lab.toml:4:8: `type` needs a partition table; [disk] table is \"none\"",
            "leave `table` out to get a master boot record",
        ),
        (
            "[disk]\ntable = 'none'\n[[partition]]\nactive = true",
            "lab.toml:4:10: `active` needs a partition table; [disk] table is \"none\"",
            "leave `table` out to get a master boot record",
        ),
        (
            "[disk]\ntable = 'none'\n[[partition]]\nbootloader = 'extlinux'",
            "lab.toml:4:14: `bootloader` needs a partition table; [disk] table is \"none\"",
            "leave `table` out to get a master boot record",
        ),
        (
            "[disk]\ntable = 'none'\nboot-code = 'syslinux'\n[[partition]]",
            "lab.toml:3:13: `boot-code` needs a partition table; [disk] table is \"none\"",
            "leave `table` out to get a master boot record",
        ),
        (
            "[disk]\ntable = 'none'\nsize = '1GiB'\n[[partition]]\nsize = '2GiB'",
            "lab.toml:5:8: partition `partition-1` has 2147483648 bytes (2 GiB), the disk 1073741824 bytes (1 GiB); with table = \"none\" they are the same",
            "leave out one of the two sizes",
        ),
        (
            "[[partition]]\n[partition.ext4]\nuuid = '0f0e0d0c-0b0a-0908-0706-050403020100'\n[[partition]]\n[partition.ext4]\nuuid = '0F0E0D0C-0B0A-0908-0706-050403020100'",
            "lab.toml:6:8: UUID 0f0e0d0c-0b0a-0908-0706-050403020100 is used twice",
            "give one of them another; a guest finds its file systems by them",
        ),
        (
            "[[partition]]\nsize = '10MiB'\nstart = '1MiB'\n[[partition]]\nstart = '5MiB'",
            "lab.toml:5:9: partition `partition-2` starts at sector 10240, inside partition `partition-1` (sectors 2048 to 22527)",
            "the next free sector is 22528s",
        ),
        (
            "[[partition]]\nstart = '10MiB'\n[[partition]]\nstart = '5MiB'",
            "lab.toml:4:9: partition `partition-2` starts at sector 10240; partition `partition-1` before it starts at sector 20480",
            "list the partitions in the order of their place on the disk",
        ),
        (
            "[[partition]]\nstart = '10MiB'\n[[partition]]\nstart = '10MiB'",
            "lab.toml:4:9: partition `partition-2` starts at sector 20480; partition `partition-1` before it starts at sector 20480",
            "list the partitions in the order of their place on the disk",
        ),
        (
            "[disk]\nsize = '10MiB'\n[[partition]]\nsize = '10MiB'",
            "lab.toml:4:8: partition `partition-1` ends after 11534336 bytes (11 MiB); the disk has 10485760 bytes (10 MiB)",
            "make [disk] size larger, or \"auto\"",
        ),
        (
            "[disk]\nsize = '10MiB'\n[[partition]]\nsize = '9MiB'\n[[partition]]",
            "lab.toml:5:1: partition `partition-2` would start after 10485760 bytes (10 MiB); the disk has 10485760 bytes (10 MiB), so nothing is left",
            "make [disk] size larger, or \"auto\"",
        ),
        (
            "[disk]\nsize = '10MiB'\n[[partition]]\nstart = '11MiB'\nsize = '1s'",
            "lab.toml:5:8: partition `partition-1` ends after 11534848 bytes (11 MiB); the disk has 10485760 bytes (10 MiB)",
            "make [disk] size larger, or \"auto\"",
        ),
        (
            "[disk]\nsize = '10MiB'\n[[partition]]\n[[partition]]\nstart = '10MiB'",
            "lab.toml:5:9: partition `partition-2` would start after 10485760 bytes (10 MiB); the disk has 10485760 bytes (10 MiB), so nothing is left",
            "make [disk] size larger, or \"auto\"",
        ),
        (
            "[disk]\nsize = '3T'\n[[partition]]",
            "lab.toml:3:1: partition `partition-1` ends after 3298534883328 bytes (3 TiB); a master boot record addresses at most 2^32 sectors, 2199023255552 bytes (2 TiB)",
            "make the disk smaller, or use table = \"none\" with one partition",
        ),
        (
            "[[partition]]\nsize = '2T'",
            "lab.toml:2:8: partition `partition-1` ends after 2199024304128 bytes (2 TiB); a master boot record addresses at most 2^32 sectors, 2199023255552 bytes (2 TiB)",
            "make the disk smaller, or use table = \"none\" with one partition",
        ),
        (
            "[[partition]]\nstart = '2T'",
            "lab.toml:2:9: partition `partition-1` ends after 2199023256064 bytes (2 TiB); a master boot record addresses at most 2^32 sectors, 2199023255552 bytes (2 TiB)",
            "make the disk smaller, or use table = \"none\" with one partition",
        ),
        (
            "[[partition]]\nstart = '0xfffffffffffffe00'\nsize = '0xfffffffffffffe00'",
            "lab.toml:3:8: partition `partition-1` ends after 18446744073709551615 bytes (16777215.9 TiB); a master boot record addresses at most 2^32 sectors, 2199023255552 bytes (2 TiB)",
            "make the disk smaller, or use table = \"none\" with one partition",
        ),
        (
            "[[partition]]\nsize = 'rest'\n[[partition]]\n",
            "lab.toml:2:8: partition `partition-1` has size \"rest\" but is not the last",
            "give it a size, or \"auto\"",
        ),
        (
            "[[partition]]\nsize = '1MiB'\nfree = '1MiB'",
            "lab.toml:3:8: partition `partition-1` has `free`, which goes with size = \"auto\" only",
            "write size = \"auto\" or leave `free` out",
        ),
        (
            "[[partition]]\nfilesystem = 'none'",
            "lab.toml:1:1: partition `partition-1` is empty, so size = \"auto\" means nothing",
            "give it a size",
        ),
        (
            "[[partition]]\nfilesystem = 'none'\nsize = '1MiB'\nfiles = [{ path = '/a', text = '' }]",
            "lab.toml:4:10: partition `partition-1` has `files`, but filesystem = \"none\"",
            "use filesystem = \"ext4\"",
        ),
        (
            "[[partition]]\nfilesystem = 'none'\nsize = '1MiB'\nbootloader = 'extlinux'\nactive = true",
            "lab.toml:4:14: partition `partition-1` has `bootloader`, but filesystem = \"none\"",
            "use filesystem = \"ext4\"",
        ),
        (
            "[[partition]]\nfilesystem = 'swap'",
            "lab.toml:1:1: partition `partition-1` is a swap area, so size = \"auto\" means nothing",
            "give it a size",
        ),
        (
            "[[partition]]\nfilesystem = 'swap'\nsize = '79s'",
            "lab.toml:3:8: partition `partition-1` has 40448 bytes (39.5 KiB); a swap area has at least 40960 bytes (40 KiB)",
            "write size = \"40KiB\" or more",
        ),
        (
            "[[partition]]\nfilesystem = 'swap'\nsize = '1MiB'\ncopy = [{ from = 'boot' }]",
            "lab.toml:4:9: partition `partition-1` has `copy`, but filesystem = \"swap\"",
            "use filesystem = \"ext4\"",
        ),
        (
            "[[partition]]\nfilesystem = 'swap'\nsize = '1MiB'\nfiles = [{ path = '/a', text = '' }]",
            "lab.toml:4:10: partition `partition-1` has `files`, but filesystem = \"swap\"",
            "use filesystem = \"ext4\"",
        ),
        (
            "[[partition]]\nfilesystem = 'swap'\nsize = '1MiB'\nbootloader = 'extlinux'\nactive = true",
            "lab.toml:4:14: partition `partition-1` has `bootloader`, but filesystem = \"swap\"",
            "use filesystem = \"ext4\"",
        ),
        (
            "[[partition]]\nfilesystem = 'swap'\nsize = '1MiB'\next4 = { journal = false }",
            "lab.toml:4:8: partition `partition-1` has `ext4`, but filesystem = \"swap\"",
            "use filesystem = \"ext4\"",
        ),
        (
            "[[partition]]\nfilesystem = 'swap'\nsize = '1MiB'\nlabel = 'sixteen-letters.'",
            "lab.toml:4:9: label `sixteen-letters.` has 16 bytes; a swap area holds at most 15",
            "shorten it, to `sixteen-letters` for example",
        ),
        (
            "[[partition]]\nlabel = 'seventeen-letters'",
            "lab.toml:2:9: label `seventeen-letters` has 17 bytes; ext4 holds at most 16",
            "shorten it, to `seventeen-letter` for example",
        ),
        (
            "[[partition]]\nlabel = ''",
            "lab.toml:2:9: `label` is \"\"; expected at least one character, and no control characters",
            "write a label such as \"boot\", or leave it out to get partition-1 and so on",
        ),
        (
            "[[partition]]\nlabel = 'a'\n[[partition]]\nlabel = 'a'",
            "lab.toml:4:9: label `a` is used twice",
            "choose another; a partition without `label` is called partition-1, partition-2 and so on, by its place",
        ),
        (
            "[[partition]]\nlabel = 'partition-2'\n[[partition]]\n",
            "lab.toml:3:1: label `partition-2` is used twice",
            "choose another; a partition without `label` is called partition-1, partition-2 and so on, by its place",
        ),
    ]);
}

#[test]
fn machines_that_would_not_boot() {
    check(&[
        (
            "[[partition]]\nactive = true\nbootloader = 'extlinux'\n[vm]\nfirmware = 'efi'",
            "lab.toml:5:12: partition `partition-1` has bootloader = \"extlinux\", which needs BIOS firmware; [vm] firmware is \"efi\"",
            "write firmware = \"bios\" in [vm], or leave the boot loader out",
        ),
        (
            "[[partition]]\nbootloader = 'extlinux'",
            "lab.toml:2:14: partition `partition-1` has a boot loader but is not active",
            "add active = true to it",
        ),
        (
            "[[partition]]\nactive = true\n[[partition]]\nactive = true",
            "lab.toml:4:10: partitions `partition-1` and `partition-2` are both active; a disk has at most one",
            "keep active = true on the partition that has the boot loader",
        ),
        (
            "[[partition]]\nactive = true\nbootloader = 'extlinux'\n[[partition]]\nbootloader = 'extlinux'",
            "lab.toml:5:14: partitions `partition-1` and `partition-2` both have a boot loader; only one partition can have it, because only one can be active",
            "leave `bootloader` out of `partition-2`, or of the other",
        ),
        (
            "[[partition]]\nbootloader-directory = '/boot'",
            "lab.toml:2:24: partition `partition-1` has `bootloader-directory` but no `bootloader`",
            "add bootloader = \"extlinux\"",
        ),
        (
            "[[partition]]\nactive = true\nbootloader = 'extlinux'\nbootloader-directory = '/../a'",
            "lab.toml:4:24: `bootloader-directory` is \"/../a\"; it must not contain `..`",
            "write \"/a\"",
        ),
        (
            "[[partition]]\nactive = true\nbootloader = 'extlinux'\nbootloader-directory = '/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'",
            "lab.toml:4:24: `bootloader-directory` has 402 bytes; extlinux holds at most 255",
            "choose a shorter path, such as \"/boot/extlinux\"",
        ),
        (
            "[disk]\nboot-code = 'absent.bin'\n[[partition]]\n",
            "lab.toml:2:13: `boot-code`: `absent.bin` does not exist",
            "relative paths start at the directory of the config file that names them",
        ),
        (
            "[disk]\nboot-code = 'short.bin'\n[[partition]]\n",
            "lab.toml:2:13: `boot-code`: `short.bin` has 439 bytes; boot code has exactly 440",
            "the usual one is mbr.bin of the package `extlinux` or `syslinux-common`",
        ),
        (
            "[disk]\nboot-code = 'boot'\n[[partition]]\n",
            "lab.toml:2:13: `boot-code`: `boot` is a directory; expected a regular file",
            "name the file itself, such as /usr/lib/EXTLINUX/mbr.bin, or \"syslinux\"",
        ),
        (
            "[bootloader]\nextlinux = 'absent'\n[[partition]]\nactive = true\nbootloader = 'extlinux'",
            "lab.toml:2:12: `extlinux`: `absent` does not exist",
            "relative paths start at the directory of the config file that names them",
        ),
        (
            "[bootloader]\nextlinux = 'boot'\n[[partition]]\nactive = true\nbootloader = 'extlinux'",
            "lab.toml:2:12: `extlinux`: `boot` is a directory; expected a regular file",
            "name the executable itself, such as /usr/bin/extlinux, or \"auto\"",
        ),
    ]);
}
