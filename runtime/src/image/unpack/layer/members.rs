//! Makes what a member is: each kind of file, in the place of what was there before.

use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, fstatat, makedev, mkdirat, mknodat};
use nix::unistd::{linkat, symlinkat};
use shim::{Error, Result};

use super::super::content::Content;
use super::super::late::Late;
use super::super::lower::{Entry, is_whiteout, kind};
use super::super::meta::{self, Rights};
use super::super::tree::{Directory, joined};
use super::{Unpacker, refused};
use crate::image::archive::{Archive, Kind, Member, Place, show};
use crate::image::store::layers::contents::Entry as Line;

impl Unpacker<'_> {
    pub(super) fn put_root(&mut self, member: &Member) -> Result<()> {
        if member.kind != Kind::Directory {
            return Err(refused(member, "the root of an image is a directory"));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(&**self.tree.root(), ".", flags, Mode::empty());
        let root = File::from(root.map_err(|errno| meta::failed("open", member, errno))?);
        meta::on_directory(&root, member, true, self.rights)?;
        self.set_late(Late {
            path: Vec::new(),
            inode: self.tree.root().inode,
            mode: Mode::from_bits_truncate(member.mode),
            time: Some(meta::time(member)),
            default_acl: meta::default_acl(member, self.rights),
        })?;
        self.lists_root = true;
        self.note(member, b"", None);
        Ok(())
    }

    pub(super) fn put_file<R: BufRead>(
        &mut self,
        archive: &mut Archive<R>,
        member: &Member,
        directory: &Directory,
        name: &[u8],
    ) -> Result<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = self.create(member, directory, name, || {
            openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
        })?;
        let mut file = File::from(made);
        let failed = |error: &std::io::Error| match error.raw_os_error() {
            Some(raw) => meta::failed("write file", member, Errno::from_raw(raw)),
            None => Error::io("write file", show(&member.name), error)
                .hint("the image was not imported; nothing of it is left"),
        };
        let mut hash = self.contents.is_wanted().then(Content::default);
        if let Some(extents) = &member.extents {
            for extent in extents {
                let mut offset = extent.offset;
                if let Some(hash) = &mut hash {
                    hash.hole_until(offset);
                }
                archive.data(extent.length, |piece| {
                    file.write_all_at(piece, offset)
                        .map_err(|error| failed(&error))?;
                    if let Some(hash) = &mut hash {
                        hash.update(piece);
                    }
                    offset += piece.len() as u64;
                    self.flusher.wrote(piece.len() as u64);
                    Ok(())
                })?;
                self.bytes += extent.length;
            }
            file.set_len(member.size).map_err(|error| failed(&error))?;
            if let Some(hash) = &mut hash {
                hash.hole_until(member.size);
            }
        } else {
            archive.data(member.size, |piece| {
                if let Some(hash) = &mut hash {
                    hash.update(piece);
                }
                self.flusher.wrote(piece.len() as u64);
                file.write_all(piece).map_err(|error| failed(&error))
            })?;
            self.bytes += member.size;
        }
        meta::on_file(&file, member, self.rights)?;
        self.note(member, &directory.below(name), hash.map(Content::finish));
        Ok(())
    }

    pub(super) fn put_directory(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
    ) -> Result<()> {
        let failed = |errno| meta::failed("make directory", member, errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let (mut existed, mut replaced) = (false, false);
        match mkdirat(directory, name, Mode::S_IRWXU) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let stat =
                    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
                existed = kind(&stat) == SFlag::S_IFDIR;
                replaced = !existed;
                if replaced {
                    self.hide_waiting()?;
                    self.tree.remove(directory, name).map_err(failed)?;
                    mkdirat(directory, name, Mode::S_IRWXU).map_err(failed)?;
                }
            }
            Err(errno) => return Err(failed(errno)),
        }
        let made = File::from(openat(directory, name, flags, Mode::empty()).map_err(failed)?);
        self.tree.is_own(directory, name).map_err(failed)?;
        meta::on_directory(&made, member, existed, self.rights)?;
        self.note(member, &directory.below(name), None);
        if replaced && self.tree.is_layer() {
            // What was there before, a whiteout perhaps, has hidden what is below.
            self.tree.set_opaque(&made).map_err(failed)?;
            self.contents.opaque(&directory.below(name));
        }
        // The owner can always enter while the tree is being made; what the archive says comes at the end.
        let mode = Mode::from_bits_truncate(member.mode);
        fchmod(&made, mode | Mode::S_IRWXU).map_err(failed)?;
        self.set_late(Late {
            path: directory.below(name),
            inode: fstat(&made).map_err(failed)?.st_ino,
            mode,
            time: Some(meta::time(member)),
            default_acl: meta::default_acl(member, self.rights),
        })
    }

    /// Links `name` to an earlier member. A link's own header repeats what its target has, so nothing is set.
    pub(super) fn put_hard_link(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
    ) -> Result<()> {
        let target = Place::parse(&member.link).map_err(|why| refused(member, why))?;
        let Place::Below {
            parent,
            name: target_name,
        } = &target
        else {
            return Err(refused(member, "a hard link leads to the root"));
        };
        let missing = || {
            refused(
                member,
                format!(
                    "a hard link leads to \"{}\", which is not there",
                    show(&member.link)
                ),
            )
        };
        self.hide_before(&joined(parent, target_name))?;
        let mut spot = self.tree.existing(parent)?.ok_or_else(missing)?;
        let look = |directory: &Directory, name: &[u8]| match fstatat(
            directory,
            name,
            AtFlags::AT_SYMLINK_NOFOLLOW,
        ) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(meta::failed("link", member, errno)),
        };
        let here = match &spot.own {
            Some(own) => look(own, target_name)?,
            None => None,
        };
        let target_stat = match here {
            Some(stat) if self.tree.is_layer() && is_whiteout(&stat) => return Err(missing()),
            Some(stat) => stat,
            None => match self
                .tree
                .below(&mut spot, target_name)?
                .ok_or_else(missing)?
            {
                Entry::Leaf(from, stat) => {
                    self.borrow_file(member, &spot.path, &from, &stat, target_name)?
                }
                Entry::Directory(_) => {
                    return Err(refused(member, "a hard link leads to a directory"));
                }
            },
        };
        let target_directory = self.tree.directory(&spot.path)?;
        if kind(&target_stat) == SFlag::S_IFDIR {
            return Err(refused(member, "a hard link leads to a directory"));
        }
        if look(directory, name)?.is_some_and(|stat| stat.st_ino == target_stat.st_ino) {
            return Ok(());
        }
        // Without AT_SYMLINK_FOLLOW a link at the end is itself what gets another name.
        self.create(member, directory, name, || {
            linkat(
                &*target_directory,
                target_name.as_slice(),
                directory,
                name,
                AtFlags::empty(),
            )
        })?;
        let line = Line {
            kind: "hard",
            link: Some(target_directory.below(target_name)),
            ..Line::default()
        };
        self.contents.add(&directory.below(name), &line);
        Ok(())
    }

    pub(super) fn put_symlink(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
    ) -> Result<()> {
        self.create(member, directory, name, || {
            symlinkat(member.link.as_slice(), directory, name)
        })?;
        meta::on_special(directory, name, member, self.rights)?;
        self.note(member, &directory.below(name), None);
        Ok(())
    }

    pub(super) fn put_node(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
    ) -> Result<()> {
        let kind = match member.kind {
            Kind::Char => SFlag::S_IFCHR,
            Kind::Block => SFlag::S_IFBLK,
            _ => SFlag::S_IFIFO,
        };
        let device = makedev(member.device.0.into(), member.device.1.into());
        if member.kind == Kind::Char && device == 0 {
            return self.put_whiteout(member, directory, name);
        }
        let made = self.create(member, directory, name, || {
            mknodat(directory, name, kind, Mode::S_IRUSR, device)
        });
        match made {
            // The kernel keeps devices for root of the initial user namespace.
            Err(error) if member.kind != Kind::Fifo && error.raw_errno() == Some(Errno::EPERM) => {
                if matches!(self.rights, Rights::Root | Rights::NoMounts) {
                    return Err(error.hint("making devices needs the capability CAP_MKNOD"));
                }
                self.left_out.devices += 1;
                return Ok(());
            }
            other => other?,
        }
        meta::on_special(directory, name, member, self.rights)?;
        self.note(member, &directory.below(name), None);
        Ok(())
    }

    /// A device 0:0: overlay takes it for a whiteout, and nobody can open it anyway. So it is left out, also of a directory.
    fn put_whiteout(&mut self, member: &Member, directory: &Directory, name: &[u8]) -> Result<()> {
        self.left_out.devices += 1;
        self.hide_waiting()?;
        let failed = |errno| meta::failed("make device", member, errno);
        self.tree.remove(directory, name).map_err(failed)?;
        let hidden = match self.tree.existing(&directory.path)? {
            Some(mut spot) => self.tree.below(&mut spot, name)?.is_some(),
            None => false,
        };
        if hidden {
            self.tree.white_out(directory, name).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes a name that must not lead anywhere that was there before: what has it is removed first, and `make` must fail
    /// where it exists.
    fn create<T>(
        &mut self,
        member: &Member,
        directory: &Directory,
        name: &[u8],
        make: impl Fn() -> nix::Result<T>,
    ) -> Result<T> {
        let mut made = make();
        if matches!(made, Err(Errno::EEXIST)) {
            self.hide_waiting()?;
            made = self.tree.remove(directory, name).and_then(|()| make());
        }
        let own = self.tree.is_own(directory, name);
        made.and_then(|made| own.map(|()| made)).map_err(|errno| {
            let op = match member.kind {
                Kind::File => "make file",
                Kind::HardLink => "link",
                Kind::Symlink => "make symbolic link",
                Kind::Char | Kind::Block => "make device",
                Kind::Fifo => "make named pipe",
                Kind::Directory => "make directory",
            };
            meta::failed(op, member, errno)
        })
    }
}
