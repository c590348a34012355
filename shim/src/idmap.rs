//! Id maps for mounts: a user namespace that exists only to carry a map from ids on disk to ids seen.
//!
//! The kernel takes such a map from a user namespace alone (`mount_setattr(2)`, MOUNT_ATTR_IDMAP), so a child is made
//! in a new one, its maps are written, the namespace is opened and the child ended. Nobody ever runs in it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::plan::IdRange;
use crate::sys::clone::{Clone as Cloned, clone3};
use crate::sys::mount::{Change, clone_tree, clone_tree_with, set_attributes};
use crate::sys::{pidfd, process};
use crate::{Error, Result};

/// The kernel takes at most this many lines per map (user_namespaces(7), Linux 4.15).
const MAX_LINES: usize = 340;

/// One line of a map: `range` ids from `from` on are seen as `to` and the following.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMap {
    /// First id on disk.
    pub from: u32,
    /// First id seen through the mount.
    pub to: u32,
    /// How many ids, at least one.
    pub range: u32,
}

impl From<IdRange> for IdMap {
    /// What is in a container as `inside` is on disk as `inside`, and seen outside as `outside`.
    fn from(line: IdRange) -> Self {
        Self {
            from: line.inside,
            to: line.outside,
            range: line.count,
        }
    }
}

impl std::fmt::Display for IdMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.from, self.to, self.range)
    }
}

/// Finds out whether the kernel will take the lines as one map.
///
/// # Errors
/// No line or more than 340; an empty range; a range that ends beyond 4294967294 (4294967295 is no id); two lines
/// that share an id on either side.
pub fn check(map: &[IdMap]) -> Result<()> {
    let refuse = |subject: String, why: &'static str, hint: &'static str| {
        Err(Error::new("use id map").on(subject).because(why).hint(hint))
    };
    if map.is_empty() || map.len() > MAX_LINES {
        return refuse(
            format!("{} lines", map.len()),
            "a map has between 1 and 340 lines",
            "join neighbouring ranges",
        );
    }
    for (index, line) in map.iter().enumerate() {
        if line.range == 0 {
            return refuse(
                line.to_string(),
                "the range is empty",
                "the third number counts ids; leave it out for one id",
            );
        }
        if line.from.checked_add(line.range).is_none() || line.to.checked_add(line.range).is_none()
        {
            return refuse(
                line.to_string(),
                "the range ends beyond the largest id",
                "ids end at 4294967294",
            );
        }
        for other in map.iter().take(index) {
            if overlap(line.from, line.range, other.from, other.range)
                || overlap(line.to, line.range, other.to, other.range)
            {
                return refuse(
                    format!("{other} and {line}"),
                    "the lines share an id",
                    "each id may be mapped once on either side",
                );
            }
        }
    }
    Ok(())
}

fn overlap(a: u32, a_len: u32, b: u32, b_len: u32) -> bool {
    u64::from(a) < u64::from(b) + u64::from(b_len) && u64::from(b) < u64::from(a) + u64::from(a_len)
}

/// A user namespace whose maps (users and groups alike) are `map`. It lives as long as the descriptor, or a mount
/// that uses it.
///
/// # Errors
/// As [`check`]; those of `clone3(2)` (EPERM, ENOSPC beyond `user.max_user_namespaces`) and of writing the maps (EPERM
/// where an id in `to` is not mapped in the caller's own user namespace).
pub fn user_namespace(map: &[IdMap]) -> Result<OwnedFd> {
    check(map)?;
    let failed = |errno| {
        Error::sys("make user namespace for id map", text_of(map, ","), errno).hint(
            "needs root, user namespaces (sysctl user.max_user_namespaces), and ids that the \
             caller's own user namespace has",
        )
    };
    // The child waits for the end of this pipe, so it cannot outlive us whatever happens to us.
    let (waiting, held) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    match clone3(CloneFlags::CLONE_NEWUSER).map_err(failed)? {
        Cloned::Child => {
            // Its copies of what we hold, locks above all, must not outlive us until it has heard of our end.
            process::close_all_but([waiting.as_raw_fd(); 2]);
            let mut byte = [0];
            while nix::unistd::read(&waiting, &mut byte) == Err(Errno::EINTR) {}
            process::exit_now(0);
        }
        Cloned::Parent { pid, pidfd } => {
            drop(waiting);
            let namespace = write_and_open(pid, map).map_err(failed);
            drop(held);
            end(&pidfd).map_err(failed)?;
            namespace
        }
    }
}

