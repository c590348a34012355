//! Writes a tree as an archive: what is in a directory comes in the order of the names' bytes, after the directory itself.
//!
//! One directory is open at a time, so that neither the limit on open files nor the stack bounds the depth. The way up
//! is `..`, which is taken only if it leads to the directory we came from. The same tree gives the same bytes, wherever it
//! is: nothing of the place (inode numbers, holes, the order of a directory) is used.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, major, minor};
use shim::error::errno_of;
use shim::{Error, Result};
use tar::EntryType;

use super::entry::{self, Entry};
use crate::attributes::is_ours;
use crate::image::disk::listing;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// What hides all below in a directory (image-spec layer.md).
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// All that a container sees.
    Whole,
    /// A layer in overlay's form, whose marks become those of an archive.
    Layer {
        /// Whether it says what the root directory is like.
        lists_root: bool,
    },
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Packed {
    /// How many members.
    pub(super) members: u64,
    /// How many sockets were left out: an archive has no place for them.
    pub(super) sockets: u64,
}

/// Writes the tree below the directory `root` to `out`. What that directory itself is, `top` says.
pub(super) fn pack(
    root: impl AsFd,
    top: impl AsFd,
    meaning: Meaning,
    out: impl Write,
) -> Result<Packed> {
    let here = openat(&root, ".", DIRECTORY, Mode::empty());
    let mut packer = Packer {
        here: here.map_err(|errno| unreadable(b"", errno))?,
        path: Vec::new(),
        meaning,
        links: HashMap::new(),
        packed: Packed::default(),
        out,
    };
    if meaning != (Meaning::Layer { lists_root: false }) {
        packer.root(&top)?;
    }
    packer.tree()?;
    entry::end(&mut packer.out).map_err(|error| unwritable(&error))?;
    Ok(packer.packed)
}

struct Packer<W> {
    here: OwnedFd,
    /// Of the directory that we are in, with a slash at its end; empty for the root.
    path: Vec<u8>,
    meaning: Meaning,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    packed: Packed,
    out: W,
}

/// A directory on the way down: who it is, how long its path is, and what is still to be done in it, last first.
struct Level {
    identity: (u64, u64),
    path: usize,
    names: Vec<Box<[u8]>>,
}

impl<W: Write> Packer<W> {
    fn root(&mut self, top: impl AsFd) -> Result<()> {
        let failed = |errno| unreadable(b"", errno);
        let stat = fstat(&top).map_err(failed)?;
        let attributes = listing::attributes(&top, b"", is_ours).map_err(failed)?;
        self.member(Entry {
            attributes: &attributes,
            ..described(b"./", EntryType::Directory, &stat)
        })
    }

