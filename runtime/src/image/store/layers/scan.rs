//! Lists a layer's tree as it is on disk, in the words of `contents`.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, major, minor};

use shim::error::errno_of;

use super::contents::Entry;
use crate::attributes::is_ours;
use crate::image::disk::listing::{attributes, names};
use crate::image::disk::{Stack, open_plain};
use crate::image::unpack::Content;
use crate::image::unpack::lower::{Marks, is_whiteout, kind};

/// Hands every name below `root`, directories before what is in them, to `each`, with its inode number.
pub(crate) fn scan(
    root: &OwnedFd,
    marks: Marks,
    mut each: impl FnMut(&[u8], Entry, u64),
) -> Result<(), (Vec<u8>, Errno)> {
    let stat = fstat(root).map_err(|errno| (Vec::new(), errno))?;
    let mut seen = HashMap::new();
    let top = entry(root, b".", &stat, marks).map_err(|errno| (Vec::new(), errno))?;
    each(b"", top, stat.st_ino);
    let mut todo = Stack::new(root);
    todo.push(b"");
    while let Some(path) = todo.pop().map_err(|error| (Vec::new(), errno_of(&error)))? {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let directory =
            open_plain(root.as_fd(), &path, flags).map_err(|errno| (path.clone(), errno))?;
        for name in names(&directory).map_err(|errno| (path.clone(), errno))? {
            let whole = match path.as_slice() {
                b"" => name.to_vec(),
                path => [path, b"/", &name].concat(),
            };
            let failed = |errno| (whole.clone(), errno);
            let stat = fstatat(&directory, &*name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
            let is_directory = kind(&stat) == SFlag::S_IFDIR;
            // Names of one file that come later are only compared with the first.
            let first = (stat.st_nlink > 1 && !is_directory && !is_whiteout(&stat))
                .then(|| {
                    seen.entry(stat.st_ino)
                        .or_insert_with(|| whole.clone())
                        .clone()
                })
                .filter(|first| *first != whole);
            let entry = match first {
                Some(first) => Entry {
                    kind: "hard",
                    link: Some(first),
                    ..Entry::default()
                },
                None => entry(&directory, &name, &stat, marks).map_err(failed)?,
            };
            each(&whole, entry, stat.st_ino);
            if is_directory {
                todo.push(&whole);
            }
        }
    }
    Ok(())
}

fn entry(directory: &OwnedFd, name: &[u8], stat: &FileStat, marks: Marks) -> nix::Result<Entry> {
    if is_whiteout(stat) {
        return Ok(Entry {
            kind: "whiteout",
            ..Entry::default()
        });
    }
    let mut entry = Entry {
        mode: Some(stat.st_mode & 0o7777),
        owner: Some((stat.st_uid, stat.st_gid)),
        time: Some((stat.st_mtime, stat.st_mtime_nsec)),
        ..Entry::default()
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
