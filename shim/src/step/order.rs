//! Which steps a plan takes, in the order of their system calls.

use init::protocol::Step as InitStep;

use super::Step;
use crate::plan::{Exec, Launch, Plan, Program, Seccomp};

const LAST_STEPS: [InitStep; 17] = [
    InitStep::Session,
    InitStep::ControllingTerminal,
    InitStep::Streams,
    InitStep::Descriptors,
    InitStep::Groups,
    InitStep::Gid,
    InitStep::Workdir,
    InitStep::Label,
    InitStep::Filter,
    InitStep::Uid,
    InitStep::Capabilities,
    InitStep::ParentDeath,
    InitStep::Signals,
    InitStep::Lookup,
    InitStep::Release,
    InitStep::Hold,
    InitStep::Execute,
];

impl Step {
    pub(crate) fn of_launch(plan: &Launch) -> Vec<Self> {
        let words = Plan::Launch(plan);
        let mut steps = Vec::new();
        if !plan.hidden {
            steps.push(Self::ClearProc);
            steps.extend(plan.bind_rootfs.then_some(Self::BindRootfs));
            steps.push(Self::ShareRootfs);
        }
        steps.extend((!plan.keeps_keyring).then_some(Self::LeaveKeyring));
        steps.extend((0..plan.joined.len()).map(Self::JoinNamespace));
        steps.extend(plan.namespaces.has_time().then_some(Self::MakeTime));
        steps.push(Self::Clone);
        steps.extend(plan.enters_cgroups().then_some(Self::EnterCgroups));
        steps.extend((0..plan.system.net_devices.len()).map(Self::TakeDevice));
        steps.extend(plan.namespaces.has_user().then_some(Self::WriteIdMap));
        steps.extend(Self::of_child(words));
        steps.extend(Self::renounced(words));
        match &plan.program {
            Program::Idle => {
                steps.extend(
                    [InitStep::Streams, InitStep::Session, InitStep::Descriptors].map(Self::Init),
                );
            }
            Program::Command(_) | Program::Held(_) => steps.extend(Self::last_steps(words)),
            Program::Init(_) => {
                steps.push(Self::Init(InitStep::Fork));
                steps.extend(Self::last_steps(words));
            }
        }
        steps
    }

    pub(crate) fn of_exec(plan: &Exec) -> Vec<Self> {
        let words = Plan::Exec(plan);
        let attended = !plan.detached;
        let mut steps = Vec::new();
        steps.extend(attended.then_some(Self::DetachProc));
        steps.push(Self::HideFromTracers);
        steps.extend((!plan.keeps_keyring).then_some(Self::LeaveKeyring));
        steps.extend([Self::JoinNamespaces, Self::Clone]);
        steps.extend(Self::of_child(words));
        steps.extend(Self::renounced(words));
        if attended {
            steps.extend([InitStep::Attend, InitStep::Fork].map(Self::Init));
        }
        steps.extend(Self::last_steps(words));
        steps
    }

