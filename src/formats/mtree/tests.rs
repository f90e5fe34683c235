use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Manifest {
    Manifest::parse(text.as_bytes()).unwrap()
}

#[track_caller]
fn entry<'a>(manifest: &'a Manifest, path: &[u8]) -> &'a Entry {
    let index = manifest.find(path);
    let index = index.unwrap_or_else(|| panic!("{} is there", path.escape_ascii()));
    &manifest.entries()[index]
}

fn paths(manifest: &Manifest) -> Vec<String> {
    let shown = |entry| manifest.path(entry).escape_ascii().to_string();
    manifest.entries().iter().map(shown).collect()
}

/// What `bsdtar -cf - --format=mtree .` of libarchive 3.6.2 writes for a tree of all kinds; the root is never told by
/// its name, and hard links are two files.
const BSDTAR: &str = "#mtree
. gname=root uname=root time=1795644303.46611470 mode=755 gid=0 uid=0 type=dir
./\\043hash gname=root uname=root time=1795644303.46611470 mode=644 gid=0 uid=0 type=file size=0
./back\\134slash gname=root uname=root time=1795644303.46611470 mode=644 gid=0 uid=0 type=file size=0
./bin\\377\\001\\200 gname=root uname=root time=1795644303.46611470 mode=644 gid=0 uid=0 type=file size=0
./dev gname=root uname=root time=1795644303.342611460 mode=755 gid=0 uid=0 type=dir
./dev/ff gname=root uname=root time=1795644303.42611470 mode=644 gid=0 uid=0 type=fifo
./dev/null gname=root uname=root time=1795644303.34611470 mode=644 gid=0 uid=0 type=char device=native,1,3
./dev/sda gname=root uname=root time=1795644303.42611470 mode=644 gid=0 uid=0 type=block device=native,8,1
./dev/sock gname=root uname=root time=1795644303.342611460 mode=755 gid=0 uid=0 type=socket
./etc/a nlink=2 time=-157766400.500000000 mode=4711 gid=70000 uid=4294967294 type=file size=3
./etc/b nlink=2 time=-157766400.500000000 mode=4711 gid=70000 uid=4294967294 type=file size=3
./sp\\040ace/li\\040nk gname=root uname=root time=1795644303.34611470 mode=777 gid=0 uid=0 type=link link=to\\040sp\\043ace
";

/// The same tree as `bsdtar --format=mtree-classic` writes it: nested names, defaults, continued lines.
const BSDTAR_CLASSIC: &str = "#mtree

# .
/set type=file uname=root uid=0 gname=root gid=0 mode=644
.               time=1795644303.46611470 mode=755 type=dir
    \\043hash    time=1795644303.46611470 size=0
    back\\134slash \\
                time=1795644303.46611470 size=0
    bin\\377\\001\\200 \\
                time=1795644303.46611470 size=0

# ./dev
dev             time=1795644303.342611460 mode=755 type=dir
    ff          time=1795644303.42611470 type=fifo
    null        time=1795644303.34611470 type=char device=native,1,3
    sda         time=1795644303.42611470 type=block device=native,8,1
    sock        time=1795644303.342611460 mode=755 type=socket
# ./dev
..


# ./etc
/unset uname gname
/set uid=4294967294 gid=70000 mode=4711
etc             gname=root uname=root time=1795644303.30611471 mode=755 gid=0 \\
                uid=0 type=dir
    a           nlink=2 time=-157766400.500000000 size=3
    b           nlink=2 time=-157766400.500000000 size=3
# ./etc
..


# ./sp ace
sp\\040ace       gname=root uname=root time=1795644303.34611470 mode=755 gid=0 \\
                uid=0 type=dir
    li\\040nk    gname=root uname=root time=1795644303.34611470 mode=777 gid=0 \\
                uid=0 type=link link=to\\040sp\\043ace
# ./sp ace
..

..
";

/// The same tree as NetBSD's `mtree -c -k type,uid,gid,mode,device,link,time,size` writes it: it does not leave the root.
const NETBSD: &str = "#\t   user: (null)
#\tmachine: vm

