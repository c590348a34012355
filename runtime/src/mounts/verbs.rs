//! `subcontainer mount add|rm|list`: mounts of a running container.

use std::path::Path;

use shim::Result;
use shim::mounts::Target;

use super::{MountSpec, list, peers, plan_one};
use crate::config::Dirs;
use crate::leader;
use crate::process::Rootfs;

/// Mounts what `spec` says in the container of `rootfs`.
///
/// # Errors
/// Bad input, no running container, a target from where it would travel to the host, and as [`shim::mounts::add`].
pub fn add(rootfs: &Path, spec: &MountSpec, dirs: &Dirs) -> Result<()> {
    let running = leader::find(&dirs.state, &Rootfs::open(rootfs)?.path)?;
    let mut mount = plan_one(spec, &dirs.base, running.leader.id_maps.as_ref())?;
    peers::respect(&mut mount, &running)?;
    shim::mounts::add(&running.leader.pidfd, running.namespaces, &mount)
}

/// Takes away the topmost mount at `target` in the container of `rootfs`.
///
/// # Errors
/// No running container, a target that would be unmounted on the host too, and as [`shim::mounts::remove`].
pub fn remove(rootfs: &Path, target: &Target, dirs: &Dirs) -> Result<()> {
    let running = leader::find(&dirs.state, &Rootfs::open(rootfs)?.path)?;
    peers::spare(target, &running)?;
    shim::mounts::remove(&running.leader.pidfd, running.namespaces, target)
}

/// The mounts of the container of `rootfs`, for people or for programs.
///
/// # Errors
/// No running container.
pub fn show(rootfs: &Path, json: bool, dirs: &Dirs) -> Result<String> {
    let running = leader::find(&dirs.state, &Rootfs::open(rootfs)?.path)?;
    let lines = list::read(&running)?;
    if json {
        list::json(&lines)
    } else {
        Ok(list::table(&lines))
    }
}
