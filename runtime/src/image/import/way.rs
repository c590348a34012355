//! The way from a source to an image: what it is, what of it is wanted, its layers unpacked, its name given.

use std::path::PathBuf;

use shim::{Error, Result};

use super::{layered, mounted, one_layer};
use crate::host;
use crate::image::archive::{Archive, Squash, corrupt};
use crate::image::disk::flush::{self, Flusher};
use crate::image::limits::{Budget, TABLES};
use crate::image::source::{Config, Image, Input, Reading, Source};
use crate::image::store::layers::contents::Contents;
use crate::image::store::layers::{Layers, chain, remember_base};
use crate::image::store::{Beside, Record, Staging, Store, record};
use crate::image::stream::{Compression, pipe};
use crate::image::unpack::{LeftOut, Meaning, Tree, Unpacker};
use crate::image::{Format, ImportRequest, Imported, Rights, Work, source};

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
            // The names of an archive's members take memory that its layers may need.
            drop(images);
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
pub(super) fn reading(request: &ImportRequest) -> Result<Reading> {
    let squash = (request.rights == Rights::Squash).then(Squash::of_caller);
    Ok(Reading {
        budget: Budget::new(request.limits),
        squash: squash.transpose()?,
        progress: request.progress.clone(),
    })
}

/// Unpacks what was chosen and gives it its name.
pub(super) fn finish(
    store: &Store,
    request: &ImportRequest,
    mut chosen: Chosen,
) -> Result<Imported> {
    // Before anything is unpacked, so that what cannot be published fails early.
    let beside = chosen.beside()?;
    if request.flat {
        return import_flat(store, request, &mut chosen, &beside);
    }
    let layers = Layers::make(&request.data)?;
    if chosen.layers() == 1 || layers.can_hide() {
        return import_layers(store, request, &layers, chosen, &beside);
    }
    let why = format!(
        "{} at {} takes no whiteouts: the image is one directory that shares nothing, as with --flat",
        host::filesystem_at(layers.path()),
        layers.path().display()
    );
    layers.retract();
    let mut imported = import_flat(store, request, &mut chosen, &beside)?;
    imported.warning = Some(match imported.warning {
        Some(other) => format!("{why}; {other}"),
        None => why,
    });
    Ok(imported)
}

/// What was found in the source.
pub(super) enum Chosen {
    Image(Format, Box<Image>),
    Rootfs(Rootfs),
}

/// A tar of a root filesystem.
pub(super) struct Rootfs {
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

    /// How many layers it would be kept as.
    fn layers(&self) -> usize {
        match self {
            Self::Image(_, image) => image.layers.len().max(1),
            Self::Rootfs(_) => 1,
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
    let unpacked = flush::to_disk(
        request.durable,
        || store.sync(),
        |flusher| {
            unpack(&staging, request, flusher, |unpacker| match chosen {
                Chosen::Image(_, image) => image.unpack(unpacker),
                Chosen::Rootfs(rootfs) => rootfs.unpack(unpacker).map(drop),
            })
        },
    );
    let (members, bytes, left_out) = unpacked?;
    staging.publish(beside, request.replace, request.durable)?;
    Ok(chosen.imported(store.path.join(id), members, bytes, left_out))
}

/// Unpacks the layers that are not there yet, and writes a record of all.
fn import_layers(
    store: &Store,
    request: &ImportRequest,
    layers: &Layers,
    mut chosen: Chosen,
    beside: &Beside,
) -> Result<Imported> {
    let id = request.id.as_str();
    let mut import = || -> Result<_> {
        store.clean(id)?;
        // From here to the record nobody may remove a layer.
        let _held = layers.hold()?;
        layers.clean()?;
        let (rights, durable) = (request.rights, request.durable);
        let unpacked = match &mut chosen {
            Chosen::Image(_, image) if image.config.rootfs.diff_ids.is_empty() => {
                image.check_layers()?;
                one_layer::unpack_one(layers, rights, durable, |_| Ok(chain::nothing()))?
            }
            Chosen::Image(_, image) => layered::unpack(image, layers, rights, durable)?,
            Chosen::Rootfs(rootfs) => {
                one_layer::unpack_one(layers, rights, durable, |unpacker| rootfs.unpack(unpacker))?
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
    request: &ImportRequest,
    flusher: &Flusher,
    fill: impl FnOnce(&mut Unpacker<'_>) -> Result<()>,
) -> Result<(u64, u64, LeftOut)> {
    let failed = |errno| staging.store.failed("open", &staging.name, errno);
    let root = staging.directory.try_clone();
    let root = root.map_err(|error| {
        failed(nix::errno::Errno::try_from(error).unwrap_or(nix::errno::Errno::EIO))
    })?;
    let tree = Tree::whole(root.into(), TABLES).map_err(failed)?;
    let mut unpacker = Unpacker::new(tree, request.rights, Contents::new(None), flusher);
    fill(&mut unpacker)?;
    unpacker.settle()?;
    Ok((unpacker.members, unpacker.bytes, unpacker.left_out))
}

impl Rootfs {
    /// Applies the archive, and gives its DiffID.
    fn unpack(&mut self, unpacker: &mut Unpacker<'_>) -> Result<String> {
        let (label, budget) = (self.label.as_str(), &self.reading.budget);
        let length = self.input.length();
        let part = self.reading.progress.part(Work::Unpack, label, length);
        let stream = part.reading(&mut self.input);
        let ((), digests) = pipe::through(stream, self.compression, budget, |plain| {
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
