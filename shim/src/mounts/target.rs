//! Finds, and makes where it is missing, the place inside that a mount is attached to. For a process whose working
//! directory is the container's root. Allocates nothing: a child that has been cloned uses it.
//!
//! One component at a time, each by descriptor and without following anything (openat2(2), RESOLVE_NO_SYMLINKS): what
//! another container does to a volume that both see can only ever make it fail.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, umask};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::Target;
use crate::rootdir::RootDir;

/// What the place has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A directory; made if it is missing.
    Directory,
    /// Anything else; an empty file is made if it is missing.
    File,
    /// Whatever is there.
    Existing,
}

/// The place, and the directory that it is in.
pub(super) struct Place {
    /// What it lies in.
    pub(super) parent: RootDir,
    /// The place.
    pub(super) fd: OwnedFd,
}

/// Opens the target. With `make`, what is missing is made: directories of mode 0755, an empty file of mode 0644.
pub(super) fn open(target: &Target, wanted: Wanted, make: bool) -> Result<Place, Errno> {
    let (parent, name) = parent(target, make)?;
    let fd = step(&parent, name, wanted, make)?;
    Ok(Place { parent, fd })
}

/// The directory that the target is in, and its name there.
pub(super) fn parent(target: &Target, make: bool) -> Result<(RootDir, &CStr), Errno> {
    let (last, way) = target.components().split_last().ok_or(Errno::EINVAL)?;
    let mut parent = RootDir::here()?;
    for name in way {
        parent = RootDir::from(step(&parent, name, Wanted::Directory, make)?);
    }
    Ok((parent, last))
}

/// Makes a directory that is missing, by a way that may have symlinks, and those above it. Where that fails, whoever goes
/// there finds out.
pub(crate) fn make_directory(target: &Target) {
    let _ = open_following(target, Wanted::Directory, true);
}

/// As [`open`], but symlinks on the way, and the target itself if it is one, are followed as a process inside would do it.
/// They never lead out, and never into a procfs, which is the kernel's. One whose own target is missing is not made good.
pub(super) fn open_following(
    target: &Target,
    wanted: Wanted,
    make: bool,
) -> Result<OwnedFd, Errno> {
    let root = RootDir::here()?;
    let mut parent = RootDir::here()?;
    let last = target.components().len();
    for (number, (name, way)) in (1..).zip(target.components().iter().zip(target.ways())) {
        let wanted = if number == last {
            wanted
        } else {
            Wanted::Directory
        };
        let look = || {
            let found = root.open_inside(way.as_c_str(), OFlag::O_PATH)?;
            if fstatfs(&found)?.filesystem_type() == PROC_SUPER_MAGIC {
                return Err(Errno::ELOOP);
            }
            match (wanted, is_directory(&found)?) {
                (Wanted::Directory, false) => Err(Errno::ENOTDIR),
                (Wanted::File, true) => Err(Errno::EISDIR),
                _ => Ok(found),
            }
        };
        let found = match look() {
            Err(Errno::ENOENT) if make => {
                make_it(&parent, name, wanted)?;
                look()?
            }
            found => found?,
        };
        parent = RootDir::from(found);
    }
    Ok(parent.into())
}

fn step(parent: &RootDir, name: &CStr, wanted: Wanted, make: bool) -> Result<OwnedFd, Errno> {
    match look(parent, name, wanted) {
        Err(Errno::ENOENT) if make => {}
        found => return found,
    }
    make_it(parent, name, wanted)?;
    look(parent, name, wanted)
}

fn make_it(parent: &RootDir, name: &CStr, wanted: Wanted) -> Result<(), Errno> {
    // The modes are as they are asked for, whatever mask the caller has.
    let mask = umask(Mode::empty());
    let made = create(parent, name, wanted);
    umask(mask);
    match made {
        // Somebody else, another launch perhaps, has just made it.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn look(parent: &RootDir, name: &CStr, wanted: Wanted) -> Result<OwnedFd, Errno> {
    let kind = match wanted {
        Wanted::Directory => OFlag::O_DIRECTORY,
        Wanted::File | Wanted::Existing => OFlag::empty(),
    };
    let found = parent.open_plain(name, OFlag::O_PATH | kind, Mode::empty())?;
    if wanted == Wanted::File && is_directory(&found)? {
        return Err(Errno::EISDIR);
    }
    Ok(found)
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    let kind = fstat(fd)?.st_mode & SFlag::S_IFMT.bits();
    Ok(kind == SFlag::S_IFDIR.bits())
}

fn create(parent: &RootDir, name: &CStr, wanted: Wanted) -> Result<(), Errno> {
    if wanted != Wanted::File {
        return mkdirat(parent, name, Mode::from_bits_truncate(0o755));
    }
    // O_EXCL: a symlink that somebody puts there now is not followed.
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}