    /// What the cloned process does before it executes init, and what the client does for it meanwhile.
    fn of_child(plan: Plan<'_>) -> Vec<Self> {
        let own_ids = plan.namespaces().has_user();
        let process = plan.process().into_iter();
        let own = process.flat_map(|process| {
            let limits = (0..process.limits.len()).map(Self::SetLimit);
            let personality = process.personality.map(|_| Self::SetPersonality);
            let memory = process.memory_policy.as_ref();
            limits
                .chain(personality)
                .chain(memory.map(|_| Self::SetMemoryPolicy))
        });
        let console = plan
            .stdio()
            .terminal
            .is_some_and(|terminal| terminal.inside);
        let Plan::Launch(launch) = plan else {
            let first = plan.outlives().then_some(Self::AwaitRecord).into_iter();
            let first = first.chain([Self::BecomeRoot]);
            let own_root = matches!(plan, Plan::Exec(exec) if exec.shared_root);
            let first = first.chain(own_root.then_some(Self::EnterRoot));
            let first = first.chain(console.then_some(Self::OpenConsole));
            return first.chain(own).chain([Self::ExecuteInit]).collect();
        };
        let (views, system) = (&launch.views, &launch.system);
        let shown = !launch.hidden;
        let cover = views.cover() && shown;
        // The kernel forgets the wish to die with the parent when ids change (prctl(2)), so that comes after them;
        // before, the end of the socket tells of the client's death.
        let mut steps = Vec::new();
        steps.extend(own_ids.then_some(Self::AwaitIdMap));
        steps.extend([Self::BecomeRoot, Self::DieWithClient, Self::HideChild]);
        // Before all that uses memory or is seen inside: what limits it holds from here on.
        steps.extend(plan.outlives().then_some(Self::AwaitRecord));
        steps.extend(launch.makes_cgroup_namespace().then_some(Self::OwnCgroups));
        let shared_root = launch.shared_root.is_some();
        steps.extend((!shared_root).then_some(Self::SlaveMounts));
        steps.extend(system.host_name.as_ref().map(|_| Self::SetHostName));
        steps.extend(system.domain_name.as_ref().map(|_| Self::SetDomainName));
        steps.extend(system.loopback.then_some(Self::RaiseLoopback));
        steps.extend((shown || !system.sysctls.is_empty()).then_some(Self::MakeProc));
        steps.extend((0..system.sysctls.len()).map(Self::SetSysctl));
        steps.extend((!views.masked.is_empty()).then_some(Self::TakeNull));
        steps.extend((views.closed_devices || system.devices).then_some(Self::TakeNodes));
        // All is mounted before the host's tree is left: with ids of its own, nobody gets a new procfs or sysfs where none
        // can be seen (mount_too_revealing in fs/namespace.c). The working directory is ROOTFS meanwhile, and what is
        // opened there is opened without a symlink.
        steps.push(match shared_root {
            true => Self::AttachRoot,
            false => Self::OwnRootfs,
        });
        steps.extend(launch.resolv_conf.as_ref().map(|_| Self::WriteResolvConf));
        steps.extend((0..launch.mounts.len()).map(Self::Mount));
        steps.extend(system.devices.then_some(Self::MakeDevices));
        steps.extend((0..system.nodes.len()).map(Self::MakeNode));
        steps.extend(system.workdir.as_ref().map(|_| Self::MakeWorkdir));
        steps.extend(console.then_some(Self::OpenConsole));
        // A /dev that is somebody's is not changed.
        steps.extend((console && system.devices).then_some(Self::ShowConsole));
        steps.extend(launch.pauses.then_some(Self::Pause));
        steps.push(match (shared_root, launch.no_pivot) {
            (true, _) => Self::EnterRoot,
            (false, true) => Self::MoveRoot,
            (false, false) => Self::PivotRoot,
        });
        steps.extend(launch.propagation.map(|_| Self::Propagate));
        steps.extend(cover.then_some(Self::ShowProc));
        steps.extend((0..views.masked.len()).map(Self::Mask));
        steps.extend((0..views.readonly.len()).map(Self::ProtectPath));
        steps.extend(views.closed_devices.then_some(Self::CloseDevices));
        steps.extend(views.readonly_dev.then_some(Self::ProtectDev));
        steps.extend(views.readonly_root.then_some(Self::ProtectRoot));
        if shown {
            steps.extend([Self::SendProc, Self::AttachProc, Self::AwaitProc]);
        }
        steps.extend(own);
        steps.push(Self::ExecuteInit);
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
        let listens = privileges.seccomp.as_ref().is_some_and(Seccomp::listens);
        let late = filter && privileges.no_new_privileges;
        let held =
            matches!(plan, Plan::Launch(launch) if matches!(launch.program, Program::Held(_)));
        let mut steps = Vec::new();
        for step in LAST_STEPS {
            let taken = match step {
                InitStep::ControllingTerminal => terminal,
                InitStep::Label => privileges.label.is_some(),
                InitStep::Filter => filter && !late,
                InitStep::Lookup | InitStep::Release => plan.outlives(),
                InitStep::Hold => held,
                _ => true,
            };
            let before = match listens {
                true => InitStep::Hold,
                false => InitStep::Execute,
            };
            if step == before && late {
                steps.push(Self::Init(InitStep::Filter));
            }
            steps.extend(taken.then_some(Self::Init(step)));
        }
        steps
    }
}
