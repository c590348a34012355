//! create, run, kill, pause, delete: from a bundle to a container and back.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use humantime::format_rfc3339_nanos;
use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use regex_lite::Regex;
use shim::held::{self, Held};
use shim::plan::{Launch, Namespaces};
use shim::sys::pidfd;
use shim::{Error, Result};

use super::affinity::Affinity;
use super::config::Config;
use super::decide::{Decided, decide};
use super::globals::Globals;
use super::hooks::Hooks;
use super::id::ContainerId;
use super::intel_rdt::IntelRdt;
use super::listener::{self, Listener};
use super::log::{self, Log};
use super::making::write_pid;
use super::net_devices::{self, NetDevices};
use super::record::Record;
use super::shared_root::SharedRoot;
use super::start::{begin, until_ready};
use super::state::{CONFIG, Container, Seen, Status, Store};
use super::words::Create;
use super::{absolute, console, limits, oom, readiness, show};
use crate::cgroup::Group;
use crate::cli::Outcome;

/// Makes a container, whose program then waits to be started.
///
/// # Errors
/// As [`make`].
pub(super) fn create(
    store: &Store,
    args: &Create,
    globals: &Globals,
    log: &mut Option<Log>,
) -> Result<()> {
    make(store, args, globals, log, |_, held, _| {
        held.leave();
        Ok(())
    })
}

/// Makes a container and hands it to `then`. Everything is decided before anything is changed.
///
/// # Errors
/// What is wrong with the bundle, and the step that failed. Nothing of the container is left then. Those of `then`.
fn make<T>(
    store: &Store,
    args: &Create,
    globals: &Globals,
    log: &mut Option<Log>,
    then: impl FnOnce(&Container, Held<'_>, &mut Option<Log>) -> Result<T>,
) -> Result<T> {
    let Decided {
        config,
        rootfs,
        cgroups,
        hooks,
        plan,
        oom_score,
        scheduling,
        says_ready,
        warnings,
    } = decide(args, globals, Some(store))?;
    // create leaves the working directory while it forks.
    let pid_file = args.pid_file.clone().map(absolute).transpose()?;
    let socket = args.console_socket.as_deref();
    let stays = args.foreground;
    let console = console::connect(socket, plan.stdio.terminal.is_some(), stays)?;
    let listener = Listener::connect(&config, &plan.privileges)?;
    let intel_rdt = IntelRdt::read(&config, &args.id)?;
    let mut net_devices = NetDevices::look(&plan)?;
    let mut record = record(&config, &plan, &hooks)?;
    let making = store.make(&args.id)?;
    record.cgroups = cgroups.places.clone();
    let shared_root = SharedRoot::make(&plan, &rootfs)?;
    let (shared_root, root) = shared_root.unzip();
    record.shared_root = shared_root;
    making.write(&record)?;
    making.put(CONFIG, &config.bytes)?;
    if says_ready {
        readiness::make(&making.container)?;
    }
    let group = cgroups.make()?;
    if group.is_some() {
        record.cgroups.take();
    }
    intel_rdt.make(&making, &mut record)?;
    let hold = making.hold()?;
    let console = console.as_ref().map(|socket| socket.as_fd());
    let outside = held::Outside {
        cgroup: group.as_ref().and_then(Group::birthplace),
        console,
        root: root.as_ref(),
    };
    let mut begun = false;
    let born = |pid, inside| {
        making.born(&mut record, pid)?;
        if cgroups.places.scope().is_some() {
            let started = cgroups.start(pid, &args.id, &mut record.cgroups);
            making.write(&record)?;
            started?;
        }
        oom::set(pid, oom_score)?;
        limits::raise(pid, plan.program.process().map_or(&[], |one| &one.limits))?;
        if let Some(group) = &group {
            group.join(pid, inside)?;
        }
        record.intel_rdt.enter(pid)?;
        net_devices.take(&plan, pid, &making, &mut record)?;
        // What is given of it is for those that join.
        Affinity::default().settle(pid)
    };
    let paused = |process: BorrowedFd<'_>| {
        begun = true;
        let state = show::for_hooks(&making.container, Status::Creating)?;
        hooks.create(&state, process, all(&plan))
    };
    let listening = |pid, fd| {
        let container = &making.container;
        listener::pass_on(listener.as_ref(), container, Status::Creating, pid, &fd)
    };
    let created = held::create(&plan, &rootfs.dir, &hold, &outside, born, paused, listening);
    let created = created.and_then(|held| scheduling.set(held.pid()?).map(|()| held));
    let held = match created {
        Ok(held) => held,
        Err(error) => {
            give_back(&net_devices, log);
            if begun {
                // What the others have begun, these may have to end.
                let state = show::for_hooks(&making.container, Status::Stopped)?;
                hooks.poststop(&state, log);
            }
            return Err(error);
        }
    };
    // The end of the answer is what `start` waits for.
    drop(hold);
    let container = Container {
        id: args.id.clone(),
        dir: making.container.dir.clone(),
    };
    if let Some(path) = &pid_file {
        let pid = container.look()?.pid;
        let written = pid.map_or(Ok(()), |pid| write_pid(path, pid));
        if let Err(error) = written {
            // An engine that does not know its number does not know the container.
            container.end()?;
            give_back(&net_devices, log);
            return Err(error);
        }
    }
    net_devices.leave(&making, &mut record)?;
    for text in warnings.into_iter().chain(cgroups.warnings) {
        log::warn(log, &text);
    }
    making.finish();
    then(&container, held, log)
}

