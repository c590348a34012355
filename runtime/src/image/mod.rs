//! Turns image archives into root filesystems under `BASE/images`.
//!
//! `import` reads in this order: find out what the source is (`source`), choose the image in it (`oci`, `docker`), unpack
//! its layers (`pipe` -> `archive` -> `layer` -> `tree`), each into the store of layers (`layered`, `layers`) or all of them
//! into one temporary directory (`store`), and give the image its name (`publish`): a record of its layers, or the directory.
//! An import that fails leaves nothing; one that is killed leaves what the next import removes.

mod about;
mod archive;
mod borrow;
mod build_erofs;
mod bundle;
mod chosen;
mod config;
mod content;
mod copy;
mod decompress;
mod docker;
mod erofs;
mod export;
mod form;
mod fresh;
mod gc;
mod hide;
mod input;
mod inspect;
mod layer;
mod layered;
pub mod layers;
mod limits;
mod list;
mod listing;
mod lock;
mod lower;
mod member;
mod meta;
mod mounted;
mod oci;
pub mod parts;
mod path;
mod pax;
mod pieces;
mod pipe;
mod platform;
mod progress;
mod publish;
pub mod record;
mod remote;
mod remove;
mod several;
mod source;
mod sparse;
mod squash;
mod store;
mod stream;
mod tag;
mod tree;
mod verify;
mod window;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shim::{Error, Result};

use crate::ids::ImageId;
use crate::verity::Digest;

pub use about::{About, Healthcheck};
pub use build_erofs::{BuiltErofs, ErofsRequest, ErofsSource, build_erofs};
pub use export::{ExportFormat, ExportRequest, Exported, export};
pub use form::Form;
pub use gc::{Collected, collect};
pub use inspect::{Described, inspect};
pub(crate) use limits::parse_limit;
pub use limits::{LimitArgs, Limits};
pub use list::{Listed, list, remove_image, size, table};
pub use meta::Rights;
pub use platform::Platform;
pub use progress::{Counted, Part, Progress, ProgressMode, Work};
pub use remote::{Piece, Remote, import_remote};
pub use several::import_all;
pub use tag::tag;
pub use verify::{Problem, Verified, verify};

use archive::Archive;
use chosen::Image;
use config::Config;
use decompress::Compression;
use input::Input;
use layer::{LeftOut, Meaning, Unpacker};
use layers::contents::Contents;
use layers::{Layers, remember_base};
use limits::Budget;
use member::corrupt;
use publish::Beside;
use record::Record;
use source::{Reading, Source};
use squash::Squash;
use store::{Staging, Store};
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

/// Imports an image.
///
/// Afterwards `BASE/images/ID.image` is the record of its layers, which are below the data directory, or `BASE/images/ID`
/// is its root filesystem; `ID.env` has one `K=V` a line, `ID.json` the keys `user`, `workdir`, `entrypoint` and `cmd`.
/// The record or the directory appears last and at once.
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
    if !request.replace {
        store.check_free(id, false)?;
    }
    let label = request.label();
    let reading = reading(request)?;
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
    match source {
        Source::Images(images) => {
            let (format, image) = images.select(reference, &request.platform, &reading)?;
            finish(store, request, Chosen::Image(format, Box::new(image)))
        }
        Source::Filesystem(..) | Source::Rootfs(..) if reference.is_some() => {
            let error = Error::new("find image").on(reference.unwrap_or_default());
            Err(error
                .because("the source is a root filesystem, which has no name")
                .hint("leave the name out"))
        }
        Source::Filesystem(kind, file) => mounted::import(store, request, kind, &file),
        Source::Rootfs(input, compression) => {
            let rootfs = Rootfs {
                input,
                compression,
                label,
                reading,
            };
            finish(store, request, Chosen::Rootfs(rootfs))
        }
    }
}

/// How the source of `request` is read.
fn reading(request: &ImportRequest) -> Result<Reading> {
    let squash = (request.rights == Rights::Squash).then(Squash::of_caller);
    Ok(Reading {
        budget: Budget::new(request.limits),
        squash: squash.transpose()?,
        progress: request.progress.clone(),
    })
}

/// Unpacks what was chosen and gives it its name.
fn finish(store: &Store, request: &ImportRequest, mut chosen: Chosen) -> Result<Imported> {
    // Before anything is unpacked, so that what cannot be published fails early.
    let beside = chosen.beside()?;
    if request.flat {
        import_flat(store, request, &mut chosen, &beside)
    } else {
        import_layers(store, request, chosen, &beside)
    }
}

/// What was found in the source.
enum Chosen {
    Image(Format, Box<Image>),
    Rootfs(Rootfs),
}

/// A tar of a root filesystem.
struct Rootfs {
    input: Input,
    compression: Compression,
    label: String,
    reading: Reading,
}

impl Chosen {
    fn beside(&self) -> Result<Beside> {
        match self {
            Self::Image(_, image) => Beside::of(&image.config),
            Self::Rootfs(_) => Beside::of(&Config::default()),
        }
    }

