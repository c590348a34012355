//! Finds, and makes where it is missing, the place inside that a mount is attached to. For a process whose working
//! directory is the container's root. Allocates nothing: a child that has been cloned uses it.
//!
//! One component at a time, each by descriptor and without following anything (openat2(2), RESOLVE_NO_SYMLINKS): what
//! another container does to a volume that both see can only ever make it fail.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, umask};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::Target;
use crate::rootdir::RootDir;
use crate::sys::tree;

/// The longest path, with its NUL byte (PATH_MAX).
const LONGEST: usize = 4096;
/// How many symlinks that lead to nothing may lead to each other.
const LINKS: usize = 8;

/// What the place has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A directory; made if it is missing.
    Directory,
    /// Anything else; an empty file is made if it is missing.
    File,
    /// Whatever is there.
    Existing,
}

/// The place, and the directory that it is in.
pub(super) struct Place {
    /// What it lies in.
    pub(super) parent: RootDir,
    /// The place.
    pub(super) fd: OwnedFd,
}

/// Opens the target. With `make`, what is missing is made: directories of mode 0755, an empty file of mode 0644.
pub(super) fn open(target: &Target, wanted: Wanted, make: bool) -> Result<Place, Errno> {
    let (parent, name) = parent(target, make)?;
    let fd = step(&parent, name, wanted, make)?;
    Ok(Place { parent, fd })
}

/// The directory that the target is in, and its name there.
pub(super) fn parent(target: &Target, make: bool) -> Result<(RootDir, &CStr), Errno> {
    let (last, way) = target.components().split_last().ok_or(Errno::EINVAL)?;
    let mut parent = RootDir::here()?;
    for name in way {
        parent = RootDir::from(step(&parent, name, Wanted::Directory, make)?);
    }
    Ok((parent, last))
}

/// Makes a directory that is missing, by a way that may have symlinks, and those above it. Where that fails, whoever goes
/// there finds out.
pub(crate) fn make_directory(target: &Target) {
    let _ = open_following(target, Wanted::Directory, true);
}

/// As [`open`], but symlinks on the way, and the target itself if it is one, are followed as a process inside would do it.
/// They never lead out, and never into a procfs, which is the kernel's. Where one leads to what is missing, that is made.
pub(super) fn open_following(
    target: &Target,
    wanted: Wanted,
    make: bool,
) -> Result<OwnedFd, Errno> {
    follow(Way::new(), target.way().to_bytes(), wanted, make, LINKS)
}

/// What lies behind `text`, a path or the text of a symlink, at the end of `way`.
fn follow(
    mut way: Way,
    text: &[u8],
    wanted: Wanted,
    make: bool,
    links: usize,
) -> Result<OwnedFd, Errno> {
    let root = RootDir::here()?;
    let mut parent = RootDir::from(root.open_inside(way.path()?, OFlag::O_PATH)?);
    let mut names = text
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .peekable();
    while let Some(next) = names.next() {
        let wanted = match names.peek() {
            Some(_) => Wanted::Directory,
            None => wanted,
        };
        let before = way.clone();
        way.push(next)?;
        let name = way.since(&before)?;
        let found = match look_inside(&root, &way, wanted) {
            Err(Errno::ENOENT) if make && next != b".." => {
                make_it(&parent, name, wanted)?;
                match look_inside(&root, &way, wanted) {
                    // There is a symlink, and nothing where it leads.
                    Err(Errno::ENOENT) => {
                        let links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
                        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
                        let link = parent.open_plain(name, flags, Mode::empty())?;
                        let mut text = [0; LONGEST + 1];
                        let text = tree::read_link(&link, &mut text)?.to_bytes();
                        let way = if text.starts_with(b"/") {
                            Way::new()
                        } else {
                            before
                        };
                        follow(way, text, wanted, make, links)?
                    }
                    found => found?,
                }
            }
            found => found?,
        };
        parent = RootDir::from(found);
    }
    Ok(parent.into())
}

