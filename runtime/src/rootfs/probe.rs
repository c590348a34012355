//! Tries out what a container with ids of its own will do, on the overlay that nobody else sees yet: whatever of its
//! layers cannot store these ids is found when it is made, and not as EOVERFLOW at some write later.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, setfsgid, setfsuid, unlinkat};
use shim::RootDir;
use shim::plan::IdMaps;

/// Writes at `root` and takes it back: as the host's root, as the container's root, and for the last user it has.
/// `name` must not exist in the image.
pub(super) fn write(root: &RootDir, name: &str, maps: &IdMaps) -> Result<(), Errno> {
    let (user, group) = owner(maps)?;
    mkdirat(root, name, Mode::from_bits_truncate(0o700))?;
    let tried = open_directory(root, name).and_then(|directory| {
        fchown(&directory, Some(user), Some(group))?;
        try_file(&directory.into(), maps)
    });
    let removed = unlinkat(root, name, UnlinkatFlags::RemoveDir);
    tried.and(removed)
}

/// Who owns the root directory of ordinary images: root of the container, as the host knows it.
pub(super) fn owner(maps: &IdMaps) -> Result<(Uid, Gid), Errno> {
    let (user, group) = maps.outside(0, 0).ok_or(Errno::EOVERFLOW)?;
    Ok((Uid::from_raw(user), Gid::from_raw(group)))
}

fn open_directory(root: &RootDir, name: &str) -> Result<OwnedFd, Errno> {
    root.open_plain(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())
}

fn try_file(directory: &RootDir, maps: &IdMaps) -> Result<(), Errno> {
    let (user, group) = owner(maps)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let file = {
        let _as_root_inside = FileIds::switch(user, group);
        directory.open_plain("file", flags, Mode::from_bits_truncate(0o600))?
    };
    let tried = try_owners(&file, maps);
    let removed = unlinkat(directory, "file", UnlinkatFlags::NoRemoveDir);
    tried.and(removed)
}

/// The file has to belong to who made it, and to whom it is given.
fn try_owners(file: &OwnedFd, maps: &IdMaps) -> Result<(), Errno> {
    let is_of = |user: Uid, group: Gid| {
        let stat = fstat(file)?;
        let same = (stat.st_uid, stat.st_gid) == (user.as_raw(), group.as_raw());
        if same { Ok(()) } else { Err(Errno::EOVERFLOW) }
    };
    let (user, group) = owner(maps)?;
    is_of(user, group)?;
    let last = |map: &[shim::plan::IdRange]| {
        map.last()
            .map(|line| line.outside.saturating_add(line.count - 1))
            .ok_or(Errno::EOVERFLOW)
    };
    let (user, group) = (
        Uid::from_raw(last(&maps.users)?),
        Gid::from_raw(last(&maps.groups)?),
    );
    fchown(file, Some(user), Some(group))?;
    is_of(user, group)
}

/// The calling thread makes files as somebody else until this is dropped (setfsuid(2)): other than with seteuid(2), no
/// process of that user may meanwhile send it signals.
struct FileIds(Uid, Gid);

impl FileIds {
    fn switch(user: Uid, group: Gid) -> Self {
        // The group first: a thread whose file user is not root may not choose one.
        let group = setfsgid(group);
        Self(setfsuid(user), group)
    }
}

impl Drop for FileIds {
    fn drop(&mut self) {
        setfsuid(self.0);
        setfsgid(self.1);
    }
}
