//! `subcontainer launch`: the arguments, the root filesystem and the caller's situation become a plan.

use nix::errno::Errno;
use shim::plan::{Launch, Namespaces, Plan, Privileges, Program, Views};
use shim::{Ended, Error, Result};

use crate::cli::{LaunchArgs, Outcome};
use crate::config::Dirs;
use crate::mounts::{self, Surroundings};
use crate::process::{self, Rootfs};
use crate::{dry_run, leader, rootfs, userns};

/// Launches a container and stays until it has ended; none after a dry run, whose text is the other value.
///
/// # Errors
/// Bad input before anything is changed; then as [`shim::launch::launch`].
pub fn launch(args: &LaunchArgs, dirs: &Dirs) -> Result<Outcome> {
    // The first thing, so that a signal that arrives from now on reaches the workload.
    let signals = shim::signals::block_all()?;
    let mut rootfs = Rootfs::open(&args.rootfs)?;
    let mut plan = plan(args, dirs, &rootfs)?;
    if let Some(format) = args.dry_run {
        return dry_run::print(Plan::Launch(&plan), format);
    }
    let mut claim = leader::claim(&dirs.state, &rootfs.path)?;
    if claim.replaced {
        // The end of the container that was there may have changed what is mounted.
        rootfs = Rootfs::open(&args.rootfs)?;
        plan = self::plan(args, dirs, &rootfs)?;
    }
    let started = |pid| claim.publish(pid, &plan);
    let ended: Ended = shim::launch::launch(&plan, rootfs.dir, &signals, started)?;
    Ok(Outcome::Ended(ended))
}

/// Decides. Looks at the host and at the root filesystem and changes nothing.
fn plan(args: &LaunchArgs, dirs: &Dirs, rootfs: &Rootfs) -> Result<Launch> {
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
    let record = rootfs::record(dirs, &rootfs.path)?;
    let id_maps = userns::of_launch(args.userns.as_ref(), record.as_ref())?;
    let views = Views::default();
    let surroundings = Surroundings {
        rootfs: &rootfs.dir,
        base: &dirs.base,
        id_maps: id_maps.as_ref(),
        sys_readonly: views.cover(),
    };
    let mounts = mounts::plan(&args.mounts, surroundings)?;
    let resolv_conf = args.mounts.resolv_conf.as_deref();
    let failed = |errno: Errno| {
        Error::sys("look at the mount of", rootfs.path.display(), errno).hint("needs Linux 5.8")
    };
    Ok(Launch {
        bind_rootfs: !shim::sys::statx::place(&rootfs.dir)
            .map_err(failed)?
            .is_mount_root,
        rootfs: rootfs.path.clone(),
        namespaces: match id_maps {
            None => Namespaces::SUBCONTAINER,
            Some(_) => Namespaces::SUBCONTAINER.with_user(),
        },
        id_maps,
        profile: "none".to_owned(),
        privileges: Privileges::default(),
        views,
        resolv_conf: resolv_conf.map(mounts::read_resolv_conf).transpose()?,
        mounts,
        program,
        stdio,
    })
}
