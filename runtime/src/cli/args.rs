//! What a command line means, as plain values: one struct per verb. Nothing in here has been looked up on the host.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use shim::mounts::Target;
use shim::plan::IdRange;

use crate::capabilities;
use crate::config::DirFlags;
use crate::ids::{Guid, ImageId};
use crate::image::{ErofsSource, ExportFormat, LimitArgs, Platform, ProgressMode};
use crate::mounts::{MountArgs, MountSpec};
use crate::profile::{ProfileName, SeccompChoice};
use crate::verity::{Digest, Wanted};

/// One call of start-container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// `subcontainer launch`
    Launch(LaunchArgs),
    /// `subcontainer run`
    Run(RunArgs),
    /// `subcontainer exec`
    Exec(ExecArgs),
    /// `subcontainer inspect`
    Inspect(InspectArgs),
    /// `subcontainer create-fs`
    CreateFs(CreateFsArgs),
    /// `subcontainer destroy-fs`
    DestroyFs(DestroyFsArgs),
    /// `subcontainer mount add`
    MountAdd(MountAddArgs),
    /// `subcontainer mount rm`
    MountRemove(MountRemoveArgs),
    /// `subcontainer mount list`
    MountList(MountListArgs),
    /// `bind-mount`
    BindMount(BindMountArgs),
    /// `image export`
    ImageExport(ImageExportArgs),
    /// `image inspect`
    ImageInspect(ImageInspectArgs),
    /// `image tag`
    ImageTag(ImageTagArgs),
    /// `pipe-wrap`
    PipeWrap(PipeWrapArgs),
    /// `image import`
    ImageImport(ImageImportArgs),
    /// `image pull`
    ImagePull(ImagePullArgs),
    /// `image build-erofs`
    BuildErofs(BuildErofsArgs),
    /// `image list`
    ImageList(ImageListArgs),
    /// `image rm`
    ImageRemove(ImageArgs),
    /// `image gc`
    ImageGc(ImageGcArgs),
    /// `image verify`
    ImageVerify(ImageArgs),
    /// Text for stdout, newline at its end.
    Help(String),
    /// `--version`
    Version,
}

/// A program and its arguments, byte for byte as given.
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    /// Never empty.
    pub program: OsString,
    /// Any bytes but NUL.
    pub arguments: Vec<OsString>,
}

impl fmt::Debug for Command {
    /// Arguments may be secrets: only their number is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} and {} arguments",
            self.program,
            self.arguments.len()
        )
    }
}

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

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
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

/// `image list`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageListArgs {
    /// `--json`
    pub json: bool,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `image rm IMAGE_ID`, `image verify IMAGE_ID`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageArgs {
    /// Its name in the store.
    pub id: ImageId,
    /// `--json`
    pub json: bool,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `image gc`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageGcArgs {
    /// `--forget-base`; none is empty.
    pub forget: Vec<PathBuf>,
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

/// `image import SOURCE --id ID`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageImportArgs {
    /// An OCI layout, a docker-archive or a tar of a root filesystem; never empty.
    pub source: PathBuf,
    /// Its name in the store; none means `--all`.
    pub id: Option<ImageId>,
    /// `--replace`: an image of this name may exist and is replaced.
    pub replace: bool,
    /// `--flat`: one directory of its own instead of layers that are shared.
    pub flat: bool,
    /// `--ref`: which image of an archive that holds several.
    pub reference: Option<String>,
    /// `--squash`
    pub squash: bool,
    /// `--max-size`, `--max-files`, `--max-ratio`, `--max-window`
    pub limits: LimitArgs,
    /// `--progress`
    pub progress: ProgressMode,
    /// `--verity`: the fs-verity digest of a source that is a filesystem.
    pub verity: Option<Digest>,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `image build-erofs IMAGE FILE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildErofsArgs {
    /// What is packed.
    pub source: ErofsSource,
    /// The file that is made; never empty.
    pub file: PathBuf,
    /// `--replace`: a file that is there is replaced.
    pub replace: bool,
    /// `--json`
    pub json: bool,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `image export ID FILE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageExportArgs {
    /// The image.
    pub id: ImageId,
    /// The archive; none for stdout.
    pub file: Option<PathBuf>,
    /// `--format`
    pub format: ExportFormat,
    /// `--replace`: a file of this name may exist and is replaced.
    pub replace: bool,
    /// `--json`: what was written is printed; not with stdout.
    pub json: bool,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `image inspect ID`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInspectArgs {
    /// The image.
    pub id: ImageId,
    /// `--json`
    pub json: bool,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `image tag ID NEW_ID`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTagArgs {
    /// The image.
    pub id: ImageId,
    /// Its other name.
    pub new: ImageId,
    /// `--replace`: an image of that name may exist and is replaced.
    pub replace: bool,
    /// `--json`
    pub json: bool,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// `image pull REFERENCE`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePullArgs {
    /// As given, printable; what a reference may look like is known to who pulls.
    pub reference: String,
    /// Its name in the store; none takes it from the reference.
    pub id: Option<ImageId>,
    /// `--replace`: an image of this name may exist and is replaced.
    pub replace: bool,
    /// `--flat`: one directory instead of layers.
    pub flat: bool,
    /// `--platform`; none is this machine.
    pub platform: Option<Platform>,
    /// `--squash`: owners that the caller does not have become its own.
    pub squash: bool,
    /// `--max-size` and the like.
    pub limits: LimitArgs,
    /// How the registry is talked to.
    pub registry: RegistryArgs,
    /// `--progress`
    pub progress: ProgressMode,
    /// `--base`, `--state`, `--data`
    pub dirs: DirFlags,
}

/// How a registry is talked to. Where nothing is said, the table `[pull]` of the configuration decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryArgs {
    /// `--authfile`: credentials come from this file alone; never empty.
    pub authfile: Option<PathBuf>,
    /// `--ca-cert`: its certificates are trusted, besides the machine's; never empty.
    pub ca_cert: Option<PathBuf>,
    /// `--plain-http`: the registry is talked to without TLS.
    pub plain_http: bool,
    /// `--proxy`; an http or https URL.
    pub proxy: Option<String>,
    /// `--timeout`: how long the registry may be silent.
    pub timeout: Option<Duration>,
}
