//! `subcontainer launch`: the arguments, the root filesystem and the caller's situation become a plan.

use nix::errno::Errno;
use shim::plan::{Launch, Namespaces, Plan, Privileges, Program, Views};
use shim::{Ended, Error, Result};

use crate::cli::{LaunchArgs, Outcome, Userns};
use crate::config::Dirs;
use crate::process::{self, Rootfs};
use crate::rootfs::Deferred;
use crate::rootless::{self, Surroundings};
use crate::{dry_run, host, leader, warning};

/// Launches a container and stays until it has ended; none after a dry run, whose text is the other value.
///
/// # Errors
/// Bad input before anything is changed; then as [`shim::launch::launch`].
pub fn launch(args: &LaunchArgs, dirs: &Dirs) -> Result<Outcome> {
    // The first thing, so that a signal that arrives from now on reaches the workload.
    let signals = shim::signals::block_all()?;
    let mut deferred = Deferred::at(dirs, &args.rootfs);
    // A plan for a directory that everybody sees can be shown without entering anything.
    let here = if args.dry_run.is_some() && deferred.is_none() {
        Surroundings::of_caller()?
    } else {
        rootless::enter()?
    };
    if let Some(deferred) = &mut deferred {
        if !here.entered {
            return Err(Error::new("launch")
                .on(args.rootfs.display())
                .because("it was made without root, and can be assembled only so")
                .hint("launch it as the user who made it"));
        }
        deferred.show(dirs)?;
    }
    let mut rootfs = Rootfs::open(&args.rootfs)?;
    let mut plan = plan(args, &rootfs, &here)?;
    if let Some(format) = args.dry_run {
        return dry_run::print(Plan::Launch(&plan), format);
    }
    if let Some(why) = &here.single_id {
        warning::say(&format!(
            "the container has one user only, and the caller's groups, because {why}"
        ));
    }
    let mut claim = leader::claim(&dirs.state, &rootfs.path, here.entered)?;
    if let Some(deferred) = &mut deferred {
        // What was opened would keep what is shown.
        drop(rootfs);
        if let Some(warning) = deferred.assemble(dirs)? {
            warning::say(&warning);
        }
        rootfs = Rootfs::open(&args.rootfs)?;
        plan = self::plan(args, &rootfs, &here)?;
    } else if claim.replaced {
        // The end of the container that was there may have changed what is mounted.
        rootfs = Rootfs::open(&args.rootfs)?;
        plan = self::plan(args, &rootfs, &here)?;
    }
    let started = |pid| claim.publish(pid, &plan);
    let ended: Ended = shim::launch::launch(&plan, rootfs.dir, &signals, started)?;
    Ok(Outcome::Ended(ended))
}

/// Decides. Looks at the host and at the root filesystem and changes nothing.
fn plan(args: &LaunchArgs, rootfs: &Rootfs, here: &Surroundings) -> Result<Launch> {
    let stdio = match &args.command {
        None => process::plan_idle_stdio(),
        Some(_) => process::plan_stdio(&args.process),
    };
    let program = match &args.command {
        None => Program::Idle,
        Some(command) => {
            let process = process::plan(&rootfs.dir, command, &args.process)?;
            if args.init {
                Program::Init(process)
            } else {
                Program::Command(process)
            }
        }
    };
    let userns = args.userns.unwrap_or_else(|| default_userns(here));
    let namespaces = Namespaces::SUBCONTAINER;
    let failed = |errno: Errno| {
        Error::sys("look at the mount of", rootfs.path.display(), errno).hint("needs Linux 5.8")
    };
    Ok(Launch {
        bind_rootfs: !shim::sys::statx::place(&rootfs.dir)
            .map_err(failed)?
            .is_mount_root,
        rootfs: rootfs.path.clone(),
        namespaces: match userns {
            Userns::Host => namespaces,
            Userns::Identity => namespaces.with_user(),
        },
        id_maps: match userns {
            Userns::Host => None,
            Userns::Identity => Some(host::identity_maps()?),
        },
        profile: "none".to_owned(),
        privileges: Privileges::default(),
        views: Views::default(),
        set_groups: host::may_set_groups(),
        program,
        stdio,
    })
}

/// Inside somebody's user namespace that one is the boundary already, and services there need what it grants. On a bare
/// host a container gets one of its own; so it does in one that the caller has made for itself, whose root the launch is.
fn default_userns(here: &Surroundings) -> Userns {
    if here.initial_userns || here.entered {
        Userns::Identity
    } else {
        Userns::Host
    }
}
