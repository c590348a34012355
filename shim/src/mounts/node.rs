//! Makes a device node or a FIFO inside, for a process whose root is the container's. Allocates nothing: a child that has
//! been cloned uses it.
//!
//! What is there already is never changed: it may be the host's, bound.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat, umask};
use nix::unistd::{Gid, Uid, fchownat};

use super::target;
use crate::plan::Node;

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