/// Of a container that has not come to be: why is known already.
fn give_back(net_devices: &NetDevices, log: &mut Option<Log>) {
    if let Err(error) = net_devices.give_back() {
        log::warn(log, &error.to_string());
    }
}

/// All namespaces that are not the caller's.
fn all(plan: &Launch) -> Namespaces {
    let joined = plan.joined.iter().map(|joined| joined.kind);
    joined.fold(plan.namespaces, Namespaces::with)
}

fn record(config: &Config, plan: &Launch, hooks: &Hooks) -> Result<Record> {
    let created = format_rfc3339_nanos(SystemTime::now()).to_string();
    let mut record = Record::new(config.bundle.clone(), plan.rootfs.clone(), created)?;
    record.namespaces = all(plan).names().map(str::to_owned).collect();
    record.hooks = hooks.any();
    record.keeps_keyring = plan.keeps_keyring;
    record.network = net_devices::joined(plan);
    record.own_pids = plan.namespaces.has_pid();
    let process = plan.program.process();
    let program = process.and_then(|process| process.arguments.first());
    record.program = program
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let annotations = config.spec.annotations().clone().unwrap_or_default();
    record.annotations = annotations.into_iter().collect();
    Ok(record)
}

/// Makes a container and starts it; stays until it has ended, and deletes it, unless asked otherwise.
///
/// # Errors
/// As [`create`]; and that the program cannot be executed.
pub(super) fn run(
    store: &Store,
    args: &Create,
    globals: &Globals,
    log: &mut Option<Log>,
    signals: &SignalFd,
) -> Result<Outcome> {
    make(store, args, globals, log, |container, held, log| {
        let lock = container.lock()?;
        let started = begin(container, log);
        drop(lock);
        let readiness = match started {
            Ok(readiness) => readiness,
            Err(error) => {
                delete(store, &args.id, true, log)?;
                return Err(error);
            }
        };
        if !args.foreground {
            held.leave();
            // Nobody passes signals on any more.
            let _ = SigSet::empty().thread_set_mask();
            until_ready(readiness, log);
            return Ok(Outcome::SILENT);
        }
        // Beside the container, with which it ends.
        let told = readiness
            .map(|(readiness, init, _)| std::thread::spawn(move || readiness.pass_on(&init, None)));
        let ended = held.attend(signals)?;
        if let Some(Ok(Err(error))) = told.map(std::thread::JoinHandle::join) {
            log::warn(log, &error.to_string());
        }
        if !args.keep {
            delete(store, &args.id, true, log)?;
        }
        Ok(Outcome::Ended(ended))
    })
}

