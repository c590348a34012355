//! A new file that has no name until it is complete: who is killed meanwhile leaves nothing (O_TMPFILE, open(2)).
//!
//! Filesystems without such files get one with a temporary name, which only a kill leaves behind.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use shim::rootdir::fd_path;

/// A file in a directory that may be given a name there.
#[derive(Debug)]
pub(in crate::image) struct Fresh<'d> {
    directory: BorrowedFd<'d>,
    pub(in crate::image) file: File,
    /// A temporary name: where it is, or where it is put before it replaces something.
    temporary: String,
    named: bool,
}

impl<'d> Fresh<'d> {
    /// Makes it in `directory`, with this mode less the umask. Nobody else may use the name `temporary`.
    pub(in crate::image) fn make(
        directory: BorrowedFd<'d>,
        temporary: String,
        mode: Mode,
    ) -> nix::Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let (file, named) = match openat(directory, ".", flags | OFlag::O_TMPFILE, mode) {
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL) => {
                let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
                (openat(directory, temporary.as_str(), flags, mode)?, true)
            }
            other => (other?, false),
        };
        let fresh = Self {
            directory,
            file: file.into(),
            temporary,
            named,
        };
        fresh.show_life();
        Ok(fresh)
    }

    /// Who finds the temporary name can tell by the lock (flock(2)) that we live. It is nothing to fail for.
    fn show_life(&self) {
        let _ = self.file.try_lock();
    }

    /// Nobody can write to it any more, not even we.
    pub(in crate::image) fn close_for_writing(&mut self) -> nix::Result<()> {
        let path = fd_path(self.file.as_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        self.file = open(path.as_c_str(), flags, Mode::empty())?.into();
        self.show_life();
        Ok(())
    }

    /// Gives it its temporary name, and says which. It is removed again unless [`Self::keep`] follows.
    pub(in crate::image) fn name(&mut self) -> nix::Result<&str> {
        if !self.named {
            let path = fd_path(self.file.as_fd());
            let flags = AtFlags::AT_SYMLINK_FOLLOW;
            let here = self.directory;
            linkat(here, path.as_c_str(), here, self.temporary.as_str(), flags)?;
            self.named = true;
        }
        Ok(&self.temporary)
    }

    /// The temporary name is somebody else's business now.
    pub(in crate::image) fn keep(&mut self) {
        self.named = false;
    }

    /// Gives it the name `name`; with `replace` also where something else has it.
    ///
    /// # Errors
    /// EEXIST, and those of linkat(2) and rename(2).
    pub(in crate::image) fn publish(mut self, name: &[u8], replace: bool) -> nix::Result<()> {
        let here = self.directory;
        if replace {
            let temporary = self.name()?;
            renameat(here, temporary, here, name)?;
            self.keep();
            return Ok(());
        }
        let path = fd_path(self.file.as_fd());
        linkat(
            here,
            path.as_c_str(),
            here,
            name,
            AtFlags::AT_SYMLINK_FOLLOW,
        )
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if self.named {
            let name = self.temporary.as_str();
            let _ = unlinkat(self.directory, name, UnlinkatFlags::NoRemoveDir);
        }
    }
}
