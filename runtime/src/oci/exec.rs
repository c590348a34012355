//! `exec`: process.json and the container's own configuration become the plan of a command that joins it.

use std::os::fd::AsFd as _;

use nix::sys::signalfd::SignalFd;
use serde_json::Value;
use shim::plan::{Exec as Plan, Namespaces};
use shim::{Ended, Error, Result, held};

use super::config::{self, Config, wrong};
use super::state::{CONFIG, Container, Record, write_pid};
use super::words::Exec;
use super::{absolute, process};
use crate::cli::Outcome;
use crate::host;
use crate::identity::Identity;
use crate::process::Rootfs;

/// Runs a process in a container; stays until it has ended, unless `--detach`.
///
/// # Errors
/// The container is not running; what is wrong with process.json; the step that failed.
pub(super) fn exec(container: &Container, args: &Exec, signals: &SignalFd) -> Result<Outcome> {
    let (init, record) = container.running("exec in container")?;
    let plan = plan(container, &record, args)?;
    let pid_file = args.pid_file.clone().map(absolute).transpose()?;
    let mut command = None;
    held::start(&plan, init.as_fd(), |pid| {
        command = Identity::of(pid.as_raw());
        match &pid_file {
            Some(path) => write_pid(path, pid.as_raw()),
            None => Ok(()),
        }
    })?;
    if args.detach {
        return Ok(Outcome::SILENT);
    }
    // It is our child, so it stays a process, if only a zombie, until we have waited for it.
    let child = command.map(|identity| nix::unistd::Pid::from_raw(identity.pid));
    let child = child.ok_or_else(|| Error::new("wait for the command"))?;
    let ended: Ended = shim::sys::pidfd::open(child)
        .map_err(|errno| Error::sys("wait for the command in", &container.id, errno))
        .and_then(|pidfd| held::attend(&pidfd, signals))?;
    Ok(Outcome::Ended(ended))
}

fn plan(container: &Container, record: &Record, args: &Exec) -> Result<Plan> {
    let file = container.dir.join(CONFIG);
    let config = Config::of(&file, record.bundle.clone())?;
    let mut given = config::process(&args.process)?;
    if given.capabilities().is_none() {
        // The container's confinement is the command's, unless it says otherwise.
        let own = config.spec.process().as_ref();
        given.set_capabilities(own.and_then(|own| own.capabilities().clone()));
    }
    let filter = match config.part(&["linux", "seccomp"]) {
        Value::Null => None,
        filter => Some(filter.to_string().into_bytes()),
    };
    let rootfs = Rootfs::open(&record.rootfs)?;
    let names = record.namespaces.iter().map(String::as_str);
    Ok(Plan {
        namespaces: Namespaces::from_names(names)
            .ok_or_else(|| wrong("linux.namespaces", "unknown type"))?,
        privileges: process::privileges(&given, filter.as_deref(), &file)?,
        process: process::plan(&given, &rootfs.dir)?,
        set_groups: host::may_set_groups(),
        detached: true,
        stdio: process::stdio()?,
        rootfs: rootfs.path,
    })
}
