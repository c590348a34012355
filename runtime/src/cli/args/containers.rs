//! What the verbs on containers, their root filesystems and their mounts are given.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use shim::mounts::Target;
use shim::plan::IdRange;

use super::{Command, Format};
use crate::capabilities;
use crate::config::DirFlags;
use crate::ids::{Guid, ImageId};
use crate::mounts::{MountArgs, MountSpec};
use crate::profile::{ProfileName, SeccompChoice};
use crate::verity::Wanted;

/// `subcontainer launch ROOTFS [COMMAND [ARG…]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchArgs {
    /// As given: relative or absolute, never empty.
    pub rootfs: PathBuf,
    /// None for an idle leader.
    pub command: Option<Command>,
    /// `--entrypoint`: runs this before COMMAND, in the place of what the image has for it; empty for nothing.
    pub entrypoint: Option<OsString>,
    /// How the command runs; of no effect without one.
    pub process: ProcessArgs,
    /// `--init`: PID 1 is our init and COMMAND its child. Without COMMAND it always is.
    pub init: bool,
    /// `--userns`; none leaves the choice to the plan.
    pub userns: Option<Userns>,
    /// How much the container is kept from.
    pub confinement: ConfinementArgs,
    /// `--mount`, `--share`, `--resolv-conf`
    pub mounts: MountArgs,
    /// `--dry-run` and `--format`: print the plan and do nothing.
    pub dry_run: Option<Format>,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `subcontainer run --image ID [COMMAND [ARG…]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunArgs {
    /// What the root filesystem is made from.
    pub image: ImageId,
    /// How it is launched there; the path of the root filesystem is empty until it is made.
    pub launch: LaunchArgs,
}

/// What launch says of a container's privileges; where it says nothing, the configuration and the profile decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfinementArgs {
    /// `--profile`
    pub profile: Option<ProfileName>,
    /// `--cap`, or `--cap-add` and `--cap-drop`; free of contradictions.
    pub caps: capabilities::Request,
    /// `--seccomp`
    pub seccomp: Option<SeccompChoice>,
    /// `--read-only`: the root filesystem cannot be written to from inside.
    pub read_only: bool,
    /// `--no-new-privileges`: PR_SET_NO_NEW_PRIVS of prctl(2).
    pub no_new_privileges: bool,
}

/// `subcontainer exec ROOTFS COMMAND [ARG…]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecArgs {
    /// As given: relative or absolute, never empty.
    pub rootfs: PathBuf,
    /// What to run.
    pub command: Command,
    /// How it runs.
    pub process: ProcessArgs,
    /// `--dry-run` and `--format`: print the plan and do nothing.
    pub dry_run: Option<Format>,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// What launch and exec share: how a process inside runs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProcessArgs {
    /// `--image`: what holds where nothing is said.
    pub image: Option<ImageId>,
    /// `--env-file`; never empty.
    pub env_file: Option<PathBuf>,
    /// `--env`, in order: names (not empty, no `=`) and values.
    pub env: Vec<(OsString, OsString)>,
    /// `--user`, in the grammar of [`crate::users`]; none is root.
    pub user: Option<OsString>,
    /// `--workdir`, a path inside; never empty.
    pub workdir: Option<OsString>,
    /// `--force-tty`: a terminal although stdin is none.
    pub force_tty: bool,
    /// `--force-stderr-tty`: stderr goes to the terminal although the caller's is none.
    pub force_stderr_tty: bool,
    /// `--pty-size`: the size of the terminal when the command starts.
    pub pty_size: Option<PtySize>,
}

impl fmt::Debug for ProcessArgs {
    /// Values of variables are secrets: only the names are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("ProcessArgs")
            .field("image", &self.image)
            .field("env_file", &self.env_file)
            .field("env", &names)
            .field("user", &self.user)
            .field("workdir", &self.workdir)
            .field("force_tty", &self.force_tty)
            .field("force_stderr_tty", &self.force_stderr_tty)
            .field("pty_size", &self.pty_size)
            .finish()
    }
}

/// The size of a terminal, `struct winsize` of ioctl_tty(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PtySize {
    /// Characters; 0 is unknown.
    pub rows: u16,
    /// Characters; 0 is unknown.
    pub cols: u16,
    /// Pixels; 0 is unknown.
    pub xpixel: u16,
    /// Pixels; 0 is unknown.
    pub ypixel: u16,
}

/// `--userns`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Userns {
    /// The caller's.
    Host,
    /// A new one that maps every id onto itself.
    Identity,
    /// A new one with a range of ids that no other container has.
    Auto,
    /// A new one with this map, of users and of groups: 1 to 340 lines of which no two share an id.
    Map(Vec<IdRange>),
}

/// `subcontainer inspect ROOTFS`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectArgs {
    /// As given: relative or absolute, never empty.
    pub rootfs: PathBuf,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `subcontainer create-fs IMAGE_ID [NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateFsArgs {
    /// The image.
    pub image: ImageId,
    /// A label for people; no control characters, never empty.
    pub name: Option<String>,
    /// `--userns`: whose ids its files shall have; none leaves them as they are.
    pub userns: Option<Userns>,
    /// `--verity`: the digest that the image's file must have.
    pub verity: Option<Wanted>,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `subcontainer destroy-fs GUID`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestroyFsArgs {
    /// The last component of what create-fs printed.
    pub guid: Guid,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `subcontainer mount add ROOTFS MOUNT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountAddArgs {
    /// As given: relative or absolute, never empty.
    pub rootfs: PathBuf,
    /// What to mount.
    pub spec: MountSpec,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `subcontainer mount rm ROOTFS PATH`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRemoveArgs {
    /// As given: relative or absolute, never empty.
    pub rootfs: PathBuf,
    /// Where the mount is, inside.
    pub target: Target,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `subcontainer mount list ROOTFS`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountListArgs {
    /// As given: relative or absolute, never empty.
    pub rootfs: PathBuf,
    /// `--json`
    pub json: bool,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `bind-mount`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindMountArgs {
    /// `--source`; never empty.
    pub source: PathBuf,
    /// `--target`; never empty.
    pub target: PathBuf,
    /// `--recursive`: with the mounts below the source.
    pub recursive: bool,
    /// `--readonly`
    pub readonly: bool,
    /// `--file`: a missing target is made as a file instead of a directory.
    pub file: bool,
    /// `--idmap`, in order; no two overlap on either side.
    pub idmap: Vec<IdmapRange>,
    /// `--base`, `--state`, `--data`: a target below `BASE/subcontainers/GUID` is resolved inside that root filesystem.
    pub dirs: DirFlags,
}

/// One `--idmap FROM:TO:RANGE`; `from + range` and `to + range` are at most 4294967295.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdmapRange {
    /// First id on disk.
    pub from: u32,
    /// First id seen through the mount.
    pub to: u32,
    /// How many; at least 1.
    pub range: u32,
}

/// `pipe-wrap COMMAND [ARG…]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipeWrapArgs {
    /// What to run, on the host.
    pub command: Command,
}