    /// The numbers are those of what was unpacked.
    fn imported(&self, root: PathBuf, members: u64, bytes: u64, left_out: LeftOut) -> Imported {
        let (format, digest, layers) = match self {
            Self::Image(format, image) => (*format, image.digest.clone(), image.layers.len()),
            Self::Rootfs(_) => (Format::Rootfs, None, 1),
        };
        let reference = match self {
            Self::Image(_, image) => image.reference.clone(),
            Self::Rootfs(_) => None,
        };
        Imported {
            reference,
            root,
            format,
            digest,
            layers,
            members,
            bytes,
            warning: words(left_out),
        }
    }
}

/// Unpacks all into one directory.
fn import_flat(
    store: &Store,
    request: &ImportRequest,
    chosen: &mut Chosen,
    beside: &Beside,
) -> Result<Imported> {
    let id = request.id.as_str();
    let staging = store.stage(id)?;
    let (members, bytes, left_out) = unpack(&staging, request.rights, |unpacker| match chosen {
        Chosen::Image(_, image) => image.unpack(unpacker),
        Chosen::Rootfs(rootfs) => rootfs.unpack(unpacker).map(drop),
    })?;
    staging.publish(beside, request.replace, request.durable)?;
    Ok(chosen.imported(store.path.join(id), members, bytes, left_out))
}

/// Unpacks the layers that are not there yet, and writes a record of all.
fn import_layers(
    store: &Store,
    request: &ImportRequest,
    mut chosen: Chosen,
    beside: &Beside,
) -> Result<Imported> {
    let id = request.id.as_str();
    let layers = Layers::make(&request.data)?;
    let mut import = || -> Result<_> {
        store.clean(id)?;
        // From here to the record nobody may remove a layer.
        let _held = layers.hold()?;
        layers.clean()?;
        let (rights, durable) = (request.rights, request.durable);
        let unpacked = match &mut chosen {
            Chosen::Image(_, image) if image.config.rootfs.diff_ids.is_empty() => {
                image.check_layers()?;
                layered::unpack_one(&layers, rights, durable, |_| Ok(layered::nothing()))?
            }
            Chosen::Image(_, image) => layered::unpack(image, &layers, rights, durable)?,
            Chosen::Rootfs(rootfs) => {
                layered::unpack_one(&layers, rights, durable, |unpacker| rootfs.unpack(unpacker))?
            }
        };
        let record = record_of(request, &chosen, &unpacked)?;
        remember_base(&request.data, &request.base)?;
        store.publish_record(id, beside, &record.text()?, request.replace, durable)?;
        Ok(unpacked)
    };
    let unpacked = import().inspect_err(|_| layers.retract())?;
    let root = store.path.join(record::file_name(id));
    let (members, bytes) = (unpacked.members, unpacked.bytes);
    Ok(chosen.imported(root, members, bytes, unpacked.left_out))
}

fn record_of(
    request: &ImportRequest,
    chosen: &Chosen,
    unpacked: &layered::Unpacked,
) -> Result<Record> {
    let format = match chosen {
        Chosen::Image(format, _) => *format,
        Chosen::Rootfs(_) => Format::Rootfs,
    };
    let mut record = Record::new(&request.data, format, &unpacked.layers)?;
    record.source = Some(request.label());
    if let Chosen::Image(_, image) = chosen {
        record.platform = image.config.platform();
        record.reference = image.reference.clone();
        record.manifest = image.documents.manifest.clone();
        record.config = image.documents.config.clone();
    }
    Ok(record)
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
    fill: impl FnOnce(&mut Unpacker<'_>) -> Result<()>,
) -> Result<(u64, u64, LeftOut)> {
    let failed = |errno| staging.store.failed("open", &staging.name, errno);
    let root = staging.directory.try_clone();
    let root = root.map_err(|error| {
        failed(nix::errno::Errno::try_from(error).unwrap_or(nix::errno::Errno::EIO))
    })?;
    let tree = Tree::whole(root.into()).map_err(failed)?;
    let mut unpacker = Unpacker::new(tree, rights, Contents::new(None));
    fill(&mut unpacker)?;
    unpacker.settle()?;
    Ok((unpacker.members, unpacker.bytes, unpacker.left_out))
}

impl Rootfs {
    /// Applies the archive, and gives its DiffID.
    fn unpack(&mut self, unpacker: &mut Unpacker<'_>) -> Result<String> {
        let (label, limits) = (self.label.as_str(), &self.reading.budget.limits);
        let length = self.input.length();
        let part = self.reading.progress.part(Work::Unpack, label, length);
        let stream = part.reading(&mut self.input);
        let ((), digests) = pipe::through(stream, self.compression, limits, |plain| {
            let mut archive = Archive::new(plain, label).within(&self.reading);
            unpacker.apply(&mut archive, Meaning::Rootfs)?;
            // A layer's digest tells whether it is whole; here only the end mark does.
            if !archive.marked_end() {
                return Err(corrupt(label, "the archive has no end mark")
                    .hint("it is truncated; fetch it again"));
            }
            if unpacker.members == 0 {
                return Err(corrupt(label, "the archive has no members"));
            }
            archive.drain()
        })?;
        part.done();
        Ok(format!("sha256:{}", digests.plain))
    }
}
