//! What a step does, as the system calls with their arguments: for `--dry-run`, and for the flags of an error.

use std::borrow::Cow;
use std::ffi::CStr;

use init::protocol::Step as InitStep;

use super::Step;
use crate::mounts::Mount;
use crate::plan::{
    Capabilities, IdRange, Joined, Launch, Limit, NetDevice, Node, Plan, Privileges, Process,
    Sysctl, System,
};

impl Step {
    /// The system call with its arguments, for `--dry-run`.
    #[must_use]
    pub fn text(self, plan: Plan<'_>) -> String {
        match self {
            Self::JoinNamespaces => format!("setns(leader, {})", names(plan)),
            Self::Clone => match plan {
                Plan::Launch(_) => format!("clone3({})", names(plan)),
                Plan::Exec(_) => "clone3()".to_owned(),
            },
            Self::WriteIdMap => id_maps(plan),
            Self::EnterCgroups => cgroups(plan),
            Self::JoinNamespace(index) => joined(plan, index).map_or_else(String::new, |one| {
                let kind: Vec<_> = one.kind.names().collect();
                format!("setns({}, {})", one.path.display(), kind.join("|"))
            }),
            Self::MakeTime => {
                let offsets = plan.new_time().unwrap_or_default().to_string_lossy();
                format!("unshare(time), write(/proc/self/timens_offsets, {offsets:?})")
            }
            Self::Propagate => propagation(plan),
            Self::BecomeRoot => {
                let groups = if plan.set_groups() {
                    "setgroups([]), "
                } else {
                    ""
                };
                format!("{groups}setresgid(0, 0, 0), setresuid(0, 0, 0)")
            }
            Self::SetHostName => {
                let name = system(plan, |of| of.host_name.as_deref());
                format!("sethostname({name:?})")
            }
            Self::SetDomainName => {
                let name = system(plan, |of| of.domain_name.as_deref());
                format!("setdomainname({name:?})")
            }
            Self::SetSysctl(index) => sysctl(plan, index).map_or_else(String::new, |one| {
                let path = one.path.to_string_lossy();
                format!("write(/proc/{path}, {:?})", one.value)
            }),
            Self::TakeDevice(index) => net_device(plan, index).map_or_else(String::new, |one| {
                let NetDevice { name, inside } = one;
                format!("netlink(RTM_NEWLINK, {name}, CHILD, {inside}), netlink(RTM_NEWADDR), up")
            }),
            Self::MakeNode(index) => {
                let node = node(plan, index);
                node.map_or_else(String::new, |node| format!("mknod({node})"))
            }
            Self::SetLimit(index) => {
                let limit = limit(plan, index);
                limit.map_or_else(String::new, |limit| format!("setrlimit({limit})"))
            }
            Self::SetPersonality => {
                let domain = plan.process().and_then(|process| process.personality);
                format!("personality({:#x})", domain.unwrap_or_default())
            }
            Self::SetMemoryPolicy => format!("set_mempolicy({})", memory_policy(plan)),
            Self::Mount(index) => mount(plan, index).map(Mount::text).unwrap_or_default(),
            Self::OpenConsole => {
                let uid = plan.process().map_or(0, |process| process.uid);
                format!(
                    "open(/dev/pts/ptmx), ioctl(TIOCGPTPEER), fchown(peer, {uid}), dup2(peer, 0..2), send(host, master)"
                )
            }
            Self::Mask(_) => {
                let path = path_of(plan, self);
                format!("move_mount(null or empty directory, {path})")
            }
            Self::ProtectPath(_) => {
                let path = path_of(plan, self);
                format!("move_mount(open_tree({path}, OPEN_TREE_CLONE|AT_RECURSIVE), {path}), ro")
            }
            Self::Init(step) => init_text(step, plan),
            step => step.fixed_text().to_owned(),
        }
    }

