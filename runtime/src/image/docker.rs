//! Reads what `docker save` writes: `manifest.json`, a configuration, and a tar for each layer.
//!
//! Nothing in it has a stated digest but the layers (in the configuration) and, by its name, the configuration.

use serde::Deserialize;
use shim::{Error, Result};

use super::bundle::Bundle;
use super::chosen::{Documents, Image, Layer, check_platform};
use super::config::Config;
use super::platform::Platform;
use super::record::Document;
use super::source::Reading;
use super::stream::sha256;

/// One image of `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
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
    let tags = |entry: &Entry| entry.repo_tags.clone().unwrap_or_default();
    let fits = |entry: &&Entry| {
        reference.is_none_or(|reference| tags(entry).iter().any(|tag| tag == reference))
    };
    let found: Vec<&Entry> = entries.iter().filter(fits).collect();
    let entry = match (found.as_slice(), reference) {
        ([one], _) => *one,
        ([], Some(reference)) => {
            let error = Error::new("find image")
                .on(reference)
                .because("the archive has no image of that name");
            return Err(error.hint(format!("it has {}", names(entries))));
        }
        _ => {
            let error = Error::new("choose image of")
                .on(bundle.label())
                .because("the archive has several");
            return Err(error.hint(format!("name one with --ref: {}", names(entries))));
        }
    };
    let data = bundle.document(&entry.config)?;
    check_name(&entry.config, &data)?;
    let config = Config::parse(&data, &entry.config)?;
    check_platform(&config, platform, bundle.label())?;
    let layers = entry.layers.clone().unwrap_or_default();
    let layers = layers.into_iter().map(|name| {
        Ok(Layer {
            section: bundle.get(&name)?,
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
        reference: tags(entry).into_iter().next(),
        digest: None,
    })
}

/// The configuration's name is its digest, with one of the decorations that the various writers give it.
fn check_name(name: &str, data: &[u8]) -> Result<()> {
    let base = name.rsplit('/').next().unwrap_or(name);
    let stem = base.strip_suffix(".json").unwrap_or(base);
    let stem = stem.strip_prefix("sha256:").unwrap_or(stem);
    let is_digest = stem.len() == 64
        && stem
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let found = sha256(data);
    if is_digest && found != stem {
        return Err(Error::new("verify image configuration")
            .on(name)
            .because(format!("its content has the digest sha256:{found}"))
            .hint("the archive is damaged or was changed; export it again"));
    }
    Ok(())
}

fn names(entries: &[Entry]) -> String {
    let all = entries
        .iter()
        .map(|entry| match entry.repo_tags.as_deref() {
            Some([first, ..]) => first.clone(),
            _ => "(an image without a name)".into(),
        });
    all.collect::<Vec<_>>().join(", ")
}
