//! The tree that is being made: every name in it is reached from its own descriptor.
//!
//! A tree is a whole root filesystem, or one layer of it in the form that overlay merges. Links on the way to a member's
//! directory are resolved here (`walk`), with the new root as their root, as a layer may rely on a link of a lower one; the
//! member's own name is never followed. What a layer needs and does not have itself, it gets from the layers below.

mod walk;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstat, fstatat};
use shim::{Error, Result};

use super::borrow;
use super::lower::{self, Entry, Lower, Marks, Stack};
use crate::image::archive::show;
use crate::image::disk::remove::{self, Keep};
use crate::image::disk::{self, Names, PATH_MAX, disk_hint, open_plain};

/// An open directory of the tree.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    /// Its inode number, which names it while the tree is being made.
    pub(super) inode: u64,
    /// Where it is below the root, without a link; empty for the root.
    pub(super) path: Vec<u8>,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Directory {
    fn new(fd: OwnedFd, path: Vec<u8>) -> nix::Result<Rc<Self>> {
        let inode = fstat(&fd)?.st_ino;
        Ok(Rc::new(Self { fd, inode, path }))
    }

    /// Where `name` in it is.
    pub(super) fn below(&self, name: &[u8]) -> Vec<u8> {
        joined(&self.path, name)
    }
}

/// A directory of the view that this tree and the layers below give together.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    /// Where it is below the root, without a link.
    pub(super) path: Vec<u8>,
    /// The one of this tree, if it has one.
    pub(super) own: Option<Rc<Directory>>,
    /// Those of the layers below; nothing as long as nobody has asked.
    lower: Option<Stack>,
}

/// A directory that was made because something is in it; like the one below it, if there is one.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) directory: Rc<Directory>,
    /// As the one below has it; nothing where there is none.
    pub(super) stat: Option<FileStat>,
    /// That of the one below.
    pub(super) default_acl: Option<Vec<u8>>,
    /// Whether it hides what is below.
    pub(super) opaque: bool,
}

/// The tree below a root directory that nobody else can enter.
pub(in crate::image) struct Tree<'below> {
    root: Rc<Directory>,
    /// The layers below, and how to hide them; nothing for a whole root filesystem.
    lower: Option<(Lower<'below>, Marks)>,
    /// Whether the tree is other than it were with other layers below.
    pub(in crate::image) depends: bool,
    /// The directory asked for last: archives list one directory after the other.
    last: Option<(Vec<u8>, Spot)>,
    /// What is in this tree only because of the layers below: whiteouts, and copies from there.
    borrowed: Names,
    /// What all that is known of the tree may take in memory, in bytes.
    pub(super) room: usize,
    /// The directories that were made on the way, until somebody takes them.
    pub(super) made: Vec<Made>,
    /// Whether something was removed again.
    pub(in crate::image) removed: bool,
}

impl<'below> Tree<'below> {
    /// The tree of a whole root filesystem below `root`. So many bytes of memory are for what has to be known of it.
    pub(in crate::image) fn whole(root: OwnedFd, room: usize) -> nix::Result<Self> {
        Ok(Self {
            root: Directory::new(root, Vec::new())?,
            lower: None,
            depends: false,
            last: None,
            room,
            borrowed: Names::new(room / 2),
            made: Vec::new(),
            removed: false,
        })
    }

    /// The tree of one layer.
    pub(in crate::image) fn layer(
        root: OwnedFd,
        lower: Lower<'below>,
        marks: Marks,
        room: usize,
    ) -> nix::Result<Self> {
        Ok(Self {
            lower: Some((lower, marks)),
            ..Self::whole(root, room)?
        })
    }

    /// Whether it is one layer of several.
    pub(super) fn is_layer(&self) -> bool {
        self.lower.is_some()
    }

    /// The root itself.
    pub(super) fn root(&self) -> &Rc<Directory> {
        &self.root
    }

