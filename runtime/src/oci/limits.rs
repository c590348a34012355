//! `process.rlimits` (getrlimit(2)). The process sets them itself, last of all. Where a hard limit is above the caller's own, the
//! caller raises it first, from outside: CAP_SYS_RESOURCE counts only over the initial user namespace, and with a user
//! namespace of its own the process has none there.

use std::collections::BTreeSet;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;
use oci_spec::runtime::{PosixRlimitType, Process};
use shim::plan::Limit;
use shim::sys::limit::raise_hard;
use shim::{Error, Result};

use super::config::wrong;
use crate::host;

const CAP_SYS_RESOURCE: u64 = 1 << 24;

/// The limits of a process.
///
/// # Errors
/// Names the one that contradicts itself or another one.
pub(super) fn plan(given: &Process) -> Result<Vec<Limit>> {
    let mut seen = BTreeSet::new();
    let mut limits = Vec::new();
    for (index, limit) in given.rlimits().iter().flatten().enumerate() {
        let field = format!("process.rlimits[{index}]");
        if !seen.insert(format!("{:?}", limit.typ())) {
            return Err(wrong(field, "this resource is limited twice"));
        }
        if limit.soft() > limit.hard() {
            return Err(wrong(field, "soft is more than hard"));
        }
        limits.push(Limit {
            resource: resource(limit.typ()),
            soft: limit.soft(),
            hard: limit.hard(),
        });
    }
    Ok(limits)
}

/// Whether the caller can give them.
///
/// # Errors
/// Names the one that is more.
pub(super) fn check(limits: &[Limit]) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        let own = own(limit.resource);
        if limit.hard > own && !may_raise()? {
            let field = format!("process.rlimits[{index}]");
            let why = format!("hard is above the caller's own, which is {own}");
            return Err(wrong(field, why).hint(
                "raising it takes CAP_SYS_RESOURCE over the initial user namespace; see ulimit -aH",
            ));
        }
    }
    Ok(())
}

/// Lets a child of ours, which has not been waited for, have the hard limits that are above the caller's own.
///
/// # Errors
/// EPERM, as for open files beyond sysctl fs.nr_open.
pub(super) fn raise(pid: Pid, limits: &[Limit]) -> Result<()> {
    for (index, limit) in limits.iter().enumerate() {
        if limit.hard > own(limit.resource) {
            raise_hard(pid, limit.resource, limit.hard).map_err(|errno| {
                Error::sys("raise", format!("process.rlimits[{index}]"), errno)
                    .flags(limit.to_string())
                    .hint("open files are limited by sysctl fs.nr_open, too")
            })?;
        }
    }
    Ok(())
}

/// The hard limit of the caller. One that the kernel does not know is no reason to raise anything: setting it says why not.
fn own(resource: Resource) -> u64 {
    getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard)
}

fn may_raise() -> Result<bool> {
    Ok(host::in_initial_user_namespace()?
        && host::effective_capabilities()? & CAP_SYS_RESOURCE != 0)
}

fn resource(kind: PosixRlimitType) -> Resource {
    match kind {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}
