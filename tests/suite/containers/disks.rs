//! Disks that have little in common, and their images.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miragefs::synth::generation::{Image, Planned};
use miragefs::units::to_usize;
use tempfile::TempDir;

use super::formats::{FORMATS, MACHINE, PARTITION, VMX, images_table};
use crate::disk::has_extlinux;
use crate::planned::plan_text;
use crate::support::{noise, run, write_to_file};

/// A config without its images, and the sources that it names.
pub(super) struct Example {
    directory: TempDir,
    text: String,
}

impl Example {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("source")).unwrap();
        let text = format!("name = '{MACHINE}'\nsource-date-epoch = 1700000000\n{text}");
        Self { directory, text }
    }

    fn source(&self, name: &str, bytes: &[u8]) -> &Self {
        fs::write(self.path("source").join(name), bytes).unwrap();
        self
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The config without images.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Plans the config with the images of this table.
    pub(super) fn plan(&self, images: &str) -> Planned {
        let text = format!("{}\n{images}", self.text);
        plan_text(self.directory.path(), &text)
    }

    /// Every image of every format, from one plan.
    pub(super) fn every_image(&self) -> Vec<Arc<Image>> {
        let partition = self.text.contains("label = 'boot'").then_some(&PARTITION);
        let planned = self.plan(&images_table(FORMATS.iter().chain([&VMX]).chain(partition)));
        all_images(&planned)
    }

    /// Writes an image where its name says.
    pub(super) fn export(&self, image: &Image) -> PathBuf {
        let path = self.path(&image.name);
        write_to_file(&*image.source, &path);
        path
    }

    /// Unpacks an archive into a directory of its own.
    pub(super) fn unpack(&self, name: &str) -> PathBuf {
        let members = self.path(&format!("{name}.members"));
        fs::create_dir(&members).unwrap();
        let arguments = [
            Path::new("-C"),
            &members,
            Path::new("-xf"),
            &self.path(name),
        ];
        run("tar", arguments);
        members
    }
}

/// The images of a plan, those that take work too.
pub(super) fn all_images(planned: &Planned) -> Vec<Arc<Image>> {
    let mut images = planned.generation.images.clone();
    for pending in &planned.generation.pending {
        images.extend(pending.prepare().unwrap());
    }
    images
}

/// A file system without files, and a partition of nothing.
pub(super) fn empty() -> Example {
    Example::new(
        "[disk]\nsize = '40MiB'\n\
         [[partition]]\nlabel = 'boot'\nsize = '24MiB'\n\
         [[partition]]\nfilesystem = 'none'\nsize = '5MiB'\n",
    )
}

/// A machine as people build it: a boot loader where there is one to install, and a home.
pub(super) fn lab() -> Example {
    let loader = match has_extlinux() {
        true => "active = true\nbootloader = 'extlinux'",
        false => "",
    };
    let text = format!(
        "[disk]\nsize = '48MiB'\n\
         [[partition]]\nlabel = 'boot'\nsize = '20MiB'\n{loader}\n\
         files = [{{ path = '/syslinux.cfg', text = 'DEFAULT x\\nLABEL x\\n LINUX vmlinuz\\n' }}]\n\
         copy = [{{ from = 'source/vmlinuz', to = '/' }}]\n\
         [[partition]]\nlabel = 'home'\ncopy = [{{ from = 'source', to = '/user', owner = '1000:100' }}]\n"
    );
    let lab = Example::new(&text);
    lab.source("vmlinuz", &noise(1, 3_000_000))
        .source("notes", "line\n".repeat(100_000).as_bytes())
        .source("zeros", &[0; 300_000])
        .source("small", b"small\n");
    lab
}

