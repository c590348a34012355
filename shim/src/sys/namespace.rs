//! What a namespace file is (ioctl_ns(2)).

use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;
use nix::sched::CloneFlags;

/// NS_GET_NSTYPE, which libc does not have on every target.
const GET_TYPE: u32 = 0xb703;

/// Its type, as the flag of clone(2).
///
/// # Errors
/// ENOTTY where it is no namespace.
pub fn kind(file: impl AsFd) -> Result<CloneFlags, Errno> {
    // SAFETY: the ioctl takes no argument and returns a number; a file of another kind answers ENOTTY.
    let kind = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), GET_TYPE as _) };
    Errno::result(kind).map(CloneFlags::from_bits_retain)
}
