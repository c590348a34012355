//! Root filesystems: `create-fs` lays a writable overlay over an image, `destroy-fs` takes it away without a trace.
//!
//! What is on disk, for a root filesystem with the name GUID:
//!
//! | path | what | when |
//! |---|---|---|
//! | `STATE/subcontainers/GUID.creating` | journal; locked by its creator | before anything else is made |
//! | `DATA/containers/GUID/{upper,work}` | what the container writes | |
//! | `DATA/containers/GUID/boot` | the boot it was made in | |
//! | `BASE/subcontainers/GUID` | the mount point, then the overlay | attached when it is complete |
//! | `STATE/subcontainers/GUID` | the same journal, renamed | last; removed last |
//!
//! The overlay and everything in it is made while the mount is detached: a create that is killed leaves files that
//! the next create (or `destroy`) removes, and no mount, except in the instant between attaching and renaming.
//! Nothing here follows a path into an image or a container: those are reached through descriptors only.

mod create;
mod destroy;
mod image_of;
mod inside;
mod journal;
mod layers;
mod overlay;
mod remove;

pub use create::{Created, create};
pub use destroy::destroy;
pub use image_of::image_of;
pub use journal::Record;

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use shim::RootDir;
use shim::rootdir::fd_path;
use sys_mount::{UnmountFlags, unmount};

use crate::config::Dirs;

/// Where the parts of one root filesystem are.
#[derive(Debug, Clone)]
struct Places {
    guid: String,
    /// `BASE/subcontainers`
    subcontainers: PathBuf,
    /// `BASE/subcontainers/GUID`
    rootfs: PathBuf,
    /// `STATE/subcontainers`
    records: PathBuf,
    /// `DATA/containers`
    containers: PathBuf,
    /// `DATA/containers/GUID`
    data: PathBuf,
}

impl Places {
    fn new(dirs: &Dirs, guid: &str) -> Self {
        let subcontainers = dirs.base.join("subcontainers");
        let containers = dirs.data.join("containers");
        Self {
            guid: guid.to_owned(),
            rootfs: subcontainers.join(guid),
            subcontainers,
            records: dirs.state.join("subcontainers"),
            data: containers.join(guid),
            containers,
        }
    }
}

/// Opens a directory of the host; where there is none (or a file), that is an answer and not a failure.
fn open_if_there(path: &Path) -> Result<Option<RootDir>, Errno> {
    match RootDir::open(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The errno of a `std::io` failure of a system call.
fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Detaches the mount that `root` is the root of, and what is below it. umount2(2) has no form that takes a
/// descriptor, but the magic link leads to this very mount (or what was stacked on it since), and to no other place.
fn unmount_at(root: impl AsFd) -> Result<(), Errno> {
    let path = fd_path(root.as_fd());
    let path = Path::new(OsStr::from_bytes(path.as_bytes()));
    unmount(path, UnmountFlags::DETACH).map_err(|error| errno_of(&error))
}
