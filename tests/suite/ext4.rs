//! File systems planned from real trees: e2fsck, the kernel and our own reader agree with the source.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use miragefs::config::spec::{CopySpec, Ext4Spec, FeatureSet, ImagePath, Location, Times};
use miragefs::synth::ext4::{Ext4, Ext4Params, Ext4Plan, SizeRequest};
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::source::ByteSource;
use miragefs::synth::tree::TreeBuilder;
use uuid::Uuid;

fn location() -> Location {
    Location {
        file: PathBuf::from("test.toml"),
        line: 1,
        column: 1,
    }
}

fn copy_of(from: &Path) -> CopySpec {
    CopySpec {
        from: from.to_path_buf(),
        to: ImagePath::default(),
        to_is_directory: true,
        owner: None,
        mode: None,
        exclude: Vec::new(),
        cross_mounts: false,
        location: location(),
    }
}

fn build(from: &Path, size: SizeRequest) -> Ext4 {
    let times = Times {
        default: 946_684_800,
        clamp: None,
    };
    let mut files = HostFiles::new();
    let mut builder = TreeBuilder::new(times);
    builder.copy(&copy_of(from), &mut files).unwrap();
    let (tree, _warnings) = builder.finish().unwrap();
    let spec = Ext4Spec {
        features: FeatureSet::Std,
        journal: true,
        reserved_percent: None,
        inodes: None,
    };
    let params = Ext4Params {
        spec: &spec,
        label: "test",
        uuid: Uuid::from_u128(7),
        time: times.default,
        size,
    };
    let plan = Ext4Plan::new(tree, &params).unwrap();
    let len = match size {
        SizeRequest::Fixed(bytes) => bytes,
        SizeRequest::Fit { .. } => plan.block_count() * 4096,
    };
    plan.into_source(len, None, Arc::new(files))
}

fn write_image(source: &dyn ByteSource, path: &Path) {
    let file = File::create(path).unwrap();
    file.set_len(source.len()).unwrap();
    let mut offset = 0;
    let mut buf = vec![0xa5; 1 << 20];
    while offset < source.len() {
        let run = source.run_at(offset);
        let len = run.len.min(1 << 20);
        if run.origin.is_zero() {
            offset += run.len;
            continue;
        }
        let part = &mut buf[..usize::try_from(len).unwrap()];
        source.read_exact_at(offset, part).unwrap();
        file.write_all_at(part, offset).unwrap();
        offset += len;
    }
}

fn assert_clean(image: &Path) {
    let output = Command::new("e2fsck")
        .arg("-fn")
        .arg(image)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let extra: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("Pass ") && !line.contains("% non-contiguous"))
        .collect();
    assert!(
        output.status.success() && extra.is_empty(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn small_tree(at: &Path) {
    fs::create_dir_all(at.join("dir/sub")).unwrap();
    fs::write(at.join("empty"), "").unwrap();
    fs::write(at.join("hello.txt"), "hello\n").unwrap();
    fs::write(at.join("dir/block"), vec![1; 4096]).unwrap();
    fs::write(at.join("dir/odd"), vec![2; 123_457]).unwrap();
    fs::hard_link(at.join("hello.txt"), at.join("dir/sub/link")).unwrap();
    symlink("hello.txt", at.join("short")).unwrap();
    symlink("x".repeat(200), at.join("dir/long")).unwrap();
    for index in 0..300 {
        fs::write(
            at.join(format!("dir/sub/a-file-with-a-name-{index}")),
            format!("{index}"),
        )
        .unwrap();
    }
}

#[test]
fn e2fsck_finds_nothing_to_say() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    small_tree(&source);
    for (name, size) in [
        ("16 MiB", SizeRequest::Fixed(16 << 20)),
        ("odd", SizeRequest::Fixed((40 << 20) + 123 * 512)),
        ("256 MiB", SizeRequest::Fixed(256 << 20)),
        ("3 GiB", SizeRequest::Fixed(3 << 30)),
        ("100 GiB", SizeRequest::Fixed(100 << 30)),
        ("fit", SizeRequest::Fit { free_blocks: 0 }),
        (
            "fit with room",
            SizeRequest::Fit {
                free_blocks: 100_000,
            },
        ),
    ] {
        let image = dir.path().join("image");
        write_image(&build(&source, size), &image);
        println!("{name}");
        assert_clean(&image);
    }
}
