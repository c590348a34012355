//! A directory of a hierarchy, held by its descriptor: reads and writes the kernel's files in it.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Uid, UnlinkatFlags, fchownat, read, unlinkat, write};
use shim::RootDir;

/// A cgroup.
#[derive(Debug)]
pub(crate) struct Dir(RootDir);

impl From<RootDir> for Dir {
    fn from(dir: RootDir) -> Self {
        Self(dir)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Dir {
    /// A directory below it. The path has no `..`, and nothing on it is followed.
    pub(super) fn open(&self, path: &Path) -> Result<Self, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = self.0.open_plain(path, flags, Mode::empty())?;
        Ok(Self(RootDir::from(fd)))
    }

    /// Makes a directory in it; false where there is one.
    pub(super) fn make(&self, name: &OsStr) -> Result<bool, Errno> {
        match mkdirat(self, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn remove(&self, name: &OsStr) -> Result<(), Errno> {
        unlinkat(self, name, UnlinkatFlags::RemoveDir)
    }

    /// Gives a file of it, or as `.` itself, to a user.
    pub(super) fn give(&self, name: &str, user: Uid) -> Result<(), Errno> {
        fchownat(self, name, Some(user), None, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// The names of the cgroups in it.
    pub(super) fn children(&self) -> Result<Vec<OsString>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = nix::dir::Dir::openat(self, ".", flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if entry.file_type() == Some(Type::Directory) && !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// A file of the kernel's.
    pub(super) fn file(&self, name: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        self.0
            .open_plain(name.as_c_str(), flags | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// What a file says.
    pub(super) fn read(&self, name: &str) -> Result<String, Errno> {
        let file = self.file(name, OFlag::O_RDONLY)?;
        let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match read(&file, &mut piece) {
                Ok(0) => break,
                Ok(length) => bytes.extend_from_slice(piece.get(..length).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The number that a file says.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.read(name).ok()?.trim().parse().ok()
    }

    /// Says something to a file, in one piece.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Errno> {
        let file = self.file(name, OFlag::O_WRONLY)?;
        loop {
            match write(&file, text.as_bytes()) {
                Err(Errno::EINTR) => {}
                other => return other.map(drop),
            }
        }
    }
}

/// The names on the way down a path, which must lead down and nowhere else.
pub(super) fn names(path: &Path) -> Option<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if !name.as_bytes().contains(&0) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => return None,
        }
    }
    Some(names)
}
