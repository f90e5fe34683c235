//! `[partition.ext4]`: what it means, and its mistakes.

use super::Lab;
use super::errors::check;
use crate::config::spec::{Ext4Spec, FeatureSet, Filesystem, Journal};

fn ext4(table: &str) -> Ext4Spec {
    let text = format!("[[partition]]\n[partition.ext4]\n{table}");
    let spec = Lab::new().load(&text).unwrap().spec;
    match spec.partitions.into_iter().next().unwrap().filesystem {
        Filesystem::Ext4(ext4) => ext4,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_table_is_the_default() {
    assert_eq!(ext4(""), Ext4Spec::DEFAULT);
}

#[test]
fn shapes_are_taken_as_typed() {
    let shaped = ext4(
        "features = 'modern'\nlabel = 'a volume'\nuuid = '0f0e0d0c-0b0a-0908-0706-050403020100'\n\
         journal = '64MiB'\nblock-size = 1024\ninode-size = '512'",
    );
    assert_eq!(shaped.features, FeatureSet::Modern);
    assert_eq!(shaped.label.as_deref(), Some("a volume"));
    assert_eq!(shaped.uuid.unwrap().as_bytes()[..2], [0x0f, 0x0e]);
    assert_eq!(shaped.journal, Journal::Size(64 << 20));
    assert_eq!((shaped.block_size, shaped.inode_size), (1024, 512));
    for (typed, meant) in [
        ("true", Journal::Default),
        ("false", Journal::None),
        ("4194304", Journal::Size(4 << 20)),
    ] {
        assert_eq!(ext4(&format!("journal = {typed}")).journal, meant);
    }
    assert_eq!(ext4("block-size = '2KiB'").block_size, 2048);
}

#[test]
fn shapes_that_cannot_be() {
    check(&[
        (
            "[[partition]]\next4 = { block-size = 8192 }",
            "lab.toml:2:23: `block-size` is 8192; expected 1024, 2048 or 4096",
            "write block-size = 4096",
        ),
        (
            "[[partition]]\next4 = { block-size = '512' }",
            "lab.toml:2:23: `block-size` is 512; expected 1024, 2048 or 4096",
            "write block-size = 1024",
        ),
        (
            "[[partition]]\next4 = { block-size = true }",
            "lab.toml:2:23: `block-size` is a boolean; expected a size such as \"256MiB\" or a number of bytes",
            "write a number of bytes without quotes, such as block-size = 1024",
        ),
        (
            "[[partition]]\next4 = { inode-size = 200 }",
            "lab.toml:2:23: `inode-size` is 200; expected 128, 256, 512 or 1024",
            "write inode-size = 256",
        ),
        (
            "[[partition]]\next4 = { uuid = '1234' }",
            "lab.toml:2:17: `uuid` is \"1234\"; expected hex digits in groups of 8, 4, 4, 4 and 12",
            "`uuidgen` prints one; left out it derives from the seed and the label",
        ),
        (
            "[[partition]]\next4 = { uuid = '00000000-0000-0000-0000-000000000000' }",
            "lab.toml:2:17: `uuid` is all zeros, which means that there is none",
            "`uuidgen` prints one; left out it derives from the seed and the label",
        ),
        (
            "[[partition]]\next4 = { label = 'a volume name too long' }",
            "lab.toml:2:18: label `a volume name too long` has 22 bytes; ext4 holds at most 16",
            "shorten it, to `a volume name to` for example",
        ),
        (
            "[[partition]]\next4 = { journal = '1MiB' }",
            "lab.toml:2:20: `journal` is 1048576 bytes (1 MiB); with blocks of 4096 bytes it has at least 4194304 bytes (4 MiB)",
            "write journal = \"4MiB\" or more, or journal = false for none",
        ),
        (
            "[[partition]]\next4 = { journal = '1T', block-size = 1024 }",
            "lab.toml:2:20: `journal` is 1099511627776 bytes (1 TiB); with blocks of 1024 bytes it has at most 10485760000 bytes (9.7 GiB)",
            "1 GiB is what mke2fs gives the largest file systems",
        ),
        (
            "[[partition]]\next4 = { journal = [] }",
            "lab.toml:2:20: `journal` is an array; expected true, false or a size",
            "write journal = true, journal = false or journal = \"64MiB\"",
        ),
        (
            "[[partition]]\next4 = { journal = 'big' }",
            "lab.toml:2:20: `journal`: `big` is no size: expected a number with an optional unit",
            "write a whole number with a unit K, M, G, T, KiB, MiB, GiB, TiB (powers of 1024) or s (sectors), such as \"256MiB\"",
        ),
    ]);
}
