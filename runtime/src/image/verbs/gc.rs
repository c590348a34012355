//! `image gc`: removes the layers that nothing stands on, and what killed imports and pulls have left, beside the images too.
//!
//! A layer is needed by the record of an image in any base directory that the data directory knows, and by a root filesystem
//! that was made of it. Where it cannot be seen what is needed, no layer is removed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use shim::{Error, Result};

use crate::image::store::layers::{LayerKey, Layers, bases, forget_base};
use crate::image::store::parts::Parts;
use crate::image::store::{Record, Store};

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// The layers that are gone.
    pub removed: Vec<LayerKey>,
    /// How many bytes of file data were in them.
    pub bytes: u64,
    /// How many layers are needed.
    pub kept: usize,
}

/// Removes the layers of `data` that nothing stands on, and what killed imports have left there, in `base` and in the other
/// base directories that `data` knows; `forget` are base directories that do not count any more.
///
/// # Errors
/// A base directory that is not there and not forgotten, a record that cannot be read: then nothing is removed.
pub fn collect(base: &Path, data: &Path, forget: &[PathBuf]) -> Result<Collected> {
    clean_images(base)?;
    // What of a pull that was broken off is not going to be gone on with.
    if data.join("blobs").is_dir() {
        Parts::open(data)?.remove_older(Duration::ZERO)?;
    }
    let Some(layers) = Layers::open(data)? else {
        return Ok(Collected::default());
    };
    // Nobody imports, and nobody makes a root filesystem, while it is found out what is needed.
    let alone = layers.hold_alone()?;
    layers.clean()?;
    for base in forget {
        if !forget_base(data, base)? {
            return Err(Error::new("forget base directory")
                .on(base.display())
                .because("no image of it was imported with this data directory")
                .hint(format!("known are: {}", known(data)?)));
        }
    }
    let mut needed = BTreeSet::new();
    for base in bases(data)? {
        if !base.there {
            return Err(Error::new("look for images in")
                .on(base.path.display())
                .because("the base directory is not there, so nobody knows which layers its images need")
                .hint(format!(
                    "mount the disk that it is on; or, if it is gone for good: image gc --forget-base={}",
                    base.path.display()
                )));
        }
        clean_images(&base.path)?;
        needed_by_images(&base.path, &mut needed)?;
    }
    needed_by_root_filesystems(data, &mut needed)?;
    let mut collected = Collected::default();
    let claim = layers.claim_new()?;
    for key in layers.list()? {
        if needed.contains(&key) {
            collected.kept += 1;
            continue;
        }
        // A record that is damaged does not keep a layer alive.
        let size = layers.info(&key).ok().flatten().map_or(0, |info| info.size);
        claim.take(&key)?;
        collected.bytes += size;
        collected.removed.push(key);
    }
    // From here on nobody can find them; that they are removed need not be waited for.
    drop(alone);
    drop(claim);
    Ok(collected)
}

/// Removes what killed imports have left beside the images.
fn clean_images(base: &Path) -> Result<()> {
    if base.join("images").is_dir() {
        Store::open(base)?.clean_all()?;
    }
    Ok(())
}

fn needed_by_images(base: &Path, needed: &mut BTreeSet<LayerKey>) -> Result<()> {
    let images = base.join("images");
    let failed = |error: &io::Error| {
        Error::io("list images", images.display(), error)
            .hint("needs root; check the disk it is on")
    };
    for entry in fs::read_dir(&images).map_err(|error| failed(&error))? {
        let name = entry.map_err(|error| failed(&error))?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".image"));
        let Some(id) = id.filter(|id| !id.starts_with('.')) else {
            continue;
        };
        if let Some(record) = Record::read(base, id)? {
            needed.extend(record.keys().cloned());
        }
    }
    Ok(())
}

fn needed_by_root_filesystems(data: &Path, needed: &mut BTreeSet<LayerKey>) -> Result<()> {
    let containers = data.join("containers");
    let failed = |path: &Path, error: &io::Error| {
        Error::io("find layers of root filesystem", path.display(), error)
            .hint("needs root; check the disk it is on")
    };
    let entries = match fs::read_dir(&containers) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&containers, &error)),
    };
    for entry in entries {
        let path = entry
            .map_err(|error| failed(&containers, &error))?
            .path()
            .join("layers");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Of an image without layers, or just being removed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, &error)),
        };
        for line in text.lines() {
            let key = LayerKey::read(line).ok_or_else(|| {
                Error::new("find layers of root filesystem")
                    .on(path.display())
                    .because("it is damaged")
                    .hint("destroy-fs it; then nothing is lost but its layers")
            })?;
            needed.insert(key);
        }
    }
    Ok(())
}

fn known(data: &Path) -> Result<String> {
    let paths: Vec<String> = bases(data)?
        .iter()
        .map(|base| base.path.display().to_string())
        .collect();
    Ok(if paths.is_empty() {
        "none".into()
    } else {
        paths.join(", ")
    })
}
