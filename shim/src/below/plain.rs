//! The walk where no link is followed at all (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS). Allocates nothing: a child that has
//! been cloned uses it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::SFlag;

use super::{Asked, components, kind, wants_directory};

/// A path with `..` is refused (EXDEV): nobody asks for one here.
pub(super) fn open(
    directory: BorrowedFd<'_>,
    path: &[u8],
    asked: &Asked,
) -> Result<OwnedFd, Errno> {
    if path.starts_with(b"/") {
        return Err(Errno::EXDEV);
    }
    let mut names = components(path);
    let Some(last) = names.next_back() else {
        return asked.open(directory, b".");
    };
    let mut reached: Option<OwnedFd> = None;
    for name in names.chain([last]) {
        if name == b".." {
            return Err(Errno::EXDEV);
        }
        let here = reached.as_ref().map_or(directory, |fd| fd.as_fd());
        if std::ptr::eq(name, last) {
            return open_last(here, name, asked, wants_directory(path));
        }
        let found = asked.look(here, name)?;
        match kind(&found)? {
            SFlag::S_IFDIR => reached = Some(found),
            SFlag::S_IFLNK => return Err(Errno::ELOOP),
            _ => return Err(Errno::ENOTDIR),
        }
    }
    Err(Errno::ENOENT)
}

fn open_last(
    parent: BorrowedFd<'_>,
    name: &[u8],
    asked: &Asked,
    directory: bool,
) -> Result<OwnedFd, Errno> {
    let asked = Asked {
        flags: match directory {
            true => asked.flags | OFlag::O_DIRECTORY,
            false => asked.flags,
        },
        ..*asked
    };
    let found = asked.open(parent, name);
    if asked.flags.contains(OFlag::O_NOFOLLOW) {
        return found;
    }
    match found {
        // Of a link the kernel says that it is no directory, and openat2(2) that it is a link.
        Err(Errno::ENOTDIR) => match kind(asked.look(parent, name)?)? {
            SFlag::S_IFLNK => Err(Errno::ELOOP),
            _ => Err(Errno::ENOTDIR),
        },
        Ok(found) if kind(&found)? == SFlag::S_IFLNK => Err(Errno::ELOOP),
        other => other,
    }
}
