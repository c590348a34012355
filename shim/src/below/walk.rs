//! The walk that follows links: with the directory at the top as root (RESOLVE_IN_ROOT), or as long as they do not leave
//! it (RESOLVE_BENEATH). Magic links are never followed.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::SFlag;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::{Asked, components, kind, wants_directory};

/// As in the kernel (MAXSYMLINKS).
const LINKS_MAX: usize = 40;

pub(super) fn open(
    top: BorrowedFd<'_>,
    path: &[u8],
    asked: &Asked,
    in_root: bool,
) -> Result<OwnedFd, Errno> {
    let mut walk = Walk {
        top,
        in_root,
        below: Vec::new(),
        ahead: VecDeque::new(),
        wants_directory: false,
        links: 0,
    };
    walk.turn_to(path)?;
    walk.run(asked)
}

struct Walk<'a> {
    top: BorrowedFd<'a>,
    in_root: bool,
    /// The directories that the walk came through, from the one in the top to where it is.
    below: Vec<OwnedFd>,
    ahead: VecDeque<Vec<u8>>,
    wants_directory: bool,
    links: usize,
}

impl Walk<'_> {
    /// Puts a path, or the text of a link, before what is left of the way.
    fn turn_to(&mut self, path: &[u8]) -> Result<(), Errno> {
        if path.starts_with(b"/") {
            if !self.in_root {
                return Err(Errno::EXDEV);
            }
            self.below.clear();
        }
        self.wants_directory |= self.ahead.is_empty() && wants_directory(path);
        for name in components(path).rev() {
            self.ahead.push_front(name.to_vec());
        }
        Ok(())
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.below.last().map_or(self.top, |fd| fd.as_fd())
    }

    fn run(mut self, asked: &Asked) -> Result<OwnedFd, Errno> {
        while let Some(name) = self.ahead.pop_front() {
            if name == b".." {
                if self.below.pop().is_none() && !self.in_root {
                    return Err(Errno::EXDEV);
                }
            } else if let Some(found) = self.step(name, asked)? {
                return Ok(found);
            }
        }
        asked.open(self.here(), b".")
    }

    /// One component. The result is what was asked for, if the component is the last.
    fn step(&mut self, name: Vec<u8>, asked: &Asked) -> Result<Option<OwnedFd>, Errno> {
        let is_last = self.ahead.is_empty();
        // What must be new is not there yet, so there is nothing to follow.
        if is_last && asked.flags.contains(OFlag::O_CREAT | OFlag::O_EXCL) {
            return asked.open(self.here(), &name).map(Some);
        }
        let found = match asked.look(self.here(), &name) {
            Err(Errno::ENOENT) if is_last && asked.flags.contains(OFlag::O_CREAT) => {
                return asked.open(self.here(), &name).map(Some);
            }
            other => other?,
        };
        let found_kind = kind(&found)?;
        if found_kind == SFlag::S_IFLNK && !(is_last && asked.flags.contains(OFlag::O_NOFOLLOW)) {
            self.count_link()?;
            // The links of procfs lead where no path does; those that are plain text nobody needs here.
            if fstatfs(&found)?.filesystem_type() == PROC_SUPER_MAGIC {
                return Err(Errno::ELOOP);
            }
            let text = readlinkat(&found, "")?.into_vec();
            return self.turn_to(&text).map(|()| None);
        }
        let directory = found_kind == SFlag::S_IFDIR;
        if !is_last {
            if !directory {
                return Err(Errno::ENOTDIR);
            }
            self.below.push(found);
            return Ok(None);
        }
        if !directory && (self.wants_directory || asked.flags.contains(OFlag::O_DIRECTORY)) {
            return Err(Errno::ENOTDIR);
        }
        if asked.flags.contains(OFlag::O_PATH) {
            return Ok(Some(found));
        }
        match asked.open(self.here(), &name) {
            // Somebody has just put a link there, or it is one that was not to be followed.
            Err(Errno::ELOOP | Errno::ENOTDIR) if !asked.flags.contains(OFlag::O_NOFOLLOW) => {
                self.count_link()?;
                self.ahead.push_front(name);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn count_link(&mut self) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(Errno::ELOOP);
        }
        Ok(())
    }
}
