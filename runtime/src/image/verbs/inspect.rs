//! `image inspect`: what is known about an image, as people and as programs read it.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use shim::{Error, Result};

use crate::config::Dirs;
use crate::ids::ImageId;
use crate::image::store::{About, Form, Found, LayerRef};
use crate::image::{Format, Platform};
use crate::json;
use crate::verity::Recorded;

/// What is known about it. Names of fields are stable; new ones may be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Described {
    /// Its name in the store.
    pub id: String,
    /// `layers`, `directory`, `squashfs` or `erofs`.
    pub form: Form,
    /// The machine it is for, where that is known.
    pub platform: Option<Platform>,
    /// What it came as, of one in layers.
    pub format: Option<Format>,
    /// Where it came from.
    pub source: Option<String>,
    /// The name that the source gave it.
    pub reference: Option<String>,
    /// When it was imported: seconds since 1970, UTC.
    pub imported: Option<u64>,
    /// The digest of its manifest.
    pub manifest: Option<String>,
    /// The digest of its configuration.
    pub config: Option<String>,
    /// Of a file that was imported with its fs-verity digest.
    pub verity: Option<Recorded>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerRef>,
    /// Its variables, as they are in `ID.env`.
    pub env: Vec<String>,
    /// What is in `ID.json`.
    #[serde(flatten)]
    pub about: About,
}

/// Reads what is known about image `id`.
///
/// # Errors
/// There is no such image; what is beside it cannot be read.
pub fn inspect(dirs: &Dirs, id: &ImageId) -> Result<Described> {
    let Found { form, record } = Found::of(&dirs.base, id)?;
    let about = About::read(&dirs.base, id)?.unwrap_or_default();
    let path = dirs.base.join("images").join(format!("{id}.env"));
    let env = match std::fs::read(&path) {
        Ok(text) => String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io("read", path.display(), &error).hint("check --base")),
    };
    let record = record.as_ref();
    Ok(Described {
        id: id.to_string(),
        form,
        platform: record.and_then(|record| record.platform.clone()),
        format: record.map(|record| record.format),
        source: record.and_then(|record| record.source.clone()),
        reference: record.and_then(|record| record.reference.clone()),
        imported: record.map(|record| record.imported),
        manifest: record.and_then(|record| Some(record.manifest.as_ref()?.digest.clone())),
        config: record.and_then(|record| Some(record.config.as_ref()?.digest.clone())),
        verity: match form {
            Form::Squashfs | Form::Erofs => Recorded::read(&dirs.base.join("images"), id.as_str())?,
            Form::Directory | Form::Layers => None,
        },
        layers: record.map_or_else(Vec::new, |record| record.layers.clone()),
        env,
        about,
    })
}

impl Described {
    /// For programs.
    ///
    /// # Errors
    /// None that is known.
    pub fn json(&self) -> Result<String> {
        json::pretty(self)
    }

    /// For people: a line for each thing that is known. Control characters of the publisher's are shown as JSON has them.
    ///
    /// # Errors
    /// None that is known.
    pub fn text(&self) -> Result<String> {
        let value = serde_json::to_value(self).map_err(|error| json::failed(&error))?;
        let mut text = String::new();
        for (key, value) in value.as_object().into_iter().flatten() {
            let shown = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::String(plain) if !plain.chars().any(char::is_control) => {
                    plain.clone()
                }
                serde_json::Value::Array(list) if list.is_empty() => continue,
                other => other.to_string(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key}: {shown}");
        }
        Ok(text)
    }
}
