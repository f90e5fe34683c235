//! Mistakes in keys, values and sources: one table of text, message and hint.

use super::*;

/// Text, message, hint.
pub(super) type Case = (&'static str, &'static str, &'static str);

/// Every mistake has a hint: an empty one fails.
pub(super) fn check(cases: &[Case]) {
    let lab = Lab::new();
    let mut wrong = Vec::new();
    for (text, message, hint) in cases {
        let (found, found_hint) = match lab.load(text) {
            Ok(_) => ("accepted".to_owned(), String::new()),
            Err(error) => (error.to_string(), error.hint().unwrap_or_default()),
        };
        let (found, found_hint) = (lab.strip(&found), lab.strip(&found_hint));
        let as_expected = (found.as_str(), found_hint.as_str()) == (*message, *hint);
        if !as_expected || hint.is_empty() {
            wrong.push(format!("{text}\n  {found}\n  {found_hint}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
#[test]
fn keys_and_types() {
    check(&[
        (
            "[disk",
            "lab.toml:1:6: unclosed table, expected `]`",
            "a config is TOML: key = value, texts in quotes, tables as [name] or [[name]]; see https://toml.io",
        ),
        (
            "a = 1\na = 2",
            "lab.toml:2:1: duplicate key `a`",
            "a key stands once in its table; remove one of the two",
        ),
        (
            "[[partition]]\nlable = 'x'",
            "lab.toml:2:1: unknown key `lable` in [[partition]]",
            "did you mean `label`?",
        ),
        (
            "memory = '1GiB'",
            "lab.toml:1:1: unknown key `memory` in the top level",
            "`memory` belongs to [vm]",
        ),
        (
            "[disk]\ncolour = 'red'",
            "lab.toml:2:1: unknown key `colour` in [disk]",
            "keys of [disk] are `size`, `table`, `boot-code`",
        ),
        (
            "partition = 3",
            "lab.toml:1:13: `partition` is an integer; expected an array of tables",
            "write [[partition]] on a line of its own, and its keys below",
        ),
        (
            "[[partition]]\nactive = 'yes'",
            "lab.toml:2:10: `active` is a text; expected true or false",
            "write active = true or active = false, without quotes",
        ),
        (
            "[vm]\ncpus = 1.5",
            "lab.toml:2:8: `cpus` is a fraction; expected an integer",
            "write a whole number without quotes, such as cpus = 2",
        ),
        (
            "[[partition]]\nsize = true",
            "lab.toml:2:8: `size` is a boolean; expected a size such as \"256MiB\" or a number of bytes",
            "write size = \"256MiB\", or a whole number of bytes",
        ),
        (
            "include = [1]",
            "lab.toml:1:12: `include` is an integer; expected an array of texts",
            "write texts in brackets, such as include = [\"common.toml\"]",
        ),
        (
            "[vm]\ncpus = 99999999999999999999",
            "lab.toml:2:8: `cpus` is an integer above 2^63 - 1",
            "write a smaller number; left out it is 2",
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', text = '', mode = 644 }]",
            "lab.toml:2:43: `mode` is an integer; expected a text in quotes",
            "write the mode as a text of octal digits, such as \"0644\"",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', owner = 1000 }]",
            "lab.toml:2:34: `owner` is an integer; expected a text in quotes",
            "owners are numeric, user:group; names would depend on the host",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', xattrs = ['us*er.a'] }]",
            "lab.toml:2:36: `xattrs`: `us*er.a`: `*` stands only at the end",
            "write a name or how names begin, such as \"user.*\"; \"!user.*\" leaves those out",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', include = ['*', 'a{'] }]",
            "lab.toml:2:42: `include`: `a{`: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
            "patterns are as in .gitignore; before `[`, `{`, `*` or `?` in a name write a backslash, in single quotes",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', sparse = 'newer' }]",
            "lab.toml:2:35: `sparse` is \"newer\"; expected \"auto\" or \"never\"",
            "did you mean \"never\"?",
        ),
        (
            "[[partition]]\nfiles = [{ template = '' }]",
            "lab.toml:2:12: unknown key `template` in files",
            "`template` belongs to [vm]",
        ),
        (
            "[[partition]]\next4 = { features = 'all' }",
            "lab.toml:2:21: `features` is \"all\"; expected \"std\", \"modern\" or \"compat\"",
            "write features = \"std\", \"modern\" or \"compat\"; left out it is \"std\"",
        ),
        (
            "[images]\n'a' = { format = 'vmdk', level = 3 }\n[[partition]]\n",
            "lab.toml:2:34: `level` needs layout = \"stream-optimized\"",
            "leave `level` out, or write layout = \"stream-optimized\"",
        ),
        (
            "[[partition]]\n[images]\n'a' = { format = 'vmx' }\n'b' = { format = 'vmdk', layout = 'stream-optimized' }",
            "lab.toml:3:7: a VMX needs a VMDK in [images] whose grains are not compressed",
            "add \"disk.vmdk\" = { format = \"vmdk\" }; VMware runs no streamOptimized disk",
        ),
        (
            "[[partition]]\n[images]\n'a' = { format = 'vmx', disk = 'disk.vdmk' }\n'disk.vmdk' = { format = 'vmdk' }",
            "lab.toml:3:32: `disk` is \"disk.vdmk\", which is no VMDK of [images] that a VMX can use",
            "did you mean \"disk.vmdk\"?",
        ),
        (
            "[images]\n'a' = { format = 'raw', partition = 'boto' }\n[[partition]]\nlabel = 'boot'\n",
            "lab.toml:2:37: `partition` is \"boto\", which is no partition's label",
            "did you mean \"boot\"?",
        ),
        (
            "[images]\n'a' = { format = 'vhd', layout = 'monolithic-flat' }\n[[partition]]\n",
            "lab.toml:2:34: `layout` is \"monolithic-flat\"; expected \"dynamic\" or \"fixed\"",
            "write layout = \"dynamic\" or \"fixed\"; left out it is \"dynamic\"",
        ),
        (
            "[images]\n'a' = { format = 'ova', layout = 'monolithic-flat' }\n[[partition]]\n",
            "lab.toml:2:34: `layout` belongs to format \"vmdk\" or \"vhd\", not to \"ova\"",
            "leave `layout` out, or write format = \"vmdk\" or \"vhd\"",
        ),
        (
            "[images]\n'a' = { format = 'ova', level = 3 }\n[[partition]]\n",
            "lab.toml:2:33: `level` needs compression = \"deflate\"",
            "leave `level` out, or write compression = \"deflate\"",
        ),
        (
            "[images]\n'a' = { format = 'ova', compression = 'deflate', level = 13 }\n[[partition]]\n",
            "lab.toml:2:58: `level` is 13; it must be 1 to 12",
            "write at most 12; 1 is fast, 12 is small, and left out it is 6",
        ),
        (
            "[images]\n'a' = { format = 'ova', manifest = 'none', manifest-position = 'second' }\n[[partition]]\n",
            "lab.toml:2:64: `manifest-position` needs a manifest other than \"none\"",
            "leave `manifest-position` out, or write a manifest other than \"none\"",
        ),
        (
            "[[partition]]\ncopy = [{ to = '/' }]",
            "lab.toml:2:9: `from` is missing in an entry of copy",
            "name a file or directory of the host, as in { from = \"boot\", to = \"/\" }",
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a' }]",
            "lab.toml:2:10: `text` is missing in an entry of files",
            "write both, as in { path = \"/etc/motd\", text = \"welcome\" }",
        ),
        (
            "[[partition]]\nfiles = [{ text = 'a' }]",
            "lab.toml:2:10: `path` is missing in an entry of files",
            "write both, as in { path = \"/etc/motd\", text = \"welcome\" }",
        ),
        (
            "[vm]\nnetworks = [{ adapter = 'e1000' }]",
            "lab.toml:2:13: `name` is missing in an entry of networks",
            "name the network, as in { name = \"nat\", adapter = \"e1000\" }",
        ),
        (
            "[images]\n'a' = {}\n[[partition]]\n",
            "lab.toml:2:7: `format` is missing in an image",
            "write { format = \"raw\" }, or \"vmdk\" or \"ova\"",
        ),
    ]);
}

#[test]
fn values_out_of_range() {
    check(&[
        (
            "name = 'a b'",
            "lab.toml:1:8: `name` is \"a b\"; expected 1 to 80 of A-Z, a-z, 0-9, `.`, `_` and `-`",
            "write name = \"a-b\", or leave it out to take the file's name",
        ),
        (
            "name = ''",
            "lab.toml:1:8: `name` is \"\"; expected 1 to 80 of A-Z, a-z, 0-9, `.`, `_` and `-`",
            "write name = \"lab\", or leave it out to take the file's name",
        ),
        (
            "seed = ''",
            "lab.toml:1:8: `seed` is \"\"; expected at least one character, and no control characters",
            "write any text on one line, or leave `seed` out to take the name",
        ),
        (
            "source-date-epoch = -1",
            "lab.toml:1:21: `source-date-epoch` is -1; it must be 0 to 8589934591",
            "write at least 0; `date +%s` prints the seconds since 1970 until now",
        ),
        (
            "[disk]\nsize = '12MB'",
            "lab.toml:2:8: `size`: `12MB`: unknown unit `MB`; known are K, M, G, T, KiB, MiB, GiB, TiB and s (512-byte sectors)",
            "write 12MiB",
        ),
        (
            "[disk]\nsize = -1",
            "lab.toml:2:8: `size` is -1; it must be 0 to 9223372036854775807",
            "write a whole number with a unit K, M, G, T, KiB, MiB, GiB, TiB (powers of 1024) or s (sectors), such as \"256MiB\"",
        ),
        (
            "[disk]\nsize = 0",
            "lab.toml:2:8: `size` is 0 bytes; it must be a multiple of 64 KiB, and not zero",
            "write a size such as \"256MiB\", or \"auto\" for what the contents need",
        ),
        (
            "[disk]\nsize = '9999999T'",
            "lab.toml:2:8: disk size 10995115178248372224 bytes (9999999 TiB) is above 9223372036853727232 bytes (8388607.9 TiB), the longest file of Linux",
            "write a smaller size, or \"auto\"",
        ),
        (
            "[disk]\nsize = '99999999T'\n",
            "lab.toml:2:8: `size`: `99999999T` is above 2^64 - 1 bytes",
            "write a smaller number or unit",
        ),
        (
            "[disk]\ntable = 'gpt'",
            "lab.toml:2:9: `table` is \"gpt\"; expected \"mbr\" or \"none\"",
            "write table = \"mbr\" or \"none\"; left out it is \"mbr\"",
        ),
        (
            "[[partition]]\nsize = 1000",
            "lab.toml:2:8: `size` is 1000 bytes; it must be a multiple of 512 bytes (a sector), and not zero",
            "the next multiple is 2s",
        ),
        (
            "[[partition]]\nsize = 0",
            "lab.toml:2:8: `size` is 0 bytes; it must be a multiple of 512 bytes (a sector), and not zero",
            "write a size such as \"256MiB\", or \"auto\" for what the contents need",
        ),
        (
            "[[partition]]\nstart = 0",
            "lab.toml:2:9: `start` is 0 bytes; it must be a multiple of 512 bytes (a sector), and not zero",
            "write \"1MiB\" or leave `start` out; sector 0 holds the partition table",
        ),
        (
            "[[partition]]\nstart = 513",
            "lab.toml:2:9: `start` is 513 bytes; it must be a multiple of 512 bytes (a sector), and not zero",
            "the next multiple is 2s",
        ),
        (
            "[[partition]]\nfilesystem = 'ext3'",
            "lab.toml:2:14: `filesystem` is \"ext3\"; expected \"ext4\", \"swap\" or \"none\"",
            "did you mean \"ext4\"?",
        ),
        (
            "[[partition]]\nbootloader = 'grub'",
            "lab.toml:2:14: `bootloader` is \"grub\"; expected \"extlinux\" or \"none\"",
            "write bootloader = \"extlinux\" or \"none\"; left out it is \"none\"",
        ),
        (
            "[[partition]]\ntype = 'linus'",
            "lab.toml:2:8: `type` is \"linus\"; expected \"linux\", \"swap\" or a hex byte such as \"0x83\"",
            "write \"linux\" (0x83), \"swap\" (0x82), or 0x and two hex digits; `sfdisk --label dos --list-types` lists all",
        ),
        (
            "[[partition]]\ntype = '0x'",
            "lab.toml:2:8: `type` is \"0x\"; expected \"linux\", \"swap\" or a hex byte such as \"0x83\"",
            "write \"linux\" (0x83), \"swap\" (0x82), or 0x and two hex digits; `sfdisk --label dos --list-types` lists all",
        ),
        (
            "[[partition]]\ntype = '0x00'",
            "lab.toml:2:8: `type` is \"0x00\", which marks an unused entry",
            "leave `type` out, or write \"linux\", \"swap\" or another byte",
        ),
        (
            "[[partition]]\ntype = '0x05'",
            "lab.toml:2:8: `type` is \"0x05\", an extended partition; all partitions here are primary",
            "leave `type` out, or write \"linux\", \"swap\" or another byte",
        ),
        (
            "[[partition]]\next4 = { slack-bits = 17 }",
            "lab.toml:2:23: `slack-bits` is 17; it must be 0 to 16",
            "write at most 16; left out it is 6; 0 is no slack, and otherwise the fewer bits, the more slack",
        ),
        (
            "[[partition]]\next4 = { reserved-percent = 51 }",
            "lab.toml:2:29: `reserved-percent` is 51; it must be 0 to 50",
            "write at most 50; left out it is 5",
        ),
        (
            "[[partition]]\next4 = { inodes = 3 }",
            "lab.toml:2:19: `inodes` is 3; it must be 16 to 4294967295",
            "write at least 16; \"auto\" is one per 16 KiB",
        ),
        (
            "[[partition]]\next4 = { inodes = 'many' }",
            "lab.toml:2:19: `inodes` is \"many\"; expected a count or \"auto\"",
            "write a number without quotes, such as inodes = 65536, or leave it out",
        ),
        (
            "[vm]\nmemory = 1000",
            "lab.toml:2:10: `memory` is 1000 bytes; it must be a multiple of 1 MiB, and not zero",
            "the next multiple is 1MiB",
        ),
        (
            "[vm]\ncpus = 0",
            "lab.toml:2:8: `cpus` is 0; it must be 1 to 1024",
            "write at least 1; left out it is 2",
        ),
        (
            "[vm]\nhardware-version = 3",
            "lab.toml:2:20: `hardware-version` is 3; it must be 7 to 99",
            "write at least 7; left out it is 13, which ESXi 6.5 and later know",
        ),
        (
            "[vm]\nguest-os = 'debian64'",
            "lab.toml:2:12: `guest-os` is \"debian64\"; expected one of 57 names, such as \"other-linux-64\"",
            "did you mean \"debian-64\"?",
        ),
        (
            "[vm]\nfirmware = 'uefi'",
            "lab.toml:2:12: `firmware` is \"uefi\"; expected \"bios\" or \"efi\"",
            "did you mean \"efi\"?",
        ),
        (
            "[vm]\nscsi-controller = 'ide'",
            "lab.toml:2:19: `scsi-controller` is \"ide\"; expected \"lsilogic\", \"lsilogicsas\", \"buslogic\" or \"pvscsi\"",
            "write scsi-controller = \"lsilogic\", \"lsilogicsas\", \"buslogic\" or \"pvscsi\"; left out it is \"lsilogic\"",
        ),
        (
            "[vm]\nnetworks = [{ name = 'n', adapter = 'e100' }]",
            "lab.toml:2:37: `adapter` is \"e100\"; expected \"e1000\", \"e1000e\" or \"vmxnet3\"",
            "did you mean \"e1000\"?",
        ),
        (
            "[vm]\nnetworks = [{ name = '' }]",
            "lab.toml:2:22: `name` is \"\"; expected at least one character, and no control characters",
            "write a name such as \"nat\"",
        ),
        (
            "[[partition]]\n[images]",
            "lab.toml:2:1: [images] names no image",
            "leave [images] out to get disk.img, disk.vmdk and boot.ova",
        ),
        (
            "[[partition]]\n[images]\n'a/b' = { format = 'raw' }",
            "lab.toml:3:1: `images` is \"a/b\"; the name of an image has no `/`",
            "all images lie side by side in the mount point; leave the directory out",
        ),
        (
            "[[partition]]\n[images]\n'.' = { format = 'raw' }",
            "lab.toml:3:1: `images` is \".\"; that name is the directory's own",
            "choose another name of a file, such as \"disk.img\"",
        ),
        (
            "[[partition]]\n[images]\n'..' = { format = 'raw' }",
            "lab.toml:3:1: `images` is \"..\"; that name is the directory's own",
            "choose another name of a file, such as \"disk.img\"",
        ),
        (
            "[[partition]]\n[images]\n'.miragefs' = { format = 'raw' }",
            "lab.toml:3:1: `images` is \".miragefs\"; that name is kept for the mount itself",
            "choose another name of a file, such as \"disk.img\"",
        ),
        (
            "[[partition]]\n[images]\n'' = { format = 'raw' }",
            "lab.toml:3:1: `images` is \"\"; expected at least one character, and no control characters",
            "choose another name of a file, such as \"disk.img\"",
        ),
        (
            "[[partition]]\n[images]\n\"a\\u0000\" = { format = 'raw' }",
            "lab.toml:3:1: `images` is \"a\\u{0}\"; expected at least one character, and no control characters",
            "choose another name of a file, such as \"disk.img\"",
        ),
        (
            "[[partition]]\n[images]\n'a' = { format = 'raw' }\n'a' = { format = 'raw' }",
            "lab.toml:4:1: duplicate key `'a'`",
            "a key stands once in its table; remove one of the two",
        ),
        (
            "[[partition]]\n[images]\n'a' = { format = 'iso' }",
            "lab.toml:3:18: `format` is \"iso\"; expected \"raw\", \"vmdk\", \"ova\", \"ovf\", \"vmx\", \"vhd\", \"vhdx\", \"qcow2\", \"vdi\" or \"vagrant\"",
            "write format = \"raw\", \"vmdk\", \"ova\", \"ovf\", \"vmx\", \"vhd\", \"vhdx\", \"qcow2\", \"vdi\" or \"vagrant\"",
        ),
        (
            "[[partition]]\n[images]\n'a' = { format = 'raw', layout = 'stream-optimized' }",
            "lab.toml:3:34: `layout` belongs to format \"vmdk\" or \"vhd\", not to \"raw\"",
            "leave `layout` out, or write format = \"vmdk\" or \"vhd\"",
        ),
        (
            "[[partition]]\n[images]\n'a' = { format = 'vmdk', manifest = 'none' }",
            "lab.toml:3:37: `manifest` belongs to format \"ova\" or \"ovf\", not to \"vmdk\"",
            "leave `manifest` out, or write format = \"ova\" or \"ovf\"",
        ),
        (
            "[[partition]]\n[images]\n'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' = { format = 'raw' }",
            "lab.toml:3:1: `images` is \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"; the name of an image has at most 255 bytes",
            "choose another name of a file, such as \"disk.img\"",
        ),
    ]);
}

#[test]
fn sources_paths_and_owners() {
    check(&[
        (
            "[[partition]]\ncopy = [{ from = 'absent' }]",
            "lab.toml:2:18: `from`: `absent` does not exist",
            "relative paths start at the directory of the config file that names them",
        ),
        (
            "[[partition]]\ncopy = [{ from = '/dev/null' }]",
            "lab.toml:2:18: `from`: `/dev/null` is a device; expected a directory or a regular file",
            "devices, FIFOs and sockets are made by an entry of device, such as { path = \"/dev/null\", type = \"char\", major = 1, minor = 3 }",
        ),
        (
            "[[partition]]\ncopy = [{ from = '440.bin/x' }]",
            "lab.toml:2:18: `from`: `440.bin/x` cannot be looked at",
            "what stands before a `/` must be a directory; one here is a file",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', to = 'a' }]",
            "lab.toml:2:31: `to` is \"a\"; it must start with `/`, the root of the partition",
            "write \"/a\"",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', to = '/a/../b' }]",
            "lab.toml:2:31: `to` is \"/a/../b\"; it must not contain `..`",
            "write \"/b\"",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', to = \"/a\\u0000\" }]",
            "lab.toml:2:31: `to` is \"/a\\u{0}\"; it must not contain NUL",
            "leave the NUL out",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', to = '/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }]",
            "lab.toml:2:31: `to` is \"/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"; a name in it is longer than 255 bytes, the limit of ext4",
            "shorten the name",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', owner = 'root:root' }]",
            "lab.toml:2:34: `owner` is \"root:root\"; expected two numbers from 0 to 4294967294, such as \"1000:100\"",
            "owners are numeric, user:group; names would depend on the host",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', owner = '0:4294967295' }]",
            "lab.toml:2:34: `owner` is \"0:4294967295\"; expected two numbers from 0 to 4294967294, such as \"1000:100\"",
            "owners are numeric, user:group; names would depend on the host",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', owner = '4294967296:0' }]",
            "lab.toml:2:34: `owner` is \"4294967296:0\"; expected two numbers from 0 to 4294967294, such as \"1000:100\"",
            "owners are numeric, user:group; names would depend on the host",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', owner = '1' }]",
            "lab.toml:2:34: `owner` is \"1\"; expected two numbers from 0 to 4294967294, such as \"1000:100\"",
            "owners are numeric, user:group; names would depend on the host",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', owner = ':' }]",
            "lab.toml:2:34: `owner` is \":\"; expected two numbers from 0 to 4294967294, such as \"1000:100\"",
            "owners are numeric, user:group; names would depend on the host",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', mode = '10000' }]",
            "lab.toml:2:33: `mode` is \"10000\"; expected octal digits from \"0\" to \"07777\"",
            "write the mode as a text of octal digits, such as \"0644\"",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', mode = '0888' }]",
            "lab.toml:2:33: `mode` is \"0888\"; expected octal digits from \"0\" to \"07777\"",
            "write the mode as a text of octal digits, such as \"0644\"",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', mode = '+7' }]",
            "lab.toml:2:33: `mode` is \"+7\"; expected octal digits from \"0\" to \"07777\"",
            "write the mode as a text of octal digits, such as \"0644\"",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', mode = '' }]",
            "lab.toml:2:33: `mode` is \"\"; expected octal digits from \"0\" to \"07777\"",
            "write the mode as a text of octal digits, such as \"0644\"",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', exclude = ['a', '[z-a]'] }]",
            "lab.toml:2:42: `exclude`: `[z-a]`: invalid range; 'z' > 'a'",
            "patterns are as in .gitignore; before `[`, `{`, `*` or `?` in a name write a backslash, in single quotes",
        ),
        (
            "[[partition]]\nfiles = [{ path = '/', text = '' }]",
            "lab.toml:2:19: `path` is \"/\"; it must name a file, not a directory",
            "write a path below the root, such as \"/etc/motd\"",
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a/', text = '' }]",
            "lab.toml:2:19: `path` is \"/a/\"; it must name a file, not a directory",
            "leave the `/` at the end out: \"/a\"; directories are made with mkdir",
        ),
    ]);
}
