//! From a plan to a running init: what launch and exec have in common around `clone3`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use init::protocol::{ALL_CAPABILITIES, Role, Spec};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

use crate::child::{self, Child};
use crate::ended::Ended;
use crate::error::{Error, Result, errno_of};
use crate::exec::Failure;
use crate::mounts::Parcel;
use crate::plan::{Capabilities, Label, Plan, Process, SecurityModule};
use crate::sealed;
use crate::shared_root::Root;
use crate::stdio::Stdio;
use crate::step::{Side, Step};
use crate::sys::clone::{
    Clone, Joined, Parent, Refused, clone_beside, clone_into, clone3, clone3_into_cgroup,
};
use crate::sys::pidfd;
use crate::sys::process::{self, Vector};

/// The descriptor behind the streams.
const FIRST_PRESERVED: RawFd = 3;

/// The process that was made, in the client. Killed, and reaped if it is a child, when dropped before it was waited for.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// The handle.
    pub(crate) pidfd: OwnedFd,
    /// The client's end of the report socket.
    pub(crate) report: OwnedFd,
    /// Its number in the caller's PID namespace; none if it belongs to the container's PID 1.
    pub(crate) child: Option<Pid>,
    /// Whether it was born in the cgroup that it was to be born in.
    pub(crate) in_cgroup: bool,
    reaped: bool,
}

impl Spawned {
    /// Reaps the process, which must have ended or be about to: how it ended, as far as that is ours to know.
    pub(crate) fn wait(&mut self) -> Result<Option<Ended>> {
        self.reaped = true;
        let Some(pid) = self.child else {
            return Ok(None);
        };
        pidfd::wait(&self.pidfd)
            .map(Some)
            .map_err(|errno| Error::sys("wait for", format!("process {pid}"), errno))
    }
}

impl Spawned {
    /// Lets go of a process that goes on without us.
    pub(crate) fn leave(mut self) {
        self.reaped = true;
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if !self.reaped {
            // It fails only if the process has ended, which is what is wanted.
            let _ = pidfd::send_signal(&self.pidfd, nix::libc::SIGKILL);
            let _ = self.wait();
        }
    }
}

/// Where the process is born.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Birth<'a> {
    /// In the plan's namespaces, made new for it, and in these; and, where there are none of others and no new time, in this
    /// cgroup of version 2.
    New {
        cgroup: Option<BorrowedFd<'a>>,
        joined: &'a [Joined],
    },
    /// In the plan's namespaces as this leader has them.
    Among {
        leader: BorrowedFd<'a>,
        parent: Parent,
    },
}

/// What init is told, apart from the process.
#[derive(Debug, Default)]
pub(crate) struct Lifelines<'a> {
    /// Read end of the liveness pipe.
    pub(crate) liveness: Option<BorrowedFd<'a>>,
    /// Root of the container's procfs.
    pub(crate) procfs: Option<BorrowedFd<'a>>,
    /// The container's root, where it has no mount namespace of its own.
    pub(crate) root: Option<Root<'a>>,
    /// Where a held command hears that it is to start, and where it answers.
    pub(crate) hold: Option<[BorrowedFd<'a>; 2]>,
}

