//! Whether a mount that is added to a running container would appear in the caller's mount table as well, and stay there
//! when the container ends: where its target lies in a mount with `propagation=shared`. Looks and changes nothing.

use std::path::PathBuf;

use procfs::process::{MountInfo, MountOptFields, Process};
use shim::mounts::Target;
use shim::{Error, Result};

use super::list;
use crate::leader::Running;

/// Refuses a target in a mount that the caller has a peer of. Peers that only the container has, because it has made its
/// own mounts shared, are no obstacle.
///
/// # Errors
/// Just that; the container has ended; /proc is not mounted.
pub(super) fn refuse(target: &Target, running: &Running) -> Result<()> {
    let inside = list::table_of(running)?;
    let own = Process::myself().and_then(|process| process.mountinfo());
    let own = own.map_err(|error| {
        Error::new("read")
            .on("/proc/self/mountinfo")
            .because(error.to_string())
            .hint("/proc must be mounted")
    })?;
    let Some(around) = around(target, &inside) else {
        return Ok(());
    };
    let has_peer = group(around)
        .is_some_and(|wanted| own.into_iter().any(|mount| group(&mount) == Some(wanted)));
    if !has_peer {
        return Ok(());
    }
    Err(Error::new("mount at")
        .on(target)
        .because(format!(
            "it lies in {}, which is shared",
            list::target_of(around).display()
        ))
        .hint("it would be mounted on the host as well and stay there; mount it on the host, at the source"))
}

/// The mount that the target lies in; of several at one place the youngest, which the kernel lists last.
fn around<'m>(target: &Target, mounts: &'m [MountInfo]) -> Option<&'m MountInfo> {
    let target = PathBuf::from(target.to_string());
    mounts
        .iter()
        .map(|mount| (list::target_of(mount), mount))
        .filter(|(place, _)| target.starts_with(place))
        .max_by_key(|(place, _)| place.components().count())
        .map(|(_, mount)| mount)
}

fn group(mount: &MountInfo) -> Option<u32> {
    mount.opt_fields.iter().find_map(|field| match field {
        MountOptFields::Shared(group) => Some(*group),
        _ => None,
    })
}
