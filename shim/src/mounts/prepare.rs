//! The client's part: opens what comes from the host, in the host's namespaces, and makes detached mounts of it that
//! are complete before anybody can see them.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};

use super::parcel::{Packing, Parcel};
use super::{Content, Mount, dev, node};
use crate::idmap::{IdMap, idmapped_copy, user_namespace};
use crate::rootdir::{RootDir, fd_path};
use crate::sys::mount::{Change, Filesystem, Propagation, clone_tree, set_attributes};
use crate::{Error, Result};

/// Everything that `mounts` need of the host, in their order.
///
/// # Errors
/// Names the mount: a source that is missing or of another type, an id map that it does not take, and what the kernel
/// refuses for the lack of privilege. Nothing is left then.
pub(crate) fn prepare(mounts: &[Mount]) -> Result<Parcel> {
    let failed = |errno| {
        Error::new("pass mounts on").errno(errno).hint(match errno {
            Errno::EAGAIN | Errno::ETOOMANYREFS => "these are more mounts than a socket carries",
            _ => "raise the limit of open files (ulimit -n)",
        })
    };
    let mut packing = Packing::start().map_err(failed)?;
    for mount in mounts {
        match &mount.content {
            Content::Bind {
                source,
                file,
                recursive,
                propagation,
                idmap,
            } => {
                let source = open(mount, source, *file)?;
                let change = Change {
                    set: if mount.shallow {
                        0
                    } else {
                        mount.attributes.bits()
                    },
                    propagation: Some(*propagation),
                    recursive: *recursive,
                    ..Change::default()
                };
                let copy = bind(mount, &source, change, idmap)?;
                if !mount.recursive.is_nothing() {
                    let all = Change {
                        set: mount.recursive.set.bits(),
                        clear: mount.recursive.clear.bits(),
                        recursive: true,
                        ..Change::default()
                    };
                    set_attributes(&copy, all).map_err(|errno| locked(mount, errno))?;
                }
                if mount.shallow {
                    let top = Change {
                        set: mount.attributes.bits(),
                        ..Change::default()
                    };
                    set_attributes(&copy, top).map_err(|errno| locked(mount, errno))?;
                }
                packing.add(copy)
            }
            Content::Overlay { .. } => packing.add(overlay(mount)?),
            Content::Device { .. } => packing.add(device(mount)?),
            Content::Tmpfs { .. } | Content::New { .. } | Content::Remount { .. } => Ok(()),
            Content::Dev => {
                for node in dev::nodes() {
                    let node = node.map_err(|errno| {
                        mount
                            .source_failure(errno)
                            .hint("the host's /dev needs null, zero, full, random, urandom and tty")
                    })?;
                    packing.add(node).map_err(failed)?;
                }
                Ok(())
            }
        }
        .map_err(failed)?;
    }
    packing.close().map_err(failed)
}

fn open(mount: &Mount, path: &Path, file: bool) -> Result<OwnedFd> {
    let source = nix::fcntl::open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| source_missing(mount, errno))?;
    let stat = fstat(&source).map_err(|errno| source_missing(mount, errno))?;
    let is_directory =
        SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
    if is_directory == file {
        return Err(mount
            .source_failure(if file { Errno::EISDIR } else { Errno::ENOTDIR })
            .hint("the source has just been replaced by something of another type"));
    }
    Ok(source)
}

fn source_missing(mount: &Mount, errno: Errno) -> Error {
    mount.source_failure(errno).hint(match errno {
        Errno::ENOENT | Errno::ENOTDIR => "the source must exist on the host; it is not created",
        Errno::EMFILE => "too many open files: raise the limit (ulimit -n)",
        _ => "is the source readable for the caller?",
    })
}

fn bind(mount: &Mount, source: &OwnedFd, change: Change<'_>, map: &[IdMap]) -> Result<OwnedFd> {
    if !map.is_empty() {
        let namespace = user_namespace(map).map_err(|error| error.flags(mount.entry()))?;
        let change = Change {
            idmap: Some(namespace.as_fd()),
            ..change
        };
        return idmapped_copy(source, change)
            .map_err(|refused| cannot_map(mount, change, refused.errno()));
    }
    let copy = clone_tree(source, change.recursive).map_err(|errno| {
        mount.source_failure(errno).hint(match errno {
            Errno::EPERM => "needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace",
            Errno::EINVAL if change.recursive => "the source's mount is unbindable, or not in this mount namespace",
            Errno::EINVAL => "the source's mount is unbindable, or mounts below it are locked because they hide something: take recursive=true",
            _ => "is the source still there?",
        })
    })?;
    set_attributes(&copy, change).map_err(|errno| locked(mount, errno))?;
    Ok(copy)
}

fn locked(mount: &Mount, errno: Errno) -> Error {
    mount.source_failure(errno).hint(match errno {
        Errno::EPERM => "an attribute is locked, because the mount came from a more privileged namespace (mount_namespaces(7))",
        _ => "needs Linux 5.12 and CAP_SYS_ADMIN",
    })
}

