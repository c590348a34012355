//! The small record of a layer, `DATA/layers/KEY/layer.json`.

use std::path::PathBuf;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use shim::{Error, Result};

use super::{LayerKey, Layers};
use crate::regular::Source;

/// The most that a record may take, in bytes.
const LIMIT: u64 = 64 << 10;

/// What is known about a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Of this format: 1.
    pub version: u32,
    /// The digest of the uncompressed layer.
    pub diff_id: String,
    /// How many archive members it has.
    pub members: u64,
    /// How many bytes of file data are in it.
    pub size: u64,
    /// Whether it says what the root directory is like. The root directory of an image is that of the topmost layer that
    /// does.
    pub lists_root: bool,
    /// Whether it hides all layers below, which overlay does not understand of a root directory.
    pub opaque_root: bool,
    /// How many devices are missing for want of rights, or because overlay takes them for marks.
    pub devices_left_out: usize,
    /// How many attributes are missing for want of rights.
    pub attributes_left_out: usize,
}

impl Info {
    pub(crate) fn text(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|error| {
            Error::new("write record of layer")
                .on(&self.diff_id)
                .because(error.to_string())
                .hint("this is a fault of start-container")
        })
    }
}

impl Layers {
    /// What is known about a layer; nothing where it is not there.
    ///
    /// # Errors
    /// A record that is damaged, or cannot be read.
    pub fn info(&self, key: &LayerKey) -> Result<Option<Info>> {
        let path: PathBuf = self.path().join(key.as_str()).join("layer.json");
        let source = Source {
            op: "read record of layer",
            name: &path,
            limit: LIMIT,
        };
        let seen = match source.look() {
            Ok(seen) => seen,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => {
                return Err(source.error().errno(errno).hint("needs root; check --data"));
            }
        };
        let text = source.read(source.open(&seen)?)?;
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let why = format!("it is damaged: {error}");
            let hint = "remove the images that stand on it, then image gc, and import them again";
            source.error().because(why).hint(hint)
        })
    }
}
