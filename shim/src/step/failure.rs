//! The words for a step that failed: what was done, to which object, and what the user can do about it.

use std::borrow::Cow;

use init::protocol::Step as InitStep;
use nix::errno::Errno;

use super::Step;
use super::text::{joined, limit, memory_policy, mount, net_device, node, path_of, sysctl};
use crate::error::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Error};
use crate::plan::{Plan, SecurityModule};
use crate::surroundings;

impl Step {
    /// The words for this step having failed.
    #[must_use]
    pub fn failure(self, plan: Plan<'_>, errno: Errno) -> Error {
        let steps = plan.steps();
        let error = match (self, plan.process()) {
            (Self::Init(InitStep::Lookup | InitStep::Execute), Some(_)) => cannot_execute(&first(plan), errno),
            (Self::Init(InitStep::Workdir), Some(process)) => {
                Error::sys("change directory to", process.workdir.to_string_lossy(), errno)
                    .hint("the working directory must exist inside the root filesystem; see --workdir")
            }
            (Self::Init(InitStep::Label), _) if let Some(label) = &plan.privileges().label => {
                let hint = match (label.module, errno) {
                    (SecurityModule::AppArmor, Errno::ENOENT) => {
                        "process.apparmorProfile: the kernel has no such profile; see apparmor_parser(8)"
                    }
                    (SecurityModule::AppArmor, _) => {
                        "process.apparmorProfile: the caller's own profile may forbid it"
                    }
                    (SecurityModule::Selinux, Errno::EINVAL) => {
                        "process.selinuxLabel: the policy has no such context"
                    }
                    (SecurityModule::Selinux, _) => {
                        "process.selinuxLabel: the policy must let the caller execute in this context"
                    }
                };
                Error::sys("label the command", label.text.to_string_lossy(), errno).hint(hint)
            }
            (Self::ExecuteInit, Some(_)) if errno == Errno::E2BIG => Error::sys("start the command", first(plan), errno)
                .hint("one argument or environment variable may have 128 KiB, all together a quarter of the stack limit"),
            (Self::JoinNamespace(index), _) if let Some(joined) = joined(plan, index) => {
                let kind: Vec<_> = joined.kind.names().collect();
                Error::sys("join namespace", joined.path.display(), errno)
                    .flags(kind.join("|"))
                    .hint("it must be there still, and the caller must have CAP_SYS_ADMIN in it")
            }
            (Self::Mount(index), _) if let Some(mount) = mount(plan, index) => mount.failure(errno),
            (Self::SetSysctl(index), _) if let Some(sysctl) = sysctl(plan, index) => {
                Error::sys("set sysctl", sysctl.path.to_string_lossy(), errno)
                    .flags(sysctl.value.clone())
                    .hint("the kernel must have it, and take this value")
            }
            (Self::TakeDevice(index), _) if let Some(device) = net_device(plan, index) => {
                let hint = match errno {
                    Errno::ENODEV => "the caller's network namespace must have it",
                    Errno::EPERM => "this takes CAP_NET_ADMIN over the network namespaces of the caller and of the container",
                    Errno::EEXIST => "the container's network namespace has one of this name",
                    Errno::EINVAL => "some cannot leave their network namespace, such as lo and bridges",
                    _ => "it must be free to leave its network namespace",
                };
                Error::sys("move network device into the container", &device.name, errno)
                    .flags(format!("linux.netDevices.{}, as {}", device.name, device.inside))
                    .hint(hint)
            }
            (Self::MakeNode(index), _) if let Some(node) = node(plan, index) => {
                let hint = match errno {
                    Errno::EEXIST => "there is something else of this name",
                    Errno::EPERM => "making a device takes CAP_MKNOD over the initial user namespace",
                    _ => "its directory must be a real one, which can be written to",
                };
                Error::sys("make device", &node.path, errno).flags(node.to_string()).hint(hint)
            }
            (Self::SetLimit(index), _) if let Some(limit) = limit(plan, index) => {
                Error::sys("limit resources of", first(plan), errno)
                    .flags(limit.to_string())
                    .hint("raising a hard limit takes CAP_SYS_RESOURCE over the initial user namespace; see ulimit -aH")
            }
            (Self::SetMemoryPolicy, _) => {
                Error::sys("set the memory policy of", first(plan), errno)
                    .flags(memory_policy(plan).to_owned())
                    .hint("linux.memoryPolicy: the kernel must know the mode, and the container's cpuset have the nodes")
            }
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
            Self::DetachProc
            | Self::HideFromTracers
            | Self::JoinNamespaces
            | Self::JoinNamespace(_) => "join the container of",
            Self::MakeTime => "make a time namespace for",
            Self::Clone => "create a process for",
            Self::WriteIdMap | Self::AwaitIdMap => "map the ids for",
            Self::BecomeRoot | Self::HideChild => "become root in",
            Self::LeaveKeyring => "leave the caller's keys out of",
            Self::SetHostName | Self::SetDomainName => "name the host in",
            Self::RaiseLoopback => "bring up the loopback in",
            Self::TakeDevice(_) => "move a network device into",
            Self::EnterCgroups | Self::OwnCgroups => "enter the cgroups for",
            Self::SetSysctl(_) => "set a sysctl in",
            Self::SetLimit(_) => "limit the resources in",
            Self::SetPersonality => "set the personality in",
            Self::SetMemoryPolicy => "set the memory policy in",
            Self::MakeDevices | Self::MakeNode(_) => "make the devices in",
            Self::MakeWorkdir => "make the working directory in",
            Self::SlaveMounts | Self::OwnRootfs | Self::AttachRoot => "take the mounts over into",
            Self::MakeProc | Self::SendProc => "make a procfs for",
            Self::AttachProc | Self::AwaitProc => "attach the procfs below",
            Self::PivotRoot | Self::MoveRoot | Self::EnterRoot => "change the root directory to",
            Self::WriteResolvConf => "write resolv.conf in",
            Self::Mount(_) => "mount in",
            Self::Propagate => "set the propagation of",
            Self::Pause => "wait for the caller in",
            Self::OpenConsole => "open a terminal in",
            Self::ShowConsole => "put the terminal at /dev/console of",
            Self::TakeNull => "take the null device over into",
            Self::TakeNodes | Self::CloseDevices => "close the devices of",
            Self::ShowProc | Self::Mask(_) | Self::ProtectPath(_) => "restrict the view of",
            Self::ProtectDev => "make read-only the /dev of",
            Self::ProtectRoot => "make read-only",
            Self::DieWithClient | Self::AwaitRecord | Self::ExecuteInit => "start init in",
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
            (Self::MakeTime, Errno::EINVAL) => {
                "the kernel has no time namespaces (Linux 5.6, CONFIG_TIME_NS)"
            }
            (Self::MakeTime, Errno::ERANGE) => {
                "linux.timeOffsets: a clock can be neither before its beginning nor beyond 146 years"
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
                let hint = surroundings::proc_hint();
                return Some(format!("{hint}; or launch with --userns=identity").into());
            }
            (Self::WriteResolvConf, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                "the root filesystem needs a real directory named etc"
            }
            (Self::WriteResolvConf, Errno::EISDIR | Errno::EBUSY) => {
                "etc/resolv.conf is a directory or a mount point, which is not replaced"
            }
            (Self::MakeDevices, Errno::ELOOP | Errno::ENOTDIR) => {
                "dev of the root filesystem must be a real directory"
            }
            (Self::OpenConsole, Errno::EINVAL) => {
                "the user, process.user.uid, must be mapped in the container's user namespace"
            }
            (Self::OpenConsole, Errno::ENOSPC) => {
                "no ptys are left: see kernel.pty.max and kernel.pty.nr"
            }
            (Self::OpenConsole, _) => {
                "a terminal needs a devpts at /dev/pts, without symlinks on the way"
            }
            (Self::ShowConsole, Errno::ELOOP | Errno::ENOTDIR) => {
                "dev of the root filesystem must be a real directory, and console in it no symlink"
            }
            (Self::TakeNull, _) => "/dev/null of the host must be the null device (1:3)",
            (Self::Init(InitStep::Filter), Errno::EACCES | Errno::EPERM) => {
                "a seccomp filter takes CAP_SYS_ADMIN, or --no-new-privileges"
            }
            (Self::Init(InitStep::Bounding), Errno::EPERM) => {
                "dropping capabilities takes CAP_SETPCAP; the surrounding container may withhold it: --profile=outer"
            }
            (Self::PivotRoot, Errno::EINVAL) => {
                "pivot_root(2) refuses an initramfs and what is no mount point as the caller's root: create and run have --no-pivot for that"
            }
            (Self::AttachRoot, Errno::ENOENT | Errno::ENOTDIR) => {
                "in the mount namespace that is joined there must be a directory of this name, too"
            }
            (Self::MoveRoot, Errno::EXDEV) => {
                "the caller is in a chroot, so commands that join would be outside the container"
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

fn first(plan: Plan<'_>) -> Cow<'_, str> {
    plan.process()
        .and_then(|process| process.arguments.first())
        .map(|name| name.to_string_lossy())
        .unwrap_or_default()
}

/// The words for a command that the kernel does not execute.
pub(crate) fn cannot_execute(name: &str, errno: Errno) -> Error {
    let error = Error::sys("execute", name, errno);
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
