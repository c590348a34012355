//! What the verbs on images are given.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::DirFlags;
use crate::ids::ImageId;
use crate::image::{ErofsSource, ExportFormat, LimitArgs, Platform, ProgressMode};
use crate::verity::Digest;

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
    /// `--json`
    pub json: bool,
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
