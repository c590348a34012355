//! The steps of a plan: what each one is, and the words for one that failed.
//!
//! A process that has been cloned cannot speak: it reports the index of the step and an errno, and the parent, which
//! still has the plan, finds the words here.

mod failure;
mod order;
mod text;

pub(crate) use failure::cannot_execute;

use init::protocol::Step as InitStep;

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
    /// The client gets a session keyring of its own, which the container inherits: the caller's keys are none of its.
    LeaveKeyring,
    /// The process that forks the child joins the leader's namespaces.
    JoinNamespaces,
    /// It joins the namespace with this index.
    JoinNamespace(usize),
    /// It makes a time namespace, which the child is born into, and sets its clocks.
    MakeTime,
    /// The child is made.
    Clone,
    /// The child is put into its cgroups.
    EnterCgroups,
    /// The network device with this index is moved into the child's network namespace.
    TakeDevice(usize),
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
    /// The host name of the UTS namespace is set.
    SetHostName,
    /// Its domain name is set.
    SetDomainName,
    /// The loopback of the network namespace is brought up.
    RaiseLoopback,
    /// A procfs of the new PID namespace, detached.
    MakeProc,
    /// The sysctl with this index is written.
    SetSysctl(usize),
    /// A detached copy of the host's null device, to cover files with.
    TakeNull,
    /// Detached copies of the host's harmless device nodes.
    TakeNodes,
    /// A copy of ROOTFS's mounts on ROOTFS: one that the new mount namespace owns and may pivot to.
    OwnRootfs,
    /// Such a copy in a mount namespace that is not the container's: its own root, with all that it mounts.
    AttachRoot,
    /// ROOTFS becomes `/`, and the host's tree is gone.
    PivotRoot,
    /// The same without pivot_root(2): ROOTFS is mounted over `/`, and what the host has of kernel's files is unmounted.
    MoveRoot,
    /// ROOTFS becomes the root directory of the child alone.
    EnterRoot,
    /// How mounts of the root travel is changed.
    Propagate,
    /// The host's resolv.conf replaces the image's.
    WriteResolvConf,
    /// The mount with this index is attached.
    Mount(usize),
    /// /dev gets nodes and links.
    MakeDevices,
    /// The node with this index is made.
    MakeNode(usize),
    /// The command's working directory is made, if it is missing.
    MakeWorkdir,
    /// A terminal of the container's own devpts becomes the streams; its master goes to the client.
    OpenConsole,
    /// It is /dev/console, too.
    ShowConsole,
    /// The child waits while the caller does what there is to do before the host's tree is left.
    Pause,
    /// The procfs is attached inside, where it can be covered, and a copy of it is for the client.
    ShowProc,
    /// The masked path with this index is covered.
    Mask(usize),
    /// The read-only path with this index is made so.
    ProtectPath(usize),
    /// The image's device nodes stop working; the harmless ones are the host's from now on.
    CloseDevices,
    /// The container's own /dev, in which all has been made by now, is made read-only.
    ProtectDev,
    /// The root filesystem is made read-only.
    ProtectRoot,
    /// The procfs goes to the client.
    SendProc,
    /// The client attaches it at ROOTFS/proc: the sign of readiness.
    AttachProc,
    /// The child waits until that is done.
    AwaitProc,
    /// The child waits until who it is has been written down: from then on somebody else can end it.
    AwaitRecord,
    /// Its cgroup namespace begins where it is now.
    OwnCgroups,
    /// The limit with this index is set.
    SetLimit(usize),
    /// Its execution domain is set.
    SetPersonality,
    /// Where its memory comes from is set.
    SetMemoryPolicy,
    /// The sealed init replaces the child.
    ExecuteInit,
    /// A step of init.
    Init(InitStep),
}

impl Step {
    /// Which process takes it.
    #[must_use]
    pub fn side(self) -> Side {
        match self {
            Self::ClearProc
            | Self::BindRootfs
            | Self::ShareRootfs
            | Self::DetachProc
            | Self::HideFromTracers
            | Self::LeaveKeyring
            | Self::JoinNamespaces
            | Self::JoinNamespace(_)
            | Self::MakeTime
            | Self::Clone
            | Self::EnterCgroups
            | Self::TakeDevice(_)
            | Self::WriteIdMap
            | Self::AttachProc => Side::Host,
            Self::Init(_) => Side::Init,
            _ => Side::Child,
        }
    }
}
