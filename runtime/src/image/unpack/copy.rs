//! Copies a name from a layer below into the one that is being made, with all that a file has, as overlay itself would
//! when somebody writes to it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, copy_file_range, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, futimens,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchownat, lseek, symlinkat};

use super::lower::kind;
use super::tree::Directory;
use crate::attributes::{self, DEFAULT_ACL};

/// Gives `directory`, which was just made, owner and attributes of `model`, whose status and default ACL it returns: these,
/// mode and time come when nothing more is put into it.
pub(super) fn directory(
    model: BorrowedFd<'_>,
    directory: &Directory,
) -> nix::Result<(FileStat, Option<Vec<u8>>)> {
    let stat = fstat(model)?;
    let (uid, gid) = owner(&stat);
    fchownat(directory, ".", uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    attributes::copy(model, directory, |name| name != DEFAULT_ACL)?;
    fchmodat(
        directory,
        ".",
        Mode::from_bits_truncate(stat.st_mode) | Mode::S_IRWXU,
        FchmodatFlags::NoFollowSymlink,
    )?;
    Ok((stat, attributes::default_acl(model)?))
}

/// Copies what is no directory: `name` in `from` to the same name in `to`, where nothing is.
pub(super) fn leaf(
    from: BorrowedFd<'_>,
    stat: &FileStat,
    to: &Directory,
    name: &[u8],
) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(stat.st_mode);
    match kind(stat) {
        SFlag::S_IFREG => return file(from, stat, to, name),
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name)?;
            symlinkat(target.as_os_str(), to, name)?;
        }
        other => mknodat(to, name, other, Mode::S_IRUSR, stat.st_rdev)?,
    }
    let (uid, gid) = owner(stat);
    fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let open = |directory: BorrowedFd<'_>| {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(directory, name, flags, Mode::empty())
    };
    let (source, copy) = (open(from)?, open(to.as_fd())?);
    attributes::copy(&source, &copy, |_| true)?;
    if kind(stat) != SFlag::S_IFLNK {
        fchmodat(to, name, mode, FchmodatFlags::NoFollowSymlink)?;
    }
    utimensat(
        to,
        name,
        &TimeSpec::UTIME_OMIT,
        &time(stat),
        UtimensatFlags::NoFollowSymlink,
    )
}

fn file(from: BorrowedFd<'_>, stat: &FileStat, to: &Directory, name: &[u8]) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let source = openat(from, name, flags, Mode::empty())?;
    let flags =
        OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let copy = File::from(openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    let size = stat.st_size;
    let mut end = 0;
    // Holes stay holes.
    while end < size {
        let start = match lseek(&source, end, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno),
        };
        end = lseek(&source, start, Whence::SeekHole)?;
        let (mut at, mut to) = (start, start);
        while at < end {
            let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
            if copy_file_range(&source, Some(&mut at), &copy, Some(&mut to), rest)? == 0 {
                return Err(Errno::EIO);
            }
        }
    }
    copy.set_len(size.unsigned_abs())
        .map_err(|error| errno(&error))?;
    let (uid, gid) = owner(stat);
    nix::unistd::fchown(&copy, uid, gid)?;
    attributes::copy(&source, &copy, |_| true)?;
    fchmod(&copy, Mode::from_bits_truncate(stat.st_mode))?;
    futimens(&copy, &TimeSpec::UTIME_OMIT, &time(stat))
}

/// A status's modification time.
pub(super) fn time(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}

fn owner(stat: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
