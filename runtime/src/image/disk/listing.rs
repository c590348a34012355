//! What is in a directory and what attributes it has: read through a descriptor, in an order that does not depend on the
//! filesystem, for who makes another image of it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use shim::error::errno_of;

/// Attributes, by their names.
pub(in crate::image) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Hands each name in a directory to `each`, in the order of the filesystem, until one fails.
pub(in crate::image) fn each_name<E: From<Errno>>(
    directory: impl AsFd,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory, ".", flags, Mode::empty())?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            each(name)?;
        }
    }
    Ok(())
}

/// The names in a directory, in the order of their bytes.
pub(in crate::image) fn names(directory: impl AsFd) -> Result<Vec<Box<[u8]>>, Errno> {
    let mut names = Vec::new();
    each_name(directory, |name| {
        names.push(name.into());
        Ok::<_, Errno>(())
    })?;
    names.sort_unstable();
    Ok(names)
}

/// The attributes of `name` in `directory`, or of the directory itself where it is empty, that `wanted` says; in order.
/// By path, because a symlink or a device has no descriptor that these calls take.
pub(in crate::image) fn attributes(
    directory: impl AsFd,
    name: &[u8],
    wanted: impl Fn(&[u8]) -> bool,
) -> Result<Attributes, Errno> {
    let number = directory.as_fd().as_raw_fd();
    let mut path = PathBuf::from(format!("/proc/self/fd/{number}"));
    path.push(OsStr::from_bytes(if name.is_empty() { b"." } else { name }));
    let listed = match xattr::list(&path) {
        Ok(listed) => listed,
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(errno_of(&error)),
    };
    let mut found = Vec::new();
    for attribute in listed.filter(|attribute| wanted(attribute.as_bytes())) {
        if let Some(value) = xattr::get(&path, &attribute).map_err(|error| errno_of(&error))? {
            found.push((attribute.as_bytes().to_vec(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}
