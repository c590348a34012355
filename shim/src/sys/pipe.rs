//! What lies between a writer and its reader: ioctls that nix has no safe wrapper for (pipe(7), FIONREAD; unix(7),
//! SIOCOUTQ).

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// How many bytes wait to be read from a pipe.
///
/// # Errors
/// ENOTTY where the descriptor cannot say.
pub fn unread(pipe: impl AsFd) -> Result<usize, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD fills in one int.
    Errno::result(unsafe {
        libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count)
    })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// How much of what was written to a stream socket its peer has not read, in units of the kernel's accounting.
///
/// # Errors
/// ENOTTY and EINVAL where the descriptor cannot say.
pub fn unsent(socket: impl AsFd) -> Result<usize, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, whose number is TIOCOUTQ's, fills in one int.
    Errno::result(unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count)
    })?;
    Ok(usize::try_from(count).unwrap_or(0))
}
