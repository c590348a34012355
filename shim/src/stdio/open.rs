//! Makes the pipes and the pty that a [`StdioPlan`] asks for. Only inodes made here are ever chowned or chmodded, and
//! nothing of the caller's changes before [`Stdio::into_relay`].
//!
//! Every path (`/dev/null`, `/dev/ptmx`, `/proc/self/fd`) is looked up here and none later: once the client has joined
//! the container's mount namespace, such a path would be the container's to answer.

use std::io::IsTerminal as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, unlockpt};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::termios::{OutputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{Gid, Uid, dup2_stdin, dup2_stdout, fchown, pipe2};

use super::end::{End, set_nonblocking};
use super::plan::{StdioPlan, StreamKind, StreamPlan, TerminalPlan, kind};
use super::relay::Relay;
use crate::sys::tty;
use crate::{Error, Result};

/// The caller's streams that are relayed; `None` where a stream is handed through.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) streams: [Option<OwnedFd>; 3],
    /// What takes the place of descriptors 0 and 1.
    null: Option<OwnedFd>,
    /// They are descriptors 0, 1 and 2 of this process.
    own: bool,
}

impl Caller {
    /// This process's own.
    fn own(plan: &StdioPlan) -> Result<Self> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let [first, second, third] = plan.streams.map(|stream| stream != StreamPlan::Inherit);
        let duplicate = |stream: BorrowedFd<'_>, relayed: bool| {
            if !relayed {
                return Ok(None);
            }
            let copy = stream.try_clone_to_owned();
            copy.map(Some)
                .map_err(|error| Error::io("duplicate", "the caller's stream", &error))
        };
        let null = if first || second {
            let file = std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null");
            let file = file.map_err(|error| {
                Error::io("open", "/dev/null", &error).hint("the host needs a /dev with null in it")
            })?;
            Some(OwnedFd::from(file))
        } else {
            None
        };
        Ok(Self {
            null,
            streams: [
                duplicate(stdin.as_fd(), first)?,
                duplicate(stdout.as_fd(), second)?,
                duplicate(stderr.as_fd(), third)?,
            ],
            own: true,
        })
    }

    /// Streams made for a test.
    #[cfg(test)]
    pub(super) fn given(streams: [Option<OwnedFd>; 3]) -> Self {
        Self {
            streams,
            null: None,
            own: false,
        }
    }

    /// Lets go of descriptors 0 and 1 where they are relayed, so that closing our copy is what the caller sees: its
    /// reader gets the end when the workload closes stdout, its writer EPIPE when the workload closes stdin. stderr
    /// stays, for messages.
    pub(super) fn release(&self) -> Result<()> {
        let [stdin, stdout, _] = &self.streams;
        let Some(null) = &self.null else {
            return Ok(());
        };
        let failed = |errno| Error::new("replace a relayed stream").errno(errno);
        if stdin.is_some() {
            dup2_stdin(null).map_err(failed)?;
        }
        if stdout.is_some() {
            dup2_stdout(null).map_err(failed)?;
        }
        Ok(())
    }

    /// The relayed streams, ready for reading (stdin) or writing without blocking.
    fn ends(&self, plan: &StdioPlan) -> Result<[Option<End>; 3]> {
        let [stdin, stdout, stderr] = &self.streams;
        let [first, second, third] = &plan.streams;
        let end = |stream: &Option<OwnedFd>, plan: &StreamPlan, make: fn(OwnedFd) -> End| {
            let Some(stream) = stream.as_ref().filter(|_| *plan != StreamPlan::Inherit) else {
                return Ok(None);
            };
            let copy = stream.try_clone();
            copy.map(|fd| Some(make(fd)))
                .map_err(|error| Error::io("duplicate", "the caller's stream", &error))
        };
        Ok([
            end(stdin, first, End::caller_source)?,
            end(stdout, second, End::caller_sink)?,
            end(stderr, third, End::caller_sink)?,
        ])
    }

    /// The first of the relayed streams that is a terminal.
    pub(super) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.streams
            .iter()
            .flatten()
            .map(AsFd::as_fd)
            .find(|stream| kind(*stream) == StreamKind::Terminal)
    }
}

