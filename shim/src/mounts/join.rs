//! Mounts of a running container: attached and taken away in its own mount namespace, by a process that joins it for
//! the purpose and then ends.
//!
//! It joins neither the PID namespace nor anything else, so nobody inside sees it, and it is not traceable in any case.

use std::os::fd::OwnedFd;
use std::slice;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, fchdir, setresgid, setresuid};

use super::target::Wanted;
use super::{Mount, Target, attach, prepare, target};
use crate::plan::Namespaces;
use crate::sys::mount::{Change, Propagation, set_attributes};
use crate::sys::process::hide_from_tracers;
use crate::sys::statx::place;
use crate::{Error, Result};

/// Attaches `mount` in the container that `leader` is PID 1 of; it is there for every process inside at once.
///
/// The calling process is in the container's namespaces afterwards, and must do nothing but end.
///
/// # Errors
/// Those of the source, before anything is joined; then those of the target. A target that was made may be left.
pub fn add(leader: &OwnedFd, namespaces: Namespaces, mount: &Mount) -> Result<()> {
    let parcel = prepare(slice::from_ref(mount))?;
    enter(leader, namespaces).map_err(|errno| cannot_enter(&mount.target, errno))?;
    attach(mount, &mut parcel.unpack()).map_err(|errno| mount.failure(errno))
}

/// Takes away the topmost mount at `target`, with what is mounted below it. Processes that have something open there
/// keep it until they close it.
///
/// The calling process is in the container's namespaces afterwards, and must do nothing but end.
///
/// # Errors
/// No mount is there, or it is one that the kernel keeps in place.
pub fn remove(leader: &OwnedFd, namespaces: Namespaces, target: &Target) -> Result<()> {
    enter(leader, namespaces).map_err(|errno| cannot_enter(target, errno))?;
    let failed = |errno| {
        Error::sys("unmount", target, errno).hint(match errno {
            Errno::ENOENT | Errno::ENOTDIR => "nothing is mounted there; see: subcontainer mount list ROOTFS",
            Errno::ELOOP => "it, or something on the way to it, is a symlink inside; give its real path",
            Errno::EINVAL => "it was there when the container was launched, and is locked together with what it covers (mount_namespaces(7)); unmount it on the host, or launch without it",
            _ => "see: subcontainer mount list ROOTFS",
        })
    };
    let found = target::open(target, Wanted::Existing, false).map_err(failed)?;
    if !place(&found.fd).map_err(failed)?.is_mount_root {
        return Err(Error::new("unmount")
            .on(target)
            .because("it is no mount point")
            .hint("see: subcontainer mount list ROOTFS"));
    }
    // Unmounting travels to the peers of what lies below, and those may be the host's. A slave has none, and still
    // hears of the host's mounts, should it have to stay.
    let alone = Change {
        propagation: Some(Propagation::Slave),
        recursive: true,
        ..Change::default()
    };
    set_attributes(&found.fd, alone).map_err(failed)?;
    // umount2(2) takes only paths, and /proc is none of ours here: the name, from the directory that it is in.
    fchdir(&found.parent).map_err(failed)?;
    let name = target.components().last().ok_or(Errno::EINVAL);
    let flags = MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH;
    name.and_then(|name| umount2(name.as_c_str(), flags))
        .map_err(failed)
}

fn enter(leader: &OwnedFd, namespaces: Namespaces) -> Result<(), Errno> {
    hide_from_tracers()?;
    let wanted = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER;
    setns(leader, namespaces.flags() & wanted)?;
    if namespaces.has_user() {
        // What is made for the target belongs to the container's root.
        let (group, root) = (Gid::from_raw(0), Uid::from_raw(0));
        setresgid(group, group, group)?;
        setresuid(root, root, root)?;
        // Changing ids has set it to the system's default (prctl(2), fs.suid_dumpable).
        hide_from_tracers()?;
    }
    Ok(())
}

fn cannot_enter(target: &Target, errno: Errno) -> Error {
    Error::sys("join the container to mount at", target, errno).hint(match errno {
        Errno::ESRCH => "the container has just ended",
        Errno::EPERM => "this needs root (CAP_SYS_ADMIN)",
        _ => "no root is mapped in the container's user namespace",
    })
}
