//! Mistakes in what goes into a partition.

use super::errors::check;
use super::*;
use crate::config::spec::{IdMap, Piece};

const RANGE_HINT: &str =
    "\"100000:0:65536\" makes 100000 of the source 0 in the image, and so on for 65536 of them";

#[test]
fn maps_of_users_and_groups() {
    check(&[
        (
            "[[partition]]\ncopy = [{ from = 'boot', uid-map = 'root' }]",
            "lab.toml:2:36: `uid-map`: \"root\" is not \"all-root\" nor an array of \"HOST:IMAGE:COUNT\"",
            RANGE_HINT,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', uid-map = ['0:0'] }]",
            "lab.toml:2:36: `uid-map`: \"0:0\" is not \"HOST:IMAGE:COUNT\", three numbers of at most 32 bits",
            RANGE_HINT,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', gid-map = ['0:0:+1'] }]",
            "lab.toml:2:36: `gid-map`: \"0:0:+1\" is not \"HOST:IMAGE:COUNT\", three numbers of at most 32 bits",
            RANGE_HINT,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', gid-map = ['0:0:0'] }]",
            "lab.toml:2:36: `gid-map`: \"0:0:0\" has no identifiers: its count is 0",
            RANGE_HINT,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', gid-map = ['4294967294:0:2'] }]",
            "lab.toml:2:36: `gid-map`: \"4294967294:0:2\" ends with 4294967295 on the host's side; the greatest identifier is 4294967294",
            RANGE_HINT,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', gid-map = ['0:4294967295:1'] }]",
            "lab.toml:2:36: `gid-map`: \"0:4294967295:1\" ends with 4294967295 on the image's side; the greatest identifier is 4294967294",
            RANGE_HINT,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', uid-map = ['10:0:5', '0:20:11'] }]",
            "lab.toml:2:36: `uid-map`: \"10:0:5\" overlaps \"0:20:11\" on the host's side",
            RANGE_HINT,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', uid-map = 'all-root', owner = '0:0' }]",
            "lab.toml:2:36: `uid-map` and `owner` both say whose the files are in the image",
            "leave one of the two out",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', uid-map = 0 }]",
            "lab.toml:2:36: `uid-map` is an integer; expected an array of texts, or \"all-root\"",
            "write uid-map = [\"100000:0:65536\"] or uid-map = \"all-root\"",
        ),
    ]);
}

#[test]
fn manifests() {
    let hint = "name a manifest of mtree(5), such as `bsdtar -cf owners.mtree --format=mtree -C DIRECTORY .` writes";
    check(&[
        (
            "[[partition]]\ncopy = [{ from = 'boot', owners = '' }]",
            "lab.toml:2:35: `owners` is \"\"; expected a path",
            hint,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', owners = 'boot' }]",
            "lab.toml:2:35: `owners`: `boot` is a directory; expected a regular file",
            hint,
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', owners = 'none' }]",
            "lab.toml:2:35: `owners`: `none` does not exist",
            "relative paths start at the directory of the config file that names them",
        ),
    ]);
}

#[test]
fn maps_reach_exactly_their_ranges() {
    let lab = Lab::new();
    let text = "[[partition]]\ncopy = [{ from = 'boot', gid-map = 'all-root', \
                uid-map = ['1000:0:1', '100000:0:65536', '0:4294967294:1', '101:7:1'] }]";
    let loaded = lab.load(text).unwrap();
    let copy = &loaded.spec.partitions[0].copies[0];
    assert_eq!(copy.gid_map, Some(IdMap::AllRoot));
    let map = copy.uid_map.as_ref().unwrap();
    for (id, expected) in [
        (0, Some(4_294_967_294)),
        (1, None),
        (100, None),
        (101, Some(7)),
        (102, None),
        (1000, Some(0)),
        (99_999, None),
        (100_000, Some(0)),
        (165_535, Some(65_535)),
        (165_536, None),
        (u32::MAX, None),
    ] {
        assert_eq!(map.map(id), expected, "{id}");
    }
}

