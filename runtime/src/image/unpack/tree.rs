//! The tree that is being made: every name in it is reached from its own descriptor.
//!
//! A tree is a whole root filesystem, or one layer of it in the form that overlay merges. Links on the way to a member's
//! directory are resolved here, with the new root as their root, as a layer may rely on a link of a lower one; the
//! member's own name is never followed. What a layer needs and does not have itself, it gets from the layers below.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, ResolveFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat, mknodat,
};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};
use shim::{Error, Result, open_below};

use super::lower::{Entry, Lower, Marks, Stack, is_whiteout, kind};
use super::{borrow, copy};
use crate::image::archive::show;
use crate::image::disk::remove::{self, Keep, Names};

/// The kernel's limit on links in one path, path_resolution(7).
const LINKS_MAX: usize = 40;
/// The longest path that the kernel takes at once (PATH_MAX less the NUL).
const PATH_MAX: usize = 4095;

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
    /// The directories that were made on the way, until somebody takes them.
    pub(super) made: Vec<Made>,
    /// Whether something was removed again.
    pub(in crate::image) removed: bool,
}

impl<'below> Tree<'below> {
    /// The tree of a whole root filesystem below `root`.
    pub(in crate::image) fn whole(root: OwnedFd) -> nix::Result<Self> {
        Ok(Self {
            root: Directory::new(root, Vec::new())?,
            lower: None,
            depends: false,
            last: None,
            borrowed: Names::new(),
            made: Vec::new(),
            removed: false,
        })
    }

    /// The tree of one layer.
    pub(in crate::image) fn layer(
        root: OwnedFd,
        lower: Lower<'below>,
        marks: Marks,
    ) -> nix::Result<Self> {
        Ok(Self {
            lower: Some((lower, marks)),
            ..Self::whole(root)?
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
    pub(super) fn is_own(&mut self, directory: &Directory, name: &[u8]) {
        self.forget_links();
        if !self.borrowed.is_empty() {
            self.borrowed.remove(&(directory.inode, name.into()));
        }
    }

    /// Takes note that `name` in `directory` is only there because of the layers below.
    pub(super) fn is_borrowed(&mut self, directory: &Directory, name: &[u8]) {
        self.borrowed.insert((directory.inode, name.into()));
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
        // Linux lets everybody make this one device (5.8).
        mknodat(directory, name, SFlag::S_IFCHR, Mode::empty(), 0)?;
        self.forget_links();
        self.is_borrowed(directory, name);
        Ok(())
    }

    /// Every name that the layers below have of a file, seen or hidden: its directory and the name there.
    pub(super) fn names_below(&mut self, stat: &FileStat) -> nix::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut names = Vec::new();
        if let Some((lower, _)) = &mut self.lower {
            for root in lower.asked() {
                names.extend(borrow::names_of(root, stat)?);
            }
        }
        Ok(names)
    }

    /// Walks the view to `path`, link by link. Where something is missing, it is made in this tree, or there is nothing.
    fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<Spot>> {
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
    fn stack(&mut self, spot: &mut Spot) -> Result<Stack> {
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
        self.is_own(own, name);
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
        let stat = copy::directory(model.as_fd(), &directory).map_err(failed)?;
        self.is_borrowed(parent, name);
        self.made.push(Made {
            directory: Rc::clone(&directory),
            stat: Some(stat),
            opaque: false,
        });
        Ok(Spot {
            path,
            own: Some(directory),
            lower: Some(stack),
        })
    }

    /// Opens a path of this tree that has no link in it.
    pub(super) fn plain(&self, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
        open_plain(self.root.as_fd(), path, flags)
    }
}

/// Opens a path below `root` that has no link in it, however long it is.
pub(in crate::image) fn open_plain(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let mut from: Option<OwnedFd> = None;
    let mut rest = if path.is_empty() { &b"."[..] } else { path };
    loop {
        let start = from.as_ref().map_or(root, AsFd::as_fd);
        if rest.len() <= PATH_MAX {
            return resolve_in(start, rest, flags, resolve);
        }
        let cut = rest[..PATH_MAX].iter().rposition(|byte| *byte == b'/');
        let (first, other) = rest.split_at(cut.ok_or(Errno::ENAMETOOLONG)?);
        from = Some(resolve_in(
            start,
            first,
            OFlag::O_PATH | OFlag::O_DIRECTORY,
            resolve,
        )?);
        rest = &other[1..];
    }
}

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

/// Opens what is there; makes nothing.
pub(in crate::image) fn resolve_in(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    open_below(root, path, flags, Mode::empty(), resolve)
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

pub(super) fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, b"/", name].concat()
    }
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|byte| *byte == b'/')
        .map_or(b"", |slash| &path[..slash])
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
pub(in crate::image) fn disk_hint(error: Error, errno: Errno) -> Error {
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
