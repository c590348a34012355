//! Finds a leader whose record is gone, without trusting the container.
//!
//! ROOTFS/proc/1 alone proves nothing: a container may have put anything there. It counts only when ROOTFS/proc is the
//! root of a procfs that is mounted there in our own view, of a PID namespace that is not ours; and then only as a
//! description of the process, which is looked up in our own /proc and held by a pidfd.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::fcntl::readlinkat;
use nix::unistd::Pid;
use procfs::process::{Process, all_processes};
use shim::RootDir;
use shim::plan::{Capabilities, Namespaces, Privileges};
use shim::sys::pidfd;

use crate::{host, seccomp};

/// Names in `/proc/PID/ns`, and ours for them.
const NAMESPACES: [(&str, &str); 7] = [
    ("user", "user"),
    ("mnt", "mount"),
    ("pid", "pid"),
    ("ipc", "ipc"),
    ("cgroup", "cgroup"),
    ("net", "network"),
    ("uts", "uts"),
];

/// The leader of the container in `rootfs`, the namespaces that it does not share with the caller, and what it may do.
pub(crate) fn leader(rootfs: &RootDir) -> Option<(OwnedFd, Namespaces, Privileges)> {
    let procfs = shim::procfs::open(rootfs).ok()?;
    let inside = PathBuf::from(readlinkat(&procfs, c"1/ns/pid").ok()?);
    let own = Process::myself().ok()?;
    if inside == link(&own, "pid")? {
        return None;
    }
    let is_leader = |process: &Process| {
        let is_first = || {
            process
                .status()
                .ok()?
                .nspid?
                .last()
                .copied()
                .map(|number| number == 1)
        };
        link(process, "pid").as_ref() == Some(&inside) && is_first() == Some(true)
    };
    let found = all_processes().ok()?.flatten().find(is_leader)?;
    let pidfd = pidfd::open(Pid::from_raw(found.pid)).ok()?;
    // Looked at again now that the handle holds it.
    let again = Process::new(found.pid).ok().filter(is_leader)?;
    let differs = |&(name, _): &(&str, &str)| link(&again, name) != link(&own, name);
    let namespaces =
        Namespaces::from_names(NAMESPACES.into_iter().filter(differs).map(|(_, ours)| ours))?;
    let privileges = privileges(&again, &own)?;
    Some((pidfd, namespaces, privileges))
}

/// What the kernel knows of the leader's limits: the capabilities that its processes can never exceed, and
/// no_new_privs. A filter cannot be read back. Where the leader may have had one, what joins it gets the default one:
/// rather too little than more than the others in there have.
fn privileges(leader: &Process, own: &Process) -> Option<Privileges> {
    let (leader, own) = (leader.status().ok()?, own.status().ok()?);
    let bounding = leader.capbnd?;
    let limited = Some(bounding) != own.capbnd;
    let filtered = limited || host::in_initial_user_namespace().ok()?;
    Some(Privileges {
        capabilities: limited.then_some(Capabilities(bounding)),
        sets: None,
        no_new_privileges: leader.nonewprivs == Some(1),
        seccomp: match filtered {
            true => Some(seccomp::default(bounding).ok()?),
            false => None,
        },
        label: None,
    })
}

/// What `/proc/PID/ns/NAME` points to, for instance `pid:[4026531836]`.
fn link(process: &Process, name: &str) -> Option<PathBuf> {
    let path = format!("/proc/{}/ns/{name}", process.pid);
    std::fs::read_link(path).ok()
}
