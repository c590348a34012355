//! A file that never has a name, for what does not fit the memory.

use std::fs::File;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Makes it on the filesystem of `directory`; `temporary` is the name that it has for a moment where there is no O_TMPFILE
/// (open(2)), and that nobody else may use.
pub(in crate::image) fn nameless(directory: BorrowedFd<'_>, temporary: &str) -> nix::Result<File> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match openat(directory, ".", flags | OFlag::O_TMPFILE, mode) {
        Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::ENOENT | Errno::EINVAL) => {}
        other => return other.map(File::from),
    }
    let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
    let file = openat(directory, temporary, flags, mode)?;
    match unlinkat(directory, temporary, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(file.into()),
        Err(errno) => Err(errno),
    }
}
