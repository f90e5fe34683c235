//! One config, any number of images: one plan, one disk, one cache, and nothing read before somebody asks.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use miragefs::config::{self, Environment};
use miragefs::synth::cache::BlockCache;
use miragefs::synth::generation::{PlanOptions, Planned, plan};
use miragefs::units::to_u64;

use super::disks::{self, all_images};
use super::formats::{FORMATS, Format, PARTITION, VMX, images_table};
use crate::mounted::{Synthetic, TestMount, require_fuse};
use crate::planned::image;
use crate::support::{read, run_text};

fn every_format() -> impl Iterator<Item = &'static Format> {
    FORMATS.iter().chain([&VMX, &PARTITION])
}

/// Reads an image from front to back.
fn read_all(planned: &Planned, name: &str) {
    let image = image(planned, name);
    let len = image.source.len();
    for offset in (0..len).step_by(1 << 20) {
        read(&*image.source, offset, (1 << 20).min(len - offset));
    }
}

#[test]
fn all_images_are_of_one_disk() {
    let planned = disks::lab().plan(&images_table(every_format()));
    let [raw, flat] = ["disk.img", "flat-flat.vmdk"].map(|name| image(&planned, name));
    assert!(Arc::ptr_eq(&raw.source, &flat.source));
    // Each image is there, ready or to be prepared, and each name once.
    let mut names: Vec<_> = planned
        .generation
        .images
        .iter()
        .map(|image| image.name.clone())
        .collect();
    for pending in &planned.generation.pending {
        names.extend(pending.names().iter().cloned());
    }
    for format in every_format() {
        assert!(
            names.iter().any(|name| name == format.name),
            "{}",
            format.name
        );
    }
    let unique: BTreeSet<_> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    // A server tells them apart.
    let identities: BTreeSet<_> = planned
        .generation
        .images
        .iter()
        .map(|image| image.identity)
        .collect();
    assert_eq!(identities.len(), planned.generation.images.len());
}

/// A block that one image rendered is found by all others.
#[test]
fn all_images_share_the_cache() {
    let example = disks::lab();
    let text = format!("{}\n{}", example.text(), images_table(every_format()));
    let path = example.path("planned.toml");
    let loaded = config::load_text(text, &path, &Environment::default()).unwrap();
    let cache = Arc::new(BlockCache::new(64 << 20));
    let options = PlanOptions {
        cache: Arc::clone(&cache),
        config_mtime: 0,
        skip_unreadable: false,
        mountpoint: None,
        cache_directory: None,
        progress: None,
    };
    let planned = plan(&loaded.spec, &options).unwrap();
    assert_eq!(cache.stats().misses, 0, "planning renders nothing");
    read_all(&planned, "disk.img");
    let rendered = cache.stats().misses;
    assert!(rendered > 0);
    let ready: Vec<_> = planned
        .generation
        .images
        .iter()
        .map(|image| image.name.clone())
        .collect();
    for name in ready.iter().filter(|name| *name != "disk.img") {
        let hits = cache.stats().hits;
        read_all(&planned, name);
        let stats = cache.stats();
        assert_eq!(stats.misses, rendered, "{name} renders blocks again");
        let has_disk = !["flat.vmdk", "lab.vmx", "loose.ovf"].contains(&&**name);
        assert_eq!(stats.hits > hits, has_disk && name != "loose.mf", "{name}");
    }
}

/// Sizes are known before a byte of a source is read, those of all containers at once; of what takes work, a limit.
#[test]
fn sizes_are_known_without_reading_data() {
    if !require_fuse() {
        return;
    }
    const LEN: u64 = 6 << 20;
    let reads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&reads);
    let source = Synthetic::new(&[(2 << 20, false), (4 << 20, true), (LEN, false)]);
    let source = source.with_fault(move |start, end| {
        counted.fetch_add(end - start, Ordering::Relaxed);
        Ok(())
    });
    let mount = TestMount::new(vec![crate::mounted::image("big", Arc::new(source))]);
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "name = 'lab'\n[disk]\nsize = '40MiB'\n\
         [[partition]]\nlabel = 'boot'\nsize = '16MiB'\ncopy = [{{ from = '{}', to = '/' }}]\n\
         [[partition]]\nlabel = 'home'\ncopy = [{{ from = '{}', to = '/', sparse = 'never' }}]\n{}",
        mount.path().display(),
        mount.path().display(),
        images_table(every_format())
    );
    let planned = crate::planned::plan_text(directory.path(), &text);
    let sizes = |planned: &Planned| {
        let images = planned.generation.images.iter();
        images
            .map(|image| (image.name.clone(), image.source.len()))
            .collect::<Vec<_>>()
    };
    let known = sizes(&planned);
    for pending in &planned.generation.pending {
        assert!(pending.len_at_most().is_some(), "{}", pending.name());
    }
    assert_eq!(reads.load(Ordering::Relaxed), 0, "planning reads no data");
    for (name, len) in &known {
        assert!(*len > 0, "{name}");
    }
    // The counter strikes, and the sizes were right.
    for image in &planned.generation.images {
        let path = directory.path().join(&image.name);
        crate::support::write_to_file(&*image.source, &path);
        let len = fs::metadata(&path).unwrap().len();
        assert!(known.contains(&(image.name.clone(), len)), "{}", image.name);
    }
    assert!(reads.load(Ordering::Relaxed) >= 4 << 20);
    // Archives say themselves where they end.
    for format in FORMATS.iter().filter(|format| format.is_tar()) {
        let path = directory.path().join(format.name);
        if path.exists() {
            let listed = run_text("tar", ["-tf", path.to_str().unwrap()]);
            assert!(listed.contains(format.disk), "{listed}");
        }
    }
    let images = all_images(&planned);
    for pending in &planned.generation.pending {
        let prepared = images
            .iter()
            .filter(|image| pending.names().contains(&image.name));
        let len: u64 = prepared.map(|image| image.source.len()).sum();
        assert!(len <= pending.len_at_most().unwrap(), "{}", pending.name());
    }
    assert!(to_u64(images.len()) > to_u64(known.len()));
}
