//! From a plan to a running init: what launch and exec have in common around `clone3`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use init::protocol::{Role, Spec};
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::child::{self, Child};
use crate::error::{Error, Result};
use crate::plan::{Plan, Process};
use crate::sealed;
use crate::stdio::Stdio;
use crate::step::{Side, Step};
use crate::sys::clone::{Clone, clone3};
use crate::sys::pidfd;
use crate::sys::process::Vector;

/// The process that was made, in the client. Killed and reaped when dropped before it has been waited for.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its number in the caller's PID namespace.
    pub(crate) pid: Pid,
    /// The handle.
    pub(crate) pidfd: OwnedFd,
    /// The client's end of the report socket.
    pub(crate) report: OwnedFd,
    reaped: bool,
}

impl Spawned {
    /// Reaps the process, which must have ended or be about to.
    pub(crate) fn wait(&mut self) -> Result<nix::sys::wait::WaitStatus> {
        loop {
            match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(Error::sys("wait for", format!("process {}", self.pid), errno)),
                Ok(status) => {
                    self.reaped = true;
                    return Ok(status);
                }
            }
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if !self.reaped {
            // It fails only if the process has ended, which is what is wanted.
            let _ = pidfd::send_signal(&self.pidfd, nix::libc::SIGKILL);
            let _ = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED);
        }
    }
}

/// What init is told, apart from the process.
#[derive(Debug, Default)]
pub(crate) struct Lifelines<'a> {
    /// Read end of the liveness pipe.
    pub(crate) liveness: Option<BorrowedFd<'a>>,
    /// Root of the container's procfs.
    pub(crate) procfs: Option<BorrowedFd<'a>>,
}

/// Makes the process with `clone3(namespaces)`; it takes the plan's child steps and executes init as `role`.
pub(crate) fn spawn(
    plan: Plan<'_>,
    role: Role,
    stdio: &Stdio,
    lifelines: &Lifelines<'_>,
    namespaces: CloneFlags,
    init: &OwnedFd,
) -> Result<Spawned> {
    let (client, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| Step::Clone.failure(plan, errno))?;
    let raw = |fd: Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
    let streams = stdio.workload();
    let drains = if role == Role::Attend { stdio.drains().map(|drain| drain.unwrap_or(-1)) } else { [-1, -1] };
    let process = plan.process();
    let spec = Spec {
        role,
        report: other.as_raw_fd(),
        streams,
        terminal: if stdio.terminal() { streams[0] } else { -1 },
        liveness: raw(lifelines.liveness),
        procfs: raw(lifelines.procfs),
        drains,
        uid: process.map_or(0, |process| process.uid),
        gid: process.map_or(0, |process| process.gid),
        umask: process.map_or(0o022, |process| process.umask),
        candidates: process.map_or(Ok(0), |process| u32::try_from(process.candidates.len())).unwrap_or(u32::MAX),
    };
    let line = encode(&spec, process)?;
    let arguments = arguments(&line, process);
    let environment =
        Vector::new(process.into_iter().flat_map(|process| process.environment.iter().map(CString::as_c_str)));
    let inherited = [spec.report, spec.liveness, spec.procfs, drains[0], drains[1]];
    let kept: Vec<RawFd> = inherited.into_iter().chain(streams).filter(|&fd| fd >= 0).collect();
    let steps: Vec<(u16, Step)> = (0u16..).zip(plan.steps()).filter(|(_, step)| step.side() == Side::Child).collect();

    match clone3(namespaces).map_err(|errno| Step::Clone.failure(plan, errno))? {
        Clone::Child => child::run(&Child {
            steps: &steps,
            report: other.as_fd(),
            init: init.as_fd(),
            arguments: &arguments,
            environment: &environment,
            kept: &kept,
        }),
        Clone::Parent { pid, pidfd } => Ok(Spawned { pid, pidfd, report: client, reaped: false }),
    }
}

fn encode(spec: &Spec, process: Option<&Process>) -> Result<CString> {
    let mut line = String::new();
    let groups = process.map_or(&[][..], |process| &process.groups);
    // Writing to a String cannot fail, and a line of numbers has no NUL byte.
    let encoded = spec.encode(groups, &mut line).is_ok();
    CString::new(line).ok().filter(|_| encoded).ok_or_else(|| Error::new("encode the specification for").on("init"))
}

/// `[name, SPEC, WORKDIR, CANDIDATE…, ARGUMENT…]`, see `init::protocol`.
fn arguments<'a>(line: &'a CStr, process: Option<&'a Process>) -> Vector<'a> {
    let own = [c"init", line];
    let of_process = process.into_iter().flat_map(|process| {
        let candidates = process.candidates.iter().chain(&process.arguments);
        std::iter::once(&process.workdir).chain(candidates).map(CString::as_c_str)
    });
    Vector::new(own.into_iter().chain(of_process))
}

/// The executable that [`spawn`] needs, made before any namespace is joined.
pub(crate) fn sealed_init() -> Result<OwnedFd> {
    sealed::init()
}
