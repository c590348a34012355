//! Processes by descriptor: `pidfd_open(2)`, `pidfd_send_signal(2)`, `waitid(2)`. A number is only a way to get one.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{check, check_fd};
use crate::ended::Ended;

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

/// A copy of a descriptor of another process (`pidfd_getfd(2)`, Linux 5.6); close-on-exec.
///
/// # Errors
/// EBADF where it has none of this number; EPERM without the right to trace it.
pub fn take(process: impl AsFd, number: RawFd) -> Result<OwnedFd, Errno> {
    let process = process.as_fd().as_raw_fd();
    // SAFETY: no pointers; the call returns a new descriptor or an error.
    check_fd(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, number, 0) })
}

/// Waits for the end of a child and reaps it (P_PIDFD, Linux 5.4). Not nix's `waitid`, for which a death by a real-time
/// signal is EINVAL.
///
/// # Errors
/// ECHILD when it is no child of ours, or the kernel reaps by itself because we ignore SIGCHLD.
pub fn wait(process: impl AsFd) -> Result<Ended, Errno> {
    let raw = process.as_fd().as_raw_fd().cast_unsigned();
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the pointer is to a whole `siginfo_t`, which the call may fill.
        let result = unsafe { libc::waitid(libc::P_PIDFD, raw, info.as_mut_ptr(), libc::WEXITED) };
        match Errno::result(result) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        // SAFETY: all-zero is a valid `siginfo_t`, and the kernel has filled it in.
        let info = unsafe { info.assume_init() };
        // SAFETY: waitid has just filled in the fields of a child's end, the status among them.
        let status = unsafe { info.si_status() };
        return Ok(match info.si_code {
            libc::CLD_EXITED => Ended::Exited(status),
            // CLD_KILLED and CLD_DUMPED; nothing else was asked for.
            _ => Ended::Signaled(status),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_it_was_also_by_a_signal_without_a_name() {
        for (script, ended) in [
            ("exit 255", Ended::Exited(255)),
            ("kill -TERM $$", Ended::Signaled(libc::SIGTERM)),
            ("kill -40 $$", Ended::Signaled(40)),
        ] {
            let mut child = std::process::Command::new("sh")
                .args(["-c", script])
                .spawn()
                .unwrap();
            let process = open(Pid::from_raw(child.id().cast_signed())).unwrap();
            assert_eq!(wait(&process), Ok(ended), "{script}");
            assert!(child.wait().is_err(), "it has been reaped");
        }
    }
}
