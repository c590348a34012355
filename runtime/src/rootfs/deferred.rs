//! Root filesystems whose overlay each launch assembles, in a mount namespace of its own: those that create-fs has made
//! without root.
//!
//! While a launch plans, a container may still run here that it will replace, and two overlays must not have one upper
//! directory (overlayfs.rst, "undefined behaviour"). So for the plan the layers are shown read-only, the upper one
//! among them, and the real overlay comes when the other container has ended.

use std::path::Path;

use nix::errno::Errno;
use shim::sys::mount::attach;
use shim::{Error, Result, RootDir};

use super::create::{attach_shared, make_overlay};
use super::layers::{self, Layer, Writable};
use super::lower::Lower;
use super::overlay::Stack;
use super::{Places, inside, overlay, unmount_at};
use crate::config::Dirs;

/// One of them. The caller must be in a mount namespace of its own, in which all that is attached here stays.
#[derive(Debug)]
pub struct Deferred {
    places: Places,
    image: String,
    shown: Option<RootDir>,
}

impl Deferred {
    /// The deferred root filesystem at `path`; none where something else is there.
    ///
    /// # Errors
    /// A record that cannot be read.
    pub fn at(dirs: &Dirs, path: &Path) -> Result<Option<Self>> {
        // What is not there is an error of whoever opens it.
        let Ok(path) = std::fs::canonicalize(path) else {
            return Ok(None);
        };
        let record = super::record(dirs, &path)?.filter(|record| record.deferred);
        Ok(record.map(|record| Self {
            places: Places::new(dirs, &record.guid),
            image: record.image,
            shown: None,
        }))
    }

    /// Shows the layers read-only at its place.
    ///
    /// # Errors
    /// The image is gone, or the kernel refuses.
    pub fn show(&mut self, dirs: &Dirs) -> Result<()> {
        let lower = self.lower(dirs)?;
        let data = RootDir::open(&self.places.data).map_err(|errno| self.failed(errno))?;
        let writable = self
            .data()
            .and_then(Writable::open)
            .map_err(|errno| self.failed(errno))?;
        let stack = Stack {
            lower: &lower,
            writable: &writable,
            read_only: true,
        };
        let shown = overlay::assemble(stack, &data)
            .map_err(|refusal| refusal.into_error(&self.image, &self.places.data))?
            .into();
        RootDir::open(&self.places.rootfs)
            .and_then(|place| attach(&shown, place))
            .map_err(|errno| self.failed(errno))?;
        self.shown = Some(shown);
        Ok(())
    }

    /// Replaces that by the real overlay; a warning where what the container writes is lost at its end.
    ///
    /// # Errors
    /// As [`Self::show`].
    pub fn assemble(&mut self, dirs: &Dirs) -> Result<Option<String>> {
        if let Some(shown) = self.shown.take() {
            unmount_at(&shown).map_err(|errno| self.failed(errno))?;
        }
        let lower = self.lower(dirs)?;
        let data = RootDir::open(&self.places.data).map_err(|errno| self.failed(errno))?;
        let like = lower.stat().map_err(|errno| self.failed(errno))?;
        let open = |layer, _: &Lower| Writable::open(layer);
        let (mount, warning) = make_overlay(&self.places, &self.image, lower, &data, None, open)?;
        let root = RootDir::from(mount);
        if warning.is_some() {
            // What create-fs has put into it was in memory as well.
            inside::complete(&root, &self.image, &like, None)?;
        }
        attach_shared(&self.places, &root)?;
        Ok(warning)
    }

    /// The layers that create-fs has found, whatever has become of the image since.
    fn lower(&self, dirs: &Dirs) -> Result<Lower> {
        match Lower::of_container(&dirs.data, &self.places)? {
            Some(lower) => Ok(lower),
            None => layers::image(dirs, &self.image, None),
        }
    }

    fn data(&self) -> Result<Layer, Errno> {
        Ok(Layer {
            dir: RootDir::open(&self.places.data)?,
            detached: false,
        })
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::sys(
            "assemble root filesystem",
            self.places.rootfs.display(),
            errno,
        )
        .flags(format!("image {}", self.image))
        .hint("make a new one with create-fs; or check --base and --data")
    }
}
