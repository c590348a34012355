//! Runs a hook: a program that the engine wants to be run at a point of a container's life, with the container's state on
//! its stdin, as long as it may take, and with all that it has started gone when it takes longer.
//!
//! What it writes goes to a file in memory, of which the last line is told where it fails: a daemon that a hook leaves
//! behind keeps nobody waiting, and an engine's own streams stay its own.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::uio::pread;
use nix::unistd::{
    Pid, chdir, dup, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, read, setsid, write,
};

use crate::ended::Ended;
use crate::error::{Error, Result};
use crate::held::{self, Inside};
use crate::plan::{Exec, Namespaces};
use crate::sealed;
use crate::sys::clone::{Clone as Cloned, Parent, Refused, clone_into, clone3};
use crate::sys::process::{self, Vector};
use crate::sys::{pidfd, signal};

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Which one it is, for messages: `hooks.prestart[0]`.
    pub name: String,
    /// The program: absolute.
    pub path: CString,
    /// Its argument vector, the name included.
    pub arguments: Vec<CString>,
    /// Its whole environment.
    pub environment: Vec<CString>,
    /// Where it begins, if not where we are.
    pub workdir: Option<CString>,
    /// How long it may take; for ever, if nothing is said.
    pub timeout: Option<Duration>,
}

impl Hook {
    fn error(&self) -> Error {
        Error::new("run hook")
            .on(self.path.to_string_lossy())
            .flags(self.name.clone())
    }

    fn failed(&self, errno: Errno) -> Error {
        self.error()
            .errno(errno)
            .hint("it must be there, and executable")
    }

    /// Runs it, in the namespaces that we are in, or in these ones of a process.
    ///
    /// # Errors
    /// It cannot be executed, fails, or takes too long.
    pub fn run(&self, state: &[u8], within: Option<(BorrowedFd<'_>, Namespaces)>) -> Result<()> {
        let failed = |errno| self.failed(errno);
        let streams = Streams::new(state)?;
        let (told, tell) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        let arguments = Vector::new(self.arguments.iter().map(CString::as_c_str));
        let environment = Vector::new(self.environment.iter().map(CString::as_c_str));
        let child = Child {
            hook: self,
            streams: &streams,
            arguments: &arguments,
            environment: &environment,
        };
        process::close_all_on_exec().map_err(failed)?;
        let forked = match within {
            None => clone3(nix::sched::CloneFlags::empty()).map(|forked| match forked {
                Cloned::Child => child.run(&tell),
                Cloned::Parent { pid, pidfd } => (Some(pid), pidfd),
            }),
            Some((leader, namespaces)) => {
                let flags = namespaces.flags();
                clone_into(leader, flags, Parent::Caller, &|| child.run(&tell))
                    .map_err(Refused::errno)
            }
        };
        let (pid, pidfd) = forked.map_err(failed)?;
        drop(tell);
        let ended = self.wait(pid, &pidfd)?;
        let mut errno = [0];
        if read(&told, &mut errno) == Ok(1) {
            return Err(failed(Errno::from_raw(i32::from(errno[0]))));
        }
        self.judge(ended, &streams)
    }

    /// Runs it as a process of the container, confined as `plan` says; `listening` is as in [`held::create`].
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_inside(
        &self,
        plan: &Exec,
        inside: Inside<'_>,
        state: &[u8],
        listening: impl FnMut(Pid, OwnedFd) -> Result<()>,
    ) -> Result<()> {
        let streams = Streams::new(state)?;
        let (mut number, own) = (
            None,
            Own::replace(&streams).map_err(|errno| self.failed(errno))?,
        );
        let born = |pid| {
            number = Some(pid);
            Ok(())
        };
        let started = held::start(plan, inside, None, born, listening);
        drop(own);
        let held = started.map_err(|failure| Error::from(failure).flags(self.name.clone()))?;
        let ended = self.wait(number, held.pidfd())?;
        held.leave();
        self.judge(ended, &streams)
    }

    /// Waits for its end and reaps it.
    fn wait(&self, pid: Option<Pid>, pidfd: &OwnedFd) -> Result<Ended> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            match poll(
                &mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)],
                timeout,
            ) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => break,
                Ok(0) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.failed(errno)),
                Ok(_) => return pidfd::wait(pidfd).map_err(|errno| self.failed(errno)),
            }
        }
        // It leads a session, and so a process group; while we have not reaped it, the number is its own.
        if let Some(pid) = pid {
            let _ = killpg(pid, Signal::SIGKILL);
        }
        let _ = pidfd::send_signal(pidfd, Signal::SIGKILL as i32);
        let _ = pidfd::wait(pidfd);
        let seconds = self.timeout.unwrap_or_default().as_secs();
        Err(self
            .error()
            .because(format!(
                "it takes longer than {seconds} s, and has been ended"
            ))
            .hint("its timeout is in config.json"))
    }

    fn judge(&self, ended: Ended, streams: &Streams) -> Result<()> {
        let how = match ended {
            Ended::Exited(0) => return Ok(()),
            Ended::Exited(code) => format!("it exited with {code}"),
            Ended::Signaled(number) => format!("it died of signal {number}"),
        };
        let why = match streams.last_line() {
            Some(line) => format!("{how}: {line}"),
            None => how,
        };
        Err(self
            .error()
            .because(why)
            .hint("a hook that fails ends the container"))
    }
}

