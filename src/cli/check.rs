//! `miragefs check`.

use serde::Serialize;

use super::error::CliError;
use super::load::{self, LoadOptions, LoadedPlan};
use super::output::Warning;
use super::table::{Align, Table};
use super::{CheckArgs, output};
use crate::config::spec::{
    Compression, DigestAlgorithm, ImageFormat, ImageSpec, PackageSpec, PartitionTable,
    VagrantProvider, VhdLayout, VmdkLayout,
};
use crate::synth::generation::{PartitionReport, Planned};
use crate::units::{ByteCount, SECTOR_SIZE};

/// What `--json` prints; docs/cli-json.md describes it.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    disk: Disk,
    partitions: Vec<Partition>,
    images: Vec<ImageReport>,
    warnings: Vec<JsonWarning>,
}

/// What `--json` prints instead if the config or its sources have mistakes.
#[derive(Debug, Serialize)]
struct Refusal {
    errors: Vec<JsonError>,
    more_errors: u64,
}

#[derive(Debug, Serialize)]
struct JsonError {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Disk {
    size: u64,
    table: &'static str,
    signature: Option<String>,
}

#[derive(Debug, Serialize)]
struct Partition {
    number: u32,
    label: String,
    start_lba: u64,
    size: u64,
    #[serde(rename = "type")]
    type_code: String,
    active: bool,
    boot_loader: Option<&'static str>,
    filesystem: Option<FileSystem>,
}

#[derive(Debug, Serialize)]
struct FileSystem {
    #[serde(rename = "type")]
    kind: &'static str,
    uuid: String,
    files: u64,
    directories: u64,
    symlinks: u64,
    special_files: u64,
    sparse_files: u64,
    file_bytes: u64,
    free_bytes: u64,
    inodes: u32,
    free_inodes: u32,
    journal_bytes: u64,
    slack_bits: u8,
    slack_bytes: u64,
}

#[derive(Debug, Serialize)]
struct ImageReport {
    name: String,
    format: &'static str,
    layout: Option<&'static str>,
    compression: Option<&'static str>,
    manifest: Option<&'static str>,
    provider: Option<&'static str>,
    /// `null` until the image is prepared.
    size: Option<u64>,
    /// Only of an image that must be prepared.
    size_at_most: Option<u64>,
    allocated_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct JsonWarning {
    message: String,
    hint: Option<String>,
}

/// Validates a config and its sources and prints the plan.
///
/// # Errors
/// What is wrong with them.
pub(super) fn check(args: &CheckArgs) -> Result<(), CliError> {
    let loaded = match load::load(&args.config, &LoadOptions::usual(args.skip_unreadable)) {
        Ok(loaded) => loaded,
        Err(error) => {
            if args.json {
                output::print(&output::json(&Refusal::new(&error)))?;
            }
            return Err(error);
        }
    };
    let report = Report::new(&loaded);
    output::warn(&loaded.warnings);
    output::print(&if args.json {
        output::json(&report)
    } else {
        report.text()
    })
}

impl Report {
    fn new(loaded: &LoadedPlan) -> Self {
        let LoadedPlan {
            spec,
            planned,
            warnings,
        } = loaded;
        let images = image_reports(&spec.images, planned);
        Self {
            name: spec.name.clone(),
            disk: Disk {
                size: planned.disk_len,
                table: match spec.disk.table {
                    PartitionTable::Mbr => "mbr",
                    PartitionTable::None => "none",
                },
                signature: planned
                    .disk_signature
                    .map(|signature| format!("{signature:#010x}")),
            },
            partitions: (1..)
                .zip(&planned.partitions)
                .map(|(number, partition)| Partition::new(number, partition))
                .collect(),
            images,
            warnings: warnings.iter().map(JsonWarning::new).collect(),
        }
    }

    fn text(&self) -> String {
        let signature = self.disk.signature.as_ref();
        let table = signature.map_or_else(
            || "without a partition table".to_owned(),
            |signature| format!("MBR, signature {signature}"),
        );
        let size = ByteCount(self.disk.size);
        let mut tables = vec![
            format!("{}: disk of {size}, {table}\n", self.name),
            self.partition_table(),
        ];
        if self
            .partitions
            .iter()
            .any(|partition| partition.filesystem.is_some())
        {
            tables.push(self.file_system_table());
        }
        tables.push(self.image_table());
        tables.join("\n")
    }

