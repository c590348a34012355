//! A root filesystem that goes with the process that has made it.

use std::path::Path;

use shim::Result;

use super::create::{Created, Kind, create_as};
use super::idmapped::Ids;
use super::journal::Journal;
use super::{Places, destroy};
use crate::config::Dirs;

/// One of them. If its process is killed before it is destroyed, the next create-fs removes it.
#[derive(Debug)]
pub struct Temporary {
    places: Places,
    journal: Journal,
    /// What went other than asked for: as with [`Created`].
    pub warning: Option<String>,
}

impl Temporary {
    /// As [`super::create`].
    ///
    /// # Errors
    /// As [`super::create`].
    pub fn create(dirs: &Dirs, image: &str, ids: &Ids) -> Result<Self> {
        Self::of_kind(dirs, image, ids, false)
    }

    /// As [`super::create_deferred`].
    ///
    /// # Errors
    /// As [`super::create`].
    pub fn create_deferred(dirs: &Dirs, image: &str) -> Result<Self> {
        Self::of_kind(dirs, image, &Ids::AsOnDisk, true)
    }

    fn of_kind(dirs: &Dirs, image: &str, ids: &Ids, deferred: bool) -> Result<Self> {
        let kind = Kind {
            deferred,
            temporary: true,
        };
        let (Created { guid, warning, .. }, journal) =
            create_as(dirs, (image, None), None, ids, kind)?;
        Ok(Self {
            places: Places::new(dirs, &guid),
            journal,
            warning,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn rootfs(&self) -> &Path {
        &self.places.rootfs
    }

    /// Takes it away, when nothing runs there any more.
    ///
    /// # Errors
    /// As [`super::destroy`].
    pub fn destroy(self) -> Result<()> {
        destroy::take_down(&self.places)?;
        self.journal.forget()
    }
}