/// What a hook reads and writes.
#[derive(Debug)]
struct Streams {
    state: OwnedFd,
    output: OwnedFd,
}

impl Streams {
    fn new(state: &[u8]) -> Result<Self> {
        let output = memfd_create(c"hook", MFdFlags::MFD_CLOEXEC);
        Ok(Self {
            state: sealed::data(c"state", state)?,
            output: output.map_err(|errno| Error::new("make a file for a hook").errno(errno))?,
        })
    }

    fn take(&self) -> Result<(), Errno> {
        dup2_stdin(&self.state)?;
        dup2_stdout(&self.output)?;
        dup2_stderr(&self.output)
    }

    /// The end of what it wrote.
    fn last_line(&self) -> Option<String> {
        const MOST: usize = 1024;
        let length = usize::try_from(nix::sys::stat::fstat(&self.output).ok()?.st_size).ok()?;
        let mut bytes = [0; MOST];
        let from = i64::try_from(length.saturating_sub(MOST)).ok()?;
        let count = pread(&self.output, &mut bytes, from).ok()?;
        let text = String::from_utf8_lossy(bytes.get(..count)?).into_owned();
        let line = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(line.trim().to_owned())
    }
}

/// Our own streams, while those of a hook are in their place.
struct Own([OwnedFd; 3]);

impl Own {
    fn replace(streams: &Streams) -> Result<Self, Errno> {
        let own = Self([
            dup(std::io::stdin())?,
            dup(std::io::stdout())?,
            dup(std::io::stderr())?,
        ]);
        streams.take()?;
        Ok(own)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let [stdin, stdout, stderr] = &self.0;
        // dup2(2) onto an open descriptor fails for none of the reasons that are left here.
        let _ = dup2_stdin(stdin);
        let _ = dup2_stdout(stdout);
        let _ = dup2_stderr(stderr);
    }
}

/// What the forked process needs; it allocates nothing.
struct Child<'a> {
    hook: &'a Hook,
    streams: &'a Streams,
    arguments: &'a Vector<'a>,
    environment: &'a Vector<'a>,
}

impl Child<'_> {
    /// Becomes the hook, or tells why not.
    fn run(&self, tell: &OwnedFd) -> ! {
        let errno = match self.prepare() {
            Ok(()) => {
                let path = self.hook.path.as_c_str();
                process::execute_path(path, self.arguments, self.environment)
            }
            Err(errno) => errno,
        };
        // A number of one byte; if nobody hears it, nobody is left.
        let _ = write(tell, &[u8::try_from(errno as i32).unwrap_or(u8::MAX)]);
        process::exit_now(1)
    }

    fn prepare(&self) -> Result<(), Errno> {
        process::die_with_parent(Signal::SIGKILL as i32)?;
        setsid()?;
        self.streams.take()?;
        if let Some(workdir) = &self.hook.workdir {
            chdir(workdir.as_c_str())?;
        }
        signal::reset()
    }
}
