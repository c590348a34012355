//! Processes by descriptor: `pidfd_open(2)`, `pidfd_send_signal(2)`. A number is only a way to get one.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{check, check_fd};

/// A pidfd for a running (or not yet reaped) process; close-on-exec (Linux 5.3).
///
/// # Errors
/// ESRCH where there is no such process.
pub fn open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointers; the call returns a new descriptor or an error.
    check_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Sends a signal, given by number so that real-time signals can be sent too.
///
/// # Errors
/// ESRCH when the process has been reaped, EPERM, EINVAL for a number that is no signal.
pub fn send_signal(process: impl AsFd, signal: libc::c_int) -> Result<(), Errno> {
    // SAFETY: a null siginfo asks the kernel to fill it in as kill(2) does.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_fd().as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result).map(drop)
}
