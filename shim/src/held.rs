//! Applies plans whose processes outlive the client: PID 1 that waits to be started, and a command that joins it.
//!
//! The host's mount table is not touched, so nobody has to stay to clean it up. Who calls is told of the new process as
//! soon as there is one, and writes it down. Until the process has let go of us it dies with us (PR_SET_PDEATHSIG); from
//! then on whoever reads what was written down can end it. Its parent is the reaper of our surroundings once we are gone.

use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use init::protocol::{Record, Role, Step as InitStep};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, chdir, fchdir, read, write};

use crate::ended::Ended;
use crate::error::{Error, Result};
use crate::exec::Failure;
use crate::launch::{SETUP_DEADLINE_MS, proceed, receive_passed, write_id_maps};
use crate::mounts;
use crate::pipes;
use crate::plan::{Exec, Launch, Plan};
use crate::procfs;
use crate::rootdir::RootDir;
use crate::shared_root::{Root, SharedRoot};
use crate::spawn::{self, Birth, Lifelines, Spawned};
use crate::stdio::{self, Stdio};
use crate::step::{Step, cannot_execute};
use crate::supervise::{Subject, Watch, failure};
use crate::sys::clone::Parent;
use crate::sys::{pidfd, process, socket};

/// The two FIFOs of a held command, both open for reading and writing, so that neither ever comes to its end.
#[derive(Debug)]
pub struct Hold {
    /// A byte from here starts it.
    pub start: OwnedFd,
    /// What fails from then on is written here.
    pub answer: OwnedFd,
}

/// What of the caller's a container is born to.
#[derive(Debug, Default)]
pub struct Outside<'a> {
    /// A cgroup of version 2 that it is born in, where that is possible.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// A connected socket that its terminal is sent to.
    pub console: Option<BorrowedFd<'a>>,
    /// Where it has no mount namespace of its own: the copy of its root filesystem that it attaches.
    pub root: Option<&'a SharedRoot>,
}

/// A process that has been made: ended when dropped, unless it is let go or stayed with.
#[derive(Debug)]
pub struct Held<'p> {
    plan: Plan<'p>,
    spawned: Spawned,
    stdio: Stdio,
}

impl Held<'_> {
    /// The process.
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.spawned.pidfd
    }

    /// Its number, which is its own for as long as it is not let go.
    ///
    /// # Errors
    /// It is not a child of ours.
    pub fn pid(&self) -> Result<Pid> {
        number(self.plan, &self.spawned)
    }

    /// The process goes on without us.
    pub fn leave(self) {
        self.spawned.leave();
    }

    /// Stays until the process has ended: passes signals on, relays its terminal where we have that, and reaps it.
    ///
    /// # Errors
    /// Those of poll(2), and what could not be passed on.
    pub fn attend(self, signals: &SignalFd) -> Result<Ended> {
        Watch {
            plan: self.plan,
            spawned: self.spawned,
            relay: self.stdio.into_relay()?,
            signals,
            subject: Subject::Process,
            liveness: None,
        }
        .run()
    }

    /// Takes the terminal that the process has opened, and sends it on where somebody waits for it.
    fn take_console(&mut self, console: Option<BorrowedFd<'_>>) -> Result<()> {
        let terminal = self.plan.stdio().terminal;
        if !terminal.is_some_and(|terminal| terminal.inside) {
            return Ok(());
        }
        let (_, master) = receive_passed(self.plan, &self.spawned, Step::OpenConsole)?;
        self.stdio.set_size(&master)?;
        let Some(socket) = console else {
            return self.stdio.adopt(master);
        };
        // What runc calls it; nobody looks.
        socket::send(socket, b"/dev/ptmx", Some(master.as_raw_fd())).map_err(|errno| {
            Error::new("send the terminal to")
                .on("--console-socket")
                .errno(errno)
                .hint("somebody must listen there and take it")
        })
    }
}

