//! Files of the layers below that a layer gives another name: overlay cannot link across layers, so the file is copied into
//! this layer, with all of its names that can be seen.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, fstatat};
use nix::unistd::linkat;
use shim::Result;
use shim::error::errno_of;

use super::layer::Unpacker;
use super::lower::Entry;
use super::tree::{Directory, joined};
use super::{copy, meta};
use crate::image::archive::Member;
use crate::image::disk::{Stack, open_plain};
use crate::image::store::layers::contents::Entry as Line;

impl Unpacker<'_> {
    /// Copies the file `name` of a directory of the view into this layer; `from` is where it is below.
    pub(super) fn borrow_file(
        &mut self,
        member: &Member,
        path: &[u8],
        from: &OwnedFd,
        stat: &FileStat,
        name: &[u8],
    ) -> Result<FileStat> {
        let failed = |errno| meta::failed("copy link target of", member, errno);
        let own = self.tree.directory(path)?;
        self.take_made()?;
        copy::leaf(from.as_fd(), stat, &own, name).map_err(failed)?;
        self.tree.is_borrowed(&own, name).map_err(failed)?;
        // What is written down of it is read back at the end.
        self.tree.removed = true;
        if stat.st_nlink > 1 {
            self.borrow_names(member, stat, &own, name)?;
        }
        fstatat(&*own, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Links the other names that the file below has, where they can still be seen.
    fn borrow_names(
        &mut self,
        member: &Member,
        stat: &FileStat,
        copied: &Rc<Directory>,
        copied_name: &[u8],
    ) -> Result<()> {
        let failed = |errno| meta::failed("copy link target of", member, errno);
        let mut names = Stack::new(&**copied);
        self.tree.names_below(stat, &mut names).map_err(failed)?;
        while let Some(whole) = names.pop().map_err(|error| failed(errno_of(&error)))? {
            let (path, name) = split(&whole);
            let Some(mut spot) = self.tree.existing(path)?.filter(|spot| spot.path == path) else {
                continue;
            };
            let here = spot
                .own
                .as_ref()
                .map(|own| fstatat(&**own, name, AtFlags::AT_SYMLINK_NOFOLLOW));
            match here {
                None | Some(Err(Errno::ENOENT)) => {}
                Some(Ok(_)) => continue,
                Some(Err(errno)) => return Err(failed(errno)),
            }
            let seen = self.tree.below(&mut spot, name)?;
            if !matches!(seen, Some(Entry::Leaf(_, seen)) if same(&seen, stat)) {
                continue;
            }
            let own = self.tree.directory(path)?;
            self.take_made()?;
            linkat(&**copied, copied_name, &*own, name, AtFlags::empty()).map_err(failed)?;
            self.tree.is_borrowed(&own, name).map_err(failed)?;
            let line = Line {
                kind: "hard",
                link: Some(copied.below(copied_name)),
                ..Line::default()
            };
            self.contents.add(&own.below(name), &line);
        }
        Ok(())
    }
}

/// Puts every name of a file below `root` on `found`.
pub(super) fn names_of(root: &OwnedFd, stat: &FileStat, found: &mut Stack<'_>) -> nix::Result<()> {
    let mut todo = Stack::new(root);
    todo.push(b"");
    while let Some(path) = todo.pop().map_err(|error| errno_of(&error))? {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let mut listing = Dir::from_fd(open_plain(root.as_fd(), &path, flags)?)?;
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            match entry.file_type() {
                _ if name == b"." || name == b".." => {}
                Some(nix::dir::Type::Directory) => todo.push(&joined(&path, name)),
                _ if entry.ino() == stat.st_ino => found.push(&joined(&path, name)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A path's directory, and the name there.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}
