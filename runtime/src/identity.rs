//! Processes and boots, by what is never used twice.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use shim::sys::pidfd;
use shim::{Error, Result};

/// The number of this boot.
///
/// # Errors
/// /proc is not mounted.
pub(crate) fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(PATH)
        .map(|text| text.trim().to_owned())
        .map_err(|error| Error::io("read boot id", PATH, &error).hint("/proc must be mounted"))
}

/// A process, by what cannot be reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// As in the caller's PID namespace.
    pub(crate) pid: i32,
    /// In clock ticks since boot: field 22 of proc_pid_stat(5).
    pub(crate) start_time: u64,
}

impl Identity {
    /// The process that has this pid now.
    #[must_use]
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let start_time = procfs::process::Process::new(pid)
            .ok()?
            .stat()
            .ok()?
            .starttime;
        Some(Self { pid, start_time })
    }

    /// The caller.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub(crate) fn own() -> Result<Self> {
        Self::of(nix::unistd::getpid().as_raw()).ok_or_else(|| {
            Error::new("read")
                .on("/proc/self/stat")
                .hint("/proc must be mounted")
        })
    }

    /// A handle to the process, if it is still the one that was meant and has not ended.
    #[must_use]
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let pidfd = pidfd::open(Pid::from_raw(self.pid)).ok()?;
        // Compared after the handle was taken: if it agrees now, the handle refers to it.
        (Self::of(self.pid) == Some(self) && !has_ended(&pidfd, Duration::ZERO)).then_some(pidfd)
    }
}

/// Whether a process ends within `patience`; a zombie has ended.
#[must_use]
pub(crate) fn has_ended(pidfd: &OwnedFd, patience: Duration) -> bool {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    matches!(
        poll(
            &mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)],
            timeout
        ),
        Ok(1..)
    )
}