    /// That of the steps which are the same in every plan.
    fn fixed_text(self) -> &'static str {
        match self {
            Self::ClearProc => "umount2(ROOTFS/proc, MNT_DETACH) while a stale procfs is there",
            Self::BindRootfs => {
                "move_mount(open_tree(ROOTFS, OPEN_TREE_CLONE|AT_RECURSIVE), ROOTFS)"
            }
            Self::ShareRootfs => "mount_setattr(ROOTFS, MS_SHARED)",
            Self::DetachProc => "open_tree(ROOTFS/proc, OPEN_TREE_CLONE)",
            Self::LeaveKeyring => "keyctl(KEYCTL_JOIN_SESSION_KEYRING)",
            Self::HideFromTracers | Self::HideChild => "prctl(PR_SET_DUMPABLE, 0)",
            Self::OwnCgroups => "unshare(cgroup)",
            Self::DieWithClient => "prctl(PR_SET_PDEATHSIG, SIGKILL)",
            Self::AwaitIdMap => "recv(host): ids are mapped",
            Self::RaiseLoopback => "ioctl(lo, SIOCSIFFLAGS, IFF_UP)",
            Self::MakeDevices => "move_mount(NODE, /dev/NODE), symlink(/dev/fd, …)",
            Self::Pause => "send(host), recv(host): everything is mounted",
            Self::AwaitRecord => "recv(host): it is written down",
            Self::SlaveMounts => "mount_setattr(/, AT_RECURSIVE, MS_SLAVE)",
            Self::MakeProc => "fsmount(fsopen(proc), nosuid,nodev,noexec)",
            Self::TakeNull => "open_tree(/dev/null, OPEN_TREE_CLONE), ro",
            Self::TakeNodes => "open_tree(/dev/NODE, OPEN_TREE_CLONE), ro",
            Self::CloseDevices => "move_mount(NODE, /dev/NODE), mount_setattr(/, nodev)",
            Self::WriteResolvConf => "rename(/etc/.resolv.conf.new, /etc/resolv.conf)",
            Self::ShowConsole => "move_mount(open_tree(peer, OPEN_TREE_CLONE), /dev/console)",
            Self::ShowProc => "move_mount(procfs, /proc), open_tree(/proc, OPEN_TREE_CLONE), ro",
            Self::MakeWorkdir => "mkdir(working directory)",
            Self::ProtectDev => "mount_setattr(/dev, ro)",
            Self::ProtectRoot => "mount_setattr(/, ro)",
            Self::OwnRootfs => "fchdir(move_mount(open_tree(., OPEN_TREE_CLONE|AT_RECURSIVE), .))",
            Self::AttachRoot => {
                "move_mount(open_tree(ROOTFS, OPEN_TREE_CLONE), ROOTFS), mount_setattr(ROOTFS, MS_PRIVATE), fchdir(move_mount(open_tree(ROOTFS, OPEN_TREE_CLONE|AT_RECURSIVE), ROOTFS))"
            }
            Self::EnterRoot => "fchdir(ROOTFS), chroot(.), chdir(/)",
            Self::PivotRoot => "pivot_root(., .), umount2(., MNT_DETACH), chdir(/)",
            Self::MoveRoot => {
                "umount2(/proc and /sys, MNT_DETACH), move_mount(., /), setns(self, CLONE_NEWNS)"
            }
            Self::SendProc => "send(host, procfs)",
            Self::AttachProc => "move_mount(procfs, ROOTFS/proc) in the caller's mount namespace",
            Self::AwaitProc => "recv(host): procfs is attached",
            Self::ExecuteInit => "execveat(init, sealed memfd)",
            // These are about the plan.
            Self::JoinNamespaces
            | Self::JoinNamespace(_)
            | Self::MakeTime
            | Self::Clone
            | Self::WriteIdMap
            | Self::EnterCgroups
            | Self::TakeDevice(_)
            | Self::BecomeRoot
            | Self::SetHostName
            | Self::SetDomainName
            | Self::SetSysctl(_)
            | Self::MakeNode(_)
            | Self::SetLimit(_)
            | Self::SetPersonality
            | Self::SetMemoryPolicy
            | Self::Mount(_)
            | Self::OpenConsole
            | Self::Propagate
            | Self::Mask(_)
            | Self::ProtectPath(_)
            | Self::Init(_) => "",
        }
    }
}

fn names(plan: Plan<'_>) -> String {
    plan.namespaces().names().collect::<Vec<_>>().join("|")
}

fn propagation(plan: Plan<'_>) -> String {
    let Plan::Launch(Launch {
        propagation: Some((kind, all)),
        ..
    }) = plan
    else {
        return String::new();
    };
    let all = if *all { "AT_RECURSIVE, " } else { "" };
    format!("mount_setattr(/, {all}{kind:?})")
}

