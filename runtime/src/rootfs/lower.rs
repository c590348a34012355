//! What is below the writable layer: the one tree of a plain image, or the layers of a layered one, of which each is a
//! directory in a store that other images share.
//!
//! All layers are reached through one directory, the holder: what is done to it, a copy with ids mapped or a place in
//! the mount table, is done once, however many layers there are.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat};
use shim::{Error, Result};

use super::idmapped::LayerIds;
use super::layers::Layer;
use super::{Places, overlay};
use crate::image::layers::{Held, LayerKey, Layers};
use crate::image::record::Record;

/// How many lower layers the kernel takes (`OVL_MAX_STACK` in fs/overlayfs).
pub(super) const MAX_LAYERS: usize = 500;

/// In `DATA/containers/GUID`: the keys of the layers, one a line, lowest first.
const LAYERS: &str = "layers";

/// What an image gives to a root filesystem.
#[derive(Debug)]
pub(super) struct Lower {
    /// The directory that is the layer, or has the layers in it.
    pub(super) holder: Layer,
    /// Where that is, for messages.
    path: PathBuf,
    /// The layers in the holder, topmost first; none: the holder itself is the one layer.
    keys: Vec<LayerKey>,
    /// The layer in the holder whose root directory is the image's; none: that of the topmost.
    root: Option<LayerKey>,
    /// Keeps the layers from being removed as long as nothing else says that they are needed.
    _held: Option<Held>,
}

impl Lower {
    /// An image that is one layer, at `path`.
    pub(super) fn whole(holder: Layer, path: &Path) -> Self {
        Self {
            holder,
            path: path.to_owned(),
            keys: Vec::new(),
            root: None,
            _held: None,
        }
    }

    /// The layers of a layered image, which nobody removes as long as this is there.
    ///
    /// # Errors
    /// A layer that is missing, or that the caller's user namespace cannot use.
    pub(super) fn of_image(data: &Path, image: &str, record: &Record) -> Result<Self> {
        let Some(layers) = Layers::open(data)? else {
            return Err(no_layers(data, image, record));
        };
        let held = layers.hold()?;
        let lower = Self::of_keys(&layers, record.stack.iter().rev().cloned().collect())?;
        let in_user_namespace = overlay::in_user_namespace();
        for key in lower.keys.iter().chain([&record.root]) {
            match lower.open(key) {
                Ok(_) => {}
                Err(Errno::ENOENT) => return Err(missing(data, image, record, key)),
                Err(errno) => {
                    let tree = lower.path.join(key.tree());
                    let error = Error::sys("open layer", tree.display(), errno);
                    return Err(error.hint("needs root; check --data"));
                }
            }
            if key.is_for_user_namespaces() != in_user_namespace {
                return Err(of_other_form(image, in_user_namespace));
            }
        }
        Ok(Self {
            root: Some(record.root.clone()),
            _held: Some(held),
            ..lower
        })
    }

