//! Gives a new file its owner, attributes, mode and time, in the order in which they do not undo each other.
//!
//! chown(2) clears the set-user-ID bits and `security.capability`, so it comes first; the time comes last. Everything
//! goes through a descriptor, or for what cannot be opened through its directory's, never following a link.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use shim::{Error, Result};
use xattr::FileExt;

use super::tree::Directory;
use crate::attributes::{DEFAULT_ACL, is_ours};
use crate::image::archive::{Kind, Member, show};
use crate::image::disk::disk_hint;

/// What the kernel lets the caller give to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    Root,
    /// The same without CAP_SYS_ADMIN: `trusted.*` attributes are left out, and who mounts the tree has a user namespace
    /// of its own.
    NoMounts,
    /// What root of a user namespace may: every owner that it has, but neither devices nor `trusted.*` attributes, which
    /// are left out.
    UserNamespace,
    /// The same, and what belongs to an owner that it does not have is given to root.
    Squash,
    /// The same where there is only one id: everything belongs to it.
    SingleId,
}

impl Rights {
    /// All of them.
    pub(in crate::image) const ALL: [Self; 5] = [
        Self::Root,
        Self::NoMounts,
        Self::UserNamespace,
        Self::Squash,
        Self::SingleId,
    ];
}

/// Sets all on a regular file that has been written.
pub(super) fn on_file(file: &File, member: &Member, rights: Rights) -> Result<()> {
    let (uid, gid) = owner(member, rights)?;
    fchown(file, uid, gid).map_err(|errno| owner_failed(member, errno))?;
    set_attributes(file, member, rights)?;
    let mode = Mode::from_bits_truncate(member.mode);
    fchmod(file, mode).map_err(|errno| failed("set mode of", member, errno))?;
    futimens(file, &TimeSpec::UTIME_OMIT, &time(member))
        .map_err(|errno| failed("set time of", member, errno))
}

/// Sets owner and attributes on a directory, and takes away the attributes that it had before; its mode, time and default
/// ACL come when nothing more is put into it.
pub(super) fn on_directory(
    directory: &File,
    member: &Member,
    existed: bool,
    rights: Rights,
) -> Result<()> {
    let (uid, gid) = owner(member, rights)?;
    fchown(directory, uid, gid).map_err(|errno| owner_failed(member, errno))?;
    if existed {
        drop_attributes(directory, member)?;
    }
    set_attributes(directory, member, rights)
}

/// The default ACL of a directory, as an attribute has it.
pub(super) fn default_acl(member: &Member, rights: Rights) -> Option<Vec<u8>> {
    let (_, value) = wanted(member, rights).find(|(name, _)| *name == DEFAULT_ACL.as_bytes())?;
    Some(value.to_vec())
}

/// Sets all on what cannot be opened: a link, a device, a named pipe that was just made as `name` in `directory`.
pub(super) fn on_special(
    directory: &Directory,
    name: &[u8],
    member: &Member,
    rights: Rights,
) -> Result<()> {
    let (uid, gid) = owner(member, rights)?;
    fchownat(directory, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| owner_failed(member, errno))?;
    if wanted(member, rights).next().is_some() {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(directory, name, flags, Mode::empty())
            .map_err(|errno| failed("open", member, errno))?;
        set_attributes_of_path(&fd, member, rights)?;
    }
    if member.kind != Kind::Symlink {
        let mode = Mode::from_bits_truncate(member.mode);
        fchmodat(directory, name, mode, FchmodatFlags::NoFollowSymlink)
            .map_err(|errno| failed("set mode of", member, errno))?;
    }
    utimensat(
        directory,
        name,
        &TimeSpec::UTIME_OMIT,
        &time(member),
        UtimensatFlags::NoFollowSymlink,
    )
    .map_err(|errno| failed("set time of", member, errno))
}

/// A failure to do `op` to a member.
pub(super) fn failed(op: &'static str, member: &Member, errno: Errno) -> Error {
    failed_at(op, &member.name, errno)
}

/// The same for one of which only the name is known.
pub(super) fn failed_at(op: &'static str, name: &[u8], errno: Errno) -> Error {
    disk_hint(Error::sys(op, show(name), errno), errno)
}

/// A member's modification time.
pub(super) fn time(member: &Member) -> TimeSpec {
    TimeSpec::new(member.mtime.0, member.mtime.1)
}

