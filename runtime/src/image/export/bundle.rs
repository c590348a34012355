//! The archives that have documents beside the layers: an OCI image layout (image-spec image-layout.md) and what
//! `docker save` writes, which has the same parts under other names.

use std::io::{self, Write};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shim::{Error, Result};

use super::entry::{self, Entry};
use super::tree::{Packed, unwritable};
use super::{ExportFormat, Source, Tree};
use crate::config::Dirs;
use crate::ids::ImageId;
use crate::image::platform::Platform;
use crate::image::store::About;
use crate::image::stream::sha256;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A part of the archive that is known by its content.
struct Blob {
    hex: String,
    size: u64,
}

/// Writes the archive; gives the manifest's digest, where there is one.
pub(super) fn write(
    dirs: &Dirs,
    id: &ImageId,
    source: &Source,
    format: ExportFormat,
    out: &mut impl Write,
) -> Result<(Option<String>, Packed)> {
    let mut packed = Packed::default();
    let mut layers = Vec::new();
    for tree in &source.layers {
        let (blob, of_it) = measure(tree)?;
        packed.members += of_it.members;
        packed.sockets += of_it.sockets;
        layers.push(blob);
    }
    let config = config(dirs, id, source, &layers)?;
    let digest = match format {
        ExportFormat::Docker => {
            docker(id, source, &layers, &config, out)?;
            None
        }
        ExportFormat::Oci | ExportFormat::Rootfs => Some(oci(id, source, &layers, &config, out)?),
    };
    entry::end(&mut *out).map_err(|error| unwritable(&error))?;
    Ok((digest, packed))
}

fn oci(
    id: &ImageId,
    source: &Source,
    layers: &[Blob],
    config: &Value,
    out: &mut impl Write,
) -> Result<String> {
    let text = config.to_string();
    let described = |kind: &str, hex: &str, size: u64| json!({ "mediaType": kind, "digest": format!("sha256:{hex}"), "size": size });
    let described_layers: Vec<_> = layers
        .iter()
        .map(|layer| described(LAYER, &layer.hex, layer.size))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, &sha256(text.as_bytes()), text.len() as u64),
        "layers": described_layers,
    })
    .to_string();
    let hex = sha256(manifest.as_bytes());
    let mut described = described(MANIFEST, &hex, manifest.len() as u64);
    described["annotations"] = json!({ "org.opencontainers.image.ref.name": id.as_str() });
    described["platform"] = json!({ "os": config["os"], "architecture": config["architecture"] });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [described] });
    let blob = |hex: &str| format!("blobs/sha256/{hex}");
    document(out, "oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    document(out, "index.json", &index.to_string())?;
    document(out, &blob(&hex), &manifest)?;
    document(out, &blob(&sha256(text.as_bytes())), &text)?;
    each_once(source, layers, |tree, layer| {
        stored(out, &blob(&layer.hex), tree, layer)
    })?;
    Ok(format!("sha256:{hex}"))
}

fn docker(
    id: &ImageId,
    source: &Source,
    layers: &[Blob],
    config: &Value,
    out: &mut impl Write,
) -> Result<()> {
    let text = config.to_string();
    let name = format!("{}.json", sha256(text.as_bytes()));
    let file = |layer: &Blob| format!("{}.tar", layer.hex);
    let files: Vec<_> = layers.iter().map(file).collect();
    // Only some ids are names for docker, which refuses an archive with others.
    let tags = is_repository(id.as_str()).then(|| vec![format!("{id}:latest")]);
    let manifest = json!([{ "Config": name, "RepoTags": tags, "Layers": files }]);
    document(out, "manifest.json", &manifest.to_string())?;
    document(out, &name, &text)?;
    each_once(source, layers, |tree, layer| {
        stored(out, &file(layer), tree, layer)
    })
}

/// Lower-case letters and digits, with single separators between them.
fn is_repository(id: &str) -> bool {
    id.split(['.', '_', '-']).all(|part| {
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        !part.is_empty() && part.bytes().all(fine)
    })
}

/// Two equal layers are one part of the archive.
fn each_once(
    source: &Source,
    layers: &[Blob],
    mut act: impl FnMut(&Tree, &Blob) -> Result<()>,
) -> Result<()> {
    for (number, (tree, layer)) in source.layers.iter().zip(layers).enumerate() {
        let before = layers.iter().take(number);
        if !before.into_iter().any(|other| other.hex == layer.hex) {
            act(tree, layer)?;
        }
    }
    Ok(())
}

fn document(out: &mut impl Write, path: &str, text: &str) -> Result<()> {
    let length = text.len() as u64;
    Entry::file(path.as_bytes(), length)
        .write(&mut *out)
        .and_then(|()| entry::content(&mut *out, text.as_bytes(), length))
        .map_err(|error| unwritable(&error))
}

/// Writes a layer, which has to be what it was when it was measured.
fn stored(out: &mut impl Write, path: &str, tree: &Tree, layer: &Blob) -> Result<()> {
    let header = Entry::file(path.as_bytes(), layer.size);
    header
        .write(&mut *out)
        .map_err(|error| unwritable(&error))?;
    let mut counted = Counted::new(&mut *out);
    tree.pack(&mut counted)?;
    let found = counted.finish();
    if (&found.hex, found.size) != (&layer.hex, layer.size) {
        return Err(Error::new("export layer")
            .on(path)
            .because("it was changed meanwhile")
            .hint("nobody may write to an image; import it again"));
    }
    entry::pad(out, layer.size).map_err(|error| unwritable(&error))
}

fn measure(tree: &Tree) -> Result<(Blob, Packed)> {
    let mut counted = Counted::new(io::sink());
    let packed = tree.pack(&mut counted)?;
    Ok((counted.finish(), packed))
}

/// Learns what passes through.
struct Counted<W> {
    out: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Counted<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn finish(self) -> Blob {
        let digest = self.hash.finalize();
        Blob {
            hex: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            size: self.size,
        }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The configuration that the image came with, or one that says what its two files say; with the layers as they are
/// written, which are other bytes than those that were imported.
fn config(dirs: &Dirs, id: &ImageId, source: &Source, layers: &[Blob]) -> Result<Value> {
    let record = source.record.as_ref();
    let own = record.and_then(|record| record.config.as_ref());
    let mut config = match own {
        Some(document) => serde_json::from_str(&document.text).map_err(|error| {
            Error::new("read image configuration")
                .on(id)
                .because(error.to_string())
                .hint("import the image again")
        })?,
        None => {
            let platform = record.and_then(|record| record.platform.clone());
            made_of(dirs, id, platform.unwrap_or_else(Platform::host))?
        }
    };
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("sha256:{}", layer.hex))
        .collect();
    config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    if own.is_none() || layers.len() != record.map_or(0, |record| record.layers.len()) {
        // It would speak of other layers.
        if let Some(config) = config.as_object_mut() {
            config.remove("history");
        }
    }
    Ok(config)
}

fn made_of(dirs: &Dirs, id: &ImageId, platform: Platform) -> Result<Value> {
    let about = About::read(&dirs.base, id)?.unwrap_or_default();
    let path = dirs.base.join("images").join(format!("{id}.env"));
    let variables = match std::fs::read_to_string(&path) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io("read", path.display(), &error).hint("check --base")),
    };
    Ok(about.config(&platform, &variables))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_ids_are_names_for_docker() {
        for (id, is) in [
            ("alpine", true),
            ("my-app_2.0", true),
            ("Upper", false),
            ("a..b", false),
            ("a-", false),
            ("a+b", false),
        ] {
            assert_eq!(is_repository(id), is, "{id}");
        }
    }
}
