//! Finds, and makes where it is missing, the place that a mount is attached to.
//!
//! The path is walked one component at a time, each step by descriptor and without following anything. Symlinks are
//! read and continued from the root that counts: that of the host, until the walk enters `BASE/subcontainers/GUID`;
//! from there on the root is that directory, for `..` and absolute symlinks as well. So a container that swaps
//! directories and symlinks under our feet can only ever choose among its own places.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use shim::{Error, Result, RootDir};

/// As in the kernel (MAXSYMLINKS).
const MAX_LINKS: usize = 40;
/// Components of a path, those of its symlinks included.
const MAX_COMPONENTS: usize = 4096;

/// What a target has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// The place, and what was made for it.
#[derive(Debug)]
pub struct Target {
    fd: OwnedFd,
    rootfs: Option<OsString>,
    made: Vec<Made>,
}

/// Something that did not exist before: where it is, its name, its type, and itself.
#[derive(Debug)]
struct Made {
    parent: OwnedFd,
    name: OsString,
    kind: Kind,
    itself: OwnedFd,
}

impl Target {
    /// Walks `path` (relative: to the working directory) and makes what is missing: directories of mode 0755, an empty
    /// file of mode 0644.
    ///
    /// # Errors
    /// Something of the other type; a root filesystem that does not exist, or that itself is the target; those of
    /// open(2) and mkdir(2). What was made is removed.
    pub fn resolve(path: &Path, base: &Path, kind: Kind) -> Result<Self> {
        let mut walk = Walk::start(base, kind).map_err(|errno| explain(path, kind, errno))?;
        match walk.run(path) {
            Ok(fd) => Ok(Self {
                fd,
                rootfs: walk.inside,
                made: walk.made,
            }),
            Err(errno) => {
                undo(walk.made);
                Err(match walk.refusal {
                    Some(why) => Error::new("find target")
                        .on(path.display())
                        .because(why)
                        .hint("a target lies below BASE/subcontainers/GUID, which create-fs makes"),
                    None => explain(path, kind, errno),
                })
            }
        }
    }

    /// The place itself.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The name of the root filesystem that it is in.
    #[must_use]
    pub fn rootfs(&self) -> Option<&OsStr> {
        self.rootfs.as_deref()
    }

    /// Gives what was made for it to somebody.
    ///
    /// # Errors
    /// Those of fchown(2).
    pub fn give_to(&self, user: Uid, group: Gid) -> Result<(), Errno> {
        self.made
            .iter()
            .try_for_each(|made| fchown(&made.itself, Some(user), Some(group)))
    }

    /// Removes what was made for it.
    pub fn undo(self) {
        undo(self.made);
    }
}

/// Only what is still empty goes, so somebody else's file that came meanwhile stays.
fn undo(made: Vec<Made>) {
    for Made {
        parent, name, kind, ..
    } in made.into_iter().rev()
    {
        let flag = match kind {
            Kind::Directory => UnlinkatFlags::RemoveDir,
            Kind::File => UnlinkatFlags::NoRemoveDir,
        };
        let _ = unlinkat(&parent, name.as_os_str(), flag);
    }
}

fn explain(path: &Path, kind: Kind, errno: Errno) -> Error {
    let error = Error::sys("find target", path.display(), errno);
    match (errno, kind) {
        (Errno::EISDIR, _) => error.hint("it is a directory, and the source is not"),
        (Errno::ENOTDIR, Kind::Directory) => error
            .hint("it, or something on the way to it, is not a directory; for a file add --file"),
        (Errno::ENOTDIR, Kind::File) => error.hint("something on the way to it is not a directory"),
        (Errno::ELOOP, _) => error.hint("its symlinks lead in a circle"),
        (Errno::EROFS, _) => {
            error.hint("it does not exist and cannot be made: read-only filesystem")
        }
        (Errno::EACCES | Errno::EPERM, _) => error.hint("needs root"),
        _ => error.hint("give a path below a root filesystem, or of the host"),
    }
}

struct Walk {
    kind: Kind,
    /// `BASE/subcontainers`, by device and inode, if it exists.
    subcontainers: Option<(u64, u64)>,
    /// From the root that counts down to where we are; never empty.
    stack: Vec<OwnedFd>,
    /// The name of the root filesystem that this root is.
    inside: Option<OsString>,
    pending: VecDeque<OsString>,
    made: Vec<Made>,
    links: usize,
    refusal: Option<&'static str>,
}

