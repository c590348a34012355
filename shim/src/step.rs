//! The steps of a plan: what each one is, and the words for one that failed.
//!
//! A process that has been cloned cannot speak: it reports the index of the step and an errno, and the parent, which
//! still has the plan, finds the words here.

use std::borrow::Cow;
use std::fmt::Write as _;

use init::protocol::Step as InitStep;
use nix::errno::Errno;

use crate::error::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Error};
use crate::plan::{Exec, IdRange, Launch, Plan, Process, Program};

/// Which process takes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client, in the caller's namespaces.
    Host,
    /// The cloned process, before it executes init.
    Child,
    /// init, inside the container.
    Init,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A procfs that a killed launch left on ROOTFS/proc goes.
    ClearProc,
    /// ROOTFS becomes a mount point.
    BindRootfs,
    /// ROOTFS becomes the head of a peer group, so that mounts made later reach the container.
    ShareRootfs,
    /// A procfs of the container that is attached nowhere, for the attendant.
    DetachProc,
    /// The client becomes untraceable: what it forks is seen inside.
    HideFromTracers,
    /// The client joins the leader's namespaces.
    JoinNamespaces,
    /// The child is made.
    Clone,
    /// The user namespace gets its map.
    WriteIdMap,
    /// The child gets SIGKILL when the client dies.
    DieWithClient,
    /// The child waits until its ids are mapped.
    AwaitIdMap,
    /// The child becomes root of its user namespace and loses the caller's groups.
    BecomeRoot,
    /// The child becomes untraceable: others may join before it has executed init.
    HideChild,
    /// Mount events arrive from the host and none go there.
    SlaveMounts,
    /// A procfs of the new PID namespace, detached.
    MakeProc,
    /// A copy of ROOTFS's mounts on ROOTFS: one that the new mount namespace owns and may pivot to.
    OwnRootfs,
    /// ROOTFS becomes `/`, and the host's tree is gone.
    PivotRoot,
    /// The procfs goes to the client.
    SendProc,
    /// The client attaches it at ROOTFS/proc: the sign of readiness.
    AttachProc,
    /// The child waits until that is done.
    AwaitProc,
    /// The sealed init replaces the child.
    ExecuteInit,
    /// A step of init.
    Init(InitStep),
}

const LAST_STEPS: [InitStep; 12] = [
    InitStep::Session,
    InitStep::ControllingTerminal,
    InitStep::Streams,
    InitStep::Descriptors,
    InitStep::Groups,
    InitStep::Gid,
    InitStep::Workdir,
    InitStep::Uid,
    InitStep::Capabilities,
    InitStep::ParentDeath,
    InitStep::Signals,
    InitStep::Execute,
];

impl Step {
    pub(crate) fn of_launch(plan: &Launch) -> Vec<Self> {
        let user = plan.namespaces.has_user();
        let mut steps = vec![Self::ClearProc];
        steps.extend(plan.bind_rootfs.then_some(Self::BindRootfs));
        steps.extend([Self::ShareRootfs, Self::Clone]);
        steps.extend(user.then_some(Self::WriteIdMap));
        steps.extend(
            CHILD_OF_LAUNCH
                .into_iter()
                .filter(|&step| user || !step.needs_user_namespace()),
        );
        match &plan.program {
            Program::Idle => {
                steps.extend(
                    [InitStep::Streams, InitStep::Session, InitStep::Descriptors].map(Self::Init),
                );
            }
            Program::Command(_) => steps.extend(Self::last_steps(Plan::Launch(plan))),
            Program::Init(_) => {
                steps.push(Self::Init(InitStep::Fork));
                steps.extend(Self::last_steps(Plan::Launch(plan)));
            }
        }
        steps
    }

    pub(crate) fn of_exec(plan: &Exec) -> Vec<Self> {
        let user = plan.namespaces.has_user();
        let mut steps = vec![
            Self::DetachProc,
            Self::HideFromTracers,
            Self::JoinNamespaces,
            Self::Clone,
        ];
        steps.extend(
            CHILD_OF_EXEC
                .into_iter()
                .filter(|&step| user || !step.needs_user_namespace()),
        );
        steps.extend([InitStep::Attend, InitStep::Fork].map(Self::Init));
        steps.extend(Self::last_steps(Plan::Exec(plan)));
        steps
    }

