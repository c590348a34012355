//! The steps of a plan: what each one is, and the words for one that failed.
//!
//! A process that has been cloned cannot speak: it reports the index of the step and an errno, and the parent, which
//! still has the plan, finds the words here.

use std::borrow::Cow;
use std::ffi::CStr;

use init::protocol::Step as InitStep;
use nix::errno::Errno;

use crate::error::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Error};
use crate::mounts::Mount;
use crate::plan::{Capabilities, Exec, IdRange, Launch, Plan, Privileges, Process, Program};
use crate::surroundings;

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
    /// The process that forks the child joins the leader's namespaces.
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
    /// A detached copy of the host's null device, to cover files with.
    TakeNull,
    /// Detached copies of the host's harmless device nodes.
    TakeNodes,
    /// A copy of ROOTFS's mounts on ROOTFS: one that the new mount namespace owns and may pivot to.
    OwnRootfs,
    /// ROOTFS becomes `/`, and the host's tree is gone.
    PivotRoot,
    /// The host's resolv.conf replaces the image's.
    WriteResolvConf,
    /// The mount with this index is attached.
    Mount(usize),
    /// The procfs is attached inside, where it can be covered, and a copy of it is for the client.
    ShowProc,
    /// The masked path with this index is covered.
    Mask(usize),
    /// The read-only path with this index is made so.
    ProtectPath(usize),
    /// The image's device nodes stop working; the harmless ones are the host's from now on.
    CloseDevices,
    /// The root filesystem is made read-only.
    ProtectRoot,
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

const LAST_STEPS: [InitStep; 13] = [
    InitStep::Session,
    InitStep::ControllingTerminal,
    InitStep::Streams,
    InitStep::Descriptors,
    InitStep::Groups,
    InitStep::Gid,
    InitStep::Workdir,
    InitStep::Filter,
    InitStep::Uid,
    InitStep::Capabilities,
    InitStep::ParentDeath,
    InitStep::Signals,
    InitStep::Execute,
];

impl Step {
    pub(crate) fn of_launch(plan: &Launch) -> Vec<Self> {
        let words = Plan::Launch(plan);
        let mut steps = vec![Self::ClearProc];
        steps.extend(plan.bind_rootfs.then_some(Self::BindRootfs));
        steps.extend([Self::ShareRootfs, Self::Clone]);
        steps.extend(plan.namespaces.has_user().then_some(Self::WriteIdMap));
        steps.extend(Self::of_child(words));
        steps.extend(Self::renounced(words));
        match &plan.program {
            Program::Idle => {
                steps.extend(
                    [InitStep::Streams, InitStep::Session, InitStep::Descriptors].map(Self::Init),
                );
            }
            Program::Command(_) => steps.extend(Self::last_steps(words)),
            Program::Init(_) => {
                steps.push(Self::Init(InitStep::Fork));
                steps.extend(Self::last_steps(words));
            }
        }
        steps
    }

    pub(crate) fn of_exec(plan: &Exec) -> Vec<Self> {
        let words = Plan::Exec(plan);
        let mut steps = vec![
            Self::DetachProc,
            Self::HideFromTracers,
            Self::JoinNamespaces,
            Self::Clone,
        ];
        steps.extend(Self::of_child(words));
        steps.extend(Self::renounced(words));
        steps.extend([InitStep::Attend, InitStep::Fork].map(Self::Init));
        steps.extend(Self::last_steps(words));
        steps
    }

    /// What the cloned process does before it executes init.
    fn of_child(plan: Plan<'_>) -> Vec<Self> {
        let own_ids = plan.namespaces().has_user();
        let Plan::Launch(launch) = plan else {
            return [Self::BecomeRoot, Self::ExecuteInit].to_vec();
        };
        let views = &launch.views;
        let cover = views.cover();
        // The kernel forgets the wish to die with the parent when ids change (prctl(2)), so that comes after them;
        // before, the end of the socket tells of the client's death.
        let mut steps = Vec::new();
        steps.extend(own_ids.then_some(Self::AwaitIdMap));
        steps.extend([
            Self::BecomeRoot,
            Self::DieWithClient,
            Self::HideChild,
            Self::SlaveMounts,
            Self::MakeProc,
        ]);
        steps.extend((!views.masked.is_empty()).then_some(Self::TakeNull));
        steps.extend(views.closed_devices.then_some(Self::TakeNodes));
        steps.extend([Self::OwnRootfs, Self::PivotRoot]);
        steps.extend(launch.resolv_conf.as_ref().map(|_| Self::WriteResolvConf));
        steps.extend((0..launch.mounts.len()).map(Self::Mount));
        steps.extend(cover.then_some(Self::ShowProc));
        steps.extend((0..views.masked.len()).map(Self::Mask));
        steps.extend((0..views.readonly.len()).map(Self::ProtectPath));
        steps.extend(views.closed_devices.then_some(Self::CloseDevices));
        steps.extend(views.readonly_root.then_some(Self::ProtectRoot));
        steps.extend([Self::SendProc, Self::AwaitProc, Self::ExecuteInit]);
        steps
    }

