//! Reads an OCI image layout: index, manifests, configuration, layers (image-spec image-layout.md, manifest.md).
//!
//! Nothing is used before its digest and size are verified, except layers, which are verified while they are unpacked.

use std::collections::HashSet;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use serde::de::DeserializeOwned;
use shim::{Error, Result};

use super::chosen::{Documents, Image, Layer, check_platform, expect};
use super::config::Config;
use super::pieces::Pieces;
use super::recognise::Reading;
use crate::image::platform::Platform;
use crate::image::store::Document;
use crate::image::stream::{Section, sha256};

/// How deep an index may nest in an index; images have one level.
const DEPTH_MAX: usize = 4;
/// How many manifests an archive may offer.
const MANIFESTS_MAX: usize = 4096;

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIG_TYPES: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];
const LAYER_TYPES: [&str; 10] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];
/// Annotations that name an image: the specification's, and the full name that containerd and docker write.
const NAMES: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

/// A manifest that the archive offers, and the names that the entries leading to it have.
struct Offer {
    descriptor: Descriptor,
    names: Vec<String>,
}

/// Chooses the image that `reference` names and that is for `platform`.
pub(in crate::image) fn select(
    pieces: &Pieces<'_>,
    reference: Option<&str>,
    platform: &Platform,
    reading: &Reading,
) -> Result<Image> {
    let offer = choose(pieces, offers(pieces)?, reference, platform)?;
    known_type("image", &offer.descriptor, &MANIFEST_TYPES)?;
    let label = offer.descriptor.digest().to_string();
    let manifest_text = verified(pieces, &offer.descriptor)?;
    let manifest: ImageManifest = parse(&manifest_text, &label)?;
    known_type("image configuration", manifest.config(), &CONFIG_TYPES)?;
    let config_label = manifest.config().digest().to_string();
    let config_text = verified(pieces, manifest.config())?;
    let config = Config::parse(&config_text, &config_label)?;
    check_platform(&config, platform, pieces.label())?;
    for descriptor in manifest.layers() {
        known_type("layer", descriptor, &LAYER_TYPES)?;
    }
    let sections = pieces.layers(manifest.layers(), &config.rootfs.diff_ids)?;
    let layer = |(section, descriptor): (Option<Section>, &Descriptor)| {
        let digest = descriptor.digest().to_string();
        Layer {
            section,
            label: digest.clone(),
            digest: Some(digest),
            reading: reading.clone(),
        }
    };
    let layers = sections.into_iter().zip(manifest.layers()).map(layer);
    Ok(Image {
        layers: layers.collect(),
        config,
        documents: Documents {
            manifest: Document::new(&label, manifest_text),
            config: Document::new(&config_label, config_text),
        },
        reference: offer.names.into_iter().find(|name| *name != label),
        digest: Some(label),
    })
}

/// The names of the images that are for `platform`, and the digest of one that has no name.
pub(super) fn names(pieces: &Pieces<'_>, platform: &Platform) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for offer in offers(pieces)?
        .into_iter()
        .filter(|offer| offer.fits(platform))
    {
        let digest = offer.descriptor.digest().to_string();
        let name = offer
            .names
            .into_iter()
            .find(|name| !name.starts_with("sha256:"));
        names.push(name.unwrap_or(digest));
    }
    Ok(names)
}

/// Everything that the source offers.
fn offers(pieces: &Pieces<'_>) -> Result<Vec<Offer>> {
    let mut offers = Vec::new();
    collect(pieces, &pieces.tops()?, &[], DEPTH_MAX, &mut offers)?;
    Ok(offers)
}

impl Offer {
    /// Whether it is for `platform`, as far as the index says.
    fn fits(&self, platform: &Platform) -> bool {
        self.descriptor.platform().as_ref().is_none_or(|said| {
            platform.accepts(
                &said.os().to_string(),
                &said.architecture().to_string(),
                said.variant().as_deref(),
            )
        })
    }
}

/// Lists the manifests that these descriptors and the indexes among them lead to.
fn collect(
    pieces: &Pieces<'_>,
    descriptors: &[Descriptor],
    names: &[String],
    depth: usize,
    offers: &mut Vec<Offer>,
) -> Result<()> {
    for descriptor in descriptors {
        let annotation = |key| {
            descriptor
                .annotations()
                .as_ref()
                .and_then(|all| all.get(key))
                .cloned()
        };
        let mut names = names.to_vec();
        names.extend(NAMES.iter().filter_map(|key| annotation(*key)));
        names.push(descriptor.digest().to_string());
        // Signatures and provenance that build tools add; no image.
        if annotation("vnd.docker.reference.type").is_some() {
            continue;
        }
        let media_type = descriptor.media_type().to_string();
        if INDEX_TYPES.contains(&media_type.as_str()) {
            let label = descriptor.digest().to_string();
            if depth == 0 {
                return Err(Error::new("read image index")
                    .on(label)
                    .because("indexes nest too deep")
                    .hint("export one image alone"));
            }
            let nested: ImageIndex = parse(&verified(pieces, descriptor)?, &label)?;
            collect(pieces, nested.manifests(), &names, depth - 1, offers)?;
        } else {
            offers.push(Offer {
                descriptor: descriptor.clone(),
                names,
            });
        }
        if offers.len() > MANIFESTS_MAX {
            return Err(Error::new("read image index")
                .on(pieces.label())
                .because("it offers too many images")
                .hint("export one image alone"));
        }
    }
    Ok(())
}

