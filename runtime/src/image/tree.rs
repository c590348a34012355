//! The root filesystem that is being made: every name in it is reached from its own descriptor.
//!
//! Links on the way to a member's directory are resolved with the new root as their root ([`open_below`],
//! RESOLVE_IN_ROOT), as a layer may rely on a link of a lower one; the member's own name is never followed.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, ResolveFlag, readlinkat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};
use shim::{Error, Result, open_below};

use super::path::show;
use super::remove;

/// The kernel's limit on links in one path, path_resolution(7).
const LINKS_MAX: usize = 40;

/// An open directory of the tree.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// Its inode number, which names it while the tree is being made.
    pub(super) inode: u64,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The tree below a root directory that nobody else can enter.
#[derive(Debug)]
pub(super) struct Tree {
    root: Rc<Directory>,
    /// The directory asked for last: archives list one directory after the other.
    last: Option<(Vec<u8>, Rc<Directory>)>,
}

impl Tree {
    /// The tree below `root`.
    pub(super) fn new(root: OwnedFd) -> nix::Result<Self> {
        let inode = fstat(&root)?.st_ino;
        Ok(Self {
            root: Rc::new(Directory { fd: root, inode }),
            last: None,
        })
    }

    /// The root itself.
    pub(super) fn root(&self) -> &Rc<Directory> {
        &self.root
    }

    /// Opens the directory `path` of the tree, with links resolved inside it; those that are missing are made with mode
    /// 0755.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Rc<Directory>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(directory));
        }
        let fd = match self.open(path) {
            Err(Errno::ENOENT) => self.make_directories(path)?,
            other => other.map_err(|errno| unreachable(path, errno))?,
        };
        let inode = fstat(&fd).map_err(|errno| unreachable(path, errno))?.st_ino;
        let directory = Rc::new(Directory { fd, inode });
        self.last = Some((path.to_vec(), Rc::clone(&directory)));
        Ok(directory)
    }

    /// Opens the directory `path` of the tree if it is there.
    pub(super) fn existing(&self, path: &[u8]) -> Result<Option<Rc<Directory>>> {
        if path.is_empty() {
            return Ok(Some(Rc::clone(&self.root)));
        }
        match self.open(path) {
            Ok(fd) => {
                let inode = fstat(&fd).map_err(|errno| unreachable(path, errno))?.st_ino;
                Ok(Some(Rc::new(Directory { fd, inode })))
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(unreachable(path, errno)),
        }
    }

    /// Forgets what may have changed because something was removed: a directory's path may lead elsewhere now.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Removes `name` in `directory`, whatever it is.
    pub(super) fn remove(&mut self, directory: &Directory, name: &[u8]) -> nix::Result<()> {
        self.forget();
        remove::remove(directory, name)
    }

    fn open(&self, path: &[u8]) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        resolve_in(
            self.root.as_fd(),
            path,
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            resolve,
        )
    }

    /// Walks to `path` and makes what is missing, link by link: where a link leads to nothing, what it names is made,
    /// inside the root.
    fn make_directories(&mut self, path: &[u8]) -> Result<OwnedFd> {
        let mut todo = components(path);
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == b".." {
                // What is done has no link in it, so its parent is one component less.
                done.pop();
                continue;
            }
            let parent = self
                .plain(&done, OFlag::O_PATH | OFlag::O_DIRECTORY)
                .map_err(|errno| unreachable(path, errno))?;
            let kind = match fstatat(&parent, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat.st_mode & nix::libc::S_IFMT,
                Err(Errno::ENOENT) => {
                    make_implied(&parent, &name).map_err(|errno| unreachable(path, errno))?;
                    nix::libc::S_IFDIR
                }
                Err(errno) => return Err(unreachable(path, errno)),
            };
            match kind {
                nix::libc::S_IFDIR => done.push(name),
                nix::libc::S_IFLNK => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(unreachable(path, Errno::ELOOP));
                    }
                    let target = readlinkat(&parent, name.as_slice())
                        .map_err(|errno| unreachable(path, errno))?;
                    let target = OsString::into_vec(target);
                    if target.starts_with(b"/") {
                        done.clear();
                    }
                    todo.extend(components(&target));
                }
                _ => return Err(unreachable(path, Errno::ENOTDIR)),
            }
        }
        self.plain(&done, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .map_err(|errno| unreachable(path, errno))
    }

    /// Opens a path that has no link in it.
    fn plain(&self, path: &[Vec<u8>], flags: OFlag) -> nix::Result<OwnedFd> {
        let path = if path.is_empty() {
            b".".to_vec()
        } else {
            path.join(&b'/')
        };
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV;
        resolve_in(self.root.as_fd(), &path, flags, resolve)
    }
}

/// Opens what is there; makes nothing.
pub(super) fn resolve_in(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    open_below(root, path, flags, Mode::empty(), resolve)
}

/// A directory that the archive implies but does not list. The mode is set apart from the making because of the umask.
fn make_implied(parent: &OwnedFd, name: &[u8]) -> nix::Result<()> {
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

fn unreachable(path: &[u8], errno: Errno) -> Error {
    let error = Error::sys("enter directory of the image", show(path), errno).flags("in-root");
    match errno {
        Errno::ENOTDIR => {
            error.hint("the archive puts something below a name that is no directory")
        }
        Errno::ELOOP => error.hint("the archive's symbolic links lead in a circle"),
        Errno::ENAMETOOLONG => error
            .hint("the archive has a name longer than Linux allows (255 bytes, 4095 for a path)"),
        other => disk_hint(error, other),
    }
}

/// Adds what to do about a failure that the place being written to, not the archive, is the reason for.
pub(super) fn disk_hint(error: Error, errno: Errno) -> Error {
    match errno {
        Errno::ENOSPC | Errno::EDQUOT => error.hint("no space or no inodes are left below the base directory; free some or choose another with --base"),
        Errno::EROFS => error.hint("the base directory is on a read-only filesystem; choose another with --base"),
        Errno::EACCES | Errno::EPERM => error.hint("run as root, or as a user who may write below the base directory"),
        Errno::ENAMETOOLONG => error.hint("the archive has a name longer than Linux allows (255 bytes, 4095 for a path)"),
        Errno::EFBIG => error.hint("the archive has a file larger than the filesystem of the base directory allows"),
        Errno::EIO => error.hint("the disk reported an error; see the kernel log"),
        _ => error.or_hint("the image was not imported; nothing of it is left"),
    }
}
