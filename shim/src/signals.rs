//! Which signals a client passes on to its workload, and how it receives them: blocked, through a `signalfd(2)`.
//!
//! Signals that the kernel sends because of what *we* did (SIGPIPE for a pipe that we wrote to, SIGTTIN and SIGTTOU for
//! a terminal that we touched) are kept apart: they are never passed on. SIGCHLD is not taken at all; processes are
//! waited for by pidfd.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::unistd::getpid;

use crate::sys;
use crate::{Error, Result};

/// What is passed on as it is. SIGWINCH is received too, but becomes a new window size.
///
/// SIGKILL and SIGSTOP cannot be caught; SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGSYS are faults of the receiver.
pub const FORWARDED: &[Signal] = &[
    Signal::SIGABRT,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGIO,
    Signal::SIGPIPE,
    Signal::SIGPROF,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGTRAP,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGURG,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGVTALRM,
];

/// The number of a signal that is given as people write it: `SIGTERM`, `term`, `15`, `SIGRTMIN+3`. None for what is no
/// signal of this machine.
#[must_use]
pub fn number(text: &str) -> Option<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // What programs of glibc mean, which takes the first two for itself (signal(7)), whatever libc we are built with.
    let (first, last) = (34_i32, 64_i32);
    let offset = |text: &str| text.parse::<i32>().ok();
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        match rest.strip_prefix('+') {
            None if rest.is_empty() => Some(first),
            rest => first.checked_add(offset(rest?)?),
        }
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        match rest.strip_prefix('-') {
            None if rest.is_empty() => Some(last),
            rest => last.checked_sub(offset(rest?)?),
        }
    } else {
        offset(&upper).or_else(|| Some(format!("SIG{name}").parse::<Signal>().ok()? as i32))
    }?;
    (1..=last).contains(&number).then_some(number)
}

/// What a received signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Pass this one on to the workload.
    Forward {
        /// Which.
        signal: Signal,
        /// The kernel sent it (^C, ^Z or a hang-up of our controlling terminal), and to our whole process group: a
        /// workload in the same group has it already.
        by_kernel: bool,
    },
    /// The caller's terminal has a new size (SIGWINCH).
    WindowChanged,
    /// The kernel sent it because of our own reading or writing; there is nothing to do.
    Own,
}

/// Blocks everything in [`FORWARDED`] and SIGWINCH for the calling thread, and returns the descriptor (non-blocking,
/// close-on-exec) that they arrive on from now on. SIGCHLD gets its default disposition.
///
/// Blocked SIGTTIN and SIGTTOU let us use a terminal from the background without being stopped: writes go through,
/// reads fail with EIO (ioctl_tty(2), termios(3)). The mask survives execve: whoever starts a program resets it.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM from signalfd(2).
pub fn block_all() -> Result<SignalFd> {
    let failed = |errno| {
        Error::new("receive signals")
            .errno(errno)
            .hint("the limit of open files may be reached: see ulimit -n")
    };
    let mut mask: SigSet = FORWARDED.iter().copied().collect();
    mask.add(Signal::SIGWINCH);
    mask.thread_block().map_err(failed)?;
    sys::signal::default_child().map_err(failed)?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(failed)
}

/// Takes the next pending signal; `None` when there is none.
///
/// # Errors
/// Those of reading a signalfd; none is expected.
pub fn next(signals: &SignalFd) -> Result<Option<Received>> {
    loop {
        match signals.read_signal() {
            Ok(None) => return Ok(None),
            Ok(Some(info)) => return Ok(Some(classify(&info, getpid().as_raw()))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::new("read a signal").errno(errno)),
        }
    }
}

/// Whether a signal ends a process that does not handle it (signal(7)).
#[must_use]
pub fn terminates(signal: Signal) -> bool {
    !matches!(
        signal,
        Signal::SIGCONT
            | Signal::SIGTSTP
            | Signal::SIGTTIN
            | Signal::SIGTTOU
            | Signal::SIGURG
            | Signal::SIGWINCH
            | Signal::SIGCHLD
    )
}

/// Tells signals of others from those that our own system calls caused.
fn classify(info: &siginfo, own: i32) -> Received {
    let Some(signal) = i32::try_from(info.ssi_signo)
        .ok()
        .and_then(|number| Signal::try_from(number).ok())
    else {
        return Received::Own;
    };
    // A write to a broken pipe raises SIGPIPE in the writer's own name; a blocked signal is queued even if ignored.
    let by_ourselves = signal == Signal::SIGPIPE && i64::from(info.ssi_pid) == i64::from(own);
    let by_terminal = matches!(signal, Signal::SIGTTIN | Signal::SIGTTOU)
        && info.ssi_code == nix::libc::SI_KERNEL;
    match signal {
        Signal::SIGWINCH => Received::WindowChanged,
        _ if by_ourselves || by_terminal => Received::Own,
        signal => Received::Forward {
            signal,
            by_kernel: info.ssi_code == nix::libc::SI_KERNEL,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_as_people_write_them() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("SIGWINCH", Some(28)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("RTMAX-1", Some(63)),
            ("64", Some(64)),
            ("0", None),
            ("65", None),
            ("-1", None),
            ("", None),
            ("SIG", None),
            ("SIG15", None),
            ("SIGRTMIN+31", None),
            ("RTMIN3", None),
            ("RTMAX-99999999999", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
    use nix::sys::signal::raise;
    use nix::unistd::pipe;

    #[test]
    fn what_is_blocked_arrives_on_the_descriptor() {
        let signals = block_all().unwrap();
        assert_eq!(next(&signals).unwrap(), None);
        for &signal in FORWARDED {
            if signal == Signal::SIGPIPE {
                continue;
            }
            raise(signal).unwrap();
            assert_eq!(
                next(&signals).unwrap(),
                Some(Received::Forward {
                    signal,
                    by_kernel: false
                })
            );
        }
        raise(Signal::SIGWINCH).unwrap();
        assert_eq!(next(&signals).unwrap(), Some(Received::WindowChanged));
        assert_eq!(next(&signals).unwrap(), None);
    }

    #[test]
    fn a_broken_pipe_of_our_own_is_not_passed_on() {
        let signals = block_all().unwrap();
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert_eq!(nix::unistd::write(&writer, b"x"), Err(Errno::EPIPE));
        assert_eq!(next(&signals).unwrap(), Some(Received::Own));
    }

    #[test]
    fn job_control_and_window_size_do_not_end_a_process() {
        let harmless: Vec<Signal> = FORWARDED
            .iter()
            .copied()
            .filter(|signal| !terminates(*signal))
            .collect();
        assert_eq!(
            harmless,
            [
                Signal::SIGCONT,
                Signal::SIGTSTP,
                Signal::SIGTTIN,
                Signal::SIGTTOU,
                Signal::SIGURG
            ]
        );
    }
}
