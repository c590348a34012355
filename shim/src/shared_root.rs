//! The root of a container that has no mount namespace of its own: a copy of ROOTFS's mounts, on ROOTFS, in the caller's
//! namespace or in somebody else's. All that the container mounts is below it, so one call takes everything away again.
//!
//! The copy is made before the container, and is attached by it: its ids can be written down before anybody sees it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};
use serde::{Deserialize, Serialize};

use crate::rootdir::RootDir;
use crate::sys::clone::visit;
use crate::sys::mount::{Change, Propagation, attach, clone_tree, set_attributes};
use crate::sys::statx::{lasting_place, place};

const DIRECTORY: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// A peer of the host's mounts would take them along when it goes.
const PRIVATE: Change<'_> = Change {
    set: 0,
    clear: 0,
    propagation: Some(Propagation::Private),
    idmap: None,
    recursive: true,
};

/// What is going to be attached.
#[derive(Debug)]
pub struct SharedRoot {
    /// The directory alone. Where the mount below is shared, its peers get copies of what is attached to it, and lose them
    /// with it, unless something is mounted in there.
    base: OwnedFd,
    /// The directory with its mounts, on that.
    tree: OwnedFd,
}

/// The ids of its two mounts, the upper one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Those of [`lasting_place`].
    pub lasting: [u64; 2],
    /// Those in `/proc/self/mountinfo`.
    pub listed: [u64; 2],
}

/// The same to a process of the container.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Root<'a> {
    /// It attaches it.
    New(&'a SharedRoot),
    /// It finds this directory.
    Joined(BorrowedFd<'a>),
}

impl SharedRoot {
    /// Makes copies of the mounts of a root filesystem, attached nowhere.
    ///
    /// # Errors
    /// Those of open_tree(2) and mount_setattr(2).
    pub fn new(rootfs: &RootDir) -> Result<Self, Errno> {
        let (base, tree) = (clone_tree(rootfs, false)?, clone_tree(rootfs, true)?);
        set_attributes(&base, PRIVATE)?;
        set_attributes(&tree, PRIVATE)?;
        Ok(Self { base, tree })
    }

    /// What the two mounts are known by.
    ///
    /// # Errors
    /// Those of statx(2).
    pub fn ids(&self) -> Result<Ids, Errno> {
        Ok(Ids {
            lasting: [
                lasting_place(&self.tree)?.mount_id,
                lasting_place(&self.base)?.mount_id,
            ],
            listed: [place(&self.tree)?.mount_id, place(&self.base)?.mount_id],
        })
    }

    /// Attaches them at `path` of the namespace that we are in. Allocates nothing.
    pub(crate) fn attach(&self, path: &CStr) -> Result<(), Errno> {
        let target = open(path, DIRECTORY, Mode::empty())?;
        attach(&self.base, &target)?;
        // On a shared mount it has become one.
        set_attributes(&self.base, PRIVATE)?;
        attach(&self.tree, &self.base)?;
        fchdir(&self.tree)
    }
}

/// Makes the working directory the root of this process. Allocates nothing.
pub(crate) fn enter() -> Result<(), Errno> {
    chroot(c".")?;
    chdir(c"/")
}

/// Whether a directory is the root of the mount with this lasting id.
///
/// # Errors
/// Those of statx(2).
pub fn is_root_of(directory: impl AsFd, id: u64) -> Result<bool, Errno> {
    let place = lasting_place(directory)?;
    Ok(place.is_mount_root && place.mount_id == id)
}

/// Unmounts the two of these ids that are at `path`, the upper one first, with all that is below, in a mount namespace of
/// somebody else's if one is given: whether the last of them was there.
///
/// # Errors
/// Those of setns(2) and umount2(2).
pub fn remove(path: &CStr, ids: &Ids, namespace: Option<BorrowedFd<'_>>) -> Result<bool, Errno> {
    let remove_one = |id| {
        let root = match open(path, DIRECTORY, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
            Err(errno) => return Err(errno),
        };
        if !is_root_of(&root, id)? {
            return Ok(false);
        }
        // Whoever looks for the path once more may find another.
        fchdir(&root)?;
        umount2(c".", MntFlags::MNT_DETACH).map(|()| true)
    };
    let [upper, lower] = ids.lasting;
    visit(|| {
        if let Some(namespace) = namespace {
            setns(namespace, CloneFlags::CLONE_NEWNS)?;
        }
        remove_one(upper)?;
        remove_one(lower)
    })
}
