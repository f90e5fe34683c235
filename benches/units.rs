//! How long the parts take: planning a tree, rendering metadata, reading a composed disk, hashing names, stored grains.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    reason = "a bench that overflows or unwraps nothing fails, as it should"
)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use miragefs::config;
use miragefs::formats::ext4::htree::HashSeed;
use miragefs::synth::cache::BlockCache;
use miragefs::synth::generation::{self, Image, PlanOptions, Planned};
use miragefs::synth::source::{ByteSource, Origin};
use miragefs::units::{MIB, to_usize};
use tempfile::TempDir;

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

/// Every 4 KiB of the metadata in a scattered order.
fn scattered_metadata(disk: &dyn ByteSource) -> Vec<u64> {
    let blocks = runs(disk, |origin| matches!(origin, Origin::Computed(_)));
    let blocks = blocks.into_iter();
    let mut offsets: Vec<u64> = blocks
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
        let offsets = scattered_metadata(&**disk);
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
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut buf, at % (32 * MIB)).unwrap();
            at += MIB;
        });
    });
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
    targets = planning, metadata, reading, names
}
criterion_main!(benches);
