//! How long the parts take: planning a tree, rendering metadata, reading a composed disk, hashing names, stored grains.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a bench that overflows or unwraps nothing fails, as it should"
)]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use miragefs::config;
use miragefs::config::spec::{
    CopySpec, Ext4Spec, ImagePath, InlineFile, Location, Owner, Piece, Sparse, Times,
};
use miragefs::formats::ext4::htree::HashSeed;
use miragefs::synth::cache::BlockCache;
use miragefs::synth::ext4::{Ext4, Ext4Params, Ext4Plan, SizeRequest};
use miragefs::synth::generation::{self, Image, PlanOptions, Planned};
use miragefs::synth::host_file::HostFiles;
use miragefs::synth::identifiers::Identifiers;
use miragefs::synth::source::{ByteSource, Origin};
use miragefs::synth::tree::TreeBuilder;
use miragefs::units::{MIB, to_usize};
use tempfile::TempDir;
use uuid::Uuid;

const CONFIG: &str = r#"
name = "bench"
[disk]
size = "512MiB"
boot-code = "none"
[[partition]]
label = "data"
size = "rest"
copy = [ { from = "tree", to = "/" } ]
[images]
"disk.img" = { format = "raw" }
"stream.vmdk" = { format = "vmdk", layout = "stream-optimized" }
"#;

/// A config over `directories` of 100 small files each, and one file of 32 MiB.
fn workspace(directories: usize) -> TempDir {
    let workspace = tempfile::tempdir().unwrap();
    let tree = workspace.path().join("tree");
    for directory in 0..directories {
        let path = tree.join(format!("directory-{directory:04}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..100 {
            let name = format!("file-{file:03}.txt");
            fs::write(path.join(name), format!("{directory} {file}\n")).unwrap();
        }
    }
    // Odd bytes, so that no copy or checksum gets an easy case.
    let large: Vec<u8> = (0..32 * MIB)
        .map(|at| (at % 251).to_le_bytes()[0])
        .collect();
    fs::write(tree.join("large"), large).unwrap();
    fs::write(workspace.path().join("bench.toml"), CONFIG).unwrap();
    workspace
}

fn plan(workspace: &Path, cache_len: u64) -> Planned {
    let loaded = config::load(&workspace.join("bench.toml")).unwrap();
    let options = PlanOptions {
        cache: Arc::new(BlockCache::new(cache_len)),
        config_mtime: 0,
        skip_unreadable: false,
        mountpoint: None,
        cache_directory: None,
        progress: None,
    };
    generation::plan(&loaded.spec, &options).unwrap()
}

/// Start and length of each run of which `wanted` says so.
fn runs(source: &dyn ByteSource, wanted: impl Fn(&Origin) -> bool) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut offset = 0;
    while offset < source.len() {
        let run = source.run_at(offset);
        if wanted(&run.origin) {
            runs.push((offset, run.len));
        }
        offset += run.len;
    }
    runs
}

fn planning(criterion: &mut Criterion) {
    let workspace = workspace(100);
    let mut group = criterion.benchmark_group("plan");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("10,000 small files", |bencher| {
        bencher.iter(|| plan(workspace.path(), 0));
    });
    group.finish();
}

/// Every 4 KiB of these runs in a scattered order.
fn scattered_blocks(runs: &[(u64, u64)]) -> Vec<u64> {
    let mut offsets: Vec<u64> = runs
        .iter()
        .flat_map(|(start, len)| (0..len / 4096).map(move |block| start + block * 4096))
        .collect();
    offsets.sort_by_key(|offset| offset.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    offsets
}

fn metadata(criterion: &mut Criterion) {
    let workspace = workspace(100);
    let mut group = criterion.benchmark_group("4 KiB of metadata");
    group.throughput(Throughput::Bytes(4096));
    for (name, cache_len) in [("rendered", 0), ("from the cache", 32 * MIB)] {
        let planned = plan(workspace.path(), cache_len);
        let disk = &planned.generation.images[0].source;
        let is_computed = |origin: &Origin| matches!(origin, Origin::Computed(_));
        let offsets = scattered_blocks(&runs(&**disk, is_computed));
        let mut buf = [0; 4096];
        // Once over all, so that the cache has what it can hold.
        for offset in &offsets {
            disk.read_exact_at(*offset, &mut buf).unwrap();
        }
        let mut next = offsets.iter().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter(|| disk.read_exact_at(*next.next().unwrap(), &mut buf).unwrap());
        });
    }
    group.finish();
}

/// 1 MiB after 1 MiB of what is data from a source file; none of it is looked for in a cache.
fn sequential(criterion: &mut Criterion, name: &str, image: &Image) {
    let source = &*image.source;
    let (start, len) = runs(source, |origin| matches!(origin, Origin::HostFile { .. }))
        .into_iter()
        .reduce(|(start, _), (last, len)| (start, last + len - start))
        .unwrap();
    let mut buf = vec![0; to_usize(MIB)];
    let mut at = start;
    let mut group = criterion.benchmark_group("1 MiB in sequence");
    group.throughput(Throughput::Bytes(MIB));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            if at + MIB > start + len {
                at = start;
            }
            source.read_exact_at(at, &mut buf).unwrap();
            at += MIB;
        });
    });
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    let workspace = workspace(1);
    let planned = plan(workspace.path(), 32 * MIB);
    let [disk, stream] = [0, 1].map(|index| &planned.generation.images[index]);
    sequential(criterion, "disk.img", disk);
    sequential(criterion, "grains stored in stream.vmdk", stream);
    let path = workspace.path().join("tree/large");
    let file = fs::File::open(path).unwrap();
    let mut buf = vec![0; to_usize(MIB)];
    let mut at = 0;
    let mut group = criterion.benchmark_group("1 MiB in sequence");
    group.throughput(Throughput::Bytes(MIB));
    group.bench_function("the source file itself", |bencher| {
        bencher.iter(|| {
            file.read_exact_at(&mut buf, at % (32 * MIB)).unwrap();
            at += MIB;
        });
    });
    group.finish();
}

