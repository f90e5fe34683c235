//! `[images]`.

use super::{Inline, Text, quoted};
use crate::config::spec::{
    Compression, DigestAlgorithm, DirectoryPlace, ImageFormat, ManifestPosition, PackageSpec, Spec,
    StreamSpec, VagrantProvider, VhdLayout, VmdkLayout,
};

pub(super) fn write(text: &mut Text, spec: &Spec) {
    text.heading("[images]");
    for image in &spec.images {
        let table = table(&image.format, spec);
        text.line(&quoted(&image.name), &table.text());
    }
}

fn table(format: &ImageFormat, spec: &Spec) -> Inline {
    let of = |name: &str| Inline::default().with("format", quoted(name));
    match format {
        ImageFormat::Raw { partition } => {
            let partition = partition.and_then(|index| spec.partitions.get(index));
            of("raw").with_optional("partition", partition.map(|one| quoted(&one.label)))
        }
        ImageFormat::Vmdk(VmdkLayout::MonolithicSparse) => {
            of("vmdk").with("layout", quoted("monolithic-sparse"))
        }
        ImageFormat::Vmdk(VmdkLayout::MonolithicFlat) => {
            of("vmdk").with("layout", quoted("monolithic-flat"))
        }
        ImageFormat::Vmdk(VmdkLayout::StreamOptimized(layout)) => {
            let table = of("vmdk").with("layout", quoted("stream-optimized"));
            stream(table, layout)
        }
        ImageFormat::Qcow2 => of("qcow2"),
        ImageFormat::Vdi => of("vdi"),
        ImageFormat::Vhdx => of("vhdx"),
        ImageFormat::Vhd(layout) => {
            let layout = match layout {
                VhdLayout::Dynamic => "dynamic",
                VhdLayout::Fixed => "fixed",
            };
            of("vhd").with("layout", quoted(layout))
        }
        ImageFormat::Vagrant(provider) => {
            let provider = match provider {
                VagrantProvider::VirtualBox => "virtualbox",
                VagrantProvider::Libvirt => "libvirt",
            };
            of("vagrant").with("provider", quoted(provider))
        }
        ImageFormat::Ova(spec) => {
            let table = package(of("ova"), spec);
            let position = spec.manifest.map(|manifest| match manifest.position {
                ManifestPosition::Last => quoted("last"),
                ManifestPosition::Second => quoted("second"),
            });
            table.with_optional("manifest-position", position)
        }
        ImageFormat::Ovf(spec) => package(of("ovf"), spec),
        ImageFormat::Vmx { disk } => {
            let disk = spec.images.get(*disk);
            of("vmx").with_optional("disk", disk.map(|image| quoted(&image.name)))
        }
    }
}

fn package(table: Inline, spec: &PackageSpec) -> Inline {
    let algorithm = spec.manifest.map(|manifest| manifest.algorithm);
    let manifest = match algorithm {
        None => "none",
        Some(DigestAlgorithm::Sha1) => "sha1",
        Some(DigestAlgorithm::Sha256) => "sha256",
        Some(DigestAlgorithm::Sha512) => "sha512",
    };
    stream(table, &spec.stream).with("manifest", quoted(manifest))
}

fn stream(table: Inline, spec: &StreamSpec) -> Inline {
    let directory = match spec.directory {
        DirectoryPlace::Footer => "footer",
        DirectoryPlace::Front => "front",
    };
    let table = table.with("grain-directory", quoted(directory));
    match spec.compression {
        Compression::Stored => table.with("compression", quoted("stored")),
        Compression::Deflate { level } => table
            .with("compression", quoted("deflate"))
            .with("level", level),
    }
}