    fn last_steps(plan: Plan<'_>) -> impl Iterator<Item = Self> {
        let terminal = plan.stdio().terminal.is_some();
        LAST_STEPS
            .into_iter()
            .filter(move |&step| terminal || step != InitStep::ControllingTerminal)
            .map(Self::Init)
    }

    /// Whether the step exists only where a user namespace is created or joined.
    #[must_use]
    pub fn needs_user_namespace(self) -> bool {
        matches!(self, Self::AwaitIdMap | Self::WriteIdMap)
    }

    /// Which process takes it.
    #[must_use]
    pub fn side(self) -> Side {
        match self {
            Self::ClearProc
            | Self::BindRootfs
            | Self::ShareRootfs
            | Self::DetachProc
            | Self::HideFromTracers
            | Self::JoinNamespaces
            | Self::Clone
            | Self::WriteIdMap
            | Self::AttachProc => Side::Host,
            Self::Init(_) => Side::Init,
            _ => Side::Child,
        }
    }

    /// The system call with its arguments, for `--dry-run`.
    #[must_use]
    pub fn text(self, plan: Plan<'_>) -> String {
        match self {
            Self::ClearProc => {
                "umount2(ROOTFS/proc, MNT_DETACH) while a stale procfs is there".to_owned()
            }
            Self::BindRootfs => {
                "move_mount(open_tree(ROOTFS, OPEN_TREE_CLONE|AT_RECURSIVE), ROOTFS)".to_owned()
            }
            Self::ShareRootfs => "mount_setattr(ROOTFS, MS_SHARED)".to_owned(),
            Self::DetachProc => "open_tree(ROOTFS/proc, OPEN_TREE_CLONE)".to_owned(),
            Self::HideFromTracers | Self::HideChild => "prctl(PR_SET_DUMPABLE, 0)".to_owned(),
            Self::JoinNamespaces => format!("setns(leader, {})", names(plan)),
            Self::Clone => match plan {
                Plan::Launch(_) => format!("clone3({})", names(plan)),
                Plan::Exec(_) => "clone3()".to_owned(),
            },
            Self::WriteIdMap => id_maps(plan),
            Self::DieWithClient => "prctl(PR_SET_PDEATHSIG, SIGKILL)".to_owned(),
            Self::AwaitIdMap => "recv(host): ids are mapped".to_owned(),
            Self::BecomeRoot => "setgroups([]), setresgid(0, 0, 0), setresuid(0, 0, 0)".to_owned(),
            Self::SlaveMounts => "mount_setattr(/, AT_RECURSIVE, MS_SLAVE)".to_owned(),
            Self::MakeProc => "fsmount(fsopen(proc), nosuid,nodev,noexec)".to_owned(),
            Self::OwnRootfs => {
                "fchdir(move_mount(open_tree(., OPEN_TREE_CLONE|AT_RECURSIVE), .))".to_owned()
            }
            Self::PivotRoot => "pivot_root(., .), umount2(., MNT_DETACH), chdir(/)".to_owned(),
            Self::SendProc => "send(host, procfs)".to_owned(),
            Self::AttachProc => {
                "move_mount(procfs, ROOTFS/proc) in the caller's mount namespace".to_owned()
            }
            Self::AwaitProc => "recv(host): procfs is attached".to_owned(),
            Self::ExecuteInit => "execveat(init, sealed memfd)".to_owned(),
            Self::Init(step) => init_text(step, plan),
        }
    }

