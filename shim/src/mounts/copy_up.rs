//! Copies what lies in a directory of the root filesystem into a new filesystem that is about to cover it (`tmpcopyup`):
//! files, directories and symlinks with their owners, modes, times and extended attributes, FIFOs and device nodes.
//! Allocates nothing: a child that has been cloned uses it, in its own mount namespace and with its own limits.
//!
//! Each name is looked up in a directory that is open, and nothing is followed. What is mounted below the directory is
//! not its content and is left out.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, ResolveFlag, openat};
use nix::sys::sendfile::sendfile;
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, futimens, mkdirat, mknodat, umask,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

use crate::below::open_below;
use crate::sys::tree;

/// Each level has two descriptors open.
const DEPTH_MAX: usize = 128;
/// The longest text of a symlink (PATH_MAX), with its NUL byte and one more.
const LINK: usize = 4098;
/// What the kernel has room for (XATTR_LIST_MAX, XATTR_SIZE_MAX of linux/limits.h).
const ATTRIBUTES: usize = 65536;
/// They describe another mount, or are the policy's.
const NOT_COPIED: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];

/// Copies what is in the directory `from` into `to`, the root of a mount that nobody else has.
pub(super) fn copy(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let mask = umask(Mode::empty());
    let copied = here(from).and_then(|from| content(&from, to.as_fd(), 0));
    umask(mask);
    copied
}

/// Gives the root of a new filesystem what is wanted of the directory that it covers.
pub(super) fn take_over(
    from: impl AsFd,
    to: impl AsFd,
    with_mode: bool,
    with_owner: bool,
) -> Result<(), Errno> {
    let stat = fstat(from)?;
    let to = here(to)?;
    if with_owner {
        fchown(&to, Some(owner(&stat)), Some(group(&stat)))?;
    }
    match with_mode {
        true => fchmod(&to, mode(&stat)),
        false => Ok(()),
    }
}

fn here(directory: impl AsFd) -> Result<OwnedFd, Errno> {
    openat(directory, c".", directory_flags(), Mode::empty())
}

fn content(from: &OwnedFd, to: impl AsFd, depth: usize) -> Result<(), Errno> {
    if depth == DEPTH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut buffer = [0; 4096];
    loop {
        let names = tree::read_names(from, &mut buffer)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if !matches!(name.to_bytes(), b"." | b"..") {
                entry(from, name, to.as_fd(), depth)?;
            }
        }
    }
}

fn entry(from: &OwnedFd, name: &CStr, to: impl AsFd, depth: usize) -> Result<(), Errno> {
    let found = match open(from, name, OFlag::O_PATH) {
        // Gone meanwhile; or something is mounted there.
        Err(Errno::ENOENT | Errno::EXDEV) => return Ok(()),
        other => other?,
    };
    let stat = fstat(&found)?;
    let (kind, itself) = (kind(&stat), AtFlags::AT_SYMLINK_NOFOLLOW);
    match kind {
        SFlag::S_IFDIR => {
            let inner = open(from, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            mkdirat(&to, name, Mode::S_IRWXU)?;
            let made = openat(&to, name, directory_flags(), Mode::empty())?;
            content(&inner, &made, depth + 1)?;
            return finish(&inner, &made);
        }
        SFlag::S_IFREG => return file(from, name, to),
        SFlag::S_IFLNK => {
            let mut text = [0; LINK];
            symlinkat(tree::read_link(&found, &mut text)?, &to, name)?;
        }
        SFlag::S_IFIFO | SFlag::S_IFCHR | SFlag::S_IFBLK => {
            mknodat(&to, name, kind, mode(&stat), stat.st_rdev)?;
        }
        // Nobody listens at the copy of a socket.
        _ => return Ok(()),
    }
    fchownat(&to, name, Some(owner(&stat)), Some(group(&stat)), itself)?;
    let (read, written) = times(&stat);
    let no_follow = UtimensatFlags::NoFollowSymlink;
    utimensat(&to, name, &read, &written, no_follow)
}

fn directory_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

fn file(from: &OwnedFd, name: &CStr, to: impl AsFd) -> Result<(), Errno> {
    // Not blocking: it may have become a FIFO.
    let source = open(from, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    if kind(&fstat(&source)?) != SFlag::S_IFREG {
        return Err(Errno::ESTALE);
    }
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(&to, name, flags, Mode::S_IRWXU)?;
    // As much as one call moves (MAX_RW_COUNT).
    while sendfile(&made, &source, None, 0x7fff_f000)? > 0 {}
    finish(&source, &made)
}

/// Owner first: changing it takes set-user-ID bits and file capabilities away. Times last.
fn finish(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let stat = fstat(from)?;
    fchown(to, Some(owner(&stat)), Some(group(&stat)))?;
    fchmod(to, mode(&stat))?;
    attributes(from, to)?;
    let (read, written) = times(&stat);
    futimens(to, &read, &written)
}

fn attributes(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut names = [0; ATTRIBUTES];
    let names = match tree::list_attributes(from, &mut names) {
        Err(Errno::EOPNOTSUPP) => return Ok(()),
        names => names?,
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        if NOT_COPIED.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let name = CStr::from_bytes_with_nul(name).map_err(|_| Errno::EINVAL)?;
        let mut value = [0; ATTRIBUTES];
        let value = match tree::attribute(from, name, &mut value) {
            Err(Errno::ENODATA) => continue,
            value => value?,
        };
        match tree::set_attribute(to, name, value) {
            // tmpfs has those of users since Linux 6.6.
            Ok(()) | Err(Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn open(directory: &OwnedFd, name: &CStr, flags: OFlag) -> Result<OwnedFd, Errno> {
    open_below(
        directory,
        name,
        flags | OFlag::O_NOFOLLOW,
        Mode::empty(),
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    )
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn mode(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode)
}

fn owner(stat: &FileStat) -> Uid {
    Uid::from_raw(stat.st_uid)
}

fn group(stat: &FileStat) -> Gid {
    Gid::from_raw(stat.st_gid)
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}
