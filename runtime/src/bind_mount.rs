//! `bind-mount`: shows a file or directory of the host at another place, as a rule inside a root filesystem.
//!
//! The mount is put together detached (read-only, idmap), then attached to a descriptor of the target; the target is
//! found by the module `target`, which does not let a container decide where that is. A target that already has a mount
//! gets the new one on top of it. A source that is read-only stays so: attributes of the source's mount are kept.
//!
//! The copy is made a *slave* of the source: what is mounted below the source later appears in the container, but what
//! a client mounts below the target does not appear at the source, where nobody would ever unmount it. Below a shared
//! root filesystem it becomes shared as well, in a peer group of its own, and so reaches a container that runs.

pub mod target;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, Uid};
use shim::idmap::{IdMap, Refused, idmapped_copy, user_namespace};
use shim::sys::mount::{Change, Propagation, attach, attr, clone_tree, set_attributes};
use shim::{Error, Result};

use target::{Kind, Target};

use crate::config::Dirs;
use crate::{host, rootfs};

/// What to mount, where, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMount {
    /// What is shown; symlinks of the host are followed.
    pub source: PathBuf,
    /// Where; made, with its parents, if it does not exist.
    pub target: PathBuf,
    /// With everything that is mounted below the source.
    pub recursive: bool,
    /// Nothing can be changed through the mount; with `recursive`, nothing below either.
    pub readonly: bool,
    /// The source is a file (or a socket, a pipe, a device) and not a directory.
    pub file: bool,
    /// Ids on disk and as seen, in the container if the target is in one with ids of its own. Empty: as they are, which
    /// in such a container are the same numbers inside.
    pub idmap: Vec<IdMap>,
    /// Where root filesystems and their records are.
    pub dirs: Dirs,
}

impl BindMount {
    /// The flags as an error shows them.
    fn flags(&self) -> String {
        let mut flags = String::from(if self.recursive { "rbind" } else { "bind" });
        for (set, name) in [(self.readonly, ",ro"), (self.file, ",file")] {
            if set {
                flags.push_str(name);
            }
        }
        for line in &self.idmap {
            flags.push_str(&format!(",idmap={line}"));
        }
        flags
    }
}

/// Makes the mount.
///
/// # Errors
/// Source missing or of the other type, before anything is made; a target of the other type; an id map that the kernel
/// or a filesystem does not take. What was made for the target is removed again.
pub fn bind(request: &BindMount) -> Result<()> {
    let source = open_source(request)?;
    let kind = if request.file {
        Kind::File
    } else {
        Kind::Directory
    };
    let target = Target::resolve(&request.target, &request.dirs.base, kind)?;
    mount_at(request, &source, &target).inspect_err(|_| target.undo())
}

fn mount_at(request: &BindMount, source: &OwnedFd, target: &Target) -> Result<()> {
    let container = match target.rootfs() {
        None => None,
        Some(guid) => rootfs::id_maps_of(&request.dirs, guid)?,
    };
    let map = match &container {
        None => request.idmap.clone(),
        Some(maps) => rootfs::volume_map(&request.idmap, maps)?,
    };
    let mount = match detached(request, source, &map) {
        Err(_) if request.idmap.is_empty() && is_of_the_kernel(source) => {
            detached(request, source, &[])
        }
        other => other,
    }?;
    let failed =
        |errno| Error::sys("mount at", request.target.display(), errno).flags(request.flags());
    if let Some((user, group)) = container.and_then(|maps| maps.outside(0, 0)) {
        target
            .give_to(Uid::from_raw(user), Gid::from_raw(group))
            .map_err(|errno| {
                failed(errno).hint("the root filesystem refuses the owner of the target")
            })?;
    }
    attach(&mount, target.fd()).map_err(|errno| {
        failed(errno).hint(match errno {
            Errno::EPERM => {
                "needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace"
            }
            Errno::ENOENT => "the target was removed meanwhile",
            Errno::ENOSPC => "more mounts than sysctl fs.mount-max allows",
            Errno::EINVAL => "is the target in this mount namespace?",
            _ => "source and target must both be directories, or neither (--file)",
        })
    })
}

/// Whether the source is no storage but a view of the kernel's, whose files are root's of the host in any container,
/// and whose filesystem has no ids to map.
pub(crate) fn is_of_the_kernel(source: &OwnedFd) -> bool {
    const KINDS: [&str; 7] = [
        "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "mqueue",
    ];
    host::filesystem_of(source).is_some_and(|kind| KINDS.contains(&kind.as_str()))
}

