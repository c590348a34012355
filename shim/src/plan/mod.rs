//! What shall happen, as a value: decided by `runtime`, printed by `--dry-run`, applied by [`crate::launch`] and
//! [`crate::exec`]. A plan owns every string and number that the steps need; making one changes nothing.

mod confinement;
mod ids;
mod namespaces;
mod node;
mod printed;
mod system;

pub use confinement::{
    Capabilities, CapabilitySets, Label, Privileges, Seccomp, SecurityModule, Views,
};
pub use ids::{IdMaps, IdRange};
pub use namespaces::{Joined, Namespaces};
pub use node::{Node, NodeKind};
pub use system::{Limit, MemoryPolicy, NetDevice, Sysctl, System};

use std::ffi::{CStr, CString};
use std::path::PathBuf;

use nix::sched::CloneFlags;
use serde::Serialize;

use self::printed::{lossy, lossy_list, names_only, optional_lossy, propagation, text};
use crate::mounts::Mount;
use crate::stdio::StdioPlan;
use crate::step::Step;
use crate::sys::mount::Propagation;
use crate::sys::time::TIME;

/// The user's program: what to execute, as whom, where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its argument vector; the first is its name.
    #[serde(serialize_with = "lossy_list")]
    pub arguments: Vec<CString>,
    /// Paths to try, in order: the command joined with each entry of PATH, or the command alone if it has a slash.
    #[serde(serialize_with = "lossy_list")]
    pub candidates: Vec<CString>,
    /// The whole environment, `NAME=VALUE`. Not printed by `--dry-run` beyond the names: values may be secrets.
    #[serde(serialize_with = "names_only")]
    pub environment: Vec<CString>,
    /// Working directory, inside.
    #[serde(serialize_with = "lossy")]
    pub workdir: CString,
    /// User id, inside.
    pub uid: u32,
    /// Group id, inside.
    pub gid: u32,
    /// Supplementary groups: exactly these, whatever the caller has.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
    /// Limits of its resources; others are as the caller has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// Its execution domain, where it is not the caller's: a number of personality(2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
    /// Where its memory comes from, where that is not as the caller has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
}

/// What PID 1 of the container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Our init without a command.
    Idle,
    /// The command itself.
    Command(Process),
    /// Our init as the parent of the command.
    Init(Process),
    /// The command itself, which waits to be started and outlives the client: see [`crate::held`].
    Held(Process),
}

impl Program {
    /// The command, if there is one.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        match self {
            Self::Idle => None,
            Self::Command(process) | Self::Init(process) | Self::Held(process) => Some(process),
        }
    }
}

/// A container to be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Launch {
    /// The root filesystem: absolute, free of symlinks. For messages; it is opened before, and once.
    pub rootfs: PathBuf,
    /// Whether it must first be bound onto itself, being no mount point.
    pub bind_rootfs: bool,
    /// Whether the host's mount table stays as it is: ROOTFS is not shared, and the container's procfs is not seen there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// The cgroups that it is put into before it takes any other step; its cgroup namespace begins there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cgroups: Vec<PathBuf>,
    /// How mounts of its root travel, and whether of all mounts; none leaves them slaves of the host's.
    #[serde(
        serialize_with = "propagation",
        skip_serializing_if = "Option::is_none"
    )]
    pub propagation: Option<(Propagation, bool)>,
    /// Whether it waits for the caller once more when everything is mounted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pauses: bool,
    /// Whether the root filesystem is mounted over the caller's root, for a caller whose root pivot_root(2) does not take: a
    /// ramdisk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_pivot: bool,
    /// Where its root filesystem is attached, if it has no mount namespace of its own: see [`crate::shared_root`].
    #[serde(
        serialize_with = "optional_lossy",
        skip_serializing_if = "Option::is_none"
    )]
    pub shared_root: Option<CString>,
    /// Whether the caller's session keyring is the container's, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keeps_keyring: bool,
    /// What of the system it sets for itself.
    #[serde(flatten)]
    pub system: System,
    /// The container's own namespaces.
    pub namespaces: Namespaces,
    /// Namespaces of others that it is in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<Joined>,
    /// Maps of its user namespace, where it has one of its own.
    pub id_maps: Option<IdMaps>,
    /// The profile that the two below come from, for people.
    pub profile: String,
    /// What it may do.
    pub privileges: Privileges,
    /// What it may not see or change.
    pub views: Views,
    /// False where the caller's user namespace forbids setgroups(2): then all processes keep the caller's groups.
    pub set_groups: bool,
    /// What becomes its /etc/resolv.conf, if not the image's own.
    #[serde(serialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub resolv_conf: Option<Vec<u8>>,
    /// What it gets mounted, parents before children.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// What PID 1 is.
    pub program: Program,
    /// What a command gets in the place of SIGTERM, where its image wants another signal: a number of signal(7).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<i32>,
    /// What becomes of the caller's streams.
    pub stdio: StdioPlan,
}