# .
/set type=file uid=0 gid=0 mode=0644
.               type=dir mode=0755 time=1795644303.46611470
    \\#hash      time=1795644303.46611470 size=0
    back\\\\slash time=1795644303.46611470 size=0
    bin\\M^?\\^A\\M^@ \\
                time=1795644303.46611470 size=0

# ./dev
dev             type=dir mode=0755 time=1795644303.342611460
    ff          type=fifo time=1795644303.42611470
    null        type=char device=0x103 time=1795644303.34611470
    sda         type=block device=0x801 time=1795644303.42611470
    sock        type=socket mode=0755 time=1795644303.342611460
# ./dev
..


# ./etc
/set type=file uid=0 gid=0 mode=04711
etc             type=dir mode=0755 time=1795644303.30611471
    a           uid=4294967294 gid=70000 time=-157766400.500000000 size=3
    b           uid=4294967294 gid=70000 time=-157766400.500000000 size=3
# ./etc
..


# ./sp ace
/set type=file uid=0 gid=0 mode=0777
sp\\sace         type=dir mode=0755 time=1795644303.34611470
    li\\snk      type=link time=1795644303.34611470 link=to\\ssp\\#ace
# ./sp ace
..
";

#[test]
fn tools_are_understood_alike() {
    for text in [BSDTAR, BSDTAR_CLASSIC, NETBSD] {
        let manifest = parsed(text);
        let null = entry(&manifest, b"dev/null");
        assert_eq!(null.kind, Some(Kind::CharacterDevice(1, 3)));
        let sda = entry(&manifest, b"dev/sda");
        assert_eq!(sda.kind, Some(Kind::BlockDevice(8, 1)));
        assert_eq!(entry(&manifest, b"dev/ff").kind, Some(Kind::Fifo));
        let socket = entry(&manifest, b"dev/sock");
        assert_eq!(
            (socket.kind, socket.mode()),
            (Some(Kind::Socket), Some(0o755))
        );
        for name in ["etc/a", "etc/b"] {
            let file = entry(&manifest, name.as_bytes());
            assert_eq!(file.kind, Some(Kind::File), "{name}");
            assert_eq!(file.uid(), Some(4_294_967_294));
            assert_eq!(file.gid(), Some(70_000));
            assert_eq!(file.mode(), Some(0o4711));
            assert_eq!(file.time(), Some((-157_766_400, 500_000_000)));
            assert_eq!(file.size(), Some(3));
        }
        let link = entry(&manifest, b"sp ace/li nk");
        assert_eq!(manifest.link(link), Some(&b"to sp#ace"[..]));
        let root = entry(&manifest, b"");
        assert_eq!(
            (root.kind, root.mode()),
            (Some(Kind::Directory), Some(0o755))
        );
        assert_eq!(root.time(), Some((1_795_644_303, 46_611_470)));
        for name in [&b"#hash"[..], b"back\\slash", b"bin\xff\x01\x80"] {
            assert_eq!(entry(&manifest, name).size(), Some(0));
        }
    }
}

