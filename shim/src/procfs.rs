//! The procfs that launch attaches at ROOTFS/proc: recognised without trusting the container, and taken away again.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::rootdir::{RootDir, fd_path};
use crate::sys::mount::{Change, Propagation, attr, clone_tree, set_attributes};
use crate::sys::statx::place;

/// The inode number of a procfs's root (PROC_ROOT_INO).
const ROOT_INODE: u64 = 1;
/// More stacked mounts than that are nobody's left-over.
const STACKED_MAX: usize = 64;

/// Opens ROOTFS/proc if it is the root of a procfs mount, through real directories only.
///
/// # Errors
/// EINVAL where something else is there; those of openat2(2), for instance ELOOP where `proc` is a symlink.
pub fn open(rootfs: &RootDir) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let fd = rootfs.open_plain(c"proc", flags, Mode::empty())?;
    if is_procfs(&fd)? {
        Ok(fd)
    } else {
        Err(Errno::EINVAL)
    }
}

fn is_procfs(fd: impl AsFd) -> Result<bool, Errno> {
    let place = place(fd.as_fd())?;
    let kind = fstatfs(fd.as_fd())?.filesystem_type();
    Ok(place.is_mount_root && place.inode == ROOT_INODE && kind == PROC_SUPER_MAGIC)
}

/// The same procfs through a read-only mount that is attached nowhere: whoever gets hold of this descriptor finds
/// nothing above it, whereas `..` of one that is attached on the host leads to the host's root; and can write to none of
/// the kernel's settings, which the container's own view covers and this one does not.
///
/// # Errors
/// Those of open_tree(2) and openat2(2).
pub(crate) fn detached(procfs: &OwnedFd) -> Result<OwnedFd, Errno> {
    let tree = clone_tree(procfs, false)?;
    let readonly = Change {
        set: attr::RDONLY,
        ..Change::default()
    };
    set_attributes(&tree, readonly)?;
    RootDir::from(tree).open_plain(c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
}

/// Takes away what a killed launch has left on ROOTFS/proc.
///
/// # Errors
/// Those of umount2(2). No `proc` at all, or nothing mounted there, is fine.
pub fn clear(rootfs: &RootDir) -> Result<(), Errno> {
    for _ in 0..STACKED_MAX {
        let fd = match open(rootfs) {
            Ok(fd) => fd,
            Err(_) => return Ok(()),
        };
        // It may be a recursive bind of somebody's shared /proc; taking that down must not reach the original.
        let private = Change {
            propagation: Some(Propagation::Private),
            recursive: true,
            ..Change::default()
        };
        set_attributes(&fd, private)?;
        umount2(fd_path(fd.as_fd()).as_c_str(), MntFlags::MNT_DETACH)?;
    }
    Ok(())
}
