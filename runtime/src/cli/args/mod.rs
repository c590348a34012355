//! What a command line means, as plain values: one struct per verb. Nothing in here has been looked up on the host.

mod containers;
mod images;

use std::ffi::OsString;
use std::fmt;

pub use containers::*;
pub use images::*;

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

/// `--format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}
