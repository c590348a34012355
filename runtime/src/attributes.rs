//! Extended attributes (xattr(7)): which of them are a file's own, and how one file gets those of another.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use nix::errno::Errno;

/// Attributes that describe the packer's machine, not the file: the state of its overlay mounts, which a mount of ours
/// would obey, and the labels of its SELinux policy.
const NOT_OURS: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];

/// Whatever is made in a directory that has it gets permissions of it.
pub(crate) const DEFAULT_ACL: &str = "system.posix_acl_default";

/// Whether an attribute belongs to the file, on whatever machine it is.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    !NOT_OURS.iter().any(|prefix| name.starts_with(prefix))
}

/// Gives `to` those of the file's own attributes of `from` that are wanted. Both may be O_PATH descriptors.
///
/// # Errors
/// One of them cannot be read or set. A filesystem that has no attributes has none to be copied.
pub(crate) fn copy(
    from: impl AsFd,
    to: impl AsFd,
    is_wanted: fn(&OsStr) -> bool,
) -> nix::Result<()> {
    let (from, to) = (path_of(from), path_of(to));
    let copy = || -> io::Result<()> {
        for name in xattr::list_deref(&from)? {
            if !is_ours(name.as_encoded_bytes()) || !is_wanted(&name) {
                continue;
            }
            if let Some(value) = xattr::get_deref(&from, &name)? {
                xattr::set_deref(&to, &name, &value)?;
            }
        }
        Ok(())
    };
    match copy() {
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(()),
        other => other.map_err(|error| errno(&error)),
    }
}

/// The default ACL of a directory, as its attribute has it.
///
/// # Errors
/// It cannot be read.
pub(crate) fn default_acl(directory: impl AsFd) -> nix::Result<Option<Vec<u8>>> {
    match xattr::get_deref(path_of(directory), DEFAULT_ACL) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(None),
        other => other.map_err(|error| errno(&error)),
    }
}

/// What has an O_PATH descriptor has its attributes by the entry in /proc only, which leads to exactly the file that is
/// open.
fn path_of(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
