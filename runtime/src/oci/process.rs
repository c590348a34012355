//! `process` of config.json, and process.json: the process of a plan and what it may do.

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use nix::sys::resource::Resource;
use oci_spec::runtime::{Capabilities, PosixRlimitType, Process as Given};
use shim::plan::{Capabilities as Mask, Limit, Privileges, Process};
use shim::stdio::{StdioPlan, StreamKind, StreamPlan};
use shim::{Error, Result, RootDir};

use super::config::{unsupported, wrong};
use crate::capabilities::{List, Set};
use crate::{environment, seccomp, users};

const UMASK: u32 = 0o022;

/// The process that is described; `rootfs` is looked at for the home directory of its user.
///
/// # Errors
/// Names the field that is wrong or not supported.
pub(super) fn plan(given: &Given, rootfs: &RootDir) -> Result<Process> {
    let text = |field: &'static str, text: &str| {
        CString::new(text).map_err(|_| wrong(field, "contains a NUL byte"))
    };
    let arguments = given.args().iter().flatten();
    let arguments = arguments
        .map(|word| text("process.args", word))
        .collect::<Result<Vec<_>>>()?;
    let program = arguments
        .first()
        .ok_or_else(|| wrong("process.args", "is missing or empty"))?;
    let variables = given.env().iter().flatten();
    let mut environment = variables
        .map(|line| text("process.env", line))
        .collect::<Result<Vec<_>>>()?;
    let user = given.user();
    if !environment
        .iter()
        .any(|line| line.as_bytes().starts_with(b"HOME="))
    {
        // Programs expect it, and runc and crun set it likewise.
        let home = users::resolve(rootfs, OsString::from(user.uid().to_string()).as_os_str())?.home;
        let line = [b"HOME=", home.into_vec().as_slice()].concat();
        environment.extend(CString::new(line));
    }
    if !given.cwd().is_absolute() {
        return Err(wrong("process.cwd", "is not absolute"));
    }
    let additional = user.additional_gids().iter().flatten().copied();
    let groups: BTreeSet<u32> = additional.chain([user.gid()]).collect();
    Ok(Process {
        candidates: environment::candidates(&environment, program)?,
        arguments,
        environment,
        workdir: text("process.cwd", &given.cwd().to_string_lossy())?,
        uid: user.uid(),
        gid: user.gid(),
        groups: groups.into_iter().collect(),
        umask: user.umask().unwrap_or(UMASK),
        limits: limits(given)?,
    })
}

fn limits(given: &Given) -> Result<Vec<Limit>> {
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

/// What it may do. `filter` is `linux.seccomp` as JSON, and `file` what it stands in.
///
/// # Errors
/// As [`plan`].
pub(super) fn privileges(given: &Given, filter: Option<&[u8]>, file: &Path) -> Result<Privileges> {
    let capabilities = capabilities(given)?;
    let filter = filter.map(|json| seccomp::from_config(json, file, capabilities.bits()));
    Ok(Privileges {
        capabilities: Some(Mask(capabilities.bits())),
        no_new_privileges: given.no_new_privileges() == Some(true),
        seccomp: filter.transpose()?,
    })
}

/// The one set that the plan has, where the five agree with it: the kernel gives root all that is in the bounding set
/// when it executes, and another user nothing.
fn capabilities(given: &Given) -> Result<Set> {
    let Some(sets) = given.capabilities() else {
        return Ok(Set::EMPTY);
    };
    let bounding = set(sets.bounding().as_ref())?;
    let expected = if given.user().uid() == 0 {
        bounding
    } else {
        Set::EMPTY
    };
    let same = |set: Set, expected: Set, field: &'static str| {
        match set == expected {
        true => Ok(()),
        false => Err(unsupported(field).hint(
            "for root permitted and effective must be what bounding is, for others empty; inheritable and ambient empty",
        )),
    }
    };
    same(
        set(sets.permitted().as_ref())?,
        expected,
        "process.capabilities.permitted",
    )?;
    same(
        set(sets.effective().as_ref())?,
        expected,
        "process.capabilities.effective",
    )?;
    same(
        set(sets.inheritable().as_ref())?,
        Set::EMPTY,
        "process.capabilities.inheritable",
    )?;
    same(
        set(sets.ambient().as_ref())?,
        Set::EMPTY,
        "process.capabilities.ambient",
    )?;
    Ok(bounding)
}

fn set(names: Option<&Capabilities>) -> Result<Set> {
    let mut list = List::default();
    for name in names.into_iter().flatten() {
        let one = List::parse_one(&name.to_string());
        list = list | one.map_err(|why| why.at(Error::new("read").on("process.capabilities")))?;
    }
    Ok(list.named)
}

/// The caller's streams, as they are: an engine has made them for the container. But a directory would lead out.
///
/// # Errors
/// One of them is a directory or an anonymous inode of the kernel's.
pub(super) fn stdio() -> Result<StdioPlan> {
    let kinds = shim::stdio::kinds();
    if let Some(index) = kinds.iter().position(|kind| *kind == StreamKind::Other) {
        return Err(Error::new("pass on descriptor")
            .on(index)
            .because("it is a directory, or no file at all")
            .hint("give a file, a pipe, a socket, a terminal or /dev/null"));
    }
    Ok(StdioPlan {
        terminal: None,
        streams: [StreamPlan::Inherit; 3],
    })
}
