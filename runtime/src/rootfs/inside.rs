//! What create-fs puts into a root filesystem: mount points that the image lacks, `etc/hostname` and `etc/hosts`.
//!
//! The image is hostile. Every name is looked up below a descriptor and may not be a symlink; what exists is never
//! replaced, but for the two files, which are unlinked (not followed) and made anew.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fchmod, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use shim::plan::IdMaps;
use shim::{Error, Result, RootDir};

use super::probe;

/// Who something is given to.
type Owner = (Uid, Gid);

/// Directories that launch or the client mounts on, or that create-fs writes in, and what they are made with.
/// `true`: must be a real directory, because a client on the host follows what it finds there.
const DIRECTORIES: [(&str, u32, bool); 6] = [
    ("proc", 0o555, true),
    ("dev", 0o755, true),
    ("sys", 0o555, true),
    ("etc", 0o755, true),
    ("run", 0o755, false),
    ("tmp", 0o1777, false),
];

/// Completes the tree at `root`, which is a mount that nobody else can see yet. What is made belongs to root of the
/// container, whose ids are `maps` where it has its own. Whatever was added, the root directory has the time of the image's,
/// `like`.
pub(super) fn complete(
    root: &RootDir,
    image: &str,
    like: &FileStat,
    maps: Option<&IdMaps>,
) -> Result<()> {
    let owner = maps
        .map(probe::owner)
        .transpose()
        .map_err(|errno| refuse(image, "", errno))?;
    for (name, mode, must_be_real) in DIRECTORIES {
        directory(
            root,
            name,
            Mode::from_bits_truncate(mode),
            must_be_real,
            owner,
        )
        .map_err(|errno| refuse(image, name, errno))?;
    }
    let hostname = hostname();
    let etc: RootDir = root
        .open_plain("etc", OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
        .map_err(|errno| refuse(image, "etc", errno))?
        .into();
    for (name, text) in [
        ("hostname", format!("{hostname}\n")),
        ("hosts", hosts(&hostname)),
    ] {
        write(&etc, name, &text, owner)
            .map_err(|errno| refuse(image, &format!("etc/{name}"), errno))?;
    }
    utimensat(
        root,
        ".",
        &TimeSpec::UTIME_OMIT,
        &TimeSpec::new(like.st_mtime, like.st_mtime_nsec),
        UtimensatFlags::NoFollowSymlink,
    )
    .map_err(|errno| refuse(image, "", errno))
}

fn refuse(image: &str, name: &str, errno: Errno) -> Error {
    let error = Error::sys("prepare", format!("{image}:/{name}"), errno);
    match errno {
        Errno::ELOOP => error
            .because("it is a symlink in the image")
            .hint("make it a real directory in the image: the host mounts or writes there"),
        Errno::ENOTDIR | Errno::EISDIR => error
            .because("it has the wrong type in the image")
            .hint("directories are expected at /proc, /dev, /sys and /etc, files at /etc/hostname and /etc/hosts"),
        Errno::ENOSPC | Errno::EDQUOT => error.hint("make room below --data"),
        _ => error.hint("the writable layer below --data refuses it"),
    }
}

fn directory(
    root: &RootDir,
    name: &str,
    mode: Mode,
    must_be_real: bool,
    owner: Option<Owner>,
) -> Result<(), Errno> {
    match mkdirat(root, name, Mode::from_bits_truncate(0o700)) {
        Ok(()) => {
            // The umask of the caller does not decide what a container sees.
            let made =
                root.open_plain(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
            give(&made, owner)?;
            fchmod(made, mode)
        }
        Err(Errno::EEXIST) if must_be_real => root
            .open_plain(name, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
            .map(drop),
        Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Before the mode, because chown(2) clears the set-id bits.
fn give(made: &OwnedFd, owner: Option<Owner>) -> Result<(), Errno> {
    match owner {
        None => Ok(()),
        Some((user, group)) => fchown(made, Some(user), Some(group)),
    }
}

/// The old file is removed, not written through: it may be a symlink, a device, or a hard link of another file.
fn write(etc: &RootDir, name: &str, text: &str, owner: Option<Owner>) -> Result<(), Errno> {
    match unlinkat(etc.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let mode = Mode::from_bits_truncate(0o644);
    let fd = etc.open_plain(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL, mode)?;
    give(&fd, owner)?;
    fchmod(&fd, mode)?;
    File::from(fd)
        .write_all(text.as_bytes())
        .map_err(|error| super::errno_of(&error))
}

/// The caller's nodename, which the container shares. The kernel takes any bytes for it; a file must not.
fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| is_hostname(name))
        .unwrap_or_else(|| "localhost".to_owned())
}

fn is_hostname(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !name.is_empty() && name != "(none)" && name.chars().all(allowed)
}

fn hosts(hostname: &str) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if hostname != "localhost" {
        text.push_str("127.0.1.1\t");
        text.push_str(hostname);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_the_host_once() {
        assert_eq!(hosts("box").lines().last(), Some("127.0.1.1\tbox"));
        assert_eq!(hosts("localhost").lines().count(), 2);
    }

    #[test]
    fn a_nodename_cannot_forge_lines() {
        assert!(is_hostname("node-1.lan"));
        for bad in ["", "(none)", "a b", "a\n1.2.3.4 bank", "ä"] {
            assert!(!is_hostname(bad), "{bad:?}");
        }
    }
}