    /// The words for this step having failed.
    #[must_use]
    pub fn failure(self, plan: Plan<'_>, errno: Errno) -> Error {
        let steps = plan.steps();
        let error = match (self, plan.process()) {
            (Self::Init(InitStep::Execute), Some(process)) => cannot_execute(process, errno),
            (Self::Init(InitStep::Workdir), Some(process)) => {
                Error::sys("change directory to", process.workdir.to_string_lossy(), errno)
                    .hint("the working directory must exist inside the root filesystem; see --workdir")
            }
            (Self::ExecuteInit, Some(_)) if errno == Errno::E2BIG => Error::sys("start the command", first(plan), errno)
                .hint("one argument or environment variable may have 128 KiB, all together a quarter of the stack limit"),
            _ => Error::sys(self.purpose(), plan.rootfs().display(), errno).flags(self.text(plan)),
        };
        // What a PID namespace that is ending answers to a fork (alloc_pid).
        let ending = matches!(errno, Errno::ENOMEM | Errno::EAGAIN);
        let error = if self == Self::Clone && matches!(plan, Plan::Exec(_)) && ending {
            error.hint("the container has just ended, or no memory or process is left for it")
        } else {
            error
        };
        let error = match self.hint(errno) {
            Some(hint) => error.or_hint(hint),
            None => error,
        };
        match steps.iter().position(|&step| step == self) {
            // A command that is not there is the user's affair and needs no step number.
            Some(index) if error.exit_status() == crate::error::EXIT_OWN => {
                error.at_step(index + 1, steps.len())
            }
            _ => error,
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::ClearProc => "clear the proc directory of",
            Self::BindRootfs => "bind onto itself",
            Self::ShareRootfs => "share the mount of",
            Self::DetachProc | Self::HideFromTracers | Self::JoinNamespaces => {
                "join the container of"
            }
            Self::Clone => "create a process for",
            Self::WriteIdMap | Self::AwaitIdMap => "map the ids for",
            Self::BecomeRoot | Self::HideChild => "become root in",
            Self::SlaveMounts | Self::OwnRootfs => "take the mounts over into",
            Self::MakeProc | Self::SendProc => "make a procfs for",
            Self::AttachProc | Self::AwaitProc => "attach the procfs below",
            Self::PivotRoot => "change the root directory to",
            Self::DieWithClient | Self::ExecuteInit => "start init in",
            Self::Init(_) => "prepare the command in",
        }
    }

    fn hint(self, errno: Errno) -> Option<Cow<'static, str>> {
        let text = match (self, errno) {
            (_, Errno::EMFILE) => "too many open files: raise the limit (ulimit -n)",
            (_, Errno::ENOMEM) => "out of memory",
            (Self::Clone | Self::JoinNamespaces | Self::DetachProc, Errno::EPERM) => {
                "this needs root (CAP_SYS_ADMIN); inside another container its seccomp filter may forbid namespaces"
            }
            (Self::JoinNamespaces, Errno::EINVAL) => {
                "what the record names as the leader shares namespaces with the caller; see --state"
            }
            (Self::Clone, Errno::ENOSPC | Errno::EUSERS) => {
                "a namespace limit is reached: see /proc/sys/user/max_*_namespaces"
            }
            (Self::Clone, Errno::EAGAIN) => {
                "a process limit is reached: see ulimit -u and the pids cgroup"
            }
            (Self::BindRootfs | Self::AttachProc, Errno::ENOSPC) => {
                "the mount table is full: raise /proc/sys/fs/mount-max or unmount what is no longer used"
            }
            (Self::BindRootfs | Self::ShareRootfs | Self::ClearProc, Errno::EPERM) => {
                "this needs root (CAP_SYS_ADMIN)"
            }
            (Self::MakeProc, Errno::EPERM) => {
                "the surrounding container masks parts of /proc, and the kernel does not let it be uncovered; unmask it there"
            }
            (Self::PivotRoot, Errno::EINVAL) => {
                "the caller's root must not be the initramfs: pivot_root(2) refuses it"
            }
            (Self::AttachProc, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                "the root filesystem needs a real directory named proc"
            }
            (
                Self::Init(InitStep::Uid | InitStep::Gid | InitStep::Groups),
                Errno::EINVAL | Errno::EPERM,
            ) => "the id is not mapped in the container's user namespace",
            _ => return None,
        };
        Some(Cow::Borrowed(text))
    }
}

