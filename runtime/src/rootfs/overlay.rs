//! Assembles the overlay: image below, writable layer above, one detached mount as the result.
//!
//! Layers are given by descriptor (Linux 6.13), else as `/proc/self/fd/N`: nothing to escape (overlay splits paths at
//! `:` and `,`), no limit of 255 bytes (fsconfig(2)), and no way to swap a directory in between.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use shim::rootdir::fd_path;
use shim::sys::mount::{Filesystem, attach};
use shim::{Error, Result, RootDir};

use super::layers::{Layer, Writable};
use super::unmount_at;

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
fn assemble_staged(lower: &Layer, writable: &Writable, data: &RootDir) -> Result<OwnedFd, Refusal> {
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
struct Stage<'s> {
    layer: &'s Layer,
    data: &'s RootDir,
    name: &'static str,
}

impl<'s> Stage<'s> {
    fn attach(layer: &'s Layer, data: &'s RootDir, name: &'static str) -> Result<Self, Errno> {
        match mkdirat(data, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        let place = data.open_plain(name, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
        attach(layer, place)?;
        Ok(Self { layer, data, name })
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Nothing to be done about a failure here: destroy tries again and reports.
        let _ = unmount_at(self.layer);
        let _ = unlinkat(self.data, self.name, UnlinkatFlags::RemoveDir);
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
pub(super) fn in_user_namespace() -> bool {
    const INITIAL: &str = "user:[4026531837]";
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|target| target.as_os_str() != INITIAL)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nix::sched::{CloneFlags, unshare};
    use nix::sys::stat::fstat;
    use shim::sys::mount::{Change, Propagation, set_attributes_at};

    use super::super::idmapped::LayerIds;
    use super::super::probe;
    use super::*;

    /// Runs in a mount namespace of its own, with the directories `lower` and `data`.
    fn alone(name: &str, test: impl FnOnce(&Layer, &RootDir, PathBuf) + Send + 'static) {
        let temp = std::env::temp_dir().join(format!("rootfs-{name}-{}", std::process::id()));
        for directory in ["lower", "data"] {
            std::fs::create_dir_all(temp.join(directory)).unwrap();
        }
        std::fs::write(temp.join("lower/file"), "lower").unwrap();
        let place = temp.clone();
        let outcome = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("needs root");
            let private = Change {
                propagation: Some(Propagation::Private),
                recursive: true,
                ..Change::default()
            };
            set_attributes_at(c"/", private).unwrap();
            let lower = Layer {
                dir: RootDir::open(&place.join("lower")).unwrap(),
                detached: false,
            };
            let data = RootDir::open(&place.join("data")).unwrap();
            test(&lower, &data, place);
        })
        .join();
        std::fs::remove_dir_all(&temp).unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    }

    fn content(mount: OwnedFd) -> Vec<u8> {
        let root = RootDir::from(mount);
        let file = root.open_plain("file", OFlag::O_RDONLY, Mode::empty());
        let mut buffer = [0; 16];
        let length = nix::unistd::read(file.unwrap(), &mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    /// The way of kernels before 6.15, on any kernel.
    #[test]
    fn staged_layers_are_attached_for_the_length_of_the_call_only() {
        alone("staged", |lower, data, temp| {
            let table = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let before = table();
            let writable = Writable::memory(lower, None).unwrap();
            let mount = assemble_staged(lower, &writable, data).expect("staged");
            drop(writable);
            assert_eq!(content(mount), b"lower");
            assert_eq!(table(), before);
            let left = std::fs::read_dir(temp.join("data")).unwrap().count();
            assert_eq!(left, 0);
        });
    }

    /// Both layers of a root filesystem with ids of its own are detached mounts.
    #[test]
    fn staged_layers_can_be_idmapped() {
        alone("staged-idmap", |_, data, temp| {
            let maps = crate::idrange::private(500_000);
            let ids = LayerIds::new(&maps).unwrap();
            let open = |path: &Path| Layer {
                dir: RootDir::open(path).unwrap(),
                detached: false,
            };
            let lower = ids.image(open(&temp.join("lower")), &temp).unwrap();
            let layer = ids.writable(open(&temp.join("data"))).unwrap();
            let writable = Writable::make(layer, &lower).unwrap();
            let root = RootDir::from(assemble_staged(&lower, &writable, data).expect("staged"));
            let file = root.open_plain("file", OFlag::O_PATH, Mode::empty());
            assert_eq!(fstat(file.unwrap()).unwrap().st_uid, 500_000);
            probe::write(&root, "probe", &maps).unwrap();
        });
    }

    /// The way of kernels before 6.13, on any kernel.
    #[test]
    fn layers_can_be_named_by_path() {
        alone("by-path", |lower, _, temp| {
            let on_disk = Layer {
                dir: RootDir::open(&temp.join("data")).unwrap(),
                detached: false,
            };
            let writable = Writable::make(on_disk, lower).unwrap();
            let filesystem = Filesystem::open(c"overlay").unwrap();
            configure(&filesystem, Naming::Path, lower, &writable).unwrap();
            assert_eq!(content(filesystem.mount(0).unwrap()), b"lower");
        });
    }
}
