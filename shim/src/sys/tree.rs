//! What a process that cannot allocate needs to copy a directory tree: getdents64(2), readlinkat(2) and extended
//! attributes (xattr(7)), all by descriptor and into buffers of the caller's.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::check;

/// Where the length of an entry stands in the kernel's `struct linux_dirent64`, behind two numbers of 8 bytes.
const LENGTH_AT: usize = 16;
/// Where its name begins, behind the length and the kind.
const NAME_AT: usize = 19;

/// The names that one call has read.
#[derive(Debug)]
pub struct Names<'b>(&'b [u8]);

impl Names<'_> {
    /// Whether the directory has come to its end.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'b> Iterator for Names<'b> {
    type Item = &'b CStr;

    fn next(&mut self) -> Option<&'b CStr> {
        let length = self.0.get(LENGTH_AT..LENGTH_AT + 2)?;
        let length = usize::from(u16::from_ne_bytes([*length.first()?, *length.get(1)?]));
        let (entry, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        CStr::from_bytes_until_nul(entry.get(NAME_AT..)?).ok()
    }
}

/// The next names of an open directory, `.` and `..` among them; none at its end.
///
/// # Errors
/// Those of getdents64(2); EINVAL where the buffer is too small for one entry.
pub fn read_names(directory: impl AsFd, buffer: &mut [u8]) -> Result<Names<'_>, Errno> {
    // SAFETY: the kernel writes at most the length of the buffer, which it is given.
    let read = check(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_fd().as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    let filled = buffer.get(..length(read)?);
    filled.map(Names).ok_or(Errno::EOVERFLOW)
}

/// The text of a symlink that is open with O_PATH.
///
/// # Errors
/// Those of readlinkat(2); ENAMETOOLONG where the buffer is too small.
pub fn read_link(link: impl AsFd, buffer: &mut [u8]) -> Result<&CStr, Errno> {
    let room = buffer.len().saturating_sub(1);
    // SAFETY: the path is an empty C string, and the kernel writes at most `room` bytes into the buffer.
    let read = check(unsafe {
        libc::syscall(
            libc::SYS_readlinkat,
            link.as_fd().as_raw_fd(),
            c"".as_ptr(),
            buffer.as_mut_ptr(),
            room,
        )
    })?;
    let read = length(read)?;
    if read == room {
        return Err(Errno::ENAMETOOLONG);
    }
    *buffer.get_mut(read).ok_or(Errno::EOVERFLOW)? = 0;
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::EINVAL)
}

/// The names of a file's extended attributes, one after the other, each with its NUL byte.
///
/// # Errors
/// Those of flistxattr(2); ERANGE where the buffer is too small.
pub fn list_attributes(file: impl AsFd, buffer: &mut [u8]) -> Result<&[u8], Errno> {
    // SAFETY: the kernel writes at most the length of the buffer, which it is given.
    let read = check(unsafe {
        libc::syscall(
            libc::SYS_flistxattr,
            file.as_fd().as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    buffer.get(..length(read)?).ok_or(Errno::EOVERFLOW)
}

/// The value of one of them.
///
/// # Errors
/// Those of fgetxattr(2).
pub fn attribute<'b>(
    file: impl AsFd,
    name: &CStr,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], Errno> {
    // SAFETY: `name` is a C string, and the kernel writes at most the length of the buffer, which it is given.
    let read = check(unsafe {
        libc::syscall(
            libc::SYS_fgetxattr,
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    buffer.get(..length(read)?).ok_or(Errno::EOVERFLOW)
}

/// Sets one.
///
/// # Errors
/// Those of fsetxattr(2).
pub fn set_attribute(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: `name` is a C string, and the kernel reads the bytes of `value`, whose length it is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fsetxattr,
            file.as_fd().as_raw_fd(),
            name.as_ptr(),
            value.as_ptr(),
            value.len(),
            0,
        )
    };
    check(result).map(drop)
}

fn length(read: libc::c_long) -> Result<usize, Errno> {
    usize::try_from(read).map_err(|_| Errno::EOVERFLOW)
}
