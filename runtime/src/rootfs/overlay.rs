//! Assembles the overlay: the image's layers below, the writable layer above, one detached mount as the result.
//!
//! Layers are given by descriptor (Linux 6.13), or by the path of one: nothing to escape (overlay splits paths at `:` and
//! `,`), and no way to swap a directory in between.
//!
//! fsconfig(2) takes 255 bytes of text at a time, which is 14 layers named `/proc/self/fd/N`. From Linux 6.7 on they
//! can be given one by one. Before, mount(2) takes a page of text for all of them; in `/proc/self/fd` their names are
//! numbers, so that there is room for as many as the kernel allows.

use std::ffi::{CStr, CString};
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, chdir, fchdir, unlinkat};
use shim::rootdir::fd_path;
use shim::sys::mount::{Change, Filesystem, Propagation, attach, attr, clone_tree, set_attributes};
use shim::{Error, Result, RootDir};

use super::layers::Writable;
use super::lower::Lower;
use super::unmount_at;

/// Directories in `DATA/containers/GUID` that older kernels need for the length of one call.
pub(super) const STAGES: [&str; 3] = ["stage-lower", "stage-upper", "stage-root"];

/// What the mount table shows as its source.
const SOURCE: &CStr = c"start-container";
/// Inode numbers that do not change when a file is copied up, whatever the kernel was configured with.
const XINO: [&CStr; 2] = [c"xino", c"auto"];
/// In a user namespace: trusted.* attributes belong to root of the initial one (Linux 5.11 has the other set).
const USERXATTR: &CStr = c"userxattr";

/// What an overlay is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stack<'s> {
    /// The image.
    pub(super) lower: &'s Lower,
    /// What the container writes.
    pub(super) writable: &'s Writable,
    /// Nobody is to write: what was written is one more lower layer, above the others.
    pub(super) read_only: bool,
}

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

/// How layers are named to the kernel where they are named one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naming {
    /// As descriptors: Linux 6.13.
    Descriptor,
    /// As `/proc/self/fd/N`: Linux 6.7.
    Path,
}

/// Makes the overlay. Before Linux 6.15 overlay takes only layers that are attached in the caller's mount namespace;
/// a detached one then gets a place in `data` for the length of the call.
pub(super) fn assemble(stack: Stack<'_>, data: &RootDir) -> Result<OwnedFd, Refusal> {
    let first = mount(stack, data);
    let detached = stack.lower.holder.detached || stack.writable.layer.detached;
    match first {
        Err(refusal) if detached && refusal.errno == Errno::EINVAL => {
            assemble_staged(stack, data).map_err(|_| refusal)
        }
        other => other,
    }
}

/// The same with detached layers attached in `data` meanwhile.
fn assemble_staged(stack: Stack<'_>, data: &RootDir) -> Result<OwnedFd, Refusal> {
    let mut stages = Vec::new();
    for (layer, name) in [&stack.lower.holder, &stack.writable.layer]
        .into_iter()
        .zip(STAGES)
    {
        if layer.detached {
            let place = stage_directory(data, name)?;
            attach(layer, place)?;
            stages.push(Stage {
                mount: layer.dir.as_fd(),
                data,
                name,
            });
        }
    }
    mount(stack, data)
}

/// A directory in `data` to mount on.
fn stage_directory(data: &RootDir, name: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(data, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    data.open_plain(name, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
}

/// A mount that is attached only as long as this lives. A create that is killed meanwhile leaves it to `destroy`,
/// which finds it under the names in [`STAGES`].
struct Stage<'s, M: AsFd> {
    mount: M,
    data: &'s RootDir,
    name: &'static str,
}

impl<M: AsFd> Drop for Stage<'_, M> {
    fn drop(&mut self) {
        // Nothing to be done about a failure here: destroy tries again and reports.
        let _ = unmount_at(&self.mount);
        let _ = unlinkat(self.data, self.name, UnlinkatFlags::RemoveDir);
    }
}

/// The newest way that the kernel has. Which it has, only trying tells: an older one takes any option first, and refuses
/// the whole later.
fn mount(stack: Stack<'_>, data: &RootDir) -> Result<OwnedFd, Refusal> {
    let filesystem = Filesystem::open(c"overlay")?;
    // The first kernel that takes "lowerdir+" as a descriptor takes all three so.
    if filesystem.set_fd(c"lowerdir+", &stack.lower.holder).is_ok() {
        return one_by_one(stack, Naming::Descriptor);
    }
    match one_by_one(stack, Naming::Path) {
        Err(refusal) if refusal.errno == Errno::EINVAL => {
            on_one_page(stack, data).map_err(|_| refusal)
        }
        other => other,
    }
}

