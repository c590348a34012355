//! `subcontainer exec`: the arguments, the root filesystem and the running container become a plan.

use nix::errno::Errno;
use shim::plan::{Exec, Namespaces, Plan};
use shim::{Result, signals};

use crate::cli::{ExecArgs, Outcome};
use crate::config::Dirs;
use crate::process::{self, Rootfs};
use crate::{dry_run, leader};

/// How many containers may end under our hands before we say so.
const ATTEMPTS: usize = 3;

/// Runs a command in a running container and stays until it has ended; none after a dry run.
///
/// # Errors
/// Bad input, no running container, and as [`shim::exec::exec`].
pub fn exec(args: &ExecArgs, dirs: &Dirs) -> Result<Outcome> {
    // The first thing, so that a signal that arrives from now on reaches the command.
    let signals = signals::block_all()?;
    let rootfs = Rootfs::open(&args.rootfs)?;
    let mut plan = Exec {
        process: process::plan(&rootfs.dir, &args.command, &args.process)?,
        namespaces: Namespaces::SUBCONTAINER,
        stdio: process::plan_stdio(&args.process),
        rootfs: rootfs.path,
    };
    if let Some(format) = args.dry_run {
        return dry_run::print(Plan::Exec(&plan), format);
    }
    let mut attempt = 1;
    loop {
        let running = leader::find(&dirs.state, &plan.rootfs)?;
        plan.namespaces = running.namespaces;
        match shim::exec::exec(&plan, running.leader, &signals) {
            // It ended after it was found and before it was joined; another launch may be taking its place.
            Err(error) if error.raw_errno() == Some(Errno::ESRCH) && attempt < ATTEMPTS => {
                attempt += 1
            }
            done => return done.map(Outcome::Ended),
        }
    }
}
