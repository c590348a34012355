//! Makes a device node or a FIFO inside, for a process whose root is the container's, which allocates nothing: a child that
//! has been cloned uses it. Or outside, for a container that cannot make it itself.
//!
//! What is there already is never changed: it may be the host's, bound.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc::dev_t;
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat, umask};
use nix::unistd::{Gid, Uid, fchownat};

use super::target;
use crate::plan::{Node, NodeKind};
use crate::sys::mount::{Filesystem, attr, clone_tree};

/// Makes it; one of the same kind and number that is there already is what is wanted.
pub(crate) fn make(node: &Node) -> Result<(), Errno> {
    let (parent, name) = target::parent(&node.path, true)?;
    let (kind, number) = (node.kind.flag(), makedev(node.major, node.minor));
    let mask = umask(Mode::empty());
    let mode = Mode::from_bits_truncate(node.mode);
    let made = mknodat(&parent, name, kind, mode, number);
    umask(mask);
    match made {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    // By descriptor from here on: whoever else sees the directory may have put something else there.
    let there = parent.open_plain(name, OFlag::O_PATH, Mode::empty())?;
    let stat = fstat(&there)?;
    let same_kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == kind;
    if !same_kind || (kind != SFlag::S_IFIFO && stat.st_rdev != number) {
        return Err(Errno::EEXIST);
    }
    if made.is_err() {
        return Ok(());
    }
    let (owner, group) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
    let itself = AtFlags::AT_EMPTY_PATH;
    fchownat(&there, c"", Some(owner), Some(group), itself)
}

/// One in a filesystem of its own, as a detached mount of the node alone. A device in a filesystem that was mounted in a
/// container's user namespace could not be opened.
///
/// # Errors
/// EPERM without CAP_MKNOD and CAP_SYS_ADMIN over the initial user namespace; EINVAL before Linux 6.15, which clones no
/// part of a detached mount.
pub(super) fn alone(
    kind: NodeKind,
    number: dev_t,
    mode: u32,
    owner: (u32, u32),
) -> Result<OwnedFd, Errno> {
    let filesystem = Filesystem::open(c"tmpfs")?;
    // It and the directory; with no limit of one kind there would be none at all.
    filesystem.set(c"nr_inodes", c"2")?;
    filesystem.set(c"size", c"4k")?;
    let dir = filesystem.mount(attr::NOSUID | attr::NOEXEC)?;
    let name = c"device";
    let mask = umask(Mode::empty());
    let made = mknodat(
        &dir,
        name,
        kind.flag(),
        Mode::from_bits_truncate(mode),
        number,
    );
    umask(mask);
    made?;
    let node = openat(&dir, name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    fchownat(&node, c"", Some(user), Some(group), AtFlags::AT_EMPTY_PATH)?;
    clone_tree(&node, false)
}
