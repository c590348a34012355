//! Reads a whole tree but for the content of its files: what is there, in an order that does not depend on where it is.
//!
//! Names are in the order of their bytes, in a directory as among directories. Two names of one file lead to one node.
//! What is kept grows with the number of files, a few hundred bytes each, and not with their size.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, fstat, fstatat};
use shim::{Error, Result};

use super::format::{self, NAME_MAX, narrow};
use super::walk::Walk;
use crate::attributes::is_ours;
use crate::image::disk::listing;

/// A tree, its root first.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    /// The directories among them, in the order in which they are visited.
    pub(super) directories: Vec<usize>,
    /// How many attributes EROFS has no place for.
    pub(super) left_out: usize,
}

/// Something in it, however many names it has.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    /// How many names it has here.
    pub(super) links: u32,
    /// Its attributes as they are written.
    pub(super) xattrs: Box<[u8]>,
    pub(super) content: Content,
}

/// What is in it.
#[derive(Debug)]
pub(super) enum Content {
    Directory(Box<Directory>),
    /// So many bytes.
    File(u64),
    Symlink(Box<[u8]>),
    /// Named pipe, socket, or a device, whose number it is.
    Special(u32),
}

/// A directory, and how to get there.
#[derive(Debug)]
pub(super) struct Directory {
    /// The directory that it is in; its own number for the root.
    pub(super) parent: usize,
    pub(super) name: Box<[u8]>,
    /// Device and inode number in the source.
    pub(super) identity: (u64, u64),
    /// In order, without `.` and `..`.
    pub(super) entries: Vec<(Box<[u8]>, usize)>,
}

impl Tree {
    pub(super) fn directory(&self, node: usize) -> Option<&Directory> {
        match &self.nodes.get(node)?.content {
            Content::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Where something is, for messages.
    pub(super) fn path(&self, directory: usize, name: &[u8]) -> String {
        let mut names = vec![name];
        let mut at = directory;
        while let Some(here) = self.directory(at).filter(|here| here.parent != at) {
            names.push(&here.name);
            at = here.parent;
        }
        names.reverse();
        format!("/{}", String::from_utf8_lossy(&names.join(&b'/')))
    }
}

/// Reads the tree below the directory `root`, whose owner, time and attributes are those of the directory `top`.
pub(super) fn scan(root: impl AsFd, top: impl AsFd) -> Result<Tree> {
    let mut tree = Tree {
        nodes: Vec::new(),
        directories: Vec::new(),
        left_out: 0,
    };
    let at_root = |errno| failed("/", errno);
    let first = fstat(&root).map_err(at_root)?;
    let mut like = fstat(&top).map_err(at_root)?;
    (like.st_dev, like.st_ino) = (first.st_dev, first.st_ino);
    let top = Walk::at_root(&top).map_err(at_root)?;
    add(&mut tree, &top, (0, b""), &like).map_err(at_root)?;
    let mut walk = Walk::at_root(&root).map_err(at_root)?;
    let mut links = HashMap::new();
    let mut pending = vec![0];
    while let Some(directory) = pending.pop() {
        walk.go(&tree, directory)?;
        tree.directories.push(directory);
        let here = |errno| failed(tree.path(directory, b""), errno);
        let names = names(&walk).map_err(here)?;
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            let place = (directory, &*name);
            if let Some(node) = entry(&mut tree, &walk, place, first.st_dev, &mut links)? {
                entries.push((name, node));
            }
        }
        let below = entries.iter().map(|(_, node)| *node);
        let below: Vec<_> = below
            .filter(|node| tree.directory(*node).is_some())
            .collect();
        if let Content::Directory(here) = &mut tree.nodes[directory].content {
            here.entries = entries;
        }
        let inside = u32::try_from(below.len()).unwrap_or(u32::MAX);
        tree.nodes[directory].links = inside.saturating_add(2);
        // The last one pushed is the first one visited.
        pending.extend(below.into_iter().rev());
    }
    Ok(tree)
}

/// The node that one name of a directory leads to; none where it says that there is nothing (a whiteout of overlay's, a
/// character device 0:0): a container of an image with such a device would not see it.
fn entry(
    tree: &mut Tree,
    walk: &Walk,
    (directory, name): (usize, &[u8]),
    device: u64,
    links: &mut HashMap<(u64, u64), usize>,
) -> Result<Option<usize>> {
    let stat = fstatat(walk, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| failed(tree.path(directory, name), errno))?;
    let kind = stat.st_mode & nix::libc::S_IFMT;
    if kind == nix::libc::S_IFCHR && stat.st_rdev == 0 {
        return Ok(None);
    }
    let is_directory = kind == nix::libc::S_IFDIR;
    if is_directory && stat.st_dev != device {
        return Err(failed(tree.path(directory, name), Errno::EXDEV)
            .because("something is mounted there")
            .hint("unmount it first; an image is one filesystem"));
    }
    let linked = !is_directory && stat.st_nlink > 1;
    let identity = (stat.st_dev, stat.st_ino);
    if linked && let Some(node) = links.get(&identity) {
        tree.nodes[*node].links += 1;
        return Ok(Some(*node));
    }
    let node = tree.nodes.len();
    if linked {
        links.insert(identity, node);
    }
    add(tree, walk, (directory, name), &stat)
        .map_err(|errno| failed(tree.path(directory, name), errno))?;
    Ok(Some(node))
}

fn add(
    tree: &mut Tree,
    walk: &Walk,
    (directory, name): (usize, &[u8]),
    stat: &FileStat,
) -> Result<(), Errno> {
    let (xattrs, left_out) = format::xattrs(&listing::attributes(walk, name, is_ours)?)?;
    tree.left_out += left_out;
    let content = match stat.st_mode & nix::libc::S_IFMT {
        nix::libc::S_IFDIR => Content::Directory(Box::new(Directory {
            parent: directory,
            name: name.into(),
            identity: (stat.st_dev, stat.st_ino),
            entries: Vec::new(),
        })),
        nix::libc::S_IFREG => Content::File(narrow(stat.st_size)?),
        nix::libc::S_IFLNK => {
            let target = readlinkat(walk, name)?;
            Content::Symlink(target.as_bytes().into())
        }
        nix::libc::S_IFCHR | nix::libc::S_IFBLK => Content::Special(format::device(stat.st_rdev)?),
        _ => Content::Special(0),
    };
    tree.nodes.push(Node {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, narrow(stat.st_mtime_nsec)?),
        links: 1,
        xattrs: xattrs.into(),
        content,
    });
    Ok(())
}

/// The names in a directory, in order.
fn names(walk: &Walk) -> Result<Vec<Box<[u8]>>, Errno> {
    let names = listing::names(walk)?;
    if names.iter().any(|name| name.len() > NAME_MAX) {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(names)
}

const UNREADABLE: &str = "needs to read all of it; run as root";

pub(super) fn failed(path: impl std::fmt::Display, errno: Errno) -> Error {
    let error = Error::sys("pack", path, errno);
    match errno {
        Errno::EOVERFLOW => error
            .because("EROFS has no room for its number, size or attributes")
            .hint("leave it out of the image"),
        Errno::ESTALE | Errno::ENOENT => error
            .because("it was changed meanwhile")
            .hint("pack an image that nobody writes to"),
        _ => error.hint(UNREADABLE),
    }
}