/// What a process inside would find at the end of a way.
fn look_inside(root: &RootDir, way: &Way, wanted: Wanted) -> Result<OwnedFd, Errno> {
    let found = root.open_inside(way.path()?, OFlag::O_PATH)?;
    if fstatfs(&found)?.filesystem_type() == PROC_SUPER_MAGIC {
        return Err(Errno::ELOOP);
    }
    match (wanted, is_directory(&found)?) {
        (Wanted::Directory, false) => Err(Errno::ENOTDIR),
        (Wanted::File, true) => Err(Errno::EISDIR),
        _ => Ok(found),
    }
}

/// A path from the root, without a slash in front, that grows.
#[derive(Clone)]
struct Way {
    bytes: [u8; LONGEST],
    /// Where the path ends; zero bytes follow.
    end: usize,
}

impl Way {
    fn new() -> Self {
        Self {
            bytes: [0; LONGEST],
            end: 0,
        }
    }

    fn push(&mut self, name: &[u8]) -> Result<(), Errno> {
        let begin = self.end + usize::from(self.end > 0);
        let end = begin + name.len();
        // One byte stays zero.
        if end >= LONGEST {
            return Err(Errno::ENAMETOOLONG);
        }
        if let Some(slash) = self.bytes.get_mut(self.end).filter(|_| begin > self.end) {
            *slash = b'/';
        }
        let room = self.bytes.get_mut(begin..end).ok_or(Errno::ENAMETOOLONG)?;
        room.copy_from_slice(name);
        self.end = end;
        Ok(())
    }

    /// The name that was added to what it was before.
    fn since(&self, before: &Self) -> Result<&CStr, Errno> {
        text_at(&self.bytes, before.end + usize::from(before.end > 0))
    }

    fn path(&self) -> Result<&CStr, Errno> {
        match self.end {
            0 => Ok(c"."),
            _ => text_at(&self.bytes, 0),
        }
    }
}

fn text_at(bytes: &[u8], begin: usize) -> Result<&CStr, Errno> {
    let rest = bytes.get(begin..).ok_or(Errno::ENAMETOOLONG)?;
    CStr::from_bytes_until_nul(rest).map_err(|_| Errno::ENAMETOOLONG)
}

fn step(parent: &RootDir, name: &CStr, wanted: Wanted, make: bool) -> Result<OwnedFd, Errno> {
    match look(parent, name, wanted) {
        Err(Errno::ENOENT) if make => {}
        found => return found,
    }
    make_it(parent, name, wanted)?;
    look(parent, name, wanted)
}

fn make_it(parent: &RootDir, name: &CStr, wanted: Wanted) -> Result<(), Errno> {
    // The modes are as they are asked for, whatever mask the caller has.
    let mask = umask(Mode::empty());
    let made = create(parent, name, wanted);
    umask(mask);
    match made {
        // Somebody else, another launch perhaps, has just made it.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn look(parent: &RootDir, name: &CStr, wanted: Wanted) -> Result<OwnedFd, Errno> {
    let kind = match wanted {
        Wanted::Directory => OFlag::O_DIRECTORY,
        Wanted::File | Wanted::Existing => OFlag::empty(),
    };
    let found = parent.open_plain(name, OFlag::O_PATH | kind, Mode::empty())?;
    if wanted == Wanted::File && is_directory(&found)? {
        return Err(Errno::EISDIR);
    }
    Ok(found)
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    let kind = fstat(fd)?.st_mode & SFlag::S_IFMT.bits();
    Ok(kind == SFlag::S_IFDIR.bits())
}

fn create(parent: &RootDir, name: &CStr, wanted: Wanted) -> Result<(), Errno> {
    if wanted != Wanted::File {
        return mkdirat(parent, name, Mode::from_bits_truncate(0o755));
    }
    // O_EXCL: a symlink that somebody puts there now is not followed.
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}
