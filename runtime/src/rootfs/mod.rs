//! Root filesystems: `create-fs` lays a writable overlay over an image, `destroy-fs` takes it away without a trace.
//!
//! What is on disk, for a root filesystem with the name GUID:
//!
//! | path | what | when |
//! |---|---|---|
//! | `STATE/subcontainers/GUID.creating` | journal; locked by its creator | before anything else is made |
//! | `DATA/containers/GUID/{upper,work}` | what the container writes | |
//! | `DATA/containers/GUID/boot` | the boot it was made in | |
//! | `DATA/containers/GUID/layers` | which layers it stands on, which are kept for it | before they are mounted |
//! | `BASE/subcontainers/GUID` | the mount point, then the overlay | attached when it is complete |
//! | `STATE/subcontainers/GUID` | the same journal, renamed | last; removed last |
//! | `STATE/ranges/START/GUID` | whose the 65,536 ids from START on are | where it has ids of its own |
//!
//! The overlay and everything in it is made while the mount is detached: a create that is killed leaves files that
//! the next create (or `destroy`) removes, and no mount, except in the instant between attaching and renaming.
//! Without root nothing can be mounted in the caller's mount namespace. Then create-fs makes the rest, and each launch
//! assembles the overlay in a mount namespace of its own (`Deferred`).
//! Nothing here follows a path into an image or a container: those are reached through descriptors only.

mod create;
mod deferred;
mod destroy;
mod idmapped;
pub(crate) mod image_file;
mod inside;
mod journal;
mod layers;
mod lower;
mod merged;
mod overlay;
mod probe;
mod ranges;
mod remove;
mod temporary;

pub use create::{Created, create, create_deferred, create_verified};
pub use deferred::Deferred;
pub use destroy::destroy;
pub use idmapped::{Ids, compose, layer_maps, volume_map};
pub use journal::Record;
pub(crate) use merged::{Merged, merged};
pub use temporary::Temporary;

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use shim::error::errno_of;
use shim::plan::IdMaps;
use shim::rootdir::fd_path;
use shim::{Error, Result, RootDir};
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
    /// `STATE/ranges`
    ranges: PathBuf,
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
            ranges: dirs.state.join("ranges"),
            data: containers.join(guid),
            containers,
        }
    }
}

/// Where root filesystem `guid` (a name without `/`, as already checked) is, whether or not there is one.
#[must_use]
pub fn path(dirs: &Dirs, guid: &str) -> PathBuf {
    Places::new(dirs, guid).rootfs
}

/// What create-fs wrote down about the root filesystem at `rootfs`, an absolute path free of symlinks; nothing where it
/// is no directory in `BASE/subcontainers`, or has no record.
///
/// # Errors
/// A record that cannot be read.
pub fn record(dirs: &Dirs, rootfs: &Path) -> Result<Option<Record>> {
    let Some(guid) = rootfs.file_name().and_then(OsStr::to_str) else {
        return Ok(None);
    };
    let places = Places::new(dirs, guid);
    let parent = std::fs::canonicalize(&places.subcontainers).ok();
    if parent.as_deref() != rootfs.parent() {
        return Ok(None);
    }
    read(&places)
}

fn read(places: &Places) -> Result<Option<Record>> {
    let record = journal::read(places)?;
    if let Some(record) = &record
        && std::fs::canonicalize(&record.rootfs).ok() != std::fs::canonicalize(&places.rootfs).ok()
    {
        return Err(Error::new("use record of")
            .on(places.rootfs.display())
            .because(format!("it is of {}", record.rootfs.display()))
            .hint("each --base needs a --state of its own"));
    }
    Ok(record)
}

/// The ids that the container of the root filesystem with this name has; none where they are the caller's.
///
/// # Errors
/// As [`record`].
pub fn id_maps_of(dirs: &Dirs, guid: &OsStr) -> Result<Option<IdMaps>> {
    let Some(guid) = guid.to_str() else {
        return Ok(None);
    };
    Ok(read(&Places::new(dirs, guid))?.and_then(|record| record.id_maps))
}

/// Opens a directory of the host; where there is none (or a file), that is an answer and not a failure.
fn open_if_there(path: &Path) -> Result<Option<RootDir>, Errno> {
    match RootDir::open(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Detaches the mount that `root` is the root of, and what is below it. umount2(2) has no form that takes a
/// descriptor, but the magic link leads to this very mount (or what was stacked on it since), and to no other place.
fn unmount_at(root: impl AsFd) -> Result<(), Errno> {
    let path = fd_path(root.as_fd());
    let path = Path::new(OsStr::from_bytes(path.as_bytes()));
    unmount(path, UnmountFlags::DETACH).map_err(|error| errno_of(&error))
}
