//! `subcontainer inspect`: what a running container really has, as JSON, read back from the kernel and not from what was
//! asked for. Changes nothing and enters nothing.
//!
//! Everything is read through one descriptor of the leader's `/proc/PID` (procfs: reads fail with ESRCH once that very
//! process has ended), and the pidfd says before and after that it is the leader. The container can change what is
//! shown while it is being read (mounts, for instance); it cannot make this look at another process.

mod mounts;
mod process;

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use procfs::process::Process;
use serde::Serialize;
use shim::{Error, Result};

use crate::cli::{InspectArgs, Outcome};
use crate::config::Dirs;
use crate::leader;
use crate::process::Rootfs;
use crate::rootfs::image_of;

/// The document. Names are stable; new ones may be added.
#[derive(Debug, Serialize)]
struct Report {
    /// The root filesystem, absolute.
    rootfs: String,
    /// The image that create-fs made it from; null where that is not known.
    image: Option<String>,
    /// The profile that launch wrote down; null where the record is gone. All else is the kernel's word.
    profile: Option<String>,
    /// PID 1, by its number in the caller's PID namespace.
    pid: i32,
    /// When PID 1 started, in clock ticks since boot.
    start_time: u64,
    /// What PID 1 is and may do.
    #[serde(flatten)]
    process: process::Report,
    /// What it sees.
    #[serde(flatten)]
    mounts: mounts::Report,
}

/// Describes the container that runs on a root filesystem.
///
/// # Errors
/// No container runs there; it ended meanwhile; the caller may not look at its PID 1.
pub fn inspect(args: &InspectArgs, dirs: &Dirs) -> Result<Outcome> {
    let rootfs = Rootfs::open(&args.rootfs)?;
    let running = leader::find(&dirs.state, &rootfs.path)?;
    let ended = || {
        Error::new("inspect the container of")
            .on(rootfs.path.display())
            .because("it has just ended")
            .hint("try again if it is being replaced")
    };
    let pidfd = &running.leader.pidfd;
    let pid = pid_of(pidfd).ok_or_else(ended)?;
    let process = Process::new(pid).map_err(|error| unreadable(pid, &error))?;
    // The directory was opened while the pidfd's process was alive: it is that process's.
    if pid_of(pidfd) != Some(pid) {
        return Err(ended());
    }
    let report = Report {
        image: image_of(dirs, &rootfs.path).map(String::from),
        rootfs: rootfs.path.to_string_lossy().into_owned(),
        profile: running.profile,
        pid,
        start_time: process
            .stat()
            .map_err(|error| unreadable(pid, &error))?
            .starttime,
        process: process::read(&process).map_err(|error| unreadable(pid, &error))?,
        mounts: mounts::read(&process).map_err(|error| unreadable(pid, &error))?,
    };
    if pid_of(pidfd) != Some(pid) {
        return Err(ended());
    }
    let mut text = serde_json::to_string_pretty(&report)
        .map_err(|error| Error::new("print as JSON").because(error.to_string()))?;
    text.push('\n');
    Ok(Outcome::text(text))
}

/// The process that a pidfd holds, while it lives: `Pid:` of its fdinfo (pidfd_open(2)) is -1 afterwards.
fn pid_of(pidfd: &OwnedFd) -> Option<i32> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let text = std::fs::read_to_string(Path::new(&path)).ok()?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

fn unreadable(pid: i32, error: &procfs::ProcError) -> Error {
    Error::new("read about PID 1 of the container")
        .on(format!("/proc/{pid}"))
        .because(error.to_string())
        .hint("who launched it, or root, may look at it; if it has just ended, there is nothing to see")
}