/// Makes PID 1 of a plan whose program is [`crate::plan::Program::Held`], and returns when it waits to be started.
///
/// `born` is told its number and whether it was born in the cgroup of `outside`, and puts it into the plan's other cgroups; if
/// that fails, the process is ended again. `paused` is told where the plan says so: everything is mounted then, and the
/// process, by this pidfd, still stands in a copy of the host's tree. `listening` gets the listener of a filter that asks
/// somebody.
///
/// # Errors
/// The step that failed, with its object and a hint. Nothing of the container is left then.
pub fn create<'p>(
    plan: &'p Launch,
    rootfs: &RootDir,
    hold: &Hold,
    outside: &Outside<'_>,
    born: impl FnOnce(Pid, bool) -> Result<()>,
    paused: impl FnOnce(BorrowedFd<'_>) -> Result<()>,
    listening: impl FnMut(Pid, OwnedFd) -> Result<()>,
) -> Result<Held<'p>> {
    let words = Plan::Launch(plan);
    let mounts = mounts::prepare(&plan.mounts)?;
    let joined = plan.joined.iter().enumerate().map(|(index, joined)| {
        let opened = joined.open();
        opened
            .map(|file| (joined.kind.flags(), file))
            .map_err(|errno| Step::JoinNamespace(index).failure(words, errno))
    });
    let joined = joined.collect::<Result<Vec<_>>>()?;
    let init = spawn::sealed_init()?;
    let stdio = stdio::open(&plan.stdio, (0, 0))?;
    let lifelines = Lifelines {
        hold: Some([hold.start.as_fd(), hold.answer.as_fd()]),
        root: outside.root.map(Root::New),
        ..Lifelines::default()
    };
    // As in launch: the child finds ROOTFS in its own copy of the mount table.
    fchdir(rootfs.as_fd()).map_err(|errno| Step::Clone.failure(words, errno))?;
    let spawned = spawn::spawn(
        words,
        Role::Run,
        &stdio,
        &lifelines,
        Some(&mounts),
        Birth::New {
            cgroup: outside.cgroup,
            joined: &joined,
        },
        &init,
    );
    chdir(c"/").map_err(|errno| Step::Clone.failure(words, errno))?;
    let mut held = Held {
        plan: words,
        spawned: spawned?,
        stdio,
    };
    drop(mounts);
    let pid = number(words, &held.spawned)?;
    born(pid, held.spawned.in_cgroup)?;
    if let Some(maps) = &plan.id_maps {
        write_id_maps(pid, maps).map_err(|errno| Step::WriteIdMap.failure(words, errno))?;
        proceed(words, &held.spawned)?;
    }
    pipes::give(words, pid);
    proceed_to_label(words, &held.spawned)?;
    held.take_console(outside.console)?;
    if plan.pauses {
        hear_of_pause(words, &held.spawned)?;
        paused(held.spawned.pidfd.as_fd())?;
        proceed(words, &held.spawned)?;
    }
    match hear(words, &held.spawned, listening)? {
        Some(Record::Ready) => Ok(held),
        // It has ended without a word, or was started by somebody else.
        _ => Err(Step::ExecuteInit
            .failure(words, Errno::ECONNRESET)
            .or_hint("it was ended from outside while it was being made")),
    }
}

/// The container that a command joins.
#[derive(Debug, Clone, Copy)]
pub struct Inside<'a> {
    /// PID 1 of it.
    pub leader: BorrowedFd<'a>,
    /// Where it has no mount namespace of its own: its root.
    pub root: Option<BorrowedFd<'a>>,
}

/// Starts a command in a container, and returns when it has been executed.
///
/// `born`, `console` and `listening` are as in [`create`]. The calling process stays where it is.
///
/// # Errors
/// As [`crate::exec::exec`].
pub fn start<'p>(
    plan: &'p Exec,
    inside: Inside<'_>,
    console: Option<BorrowedFd<'_>>,
    born: impl FnOnce(Pid) -> Result<()>,
    listening: impl FnMut(Pid, OwnedFd) -> Result<()>,
) -> Result<Held<'p>, Failure> {
    let words = Plan::Exec(plan);
    let init = spawn::sealed_init()?;
    let stdio = stdio::open(&plan.stdio, (0, 0))?;
    process::hide_from_tracers().map_err(|errno| Step::HideFromTracers.failure(words, errno))?;
    let birth = Birth::Among {
        leader: inside.leader,
        parent: Parent::Caller,
    };
    let lifelines = Lifelines {
        root: inside.root.map(Root::Joined),
        ..Lifelines::default()
    };
    let spawned = spawn::spawn(words, Role::Run, &stdio, &lifelines, None, birth, &init)?;
    let mut held = Held {
        plan: words,
        spawned,
        stdio,
    };
    let pid = number(words, &held.spawned)?;
    born(pid)?;
    pipes::give(words, pid);
    proceed_to_label(words, &held.spawned)?;
    held.take_console(console)?;
    // The end of the report: the command has been executed, and with it our end was closed.
    hear(words, &held.spawned, listening)?;
    Ok(held)
}

