//! start: a container's program is let go, with the hooks around it, and somebody may wait until it is ready.

use std::os::fd::{AsFd as _, OwnedFd};

use shim::Result;
use shim::error::EXIT_OWN;
use shim::held;

use super::hooks::Hooks;
use super::log::{self, Log};
use super::readiness::Readiness;
use super::state::{Container, Status};
use super::{exec, listener, show};

/// Lets the program of a container go, and waits until it is ready where somebody wants to know.
///
/// # Errors
/// As [`begin`].
pub(super) fn start(container: &Container, log: &mut Option<Log>) -> Result<()> {
    let lock = container.lock()?;
    let readiness = begin(container, log)?;
    // Others are free to end it.
    drop(lock);
    until_ready(readiness, log);
    Ok(())
}

/// What is started, and who is to be told when it is ready: PID 1 and its number.
pub(super) type Started = Option<(Readiness, OwnedFd, i32)>;

/// Waits for that; the container goes on without it, too.
pub(super) fn until_ready(started: Started, log: &mut Option<Log>) {
    if let Some((readiness, init, pid)) = started
        && let Err(error) = readiness.pass_on(&init, Some(pid))
    {
        log::warn(log, &error.to_string());
    }
}

/// Listens to the program of a container and lets it go; the lock must be held.
///
/// # Errors
/// As [`let_go`].
pub(super) fn begin(container: &Container, log: &mut Option<Log>) -> Result<Started> {
    let readiness = Readiness::listen(container)?;
    let seen = container.look()?;
    let_go(container, log)?;
    let process = seen.init.zip(seen.pid);
    Ok(readiness
        .zip(process)
        .map(|(readiness, (init, pid))| (readiness, init, pid)))
}

/// Lets the program of a container go; the lock must be held.
///
/// # Errors
/// It is not waiting, it cannot be executed, or a hook fails: then the container is ended, and after `poststart` there is none any more.
fn let_go(container: &Container, log: &mut Option<Log>) -> Result<()> {
    let seen = container.look()?;
    let (Some(record), Some(init), Status::Created) = (&seen.record, &seen.init, seen.status)
    else {
        return container.start();
    };
    let hooks = Hooks::kept(container, record)?;
    let ended = |error| {
        // The error is worth more than why it does not end, which `delete` will tell.
        let _ = container.end();
        Err(error)
    };
    if !hooks.start_container.is_empty() {
        let state = show::for_hooks(container, Status::Created)?;
        let root = record.root_of(seen.pid)?;
        let inside = held::Inside {
            leader: init.as_fd(),
            root: root.as_ref().map(|root| root.as_fd()),
        };
        for hook in &hooks.start_container {
            let done = exec::hook(container, record, hook).and_then(|(plan, listener)| {
                let listening = |pid, fd| {
                    listener::pass_on(listener.as_ref(), container, Status::Created, pid, &fd)
                };
                hook.run_inside(&plan, inside, &state, listening)
            });
            if let Err(error) = done {
                return ended(error.exit(EXIT_OWN));
            }
        }
    }
    container.start()?;
    if hooks.poststart.is_empty() {
        return Ok(());
    }
    let state = show::for_hooks(container, Status::Running)?;
    let Err(error) = hooks.poststart(&state) else {
        return Ok(());
    };
    // It is stopped, destroyed, and told about that (runtime.md, Lifecycle).
    container.end()?;
    let state = show::for_hooks(container, Status::Stopped)?;
    container.remove()?;
    hooks.poststop(&state, log);
    Err(error)
}
