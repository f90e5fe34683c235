//! `[images]`: the files to publish.

use std::collections::BTreeMap;

use toml::Spanned;

use super::{Context, Result};
use crate::config::error::ConfigErrorKind;
use crate::config::raw::RawImage;
use crate::config::spec::{ImageFormat, ImageSpec, Manifest, VmdkLayout};

/// NAME_MAX of Linux.
const NAME_LEN_MAX: usize = 255;

/// The directory of the mount's own information.
const RESERVED_NAME: &str = ".miragefs";

type RawImages = Spanned<BTreeMap<Spanned<String>, Spanned<RawImage>>>;

pub(super) fn resolve(raw: Option<RawImages>, context: &Context<'_>) -> Result<Vec<ImageSpec>> {
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
            Ok(ImageSpec {
                name: image_name(name, context)?,
                format: format(image, context)?,
                location: Some(context.locate(&name.span())),
            })
        })
        .collect()
}

fn defaults() -> Vec<ImageSpec> {
    [
        ("disk.img", ImageFormat::Raw),
        ("disk.vmdk", ImageFormat::Vmdk(VmdkLayout::MonolithicSparse)),
        (
            "boot.ova",
            ImageFormat::Ova {
                manifest: Manifest::Sha256,
            },
        ),
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

fn format(image: &Spanned<RawImage>, context: &Context<'_>) -> Result<ImageFormat> {
    let raw = image.get_ref();
    let Some(typed) = &raw.format else {
        let (key, table) = ("format", "an image");
        return Err(context.error(&image.span(), ConfigErrorKind::MissingKey { key, table }));
    };
    let formats = [("raw", "raw"), ("vmdk", "vmdk"), ("ova", "ova")];
    let format = context
        .choice("format", Some(typed), &formats, &[])?
        .unwrap_or("raw");
    for (key, value, owner) in [
        ("layout", &raw.layout, "vmdk"),
        ("compression", &raw.compression, "ova"),
        ("manifest", &raw.manifest, "ova"),
    ] {
        if let (Some(value), true) = (value, owner != format) {
            return Err(context.error(
                &value.span(),
                ConfigErrorKind::KeyOfOtherFormat { key, owner, format },
            ));
        }
    }
    let layouts = [
        ("monolithic-sparse", VmdkLayout::MonolithicSparse),
        ("stream-optimized", VmdkLayout::StreamOptimized),
    ];
    let manifests = [("sha256", Manifest::Sha256), ("none", Manifest::None)];
    match format {
        "vmdk" => Ok(ImageFormat::Vmdk(
            context
                .choice(
                    "layout",
                    raw.layout.as_ref(),
                    &layouts,
                    &["monolithic-flat"],
                )?
                .unwrap_or(VmdkLayout::MonolithicSparse),
        )),
        "ova" => {
            let stored = [("stored", ())];
            context.choice(
                "compression",
                raw.compression.as_ref(),
                &stored,
                &["deflate"],
            )?;
            let manifest = context
                .choice(
                    "manifest",
                    raw.manifest.as_ref(),
                    &manifests,
                    &["sha1", "sha512"],
                )?
                .unwrap_or(Manifest::Sha256);
            Ok(ImageFormat::Ova { manifest })
        }
        _ => Ok(ImageFormat::Raw),
    }
}