/// A pty: our side and the workload's.
#[derive(Debug)]
pub(super) struct Pty {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

/// What the workload gets and what we keep, between planning and relaying.
#[derive(Debug)]
pub struct Stdio {
    pub(super) plan: StdioPlan,
    pub(super) caller: Caller,
    /// The relayed streams of the caller as the relay will use them.
    pub(super) caller_ends: [Option<End>; 3],
    pub(super) pty: Option<Pty>,
    /// The write end of stdin, the read ends of stdout and stderr.
    pub(super) ours: [Option<OwnedFd>; 3],
    theirs: [Option<OwnedFd>; 3],
    /// stderr is the same pipe as stdout, because the caller's are one and the same: their order is kept.
    joined: bool,
}

/// Makes what the plan asks for. `owner` is the uid and gid, as the host numbers them, that the terminal will belong
/// to. All descriptors are close-on-exec.
///
/// # Errors
/// EMFILE and ENFILE, and what opening `/dev/ptmx` answers.
pub fn open(plan: &StdioPlan, owner: (u32, u32)) -> Result<Stdio> {
    open_for(plan, owner, Caller::own(plan)?)
}

pub(super) fn open_for(plan: &StdioPlan, owner: (u32, u32), caller: Caller) -> Result<Stdio> {
    let mut ours = [None, None, None];
    let mut theirs = [None, None, None];
    let [_, stdout, stderr] = &caller.streams;
    let joined = plan.streams[1] == StreamPlan::Pipe
        && plan.streams[2] == StreamPlan::Pipe
        && same_object(stdout.as_ref(), stderr.as_ref());
    for (index, stream) in plan.streams.iter().enumerate() {
        if *stream != StreamPlan::Pipe || (index == 2 && joined) {
            continue;
        }
        let (reader, writer) = open_pipe().map_err(|errno| {
            Error::new("make a pipe for the command")
                .errno(errno)
                .hint("the limit of open files may be reached: see ulimit -n")
        })?;
        let (our, their) = if index == 0 {
            (writer, reader)
        } else {
            (reader, writer)
        };
        set_nonblocking(&our).map_err(|errno| Error::new("set up a pipe").errno(errno))?;
        ours[index] = Some(our);
        theirs[index] = Some(their);
    }
    let pty = match plan.terminal {
        Some(terminal) if !terminal.inside => {
            let pty = open_pty(owner)?;
            set_size(&pty.master, terminal, &caller)?;
            Some(pty)
        }
        _ => None,
    };
    Ok(Stdio {
        plan: plan.clone(),
        caller_ends: caller.ends(plan)?,
        caller,
        pty,
        ours,
        theirs,
        joined,
    })
}

impl Stdio {
    /// What becomes descriptors 0, 1 and 2 of the workload: this process's own where they are handed through. The same
    /// number may occur more than once. Valid until the relay begins.
    #[must_use]
    pub fn workload(&self) -> [RawFd; 3] {
        [(0, 0), (1, 1), (2, 2)].map(|(index, own)| {
            self.workload_end(index)
                .map_or(own, |descriptor| descriptor.as_raw_fd())
        })
    }

    /// What becomes one descriptor (0, 1 or 2) of the workload; `None` where this process's own is handed through.
    #[must_use]
    pub fn workload_end(&self, index: usize) -> Option<BorrowedFd<'_>> {
        let source = if index == 2 && self.joined { 1 } else { index };
        match self.plan.streams.get(index)? {
            StreamPlan::Inherit if self.caller.own => None,
            StreamPlan::Inherit => self.caller.streams.get(index)?.as_ref().map(AsFd::as_fd),
            StreamPlan::Pipe => self.theirs.get(source)?.as_ref().map(AsFd::as_fd),
            StreamPlan::Terminal => self.pty.as_ref().map(|pty| pty.slave.as_fd()),
        }
    }

    /// Whether the workload gets a terminal (its descriptor 0 is then the one to make the controlling one).
    #[must_use]
    pub fn terminal(&self) -> bool {
        self.plan.terminal.is_some()
    }

    /// Gives the terminal that has been opened inside its size.
    ///
    /// # Errors
    /// ENOTTY where it is none.
    pub(crate) fn set_size(&self, master: &OwnedFd) -> Result<()> {
        let terminal = self.plan.terminal;
        terminal.map_or(Ok(()), |terminal| set_size(master, terminal, &self.caller))
    }

