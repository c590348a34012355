//! A directory tree that belongs to somebody else, opened once: every later access goes through this descriptor and
//! [`open_below`], so no symlink, magic link or race in the tree leads out of it.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::Mode;

use crate::below::open_below;

/// A root filesystem (or another hostile tree), held by an O_PATH descriptor.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

impl RootDir {
    /// Opens the directory that a path of the caller's names; symlinks of the host are followed.
    ///
    /// # Errors
    /// Those of open(2); ENOTDIR where it is not a directory.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// The working directory. Allocates nothing.
    ///
    /// # Errors
    /// Those of open(2).
    pub(crate) fn here() -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(c".", flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// The absolute path of the directory in the caller's mount namespace, free of symlinks.
    ///
    /// # Errors
    /// ENOENT where the directory has been removed or cannot be reached from the caller's root.
    pub fn path(&self) -> Result<PathBuf, Errno> {
        let path = read_fd_link(self.fd.as_fd())?;
        // The kernel marks what has no path: "/x (deleted)", "(unreachable)/x".
        let reachable =
            path.is_absolute() && RootDir::open(&path).is_ok_and(|again| again.is_same_as(self));
        if reachable {
            Ok(path)
        } else {
            Err(Errno::ENOENT)
        }
    }

    fn is_same_as(&self, other: &Self) -> bool {
        let key =
            |dir: &Self| nix::sys::stat::fstat(&dir.fd).map(|stat| (stat.st_dev, stat.st_ino));
        matches!((key(self), key(other)), (Ok(a), Ok(b)) if a == b)
    }

    /// Opens a path as a process whose root is this directory would: absolute symlinks resolve inside.
    ///
    /// # Errors
    /// Those of [`open_below`]; ELOOP on a magic link.
    pub fn open_inside<P: ?Sized + NixPath>(
        &self,
        path: &P,
        flags: OFlag,
    ) -> Result<OwnedFd, Errno> {
        open_below(
            self,
            path,
            flags,
            Mode::empty(),
            ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        )
    }

    /// Opens a path that must lead through real directories only: any symlink is ELOOP, leaving is EXDEV.
    ///
    /// # Errors
    /// Those of [`open_below`].
    pub fn open_plain<P: ?Sized + NixPath>(
        &self,
        path: &P,
        flags: OFlag,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        open_below(
            self,
            path,
            flags,
            mode,
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
        )
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for RootDir {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<RootDir> for OwnedFd {
    fn from(dir: RootDir) -> Self {
        dir.fd
    }
}

/// The path that names an open file through the caller's own `/proc`, for calls that take only paths (umount2).
#[must_use]
pub fn fd_path(fd: BorrowedFd<'_>) -> CString {
    use std::os::fd::AsRawFd;
    let text = format!("/proc/self/fd/{}", fd.as_raw_fd());
    // A number and a constant: no NUL byte.
    CString::new(text).unwrap_or_default()
}

/// Where an open file is, as the kernel prints it.
///
/// # Errors
/// Those of readlink(2), for instance ENOENT where /proc is not mounted.
pub fn read_fd_link(fd: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
    let target: OsString = nix::fcntl::readlink(fd_path(fd).as_c_str())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_vec())))
}