    fn partition_table(&self) -> String {
        let mut table = Table::new(&[
            ("PARTITION", Align::Right),
            ("LABEL", Align::Left),
            ("START LBA", Align::Right),
            ("BYTES", Align::Right),
            ("SIZE", Align::Right),
            ("TYPE", Align::Left),
            ("ACTIVE", Align::Left),
            ("FILE SYSTEM", Align::Left),
            ("BOOT LOADER", Align::Left),
        ]);
        for partition in &self.partitions {
            let kind = partition.filesystem.as_ref().map(|found| found.kind);
            table.row(vec![
                partition.number.to_string(),
                partition.label.clone(),
                partition.start_lba.to_string(),
                partition.size.to_string(),
                ByteCount(partition.size).rounded(),
                partition.type_code.clone(),
                if partition.active { "yes" } else { "no" }.to_owned(),
                kind.unwrap_or("none").to_owned(),
                partition.boot_loader.unwrap_or("none").to_owned(),
            ]);
        }
        table.text()
    }

    fn file_system_table(&self) -> String {
        let mut table = Table::new(&[
            ("PARTITION", Align::Right),
            ("UUID", Align::Left),
            ("FILES", Align::Right),
            ("DIRECTORIES", Align::Right),
            ("SYMLINKS", Align::Right),
            ("SPECIAL", Align::Right),
            ("WITH HOLES", Align::Right),
            ("FREE BYTES", Align::Right),
            ("FREE", Align::Right),
            ("FREE INODES", Align::Right),
            ("JOURNAL", Align::Right),
            ("SLACK", Align::Right),
        ]);
        for partition in &self.partitions {
            let Some(found) = &partition.filesystem else {
                continue;
            };
            let journal = match found.journal_bytes {
                0 => "none".to_owned(),
                bytes => ByteCount(bytes).rounded(),
            };
            let slack = match found.slack_bits {
                0 => "none".to_owned(),
                bits => format!("{bits} bits, {}", ByteCount(found.slack_bytes).rounded()),
            };
            table.row(vec![
                partition.number.to_string(),
                found.uuid.clone(),
                found.files.to_string(),
                found.directories.to_string(),
                found.symlinks.to_string(),
                found.special_files.to_string(),
                found.sparse_files.to_string(),
                found.free_bytes.to_string(),
                ByteCount(found.free_bytes).rounded(),
                found.free_inodes.to_string(),
                journal,
                slack,
            ]);
        }
        table.text()
    }