fn cannot_map(mount: &Mount, change: Change<'_>, errno: Errno) -> Error {
    mount.source_failure(errno).hint(match errno {
        Errno::EINVAL if change.recursive => "its filesystem, or that of a mount below it, cannot be idmapped; recursive=false leaves those out",
        Errno::EINVAL => "its filesystem cannot be idmapped; ext4, xfs, btrfs, tmpfs, squashfs and others can, an overlay cannot",
        _ => "the kernel asks for CAP_SYS_ADMIN in the user namespace that owns the filesystem; and if the source is idmapped itself, for Linux 6.15",
    })
}

fn device(mount: &Mount) -> Result<OwnedFd> {
    let Content::Device {
        kind,
        major,
        minor,
        mode,
        owner,
    } = mount.content
    else {
        return Err(mount.source_failure(Errno::EINVAL));
    };
    node::alone(kind, makedev(major, minor), mode, owner)
        .and_then(|tree| {
            let change = Change {
                set: mount.attributes.bits(),
                propagation: Some(Propagation::Private),
                ..Change::default()
            };
            set_attributes(&tree, change).map(|()| tree)
        })
        .map_err(|errno| {
            mount.source_failure(errno).hint(match errno {
                Errno::EINVAL => {
                    "needs Linux 6.15; before that it must be there on the host, at the same path"
                }
                _ => "needs CAP_MKNOD and CAP_SYS_ADMIN in the initial user namespace",
            })
        })
}

fn overlay(mount: &Mount) -> Result<OwnedFd> {
    let Content::Overlay {
        lower,
        upper,
        user_attributes,
    } = &mount.content
    else {
        return Err(mount.source_failure(Errno::EINVAL));
    };
    let directory = |path: &PathBuf| {
        RootDir::open(path).map_err(|errno| {
            mount
                .source_failure(errno)
                .because(path.display().to_string())
                .hint("an overlay's layers are directories that exist; they are not created")
        })
    };
    let layers = Layers {
        lower: lower.iter().map(directory).collect::<Result<_>>()?,
        upper: match upper {
            None => None,
            Some(dirs) => Some([directory(&dirs.upper)?, directory(&dirs.work)?]),
        },
        user_attributes: *user_attributes,
    };
    let attempt = |by_fd: bool| -> Result<OwnedFd, (Errno, Option<String>)> {
        let filesystem = Filesystem::open(c"overlay").map_err(|errno| (errno, None))?;
        layers
            .configure(&filesystem, by_fd)
            .and_then(|()| filesystem.mount(mount.attributes.bits()))
            .map_err(|errno| (errno, filesystem.explanation()))
    };
    // By descriptor since Linux 6.13; before that by a path that needs no escaping.
    let (errno, explanation) = match attempt(true).or_else(|_| attempt(false)) {
        Ok(tree) => {
            let change = Change {
                propagation: Some(Propagation::Private),
                ..Change::default()
            };
            return set_attributes(&tree, change)
                .map(|()| tree)
                .map_err(|errno| mount.source_failure(errno).hint("needs Linux 5.12"));
        }
        Err(refusal) => refusal,
    };
    let error = mount.source_failure(errno);
    let error = match explanation {
        Some(text) if !text.is_empty() => error.because(text),
        _ => error,
    };
    Err(error.hint(match errno {
        Errno::ENODEV => "the kernel has no overlay filesystem: modprobe overlay",
        Errno::EPERM | Errno::EACCES => "needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace",
        _ => "upper and work must be two directories on one filesystem that is no overlay, work empty; dmesg has the kernel's reason",
    }))
}

/// An overlay's directories, opened.
struct Layers {
    lower: Vec<RootDir>,
    upper: Option<[RootDir; 2]>,
    user_attributes: bool,
}

impl Layers {
    fn configure(&self, filesystem: &Filesystem, by_fd: bool) -> Result<(), Errno> {
        filesystem.set(c"source", c"start-container")?;
        let path = |dir: &RootDir| fd_path(dir.as_fd());
        if by_fd {
            for dir in &self.lower {
                filesystem.set_fd(c"lowerdir+", dir)?;
            }
        } else {
            let list: Vec<_> = self.lower.iter().map(path).collect();
            let list: Vec<&[u8]> = list.iter().map(|path| path.to_bytes()).collect();
            let list = CString::new(list.join(&b':')).map_err(|_| Errno::EINVAL)?;
            filesystem.set(c"lowerdir", &list)?;
        }
        for (key, dir) in [c"upperdir", c"workdir"]
            .into_iter()
            .zip(self.upper.iter().flatten())
        {
            if by_fd {
                filesystem.set_fd(key, dir)?;
            } else {
                filesystem.set(key, &path(dir))?;
            }
        }
        if self.user_attributes {
            filesystem.set_flag(c"userxattr")?;
        }
        Ok(())
    }
}
