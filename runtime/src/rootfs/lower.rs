//! What is below the writable layer: the one tree of a plain image, or the layers of a layered one, of which each is a
//! directory in a store that other images share.
//!
//! All layers are reached through one directory, the holder: what is done to it, a copy with ids mapped or a place in
//! the mount table, is done once, however many layers there are.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, fstat};
use shim::{Error, Result};

use super::layers::Layer;

/// How many lower layers the kernel takes (`OVL_MAX_STACK` in fs/overlayfs).
pub(super) const MAX_LAYERS: usize = 500;

/// What an image gives to a root filesystem.
#[derive(Debug)]
pub(super) struct Lower {
    /// The directory that is the layer, or has the layers in it.
    pub(super) holder: Layer,
    /// Where the layers are in the holder, topmost first; none: the holder itself is the one layer.
    trees: Vec<PathBuf>,
    /// Keeps the layers from being removed as long as nothing else says that they are needed.
    _kept: Option<File>,
}

impl From<Layer> for Lower {
    fn from(holder: Layer) -> Self {
        Self {
            holder,
            trees: Vec::new(),
            _kept: None,
        }
    }
}

impl Lower {
    /// The layers at `trees` in `holder`, topmost first; `kept` is held until the overlay has them.
    pub(super) fn layers(holder: Layer, trees: Vec<PathBuf>, kept: Option<File>) -> Self {
        Self {
            holder,
            trees,
            _kept: kept,
        }
    }

    /// Fails where overlay would: `others` lower layers come in addition.
    pub(super) fn check_number(&self, image: &str, others: usize) -> Result<()> {
        let most = MAX_LAYERS - others;
        if self.trees.len() <= most {
            return Ok(());
        }
        Err(Error::new("make root filesystem of")
            .on(image)
            .because(format!(
                "it has {} layers, and the kernel takes {most}",
                self.trees.len()
            ))
            .hint("import it with --flat: its layers become one directory"))
    }

    /// The same with another holder.
    ///
    /// # Errors
    /// As `change`.
    pub(super) fn hold<E>(self, change: impl FnOnce(Layer) -> Result<Layer, E>) -> Result<Self, E> {
        Ok(Self {
            holder: change(self.holder)?,
            ..self
        })
    }

    /// Calls `visit` with each layer, topmost first. One is open at a time.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.trees.is_empty() {
            return visit(self.holder.as_fd());
        }
        self.trees
            .iter()
            .try_for_each(|tree| visit(self.open(tree)?.as_fd()))
    }

    /// All layers, topmost first.
    pub(super) fn all(&self) -> Result<Vec<OwnedFd>, Errno> {
        let mut all = Vec::with_capacity(self.trees.len().max(1));
        self.each(|layer| {
            let copy = layer.try_clone_to_owned();
            all.push(copy.map_err(|error| super::errno_of(&error))?);
            Ok(())
        })?;
        Ok(all)
    }

    /// What the root directory is: that of the topmost layer.
    pub(super) fn stat(&self) -> Result<FileStat, Errno> {
        match self.trees.first() {
            None => fstat(&self.holder),
            Some(tree) => fstat(self.open(tree)?),
        }
    }

    fn open(&self, tree: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        self.holder.dir.open_plain(tree, flags, Mode::empty())
    }
}