fn open_source(request: &BindMount) -> Result<OwnedFd> {
    let shown = request.source.display();
    let failed = |errno| Error::sys("open source", &shown, errno);
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let source = nix::fcntl::open(&request.source, flags, Mode::empty()).map_err(|errno| {
        failed(errno).hint(match errno {
            Errno::ENOENT | Errno::ENOTDIR => "it must exist on the host; it is not created",
            Errno::ELOOP => "its symlinks lead in a circle",
            _ => "is it readable for the caller?",
        })
    })?;
    let stat = fstat(&source).map_err(failed)?;
    let is_directory =
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
    match (is_directory, request.file) {
        (true, true) => Err(Error::new("mount")
            .on(shown)
            .flags(request.flags())
            .because("the source is a directory")
            .hint("leave out --file")),
        (false, false) => Err(Error::new("mount")
            .on(shown)
            .flags(request.flags())
            .because("the source is not a directory")
            .hint("add --file")),
        _ => Ok(source),
    }
}

/// The mount, complete but attached nowhere.
fn detached(request: &BindMount, source: &OwnedFd, map: &[IdMap]) -> Result<OwnedFd> {
    let failed =
        |errno| Error::sys("make mount of", request.source.display(), errno).flags(request.flags());
    let userns = match map {
        [] => None,
        map => Some(user_namespace(map)?),
    };
    let mount = clone_tree(source, request.recursive).map_err(|errno| {
        failed(errno).hint(match errno {
            Errno::EPERM => {
                "needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace"
            }
            Errno::EINVAL => {
                "what hides mounts from a user namespace cannot be copied alone: try --recursive"
            }
            _ => "is the source still there?",
        })
    })?;
    let change = Change {
        set: if request.readonly { attr::RDONLY } else { 0 },
        propagation: Some(Propagation::Slave),
        recursive: request.recursive,
        ..Change::default()
    };
    let Some(userns) = userns else {
        set_attributes(&mount, change)
            .map_err(|errno| failed(errno).hint("needs Linux 5.12 and CAP_SYS_ADMIN"))?;
        return Ok(mount);
    };
    let idmapped = Change {
        idmap: Some(std::os::fd::AsFd::as_fd(&userns)),
        ..change
    };
    idmapped_copy(source, idmapped)
        .map_err(|refused| explain_idmap(request, source, idmapped, refused))
}

/// Which of two failures counts, and which mount is to blame.
fn explain_idmap(
    request: &BindMount,
    source: &OwnedFd,
    idmapped: Change<'_>,
    refused: Refused,
) -> Error {
    let errno = refused.errno();
    let culprit = if request.recursive {
        mount_that_refuses(request, idmapped)
    } else {
        None
    };
    let single = Change {
        recursive: false,
        ..idmapped
    };
    let top_refuses = !takes(source, single);
    let (subject, what) = match culprit {
        Some((place, kind)) if !top_refuses => (place, format!("its filesystem, {kind},")),
        _ => (request.source.clone(), "its filesystem".to_owned()),
    };
    let error =
        Error::sys("apply id map to mount of", subject.display(), errno).flags(request.flags());
    match errno {
        Errno::EPERM if refused.replacing == Errno::ENOSYS => error.hint(
            "if the source is idmapped itself, Linux 6.15 is needed; else CAP_SYS_ADMIN in the user namespace that owns its filesystem",
        ),
        Errno::EPERM => error.hint(
            "the kernel asks for CAP_SYS_ADMIN in the user namespace that owns the filesystem",
        ),
        Errno::EINVAL => error
            .because(format!("{what} cannot be idmapped"))
            .hint(if request.recursive && !top_refuses {
                "mount without --recursive, or unmount it"
            } else {
                "ext4, xfs, btrfs, tmpfs, squashfs and others can; a merged overlay, procfs, sysfs and most network filesystems cannot"
            }),
        _ => error.hint("needs Linux 5.12"),
    }
}

fn takes(source: &OwnedFd, idmapped: Change<'_>) -> bool {
    idmapped_copy(source, idmapped).is_ok()
}

/// The first mount below the source that does not take the map, and its filesystem's type.
fn mount_that_refuses(request: &BindMount, idmapped: Change<'_>) -> Option<(PathBuf, String)> {
    let single = Change {
        recursive: false,
        ..idmapped
    };
    let source = std::fs::canonicalize(&request.source).ok()?;
    host::mounts()?
        .into_iter()
        .filter(|mount| mount.mount_point.starts_with(&source))
        .find(|mount| refuses(&mount.mount_point, single))
        .map(|mount| (mount.mount_point, mount.fs_type))
}

fn refuses(place: &Path, idmapped: Change<'_>) -> bool {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    nix::fcntl::open(place, flags, Mode::empty()).is_ok_and(|mount| !takes(&mount, idmapped))
}
