//! Reads what `docker save` writes: `manifest.json`, a configuration, and a tar for each layer.
//!
//! Nothing in it has a stated digest but the layers (in the configuration) and, by its name, the configuration.

use serde::Deserialize;
use shim::{Error, Result};

use super::bundle::Bundle;
use super::chosen::{Documents, Image, Layer, check_platform};
use super::config::Config;
use super::recognise::Reading;
use crate::image::platform::Platform;
use crate::image::store::Document;
use crate::image::stream::sha256;

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::image) struct Entry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of a docker-archive; nothing where there is no `manifest.json` or it is another program's.
pub(super) fn manifest(bundle: &Bundle) -> Result<Option<Vec<Entry>>> {
    if bundle.find("manifest.json")?.is_none() {
        return Ok(None);
    }
    let entries: Option<Vec<Entry>> =
        serde_json::from_slice(&bundle.document("manifest.json")?).ok();
    Ok(entries.filter(|entries| !entries.is_empty()))
}

/// Chooses the image that `reference` names, or the only one.
pub(super) fn select(
    bundle: &Bundle,
    entries: &[Entry],
    reference: Option<&str>,
    platform: &Platform,
    reading: &Reading,
) -> Result<Image> {
    let fits = |entry: &&Entry| {
        reference.is_none_or(|reference| names_of(entry).iter().any(|name| name == reference))
    };
    let found: Vec<&Entry> = entries.iter().filter(fits).collect();
    let entry = match (found.as_slice(), reference) {
        ([one], _) => *one,
        ([], Some(reference)) => {
            let error = Error::new("find image")
                .on(reference)
                .because("the archive has no image of that name");
            return Err(error.hint(format!("it has {}", summary(entries))));
        }
        _ => {
            let error = Error::new("choose image of")
                .on(bundle.label())
                .because("the archive has several");
            let hint = format!("name one with --ref, or take --all: {}", summary(entries));
            return Err(error.hint(hint));
        }
    };
    let data = bundle.document(&entry.config)?;
    check_name(&entry.config, &data)?;
    let config = Config::parse(&data, &entry.config)?;
    check_platform(&config, platform, bundle.label())?;
    let layers = entry.layers.clone().unwrap_or_default();
    let layers = layers.into_iter().map(|name| {
        Ok(Layer {
            section: Some(bundle.get(&name)?),
            digest: None,
            label: name,
            reading: reading.clone(),
        })
    });
    let config_digest = format!("sha256:{}", sha256(&data));
    Ok(Image {
        layers: layers.collect::<Result<_>>()?,
        config,
        documents: Documents {
            manifest: None,
            config: Document::new(&config_digest, data),
        },
        // The one that was asked for, where it is a name.
        reference: {
            let tags = || entry.repo_tags.iter().flatten();
            let asked = tags().find(|tag| Some(tag.as_str()) == reference);
            asked.or_else(|| tags().next()).cloned()
        },
        digest: None,
    })
}

/// Every name of every image, and the digest of one that has no name.
pub(super) fn names(entries: &[Entry]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries {
        let own = names_of(entry);
        let tags = entry.repo_tags.as_ref().map_or(0, Vec::len);
        if own.is_empty() {
            return Err(Error::new("name image of archive")
                .on(&entry.config)
                .because("it has neither a name nor a digest")
                .hint("export it again with docker save NAME"));
        }
        names.extend(own.into_iter().take(tags.max(1)));
    }
    Ok(names)
}

/// The tags of an image, and the digest of its configuration.
fn names_of(entry: &Entry) -> Vec<String> {
    let digest = digest_in(&entry.config).map(|hex| format!("sha256:{hex}"));
    entry
        .repo_tags
        .iter()
        .flatten()
        .cloned()
        .chain(digest)
        .collect()
}

fn summary(entries: &[Entry]) -> String {
    let first = |entry: &Entry| names_of(entry).into_iter().next();
    let all = entries
        .iter()
        .map(|entry| first(entry).unwrap_or_else(|| "(an image without a name)".into()));
    all.collect::<Vec<_>>().join(", ")
}

/// The configuration's name is its digest, with one of the decorations that the various writers give it.
fn digest_in(name: &str) -> Option<&str> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let stem = base.strip_suffix(".json").unwrap_or(base);
    let stem = stem.strip_prefix("sha256:").unwrap_or(stem);
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (stem.len() == 64 && stem.bytes().all(digit)).then_some(stem)
}

fn check_name(name: &str, data: &[u8]) -> Result<()> {
    let found = sha256(data);
    if digest_in(name).is_some_and(|said| said != found) {
        return Err(Error::new("verify image configuration")
            .on(name)
            .because(format!("its content has the digest sha256:{found}"))
            .hint("the archive is damaged or was changed; export it again"));
    }
    Ok(())
}
