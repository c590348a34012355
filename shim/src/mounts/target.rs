//! Finds, and makes where it is missing, the place inside that a mount is attached to. For a process whose root is the
//! container's. Allocates nothing: a child that has been cloned uses it.
//!
//! One component at a time, each by descriptor and without following anything (openat2(2), RESOLVE_NO_SYMLINKS): what
//! another container does to a volume that both see can only ever make it fail.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat, umask};

use super::Target;
use crate::rootdir::RootDir;

/// The directories on the way, and the place itself.
pub(super) struct Place {
    /// What it lies in.
    pub(super) parent: RootDir,
    /// The place.
    pub(super) fd: OwnedFd,
}

/// Opens the target, a file or a directory. With `make`, what is missing is made: directories of mode 0755, an empty
/// file of mode 0644.
pub(super) fn open(target: &Target, file: bool, make: bool) -> Result<Place, Errno> {
    let root = nix::fcntl::open(
        c"/",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let (last, way) = target.components().split_last().ok_or(Errno::EINVAL)?;
    let mut parent = RootDir::from(root);
    for name in way {
        parent = RootDir::from(step(&parent, name, false, make)?);
    }
    let fd = step(&parent, last, file, make)?;
    Ok(Place { parent, fd })
}

fn step(parent: &RootDir, name: &CStr, file: bool, make: bool) -> Result<OwnedFd, Errno> {
    match look(parent, name, file) {
        Err(Errno::ENOENT) if make => {}
        found => return found,
    }
    // The modes are as they are asked for, whatever mask the caller has.
    let mask = umask(Mode::empty());
    let made = create(parent, name, file);
    umask(mask);
    match made {
        // Somebody else, another launch perhaps, has just made it.
        Ok(()) | Err(Errno::EEXIST) => look(parent, name, file),
        Err(errno) => Err(errno),
    }
}

fn look(parent: &RootDir, name: &CStr, file: bool) -> Result<OwnedFd, Errno> {
    let kind = if file {
        OFlag::empty()
    } else {
        OFlag::O_DIRECTORY
    };
    parent.open_plain(name, OFlag::O_PATH | kind, Mode::empty())
}

fn create(parent: &RootDir, name: &CStr, file: bool) -> Result<(), Errno> {
    if !file {
        return mkdirat(parent, name, Mode::from_bits_truncate(0o755));
    }
    // O_EXCL: a symlink that somebody puts there now is not followed.
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}
