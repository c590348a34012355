//! Turns image archives into root filesystems under `BASE/images`.
//!
//! `import` reads in this order: find out what the source is (`source`), choose the image in it (`oci`, `docker`), unpack
//! its layers (`archive` -> `layer` -> `tree`) into a temporary directory (`store`), and give that its name (`publish`).
//! An import that fails leaves nothing; one that is killed leaves what the next import of the same ID removes.

mod about;
mod archive;
mod build_erofs;
mod bundle;
mod chosen;
mod config;
mod decompress;
mod docker;
mod erofs;
mod fresh;
mod input;
mod layer;
pub mod layers;
mod limits;
mod member;
mod meta;
mod mounted;
mod oci;
mod path;
mod pax;
mod platform;
mod progress;
mod publish;
pub mod record;
mod remove;
mod source;
mod sparse;
mod store;
mod stream;
mod tree;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shim::{Error, Result};

use crate::ids::ImageId;
use crate::verity::Digest;

pub use about::{About, Healthcheck};
pub use build_erofs::{BuiltErofs, ErofsRequest, ErofsSource, build_erofs};
pub use limits::Limits;
pub use meta::Rights;
pub use platform::Platform;
pub use progress::{Counted, Part, Progress, ProgressMode, Work};

use archive::Archive;
use chosen::Image;
use config::Config;
use decompress::{Compression, decoder};
use input::Input;
use layer::{LeftOut, Meaning, Unpacker};
use limits::Budget;
use member::{corrupt, read_failed};
use publish::Beside;
use source::{Reading, Source};
use store::{Staging, Store};
use stream::buffered;
use tree::Tree;

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
    pub fn new(source: impl Into<PathBuf>, id: ImageId, base: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            id,
            base: base.into(),
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
    /// Its root filesystem, `BASE/images/ID`, or the file that it is in.
    pub root: PathBuf,
    /// What it came from.
    pub format: Format,
    /// The digest of its manifest, for an OCI image; the fs-verity digest that a file was checked with.
    pub digest: Option<String>,
    /// How many layers it has; 1 for a root filesystem.
    pub layers: usize,
    /// How many archive members were unpacked.
    pub members: u64,
    /// How many bytes of file data were written.
    pub bytes: u64,
    /// What of the image could not be had without more rights, in words.
    pub warning: Option<String>,
}

/// Imports an image.
///
/// Afterwards `BASE/images/ID` is its root filesystem, `ID.env` has one `K=V` a line, `ID.json` the keys `user`,
/// `workdir`, `entrypoint` and `cmd`. The directory appears last and at once.
///
/// Left out on purpose: attributes `trusted.overlay.*`, `user.overlay.*` and `security.selinux`, which describe the
/// packer's machine.
///
/// # Errors
///
/// Everything that is wrong with the request, the source or the disk, and every owner, mode, device or attribute that
/// cannot be set. Nothing is left of a failed import.
pub fn import(request: &ImportRequest) -> Result<Imported> {
    let store = Store::open(&request.base)?;
    let imported = import_into(&store, request);
    if imported.is_err() {
        store.retract();
    }
    imported
}

