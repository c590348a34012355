//! Opens what lies below a directory that belongs to somebody else, so that no symlink, magic link, `..` or race in it
//! leads out. The only place that knows how that is asked of the kernel.
//!
//! openat2(2) does it in one call. It is in every kernel that is supported, but a seccomp filter of the surroundings may
//! hide it. Then the same way is walked here, one component at a time, each by descriptor and none of them followed:
//! what is a symlink is seen from its descriptor and its text is read from it, and `..` goes back to the descriptor that
//! the walk came from. So whatever is renamed meanwhile, the next component is looked up in a directory that was
//! reached from the one at the top.

#[deny(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]
mod plain;
mod walk;

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::sys::statx::place;

/// How often the kernel is asked again when a `..` raced with a rename; then the way is walked, which has no such race.
const RACES_MAX: usize = 128;

/// Opens `path` below `directory`. `resolve` has either RESOLVE_IN_ROOT or RESOLVE_BENEATH.
///
/// # Errors
/// Those of openat2(2): ELOOP for a link that is not to be followed, EXDEV for what leads out.
pub fn open_below<P: ?Sized + NixPath>(
    directory: impl AsFd,
    path: &P,
    flags: OFlag,
    mode: Mode,
    resolve: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    let directory = directory.as_fd();
    let flags = flags | OFlag::O_CLOEXEC;
    path.with_nix_path(|path| by_kernel(directory, path, flags, mode, resolve))?
}

fn by_kernel(
    directory: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    mode: Mode,
    resolve: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags).mode(mode).resolve(resolve);
    let mut races = 0;
    loop {
        match openat2(directory, path, how) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if races < RACES_MAX => races += 1,
            // Filters hide a call with either of the first two. Where it is the file that is refused, the walk says so too.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => {
                return by_walking(directory, path, flags, mode, resolve);
            }
            other => return other,
        }
    }
}

fn by_walking(
    directory: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    mode: Mode,
    resolve: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    let asked = Asked {
        flags,
        mode,
        mount: match resolve.contains(ResolveFlag::RESOLVE_NO_XDEV) {
            true => Some(place(directory)?.mount_id),
            false => None,
        },
    };
    let path = path.to_bytes();
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if resolve.contains(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS) {
        plain::open(directory, path, &asked)
    } else {
        walk::open(
            directory,
            path,
            &asked,
            resolve.contains(ResolveFlag::RESOLVE_IN_ROOT),
        )
    }
}

/// What the last component is opened with, and the mount that all have to be on.
struct Asked {
    flags: OFlag,
    mode: Mode,
    mount: Option<u64>,
}

impl Asked {
    /// Opens the last component, which is not followed. O_PATH opens a link itself, as with openat2(2).
    fn open(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = self.flags | OFlag::O_NOFOLLOW;
        self.on_mount(nix::fcntl::openat(parent, name, flags, self.mode)?)
    }

    /// Looks at a component without opening what it is.
    fn look(&self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        self.on_mount(nix::fcntl::openat(parent, name, flags, Mode::empty())?)
    }

    fn on_mount(&self, found: OwnedFd) -> Result<OwnedFd, Errno> {
        match self.mount {
            Some(mount) if place(&found)?.mount_id != mount => Err(Errno::EXDEV),
            _ => Ok(found),
        }
    }
}

/// What kind of file it is.
fn kind(file: impl AsFd) -> Result<SFlag, Errno> {
    let bits = fstat(file)?.st_mode & SFlag::S_IFMT.bits();
    Ok(SFlag::from_bits_truncate(bits))
}

/// The components of a path that mean something.
fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

/// Whether the last component has to be a directory.
fn wants_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.")
}

#[cfg(test)]
mod tests;
