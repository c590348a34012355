//! `exec`: what is asked for and the container's own configuration become the plan of a command that joins it.

use std::ffi::{CString, OsString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;

use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;
use oci_spec::runtime::Process as Given;
use serde_json::Value;
use shim::hook::Hook;
use shim::plan::{Exec as Plan, Namespaces};
use shim::{Error, Result, held};

use super::affinity::Affinity;
use super::config::{self, Config, wrong};
use super::exec_words::{Changes, Exec};
use super::listener::{self, Listener};
use super::log::{self, Log};
use super::making::write_pid;
use super::passed::Passed;
use super::record::Record;
use super::scheduling::Scheduling;
use super::state::{CONFIG, Container, Status};
use super::{absolute, console, hooks, labels, limits, oom, process, rootless};
use crate::cgroup::Group;
use crate::cli::Outcome;
use crate::host;
use crate::process::Rootfs;

/// Runs a process in a container; stays until it has ended, unless `--detach`.
///
/// # Errors
/// The container is not running; what is wrong with process.json; the step that failed.
pub(super) fn exec(
    container: &Container,
    args: &Exec,
    log: &mut Option<Log>,
    signals: &SignalFd,
) -> Result<Outcome> {
    let seen = container.look()?;
    if seen.status == Status::Paused && !args.ignore_paused {
        return Err(Error::new("exec in container")
            .on(&container.id)
            .because("cannot exec in a paused container")
            .hint("resume it first, or give --ignore-paused: then it waits for that"));
    }
    let (init, record) = container.running("exec in container")?;
    let leader = seen.pid.unwrap_or(0);
    let group = Group::open(&record.cgroups);
    if group.is_empty() && args.cgroup.is_some() {
        return Err(Error::new("enter cgroup")
            .because("the container has none")
            .hint("leave --cgroup out"));
    }
    let group = group.below(args.cgroup.as_deref())?;
    let mut warnings = Vec::new();
    let passed = Passed::find(args.preserved, &mut warnings)?;
    let (plan, standing, listener) = plan(container, &record, args, &passed, &mut warnings)?;
    let pid_file = args.pid_file.clone().map(absolute).transpose()?;
    let terminal = plan.stdio.terminal.is_some();
    let console = console::connect(args.console_socket.as_deref(), terminal, !args.detach)?;
    for text in warnings {
        log::warn(log, &text);
    }
    let console = console.as_ref().map(|socket| socket.as_fd());
    let born = |pid: Pid| {
        oom::set(pid, standing.oom_score)?;
        limits::raise(pid, &plan.process.limits)?;
        match args.cgroup {
            Some(_) => group.join(pid, false)?,
            None => group.join_later(&record.cgroups, pid, leader)?,
        }
        record.intel_rdt.enter(pid)?;
        standing.affinity.settle(pid)?;
        // What is left to be done for it is little.
        standing.scheduling.set(pid)?;
        match &pid_file {
            Some(path) => write_pid(path, pid.as_raw()),
            None => Ok(()),
        }
    };
    let listening =
        |pid, fd| listener::pass_on(listener.as_ref(), container, Status::Running, pid, &fd);
    let root = record.root_of(seen.pid)?;
    let inside = held::Inside {
        leader: init.as_fd(),
        root: root.as_ref().map(|root| root.as_fd()),
    };
    let start = || held::start(&plan, inside, console, born, listening).map_err(Error::from);
    let held = standing.affinity.begin(start)?;
    if args.detach {
        held.leave();
        return Ok(Outcome::SILENT);
    }
    held.attend(signals).map(Outcome::Ended)
}

/// How a process stands beside others, which we set for it.
struct Standing {
    oom_score: Option<i32>,
    affinity: Affinity,
    scheduling: Scheduling,
}

fn plan(
    container: &Container,
    record: &Record,
    args: &Exec,
    passed: &Passed,
    warnings: &mut Vec<String>,
) -> Result<(Plan, Standing, Option<Listener>)> {
    let file = container.dir.join(CONFIG);
    let config = Config::of(&file, record.bundle.clone())?;
    let (given, value) = given(&config, args, warnings)?;
    let own = config.part(&["process"]);
    let affinity = match Affinity::read(&value)? {
        Some(affinity) => affinity,
        None => Affinity::read(own)?.unwrap_or_default(),
    };
    let standing = Standing {
        oom_score: oom::read(given.oom_score_adj())?,
        affinity,
        scheduling: Scheduling::read(&value)?.or(Scheduling::read(own)?),
    };
    let filter = match config.part(&["linux", "seccomp"]) {
        Value::Null => None,
        filter => Some(filter.to_string().into_bytes()),
    };
    let rootfs = Rootfs::open(&record.rootfs)?;
    let names = record.namespaces.iter().map(String::as_str);
    let namespaces =
        Namespaces::from_names(names).ok_or_else(|| wrong("linux.namespaces", "unknown type"))?;
    let own_ids = namespaces.has_user();
    let leader = record.init.map_or(0, |init| init.pid);
    let set_groups = host::may_set_groups_of(leader) && !rootless::keeps_groups(&config.spec);
    rootless::check_groups(&given, set_groups)?;
    let mut process = process::plan(&given, &config, &rootfs.dir)?;
    let preserved = passed.tell(&mut process.environment);
    let plan = Plan {
        namespaces,
        privileges: process::privileges(&given, filter.as_deref(), &file, own_ids, warnings)?,
        process,
        set_groups,
        detached: true,
        shared_root: record.shared_root.is_some(),
        keeps_keyring: record.keeps_keyring,
        stdio: process::stdio(&given, preserved)?,
        rootfs: rootfs.path,
    };
    limits::check(&plan.process.limits)?;
    let listener = Listener::connect(&config, &plan.privileges)?;
    Ok((plan, standing, listener))
}

/// A `startContainer` hook as a process of the container.
///
/// # Errors
/// As [`exec`].
pub(super) fn hook(
    container: &Container,
    record: &Record,
    hook: &Hook,
) -> Result<(Plan, Option<Listener>)> {
    let args = Exec {
        id: container.id.clone(),
        process: None,
        command: hook.arguments.iter().map(os_string).collect(),
        changes: Changes::default(),
        pid_file: None,
        console_socket: None,
        preserved: 0,
        detach: true,
        cgroup: None,
        ignore_paused: false,
    };
    // What cannot be granted has been said of the container itself.
    let (mut plan, _, listener) = plan(
        container,
        record,
        &args,
        &Passed::default(),
        &mut Vec::new(),
    )?;
    plan.process = hooks::process(hook, plan.process);
    Ok((plan, listener))
}

fn os_string(text: &CString) -> OsString {
    OsString::from_vec(text.as_bytes().to_vec())
}

/// The process that is asked for, and the process.json that asks for it. The container's confinement is its own, unless it says otherwise.
fn given(config: &Config, args: &Exec, warnings: &mut Vec<String>) -> Result<(Given, Value)> {
    let own = config.spec.process().clone();
    if let Some(file) = &args.process {
        let user = config.part(&["process", "user"]);
        let user = Some(user).filter(|user| !user.is_null());
        let (mut given, value) = config::process(file, user, warnings)?;
        if let Some(own) = &own {
            labels::inherit(&mut given, own);
        }
        if given.capabilities().is_none() {
            given.set_capabilities(own.and_then(|own| own.capabilities().clone()));
        }
        if args.changes.tty {
            given.set_terminal(Some(true));
        }
        return Ok((given, value));
    }
    let mut given = own.ok_or_else(|| wrong("process", "is missing"))?;
    // It is of the container's first process, and asked for anew.
    given.set_console_size(None);
    let command = args
        .command
        .iter()
        .map(|word| word.to_str().map(str::to_owned));
    let command = command.collect::<Option<Vec<_>>>().ok_or_else(|| {
        Error::new("read command")
            .because("a word is no UTF-8")
            .hint("JSON cannot hold it either; take a script")
    })?;
    args.changes.apply(&mut given, command)?;
    Ok((given, Value::Null))
}
