//! Facts about the caller's situation.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use procfs::process::{MountInfos, Process};
use shim::plan::{IdMaps, IdRange};
use shim::{Error, Result};

/// The inode number of the initial user namespace: PROC_USER_INIT_INO, the same on every Linux since 3.8.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether the caller is in the machine's own user namespace and not in some container's.
///
/// # Errors
/// /proc is not mounted.
pub fn in_initial_user_namespace() -> Result<bool> {
    const PATH: &str = "/proc/self/ns/user";
    std::fs::metadata(PATH)
        .map(|metadata| metadata.ino() == INITIAL_USER_NAMESPACE)
        .map_err(|error| Error::io("look at", PATH, &error).hint("/proc must be mounted"))
}

/// Maps for a new user namespace in which every id that the caller has is the same id: one line for each line of the
/// caller's own maps, because a line may not reach beyond what is mapped (user_namespaces(7)).
///
/// # Errors
/// /proc is not mounted.
pub fn identity_maps() -> Result<IdMaps> {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map(|text| text.lines().filter_map(identity_line).collect())
            .map_err(|error| Error::io("read", path, &error).hint("/proc must be mounted"))
    };
    Ok(IdMaps {
        users: read("/proc/self/uid_map")?,
        groups: read("/proc/self/gid_map")?,
    })
}

/// The type of the filesystem at a path of the host, for messages.
pub(crate) fn filesystem_at(path: &Path) -> String {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let place = nix::fcntl::open(path, flags, Mode::empty()).ok();
    place
        .and_then(|place| filesystem_of(&place))
        .unwrap_or_else(|| "its filesystem".to_owned())
}

/// The type of the filesystem that an open file is on, as the mount table names it. Reads the whole table.
pub(crate) fn filesystem_of(file: &OwnedFd) -> Option<String> {
    let mount = shim::sys::statx::place(file).ok()?.mount_id;
    mounts()?
        .into_iter()
        .find(|entry| u64::try_from(entry.mnt_id) == Ok(mount))
        .map(|entry| entry.fs_type)
}

/// The mount table of the calling thread, should it have one of its own.
pub(crate) fn mounts() -> Option<MountInfos> {
    let thread = PathBuf::from(format!("/proc/self/task/{}", nix::unistd::gettid()));
    Process::new_with_root(thread).ok()?.mountinfo().ok()
}

/// What the caller may do in its own user namespace.
///
/// # Errors
/// /proc is not mounted.
pub(crate) fn effective_capabilities() -> Result<u64> {
    let status = Process::myself().and_then(|process| process.status());
    status.map(|status| status.capeff).map_err(|error| {
        Error::new("read")
            .on("/proc/self/status")
            .because(error.to_string())
            .hint("/proc must be mounted")
    })
}

/// Whether setgroups(2) may be used in the caller's user namespace and those in it. Where it is forbidden, nobody there
/// can leave a group.
#[must_use]
pub fn may_set_groups() -> bool {
    may_set_groups_in("/proc/self/setgroups")
}

/// The same where another process is.
pub(crate) fn may_set_groups_of(pid: i32) -> bool {
    may_set_groups_in(&format!("/proc/{pid}/setgroups"))
}

fn may_set_groups_in(path: &str) -> bool {
    std::fs::read_to_string(path).map_or(true, |text| text.trim() != "deny")
}

fn identity_line(line: &str) -> Option<IdRange> {
    IdRange::from_line(line).map(|line| IdRange {
        outside: line.inside,
        ..line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_callers_map_becomes_itself() {
        assert_eq!(
            identity_line("         0          0 4294967295"),
            Some(IdRange::IDENTITY)
        );
        assert_eq!(
            identity_line("1000 100000 65536"),
            Some(IdRange::new(1000, 1000, 65536))
        );
        assert_eq!(identity_line("0 0"), None);
    }
}
