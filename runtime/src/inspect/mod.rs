//! `subcontainer inspect`: what a running container really has, as JSON, read back from the kernel and not from what was
//! asked for. Changes nothing, and enters nothing of the container.
//!
//! Everything is read through one descriptor of the leader's `/proc/PID` (procfs: reads fail with ESRCH once that very
//! process has ended), and the pidfd says before and after that it is the leader. The container can change what is
//! shown while it is being read (mounts, for instance); it cannot make this look at another process.

mod mounts;
mod process;

use std::collections::BTreeMap;

use procfs::process::Process;
use serde::Serialize;
use shim::{Error, Result};

use crate::cli::{InspectArgs, Outcome};
use crate::config::Dirs;
use crate::json;
use crate::process::Rootfs;
use crate::{leader, rootfs};

/// The document. Names are stable; new ones may be added.
#[derive(Debug, Serialize)]
struct Report {
    /// The root filesystem, absolute.
    rootfs: String,
    /// The image that create-fs made it from; null where that is not known.
    image: Option<String>,
    /// The profile that launch wrote down; null where the record is gone.
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
    /// Who says so, for what the kernel does not say: by the name of the field.
    sources: BTreeMap<&'static str, Source>,
}

/// Where a statement comes from that was not read back from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Source {
    /// What create-fs or launch wrote down.
    Record,
    /// The record is gone: it is what the next exec goes by.
    Rule,
}

/// What is not the kernel's word. Of which filter commands get the kernel cannot tell where none runs: our init is no
/// command and has none.
fn sources(recorded: bool) -> BTreeMap<&'static str, Source> {
    let filter = match recorded {
        true => Source::Record,
        false => Source::Rule,
    };
    BTreeMap::from([
        ("image", Source::Record),
        ("profile", Source::Record),
        ("seccomp.commands", filter),
    ])
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
    let pid = running.pid().ok_or_else(ended)?.as_raw();
    let process = Process::new(pid).map_err(|error| unreadable(pid, &error))?;
    // The directory was opened while the pidfd's process was alive: it is that process's.
    running.pid().ok_or_else(ended)?;
    let record = rootfs::record(dirs, &rootfs.path)?;
    let report = Report {
        image: record.map(|record| record.image),
        rootfs: rootfs.path.to_string_lossy().into_owned(),
        profile: running.profile.clone(),
        pid,
        start_time: process
            .stat()
            .map_err(|error| unreadable(pid, &error))?
            .starttime,
        process: process::read(&process, &running).map_err(|error| unreadable(pid, &error))?,
        mounts: mounts::read(&running, &process)?,
        sources: sources(running.profile.is_some()),
    };
    running.pid().ok_or_else(ended)?;
    json::pretty(&report).map(Outcome::text)
}

fn unreadable(pid: i32, error: &procfs::ProcError) -> Error {
    Error::new("read about PID 1 of the container")
        .on(format!("/proc/{pid}"))
        .because(error.to_string())
        .hint("who launched it, or root, may look at it; if it has just ended, there is nothing to see")
}