#[test]
fn forms_mean_what_they_say() {
    let defaults =
        "/set uid=1 gid=2\n/set mode=0600\na\n/unset mode\nb uid=7\n/unset all\nc mode=1777\n";
    let manifest = parsed(defaults);
    let triple = |path: &[u8]| {
        let entry = entry(&manifest, path);
        (entry.uid(), entry.gid(), entry.mode())
    };
    assert_eq!(triple(b"a"), (Some(1), Some(2), Some(0o600)));
    assert_eq!(triple(b"b"), (Some(7), Some(2), None));
    assert_eq!(triple(b"c"), (None, None, Some(0o1777)));

    // The later line wins where it says something; full paths neither enter nor leave a directory.
    let twice = "d type=dir uid=1\n./d/x uid=1 gid=1 mode=600\nx gid=2 time=5\n..\nd/y type=dir uid=3\nz uid=4\n";
    let manifest = parsed(twice);
    assert_eq!(paths(&manifest), ["d", "d/x", "d/y", "z"]);
    let twice = entry(&manifest, b"d/x");
    assert_eq!(
        (twice.uid(), twice.gid(), twice.mode()),
        (Some(1), Some(2), Some(0o600))
    );
    assert_eq!((twice.time(), twice.line), (Some((5, 0)), 3));

    // All that counts is that it is there, or not even that.
    let manifest =
        parsed("a type=char uname=x nochange mode=600\nb optional uid=1 # why\n\n  # x\nc");
    let nochange = entry(&manifest, b"a");
    assert_eq!(
        (nochange.kind, nochange.mode(), nochange.optional),
        (None, None, false)
    );
    assert!(entry(&manifest, b"b").optional);
    assert_eq!(entry(&manifest, b"c").line, 5);

    for (device, expected) in [
        ("native,8,1", (8, 1)),
        ("linux,259,1048575", (259, 1_048_575)),
        ("0x103,0x2", (0x103, 2)),
        ("4,64", (4, 64)),
        ("1093", (4, 69)),
        ("0x10f00ab", (0xf00, 0x10ab)),
        ("0xffffffff", (0xfff, 0xf_ffff)),
    ] {
        let manifest = parsed(&format!("x type=block device={device}"));
        let (major, minor) = expected;
        let kind = Some(Kind::BlockDevice(major, minor));
        assert_eq!(entry(&manifest, b"x").kind, kind, "{device}");
    }
    let archive = parsed("/. mode=755 type=dir\n./etc mode=700\nx mode=600");
    assert_eq!(paths(&archive), ["", "etc", "x"]);
    assert_eq!(parsed("x mode=0\r\n./y/\r\n").entries().len(), 2);
    assert_eq!(parsed("").entries().len(), 0);
}

#[test]
fn mistakes_name_their_line_and_are_told_together() {
    for (text, line, message) in [
        ("/sett uid=0", 1, "`/sett` is no command of mtree"),
        ("\n#\na \\\nudi=0", 3, "`udi` is no keyword of mtree"),
        ("/unset colour", 1, "`colour` is no keyword of mtree"),
        ("a uid", 1, "`uid` has no value"),
        ("a mode=", 1, "`mode` has no value"),
        (
            "a uid=4294967295",
            1,
            "`uid` is `4294967295`; expected a number from 0 to 4294967294",
        ),
        (
            "a gid=-1",
            1,
            "`gid` is `-1`; expected a number from 0 to 4294967294",
        ),
        (
            "a mode=u+x",
            1,
            "`mode` is `u+x`; expected octal digits from 0 to 7777",
        ),
        (
            "a mode=10000",
            1,
            "`mode` is `10000`; expected octal digits from 0 to 7777",
        ),
        ("a size=0x4", 1, "`size` is `0x4`; expected a number"),
        (
            "a time=1.1000000000",
            1,
            "`time` is `1.1000000000`; expected seconds since 1970, a point, and nanoseconds",
        ),
        (
            "a type=door",
            1,
            "`type` is `door`; expected file, dir, link, char, block, fifo or socket",
        ),
        (
            "a type=char device=netbsd,1,2",
            1,
            "`device` is `netbsd,1,2`; expected native,MAJOR,MINOR, MAJOR,MINOR, or a number",
        ),
        ("a type=block", 1, "type=block is given without `device`"),
        ("a uname=bin gid=1", 1, "`uname` is given without `uid`"),
        ("a gname=bin uid=1", 1, "`gname` is given without `gid`"),
        (
            "a\\q",
            1,
            "`a\\\\q` has a backslash that begins no character",
        ),
        (
            "a type=link link=\\M",
            1,
            "`\\\\M` has a backslash that begins no character",
        ),
        ("./a/../b", 1, "`./a/../b` leads out of its directory"),
        ("a\\000", 1, "`a\\\\000` has a NUL"),
        ("a\\057b", 1, "`a\\\\057b` has an escaped slash"),
        (
            "a type=dir\n..\n..",
            3,
            "`..` leaves a directory, but none was entered",
        ),
    ] {
        let mistakes = Manifest::parse(text.as_bytes()).unwrap_err();
        let [only] = mistakes.as_slice() else {
            panic!("{text:?}: {mistakes:?}");
        };
        assert_eq!(
            (only.line, only.mistake.to_string()),
            (line, message.to_owned()),
            "{text:?}"
        );
        assert!(!only.mistake.hint().is_empty());
    }
    let lines = |text: &str| -> Vec<u32> {
        let mistakes = Manifest::parse(text.as_bytes()).unwrap_err();
        mistakes.iter().map(|mistake| mistake.line).collect()
    };
    assert_eq!(lines("a uid=x\nb uid=1\nc mode=9\n..\n"), [1, 3, 4]);
    assert_eq!(lines(&"..\n".repeat(1000)).len(), MISTAKES_MAX);
}