/// The number is safe to use: the process cannot be reaped, and so its number not be reused, before `end`.
fn write_and_open(pid: Pid, map: &[IdMap]) -> std::result::Result<OwnedFd, Errno> {
    let lines = text_of(map, "\n");
    for file in ["uid_map", "gid_map"] {
        OpenOptions::new()
            .write(true)
            .open(format!("/proc/{pid}/{file}"))
            // The kernel takes a map in one write only.
            .and_then(|mut file| file.write(lines.as_bytes()))
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    }
    File::open(format!("/proc/{pid}/ns/user"))
        .map(OwnedFd::from)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
}

/// Why there is no idmapped copy of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// What `mount_setattr(2)` said.
    pub plain: Errno,
    /// What `open_tree_attr(2)` said: ENOSYS before Linux 6.15.
    pub replacing: Errno,
}

impl Refused {
    /// The one that counts: the second call says the same or less where the filesystem is to blame.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self.replacing {
            Errno::ENOSYS | Errno::EINVAL => self.plain,
            other => other,
        }
    }
}

/// A detached copy of the mount at `source` with `change`, which has an id map.
///
/// An idmapped mount does not take a second map; a copy can be made with another one instead (Linux 6.15).
///
/// # Errors
/// EINVAL where the filesystem cannot be idmapped; EPERM without CAP_SYS_ADMIN in the user namespace that owns it, and
/// before Linux 6.15 where `source` is idmapped itself.
pub fn idmapped_copy(
    source: impl AsFd,
    change: Change<'_>,
) -> std::result::Result<OwnedFd, Refused> {
    let plain = || {
        let copy = clone_tree(&source, change.recursive)?;
        set_attributes(&copy, change).map(|()| copy)
    };
    plain().or_else(|plain| {
        clone_tree_with(&source, change).map_err(|replacing| Refused { plain, replacing })
    })
}

/// Of a mount's map the kernel reads the first column, the id "inside", as the id on disk.
fn text_of(map: &[IdMap], separator: &str) -> String {
    let mut text = String::new();
    for line in map {
        if !text.is_empty() {
            text.push_str(separator);
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "{} {} {}", line.from, line.to, line.range);
    }
    text
}

/// Bounded: after SIGKILL nothing keeps a process that only sleeps in a pipe read.
fn end(child: &OwnedFd) -> std::result::Result<(), Errno> {
    pidfd::send_signal(child, libc::SIGKILL)?;
    match pidfd::wait(child) {
        // Where the caller ignores SIGCHLD the kernel reaps by itself.
        Ok(_) | Err(Errno::ECHILD) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from: u32, to: u32, range: u32) -> IdMap {
        IdMap { from, to, range }
    }

    #[test]
    fn lines_that_do_not_touch_are_taken() {
        assert!(
            check(&[
                line(0, 100, 10),
                line(10, 110, 10),
                line(4_294_967_294, 0, 1)
            ])
            .is_ok()
        );
    }

    #[test]
    fn every_kind_of_bad_line_has_a_hint() {
        let cases: [&[IdMap]; 6] = [
            &[],
            &[line(0, 0, 0)],
            &[line(u32::MAX, 0, 1)],
            &[line(0, u32::MAX - 4, 5)],
            &[line(0, 100, 10), line(9, 200, 1)],
            &[line(0, 100, 10), line(50, 109, 1)],
        ];
        for case in cases {
            let error = check(case).expect_err("refused");
            assert!(error.to_string().contains("hint: "), "{error}");
        }
    }

    #[test]
    fn first_column_is_the_id_on_disk() {
        assert_eq!(
            text_of(&[line(0, 5, 1), line(7, 9, 2)], "\n"),
            "0 5 1\n7 9 2"
        );
    }
}