    /// What init gives up for itself and the command.
    fn renounced(plan: Plan<'_>) -> impl Iterator<Item = Self> {
        let privileges = plan.privileges();
        let bounding = privileges.capabilities.map(|_| InitStep::Bounding);
        let no_new = privileges
            .no_new_privileges
            .then_some(InitStep::NoNewPrivileges);
        bounding.into_iter().chain(no_new).map(Self::Init)
    }

    fn last_steps(plan: Plan<'_>) -> Vec<Self> {
        let terminal = plan.stdio().terminal.is_some();
        let privileges = plan.privileges();
        let filter = privileges.seccomp.is_some();
        let late = filter && privileges.no_new_privileges;
        let mut steps = Vec::new();
        for step in LAST_STEPS {
            let taken = match step {
                InitStep::ControllingTerminal => terminal,
                InitStep::Filter => filter && !late,
                _ => true,
            };
            if step == InitStep::Execute && late {
                steps.push(Self::Init(InitStep::Filter));
            }
            steps.extend(taken.then_some(Self::Init(step)));
        }
        steps
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
            Self::BecomeRoot => {
                let groups = if plan.set_groups() {
                    "setgroups([]), "
                } else {
                    ""
                };
                format!("{groups}setresgid(0, 0, 0), setresuid(0, 0, 0)")
            }
            Self::SlaveMounts => "mount_setattr(/, AT_RECURSIVE, MS_SLAVE)".to_owned(),
            Self::MakeProc => "fsmount(fsopen(proc), nosuid,nodev,noexec)".to_owned(),
            Self::TakeNull => "open_tree(/dev/null, OPEN_TREE_CLONE), ro".to_owned(),
            Self::TakeNodes => "open_tree(/dev/NODE, OPEN_TREE_CLONE), ro".to_owned(),
            Self::CloseDevices => "move_mount(NODE, /dev/NODE), mount_setattr(/, nodev)".to_owned(),
            Self::WriteResolvConf => "rename(/etc/.resolv.conf.new, /etc/resolv.conf)".to_owned(),
            Self::Mount(index) => mount(plan, index).map(Mount::text).unwrap_or_default(),
            Self::ShowProc => {
                "move_mount(procfs, /proc), open_tree(/proc, OPEN_TREE_CLONE), ro".to_owned()
            }
            Self::Mask(_) => {
                let path = path_of(plan, self);
                format!("move_mount(null or empty directory, {path})")
            }
            Self::ProtectPath(_) => {
                let path = path_of(plan, self);
                format!("move_mount(open_tree({path}, OPEN_TREE_CLONE|AT_RECURSIVE), {path}), ro")
            }
            Self::ProtectRoot => "mount_setattr(/, ro)".to_owned(),
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
            (Self::Mount(index), _) if let Some(mount) = mount(plan, index) => mount.failure(errno),
            (Self::Mask(_), _) => Error::sys("mask", path_of(plan, self), errno),
            (Self::ProtectPath(_), _) => Error::sys("make read-only", path_of(plan, self), errno),
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
            Self::WriteResolvConf => "write resolv.conf in",
            Self::Mount(_) => "mount in",
            Self::TakeNull => "take the null device over into",
            Self::TakeNodes | Self::CloseDevices => "close the devices of",
            Self::ShowProc | Self::Mask(_) | Self::ProtectPath(_) => "restrict the view of",
            Self::ProtectRoot => "make read-only",
            Self::DieWithClient | Self::ExecuteInit => "start init in",
            Self::Init(_) => "prepare the command in",
        }
    }

    fn hint(self, errno: Errno) -> Option<Cow<'static, str>> {
        let text = match (self, errno) {
            (_, Errno::EMFILE) => "too many open files: raise the limit (ulimit -n)",
            (_, Errno::ENOMEM) => "out of memory",
            (
                Self::Clone | Self::JoinNamespaces | Self::DetachProc | Self::PivotRoot,
                Errno::EPERM | Errno::ENOSYS,
            ) => return Some(surroundings::namespaces_hint().into()),
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
                let hint = surroundings::proc_hint();
                return Some(format!("{hint}; or launch with --userns=identity").into());
            }
            (Self::WriteResolvConf, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                "the root filesystem needs a real directory named etc"
            }
            (Self::WriteResolvConf, Errno::EISDIR | Errno::EBUSY) => {
                "etc/resolv.conf is a directory or a mount point, which is not replaced"
            }
            (Self::TakeNull, _) => "/dev/null of the host must be the null device (1:3)",
            (Self::Init(InitStep::Filter), Errno::EACCES | Errno::EPERM) => {
                "a seccomp filter takes CAP_SYS_ADMIN, or --no-new-privileges"
            }
            (Self::Init(InitStep::Bounding), Errno::EPERM) => {
                "dropping capabilities takes CAP_SETPCAP; the surrounding container may withhold it: --profile=outer"
            }
            (Self::PivotRoot, Errno::EINVAL) => {
                "the caller's root must not be the initramfs: pivot_root(2) refuses it"
            }
            (Self::AwaitProc, Errno::ESTALE) => {
                "somebody has replaced the proc directory of the root filesystem meanwhile; try again"
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

fn mount(plan: Plan<'_>, index: usize) -> Option<&Mount> {
    match plan {
        Plan::Launch(launch) => launch.mounts.get(index),
        Plan::Exec(_) => None,
    }
}

/// The path that covering or protecting it is about.
fn path_of(plan: Plan<'_>, step: Step) -> Cow<'_, str> {
    match plan {
        Plan::Launch(launch) => launch.views.path(step),
        Plan::Exec(_) => None,
    }
    .map(CStr::to_string_lossy)
    .unwrap_or_default()
}

fn first(plan: Plan<'_>) -> Cow<'_, str> {
    plan.process()
        .and_then(|process| process.arguments.first())
        .map(|name| name.to_string_lossy())
        .unwrap_or_default()
}

fn init_text(step: InitStep, plan: Plan<'_>) -> String {
    let privileges = plan.privileges();
    match (step, plan.process()) {
        (InitStep::Bounding, _) => {
            format!("prctl(PR_CAPBSET_DROP) of all but {}", kept(privileges))
        }
        (InitStep::NoNewPrivileges, _) => "prctl(PR_SET_NO_NEW_PRIVS, 1)".to_owned(),
        (InitStep::Attend, _) => {
            "prctl(PR_SET_DUMPABLE, 0), prctl(PR_SET_CHILD_SUBREAPER, 1)".to_owned()
        }
        (InitStep::Fork, _) => "fork()".to_owned(),
        (InitStep::Session, _) => "setsid()".to_owned(),
        (InitStep::ControllingTerminal, _) => "ioctl(TIOCSCTTY)".to_owned(),
        (InitStep::Streams, _) => "dup3(streams, 0..2)".to_owned(),
        (InitStep::Descriptors, _) => "close_range(3, CLOSE_RANGE_CLOEXEC)".to_owned(),
        (InitStep::Groups, Some(process)) if !plan.set_groups() => {
            format!("umask({:03o}); setgroups is forbidden here", process.umask)
        }
        (InitStep::Groups, Some(process)) => format!(
            "umask({:03o}), setgroups({:?})",
            process.umask, process.groups
        ),
        (InitStep::Gid, Some(process)) => format!("setresgid({})", process.gid),
        (InitStep::Workdir, Some(process)) => {
            format!("chdir({:?})", process.workdir.to_string_lossy())
        }
        (InitStep::Filter, _) => {
            format!("seccomp(SECCOMP_SET_MODE_FILTER, {:?})", privileges.seccomp)
        }
        (InitStep::Uid, Some(process)) => format!("setresuid({})", process.uid),
        (InitStep::Capabilities, _) => format!(
            "capset(inheritable = {{}}, permitted and effective within {})",
            kept(privileges)
        ),
        (InitStep::ParentDeath, _) => "prctl(PR_SET_PDEATHSIG, SIGKILL)".to_owned(),
        (InitStep::Signals, _) => "sigaction(SIG_DFL), sigprocmask({})".to_owned(),
        (InitStep::Execute, Some(process)) => {
            let candidates: Vec<String> = process
                .candidates
                .iter()
                .map(|candidate| format!("{:?}", candidate.to_string_lossy()))
                .collect();
            format!("execve({})", candidates.join(" or "))
        }
        // Only a command has ids, a directory and a program.
        (_, None) => format!("{step:?}").to_lowercase(),
    }
}

/// The capabilities that are left, as the kernel prints them.
fn kept(privileges: &Privileges) -> String {
    match privileges.capabilities {
        Some(Capabilities(set)) => format!("{set:016x}"),
        None => "all".to_owned(),
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
