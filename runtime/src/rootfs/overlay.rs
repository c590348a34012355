//! Assembles the overlay: image below, writable layer above, one detached mount as the result.
//!
//! Layers are given by descriptor (Linux 6.13), else as `/proc/self/fd/N`: nothing to escape (overlay splits paths at
//! `:` and `,`), no limit of 255 bytes (fsconfig(2)), and no way to swap a directory in between.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use shim::rootdir::fd_path;
use shim::sys::mount::{Filesystem, attach};
use shim::{Error, Result, RootDir};
use sys_mount::{UnmountFlags, unmount};

use super::layers::{Layer, Writable};

/// Directories in `DATA/containers/GUID` that older kernels need for the length of one call.
pub(super) const STAGES: [&str; 2] = ["stage-lower", "stage-upper"];

/// A failed attempt, and what the kernel said about it.
#[derive(Debug)]
pub(super) struct Refusal {
    errno: Errno,
    explanation: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self {
            errno,
            explanation: None,
        }
    }
}

impl Refusal {
    /// Whether it may be the filesystem of the upper directory that overlay does not take: an overlay, a network
    /// filesystem, one without extended attributes or RENAME_WHITEOUT.
    pub(super) fn may_be_the_upper(&self) -> bool {
        matches!(self.errno, Errno::EINVAL | Errno::EOPNOTSUPP)
    }

    pub(super) fn into_error(self, image: &str, data: &Path) -> Error {
        let error = Error::sys("mount overlay over image", image, self.errno)
            .flags(format!("upper below {}", data.display()));
        let error = match self.explanation {
            Some(text) => error.because(text),
            None => error,
        };
        match self.errno {
            Errno::EPERM | Errno::EACCES => error
                .hint("needs CAP_SYS_ADMIN in the user namespace that owns the mount namespace"),
            Errno::ENODEV => error.hint("the kernel has no overlay filesystem: modprobe overlay"),
            Errno::ENOSPC => error.hint("make room below --data; or raise sysctl fs.mount-max"),
            _ => error.hint("dmesg has the kernel's reason; try another filesystem with --data"),
        }
    }
}

/// How layers are named to the kernel.
#[derive(Debug, Clone, Copy)]
enum Naming {
    Descriptor,
    Path,
}

/// Makes the overlay. Before Linux 6.15 overlay takes only layers that are attached in the caller's mount namespace;
/// a detached one then gets a place in `data` for the length of the call.
pub(super) fn assemble(
    lower: &Layer,
    writable: &Writable,
    data: &RootDir,
) -> Result<OwnedFd, Refusal> {
    let first = mount(lower, writable);
    let detached = lower.detached || writable.layer.detached;
    match first {
        Err(refusal) if detached && refusal.errno == Errno::EINVAL => {
            assemble_staged(lower, writable, data).map_err(|_| refusal)
        }
        other => other,
    }
}

/// The same with detached layers attached in `data` meanwhile.
pub(super) fn assemble_staged(
    lower: &Layer,
    writable: &Writable,
    data: &RootDir,
) -> Result<OwnedFd, Refusal> {
    let mut stages = Vec::new();
    for (layer, name) in [lower, &writable.layer].into_iter().zip(STAGES) {
        if layer.detached {
            stages.push(Stage::attach(layer, data, name)?);
        }
    }
    mount(lower, writable)
}

/// A mount that is attached only as long as this lives. A create that is killed meanwhile leaves it to `destroy`,
/// which finds it under the names in [`STAGES`].
#[derive(Debug)]
struct Stage(PathBuf);

impl Stage {
    fn attach(layer: &Layer, data: &RootDir, name: &str) -> Result<Self, Errno> {
        match mkdirat(data, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        let place = data.open_plain(name, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
        attach(layer, place)?;
        Ok(Self(data.path()?.join(name)))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Nothing to be done about a failure here: destroy tries again and reports.
        let _ = unmount(&self.0, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn mount(lower: &Layer, writable: &Writable) -> Result<OwnedFd, Refusal> {
    let filesystem = Filesystem::open(c"overlay")?;
    // The first kernel that takes "lowerdir+" as a descriptor takes all three so.
    let naming = match filesystem.set_fd(c"lowerdir+", lower) {
        Ok(()) => Naming::Descriptor,
        Err(_) => Naming::Path,
    };
    let filesystem = match naming {
        Naming::Descriptor => filesystem,
        Naming::Path => Filesystem::open(c"overlay")?,
    };
    configure(&filesystem, naming, lower, writable)
        .and_then(|()| filesystem.mount(0))
        .map_err(|errno| Refusal {
            errno,
            explanation: filesystem.explanation(),
        })
}

fn configure(
    filesystem: &Filesystem,
    naming: Naming,
    lower: &Layer,
    writable: &Writable,
) -> Result<(), Errno> {
    filesystem.set(c"source", c"start-container")?;
    match naming {
        Naming::Descriptor => {
            filesystem.set_fd(c"upperdir", &writable.upper)?;
            filesystem.set_fd(c"workdir", &writable.work)?;
        }
        Naming::Path => {
            filesystem.set(c"lowerdir", &fd_path(lower.as_fd()))?;
            filesystem.set(c"upperdir", &fd_path(writable.upper.as_fd()))?;
            filesystem.set(c"workdir", &fd_path(writable.work.as_fd()))?;
        }
    }
    // Inode numbers that do not change when a file is copied up, whatever the kernel was configured with.
    filesystem.set(c"xino", c"auto")?;
    if in_user_namespace() {
        // trusted.* attributes belong to root of the initial user namespace (Linux 5.11 has the other set).
        filesystem.set_flag(c"userxattr")?;
    }
    Ok(())
}

/// The initial user namespace has a fixed inode number (PROC_USER_INIT_INO in include/linux/proc_ns.h); an identity
/// map in `uid_map` would not tell them apart.
fn in_user_namespace() -> bool {
    const INITIAL: &str = "user:[4026531837]";
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|target| target.as_os_str() != INITIAL)
}
