//! Finds out what kind of image a source is, from its content; its name says nothing.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use shim::{Error, Result};

use super::bundle::Bundle;
use super::chosen::Image;
use super::input::{self, Input, Opened};
use super::pieces::Pieces;
use super::{docker, oci};
use crate::image::Format;
use crate::image::archive::{Archive, Place, Squash, checksum_holds, read_failed};
use crate::image::disk::disk_hint;
use crate::image::limits::{Budget, Limits};
use crate::image::platform::Platform;
use crate::image::progress::{Progress, Work};
use crate::image::stream::{Compression, Section, buffered, decoder, start_of};
use crate::rootfs::image_file::Kind;

/// What a source is.
#[derive(Debug)]
pub(in crate::image) enum Source {
    /// Images, by name.
    Images(Images),
    /// A tar of a root filesystem.
    Rootfs(Input, Compression),
    /// A filesystem that is mounted, not unpacked.
    Filesystem(Kind, File),
}

/// The images of an archive.
#[derive(Debug)]
pub(in crate::image) enum Images {
    /// Of an OCI image layout (image-spec image-layout.md).
    Oci(Bundle),
    /// Of what `docker save` writes, and its manifest.
    Docker(Bundle, Vec<docker::Entry>),
}

impl Images {
    /// The one that `reference` names, or the only one, for `platform`.
    pub(in crate::image) fn select(
        &self,
        reference: Option<&str>,
        platform: &Platform,
        reading: &Reading,
    ) -> Result<(Format, Image)> {
        Ok(match self {
            Self::Oci(bundle) => (
                Format::Oci,
                oci::select(&Pieces::Layout(bundle), reference, platform, reading)?,
            ),
            Self::Docker(bundle, entries) => (
                Format::Docker,
                docker::select(bundle, entries, reference, platform, reading)?,
            ),
        })
    }

    /// A name for each that is for `platform`, or all names that it has.
    pub(in crate::image) fn names(&self, platform: &Platform) -> Result<Vec<String>> {
        match self {
            Self::Oci(bundle) => oci::names(&Pieces::Layout(bundle), platform),
            Self::Docker(_, entries) => docker::names(entries),
        }
    }
}

/// How a source is read; copies count together.
#[derive(Debug, Clone)]
pub(in crate::image) struct Reading {
    pub(in crate::image) budget: Budget,
    pub(in crate::image) squash: Option<Squash>,
    pub(in crate::image) progress: Progress,
}

/// Told from the superblock's magic number: squashfs begins with it (version 4, little-endian, is the only one that Linux
/// mounts), EROFS has it after 1 KiB.
fn filesystem(magic: impl Fn(usize) -> io::Result<[u8; 4]>) -> io::Result<Option<Kind>> {
    const EROFS_MAGIC: [u8; 4] = 0xE0F5_E1E2_u32.to_le_bytes();
    Ok(match (&magic(0)?, magic(1024)?) {
        (b"hsqs", _) => Some(Kind::Squashfs),
        (_, EROFS_MAGIC) => Some(Kind::Erofs),
        _ => None,
    })
}

/// The four bytes of `file` from `offset`; zeros where it is shorter.
fn magic_at(file: &File, offset: usize) -> io::Result<[u8; 4]> {
    let mut magic = [0; 4];
    match file.read_exact_at(&mut magic, offset as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok([0; 4]),
        result => result.map(|()| magic),
    }
}

/// Names at the top of a root filesystem and of no image archive: with one of them first, a compressed tar needs not be
/// unpacked to disk to see whether a manifest comes at its end.
const ROOTFS_NAMES: [&[u8]; 24] = [
    b"bin",
    b"boot",
    b"dev",
    b"etc",
    b"home",
    b"lib",
    b"lib32",
    b"lib64",
    b"libx32",
    b"lost+found",
    b"media",
    b"mnt",
    b"nix",
    b"opt",
    b"proc",
    b"root",
    b"run",
    b"sbin",
    b"snap",
    b"srv",
    b"sys",
    b"tmp",
    b"usr",
    b"var",
];

