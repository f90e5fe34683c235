//! `[images]`: the files to publish.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;

use super::{Context, Result};
use crate::config::error::ConfigErrorKind;
use crate::config::raw::RawImage;
use crate::config::spec::{
    Compression, DEFLATE_LEVEL_DEFAULT, DEFLATE_LEVEL_MAX, DigestAlgorithm, DirectoryPlace,
    ImageFormat, ImageSpec, ManifestPosition, ManifestSpec, PackageSpec, PartitionSpec, StreamSpec,
    VagrantProvider, VhdLayout, VmdkLayout,
};

/// NAME_MAX of Linux.
const NAME_LEN_MAX: usize = 255;

/// The directory of the mount's own information.
const RESERVED_NAME: &str = ".miragefs";

type RawImages = Spanned<BTreeMap<Spanned<String>, Spanned<RawImage>>>;

/// A format, and how its keys become one.
type Resolver = fn(&RawImage, &Asked<'_>) -> Result<ImageFormat>;

/// All formats by name.
const FORMATS: &[(&str, Resolver)] = &[
    ("raw", raw),
    ("vmdk", vmdk),
    ("ova", ova),
    ("ovf", ovf),
    ("vmx", vmx),
    ("vhd", vhd),
    ("vhdx", |_, _| Ok(ImageFormat::Vhdx)),
    ("qcow2", |_, _| Ok(ImageFormat::Qcow2)),
    ("vdi", |_, _| Ok(ImageFormat::Vdi)),
    ("vagrant", vagrant),
];

/// Where a key was typed, if it was.
type Place = fn(&RawImage) -> Option<Range<usize>>;

/// Keys that only some formats have, and which.
const KEYS: &[(&str, Place, &[&str])] = &[
    ("partition", |raw| span(raw.partition.as_ref()), &["raw"]),
    ("disk", |raw| span(raw.disk.as_ref()), &["vmx"]),
    ("layout", |raw| span(raw.layout.as_ref()), &["vmdk", "vhd"]),
    (
        "grain-directory",
        |raw| span(raw.grain_directory.as_ref()),
        &["vmdk", "ova", "ovf"],
    ),
    (
        "compression",
        |raw| span(raw.compression.as_ref()),
        &["vmdk", "ova", "ovf"],
    ),
    (
        "level",
        |raw| span(raw.level.as_ref()),
        &["vmdk", "ova", "ovf"],
    ),
    (
        "manifest",
        |raw| span(raw.manifest.as_ref()),
        &["ova", "ovf"],
    ),
    (
        "manifest-position",
        |raw| span(raw.manifest_position.as_ref()),
        &["ova"],
    ),
    ("provider", |raw| span(raw.provider.as_ref()), &["vagrant"]),
];

fn span<T>(typed: Option<&Spanned<T>>) -> Option<Range<usize>> {
    typed.map(Spanned::span)
}

/// What resolving one image's table may look at.
struct Asked<'a> {
    context: &'a Context<'a>,
    /// All images in the order of typing, and where the one at hand was typed.
    images: &'a [(Spanned<String>, Spanned<RawImage>)],
    span: Range<usize>,
    partitions: &'a [PartitionSpec],
}

pub(super) fn resolve(
    raw: Option<RawImages>,
    partitions: &[PartitionSpec],
    context: &Context<'_>,
) -> Result<Vec<ImageSpec>> {
    let Some(raw) = raw else {
        return Ok(defaults());
    };
    if raw.get_ref().is_empty() {
        return Err(context.error(&raw.span(), ConfigErrorKind::NoImages));
    }
    // Positions grow with the order of typing, which the map has lost.
    let mut typed: Vec<_> = raw.into_inner().into_iter().collect();
    typed.sort_by_key(|(name, _)| name.span().start);
    typed
        .iter()
        .map(|(name, image)| {
            let asked = Asked {
                context,
                images: &typed,
                span: image.span(),
                partitions,
            };
            Ok(ImageSpec {
                name: image_name(name, context)?,
                format: format(image, &asked)?,
                location: Some(context.locate(&name.span())),
            })
        })
        .collect()
}

fn defaults() -> Vec<ImageSpec> {
    [
        ("disk.img", ImageFormat::Raw { partition: None }),
        ("disk.vmdk", ImageFormat::Vmdk(VmdkLayout::MonolithicSparse)),
        ("boot.ova", ImageFormat::Ova(PackageSpec::DEFAULT)),
    ]
    .into_iter()
    .map(|(name, format)| ImageSpec {
        name: name.to_owned(),
        format,
        location: None,
    })
    .collect()
}

