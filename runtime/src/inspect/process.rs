//! The part of `inspect` that is about PID 1 itself: namespaces, ids, privileges, limits.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read as _;

use procfs::process::{Limit, LimitValue, Limits, Process};
use procfs::{ProcError, ProcResult};
use serde::Serialize;

use crate::capabilities::Set;
use crate::leader::Running;

/// What is found about PID 1.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// By name: user, mnt, pid, ipc, cgroup, net, uts, time.
    namespaces: BTreeMap<String, Namespace>,
    /// Of its user namespace, seen from the caller's: empty where they are the same and map nothing.
    uid_map: Vec<Range>,
    gid_map: Vec<Range>,
    /// Ids as the caller's user namespace has them.
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    /// Of PID 1. No process of the container has a capability that is not in `bounding`.
    capabilities: Capabilities,
    no_new_privileges: bool,
    seccomp: Seccomp,
    /// By the names of getrlimit(2) in lower case; null is unlimited.
    limits: BTreeMap<&'static str, SoftHard>,
}

#[derive(Debug, Serialize)]
struct Namespace {
    /// What `/proc/PID/ns/NAME` shows.
    inode: u64,
    /// Whether it is another one than the caller's.
    own: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

#[derive(Debug, Serialize)]
struct Capabilities {
    effective: Set,
    permitted: Set,
    inheritable: Set,
    bounding: Set,
    ambient: Set,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Seccomp {
    /// `disabled`, `strict` or `filter`.
    mode: &'static str,
    /// How many filters; null before Linux 5.9, which does not tell.
    filters: Option<u32>,
    /// The filter that every command gets: `default` or a path, null for none. As launch wrote it down: our init is
    /// no command and has none, so that an idle container has no process that the kernel could tell it of.
    commands: Option<String>,
}

#[derive(Debug, Serialize)]
struct SoftHard {
    soft: Option<u64>,
    hard: Option<u64>,
}

pub(super) fn read(process: &Process, running: &Running) -> ProcResult<Report> {
    let filter = running.privileges.seccomp.as_ref();
    let filter = filter.map(|filter| filter.name.clone());
    let status = process.status()?;
    let set = |bits: Option<u64>| Set::from_bits(bits.unwrap_or_default());
    Ok(Report {
        namespaces: namespaces(process)?,
        uid_map: ranges(&text(process, "uid_map")?),
        gid_map: ranges(&text(process, "gid_map")?),
        uid: status.euid,
        gid: status.egid,
        groups: status.groups.clone(),
        capabilities: Capabilities {
            effective: Set::from_bits(status.capeff),
            permitted: Set::from_bits(status.capprm),
            inheritable: Set::from_bits(status.capinh),
            bounding: set(status.capbnd),
            ambient: set(status.capamb),
        },
        no_new_privileges: status.nonewprivs == Some(1),
        seccomp: seccomp(&text(process, "status")?, filter),
        limits: limits(process.limits()?),
    })
}

fn namespaces(process: &Process) -> ProcResult<BTreeMap<String, Namespace>> {
    let own = Process::myself()?.namespaces()?.0;
    let inode_of = |name: &OsStr| own.get(name).map(|found| found.identifier);
    let theirs = process.namespaces()?.0.into_iter();
    Ok(theirs
        // What its children will get stands there too; it is no namespace of its own.
        .filter(|(name, _)| !name.to_string_lossy().ends_with("_for_children"))
        .map(|(name, found)| {
            let inode = found.identifier;
            let own = inode_of(&name) != Some(inode);
            (
                name.to_string_lossy().into_owned(),
                Namespace { inode, own },
            )
        })
        .collect())
}

fn text(process: &Process, name: &str) -> ProcResult<String> {
    let mut text = String::new();
    let mut file = process.open_relative(name)?;
    file.read_to_string(&mut text)
        .map_err(|error| ProcError::Io(error, Some(name.into())))?;
    Ok(text)
}

fn ranges(map: &str) -> Vec<Range> {
    map.lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            Some(Range {
                inside: numbers.next()?.ok()?,
                outside: numbers.next()?.ok()?,
                count: numbers.next()?.ok()?,
            })
        })
        .collect()
}

fn seccomp(status: &str, commands: Option<String>) -> Seccomp {
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u32>().ok()
    };
    Seccomp {
        mode: match number("Seccomp:") {
            Some(2) => "filter",
            Some(1) => "strict",
            _ => "disabled",
        },
        filters: number("Seccomp_filters:"),
        commands,
    }
}

fn limits(limits: Limits) -> BTreeMap<&'static str, SoftHard> {
    let value = |value| match value {
        LimitValue::Unlimited => None,
        LimitValue::Value(number) => Some(number),
    };
    let pair = |(name, limit): (&'static str, Limit)| {
        let pair = SoftHard {
            soft: value(limit.soft_limit),
            hard: value(limit.hard_limit),
        };
        (name, pair)
    };
    [
        ("as", limits.max_address_space),
        ("core", limits.max_core_file_size),
        ("cpu", limits.max_cpu_time),
        ("data", limits.max_data_size),
        ("fsize", limits.max_file_size),
        ("locks", limits.max_file_locks),
        ("memlock", limits.max_locked_memory),
        ("msgqueue", limits.max_msgqueue_size),
        ("nice", limits.max_nice_priority),
        ("nofile", limits.max_open_files),
        ("nproc", limits.max_processes),
        ("rss", limits.max_resident_set),
        ("rtprio", limits.max_realtime_priority),
        ("rttime", limits.max_realtime_timeout),
        ("sigpending", limits.max_pending_signals),
        ("stack", limits.max_stack_size),
    ]
    .map(pair)
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_filters_are_the_kernels_lines() {
        let range = |inside, outside, count| Range {
            inside,
            outside,
            count,
        };
        assert_eq!(
            ranges("         0     100000      65536\n     65536 0 1\n"),
            [range(0, 100_000, 65536), range(65536, 0, 1)]
        );
        assert_eq!(ranges(""), []);
        for (status, mode, filters) in [
            ("Seccomp:\t2\nSeccomp_filters:\t3\n", "filter", Some(3)),
            ("Seccomp:\t0\nSeccomp_filters:\t0\n", "disabled", Some(0)),
            ("NoNewPrivs:\t0\nSeccomp:\t1\n", "strict", None),
        ] {
            let commands = Some("default".to_owned());
            let expected = Seccomp {
                mode,
                filters,
                commands: commands.clone(),
            };
            assert_eq!(seccomp(status, commands), expected);
        }
    }

    #[test]
    fn every_limit_has_its_name() {
        let own = Process::myself().unwrap();
        let found = limits(own.limits().unwrap());
        assert_eq!(found.len(), 16);
        let (soft, hard) =
            nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        let bounded = |value| (value != nix::libc::RLIM_INFINITY).then_some(value);
        assert_eq!(
            (found["nofile"].soft, found["nofile"].hard),
            (bounded(soft), bounded(hard))
        );
    }
}
