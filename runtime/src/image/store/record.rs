//! The record of an image, `BASE/images/ID.image`: which layers it stands on, and what its publisher said about it.
//!
//! Its appearing is what makes a layered image, so it is written last. Manifest and configuration are kept byte for byte:
//! whatever else is asked of an image is in them, and their digests still hold.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use shim::{Error, Result};

use super::layers::{Info, LayerKey};
use crate::image::Format;
use crate::image::platform::Platform;
use crate::regular::Source;

/// The version that this program writes.
pub const VERSION: u32 = 1;
/// The most that a record may take, in bytes: two documents of 4 MiB each, escaped, and the layers.
const LIMIT: u64 = 64 << 20;

/// What is known about a layered image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of this format: [`VERSION`].
    pub version: u32,
    /// The data directory whose `layers` has the layers.
    pub data: PathBuf,
    /// The layers, lowest first; never empty.
    pub layers: Vec<LayerRef>,
    /// What overlay has to merge, lowest first: the layers without those that are hidden or come again further up, which it
    /// refuses to merge twice.
    pub stack: Vec<LayerKey>,
    /// The layer whose root directory has owner, mode, time and attributes of the image's; overlay takes those of the
    /// topmost, which may not list it.
    pub root: LayerKey,
    /// The machine it is for, where it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What it came as.
    pub format: Format,
    /// Where it came from: the path or the name that was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The name that the source gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// When it was imported: seconds since 1970, UTC.
    pub imported: u64,
    /// Its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Document>,
    /// Its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Document>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// The digest of the uncompressed layer, `sha256:` and hex.
    pub diff_id: String,
    /// Its directory in `DATA/layers`.
    pub key: LayerKey,
    /// How many bytes of file data are in it.
    pub size: u64,
}

/// A JSON document as it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// `sha256:` and hex of the text.
    pub digest: String,
    /// The text itself.
    pub text: String,
}

impl Document {
    /// A document whose digest is known; nothing if it is no text, which no program of today writes.
    pub(in crate::image) fn new(digest: &str, text: Vec<u8>) -> Option<Self> {
        Some(Self {
            digest: digest.to_owned(),
            text: String::from_utf8(text).ok()?,
        })
    }
}

/// The file name of the record of image `id`.
#[must_use]
pub fn file_name(id: &str) -> String {
    format!("{id}.image")
}

impl Record {
    /// The record of image `id` below `base`; nothing where there is none.
    ///
    /// # Errors
    /// A record that cannot be read, is damaged, or was written by a newer version.
    pub fn read(base: &Path, id: &str) -> Result<Option<Self>> {
        let path = base.join("images").join(file_name(id));
        let source = Source {
            op: "read record of image",
            name: &path,
            limit: LIMIT,
        };
        let seen = match source.look() {
            Ok(seen) => seen,
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(None),
            Err(errno) => {
                return Err(source.error().errno(errno).hint("needs root; check --base"));
            }
        };
        let text = source.read(source.open(&seen)?)?;
        Self::parse(&text).map(Some).map_err(|why| {
            let hint = format!(
                "import the image again: start-container image import SOURCE --replace --id {id}"
            );
            source.error().because(why).hint(hint)
        })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged = |error: serde_json::Error| format!("it is damaged: {error}");
        let found: Version = serde_json::from_slice(text).map_err(damaged)?;
        if found.version != VERSION {
            return Err(format!(
                "its format has version {}, and this start-container knows {VERSION}",
                found.version
            ));
        }
        let record: Self = serde_json::from_slice(text).map_err(damaged)?;
        if record.layers.is_empty() || record.stack.is_empty() {
            return Err("it is damaged: it names no layers".into());
        }
        if let Some(layer) = record
            .layers
            .iter()
            .find(|layer| layer.key.diff_id() != layer.diff_id)
        {
            return Err(format!(
                "it is damaged: {} is not the key of {}",
                layer.key, layer.diff_id
            ));
        }
        let known = |key: &LayerKey| record.keys().any(|layer| layer == key);
        if let Some(key) = record
            .stack
            .iter()
            .chain([&record.root])
            .find(|key| !known(key))
        {
            return Err(format!("it is damaged: it does not stand on {key}"));
        }
        Ok(record)
    }