/// Makes the process, in new namespaces where the plan asks for them; it takes the plan's child steps and executes init as `role`.
pub(crate) fn spawn(
    plan: Plan<'_>,
    role: Role,
    stdio: &Stdio,
    lifelines: &Lifelines<'_>,
    mounts: Option<&Parcel>,
    birth: Birth<'_>,
    init: &OwnedFd,
) -> Result<Spawned, Failure> {
    let (client, other) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(|errno| Step::Clone.failure(plan, errno))?;
    let workload = plan.process();
    // Only a command is filtered: it would be for nothing, or in the way, of what init itself does.
    let seccomp = plan.privileges().seccomp.as_ref();
    let filter_file = seccomp
        .filter(|_| workload.is_some())
        .map(|seccomp| sealed::data(c"seccomp", &seccomp.program))
        .transpose()?;
    let filter = filter_file.as_ref().map(AsFd::as_fd);
    let spec = specification(plan, role, stdio, lifelines, other.as_raw_fd(), filter);
    // It cannot be opened before there is a process that it is of, so its number is kept free.
    let label = plan.privileges().label.as_ref();
    let labels = label.map(|_| other.try_clone()).transpose();
    let labels = labels.map_err(|error| Step::Clone.failure(plan, errno_of(&error)))?;
    let spec = Spec {
        label: labels.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        ..spec
    };
    let line = encode(&spec, workload)?;
    let arguments = arguments(&line, workload, label);
    let environment = Vector::new(
        workload
            .into_iter()
            .flat_map(|workload| workload.environment.iter().map(CString::as_c_str)),
    );
    let inherited = [
        spec.report,
        spec.liveness,
        spec.procfs,
        spec.filter,
        spec.label,
        spec.drains[0],
        spec.drains[1],
        spec.hold[0],
        spec.hold[1],
    ];
    let kept: Vec<RawFd> = inherited
        .into_iter()
        .chain(spec.streams)
        .filter(|&fd| fd >= 0)
        .chain(plan.stdio().preserved.descriptors.iter().copied())
        .collect();
    let steps: Vec<(u16, Step)> = (0u16..)
        .zip(plan.steps())
        .filter(|(_, step)| step.side() == Side::Child)
        .collect();

    let child = Child {
        set_groups: plan.set_groups(),
        steps: &steps,
        launch: match plan {
            Plan::Launch(launch) => Some(launch),
            Plan::Exec(_) => None,
        },
        uid: spec.uid,
        process: workload,
        root: lifelines.root,
        mounts,
        client: client.as_raw_fd(),
        report: other.as_fd(),
        init: init.as_fd(),
        arguments: &arguments,
        environment: &environment,
        labels: spec.label,
        kept: &kept,
    };
    // The caller may have left descriptors open, directories of the host among them. What stays inside keeps none.
    process::close_all_on_exec().map_err(|errno| Step::Clone.failure(plan, errno))?;
    if !plan.keeps_keyring() {
        leave_keyring(plan)?;
    }
    let (child, pidfd, in_cgroup) = bear(plan, birth, &child)?;
    Ok(Spawned {
        pidfd,
        report: client,
        child,
        in_cgroup,
        reaped: false,
    })
}

/// What init is told: the plan in numbers, and the descriptors that it inherits.
fn specification(
    plan: Plan<'_>,
    role: Role,
    stdio: &Stdio,
    lifelines: &Lifelines<'_>,
    report: RawFd,
    filter: Option<BorrowedFd<'_>>,
) -> Spec {
    let raw = |fd: Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
    let streams = stdio.workload();
    let workload = plan.process();
    let privileges = plan.privileges();
    let flags = privileges.seccomp.as_ref().map(|seccomp| seccomp.flags);
    let hold = lifelines.hold;
    let preserved = plan.stdio().preserved.descriptors.last();
    Spec {
        role,
        report,
        streams,
        terminal: if stdio.terminal() { streams[0] } else { -1 },
        liveness: raw(lifelines.liveness),
        procfs: raw(lifelines.procfs),
        drains: match role {
            Role::Attend => stdio.drains().map(|drain| drain.unwrap_or(-1)),
            _ => [-1, -1],
        },
        hold: hold.map_or([-1, -1], |ends| ends.map(|fd| fd.as_raw_fd())),
        outlives: plan.outlives(),
        filter: raw(filter),
        filter_flags: filter.and(flags).unwrap_or(0),
        label: -1,
        capabilities: privileges
            .capabilities
            .map_or(ALL_CAPABILITIES, |Capabilities(set)| set),
        sets: privileges.sets.map(Into::into),
        no_new_privileges: privileges.no_new_privileges,
        set_groups: plan.set_groups(),
        uid: workload.map_or(0, |workload| workload.uid),
        gid: workload.map_or(0, |workload| workload.gid),
        umask: workload.map_or(0o022, |workload| workload.umask),
        preserved: preserved.map_or(0, |last| last.abs_diff(FIRST_PRESERVED) + 1),
        tells_pid: plan.stdio().preserved.tells_pid,
        candidates: workload
            .map_or(Ok(0), |workload| u32::try_from(workload.candidates.len()))
            .unwrap_or(u32::MAX),
    }
}