fn image_name(typed: &Spanned<String>, context: &Context<'_>) -> Result<String> {
    let name = context.printable("images", typed)?;
    let rule = if name.contains('/') {
        "the name of an image has no `/`"
    } else if name == "." || name == ".." {
        "that name is the directory's own"
    } else if name == RESERVED_NAME {
        "that name is kept for the mount itself"
    } else if name.len() > NAME_LEN_MAX {
        "the name of an image has at most 255 bytes"
    } else {
        return Ok(name);
    };
    let (key, value) = ("images", name);
    Err(context.error(&typed.span(), ConfigErrorKind::Text { key, value, rule }))
}

fn format(image: &Spanned<RawImage>, asked: &Asked<'_>) -> Result<ImageFormat> {
    let raw = image.get_ref();
    let context = asked.context;
    let Some(typed) = &raw.format else {
        let (key, table) = ("format", "an image");
        return Err(context.error(&image.span(), ConfigErrorKind::MissingKey { key, table }));
    };
    let formats: Vec<_> = FORMATS
        .iter()
        .map(|(name, resolver)| (*name, (*name, *resolver)))
        .collect();
    let (format, resolver) = context
        .choice("format", Some(typed), &formats)?
        .expect("the key is there");
    for (key, place, owners) in KEYS {
        if let (Some(span), false) = (place(raw), owners.contains(&format)) {
            return Err(context.error(
                &span,
                ConfigErrorKind::KeyOfOtherFormat {
                    key,
                    owners,
                    format,
                },
            ));
        }
    }
    resolver(raw, asked)
}

fn raw(raw: &RawImage, asked: &Asked<'_>) -> Result<ImageFormat> {
    let Some(typed) = &raw.partition else {
        return Ok(ImageFormat::Raw { partition: None });
    };
    let label = typed.get_ref();
    let found = asked
        .partitions
        .iter()
        .position(|partition| partition.label == *label);
    if found.is_some() {
        return Ok(ImageFormat::Raw { partition: found });
    }
    let labels = asked.partitions.iter();
    let known = labels.map(|partition| partition.label.clone()).collect();
    let (key, label) = ("partition", label.clone());
    Err(asked.context.error(
        &typed.span(),
        ConfigErrorKind::UnknownPartition { key, label, known },
    ))
}

fn vmdk(raw: &RawImage, asked: &Asked<'_>) -> Result<ImageFormat> {
    #[derive(Clone, Copy, PartialEq)]
    enum Named {
        Sparse,
        Flat,
        Stream,
    }
    let layouts = [
        ("monolithic-sparse", Named::Sparse),
        ("monolithic-flat", Named::Flat),
        ("stream-optimized", Named::Stream),
    ];
    let layout = asked
        .context
        .choice("layout", raw.layout.as_ref(), &layouts)?
        .unwrap_or(Named::Sparse);
    let stream_only = [
        ("grain-directory", span(raw.grain_directory.as_ref())),
        ("compression", span(raw.compression.as_ref())),
        ("level", span(raw.level.as_ref())),
    ];
    for (key, typed) in stream_only {
        if let (Some(typed), true) = (typed, layout != Named::Stream) {
            let needs = "layout = \"stream-optimized\"";
            return Err(asked
                .context
                .error(&typed, ConfigErrorKind::KeyNeeds { key, needs }));
        }
    }
    Ok(ImageFormat::Vmdk(match layout {
        Named::Sparse => VmdkLayout::MonolithicSparse,
        Named::Flat => VmdkLayout::MonolithicFlat,
        Named::Stream => VmdkLayout::StreamOptimized(stream(raw, asked)?),
    }))
}

fn ova(raw: &RawImage, asked: &Asked<'_>) -> Result<ImageFormat> {
    package(raw, asked).map(ImageFormat::Ova)
}

fn ovf(raw: &RawImage, asked: &Asked<'_>) -> Result<ImageFormat> {
    package(raw, asked).map(ImageFormat::Ovf)
}