impl Walk {
    fn start(base: &Path, kind: Kind) -> Result<Self, Errno> {
        let subcontainers = match RootDir::open(&base.join("subcontainers")) {
            Ok(dir) => Some(identity(dir.as_fd())?),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        Ok(Self {
            kind,
            subcontainers,
            stack: vec![open_root()?],
            inside: None,
            pending: VecDeque::new(),
            made: Vec::new(),
            links: 0,
            refusal: None,
        })
    }

    fn run(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        let absolute = absolute(path)?;
        self.push(&absolute);
        for _ in 0..MAX_COMPONENTS {
            let Some(name) = self.pending.pop_front() else {
                return self.end();
            };
            if name == ".." {
                if self.stack.len() > 1 {
                    self.stack.pop();
                }
                continue;
            }
            if let Some(file) = self.step(&name)? {
                return Ok(file);
            }
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Puts a path, or the text of a symlink, before what is left of the way.
    fn push(&mut self, path: &Path) {
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        for name in names.collect::<Vec<_>>().into_iter().rev() {
            self.pending.push_front(name);
        }
        if path.has_root() {
            self.stack.truncate(1);
        }
    }

    fn at(&self) -> Result<BorrowedFd<'_>, Errno> {
        self.stack.last().map(OwnedFd::as_fd).ok_or(Errno::EINVAL)
    }

    /// The way ended at a directory.
    fn end(&mut self) -> Result<OwnedFd, Errno> {
        if self.kind == Kind::File {
            return Err(Errno::EISDIR);
        }
        if self.stack.len() == 1 {
            self.refusal = Some("it is a root directory itself");
            return Err(Errno::EBUSY);
        }
        self.stack.pop().ok_or(Errno::EINVAL)
    }

    /// One component. The result is the target, if that is a file.
    fn step(&mut self, name: &OsStr) -> Result<Option<OwnedFd>, Errno> {
        let is_last = self.pending.is_empty();
        let here = self.at()?;
        let enters = self.inside.is_none() && self.subcontainers == Some(identity(here)?);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = match openat(here, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) if enters => {
                self.refusal = Some("there is no such root filesystem");
                return Err(Errno::ENOENT);
            }
            Err(Errno::ENOENT) => match self.make(name, is_last) {
                // Somebody else, another bind-mount perhaps, has just made it: look again.
                Err(Errno::EEXIST) => {
                    self.pending.push_front(name.to_owned());
                    return Ok(None);
                }
                other => other?,
            },
            other => other?,
        };
        match file_type(found.as_fd())? {
            SFlag::S_IFDIR if enters => {
                self.stack = vec![found];
                self.inside = Some(name.to_owned());
            }
            SFlag::S_IFDIR => self.stack.push(found),
            SFlag::S_IFLNK => {
                self.links += 1;
                if self.links > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                let text = PathBuf::from(readlinkat(&found, "")?);
                self.push(&text);
            }
            _ if is_last && self.kind == Kind::File => return Ok(Some(found)),
            _ => return Err(Errno::ENOTDIR),
        }
        Ok(None)
    }

    fn make(&mut self, name: &OsStr, is_last: bool) -> Result<OwnedFd, Errno> {
        let here = self.at()?;
        let parent = here.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        let as_file = is_last && self.kind == Kind::File;
        let (fd, kind, mode) = if as_file {
            // O_EXCL: a symlink that somebody puts there now is not followed.
            let flags = OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            let mode = Mode::from_bits_truncate(0o644);
            let fd = openat(here, name, flags, mode);
            (fd, Kind::File, mode)
        } else {
            let mode = Mode::from_bits_truncate(0o755);
            mkdirat(here, name, mode)?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = openat(here, name, flags, Mode::empty());
            (fd, Kind::Directory, mode)
        };
        let fd = match fd {
            Ok(fd) => fd,
            Err(errno) => {
                if kind == Kind::Directory {
                    let _ = unlinkat(&parent, name, UnlinkatFlags::RemoveDir);
                }
                return Err(errno);
            }
        };
        let itself = fd.try_clone().map_err(|_| Errno::EMFILE)?;
        self.made.push(Made {
            parent,
            name: name.to_owned(),
            kind,
            itself,
        });
        // Whatever the umask of the caller is.
        fchmod(&fd, mode)?;
        Ok(fd)
    }
}

fn open_root() -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open("/", flags, Mode::empty())
}

fn absolute(path: &Path) -> Result<PathBuf, Errno> {
    if path.as_os_str().is_empty() {
        return Err(Errno::ENOENT);
    }
    if path.is_absolute() {
        return Ok(path.to_path_buf());
    }
    Ok(nix::unistd::getcwd()?.join(path))
}

fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    fstat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}

fn file_type(fd: BorrowedFd<'_>) -> Result<SFlag, Errno> {
    let stat = fstat(fd)?;
    Ok(SFlag::from_bits_truncate(
        stat.st_mode & SFlag::S_IFMT.bits(),
    ))
}
