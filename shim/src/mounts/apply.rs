//! Attaches a mount inside; for a process whose working directory is the container's root. Allocates nothing: a child that has been
//! cloned uses it.

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, unlinkat, write};

use super::target::Wanted;
use super::{Content, Mount, Unpacking, dev, target};
use crate::rootdir::RootDir;
use crate::sys::mount::{Change, Filesystem, attach as attach_to, set_attributes};

/// Attaches `mount`; what it needs of the host is the next in the parcel.
pub(crate) fn attach(mount: &Mount, parcel: &mut Unpacking<'_>) -> Result<(), Errno> {
    let wanted = if mount.is_file() {
        Wanted::File
    } else {
        Wanted::Directory
    };
    let place = match mount.follow {
        true => target::open_following(&mount.target, wanted, mount.make_target)?,
        false => target::open(&mount.target, wanted, mount.make_target)?.fd,
    };
    match &mount.content {
        Content::Bind { .. } | Content::Overlay { .. } => attach_to(parcel.next()?, place),
        Content::Tmpfs { options } => {
            let filesystem = Filesystem::open(c"tmpfs")?;
            for (key, value) in options {
                filesystem.set(key, value)?;
            }
            attach_to(filesystem.mount(mount.attributes.bits())?, place)
        }
        Content::New {
            filesystem,
            options,
            propagation,
        } => {
            let filesystem = Filesystem::open(filesystem)?;
            for (key, value) in options {
                match value {
                    Some(value) => filesystem.set(key, value)?,
                    None => filesystem.set_flag(key)?,
                }
            }
            let made = filesystem.mount(mount.attributes.bits())?;
            let change = Change {
                propagation: Some(*propagation),
                ..Change::default()
            };
            set_attributes(&made, change)?;
            attach_to(made, place)
        }
        Content::Dev => dev::attach_all(&place, parcel),
    }
}

/// Replaces /etc/resolv.conf at once: who reads it finds the old text or the new. A symlink of this name, for instance
/// systemd's, is replaced and not followed.
pub(crate) fn write_resolv_conf(text: &[u8]) -> Result<(), Errno> {
    const NAME: &std::ffi::CStr = c"resolv.conf";
    const NEW: &std::ffi::CStr = c".resolv.conf.new";
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let etc = RootDir::here()?.open_plain(c"etc", directory, Mode::empty())?;
    // One that a killed launch has left.
    match unlinkat(&etc, NEW, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o644);
    let file = openat(&etc, NEW, flags, mode)?;
    // Whatever mask the caller has.
    fchmod(&file, mode)?;
    let mut rest = text;
    while !rest.is_empty() {
        match write(&file, rest) {
            Err(Errno::EINTR) => {}
            written => rest = rest.get(written?..).unwrap_or_default(),
        }
    }
    let replaced = renameat(&etc, NEW, &etc, NAME);
    if replaced.is_err() {
        let _ = unlinkat(&etc, NEW, UnlinkatFlags::NoRemoveDir);
    }
    replaced
}