/// Files with tails and holes in blocks of two sizes, and partitions that begin anywhere: data and zeros change places all
/// over, and never where a container's own units begin.
pub(super) fn fragmented() -> Example {
    let example = Example::new(
        "[disk]\nsize = '48MiB'\n\
         [[partition]]\nlabel = 'boot'\nstart = '63s'\nsize = '1MiB'\nfilesystem = 'swap'\n\
         [[partition]]\nlabel = 'one'\nstart = '2500s'\nsize = '33000s'\n\
         copy = [{ from = 'source', to = '/', include = ['d?'] }]\n\
         ext4 = { block-size = 1024 }\n\
         [[partition]]\nlabel = 'none'\nsize = '1500s'\nfilesystem = 'none'\n\
         [[partition]]\nlabel = 'two'\nsize = '24MiB'\n\
         copy = [{ from = 'source', to = '/', exclude = ['d?'] }]\n",
    );
    let source = example.path("source");
    for number in 0..27_u64 {
        let directory = source.join(format!("d{number}"));
        fs::create_dir(&directory).unwrap();
        for file in 0..12_u64 {
            let bytes = noise(number * 100 + file, to_usize(1_000 + file * 11_000));
            fs::write(directory.join(format!("f{file}")), bytes).unwrap();
        }
        let holes = File::create(directory.join("holes")).unwrap();
        holes.set_len(900_000).unwrap();
        let bytes = noise(number, 5_000);
        holes
            .write_all_at(&bytes, 200_000 + number * 7_000)
            .unwrap();
        holes.write_all_at(b"end", 899_997).unwrap();
    }
    example
}

/// One file that leaves no 64 KiB of the disk without data.
pub(super) fn full() -> Example {
    let example = Example::new(
        "[disk]\ntable = 'none'\n\
         [[partition]]\nlabel = 'boot'\ncopy = [{ from = 'source', to = '/', sparse = 'never' }]\n\
         ext4 = { journal = false, inodes = 16, slack-bits = 16 }\n",
    );
    // The file system's own blocks are ten; all others are the file's.
    example.source("noise", &noise(7, (21 << 20) - 10 * 4096));
    example
}

/// A disk of this size with a small file.
pub(super) fn vast(size: &str) -> Example {
    let text = format!(
        "[disk]\nsize = '{size}'\n\
         [[partition]]\nlabel = 'boot'\nsize = '20MiB'\n\
         [[partition]]\nlabel = 'home'\ncopy = [{{ from = 'source', to = '/' }}]\n"
    );
    let example = Example::new(&text);
    example.source("noise", &noise(9, 2_000_000));
    example
}

/// A file of `len` zeros that count as data and take no room here.
pub(super) fn zeros_as_data(len: u64, table: &str) -> Example {
    let example = Example::new(&format!(
        "[disk]\ntable = '{table}'\n\
         [[partition]]\nlabel = 'data'\ncopy = [{{ from = 'source', to = '/', sparse = 'never' }}]\n"
    ));
    let file = File::create(example.path("source/zeros")).unwrap();
    file.set_len(len).unwrap();
    example
}

/// A grain of a VMDK.
const GRAIN: u64 = 65_536;

/// They are what their names say.
#[test]
fn examples_are_different() {
    // Grains with data, all grains, how often one with data stands beside one without, and how often data begins.
    let grains = |example: &Example| {
        let planned = example.plan("[images]\n'disk.img' = { format = 'raw' }\n");
        let disk = &planned.generation.images[0];
        let (mut with_data, mut changes, mut before) = (0, 0, false);
        let count = disk.source.len() / GRAIN;
        for grain in 0..count {
            let next = disk.data.next_data(grain * GRAIN);
            let has_data = next.is_some_and(|next| next < (grain + 1) * GRAIN);
            with_data += u64::from(has_data);
            changes += u64::from(has_data != before);
            before = has_data;
        }
        (with_data, count, changes, disk.data.ranges().len())
    };
    let (data, count, ..) = grains(&empty());
    assert!(data * 20 < count, "{data} of {count}");
    let (data, count, changes, ranges) = grains(&fragmented());
    assert!(
        changes >= 12 && ranges > 50,
        "{changes} and {ranges}, {data} of {count}"
    );
    let (data, count, ..) = grains(&full());
    assert_eq!(data, count);
    let (data, count, ..) = grains(&vast("100GiB"));
    assert!(data * 10_000 < count, "{data} of {count}");
}
