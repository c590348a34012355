//! Applies an exec plan: joins the leader's namespaces and runs a command there, with init's attendant in between.

use std::os::fd::{AsFd, OwnedFd};

use init::protocol::Role;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signalfd::SignalFd;
use nix::unistd::pipe2;

use crate::ended::Ended;
use crate::error::{Error, Result};
use crate::plan::{Exec, IdMaps, Plan};
use crate::spawn::{self, Birth, Lifelines};
use crate::stdio;
use crate::step::Step;
use crate::supervise::{Subject, Watch};
use crate::sys::clone::Parent;
use crate::sys::process;

/// The running container that a command is to join.
#[derive(Debug)]
pub struct Leader {
    /// PID 1 of the container.
    pub pidfd: OwnedFd,
    /// The root of its procfs, in the host's view.
    pub procfs: OwnedFd,
    /// The maps of its user namespace in the caller's terms; none where that is the caller's own, or it has just ended.
    pub id_maps: Option<IdMaps>,
    /// Whether PID 1 is our init, which reaps whatever becomes its child.
    pub reaps: bool,
}

/// Why a command was not run, or how it failed.
#[derive(Debug)]
pub enum Failure {
    /// The container ended before the command was in it; the caller may look for another.
    Gone(Error),
    /// EPERM for joining the leader. For a caller who has every right over the container's user namespace, but none over
    /// the machine, this passes: between clone3 and init PID 1 is hidden, and its memory still belongs to the namespace
    /// that launch was executed in.
    Hidden(Error),
    /// Everything else.
    Failed(Error),
}

impl Failure {
    /// The failure of a step, judged by what an ending container answers: the leader is gone (ESRCH), its procfs has
    /// just been taken away (EINVAL, ENOENT), its PID namespace takes no more processes (ENOMEM, EAGAIN). The last is
    /// also what the lack of memory or of processes looks like, and worth another attempt as well.
    pub(crate) fn of(words: Plan<'_>, step: Step, errno: Errno) -> Self {
        let error = step.failure(words, errno);
        match (step, errno) {
            (_, Errno::ESRCH)
            | (Step::DetachProc, Errno::EINVAL | Errno::ENOENT)
            | (Step::Clone, Errno::ENOMEM | Errno::EAGAIN) => {
                Self::Gone(error.or_hint("the container has just ended"))
            }
            (Step::JoinNamespaces, Errno::EPERM) => Self::Hidden(error),
            _ => Self::Failed(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Gone(error) | Failure::Hidden(error) | Failure::Failed(error) => error,
        }
    }
}

/// Runs the command and stays until it has ended: how it ended.
///
/// The calling process stays where it is; only the child joins the container's namespaces.
///
/// # Errors
/// The step that failed, with its object and a hint; 126 or 127 where the command cannot be executed.
pub fn exec(plan: &Exec, leader: Leader, signals: &SignalFd) -> Result<Ended, Failure> {
    let words = Plan::Exec(plan);
    let init = spawn::sealed_init()?;
    let owner =
        owner(plan, &leader).map_err(|errno| Failure::of(words, Step::DetachProc, errno))?;
    let stdio = stdio::open(&plan.stdio, owner)?;
    let (heard, liveness) = pipe2(OFlag::O_CLOEXEC)
        .map_err(|errno| Error::sys("make a pipe for", plan.rootfs.display(), errno))?;

    let procfs = crate::procfs::detached(&leader.procfs)
        .map_err(|errno| Failure::of(words, Step::DetachProc, errno))?;
    drop(leader.procfs);

    // From the fork on the child is seen inside; it and what it holds must be out of reach for the container's root.
    process::hide_from_tracers().map_err(|errno| Step::HideFromTracers.failure(words, errno))?;
    let lifelines = Lifelines {
        liveness: Some(heard.as_fd()),
        procfs: Some(procfs.as_fd()),
        ..Lifelines::default()
    };
    // If we are killed, somebody has to reap the attendant, and until that is done the kernel does not let the
    // container's PID namespace end (zap_pid_ns_processes). The reaper of our own surroundings may take its time; our
    // init does not. A PID 1 of the user's may not reap at all, and is not to be bothered with every exec.
    let parent = if leader.reaps {
        Parent::Pid1
    } else {
        Parent::Caller
    };
    let birth = Birth::Among {
        leader: leader.pidfd.as_fd(),
        parent,
    };
    let spawned = spawn::spawn(words, Role::Attend, &stdio, &lifelines, None, birth, &init)?;
    drop(heard);
    let relay = stdio.into_relay()?;
    let ended = Watch {
        plan: words,
        spawned,
        relay,
        signals,
        subject: Subject::Init,
        liveness: Some(liveness),
    }
    .run()?;
    Ok(ended)
}

/// Whom the command's streams are made for, as the client sees its ids. Ids that are not mapped fail in init, which
/// names them.
fn owner(plan: &Exec, leader: &Leader) -> Result<(u32, u32), Errno> {
    let (uid, gid) = (plan.process.uid, plan.process.gid);
    match &leader.id_maps {
        Some(maps) => Ok(maps.outside(uid, gid).unwrap_or_default()),
        None if plan.namespaces.has_user() => Err(Errno::ESRCH),
        None => Ok((uid, gid)),
    }
}