#[test]
fn entries_of_the_config() {
    check(&[
        (
            "[[partition]]\nmkdir = [{ mode = '0700' }]",
            "lab.toml:2:10: `path` is missing in an entry of mkdir",
            "name the directory, as in { path = \"/var/lib/lab\" }",
        ),
        (
            "[[partition]]\nsymlink = [{ path = '/a' }]",
            "lab.toml:2:12: `target` is missing in an entry of symlink",
            "write both, as in { path = \"/etc/mtab\", target = \"/proc/mounts\" }",
        ),
        (
            "[[partition]]\nsymlink = [{ path = '/a', target = '' }]",
            "lab.toml:2:36: `target` is \"\"; expected 1 to 4095 bytes without NUL",
            "write where the link leads, such as \"../etc/fstab\"",
        ),
        (
            "[[partition]]\nsymlink = [{ path = '/a/', target = 'b' }]",
            "lab.toml:2:21: `path` is \"/a/\"; it must name a file, not a directory",
            "leave the `/` at the end out: \"/a\"; directories are made with mkdir",
        ),
        (
            "[[partition]]\ndevice = [{ path = '/a', type = 'pipe' }]",
            "lab.toml:2:33: `type` is \"pipe\"; expected \"char\", \"block\", \"fifo\" or \"socket\"",
            "write type = \"char\", \"block\", \"fifo\" or \"socket\"",
        ),
        (
            "[[partition]]\ndevice = [{ path = '/a', type = 'char', major = 1 }]",
            "lab.toml:2:11: `minor` is missing in an entry of device",
            "write all of them, as in { path = \"/dev/null\", type = \"char\", major = 1, minor = 3 }",
        ),
        (
            "[[partition]]\ndevice = [{ path = '/a', type = 'block', major = 4096, minor = 0 }]",
            "lab.toml:2:50: `major` is 4096; it must be 0 to 4095",
            "write at most 4095; `ls -l` shows both numbers of a device",
        ),
        (
            "[[partition]]\ndevice = [{ path = '/a', type = 'block', major = 1, minor = 1048576 }]",
            "lab.toml:2:61: `minor` is 1048576; it must be 0 to 1048575",
            "write at most 1048575; `ls -l` shows both numbers of a device",
        ),
        (
            "[[partition]]\ndevice = [{ path = '/a', type = 'fifo', minor = 0 }]",
            "lab.toml:2:49: `minor` is the number of a device; type = \"fifo\" has none",
            "leave `minor` out",
        ),
        (
            "[[partition]]\nsize = '1MiB'\nfilesystem = 'none'\nmkdir = [{ path = '/a' }]",
            "lab.toml:4:10: partition `partition-1` has `mkdir`, but filesystem = \"none\"",
            "use filesystem = \"ext4\"",
        ),
    ]);
}

#[test]
fn base64_contents() {
    let hint = "`base64 -w0 FILE` prints it; white space between characters is fine";
    check(&[
        (
            "[[partition]]\nfiles = [{ path = '/a', text = '', base64 = '' }]",
            "lab.toml:2:45: `base64` and `text` are both given; a file has one of them",
            "leave one of the two out",
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', base64 = ' AA\tA_' }]",
            "lab.toml:2:34: `base64`: character 6 is `_`, which is not of base64",
            hint,
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', base64 = 'A üAA' }]",
            "lab.toml:2:34: `base64`: character 3 is `\\u{fc}`, which is not of base64",
            hint,
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', base64 = 'AAAAA' }]",
            "lab.toml:2:34: `base64`: ends after 5 characters, not a multiple of 4; the end is filled up with `=`",
            hint,
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', base64 = 'AAA' }]",
            "lab.toml:2:34: `base64`: ends after 3 characters, not a multiple of 4; the end is filled up with `=`",
            hint,
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', base64 = 'AA B=' }]",
            "lab.toml:2:34: `base64`: character 4, the last, has bits of a byte that does not follow",
            hint,
        ),
    ]);
    let text = "[[partition]]\nfiles = [{ path = '/a', base64 = '/wAK\t+g==' }, { path = '/b', base64 = '' }]";
    let spec = Lab::new().load(text).unwrap().spec;
    let files = &spec.partitions[0].files;
    assert_eq!(
        files[0].contents,
        [Piece::Bytes(vec![0xff, 0x00, 0x0a, 0xfa])]
    );
    assert_eq!(files[1].contents, [Piece::Bytes(Vec::new())]);
}