fn choose(
    pieces: &Pieces<'_>,
    offers: Vec<Offer>,
    reference: Option<&str>,
    platform: &Platform,
) -> Result<Offer> {
    let all = summary(&offers);
    let named = |offer: &Offer| {
        reference.is_none_or(|reference| offer.names.iter().any(|name| name == reference))
    };
    let fits = |offer: &Offer| offer.fits(platform);
    let of_that_name: Vec<Offer> = offers.into_iter().filter(named).collect();
    if of_that_name.is_empty() {
        let error = match reference {
            Some(reference) => Error::new("find image")
                .on(reference)
                .because("the archive has no image of that name"),
            None => Error::new("find image")
                .on(pieces.label())
                .because("the archive has no image"),
        };
        return Err(error.hint(format!("it has {all}")));
    }
    // The same image under several names is one choice.
    let mut seen = HashSet::new();
    let first = |offer: &Offer| seen.insert(offer.descriptor.digest().to_string());
    let mut fitting: Vec<Offer> = of_that_name
        .into_iter()
        .filter(fits)
        .filter(first)
        .collect();
    match (fitting.pop(), fitting.as_slice()) {
        (Some(one), []) => Ok(one),
        (None, _) => Err(Error::new("find image")
            .on(pieces.label())
            .because(format!("none is for {platform}"))
            .hint(format!("it has {all}"))),
        (Some(_), _) => Err(Error::new("choose image of")
            .on(pieces.label())
            .because(format!("several are for {platform}"))
            .hint(format!("{}: {all}", pieces.how_to_choose()))),
    }
}

fn summary(offers: &[Offer]) -> String {
    const SHOWN: usize = 20;
    let one = |offer: &Offer| {
        let name = offer.names.first().map_or("", String::as_str);
        match offer.descriptor.platform() {
            Some(platform) => format!("{name} ({}/{})", platform.os(), platform.architecture()),
            None => name.to_owned(),
        }
    };
    let mut list: Vec<String> = offers.iter().take(SHOWN).map(one).collect();
    if offers.len() > SHOWN {
        list.push(format!("{} more", offers.len() - SHOWN));
    }
    if list.is_empty() {
        "none".into()
    } else {
        list.join(", ")
    }
}

/// The content of a blob that is no layer, once its size and digest are known to be right.
fn verified(pieces: &Pieces<'_>, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let data = pieces.document(descriptor)?;
    let digest = descriptor.digest().to_string();
    expect("verify blob", &digest, &digest, &sha256(&data))?;
    Ok(data)
}

/// Fails unless a blob has as many bytes as was said.
pub(super) fn check_size(descriptor: &Descriptor, size: u64) -> Result<()> {
    if size == descriptor.size() {
        return Ok(());
    }
    Err(Error::new("verify blob")
        .on(descriptor.digest())
        .because(format!(
            "it should have {} bytes and has {size}",
            descriptor.size()
        ))
        .hint("the image is truncated or damaged; fetch or export it again"))
}

/// A digest's hexadecimal digits. They become part of paths, so they are taken only in their one canonical form.
pub(super) fn hex_of(descriptor: &Descriptor) -> Result<String> {
    let digest = descriptor.digest().to_string();
    let hex = digest.strip_prefix("sha256:").unwrap_or("");
    if hex.len() != 64
        || !hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        let error = Error::new("find blob")
            .on(&digest)
            .because("the digest is no sha256 in lower-case hex");
        return Err(
            error.hint("other algorithms are not supported; export the image again with sha256")
        );
    }
    Ok(hex.to_owned())
}

fn known_type(what: &str, descriptor: &Descriptor, known: &[&str]) -> Result<()> {
    let media_type = descriptor.media_type().to_string();
    if known.contains(&media_type.as_str()) {
        return Ok(());
    }
    Err(Error::new(format!("read {what}"))
        .on(descriptor.digest())
        .because(format!("its media type is {media_type}"))
        .hint("this is no container image, or one that is encrypted or older than the OCI format"))
}

/// Reads a JSON document.
pub(super) fn parse<T: DeserializeOwned>(data: &[u8], label: &str) -> Result<T> {
    serde_json::from_slice(data).map_err(|error| {
        Error::new("read image document")
            .on(label)
            .because(error.to_string())
            .hint("the image is damaged; fetch or export it again")
    })
}
