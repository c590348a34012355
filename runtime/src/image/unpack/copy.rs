//! Copies a name from a layer below into the one that is being made, with all that a file has, as overlay itself would
//! when somebody writes to it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, copy_file_range, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, futimens,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchownat, lseek, symlinkat};

use super::lower::kind;
use super::meta::{DEFAULT_ACL, is_ours};
use super::tree::Directory;

/// Gives `directory`, which was just made, owner and attributes of `model`, whose status and default ACL it returns: these,
/// mode and time come when nothing more is put into it.
pub(super) fn directory(
    model: BorrowedFd<'_>,
    directory: &Directory,
) -> nix::Result<(FileStat, Option<Vec<u8>>)> {
    let stat = fstat(model)?;
    let (uid, gid) = owner(&stat);
    fchownat(directory, ".", uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let (from, to) = (path_of(model), path_of(directory.as_fd()));
    attributes(&from, &to, |name| name != DEFAULT_ACL)?;
    fchmodat(
        directory,
        ".",
        Mode::from_bits_truncate(stat.st_mode) | Mode::S_IRWXU,
        FchmodatFlags::NoFollowSymlink,
    )?;
    let default_acl = match xattr::get_deref(&from, DEFAULT_ACL) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => None,
        other => other.map_err(|error| errno(&error))?,
    };
    Ok((stat, default_acl))
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
    attributes(&path_of(source.as_fd()), &path_of(copy.as_fd()), |_| true)?;
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
    attributes(&path_of(source.as_fd()), &path_of(copy.as_fd()), |_| true)?;
    fchmod(&copy, Mode::from_bits_truncate(stat.st_mode))?;
    futimens(&copy, &TimeSpec::UTIME_OMIT, &time(stat))
}

/// Gives `to` the attributes of `model` that are an image's own, both of them directories.
pub(crate) fn attributes_of(model: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<()> {
    attributes(&path_of(model), &path_of(to), |_| true)
}

/// A status's modification time.
pub(crate) fn time(stat: &FileStat) -> TimeSpec {
    TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec)
}

fn owner(stat: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )
}

/// What has an O_PATH descriptor has its attributes by the entry in /proc only, which leads to exactly the file that is
/// open.
fn path_of(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn attributes(from: &Path, to: &Path, is_wanted: fn(&OsStr) -> bool) -> nix::Result<()> {
    let copy = || -> io::Result<()> {
        for name in xattr::list_deref(from)? {
            if !is_ours(name.as_encoded_bytes()) || !is_wanted(&name) {
                continue;
            }
            if let Some(value) = xattr::get_deref(from, &name)? {
                xattr::set_deref(to, &name, &value)?;
            }
        }
        Ok(())
    };
    match copy() {
        Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(()),
        other => other.map_err(|error| errno(&error)),
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