fn one_by_one(stack: Stack<'_>, naming: Naming) -> Result<OwnedFd, Refusal> {
    let filesystem = Filesystem::open(c"overlay")?;
    let attributes = if stack.read_only { attr::RDONLY } else { 0 };
    configure(&filesystem, stack, naming)
        .and_then(|()| filesystem.mount(attributes))
        .map_err(|errno| Refusal {
            errno,
            explanation: filesystem.explanation(),
        })
}

fn configure(filesystem: &Filesystem, stack: Stack<'_>, naming: Naming) -> Result<(), Errno> {
    let name = |key, directory: BorrowedFd<'_>| match naming {
        Naming::Descriptor => filesystem.set_fd(key, directory),
        Naming::Path => filesystem.set(key, &fd_path(directory)),
    };
    filesystem.set(c"source", SOURCE)?;
    let written = &stack.writable;
    if stack.read_only {
        name(c"lowerdir+", written.upper.as_fd())?;
    }
    stack.lower.each(|layer| name(c"lowerdir+", layer))?;
    if !stack.read_only {
        name(c"upperdir", written.upper.as_fd())?;
        name(c"workdir", written.work.as_fd())?;
        filesystem.set(XINO[0], XINO[1])?;
    }
    if in_user_namespace() {
        filesystem.set_flag(USERXATTR)?;
    }
    Ok(())
}

/// By mount(2), which attaches what it makes: on a stage, of which a detached copy is left.
fn on_one_page(stack: Stack<'_>, data: &RootDir) -> Result<OwnedFd, Errno> {
    const NAME: &str = STAGES[2];
    let mut lower = stack.lower.all()?;
    if stack.read_only {
        let copy = stack.writable.upper.try_clone();
        lower.insert(0, copy.map_err(|error| super::errno_of(&error))?);
    }
    let numbers: Vec<String> = lower.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    let mut options = format!("lowerdir={}", numbers.join(":"));
    if !stack.read_only {
        let [upper, work] = [&stack.writable.upper, &stack.writable.work].map(AsRawFd::as_raw_fd);
        let [key, value] = XINO.map(CStr::to_string_lossy);
        // Writing to a String cannot fail.
        let _ = write!(options, ",upperdir={upper},workdir={work},{key}={value}");
    }
    if in_user_namespace() {
        options.extend([",", &USERXATTR.to_string_lossy()]);
    }
    let options = CString::new(options).map_err(|_| Errno::EINVAL)?;
    let flags = if stack.read_only {
        MsFlags::MS_RDONLY
    } else {
        MsFlags::empty()
    };
    let place = stage_directory(data, NAME)?;
    let mounted = in_own_descriptors(|| {
        nix::mount::mount(
            Some(SOURCE),
            fd_path(place.as_fd()).as_c_str(),
            Some(c"overlay"),
            flags,
            Some(options.as_c_str()),
        )
    });
    let stage = mounted.and_then(|()| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let mount = data.open_plain(NAME, flags, Mode::empty())?;
        Ok(Stage {
            mount,
            data,
            name: NAME,
        })
    });
    let Ok(stage) = stage else {
        let _ = unlinkat(data, NAME, UnlinkatFlags::RemoveDir);
        return stage.map(|_| place);
    };
    let copy = clone_tree(&stage.mount, false)?;
    // Where the stage is in a peer group the copy is in it as well.
    let private = Change {
        propagation: Some(Propagation::Private),
        ..Change::default()
    };
    set_attributes(&copy, private)?;
    Ok(copy)
}

/// Does something in the directory whose names are the numbers of our descriptors, and comes back.
fn in_own_descriptors<T>(act: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let here = open(c".", flags, Mode::empty())?;
    chdir(c"/proc/self/fd")?;
    let result = act();
    fchdir(here)?;
    result
}

/// The initial user namespace has a fixed inode number (PROC_USER_INIT_INO in include/linux/proc_ns.h); an identity
/// map in `uid_map` would not tell them apart.
pub(super) fn in_user_namespace() -> bool {
    const INITIAL: &str = "user:[4026531837]";
    std::fs::read_link("/proc/self/ns/user").is_ok_and(|target| target.as_os_str() != INITIAL)
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