fn cgroups(plan: Plan<'_>) -> String {
    let Plan::Launch(launch) = plan else {
        return String::new();
    };
    let each = launch.cgroups.iter();
    let writes: Vec<_> = each
        .map(|path| format!("write({}/cgroup.procs)", path.display()))
        .collect();
    writes.join(", ")
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

fn system<'p>(plan: Plan<'p>, part: impl FnOnce(&'p System) -> Option<&'p str>) -> &'p str {
    match plan {
        Plan::Launch(launch) => part(&launch.system).unwrap_or_default(),
        Plan::Exec(_) => "",
    }
}

pub(super) fn sysctl(plan: Plan<'_>, index: usize) -> Option<&Sysctl> {
    match plan {
        Plan::Launch(launch) => launch.system.sysctls.get(index),
        Plan::Exec(_) => None,
    }
}

pub(super) fn net_device(plan: Plan<'_>, index: usize) -> Option<&NetDevice> {
    match plan {
        Plan::Launch(launch) => launch.system.net_devices.get(index),
        Plan::Exec(_) => None,
    }
}

pub(super) fn node(plan: Plan<'_>, index: usize) -> Option<&Node> {
    match plan {
        Plan::Launch(launch) => launch.system.nodes.get(index),
        Plan::Exec(_) => None,
    }
}

pub(super) fn joined(plan: Plan<'_>, index: usize) -> Option<&Joined> {
    match plan {
        Plan::Launch(launch) => launch.joined.get(index),
        Plan::Exec(_) => None,
    }
}

pub(super) fn limit(plan: Plan<'_>, index: usize) -> Option<&Limit> {
    plan.process()?.limits.get(index)
}

pub(super) fn memory_policy(plan: Plan<'_>) -> &str {
    let process = plan.process();
    let policy = process.and_then(|process| process.memory_policy.as_ref());
    policy.map_or("", |policy| &policy.name)
}

pub(super) fn mount(plan: Plan<'_>, index: usize) -> Option<&Mount> {
    match plan {
        Plan::Launch(launch) => launch.mounts.get(index),
        Plan::Exec(_) => None,
    }
}

/// The path that covering or protecting it is about.
pub(super) fn path_of(plan: Plan<'_>, step: Step) -> Cow<'_, str> {
    match plan {
        Plan::Launch(launch) => launch.views.path(step),
        Plan::Exec(_) => None,
    }
    .map(CStr::to_string_lossy)
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
        (InitStep::Label, _) => {
            let label = privileges.label.as_ref();
            let text = label.map(|label| label.text.to_string_lossy());
            format!("write(attr/exec, {:?})", text.unwrap_or_default())
        }
        (InitStep::Filter, _) => {
            format!("seccomp(SECCOMP_SET_MODE_FILTER, {:?})", privileges.seccomp)
        }
        (InitStep::Uid, Some(process)) => format!("setresuid({})", process.uid),
        (InitStep::Capabilities, _) if let Some(sets) = privileges.sets => {
            let set = |Capabilities(set)| format!("{set:016x}");
            format!(
                "capset(inheritable = {}, permitted = {}, effective = {}), prctl(PR_CAP_AMBIENT, {})",
                set(sets.inheritable),
                set(sets.permitted),
                set(sets.effective),
                set(sets.ambient)
            )
        }
        (InitStep::Capabilities, _) => format!(
            "capset(inheritable = {{}}, permitted and effective within {})",
            kept(privileges)
        ),
        (InitStep::ParentDeath, _) => "prctl(PR_SET_PDEATHSIG, SIGKILL)".to_owned(),
        (InitStep::Signals, _) => "sigaction(SIG_DFL), sigprocmask({})".to_owned(),
        (InitStep::Lookup, Some(process)) => format!("faccessat({}, X_OK)", candidates(process)),
        (InitStep::Release, _) => "prctl(PR_SET_PDEATHSIG, 0)".to_owned(),
        (InitStep::Hold, _) => "read(start)".to_owned(),
        (InitStep::Execute, Some(process)) => format!("execve({})", candidates(process)),
        // Only a command has ids, a directory and a program.
        (_, None) => format!("{step:?}").to_lowercase(),
    }
}

fn candidates(process: &Process) -> String {
    let candidates: Vec<String> = process
        .candidates
        .iter()
        .map(|candidate| format!("{:?}", candidate.to_string_lossy()))
        .collect();
    candidates.join(" or ")
}

/// The capabilities that are left, as the kernel prints them.
fn kept(privileges: &Privileges) -> String {
    match privileges.capabilities {
        Some(Capabilities(set)) => format!("{set:016x}"),
        None => "all".to_owned(),
    }
}
