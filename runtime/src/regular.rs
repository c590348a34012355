//! Reads files that somebody else may have put there: regular files only, and no more than a given size.
//!
//! The descriptor comes in as O_PATH, which opens nothing: a FIFO does not block, a watchdog device does not start.
//! Only after fstat(2) has said "regular file" is that same inode opened for reading, through `/proc/self/fd`, so that
//! nothing can be exchanged between the look and the open (proc(5)).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, makedev};
use shim::Error;

/// What is read, for the messages, and how much of it at most.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// A verb phrase: "read env-file".
    pub op: &'static str,
    /// The path as the user knows it.
    pub name: &'a Path,
    /// Size limit in bytes.
    pub limit: u64,
}

impl Source<'_> {
    /// A failure with this file.
    #[must_use]
    pub fn error(&self) -> Error {
        Error::new(self.op).on(self.name.display())
    }

    /// The file is larger than the limit.
    pub(crate) fn too_large(&self) -> Error {
        self.error()
            .because(format!("larger than {} bytes", self.limit))
            .hint("this much is refused rather than read; make the file smaller")
    }

    /// Opens a path of the host for [`Self::open`].
    ///
    /// # Errors
    /// Those of open(2).
    pub fn look(&self) -> Result<OwnedFd, Errno> {
        retry(|| open(self.name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()))
    }

    /// Opens what the O_PATH descriptor names for reading.
    ///
    /// # Errors
    /// Anything but a regular file, a file that is already larger than the limit, and those of open(2).
    pub fn open(&self, seen: &OwnedFd) -> shim::Result<File> {
        let stat = fstat(seen).map_err(|errno| self.error().errno(errno))?;
        let kind = kind(&stat);
        if kind != SFlag::S_IFREG {
            return Err(self
                .error()
                .because(format!("is {}, not a regular file", kind_name(kind)))
                .hint("give it the content as a regular file"));
        }
        if u64::try_from(stat.st_size).is_ok_and(|size| size > self.limit) {
            return Err(self.too_large());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let path = shim::rootdir::fd_path(seen.as_fd());
        let file = retry(|| open(path.as_c_str(), flags, Mode::empty()));
        file.map(File::from).map_err(|errno| {
            self.error()
                .errno(errno)
                .hint("check that it is readable and that /proc is mounted")
        })
    }

    /// All of a file, which may have grown since it was opened.
    ///
    /// # Errors
    /// More bytes than the limit, and those of read(2).
    pub fn read(&self, file: File) -> shim::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let limited = &mut file.take(self.limit.saturating_add(1));
        limited
            .read_to_end(&mut bytes)
            .map_err(|error| self.read_failed(&error))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > self.limit) {
            return Err(self.too_large());
        }
        Ok(bytes)
    }

    /// A failed read(2).
    pub(crate) fn read_failed(&self, error: &io::Error) -> Error {
        Error::io(self.op, self.name.display(), error)
            .hint("the file could be opened but not read; check the filesystem it is on")
    }
}

/// Whether the descriptor names the null device (character device 1:3), which reads as an empty file.
pub(crate) fn is_null_device(seen: &OwnedFd) -> bool {
    fstat(seen).is_ok_and(|stat| kind(&stat) == SFlag::S_IFCHR && stat.st_rdev == makedev(1, 3))
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn kind_name(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a FIFO or pipe",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFCHR => "a character device",
        SFlag::S_IFBLK => "a block device",
        SFlag::S_IFLNK => "a symlink",
        _ => "of an unknown kind",
    }
}

/// open(2) of a file on a network or FUSE filesystem can be interrupted by any signal.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
