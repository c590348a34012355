//! What a confined container sees of the kernel's files: covered and read-only paths. The cloned process's part of it,
//! so nothing here allocates.
//!
//! The container gets a procfs mount of its own below the one that the host will attach: that one arrives by
//! propagation at a place that is taken, and the kernel tucks it underneath (attach_recursive_mnt, Linux 4.10). So all
//! is in place before anybody can join.
//!
//! Every path is opened from the container's root with openat2(2) and covered through that descriptor. What covers a
//! file is the host's null device, taken before the host's tree is left: one in the image could be anything. It is
//! taken read-only: writes still reach the device, but nobody inside changes the mode or the owner of the host's file,
//! which is theirs where ids are mapped onto themselves.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::mounts::NODES;
use crate::procfs;
use crate::rootdir::RootDir;
use crate::sys::mount::{
    Change, Filesystem, attach, attr, clone_tree, set_attributes, set_attributes_at,
};
use crate::sys::statx::place;

/// Mounts that hide what is below them. Each is attached once, and then copied from there.
#[derive(Debug, Default)]
pub(crate) struct Covers {
    null: Option<Cover>,
    empty: Option<Cover>,
    /// The host's, in the order of [`NODES`].
    nodes: [Option<OwnedFd>; NODES.len()],
}

#[derive(Debug)]
struct Cover {
    mount: OwnedFd,
    attached: bool,
}

impl Cover {
    fn new(mount: OwnedFd) -> Self {
        Self {
            mount,
            attached: false,
        }
    }

    fn put(&mut self, target: BorrowedFd<'_>) -> Result<(), Errno> {
        // A detached tree can be copied only since Linux 6.15.
        if self.attached {
            return attach(clone_tree(&self.mount, false)?, target);
        }
        attach(&self.mount, target)?;
        self.attached = true;
        Ok(())
    }
}

impl Covers {
    /// Takes the null device of the tree that the process still stands in.
    pub(crate) fn take_null(&mut self) -> Result<(), Errno> {
        let [null, ..] = &NODES;
        let cover = null.take()?.ok_or(Errno::ENODEV)?;
        self.null = Some(Cover::new(cover));
        Ok(())
    }

    /// Takes the harmless nodes of the tree that the process still stands in.
    pub(crate) fn take_nodes(&mut self) -> Result<(), Errno> {
        for (place, node) in self.nodes.iter_mut().zip(&NODES) {
            *place = node.take()?;
        }
        Ok(())
    }

    /// Puts the host's harmless nodes on those that the root filesystem has itself, and closes all others in it. What
    /// is mounted below, a /dev for instance, stays as it is.
    pub(crate) fn close_devices(&mut self) -> Result<(), Errno> {
        let root = root()?;
        let of_root = place(&root)?.mount_id;
        if let Ok(dev) = root.open_plain(c"dev", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
        {
            let dev = RootDir::from(dev);
            for (node, taken) in NODES.iter().zip(&self.nodes) {
                if let (Some(target), Some(taken)) = (node.open(&dev)?, taken)
                    && place(&target)?.mount_id == of_root
                {
                    attach(taken, target)?;
                }
            }
        }
        let closed = Change {
            set: attr::NODEV,
            ..Change::default()
        };
        set_attributes_at(c"/", closed)
    }

    /// Covers a path of the container; one that is not there has nothing to hide.
    pub(crate) fn mask(&mut self, path: &CStr) -> Result<(), Errno> {
        let Some(target) = target(path)? else {
            return Ok(());
        };
        let is_directory = fstat(&target)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        let cover = if is_directory {
            if self.empty.is_none() {
                self.empty = Some(Cover::new(empty_directory()?));
            }
            &mut self.empty
        } else {
            &mut self.null
        };
        cover.as_mut().ok_or(Errno::ENODEV)?.put(target.as_fd())
    }
}

fn empty_directory() -> Result<OwnedFd, Errno> {
    let filesystem = Filesystem::open(c"tmpfs")?;
    filesystem.set(c"mode", c"0555")?;
    // The root directory is one.
    filesystem.set(c"nr_inodes", c"1")?;
    filesystem.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)
}

/// Puts the container's procfs on /proc in its own tree; what is left in `made` is a copy for the host's view.
pub(crate) fn show(made: &mut Option<OwnedFd>) -> Result<(), Errno> {
    let own = made.take().ok_or(Errno::EBADF)?;
    let place = root()?.open_plain(c"proc", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
    attach(&own, &place)?;
    *made = Some(procfs::copy(&own)?);
    Ok(())
}

/// Makes a path of the container read-only, with what is mounted below it.
pub(crate) fn make_readonly(path: &CStr) -> Result<(), Errno> {
    let Some(target) = target(path)? else {
        return Ok(());
    };
    let copy = clone_tree(&target, true)?;
    set_attributes(&copy, readonly(true))?;
    attach(&copy, &target)
}

/// Makes the root filesystem read-only, and nothing that is mounted below it.
pub(crate) fn make_root_readonly() -> Result<(), Errno> {
    set_attributes_at(c"/", readonly(false))
}

fn readonly(recursive: bool) -> Change<'static> {
    Change {
        set: attr::RDONLY,
        recursive,
        ..Change::default()
    }
}

fn root() -> Result<RootDir, Errno> {
    open(
        c"/",
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map(RootDir::from)
}

/// A path of the container, opened from its root. A symlink on the way is the image's doing: a kernel's own path has
/// none, so there is nothing of the kernel's behind it.
fn target(path: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match root()?.open_plain(relative(path), OFlag::O_PATH, Mode::empty()) {
        Ok(target) => Ok(Some(target)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// An absolute path as seen from the root directory.
fn relative(path: &CStr) -> &CStr {
    let mut bytes = path.to_bytes_with_nul();
    while let [b'/', rest @ ..] = bytes {
        bytes = rest;
    }
    CStr::from_bytes_with_nul(bytes).unwrap_or(c".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_taken_from_the_root() {
        assert_eq!(relative(c"/proc/kcore"), c"proc/kcore");
        assert_eq!(relative(c"//proc"), c"proc");
        assert_eq!(relative(c"proc"), c"proc");
    }
}
