//! Room between subtrees: as much as asked for, but never what makes a tree too large.

use std::fs;
use std::path::Path;

use miragefs::synth::ext4::{Ext4Error, Ext4Plan, SizeRequest, Slack};
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::tree::TreeBuilder;

use super::build::{TIMES, copy_of, plan_of};

const BLOCK: u64 = 4096;

fn plan(source: &Path, slack_bits: u8, size: SizeRequest) -> Result<Ext4Plan, Ext4Error> {
    let mut files = HostFiles::new();
    let mut builder = TreeBuilder::new(TIMES);
    builder.copy(&copy_of(source), &mut files);
    let (tree, _warnings) = builder.finish(&mut files).unwrap();
    let spec = miragefs::config::spec::Ext4Spec {
        slack_bits,
        ..miragefs::config::spec::Ext4Spec::DEFAULT
    };
    plan_of(tree, &spec, size)
}

/// Directories within each other, `depth` of them, each with `files` files of `len` bytes.
fn nested(depth: usize, files: usize, len: u64) -> tempfile::TempDir {
    let source = tempfile::tempdir().unwrap();
    let mut directory = source.path().to_path_buf();
    for _ in 0..depth {
        directory.push("d");
        fs::create_dir(&directory).unwrap();
        for file in 0..files {
            let file = fs::File::create(directory.join(file.to_string())).unwrap();
            file.set_len(len).unwrap();
        }
    }
    source
}

#[test]
fn a_partition_without_room_for_slack_holds_what_it_holds_without() {
    let source = nested(8, 100, 3 * BLOCK);
    let fits = |slack_bits, blocks: u64| {
        plan(
            source.path(),
            slack_bits,
            SizeRequest::Fixed(blocks * BLOCK),
        )
    };
    // The smallest size for the tree without slack.
    let (mut below, mut enough) = (1_u64, 1_u64 << 16);
    assert!(fits(0, enough).is_ok());
    while below + 1 < enough {
        let middle = u64::midpoint(below, enough);
        if fits(0, middle).is_ok() {
            enough = middle;
        } else {
            below = middle;
        }
    }
    for slack_bits in [1, 6, 16] {
        let tight = fits(slack_bits, enough).unwrap();
        assert_ne!(tight.slack().0, Slack::Bits(slack_bits.min(6)), "{enough}");
        assert!(fits(slack_bits, enough - 1).is_err());
    }
    let (most, bytes) = fits(6, 1 << 16).unwrap().slack();
    assert_ne!(most, Slack::Dense);
    assert!(bytes > 0);
    // Somewhere between the two there is room for some of it.
    let some = (enough..1 << 16).find_map(|blocks| {
        let (slack, bytes) = fits(6, blocks).unwrap().slack();
        (bytes > 0).then_some((slack, bytes))
    });
    let (slack, some) = some.expect("there is room for slack at last");
    assert!(
        some < bytes && slack.bits() > most.bits(),
        "{slack:?}, {some}"
    );
}

#[test]
fn slack_is_at_most_a_tenth_of_the_contents() {
    let source = nested(12, 70, 5 * BLOCK);
    let contents = 12 * 70 * 5 * BLOCK;
    for size in [
        SizeRequest::Fixed(1 << 30),
        SizeRequest::Fit { free_blocks: 0 },
    ] {
        for slack_bits in 1..=16 {
            let (slack, bytes) = plan(source.path(), slack_bits, size).unwrap().slack();
            assert!(bytes * 10 <= contents + (1 << 20), "{slack_bits}: {bytes}");
            assert!(slack.bits() == 0 || slack.bits() >= slack_bits);
        }
        // Powers of two within each other are far more than a tenth.
        let (slack, _) = plan(source.path(), 1, size).unwrap().slack();
        assert_ne!(slack, Slack::Bits(1));
        assert_eq!(
            plan(source.path(), 0, size).unwrap().slack(),
            (Slack::Dense, 0)
        );
    }
}