/// Opens `path`, which `label` names; `spool` gives a temporary file for what has to be read in another order than it comes:
/// image archives that are compressed or come out of a pipe.
pub(in crate::image) fn open(
    path: &Path,
    label: &str,
    reading: &Reading,
    spool: impl FnOnce() -> Result<File>,
) -> Result<Source> {
    let failed = |error: &io::Error| {
        Error::io("open image source", label, error).hint("check the disk it is on")
    };
    let input = match input::open(path, label)? {
        Opened::Directory(directory) => {
            return in_directory(Bundle::directory(directory.into(), label));
        }
        Opened::File(file) => {
            let magic = |offset| magic_at(&file, offset);
            if let Some(kind) = filesystem(magic).map_err(|error| failed(&error))? {
                return Ok(Source::Filesystem(kind, file));
            }
            Input::of_file(file).map_err(|error| failed(&error))?
        }
        Opened::Pipe(pipe) => {
            let magic = |offset| {
                start_of::<4>(pipe.start().get(offset..).unwrap_or_default())
                    .map(|(magic, _)| magic)
            };
            if let Some(kind) = filesystem(magic).map_err(|error| failed(&error))? {
                let file = spooled(
                    Input::Pipe(pipe),
                    Compression::None,
                    spool()?,
                    label,
                    reading,
                )?;
                return Ok(Source::Filesystem(kind, file));
            }
            Input::Pipe(pipe)
        }
    };
    let (start, length) =
        start_of::<16>(input.again()).map_err(|error| read_failed(label, &error))?;
    let compression = Compression::of(&start[..length]).map_err(|why| unknown(label, why))?;
    if length == 0 {
        return Err(unknown(label, "it is empty"));
    }
    if starts_as_rootfs(&input, compression, label, &reading.budget.limits)? {
        return Ok(Source::Rootfs(input, compression));
    }
    let plain = match (input, compression) {
        (Input::File(section), Compression::None) => section,
        (input, compression) => {
            let file = spooled(input, compression, spool()?, label, reading)?;
            Section::whole(Arc::new(file)).map_err(|error| failed(&error))?
        }
    };
    let rootfs = |plain| Source::Rootfs(Input::File(plain), Compression::None);
    let Some(bundle) = Bundle::tar(&plain, label)? else {
        return Ok(rootfs(plain));
    };
    if is_oci(&bundle)? {
        return Ok(Source::Images(Images::Oci(bundle)));
    }
    Ok(match docker::manifest(&bundle)? {
        Some(entries) => Source::Images(Images::Docker(bundle, entries)),
        None => rootfs(plain),
    })
}

fn in_directory(bundle: Bundle) -> Result<Source> {
    if is_oci(&bundle)? {
        return Ok(Source::Images(Images::Oci(bundle)));
    }
    Err(Error::new("open image source")
        .on(bundle.label())
        .because("the directory is no OCI image layout")
        .hint("it has no oci-layout and index.json; a root filesystem is imported as a tar of it"))
}

fn is_oci(bundle: &Bundle) -> Result<bool> {
    Ok(bundle.find("oci-layout")?.is_some() && bundle.find("index.json")?.is_some())
}

/// Whether the first name below the root is one that only a root filesystem has. Fails where there is no tar at all.
fn starts_as_rootfs(
    input: &Input,
    compression: Compression,
    label: &str,
    limits: &Limits,
) -> Result<bool> {
    let unreadable = |error: io::Error| read_failed(label, &error);
    let stream = || decoder(buffered(input.again()), compression, limits).map_err(unreadable);
    // Of a pipe only the beginning is there: that it ends says nothing.
    let is_part = input.length().is_none();
    let (block, length) = match start_of::<512>(stream()?) {
        Err(_) if is_part => return Ok(false),
        block => block.map_err(unreadable)?,
    };
    if length < block.len() || !(checksum_holds(&block) || block.iter().all(|byte| *byte == 0)) {
        return Err(unknown(label, "it is no tar archive"));
    }
    let mut archive = Archive::new(buffered(stream()?), label);
    loop {
        let member = match archive.next() {
            Err(_) if is_part => return Ok(false),
            member => member?,
        };
        let Some(member) = member else {
            return Ok(false);
        };
        if let Ok(Place::Below { parent, name }) = Place::parse(&member.name) {
            let top = parent
                .split(|byte| *byte == b'/')
                .next()
                .filter(|top| !top.is_empty());
            return Ok(ROOTFS_NAMES.contains(&top.unwrap_or(&name)));
        }
    }
}

/// Writes all of `input` to `file`, decompressed.
fn spooled(
    input: Input,
    compression: Compression,
    mut file: File,
    label: &str,
    reading: &Reading,
) -> Result<File> {
    let part = reading.progress.part(Work::Spool, label, input.length());
    let mut stream = decoder(
        buffered(part.reading(input)),
        compression,
        &reading.budget.limits,
    )
    .map_err(|error| read_failed(label, &error))?;
    // Of its own: what is spooled is counted once more when it is unpacked.
    let budget = Budget::new(reading.budget.limits);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_failed(label, &error)),
        };
        budget.take_bytes(count as u64, label)?;
        file.write_all(&buffer[..count]).map_err(|error| {
            let failed = Error::io("unpack to a temporary file", label, &error);
            let errno = failed.raw_errno();
            errno.map_or_else(|| failed.clone(), |errno| disk_hint(failed.clone(), errno))
        })?;
    }
    drop(stream);
    part.done();
    Ok(file)
}

fn unknown(label: &str, why: &'static str) -> Error {
    Error::new("open image source")
        .on(label)
        .because(why)
        .hint("an image is an OCI layout, a docker-archive or a root filesystem, as tar, plain or compressed with gzip, zstd, xz or bzip2; or a squashfs or EROFS file")
}
