//! The procfs that launch attaches at ROOTFS/proc: recognised without trusting the container, and taken away again.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::Pid;

use crate::below::open_below;
use crate::plan::{SecurityModule, Sysctl};
use crate::rootdir::{RootDir, fd_path};
use crate::sys::mount::{Change, Propagation, attr, clone_tree, set_attributes};
use crate::sys::statx::place;

/// The inode number of a procfs's root (PROC_ROOT_INO).
const ROOT_INODE: u64 = 1;
/// More stacked mounts than that are nobody's left-over.
const STACKED_MAX: usize = 64;

/// Writes a sysctl, by a procfs that nobody else can have covered. Allocates nothing: a cloned child does it.
pub(crate) fn write(procfs: &OwnedFd, sysctl: &Sysctl) -> Result<(), Errno> {
    let plain = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let path = sysctl.path.as_c_str();
    let file = open_below(procfs, path, OFlag::O_WRONLY, Mode::empty(), plain)?;
    nix::unistd::write(&file, sysctl.value.as_bytes()).map(drop)
}

/// Where a container's procfs comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProcfsOrigin {
    /// It was made for the container and shows its processes.
    #[default]
    Own,
    /// A read-only copy of the caller's: inside a container whose engine covers parts of /proc, the kernel lets nobody
    /// have one where they are not covered (`mount_too_revealing` in fs/namespace.c). It shows the processes of that
    /// container as well.
    Surroundings,
}

impl ProcfsOrigin {
    /// For the report socket.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Own => 1,
            Self::Surroundings => 2,
        }
    }

    /// What [`Self::byte`] has made; any other byte is no such message.
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Own, Self::Surroundings]
            .into_iter()
            .find(|origin| origin.byte() == byte)
    }
}

/// The caller's own /proc with all that covers parts of it, detached and read-only: most of its files belong to a root
/// that the container's root may be taken for. Allocates nothing.
///
/// # Errors
/// Those of open_tree(2) and mount_setattr(2).
pub(crate) fn of_surroundings(attributes: u64) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let tree = clone_tree(nix::fcntl::open(c"/proc", flags, Mode::empty())?, true)?;
    let change = Change {
        set: attributes | attr::RDONLY,
        propagation: Some(Propagation::Private),
        recursive: true,
        ..Change::default()
    };
    set_attributes(&tree, change)?;
    Ok(tree)
}

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

/// The same procfs through a mount that is attached nowhere: whoever gets hold of this descriptor finds nothing above
/// it, whereas `..` of one that is attached on the host leads to the host's root. It is as read-only as that one.
///
/// # Errors
/// Those of open_tree(2) and openat2(2).
pub(crate) fn detached(procfs: &OwnedFd) -> Result<OwnedFd, Errno> {
    let tree = RootDir::from(copy(procfs)?);
    tree.open_plain(c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
}

/// A detached copy, with what covers parts of it where that may not be left out. Allocates nothing.
///
/// # Errors
/// Those of open_tree(2).
pub(crate) fn copy(procfs: &OwnedFd) -> Result<OwnedFd, Errno> {
    clone_tree(procfs, false).or_else(|errno| match errno {
        // What covers parts of it is locked in place (mount_namespaces(7)).
        Errno::EINVAL => clone_tree(procfs, true),
        other => Err(other),
    })
}

/// The directory where a process has the label of what it executes, by the caller's procfs. It is a mount that is attached
/// nowhere: the process can be given it, and it leads nowhere else.
///
/// # Errors
/// EINVAL where /proc is something else; EXDEV where something is mounted on the way.
pub(crate) fn labels_of(process: Pid, module: SecurityModule) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let procfs = nix::fcntl::open(c"/proc", flags, Mode::empty())?;
    if !is_procfs(&procfs)? {
        return Err(Errno::EINVAL);
    }
    let plain = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let open = |name: &str| {
        let path = format!("{process}/{name}");
        open_below(&procfs, path.as_str(), flags, Mode::empty(), plain)
    };
    let directory = match module {
        // Linux 5.8; before, the files beside are its own where it is the only module.
        SecurityModule::AppArmor => match open("attr/apparmor") {
            Err(Errno::ENOENT) => open("attr")?,
            other => other?,
        },
        SecurityModule::Selinux => open("attr")?,
    };
    clone_tree(directory, false)
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