/// Lets a held command go on, by the other ends of its FIFOs: `start` for writing and `answer` for reading. `name` is what
/// it is called in messages.
///
/// # Errors
/// What failed in the command's process: its program cannot be executed.
pub fn release(name: &str, start: &OwnedFd, answer: &OwnedFd) -> Result<()> {
    let failed = |errno| Error::sys("start", name, errno);
    write(start, &[1]).map_err(failed)?;
    wait_for(answer.as_fd(), name)?;
    let mut bytes = [0; Record::LENGTH];
    let length = loop {
        match read(answer, &mut bytes) {
            Err(Errno::EINTR) => {}
            other => break other.map_err(failed)?,
        }
    };
    match bytes.get(..length).and_then(Record::from_bytes) {
        Some(Record::InitFailed(step, errno)) => {
            let errno = Errno::from_raw(i32::from(errno));
            Err(match InitStep::from_number(step) {
                Some(InitStep::Execute) => cannot_execute(name, errno),
                _ => failed(errno),
            })
        }
        // The end: it has been executed. Or it was ended just now, which is not for us to tell.
        _ => Ok(()),
    }
}

fn number(words: Plan<'_>, spawned: &Spawned) -> Result<Pid> {
    spawned
        .child
        .ok_or_else(|| Step::Clone.failure(words, Errno::ECHILD))
}

/// Lets the child go on, and gives it the place where its label is to be written, if it has one.
fn proceed_to_label(words: Plan<'_>, spawned: &Spawned) -> Result<()> {
    let Some(label) = &words.privileges().label else {
        return proceed(words, spawned);
    };
    let failed = |errno| Step::Init(InitStep::Label).failure(words, errno);
    let labels = procfs::labels_of(number(words, spawned)?, label.module).map_err(failed)?;
    socket::send(&spawned.report, &[1], Some(labels.as_raw_fd())).map_err(failed)
}

/// The next record, or none at the end of the report. One that tells of a listener is seen to.
fn hear(
    words: Plan<'_>,
    spawned: &Spawned,
    mut listening: impl FnMut(Pid, OwnedFd) -> Result<()>,
) -> Result<Option<Record>> {
    loop {
        match hear_one(words, spawned)? {
            Some(Record::Listening(fd)) => {
                let fd = RawFd::try_from(fd).unwrap_or(-1);
                let listener = pidfd::take(&spawned.pidfd, fd).map_err(|errno| {
                    Step::Init(InitStep::Filter)
                        .failure(words, errno)
                        .or_hint("taking its listener over needs CAP_SYS_PTRACE and Linux 5.6")
                })?;
                listening(number(words, spawned)?, listener)?;
                proceed(words, spawned)?;
            }
            other => return Ok(other),
        }
    }
}

fn hear_one(words: Plan<'_>, spawned: &Spawned) -> Result<Option<Record>> {
    wait_for(spawned.report.as_fd(), words.rootfs().display())?;
    let mut bytes = [0; Record::LENGTH];
    let length = match socket::receive(&spawned.report, &mut bytes) {
        Ok((length, _)) => length,
        Err(Errno::ECONNRESET) => 0,
        Err(errno) => return Err(Step::ExecuteInit.failure(words, errno)),
    };
    let record = bytes.get(..length).and_then(Record::from_bytes);
    match record.and_then(|record| failure(words, record)) {
        Some(error) => Err(error),
        None => Ok(record),
    }
}

/// The child's word that it waits: anything but a record.
fn hear_of_pause(words: Plan<'_>, spawned: &Spawned) -> Result<()> {
    wait_for(spawned.report.as_fd(), words.rootfs().display())?;
    let mut bytes = [0; Record::LENGTH];
    let failed = |errno| Step::Pause.failure(words, errno);
    let (length, _) = socket::receive(&spawned.report, &mut bytes).map_err(failed)?;
    match length {
        0 => Err(failed(Errno::ECONNRESET)),
        length => match bytes.get(..length).and_then(Record::from_bytes) {
            Some(record) => Err(failure(words, record).unwrap_or_else(|| failed(Errno::EBADMSG))),
            None => Ok(()),
        },
    }
}

fn wait_for(fd: BorrowedFd<'_>, what: impl Display) -> Result<()> {
    let mut set = [PollFd::new(fd, PollFlags::POLLIN)];
    loop {
        match poll(&mut set, PollTimeout::from(SETUP_DEADLINE_MS)) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::sys("wait for the process of", what, errno)),
            Ok(0) => {
                return Err(Error::new("wait for the process of")
                    .on(what)
                    .because(format!("nothing heard for {} s", SETUP_DEADLINE_MS / 1000))
                    .hint("the machine is overloaded, or a filesystem does not answer"));
            }
            Ok(_) => return Ok(()),
        }
    }
}