fn vmx(raw: &RawImage, asked: &Asked<'_>) -> Result<ImageFormat> {
    let text = |typed: &Option<Spanned<String>>, word| {
        typed.as_ref().is_some_and(|typed| typed.get_ref() == word)
    };
    let vmdks: Vec<(usize, &String)> = asked
        .images
        .iter()
        .enumerate()
        .filter(|(_, (_, image))| {
            let image = image.get_ref();
            text(&image.format, "vmdk") && !text(&image.layout, "stream-optimized")
        })
        .map(|(index, (name, _))| (index, name.get_ref()))
        .collect();
    let Some((first, _)) = vmdks.first() else {
        return Err(asked.context.error(&asked.span, ConfigErrorKind::NoVmdk));
    };
    let Some(typed) = &raw.disk else {
        return Ok(ImageFormat::Vmx { disk: *first });
    };
    let found = vmdks.iter().find(|(_, name)| *name == typed.get_ref());
    match found {
        Some((disk, _)) => Ok(ImageFormat::Vmx { disk: *disk }),
        None => Err(asked.context.error(
            &typed.span(),
            ConfigErrorKind::UnknownVmdk {
                name: typed.get_ref().clone(),
                known: vmdks.iter().map(|(_, name)| (*name).clone()).collect(),
            },
        )),
    }
}

fn vhd(raw: &RawImage, asked: &Asked<'_>) -> Result<ImageFormat> {
    let layouts = [("dynamic", VhdLayout::Dynamic), ("fixed", VhdLayout::Fixed)];
    let layout = asked
        .context
        .choice("layout", raw.layout.as_ref(), &layouts)?;
    Ok(ImageFormat::Vhd(layout.unwrap_or(VhdLayout::Dynamic)))
}

fn vagrant(raw: &RawImage, asked: &Asked<'_>) -> Result<ImageFormat> {
    let providers = [
        ("virtualbox", VagrantProvider::VirtualBox),
        ("libvirt", VagrantProvider::Libvirt),
    ];
    let provider = asked
        .context
        .choice("provider", raw.provider.as_ref(), &providers)?
        .unwrap_or(VagrantProvider::VirtualBox);
    Ok(ImageFormat::Vagrant(provider))
}

fn package(raw: &RawImage, asked: &Asked<'_>) -> Result<PackageSpec> {
    Ok(PackageSpec {
        stream: stream(raw, asked)?,
        manifest: manifest(raw, asked)?,
    })
}

fn stream(raw: &RawImage, asked: &Asked<'_>) -> Result<StreamSpec> {
    let context = asked.context;
    let places = [
        ("footer", DirectoryPlace::Footer),
        ("front", DirectoryPlace::Front),
    ];
    let directory = context
        .choice("grain-directory", raw.grain_directory.as_ref(), &places)?
        .unwrap_or(DirectoryPlace::Footer);
    let compressions = [("stored", false), ("deflate", true)];
    let deflate = context
        .choice("compression", raw.compression.as_ref(), &compressions)?
        .unwrap_or(false);
    let compression = match (&raw.level, deflate) {
        (Some(typed), false) => {
            let (key, needs) = ("level", "compression = \"deflate\"");
            return Err(context.error(&typed.span(), ConfigErrorKind::KeyNeeds { key, needs }));
        }
        (Some(typed), true) => {
            let level = context.integer("level", typed, 1, i64::from(DEFLATE_LEVEL_MAX))?;
            Compression::Deflate {
                level: u8::try_from(level).expect("levels fit a byte"),
            }
        }
        (None, true) => Compression::Deflate {
            level: DEFLATE_LEVEL_DEFAULT,
        },
        (None, false) => Compression::Stored,
    };
    Ok(StreamSpec {
        directory,
        compression,
    })
}

fn manifest(raw: &RawImage, asked: &Asked<'_>) -> Result<Option<ManifestSpec>> {
    let context = asked.context;
    let algorithms = [
        ("sha256", Some(DigestAlgorithm::Sha256)),
        ("sha1", Some(DigestAlgorithm::Sha1)),
        ("sha512", Some(DigestAlgorithm::Sha512)),
        ("none", None),
    ];
    let algorithm = context
        .choice("manifest", raw.manifest.as_ref(), &algorithms)?
        .unwrap_or(Some(DigestAlgorithm::Sha256));
    let positions = [
        ("last", ManifestPosition::Last),
        ("second", ManifestPosition::Second),
    ];
    let typed = raw.manifest_position.as_ref();
    let position = context
        .choice("manifest-position", typed, &positions)?
        .unwrap_or(ManifestPosition::Last);
    match (algorithm, typed) {
        (None, Some(typed)) => {
            let (key, needs) = ("manifest-position", "a manifest other than \"none\"");
            Err(context.error(&typed.span(), ConfigErrorKind::KeyNeeds { key, needs }))
        }
        (None, None) => Ok(None),
        (Some(algorithm), _) => Ok(Some(ManifestSpec {
            algorithm,
            position,
        })),
    }
}