/// Sends a signal to PID 1, or to `all` processes in the container's cgroups, also when PID 1 has ended: that nobody is left
/// is no error then, as with runc.
///
/// # Errors
/// It has ended.
pub(super) fn kill(container: &Container, signal: i32, every: bool) -> Result<()> {
    const OP: &str = "send signal to container";
    let record = container.record();
    let all =
        every || (signal == SIGKILL && record.as_ref().is_some_and(|record| !record.own_pids));
    if all && let Some(group) = record.and_then(|record| record.group()) {
        return match group.signal(signal)? {
            false if !every => container.running(OP).map(drop),
            _ => Ok(()),
        };
    }
    let (init, record): (OwnedFd, Record) = container.running(OP)?;
    let sent = pidfd::send_signal(&init, signal);
    if signal == SIGKILL
        && let Some(group) = record.group().filter(Group::is_frozen)
    {
        // In a freezer of version 1 not even that arrives.
        group.thaw()?;
    }
    sent.map_err(|errno| {
        let error = Error::new(OP).on(&container.id);
        match errno {
            Errno::ESRCH => error.because("container not running"),
            errno => error.errno(errno),
        }
    })
}

/// Stops all processes where they are.
///
/// # Errors
/// It is not running; it has no cgroup with a freezer; they do not stop.
pub(super) fn pause(container: &Container) -> Result<()> {
    let _lock = container.lock()?;
    freezable(
        container,
        "pause container",
        &[Status::Created, Status::Running],
    )?
    .freeze()
}

/// Lets them go on.
///
/// # Errors
/// It is not paused.
pub(super) fn resume(container: &Container) -> Result<()> {
    let _lock = container.lock()?;
    freezable(container, "resume container", &[Status::Paused])?.thaw()
}

fn freezable(container: &Container, op: &'static str, from: &[Status]) -> Result<Group> {
    let seen = container.look()?;
    let failed = |why: String| {
        Error::new(op)
            .on(&container.id)
            .because(why)
            .hint("what runs can be paused, and what is paused resumed")
    };
    if !from.contains(&seen.status) {
        return Err(failed(format!("it is {}", seen.status.name())));
    }
    let group = seen.record.and_then(|record| record.group());
    group.ok_or_else(|| failed("it has no cgroups".to_owned()))
}

/// Removes all containers whose ids the pattern matches somewhere, as `delete` does each. One that cannot be removed keeps
/// none of the others; the first error is the answer.
///
/// # Errors
/// The pattern is none; those of [`delete`].
pub(super) fn delete_matching(
    store: &Store,
    pattern: &str,
    force: bool,
    log: &mut Option<Log>,
) -> Result<()> {
    let pattern = Regex::new(pattern).map_err(|error| {
        Error::new("read the regular expression")
            .on(pattern)
            .because(error.to_string())
            .hint("it is one of Rust's regex; give an id without --regex to delete a single container")
    })?;
    let mut result = Ok(());
    for id in store.ids()? {
        if pattern.is_match(id.as_str()) {
            result = result.and(delete(store, &id, force, log));
        }
    }
    result
}

/// Removes a container that has stopped; with `force`, stops it before.
///
/// # Errors
/// It has not stopped; it does not end.
pub(super) fn delete(
    store: &Store,
    id: &ContainerId,
    force: bool,
    log: &mut Option<Log>,
) -> Result<()> {
    let container = match store.find(id) {
        Ok(container) => container,
        Err(_) if force => return Ok(()),
        Err(error) => return Err(error),
    };
    let _lock = match container.lock() {
        Ok(lock) => lock,
        // Somebody else has deleted it, or there was never more of it.
        Err(_) if force && (container.remove_empty() || store.find(id).is_err()) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Seen {
        status,
        record,
        pid,
        ..
    } = container.look()?;
    if !force && status != Status::Stopped {
        return Err(Error::new("delete container")
            .on(id)
            .because(format!(
                "cannot delete a container that is {}",
                status.name()
            ))
            .hint("kill it first, or give --force"));
    }
    if let Some(Err(error)) = record
        .as_ref()
        .map(|record| net_devices::give_back(record, pid))
    {
        log::warn(log, &error.to_string());
    }
    container.end()?;
    // Read before it is gone. Where create was killed before it could write all, there is nothing to read.
    let hooks = record.and_then(|record| Hooks::kept(&container, &record).ok());
    let state = show::for_hooks(&container, Status::Stopped)?;
    container.remove()?;
    if let Some(hooks) = hooks {
        hooks.poststop(&state, log);
    }
    Ok(())
}