#[test]
fn variables() {
    let hint = "[variables] holds the names, as in name = \"value\"; `{{{{` is a literal `{{`";
    check(&[
        (
            "[variables]\n'a b' = 1\n[[partition]]",
            "lab.toml:2:1: variable `a b` has a name with more than letters, digits, `_` and `-`",
            "rename it, such as root-password_2",
        ),
        (
            "[variables]\na = true\n[[partition]]",
            "lab.toml:2:5: `variables` is a boolean; expected a table of texts and integers",
            "write [variables] on a line of its own, and below server = \"10.0.0.1\"",
        ),
        (
            "[variables]\nuser = 'x'\n[[partition]]\nfiles = [{ path = '/a', text = '{{usr}}' }]",
            "lab.toml:4:32: `text`: `{{usr}}`: there is no such variable",
            "did you mean `{{user}}`?",
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', text = '{{x}}' }]",
            "lab.toml:2:32: `text`: `{{x}}`: there is no such variable",
            hint,
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', text = '{{partition.partition-2.uuid}}' }]",
            "lab.toml:2:32: `text`: `{{partition.partition-2.uuid}}`: there is no such variable",
            "did you mean `{{partition.partition-1.uuid}}`?",
        ),
        (
            "[disk]\ntable = 'none'\n[[partition]]\nlabel = 'r'\nfiles = [{ path = '/a', text = '{{partition.r.partuuid}}' }]",
            "lab.toml:5:32: `text`: `{{partition.r.partuuid}}`: without a partition table there is none",
            hint,
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', text = \"a\\n{{x}\" }]",
            "lab.toml:2:32: `text`: line 2: `{{` is not followed by a name and `}}`",
            "write `{{{{` for a literal `{{`",
        ),
        (
            "[[partition]]\nfiles = [{ path = '/a', text = '{{}}' }]",
            "lab.toml:2:32: `text`: line 1: `{{` is not followed by a name and `}}`",
            "write `{{{{` for a literal `{{`",
        ),
    ]);
}

#[test]
fn patterns_that_would_match_nothing() {
    check(&[
        (
            "[[partition]]\ncopy = [{ from = 'boot', exclude = [''] }]",
            "lab.toml:2:37: `exclude`: ``: names nothing",
            "leave it out, or write \"*\" for everything",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', include = ['!'] }]",
            "lab.toml:2:37: `include`: `!`: names nothing",
            "leave it out, or write \"*\" for everything",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', exclude = ['#old'] }]",
            "lab.toml:2:37: `exclude`: `#old`: is a comment",
            "write '\\#old', in single quotes, for a name that begins with `#`",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', exclude = ['a[]b'] }]",
            "lab.toml:2:37: `exclude`: `a[]b`: unclosed character class; missing `]`",
            "patterns are as in .gitignore; before `[`, `{`, `*` or `?` in a name write a backslash, in single quotes",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', xattrs = ['user.a', '!'] }]",
            "lab.toml:2:46: `xattrs`: `!`: names nothing",
            "write a name or how names begin, such as \"user.*\"; \"!user.*\" leaves those out",
        ),
        (
            "[[partition]]\ncopy = [{ from = 'boot', xattrs = [''] }]",
            "lab.toml:2:36: `xattrs`: ``: names nothing",
            "write a name or how names begin, such as \"user.*\"; \"!user.*\" leaves those out",
        ),
        (
            "[[partition]]\ncopy = [{ from = '' }]",
            "lab.toml:2:18: `from` is \"\"; expected a path",
            "name a file or directory; \".\" is the config's own directory",
        ),
    ]);
    let lab = Lab::new();
    let text = r"[[partition]]
copy = [{ from = 'boot', exclude = ['\#old', '[]a]', 'a\[b', '[!]]', '!x'], xattrs = ['*', '!*'] }]";
    lab.load(text).unwrap();
}

#[test]
fn sizes_that_are_no_whole_numbers() {
    let units = "write a whole number with a unit K, M, G, T, KiB, MiB, GiB, TiB (powers of 1024) or s (sectors), such as \"256MiB\"";
    check(&[
        (
            "[disk]\nsize = '1.5GiB'",
            "lab.toml:2:8: `size`: `1.5GiB` is a fraction; a size is a whole number with a unit",
            "write a whole number of a smaller unit, such as 1536MiB",
        ),
        (
            "[vm]\nmemory = '0.3 T'",
            "lab.toml:2:10: `memory`: `0.3 T` is a fraction; a size is a whole number with a unit",
            "write a whole number of a smaller unit, such as \"1536MiB\" for 1.5 GiB",
        ),
        (
            "[vm]\nmemory = '64mb'",
            "lab.toml:2:10: `memory`: `64mb`: unknown unit `mb`; known are K, M, G, T, KiB, MiB, GiB, TiB and s (512-byte sectors)",
            "write 64MiB",
        ),
        (
            "[vm]\nmemory = '-1GiB'",
            "lab.toml:2:10: `memory`: `-1GiB` is no size: expected a number with an optional unit",
            units,
        ),
        (
            "[vm]\nmemory = 1.5",
            "lab.toml:2:10: `memory` is a fraction; expected a size such as \"256MiB\" or a number of bytes",
            "write memory = \"256MiB\", or a whole number of bytes",
        ),
    ]);
}
