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
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, raise};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getgid, getuid};

use crate::error::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND};
use crate::signals::{self, Received};
use crate::stdio::{self, Preserved, Relay, Stdio, StdioPlan, StreamPlan};
use crate::sys::{pidfd, signal::start_clean};
use crate::{Ended, Error, Result};

/// How long a caller that takes nothing may hold up our exit once the command has ended. 30 s, the time after which
/// the clients give up waiting for us.
const PATIENCE: Duration = Duration::from_secs(30);

const PLAN: StdioPlan = StdioPlan {
    terminal: None,
    streams: [StreamPlan::Inherit, StreamPlan::Pipe, StreamPlan::Pipe],
    preserved: Preserved::NONE,
};

/// Runs `argv` to its end and says how it ended. The calling thread's signal mask stays changed ([`signals::block_all`]).
///
/// # Errors
/// Exit status 127 when the command is not found through PATH, 126 when it cannot be executed, 125 for the rest.
pub fn pipe_wrap(argv: &[OsString]) -> Result<Ended> {
    let signals = signals::block_all()?;
    run(
        argv,
        stdio::open(&PLAN, (getuid().as_raw(), getgid().as_raw()))?,
        &signals,
    )
}

fn run(argv: &[OsString], stdio: Stdio, signals: &SignalFd) -> Result<Ended> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Error::new("run a command")
            .because("no command given")
            .hint("usage: start-container pipe-wrap COMMAND [ARG...]"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    start_clean(&mut command);
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
    supervise(&mut child, &process, stdio.into_relay()?, signals)
}

fn copy(stdio: &Stdio, index: usize) -> Result<Option<OwnedFd>> {
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
        let timeout = relay.patience();
        let mut set = Vec::with_capacity(8);
        set.push(PollFd::new(process.as_fd(), PollFlags::POLLIN));
        set.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        relay.interest(&mut set);
        match poll(&mut set, timeout) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    /// Runs a command with sockets as stdout and stderr; a signal in `sent` is pending before it starts.
    fn wrapped(words: &[&str], sent: Option<Signal>) -> (Result<Ended>, String, String) {
        let (mut stdout, out) = UnixStream::pair().unwrap();
        let (mut stderr, err) = UnixStream::pair().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let argv: Vec<OsString> = words.iter().map(OsString::from).collect();
        let runner = thread::spawn(move || {
            let signals = signals::block_all().unwrap();
            if let Some(signal) = sent {
                raise(signal).unwrap();
            }
            let stdio = stdio::open_given(&PLAN, [null.into(), out.into(), err.into()]).unwrap();
            run(&argv, stdio, &signals)
        });
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        (runner.join().unwrap(), text, reader.join().unwrap())
    }

    fn shell(script: &str) -> (Ended, String, String) {
        let (ended, out, err) = wrapped(&["sh", "-c", script], None);
        (ended.unwrap(), out, err)
    }

    #[test]
    fn both_outputs_can_be_opened_again_and_the_code_comes_back() {
        let (ended, out, err) = shell("echo a >/dev/stdout; echo b >/dev/stderr; exit 255");
        assert_eq!(ended, Ended::Exited(255));
        assert_eq!((out.as_str(), err.as_str()), ("a\n", "b\n"));
    }

    #[test]
    fn death_by_signal_comes_back_as_one() {
        assert_eq!(shell("kill -SEGV $$").0, Ended::Signaled(11));
    }

    #[test]
    fn signals_reach_the_command_also_when_sent_before_it_runs() {
        for signal in [Signal::SIGTERM, Signal::SIGUSR2, Signal::SIGALRM] {
            let (ended, ..) = wrapped(&["sleep", "1000"], Some(signal));
            assert_eq!(ended, Ok(Ended::Signaled(signal as i32)));
        }
    }

    #[test]
    fn the_command_starts_with_an_empty_mask() {
        let (_, out, _) = shell("grep SigBlk: /proc/self/status");
        assert_eq!(out, "SigBlk:\t0000000000000000\n");
    }

    #[test]
    fn a_daemon_is_not_waited_for_and_nothing_is_lost() {
        let (ended, out, _) = shell(
            "sleep 1000 & echo $!; i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done",
        );
        assert_eq!(ended, Ended::Exited(0));
        let mut lines = out.lines();
        let daemon = lines.next().unwrap().parse().unwrap();
        nix::sys::signal::kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
        assert!(lines.eq((0..20_000).map(|i| i.to_string())));
    }

    #[test]
    fn what_cannot_run_is_told_apart() {
        let exit = |word| wrapped(&[word], None).0.unwrap_err().exit_status();
        assert_eq!(exit("no-such-command-anywhere"), EXIT_NOT_FOUND);
        assert_eq!(exit("/no/such/path"), EXIT_NOT_FOUND);
        assert_eq!(exit("/dev/null"), EXIT_NOT_EXECUTABLE);
        assert_eq!(exit("/"), EXIT_NOT_EXECUTABLE);
        let none = wrapped(&[], None).0.unwrap_err();
        assert_eq!(none.exit_status(), crate::error::EXIT_OWN);
    }
}
