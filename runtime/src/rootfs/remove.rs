//! Removes a writable layer that a container has filled: no symlink followed, no mount crossed, no depth and no number
//! of files that makes it run out of memory or descriptors.
//!
//! It must not be given anything that create-fs did not make.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use shim::{Error, Result, open_below};

use super::open_if_there;

/// Directories held open at a time. What lies deeper is first moved to the top.
const MAX_DEPTH: usize = 64;
/// Names held at a time, per open directory.
const MAX_NAMES: usize = 1024;
/// How often one directory is read again because it is not empty yet.
const MAX_PASSES: usize = 1 << 20;
/// What is removed last, so that an interrupted removal is recognised for what it is.
const LAST: &CStr = c"boot";

/// Removes `parent/name` with everything in it. Where it does not exist, that is done.
pub(super) fn tree(parent: &Path, name: &str) -> Result<()> {
    let shown = parent.join(name);
    let failed = |errno| explain(&shown, errno);
    let Some(parent) = open_if_there(parent).map_err(failed)? else {
        return Ok(());
    };
    let name = CString::new(name).map_err(|_| failed(Errno::EINVAL))?;
    let top = match open(parent.as_fd(), &name) {
        Ok(dir) => Frame::new(dir, name.clone()),
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    let top = empty(top, &shown)?;
    gone(unlinkat(top.fd(), LAST, UnlinkatFlags::NoRemoveDir)).map_err(failed)?;
    gone(unlinkat(&parent, name.as_c_str(), UnlinkatFlags::RemoveDir)).map_err(failed)
}

/// What does not exist any more has been removed.
fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

fn explain(path: &Path, errno: Errno) -> Error {
    let error = Error::sys("remove", path.display(), errno);
    match errno {
        Errno::EXDEV | Errno::EBUSY => error
            .because("something is mounted there")
            .hint("unmount it, then try again: what is mounted is never removed"),
        Errno::EPERM => error.hint("is it immutable? chattr -i -a, then try again"),
        Errno::EROFS => error.hint("the filesystem is read-only: mount -o remount,rw"),
        Errno::EACCES => error.hint("needs root, with rights over the ids in it"),
        Errno::ELOOP | Errno::ENOTEMPTY => error.hint("somebody keeps writing there"),
        _ => error.hint("check --data"),
    }
}

/// NO_XDEV: a bind mount of another directory of the same filesystem is refused as well.
fn open(parent: BorrowedFd<'_>, name: &CStr) -> Result<Dir, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    Dir::from_fd(open_below(parent, name, flags, Mode::empty(), resolve)?)
}

/// A directory on the way down.
struct Frame {
    dir: Dir,
    name: CString,
    subdirectories: Vec<CString>,
    passes: usize,
}

impl Frame {
    fn new(dir: Dir, name: CString) -> Self {
        Self {
            dir,
            name,
            subdirectories: Vec::new(),
            passes: 0,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Removes some files and remembers some subdirectories. False: there was nothing. A failure comes with the name.
    fn scan(&mut self, is_top: bool) -> Result<bool, (CString, Errno)> {
        self.passes += 1;
        if self.passes > MAX_PASSES {
            return Err((c".".to_owned(), Errno::ELOOP));
        }
        let mut files = Vec::new();
        let mut directories = Vec::new();
        for entry in self.dir.iter() {
            let entry = entry.map_err(|errno| (c".".to_owned(), errno))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || (is_top && name == LAST) {
                continue;
            }
            match entry.file_type() {
                Some(Type::Directory) => directories.push(name.to_owned()),
                _ => files.push(name.to_owned()),
            }
            if directories.len() + files.len() >= MAX_NAMES {
                break;
            }
        }
        let found = !directories.is_empty() || !files.is_empty();
        for name in files {
            match gone(unlinkat(
                self.fd(),
                name.as_c_str(),
                UnlinkatFlags::NoRemoveDir,
            )) {
                Ok(()) => {}
                // A filesystem that does not tell types while listing.
                Err(Errno::EISDIR) => directories.push(name),
                Err(errno) => return Err((name, errno)),
            }
        }
        self.subdirectories = directories;
        Ok(found)
    }
}

/// Empties `top` but for [`LAST`], depth first, and returns it.
fn empty(top: Frame, shown: &Path) -> Result<Frame> {
    let mut above: Vec<Frame> = Vec::new();
    let mut frame = top;
    let mut moved = 0;
    loop {
        if let Some(name) = frame.subdirectories.pop() {
            let failed = |errno| explain(&path_of(shown, &above, &frame, &name), errno);
            if above.len() + 1 >= MAX_DEPTH
                && let Some(top) = above.first()
            {
                raise(&frame, &name, top, &mut moved).map_err(failed)?;
                continue;
            }
            match open(frame.fd(), &name) {
                Ok(dir) => above.push(std::mem::replace(&mut frame, Frame::new(dir, name))),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
            continue;
        }
        match frame.scan(above.is_empty()) {
            Ok(true) => {}
            Ok(false) => {
                let Some(parent) = above.pop() else {
                    return Ok(frame);
                };
                let removed =
                    unlinkat(parent.fd(), frame.name.as_c_str(), UnlinkatFlags::RemoveDir);
                match gone(removed) {
                    // Not empty again: the parent's next pass finds it.
                    Ok(()) | Err(Errno::ENOTEMPTY) => {}
                    Err(errno) => {
                        return Err(explain(
                            &path_of(shown, &above, &parent, &frame.name),
                            errno,
                        ));
                    }
                }
                frame = parent;
            }
            Err((name, errno)) => {
                return Err(explain(&path_of(shown, &above, &frame, &name), errno));
            }
        }
    }
}

/// Moves a directory that lies too deep into `top`, under a name that is not taken.
fn raise(frame: &Frame, name: &CStr, top: &Frame, moved: &mut usize) -> Result<(), Errno> {
    for _ in 0..MAX_PASSES {
        *moved += 1;
        let free = format!("deep-{moved}");
        match renameat(frame.fd(), name, top.fd(), free.as_str()) {
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
            other => return gone(other),
        }
    }
    Err(Errno::ELOOP)
}

fn path_of(shown: &Path, above: &[Frame], frame: &Frame, name: &CStr) -> PathBuf {
    let below_top = above.iter().chain([frame]).skip(1);
    let mut path = shown.to_path_buf();
    path.extend(below_top.map(|frame| OsStr::from_bytes(frame.name.to_bytes())));
    path.push(OsStr::from_bytes(name.to_bytes()));
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn deep_wide_and_linked_trees_go_and_what_links_point_to_stays() {
        let base = std::env::temp_dir().join(format!("rootfs-remove-{}", std::process::id()));
        let tree_of = base.join("guid");
        let outside = base.join("outside");
        std::fs::create_dir_all(&tree_of).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("kept"), "x").unwrap();
        std::fs::write(tree_of.join("boot"), "x").unwrap();
        symlink(&outside, tree_of.join("link")).unwrap();
        for wide in 0..3000 {
            std::fs::create_dir(tree_of.join(format!("d{wide}"))).unwrap();
            std::fs::write(tree_of.join(format!("f{wide}")), "").unwrap();
        }
        // Deeper than descriptors reach, and than PATH_MAX.
        let mut at: std::os::fd::OwnedFd = std::fs::File::open(&tree_of).unwrap().into();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o700);
        for level in 0..3000 {
            nix::sys::stat::mkdirat(&at, "deep", mode).unwrap();
            if level % 50 == 0 {
                nix::unistd::symlinkat(&outside, &at, "escape").unwrap();
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            at = nix::fcntl::openat(&at, "deep", flags, mode).unwrap();
        }
        tree(&base, "guid").expect("removed");
        tree(&base, "guid").expect("removed again");
        assert!(!tree_of.exists());
        assert_eq!(std::fs::read_to_string(outside.join("kept")).unwrap(), "x");
        std::fs::remove_dir_all(&base).unwrap();
    }
}
