//! Attaches a mount inside; for a process whose working directory is the container's root. Allocates nothing: a child that has been
//! cloned uses it.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, unlinkat, write};

use super::target::Wanted;
use super::{Content, Covered, Mount, Setting, Unpacking, copy_up, dev, target};
use crate::rootdir::RootDir;
use crate::sys::mount::{Change, Filesystem, attach as attach_to, attr, set_attributes};

/// Attaches `mount`; what it needs of the host is the next in the parcel.
pub(crate) fn attach(mount: &Mount, parcel: &mut Unpacking<'_>) -> Result<(), Errno> {
    let wanted = if mount.is_file() {
        Wanted::File
    } else {
        Wanted::Directory
    };
    let place = |make: bool| match mount.follow {
        true => target::open_following(&mount.target, wanted, make),
        false => target::open(&mount.target, wanted, make).map(|place| place.fd),
    };
    let there = place(false);
    // What is made now has nothing that could be taken over.
    let was_there = there.is_ok();
    let place = match there {
        Err(Errno::ENOENT) if mount.make_target => place(true)?,
        there => there?,
    };
    match &mount.content {
        Content::Bind { .. } | Content::Overlay { .. } | Content::Device { .. } => {
            attach_to(parcel.next()?, place)
        }
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
            covered,
        } => {
            let filesystem = Filesystem::open(filesystem)?;
            configure(&filesystem, options)?;
            let attributes = mount.attributes.bits();
            let made = filesystem.mount(attributes & !attr::RDONLY)?;
            if was_there {
                take_over(*covered, &place, &made)?;
            }
            let change = Change {
                set: attributes & attr::RDONLY,
                propagation: Some(*propagation),
                ..Change::default()
            };
            set_attributes(&made, change)?;
            attach_to(made, place)
        }
        Content::Remount {
            cleared,
            options,
            propagation,
        } => {
            if !options.is_empty() {
                let filesystem = Filesystem::again(&place)?;
                configure(&filesystem, options)?;
                filesystem.reconfigure()?;
            }
            if !mount.recursive.is_nothing() {
                let all = Change {
                    set: mount.recursive.set.bits(),
                    clear: mount.recursive.clear.bits(),
                    recursive: true,
                    ..Change::default()
                };
                set_attributes(&place, all)?;
            }
            if let Some((propagation, recursive)) = *propagation {
                let travel = Change {
                    propagation: Some(propagation),
                    recursive,
                    ..Change::default()
                };
                set_attributes(&place, travel)?;
            }
            let itself = Change {
                set: mount.attributes.bits(),
                clear: cleared.bits(),
                ..Change::default()
            };
            set_attributes(&place, itself)
        }
        Content::Dev => dev::attach_all(&place, parcel),
    }
}

fn configure(filesystem: &Filesystem, options: &[Setting]) -> Result<(), Errno> {
    for (key, value) in options {
        match value {
            Some(value) => filesystem.set(key, value)?,
            None => filesystem.set_flag(key)?,
        }
    }
    Ok(())
}

fn take_over(covered: Covered, place: &OwnedFd, made: &OwnedFd) -> Result<(), Errno> {
    match covered {
        Covered::Nothing => Ok(()),
        Covered::Mode => copy_up::take_over(place, made, true, false),
        Covered::Content { mode, owner } => {
            copy_up::take_over(place, made, mode, owner)?;
            copy_up::copy(place, made)
        }
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
