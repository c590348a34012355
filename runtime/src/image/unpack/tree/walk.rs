//! Finds the way to a directory: component by component, through the view that the tree and the layers below give together.
//!
//! Links are resolved with the new root as their root. What is missing on the way is made, if it is asked for: like the
//! directory below, or plain.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};
use shim::Result;

use super::super::copy;
use super::super::lower::{Entry, Stack, is_whiteout, kind};
use super::{Directory, Made, Spot, Tree, joined, unreachable};

/// The kernel's limit on links in one path, path_resolution(7).
const LINKS_MAX: usize = 40;

/// Where a component leads.
enum Next {
    Spot(Spot),
    Link(Vec<u8>),
    /// Something that cannot be entered.
    Nowhere,
}

impl Next {
    fn link(directory: Option<impl AsFd>, name: &[u8]) -> nix::Result<Self> {
        let target = readlinkat(directory.ok_or(Errno::ENOENT)?, name)?;
        Ok(Self::Link(OsString::into_vec(target)))
    }
}

impl Tree<'_> {
    /// Walks the view to `path`, link by link. Where something is missing, it is made in this tree, or there is nothing.
    pub(super) fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<Spot>> {
        let failed = |errno| unreachable(path, errno);
        let (mut spot, mut todo) = self.start(path);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                // What is done has no link in it, so its parent is one component less.
                let parent = parent_of(&spot.path).to_vec();
                match self.walk(&parent, make)? {
                    Some(up) => spot = up,
                    None => return Ok(None),
                }
                continue;
            }
            let own = match &spot.own {
                Some(own) => match fstatat(own, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(stat) => Some(stat),
                    Err(Errno::ENOENT) => None,
                    Err(errno) => return Err(failed(errno)),
                },
                None => None,
            };
            let next = match own {
                Some(stat) if self.is_layer() && is_whiteout(&stat) => {
                    if !make {
                        return Ok(None);
                    }
                    self.uncover(&spot, &name).map_err(failed)?
                }
                Some(stat) => match kind(&stat) {
                    SFlag::S_IFDIR => Next::Spot(self.enter(&spot, &name).map_err(failed)?),
                    SFlag::S_IFLNK => Next::link(spot.own.as_deref(), &name).map_err(failed)?,
                    _ => Next::Nowhere,
                },
                None => match self.below(&mut spot, &name)? {
                    Some(Entry::Leaf(directory, stat)) if kind(&stat) == SFlag::S_IFLNK => {
                        Next::link(Some(&*directory), &name).map_err(failed)?
                    }
                    Some(Entry::Leaf(..)) => Next::Nowhere,
                    Some(Entry::Directory(stack)) if make => {
                        Next::Spot(self.make_like(&spot, &name, stack)?)
                    }
                    Some(Entry::Directory(stack)) => Next::Spot(Spot {
                        path: joined(&spot.path, &name),
                        own: None,
                        lower: Some(stack),
                    }),
                    None if make => {
                        Next::Spot(self.make_implied(&spot, &name, false).map_err(failed)?)
                    }
                    None => return Ok(None),
                },
            };
            match next {
                Next::Spot(next) => spot = next,
                Next::Link(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(failed(Errno::ELOOP));
                    }
                    if target.starts_with(b"/") {
                        spot = self.top();
                    }
                    todo.extend(components(&target));
                }
                Next::Nowhere if make => return Err(failed(Errno::ENOTDIR)),
                Next::Nowhere => return Ok(None),
            }
        }
        Ok(Some(spot))
    }

    /// Where a walk to `path` begins, and what is left of it: the directory asked for last, if it is on the way.
    fn start(&self, path: &[u8]) -> (Spot, Vec<Vec<u8>>) {
        if let Some((last, spot)) = &self.last
            && let Some(rest) = path.strip_prefix(last.as_slice())
            && (rest.is_empty() || rest.starts_with(b"/"))
        {
            return (spot.clone(), components(rest));
        }
        (self.top(), components(path))
    }

    fn top(&self) -> Spot {
        Spot {
            path: Vec::new(),
            own: Some(Rc::clone(&self.root)),
            lower: None,
        }
    }

    /// A directory of this tree in a spot.
    fn enter(&self, spot: &Spot, name: &[u8]) -> nix::Result<Spot> {
        let path = joined(&spot.path, name);
        let parent = spot.own.as_ref().ok_or(Errno::ENOENT)?;
        let own = Directory::new(open_directory(parent.as_fd(), name)?, path.clone())?;
        let lower = match &spot.lower {
            Some(stack) => Some(self.step(stack, Some(&own), name)?),
            None => None,
        };
        Ok(Spot {
            path,
            own: Some(own),
            lower,
        })
    }

    /// What merges below `own`, which is called `name` in a directory where `stack` does.
    fn step(&self, stack: &Stack, own: Option<&Directory>, name: &[u8]) -> nix::Result<Stack> {
        let Some((lower, marks)) = self.lower.as_ref().filter(|_| !stack.is_empty()) else {
            return Ok(Stack::new());
        };
        if let Some(own) = own
            && marks.is_opaque(own)?
        {
            return Ok(Stack::new());
        }
        Ok(match lower.look(stack, name)? {
            Some(Entry::Directory(stack)) => stack,
            _ => Stack::new(),
        })
    }

    /// The directories below a spot. From here on the tree depends on what is there.
    pub(super) fn stack(&mut self, spot: &mut Spot) -> Result<Stack> {
        if let Some(stack) = &spot.lower {
            return Ok(stack.clone());
        }
        let Some((_, marks)) = self.lower else {
            return Ok(Stack::new());
        };
        let failed = |errno| unreachable(&spot.path, errno);
        let mut names = components(&spot.path);
        // From the root: a directory of this layer on the way may hide what is below.
        let mut own = Some(Rc::clone(&self.root));
        let mut ways = Vec::new();
        let mut hidden = marks.is_opaque(&*self.root).map_err(failed)?;
        while let Some(name) = names.pop() {
            own = match own {
                None => None,
                Some(parent) => match open_directory(parent.as_fd(), &name) {
                    Ok(fd) => Some(Directory::new(fd, parent.below(&name)).map_err(failed)?),
                    Err(Errno::ENOENT) => None,
                    Err(errno) => return Err(failed(errno)),
                },
            };
            hidden = hidden
                || own
                    .as_ref()
                    .is_some_and(|own| marks.is_opaque(&**own).unwrap_or(false));
            ways.push(name);
        }
        let mut stack = Stack::new();
        if !hidden && let Some((lower, _)) = &mut self.lower {
            self.depends = true;
            stack = lower.roots()?;
            for name in ways {
                stack = self.step(&stack, None, &name).map_err(failed)?;
            }
        }
        spot.lower = Some(stack.clone());
        Ok(stack)
    }

    /// Makes a directory where this layer has hidden the ones below.
    fn uncover(&mut self, spot: &Spot, name: &[u8]) -> nix::Result<Next> {
        let own = spot.own.as_deref().ok_or(Errno::ENOENT)?;
        unlinkat(own, name, UnlinkatFlags::NoRemoveDir)?;
        self.is_own(own, name)?;
        self.make_implied(spot, name, true).map(Next::Spot)
    }

    /// A directory that the archive implies but nobody lists.
    fn make_implied(&mut self, spot: &Spot, name: &[u8], opaque: bool) -> nix::Result<Spot> {
        let parent = spot.own.as_deref().ok_or(Errno::ENOENT)?;
        make_plain(parent, name)?;
        let path = joined(&spot.path, name);
        let own = Directory::new(open_directory(parent.as_fd(), name)?, path.clone())?;
        if opaque {
            self.set_opaque(&*own)?;
        }
        self.made.push(Made {
            directory: Rc::clone(&own),
            stat: None,
            default_acl: None,
            opaque,
        });
        Ok(Spot {
            path,
            own: Some(own),
            lower: Some(Stack::new()),
        })
    }

    /// Makes a directory like the topmost of `stack`.
    fn make_like(&mut self, spot: &Spot, name: &[u8], stack: Stack) -> Result<Spot> {
        let path = joined(&spot.path, name);
        let failed = |errno| unreachable(&path, errno);
        let parent = spot.own.as_ref().ok_or_else(|| failed(Errno::ENOENT))?;
        let model = stack.first().ok_or_else(|| failed(Errno::ENOENT))?;
        mkdirat(&**parent, name, Mode::S_IRWXU).map_err(failed)?;
        let fd = open_directory(parent.as_fd(), name).map_err(failed)?;
        let directory = Directory::new(fd, path.clone()).map_err(failed)?;
        let (stat, default_acl) = copy::directory(model.as_fd(), &directory).map_err(failed)?;
        self.is_borrowed(parent, name).map_err(failed)?;
        self.made.push(Made {
            directory: Rc::clone(&directory),
            stat: Some(stat),
            default_acl,
            opaque: false,
        });
        Ok(Spot {
            path,
            own: Some(directory),
            lower: Some(stack),
        })
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Makes a directory of the caller's. The mode is set apart from the making because of the umask.
fn make_plain(parent: &Directory, name: &[u8]) -> nix::Result<()> {
    mkdirat(parent, name, Mode::S_IRWXU)?;
    // In a directory with the set-group-ID bit it would have that directory's group.
    fchownat(
        parent,
        name,
        Some(Uid::effective()),
        Some(Gid::effective()),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    fchmodat(
        parent,
        name,
        Mode::from_bits_truncate(0o755),
        FchmodatFlags::NoFollowSymlink,
    )
}

/// The components of a path, last first; those that mean nothing are dropped.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .rev()
        .collect()
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|byte| *byte == b'/')
        .map_or(b"", |slash| &path[..slash])
}
