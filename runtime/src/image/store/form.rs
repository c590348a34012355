//! What an image of the store is on disk: of several under one name the first, in the order in which create-fs looks for
//! them.

use std::path::Path;

use serde::Serialize;
use shim::{Error, Result};

use super::record::Record;
use crate::ids::ImageId;

/// What an image is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A plain directory, `ID/`.
    Directory,
    /// `ID.squashfs`.
    Squashfs,
    /// `ID.erofs`.
    Erofs,
    /// Layers, and the record `ID.image`.
    Layers,
}

impl Form {
    /// All of them, in the order in which create-fs looks for them.
    pub(in crate::image) const ALL: [Self; 4] =
        [Self::Directory, Self::Squashfs, Self::Erofs, Self::Layers];

    /// What follows the id in the name of the directory or file.
    pub(in crate::image) fn suffix(self) -> &'static str {
        match self {
            Self::Directory => "",
            Self::Squashfs => ".squashfs",
            Self::Erofs => ".erofs",
            Self::Layers => ".image",
        }
    }

    /// Its name for people and programs.
    pub(in crate::image) fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Layers => "layers",
        }
    }
}

/// An image that is there.
#[derive(Debug)]
pub(in crate::image) struct Found {
    pub(in crate::image) form: Form,
    /// Of one in layers.
    pub(in crate::image) record: Option<Record>,
}

impl Found {
    /// What image `id` below `base` is.
    ///
    /// # Errors
    /// There is none; its record cannot be read.
    pub(in crate::image) fn of(base: &Path, id: &ImageId) -> Result<Self> {
        let images = base.join("images");
        let is_there = |form: &Form| images.join(format!("{id}{}", form.suffix())).exists();
        let form = Form::ALL.into_iter().find(is_there);
        let record = match form {
            Some(Form::Layers) => Record::read(base, id.as_str())?,
            _ => None,
        };
        match form {
            // It was removed a moment ago.
            Some(Form::Layers) if record.is_none() => None,
            form => form.map(|form| Self { form, record }),
        }
        .ok_or_else(|| {
            Error::new("find image")
                .on(id)
                .because(format!("it is not in {}", images.display()))
                .hint("check the id and --base; or import it: start-container image import")
        })
    }
}
