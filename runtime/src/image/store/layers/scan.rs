//! Lists a layer's tree as it is on disk, in the words of `contents`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};

use shim::error::errno_of;

use super::contents::Entry as Line;
use crate::attributes::is_ours;
use crate::image::disk::listing::{attributes, each_name};
use crate::image::disk::{Stack, open_plain};
use crate::image::unpack::Content;
use crate::image::unpack::lower::{Marks, is_whiteout, kind};

/// A name that cannot be listed, and why not.
pub(crate) struct Failed(pub(crate) Vec<u8>, pub(crate) Errno);

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self(Vec::new(), errno)
    }
}

/// The first names of files that have several, by inode number, as far as there is room for them.
struct Firsts {
    names: HashMap<u64, Vec<u8>>,
    room: usize,
}

impl Firsts {
    /// What an entry takes besides its name, in bytes.
    const EACH: usize = 128;

    /// The first name of a file, which may be this one; nothing where it is not known.
    fn of(&mut self, inode: u64, name: &[u8]) -> Option<&[u8]> {
        match self.names.entry(inode) {
            Entry::Occupied(occupied) => Some(occupied.into_mut()),
            Entry::Vacant(vacant) => {
                self.room = self.room.checked_sub(name.len() + Self::EACH)?;
                Some(vacant.insert(name.to_vec()))
            }
        }
    }
}

/// Hands every name below `root`, directories before what is in them, to `each`, with its inode number. Of files with
/// several names only the first is described, and the others are said to be names of it; `room` is how many bytes of first
/// names are kept for that, and where there are more, each name is described.
pub(crate) fn scan(
    root: &OwnedFd,
    marks: Marks,
    room: usize,
    mut each: impl FnMut(&[u8], Line, u64),
) -> Result<(), Failed> {
    let stat = fstat(root)?;
    let names = HashMap::new();
    let mut firsts = Firsts { names, room };
    each(b"", entry(root, b".", &stat, marks)?, stat.st_ino);
    let mut todo = Stack::new(root);
    todo.push(b"");
    while let Some(path) = todo.pop().map_err(|error| errno_of(&error))? {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let failed = |errno| Failed(path.clone(), errno);
        let directory = open_plain(root.as_fd(), &path, flags).map_err(failed)?;
        let listed = each_name(&directory, |name| {
            let whole = match path.as_slice() {
                b"" => name.to_vec(),
                path => [path, b"/", name].concat(),
            };
            let failed = |errno| Failed(whole.clone(), errno);
            let stat = fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
            let is_directory = kind(&stat) == SFlag::S_IFDIR;
            // Names of one file that come later are only compared with the first.
            let has_several = stat.st_nlink > 1 && !is_directory && !is_whiteout(&stat);
            let first = has_several
                .then(|| firsts.of(stat.st_ino, &whole))
                .flatten()
                .filter(|first| *first != whole);
            let line = match first {
                Some(first) => Line {
                    kind: "hard",
                    link: Some(first.to_vec()),
                    ..Line::default()
                },
                None => entry(&directory, name, &stat, marks).map_err(failed)?,
            };
            each(&whole, line, stat.st_ino);
            if is_directory {
                todo.push(&whole);
            }
            Ok(())
        });
        listed.map_err(|Failed(at, errno)| match at.is_empty() {
            true => failed(errno),
            false => Failed(at, errno),
        })?;
    }
    Ok(())
}

fn entry(directory: &OwnedFd, name: &[u8], stat: &FileStat, marks: Marks) -> nix::Result<Line> {
    if is_whiteout(stat) {
        return Ok(Line {
            kind: "whiteout",
            ..Line::default()
        });
    }
    let mut entry = Line {
        mode: Some(stat.st_mode & 0o7777),
        owner: Some((stat.st_uid, stat.st_gid)),
        time: Some((stat.st_mtime, stat.st_mtime_nsec)),
        ..Line::default()
    };
    match kind(stat) {
        SFlag::S_IFDIR => entry.kind = "dir",
        SFlag::S_IFLNK => {
            entry.kind = "link";
            entry.mode = None;
            entry.link = Some(readlinkat(directory, name)?.into_vec());
        }
        SFlag::S_IFREG => {
            entry.kind = "file";
            entry.size = Some(stat.st_size.unsigned_abs());
            entry.sha256 = Some(digest(directory, name)?);
        }
        SFlag::S_IFIFO => entry.kind = "fifo",
        other => {
            entry.kind = if other == SFlag::S_IFCHR {
                "char"
            } else {
                "block"
            };
            entry.device = Some((major(stat.st_rdev), minor(stat.st_rdev)));
        }
    }
    let xattrs = attributes(directory, name, |_| true)?;
    entry.xattrs = xattrs.into_iter().collect();
    entry.opaque = entry.xattrs.remove(marks.opaque.as_bytes()).is_some();
    entry.xattrs.retain(|name, _| is_ours(name));
    Ok(entry)
}

fn digest(directory: &OwnedFd, name: &[u8]) -> nix::Result<String> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    Content::of(&file).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}
