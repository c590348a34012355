//! What `mount add` and `mount rm` would do to the host: a mount whose target lies in one with `propagation=shared` travels
//! there and stays when the container ends, what is taken away from one goes there too, and a target that is made below a
//! `--share` is made in the host's directory. Launch knows from its plan where a target lies; here the kernel's tables say
//! it. Looks and changes nothing.

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
    let tables = Tables::read(running)?;
    let Some(around) = around(&mount.target, &tables.inside) else {
        return Ok(());
    };
    let place = list::target_of(around);
    if tables.is_shared(around) {
        return Err(Error::new("mount at")
            .on(&mount.target)
            .because(format!("it lies in {}, which is shared", place.display()))
            .hint("it would be mounted on the host as well and stay there; mount it on the host, at the source"));
    }
    let is_below = |share: &Share| place.starts_with(Path::new("/").join(share.name()));
    let is_same = |own: &MountInfo| {
        list::target_of(own) == place && (&own.majmin, &own.root) == (&around.majmin, &around.root)
    };
    if Share::ALL.iter().any(is_below) && tables.own.iter().any(is_same) {
        mount.make_target = false;
    }
    Ok(())
}

/// Refuses to take away what the caller has a peer of the mount around: it would be unmounted there too.
///
/// # Errors
/// Just that; the container has ended; /proc is not mounted.
pub(super) fn spare(target: &Target, running: &Running) -> Result<()> {
    let tables = Tables::read(running)?;
    let place = PathBuf::from(target.to_string());
    let top = around(target, &tables.inside).filter(|top| list::target_of(top) == place);
    // Unmounting travels to the peers of the mount that it is mounted on.
    let is_below = |one: &&MountInfo| top.is_some_and(|top| top.pid == one.mnt_id);
    let below = tables.inside.iter().find(is_below);
    match below.filter(|below| tables.is_shared(below)) {
        Some(below) => Err(Error::new("unmount")
            .on(target)
            .because(format!(
                "it lies in {}, which is shared",
                list::target_of(below).display()
            ))
            .hint("it would be unmounted on the host as well; unmount it there, at the source")),
        None => Ok(()),
    }
}

/// What the kernel says is mounted.
struct Tables {
    /// In the container.
    inside: Vec<MountInfo>,
    /// Where the caller is.
    own: Vec<MountInfo>,
}

impl Tables {
    fn read(running: &Running) -> Result<Self> {
        let own = host::mounts().ok_or_else(|| {
            Error::new("read")
                .on("/proc/self/mountinfo")
                .hint("/proc must be mounted")
        })?;
        Ok(Self {
            inside: list::table_of(running)?,
            own: own.into_iter().collect(),
        })
    }

    /// Whether the caller has a peer of a mount of the container's.
    fn is_shared(&self, inside: &MountInfo) -> bool {
        let group = peers(inside);
        group.is_some() && self.own.iter().any(|mount| peers(mount) == group)
    }
}

/// The mount that the target lies in, or the topmost that is there: found the way that the kernel goes, for what is mounted
/// above a place hides what is mounted below it.
fn around<'m>(target: &Target, mounts: &'m [MountInfo]) -> Option<&'m MountInfo> {
    let target = PathBuf::from(target.to_string());
    let mut way: Vec<&Path> = target.ancestors().collect();
    way.reverse();
    let is_at = |mount: &MountInfo, place: &Path| list::target_of(mount) == place;
    let on = |below: &MountInfo, place: &Path| {
        let is_on = |one: &&MountInfo| one.pid == below.mnt_id && one.mnt_id != below.mnt_id;
        mounts.iter().filter(is_on).find(|one| is_at(one, place))
    };
    // The first mount is its own parent, or that one cannot be seen.
    let is_first = |mount: &&MountInfo| {
        is_at(mount, Path::new("/"))
            && (mount.pid == mount.mnt_id || mounts.iter().all(|one| one.mnt_id != mount.pid))
    };
    let mut found = mounts.iter().find(is_first)?;
    for place in way {
        while let Some(above) = on(found, place) {
            found = above;
        }
    }
    Some(found)
}

/// The group in which it sends and receives.
fn peers(mount: &MountInfo) -> Option<u32> {
    mount.opt_fields.iter().find_map(|field| match field {
        MountOptFields::Shared(group) => Some(*group),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_lies_in_what_the_kernel_finds_there() {
        let table = "20 10 0:5 / / rw - overlay root rw\n\
                     30 20 0:6 / /a/b rw - tmpfs hidden rw\n\
                     40 20 0:7 / /a rw - tmpfs above rw\n\
                     50 70 0:8 / /p rw - tmpfs seen rw\n\
                     60 50 0:9 / /p/q\\040r rw - tmpfs space rw\n\
                     70 20 0:9 / /p rw master:9 - tmpfs beneath rw\n";
        let mounts = list::entries(table);
        for (target, source) in [
            ("/x", "root"),
            ("/a", "above"),
            ("/a/b", "above"),
            ("/a/b/c", "above"),
            ("/ab", "root"),
            ("/p", "seen"),
            ("/p/new", "seen"),
            ("/p/q r/s", "space"),
        ] {
            let target = Target::new(Path::new(target)).unwrap();
            let found = around(&target, &mounts).and_then(|one| one.mount_source.as_deref());
            assert_eq!(found, Some(source), "{target}");
        }
    }
}
