//! Signal dispositions and masks around `execve`: what no program of ours may inherit, and what none may hand down.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

/// Gives SIGCHLD its default disposition back.
///
/// A caller that ignores SIGCHLD hands that down through execve, and the kernel then reaps children by itself: every
/// wait of ours would end with ECHILD and the exit status would be lost (wait(2), NOTES).
///
/// # Errors
/// None is documented for this signal.
pub fn default_child() -> Result<(), Errno> {
    // SAFETY: the default disposition runs no code of ours.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}

/// Gives all signals their default dispositions and blocks none, for a program that is about to be executed. Allocates
/// nothing.
///
/// # Errors
/// None is documented.
pub fn reset() -> Result<(), Errno> {
    for number in 1..=64 {
        // SAFETY: the default disposition runs no code of ours; SIGKILL, SIGSTOP and libc's own answer EINVAL.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    SigSet::empty().thread_set_mask()
}

/// Has a write beyond the limit of a file's size (RLIMIT_FSIZE) fail with EFBIG. Without this it is the end by SIGXFSZ,
/// which says nothing.
///
/// # Errors
/// None is documented for this signal.
pub fn ignore_file_size_limit() -> Result<(), Errno> {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.map(drop)
}

/// Has `command` start with an empty signal mask, and SIGXFSZ with its default disposition. What is blocked and what is
/// ignored survives execve, and the standard library hands down the caller's as it is (it resets SIGPIPE only).
pub fn start_clean(command: &mut Command) {
    let clean = || {
        SigSet::empty()
            .thread_set_mask()
            // SAFETY: the default disposition runs no code of ours.
            .and_then(|()| unsafe { signal(Signal::SIGXFSZ, SigHandler::SigDfl) }.map(drop))
            .map_err(|errno| io::Error::from_raw_os_error(errno as i32))
    };
    // SAFETY: between fork and execve the closure makes two system calls and allocates nothing, also on failure.
    unsafe { command.pre_exec(clean) };
}
