//! Turns image archives into root filesystems under `BASE/images`.
//!
//! | room | what |
//! |---|---|
//! | `source` | what an archive or a registry offers: which form it is, which image of it is meant |
//! | `stream` | its bytes: digests, decompression, a thread that reads ahead |
//! | `archive` | its members: tar headers, names, sparse maps |
//! | `unpack` | the tree that they make: a whole root filesystem, or one layer |
//! | `store` | what is on disk: the images' names and records, the layers that they share |
//! | `import` | the way through all of these, from a source to a name |
//! | `export` | the way back: an image as an archive |
//! | `erofs` | a tree as one file for the kernel to mount |
//! | `verbs` | what else is done with images that are there |
//! | `disk` | directories and files through descriptors, for all of them |
//!
//! `limits`, `platform` and `progress` are what a request says beside its source. An import that fails leaves nothing; one
//! that is killed leaves what the next import removes.

mod archive;
mod disk;
mod erofs;
mod export;
mod import;
mod limits;
mod platform;
mod progress;
mod source;
mod store;
mod stream;
mod unpack;
mod verbs;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ids::ImageId;
use crate::verity::Digest;

pub use export::{ExportFormat, ExportRequest, Exported, export};
pub use import::{import, import_all, import_remote};
pub(crate) use limits::parse_limit;
pub use limits::{LimitArgs, Limits};
pub use platform::Platform;
pub use progress::{Counted, Part, Progress, ProgressMode, Work};
pub use source::{Piece, Remote};
pub use store::{About, Form, Healthcheck, layers, parts, record};
pub use unpack::Rights;
pub use verbs::{
    BuiltErofs, Collected, Described, ErofsRequest, ErofsSource, Listed, Problem, Verified,
    build_erofs, collect, inspect, list, remove_image, size, table, tag, verify,
};

/// What to import, and where to.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// An OCI image layout (directory or tar), a docker-archive tar or a root filesystem's tar; tars plain or compressed
    /// with gzip, zstd, xz or bzip2; read from a file or a pipe, and from stdin for `-`. Or a squashfs or EROFS file.
    pub source: PathBuf,
    /// The image's name in the store.
    pub id: ImageId,
    /// The directory that contains `images`; what is missing of it is made.
    pub base: PathBuf,
    /// The directory that contains `layers`; what is missing of it is made.
    pub data: PathBuf,
    /// Makes a directory of the whole root filesystem, `ID`, instead of layers that are shared.
    pub flat: bool,
    /// Which image of several: a name that the archive gives it, or a manifest's digest.
    pub reference: Option<String>,
    /// The machine that the image is to run on.
    pub platform: Platform,
    /// Replaces an image of the same id instead of failing.
    pub replace: bool,
    /// Waits until everything is on disk, so that a loss of power right after cannot leave half an image.
    pub durable: bool,
    /// What the caller may give to a file.
    pub rights: Rights,
    /// What the image may take.
    pub limits: Limits,
    /// Where it is told how far the import has come.
    pub progress: Progress,
    /// The fs-verity digest that a source which is a filesystem must have.
    pub verity: Option<Digest>,
}

impl ImportRequest {
    /// A durable import of the only image for this machine, under a name that must be free.
    #[must_use]
    pub fn new(
        source: impl Into<PathBuf>,
        id: ImageId,
        base: impl Into<PathBuf>,
        data: impl Into<PathBuf>,
    ) -> Self {
        Self {
            source: source.into(),
            id,
            base: base.into(),
            data: data.into(),
            flat: false,
            reference: None,
            platform: Platform::host(),
            replace: false,
            durable: true,
            rights: Rights::Root,
            limits: Limits::default(),
            progress: Progress::default(),
            verity: None,
        }
    }

    /// What messages call the source.
    fn label(&self) -> String {
        if self.source == Path::new("-") {
            return "stdin".into();
        }
        self.source.display().to_string()
    }
}

/// What kind of archive an image came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An OCI image layout.
    Oci,
    /// What `docker save` writes.
    Docker,
    /// A tar of a root filesystem.
    Rootfs,
    /// A squashfs file.
    Squashfs,
    /// An EROFS file.
    Erofs,
}

/// An image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its root filesystem `BASE/images/ID`, its record `BASE/images/ID.image`, or the file of a filesystem.
    pub root: PathBuf,
    /// What it came from.
    pub format: Format,
    /// The digest of its manifest, for an OCI image; the fs-verity digest that a file was checked with.
    pub digest: Option<String>,
    /// The name that the archive gives it.
    pub reference: Option<String>,
    /// How many layers it has; 1 for a root filesystem.
    pub layers: usize,
    /// How many archive members were unpacked.
    pub members: u64,
    /// How many bytes of file data were written.
    pub bytes: u64,
    /// What of the image could not be had without more rights, in words.
    pub warning: Option<String>,
}
