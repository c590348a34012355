//! Goes from directory to directory through descriptors, one at a time: neither the depth of a tree nor the length of a
//! path bounds it, no symlink is followed, and `..` is taken only if it leads to where we came from.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use shim::Result;

use super::scan::{Tree, failed};

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Where we are.
#[derive(Debug)]
pub(super) struct Walk {
    here: OwnedFd,
    node: usize,
}

impl AsFd for Walk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.here.as_fd()
    }
}

impl Walk {
    pub(super) fn at_root(root: impl AsFd) -> Result<Self, Errno> {
        let here = openat(root, ".", DIRECTORY, Mode::empty())?;
        Ok(Self { here, node: 0 })
    }

    /// Goes to a directory that is in one of those above, or in this one: the next in the tree's order always is.
    pub(super) fn go(&mut self, tree: &Tree, to: usize) -> Result<()> {
        let Some(target) = tree.directory(to) else {
            return Ok(());
        };
        while self.node != target.parent && self.node != to {
            let above = tree.directory(self.node).map_or(0, |here| here.parent);
            self.step(tree, above, b"..")?;
        }
        if self.node == to {
            return Ok(());
        }
        self.step(tree, to, &target.name)
    }

    fn step(&mut self, tree: &Tree, to: usize, name: &[u8]) -> Result<()> {
        let stepped = openat(&self.here, name, DIRECTORY, Mode::empty()).and_then(|next| {
            let stat = fstat(&next)?;
            let known = tree.directory(to).map(|directory| directory.identity);
            if known == Some((stat.st_dev, stat.st_ino)) {
                Ok(next)
            } else {
                Err(Errno::ESTALE)
            }
        });
        self.here = stepped.map_err(|errno| failed(tree.path(to, b""), errno))?;
        self.node = to;
        Ok(())
    }
}
