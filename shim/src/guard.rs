//! Ends a PID 1 of the user's when the client dies, whatever PID 1 has become meanwhile.
//!
//! The kernel forgets PR_SET_PDEATHSIG whenever the ids of a process change (prctl(2)), and an entrypoint that drops
//! root before it executes the service is the rule. So a process of the host waits for the client's end beside it. It
//! is not for our own init, which never changes its ids.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::{pipe2, read, setsid};

use crate::sys::clone::{Clone, clone3};
use crate::sys::{pidfd, process};

/// The waiting process; ended and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    pidfd: OwnedFd,
    /// Nobody else has this end of the pipe, and nothing is ever written to it.
    _alive: OwnedFd,
}

impl Guard {
    /// From now on `victim` dies with the caller.
    ///
    /// # Errors
    /// Those of pipe2(2) and clone3(2).
    pub(crate) fn start(victim: BorrowedFd<'_>) -> Result<Self, Errno> {
        let (dead, alive) = pipe2(OFlag::O_CLOEXEC)?;
        match clone3(CloneFlags::empty())? {
            Clone::Child => wait(&dead, victim),
            Clone::Parent { pidfd, .. } => Ok(Self {
                pidfd,
                _alive: alive,
            }),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It fails only if the process has ended, which is what is wanted.
        let _ = pidfd::send_signal(&self.pidfd, nix::libc::SIGKILL);
        let _ = pidfd::wait(&self.pidfd);
    }
}

/// In the forked process: allocates nothing, and holds nothing of the client's, whose streams and lock end with it.
fn wait(dead: &OwnedFd, victim: BorrowedFd<'_>) -> ! {
    process::close_all_but([dead.as_raw_fd(), victim.as_raw_fd()]);
    // What kills the client's whole process group shall not reach us. It cannot fail in a process just forked.
    let _ = setsid();
    while read(dead, &mut [0]) == Err(Errno::EINTR) {}
    // ESRCH: it has ended by itself.
    let _ = pidfd::send_signal(victim, nix::libc::SIGKILL);
    process::exit_now(0)
}