    /// The record's text.
    ///
    /// # Errors
    /// A data directory whose name is not UTF-8.
    pub fn text(&self) -> Result<String> {
        let text = serde_json::to_string(self).map_err(|error| {
            Error::new("write record of image")
                .on(self.data.display())
                .because(error.to_string())
                .hint("the data directory of a layered image needs a name in UTF-8; use --flat, or another --data")
        })?;
        Ok(text + "\n")
    }

    /// The keys of all layers that it stands on, lowest first.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &LayerKey> {
        self.layers.iter().map(|layer| &layer.key)
    }

    /// The record of an image that stands on these layers, lowest first, below `data`.
    pub(in crate::image) fn new(
        data: &Path,
        format: Format,
        layers: &[(LayerKey, Info)],
    ) -> Result<Self> {
        let listing = layers.iter().rev().find(|(_, info)| info.lists_root);
        let Some((root, _)) = listing.or(layers.last()) else {
            return Err(Error::new("write record of image")
                .because("it has no layers")
                .hint("this is a fault of start-container"));
        };
        let mut stack: Vec<LayerKey> = Vec::new();
        for (key, info) in layers {
            if info.opaque_root {
                stack.clear();
            }
            // What the same layer brings again hides all that it brought before.
            stack.retain(|below| below != key);
            stack.push(key.clone());
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let layer = |(key, info): &(LayerKey, Info)| LayerRef {
            diff_id: info.diff_id.clone(),
            key: key.clone(),
            size: info.size,
        };
        Ok(Self {
            version: VERSION,
            data: data.to_owned(),
            layers: layers.iter().map(layer).collect(),
            stack,
            root: root.clone(),
            platform: None,
            format,
            source: None,
            reference: None,
            imported: since.map_or(0, |duration| duration.as_secs()),
            manifest: None,
            config: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Rights;
    use crate::image::layers::Basis;

    fn record() -> Record {
        let diff_id = format!("sha256:{}", "a".repeat(64));
        let key = LayerKey::new(&diff_id, Basis::Alone, Rights::Root).unwrap();
        Record {
            version: VERSION,
            data: "/data".into(),
            stack: vec![key.clone()],
            root: key.clone(),
            layers: vec![LayerRef {
                diff_id,
                key,
                size: 3,
            }],
            platform: Some(Platform::host()),
            format: Format::Oci,
            source: None,
            reference: Some("x:1".into()),
            imported: 1,
            manifest: None,
            config: Some(Document {
                digest: "sha256:00".into(),
                text: "{\"a\": \"\\n\"}".into(),
            }),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let record = record();
        assert_eq!(Record::parse(record.text().unwrap().as_bytes()), Ok(record));
    }

    #[test]
    fn damage_is_named() {
        let text = record().text().unwrap();
        for (from, to, why) in [
            ("{", "", "damaged"),
            ("\"version\":1", "\"version\":2", "version 2"),
            ("\"version\":1", "\"edition\":1", "missing field `version`"),
            ("\"key\":\"aa", "\"key\":\"ba", "is not the key of"),
            ("\"key\":\"aa", "\"key\":\"../", "read key"),
            ("\"layers\":[{", "\"layers\":[],\"x\":[{", "names no layers"),
            ("\"root\":\"aa", "\"root\":\"ba", "does not stand on"),
        ] {
            let error = Record::parse(text.replacen(from, to, 1).as_bytes()).unwrap_err();
            assert!(error.contains(why), "{to}: {error}");
        }
    }

    #[test]
    fn no_record_is_no_failure_and_a_bad_one_is() {
        let base = std::env::temp_dir().join(format!("record-{}", std::process::id()));
        assert_eq!(Record::read(&base, "x"), Ok(None));
        let images = base.join("images");
        std::fs::create_dir_all(&images).unwrap();
        std::fs::write(images.join("x.image"), record().text().unwrap()).unwrap();
        std::fs::write(images.join("y.image"), "{").unwrap();
        std::fs::create_dir(images.join("z.image")).unwrap();
        let read = |id| Record::read(&base, id);
        assert_eq!(read("x"), Ok(Some(record())));
        for id in ["y", "z"] {
            let error = read(id).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 2, "{error}");
            assert!(error.contains(&format!("{id}.image")), "{error}");
        }
        std::fs::remove_dir_all(&base).unwrap();
    }
}
