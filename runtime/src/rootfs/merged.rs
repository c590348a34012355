//! The whole tree of an image, to be read and nothing else, for who makes another image of it.

use std::os::fd::OwnedFd;

use shim::{Error, Result, RootDir};

use super::layers::{self, Writable};
use super::lower::Lower;
use super::overlay::{self, Stack};
use crate::config::Dirs;

/// An image as its containers see it at first.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The tree. What its root directory itself is, owner and time and attributes, is only in `top`.
    pub(crate) root: RootDir,
    /// The root directory of the layer that says what it is like.
    pub(crate) top: OwnedFd,
    /// Holds the layers, where there are any.
    _lower: Lower,
}

/// Opens image `image`. Several layers are merged by an overlay that nobody else sees.
pub(crate) fn merged(dirs: &Dirs, image: &str) -> Result<Merged> {
    let lower = layers::image(dirs, image, None)?;
    // One layer of the kernel's is taken by the empty one above.
    lower.check_number(image, 1)?;
    let failed = |errno| {
        Error::sys("open layers of image", image, errno).hint("import it again; or check --data")
    };
    let mut all = lower.all().map_err(failed)?;
    let top = lower.root_directory().map_err(failed)?;
    let alone = all.len() == 1;
    let root = if alone {
        RootDir::from(all.swap_remove(0))
    } else {
        // An overlay needs something above, and shows that one's root directory.
        let writable = Writable::memory(&lower, None).map_err(failed)?;
        let data = RootDir::open(&dirs.data).map_err(failed)?;
        let stack = Stack {
            lower: &lower,
            writable: &writable,
            read_only: true,
        };
        let merged = overlay::assemble(stack, &data);
        merged
            .map_err(|refusal| refusal.into_error(image, &dirs.data))?
            .into()
    };
    Ok(Merged {
        root,
        top,
        _lower: lower,
    })
}
