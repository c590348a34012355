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

/// Has `command` start with an empty signal mask. The mask survives execve, and the standard library hands down the
/// caller's as it is (it resets SIGPIPE only).
pub fn unblock_all_in(command: &mut Command) {
    let unblock = || {
        SigSet::empty()
            .thread_set_mask()
            .map_err(|errno| io::Error::from_raw_os_error(errno as i32))
    };
    // SAFETY: between fork and execve the closure makes one system call and allocates nothing, also on failure.
    unsafe { command.pre_exec(unblock) };
}