    /// The layers that a root filesystem stands on; none where it was made of an image without layers.
    ///
    /// # Errors
    /// What create-fs has written down cannot be read, or there are no layers any more.
    pub(super) fn of_container(data: &Path, places: &Places) -> Result<Option<Self>> {
        let path = places.data.join(LAYERS);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Error::io("read", path.display(), &error).hint("check --data"));
            }
        };
        let failed = |why: &'static str| {
            Error::new("find layers of root filesystem")
                .on(path.display())
                .because(why)
                .hint("make a new one with create-fs; or check --data")
        };
        let keys: Option<Vec<LayerKey>> = text.lines().rev().map(LayerKey::read).collect();
        let keys = keys.ok_or_else(|| failed("it is damaged"))?;
        let layers = Layers::open(data)?.ok_or_else(|| failed("there are no layers"))?;
        Self::of_keys(&layers, keys).map(Some)
    }

    pub(super) fn of_keys(layers: &Layers, keys: Vec<LayerKey>) -> Result<Self> {
        let holder = Layer {
            dir: layers.directory()?,
            detached: false,
        };
        Ok(Self {
            holder,
            path: layers.path().to_owned(),
            keys,
            root: None,
            _held: None,
        })
    }

    /// Writes down in the data directory of a root filesystem which layers it stands on, lowest first: they are kept
    /// as long as that is there.
    pub(super) fn remember(&self, places: &Places) -> Result<()> {
        if self.keys.is_empty() {
            return Ok(());
        }
        let text: String = self
            .keys
            .iter()
            .rev()
            .map(|key| format!("{key}\n"))
            .collect();
        let path = places.data.join(LAYERS);
        std::fs::write(&path, text)
            .map_err(|error| Error::io("write", path.display(), &error).hint("check --data"))
    }

    /// Fails where overlay would: `others` lower layers come in addition.
    pub(super) fn check_number(&self, image: &str, others: usize) -> Result<()> {
        let most = MAX_LAYERS - others;
        if self.keys.len() <= most {
            return Ok(());
        }
        Err(Error::new("make root filesystem of")
            .on(image)
            .because(format!(
                "it has {} layers, and the kernel takes {most}",
                self.keys.len()
            ))
            .hint("import it with --flat: its layers become one directory"))
    }

    /// The same with the ids of all layers mapped.
    ///
    /// # Errors
    /// The filesystem they are on cannot be mapped.
    pub(super) fn mapped(self, ids: &LayerIds) -> Result<Self> {
        let holder = ids.image(self.holder, &self.path)?;
        Ok(Self { holder, ..self })
    }

    /// Calls `visit` with each layer, topmost first. One is open at a time.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.keys.is_empty() {
            return visit(self.holder.as_fd());
        }
        self.keys
            .iter()
            .try_for_each(|key| visit(self.open(key)?.as_fd()))
    }

    /// All layers, topmost first.
    pub(super) fn all(&self) -> Result<Vec<OwnedFd>, Errno> {
        let mut all = Vec::with_capacity(self.keys.len().max(1));
        self.each(|layer| {
            let copy = layer.try_clone_to_owned();
            all.push(copy.map_err(|error| super::errno_of(&error))?);
            Ok(())
        })?;
        Ok(all)
    }

    /// What the root directory is.
    pub(super) fn stat(&self) -> Result<FileStat, Errno> {
        fstat(self.root_directory()?)
    }

    /// The directory that the root directory is like.
    pub(super) fn root_directory(&self) -> Result<OwnedFd, Errno> {
        match self.root.as_ref().or(self.keys.first()) {
            None => {
                let copy = self.holder.as_fd().try_clone_to_owned();
                copy.map_err(|error| super::errno_of(&error))
            }
            Some(key) => self.open(key),
        }
    }

    /// Where the root directory is, for messages.
    pub(super) fn root_path(&self) -> PathBuf {
        match self.root.as_ref().or(self.keys.first()) {
            None => self.path.clone(),
            Some(key) => self.path.join(key.tree()),
        }
    }

    fn open(&self, key: &LayerKey) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let tree = key.tree();
        self.holder.dir.open_plain(&tree, flags, Mode::empty())
    }
}

fn no_layers(data: &Path, image: &str, record: &Record) -> Error {
    let error = Error::new("find layers of image")
        .on(image)
        .because(format!("{} has no layers", data.display()));
    error.hint(where_else(data, image, record))
}

fn missing(data: &Path, image: &str, record: &Record, key: &LayerKey) -> Error {
    let error = Error::new("find layers of image")
        .on(image)
        .because(format!("{} has no layer {key}", data.display()));
    error.hint(where_else(data, image, record))
}

fn where_else(data: &Path, image: &str, record: &Record) -> String {
    if record.data == data {
        return format!(
            "import it again: start-container image import SOURCE --replace --id {image}"
        );
    }
    format!(
        "it was imported with --data {}; give the same, or import it again",
        record.data.display()
    )
}

/// What overlay has to know of a layer's directories is in attributes that root of the machine alone may read, or in
/// others that it heeds in user namespaces only.
fn of_other_form(image: &str, in_user_namespace: bool) -> Error {
    let (initial, other) = ("in the initial user namespace", "in another user namespace");
    let (here, there) = if in_user_namespace {
        (other, initial)
    } else {
        (initial, other)
    };
    Error::new("use layers of image")
        .on(image)
        .because(format!(
            "they were unpacked {there}, and directories that replace others would not {here}"
        ))
        .hint("import it again from here, with another --data or another --id")
}
