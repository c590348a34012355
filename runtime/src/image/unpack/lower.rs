//! What the layers below show: the view that overlay would give of them, looked at one name at a time.
//!
//! Read only, through descriptors, and without following a link; whoever resolves a path does that with what this says of
//! each name. Where overlay stops looking (a whiteout, an opaque directory, what is no directory) this stops, too.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mknodat};
use shim::Result;
use xattr::FileExt;

use super::meta::Rights;
use crate::image::store::layers::LayerKey;

/// The directories that overlay would merge in one place, topmost first; none where there is none.
pub(super) type Stack = Vec<Rc<OwnedFd>>;

/// What gives the roots of the layers below, lowest first, once they are complete.
pub(in crate::image) type Source<'below> = Box<dyn FnOnce() -> Result<Vec<OwnedFd>> + 'below>;

/// What a name is in the layers below.
#[derive(Debug)]
pub(super) enum Entry {
    /// A directory, merged from these.
    Directory(Stack),
    /// Anything else; the name is in this directory.
    Leaf(Rc<OwnedFd>, FileStat),
}

/// The layers below the one that is being unpacked.
pub(in crate::image) struct Lower<'below> {
    source: Option<Source<'below>>,
    roots: Stack,
    marks: Marks,
}

/// How overlay is told that a directory hides those below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) struct Marks {
    /// The attribute's name.
    pub(in crate::image) opaque: &'static str,
}

impl Marks {
    /// The marks that the overlay mount of who has these rights obeys.
    pub(in crate::image) fn of(rights: Rights) -> Self {
        let opaque = match rights {
            Rights::Root => "trusted.overlay.opaque",
            // A mount in a user namespace has the option userxattr (Linux 5.11).
            Rights::NoMounts | Rights::UserNamespace | Rights::Squash | Rights::SingleId => {
                "user.overlay.opaque"
            }
        };
        Self { opaque }
    }

    /// The marks of a layer that is there.
    pub(in crate::image) fn of_key(key: &LayerKey) -> Self {
        Self::of(if key.is_for_user_namespaces() {
            Rights::UserNamespace
        } else {
            Rights::Root
        })
    }

    /// Whether a directory hides those below it.
    pub(in crate::image) fn is_opaque(self, directory: impl AsFd) -> nix::Result<bool> {
        let opened = open(directory.as_fd(), b".")?;
        match File::from(opened).get_xattr(self.opaque) {
            Ok(value) => Ok(value.as_deref() == Some(b"y")),
            Err(error) => match Errno::try_from(error) {
                Ok(Errno::EOPNOTSUPP) => Ok(false),
                Ok(errno) => Err(errno),
                Err(_) => Err(Errno::EIO),
            },
        }
    }

    /// Makes a directory hide those below it.
    pub(super) fn set_opaque(self, directory: impl AsFd) -> nix::Result<()> {
        let opened = File::from(open(directory.as_fd(), b".")?);
        opened
            .set_xattr(self.opaque, b"y")
            .map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO))
    }
}

impl<'below> Lower<'below> {
    /// The layers that `source` gives; asked for when the first name below is looked for.
    pub(in crate::image) fn new(source: Source<'below>, marks: Marks) -> Self {
        Self {
            source: Some(source),
            roots: Stack::new(),
            marks,
        }
    }

    /// The roots, topmost first.
    pub(super) fn roots(&mut self) -> Result<Stack> {
        if let Some(source) = self.source.take() {
            for root in source()? {
                // Overlay merges the roots of all layers. One that hides those below it is found out here, and when the
                // layers of an image are listed.
                if self.marks.is_opaque(&root).unwrap_or(false) {
                    self.roots.clear();
                }
                self.roots.insert(0, Rc::new(root));
            }
        }
        Ok(self.roots.clone())
    }

    /// The roots, if they were asked for.
    pub(super) fn asked(&self) -> impl Iterator<Item = &OwnedFd> {
        self.roots.iter().map(|root| &**root)
    }

    /// What `name` is in the directories of `stack`.
    pub(super) fn look(&self, stack: &Stack, name: &[u8]) -> nix::Result<Option<Entry>> {
        let mut merged = Stack::new();
        for directory in stack {
            let stat = match fstatat(&**directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno),
            };
            if kind(&stat) != SFlag::S_IFDIR {
                if merged.is_empty() && !is_whiteout(&stat) {
                    return Ok(Some(Entry::Leaf(Rc::clone(directory), stat)));
                }
                break;
            }
            let found = open(directory.as_fd(), name)?;
            let opaque = self.marks.is_opaque(&found)?;
            merged.push(Rc::new(found));
            if opaque {
                break;
            }
        }
        Ok((!merged.is_empty()).then_some(Entry::Directory(merged)))
    }
}

/// The file type.
pub(in crate::image) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Whether overlay takes it for a name that is hidden: a character device 0:0.
pub(in crate::image) fn is_whiteout(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// Makes `name` such a device. Linux lets everybody do so (5.8).
pub(in crate::image) fn white_out(directory: impl AsFd, name: &[u8]) -> nix::Result<()> {
    mknodat(directory, name, SFlag::S_IFCHR, Mode::empty(), 0)
}

fn open(directory: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}