fn import_into(store: &Store, request: &ImportRequest) -> Result<Imported> {
    let id = request.id.as_str();
    let reference = request.reference.as_deref();
    let platform = &request.platform;
    if !request.replace {
        store.check_free(id, false)?;
    }
    let budget = Budget::new(request.limits);
    let label = request.label();
    let reading = Reading {
        limits: &request.limits,
        progress: &request.progress,
    };
    let source = source::open(&request.source, &label, &reading, || store.spool(id))?;
    if !matches!(source, Source::Filesystem(..)) {
        store.check_free(id, request.replace)?;
        if request.verity.is_some() {
            return Err(Error::new("check digest of")
                .on(label)
                .because("only an image that is a filesystem has an fs-verity digest")
                .hint("leave --verity out; or make one file of the image with image build-erofs"));
        }
    }
    let (format, image) = match source {
        Source::Oci(bundle) => (
            Format::Oci,
            oci::select(&bundle, reference, platform, &budget)?,
        ),
        Source::Docker(bundle, entries) => (
            Format::Docker,
            docker::select(&bundle, &entries, reference, platform, &budget)?,
        ),
        Source::Filesystem(..) | Source::Rootfs(..) if reference.is_some() => {
            let error = Error::new("find image").on(reference.unwrap_or_default());
            return Err(error
                .because("the source is a root filesystem, which has no name")
                .hint("leave the name out"));
        }
        Source::Filesystem(kind, file) => return mounted::import(store, request, kind, &file),
        Source::Rootfs(input, compression) => {
            let staging = store.stage(id)?;
            let (members, bytes, left_out) = unpack(&staging, request.rights, |unpacker| {
                unpack_rootfs(unpacker, input, compression, &label, &budget)
            })?;
            publish(staging, &Config::default(), request)?;
            let root = store.path.join(id);
            return Ok(Imported {
                root,
                format: Format::Rootfs,
                digest: None,
                layers: 1,
                members,
                bytes,
                warning: words(left_out),
            });
        }
    };
    // Before anything is unpacked, so that what cannot be published fails early.
    beside(&image.config)?;
    let staging = store.stage(id)?;
    let (members, bytes, left_out) =
        unpack(&staging, request.rights, |unpacker| image.unpack(unpacker))?;
    publish(staging, &image.config, request)?;
    let Image { layers, digest, .. } = image;
    Ok(Imported {
        root: store.path.join(id),
        format,
        digest,
        layers: layers.len(),
        members,
        bytes,
        warning: words(left_out),
    })
}

fn words(left_out: LeftOut) -> Option<String> {
    let LeftOut {
        devices,
        attributes,
    } = left_out;
    (left_out != LeftOut::default()).then(|| {
        format!(
            "left out, being root's of the whole machine: {devices} devices, {attributes} trusted.* attributes"
        )
    })
}

/// Fills the staging directory; gives the number of members and bytes, and what was left out.
fn unpack(
    staging: &Staging<'_>,
    rights: Rights,
    fill: impl FnOnce(&mut Unpacker) -> Result<()>,
) -> Result<(u64, u64, LeftOut)> {
    let failed = |errno| staging.store.failed("open", &staging.name, errno);
    let root = staging.directory.try_clone();
    let root = root.map_err(|error| {
        failed(nix::errno::Errno::try_from(error).unwrap_or(nix::errno::Errno::EIO))
    })?;
    let mut unpacker = Unpacker::new(Tree::new(root.into()).map_err(failed)?, rights);
    fill(&mut unpacker)?;
    unpacker.finish()
}

fn unpack_rootfs(
    unpacker: &mut Unpacker,
    input: Input,
    compression: Compression,
    label: &str,
    budget: &Budget,
) -> Result<()> {
    let stream = decoder(buffered(input), compression, &budget.limits)
        .map_err(|error| read_failed(label, &error))?;
    let mut archive = Archive::new(buffered(stream), label).within(budget);
    unpacker.apply(&mut archive, Meaning::Rootfs)?;
    // A layer's digest tells whether it is whole; here only the end mark does.
    if !archive.marked_end() {
        return Err(
            corrupt(label, "the archive has no end mark").hint("it is truncated; fetch it again")
        );
    }
    if unpacker.members == 0 {
        return Err(corrupt(label, "the archive has no members"));
    }
    archive.drain()
}

fn beside(config: &Config) -> Result<Beside> {
    Ok(Beside {
        env: config.env()?,
        json: config.meta()?,
    })
}

fn publish(staging: Staging<'_>, config: &Config, request: &ImportRequest) -> Result<()> {
    staging.publish(&beside(config)?, request.replace, request.durable)
}