/// Files of the file system whose metadata is rendered kind by kind, `MIRAGEFS_BENCH_FILES` or 200,000; besides them
/// there is a directory of 500,000 names, and a file of 300,000 extents.
fn file_count() -> u32 {
    std::env::var("MIRAGEFS_BENCH_FILES").map_or(200_000, |files| files.parse().unwrap())
}

fn location() -> Location {
    Location {
        file: PathBuf::from("bench.toml"),
        line: 1,
        column: 1,
    }
}

fn inline(builder: &mut TreeBuilder, path: [String; 2]) {
    let file = InlineFile {
        contents: vec![Piece::Bytes(path.concat().into_bytes())],
        path: ImagePath(path.map(String::into_bytes).to_vec()),
        mode: 0o644,
        owner: Owner::default(),
        location: location(),
    };
    builder.inline(&file, &Identifiers::default()).unwrap();
}

/// A file with a block of data, a hole of a block, and so on.
fn scattered(directory: &Path) -> CopySpec {
    let file = fs::File::create(directory.join("scattered")).unwrap();
    for index in 0..300_000_u64 {
        file.write_all_at(b"island", index * 8192).unwrap();
    }
    CopySpec {
        from: directory.to_path_buf(),
        to: ImagePath::default(),
        to_is_directory: true,
        owner: None,
        owners: None,
        uid_map: None,
        gid_map: None,
        mode: None,
        exclude: Vec::new(),
        include: Vec::new(),
        cross_mounts: false,
        xattrs: Vec::new(),
        sparse: Sparse::Auto,
        location: location(),
    }
}

fn large_file_system(directory: &Path) -> Ext4 {
    let times = Times {
        default: 1_700_000_000,
        clamp: None,
    };
    let mut files = HostFiles::new();
    let mut builder = TreeBuilder::new(times);
    builder.hole_unit(4096);
    builder.copy(&scattered(directory), &mut files);
    for index in 0..500_000 {
        inline(
            &mut builder,
            ["wide".to_owned(), format!("name-{index:09}")],
        );
    }
    for index in 0..file_count() {
        let path = [
            format!("directory-{:05}", index / 100),
            format!("file-{index:07}.txt"),
        ];
        inline(&mut builder, path);
    }
    let (tree, _) = builder.finish(&mut files).unwrap();
    let params = Ext4Params {
        spec: &Ext4Spec::DEFAULT,
        name: "bench",
        label: "bench",
        uuid: Uuid::from_u128(7),
        time: times.default,
        size: SizeRequest::Fit { free_blocks: 0 },
    };
    let plan = Ext4Plan::new(tree, &params).unwrap();
    let len = plan.block_count() * plan.block_size();
    plan.into_source(len, None, Arc::new(files))
}

/// What a block of metadata holds: by what `explain` says of it, and where that is not enough by its first bytes.
fn kind_of(what: &str, block: &[u8]) -> Option<&'static str> {
    let is_first = what.ends_with(", block 0");
    let kinds = [
        ("group descriptor ", "group descriptors"),
        ("block bitmap ", "block bitmap"),
        ("inode bitmap ", "inode bitmap"),
        ("inode table ", "inode table"),
        ("directory /directory-", "directory of 100 names"),
    ];
    if let Some((_, kind)) = kinds.iter().find(|(start, _)| what.starts_with(start)) {
        return Some(kind);
    }
    if what.starts_with("directory /wide, ") {
        // An inner node begins with an entry that is not in use and has the length of the block.
        let kind = match block.get(..6)? {
            _ if is_first => "root of the index of 500,000 names",
            [0, 0, 0, 0, _, 0x10] => "node of the index of 500,000 names",
            _ => "leaf of a directory of 500,000 names",
        };
        return Some(kind);
    }
    // The depth of a node of extents.
    let is_leaf = block.get(6) == Some(&0);
    what.starts_with("extent tree of /scattered")
        .then_some(if is_leaf {
            "leaf of the extent tree of 300,000 extents"
        } else {
            "node of the extent tree of 300,000 extents"
        })
}

fn kinds_of_metadata(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let source = large_file_system(directory.path());
    let mut buf = [0; 4096];
    let mut trail = Vec::new();
    let mut kinds: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let is_metadata = |origin: &Origin| matches!(origin, Origin::Computed("ext4 metadata"));
    for offset in scattered_blocks(&runs(&source, is_metadata)) {
        source.read_exact_at(offset, &mut buf).unwrap();
        trail.clear();
        source.explain_at(offset, &mut trail);
        if let Some(kind) = trail.last().and_then(|step| kind_of(&step.what, &buf)) {
            kinds.entry(kind).or_default().push(offset);
        }
    }
    assert_eq!(kinds.len(), 10, "{:?}", kinds.keys());
    let mut group = criterion.benchmark_group("one block");
    for (kind, offsets) in kinds {
        let mut next = offsets.iter().cycle();
        group.bench_function(kind, |bencher| {
            bencher.iter(|| {
                source
                    .read_exact_at(*next.next().unwrap(), &mut buf)
                    .unwrap();
            });
        });
    }
    group.finish();
}

fn names(criterion: &mut Criterion) {
    let seed = HashSeed::from_bytes(*b"0123456789abcdef");
    criterion.bench_function("half MD4 of a name of 20 bytes", |bencher| {
        bencher.iter(|| seed.hash(black_box(b"a-file-name-of-20-by")));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = planning, metadata, kinds_of_metadata, reading, names
}
criterion_main!(benches);