    /// Takes that terminal, to relay it. Where our stdout is no terminal, lines end as the command has written them: no
    /// carriage return is put before the newline, as runc has it.
    ///
    /// # Errors
    /// As [`Stdio::set_size`].
    pub(crate) fn adopt(&mut self, master: OwnedFd) -> Result<()> {
        let failed = |errno| Error::new("take the container's terminal").errno(errno);
        let slave = tty::open_peer(&master).map_err(failed)?;
        let [_, stdout, _] = &self.caller.streams;
        if !stdout.as_ref().is_some_and(OwnedFd::is_terminal) {
            let mut mode = tcgetattr(&slave).map_err(failed)?;
            mode.output_flags.remove(OutputFlags::ONLCR);
            tcsetattr(&slave, SetArg::TCSANOW, &mode).map_err(failed)?;
        }
        set_nonblocking(&master).map_err(failed)?;
        self.pty = Some(Pty { master, slave });
        Ok(())
    }

    /// The read ends of the stdout and stderr pipes, non-blocking, where there are pipes. A process forked now that
    /// keeps them open and reads them once the relay is gone lets background children of the workload write on.
    /// As long as such a copy is open the workload sees no EPIPE: see [`Relay::is_closed`].
    #[must_use]
    pub fn drains(&self) -> [Option<RawFd>; 2] {
        let [_, stdout, stderr] = &self.ours;
        [stdout, stderr].map(|end| end.as_ref().map(AsRawFd::as_raw_fd))
    }

    /// Begins to relay, after the fork and in the client: closes the workload's ends, makes the caller's terminal raw.
    ///
    /// # Errors
    /// EIO when the caller's terminal was hung up, EMFILE.
    pub fn into_relay(mut self) -> Result<Relay> {
        self.theirs = [None, None, None];
        Relay::begin(self)
    }
}

/// A pipe that any uid inside may open again as `/dev/stdout`: pipe inodes are made 0600 for the caller. Nobody who
/// does not hold an end can reach it.
fn open_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fchmod(&reader, Mode::from_bits_truncate(0o666))?;
    Ok((reader, writer))
}

/// The planned size, or that of the caller's terminal.
fn set_size(master: &OwnedFd, plan: TerminalPlan, caller: &Caller) -> Result<()> {
    let size = match plan.size {
        Some(size) => Some(size.into()),
        None => caller.terminal().and_then(|fd| tty::size(fd).ok()),
    };
    match size {
        Some(size) => tty::set_size(master, &size)
            .map_err(|errno| Error::new("set the size of the terminal").errno(errno)),
        None => Ok(()),
    }
}

fn open_pty((uid, gid): (u32, u32)) -> Result<Pty> {
    let failed = |errno| {
        Error::new("make a terminal for the command")
            .errno(errno)
            .hint(
                "needs /dev/ptmx and a devpts with ptys left: see kernel.pty.max and kernel.pty.nr",
            )
    };
    let master =
        posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).map_err(failed)?;
    grantpt(&master).map_err(failed)?;
    unlockpt(&master).map_err(failed)?;
    let master = OwnedFd::from(master);
    let slave = tty::open_peer(&master).map_err(failed)?;
    set_nonblocking(&master).map_err(failed)?;
    // So that the command can open /dev/tty and /dev/stdout again under its own uid.
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    fchown(&slave, Some(uid), Some(gid))
        // A gid outside our own id map: the uid is what matters.
        .or_else(|_| fchown(&slave, Some(uid), None))
        .map_err(|errno| {
            Error::new("give the terminal to the command's user")
                .on(format_args!("uid {uid}, gid {gid}"))
                .errno(errno)
                .hint("the user must be mapped in the caller's user namespace")
        })?;
    fchmod(&slave, Mode::from_bits_truncate(0o620)).map_err(failed)?;
    Ok(Pty { master, slave })
}

/// Whether two descriptors are of the same socket or terminal.
fn same_object(one: Option<&OwnedFd>, other: Option<&OwnedFd>) -> bool {
    let identity = |fd: &OwnedFd| fstat(fd).map(|status| (status.st_dev, status.st_ino));
    match (one.map(identity), other.map(identity)) {
        (Some(Ok(one)), Some(Ok(other))) => one == other,
        _ => false,
    }
}
