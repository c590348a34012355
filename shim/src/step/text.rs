//! What a step does, as the system calls with their arguments: for `--dry-run`, and for the flags of an error.

use std::borrow::Cow;
use std::ffi::CStr;

use init::protocol::Step as InitStep;

use super::Step;
use crate::mounts::Mount;
use crate::plan::{
    Capabilities, IdRange, Launch, Limit, Plan, Privileges, Process, Sysctl, System,
};

impl Step {
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
            Self::LeaveKeyring => "keyctl(KEYCTL_JOIN_SESSION_KEYRING)".to_owned(),
            Self::HideFromTracers | Self::HideChild => "prctl(PR_SET_DUMPABLE, 0)".to_owned(),
            Self::JoinNamespaces => format!("setns(leader, {})", names(plan)),
            Self::Clone => match plan {
                Plan::Launch(_) => format!("clone3({})", names(plan)),
                Plan::Exec(_) => "clone3()".to_owned(),
            },
            Self::WriteIdMap => id_maps(plan),
            Self::EnterCgroups => match plan {
                Plan::Launch(launch) => launch
                    .cgroups
                    .iter()
                    .map(|path| format!("write({}/cgroup.procs)", path.display()))
                    .collect::<Vec<_>>()
                    .join(", "),
                Plan::Exec(_) => String::new(),
            },
            Self::OwnCgroups => "unshare(cgroup)".to_owned(),
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
            Self::SetHostName => format!(
                "sethostname({:?})",
                system(plan, |of| of.host_name.as_deref())
            ),
            Self::SetDomainName => {
                format!(
                    "setdomainname({:?})",
                    system(plan, |of| of.domain_name.as_deref())
                )
            }
            Self::RaiseLoopback => "ioctl(lo, SIOCSIFFLAGS, IFF_UP)".to_owned(),
            Self::SetSysctl(index) => {
                let sysctl = sysctl(plan, index);
                sysctl.map_or_else(String::new, |one| {
                    format!(
                        "write(/proc/{}, {:?})",
                        one.path.to_string_lossy(),
                        one.value
                    )
                })
            }
            Self::MakeDevices => "move_mount(NODE, /dev/NODE), symlink(/dev/fd, …)".to_owned(),
            Self::AwaitRecord => "recv(host): it is written down".to_owned(),
            Self::SetLimit(index) => {
                let limit = limit(plan, index);
                limit.map_or_else(String::new, |limit| format!("setrlimit({limit})"))
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

pub(super) fn limit(plan: Plan<'_>, index: usize) -> Option<&Limit> {
    plan.process()?.limits.get(index)
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