#[test]
fn escapes_are_those_of_vis() {
    for (word, expected) in [
        ("plain", &b"plain"[..]),
        ("\\040\\7\\08", b" \x07\x008"),
        (
            "\\a\\b\\E\\f\\n\\r\\s\\t\\v\\\\\\#",
            b"\x07\x08\x1b\x0c\n\r \t\x0b\\#",
        ),
        ("\\^A\\^?\\^[\\^z", b"\x01\x7f\x1b\x1a"),
        ("\\M-C\\M-$\\M^?\\M^@", b"\xc3\xa4\xff\x80"),
    ] {
        let decoded = escape::decode(word.as_bytes());
        assert_eq!(decoded.as_deref(), Some(expected), "{word}");
    }
    for word in [
        "\\", "x\\", "\\x", "\\400", "\\^", "\\^!", "\\M", "\\M-", "\\Mx", "\\M^",
    ] {
        assert_eq!(escape::decode(word.as_bytes()), None, "{word}");
    }
}

/// A name as libarchive writes it.
fn octal(name: &[u8]) -> String {
    let letter = |byte: &u8| match byte {
        b'a'..=b'z' | b'.' | b'/' => char::from(*byte).to_string(),
        _ => format!("\\{byte:03o}"),
    };
    name.iter().map(letter).collect()
}

proptest! {
    #[test]
    fn any_bytes_are_understood_or_refused(text in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Err(mistakes) = Manifest::parse(&text) {
            prop_assert!(!mistakes.is_empty());
        }
    }

    #[test]
    fn any_words_are_understood_or_refused(
        words in proptest::collection::vec(prop_oneof![
            Just("/set"), Just("/unset"), Just("all"), Just("\n"), Just("\n"), Just(".."), Just("."), Just("./a/b"),
            Just("a"), Just("b\\040"), Just("\\\n"), Just("type=dir"), Just("type=char"), Just("device=1,2"),
            Just("uid=0"), Just("gname=x"), Just("time=-1.5"), Just("#"), Just("link=x"), Just("optional"),
        ], 0..60),
    ) {
        let text = words.join(" ");
        match Manifest::parse(text.as_bytes()) {
            Ok(manifest) => for entry in manifest.entries() {
                let found = manifest.find(manifest.path(entry)).map(|index| manifest.entries()[index]);
                prop_assert_eq!(found, Some(*entry));
            },
            Err(mistakes) => {
                let count = u32::try_from(text.lines().count()).unwrap();
                prop_assert!(mistakes.iter().all(|mistake| (1..=count).contains(&mistake.line)));
            }
        }
    }

    #[test]
    fn any_name_comes_back(
        names in proptest::collection::vec(
            proptest::collection::vec(any::<u8>().prop_filter("no name has them", |byte| !matches!(byte, 0 | b'/')), 1..20)
                .prop_filter("they are no names", |name| name != b"." && name != b".."),
            1..5,
        ),
        uid in 0..u32::MAX,
    ) {
        let path = names.join(&b'/');
        let full = parsed(&format!("./{} uid={uid}", octal(&path)));
        prop_assert_eq!(full.path(entry(&full, &path)), &*path);
        prop_assert_eq!(entry(&full, &path).uid(), Some(uid));
        let nested: String = names.iter().map(|name| format!("{} type=dir\n", octal(name))).collect();
        let nested = parsed(&nested);
        prop_assert_eq!(nested.entries().len(), names.len());
        prop_assert_eq!(nested.path(entry(&nested, &path)), &*path);
    }
}
