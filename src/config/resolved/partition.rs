//! `[[partition]]`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Inline, Text, octal, path_text, quoted, quoted_array};
use crate::config::spec::{
    CopySpec, DeviceKind, Ext4Spec, FeatureSet, Filesystem, IdMap, InlineFile, Journal, Owner,
    PartitionSize, PartitionTable, Piece, Sparse, Spec,
};

pub(super) fn write(text: &mut Text, spec: &Spec, index: usize) {
    let Some(partition) = spec.partitions.get(index) else {
        return;
    };
    text.heading("[[partition]]");
    text.line("label", &quoted(&partition.label));
    if let Some(start) = partition.start {
        text.line("start", &quoted(&format!("{}s", start.0)));
    }
    match partition.size {
        PartitionSize::Fixed(bytes) => text.line("size", &bytes),
        PartitionSize::Rest => text.line("size", &quoted("rest")),
        PartitionSize::Auto => text.line("size", &quoted("auto")),
    }
    text.optional("free", partition.free.as_ref());
    if spec.disk.table == PartitionTable::Mbr {
        text.line("active", &partition.active);
        let code = format!("{:#04x}", partition.type_code);
        text.line("type", &quoted(&code));
    }
    let filesystem = match &partition.filesystem {
        Filesystem::None => "none",
        Filesystem::Ext4(_) => "ext4",
        Filesystem::Swap => "swap",
    };
    text.line("filesystem", &quoted(filesystem));
    if let Some(directory) = &partition.bootloader_directory {
        text.line("bootloader", &quoted("extlinux"));
        text.line("bootloader-directory", &quoted(&directory.to_string()));
    }
    let copies: Vec<String> = partition.copies.iter().map(copy).collect();
    text.array("copy", &copies);
    let directories = partition.directories.iter().map(|one| {
        let path = quoted(&one.path.to_string());
        let directory = Inline::default().with("path", path);
        let directory = directory.with("mode", octal(one.mode));
        directory.with("owner", owner(one.owner)).text()
    });
    text.array("mkdir", &directories.collect::<Vec<_>>());
    let files = partition.files.iter().map(|one| file(one, spec));
    text.array("files", &files.collect::<Vec<_>>());
    let symlinks = partition.symlinks.iter().map(|one| {
        let path = quoted(&one.path.to_string());
        let symlink = Inline::default().with("path", path);
        let symlink = symlink.with("target", quoted(&one.target));
        symlink.with("owner", owner(one.owner)).text()
    });
    text.array("symlink", &symlinks.collect::<Vec<_>>());
    let devices = partition.devices.iter().map(|one| {
        let (kind, numbers) = match one.kind {
            DeviceKind::Character { major, minor } => ("char", Some((major, minor))),
            DeviceKind::Block { major, minor } => ("block", Some((major, minor))),
            DeviceKind::Fifo => ("fifo", None),
            DeviceKind::Socket => ("socket", None),
        };
        Inline::default()
            .with("path", quoted(&one.path.to_string()))
            .with("type", quoted(kind))
            .with_optional("major", numbers.map(|(major, _)| major))
            .with_optional("minor", numbers.map(|(_, minor)| minor))
            .with("mode", octal(one.mode))
            .with("owner", owner(one.owner))
            .text()
    });
    text.array("device", &devices.collect::<Vec<_>>());
    if let Filesystem::Ext4(ext4) = &partition.filesystem {
        write_ext4(text, ext4);
    }
}

fn write_ext4(text: &mut Text, ext4: &Ext4Spec) {
    text.heading("[partition.ext4]");
    let features = match ext4.features {
        FeatureSet::Std => "std",
        FeatureSet::Modern => "modern",
        FeatureSet::Compat => "compat",
    };
    text.line("features", &quoted(features));
    text.optional("label", ext4.label.as_deref().map(quoted).as_ref());
    let uuid = ext4.uuid.map(|uuid| quoted(&uuid.to_string()));
    text.optional("uuid", uuid.as_ref());
    match ext4.journal {
        Journal::None => text.line("journal", &false),
        Journal::Default => text.line("journal", &true),
        Journal::Size(bytes) => text.line("journal", &bytes),
    }
    text.line("block-size", &ext4.block_size);
    text.line("inode-size", &ext4.inode_size);
    text.optional("reserved-percent", ext4.reserved_percent.as_ref());
    match ext4.inodes {
        Some(inodes) => text.line("inodes", &inodes),
        None => text.line("inodes", &quoted("auto")),
    }
    text.line("slack-bits", &ext4.slack_bits);
}

