//! The layers of a root filesystem: the image below (a directory, or a file that is a filesystem), and the place for what
//! the container writes above (a directory on disk, or a tmpfs).
//!
//! Mounts made here are detached: overlay takes its own copy of them (`clone_private_mount` in the kernel), so they
//! never have a place in the mount table and go away with the overlay.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchown};
use shim::sys::mount::Filesystem;
use shim::{Error, Result, RootDir};

use super::idmapped::LayerIds;
use super::image_file;
use super::lower::Lower;
use crate::attributes;
use crate::config::Dirs;
use crate::image::record::Record;
use crate::verity::Wanted;

/// Something that holds one or more layers.
#[derive(Debug)]
pub(super) struct Layer {
    /// The directory.
    pub(super) dir: RootDir,
    /// Whether it is the root of a mount that is attached nowhere.
    pub(super) detached: bool,
}

impl AsFd for Layer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Opens image `image`: the directory `ID`, else the file `ID.squashfs` or `ID.erofs`, which must have the digest `verity`,
/// else the layers that `ID.image` names.
pub(super) fn image(dirs: &Dirs, image: &str, verity: Option<Wanted>) -> Result<Lower> {
    let images = dirs.base.join("images");
    let directory = images.join(image);
    let no_digest = |what: &'static str| {
        Error::new("check digest of")
            .on(image)
            .because(format!("it is {what}, and only a file has one"))
            .hint("make one file of it with image build-erofs, and import that with --verity")
    };
    match RootDir::open(&directory) {
        Ok(_) if verity.is_some() => return Err(no_digest("a directory")),
        Ok(dir) => {
            let layer = Layer {
                dir,
                detached: false,
            };
            return Ok(Lower::whole(layer, &directory));
        }
        Err(Errno::ENOENT) => {}
        Err(errno) => {
            return Err(Error::sys("open image", directory.display(), errno).hint(
                "an image is a directory, or a file ID.squashfs, ID.erofs or ID.image beside it",
            ));
        }
    }
    if let Some(mount) = image_file::find(&images, image, verity)? {
        let layer = Layer {
            dir: mount.into(),
            detached: true,
        };
        return Ok(Lower::whole(layer, &directory));
    }
    if let Some(record) = Record::read(&dirs.base, image)? {
        if verity.is_some() {
            return Err(no_digest("made of layers"));
        }
        return Lower::of_image(&dirs.data, image, &record);
    }
    Err(Error::new("find image")
        .on(image)
        .because(format!(
            "there is neither {} nor a file {image}.squashfs, {image}.erofs or {image}.image beside it",
            directory.display()
        ))
        .hint(format!(
            "start-container image import SOURCE --id {image}; or check --base"
        )))
}

/// The two directories that overlay needs on one filesystem.
#[derive(Debug)]
pub(super) struct Writable {
    /// What holds both.
    pub(super) layer: Layer,
    /// What the container writes.
    pub(super) upper: OwnedFd,
    /// The kernel's own.
    pub(super) work: OwnedFd,
}

impl Writable {
    /// Makes `upper` and `work` in `layer`. The upper's root directory is the root directory of the container, so it
    /// gets the owner, the mode and the attributes of the image's; its time comes when nothing more is put into it.
    pub(super) fn make(layer: Layer, lower: &Lower) -> Result<Self, Errno> {
        let like = lower.stat()?;
        let make = |name: &str| {
            mkdirat(&layer, name, Mode::from_bits_truncate(0o700))?;
            layer
                .dir
                .open_plain(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
        };
        let upper = make("upper")?;
        let work = make("work")?;
        fchown(
            &upper,
            Some(Uid::from_raw(like.st_uid)),
            Some(Gid::from_raw(like.st_gid)),
        )?;
        let model = lower.root_directory()?;
        attributes::copy(&model, &upper, |_| true)?;
        // After the owner: chown clears the set-id bits.
        fchmod(&upper, Mode::from_bits_truncate(like.st_mode & 0o7777))?;
        Ok(Self { layer, upper, work })
    }

    /// The same two, which [`Self::make`] has made before.
    pub(super) fn open(layer: Layer) -> Result<Self, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let upper = layer.dir.open_plain("upper", flags, Mode::empty())?;
        let work = layer.dir.open_plain("work", flags, Mode::empty())?;
        Ok(Self { layer, upper, work })
    }

    /// A tmpfs that nobody else sees, for where the disk will not do.
    pub(super) fn memory(lower: &Lower, ids: Option<&LayerIds>) -> Result<Self, Errno> {
        let filesystem = Filesystem::open(c"tmpfs")?;
        filesystem.set(c"source", c"start-container")?;
        filesystem.set(c"mode", c"0700")?;
        let layer = Layer {
            dir: filesystem.mount(0)?.into(),
            detached: true,
        };
        let layer = match ids {
            None => layer,
            Some(ids) => ids.writable(layer)?,
        };
        Self::make(layer, lower)
    }
}
