//! `process` of config.json, and process.json: the process of a plan and what it may do.

use std::collections::HashSet;
use std::ffi::{CString, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use oci_spec::runtime::Process as Given;
use shim::plan::{Capabilities as Mask, Privileges, Process};
use shim::stdio::{Preserved, StdioPlan, StreamKind, StreamPlan, TerminalPlan, WindowSize};
use shim::{Error, Result, RootDir};

use super::capabilities::{self, Sets};
use super::config::{Config, wrong};
use super::{execution, labels, limits};
use crate::{environment, seccomp, users};

const UMASK: u32 = 0o022;

/// The process that is described, in a container of this configuration; `rootfs` is looked at for the home directory of its
/// user.
///
/// # Errors
/// Names the field that is wrong or not supported.
pub(super) fn plan(given: &Given, config: &Config, rootfs: &RootDir) -> Result<Process> {
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
    let user = given.user();
    let mut environment = variables(given.env().iter().flatten())
        .map(|line| text("process.env", line))
        .collect::<Result<Vec<_>>>()?;
    environment.retain(|line| line.as_bytes() != b"HOME=");
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
    // These and no others, not even its own: an engine that wants that one among them says so.
    let groups = user.additional_gids().clone().unwrap_or_default();
    Ok(Process {
        candidates: environment::candidates(&environment, program)?,
        arguments,
        environment,
        workdir: text("process.cwd", &given.cwd().to_string_lossy())?,
        uid: user.uid(),
        gid: user.gid(),
        groups,
        umask: user.umask().unwrap_or(UMASK),
        limits: limits::plan(given)?,
        personality: execution::personality(config)?,
        memory_policy: execution::memory_policy(config)?,
    })
}

/// Of those with one name the last, where it stands: getenv(3) would find the first.
fn variables<'a>(
    all: impl DoubleEndedIterator<Item = &'a String>,
) -> impl Iterator<Item = &'a String> {
    let mut seen = HashSet::new();
    let mut last: Vec<_> = all
        .rev()
        .filter(|line| seen.insert(line.split('=').next()))
        .collect();
    last.reverse();
    last.into_iter()
}

/// What it may do. `filter` is `linux.seccomp` as JSON, and `file` what it stands in; `own_ids` is as in
/// [`capabilities::plan`].
///
/// # Errors
/// As [`plan`].
pub(super) fn privileges(
    given: &Given,
    filter: Option<&[u8]>,
    file: &Path,
    own_ids: bool,
    warnings: &mut Vec<String>,
) -> Result<Privileges> {
    let Sets { bounding, own } = capabilities::plan(given, own_ids, warnings)?;
    let filter = filter.map(|json| seccomp::from_config(json, file, bounding.bits()));
    Ok(Privileges {
        capabilities: Some(Mask(bounding.bits())),
        sets: Some(own),
        no_new_privileges: given.no_new_privileges() == Some(true),
        seccomp: filter.transpose()?,
        label: labels::plan(given)?,
    })
}

/// The caller's streams, as they are: an engine has made them for the container. But a directory would lead out. Or a
/// terminal of the container's own in their place, and descriptors beyond them.
///
/// # Errors
/// One of them is a directory or an anonymous inode of the kernel's.
pub(super) fn stdio(given: &Given, preserved: Preserved) -> Result<StdioPlan> {
    let bad = |fd: RawFd, why: &'static str| Error::new("pass on descriptor").on(fd).because(why);
    if given.terminal() == Some(true) {
        return Ok(StdioPlan {
            terminal: Some(TerminalPlan {
                size: given.console_size().map(size).transpose()?,
                stderr: true,
                inside: true,
            }),
            streams: [StreamPlan::Terminal; 3],
            preserved,
        });
    }
    let kinds = shim::stdio::kinds();
    let other = (0..)
        .zip(kinds)
        .find(|(_, kind)| *kind == StreamKind::Other);
    if let Some((fd, _)) = other {
        return Err(bad(fd, "it is a directory, or no file at all")
            .hint("give a file, a pipe, a socket, a terminal or /dev/null"));
    }
    Ok(StdioPlan {
        terminal: None,
        streams: [StreamPlan::Inherit; 3],
        preserved,
    })
}

fn size(given: oci_spec::runtime::Box) -> Result<WindowSize> {
    let number = |number: u64| {
        u16::try_from(number).map_err(|_| wrong("process.consoleSize", "a number is above 65535"))
    };
    Ok(WindowSize {
        rows: number(given.height())?,
        cols: number(given.width())?,
        xpixel: 0,
        ypixel: 0,
    })
}