impl Launch {
    /// Whether it gets cgroups of its own.
    pub(crate) fn enters_cgroups(&self) -> bool {
        !self.cgroups.is_empty()
    }

    /// Whether it makes its cgroup namespace itself, when it has entered them.
    pub(crate) fn makes_cgroup_namespace(&self) -> bool {
        let own = self.namespaces.flags();
        self.enters_cgroups() && own.contains(CloneFlags::CLONE_NEWCGROUP)
    }
}

/// A command to be run in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exec {
    /// The root filesystem, for messages.
    pub rootfs: PathBuf,
    /// Which of the leader's namespaces to join: those that are not the caller's anyway. Empty in a dry run without a
    /// leader.
    pub namespaces: Namespaces,
    /// What the container's processes may do.
    pub privileges: Privileges,
    /// The command.
    pub process: Process,
    /// As in [`Launch`].
    pub set_groups: bool,
    /// Whether the command outlives the client, as [`crate::held::start`] has it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// Whether the container has a root directory, and no mount namespace, of its own.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shared_root: bool,
    /// As in [`Launch`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keeps_keyring: bool,
    /// What becomes of the caller's streams.
    pub stdio: StdioPlan,
}

/// Either kind of plan, for what they have in common: steps, and the words for a step that failed.
#[derive(Debug, Clone, Copy)]
pub enum Plan<'p> {
    /// `subcontainer launch`.
    Launch(&'p Launch),
    /// `subcontainer exec`.
    Exec(&'p Exec),
}

impl<'p> Plan<'p> {
    /// Whether supplementary groups are set.
    #[must_use]
    pub fn set_groups(self) -> bool {
        match self {
            Self::Launch(plan) => plan.set_groups,
            Self::Exec(plan) => plan.set_groups,
        }
    }

    /// The root filesystem's path.
    #[must_use]
    pub fn rootfs(self) -> &'p std::path::Path {
        match self {
            Self::Launch(plan) => &plan.rootfs,
            Self::Exec(plan) => &plan.rootfs,
        }
    }

    /// The command, if there is one.
    #[must_use]
    pub fn process(self) -> Option<&'p Process> {
        match self {
            Self::Launch(plan) => plan.program.process(),
            Self::Exec(plan) => Some(&plan.process),
        }
    }

    /// Whether the command goes on when the client ends.
    #[must_use]
    pub fn outlives(self) -> bool {
        match self {
            Self::Launch(plan) => matches!(plan.program, Program::Held(_)),
            Self::Exec(plan) => plan.detached,
        }
    }

    /// Whether the caller's session keyring is passed on.
    pub(crate) fn keeps_keyring(self) -> bool {
        match self {
            Self::Launch(plan) => plan.keeps_keyring,
            Self::Exec(plan) => plan.keeps_keyring,
        }
    }

    /// What its processes may do.
    #[must_use]
    pub fn privileges(self) -> &'p Privileges {
        match self {
            Self::Launch(plan) => &plan.privileges,
            Self::Exec(plan) => &plan.privileges,
        }
    }

    /// The namespaces to create or to join.
    #[must_use]
    pub fn namespaces(self) -> Namespaces {
        match self {
            Self::Launch(plan) => plan.namespaces,
            Self::Exec(plan) => plan.namespaces,
        }
    }

    /// The namespaces that the process is born into, new with it.
    pub(crate) fn new_namespaces(self) -> CloneFlags {
        match self {
            // One that begins in a cgroup which is entered later is made then.
            Self::Launch(plan) if plan.enters_cgroups() => {
                plan.namespaces.flags() - CloneFlags::CLONE_NEWCGROUP - TIME
            }
            Self::Launch(plan) => plan.namespaces.flags() - TIME,
            Self::Exec(_) => CloneFlags::empty(),
        }
    }

    /// The offsets of the time namespace that is made for the process, if one is.
    pub(crate) fn new_time(self) -> Option<&'p CStr> {
        match self {
            Self::Launch(plan) if plan.namespaces.has_time() => Some(&plan.system.time_offsets),
            _ => None,
        }
    }

    /// What becomes of the streams.
    #[must_use]
    pub fn stdio(self) -> &'p StdioPlan {
        match self {
            Self::Launch(plan) => &plan.stdio,
            Self::Exec(plan) => &plan.stdio,
        }
    }

    /// What SIGTERM is passed on as, if not as itself.
    pub(crate) fn stop_signal(self) -> Option<i32> {
        match self {
            Self::Launch(plan) => plan.stop_signal,
            Self::Exec(_) => None,
        }
    }

    /// All steps, in the order of their system calls.
    #[must_use]
    pub fn steps(self) -> Vec<Step> {
        match self {
            Self::Launch(plan) => Step::of_launch(plan),
            Self::Exec(plan) => Step::of_exec(plan),
        }
    }
}