    fn tree(&mut self) -> Result<()> {
        let mut levels = vec![self.enter()?];
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.names.pop() {
                if self.name(&name)? {
                    let next = openat(&self.here, &*name, DIRECTORY, Mode::empty());
                    self.here = next.map_err(|errno| unreadable(&self.below(&name), errno))?;
                    self.path.extend_from_slice(&name);
                    self.path.push(b'/');
                    levels.push(self.enter()?);
                }
                continue;
            }
            levels.pop();
            if let Some(above) = levels.last() {
                self.leave(above)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<Level> {
        let path = self.path.clone();
        let failed = |errno| unreadable(&path, errno);
        let stat = fstat(&self.here).map_err(failed)?;
        let mut names = listing::names(&self.here).map_err(failed)?;
        names.reverse();
        if self.meaning != Meaning::Whole {
            let marks = listing::attributes(&self.here, b"", is_opaque).map_err(failed)?;
            if marks.iter().any(|(_, value)| value == b"y") {
                self.member(Entry::file(&self.below(OPAQUE), 0))?;
            }
        }
        Ok(Level {
            identity: (stat.st_dev, stat.st_ino),
            path: self.path.len(),
            names,
        })
    }

    fn leave(&mut self, above: &Level) -> Result<()> {
        let up = openat(&self.here, "..", DIRECTORY, Mode::empty()).and_then(|up| {
            let stat = fstat(&up)?;
            if (stat.st_dev, stat.st_ino) == above.identity {
                Ok(up)
            } else {
                Err(Errno::ESTALE)
            }
        });
        self.here = up.map_err(|errno| unreadable(&self.path, errno))?;
        self.path.truncate(above.path);
        Ok(())
    }

    /// Writes what has this name, but for what is in it; whether it is a directory.
    fn name(&mut self, name: &[u8]) -> Result<bool> {
        let path = self.below(name);
        let failed = |errno| unreadable(&path, errno);
        let stat = fstatat(&self.here, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
        let kind = stat.st_mode & libc::S_IFMT;
        if kind == libc::S_IFCHR && stat.st_rdev == 0 {
            // Overlay's mark for a name that is not there.
            if self.meaning != Meaning::Whole {
                let mark = [&*self.path, b".wh.", name].concat();
                self.member(Entry::file(&mark, 0))?;
            }
            return Ok(false);
        }
        let is_directory = kind == libc::S_IFDIR;
        if !is_directory && stat.st_nlink > 1 {
            let identity = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&identity).cloned() {
                self.member(Entry {
                    size: 0,
                    link: &first,
                    ..described(&path, EntryType::Link, &stat)
                })?;
                return Ok(false);
            }
            self.links.insert(identity, path.clone());
        }
        let attributes = listing::attributes(&self.here, name, is_ours).map_err(failed)?;
        let entry = |kind| Entry {
            attributes: &attributes,
            ..described(&path, kind, &stat)
        };
        match kind {
            libc::S_IFDIR => {
                let shown = [&*path, b"/"].concat();
                self.member(Entry {
                    path: &shown,
                    ..entry(EntryType::Directory)
                })?;
            }
            libc::S_IFREG => self.file(name, &entry(EntryType::Regular))?,
            libc::S_IFLNK => {
                let target = readlinkat(&self.here, name).map_err(failed)?;
                self.member(Entry {
                    link: target.as_bytes(),
                    ..entry(EntryType::Symlink)
                })?;
            }
            libc::S_IFCHR => self.member(entry(EntryType::Char))?,
            libc::S_IFBLK => self.member(entry(EntryType::Block))?,
            libc::S_IFIFO => self.member(entry(EntryType::Fifo))?,
            _ => self.packed.sockets += 1,
        }
        Ok(is_directory)
    }

    fn file(&mut self, name: &[u8], entry: &Entry<'_>) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&self.here, name, flags, Mode::empty());
        let file = File::from(file.map_err(|errno| unreadable(entry.path, errno))?);
        entry
            .write(&mut self.out)
            .map_err(|error| unwritable(&error))?;
        self.packed.members += 1;
        entry::content(&mut self.out, file, entry.size).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => unreadable(entry.path, Errno::ESTALE),
            _ => unwritable(&error),
        })
    }

    fn member(&mut self, entry: Entry<'_>) -> Result<()> {
        self.packed.members += 1;
        let entry = Entry { size: 0, ..entry };
        entry
            .write(&mut self.out)
            .map_err(|error| unwritable(&error))
    }

    fn below(&self, name: &[u8]) -> Vec<u8> {
        [&*self.path, name].concat()
    }
}

fn described<'e>(path: &'e [u8], kind: EntryType, stat: &FileStat) -> Entry<'e> {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Entry {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        time: (stat.st_mtime, stat.st_mtime_nsec),
        device: (number(major(stat.st_rdev)), number(minor(stat.st_rdev))),
        ..Entry::file(path, u64::try_from(stat.st_size).unwrap_or(0))
    }
}

fn is_opaque(name: &[u8]) -> bool {
    matches!(name, b"trusted.overlay.opaque" | b"user.overlay.opaque")
}

fn unreadable(path: &[u8], errno: Errno) -> Error {
    let error = Error::sys(
        "export",
        format!("/{}", String::from_utf8_lossy(path)),
        errno,
    );
    match errno {
        Errno::ESTALE | Errno::ENOENT => error
            .because("it was changed meanwhile")
            .hint("nobody may write to an image; import it again"),
        _ => error.hint("needs to read all of it; run as root"),
    }
}

pub(super) fn unwritable(error: &io::Error) -> Error {
    let hint = match errno_of(error) {
        Errno::ENOSPC | Errno::EDQUOT => "make room there: nothing is compressed",
        Errno::EPIPE => "who reads the archive has ended",
        _ => "name a file in a directory that can be written to, or - for stdout",
    };
    Error::new("write archive")
        .because(error.to_string())
        .hint(hint)
}