/// To chown(2) the largest id means "leave it", so no file can belong to it.
fn owner(member: &Member, rights: Rights) -> Result<(Option<Uid>, Option<Gid>)> {
    if member.uid == u32::MAX || member.gid == u32::MAX {
        return Err(owner_failed(member, Errno::EINVAL));
    }
    if rights == Rights::SingleId {
        return Ok((None, None));
    }
    Ok((
        Some(Uid::from_raw(member.uid)),
        Some(Gid::from_raw(member.gid)),
    ))
}

/// The owner that a file gets.
pub(super) fn effective_owner(member: &Member, rights: Rights) -> (u32, u32) {
    match rights {
        Rights::SingleId => (Uid::effective().as_raw(), Gid::effective().as_raw()),
        _ => (member.uid, member.gid),
    }
}

fn owner_failed(member: &Member, errno: Errno) -> Error {
    let error = Error::sys(
        format!("set owner {}:{} of", member.uid, member.gid),
        show(&member.name),
        errno,
    );
    match errno {
        Errno::EPERM => error.hint("only root may give files to other owners; run as root"),
        Errno::EINVAL | Errno::EOVERFLOW => {
            error.hint("the id is not mapped in this user namespace (see /proc/self/uid_map); import where it is, or give such files to root with --squash")
        }
        other => disk_hint(error, other),
    }
}

/// How many attributes of a member are left out for want of rights.
pub(super) fn left_out(member: &Member, rights: Rights) -> usize {
    let ours = member.xattrs.iter().filter(|(name, _)| is_ours(name));
    ours.count() - wanted(member, rights).count()
}

/// The attributes of a member that are set.
pub(super) fn wanted(member: &Member, rights: Rights) -> impl Iterator<Item = (&[u8], &[u8])> {
    member
        .xattrs
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .filter(move |(name, _)| {
            is_ours(name) && (rights == Rights::Root || !name.starts_with(b"trusted."))
        })
}

fn set_attributes(file: &File, member: &Member, rights: Rights) -> Result<()> {
    for (name, value) in wanted(member, rights) {
        check_attribute(member, name, value)?;
        let failed = |error: io::Error| attribute_failed(member, name, &error);
        file.set_xattr(OsStr::from_bytes(name), value)
            .map_err(failed)?;
        if name == DEFAULT_ACL.as_bytes() {
            // Set only to find out whether it can be.
            file.remove_xattr(DEFAULT_ACL).map_err(failed)?;
        }
    }
    Ok(())
}

/// fsetxattr(2) refuses O_PATH descriptors; their entry in /proc leads to exactly the file that is open.
fn set_attributes_of_path(fd: &OwnedFd, member: &Member, rights: Rights) -> Result<()> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    for (name, value) in wanted(member, rights) {
        check_attribute(member, name, value)?;
        xattr::set_deref(&path, OsStr::from_bytes(name), value)
            .map_err(|error| attribute_failed(member, name, &error))?;
    }
    Ok(())
}

/// The kernel checks capabilities that are set, but not whether there are any; and reads, and executes, no file whose
/// capabilities are none (Linux 6.18).
fn check_attribute(member: &Member, name: &[u8], value: &[u8]) -> Result<()> {
    if name == b"security.capability" && value.is_empty() {
        return Err(attribute_failed(member, name, &Errno::EINVAL.into()));
    }
    Ok(())
}

fn drop_attributes(directory: &File, member: &Member) -> Result<()> {
    let present = match directory.list_xattr() {
        Ok(present) => present,
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => return Ok(()),
        Err(error) => return Err(attribute_failed(member, b"*", &error)),
    };
    for name in present {
        let bytes = name.as_bytes();
        if is_ours(bytes) && !member.xattrs.iter().any(|(wanted, _)| wanted == bytes) {
            directory
                .remove_xattr(&name)
                .map_err(|error| attribute_failed(member, bytes, &error))?;
        }
    }
    Ok(())
}

fn attribute_failed(member: &Member, name: &[u8], error: &io::Error) -> Error {
    let failed = Error::io(
        format!("set attribute {} of", show(name)),
        show(&member.name),
        error,
    );
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EOPNOTSUPP) => {
            failed.hint("the filesystem of the base directory cannot store it; choose another with --base")
        }
        Some(Errno::EPERM) => failed.hint("setting it needs root of the initial user namespace, or the file's type has no such attribute"),
        Some(Errno::EINVAL) => failed.hint("the archive is damaged: the kernel takes no such value"),
        Some(Errno::ENOSPC | Errno::E2BIG | Errno::ERANGE) => failed.hint("the attribute is larger than the filesystem of the base directory allows"),
        Some(other) => disk_hint(failed, other),
        None => failed.hint("the archive has an attribute whose name is no name"),
    }
}
