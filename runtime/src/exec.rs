//! `subcontainer exec`: the arguments, the root filesystem and the running container become a plan.

use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;
use shim::Result;
use shim::exec::Failure;
use shim::plan::{Exec, Namespaces, Plan, Privileges};

use crate::cli::{ExecArgs, Outcome};
use crate::config::Dirs;
use crate::defaults::Defaults;
use crate::process::{self, Rootfs};
use crate::{dry_run, host, leader};

/// How long a container that ends under our hands may take to be replaced by another.
const REPLACEMENT: Duration = Duration::from_secs(2);
/// How long a PID 1 that is not init yet may take to become it: some system calls, on a machine that is busy.
const HIDDEN: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(2);

/// Runs a command in a running container and stays until it has ended; none after a dry run. `signals` are passed on to it.
///
/// # Errors
/// Bad input, no running container, and as [`shim::exec::exec`].
pub fn exec(args: &ExecArgs, dirs: &Dirs, signals: &SignalFd) -> Result<Outcome> {
    let in_view = leader::join_view(&dirs.state, &args.rootfs, args.dry_run.is_none())?;
    let rootfs = Rootfs::open(&args.rootfs)?;
    let defaults = Defaults::of(&dirs.base, args.process.image.as_ref())?;
    let mut plan = Exec {
        process: process::plan(&rootfs.dir, &args.command, &args.process, &defaults)?,
        namespaces: Namespaces::SUBCONTAINER,
        privileges: Privileges::default(),
        set_groups: host::may_set_groups(),
        detached: false,
        shared_root: false,
        keeps_keyring: false,
        stdio: process::plan_stdio(&args.process),
        rootfs: rootfs.path,
    };
    if let Some(format) = args.dry_run {
        return dry_run::print(Plan::Exec(&plan), format);
    }
    // Outside of a view it is most often for good: the caller lacks the right. But root of a container that may mount and
    // not trace (docker's --cap-add SYS_ADMIN) has to wait likewise.
    let hidden = if in_view { HIDDEN } else { REPLACEMENT };
    let begun = Instant::now();
    loop {
        let running = leader::find(&dirs.state, &plan.rootfs)?;
        plan.namespaces = running.namespaces;
        plan.privileges = running.privileges;
        match shim::exec::exec(&plan, running.leader, signals) {
            Ok(ended) => return Ok(Outcome::Ended(ended)),
            // It was ending when it was found; another launch may be taking its place.
            Err(Failure::Gone(_)) if begun.elapsed() < REPLACEMENT => std::thread::sleep(PAUSE),
            Err(Failure::Hidden(_)) if begun.elapsed() < hidden => std::thread::sleep(PAUSE),
            Err(Failure::Gone(error) | Failure::Hidden(error) | Failure::Failed(error)) => {
                return Err(error);
            }
        }
    }
}
