//! What an image of the store is: of several under one name the first, in the order in which create-fs looks for them.

use std::path::Path;

use shim::{Error, Result};

use super::record::Record;
use crate::ids::ImageId;

/// How an image is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory, `ID`.
    Directory,
    /// One file, `ID.squashfs`.
    Squashfs,
    /// One file, `ID.erofs`.
    Erofs,
    /// Layers, which `ID.image` names.
    Layers(Box<Record>),
}

impl Kind {
    /// What image `id` below `base` is.
    ///
    /// # Errors
    /// There is none; its record cannot be read.
    pub(crate) fn of(base: &Path, id: &ImageId) -> Result<Self> {
        Self::find(base, id)?.ok_or_else(|| {
            Error::new("find image")
                .on(id)
                .because(format!("it is not in {}", base.join("images").display()))
                .hint("check the id and --base; or import it: start-container image import")
        })
    }

    /// The same; nothing where there is none.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub(crate) fn find(base: &Path, id: &ImageId) -> Result<Option<Self>> {
        let images = base.join("images");
        let is_there = |ending: &str| images.join(format!("{id}{ending}")).exists();
        if is_there("") {
            return Ok(Some(Self::Directory));
        }
        if is_there(".squashfs") {
            return Ok(Some(Self::Squashfs));
        }
        if is_there(".erofs") {
            return Ok(Some(Self::Erofs));
        }
        let record = Record::read(base, id.as_str())?;
        Ok(record.map(|record| Self::Layers(Box::new(record))))
    }

    /// Its name for people and programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Layers(_) => "layers",
        }
    }

    /// The record, of one in layers.
    pub(crate) fn into_record(self) -> Option<Record> {
        match self {
            Self::Layers(record) => Some(*record),
            Self::Directory | Self::Squashfs | Self::Erofs => None,
        }
    }
}
