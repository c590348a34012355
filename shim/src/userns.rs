//! A new user namespace that nobody has ids in yet: made with a process that only sleeps in it, given its maps from
//! outside, and then opened to be entered or to lend its maps to a mount.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::{Pid, pipe2, read};

use crate::error::errno_of;
use crate::sys::clone::{Clone as Cloned, clone3};
use crate::sys::{pidfd, process};

/// The namespace, kept by its sleeper until dropped; what was opened of it lives on.
#[derive(Debug)]
pub(crate) struct Blank {
    pid: Pid,
    pidfd: OwnedFd,
    /// The sleeper waits for the end of this pipe, so it cannot outlive us whatever happens to us.
    _held: OwnedFd,
}

impl Blank {
    /// Makes it; the caller's user is its owner and has every right over it.
    ///
    /// # Errors
    /// Those of `clone3(2)`: EPERM where the machine or a seccomp filter forbids it, ENOSPC beyond
    /// `user.max_user_namespaces`.
    pub(crate) fn new() -> Result<Self, Errno> {
        let (waiting, held) = pipe2(OFlag::O_CLOEXEC)?;
        match clone3(CloneFlags::CLONE_NEWUSER)? {
            Cloned::Child => {
                // Its copies of what we hold, locks above all, must not outlive us until it has heard of our end.
                process::close_all_but([waiting.as_raw_fd(); 2]);
                let mut byte = [0];
                while read(&waiting, &mut byte) == Err(Errno::EINTR) {}
                process::exit_now(0);
            }
            Cloned::Parent { pid, pidfd } => Ok(Self {
                pid,
                pidfd,
                _held: held,
            }),
        }
    }

    /// The sleeper's number, which cannot be reused before the drop reaps it.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Writes `uid_map`, `gid_map` or `setgroups`, which the kernel takes in one write only.
    ///
    /// # Errors
    /// Those of user_namespaces(7).
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<(), Errno> {
        OpenOptions::new()
            .write(true)
            .open(format!("/proc/{}/{file}", self.pid))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| errno_of(&error))
    }

    /// A handle to the namespace.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        File::open(format!("/proc/{}/ns/user", self.pid))
            .map(OwnedFd::from)
            .map_err(|error| errno_of(&error))
    }
}

impl Drop for Blank {
    fn drop(&mut self) {
        // It fails only if the process has ended, which is what is wanted.
        let _ = pidfd::send_signal(&self.pidfd, nix::libc::SIGKILL);
        // Bounded: after SIGKILL nothing keeps a process that only sleeps in a pipe read.
        let _ = pidfd::wait(&self.pidfd);
    }
}