/// Done by the client and not inside, where the new keyring would count against the container's user: root in there could
/// use all up and get the caller's at the next exec. Where the caller itself has no more, running goes before.
fn leave_keyring(plan: Plan<'_>) -> Result<()> {
    let label = plan.privileges().label.as_ref();
    let label = label.filter(|label| label.module == SecurityModule::Selinux);
    // Otherwise it has the caller's label, and the container may not even search it.
    let label_keys = |text: &[u8]| {
        let written = match label {
            Some(_) => std::fs::write("/proc/thread-self/attr/keycreate", text),
            None => Ok(()),
        };
        written.map_err(|error| Step::LeaveKeyring.failure(plan, errno_of(&error)))
    };
    label_keys(label.map_or(&[], |label| label.text.as_bytes()))?;
    let left = process::leave_session_keyring();
    label_keys(b"\n")?;
    match left {
        Ok(()) | Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES | Errno::EDQUOT) => Ok(()),
        Err(errno) => Err(Step::LeaveKeyring.failure(plan, errno)),
    }
}

/// Forks the child: its number, if it is the client's, its pidfd, and whether it is in the cgroup that was asked for.
fn bear(
    plan: Plan<'_>,
    birth: Birth<'_>,
    child: &Child<'_>,
) -> Result<(Option<Pid>, OwnedFd, bool), Failure> {
    match birth {
        Birth::New { joined, .. } if !joined.is_empty() || plan.new_time().is_some() => {
            let run = || child::run(child);
            let forked = clone_beside(joined, plan.new_namespaces(), plan.new_time(), &run);
            let (pid, pidfd) = forked.map_err(|refused| refusal(plan, refused))?;
            Ok((Some(pid), pidfd, false))
        }
        Birth::New { cgroup, .. } => {
            let namespaces = plan.new_namespaces();
            let (born, inside) = match cgroup.map(|cgroup| clone3_into_cgroup(namespaces, cgroup)) {
                // A filter of the surroundings hides the call: the cgroup is entered later, by a write.
                None | Some(Err(Errno::ENOSYS)) => (clone3(namespaces), false),
                Some(born) => (born, true),
            };
            match born {
                Ok(Clone::Child) => child::run(child),
                Ok(Clone::Parent { pid, pidfd }) => Ok((Some(pid), pidfd, inside)),
                Err(errno) => Err(Step::Clone.failure(plan, errno).into()),
            }
        }
        Birth::Among { leader, parent } => {
            let namespaces = plan.namespaces().flags();
            let born = clone_into(leader, namespaces, parent, &|| child::run(child));
            let born = born.map(|(pid, pidfd)| (pid, pidfd, false));
            born.map_err(|refused| refusal(plan, refused))
        }
    }
}

fn refusal(plan: Plan<'_>, refused: Refused) -> Failure {
    let (step, errno) = match refused {
        Refused::Join(errno) => (Step::JoinNamespaces, errno),
        Refused::JoinOne(index, errno) => (Step::JoinNamespace(index), errno),
        Refused::Time(errno) => (Step::MakeTime, errno),
        Refused::Fork(errno) => (Step::Clone, errno),
    };
    Failure::of(plan, step, errno)
}

fn encode(spec: &Spec, process: Option<&Process>) -> Result<CString> {
    let mut line = String::new();
    let groups = process.map_or(&[][..], |process| &process.groups);
    // Writing to a String cannot fail, and a line of numbers has no NUL byte.
    let encoded = spec.encode(groups, &mut line).is_ok();
    CString::new(line)
        .ok()
        .filter(|_| encoded)
        .ok_or_else(|| Error::new("encode the specification for").on("init"))
}

/// `[name, SPEC, WORKDIR, LABEL?, CANDIDATE…, ARGUMENT…]`, see `init::protocol`.
fn arguments<'a>(
    line: &'a CStr,
    process: Option<&'a Process>,
    label: Option<&'a Label>,
) -> Vector<'a> {
    let own = [c"init", line];
    let of_process = process.into_iter().flat_map(|process| {
        let candidates = process.candidates.iter().chain(&process.arguments);
        std::iter::once(&process.workdir)
            .chain(label.map(|label| &label.text))
            .chain(candidates)
            .map(CString::as_c_str)
    });
    Vector::new(own.into_iter().chain(of_process))
}

/// The executable that [`spawn`] needs, made before any namespace is joined.
pub(crate) fn sealed_init() -> Result<OwnedFd> {
    sealed::init()
}
