//! The verb `pipe-wrap COMMAND…`: runs a command of the host with pipes as stdout and stderr, so that it can open
//! `/dev/stdout` and `/dev/stderr` where the caller's are sockets (a journal's); opening a socket answers ENXIO.
//!
//! No namespaces, no root filesystem. Signals are passed on, no output is lost, and the end of the command is the end:
//! daemons that it left behind are not waited for.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, raise};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getgid, getuid};

use crate::error::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::signals::{self, Received};
use crate::stdio::{self, Relay, StdioPlan, StreamPlan};
use crate::sys::{pidfd, signal::unblock_all_in};
use crate::{Ended, Error, Result};

/// How long a caller that takes nothing may hold up our exit once the command has ended. 30 s, the time after which
/// the clients give up waiting for us.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `argv` to its end and says how it ended. The calling thread's signal mask stays changed ([`signals::block_all`]).
///
/// # Errors
/// Exit status 127 when the command is not found through PATH, 126 when it cannot be executed, 125 for the rest.
pub fn pipe_wrap(argv: &[OsString]) -> Result<Ended> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Error::new("run a command")
            .because("no command given")
            .hint("usage: start-container pipe-wrap COMMAND [ARG...]"));
    };
    let signals = signals::block_all()?;
    let plan = StdioPlan {
        terminal: None,
        streams: [StreamPlan::Inherit, StreamPlan::Pipe, StreamPlan::Pipe],
    };
    let stdio = stdio::open(&plan, (getuid().as_raw(), getgid().as_raw()))?;
    let mut command = Command::new(program);
    command.args(arguments);
    unblock_all_in(&mut command);
    if let Some(stdout) = copy(&stdio, 1)? {
        command.stdout(stdout);
    }
    if let Some(stderr) = copy(&stdio, 2)? {
        command.stderr(stderr);
    }
    let mut child = command
        .spawn()
        .map_err(|error| not_started(program, &error))?;
    // The command keeps the workload's ends open otherwise.
    drop(command);
    let process = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let process = pidfd::open(process).map_err(|errno| {
        Error::sys("watch", program.to_string_lossy(), errno).hint("needs Linux 5.3 or later")
    })?;
    supervise(&mut child, &process, stdio.into_relay()?, &signals)
}

fn copy(stdio: &stdio::Stdio, index: usize) -> Result<Option<OwnedFd>> {
    stdio
        .workload_end(index)
        .map(|end| end.try_clone_to_owned())
        .transpose()
        .map_err(|error| Error::io("duplicate", "a pipe", &error))
}

/// Relays until the command has ended, then writes the rest.
fn supervise(
    child: &mut Child,
    process: &OwnedFd,
    mut relay: Relay,
    signals: &SignalFd,
) -> Result<Ended> {
    // An output that cannot be written to must not change how the command ends; it is told once the command is over.
    let mut lost = Ok(());
    let mut ready = Vec::with_capacity(8);
    loop {
        let mut set = Vec::with_capacity(8);
        set.push(PollFd::new(process.as_fd(), PollFlags::POLLIN));
        set.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        relay.interest(&mut set);
        match poll(&mut set, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::new("wait for the command").errno(errno)),
        }
        ready.clear();
        // Unknown flags count as an event.
        ready.extend(
            set.iter()
                .map(|fd| fd.revents().unwrap_or(PollFlags::POLLERR)),
        );
        drop(set);
        pass_on(process, signals)?;
        if ready.first().is_some_and(|events| !events.is_empty()) {
            break;
        }
        lost = lost.and(relay.progress(ready.get(2..).unwrap_or_default()));
    }
    let status = child
        .wait()
        .map_err(|error| Error::new("wait for the command").because(error.to_string()))?;
    relay.finish(PATIENCE, signals)?;
    lost.map(|()| Ended::from(status))
}

fn pass_on(process: &OwnedFd, signals: &SignalFd) -> Result<()> {
    while let Some(received) = signals::next(signals)? {
        let signal = match received {
            Received::Own => continue,
            Received::WindowChanged => Signal::SIGWINCH,
            Received::Forward {
                signal: Signal::SIGTSTP,
                by_kernel: true,
            } => {
                // ^Z has stopped the command; the caller's shell waits until we are stopped too.
                let _ = raise(Signal::SIGSTOP);
                continue;
            }
            // The command is in our process group and got ^C itself.
            Received::Forward {
                signal: Signal::SIGINT | Signal::SIGQUIT,
                by_kernel: true,
            } => continue,
            Received::Forward { signal, .. } => signal,
        };
        match pidfd::send_signal(process, signal as i32) {
            // Ended, or a program with other privileges than ours: as with kill(1), the signal is lost.
            Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
            Err(errno) => return Err(Error::sys("pass on", signal, errno)),
        }
    }
    Ok(())
}

/// Why the command did not start, told apart as shells do.
fn not_started(program: &OsString, error: &io::Error) -> Error {
    let failed = Error::io("run", program.to_string_lossy(), error);
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => failed.exit(EXIT_NOT_FOUND).hint(
            "neither a path of a file nor in a directory of PATH, or its interpreter is missing",
        ),
        Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => {
            failed.hint("a limit of the host is reached: see ulimit -a")
        }
        _ => failed
            .exit(EXIT_NOT_EXECUTABLE)
            .hint("check its mode, the mount's noexec flag and the architecture"),
    }
}