    /// Opens the directory `path` of the tree, with links resolved inside it; those that are missing are made like the
    /// ones below, or with mode 0755.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Rc<Directory>> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((last, Spot { own: Some(own), .. })) = &self.last
            && last == path
        {
            return Ok(Rc::clone(own));
        }
        let failed = |errno| unreachable(path, errno);
        if path.len() > PATH_MAX {
            return Err(failed(Errno::ENAMETOOLONG));
        }
        let spot = match self.plain(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(fd) => Spot {
                path: path.to_vec(),
                own: Some(Directory::new(fd, path.to_vec()).map_err(failed)?),
                lower: None,
            },
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => self
                .walk(path, true)?
                .ok_or_else(|| failed(Errno::ENOENT))?,
            Err(errno) => return Err(failed(errno)),
        };
        let own = spot.own.clone().ok_or_else(|| failed(Errno::ENOENT))?;
        self.last = Some((path.to_vec(), spot));
        Ok(own)
    }

    /// Whether `path` is in this tree itself, with no link on the way.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        matches!(&self.last, Some((last, Spot { own: Some(_), .. })) if last == path)
            || self.plain(path, OFlag::O_PATH).is_ok()
    }

    /// The directory `path` of the view if it is there.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Option<Spot>> {
        match self.plain(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(fd) => Ok(Some(Spot {
                path: path.to_vec(),
                own: Some(
                    Directory::new(fd, path.to_vec()).map_err(|errno| unreachable(path, errno))?,
                ),
                lower: None,
            })),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => self.walk(path, false),
            Err(errno) => Err(unreachable(path, errno)),
        }
    }

    /// What `name` is below, in a directory of the view.
    pub(super) fn below(&mut self, spot: &mut Spot, name: &[u8]) -> Result<Option<Entry>> {
        let stack = self.stack(spot)?;
        match &self.lower {
            Some((lower, _)) => lower
                .look(&stack, name)
                .map_err(|errno| unreachable(name, errno)),
            None => Ok(None),
        }
    }

    /// Forgets what may have changed because something was removed: a directory's path may lead elsewhere now.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }

    /// Forgets a way through a link of the layers below, which a new name may hide.
    fn forget_links(&mut self) {
        if matches!(&self.last, Some((asked, spot)) if spot.path != *asked) {
            self.last = None;
        }
    }

    /// Removes `name` in `directory`, whatever it is.
    pub(super) fn remove(&mut self, directory: &Directory, name: &[u8]) -> nix::Result<()> {
        self.forget();
        // What has one name only is told by what comes in its place.
        self.removed = self.removed
            || match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat.st_nlink > 1,
                Err(_) => false,
            };
        remove::remove(directory, name)
    }

    /// Takes note that `name` in `directory` is the archive's own.
    pub(super) fn is_own(&mut self, directory: &Directory, name: &[u8]) -> nix::Result<()> {
        self.forget_links();
        if self.borrowed.is_empty() {
            return Ok(());
        }
        self.borrowed.remove(directory.inode, name)
    }

    /// Takes note that `name` in `directory` is only there because of the layers below.
    pub(super) fn is_borrowed(&mut self, directory: &Directory, name: &[u8]) -> nix::Result<()> {
        self.borrowed.insert(directory.inode, name, &*self.root)
    }

    /// Removes what was borrowed of `name` in `directory` and below it; `.` means all in it.
    pub(super) fn give_back(&mut self, directory: &Directory, name: &[u8]) -> nix::Result<()> {
        if self.borrowed.is_empty() {
            return Ok(());
        }
        self.forget();
        self.removed = true;
        let keep = Keep::AllBut(&self.borrowed);
        match name {
            b"." => remove::empty_but(directory.as_fd(), name, keep),
            _ => remove::remove_but(directory.as_fd(), name, keep),
        }
    }

    /// Makes a directory of this layer hide what is below it.
    pub(super) fn set_opaque(&mut self, directory: impl AsFd) -> nix::Result<()> {
        self.forget();
        match &self.lower {
            Some((_, marks)) => marks.set_opaque(directory),
            None => Ok(()),
        }
    }

    /// Hides `name` of the layers below.
    pub(super) fn white_out(&mut self, directory: &Directory, name: &[u8]) -> nix::Result<()> {
        lower::white_out(directory, name)?;
        self.forget_links();
        self.is_borrowed(directory, name)
    }

    /// Puts every name that the layers below have of a file, seen or hidden, on `names`.
    pub(super) fn names_below(
        &self,
        stat: &FileStat,
        names: &mut disk::Stack<'_>,
    ) -> nix::Result<()> {
        let roots = self.lower.iter().flat_map(|(lower, _)| lower.asked());
        for root in roots {
            borrow::names_of(root, stat, names)?;
        }
        Ok(())
    }

    /// Opens a path of this tree that has no link in it.
    pub(super) fn plain(&self, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        open_plain(self.root.as_fd(), path, flags)
    }
}

pub(super) fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, b"/", name].concat()
    }
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
