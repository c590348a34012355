//! Removes directory trees through descriptors, of any depth, without following a link and without leaving the tree.
//!
//! Two descriptors are open at a time, so that neither the limit on open files nor the stack bounds the depth. The way up
//! is `..`, which is taken only if it leads to the directory we came from. The names that are still to be visited go to disk
//! where they are many.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use shim::error::errno_of;

use super::{Names, Stack};

/// What stays of a tree that is removed.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) enum Keep<'names> {
    /// Nothing.
    Nothing,
    /// These names, and the directories that lead there.
    These(&'names Names),
    /// All but these names, and of those the directories that lead to something.
    AllBut(&'names Names),
}

impl Keep<'_> {
    fn is_nothing(self) -> bool {
        match self {
            Self::Nothing => true,
            Self::These(names) => names.is_empty(),
            Self::AllBut(_) => false,
        }
    }

    fn keeps(self, directory: u64, name: &[u8]) -> nix::Result<bool> {
        match self {
            Self::Nothing => Ok(false),
            Self::These(names) => names.contains(directory, name),
            Self::AllBut(names) => names.contains(directory, name).map(|there| !there),
        }
    }
}

/// Removes `name` in `parent` and all that is below it. That it is not there is no error.
pub(in crate::image) fn remove(parent: impl AsFd, name: &[u8]) -> nix::Result<()> {
    remove_but(parent.as_fd(), name, Keep::Nothing)
}

/// Removes `name` in `parent` and all that is below it, except what is kept.
pub(in crate::image) fn remove_but(
    parent: BorrowedFd<'_>,
    name: &[u8],
    kept: Keep<'_>,
) -> nix::Result<()> {
    let parent_kept = !kept.is_nothing() && kept.keeps(fstat(parent)?.st_ino, name)?;
    if !parent_kept {
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            // POSIX has EPERM for a directory, Linux EISDIR; some file systems keep to POSIX.
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(Errno::ENOENT) => return Ok(()),
            other => return other,
        }
    }
    match open_directory(parent, name) {
        Ok(directory) => empty(directory, kept)?,
        Err(Errno::ENOTDIR | Errno::ELOOP | Errno::ENOENT) if parent_kept => return Ok(()),
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            return unlinkat(parent, name, UnlinkatFlags::NoRemoveDir);
        }
        Err(errno) => return Err(errno),
    }
    if parent_kept {
        Ok(())
    } else {
        remove_directory(parent, name, kept)
    }
}

/// Empties the directory `name` in `parent` of all that is not kept.
pub(in crate::image) fn empty_but(
    parent: BorrowedFd<'_>,
    name: &[u8],
    kept: Keep<'_>,
) -> nix::Result<()> {
    empty(open_directory(parent, name)?, kept)
}

/// A directory on the way down: who it is, and how many directories in it are still to be visited.
struct Level {
    identity: (u64, u64),
    pending: usize,
    /// Its name in the level above, and whether it stays whatever is in it.
    name: Vec<u8>,
    stays: bool,
}

fn empty(top: OwnedFd, kept: Keep<'_>) -> nix::Result<()> {
    let mut here = top.try_clone().map_err(|error| errno_of(&error))?;
    let mut pending = Stack::new(&top);
    let mut levels = vec![enter(&here, Vec::new(), true, kept, &mut pending)?];
    while let Some(level) = levels.last_mut() {
        if level.pending > 0 {
            level.pending -= 1;
            let name = pending.pop().map_err(|error| errno_of(&error))?;
            let name = name.ok_or(Errno::EIO)?;
            let stays = kept.keeps(level.identity.1, &name)?;
            here = open_directory(here.as_fd(), &name)?;
            levels.push(enter(&here, name, stays, kept, &mut pending)?);
            continue;
        }
        let Some(done) = levels.pop() else { break };
        let Some(above) = levels.last() else { break };
        let up = openat(
            &here,
            "..",
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let stat = fstat(&up)?;
        if (stat.st_dev, stat.st_ino) != above.identity {
            // Somebody moved the directory while we were in it.
            return Err(Errno::ESTALE);
        }
        here = up;
        if !done.stays {
            remove_directory(here.as_fd(), &done.name, kept)?;
        }
    }
    Ok(())
}

/// Unlinks all in `directory` that is no directory and not kept, and adds the directories in it to `pending`.
fn enter(
    directory: &OwnedFd,
    name: Vec<u8>,
    stays: bool,
    kept: Keep<'_>,
    pending: &mut Stack<'_>,
) -> nix::Result<Level> {
    let stat = fstat(directory)?;
    let mut level = Level {
        identity: (stat.st_dev, stat.st_ino),
        pending: 0,
        name,
        stays,
    };
    let mut listing = Dir::openat(
        directory,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let is_directory = match entry.file_type() {
            Some(kind) => kind == nix::dir::Type::Directory,
            None => is_directory(directory, name)?,
        };
        if is_directory {
            pending.push(name);
            level.pending += 1;
        } else if !kept.keeps(stat.st_ino, name)? {
            unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(level)
}

fn is_directory(directory: &OwnedFd, name: &[u8]) -> nix::Result<bool> {
    let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR)
}

/// Opens a directory for listing. One that its owner may not enter is made enterable: it is going to be removed.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(parent, name, flags | OFlag::O_RDONLY, Mode::empty()) {
        Err(Errno::EACCES) => {
            nix::sys::stat::fchmodat(
                parent,
                name,
                Mode::S_IRWXU,
                nix::sys::stat::FchmodatFlags::NoFollowSymlink,
            )?;
            openat(parent, name, flags | OFlag::O_RDONLY, Mode::empty())
        }
        Ok(directory) => {
            let mode = Mode::from_bits_truncate(fstat(&directory)?.st_mode);
            if !nix::unistd::geteuid().is_root() && !mode.contains(Mode::S_IRWXU) {
                fchmod(&directory, mode | Mode::S_IRWXU)?;
            }
            Ok(directory)
        }
        Err(errno) => Err(errno),
    }
}

fn remove_directory(parent: BorrowedFd<'_>, name: &[u8], kept: Keep<'_>) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        // Something in it is kept, so it is what leads there.
        Err(Errno::ENOTEMPTY | Errno::EEXIST) if !kept.is_nothing() => Ok(()),
        other => other,
    }
}
