//! What `mount add` would leave on the host: a mount whose target lies in one with `propagation=shared` travels there and
//! stays when the container ends, and a target that is made below a `--share` is made in the host's directory. Launch
//! knows from its plan where a target lies; here the kernel's tables say it. Looks and changes nothing.

use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, MountOptFields};
use shim::mounts::{Mount, Target};
use shim::{Error, Result};

use super::list;
use super::spec::Share;
use crate::host;
use crate::leader::Running;

/// Refuses a target in a mount that the caller has a peer of, and has none made in a share. Peers that only the container
/// has, because it has made its own mounts shared, are no obstacle.
///
/// # Errors
/// Just that; the container has ended; /proc is not mounted.
pub(super) fn respect(mount: &mut Mount, running: &Running) -> Result<()> {
    let inside = list::table_of(running)?;
    let own: Vec<MountInfo> = host::mounts()
        .ok_or_else(|| {
            Error::new("read")
                .on("/proc/self/mountinfo")
                .hint("/proc must be mounted")
        })?
        .into_iter()
        .collect();
    let Some(around) = around(&mount.target, &inside) else {
        return Ok(());
    };
    let place = list::target_of(around);
    let group = peers(around);
    if group.is_some() && own.iter().any(|mount| peers(mount) == group) {
        return Err(Error::new("mount at")
            .on(&mount.target)
            .because(format!("it lies in {}, which is shared", place.display()))
            .hint("it would be mounted on the host as well and stay there; mount it on the host, at the source"));
    }
    let is_below = |share: &Share| place.starts_with(Path::new("/").join(share.name()));
    let is_same = |own: &MountInfo| {
        list::target_of(own) == place && (&own.majmin, &own.root) == (&around.majmin, &around.root)
    };
    if Share::ALL.iter().any(is_below) && own.iter().any(is_same) {
        mount.make_target = false;
    }
    Ok(())
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

/// The group in which it sends and receives.
fn peers(mount: &MountInfo) -> Option<u32> {
    mount.opt_fields.iter().find_map(|field| match field {
        MountOptFields::Shared(group) => Some(*group),
        _ => None,
    })
}
