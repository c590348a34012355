//! What a confined container sees of the kernel's files: covered and read-only paths. The cloned process's part of it,
//! so nothing here allocates.
//!
//! The container gets a procfs mount of its own below the one that the host will attach: that one arrives by
//! propagation at a place that is taken, and the kernel tucks it underneath (attach_recursive_mnt, Linux 4.10). So all
//! is in place before anybody can join. Who has the root filesystem as a volume can swap its proc directory meanwhile:
//! then the host's mount would arrive where nothing is, with nothing covered. So what is covered is found from the mount
//! and not from the root, the host's is read-only, and at the end the mount must be what /proc is.
//!
//! Every path is opened with openat2(2) and covered through that descriptor. What covers a
//! file is the host's null device, taken before the host's tree is left: one in the image could be anything. It is
//! taken read-only: writes still reach the device, but nobody inside changes the mode or the owner of the host's file,
//! which is theirs where ids are mapped onto themselves.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::mounts::{NODES, populate};
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
    /// The procfs mount that the covers are on.
    procfs: Option<RootDir>,
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
        let root = RootDir::here()?;
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

    /// Puts the host's harmless nodes, and links, into the /dev of the process's root.
    pub(crate) fn make_devices(&self) -> Result<(), Errno> {
        populate(&RootDir::here()?, &self.nodes)
    }

    /// Covers a path of the container; one that is not there has nothing to hide.
    pub(crate) fn mask(&mut self, path: &CStr) -> Result<(), Errno> {
        let Some(target) = self.target(path)? else {
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

    /// Puts the container's procfs on /proc in its own tree; what is left in `made` is a copy for the host's view, which
    /// nothing covers: read-only, should anybody inside ever get hold of it (an attendant has a copy).
    pub(crate) fn show(&mut self, made: &mut Option<OwnedFd>) -> Result<(), Errno> {
        let own = made.take().ok_or(Errno::EBADF)?;
        attach(&own, proc_directory()?)?;
        let copy = procfs::copy(&own)?;
        set_attributes(&copy, readonly(true))?;
        *made = Some(copy);
        self.procfs = Some(RootDir::from(own));
        Ok(())
    }

    /// Whether the procfs that the covers are on is what /proc leads to, now that the host's has been attached.
    pub(crate) fn check(&self) -> Result<(), Errno> {
        match &self.procfs {
            Some(own) if place(own)?.mount_id != place(proc_directory()?)?.mount_id => {
                Err(Errno::ESTALE)
            }
            _ => Ok(()),
        }
    }

    /// Makes a path of the container read-only, with what is mounted below it.
    pub(crate) fn make_readonly(&self, path: &CStr) -> Result<(), Errno> {
        let Some(target) = self.target(path)? else {
            return Ok(());
        };
        let copy = clone_tree(&target, true)?;
        set_attributes(&copy, readonly(true))?;
        attach(&copy, &target)
    }

    /// A path of the container. A symlink on the way is the image's doing: a kernel's own path has none, so there is
    /// nothing of the kernel's behind it.
    fn target(&self, path: &CStr) -> Result<Option<OwnedFd>, Errno> {
        let found = match (&self.procfs, below(path, b"/proc/")) {
            (Some(procfs), Some(path)) => procfs.open_plain(path, OFlag::O_PATH, Mode::empty()),
            _ => {
                let path = below(path, b"/").ok_or(Errno::EINVAL)?;
                RootDir::here()?.open_plain(path, OFlag::O_PATH, Mode::empty())
            }
        };
        match found {
            Ok(target) => Ok(Some(target)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

fn proc_directory() -> Result<OwnedFd, Errno> {
    RootDir::here()?.open_plain(c"proc", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
}

fn empty_directory() -> Result<OwnedFd, Errno> {
    let filesystem = Filesystem::open(c"tmpfs")?;
    filesystem.set(c"mode", c"0555")?;
    // The root directory is one.
    filesystem.set(c"nr_inodes", c"1")?;
    filesystem.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)
}

/// Makes what is mounted at /dev read-only, and nothing that is mounted below it.
pub(crate) fn make_dev_readonly() -> Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let dev = RootDir::here()?.open_plain(c"dev", flags, Mode::empty())?;
    set_attributes(&dev, readonly(false))
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

/// What follows a directory in an absolute path.
fn below<'p>(path: &'p CStr, directory: &[u8]) -> Option<&'p CStr> {
    let rest = path.to_bytes_with_nul().strip_prefix(directory)?;
    CStr::from_bytes_with_nul(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_the_directory_that_they_are_in() {
        assert_eq!(below(c"/proc/kcore", b"/proc/"), Some(c"kcore"));
        assert_eq!(below(c"/proc/kcore", b"/"), Some(c"proc/kcore"));
        assert_eq!(below(c"/process", b"/proc/"), None);
        assert_eq!(below(c"proc", b"/"), None);
    }
}