fn copy(copy: &CopySpec) -> String {
    let to = copy.to.to_string();
    // A file keeps its name below a directory.
    let slash = if copy.to_is_directory && !to.ends_with('/') {
        "/"
    } else {
        ""
    };
    let sparse = match copy.sparse {
        Sparse::Auto => "auto",
        Sparse::Never => "never",
    };
    let mut entry = Inline::default()
        .with("from", path_text(&copy.from))
        .with("to", quoted(&format!("{to}{slash}")))
        .with_optional("owner", copy.owner.map(owner))
        .with_optional("owners", copy.owners.as_deref().map(path_text))
        .with_optional("uid-map", copy.uid_map.as_ref().map(id_map))
        .with_optional("gid-map", copy.gid_map.as_ref().map(id_map))
        .with_optional("mode", copy.mode.map(octal));
    for (key, texts) in [
        ("exclude", &copy.exclude),
        ("include", &copy.include),
        ("xattrs", &copy.xattrs),
    ] {
        if !texts.is_empty() {
            entry = entry.with(key, quoted_array(texts));
        }
    }
    entry
        .with("cross-mounts", copy.cross_mounts)
        .with("sparse", quoted(sparse))
        .text()
}

fn id_map(map: &IdMap) -> String {
    match map {
        IdMap::AllRoot => quoted("all-root"),
        IdMap::Ranges(ranges) => {
            let ranges = ranges.iter();
            let texts: Vec<String> = ranges
                .map(|range| format!("{}:{}:{}", range.host, range.image, range.count))
                .collect();
            quoted_array(&texts)
        }
    }
}

fn owner(owner: Owner) -> String {
    quoted(&format!("{}:{}", owner.uid, owner.gid))
}

/// A file of the config: as text if it is one, with what only the plan knows still by name.
fn file(file: &InlineFile, spec: &Spec) -> String {
    let entry = Inline::default().with("path", quoted(&file.path.to_string()));
    let entry = match contents_text(&file.contents, spec) {
        Some(text) => entry.with("text", quoted(&text)),
        None => {
            let bytes: Vec<u8> = file.contents.iter().flat_map(bytes_of).copied().collect();
            entry.with("base64", quoted(&STANDARD.encode(bytes)))
        }
    };
    entry
        .with("mode", octal(file.mode))
        .with("owner", owner(file.owner))
        .text()
}

fn bytes_of(piece: &Piece) -> &[u8] {
    match piece {
        Piece::Bytes(bytes) => bytes,
        Piece::Uuid(_) | Piece::Label(_) | Piece::PartitionUuid(_) => &[],
    }
}

fn contents_text(contents: &[Piece], spec: &Spec) -> Option<String> {
    let label = |index: &usize| Some(&spec.partitions.get(*index)?.label);
    let mut text = String::new();
    for piece in contents {
        match piece {
            Piece::Bytes(bytes) => {
                let typed = std::str::from_utf8(bytes).ok()?;
                text.push_str(&typed.replace("{{", "{{{{"));
            }
            Piece::Uuid(index) => {
                text.push_str(&format!("{{{{partition.{}.uuid}}}}", label(index)?));
            }
            Piece::Label(index) => {
                text.push_str(&format!("{{{{partition.{}.label}}}}", label(index)?));
            }
            Piece::PartitionUuid(index) => {
                text.push_str(&format!("{{{{partition.{}.partuuid}}}}", label(index)?));
            }
        }
    }
    Some(text)
}
