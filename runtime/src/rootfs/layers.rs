//! The layers of a root filesystem: the image below (a directory, or a squashfs file through a loop device), and the
//! place for what the container writes above (a directory on disk, or a tmpfs).
//!
//! Mounts made here are detached: overlay takes its own copy of them (`clone_private_mount` in the kernel), so they
//! never have a place in the mount table and go away with the overlay.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, fchown};
use shim::sys::loopdev::LoopDevice;
use shim::sys::mount::{Filesystem, attr};
use shim::{Error, Result, RootDir};

use super::idmapped::LayerIds;
use super::lower::Lower;
use crate::config::Dirs;
use crate::image::record::Record;

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

/// Opens image `image`: the directory `ID`, else the file `ID.squashfs`, else the layers that `ID.image` names.
pub(super) fn image(dirs: &Dirs, image: &str) -> Result<Lower> {
    let directory = dirs.base.join("images").join(image);
    match RootDir::open(&directory) {
        Ok(dir) => {
            let layer = Layer {
                dir,
                detached: false,
            };
            return Ok(Lower::whole(layer, &directory));
        }
        Err(Errno::ENOENT) => {}
        Err(errno) => {
            return Err(Error::sys("open image", directory.display(), errno)
                .hint("an image is a directory, or a file ID.squashfs or ID.image beside it"));
        }
    }
    let file = directory.with_file_name(format!("{image}.squashfs"));
    match File::open(&file) {
        Ok(backing) => return Ok(Lower::whole(squashfs(&file, &backing)?, &directory)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(
                Error::io("open image", file.display(), &error).hint("needs root; check its mode")
            );
        }
    }
    if let Some(record) = Record::read(&dirs.base, image)? {
        return Lower::of_image(&dirs.data, image, &record);
    }
    Err(Error::new("find image")
        .on(image)
        .because(format!(
            "there is neither {} nor a file {image}.squashfs or {image}.image beside it",
            directory.display()
        ))
        .hint(format!(
            "start-container image import SOURCE --id {image}; or check --base"
        )))
}

fn squashfs(path: &Path, backing: &File) -> Result<Layer> {
    let is_file = backing.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Err(Error::new("open image")
            .on(path.display())
            .because("it is no regular file")
            .hint("ID.squashfs is a file made by mksquashfs; a directory is called ID"));
    }
    let device = LoopDevice::read_only(backing).map_err(|errno| {
        let error = Error::sys("make loop device for", path.display(), errno)
            .flags("read-only,autoclear");
        match errno {
            Errno::ENOENT | Errno::EPERM | Errno::EACCES | Errno::ENXIO | Errno::ENODEV => error.hint(
                "needs root, /dev/loop-control and /dev/loop*; where a container has none, import the image as a directory",
            ),
            _ => error.hint("losetup --list shows who has them"),
        }
    })?;
    let (mount, explanation) = mount_squashfs(&device);
    let mount = mount.map_err(|errno| {
        let error = Error::sys("mount squashfs", path.display(), errno).flags("ro,nodev");
        let error = match explanation {
            Some(text) => error.because(text),
            None => error,
        };
        match errno {
            Errno::ENODEV => error.hint(
                "the kernel has no squashfs: modprobe squashfs, or import the image as a directory",
            ),
            Errno::EPERM => {
                error.hint("not possible in a user namespace: import the image as a directory")
            }
            _ => error.hint("is the file a complete squashfs image? import it again"),
        }
    })?;
    Ok(Layer {
        dir: mount.into(),
        detached: true,
    })
}

/// Set-user-ID bits of the image stay (no NOSUID): the overlay above decides, and images need them. Devices are the
/// overlay's to offer as well; nobody sees this mount itself.
fn mount_squashfs(device: &LoopDevice) -> (Result<OwnedFd, Errno>, Option<String>) {
    let filesystem = match Filesystem::open(c"squashfs") {
        Ok(filesystem) => filesystem,
        Err(errno) => return (Err(errno), None),
    };
    let mounted = CString::new(device.path().as_os_str().as_bytes())
        .map_err(|_| Errno::EINVAL)
        .and_then(|source| filesystem.set(c"source", &source))
        .and_then(|()| filesystem.set_flag(c"ro"))
        .and_then(|()| filesystem.mount(attr::RDONLY | attr::NODEV));
    let explanation = mounted.is_err().then(|| filesystem.explanation()).flatten();
    (mounted, explanation)
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
    /// gets the owner and mode of the image's.
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