    fn image_table(&self) -> String {
        let mut table = Table::new(&[
            ("IMAGE", Align::Left),
            ("FORMAT", Align::Left),
            ("BYTES", Align::Right),
            ("SIZE", Align::Right),
            ("ALLOCATED BYTES", Align::Right),
            ("ALLOCATED", Align::Right),
        ]);
        for image in &self.images {
            let manifest = image.manifest.map(|kind| format!("manifest {kind}"));
            let deflate = image.compression.filter(|word| *word == "deflate");
            let format: Vec<&str> = [Some(image.format), image.layout, deflate, image.provider]
                .into_iter()
                .flatten()
                .chain(manifest.as_deref())
                .collect();
            table.row(vec![
                image.name.clone(),
                format.join(", "),
                exact(image.size, image.size_at_most),
                rounded(image.size, image.size_at_most),
                exact(image.allocated_bytes, None),
                rounded(image.allocated_bytes, None),
            ]);
        }
        table.text()
    }
}

impl Partition {
    fn new(number: u32, report: &PartitionReport) -> Self {
        let filesystem = report.filesystem.as_ref().map(|found| FileSystem {
            kind: found.kind,
            uuid: found.uuid.clone(),
            files: found.counts.files,
            directories: found.counts.directories,
            symlinks: found.counts.symlinks,
            special_files: found.counts.special_files,
            sparse_files: found.counts.sparse_files,
            file_bytes: found.counts.file_bytes,
            free_bytes: found.free_bytes,
            inodes: found.inode_count,
            free_inodes: found.free_inodes,
            journal_bytes: found.journal_bytes,
            slack_bits: found.slack_bits,
            slack_bytes: found.slack_bytes,
        });
        Self {
            number,
            label: report.label.clone(),
            start_lba: report.start.0,
            size: report.sectors.saturating_mul(SECTOR_SIZE),
            type_code: format!("{:#04x}", report.type_code),
            active: report.active,
            boot_loader: report.has_boot_loader.then_some("extlinux"),
            filesystem,
        }
    }
}

/// A number of bytes, or its bound, or a question mark.
fn exact(bytes: Option<u64>, at_most: Option<u64>) -> String {
    match (bytes, at_most) {
        (Some(bytes), _) => bytes.to_string(),
        (None, Some(bytes)) => format!("<= {bytes}"),
        (None, None) => "?".to_owned(),
    }
}

fn rounded(bytes: Option<u64>, at_most: Option<u64>) -> String {
    match (bytes, at_most) {
        (Some(bytes), _) => ByteCount(bytes).rounded(),
        (None, Some(bytes)) => format!("<= {}", ByteCount(bytes).rounded()),
        (None, None) => "?".to_owned(),
    }
}

/// All files in the order of the config, those that must be prepared among them.
fn image_reports(specs: &[ImageSpec], planned: &Planned) -> Vec<ImageReport> {
    let generation = &planned.generation;
    let mut reports = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let ready = planned.spec_of_image.iter().zip(&generation.images);
        for (_, image) in ready.filter(|(of, _)| **of == index) {
            let size = Some(image.source.len());
            let allocated = Some(image.data.data_len());
            reports.push(ImageReport::new(spec, &image.name, size, allocated));
        }
        let pending = generation.pending.iter();
        for image in pending.filter(|image| image.spec_index() == index) {
            for (number, name) in image.names().iter().enumerate() {
                let mut report = ImageReport::new(spec, name, None, None);
                // Of a package the bound is that of the disk, which is most of it.
                report.size_at_most = image.len_at_most().filter(|_| number == 0);
                reports.push(report);
            }
        }
    }
    reports
}

impl ImageReport {
    fn new(spec: &ImageSpec, name: &str, size: Option<u64>, allocated: Option<u64>) -> Self {
        let (format, layout, manifest) = described(spec.format);
        Self {
            name: name.to_owned(),
            format,
            layout,
            compression: compression(spec.format),
            manifest,
            provider: provider(spec.format),
            size,
            size_at_most: None,
            allocated_bytes: allocated,
        }
    }
}

/// Format, layout and manifest as they are written in a config.
fn described(format: ImageFormat) -> (&'static str, Option<&'static str>, Option<&'static str>) {
    let manifest = |package: PackageSpec| match package.manifest.map(|spec| spec.algorithm) {
        None => "none",
        Some(DigestAlgorithm::Sha1) => "sha1",
        Some(DigestAlgorithm::Sha256) => "sha256",
        Some(DigestAlgorithm::Sha512) => "sha512",
    };
    match format {
        ImageFormat::Raw { .. } => ("raw", None, None),
        ImageFormat::Vmdk(layout) => {
            let layout = match layout {
                VmdkLayout::MonolithicSparse => "monolithic-sparse",
                VmdkLayout::MonolithicFlat => "monolithic-flat",
                VmdkLayout::StreamOptimized(_) => "stream-optimized",
            };
            ("vmdk", Some(layout), None)
        }
        ImageFormat::Ova(package) => ("ova", None, Some(manifest(package))),
        ImageFormat::Ovf(package) => ("ovf", None, Some(manifest(package))),
        ImageFormat::Vmx { .. } => ("vmx", None, None),
        ImageFormat::Vhd(VhdLayout::Dynamic) => ("vhd", Some("dynamic"), None),
        ImageFormat::Vhd(VhdLayout::Fixed) => ("vhd", Some("fixed"), None),
        ImageFormat::Vhdx => ("vhdx", None, None),
        ImageFormat::Qcow2 => ("qcow2", None, None),
        ImageFormat::Vdi => ("vdi", None, None),
        ImageFormat::Vagrant(_) => ("vagrant", None, None),
    }
}

/// Compression of a streamOptimized disk as it is written in a config.
fn compression(format: ImageFormat) -> Option<&'static str> {
    let stream = match format {
        ImageFormat::Vmdk(VmdkLayout::StreamOptimized(stream)) => stream,
        ImageFormat::Ova(package) | ImageFormat::Ovf(package) => package.stream,
        _ => return None,
    };
    Some(match stream.compression {
        Compression::Stored => "stored",
        Compression::Deflate { .. } => "deflate",
    })
}

/// Provider of a Vagrant box as it is written in a config.
fn provider(format: ImageFormat) -> Option<&'static str> {
    match format {
        ImageFormat::Vagrant(VagrantProvider::VirtualBox) => Some("virtualbox"),
        ImageFormat::Vagrant(VagrantProvider::Libvirt) => Some("libvirt"),
        _ => None,
    }
}

impl Refusal {
    fn new(error: &CliError) -> Self {
        let json = |error: &CliError| JsonError {
            message: error.to_string(),
            causes: error.causes().collect(),
            hint: error.hint().map(str::to_owned),
        };
        Self {
            errors: error.all().map(json).collect(),
            more_errors: error.more(),
        }
    }
}

impl JsonWarning {
    fn new(warning: &Warning) -> Self {
        Self {
            message: warning.message.clone(),
            hint: warning.hint.clone(),
        }
    }
}
