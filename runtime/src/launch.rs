//! `subcontainer launch`: the arguments, the root filesystem and the caller's situation become a plan.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signalfd::SignalFd;
use shim::launch::Moment;
use shim::plan::{Launch, Namespaces, Plan, Program, System};
use shim::procfs::ProcfsOrigin;
use shim::{Ended, Error, Result};

use crate::cli::{LaunchArgs, Outcome};
use crate::config::{Config, Dirs};
use crate::defaults::Defaults;
use crate::mounts::{self, Surroundings};
use crate::process::{self, Rootfs};
use crate::rootfs::Deferred;
use crate::rootless::{self, Origin};
use crate::{dry_run, host, leader, profile, rootfs, userns, warning};

/// Launches a container and stays until it has ended; none after a dry run, whose text is the other value.
/// `signals` are passed on to it.
///
/// # Errors
/// Bad input before anything is changed; then as [`shim::launch::launch`].
pub fn launch(
    args: &LaunchArgs,
    dirs: &Dirs,
    config: &Config,
    signals: &SignalFd,
) -> Result<Outcome> {
    let origin = enter(args, dirs)?;
    from(args, dirs, config, signals, &origin)
}

/// The same for a caller who has gone already to where the root filesystem can be mounted.
///
/// # Errors
/// As [`launch`].
pub(crate) fn from(
    args: &LaunchArgs,
    dirs: &Dirs,
    config: &Config,
    signals: &SignalFd,
    origin: &Origin,
) -> Result<Outcome> {
    let mut deferred = Deferred::at(dirs, &args.rootfs)?;
    if let Some(deferred) = &mut deferred {
        deferred.show(dirs)?;
    }
    let mut rootfs = Rootfs::open(&args.rootfs)?;
    let mut plan = plan(args, dirs, config, &rootfs, origin)?;
    if let Some(format) = args.dry_run {
        return dry_run::print(Plan::Launch(&plan), format);
    }
    let one_user = origin.single_id.as_ref().map(|why| {
        format!("the container has one user only, and the caller's groups, because {why}")
    });
    let mut warnings: Vec<String> = one_user.into_iter().collect();
    let mut claim = leader::claim(&dirs.state, &rootfs.path, origin.entered)?;
    if let Some(deferred) = &mut deferred {
        // What was opened would keep what is shown.
        drop(rootfs);
        warnings.extend(deferred.assemble(dirs)?);
        rootfs = Rootfs::open(&args.rootfs)?;
        plan = self::plan(args, dirs, config, &rootfs, origin)?;
    } else if claim.replaced {
        // The end of the container that was there may have changed what is mounted.
        rootfs = Rootfs::open(&args.rootfs)?;
        plan = self::plan(args, dirs, config, &rootfs, origin)?;
    }
    let reached = |moment| {
        let Moment::Stands(pid, procfs) = moment else {
            return claim.shown();
        };
        claim.publish(pid, &plan)?;
        if procfs == ProcfsOrigin::Surroundings {
            warnings.push(format!(
                "/proc inside is a read-only copy of the one outside, and shows what runs there; {}",
                shim::surroundings::proc_hint()
            ));
        }
        // Of a container that did not start there is one thing to say: why.
        warnings.iter().for_each(|warning| warning::say(warning));
        Ok(())
    };
    let ended: Ended = shim::launch::launch(&plan, rootfs.dir, signals, reached)?;
    Ok(Outcome::Ended(ended))
}

/// Goes to where the root filesystem can be mounted.
fn enter(args: &LaunchArgs, dirs: &Dirs) -> Result<Origin> {
    if Deferred::at(dirs, &args.rootfs)?.is_none() {
        // A plan for a directory that everybody sees can be shown without entering anything.
        return match args.dry_run {
            Some(_) => Origin::of_caller(),
            None => rootless::enter(),
        };
    }
    let origin = rootless::enter()?;
    if !origin.entered {
        return Err(Error::new("launch")
            .on(args.rootfs.display())
            .because("it was made without root, and can be assembled only so")
            .hint("launch it as the user who made it"));
    }
    Ok(origin)
}

/// Decides. Looks at the host and at the root filesystem and changes nothing.
fn plan(
    args: &LaunchArgs,
    dirs: &Dirs,
    config: &Config,
    rootfs: &Rootfs,
    origin: &Origin,
) -> Result<Launch> {
    // Its proc is the caller's own /proc, which would be taken for what a killed launch has left.
    if rootfs.path == Path::new("/") {
        return Err(Error::new("launch")
            .on(rootfs.path.display())
            .because("it is the caller's own root directory")
            .hint("ROOTFS is the directory that create-fs has printed"));
    }
    let defaults = Defaults::of(&dirs.base, args.process.image.as_ref())?;
    let command = defaults.command(args.command.as_ref(), args.entrypoint.as_deref())?;
    let stdio = match &command {
        None => process::plan_idle_stdio(),
        Some(_) => process::plan_stdio(&args.process),
    };
    let program = match &command {
        None => Program::Idle,
        Some(command) => {
            let process = process::plan(&rootfs.dir, command, &args.process, &defaults)?;
            if args.init {
                Program::Init(process)
            } else {
                Program::Command(process)
            }
        }
    };
    let record = rootfs::record(dirs, &rootfs.path)?;
    let settings = config.settings(record.as_ref().map(|record| record.image.as_str()));
    // Ids that a root filesystem was made with are not changed by what the configuration has come to say since.
    let has_ids = record
        .as_ref()
        .is_some_and(|record| record.id_maps.is_some());
    let configured = settings.userns.as_ref().filter(|_| !has_ids);
    let id_maps = userns::of_launch(args.userns.as_ref().or(configured), record.as_ref(), origin)?;
    let facts = profile::Facts::read(id_maps.is_some(), origin.initial_userns)?;
    let decision = profile::decide(&facts, &settings, &args.confinement)?;
    let mounts = settings.mounts_with(&args.mounts);
    let surroundings = Surroundings {
        rootfs: &rootfs.dir,
        dirs,
        id_maps: id_maps.as_ref(),
        sys_readonly: decision.views.cover(),
    };
    let resolv_conf = mounts.resolv_conf.as_deref();
    let mounts = mounts::plan(&mounts, surroundings)?;
    let failed = |errno: Errno| {
        Error::sys("look at the mount of", rootfs.path.display(), errno).hint("needs Linux 5.8")
    };
    Ok(Launch {
        bind_rootfs: !shim::sys::statx::place(&rootfs.dir)
            .map_err(failed)?
            .is_mount_root,
        hidden: false,
        cgroups: Vec::new(),
        pauses: false,
        no_pivot: false,
        shared_root: None,
        keeps_keyring: false,
        propagation: None,
        system: System::default(),
        rootfs: rootfs.path.clone(),
        namespaces: match id_maps {
            None => Namespaces::SUBCONTAINER,
            Some(_) => Namespaces::SUBCONTAINER.with_user(),
        },
        joined: Vec::new(),
        id_maps,
        set_groups: host::may_set_groups(),
        profile: decision.profile.name().to_owned(),
        privileges: decision.privileges(&facts)?,
        views: decision.views,
        resolv_conf: resolv_conf.map(mounts::read_resolv_conf).transpose()?,
        mounts,
        program,
        stop_signal: defaults.stop_signal()?,
        stdio,
    })
}