/// What the cloned process of a launch does.
///
/// The kernel forgets the wish to die with the parent when ids change (prctl(2)), so that comes after them; before,
/// the end of the socket tells of the client's death.
pub(crate) const CHILD_OF_LAUNCH: [Step; 11] = [
    Step::AwaitIdMap,
    Step::BecomeRoot,
    Step::DieWithClient,
    Step::HideChild,
    Step::SlaveMounts,
    Step::MakeProc,
    Step::OwnRootfs,
    Step::PivotRoot,
    Step::SendProc,
    Step::AwaitProc,
    Step::ExecuteInit,
];

/// What the cloned process of an exec does.
pub(crate) const CHILD_OF_EXEC: [Step; 2] = [Step::BecomeRoot, Step::ExecuteInit];

fn names(plan: Plan<'_>) -> String {
    plan.namespaces().names().collect::<Vec<_>>().join("|")
}

fn id_maps(plan: Plan<'_>) -> String {
    let Plan::Launch(Launch {
        id_maps: Some(maps),
        ..
    }) = plan
    else {
        return String::new();
    };
    let list = |map: &[IdRange]| {
        map.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    format!(
        "write(/proc/CHILD/uid_map, {}), write(/proc/CHILD/gid_map, {})",
        list(&maps.users),
        list(&maps.groups)
    )
}

fn first(plan: Plan<'_>) -> Cow<'_, str> {
    plan.process()
        .and_then(|process| process.arguments.first())
        .map(|name| name.to_string_lossy())
        .unwrap_or_default()
}

fn init_text(step: InitStep, plan: Plan<'_>) -> String {
    let Some(process) = plan.process() else {
        return format!("{step:?}").to_lowercase();
    };
    match step {
        InitStep::Attend => {
            "prctl(PR_SET_DUMPABLE, 0), prctl(PR_SET_CHILD_SUBREAPER, 1)".to_owned()
        }
        InitStep::Fork => "fork()".to_owned(),
        InitStep::Session => "setsid()".to_owned(),
        InitStep::ControllingTerminal => "ioctl(TIOCSCTTY)".to_owned(),
        InitStep::Streams => "dup3(streams, 0..2)".to_owned(),
        InitStep::Descriptors => "close_range(3, CLOSE_RANGE_CLOEXEC)".to_owned(),
        InitStep::Groups => format!(
            "umask({:03o}), setgroups({:?})",
            process.umask, process.groups
        ),
        InitStep::Gid => format!("setresgid({})", process.gid),
        InitStep::Workdir => format!("chdir({:?})", process.workdir.to_string_lossy()),
        InitStep::Uid => format!("setresuid({})", process.uid),
        InitStep::Capabilities => "capset(inheritable = {})".to_owned(),
        InitStep::ParentDeath => "prctl(PR_SET_PDEATHSIG, SIGKILL)".to_owned(),
        InitStep::Signals => "sigaction(SIG_DFL), sigprocmask({})".to_owned(),
        InitStep::Execute => {
            let mut text = String::from("execve(");
            for (index, candidate) in process.candidates.iter().enumerate() {
                let separator = if index == 0 { "" } else { " or " };
                // Writing to a String cannot fail.
                let _ = write!(text, "{separator}{:?}", candidate.to_string_lossy());
            }
            text.push(')');
            text
        }
    }
}

fn cannot_execute(process: &Process, errno: Errno) -> Error {
    let name = process
        .arguments
        .first()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let error = Error::sys("execute", &name, errno);
    match errno {
        Errno::ENOENT | Errno::ENOTDIR if name.contains('/') => error
            .hint("there is no such file inside, or the interpreter that it names is missing")
            .exit(EXIT_NOT_FOUND),
        Errno::ENOENT | Errno::ENOTDIR => error
            .hint("no directory of the command's PATH has it inside")
            .exit(EXIT_NOT_FOUND),
        Errno::EACCES => error
            .hint("the user may not execute it; check its mode")
            .exit(EXIT_NOT_EXECUTABLE),
        Errno::ENOEXEC => error
            .hint("it is built for another architecture, or a script without an interpreter line")
            .exit(EXIT_NOT_EXECUTABLE),
        _ => error.exit(EXIT_NOT_EXECUTABLE),
    }
}
